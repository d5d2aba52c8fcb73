//! The operator, who looks after a pair that cannot go on by itself once the faults have ended.

use super::checkers::{at_odds, forsaken, is_unaware, stuck};
use super::marks::Mark;
use super::world::{Due, World};
use crate::ids::ReplicaId;
use crate::proto::{Command, DivergencePolicy};

/// What the operator has done.
#[derive(Debug, Default)]
pub(super) struct Operator {
    has_stopped: bool,
    /// One of two that panicked at different entries was stopped: the other is to be, too.
    stops_other: bool,
    has_begun_anew: bool,
}

impl World {
    /// Where a divergence is left to operators, one stops the replica that panicked, or either.
    /// Where both panicked, and not at the same entry, neither goes on by itself whatever the
    /// policy: one is stopped, and then the other.
    pub(super) fn look_after(&mut self) {
        let Operator { has_stopped, stops_other, .. } = self.operator;
        if has_stopped && !stops_other {
            return;
        }
        let at_odds = at_odds(self.checkers.observed()).filter(|_| !has_stopped);
        let stopped = match at_odds {
            Some([(one, true), (_, true)]) => {
                self.operator.stops_other = true;
                one
            }
            Some(_) if self.options.divergence != DivergencePolicy::Hold => return,
            Some([(one, true), _]) => one,
            Some([_, (two, true)]) => two,
            Some([(one, _), (two, _)]) => self.rng.pick(&[one, two]),
            None => match stuck(self.checkers.observed()) {
                Some(stuck) => {
                    self.operator.stops_other = false;
                    stuck
                }
                None => return,
            },
        };
        self.operator.has_stopped = true;
        self.reach(Mark::Operator);
        self.trace.say(self.at, || format!("the operator stops {stopped}"));
        self.command(stopped.place, Command::Stop);
    }

    /// Where no process can go on, and a disk has everything, the operator stops both and begins a
    /// new lineage at the witness that this disk names. Then the operator has that disk's process
    /// adopt it. The other begins with an empty disk (rule J8).
    pub(super) fn begin_anew(&mut self) {
        let observed = self.checkers.observed();
        if self.operator.has_begun_anew || !forsaken(observed) {
            return;
        }
        let whole = ReplicaId::BOTH.into_iter().filter(|place| observed.has_everything(*place));
        // The one that was a member last has what only it released, however much the other holds.
        let last = |place: ReplicaId| {
            let record = observed.remembered(place).record;
            (record.map(|record| (record.lineage, record.epoch)), observed.held(place))
        };
        let Some(place) = whole.max_by_key(|place| last(*place)) else {
            if is_unaware(observed) {
                self.enrol_again();
            }
            return;
        };
        // The process names in its status the witness that it asks. Its log may have moved on from
        // the one that its membership names.
        let asked = self.servers[place.slot()].process.as_ref().map(|process| process.slot);
        let slot = asked.unwrap_or(observed.remembered(place).witness);
        self.operator.has_begun_anew = true;
        self.reach(Mark::Adopted);
        self.trace.say(self.at, || format!("the operator has {place} begin a new lineage"));
        self.end_both();
        self.lose_disk(place.other());
        self.begin_lineage(slot);
        self.server(place).adopts = true;
        self.restart_both(place);
    }

    /// What the witness had of a pair, or what it had granted, was lost before a process heard of
    /// it. There is nothing to give up, and no other process that could tell it. What was asked for
    /// is on the disks, so that both are discarded (rule J8).
    fn enrol_again(&mut self) {
        self.operator.has_begun_anew = true;
        self.trace.say(self.at, || "the operator enrols the pair again".to_owned());
        self.end_both();
        ReplicaId::BOTH.into_iter().for_each(|place| self.lose_disk(place));
        self.begin_lineage(0);
        self.restart_both(ReplicaId::A);
    }

    fn end_both(&mut self) {
        for place in ReplicaId::BOTH {
            self.end_server(place, false);
        }
    }

    fn restart_both(&mut self, first: ReplicaId) {
        for (at, place) in [(self.at, first), (self.at + 1_000_000, first.other())] {
            self.queue.put(at, Due::Restart { place });
        }
    }
}
