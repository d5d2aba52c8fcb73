//! A record's file, whatever has become of its bytes, and files of earlier versions.

use std::path::PathBuf;

use super::format::{self, FILE_BYTES, FileMark, Kept, Unreadable};
use super::store::{Held, Told};
use crate::digest::Digest;
use crate::ids::{Epoch, Incarnation, Lineage, Nonce, PairId, ReplicaId};
use crate::record::{Members, Origin, Record};

const PAIR: PairId = PairId([0x5a; 16]);
const A: Incarnation = Incarnation(0x1111_2222_3333_4444);
const B: Incarnation = Incarnation(0x5555_6666_7777_8888);
const MARK: FileMark = FileMark { inode: 0x0102_0304_0506_0708, born: u64::MAX };

fn record(epoch: u64, members: Members, asker: ReplicaId, origin: Origin) -> Record {
    let (epoch, nonce) = (Epoch(epoch), Nonce(0x0123_4567_89ab_cdef));
    Record { pair: PAIR, lineage: Lineage(3), epoch, members, asker, nonce, origin }
}

/// What a record can be: every origin with the members that it gives, trusted and not.
fn every_kind() -> Vec<Held> {
    let (both, named) = (Members::both(A, B), Digest::of(b"the record before"));
    let alone = |place| Members::alone(place, if place == ReplicaId::A { A } else { B });
    let mut records = vec![
        Record::vacant(PAIR, Lineage(u32::MAX), Epoch(u64::MAX)),
        record(1, both, ReplicaId::A, Origin::Formed),
        record(2, both, ReplicaId::B, Origin::Renewal(named)),
        record(3, both, ReplicaId::B, Origin::Joined),
    ];
    for place in ReplicaId::BOTH {
        records.push(record(4, alone(place), place, Origin::Alone));
        records.push(record(5, alone(place), place, Origin::Renewal(named)));
        records.push(record(6, alone(place), place, Origin::Restarted));
        records.push(record(7, alone(place), place.other(), Origin::Left(named)));
        records.push(record(8, alone(place), place, Origin::Adopted));
    }
    let told = Told { lineage: Lineage(4), epoch: Epoch(99) };
    let held = |record| [None, Some(told)].map(|behind| Held { record, behind });
    records.into_iter().flat_map(held).collect()
}

#[test]
fn every_kind_of_record_survives_its_file() {
    for held in every_kind() {
        assert_eq!(
            format::decode(&format::encode(&held, MARK)),
            Ok(Kept { held, mark: Some(MARK) })
        );
    }
}

/// Each byte with every other value: never another record than the one that was written.
#[test]
fn a_changed_byte_is_noticed_at_every_offset() {
    for held in every_kind() {
        let good = format::encode(&held, MARK);
        for at in 0..FILE_BYTES {
            for value in 0..=u8::MAX {
                let mut bytes = good;
                bytes[at] = value;
                let same = bytes == good;
                assert_eq!(format::decode(&bytes).is_ok(), same, "{held:?}: {value} at {at}");
            }
        }
    }
}

#[test]
fn a_missing_added_or_repeated_part_is_noticed_at_every_offset() {
    for held in every_kind() {
        let good = format::encode(&held, MARK);
        for at in 0..FILE_BYTES {
            let without = [&good[..at], &good[at + 1..]].concat();
            let twice = [&good[..=at], &good[at..]].concat();
            // A sector that was lost, as a hole or as what lies behind it.
            let mut hole = good.to_vec();
            hole[at..].fill(0);
            let cut = good[..at].to_vec();
            for bytes in [without, twice, cut, hole] {
                let harmless = bytes == good;
                assert_eq!(format::decode(&bytes).is_ok(), harmless, "{held:?} at {at}");
            }
        }
    }
}

/// What version 1 wrote, and what it said.
const OLD: [(&[u8], Origin); 4] = [
    (include_bytes!("../../tests/fixtures/record-v1/vacant"), Origin::Vacant),
    (include_bytes!("../../tests/fixtures/record-v1/formed"), Origin::Formed),
    (include_bytes!("../../tests/fixtures/record-v1/alone"), Origin::Alone),
    (
        include_bytes!("../../tests/fixtures/record-v1/renewal-behind"),
        Origin::Renewal(Digest([0x77; 16])),
    ),
];

#[test]
fn records_of_version_1_are_read() {
    for (bytes, origin) in OLD {
        let Kept { held, mark } = format::decode(bytes).unwrap();
        assert_eq!(mark, None);
        assert_eq!((held.record.pair, held.record.origin), (PAIR, origin));
        let behind = Told { lineage: Lineage(4), epoch: Epoch(9) };
        let told = matches!(origin, Origin::Renewal(_)).then_some(behind);
        assert_eq!(held.behind, told);
        // Rewritten, it is of this version and says the same.
        assert_eq!(
            format::decode(&format::encode(&held, MARK)),
            Ok(Kept { held, mark: Some(MARK) })
        );
    }
}

/// One of every kind after the other, as this version writes them.
#[test]
fn records_of_version_2_are_read_and_still_written_so() {
    let written = every_kind().iter().flat_map(|held| format::encode(held, MARK)).collect();
    let kept = kept("record-v2/every-kind", &written);
    assert!(kept == written, "they are written otherwise: raise the version");
    let records: Vec<Held> =
        kept.chunks(FILE_BYTES).map(|bytes| format::decode(bytes).unwrap().held).collect();
    assert_eq!(records, every_kind());
}

/// An object of the store that is a witness, as this version writes it.
#[test]
fn objects_of_version_1_are_read_and_still_written_so() {
    use crate::witness::object::{Link, decode, encode};
    let record = record(2, Members::both(A, B), ReplicaId::B, Origin::Renewal(Digest([0x77; 16])));
    let link = Link { number: 2, before: Digest([0x77; 16]), record };
    let written = encode(&link).to_vec();
    let kept = kept("object-v1/epoch-2", &written);
    assert!(kept == written, "it is written otherwise: raise the version");
    assert_eq!(decode(PAIR, 2, &kept).unwrap(), link);
}

fn kept(name: &str, written: &Vec<u8>) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|_| {
        // Only where there is none: a file that was released is never replaced.
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, written).unwrap();
        panic!("{} was missing and has been written: commit it", path.display())
    })
}

#[test]
fn an_origin_that_version_1_does_not_know_is_damage_there() {
    for held in every_kind() {
        let mut bytes = format::encode(&held, MARK)[..FILE_BYTES - 16].to_vec();
        bytes[8] = 1;
        seal(&mut bytes);
        let known = !matches!(
            held.record.origin,
            Origin::Restarted | Origin::Joined | Origin::Left(_) | Origin::Adopted
        );
        assert_eq!(format::decode(&bytes).is_ok(), known, "{held:?}");
    }
}

#[test]
fn a_version_that_is_not_known_is_refused_by_its_number() {
    let good = format::encode(&every_kind()[0], MARK);
    for version in [0, format::VERSION + 1, u16::MAX] {
        let mut bytes = good;
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        seal(&mut bytes);
        assert_eq!(format::decode(&bytes), Err(Unreadable::Version(version)));
    }
}

/// Fields that nobody writes together, under a checksum that is right.
#[test]
fn contradictions_are_noticed() {
    let formed = record(1, Members::both(A, B), ReplicaId::A, Origin::Formed);
    let good = format::encode(&Held::trusted(formed), MARK);
    for (at, value) in [(10, 2), (11, 0), (11, 2), (11, 4), (11, 6), (11, 7), (11, 8), (80, 2)] {
        let mut bytes = good;
        bytes[at] = value;
        seal(&mut bytes);
        let wrong = Unreadable::Damaged("its fields contradict each other");
        assert_eq!(format::decode(&bytes), Err(wrong), "{value} at {at}");
    }
}

fn seal(bytes: &mut [u8]) {
    let checked = bytes.len() - 16;
    let checksum = Digest::of(&bytes[..checked]);
    bytes[checked..].copy_from_slice(&checksum.0);
}
