//! What a replica asks of its disk, and what comes of it.

use bytes::Bytes;

use super::failure::Failure;
use super::store::{ReplicaStore, unread};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::ids::Index;
use crate::proto::io::Membership;
use crate::proto::{CommonPrefix, Input};
use crate::wire::frames::{CheckpointFile, LogPosition};

/// One thing to do, in the order in which it is asked for. Appends and the restoring of a state are
/// not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Write the membership to disk.
    Remember { number: u64, membership: Membership },
    /// Drop what comes after this entry.
    Truncate { after: Index },
    /// Compare with the log of a joiner.
    FindCommonPrefix { points: Vec<LogPosition> },
    /// Read entries for a joiner.
    ReadEntries { after: Index },
    /// Read a piece of a checkpoint for a joiner.
    ReadChunk { checkpoint: Index, offset: u64 },
    /// Make ready for the pieces of a checkpoint.
    BeginChunks(CheckpointFile),
    /// Write a piece of a checkpoint.
    WriteChunk { checkpoint: Index, offset: u64, bytes: Bytes },
    /// Begin the log with the checkpoint, which is whole now.
    Install { file: CheckpointFile, log_digest: Digest },
    /// Keep what a joiner needs, from this entry on.
    Retain { from: Option<Index> },
}

impl Request {
    /// Whether it changes nothing: that it cannot be done is no reason to stop serving.
    pub(crate) fn is_read(&self) -> bool {
        matches!(
            self,
            Self::FindCommonPrefix { .. } | Self::ReadEntries { .. } | Self::ReadChunk { .. }
        )
    }
}

impl ReplicaStore {
    /// Does what is asked, after everything that was committed; what the core is to be told of it,
    /// if anything.
    ///
    /// # Errors
    /// The disk failed over something that changes it; it may be done in part.
    pub(crate) fn serve(&mut self, request: Request) -> Result<Option<Input>, Failure> {
        Ok(match request {
            Request::Remember { number, membership } => {
                self.save(&membership)?;
                Some(Input::MembershipPersisted(number))
            }
            Request::Truncate { after } => {
                self.truncate(after)?;
                None
            }
            Request::FindCommonPrefix { points } => {
                Some(Input::CommonPrefix(self.looked_up(&points)))
            }
            Request::ReadEntries { after } => {
                let entries = self.entries_after(after);
                Some(Input::EntriesRead { after, entries })
            }
            Request::ReadChunk { checkpoint, offset } => {
                let bytes = self.read_chunk(checkpoint, offset);
                Some(Input::ChunkRead { checkpoint, offset, bytes })
            }
            Request::BeginChunks(file) => Some(self.begin_chunks(file)?),
            Request::WriteChunk { checkpoint, offset, bytes } => {
                self.write_chunk(checkpoint, offset, &bytes)?
            }
            Request::Install { file, log_digest } => {
                Some(Input::Installed(self.install(file, log_digest)?))
            }
            Request::Retain { from } => {
                self.retain(from);
                None
            }
        })
    }

    fn looked_up(&mut self, points: &[LogPosition]) -> CommonPrefix {
        self.find_common_prefix(points).unwrap_or_else(|Failure { why, .. }| {
            unread(&why);
            CommonPrefix { common: None, bytes: 0, checkpoint: None }
        })
    }

    fn entries_after(&mut self, after: Index) -> Option<Vec<Entry>> {
        self.read(after).unwrap_or_else(|Failure { why, .. }| {
            unread(&why);
            None
        })
    }
}
