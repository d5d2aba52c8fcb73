//! A disk for a pair in virtual time: what survives a process.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::digest::Digest;
use crate::entry::Entry;
use crate::history::History;
use crate::ids::{Index, Lineage};
use crate::limits;
use crate::proto::StorageResponse;
use crate::proto::io::{CommonPrefix, Disk as Found, Input, Membership, Recovered};
use crate::wire::frames::{CheckpointFile, LogPosition};

/// A state at one entry.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) history: History,
    pub(super) outputs: Digest,
}

/// The journal, the checkpoints and the membership of one CoServer.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) membership: Membership,
    /// The state before the first entry of the journal.
    base: State,
    pub(super) entries: Vec<Entry>,
    pub(super) checkpoints: BTreeMap<Index, State>,
    pub(super) mark: Index,
    /// A checkpoint that comes in pieces.
    incoming: u64,
    /// Pieces that were written.
    pub(super) chunks: usize,
    /// A checkpoint whose file is not what was written. Whoever gets it finds out.
    pub(super) rotten: Option<Index>,
    /// An entry that cannot be read any more.
    pub(super) unreadable: Option<Index>,
    /// What an entry is taken to cost; zero for a hundred bytes.
    pub(super) entry_bytes: u64,
    /// Checkpoints cannot be written.
    pub(super) full: bool,
}

/// How long the file of any checkpoint is here.
const FILE: u64 = 5 * limits::CHUNK_BYTES as u64 / 2;

impl Disk {
    pub(super) fn last_index(&self) -> Index {
        Index(self.base.history.index.0 + self.entries.len() as u64)
    }

    /// What a process finds that starts with it.
    pub(super) fn found(&self) -> Option<Found> {
        let used = self.last_index() > Index(0) || self.membership != Membership::default();
        used.then(|| Found {
            membership: self.membership.clone(),
            lineage: self
                .entries
                .last()
                .map_or(Lineage(0), |_| self.history_at(self.last_index()).lineage()),
            last_index: self.last_index(),
            points: self.points(),
        })
    }

    fn history_at(&self, index: Index) -> History {
        let mut history = self.base.history.clone();
        for entry in self.entries.iter().take_while(|entry| entry.index <= index) {
            history.append(entry);
        }
        history
    }

    fn points(&self) -> Vec<LogPosition> {
        let (last_index, base) = (self.last_index().0, self.base.history.index.0);
        let steps = core::iter::successors(Some(1u64), |step| Some(step * 2));
        let back =
            steps.map_while(|step| last_index.checked_sub(step)).take_while(|at| *at >= base);
        let at = [last_index].into_iter().chain(back.take(40)).chain([base]);
        let point = |at| LogPosition {
            index: Index(at),
            log_digest: self.history_at(Index(at)).log_digest,
        };
        at.map(point).collect()
    }

    pub(super) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index().next(), "the journal has no gaps");
        self.entries.push(entry);
    }

    pub(super) fn truncate(&mut self, after: Index) {
        assert!(after >= self.base.history.index);
        self.entries.retain(|entry| entry.index <= after);
    }

    /// Restores and replays; `execute` gives the outputs' digest after an entry.
    pub(super) fn recover(
        &mut self,
        to: Option<Index>,
        mut execute: impl FnMut(Digest, &Entry) -> Digest,
    ) -> (Digest, Input) {
        let target = to.unwrap_or(self.mark.min(self.last_index()));
        let mut state = self.base.clone();
        if target < state.history.index {
            return (
                Digest::ZERO,
                Input::Storage(StorageResponse::Recovered(Err("not kept".into()))),
            );
        }
        let mut replayed = 0;
        for entry in self.entries.iter().take_while(|entry| entry.index <= target) {
            state.history.append(entry);
            state.outputs = execute(state.outputs, entry);
            let checkpointed = self.checkpoints.contains_key(&entry.index);
            replayed = if checkpointed { 0 } else { replayed + entry.weight() as u64 };
        }
        if to.is_some() {
            self.truncate(target);
        }
        let tail = self.entries.iter().filter(|entry| entry.index > target).cloned().collect();
        let State { history, outputs } = state;
        let recovered =
            Recovered { history, outputs, wakeup: None, replayed, contradicts: None, tail };
        (outputs, Input::Storage(StorageResponse::Recovered(Ok(Box::new(recovered)))))
    }

    pub(super) fn find_common_prefix(&self, points: &[LogPosition]) -> Input {
        let has = |point: &&LogPosition| {
            (self.base.history.index..=self.last_index()).contains(&point.index)
                && self.history_at(point.index).log_digest == point.log_digest
        };
        let common = points.iter().find(has).copied();
        let file = self.checkpoints.iter().next_back();
        Input::Storage(StorageResponse::CommonPrefix(CommonPrefix {
            common,
            bytes: common.map_or(0, |common| {
                (self.last_index().0 - common.index.0) * self.entry_bytes.max(100)
            }),
            checkpoint: file
                .map(|(index, state)| (file_of(*index, state), state.history.log_digest)),
        }))
    }

    pub(super) fn read(&self, after: Index) -> Input {
        let kept = after >= self.base.history.index;
        let from = self.entries.iter().filter(|entry| entry.index > after);
        let entries: Vec<Entry> = from.take(10).cloned().collect();
        let readable = !entries.iter().any(|entry| Some(entry.index) == self.unreadable);
        Input::Storage(StorageResponse::EntriesRead {
            after,
            entries: (kept && readable).then_some(entries),
        })
    }

    pub(super) fn read_chunk(&self, checkpoint: Index, offset: u64) -> Input {
        let len = FILE.saturating_sub(offset).min(limits::CHUNK_BYTES as u64);
        let there = self.checkpoints.contains_key(&checkpoint);
        let bytes = there.then(|| Bytes::from(vec![7; len as usize]));
        Input::Storage(StorageResponse::ChunkRead { checkpoint, offset, bytes })
    }

    pub(super) fn begin_chunks(&self, file: CheckpointFile) -> Input {
        Input::Storage(StorageResponse::ChunksWritten {
            checkpoint: file.index,
            have: self.incoming,
        })
    }

    pub(super) fn write_chunk(&mut self, checkpoint: Index, offset: u64, bytes: &Bytes) -> Input {
        assert_eq!(offset, self.incoming, "pieces come in order");
        self.incoming += bytes.len() as u64;
        self.chunks += 1;
        Input::Storage(StorageResponse::ChunksWritten { checkpoint, have: self.incoming })
    }

    /// The pieces are no real file here: the state comes from the disk that sent them.
    pub(super) fn install(&mut self, file: CheckpointFile, from: &Self) -> Input {
        assert_eq!(self.incoming, file.len, "only a whole file is installed");
        if from.rotten == Some(file.index) {
            self.incoming = 0;
            return Input::Storage(StorageResponse::Installed(Err(
                "another hash than was announced".into(),
            )));
        }
        let from = &from.checkpoints[&file.index];
        *self = Self {
            membership: self.membership.clone(),
            base: from.clone(),
            checkpoints: [(file.index, from.clone())].into(),
            mark: file.index,
            chunks: self.chunks,
            ..Self::default()
        };
        Input::Storage(StorageResponse::Installed(Ok(())))
    }

    pub(super) fn checkpoint(&mut self, state: State) -> Input {
        let index = state.history.index;
        if self.full {
            return Input::Storage(StorageResponse::CheckpointWritten {
                index,
                result: Err("no space left".into()),
            });
        }
        let result = Ok(file_of(index, &state));
        self.checkpoints.insert(index, state);
        Input::Storage(StorageResponse::CheckpointWritten { index, result })
    }

    /// Retention: the journal begins at the newest checkpoint.
    pub(super) fn drop_before_checkpoint(&mut self) {
        if let Some((index, state)) = self.checkpoints.iter().next_back() {
            self.entries.retain(|entry| entry.index > *index);
            self.base = state.clone();
        }
    }
}

fn file_of(index: Index, state: &State) -> CheckpointFile {
    CheckpointFile { index, len: FILE, hash: state.outputs }
}
