//! What the disk of a process holds that starts anew.

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::entry::{Entry, EntryKind, Origin as From};
use lockstep::history::History;
use lockstep::ids::{
    Epoch, Incarnation, Index, Lineage, LogTime, Nonce, OriginNumber, ReplicaId, Timestamps,
};
use lockstep::limits;
use lockstep::proto::{
    CommonPrefix, Disk, Input, Membership, Output, Recovered, StorageRequest, StorageResponse,
};
use lockstep::record::{Members, Origin, Record};
use lockstep::wire::frames::{CheckpointFile, LogPosition};

use super::shares::OpenSessions;
use super::{PAIR, US, World};

/// The predecessor's epoch, with the peer's process as it still is.
fn record(place: ReplicaId, own: u64) -> Record {
    let (own, peer) = (Incarnation(own), super::THEM);
    let members = match place {
        ReplicaId::A => Members::both(own, peer),
        ReplicaId::B => Members::both(peer, own),
    };
    Record {
        pair: PAIR,
        lineage: Lineage(0),
        epoch: Epoch(1),
        members,
        asker: place,
        nonce: Nonce(7),
        origin: Origin::Formed,
    }
}

/// Its log: the beginning and four ticks.
pub(super) fn log(place: ReplicaId, own: u64) -> Vec<Entry> {
    let record = record(place, own);
    let origin = From { place, incarnation: Incarnation(own), number: OriginNumber(0) };
    let kinds = [EntryKind::Genesis { seed: [3; 32] }, EntryKind::Membership { record }];
    let ticks = core::iter::repeat_n(EntryKind::Tick, 4);
    (1..)
        .zip(kinds.into_iter().chain(ticks))
        .map(|(at, kind)| Entry {
            index: Index(at),
            epoch: Epoch(1),
            time: LogTime(1_000 + at),
            origin,
            kind,
        })
        .collect()
}

/// What it finds, and what recovering it gives.
pub(super) fn found(place: ReplicaId, disk: u8) -> (Option<Disk>, Option<Recovered>) {
    if disk == 0 {
        return (None, None);
    }
    let own = super::US.0 - 1;
    let entries = log(place, own);
    let (mut history, mut unit) = (History::default(), super::unit());
    let mut points = vec![LogPosition { index: Index(0), log_digest: Digest::ZERO }];
    for entry in &entries[..4] {
        history.append(entry);
        unit.execute(entry);
        points.insert(0, LogPosition { index: entry.index, log_digest: history.log_digest });
    }
    let last_index = Index(entries.len() as u64);
    let membership = match disk {
        1 => Membership { record: Some(record(place, own)), asked: Vec::new(), witness: 0 },
        _ => Membership::default(),
    };
    let (outputs, wakeup, tail) = (unit.digest(), unit.wakeup(), entries[4..].to_vec());
    let recovered = Recovered { history, outputs, wakeup, replayed: 0, contradicts: None, tail };
    (Some(Disk { membership, lineage: Lineage(0), last_index, points }), Some(recovered))
}

impl World {
    pub(super) fn recover(&mut self, now: Timestamps) {
        let result = match self.recovered.take() {
            Some(recovered) => {
                (self.unit, self.open_sessions) = (super::unit(), OpenSessions::default());
                self.todo.clear();
                for entry in log(self.place, US.0 - 1) {
                    if entry.index <= recovered.history.index {
                        self.unit.execute(&entry);
                    }
                }
                Ok(Box::new(recovered))
            }
            None => {
                (self.unit, self.open_sessions) = (super::unit(), OpenSessions::default());
                self.todo.clear();
                Err("damaged".into())
            }
        };
        self.replica.handle(now, Input::Storage(StorageResponse::Recovered(result)));
    }

    fn looked_up(&mut self, now: Timestamps, points: &[LogPosition]) {
        let file = CheckpointFile { index: Index(2), len: 700, hash: Digest::ZERO };
        let common = points.first().copied().filter(|point| point.index.0 & 1 == 0);
        let checkpoint = Some((file, Digest::ZERO)).filter(|_| points.len() & 1 == 0);
        let found = CommonPrefix { common, bytes: 100, checkpoint };
        self.replica.handle(now, Input::Storage(StorageResponse::CommonPrefix(found)));
    }

    /// The answer to what it wants of its disk.
    pub(super) fn stored(&mut self, now: Timestamps, output: Output) {
        match output {
            Output::Storage(StorageRequest::FindCommonPrefix { points }) => {
                assert!(points.len() <= limits::POINTS);
                self.looked_up(now, &points);
            }
            Output::Storage(StorageRequest::ReadEntries { after }) => {
                let entries = Some(Vec::new()).filter(|_| after.0 % 5 != 4);
                self.replica
                    .handle(now, Input::Storage(StorageResponse::EntriesRead { after, entries }));
            }
            Output::Storage(StorageRequest::ReadChunk { checkpoint, offset }) => {
                let bytes = Some(Bytes::from(vec![1; 100])).filter(|_| offset % 5 != 4);
                let read = Input::Storage(StorageResponse::ChunkRead { checkpoint, offset, bytes });
                self.replica.handle(now, read);
            }
            Output::Storage(StorageRequest::BeginChunks(file)) => {
                let (checkpoint, have) = (file.index, 0);
                self.replica.handle(
                    now,
                    Input::Storage(StorageResponse::ChunksWritten { checkpoint, have }),
                );
            }
            Output::Storage(StorageRequest::WriteChunk { checkpoint, offset, bytes }) => {
                let have = offset + bytes.len() as u64;
                self.replica.handle(
                    now,
                    Input::Storage(StorageResponse::ChunksWritten { checkpoint, have }),
                );
            }
            Output::Storage(StorageRequest::Install { file, .. }) => {
                let result = if file.len & 1 == 0 { Ok(()) } else { Err("damaged".into()) };
                self.replica.handle(now, Input::Storage(StorageResponse::Installed(result)));
            }
            Output::WriteCheckpoint { history } => {
                let index = history.index;
                let file = CheckpointFile { index, len: 1000, hash: Digest::ZERO };
                let result = if index.0 & 1 == 0 { Ok(file) } else { Err("full".into()) };
                self.replica.handle(
                    now,
                    Input::Storage(StorageResponse::CheckpointWritten { index, result }),
                );
            }
            _ => {}
        }
    }
}
