//! What goes wrong with checkpoints.

use std::io;

use crate::ids::Index;
use crate::machine::{RestoreError, SinkError};
use crate::store::checkpoint::{Stamp, VERSION};

/// A checkpoint could not be written, read or given away.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk failed.
    #[error("failed to {action} `{name}`")]
    Io {
        /// At what.
        action: &'static str,
        /// On which file.
        name: String,
        /// How.
        source: io::Error,
    },
    /// Whoever asked for the checkpoint asked to stop.
    #[error("writing the checkpoint was stopped")]
    Stopped,
    /// The service wrote a record that is too long, or broke off by itself.
    #[error("the state cannot be written")]
    State(#[source] SinkError),
    /// The file is of another version of the format.
    #[error(
        "`{name}` is a checkpoint of format {found}, this program reads format {VERSION}: start \
         the version that wrote it, or discard the directory (`--discard`) and let this CoServer join \
         the other one"
    )]
    Version {
        /// Which file.
        name: String,
        /// Its version.
        found: u16,
    },
    /// The file is not what was written.
    #[error(
        "`{name}` is damaged at byte {at}: {what}; remove it, an older checkpoint or the other \
         CoServer's is used instead"
    )]
    Damaged {
        /// Which file.
        name: String,
        /// Where it was noticed: the start of the part that is wrong.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The file is sound, and another checkpoint than its name or its sender says.
    #[error("`{name}` holds another checkpoint: of entry {}, {} bytes, {}", .found.index, .found.len, .found.hash)]
    Other {
        /// Which file.
        name: String,
        /// What it is.
        found: Stamp,
    },
}

impl CheckpointError {
    /// Whether the bytes that were read are wrong, as opposed to a failure in getting at them.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Damaged { .. } | Self::Other { .. })
    }

    /// For the sink that has to pass it on.
    pub(super) fn to_sink(&self) -> SinkError {
        let kind = match self {
            Self::Io { source, .. } => source.kind(),
            Self::State(SinkError::TooLong { len, limit }) => {
                return SinkError::TooLong { len: *len, limit: *limit };
            }
            _ => io::ErrorKind::Other,
        };
        SinkError::Io(io::Error::new(kind, self.to_string()))
    }
}

impl From<CheckpointError> for RestoreError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Io { source, .. } => Self::Io(source),
            other => Self::Invalid { record: "checkpoint", why: other.to_string() },
        }
    }
}

/// A unit could not be made from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is sound, its state none that this program understands.
    #[error("checkpoint {index} is whole, but its state cannot be restored")]
    State {
        /// Which.
        index: Index,
        /// Why.
        source: RestoreError,
    },
    /// The state is not the one that the header speaks of.
    #[error("the state in checkpoint {index} is not that of entry {index}: {what}")]
    Mismatch {
        /// Which.
        index: Index,
        /// What differs.
        what: &'static str,
    },
}

/// Part of a checkpoint could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// It belongs to another checkpoint than the one that is being received.
    #[error("the chunk is of checkpoint {}, not of checkpoint {}", .found.index, .wanted.index)]
    Foreign {
        /// The one that is being received.
        wanted: Stamp,
        /// Its own.
        found: Stamp,
    },
    /// It is not the next one: a repeated one, or one too early.
    #[error("the chunk begins at byte {offset}, the next one at byte {expected}")]
    Offset {
        /// Where the next one begins.
        expected: u64,
        /// Where this one does.
        offset: u64,
    },
    /// It is empty, longer than a chunk may be, or goes beyond the checkpoint's end.
    #[error("the chunk at byte {offset} is {len} bytes long, 1 to {most} were expected")]
    Length {
        /// Where it begins.
        offset: u64,
        /// Its length.
        len: usize,
        /// The longest that would do.
        most: u64,
    },
    /// There is more to come.
    #[error("{received} of {len} bytes have come")]
    Unfinished {
        /// What has come.
        received: u64,
        /// Of how much.
        len: u64,
    },
    /// The disk failed earlier: what it has of the checkpoint is not known.
    #[error("the disk failed before: receive the checkpoint anew after a restart")]
    Failed,
    /// What has come is not the checkpoint, or the disk failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
