//! What a replica asks of its disk, and what the disk answers.

use bytes::Bytes;

use super::{CommonPrefix, Membership, Recovered};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::ids::Index;
use crate::wire::frames::{CheckpointFile, LogPosition};

/// What a replica wants done on its disk, in the order in which it asks. Three things are outputs of
/// their own, since they take more than the disk: [`Output::Append`](super::Output::Append), which a
/// driver gathers into batches, and [`Output::Recover`](super::Output::Recover) and
/// [`Output::WriteCheckpoint`](super::Output::WriteCheckpoint), which need the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageRequest {
    /// Write this membership to disk, then say [`StorageResponse::MembershipPersisted`] with its number.
    PersistMembership {
        /// The number that the answer repeats; each membership has a higher one.
        number: u64,
        /// The membership to write.
        membership: Membership,
    },
    /// Drop from the journal all entries after this one; none of them was executed.
    Truncate {
        /// The last entry to keep.
        after: Index,
    },
    /// Find which of these entries the journal has. Answered by [`StorageResponse::CommonPrefix`].
    FindCommonPrefix {
        /// The joiner's positions, the last entry first.
        points: Vec<LogPosition>,
    },
    /// Read entries from the journal; answered by [`StorageResponse::EntriesRead`].
    ReadEntries {
        /// The entry before the first.
        after: Index,
    },
    /// Read a piece of a checkpoint, at most [`limits::CHUNK_BYTES`](crate::limits::CHUNK_BYTES);
    /// answered by [`StorageResponse::ChunkRead`].
    ReadChunk {
        /// The entry of the checkpoint to read.
        checkpoint: Index,
        /// Offset in the checkpoint's file from which to read.
        offset: u64,
    },
    /// Prepare to write a checkpoint that comes in pieces, after those of it that are on disk
    /// already. Answered by [`StorageResponse::ChunksWritten`].
    BeginChunks(CheckpointFile),
    /// Write the next piece of the checkpoint; answered by [`StorageResponse::ChunksWritten`].
    WriteChunk {
        /// The entry of the checkpoint.
        checkpoint: Index,
        /// Offset of the piece in the checkpoint's file.
        offset: u64,
        /// The bytes of the piece.
        bytes: Bytes,
    },
    /// The checkpoint is whole: check it, and put it in the journal's place. The journal's next
    /// entry is the one after it. Answered by [`StorageResponse::Installed`].
    Install {
        /// The checkpoint to install.
        file: CheckpointFile,
        /// The running digest of the entries at the checkpoint.
        log_digest: Digest,
    },
    /// Keep the journal and the checkpoints for a joiner, within the configured limit.
    Retain {
        /// The first entry to keep; `None` if nothing is to be kept for a joiner any more.
        from: Option<Index>,
    },
}

impl StorageRequest {
    /// Whether it changes nothing: that it cannot be done is no reason to stop serving.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::FindCommonPrefix { .. } | Self::ReadEntries { .. } | Self::ReadChunk { .. }
        )
    }
}

/// What came of a request to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageResponse {
    /// Every entry up to this index is on disk. Under `memory` durability the driver says so
    /// at once.
    Persisted(Index),
    /// The membership with this number is on disk.
    MembershipPersisted(u64),
    /// The answer to [`Output::Recover`](super::Output::Recover).
    Recovered(Result<Box<Recovered>, String>),
    /// The answer to [`StorageRequest::FindCommonPrefix`].
    CommonPrefix(CommonPrefix),
    /// The answer to [`StorageRequest::ReadEntries`].
    EntriesRead {
        /// The entry before the first.
        after: Index,
        /// Consecutive entries; `None` if the journal does not have them any more.
        entries: Option<Vec<Entry>>,
    },
    /// The answer to [`StorageRequest::ReadChunk`].
    ChunkRead {
        /// The entry of the checkpoint that was read.
        checkpoint: Index,
        /// Offset of the bytes in the checkpoint's file.
        offset: u64,
        /// At least one byte, unless the file ends there; `None` if the checkpoint is gone.
        bytes: Option<Bytes>,
    },
    /// How much of the checkpoint is there, after [`StorageRequest::BeginChunks`] and each
    /// [`StorageRequest::WriteChunk`].
    ChunksWritten {
        /// The entry of the checkpoint that is being written.
        checkpoint: Index,
        /// How many bytes from the file's start are on disk.
        have: u64,
    },
    /// The answer to [`StorageRequest::Install`]; an error says why the checkpoint cannot be used.
    Installed(Result<(), String>),
    /// The answer to [`Output::WriteCheckpoint`](super::Output::WriteCheckpoint).
    CheckpointWritten {
        /// The entry of the checkpoint.
        index: Index,
        /// The checkpoint's file, or why there is none.
        result: Result<CheckpointFile, String>,
    },
    /// The disk failed: what was to be written may not be there. Nothing more is persisted.
    Failed {
        /// What happened, in words for the operator.
        why: String,
    },
    /// The disk could not be used, although nothing is wrong with it: the process had no
    /// descriptor, or no memory.
    Exhausted {
        /// What happened, in words for the operator.
        why: String,
    },
}
