//! Journals in memory, of segments that hold a few batches.

mod crashes;
mod damage;
mod fixture;
mod model;
mod scenarios;

use bytes::Bytes;

use super::*;
use crate::entry::{EntryKind, InputKind, Origin};
use crate::ids::{DeviceId, Epoch, Incarnation, LogTime, OriginNumber, PairId, ReplicaId};
use crate::store::memory::MemoryDirectory;

const IDENTITY: Identity = Identity { pair: PairId([7; 16]), place: ReplicaId::A };

/// A header, three blocks of batches, a seal.
const SMALL: u32 = 5 * BLOCK_BYTES;

fn options(seed: u64) -> Options {
    Options { segment_bytes: SMALL, spares: 2, sync: true, seed }
}

fn open(directory: &MemoryDirectory) -> (Journal, Recovery) {
    Journal::open(directory.share(), IDENTITY, options(1)).unwrap()
}

fn whole(directory: &MemoryDirectory) -> Journal {
    let (journal, recovery) = open(directory);
    assert_ne!(recovery.state, State::Empty);
    assert!(!matches!(recovery.state, State::Damaged(_)), "{recovery:?}");
    journal
}

/// The entry at this index; `variant` tells apart what two sequencers put there.
fn entry(index: u64, variant: u8, len: usize) -> Entry {
    Entry {
        index: Index(index),
        epoch: Epoch(1),
        time: LogTime(1_000 + index),
        origin: Origin {
            place: ReplicaId::A,
            incarnation: Incarnation(9),
            number: OriginNumber(index),
        },
        kind: InputKind::Device { device: DeviceId(3), bytes: Bytes::from(vec![variant; len]) }
            .into(),
    }
}

fn mark(index: u64) -> Mark {
    Mark { index: Index(index), outputs: Digest([index as u8; 16]) }
}

/// Appends and commits entries with these indexes, each as a batch of its own.
fn commit_each(journal: &mut Journal, indexes: core::ops::RangeInclusive<u64>) {
    for index in indexes {
        journal.append(&entry(index, 0, 64)).unwrap();
        assert_eq!(journal.commit(mark(index - 1)).unwrap(), Index(index));
    }
}

/// Everything that the journal keeps, read in two ways that must agree.
fn all(journal: &mut Journal) -> Vec<Entry> {
    let from = journal.base().0.next();
    let read = journal.read(from, usize::MAX).unwrap().expect("kept");
    let committed = journal.committed();
    let replayed: Vec<_> = journal.replay(from).unwrap().map(|item| item.unwrap().0).collect();
    let kept = read.iter().filter(|entry| entry.index <= committed);
    assert!(kept.eq(replayed.iter()), "reading and replaying differ");
    let mut log_digest = journal.base().1;
    for entry in &read {
        log_digest = entry.chain(log_digest);
        assert_eq!(journal.log_digest_at(entry.index).unwrap(), Some(log_digest));
    }
    assert_eq!(
        journal.held(),
        (read.last().map_or(journal.base().0, |last| last.index), log_digest)
    );
    read
}

fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index.0).collect()
}
