//! What a CoServer has on its disk: a model with the meaning that the real files have, no more.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::rng::Rng;
use super::service::{FrozenShelf, Shelf};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::history::History;
use crate::ids::Index;
use crate::limits;
use crate::proto::io::{self, LookedUp, Membership, Recovered};
use crate::unit::records::Reader;
use crate::unit::{FrozenUnit, Unit, UnitConfig};
use crate::wire::frames::{CheckpointFile, Point};

/// How many checkpoints are kept.
const KEPT: usize = 2;

/// A disk, and what is written on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    membership: Membership,
    /// The entry before the first in the journal.
    base: Point0,
    entries: Vec<(Entry, Digest)>,
    mark: (Index, Digest),
    checkpoints: BTreeMap<Index, Saved>,
    incoming: Option<(CheckpointFile, BytesMut)>,
    retained: Option<Index>,
    is_damaged: bool,
    is_used: bool,
}

#[derive(Clone, Copy, Debug)]
struct Point0(Point);

impl Default for Point0 {
    fn default() -> Self {
        Self(Point { index: Index(0), chain: Digest::ZERO })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    file: CheckpointFile,
    history: History,
    bytes: Bytes,
}

impl Disk {
    fn held(&self) -> Index {
        Index(self.base.0.index.0 + self.entries.len() as u64)
    }

    fn chain_at(&self, index: Index) -> Option<Digest> {
        let base = self.base.0;
        if index == base.index {
            return Some(base.chain);
        }
        let at = usize::try_from(index.0.checked_sub(base.index.0 + 1)?).ok()?;
        self.entries.get(at).map(|(_, chain)| *chain)
    }

    /// What a process finds that starts.
    pub(super) fn open(&self) -> Option<io::Disk> {
        if self.is_damaged {
            return Some(io::Disk::default());
        }
        // Nothing that could be lost: as good as new.
        if !self.is_used || (self.held() == Index(0) && self.membership.record.is_none()) {
            return None;
        }
        let (base, held) = (self.base.0.index, self.held());
        let back = (0..60).map_while(|power| held.0.checked_sub(1 << power)).map(Index);
        let indexes = [held].into_iter().chain(back.filter(|index| *index > base)).chain([base]);
        let mut points: Vec<Point> = indexes
            .filter_map(|index| Some(Point { index, chain: self.chain_at(index)? }))
            .collect();
        points.dedup();
        let lineage = self.membership.record.map_or(crate::ids::Lineage(0), |r| r.lineage);
        Some(io::Disk { membership: self.membership.clone(), lineage, held, points })
    }

    /// Some bytes of it are not what was written.
    pub(super) fn damage(&mut self) {
        self.is_damaged = true;
    }

    pub(super) fn append(&mut self, entry: &Entry) {
        assert_eq!(entry.index, self.held().next(), "the journal has no gaps");
        let chain = self.chain_at(self.held()).expect("the last one is there");
        self.entries.push((entry.clone(), entry.chain(chain)));
        self.is_used = true;
    }

    pub(super) fn commit(&mut self, mark: (Index, Digest)) -> Index {
        if mark.0 >= self.base.0.index {
            self.mark = mark;
        }
        self.held()
    }

    /// Gives up the log: its owner is brought up to date by the other.
    pub(super) fn forget_log(&mut self) {
        let membership = core::mem::take(&mut self.membership);
        *self = Self { membership, is_used: true, ..Self::default() };
    }

    pub(super) fn remember(&mut self, membership: Membership) {
        self.membership = membership;
        self.is_used = true;
    }

    pub(super) fn truncate(&mut self, after: Index) {
        let keep = usize::try_from(after.0.saturating_sub(self.base.0.index.0)).unwrap_or(0);
        self.entries.truncate(keep);
        assert!(self.mark.0 <= after, "what was released is not cut");
        self.checkpoints.retain(|index, _| *index <= after);
    }

    /// Restores the state; the service's part around a fresh one.
    pub(super) fn recover(
        &mut self,
        to: Option<Index>,
        fresh: Shelf,
    ) -> Result<(Recovered, Unit<Shelf>), String> {
        if self.is_damaged {
            return Err("the journal is damaged".into());
        }
        let target = to.unwrap_or(self.mark.0.min(self.held()));
        let saved = self.checkpoints.range(..=target).next_back().map(|(_, saved)| saved.clone());
        let start = saved.as_ref().map_or(Index(0), |saved| saved.history.index);
        let from = |fresh: Shelf| match &saved {
            Some(saved) => Ok((thaw(&saved.bytes, fresh)?, saved.history.clone())),
            None if self.base.0.index == Index(0) => Ok((Unit::new(fresh), History::default())),
            None => Err(format!("no checkpoint is left at or before entry {target}")),
        };
        let (mut unit, mut history) = from(fresh.clone())?;
        let after = |index: Index| self.entries.iter().filter(move |(e, _)| e.index > index);
        let mut panicked = None;
        for (entry, chain) in after(start).take_while(|(entry, _)| entry.index <= target) {
            history.check(entry).map_err(|misfit| format!("entry {}: {misfit}", entry.index))?;
            if unit.execute(entry).panic.is_some() {
                panicked = Some(entry.index);
                break;
            }
            history.append(entry);
            assert_eq!(history.chain, *chain, "the journal is what was appended");
        }
        let mut target = target;
        if let Some(index) = panicked {
            // It panics again where it is executed again: nothing comes after it.
            target = index.prev();
            (unit, history) = from(fresh)?;
            for (entry, _) in after(start).take_while(|(entry, _)| entry.index <= target) {
                unit.execute(entry);
                history.append(entry);
            }
        }
        let mut tail: Vec<Entry> = after(target).map(|(entry, _)| entry.clone()).collect();
        if history.index != target {
            return Err(format!("the journal ends before entry {target}"));
        }
        if to.is_none() && target == self.mark.0 && unit.digest() != self.mark.1 && target.0 != 0 {
            return Err(format!("the replay up to entry {target} came to something else"));
        }
        if to.is_some() {
            tail.clear();
            self.mark = (target, unit.digest());
            self.truncate(target);
        }
        let (outputs, wakeup) = (unit.digest(), unit.wakeup());
        Ok((Recovered { history, outputs, wakeup, tail }, unit))
    }

    pub(super) fn look_up(&self, points: &[Point]) -> LookedUp {
        let has = |point: &&Point| self.chain_at(point.index) == Some(point.chain);
        let common = points.iter().find(has).copied();
        let after = |index: Index| self.entries.iter().filter(move |(e, _)| e.index > index);
        let bytes = common
            .map_or(0, |common| after(common.index).map(|(entry, _)| entry.weight() as u64).sum());
        let newest = self.checkpoints.values().next_back();
        let newest = newest.filter(|saved| saved.file.index >= self.base.0.index);
        let checkpoint = newest.map(|saved| (saved.file, saved.history.chain));
        LookedUp { common, bytes, checkpoint }
    }

    pub(super) fn read(&self, after: Index, most: usize) -> Option<Vec<Entry>> {
        self.chain_at(after).or((after > self.held()).then_some(Digest::ZERO))?;
        let mut bytes = 0;
        let from = usize::try_from(after.0 - self.base.0.index.0).ok()?;
        let rest = self.entries.get(from..).unwrap_or_default();
        let fits = |(entry, _): &&(Entry, Digest)| {
            let first = bytes == 0;
            bytes += entry.weight();
            first || bytes <= most
        };
        Some(rest.iter().take_while(fits).map(|(entry, _)| entry.clone()).collect())
    }

    pub(super) fn read_chunk(&self, checkpoint: Index, offset: u64, most: usize) -> Option<Bytes> {
        let saved = self.checkpoints.get(&checkpoint)?;
        let from = usize::try_from(offset).ok()?.min(saved.bytes.len());
        Some(saved.bytes.slice(from..saved.bytes.len().min(from + most)))
    }

    pub(super) fn begin_chunks(&mut self, file: CheckpointFile) -> u64 {
        if self.incoming.as_ref().is_none_or(|(known, _)| *known != file) {
            self.incoming = Some((file, BytesMut::new()));
        }
        self.incoming.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64)
    }

    pub(super) fn write_chunk(&mut self, checkpoint: Index, offset: u64, bytes: &Bytes) -> u64 {
        let Some((file, have)) = &mut self.incoming else { return 0 };
        if file.index == checkpoint && offset == have.len() as u64 {
            have.put_slice(bytes);
        }
        have.len() as u64
    }

    pub(super) fn install(
        &mut self,
        file: CheckpointFile,
        chain: Digest,
        fresh: Shelf,
    ) -> Result<(), String> {
        let (known, bytes) = self.incoming.take().ok_or("there is no checkpoint to install")?;
        let bytes = bytes.freeze();
        if known != file || bytes.len() as u64 != file.len || Digest::of(&bytes) != file.hash {
            return Err("the checkpoint is not what was announced".into());
        }
        let (history, _) = split(&bytes)?;
        let unit = thaw(&bytes, fresh)?;
        if history.chain != chain || history.index != file.index {
            return Err("the checkpoint is of another log".into());
        }
        let outputs = unit.digest();
        let membership = core::mem::take(&mut self.membership);
        *self = Self { membership, is_used: true, ..Self::default() };
        self.base = Point0(Point { index: file.index, chain });
        self.mark = (file.index, outputs);
        self.checkpoints.insert(file.index, Saved { file, history, bytes });
        Ok(())
    }

    pub(super) fn retain(&mut self, from: Option<Index>) {
        self.retained = from;
    }

    pub(super) fn write_checkpoint(
        &mut self,
        history: History,
        frozen: &FrozenUnit<FrozenShelf>,
    ) -> Result<CheckpointFile, String> {
        let unit = frozen.to_bytes().map_err(|error| error.to_string())?;
        let bytes = join(&history, &unit);
        let (index, len, hash) = (history.index, bytes.len() as u64, Digest::of(&bytes));
        let file = CheckpointFile { index, len, hash };
        self.checkpoints.insert(index, Saved { file, history, bytes });
        self.drop_old();
        Ok(file)
    }

    /// Keeps the newest checkpoints, what the mark can be restored from, and what a joiner needs.
    fn drop_old(&mut self) {
        let needed = self.checkpoints.range(..=self.mark.0).next_back().map(|(index, _)| *index);
        let newest = self.checkpoints.keys().rev().nth(KEPT - 1).copied();
        let (Some(needed), Some(newest)) = (needed, newest) else { return };
        let first = needed.min(newest).min(self.retained.unwrap_or(Index(u64::MAX)));
        let from = self.checkpoints.range(..=first).next_back().map(|(index, _)| *index);
        let Some(from) = from else { return };
        self.checkpoints.retain(|index, _| *index >= from);
        if let Some(chain) = self.chain_at(from)
            && from > self.base.0.index
        {
            let gone = usize::try_from(from.0 - self.base.0.index.0).unwrap_or(0);
            self.entries.drain(..gone);
            self.base = Point0(Point { index: from, chain });
        }
    }

    /// A power cut while these were being written: some of the first may be there.
    pub(super) fn torn(&mut self, entries: &[Entry], rng: &mut Rng) -> usize {
        let some = rng.from(0, entries.len() as u64) as usize;
        entries[..some].iter().for_each(|entry| self.append(entry));
        some
    }

    pub(super) fn chunk_bytes() -> usize {
        limits::CHUNK_BYTES
    }
}

fn join(history: &History, unit: &Bytes) -> Bytes {
    let head = rkyv::to_bytes::<rkyv::rancor::Error>(history).expect("a history is small");
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(head.len() as u32);
    bytes.put_slice(&head);
    bytes.put_slice(unit);
    bytes.freeze()
}

fn split(bytes: &Bytes) -> Result<(History, Bytes), String> {
    let mut rest = bytes.clone();
    if rest.len() < 4 {
        return Err("the checkpoint is too short".into());
    }
    let len = rest.get_u32_le() as usize;
    if rest.len() < len {
        return Err("the checkpoint is too short".into());
    }
    let mut head = rkyv::util::AlignedVec::<16>::new();
    head.extend_from_slice(&rest.split_to(len));
    let history = rkyv::from_bytes::<History, rkyv::rancor::Error>(&head);
    Ok((history.map_err(|error| error.to_string())?, rest))
}

fn thaw(bytes: &Bytes, fresh: Shelf) -> Result<Unit<Shelf>, String> {
    let (_, unit) = split(bytes)?;
    let mut reader = Reader::open(unit).map_err(|error| error.to_string())?;
    Unit::restore(fresh, UnitConfig::default(), &mut reader).map_err(|error| error.to_string())
}
