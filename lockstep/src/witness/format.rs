//! A record as it lies on disk: laid out by hand, versioned, with a checksum.
//!
//! ```text
//! offset  bytes  field, integers little-endian
//!      0      8  magic, "LKSTWREC"
//!      8      2  version of this format: 2
//!     10      1  place of the asker: 0 for a, 1 for b
//!     11      1  origin: 0 vacant, 1 formed, 2 alone, 3 renewal, 4 restarted, 5 joined, 6 left,
//!                7 adopted
//!     12      4  lineage
//!     16     16  pair
//!     32      8  epoch
//!     40      8  incarnation of the member at a, 0 for none
//!     48      8  incarnation of the member at b, 0 for none
//!     56      8  nonce
//!     64     16  digest of the renewed record, or of the one that the asker left, else zeros
//!     80      4  1 if the record is not to be trusted, else 0
//!     84      4  lineage that a member told of, 0 unless the record is not to be trusted
//!     88      8  epoch that it told of, likewise
//!     96      8  inode of the file that this was written to
//!    104      8  when that file was made, nanoseconds since the Unix epoch, 0 if it does not say
//!    112     16  XXH3-128 of everything before
//! ```
//!
//! Version 1 has the origins up to 3, and the checksum at 96: its files do not know their own.

use crate::digest::Digest;
use crate::ids::{Epoch, Incarnation, Lineage, Nonce, PairId, ReplicaId};
use crate::record::{Members, Origin, Record};
use crate::witness::store::{Held, Told};

/// Length of a record's file in bytes.
pub const FILE_BYTES: usize = 128;

/// The version of this format.
pub const VERSION: u16 = 2;
/// The oldest that is read.
const OLDEST: u16 = 1;
/// The last origin that version 1 knows.
const LAST_ORIGIN_OF_1: u8 = 3;

const MAGIC: [u8; 8] = *b"LKSTWREC";
const CHECKED: usize = 112;
/// The same for version 1.
const CHECKED_1: usize = 96;
const CHECKSUM: usize = 16;

/// Which file it is: its content copied to another file, or back over a later one, does not fit.
///
/// The device is left out: disks are numbered anew whenever the machine starts, while a copy on
/// another disk is made at another time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileMark {
    /// The file's inode number.
    pub inode: u64,
    /// When the file was made, in nanoseconds since the Unix epoch; 0 if the file system does
    /// not say.
    pub born: u64,
}

/// What a file's bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The pair's record, and whether it is to be trusted.
    pub held: Held,
    /// The file that the bytes were written to; `None` from version 1, which does not say.
    pub mark: Option<FileMark>,
}

/// Why a file's bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The format is of another version.
    Version(u16),
    /// The content breaks this rule of the format.
    Damaged(&'static str),
}

/// The bytes of a record for the file with this mark.
pub fn encode(held: &Held, mark: FileMark) -> [u8; FILE_BYTES] {
    let Held { record, behind } = held;
    let (origin, renewed) = record.origin.code();
    let member = |place| record.members.at(place).map_or(0, |incarnation| incarnation.0);
    let told = behind.unwrap_or(Told { lineage: Lineage(0), epoch: Epoch(0) });

    let mut bytes = [0; FILE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[10] = record.asker.slot() as u8;
    bytes[11] = origin;
    bytes[12..16].copy_from_slice(&record.lineage.0.to_le_bytes());
    bytes[16..32].copy_from_slice(&record.pair.0);
    bytes[32..40].copy_from_slice(&record.epoch.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&member(ReplicaId::A).to_le_bytes());
    bytes[48..56].copy_from_slice(&member(ReplicaId::B).to_le_bytes());
    bytes[56..64].copy_from_slice(&record.nonce.0.to_le_bytes());
    bytes[64..80].copy_from_slice(&renewed.unwrap_or(Digest::ZERO).0);
    bytes[80..84].copy_from_slice(&u32::from(behind.is_some()).to_le_bytes());
    bytes[84..88].copy_from_slice(&told.lineage.0.to_le_bytes());
    bytes[88..96].copy_from_slice(&told.epoch.0.to_le_bytes());
    bytes[96..104].copy_from_slice(&mark.inode.to_le_bytes());
    bytes[104..112].copy_from_slice(&mark.born.to_le_bytes());
    let checksum = Digest::of(&bytes[..CHECKED]);
    bytes[CHECKED..].copy_from_slice(&checksum.0);
    bytes
}

/// The record in a file's bytes.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: &[u8]) -> Result<Kept, Unreadable> {
    if bytes.len() < 10 {
        return Err(Unreadable::Damaged("it is too short"));
    }
    if bytes[..8] != MAGIC {
        return Err(Unreadable::Damaged("it does not begin like a record"));
    }
    let version = u16::from_le_bytes(array(bytes, 8));
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(Unreadable::Version(version));
    }
    let checked = if version == 1 { CHECKED_1 } else { CHECKED };
    if bytes.len() != checked + CHECKSUM {
        return Err(Unreadable::Damaged("it is cut short, or something was added"));
    }
    if Digest::of(&bytes[..checked]).0 != bytes[checked..] {
        return Err(Unreadable::Damaged("its checksum is wrong"));
    }
    let known = version > 1 || bytes[11] <= LAST_ORIGIN_OF_1;
    let held = fields(bytes).filter(|_| known);
    let held = held.ok_or(Unreadable::Damaged("its fields contradict each other"))?;
    let number = |at| u64::from_le_bytes(array(bytes, at));
    let mark = (version > 1).then(|| FileMark { inode: number(96), born: number(104) });
    Ok(Kept { held, mark })
}

fn fields(bytes: &[u8]) -> Option<Held> {
    let number = |at| u64::from_le_bytes(array(bytes, at));
    let short = |at| u32::from_le_bytes(array(bytes, at));
    let member = |at| Some(Incarnation(number(at))).filter(|member| member.0 != 0);
    let asker = *ReplicaId::BOTH.get(usize::from(bytes[10]))?;
    let members = Members { a: member(40), b: member(48) };
    let origin = match (bytes[11], members.a, members.b) {
        (0, None, None) => Origin::Vacant,
        (1, Some(_), Some(_)) => Origin::Formed,
        (2, Some(_), None) | (2, None, Some(_)) => Origin::Alone,
        (3, Some(_), _) | (3, _, Some(_)) => Origin::Renewal(Digest(array(bytes, 64))),
        (5, Some(_), Some(_)) => Origin::Joined,
        (4, Some(_), None) | (4, None, Some(_)) => Origin::Restarted,
        (6, Some(_), None) | (6, None, Some(_)) => Origin::Left(Digest(array(bytes, 64))),
        (7, Some(_), None) | (7, None, Some(_)) => Origin::Adopted,
        _ => return None,
    };
    let behind = match short(80) {
        0 => None,
        1 => Some(Told { lineage: Lineage(short(84)), epoch: Epoch(number(88)) }),
        _ => return None,
    };
    let record = Record {
        pair: PairId(array(bytes, 16)),
        lineage: Lineage(short(12)),
        epoch: Epoch(number(32)),
        members,
        asker,
        nonce: Nonce(number(56)),
        origin,
    };
    Some(Held { record, behind })
}

/// `N` bytes from `at`, which the caller knows to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
