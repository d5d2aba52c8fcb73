//! Serves what the core asks of its disk.

use super::failure::Failure;
use super::store::{ReplicaStore, unread};
use crate::entry::Entry;
use crate::ids::Index;
use crate::proto::{CommonPrefix, StorageRequest, StorageResponse};
use crate::wire::frames::LogPosition;

impl ReplicaStore {
    /// Does what is asked, after everything that was committed; what the core is to be told of it,
    /// if anything.
    ///
    /// # Errors
    /// The disk failed over something that changes it; it may be done in part.
    pub(crate) fn serve(
        &mut self,
        request: StorageRequest,
    ) -> Result<Option<StorageResponse>, Failure> {
        Ok(match request {
            StorageRequest::PersistMembership { number, membership } => {
                self.save(&membership)?;
                Some(StorageResponse::MembershipPersisted(number))
            }
            StorageRequest::Truncate { after } => {
                self.truncate(after)?;
                None
            }
            StorageRequest::FindCommonPrefix { points } => {
                Some(StorageResponse::CommonPrefix(self.looked_up(&points)))
            }
            StorageRequest::ReadEntries { after } => {
                let entries = self.entries_after(after);
                Some(StorageResponse::EntriesRead { after, entries })
            }
            StorageRequest::ReadChunk { checkpoint, offset } => {
                let bytes = self.read_chunk(checkpoint, offset);
                Some(StorageResponse::ChunkRead { checkpoint, offset, bytes })
            }
            StorageRequest::BeginChunks(file) => Some(self.begin_chunks(file)?),
            StorageRequest::WriteChunk { checkpoint, offset, bytes } => {
                self.write_chunk(checkpoint, offset, &bytes)?
            }
            StorageRequest::Install { file, log_digest } => {
                Some(StorageResponse::Installed(self.install(file, log_digest)?))
            }
            StorageRequest::Retain { from } => {
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
