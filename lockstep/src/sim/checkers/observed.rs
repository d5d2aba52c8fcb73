//! The checkers' own books: who holds and has executed what, and what the witness recorded.

use std::collections::BTreeMap;

use super::Observation;
use super::enrolled::{Enrolled, Ordered};
pub(super) use super::view::{AnswerName, View};
use crate::digest::{Digest, Hasher};
use crate::entry::EntryKind;
use crate::event::{Event, StopCause};
use crate::ids::{Incarnation, Index, ReplicaId, SessionId};
use crate::output::{OutputKind, Refusal};
use crate::proto::io::{DivergencePolicy, Membership, Recovered, Standing};
use crate::record::Origin::Joined;
use crate::record::Record;
use crate::sim::options::Durability;
use crate::unit::UnitConfig;
use crate::wire::frames::ClientAnswer;

/// A replica: the process at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The place of the process.
    pub place: ReplicaId,
    /// The incarnation of the process.
    pub incarnation: Incarnation,
}

impl core::fmt::Display for Who {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{:04x}", self.place, self.incarnation.0 & 0xffff)
    }
}

/// What has been observed of the whole run, for all checkers.
#[derive(Debug, Default)]
pub struct ObservedState {
    views: BTreeMap<Who, View>,
    /// The newest process at each place.
    newest: [Option<Who>; 2],
    enrolled: Enrolled,
    completed: Vec<u64>,
    /// The last entry of which an output was released, with the running digest there.
    released: (Index, Digest),
    healed: Option<u64>,
    spoiled: [bool; 2],
    disks: [Membership; 2],
    /// What was being written there, and may be on the disk or not.
    unsure: [Option<Membership>; 2],
    journals: bool,
    holds: bool,
    was_stopped: bool,
    /// The bounds of the units.
    bounds: UnitConfig,
}

impl ObservedState {
    /// The books of a pair with this policy, before anything was seen.
    pub fn new(policy: DivergencePolicy, durability: Durability, bounds: UnitConfig) -> Self {
        let journals = durability == Durability::Journal;
        Self { holds: policy == DivergencePolicy::Hold, journals, bounds, ..Self::default() }
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
    pub fn see(&mut self, now: u64, seen: &Observation<'_>) {
        match *seen {
            Observation::Started { who } => {
                self.views.insert(who, View::new(self.bounds.clone()));
                self.newest[who.place.slot()] = Some(who);
            }
            Observation::Ended { who } => self.with(who, |view| view.is_alive = false),
            Observation::Appended { who, entry } => {
                self.with(who, |view| view.append(entry, now));
                if let EntryKind::Witness { slot, record } = entry.kind {
                    self.enrolled.order(entry.index, slot, record);
                }
            }
            Observation::Executed { who, executed } => {
                self.with(who, |view| view.execute(executed, now))
            }
            Observation::Standing { who, standing } => {
                self.with(who, |view| view.standing = standing);
            }
            Observation::Stopped { who, cause } => {
                self.was_stopped |= *cause == StopCause::Asked;
                self.with(who, |view| {
                    view.is_out = true;
                    view.gave_up = *cause != StopCause::Asked;
                });
            }
            Observation::Persisted { who, index } => {
                self.with(who, |view| view.persisted = view.persisted.max(index));
            }
            Observation::Remembered { who, membership } => {
                self.disks[who.place.slot()] = membership.clone();
                self.unsure[who.place.slot()] = None;
            }
            Observation::Unsure { place, membership } => {
                self.unsure[place.slot()].get_or_insert_with(|| membership.clone());
            }
            Observation::Found { place, membership } => {
                let unsure = self.unsure[place.slot()].take();
                let written = unsure.filter(|unsure| unsure == membership);
                written.into_iter().for_each(|written| self.disks[place.slot()] = written);
            }
            Observation::Wiped { place } => {
                self.disks[place.slot()] = Membership::default();
                self.unsure[place.slot()] = None;
            }
            Observation::Restored { who, recovered } => self.restore(who, recovered),
            Observation::Truncated { who, after } => {
                let shorter = self.views.get(&who).map(|view| view.prefix(after));
                self.with(who, |view| {
                    view.persisted = view.persisted.min(after);
                    shorter.into_iter().for_each(|shorter| view.take_over(shorter));
                });
            }
            Observation::Event { who, event } => self.with(who, |view| match event {
                Event::Epoch { record, .. } => {
                    view.record = Some(*record);
                    view.is_admitted = false;
                }
                Event::Hosting { joiner } => view.joiner = Some(*joiner),
                Event::FellBack { .. } => view.joiner = None,
                Event::Admitting { .. } => {
                    view.joiner = None;
                    view.is_admitted = true;
                }
                Event::Admitted { record, .. } => {
                    view.record = Some(*record);
                    view.is_admitted = true;
                }
                Event::Diverged { .. } | Event::EntriesDiffer { .. } => view.diverged = true,
                _ => {}
            }),
            Observation::Recorded { slot, record } => self.enrolled.record(slot, *record),
            Observation::Forgotten { slot } => self.enrolled.forget(slot),
            Observation::Released { who, name, .. } if name.index > self.released.0 => {
                let log_digest = self.views.get(&who).and_then(|view| view.chain(name.index));
                log_digest
                    .into_iter()
                    .for_each(|log_digest| self.released = (name.index, log_digest));
            }
            Observation::Answered { who, answer } => {
                let at = answered(answer).and_then(|(name, digest)| {
                    let view = self.views.get(&who)?;
                    // Refused, and asked for again, it may have been computed twice: only the first
                    // is known to be out.
                    let mut given = view.answers.get(&name)?.iter();
                    let (index, _) = *given.find(|(_, own)| *own == digest)?;
                    Some((index, view.chain(index)?))
                });
                at.filter(|(index, _)| *index > self.released.0)
                    .into_iter()
                    .for_each(|at| self.released = at);
            }
            Observation::Completed { id, .. } => self.completed.push(id),
            Observation::Spoiled { place } => self.spoiled[place.slot()] = true,
            Observation::Healed => self.healed = Some(now),
            _ => {}
        }
        let followed = self.enrolled.ordered().find(|ordered| self.is_followed(ordered));
        followed.into_iter().for_each(|moved| self.enrolled.follow(moved));
    }

    /// Whether a move counts: every member that it names has had it on disk (rule W2). Either the
    /// named process had it, whatever became of that process since, or the one that took its
    /// place had.
    fn is_followed(&self, ordered: &Ordered) -> bool {
        ReplicaId::BOTH.into_iter().all(|place| {
            let Some(incarnation) = ordered.record.members.at(place) else { return true };
            let named = Who { place, incarnation };
            let newest = self.newest[place.slot()];
            [Some(named), newest].into_iter().flatten().any(|who| self.has_move(who, ordered))
        })
    }

    /// Whether this process has the move, and followed the record that it renews when it got it, or
    /// would by what its disk says.
    fn has_move(&self, who: Who, ordered: &Ordered) -> bool {
        let Ordered { index, slot, record } = *ordered;
        let Some(view) = self.views.get(&who) else { return false };
        let followed = view.record.or(self.disks[who.place.slot()].record);
        let renews = followed.is_some_and(|from| record.renews(&from) || record == from);
        renews && view.has(index, &EntryKind::Witness { slot, record }, self.journals)
    }

    fn restore(&mut self, who: Who, recovered: &Recovered) {
        let (index, log_digest) = (recovered.history.index, recovered.history.log_digest);
        let source = self.views.values().find(|view| view.has_executed(index, log_digest));
        let Some(restored) = source.map(|view| view.prefix(index)) else { return };
        self.with(who, |view| {
            view.take_over(restored);
            view.persisted = Index(index.0 + recovered.tail.len() as u64);
        });
    }

    /// Whether a replica had this log, and computed this from it.
    pub fn is_known(&self, index: Index, log_digest: Digest, outputs: Digest) -> bool {
        index == Index(0)
            || self.views.values().any(|view| {
                view.chain(index) == Some(log_digest) && view.outputs_at(index) == Some(outputs)
            })
    }

    /// What the disk at this place says of its owner's membership.
    pub fn remembered(&self, place: ReplicaId) -> &Membership {
        &self.disks[place.slot()]
    }

    /// What the witnesses have, and which of them counts.
    pub(super) fn enrolled(&self) -> &Enrolled {
        &self.enrolled
    }

    /// Whether the witness that counts has the present record.
    pub fn is_enrolled(&self) -> bool {
        self.enrolled.is_known()
    }

    /// Whether everyone that is a member by its own word is one by the present record.
    pub fn is_unanimous(&self) -> bool {
        let alive = self.views.values().filter(|view| view.is_alive && !view.is_out);
        let mut own = alive.filter_map(|view| view.record);
        own.all(|own| Some(&own) == self.latest())
    }

    /// Whether the process at this place, which runs, has everything that was acknowledged or
    /// released, on its disk. A disk without entries has nothing that could be adopted (rule J8).
    pub fn has_everything(&self, place: ReplicaId) -> bool {
        let view = self.newest[place.slot()].and_then(|who| self.views.get(&who));
        let (index, log_digest) = self.released;
        let has_released = |view: &View| index == Index(0) || view.chain(index) == Some(log_digest);
        let has_all = |view: &View| {
            has_released(view) && self.completed.iter().all(|id| view.effect(*id).is_some())
        };
        let on_disk =
            |view: &View| self.journals && view.held() > Index(0) && view.persisted >= view.held();
        view.is_some_and(|view| view.is_alive && on_disk(view) && has_all(view))
    }

    /// How much the process at this place holds.
    pub fn held(&self, place: ReplicaId) -> Index {
        let view = self.newest[place.slot()].and_then(|who| self.views.get(&who));
        view.map_or(Index(0), View::held)
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

    /// The present record, of the witness that counts.
    pub fn latest(&self) -> Option<&Record> {
        self.enrolled.latest()
    }

    /// Whether the witness that counts recorded exactly this.
    pub fn is_recorded(&self, record: &Record) -> bool {
        self.enrolled.is_recorded(record)
    }

    /// When the faults ended.
    pub fn healed(&self) -> Option<u64> {
        self.healed
    }

    /// Whether the service at this place was struck by a fault.
    pub fn is_spoiled(&self, place: ReplicaId) -> bool {
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
            view.is_alive && !view.is_out && self.latest().is_some_and(member)
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
        let log_digest = own.chain(index).ok_or("it does not hold the entry")?;
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
            (Some(theirs), _) if theirs != log_digest => Err("its peer holds other entries".into()),
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
        let hosts = own.joiner.is_some() && own.joiner == record.members.at(who.place.other());
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
pub(super) fn answer_name(kind: &OutputKind) -> Option<AnswerName> {
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
        ClientAnswer::Welcome { .. }
        | ClientAnswer::NotYet { .. }
        | ClientAnswer::PeerBack { .. }
        | ClientAnswer::Refused { .. } => None,
    }
}

/// Digest of an output's content: the checkers' own, so that it does not share a mistake.
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
