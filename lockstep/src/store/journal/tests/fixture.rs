//! Files of each version, as they were first written: every later version opens them or refuses
//! them by name.

use std::path::PathBuf;

use crate::ids::{Lineage, Nonce, RequestNumber, SessionId};
use crate::record::{self, Members, Record};
use crate::store::memory::MemoryDirectory;

use super::*;

/// Four blocks: a header, two for batches, a seal.
const OPTIONS: Options = Options { segment_bytes: 4 * BLOCK_BYTES, spares: 0, sync: true, seed: 7 };

/// The running digest at the last entry of each version's files. It changes if an entry is read as
/// something else.
const CHAINS: [(u16, &str); 2] =
    [(1, "70353581e9f4cce6c475030b1348b819"), (2, "02c9b7ddd601485521ae028becf51b36")];

fn place(version: u16) -> PathBuf {
    let name = format!("tests/fixtures/journal-v{version}");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// One entry of every kind that version 1 began with.
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
        InputKind::Device { device: DeviceId(4), bytes: Bytes::from_static(b"an event") }.into(),
        InputKind::SessionOpen { token }.into(),
        InputKind::SessionRequest {
            session,
            token,
            number: RequestNumber(2),
            lowest: RequestNumber(1),
            body: Bytes::from_static(b"a request"),
        }
        .into(),
        InputKind::SessionClose { session, token }.into(),
        EntryKind::Checkpoint,
    ]
}

/// Since version 2 an entry may have many inputs.
fn several() -> EntryKind {
    let input = |bytes| InputKind::Device { device: DeviceId(4), bytes: Bytes::from_static(bytes) };
    EntryKind::Inputs(vec![input(b"one"), input(b"and another")].into())
}

fn entries(version: u16) -> Vec<Entry> {
    let more = (version > 1).then(several);
    let kinds = kinds().into_iter().chain(more).zip(1..);
    kinds.map(|(kind, index)| Entry { kind, ..entry(index, 0, 0) }).collect()
}

/// A restart, a roll, a cut, batches of one and of several entries.
fn write(directory: &MemoryDirectory) {
    let (mut journal, _) = Journal::open(directory.share(), IDENTITY, OPTIONS).unwrap();
    let entries = entries(VERSION);
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
fn files_of_every_version_are_opened_and_gone_on_with() {
    for (version, chain) in CHAINS {
        let directory = MemoryDirectory::new();
        for file in std::fs::read_dir(place(version)).expect("the fixture") {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            directory.put(name, &std::fs::read(&path).unwrap());
        }
        let entries = entries(version);
        let (last, next) = (Index(entries.len() as u64), entries.len() as u64 + 1);
        let open = || Journal::open(directory.share(), IDENTITY, Options { seed: 99, ..OPTIONS });
        let (mut journal, recovery) = open().unwrap();
        assert_eq!((&recovery.state, recovery.torn), (&State::Whole, 0));
        assert_eq!((recovery.held, recovery.mark), (last, mark(6)));
        assert_eq!(recovery.log_digest.to_string(), chain, "version {version}");
        assert_eq!(all(&mut journal), entries);
        let more = Entry { kind: several(), ..entry(next, 0, 0) };
        journal.append(&more).unwrap();
        assert_eq!(journal.commit(mark(9)).unwrap(), Index(next));
        drop(journal);
        let (mut journal, _) = open().unwrap();
        assert_eq!(all(&mut journal).last(), Some(&more), "entries of both versions are read");
    }
}

/// Until the format is another one, the same is written byte for byte.
#[test]
fn files_are_still_written_as_the_fixture_has_them() {
    let directory = MemoryDirectory::new();
    write(&directory);
    for name in directory.list().unwrap() {
        let expected = std::fs::read(place(VERSION).join(&name)).expect("the fixture");
        assert!(directory.contents(&name).unwrap() == expected, "{name} is written differently");
    }
}

#[test]
#[ignore = "writes the fixture, for a new version of the format in a folder of its own"]
fn write_the_fixture() {
    let directory = MemoryDirectory::new();
    write(&directory);
    std::fs::create_dir_all(place(VERSION)).unwrap();
    for name in directory.list().unwrap() {
        std::fs::write(place(VERSION).join(&name), directory.contents(&name).unwrap()).unwrap();
    }
}
