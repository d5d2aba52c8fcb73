//! Fields of what lies on disk, laid out by hand, integers little-endian.
//!
//! What is small is [sealed](seal): a fixed length, zeros up to a checksum over all of it. So a
//! field can be added where the zeros are, under a higher version, without moving anything.

use crate::digest::Digest;
use crate::ids::{Epoch, Incarnation, Index, Lineage, LogTime, Nonce, PairId, ReplicaId};
use crate::record::{Members, Origin, Record};

/// Length of what is sealed: the sector that disks write whole, where they do.
pub(super) const SEALED_BYTES: usize = 512;

/// Length of the checksum at the end.
const CHECKSUM_BYTES: usize = 16;

/// A version stands after the magic, so that it can be told whatever else changed.
const MAGIC_BYTES: usize = 8;

/// Why bytes are not what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The bytes are of another version of the format.
    Version(u16),
    /// The bytes break this rule of the format.
    Damaged(&'static str),
}

/// The first fields of everything that lies on disk.
pub(super) fn begin(magic: &[u8; MAGIC_BYTES], version: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEALED_BYTES);
    out.extend_from_slice(magic);
    out.extend_from_slice(&version.to_le_bytes());
    out
}

/// Fills up with zeros to [`SEALED_BYTES`], and adds the XXH3-128 of it all.
///
/// # Panics
/// If the fields are too long: they all have fixed lengths.
pub(super) fn seal(fields: Vec<u8>) -> Vec<u8> {
    seal_to(fields, SEALED_BYTES)
}

/// The same to another length.
pub(super) fn seal_to(mut fields: Vec<u8>, len: usize) -> Vec<u8> {
    let checked = len - CHECKSUM_BYTES;
    assert!(fields.len() <= checked, "the fields leave room for the checksum");
    fields.resize(checked, 0);
    let checksum = Digest::of(&fields);
    fields.extend_from_slice(&checksum.0);
    fields
}

/// The fields after magic and version, once these, the length and the checksum are right.
pub(super) fn unseal<'a>(
    bytes: &'a [u8],
    magic: &[u8; MAGIC_BYTES],
    version: u16,
) -> Result<Fields<'a>, Broken> {
    unseal_from(bytes, magic, version, SEALED_BYTES)
}

/// The same of what was sealed to another length.
pub(super) fn unseal_from<'a>(
    bytes: &'a [u8],
    magic: &[u8; MAGIC_BYTES],
    version: u16,
    len: usize,
) -> Result<Fields<'a>, Broken> {
    let mut fields = Fields(bytes);
    if fields.array() != Some(*magic) {
        return Err(Broken::Damaged("it does not begin like one"));
    }
    match fields.u16() {
        None => return Err(Broken::Damaged("it is cut short")),
        Some(found) if found != version => return Err(Broken::Version(found)),
        Some(_) => {}
    }
    if bytes.len() != len {
        return Err(Broken::Damaged("it is cut short, or something was added"));
    }
    let (checked, checksum) = bytes.split_at(len - CHECKSUM_BYTES);
    if Digest::of(checked).0 != checksum {
        return Err(Broken::Damaged("its checksum is wrong"));
    }
    Ok(Fields(&checked[MAGIC_BYTES + 2..]))
}

/// Takes fields off the front; `None` where they end, or are not what they should be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn digest(&mut self) -> Option<Digest> {
        self.array().map(Digest)
    }

    pub(super) fn index(&mut self) -> Option<Index> {
        self.u64().map(Index)
    }

    pub(super) fn time(&mut self) -> Option<LogTime> {
        self.u64().map(LogTime)
    }

    pub(super) fn pair(&mut self) -> Option<PairId> {
        self.array().map(PairId)
    }

    pub(super) fn place(&mut self) -> Option<ReplicaId> {
        ReplicaId::BOTH.get(usize::from(self.u8()?)).copied()
    }

    /// This many bytes without a meaning yet.
    pub(super) fn zeros(&mut self, len: usize) -> Option<()> {
        self.take(len)?.iter().all(|byte| *byte == 0).then_some(())
    }

    /// Nothing but zeros to the end.
    pub(super) fn end(&mut self) -> Option<()> {
        self.zeros(self.0.len())
    }

    /// A record as [`put_record`] writes it, and no other way of writing the same.
    pub(super) fn record(&mut self) -> Option<Option<Record>> {
        let bytes = self.take(RECORD_FIELD_BYTES)?;
        let record = if bytes[0] == 0 { None } else { Some(record(Fields(&bytes[1..]))?) };
        let mut again = Vec::with_capacity(RECORD_FIELD_BYTES);
        put_record(&mut again, record.as_ref());
        (again == bytes).then_some(record)
    }
}

/// Length of a record among other fields:
///
/// ```text
/// offset  bytes  field
///      0      1  1, or 0 for no record and zeros in all that follows
///      1      1  place of the asker: 0 for a, 1 for b
///      2      1  origin: 0 vacant, 1 formed, 2 alone, 3 renewal, 4 restarted, 5 joined, 6 left,
///                7 adopted
///      3      1  0
///      4      4  lineage
///      8     16  pair
///     24      8  epoch
///     32      8  incarnation of the member at a, 0 for none
///     40      8  incarnation of the member at b, 0 for none
///     48      8  nonce
///     56     16  digest of the record that was renewed or left, zeros for other origins
/// ```
pub(super) const RECORD_FIELD_BYTES: usize = 72;

/// Appends a record, or its absence.
pub(super) fn put_record(out: &mut Vec<u8>, record: Option<&Record>) {
    let Some(record) = record else {
        out.resize(out.len() + RECORD_FIELD_BYTES, 0);
        return;
    };
    let (origin, of) = record.origin.code();
    out.extend_from_slice(&[1, record.asker.slot() as u8, origin, 0]);
    out.extend_from_slice(&record.lineage.0.to_le_bytes());
    out.extend_from_slice(&record.pair.0);
    out.extend_from_slice(&record.epoch.0.to_le_bytes());
    for place in ReplicaId::BOTH {
        let member = record.members.at(place).map_or(0, |incarnation| incarnation.0);
        out.extend_from_slice(&member.to_le_bytes());
    }
    out.extend_from_slice(&record.nonce.0.to_le_bytes());
    out.extend_from_slice(&of.unwrap_or(Digest::ZERO).0);
}

fn record(mut fields: Fields<'_>) -> Option<Record> {
    let (asker, origin, _) = (fields.place()?, fields.u8()?, fields.u8()?);
    let (lineage, pair, epoch) = (fields.u32()?, fields.pair()?, fields.u64()?);
    let mut member = || Some(Some(Incarnation(fields.u64()?)).filter(|member| member.0 != 0));
    let members = Members { a: member()?, b: member()? };
    let (nonce, of) = (fields.u64()?, fields.digest()?);
    Some(Record {
        pair,
        lineage: Lineage(lineage),
        epoch: Epoch(epoch),
        members,
        asker,
        nonce: Nonce(nonce),
        origin: named_origin(origin, of)?,
    })
}

fn named_origin(number: u8, of: Digest) -> Option<Origin> {
    Some(match number {
        0 => Origin::Vacant,
        1 => Origin::Formed,
        2 => Origin::Alone,
        3 => Origin::Renewal(of),
        4 => Origin::Restarted,
        5 => Origin::Joined,
        6 => Origin::Left(of),
        7 => Origin::Adopted,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(origin: Origin) -> Record {
        Record {
            pair: PairId([7; 16]),
            lineage: Lineage(3),
            epoch: Epoch(9),
            members: Members::both(Incarnation(11), Incarnation(12)),
            asker: ReplicaId::B,
            nonce: Nonce(13),
            origin,
        }
    }

    #[test]
    fn every_record_comes_back_and_no_other_bytes_do() {
        let of = Digest([5; 16]);
        let origins = [
            Origin::Vacant,
            Origin::Formed,
            Origin::Alone,
            Origin::Renewal(of),
            Origin::Restarted,
            Origin::Joined,
            Origin::Left(of),
            Origin::Adopted,
        ];
        for record in origins.map(|origin| Some(sample(origin))).into_iter().chain([None]) {
            let mut bytes = Vec::new();
            put_record(&mut bytes, record.as_ref());
            assert_eq!(bytes.len(), RECORD_FIELD_BYTES);
            assert_eq!(Fields(&bytes).record(), Some(record));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 0x80;
                assert_ne!(Fields(&other).record(), Some(record), "byte {at}");
            }
        }
    }

    #[test]
    fn what_has_no_meaning_must_be_zero() {
        let mut bytes = Vec::new();
        put_record(&mut bytes, Some(&sample(Origin::Alone)));
        for at in [3, 60] {
            let mut other = bytes.clone();
            other[at] = 1;
            assert_eq!(Fields(&other).record(), None, "byte {at}");
        }
        let mut absent = vec![0; RECORD_FIELD_BYTES];
        absent[30] = 1;
        assert_eq!(Fields(&absent).record(), None);
    }

    #[test]
    fn a_seal_tells_versions_from_damage() {
        let sealed = seal(begin(b"01234567", 4));
        assert_eq!(sealed.len(), SEALED_BYTES);
        assert!(unseal(&sealed, b"01234567", 4).is_ok_and(|mut fields| fields.end().is_some()));
        assert_eq!(unseal(&sealed, b"01234567", 5).unwrap_err(), Broken::Version(4));
        assert!(matches!(unseal(&sealed, b"11234567", 4), Err(Broken::Damaged(_))));
        assert!(matches!(unseal(&sealed[..511], b"01234567", 4), Err(Broken::Damaged(_))));
    }
}
