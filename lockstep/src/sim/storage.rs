//! A CoServer's storage thread: does what the core wants of the disk, in order, and takes its
//! time.

use std::collections::VecDeque;

use super::disk::Disk;
use super::judges::{Seen, Who};
use super::marks::Mark;
use super::node::Arrival;
use super::options::Durability;
use super::service::{Flaw, FrozenShelf, Knob, Shelf};
use super::steps::Step;
use super::world::{Due, World};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::history::History;
use crate::ids::{Index, Place};
use crate::proto::Input;
use crate::proto::io::Membership;
use crate::unit::{FrozenUnit, Unit};
use crate::wire::frames::{CheckpointFile, Point};

/// The thread's work, in order.
#[derive(Default)]
pub(super) struct Storage {
    pub(super) disk: Disk,
    jobs: VecDeque<Job>,
    /// How many of the jobs are under way, as one.
    busy: usize,
    /// Appends from before the last time that the log was cut are not answered.
    fence: u32,
    /// The log could not be restored: once its owner's membership says so, it begins anew.
    is_void: bool,
    writing: Option<(History, FrozenUnit<FrozenShelf>)>,
}

/// One thing to do.
pub(super) enum Job {
    /// Write an entry; answered unless the log was cut meanwhile.
    Append { entry: Entry, fence: u32 },
    /// Write a membership.
    Membership { number: u64, membership: Membership },
    /// Restore the state.
    Recover { to: Option<Index> },
    /// Cut the journal.
    Truncate { after: Index },
    /// Compare with a joiner's log.
    LookUp { points: Vec<Point> },
    /// Read entries for it.
    ReadEntries { after: Index },
    /// Read a piece of a checkpoint for it.
    ReadChunk { checkpoint: Index, offset: u64 },
    /// Make ready for the pieces of a checkpoint.
    BeginChunks(CheckpointFile),
    /// Write one.
    WriteChunk { checkpoint: Index, offset: u64, bytes: bytes::Bytes },
    /// Take the whole one for the state.
    Install { file: CheckpointFile, chain: Digest },
    /// Keep what a joiner needs.
    Retain { from: Option<Index> },
}

impl Job {
    fn is_append(&self) -> bool {
        matches!(self, Self::Append { .. })
    }

    fn writes(&self) -> bool {
        !matches!(
            self,
            Self::LookUp { .. }
                | Self::ReadEntries { .. }
                | Self::ReadChunk { .. }
                | Self::Retain { .. }
                | Self::BeginChunks(_)
        )
    }
}

impl World {
    /// Gives the storage thread something to do.
    pub(super) fn store(&mut self, place: Place, job: Job) {
        let storage = &mut self.server(place).storage;
        storage.jobs.push_back(job);
        if storage.busy == 0 {
            self.begin_job(place);
        }
    }

    /// An entry is to be written.
    pub(super) fn store_entry(&mut self, place: Place, entry: Entry) {
        let fence = self.server(place).storage.fence;
        self.store(place, Job::Append { entry, fence });
    }

    /// The log is cut: nothing said of what was appended before counts any more.
    pub(super) fn cut_log(&mut self, place: Place) {
        let server = self.server(place);
        server.storage.fence += 1;
        server.inbox.retain(|arrival| !matches!(arrival, Arrival::Disk(Input::Persisted(_))));
    }

    fn begin_job(&mut self, place: Place) {
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

    pub(super) fn on_disk(&mut self, place: Place, life: u32) {
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

    fn do_jobs(&mut self, place: Place, jobs: Vec<Job>) {
        let Some(who) = self.servers[place.slot()].who() else { return };
        if jobs.first().is_some_and(Job::is_append) {
            return self.commit(who, jobs);
        }
        for job in jobs {
            if let Some(answer) = self.do_job(who, job) {
                self.arrive(place, Arrival::Disk(answer));
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
                self.see(Seen::Persisted { who, index });
                if is_current && self.options.durability == Durability::Journal {
                    self.arrive(who.place, Arrival::Disk(Input::Persisted(index)));
                }
            }
            Err(why) => self.fail_storage(who, why),
        }
    }

    /// Every other process was out of descriptors, or of memory: the disk takes no harm from either.
    fn fail_storage(&mut self, who: Who, why: String) {
        let exhausted = self.servers[who.place.slot()].life % 2 == 1;
        let (mark, input) = match exhausted {
            true => (Mark::StorageExhausted, Input::StorageExhausted { why }),
            false => (Mark::StorageFailed, Input::StorageFailed { why }),
        };
        self.reach(mark);
        self.arrive(who.place, Arrival::Disk(input));
    }

    fn do_job(&mut self, who: Who, job: Job) -> Option<Input> {
        match self.try_job(who, job) {
            Ok(answer) => answer,
            Err(why) => {
                self.fail_storage(who, why);
                None
            }
        }
    }

    fn try_job(&mut self, who: Who, job: Job) -> Result<Option<Input>, String> {
        let place = who.place;
        let storage = &mut self.server(place).storage;
        let disk = &mut storage.disk;
        Ok(match job {
            Job::Append { .. } => None,
            Job::Membership { number, membership } => {
                if let Err(why) = disk.remember(&membership) {
                    self.see(Seen::Unsure { place, membership: &membership });
                    return Err(why);
                }
                self.see(Seen::Remembered { who, membership: &membership });
                Some(Input::MembershipPersisted(number))
            }
            Job::Recover { to } => Some(self.recover(who, to)),
            Job::Truncate { after } => {
                disk.truncate(after)?;
                None
            }
            Job::LookUp { points } => Some(Input::LookedUp(disk.look_up(&points)?)),
            Job::ReadEntries { after } => {
                Some(Input::EntriesRead { after, entries: disk.read(after)? })
            }
            Job::ReadChunk { checkpoint, offset } => {
                let bytes = disk.read_chunk(checkpoint, offset);
                Some(Input::ChunkRead { checkpoint, offset, bytes })
            }
            Job::BeginChunks(file) => {
                let (checkpoint, have) = (file.index, disk.begin_chunks(file)?);
                if have > 0 {
                    self.reach(Mark::TransferResumed);
                }
                Some(Input::ChunksWritten { checkpoint, have })
            }
            Job::WriteChunk { checkpoint, offset, bytes } => {
                let have = disk.write_chunk(checkpoint, offset, &bytes)?;
                self.at_step(Step::Chunk, place);
                Some(Input::ChunksWritten { checkpoint, have })
            }
            Job::Install { file, chain } => {
                storage.is_void = false;
                let installed = storage.disk.install(file, chain)?;
                self.at_step(Step::Installed, place);
                Some(Input::Installed(installed))
            }
            Job::Retain { from } => {
                disk.retain(from);
                None
            }
        })
    }

    fn recover(&mut self, who: Who, to: Option<Index>) -> Input {
        let (fresh, bounds) = (self.fresh_shelf(who.place), self.options.unit(who.place));
        let most = 2 * (self.options.window_entries + crate::limits::WINDOW_RESERVE);
        let server = self.server(who.place);
        let (restored, unit) = match server.storage.disk.recover(to, &fresh, &bounds) {
            Ok((recovered, unit)) => {
                let tail = recovered.tail.len();
                // A replay that panics ends before the mark.
                let broke_off = server.storage.disk.mark() > Some(recovered.history.index);
                assert!(
                    tail <= most || broke_off,
                    "{tail} entries follow the mark, a window holds {most}"
                );
                (Ok(Box::new(recovered)), unit)
            }
            Err(why) => {
                server.storage.is_void = true;
                (Err(why), Unit::with_config(fresh, bounds))
            }
        };
        if let Some(process) = &mut server.process {
            process.unit = unit;
            if let Ok(recovered) = &restored {
                let last = recovered.tail.last().map(|entry| entry.index);
                process.held = last.unwrap_or(recovered.history.index);
            }
        }
        Input::Recovered(restored)
    }

    /// A checkpoint is to be written from the view that was frozen at its entry.
    pub(super) fn write_checkpoint(&mut self, place: Place, history: History) -> Option<Input> {
        let index = history.index;
        let time = 4 * self.options.disk[place.slot()].sync;
        let server = &mut self.servers[place.slot()];
        let life = server.life;
        let frozen = server.process.as_mut().and_then(|process| process.frozen.take());
        let Some(frozen) = frozen.filter(|frozen| frozen.index() == index) else {
            let result = Err("another state was frozen meanwhile".to_owned());
            return Some(Input::CheckpointWritten { index, result });
        };
        server.storage.writing = Some((history, frozen));
        let at = self.at + self.rng.from(time / 4, time);
        self.queue.put(at, Due::Checkpoint { place, life });
        None
    }

    pub(super) fn on_checkpoint(&mut self, place: Place, life: u32) {
        let server = self.server(place);
        if server.life != life || server.process.is_none() {
            return;
        }
        let Some((history, frozen)) = server.storage.writing.take() else { return };
        let index = history.index;
        let shelf = Shelf::new(Knob::default(), Flaw::None);
        let retained = self.options.retained_bytes;
        let server = self.server(place);
        let result = server.storage.disk.write_checkpoint(history, &frozen, &shelf, retained);
        self.trace.step(self.at, 37, index.0);
        self.arrive(place, Arrival::Disk(Input::CheckpointWritten { index, result }));
    }

    /// The process is dead: what was under way is done, in part or not at all; without power
    /// what was not synced may be lost too.
    pub(super) fn break_storage(&mut self, who: Who, mark: (Index, Digest), power: bool) {
        let Self { servers, rng, options, .. } = self;
        let retained = options.retained_bytes;
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
                match job {
                    // Written twice: it counts if either copy is there, which the next start shows.
                    Job::Membership { membership, .. } => {
                        let _ = storage.disk.remember(&membership);
                        unsure = Some(membership);
                    }
                    Job::Truncate { after } => drop(storage.disk.truncate(after)),
                    Job::Install { file, chain } => drop(storage.disk.install(file, chain)),
                    _ => {}
                }
            }
            if let (Some((history, frozen)), false) = (checkpoint, storage.is_void) {
                let shelf = Shelf::new(Knob::default(), Flaw::None);
                let _ = storage.disk.write_checkpoint(history, &frozen, &shelf, retained);
            }
        }
        storage.is_void = false;
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
            self.see(Seen::Unsure { place: who.place, membership: &membership });
        }
    }
}

impl Storage {
    fn write_entries(&mut self, jobs: &[Job], mark: (Index, Digest)) -> Result<Index, String> {
        if core::mem::take(&mut self.is_void) {
            self.disk.forget_log()?;
        }
        for job in jobs {
            if let Job::Append { entry, .. } = job {
                self.disk.append(entry, mark)?;
            }
        }
        self.disk.commit(mark)
    }
}
