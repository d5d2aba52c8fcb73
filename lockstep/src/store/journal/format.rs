//! The layout of a segment: its header, its seal, its sectors. `docs/journal.md` is the document.
//!
//! ```text
//! segment   block 0: header   blocks 1..: batches   last block: seal
//!
//! header    offset  bytes  field, integers little-endian
//!                0      8  magic, "LKSTJSEG"
//!                8      2  version of the format
//!               10      1  place: 0 for a, 1 for b
//!               11      1  beginning: 0 continues, 1 cuts, 2 restarts
//!               12      4  length of the segment in bytes
//!               16     16  pair
//!               32      8  sequence number of the segment
//!               40      8  salt
//!               48      8  index of the first entry
//!               56     16  log digest before it
//!               72      8  agreed mark: index
//!               80     16  agreed mark: outputs digest
//!               96     16  XXH3-128 of everything before
//!
//! seal      offset  bytes  field
//!                0      8  magic, "LKSTJEND"
//!                8      8  sequence number of the segment
//!               16      8  salt
//!               24      4  where its batches end
//!               28      4  how many there are
//!               32      8  index of the entry after the last
//!               40     16  log digest there
//!               56     16  XXH3-128 of everything before
//!
//! sector    offset  bytes  field
//!                0    492  payload
//!              492      8  salt
//!              500      4  number of the batch within the segment, from 1
//!              504      8  XXH3-64 of everything before, its seed the sector's offset in the file
//! ```

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::digest::Digest;
use crate::ids::{Index, PairId, ReplicaId};
use crate::store::journal::{Identity, Mark};

/// The version of the format: that of the segments that are written.
pub const VERSION: u16 = 2;

/// The oldest version that is read; see [`first_version`](super::first_version).
pub(super) const OLDEST: u16 = 1;

/// Header, seal and batches begin at multiples of this. File systems and most disks write no
/// less at a time, so that a batch is never in danger while its neighbour is written.
pub const BLOCK_BYTES: u32 = 4096;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// Bytes of each sector that carry a batch.
pub(super) const PAYLOAD_BYTES: usize = 492;

/// Length of a header in bytes.
pub const HEADER_BYTES: usize = 112;

/// Length of a seal in bytes.
pub(super) const SEAL_BYTES: usize = 72;

/// Longest segment in bytes, so that offsets within it need four.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

const HEADER_MAGIC: [u8; 8] = *b"LKSTJSEG";
const SEAL_MAGIC: [u8; 8] = *b"LKSTJEND";

/// How a segment's first entry follows what is in the segments before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// The entry is the next one.
    Continues,
    /// The entry replaces the one with its index, and all after that one are dropped.
    Cuts,
    /// Nothing before counts any more.
    Restarts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Of the segment: [`VERSION`], or older.
    pub(super) version: u16,
    pub(super) identity: Identity,
    pub(super) beginning: Beginning,
    pub(super) len: u32,
    pub(super) sequence: u64,
    pub(super) salt: u64,
    pub(super) first: Index,
    pub(super) log_digest: Digest,
    pub(super) mark: Mark,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Version(u16),
    Damaged(&'static str),
}

/// Whether a segment may have this length: room for a header, a seal and the smallest batch.
pub(super) fn sound_length(len: u32) -> bool {
    len.is_multiple_of(BLOCK_BYTES) && (3 * BLOCK_BYTES..=SEGMENT_BYTES_MAX).contains(&len)
}

/// Tells one use of a file from all others, the stale batches of which are then none of its own.
pub(super) fn salt(seed: u64, sequence: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..].copy_from_slice(&sequence.to_le_bytes());
    xxh3_64(&bytes)
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&HEADER_MAGIC);
        bytes[8..10].copy_from_slice(&self.version.to_le_bytes());
        bytes[10] = self.identity.place.slot() as u8;
        bytes[11] = self.beginning as u8;
        bytes[12..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.identity.pair.0);
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.salt.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.log_digest.0);
        bytes[72..80].copy_from_slice(&self.mark.index.0.to_le_bytes());
        bytes[80..96].copy_from_slice(&self.mark.outputs.0);
        let checksum = Digest::of(&bytes[..96]);
        bytes[96..].copy_from_slice(&checksum.0);
        bytes
    }

    /// The version comes first: nothing else is looked at in a file of another one.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Unreadable> {
        if bytes[..8] != HEADER_MAGIC {
            return Err(Unreadable::Damaged("it does not begin like a segment"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(Unreadable::Version(version));
        }
        if bytes[96..] != Digest::of(&bytes[..96]).0 {
            return Err(Unreadable::Damaged("the checksum of its header is wrong"));
        }
        let place = match bytes[10] {
            0 => ReplicaId::A,
            1 => ReplicaId::B,
            _ => return Err(Unreadable::Damaged("its header names no place")),
        };
        let beginning = match bytes[11] {
            0 => Beginning::Continues,
            1 => Beginning::Cuts,
            2 => Beginning::Restarts,
            _ => return Err(Unreadable::Damaged("its header does not say how it begins")),
        };
        let header = Self {
            version,
            identity: Identity { pair: PairId(array(bytes, 16)), place },
            beginning,
            len: u32::from_le_bytes(array(bytes, 12)),
            sequence: number(bytes, 32),
            salt: number(bytes, 40),
            first: Index(number(bytes, 48)),
            log_digest: Digest(array(bytes, 56)),
            mark: Mark { index: Index(number(bytes, 72)), outputs: Digest(array(bytes, 80)) },
        };
        if !(Index(1)..=Index::LAST).contains(&header.first) {
            return Err(Unreadable::Damaged("its first entry has no index"));
        }
        if !sound_length(header.len) {
            return Err(Unreadable::Damaged("its header speaks of a length that none has"));
        }
        Ok(header)
    }
}

/// What stands at the end of a segment once there is a next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) sequence: u64,
    pub(super) salt: u64,
    pub(super) end: u32,
    pub(super) batches: u32,
    pub(super) next: Index,
    pub(super) log_digest: Digest,
}

impl Seal {
    pub(super) fn encode(&self) -> [u8; SEAL_BYTES] {
        let mut bytes = [0; SEAL_BYTES];
        bytes[..8].copy_from_slice(&SEAL_MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.end.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.batches.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.next.0.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.log_digest.0);
        let checksum = Digest::of(&bytes[..56]);
        bytes[56..].copy_from_slice(&checksum.0);
        bytes
    }

    /// `None` for anything else, which may be zeros or the seal of an earlier use.
    pub(super) fn decode(bytes: &[u8; SEAL_BYTES], sequence: u64, salt: u64) -> Option<Self> {
        let whole = bytes[..8] == SEAL_MAGIC && bytes[56..] == Digest::of(&bytes[..56]).0;
        let seal = Self {
            sequence: number(bytes, 8),
            salt: number(bytes, 16),
            end: u32::from_le_bytes(array(bytes, 24)),
            batches: u32::from_le_bytes(array(bytes, 28)),
            next: Index(number(bytes, 32)),
            log_digest: Digest(array(bytes, 40)),
        };
        (whole && seal.sequence == sequence && seal.salt == salt).then_some(seal)
    }
}

/// What a sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector {
    /// Zeros: never written.
    Blank,
    /// Part of the batch with this number, of this use of the file.
    Own(u32),
    /// Part of a batch of an earlier use.
    Stale,
    /// None of these: it was written, and changed since.
    Rotten,
}

/// Lays out a sector around its payload, the missing rest of which is zeros.
pub(super) fn seal_sector(
    payload: &[u8],
    salt: u64,
    batch: u32,
    offset: u32,
) -> [u8; SECTOR_BYTES] {
    let mut sector = [0; SECTOR_BYTES];
    sector[..payload.len()].copy_from_slice(payload);
    sector[492..500].copy_from_slice(&salt.to_le_bytes());
    sector[500..504].copy_from_slice(&batch.to_le_bytes());
    let check = xxh3_64_with_seed(&sector[..504], offset.into());
    sector[504..].copy_from_slice(&check.to_le_bytes());
    sector
}

/// What this sector, from this offset of a file used with this salt, holds.
pub(super) fn inspect(sector: &[u8; SECTOR_BYTES], salt: u64, offset: u32) -> Sector {
    if *sector == [0; SECTOR_BYTES] {
        return Sector::Blank;
    }
    if number(sector, 504) != xxh3_64_with_seed(&sector[..504], offset.into()) {
        return Sector::Rotten;
    }
    if number(sector, 492) != salt {
        return Sector::Stale;
    }
    Sector::Own(u32::from_le_bytes(array(sector, 500)))
}

pub(super) fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// `N` bytes from `at`, which the caller knows to be there.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
