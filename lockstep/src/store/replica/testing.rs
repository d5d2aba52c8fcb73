//! Disks with something on them.

use core::ops::ControlFlow;

use bytes::Bytes;

use super::opening::Found;
use super::{OpenError, ReplicaStore, StorageSettings, Who, open};
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, InputKind, Origin as InputOrigin};
use crate::history::History;
use crate::ids::{
    DeviceId, Epoch, Incarnation, Index, Lineage, LogTime, Nonce, OriginNumber, PairId, ReplicaId,
};
use crate::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, StateMachine,
    Step,
};
use crate::record::{Members, Origin, Record};
use crate::store::checkpoint::{Header, Writer};
use crate::store::journal::Mark;
use crate::store::memory::MemoryDirectory;

pub(crate) const PAIR: PairId = PairId([4; 16]);
pub(crate) const WHO: Incarnation = Incarnation(9);

pub(crate) fn who() -> Who {
    let service = Identity { name: "tested".into(), version: 1, configuration: Digest::ZERO };
    Who { pair: PAIR, place: ReplicaId::A, service }
}

pub(crate) fn settings() -> StorageSettings {
    StorageSettings { segment_bytes: 4 << 20, ..StorageSettings::new("nowhere") }
}

pub(crate) fn opened(disk: &MemoryDirectory) -> (ReplicaStore, Found) {
    open(Box::new(disk.clone()), who(), &settings(), false, 1).unwrap()
}

pub(crate) fn refused(disk: &MemoryDirectory, who: Who) -> OpenError {
    open(Box::new(disk.clone()), who, &settings(), false, 1).err().expect("it is refused")
}

pub(crate) fn record() -> Record {
    Record {
        pair: PAIR,
        lineage: Lineage(3),
        epoch: Epoch(1),
        members: Members::alone(ReplicaId::A, WHO),
        asker: ReplicaId::A,
        nonce: Nonce(5),
        origin: Origin::Alone,
    }
}

/// A log of one member: genesis, membership, and inputs of this many bytes.
pub(crate) fn entries(count: u64, bytes: usize) -> Vec<Entry> {
    let entry = |index: u64| Entry {
        index: Index(index),
        epoch: Epoch(1),
        time: LogTime(index * 1000),
        origin: InputOrigin {
            place: ReplicaId::A,
            incarnation: WHO,
            number: OriginNumber(index.saturating_sub(2)),
        },
        kind: match index {
            1 => EntryKind::Genesis { seed: [7; 32] },
            2 => EntryKind::Membership { record: record() },
            _ => {
                let bytes = Bytes::from(vec![index as u8; bytes]);
                InputKind::Device { device: DeviceId(0), bytes }.into()
            }
        },
    };
    (1..=count).map(entry).collect()
}

pub(crate) fn history(entries: &[Entry], at: u64) -> History {
    let mut history = History::default();
    for entry in &entries[..at as usize] {
        history.check(entry).unwrap();
        history.append(entry);
    }
    history
}

pub(crate) fn checkpoint(disk: &MemoryDirectory, history: History) {
    let header = Header { pair: PAIR, service: who().service, history, outputs: Digest([1; 16]) };
    let pace = Box::new(|_| ControlFlow::Continue(()));
    Writer::new(disk, &header, pace).unwrap().finish().unwrap();
}

pub(crate) const MARK: Mark = Mark { index: Index(6), outputs: Digest([6; 16]) };

/// Everything was released up to this entry.
pub(crate) fn released(index: u64) -> Mark {
    Mark { index: Index(index), outputs: Digest([6; 16]) }
}

pub(crate) fn with_log(disk: &MemoryDirectory, log: &[Entry]) {
    let (mut store, _) = opened(disk);
    store.append(log, MARK).unwrap();
    store.commit(MARK).unwrap();
}

/// A service without a state.
#[derive(Default)]
pub(crate) struct Nothing {
    /// Where its records are to be written.
    pub(crate) panics: bool,
}

impl StateMachine for Nothing {
    type Frozen = Self;
    fn identity(&self) -> Identity {
        who().service
    }
    fn step(&mut self, _: &mut Context<'_>, _: Step<'_>) -> Bytes {
        Bytes::new()
    }
    fn freeze(&self) -> Self {
        Self { panics: self.panics }
    }
    fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Ok(())
    }
}

impl Freeze for Nothing {
    fn write(&self, _: &mut dyn RecordSink) -> Result<(), SinkError> {
        assert!(!self.panics, "not these");
        Ok(())
    }
}
