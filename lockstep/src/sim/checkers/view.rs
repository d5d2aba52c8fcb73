//! What the books have of one replica: what it holds, what it has computed, what it says it is.

use std::collections::{BTreeMap, BTreeSet};

use super::OutputName;
use super::model::{Effect, Model};
use super::observed::{Who, answer_name, content};
use super::sessions::Outcome;
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind};
use crate::ids::{Epoch, Incarnation, Index, Lineage, LogTime, Nonce, RequestNumber, SessionId};
use crate::output::{Executed, OutputKind};
use crate::proto::io::Standing;
use crate::record::Origin::Joined;
use crate::record::Record;
use crate::sim::ops::Fired;
use crate::sim::service::TIMER;
use crate::unit::UnitConfig;

/// What is known of one replica.
#[derive(Debug)]
pub struct View {
    /// Whether its process runs.
    pub is_alive: bool,
    /// The replica's standing, by its own word.
    pub standing: Standing,
    /// The record of the replica's epoch, by its own word.
    pub record: Option<Record>,
    /// The entries that the replica holds.
    pub log: Vec<Held>,
    /// The running digests of the outputs of what it has executed.
    pub executed: Vec<Digest>,
    /// When it executed the last of them (ns of the world).
    pub executed_at: u64,
    /// The replica's outputs, by name.
    pub outputs: BTreeMap<OutputName, Digest>,
    /// The replica's answers to clients: at which entries, with which content.
    pub answers: BTreeMap<AnswerName, Vec<(Index, Digest)>>,
    /// What the replica's log comes to.
    pub model: Model,
    /// The timers that the service has set and not fired: when they are due, and their ids.
    pub timers: BTreeSet<(LogTime, u64)>,
    /// The entry at which the service panicked; `None` if it has not.
    pub panicked: Option<Index>,
    /// Whether it knows of a divergence.
    pub diverged: bool,
    /// Whether it is out.
    pub is_out: bool,
    /// Whether it stopped without having been told to.
    pub gave_up: bool,
    /// The last entry that is surely on the replica's disk.
    pub persisted: Index,
    /// The timers that fired, and at which entries.
    fired: Vec<(Index, (LogTime, u64))>,
    /// The joiner that it brings up to date.
    pub(super) joiner: Option<Incarnation>,
    /// Whether its record began with a joiner, and that one was told that it is a member; for the
    /// joiner itself, whether it was told.
    pub is_admitted: bool,
    /// The lineage of its last entry.
    pub lineage: Lineage,
}

/// An entry that a replica holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The entry itself.
    pub entry: Entry,
    /// The epoch in which it was ordered.
    pub epoch: Epoch,
    /// The log time of the entry's last step.
    pub time: LogTime,
    /// When the replica appended it (ns of the world).
    pub at: u64,
    /// The running digest of the entries.
    pub log_digest: Digest,
    /// Whether the protocol made it.
    pub is_protocol: bool,
    /// Since when wake-ups are held after this entry (ns of the world); `None` if they are not
    /// (rule O11).
    pub held_since: Option<u64>,
    /// The timers that the entry sets: time and id of each.
    pub timers: Vec<(LogTime, u64)>,
    /// What each step of the entry comes to for sessions.
    pub outcomes: Vec<Outcome>,
}

/// Names an answer to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerName {
    /// To a request for a session.
    Opened(Nonce),
    /// To a request.
    Reply(SessionId, RequestNumber),
}

impl View {
    pub(super) fn new(bounds: UnitConfig) -> Self {
        Self {
            is_alive: true,
            standing: Standing::Starting,
            record: None,
            log: Vec::new(),
            executed: Vec::new(),
            executed_at: 0,
            outputs: BTreeMap::new(),
            answers: BTreeMap::new(),
            model: Model::new(bounds),
            timers: BTreeSet::new(),
            panicked: None,
            diverged: false,
            is_out: false,
            gave_up: false,
            persisted: Index(0),
            fired: Vec::new(),
            joiner: None,
            is_admitted: false,
            lineage: Lineage(0),
        }
    }

    /// What it held and had computed up to an entry.
    pub(super) fn prefix(&self, to: Index) -> Self {
        let mut view = Self::new(self.model.bounds().clone());
        let len = usize::try_from(to.0).unwrap_or(usize::MAX);
        self.log.iter().take(len).for_each(|held| view.append(&held.entry, held.at));
        view.executed = self.executed.iter().take(len).copied().collect();
        let early = |index: Index| index <= to;
        view.outputs =
            self.outputs.iter().filter(|(n, _)| early(n.index)).map(|(n, d)| (*n, *d)).collect();
        for (name, given) in &self.answers {
            let given: Vec<_> = given.iter().copied().filter(|(index, _)| early(*index)).collect();
            if !given.is_empty() {
                view.answers.insert(*name, given);
            }
        }
        view.fired = self.fired.iter().copied().filter(|(index, _)| early(*index)).collect();
        let executed = view.log.iter().take(view.executed.len());
        view.timers = executed.flat_map(|held| held.timers.iter().copied()).collect();
        view.fired.iter().for_each(|(_, timer)| {
            view.timers.remove(timer);
        });
        view.panicked = self.panicked.filter(|index| early(*index));
        view
    }

    /// Takes over what another view holds and has computed, and stays what it is otherwise.
    pub(super) fn take_over(&mut self, other: Self) {
        *self = Self {
            is_alive: self.is_alive,
            standing: self.standing,
            record: self.record,
            diverged: self.diverged,
            is_out: self.is_out,
            gave_up: self.gave_up,
            persisted: self.persisted,
            joiner: self.joiner,
            is_admitted: self.is_admitted,
            ..other
        };
    }

    /// Whether it has all of these entries, computed.
    pub(super) fn has_executed(&self, index: Index, log_digest: Digest) -> bool {
        index == Index(0)
            || (self.chain(index) == Some(log_digest) && self.outputs_at(index).is_some())
    }

    /// The entry with which this record begins in its log.
    pub(super) fn began(&self, record: &Record) -> Option<Index> {
        let begins = |held: &&Held| held.entry.kind.begins() == Some(record);
        self.log.iter().rev().find(begins).map(|held| held.entry.index)
    }

    /// Whether it is a member together with the other, rather than alone with a joiner.
    pub(super) fn is_together(&self, who: Who, record: &Record) -> bool {
        if !record.members.is_duplex() {
            return false;
        }
        record.origin != Joined || self.is_admitted || record.asker != who.place
    }

    /// Whether wake-ups are held at this entry.
    pub(super) fn holds_wakeups(&self, index: Index) -> bool {
        at(index).and_then(|slot| self.log.get(slot)).is_some_and(|held| held.held_since.is_some())
    }

    /// Whether it has this entry, and that on its disk if that is what counts.
    pub(super) fn has(&self, index: Index, kind: &EntryKind, on_disk: bool) -> bool {
        let held = at(index).and_then(|slot| self.log.get(slot));
        held.is_some_and(|held| held.entry.kind == *kind) && (!on_disk || self.persisted >= index)
    }

    /// This entry, if it holds it.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        at(index).and_then(|slot| self.log.get(slot)).map(|held| &held.entry)
    }

    /// What each step of this entry comes to for sessions.
    pub fn outcomes(&self, index: Index) -> Option<&[Outcome]> {
        at(index).and_then(|slot| self.log.get(slot)).map(|held| &*held.outcomes)
    }

    /// Whether its log ended one session before it opened another.
    pub(super) fn ended_before(&self, first: SessionId, second: SessionId) -> bool {
        let (from, to) = (first.index(), second.index());
        (from.0..=to.0).any(|index| {
            let outcomes = self.outcomes(Index(index)).unwrap_or_default();
            let last = if index == to.0 { second.position() } else { outcomes.len() };
            outcomes.iter().take(last + 1).any(|outcome| outcome.ended.contains(&first))
        })
    }

    /// The running digest of the entries at this one.
    pub fn chain(&self, index: Index) -> Option<Digest> {
        at(index).and_then(|slot| self.log.get(slot)).map(|held| held.log_digest)
    }

    /// At which entry it panicked, and with which log.
    pub(super) fn panicked_at(&self) -> Option<(Index, Digest)> {
        self.panicked.and_then(|index| Some((index, self.chain(index)?)))
    }

    /// The running digest of the outputs at this entry.
    pub fn outputs_at(&self, index: Index) -> Option<Digest> {
        at(index).and_then(|slot| self.executed.get(slot)).copied()
    }

    /// The last entry that it holds.
    pub fn held(&self) -> Index {
        Index(self.log.len() as u64)
    }

    /// What a request came to in its log.
    pub fn effect(&self, id: u64) -> Option<&Effect> {
        self.model.effect(id)
    }

    pub(super) fn append(&mut self, entry: &Entry, now: u64) {
        if let Some(record) = entry.kind.begins() {
            self.lineage = record.lineage;
        }
        let previous = self.log.last().map_or(Digest::ZERO, |held| held.log_digest);
        let held_since = match &entry.kind {
            EntryKind::Resume { .. } => Some(now),
            EntryKind::Ready => None,
            _ => self.log.last().and_then(|held| held.held_since),
        };
        let (timers, outcomes) = self.model.append(entry);
        self.log.push(Held {
            entry: entry.clone(),
            epoch: entry.epoch,
            time: entry.last_time(),
            at: now,
            log_digest: entry.chain(previous),
            is_protocol: entry.kind.is_protocol(),
            held_since,
            timers,
            outcomes,
        });
    }

    pub(super) fn execute(&mut self, executed: &Executed, now: u64) {
        self.executed.push(executed.digest);
        self.executed_at = now;
        if let Some(held) = at(executed.index).and_then(|slot| self.log.get(slot)) {
            self.timers.extend(held.timers.iter().copied());
        }
        if executed.panic.is_some() {
            self.panicked = Some(executed.index);
        }
        for output in &executed.outputs {
            let digest = content(&output.kind);
            if let OutputKind::Device { device: TIMER, bytes, .. } = &output.kind
                && let Ok(Fired { id, due }) = Fired::decode(bytes)
            {
                self.timers.remove(&(due, id));
                self.fired.push((executed.index, (due, id)));
            }
            if let Some(name) = answer_name(&output.kind) {
                self.answers.entry(name).or_default().push((executed.index, digest));
            }
            let (step, ordinal) = (output.step, output.ordinal);
            self.outputs.insert(OutputName { index: executed.index, step, ordinal }, digest);
        }
    }
}

fn at(index: Index) -> Option<usize> {
    usize::try_from(index.0).ok()?.checked_sub(1)
}
