//! The steps of a join, and who is to die at which of them.

use super::checkers::{Observation, Who};
use super::marks::Mark;
use super::world::{Due, World};
use crate::entry::EntryKind;
use crate::event::Event;
use crate::ids::{Index, ReplicaId};
use crate::record::{Origin, Record};
use crate::wire::frames::PeerFrame;

/// A step of a join, at the one or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The joiner has said what it has.
    Join,
    /// The member has said with what it begins.
    Offer,
    /// A piece of a checkpoint is on the joiner's disk.
    Chunk,
    /// The checkpoint is the joiner's own.
    Installed,
    /// The member sends what it orders.
    Attached,
    /// The member asks that both be recorded.
    Asked,
    /// Both are recorded.
    Recorded,
    /// The entry is ordered from which on both have to agree.
    Ordered,
    /// The joiner has that entry on its disk.
    Persisted,
    /// The member has told the joiner that it is one too.
    Admit,
    /// The joiner has that on its disk.
    Admitted,
}

impl Step {
    /// Names the trap in which the joiner dies at this step, or the member.
    pub(super) fn trap(self, member: bool) -> usize {
        self as usize + if member { STEPS.len() } else { 0 }
    }
}

/// Every step, and what it means that the joiner or the member died at it.
const STEPS: [(Step, Mark, Mark); 11] = [
    (Step::Join, Mark::JoinerDiedAtJoin, Mark::MemberDiedAtJoin),
    (Step::Offer, Mark::JoinerDiedAtOffer, Mark::MemberDiedAtOffer),
    (Step::Chunk, Mark::JoinerDiedAtChunk, Mark::MemberDiedAtChunk),
    (Step::Installed, Mark::JoinerDiedAtInstalled, Mark::MemberDiedAtInstalled),
    (Step::Attached, Mark::JoinerDiedAtAttached, Mark::MemberDiedAtAttached),
    (Step::Asked, Mark::JoinerDiedAtAsked, Mark::MemberDiedAtAsked),
    (Step::Recorded, Mark::JoinerDiedAtRecorded, Mark::MemberDiedAtRecorded),
    (Step::Ordered, Mark::JoinerDiedAtOrdered, Mark::MemberDiedAtOrdered),
    (Step::Persisted, Mark::JoinerDiedAtPersisted, Mark::MemberDiedAtPersisted),
    (Step::Admit, Mark::JoinerDiedAtAdmit, Mark::MemberDiedAtAdmit),
    (Step::Admitted, Mark::JoinerDiedAtAdmitted, Mark::MemberDiedAtAdmitted),
];

/// Who is to die at which step.
#[derive(Debug, Default)]
pub(super) struct KillPoints {
    set: Vec<(usize, bool)>,
    /// The entry with which the present join ends, and whose join it is.
    began: Option<(ReplicaId, Index)>,
}

impl KillPoints {
    /// At the next such step the joiner dies, or the member.
    pub(super) fn set(&mut self, which: usize) {
        self.set.push((which % STEPS.len(), (which / STEPS.len()).is_multiple_of(2)));
    }

    pub(super) fn clear(&mut self) {
        self.set.clear();
    }

    /// Whether it is a step of a join, and whose.
    fn step(&mut self, seen: &Observation<'_>) -> Option<(Step, ReplicaId)> {
        let joins = |record: &Record| record.origin == Origin::Joined;
        match *seen {
            Observation::Event { who, event: Event::Attached { .. } } => {
                Some((Step::Attached, who.place.other()))
            }
            Observation::Event { who, event: Event::Asked { next } } if joins(next) => {
                Some((Step::Asked, who.place.other()))
            }
            Observation::Recorded { record, .. } if joins(record) => {
                Some((Step::Recorded, record.asker.other()))
            }
            Observation::Appended { who, entry } => match entry.kind {
                EntryKind::Membership { record } if joins(&record) => {
                    let joiner = record.asker.other();
                    self.began = Some((joiner, entry.index));
                    (who.place == record.asker).then_some((Step::Ordered, joiner))
                }
                _ => None,
            },
            Observation::Persisted { who, index } => {
                let (joiner, began) = self.began?;
                (who.place == joiner && index >= began).then_some((Step::Persisted, joiner))
            }
            Observation::Remembered { who, membership } => {
                let record = membership.record.filter(joins)?;
                (record.asker != who.place).then_some((Step::Admitted, who.place))
            }
            _ => None,
        }
    }
}

impl World {
    /// Something was seen that may be a step of a join.
    pub(super) fn watch_steps(&mut self, seen: &Observation<'_>) {
        if let Some((step, joiner)) = self.kill_points.step(seen) {
            self.at_step(step, joiner);
        }
    }

    /// A frame leaves that may be one.
    pub(super) fn watch_frames(&mut self, who: Who, frame: &PeerFrame) {
        match frame {
            PeerFrame::Join { .. } => self.at_step(Step::Join, who.place),
            PeerFrame::Offer { .. } => self.at_step(Step::Offer, who.place.other()),
            PeerFrame::Admit { .. } => self.at_step(Step::Admit, who.place.other()),
            PeerFrame::Unavailable => self.reach(Mark::PiecesGone),
            _ => {}
        }
    }

    /// A join has come to this step: whoever is to die at it does.
    pub(super) fn at_step(&mut self, step: Step, joiner: ReplicaId) {
        let Some(at) = self.kill_points.set.iter().position(|(which, _)| STEPS[*which].0 == step)
        else {
            return;
        };
        let (which, dies) = self.kill_points.set.swap_remove(at);
        let (_, as_joiner, as_member) = STEPS[which];
        let (place, mark) = if dies { (joiner, as_joiner) } else { (joiner.other(), as_member) };
        self.trace.say(self.at, || format!("{place} is to die at {step:?} of {joiner}"));
        let life = self.servers[place.slot()].life;
        if self.servers[place.slot()].is_running() && self.healed.is_none() {
            self.reach(mark);
            self.queue.put(self.at, Due::Kill { place, life });
        }
    }
}
