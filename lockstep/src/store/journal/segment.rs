//! What is kept in memory of a segment, and the names of files.

use crate::digest::Digest;
use crate::ids::Index;
use crate::store::journal::Mark;
use crate::store::journal::format::{BLOCK_BYTES, Header, Seal, VERSION};

/// Where a segment that is being zero-filled lies.
pub(super) const PART: &str = "journal-spare.part";

const SEGMENT: &str = "journal-";
const SPARE: &str = "journal-spare-";

/// Spots remembered in each segment: reading at any index begins at the nearest one, so it
/// reads at most this fraction of a segment for nothing.
const SPOTS: u32 = 64;

/// No journal gets this far; a file with a higher number is none of ours.
const LAST_NUMBER: u64 = u64::MAX >> 1;

/// The name of a segment.
pub(super) fn segment_name(sequence: u64) -> String {
    format!("{SEGMENT}{sequence:010}")
}

/// The name of a file that waits to be a segment.
pub(super) fn spare_name(number: u64) -> String {
    format!("{SPARE}{number:010}")
}

/// The number in a segment's name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    number(name, SEGMENT, segment_name)
}

/// The number in a spare's name.
pub(super) fn spare_number(name: &str) -> Option<u64> {
    number(name, SPARE, spare_name)
}

/// Only a name as it would be made here counts, so that no two names mean the same.
fn number(name: &str, prefix: &str, make: fn(u64) -> String) -> Option<u64> {
    let number = name.strip_prefix(prefix)?.parse().ok()?;
    (number <= LAST_NUMBER && make(number) == name).then_some(number)
}

/// A file as it is used for one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// The version of the format that its entries are of.
    pub(super) version: u16,
    pub(super) salt: u64,
    pub(super) len: u32,
}

impl Use {
    /// Where batches must end.
    pub(super) fn area_end(self) -> u32 {
        self.len - BLOCK_BYTES
    }
}

/// Where a batch begins, and what comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) offset: u32,
    /// The batch's number.
    pub(super) number: u32,
    /// The index of its first entry.
    pub(super) next: Index,
    /// The running digest before it.
    pub(super) log_digest: Digest,
}

impl Spot {
    /// The place after a batch.
    pub(super) fn after(self, room: u32, count: u32, log_digest: Digest) -> Self {
        Self {
            offset: self.offset + room,
            number: self.number + 1,
            next: Index(self.next.0 + u64::from(count)),
            log_digest,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) within: Use,
    /// What was agreed when it was begun.
    pub(super) mark: Mark,
    /// The index of its first entry.
    pub(super) first: Index,
    /// The last of its entries that counts: those after it were cut by a later segment. Before
    /// `first` if none counts.
    pub(super) last: Index,
    /// Where the next batch goes, or would.
    pub(super) end: Spot,
    /// Some of its batches, the first always.
    spots: Vec<Spot>,
}

impl Segment {
    pub(super) fn new(header: &Header) -> Self {
        let first = Spot {
            offset: BLOCK_BYTES,
            number: 1,
            next: header.first,
            log_digest: header.log_digest,
        };
        Self {
            sequence: header.sequence,
            within: Use { version: header.version, salt: header.salt, len: header.len },
            mark: header.mark,
            first: header.first,
            last: header.first.prev(),
            end: first,
            spots: vec![first],
        }
    }

    pub(super) fn name(&self) -> String {
        segment_name(self.sequence)
    }

    /// The running digest before its first entry.
    pub(super) fn chain(&self) -> Digest {
        self.spots[0].log_digest
    }

    /// Whether its entry with this index counts.
    pub(super) fn has(&self, index: Index) -> bool {
        self.first <= index && index <= self.last
    }

    /// Whether a batch that takes this many bytes fits behind its last one. In a segment of an
    /// older version none does.
    pub(super) fn has_room(&self, room: usize) -> bool {
        self.within.version == VERSION
            && room <= (self.within.area_end() - self.end.offset) as usize
    }

    /// About how many bytes its batches from this entry on take.
    pub(super) fn bytes_since(&self, index: Index) -> u64 {
        let from = self.spot_before(index.max(self.first));
        u64::from(self.end.offset - from.offset)
    }

    /// Takes note of a batch at its end.
    pub(super) fn extend(&mut self, after: Spot) {
        let remembered = self.spots.last().map_or(0, |spot| spot.offset);
        if self.end.offset - remembered >= self.within.len / SPOTS && self.end.offset > remembered {
            self.spots.push(self.end);
        }
        self.end = after;
        self.last = after.next.prev();
    }

    /// Entries after this index do not count.
    pub(super) fn cut(&mut self, last: Index) {
        self.last = self.last.min(last);
    }

    /// The nearest place that is remembered at or before this entry.
    pub(super) fn spot_before(&self, index: Index) -> Spot {
        let at = self.spots.partition_point(|spot| spot.next <= index);
        self.spots[at.saturating_sub(1)]
    }

    pub(super) fn seal(&self) -> Seal {
        Seal {
            sequence: self.sequence,
            salt: self.within.salt,
            end: self.end.offset,
            batches: self.end.number - 1,
            next: self.end.next,
            log_digest: self.end.log_digest,
        }
    }
}
