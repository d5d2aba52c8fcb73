//! The judges' own books: who holds and has executed what, and what the witness recorded.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Effect, Model};
use super::{OutputName, Seen};
use crate::digest::{Digest, Hasher};
use crate::entry::{Entry, EntryKind};
use crate::event::{Event, StopCause};
use crate::ids::{Epoch, Incarnation, Index, LogTime, Nonce, Place, RequestNumber, SessionId};
use crate::output::{Executed, OutputKind, Refusal};
use crate::proto::io::{DivergencePolicy, Membership, Recovered, Standing};
use crate::record::Origin::Joined;
use crate::record::Record;
use crate::sim::ops::Fired;
use crate::sim::options::Durability;
use crate::sim::service::TIMER;
use crate::wire::frames::ClientAnswer;

/// A replica: the process at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// Where.
    pub place: Place,
    /// Which process.
    pub incarnation: Incarnation,
}

impl core::fmt::Display for Who {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{:04x}", self.place, self.incarnation.0 & 0xffff)
    }
}

/// The books.
#[derive(Debug, Default)]
pub struct Ground {
    views: BTreeMap<Who, View>,
    records: BTreeMap<Epoch, Vec<Record>>,
    latest: Option<Record>,
    healed: Option<u64>,
    spoiled: [bool; 2],
    disks: [Membership; 2],
    journals: bool,
    holds: bool,
    was_stopped: bool,
}

/// What is known of one replica.
#[derive(Debug)]
pub struct View {
    /// Whether its process runs.
    pub is_alive: bool,
    /// Its standing, by its own word.
    pub standing: Standing,
    /// Its epoch's record, by its own word.
    pub record: Option<Record>,
    /// What it holds.
    pub log: Vec<Held>,
    /// The running digests of the outputs of what it has executed.
    pub executed: Vec<Digest>,
    /// Its outputs, by name.
    pub outputs: BTreeMap<OutputName, Digest>,
    /// Its answers to clients: at which entries, with which content.
    pub answers: BTreeMap<AnswerName, Vec<(Index, Digest)>>,
    /// What its log comes to.
    pub model: Model,
    /// The timers that its service has set and not fired: when they are due, and for whom.
    pub timers: BTreeSet<(LogTime, u64)>,
    /// Where its service panicked.
    pub panicked: Option<Index>,
    /// Whether it knows of a divergence.
    pub diverged: bool,
    /// Whether it is out.
    pub is_out: bool,
    /// Whether it stopped without having been told to.
    pub gave_up: bool,
    /// What is surely on its disk.
    pub persisted: Index,
    /// The timers that fired, and at which entries.
    fired: Vec<(Index, (LogTime, u64))>,
    /// The joiner that it brings up to date.
    guest: Option<Incarnation>,
    /// Whether its record began with a joiner, and that one was told that it is a member; for the
    /// joiner itself, whether it was told.
    pub is_admitted: bool,
}

/// An entry that a replica holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The entry itself.
    pub entry: Entry,
    /// The epoch in which it was ordered.
    pub epoch: Epoch,
    /// Its timestamp.
    pub time: LogTime,
    /// When the replica appended it (ns of the world).
    pub at: u64,
    /// The running digest of the entries.
    pub chain: Digest,
    /// Whether the protocol made it.
    pub is_protocol: bool,
    /// The timer that it sets.
    pub timer: Option<(LogTime, u64)>,
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
    fn new() -> Self {
        Self {
            is_alive: true,
            standing: Standing::Starting,
            record: None,
            log: Vec::new(),
            executed: Vec::new(),
            outputs: BTreeMap::new(),
            answers: BTreeMap::new(),
            model: Model::default(),
            timers: BTreeSet::new(),
            panicked: None,
            diverged: false,
            is_out: false,
            gave_up: false,
            persisted: Index(0),
            fired: Vec::new(),
            guest: None,
            is_admitted: false,
        }
    }

    /// What it held and had computed up to an entry.
    fn prefix(&self, to: Index) -> Self {
        let mut view = Self::new();
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
        view.timers = view.log.iter().take(view.executed.len()).filter_map(|h| h.timer).collect();
        view.fired.iter().for_each(|(_, timer)| {
            view.timers.remove(timer);
        });
        view.panicked = self.panicked.filter(|index| early(*index));
        view
    }

    /// Takes over what another view holds and has computed, and stays what it is otherwise.
    fn take_over(&mut self, other: Self) {
        let View { log, executed, outputs, answers, model, timers, fired, panicked, .. } = other;
        *self = Self {
            is_alive: self.is_alive,
            standing: self.standing,
            record: self.record,
            log,
            executed,
            outputs,
            answers,
            model,
            timers,
            panicked,
            diverged: self.diverged,
            is_out: self.is_out,
            gave_up: self.gave_up,
            persisted: self.persisted,
            fired,
            guest: self.guest,
            is_admitted: self.is_admitted,
        };
    }

    /// Whether it has all of these entries, computed.
    fn has_executed(&self, index: Index, chain: Digest) -> bool {
        index == Index(0) || (self.chain(index) == Some(chain) && self.outputs_at(index).is_some())
    }

    /// The entry with which this record begins in its log.
    fn began(&self, record: &Record) -> Option<Index> {
        let begins = |held: &&Held| matches!(&held.entry.kind, EntryKind::Membership { record: own } if own == record);
        self.log.iter().rev().find(begins).map(|held| held.entry.index)
    }

    /// Whether it is a member together with the other, rather than alone with a joiner.
    fn is_together(&self, who: Who, record: &Record) -> bool {
        if !record.members.is_duplex() {
            return false;
        }
        record.origin != Joined || self.is_admitted || record.asker != who.place
    }

    /// The running digest of the entries at this one.
    pub fn chain(&self, index: Index) -> Option<Digest> {
        at(index).and_then(|slot| self.log.get(slot)).map(|held| held.chain)
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

    fn append(&mut self, entry: &Entry, now: u64) {
        let previous = self.log.last().map_or(Digest::ZERO, |held| held.chain);
        self.log.push(Held {
            entry: entry.clone(),
            epoch: entry.epoch,
            time: entry.time,
            at: now,
            chain: entry.chain(previous),
            is_protocol: entry.kind.is_protocol(),
            timer: self.model.append(entry),
        });
    }

    fn execute(&mut self, executed: &Executed) {
        self.executed.push(executed.digest);
        if let Some(timer) = at(executed.index).and_then(|slot| self.log.get(slot)?.timer) {
            self.timers.insert(timer);
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

impl Ground {
    /// The books of a pair with this policy, before anything was seen.
    pub fn new(policy: DivergencePolicy, durability: Durability) -> Self {
        let journals = durability == Durability::Journal;
        Self { holds: policy == DivergencePolicy::Hold, journals, ..Self::default() }
    }

    /// Whether a divergence is left to operators.
    pub fn holds_when_diverged(&self) -> bool {
        self.holds
    }

    /// Whether an operator has stopped a replica.
    pub fn was_stopped(&self) -> bool {
        self.was_stopped
    }

    /// Notes what was seen.
    pub fn see(&mut self, now: u64, seen: &Seen<'_>) {
        match *seen {
            Seen::Started { who } => {
                self.views.insert(who, View::new());
            }
            Seen::Ended { who } => self.with(who, |view| view.is_alive = false),
            Seen::Appended { who, entry } => self.with(who, |view| view.append(entry, now)),
            Seen::Executed { who, executed } => self.with(who, |view| view.execute(executed)),
            Seen::Standing { who, standing } => {
                self.with(who, |view| view.standing = standing);
            }
            Seen::Stopped { who, cause } => {
                self.was_stopped |= *cause == StopCause::Asked;
                self.with(who, |view| {
                    view.is_out = true;
                    view.gave_up = *cause != StopCause::Asked;
                });
            }
            Seen::Persisted { who, index } => {
                self.with(who, |view| view.persisted = view.persisted.max(index));
            }
            Seen::Remembered { who, membership } => {
                self.disks[who.place.slot()] = membership.clone();
            }
            Seen::Wiped { place } => self.disks[place.slot()] = Membership::default(),
            Seen::Restored { who, recovered } => self.restore(who, recovered),
            Seen::Truncated { who, after } => {
                let shorter = self.views.get(&who).map(|view| view.prefix(after));
                self.with(who, |view| {
                    view.persisted = view.persisted.min(after);
                    shorter.into_iter().for_each(|shorter| view.take_over(shorter));
                });
            }
            Seen::Event { who, event } => self.with(who, |view| match event {
                Event::Epoch { record, .. } => {
                    view.record = Some(*record);
                    view.is_admitted = false;
                }
                Event::Hosting { joiner } => view.guest = Some(*joiner),
                Event::FellBack { .. } => view.guest = None,
                Event::Duplex { .. } => {
                    view.guest = None;
                    view.is_admitted = true;
                }
                Event::Admitted { record, .. } => {
                    view.record = Some(*record);
                    view.is_admitted = true;
                }
                Event::Diverged { .. } | Event::EntriesDiffer { .. } => view.diverged = true,
                _ => {}
            }),
            Seen::Recorded { record } => {
                let of_epoch = self.records.entry(record.epoch).or_default();
                if !of_epoch.contains(record) {
                    of_epoch.push(*record);
                }
                self.latest = Some(*record);
            }
            Seen::Spoiled { place } => self.spoiled[place.slot()] = true,
            Seen::Healed => self.healed = Some(now),
            _ => {}
        }
    }

    fn restore(&mut self, who: Who, recovered: &Recovered) {
        let (index, chain) = (recovered.history.index, recovered.history.chain);
        let source = self.views.values().find(|view| view.has_executed(index, chain));
        let Some(restored) = source.map(|view| view.prefix(index)) else { return };
        self.with(who, |view| {
            view.take_over(restored);
            view.persisted = Index(index.0 + recovered.tail.len() as u64);
        });
    }

    /// Whether somebody had this log, and computed this from it.
    pub fn is_known(&self, index: Index, chain: Digest, outputs: Digest) -> bool {
        index == Index(0)
            || self.views.values().any(|view| {
                view.chain(index) == Some(chain) && view.outputs_at(index) == Some(outputs)
            })
    }

    /// What the disk at this place says of its owner's membership.
    pub fn remembered(&self, place: Place) -> &Membership {
        &self.disks[place.slot()]
    }

    /// The record before this one.
    pub fn before(&self, record: &Record) -> Option<&Record> {
        self.records.range(..record.epoch).next_back().and_then(|(_, of_epoch)| of_epoch.last())
    }

    /// Every record, in order of their numbers.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values().flatten()
    }

    fn with(&mut self, who: Who, change: impl FnOnce(&mut View)) {
        if let Some(view) = self.views.get_mut(&who) {
            change(view);
        }
    }

    /// What is known of a replica.
    pub fn view(&self, who: Who) -> Option<&View> {
        self.views.get(&who)
    }

    /// Every replica that ever was.
    pub fn views(&self) -> impl Iterator<Item = (Who, &View)> {
        self.views.iter().map(|(who, view)| (*who, view))
    }

    /// The witness's present record.
    pub fn latest(&self) -> Option<&Record> {
        self.latest.as_ref()
    }

    /// Whether the witness recorded exactly this.
    pub fn is_recorded(&self, record: &Record) -> bool {
        self.records.get(&record.epoch).is_some_and(|of_epoch| of_epoch.contains(record))
    }

    /// When the faults ended.
    pub fn healed(&self) -> Option<u64> {
        self.healed
    }

    /// Whether the service at this place was struck by a fault.
    pub fn is_spoiled(&self, place: Place) -> bool {
        self.spoiled[place.slot()]
    }

    /// The replicas that run and are members by the witness's present record; one that has joined
    /// once it was told.
    pub fn members(&self) -> impl Iterator<Item = (Who, &View)> {
        self.views().filter(|(who, view)| {
            let member = |record: &Record| {
                let joins = record.origin == Joined && record.asker != who.place;
                record.members.has(who.place, who.incarnation) && (!joins || view.is_admitted)
            };
            view.is_alive && !view.is_out && self.latest.as_ref().is_some_and(member)
        })
    }

    /// Whether the release rule lets this replica, in this epoch, release an entry's outputs.
    ///
    /// # Errors
    /// What forbids it.
    pub fn may_release(&self, who: Who, record: &Record, index: Index) -> Result<(), String> {
        if !self.is_recorded(record) {
            return Err(format!("the witness never recorded epoch {} as {record:?}", record.epoch));
        }
        if !record.members.has(who.place, who.incarnation) {
            return Err(format!("{who} is no member of epoch {}", record.epoch));
        }
        let own = self.view(who).ok_or("it never started")?;
        let chain = own.chain(index).ok_or("it does not hold the entry")?;
        let digest = own.outputs_at(index).ok_or("it has not executed the entry")?;
        if self.journals && own.persisted < index {
            return Err("it has not persisted the entry".into());
        }
        if !own.is_together(who, record) {
            return self.may_release_alone(who, own, record, index);
        }
        let place = who.place.other();
        let incarnation = record.members.at(place).ok_or("the other place is empty")?;
        let peer = self.view(Who { place, incarnation }).ok_or("its peer never started")?;
        match (peer.chain(index), peer.outputs_at(index)) {
            (None, _) => Err("its peer does not hold the entry".into()),
            (Some(theirs), _) if theirs != chain => Err("its peer holds other entries".into()),
            (_, None) => Err("its peer has not executed the entry".into()),
            (_, Some(theirs)) if theirs != digest => Err("its peer computed otherwise".into()),
            _ if self.journals && peer.persisted < index => {
                Err("its peer has not persisted the entry".into())
            }
            _ => Ok(()),
        }
    }

    fn may_release_alone(
        &self,
        who: Who,
        own: &View,
        record: &Record,
        index: Index,
    ) -> Result<(), String> {
        let hosts = own.guest.is_some() && own.guest == record.members.at(who.place.other());
        match own.began(record) {
            Some(began) if hosts && index >= began => {
                Err(format!("from entry {began} on the joiner is to be a member"))
            }
            _ => Ok(()),
        }
    }

    /// Whether this replica is a member alone, or with one that has not been told yet.
    pub fn is_alone(&self, who: Who) -> bool {
        let view = self.views.get(&who);
        view.is_some_and(|view| view.record.is_some_and(|record| !view.is_together(who, &record)))
    }

    /// Whether two members serve together.
    pub fn is_duplex(&self) -> bool {
        let serves = |view: &View| matches!(view.standing, Standing::Serving { duplex: true, .. });
        self.members().filter(|(_, view)| serves(view)).count() == 2
    }
}

/// The name of an output that is an answer to a client.
fn answer_name(kind: &OutputKind) -> Option<AnswerName> {
    match kind {
        OutputKind::Opened { token, .. } => Some(AnswerName::Opened(*token)),
        OutputKind::Reply { session, number, .. } => Some(AnswerName::Reply(*session, *number)),
        OutputKind::Device { .. } => None,
    }
}

/// Name and content of an answer as a client gets it.
pub(super) fn answered(answer: &ClientAnswer) -> Option<(AnswerName, Digest)> {
    match answer {
        ClientAnswer::Opened { token, result } => {
            Some((AnswerName::Opened(*token), opened(result)))
        }
        ClientAnswer::Reply { session, number, result } => {
            Some((AnswerName::Reply(*session, *number), replied(result.as_ref())))
        }
        ClientAnswer::Welcome { .. } | ClientAnswer::Refused { .. } => None,
    }
}

/// Digest of an output's content: the judges' own, so that it does not share a mistake.
pub(super) fn content(kind: &OutputKind) -> Digest {
    match kind {
        OutputKind::Opened { result, .. } => opened(result),
        OutputKind::Reply { result, .. } => replied(result.as_ref()),
        OutputKind::Device { device, carrier, bytes } => Hasher::after(Digest::ZERO)
            .byte(3)
            .number(device.0.into())
            .bytes(format!("{carrier:?}").as_bytes())
            .bytes(bytes)
            .finish(),
    }
}

fn opened(result: &Result<SessionId, Refusal>) -> Digest {
    Digest::of(format!("{result:?}").as_bytes())
}

fn replied(result: Result<&bytes::Bytes, &Refusal>) -> Digest {
    match result {
        Ok(bytes) => Hasher::after(Digest::ZERO).byte(2).bytes(bytes).finish(),
        Err(refusal) => Digest::of(format!("{refusal:?}").as_bytes()),
    }
}
