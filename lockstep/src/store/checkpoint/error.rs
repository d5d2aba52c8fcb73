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
        /// The operation that failed, as a verb: `read`, `sync`.
        action: &'static str,
        /// The file's name in the store's directory.
        name: String,
        /// What the system reported.
        source: io::Error,
    },
    /// The caller that asked for the checkpoint asked to stop.
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
        /// The file's name in the store's directory.
        name: String,
        /// The version in the file's header.
        found: u16,
    },
    /// The file is not what was written.
    #[error(
        "`{name}` is damaged at byte {at}: {what}; remove it, an older checkpoint or the other \
         CoServer's is used instead"
    )]
    Damaged {
        /// The file's name in the store's directory.
        name: String,
        /// Offset in bytes of the part that is wrong.
        at: u64,
        /// The rule of the format that is broken.
        what: &'static str,
    },
    /// The file is sound, but it is another checkpoint than its name or its sender says.
    #[error("`{name}` holds another checkpoint: of entry {}, {} bytes, {}", .found.index, .found.len, .found.hash)]
    Other {
        /// The file's name in the store's directory.
        name: String,
        /// The checkpoint that the file holds.
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
    /// The checkpoint is sound, but its state is none that this program understands.
    #[error("checkpoint {index} is whole, but its state cannot be restored")]
    State {
        /// The entry of the checkpoint.
        index: Index,
        /// What the service, or the engine, cannot restore.
        source: RestoreError,
    },
    /// The state is not the one that the header names.
    #[error("the state in checkpoint {index} is not that of entry {index}: {what}")]
    Mismatch {
        /// The entry of the checkpoint.
        index: Index,
        /// The part of the state that differs from the header.
        what: &'static str,
    },
}

/// Part of a checkpoint could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// The chunk belongs to another checkpoint than the one that is being received.
    #[error("the chunk is of checkpoint {}, not of checkpoint {}", .found.index, .wanted.index)]
    Foreign {
        /// The checkpoint that is being received.
        wanted: Stamp,
        /// The checkpoint that the chunk belongs to.
        found: Stamp,
    },
    /// The chunk is not the next one: a repeated one, or one too early.
    #[error("the chunk begins at byte {offset}, the next one at byte {expected}")]
    Offset {
        /// Offset at which the next chunk begins.
        expected: u64,
        /// Offset at which this chunk begins.
        offset: u64,
    },
    /// The chunk is empty, longer than a chunk may be, or goes beyond the checkpoint's end.
    #[error("the chunk at byte {offset} is {len} bytes long, 1 to {most} were expected")]
    Length {
        /// Offset in the checkpoint's file at which the chunk begins.
        offset: u64,
        /// The chunk's length in bytes.
        len: usize,
        /// Most bytes that a chunk may have at that offset.
        most: u64,
    },
    /// The checkpoint is not whole: more chunks have to come.
    #[error("{received} of {len} bytes have come")]
    Unfinished {
        /// Bytes that have come.
        received: u64,
        /// Length of the checkpoint's file in bytes.
        len: u64,
    },
    /// The disk failed earlier: what it has of the checkpoint is not known.
    #[error("the disk failed before: receive the checkpoint anew after a restart")]
    Failed,
    /// What has come is not the checkpoint, or the disk failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
