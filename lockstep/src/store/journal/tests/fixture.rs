//! Files of version 1, as they were first written: every later version opens them or refuses
//! them by name.

use std::path::PathBuf;

use crate::ids::{Lineage, Nonce, RequestNumber, SessionId};
use crate::record::{self, Members, Record};
use crate::store::memory::MemoryDirectory;

use super::*;

/// Four blocks: a header, two for batches, a seal.
const OPTIONS: Options = Options { segment_bytes: 4 * BLOCK_BYTES, spares: 0, sync: true, seed: 7 };

/// The running digest at the last entry. It changes if an entry is read as something else.
const CHAIN: &str = "70353581e9f4cce6c475030b1348b819";

fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1")
}

/// One entry of every kind.
fn kinds() -> Vec<EntryKind> {
    let record = Record {
        pair: IDENTITY.pair,
        lineage: Lineage(1),
        epoch: Epoch(1),
        members: Members::both(Incarnation(9), Incarnation(10)),
        asker: ReplicaId::A,
        nonce: Nonce(5),
        origin: record::Origin::Formed,
    };
    let (session, token) = (SessionId(6), Nonce(77));
    vec![
        EntryKind::Genesis { seed: [6; 32] },
        EntryKind::Membership { record },
        EntryKind::HandOver { to: ReplicaId::B },
        EntryKind::Tick,
        EntryKind::Device { device: DeviceId(4), bytes: Bytes::from_static(b"an event") },
        EntryKind::SessionOpen { token },
        EntryKind::SessionRequest {
            session,
            token,
            number: RequestNumber(2),
            lowest: RequestNumber(1),
            body: Bytes::from_static(b"a request"),
        },
        EntryKind::SessionClose { session, token },
        EntryKind::Checkpoint,
    ]
}

fn entries() -> Vec<Entry> {
    let kinds = kinds().into_iter().zip(1..);
    kinds.map(|(kind, index)| Entry { kind, ..entry(index, 0, 0) }).collect()
}

/// A restart, a roll, a cut, batches of one and of several entries.
fn write(directory: &MemoryDirectory) {
    let (mut journal, _) = Journal::open(directory.share(), IDENTITY, OPTIONS).unwrap();
    let entries = entries();
    let commit = |journal: &mut Journal, entries: &[Entry], agreed| {
        entries.iter().for_each(|entry| journal.append(entry).unwrap());
        journal.commit(mark(agreed)).unwrap();
    };
    commit(&mut journal, &entries[..1], 0);
    commit(&mut journal, &entries[1..4], 1);
    commit(&mut journal, &entries[4..6], 3);
    commit(&mut journal, &[entry(7, 0, 50), entry(8, 0, 50)], 5);
    journal.truncate_after(Index(6)).unwrap();
    commit(&mut journal, &entries[6..], 6);
}

#[test]
fn files_of_version_1_are_opened() {
    let directory = MemoryDirectory::new();
    for file in std::fs::read_dir(place()).expect("the fixture") {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        directory.put(name, &std::fs::read(&path).unwrap());
    }
    let (mut journal, recovery) =
        Journal::open(directory.share(), IDENTITY, Options { seed: 99, ..OPTIONS }).unwrap();
    assert_eq!((&recovery.state, recovery.torn), (&State::Whole, 0));
    assert_eq!((recovery.held, recovery.mark), (Index(9), mark(6)));
    assert_eq!(recovery.log_digest.to_string(), CHAIN);
    assert_eq!(all(&mut journal), entries());
    journal.append(&entry(10, 0, 10)).unwrap();
    assert_eq!(journal.commit(mark(9)).unwrap(), Index(10));
}

/// Until the format is another one, the same is written byte for byte.
#[test]
fn files_are_still_written_as_the_fixture_has_them() {
    let directory = MemoryDirectory::new();
    write(&directory);
    for name in directory.list().unwrap() {
        let expected = std::fs::read(place().join(&name)).expect("the fixture");
        assert!(directory.contents(&name).unwrap() == expected, "{name} is written differently");
    }
}

#[test]
#[ignore = "writes the fixture, for a new version of the format in a folder of its own"]
fn write_the_fixture() {
    let directory = MemoryDirectory::new();
    write(&directory);
    std::fs::create_dir_all(place()).unwrap();
    for name in directory.list().unwrap() {
        std::fs::write(place().join(&name), directory.contents(&name).unwrap()).unwrap();
    }
}
