//! Records as a byte string: given back as they were, or refused.

use bytes::Bytes;
use proptest::prelude::*;

use crate::limits::RECORD_BYTES;
use crate::machine::{RecordSink, RecordSource, RestoreError, SinkError};
use crate::unit::records::{Reader, Summer, Writer};

fn written(records: &[Vec<u8>]) -> Bytes {
    let mut writer = Writer::new();
    records.iter().for_each(|record| writer.record(record).unwrap());
    writer.finish()
}

fn read(bytes: Bytes) -> Result<Vec<Vec<u8>>, RestoreError> {
    let mut reader = Reader::open(bytes)?;
    let mut records = Vec::new();
    while let Some(record) = reader.record()? {
        records.push(record.to_vec());
    }
    Ok(records)
}

fn some_records() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8)
}

#[test]
fn a_record_over_the_limit_is_refused() {
    let mut writer = Writer::new();
    assert!(writer.record(&vec![0; RECORD_BYTES]).is_ok());
    let error = writer.record(&vec![0; RECORD_BYTES + 1]).unwrap_err();
    assert!(matches!(error, SinkError::TooLong { len, .. } if len == RECORD_BYTES + 1));
    assert!(Summer::default().record(&vec![0; RECORD_BYTES + 1]).is_err());
}

#[test]
fn the_digest_tells_records_apart_by_their_bounds_too() {
    let digest = |records: &[&[u8]]| {
        let mut summer = Summer::default();
        records.iter().for_each(|record| summer.record(record).unwrap());
        summer.finish()
    };
    assert_eq!(digest(&[b"ab", b"c"]), digest(&[b"ab", b"c"]));
    assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    assert_ne!(digest(&[]), digest(&[b""]));
}

#[test]
fn another_version_is_named() {
    let mut bytes = written(&[]).to_vec();
    bytes[6] = 2;
    let error = read(bytes.into()).unwrap_err();
    assert!(error.to_string().contains("version 2 is unknown"), "{error}");
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(records in some_records()) {
        prop_assert_eq!(read(written(&records)).unwrap(), records);
    }

    #[test]
    fn truncated_bytes_are_refused(records in some_records(), cut in any::<prop::sample::Index>()) {
        let bytes = written(&records);
        let short = bytes.slice(..cut.index(bytes.len()));
        prop_assert!(read(short).is_err());
    }

    #[test]
    fn a_flipped_bit_is_noticed(
        records in some_records(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = written(&records).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read(bytes.into()).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), genuine in any::<bool>()) {
        if genuine {
            bytes.splice(0..0, written(&[])[..8].iter().copied());
        }
        let _ = read(bytes.into());
    }
}
