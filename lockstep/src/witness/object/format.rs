//! A record as an object of a store: laid out by hand, versioned, with a checksum.
//!
//! ```text
//! offset  bytes  field, integers little-endian
//!      0      8  magic, "LKSTWOBJ"
//!      8      2  version of this format: 1
//!     10      6  zeros
//!     16      8  number of the object, from 0
//!     24     16  digest of the record in the object before, zeros in the first
//!     40    128  the record, as in a witness's file, with zeros for the file
//!    168     16  XXH3-128 of everything before
//! ```

use crate::digest::Digest;
use crate::ids::PairId;
use crate::record::Record;
use crate::witness::format::{self as file, FILE_BYTES, FileMark, Kept};
use crate::witness::store::Held;

use super::error::ObjectError;

/// Length of an object in bytes.
pub const OBJECT_BYTES: usize = 184;

/// The version of this format.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"LKSTWOBJ";
const RECORD: usize = 40;
const CHECKED: usize = 168;

/// An object: a record and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The object's number. Numbers follow each other without gaps, also where epochs leave
    /// some out.
    pub number: u64,
    /// Digest of the previous object's record; [`Digest::ZERO`] in the first object.
    pub before: Digest,
    /// The record that the object holds.
    pub record: Record,
}

/// The bytes of an object.
pub fn encode(link: &Link) -> [u8; OBJECT_BYTES] {
    let mut bytes = [0; OBJECT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&link.number.to_le_bytes());
    bytes[24..RECORD].copy_from_slice(&link.before.0);
    let record = file::encode(&Held::trusted(link.record), FileMark::default());
    bytes[RECORD..CHECKED].copy_from_slice(&record);
    let checksum = Digest::of(&bytes[..CHECKED]);
    bytes[CHECKED..].copy_from_slice(&checksum.0);
    bytes
}

/// The object that is kept under this number for this pair.
///
/// # Errors
/// [`ObjectError::Version`], [`ObjectError::Foreign`] for another pair's, [`ObjectError::Damaged`].
pub fn decode(pair: PairId, number: u64, bytes: &[u8]) -> Result<Link, ObjectError> {
    let damaged = |why| ObjectError::Damaged { pair, number, why };
    if bytes.len() < 10 || bytes[..8] != MAGIC {
        return Err(damaged("it does not begin like a record's object"));
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != VERSION {
        return Err(ObjectError::Version { pair, number, version });
    }
    if bytes.len() != OBJECT_BYTES {
        return Err(damaged("it is cut short, or something was added"));
    }
    if Digest::of(&bytes[..CHECKED]).0 != bytes[CHECKED..] {
        return Err(damaged("its checksum is wrong"));
    }
    let link = fields(bytes).ok_or(damaged("its fields contradict each other"))?;
    if link.record.pair != pair {
        return Err(ObjectError::Foreign { pair, number, found: link.record.pair });
    }
    if link.number != number {
        return Err(damaged("it was written under another number"));
    }
    Ok(link)
}

fn fields(bytes: &[u8]) -> Option<Link> {
    let number = u64::from_le_bytes(bytes[16..24].try_into().ok()?);
    let before = Digest(bytes[24..RECORD].try_into().ok()?);
    let Kept { held, .. } = file::decode(&bytes[RECORD..RECORD + FILE_BYTES]).ok()?;
    let whole = bytes[10..16] == [0; 6] && held.behind.is_none();
    (whole && (number == 0) == (before == Digest::ZERO)).then_some(Link {
        number,
        before,
        record: held.record,
    })
}
