//! A CoServer's storage thread: does what the core wants of the disk, in order, and takes its
//! time.

use std::collections::VecDeque;

use super::disk::Disk;
use super::judges::{Seen, Who};
use super::node::Arrival;
use super::options::Durability;
use super::service::{FrozenShelf, Shelf};
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
        let slow = self.servers[place.slot()].disk_slowness;
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
        let mut is_current = false;
        if core::mem::take(&mut server.storage.is_void) {
            server.storage.disk.forget_log();
        }
        for job in jobs {
            let Job::Append { entry, fence: own } = job else { continue };
            server.storage.disk.append(&entry);
            is_current = own == fence;
        }
        let index = server.storage.disk.commit(mark);
        self.see(Seen::Persisted { who, index });
        if is_current && self.options.durability == Durability::Journal {
            self.arrive(who.place, Arrival::Disk(Input::Persisted(index)));
        }
    }

    fn do_job(&mut self, who: Who, job: Job) -> Option<Input> {
        let place = who.place;
        let fresh = self.fresh_shelf(place);
        let disk = &mut self.server(place).storage.disk;
        let most = Disk::chunk_bytes();
        match job {
            Job::Append { .. } => None,
            Job::Membership { number, membership } => {
                disk.remember(membership.clone());
                self.see(Seen::Remembered { who, membership: &membership });
                Some(Input::MembershipPersisted(number))
            }
            Job::Recover { to } => Some(self.recover(who, to, fresh)),
            Job::Truncate { after } => {
                disk.truncate(after);
                None
            }
            Job::LookUp { points } => Some(Input::LookedUp(disk.look_up(&points))),
            Job::ReadEntries { after } => {
                Some(Input::EntriesRead { after, entries: disk.read(after, most) })
            }
            Job::ReadChunk { checkpoint, offset } => {
                let bytes = disk.read_chunk(checkpoint, offset, most);
                Some(Input::ChunkRead { checkpoint, offset, bytes })
            }
            Job::BeginChunks(file) => {
                let (checkpoint, have) = (file.index, disk.begin_chunks(file));
                Some(Input::ChunksWritten { checkpoint, have })
            }
            Job::WriteChunk { checkpoint, offset, bytes } => {
                let have = disk.write_chunk(checkpoint, offset, &bytes);
                Some(Input::ChunksWritten { checkpoint, have })
            }
            Job::Install { file, chain } => {
                self.server(place).storage.is_void = false;
                let disk = &mut self.server(place).storage.disk;
                Some(Input::Installed(disk.install(file, chain, fresh)))
            }
            Job::Retain { from } => {
                disk.retain(from);
                None
            }
        }
    }

    fn recover(&mut self, who: Who, to: Option<Index>, fresh: Shelf) -> Input {
        let server = self.server(who.place);
        match server.storage.disk.recover(to, fresh.clone()) {
            Ok((recovered, unit)) => {
                if let Some(process) = &mut server.process {
                    process.unit = unit;
                    process.held =
                        recovered.tail.last().map_or(recovered.history.index, |e| e.index);
                }
                Input::Recovered(Ok(Box::new(recovered)))
            }
            Err(why) => {
                server.storage.is_void = true;
                if let Some(process) = &mut server.process {
                    process.unit = Unit::new(fresh);
                }
                Input::Recovered(Err(why))
            }
        }
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
        let result = server.storage.disk.write_checkpoint(history, &frozen);
        self.trace.step(self.at, 37, index.0);
        self.arrive(place, Arrival::Disk(Input::CheckpointWritten { index, result }));
    }

    /// The process is dead: what was under way is on the disk in part, or not at all.
    pub(super) fn break_storage(&mut self, who: Who) {
        let place = who.place;
        let Self { servers, rng, .. } = self;
        let storage = &mut servers[place.slot()].storage;
        let count = core::mem::take(&mut storage.busy);
        let jobs: Vec<Job> = storage.jobs.drain(..).take(count).collect();
        storage.writing = None;
        let entries: Vec<Entry> = jobs
            .iter()
            .filter_map(|job| match job {
                Job::Append { entry, .. } => Some(entry.clone()),
                _ => None,
            })
            .collect();
        if !storage.is_void {
            storage.disk.torn(&entries, rng);
        }
        storage.is_void = false;
        let mut remembered = None;
        for job in jobs {
            if rng.chance(500) {
                continue;
            }
            match job {
                Job::Membership { membership, .. } => {
                    storage.disk.remember(membership.clone());
                    remembered = Some(membership);
                }
                Job::Truncate { after } => storage.disk.truncate(after),
                _ => {}
            }
        }
        if let Some(membership) = remembered {
            self.see(Seen::Remembered { who, membership: &membership });
        }
    }
}
