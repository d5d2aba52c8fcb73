//! What this replica waits for, and when it says so: not only changes are to be heard of, but also
//! that nothing changes.

use core::time::Duration;

use super::debts::Work;
use super::replica::Replica;
use crate::event::{Duty, Event, Reminder, Wait};
use crate::ids::MonotonicTime;
use crate::record::Members;

/// A disk or a service that has had something to do for so long and not got on with it hangs.
const HANGING: Duration = Duration::from_secs(1);

/// A wait that goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    wait: Wait,
    since: MonotonicTime,
    /// When it is said.
    reminder: Reminder<MonotonicTime>,
}

impl Replica {
    /// What it waits for, and for how long it has.
    pub(super) fn waiting_for(&self) -> Option<(Wait, Duration)> {
        self.waiting.map(|waiting| (waiting.wait, self.now.mono.since(waiting.since)))
    }

    /// Takes note of what it waits for, and says it when it is due.
    pub(super) fn on_wait_due(&mut self) {
        let now = self.now.mono;
        let last_index = self.log.last_index();
        // What the service was not given yet is not its to do.
        let executed =
            if self.log.executed() < self.handed_out { self.log.executed() } else { last_index };
        let work = Work { last_index, executed, persisted: self.persisted };
        self.own_work.look(last_index, work, now);
        let Some(wait) = self.find_wait() else {
            self.waiting = None;
            return;
        };
        let new = || Waiting { wait, since: now, reminder: Reminder::later(now) };
        let waiting = self.waiting.get_or_insert_with(new);
        if waiting.wait != wait {
            (waiting.wait, waiting.since) = (wait, now);
            waiting.reminder.restart(now);
        }
        if waiting.reminder.is_due(now) {
            let span = now.since(waiting.since);
            self.event(Event::WaitsFor { wait, span });
        }
    }

    fn find_wait(&self) -> Option<Wait> {
        if self.membership.record().is_some() && self.join.is_none() {
            self.find_wait_of_member()
        } else {
            Some(self.find_wait_of_newcomer())
        }
    }

    pub(super) fn find_wait_of_newcomer(&self) -> Wait {
        if self.start.recovering {
            return Wait::Restore;
        }
        match &self.join {
            Some(join) if self.hears(join.donor) => return Wait::Join,
            // It has what it was sent so far, and only the member knows how far that goes.
            Some(_) => return self.find_wait_for_member(),
            None => {}
        }
        if self.is_met_by_stranger() {
            return Wait::Incompatible;
        }
        if self.disbelieves_clock() {
            return Wait::Clock;
        }
        if self.enrolment.asks_nobody() {
            return Wait::UncertainMove;
        }
        let meets = self.meets_other();
        match (meets, self.witness_up) {
            (false, false) => return Wait::OtherAndWitness,
            (true, false) => return Wait::Witness,
            (_, true) => {}
        }
        let unknown = self.membership.present().is_none() && self.membership.vacant().is_none();
        if unknown || self.membership.open().is_some() {
            return Wait::WitnessAnswer;
        }
        match (meets, self.membership.claimable().is_some()) {
            (true, true) => Wait::OtherFirst,
            (true, false) => Wait::Member,
            (false, _) if self.membership.vacant().is_some() => Wait::Other,
            (false, true) => Wait::Other,
            (false, false) => self.find_wait_for_member(),
        }
    }

    /// The process that may go on by the record is not this one, and is not there.
    fn find_wait_for_member(&self) -> Wait {
        let (here, there) = (self.config.place, self.config.place.other());
        let alone = |members: Members| match (members.at(here), members.at(there)) {
            (None, Some(_)) => Wait::LastMember(there),
            (Some(_), None) => Wait::OwnDisk,
            _ => Wait::Member,
        };
        self.membership.present().map_or(Wait::Member, |record| alone(record.members))
    }

    fn find_wait_of_member(&self) -> Option<Wait> {
        if self.leaving.is_some() {
            return Some(Wait::Leave);
        }
        if self.stuck_since.is_some() {
            return Some(match (self.may_go_alone(), self.witness_up) {
                (false, _) => Wait::Operator,
                _ if self.enrolment.asks_nobody() => Wait::UncertainMove,
                (true, false) => Wait::Witness,
                (true, true) => Wait::WitnessAnswer,
            });
        }
        if let Some(hanging) = self.find_own_hanging() {
            return Some(hanging);
        }
        if self.joiner.is_some() || self.is_confirming_joiner() {
            return Some(Wait::Joiner);
        }
        if self.window_full_since.is_some() && self.is_duplex() {
            return Some(Wait::Peer);
        }
        match (self.is_duplex(), self.witness_up) {
            (false, false) => Some(Wait::OtherAndWitness),
            (false, true) => Some(Wait::Other),
            (true, false) => Some(Wait::Witness),
            (true, true) => self.find_spare_missing(),
        }
    }

    /// What a pair that serves goes without: one more fault of that kind would be felt.
    fn find_spare_missing(&self) -> Option<Wait> {
        if let Some(down) = self.links.iter().find(|link| !link.up) {
            let is_reached = self.links.iter().any(|link| link.up);
            return Some(if is_reached { Wait::Link(down.id) } else { Wait::Other });
        }
        (self.config.witnesses > 1 && !self.spare_up).then_some(Wait::SpareWitness)
    }

    /// The replica's own disk or service, if that has stood still for some time with something
    /// to do.
    fn find_own_hanging(&self) -> Option<Wait> {
        let hangs = |duty| self.own_work.is_overdue(duty, HANGING, self.now.mono);
        if hangs(Duty::Persist) {
            Some(Wait::OwnStorage)
        } else if hangs(Duty::Execute) && !self.log.panicked() {
            Some(Wait::OwnService)
        } else {
            None
        }
    }
}
