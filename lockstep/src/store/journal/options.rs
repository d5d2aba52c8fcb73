//! What a journal is opened with, and what it says about itself then.

use crate::digest::Digest;
use crate::ids::{Index, PairId, ReplicaId};
use crate::store::journal::batch::{BODY_BYTES, body_within, room_for};
use crate::store::journal::error::JournalError;
use crate::store::journal::format::{BLOCK_BYTES, SEGMENT_BYTES_MAX, sound_length};
use crate::store::journal::recovery::Damage;

/// Whose journal it is. Stamped into every segment, so that a segment of another journal is refused
/// by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The pair that the journal belongs to.
    pub pair: PairId,
    /// The place within that pair.
    pub place: ReplicaId,
}

/// The newest entry whose outputs were agreed upon, as far as the journal was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The entry; 0 for none.
    pub index: Index,
    /// The running digest of the outputs there.
    pub outputs: Digest,
}

/// How a journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length of new segments in bytes, a multiple of [`BLOCK_BYTES`]. Existing ones keep theirs.
    pub segment_bytes: u32,
    /// How many zero-filled or released segments are kept ready. With none, beginning a segment
    /// means to zero-fill it first.
    pub spares: usize,
    /// Whether anything is synced. Without it (durability `memory`) nothing that was written may
    /// be believed after the machine has stopped.
    pub sync: bool,
    /// Drawn from the operating system's entropy at each opening: tells the uses of a file apart.
    /// The simulator draws it from its seed.
    pub seed: u64,
}

impl Options {
    /// The default: segments of 64 MiB, two spares, everything synced.
    pub fn new(seed: u64) -> Self {
        Self { segment_bytes: 64 << 20, spares: 2, sync: true, seed }
    }

    pub(super) fn check(&self) -> Result<(), JournalError> {
        if !sound_length(self.segment_bytes) {
            const { assert!(BLOCK_BYTES == 4096 && SEGMENT_BYTES_MAX == 1 << 30) };
            let why = "a segment has a multiple of 4096 bytes, at least 12288 and at most 2^30";
            return Err(JournalError::Options { why });
        }
        Ok(())
    }

    /// Bytes of batches that a segment holds.
    pub(super) fn area(&self) -> usize {
        (self.segment_bytes - 2 * BLOCK_BYTES) as usize
    }

    /// Longest body of a batch.
    pub(super) fn longest_body(&self) -> usize {
        body_within(self.area()).min(BODY_BYTES)
    }

    /// Whether a body of this length fits a new segment.
    pub(super) fn fits(&self, body: usize) -> bool {
        room_for(body) <= self.area()
    }
}

/// In what state a journal was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The directory has no journal.
    Empty,
    /// Everything that was acknowledged is there.
    Whole,
    /// The journal is not what was written, and can only be begun anew
    /// ([`Journal::restart_at`](super::Journal::restart_at)). The rest of [`Recovery`] says what
    /// could be read before the damage.
    Damaged(Damage),
}

/// What a journal was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Whether the journal is whole, and what is wrong with it otherwise.
    pub state: State,
    /// The entry before the first one that is kept, with the log's running digest at it.
    pub base: (Index, Digest),
    /// The last entry.
    pub held: Index,
    /// The running digest of the entries at `held`.
    pub log_digest: Digest,
    /// The release watermark when the last batch was written.
    pub mark: Mark,
    /// Bytes of the last batch, if a crash had torn it. It was never acknowledged, and is dropped.
    pub torn: u64,
}
