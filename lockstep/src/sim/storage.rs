//! A CoServer's storage thread: has its store do what the core wants of it, in order, and takes
//! its time.

use std::collections::VecDeque;

use super::checkers::{Observation, Who};
use super::disk::{Disk, Found, settings};
use super::marks::Mark;
use super::node::{Arrival, window};
use super::options::Durability;
use super::service::{FrozenShelf, TestService};
use super::steps::Step;
use super::world::{Due, World};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::history::History;
use crate::ids::{Index, ReplicaId};
use crate::limits;
use crate::proto::io::Recovered;
use crate::proto::{StorageRequest, StorageResponse};
use crate::store::checkpoint::Stamp;
use crate::store::journal;
use crate::store::replica::Failure;
use crate::unit::{FrozenUnit, Unit};
use crate::wire::frames::CheckpointFile;

/// The thread's work, in order.
#[derive(Default)]
pub(super) struct Storage {
    pub(super) disk: Disk,
    jobs: VecDeque<Job>,
    /// How many of the jobs are under way, as one.
    busy: usize,
    /// Appends from before the last time that the log was cut are not answered.
    fence: u32,
    /// Why the log that a start found cannot be used, until the core asks for it.
    damage: Option<String>,
    /// An operator wants what a replay comes to, whatever was released.
    adopts: bool,
    /// The disk has failed: nothing more is done on it.
    has_failed: bool,
    writing: Option<(History, FrozenUnit<FrozenShelf>)>,
}

/// One thing to do.
pub(super) enum Job {
    /// Write an entry; answered unless the log was cut meanwhile.
    Append { entry: Entry, fence: u32 },
    /// Restore the state.
    Recover { to: Option<Index> },
    /// Everything else that the core asks for.
    Request(StorageRequest),
}

impl Job {
    fn is_append(&self) -> bool {
        matches!(self, Self::Append { .. })
    }

    /// Whether it takes as long as a sync.
    fn writes(&self) -> bool {
        match self {
            Self::Append { .. } | Self::Recover { .. } => true,
            Self::Request(StorageRequest::Retain { .. } | StorageRequest::BeginChunks(_)) => false,
            Self::Request(request) => !request.is_read(),
        }
    }
}

impl World {
    /// Opens the disk of a process that starts, with everything that belongs to its thread anew.
    pub(super) fn open_storage(&mut self, place: ReplicaId, seed: u64) -> Found {
        let settings = settings(&self.options);
        let server = self.server(place);
        let (storage, adopts) = (&mut server.storage, server.adopts);
        let found = storage.disk.open(place, &settings, adopts, seed);
        (storage.adopts, storage.has_failed) = (adopts, false);
        storage.damage = match &found {
            Found::Usable { damage, .. } => damage.clone(),
            _ => None,
        };
        found
    }

    /// Gives the storage thread something to do.
    pub(super) fn store(&mut self, place: ReplicaId, job: Job) {
        let storage = &mut self.server(place).storage;
        if storage.has_failed {
            return;
        }
        storage.jobs.push_back(job);
        if storage.busy == 0 {
            self.begin_job(place);
        }
    }

    /// The same with what the core asks of it.
    pub(super) fn ask_store(&mut self, place: ReplicaId, request: StorageRequest) {
        self.store(place, Job::Request(request));
    }

    /// An entry is to be written.
    pub(super) fn store_entry(&mut self, place: ReplicaId, entry: Entry) {
        let fence = self.server(place).storage.fence;
        self.store(place, Job::Append { entry, fence });
    }

    /// The log is cut: nothing said of what was appended before counts any more.
    pub(super) fn cut_log(&mut self, place: ReplicaId) {
        let server = self.server(place);
        server.storage.fence += 1;
        server
            .inbox
            .retain(|arrival| !matches!(arrival, Arrival::Disk(StorageResponse::Persisted(_))));
    }

    fn begin_job(&mut self, place: ReplicaId) {
        let pace = self.options.disk[place.slot()];
        let storage = &mut self.servers[place.slot()].storage;
        let Some(first) = storage.jobs.front() else { return };
        let synced = first.writes() && self.options.durability == Durability::Journal;
        storage.busy = match first.is_append() {
            true => storage.jobs.iter().take_while(|job| job.is_append()).count(),
            false => 1,
        };
        let most = if synced { pace.sync } else { pace.read };
        let life = self.servers[place.slot()].life;
        // What hangs comes back with the end of the faults, also if it was begun before.
        let left = self.options.faults_end.saturating_sub(self.at);
        let slow = self.servers[place.slot()].disk_slowness.min(left);
        let at = self.at + self.rng.from(most / 4, most) + slow;
        self.queue.put(at, Due::Disk { place, life });
    }

    pub(super) fn on_disk(&mut self, place: ReplicaId, life: u32) {
        let server = self.server(place);
        if server.life != life || server.process.is_none() {
            return;
        }
        let count = core::mem::take(&mut server.storage.busy);
        let jobs: Vec<Job> = server.storage.jobs.drain(..count).collect();
        self.trace.step(self.at, 36, count as u64);
        self.do_jobs(place, jobs);
        self.begin_job(place);
    }

    fn do_jobs(&mut self, place: ReplicaId, jobs: Vec<Job>) {
        let Some(who) = self.servers[place.slot()].who() else { return };
        if jobs.first().is_some_and(Job::is_append) {
            return self.commit(who, jobs);
        }
        for job in jobs {
            match self.try_job(who, job) {
                Ok(answer) => {
                    answer.into_iter().for_each(|it| self.arrive(place, Arrival::Disk(it)));
                }
                Err(failure) => return self.fail_storage(who, failure),
            }
        }
    }

    fn commit(&mut self, who: Who, jobs: Vec<Job>) {
        let server = &mut self.servers[who.place.slot()];
        let Some(process) = &server.process else { return };
        let mark = process.replica.mark();
        let fence = server.storage.fence;
        let is_current = jobs
            .last()
            .is_some_and(|job| matches!(job, Job::Append { fence: own, .. } if *own == fence));
        match server.storage.write_entries(&jobs, mark) {
            Ok(index) => {
                self.see(Observation::Persisted { who, index });
                if is_current && self.options.durability == Durability::Journal {
                    self.arrive(who.place, Arrival::Disk(StorageResponse::Persisted(index)));
                }
            }
            Err(failure) => self.fail_storage(who, failure),
        }
    }

    /// Nothing more is done on the disk after that.
    fn fail_storage(&mut self, who: Who, failure: Failure) {
        let storage = &mut self.server(who.place).storage;
        storage.has_failed = true;
        storage.jobs.clear();
        self.reach(if failure.exhausted { Mark::StorageExhausted } else { Mark::StorageFailed });
        self.arrive(who.place, Arrival::Disk(failure.into()));
    }

    fn try_job(&mut self, who: Who, job: Job) -> Result<Option<StorageResponse>, Failure> {
        match job {
            Job::Append { .. } => Ok(None),
            Job::Recover { to } => self.recover(who, to).map(Some),
            Job::Request(StorageRequest::PersistMembership { number, membership }) => {
                let place = who.place;
                let request =
                    StorageRequest::PersistMembership { number, membership: membership.clone() };
                let saved = self.serve(place, request);
                self.see(match saved {
                    Ok(_) => Observation::Remembered { who, membership: &membership },
                    Err(_) => Observation::Unsure { place, membership: &membership },
                });
                saved
            }
            Job::Request(request) => {
                let resumes = matches!(request, StorageRequest::BeginChunks(_));
                let step = match &request {
                    StorageRequest::WriteChunk { .. } => Some(Step::Chunk),
                    StorageRequest::Install { .. } => Some(Step::Installed),
                    _ => None,
                };
                let answer = self.serve(who.place, request)?;
                if resumes
                    && matches!(answer, Some(StorageResponse::ChunksWritten { have: 1.., .. }))
                {
                    self.reach(Mark::TransferResumed);
                }
                step.into_iter().for_each(|step| self.at_step(step, who.place));
                Ok(answer)
            }
        }
    }

    fn serve(
        &mut self,
        place: ReplicaId,
        request: StorageRequest,
    ) -> Result<Option<StorageResponse>, Failure> {
        self.server(place).storage.disk.store()?.serve(request)
    }

    fn recover(&mut self, who: Who, to: Option<Index>) -> Result<StorageResponse, Failure> {
        let mut unit = self.fresh_unit(who.place);
        let restored = match self.server(who.place).storage.damage.take() {
            Some(why) => Err(why),
            None => {
                let tail = self.longest_tail();
                self.server(who.place).storage.restore(&mut unit, to, tail)?
            }
        };
        if let Some(process) = &mut self.server(who.place).process {
            process.unit = unit;
            if let Ok(recovered) = &restored {
                let last = recovered.tail.last().map(|entry| entry.index);
                process.last_index = last.unwrap_or(recovered.history.index);
            }
        }
        Ok(StorageResponse::Recovered(restored))
    }

    /// What a replica may hold and not have released.
    fn longest_tail(&self) -> usize {
        2 * (window(&self.options) + limits::WINDOW_RESERVE)
    }

    /// A checkpoint is to be written from the view that was frozen at its entry.
    pub(super) fn write_checkpoint(
        &mut self,
        place: ReplicaId,
        history: History,
    ) -> Option<StorageResponse> {
        let index = history.index;
        let time = 4 * self.options.disk[place.slot()].sync;
        let server = &mut self.servers[place.slot()];
        let life = server.life;
        let frozen = server.process.as_mut().and_then(|process| process.frozen.take());
        let Some(frozen) = frozen.filter(|frozen| frozen.index() == index) else {
            let result = Err("another state was frozen meanwhile".to_owned());
            return Some(StorageResponse::CheckpointWritten { index, result });
        };
        server.storage.writing = Some((history, frozen));
        let at = self.at + self.rng.from(time / 4, time);
        self.queue.put(at, Due::Checkpoint { place, life });
        None
    }

    pub(super) fn on_checkpoint(&mut self, place: ReplicaId, life: u32) {
        let server = self.server(place);
        if server.life != life || server.process.is_none() {
            return;
        }
        let Some((history, frozen)) = server.storage.writing.take() else { return };
        let index = history.index;
        let result = server.storage.write_checkpoint(history, &frozen).map(CheckpointFile::from);
        self.trace.step(self.at, 37, index.0);
        self.arrive(place, Arrival::Disk(StorageResponse::CheckpointWritten { index, result }));
    }

    /// The process is dead: what was under way is done, in part or not at all; without power
    /// what was not synced may be lost too.
    pub(super) fn break_storage(&mut self, who: Who, mark: (Index, Digest), power: bool) {
        let (mut unit, tail) = (self.fresh_unit(who.place), self.longest_tail());
        let Self { servers, rng, .. } = self;
        let storage = &mut servers[who.place.slot()].storage;
        let count = core::mem::take(&mut storage.busy);
        let jobs: Vec<Job> = storage.jobs.drain(..).take(count).collect();
        let checkpoint = storage.writing.take();
        if power {
            storage.disk.halt_after(rng.from(0, 12));
        }

        let mut unsure = None;
        if rng.chance(500) {
            if jobs.first().is_some_and(Job::is_append) {
                let _ = storage.write_entries(&jobs, mark);
            }
            for job in jobs {
                // Written twice: it counts if either copy is there, which the next start shows.
                if let Job::Request(StorageRequest::PersistMembership { membership, .. }) = &job {
                    unsure = Some(membership.clone());
                }
                let store = storage.disk.store();
                match (job, store) {
                    (Job::Request(request), Ok(store)) => drop(store.serve(request)),
                    (Job::Recover { to }, Ok(_)) if storage.damage.is_none() => {
                        drop(storage.restore(&mut unit, to, tail));
                    }
                    _ => {}
                }
            }
            if let Some((history, frozen)) = checkpoint {
                let _ = storage.write_checkpoint(history, &frozen);
            }
        }
        // What it has really, and what it would have if every write had come to where it should.
        let stray = storage.disk.mend().map(|disk| (disk, Mark::StrayWrite));
        if power {
            storage.disk.cut_power(rng);
        } else {
            storage.disk.close();
        }
        let stale = &mut servers[who.place.slot()].stale;
        *stale = stale.take().or(stray);
        if let Some(membership) = unsure {
            self.see(Observation::Unsure { place: who.place, membership: &membership });
        }
    }
}

impl Storage {
    fn write_entries(&mut self, jobs: &[Job], mark: (Index, Digest)) -> Result<Index, Failure> {
        let (index, outputs) = mark;
        let mark = journal::Mark { index, outputs };
        let store = self.disk.store()?;
        for job in jobs {
            if let Job::Append { entry, .. } = job {
                store.append(core::slice::from_ref(entry), mark)?;
            }
        }
        store.commit(mark)
    }

    /// The inner error is for the core, which has no log any more.
    fn restore(
        &mut self,
        unit: &mut Unit<TestService>,
        to: Option<Index>,
        tail: usize,
    ) -> Result<Result<Box<Recovered>, String>, Failure> {
        let initial_snapshot = unit.freeze();
        self.disk.store()?.restore(unit, &initial_snapshot, to, tail, self.adopts)
    }

    fn write_checkpoint(
        &mut self,
        history: History,
        frozen: &FrozenUnit<FrozenShelf>,
    ) -> Result<Stamp, String> {
        if self.has_failed {
            return Err("the disk has failed".into());
        }
        self.disk.store().map_err(|failure| failure.why)?.write_checkpoint(history, frozen)
    }
}
