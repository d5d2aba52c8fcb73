//! What drives the disks: work in order, answers, and what a crash leaves of both.

use std::collections::VecDeque;

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::entry::{Entry, EntryKind};
use lockstep::history::History;
use lockstep::ids::{Index, ReplicaId};
use lockstep::proto::{Input, Membership, Output, StorageRequest, StorageResponse};
use lockstep::unit::Unit;
use lockstep::wire::frames::{CheckpointFile, LogPosition};

use super::disk::State;
use super::node::Node;
use super::world::{World, time};
use crate::counting_service::CountingService;

/// One thing to do for the disk's thread.
pub(super) enum Job {
    /// Answered unless the log was cut after it was handed out.
    Append {
        entry: Entry,
        cuts: u32,
    },
    Membership {
        number: u64,
        membership: Membership,
    },
    Recover {
        to: Option<Index>,
    },
    Truncate {
        after: Index,
    },
    FindCommonPrefix {
        points: Vec<LogPosition>,
    },
    Read {
        after: Index,
    },
    ReadChunk {
        checkpoint: Index,
        offset: u64,
    },
    Begin(CheckpointFile),
    WriteChunk {
        checkpoint: Index,
        offset: u64,
        bytes: Bytes,
    },
    Install {
        file: CheckpointFile,
        log_digest: Digest,
    },
    Checkpoint {
        history: History,
    },
}

/// The thread, gone with its process.
#[derive(Default)]
pub(super) struct Storage {
    jobs: VecDeque<Job>,
    /// Whether the disk does something only when it is told to; else it does it at once.
    pub(super) lazy: bool,
    /// Whether the disk has failed, so that it does nothing more.
    failed: bool,
    /// How often the log was cut, or taken for another.
    cuts: u32,
    /// The state at the newest entry that asks for a checkpoint.
    frozen: Option<(Index, Digest, Bytes)>,
}

impl Node {
    /// The state is frozen where an entry wants it to be.
    pub(super) fn freeze(&mut self, entry: &Entry) {
        if matches!(entry.kind, EntryKind::Checkpoint) && !self.unit.has_panicked() {
            let bytes = self.unit.freeze().to_bytes().expect("a small state");
            self.storage.frozen = Some((entry.index, self.unit.digest(), bytes));
        }
    }

    /// What was handed out before is of a log that is no more.
    fn cut(&mut self, after: Option<Index>) {
        self.storage.cuts += 1;
        self.todo.retain(|entry| after.is_some_and(|after| entry.index <= after));
    }
}

impl World {
    /// Something for the disk; what is nothing for it is passed over.
    pub(super) fn store(&mut self, place: ReplicaId, output: Output) {
        let node = self.node(place);
        let cuts = node.storage.cuts;
        let job = match output {
            Output::Append(entry) => Job::Append { entry, cuts },
            Output::Storage(StorageRequest::PersistMembership { number, membership }) => {
                Job::Membership { number, membership }
            }
            Output::Recover { to } => {
                node.cut(None);
                Job::Recover { to }
            }
            Output::Storage(StorageRequest::Truncate { after }) => {
                node.cut(Some(after));
                Job::Truncate { after }
            }
            Output::Storage(StorageRequest::FindCommonPrefix { points }) => {
                Job::FindCommonPrefix { points }
            }
            Output::Storage(StorageRequest::ReadEntries { after }) => Job::Read { after },
            Output::Storage(StorageRequest::ReadChunk { checkpoint, offset }) => {
                Job::ReadChunk { checkpoint, offset }
            }
            Output::Storage(StorageRequest::BeginChunks(file)) => Job::Begin(file),
            Output::Storage(StorageRequest::WriteChunk { checkpoint, offset, bytes }) => {
                Job::WriteChunk { checkpoint, offset, bytes }
            }
            Output::Storage(StorageRequest::Install { file, log_digest }) => {
                Job::Install { file, log_digest }
            }
            Output::WriteCheckpoint { history } => Job::Checkpoint { history },
            _ => return,
        };
        node.storage.jobs.push_back(job);
        if !node.storage.lazy {
            self.work(place, usize::MAX);
        }
    }

    /// The disk's thread does so much of what waits for it.
    pub(super) fn work(&mut self, place: ReplicaId, most: usize) {
        for _ in 0..most {
            let node = self.node(place);
            if !node.alive || node.storage.failed {
                return;
            }
            let Some(job) = node.storage.jobs.pop_front() else { return };
            if let Some(answer) = self.do_job(place, job) {
                let now = time(self.now);
                self.node(place).replica.handle(now, answer);
            }
        }
    }

    /// Lets the disk do everything from now on as soon as it can, or nothing by itself.
    pub(super) fn set_lazy(&mut self, place: ReplicaId, lazy: bool) {
        self.node(place).storage.lazy = lazy;
        if !lazy {
            self.catch_up(place);
        }
    }

    /// Lets the disk do what waits, and the replica hear of it.
    pub(super) fn catch_up(&mut self, place: ReplicaId) {
        self.work(place, usize::MAX);
        self.drain(place);
    }

    /// The disk fails, or cannot be used; of what waited some may be there.
    pub(super) fn fail_disk(&mut self, place: ReplicaId, kept: usize) {
        if self.node(place).runs() && !self.node(place).storage.failed {
            self.tear(place, kept);
            self.node(place).storage.failed = true;
            let why = "told to".into();
            let input = match kept % 2 {
                0 => Input::Storage(StorageResponse::Failed { why }),
                _ => Input::Storage(StorageResponse::Exhausted { why }),
            };
            self.tell(place, input);
            self.reached.insert("failed disk");
        }
    }

    /// What waited is lost, but for the first so many.
    pub(super) fn tear(&mut self, place: ReplicaId, kept: usize) {
        let jobs: Vec<_> = self.node(place).storage.jobs.drain(..).collect();
        if kept < jobs.len() {
            self.reached.insert("torn");
        }
        for job in jobs.into_iter().take(kept) {
            self.do_job(place, job);
        }
    }

    fn do_job(&mut self, place: ReplicaId, job: Job) -> Option<Input> {
        let node = &mut self.nodes[place.slot()];
        let disk = &mut node.disk;
        Some(match job {
            Job::Append { entry, cuts } => {
                let index = entry.index;
                disk.append(entry, node.replica.mark());
                return (cuts == node.storage.cuts)
                    .then_some(Input::Storage(StorageResponse::Persisted(index)));
            }
            Job::Membership { number, membership } => {
                disk.membership = membership;
                Input::Storage(StorageResponse::MembershipPersisted(number))
            }
            Job::Recover { to } => return Some(self.recover(place, to)),
            Job::Truncate { after } => {
                disk.truncate(after);
                return None;
            }
            Job::FindCommonPrefix { points } => {
                Input::Storage(StorageResponse::CommonPrefix(disk.find_common_prefix(&points)))
            }
            Job::Read { after } => {
                Input::Storage(StorageResponse::EntriesRead { after, entries: disk.read(after) })
            }
            Job::ReadChunk { checkpoint, offset } => {
                let bytes = disk.read_chunk(checkpoint, offset);
                Input::Storage(StorageResponse::ChunkRead { checkpoint, offset, bytes })
            }
            Job::Begin(file) => {
                let have = disk.begin_chunks(file);
                Input::Storage(StorageResponse::ChunksWritten { checkpoint: file.index, have })
            }
            Job::WriteChunk { checkpoint, offset, bytes } => {
                let have = disk.write_chunk(offset, &bytes);
                Input::Storage(StorageResponse::ChunksWritten { checkpoint, have })
            }
            Job::Install { file, log_digest } => {
                let result = disk.install(file, log_digest, &self.taken);
                self.reached.insert("installed checkpoint");
                Input::Storage(StorageResponse::Installed(result))
            }
            Job::Checkpoint { history } => return Some(self.checkpoint(place, history)),
        })
    }

    fn recover(&mut self, place: ReplicaId, to: Option<Index>) -> Input {
        let node = &mut self.nodes[place.slot()];
        Input::Storage(StorageResponse::Recovered(match node.disk.recover(to) {
            Ok((recovered, unit)) => {
                node.unit = unit;
                self.reached.insert("recovery");
                Ok(Box::new(recovered))
            }
            Err(why) => {
                node.disk.unreadable = true;
                node.unit = Unit::new(CountingService::default());
                self.reached.insert("refused recovery");
                Err(why)
            }
        }))
    }

    fn checkpoint(&mut self, place: ReplicaId, history: History) -> Input {
        let (node, index) = (&mut self.nodes[place.slot()], history.index);
        let frozen = node.storage.frozen.take().filter(|(at, ..)| *at == index);
        let result = match frozen {
            None => Err("another state was frozen meanwhile".into()),
            Some((_, outputs, bytes)) => {
                let state = State { history, outputs, unit: Some(bytes) };
                self.taken.push(state.clone());
                self.reached.insert("checkpoint");
                node.disk.keep_checkpoint(state)
            }
        };
        Input::Storage(StorageResponse::CheckpointWritten { index, result })
    }
}
