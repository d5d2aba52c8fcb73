//! What a CoServer has on its disk: the real journal, checkpoints, membership and home, in a
//! directory in memory that a crash leaves as it would a real one.

use core::ops::ControlFlow;

use bytes::Bytes;

use super::rng::Rng;
use super::service::{FrozenShelf, Shelf, shelf};
use super::world::PAIR;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::history::History;
use crate::ids::{Index, Lineage, Place};
use crate::limits;
use crate::machine::StateMachine;
use crate::proto::io::{self, LookedUp, Membership, Recovered};
use crate::store::checkpoint::{self, Header, Incoming, IncomingError, Outgoing};
use crate::store::files::Directory;
use crate::store::home::{Home, HomeError, Kept};
use crate::store::journal::{Identity, Journal, JournalError, Mark, Options, State};
use crate::store::membership::{MembershipError, MembershipStore};
use crate::store::memory::{Fault, MemoryDirectory, Operation, seeded};
use crate::unit::{FrozenUnit, Unit, UnitConfig};
use crate::wire::frames::{CheckpointFile, Point};

/// How many checkpoints are kept.
const KEPT: usize = 2;

/// Segments that hold the longest entry of a run, and are begun several times in most.
const SEGMENT_BYTES: u32 = 192 << 10;

/// A disk, and what a running process has open on it.
#[derive(Default)]
pub(super) struct Disk {
    directory: MemoryDirectory,
    open: Option<Open>,
    /// Neither copy of the membership could be read when it was opened.
    pub(super) has_forgotten: bool,
}

struct Open {
    journal: Journal,
    membership: MembershipStore,
    incoming: Option<Incoming>,
    retained: Option<Index>,
}

/// What a process finds that starts.
pub(super) enum Found {
    /// What it can go on from, if there is anything.
    Usable(Option<io::Disk>),
    /// It is not what was written.
    Damaged,
    /// It is not its own: an operator has to decide.
    Refused(HomeError),
    /// The disk fails.
    Failed,
}

type Done<T> = Result<T, String>;

fn said(error: impl core::fmt::Display) -> String {
    error.to_string()
}

impl Disk {
    /// Opens it for a process that starts.
    pub(super) fn open(&mut self, place: Place, seed: u64, sync: bool) -> Found {
        let fresh = match Home::open(&self.directory, PAIR, place) {
            Ok(home) => home.is_none(),
            Err(HomeError::Io { .. }) => return Found::Failed,
            Err(refused) => return Found::Refused(refused),
        };
        self.has_forgotten = false;
        let kept = if sync { Kept::OnDisk } else { Kept::InMemory };
        if fresh && Home::create(&self.directory, PAIR, place, &shelf(), kept).is_err() {
            return Found::Failed;
        }
        let identity = Identity { pair: PAIR, place };
        let options = Options { segment_bytes: SEGMENT_BYTES, spares: 1, sync, seed };
        let opened = Journal::open(self.directory.share(), identity, options);
        let tidied = checkpoint::newest_unfinished(&self.directory)
            .and_then(|wanted| checkpoint::tidy(&self.directory, wanted));
        let (Ok((mut journal, found)), Ok(())) = (opened, tidied) else {
            return Found::Failed;
        };
        let loaded = MembershipStore::load(&self.directory);
        let (membership, remembered) = match loaded {
            Ok((store, remembered)) => (store, remembered),
            Err(MembershipError::Damaged { .. }) => {
                self.has_forgotten = true;
                (MembershipStore::start_anew(&self.directory), None)
            }
            Err(_) => return Found::Failed,
        };
        // A journal that is not there any more is not one that never was.
        let lost =
            found.state == State::Empty && remembered.as_ref().is_some_and(|m| m.record.is_some());
        let damaged = matches!(found.state, State::Damaged(_)) || lost;
        let points = if damaged { Vec::new() } else { journal.points().unwrap_or_default() };
        self.open = Some(Open { journal, membership, incoming: None, retained: None });
        if damaged {
            return Found::Damaged;
        }
        if found.held == Index(0) && remembered.is_none() && !self.has_forgotten {
            return Found::Usable(None);
        }
        let membership = remembered.unwrap_or_default();
        let lineage = membership.record.map_or(Lineage(0), |record| record.lineage);
        let points = points.into_iter().map(|(index, chain)| Point { index, chain }).collect();
        Found::Usable(Some(io::Disk { membership, lineage, held: found.held, points }))
    }

    fn opened(&mut self) -> Done<&mut Open> {
        self.open.as_mut().ok_or_else(|| "nothing is open".to_owned())
    }

    pub(super) fn append(&mut self, entry: &Entry, mark: (Index, Digest)) -> Done<()> {
        let journal = &mut self.opened()?.journal;
        match journal.append(entry) {
            Err(JournalError::BatchFull) => {
                journal.commit(marked(mark)).map_err(said)?;
                journal.append(entry).map_err(said)
            }
            done => done.map_err(said),
        }
    }

    pub(super) fn commit(&mut self, mark: (Index, Digest)) -> Done<Index> {
        self.opened()?.journal.commit(marked(mark)).map_err(said)
    }

    pub(super) fn remember(&mut self, membership: &Membership) -> Done<()> {
        self.opened()?.membership.save(membership).map_err(said)
    }

    pub(super) fn truncate(&mut self, after: Index) -> Done<()> {
        self.opened()?.journal.truncate_after(after).map_err(said)
    }

    /// Gives up the log: its owner is brought up to date by the other.
    pub(super) fn forget_log(&mut self) -> Done<()> {
        let journal = &mut self.opened()?.journal;
        journal.restart_at(Index(0), Digest::ZERO, Mark::default()).map_err(said)?;
        checkpoint::keep(&self.directory, 0, &[]).map_err(said)?;
        let listing = checkpoint::list(&self.directory).map_err(said)?;
        self.remove_checkpoints(listing.unusable.iter().map(|(index, _)| *index).collect())
    }

    fn remove_checkpoints(&mut self, gone: Vec<Index>) -> Done<()> {
        for index in gone {
            self.directory.remove(&checkpoint::file_name(index)).map_err(said)?;
        }
        self.directory.sync().map_err(said)
    }

    /// Restores the state; the service's part around a fresh one.
    pub(super) fn recover(
        &mut self,
        to: Option<Index>,
        fresh: &Shelf,
        bounds: &UnitConfig,
    ) -> Done<(Recovered, Unit<Shelf>)> {
        let journal = &self.opened()?.journal;
        let mark = journal.mark();
        let (held, _) = journal.held();
        let mut target = to.unwrap_or(mark.index.min(held));
        let (mut unit, mut history) = self.nearest(target, fresh, bounds)?;
        let entries = self.entries_after(history.index)?;
        let again = entries.iter().take_while(|entry| entry.index <= target);
        let replayed = again.map(|entry| entry.weight() as u64).sum();
        let mut panicked = None;
        for entry in entries.iter().take_while(|entry| entry.index <= target) {
            history.check(entry).map_err(|misfit| format!("entry {}: {misfit}", entry.index))?;
            if unit.execute(entry).panic.is_some() {
                panicked = Some(entry.index);
                break;
            }
            history.append(entry);
        }
        if let Some(index) = panicked {
            // It panics again where it is executed again: nothing comes after it.
            target = index.prev();
            (unit, history) = self.nearest(target, fresh, bounds)?;
            let start = history.index;
            let again = entries.iter().filter(|e| e.index > start && e.index <= target);
            for entry in again {
                unit.execute(entry);
                history.append(entry);
            }
        }
        if history.index != target {
            return Err(format!("the journal ends before entry {target}"));
        }
        if to.is_none() && target == mark.index && unit.digest() != mark.outputs && target.0 != 0 {
            return Err(format!("the replay up to entry {target} came to something else"));
        }
        let mut tail: Vec<Entry> = entries.into_iter().filter(|e| e.index > target).collect();
        if to.is_some() {
            tail.clear();
            self.truncate(target)?;
            let listing = checkpoint::list(&self.directory).map_err(said)?;
            let later = listing.whole.iter().map(|summary| summary.stamp.index);
            self.remove_checkpoints(later.filter(|index| *index > target).collect())?;
        }
        let (outputs, wakeup) = (unit.digest(), unit.wakeup());
        Ok((Recovered { history, outputs, wakeup, replayed, contradicts: None, tail }, unit))
    }

    /// The newest state at or before an entry that the journal goes on from.
    fn nearest(
        &mut self,
        target: Index,
        fresh: &Shelf,
        bounds: &UnitConfig,
    ) -> Done<(Unit<Shelf>, History)> {
        let listing = checkpoint::list(&self.directory).map_err(said)?;
        for summary in listing.whole.iter().rev() {
            let (index, chain) = (summary.stamp.index, summary.header.history.chain);
            let journal = &mut self.opened()?.journal;
            let fits = index <= target && journal.chain_at(index).ok().flatten() == Some(chain);
            if !fits {
                continue;
            }
            if let Ok((summary, unit)) =
                checkpoint::load(&self.directory, index, fresh.clone(), bounds.clone())
            {
                return Ok((unit, summary.header.history));
            }
        }
        let journal = &mut self.opened()?.journal;
        match journal.chain_at(Index(0)).map_err(said)? {
            Some(_) => Ok((Unit::with_config(fresh.clone(), bounds.clone()), History::default())),
            None => Err(format!("no checkpoint is left at or before entry {target}")),
        }
    }

    fn entries_after(&mut self, index: Index) -> Done<Vec<Entry>> {
        let replay = self.opened()?.journal.replay(index.next()).map_err(said)?;
        replay.map(|entry| entry.map(|(entry, _)| entry).map_err(said)).collect()
    }

    /// How far outputs were released, by what the journal notes.
    pub(super) fn mark(&mut self) -> Option<Index> {
        Some(self.opened().ok()?.journal.mark().index)
    }

    pub(super) fn look_up(&mut self, points: &[Point]) -> Done<LookedUp> {
        let listing = checkpoint::list(&self.directory).map_err(said)?;
        let journal = &mut self.opened()?.journal;
        let mut common = None;
        for point in points {
            if common.is_none() && journal.chain_at(point.index).map_err(said)? == Some(point.chain)
            {
                common = Some(*point);
            }
        }
        let bytes = common.map_or(0, |common| journal.bytes_since(common.index));
        let mut checkpoint = None;
        for summary in &listing.whole {
            let chain = summary.header.history.chain;
            if journal.chain_at(summary.stamp.index).map_err(said)? == Some(chain) {
                checkpoint = Some((summary.stamp.into(), chain));
            }
        }
        Ok(LookedUp { common, bytes, checkpoint })
    }

    pub(super) fn read(&mut self, after: Index) -> Done<Option<Vec<Entry>>> {
        self.opened()?.journal.read(after.next(), limits::CHUNK_BYTES).map_err(said)
    }

    pub(super) fn read_chunk(&self, checkpoint: Index, offset: u64) -> Option<Bytes> {
        let outgoing = Outgoing::open(&self.directory, checkpoint).ok()?;
        outgoing.read(offset, limits::CHUNK_BYTES).ok().map(Bytes::from)
    }

    pub(super) fn begin_chunks(&mut self, file: CheckpointFile) -> Done<u64> {
        checkpoint::tidy(&self.directory, Some(file.index)).map_err(said)?;
        let incoming = Incoming::open(&self.directory, file.into()).map_err(said)?;
        let have = incoming.received();
        self.opened()?.incoming = Some(incoming);
        Ok(have)
    }

    pub(super) fn write_chunk(&mut self, index: Index, offset: u64, bytes: &Bytes) -> Done<u64> {
        let Some(incoming) = &mut self.opened()?.incoming else { return Ok(0) };
        let wanted = incoming.wanted();
        if wanted.index == index && offset == incoming.received() {
            incoming.chunk(&wanted, offset, bytes).map_err(said)?;
        }
        Ok(incoming.received())
    }

    /// The inner error is for the other's file, the outer one for this disk.
    pub(super) fn install(&mut self, file: CheckpointFile, chain: Digest) -> Done<Done<()>> {
        let Some(incoming) = self.opened()?.incoming.take() else {
            return Ok(Err("there is nothing to install".into()));
        };
        if incoming.wanted() != file.into() {
            return Ok(Err("another checkpoint was to come".into()));
        }
        let summary = match incoming.install() {
            Ok(summary) => summary,
            Err(IncomingError::Checkpoint(error)) if !error.is_damage() => return Err(said(error)),
            Err(error) => return Ok(Err(said(error))),
        };
        if summary.header.history.chain != chain {
            self.remove_checkpoints(vec![file.index])?;
            return Ok(Err("the checkpoint is of another log".into()));
        }
        let mark = Mark { index: file.index, outputs: summary.header.outputs };
        self.opened()?.journal.restart_at(file.index, chain, mark).map_err(said)?;
        checkpoint::keep(&self.directory, 0, &[file.index]).map_err(said)?;
        Ok(Ok(()))
    }

    pub(super) fn retain(&mut self, from: Option<Index>) {
        if let Some(open) = &mut self.open {
            open.retained = from;
        }
    }

    pub(super) fn write_checkpoint(
        &mut self,
        history: History,
        frozen: &FrozenUnit<FrozenShelf>,
        service: &Shelf,
        retained: u64,
    ) -> Done<CheckpointFile> {
        let (pair, service, outputs) = (PAIR, service.identity(), frozen.outputs());
        let header = Header { pair, service, history, outputs };
        let pace = Box::new(|_| ControlFlow::Continue(()));
        let stamp = checkpoint::write(&self.directory, &header, frozen, pace).map_err(said)?;
        self.drop_old(retained)?;
        Ok(stamp.into())
    }

    /// Keeps the newest checkpoints, what the mark can be restored from, and what a joiner needs.
    fn drop_old(&mut self, most: u64) -> Done<()> {
        let listing = checkpoint::list(&self.directory).map_err(said)?;
        let open = self.opened()?;
        let mark = open.journal.mark().index;
        let fits = |from: &Index| open.journal.bytes_since(*from) <= most;
        let retained = open.retained.filter(fits);
        let indexes = listing.whole.iter().map(|summary| summary.stamp.index);
        let mut pinned: Vec<Index> = indexes.clone().rfind(|i| *i <= mark).into_iter().collect();
        pinned.extend(retained);
        let kept = checkpoint::keep(&self.directory, KEPT, &pinned).map_err(said)?;
        let goes_on = kept.kept.iter().any(|index| *index <= mark);
        let first = kept.kept.first().copied().min(retained.or(Some(Index(u64::MAX))));
        if let Some(first) = first.filter(|_| goes_on) {
            self.opened()?.journal.release_before(first.next()).map_err(said)?;
        }
        Ok(())
    }

    /// The process is dead, the machine is not: everything that was written is there.
    pub(super) fn close(&mut self) {
        self.open = None;
        self.directory.heal();
    }

    /// The machine loses its power: what was not synced is there, in part, or not.
    pub(super) fn cut_power(&mut self, rng: &mut Rng) {
        self.close();
        self.directory = self.directory.crash(&mut seeded(rng.bits()));
    }

    /// The power is cut after so many more operations of what the process is doing.
    pub(super) fn halt_after(&self, operations: u64) {
        self.directory.halt_after(operations);
    }

    /// A write to come does not reach the disk, or another place of it, and says nothing.
    pub(super) fn stray(&self, nth: u64, shift: Option<u64>) {
        self.directory.stray(nth, shift);
    }

    /// Has every write at its place. Returns the disk as it is without that, if there is a
    /// difference.
    pub(super) fn mend(&mut self) -> Option<Self> {
        if !self.directory.has_strayed() {
            return None;
        }
        let stray = self.directory.crash(&mut |bound| bound - 1);
        self.directory.mend();
        Some(Self { directory: stray, ..Self::default() })
    }

    /// An operation to come fails.
    pub(super) fn inject(&self, operation: Option<Operation>, nth: u64, error: i32) {
        self.directory.inject(Fault { operation, nth, error });
    }

    /// Nothing more fails.
    pub(super) fn heal(&self) {
        self.directory.heal();
    }

    /// A copy of what is there, as a backup has it.
    pub(super) fn backup(&self) -> Self {
        Self { directory: self.directory.copy(), ..Self::default() }
    }

    /// What the disk has if it has said of everything since that it is synced, and lied.
    pub(super) fn stale(&self) -> Self {
        Self { directory: self.directory.crash(&mut |_| 0), ..Self::default() }
    }

    /// A byte of some file is not what was written.
    pub(super) fn rot(&mut self, rng: &mut Rng) {
        let mut names = self.directory.list().unwrap_or_default();
        names.sort();
        names.retain(|name| self.directory.contents(name).is_some_and(|bytes| !bytes.is_empty()));
        if names.is_empty() {
            return;
        }
        let name = &names[rng.below(names.len())];
        let Some(mut bytes) = self.directory.contents(name) else { return };
        // Most of a segment is zeros that nobody reads: rather near what is used.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |at| at + 1);
        let at = rng.below(used);
        bytes[at] ^= 1 << rng.from(0, 7);
        if let Ok(file) = self.directory.open(name) {
            let _ = file.write_all_at(&bytes[at..=at], at as u64);
            let _ = file.sync();
        }
    }
}

fn marked((index, outputs): (Index, Digest)) -> Mark {
    Mark { index, outputs }
}
