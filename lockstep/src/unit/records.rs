//! Records of a frozen state as one byte string, and back.
//!
//! For tests, tools and comparisons; whatever stores checkpoints may lay them out otherwise.
//! All numbers are little-endian:
//!
//! | part | bytes |
//! | --- | --- |
//! | start | `lsrecs`, then the version as `u16` |
//! | each record | length `u32`, checksum `u64`, the record |
//! | end | `0xFFFF_FFFF`, number of records `u64`, digest (16) of all before the digest |
//!
//! A record's checksum is XXH3-64, seeded with the record's position, so that a damaged record
//! is named; the digest is XXH3-128. Both guard against faults, not against an adversary.

use bytes::{Buf, Bytes};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::digest::Digest;
use crate::limits::RECORD_BYTES;
use crate::machine::{RecordSink, RecordSource, RestoreError, SinkError};

const MAGIC: &[u8; 6] = b"lsrecs";
const VERSION: u16 = 1;
const END: u32 = u32::MAX;
const START_BYTES: usize = MAGIC.len() + 2;
const HEAD_BYTES: usize = 4 + 8;
const END_BYTES: usize = 4 + 8 + 16;

/// Takes records into a byte string.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    count: u64,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A writer without a record.
    pub fn new() -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        Self { bytes, count: 0 }
    }

    /// The byte string of all records.
    pub fn finish(mut self) -> Bytes {
        self.bytes.extend_from_slice(&END.to_le_bytes());
        self.bytes.extend_from_slice(&self.count.to_le_bytes());
        let digest = Digest::of(&self.bytes);
        self.bytes.extend_from_slice(&digest.0);
        self.bytes.into()
    }
}

impl RecordSink for Writer {
    fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let len = checked_len(bytes)?;
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(&xxh3_64_with_seed(bytes, self.count).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
        self.count += 1;
        Ok(())
    }
}

fn checked_len(bytes: &[u8]) -> Result<u32, SinkError> {
    let too_long = SinkError::TooLong { len: bytes.len(), limit: RECORD_BYTES };
    if bytes.len() > RECORD_BYTES {
        return Err(too_long);
    }
    u32::try_from(bytes.len()).map_err(|_| too_long)
}

/// Gives the records of a [`Writer`]'s byte string back.
#[derive(Debug)]
pub struct Reader {
    /// What is left of the records, all of them checked.
    records: Bytes,
}

impl Reader {
    /// Checks the whole byte string, so that no record is given out of a damaged one.
    ///
    /// # Errors
    /// If it is not one, is of another version, ends early or is damaged.
    pub fn open(bytes: Bytes) -> Result<Self, RestoreError> {
        if bytes.len() < START_BYTES + END_BYTES || !bytes.starts_with(MAGIC) {
            return Err(invalid("start", "these are no records of a frozen state".into()));
        }
        let version = u16::from_le_bytes([bytes[6], bytes[7]]);
        if version != VERSION {
            let why = format!("version {version} is unknown, {VERSION} was expected");
            return Err(invalid("start", why));
        }
        let count = check_records(bytes.slice(START_BYTES..))?;
        let (all, digest) = bytes.split_at(bytes.len() - 16);
        let counted = (&all[all.len() - 8..]).get_u64_le();
        if counted != count {
            return Err(invalid("end", format!("it counts {counted} records, not {count}")));
        }
        if Digest::of(all).0 != digest {
            return Err(invalid("end", "the digest of the records is another one".into()));
        }
        Ok(Self { records: bytes.slice(START_BYTES..bytes.len() - END_BYTES) })
    }
}

/// Goes through all records up to the end mark, which has to be the end; counts them.
fn check_records(mut rest: Bytes) -> Result<u64, RestoreError> {
    let mut count = 0;
    loop {
        if rest.len() < END_BYTES {
            return Err(RestoreError::Missing { missing: "end mark" });
        }
        if (&rest[..4]).get_u32_le() == END {
            break;
        }
        let expected = (&rest[4..HEAD_BYTES]).get_u64_le();
        let record = take_record(&mut rest)?;
        if xxh3_64_with_seed(&record, count) != expected {
            return Err(invalid("record", format!("record {count} fails its checksum")));
        }
        count += 1;
    }
    if rest.len() == END_BYTES {
        Ok(count)
    } else {
        Err(invalid("end", format!("{} bytes follow it", rest.len() - END_BYTES)))
    }
}

fn take_record(rest: &mut Bytes) -> Result<Bytes, RestoreError> {
    if rest.len() < HEAD_BYTES {
        return Err(RestoreError::Missing { missing: "next record" });
    }
    let len = rest.get_u32_le() as usize;
    rest.advance(8);
    if len > RECORD_BYTES {
        return Err(invalid("record", format!("{len} bytes are over the limit {RECORD_BYTES}")));
    }
    if rest.len() < len {
        return Err(RestoreError::Missing { missing: "last record" });
    }
    Ok(rest.split_to(len))
}

impl RecordSource for Reader {
    fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
        if self.records.is_empty() { Ok(None) } else { take_record(&mut self.records).map(Some) }
    }
}

/// Takes records only to give their digest: two states are equal if their digests are.
#[derive(Default)]
pub struct Summer {
    hasher: Option<crate::digest::Hasher>,
}

impl Summer {
    /// The digest of all records, with their bounds.
    pub fn finish(self) -> Digest {
        self.hasher.map_or(Digest::ZERO, |hasher| hasher.finish())
    }
}

impl RecordSink for Summer {
    fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        checked_len(bytes)?;
        self.hasher.get_or_insert_with(|| crate::digest::Hasher::after(Digest::ZERO)).bytes(bytes);
        Ok(())
    }
}

pub(super) fn invalid(record: &'static str, why: String) -> RestoreError {
    RestoreError::Invalid { record, why }
}

/// The next record, which has to be there.
pub(super) fn expect(
    source: &mut dyn RecordSource,
    missing: &'static str,
) -> Result<Bytes, RestoreError> {
    source.record()?.ok_or(RestoreError::Missing { missing })
}
