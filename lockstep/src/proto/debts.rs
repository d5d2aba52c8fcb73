//! What one side owes the other, and since when it has not got on with it (rule S5).
//!
//! Every duty has a clock of its own. A disk that hangs is therefore noticed however many entries
//! are received and executed meanwhile.

use core::time::Duration;

use crate::event::Duty;
use crate::ids::{Index, MonotonicTime, OriginNumber};

/// How far a member is with its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) last_index: Index,
    pub(super) executed: Index,
    pub(super) persisted: Index,
}

impl Work {
    /// The last entry with which the member is done. The other owes it from here on, not before.
    pub(super) fn done(&self) -> Index {
        self.executed.min(self.persisted)
    }
}

/// The clock of one duty.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// How far the debtor was when last looked at.
    at: u64,
    /// Since when it has owed something and not got any further.
    since: Option<MonotonicTime>,
}

impl Clock {
    fn look(&mut self, owes: bool, at: u64, now: MonotonicTime) {
        if !owes {
            self.since = None;
        } else if at != self.at || self.since.is_none() {
            self.since = Some(now);
        }
        self.at = at;
    }

    /// This much of the time since it was started does not count.
    fn discount(&mut self, span: Duration, now: MonotonicTime) {
        self.since = self.since.map(|since| since.plus(span).min(now));
    }
}

/// The clocks of one debtor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Debts {
    hold: Clock,
    execute: Clock,
    persist: Clock,
    order: Clock,
    looked: MonotonicTime,
}

impl Debts {
    /// The creditor is done with every entry up to `due`; the debtor is so far.
    pub(super) fn look(&mut self, due: Index, debtor: Work, now: MonotonicTime) {
        self.hold.look(debtor.last_index < due, debtor.last_index.0, now);
        self.execute.look(debtor.executed < due, debtor.executed.0, now);
        self.persist.look(debtor.persisted < due, debtor.persisted.0, now);
    }

    /// The creditor waits for its input of this number to be ordered, if for any. While it has
    /// entries to finish itself, those may be what fills the window: that time does not count.
    pub(super) fn look_at_order(
        &mut self,
        first: Option<OriginNumber>,
        indebted: bool,
        now: MonotonicTime,
    ) {
        let span = now.since(core::mem::replace(&mut self.looked, now));
        if indebted {
            self.order.discount(span, now);
        }
        let at = first.map_or(self.order.at, |first| first.0);
        self.order.look(first.is_some(), at, now);
    }

    /// The debtor, or what it is heard by, did not run for this long (rule S3).
    pub(super) fn discount(&mut self, span: Duration, now: MonotonicTime) {
        for clock in self.all_mut() {
            clock.discount(span, now);
        }
    }

    /// Nothing that was owed so far counts.
    pub(super) fn restart(&mut self, now: MonotonicTime) {
        for clock in self.all_mut() {
            clock.since = clock.since.map(|_| now);
        }
    }

    /// The role of the sequencer changed: inputs did not wait for this one so far.
    pub(super) fn restart_order(&mut self, now: MonotonicTime) {
        self.order.since = self.order.since.map(|_| now);
    }

    /// The duty with which the debtor has not got on for longest, if that is at least so long.
    pub(super) fn overdue(&self, limit: Duration, now: MonotonicTime) -> Option<(Duty, Duration)> {
        let duties = [Duty::Hold, Duty::Execute, Duty::Persist, Duty::Order];
        let spans = duties.into_iter().filter_map(|duty| Some((duty, self.standstill(duty, now)?)));
        spans.filter(|(_, span)| *span >= limit).max_by_key(|(_, span)| *span)
    }

    /// Whether the debtor has not got on with this for so long.
    pub(super) fn is_overdue(&self, duty: Duty, limit: Duration, now: MonotonicTime) -> bool {
        self.standstill(duty, now).is_some_and(|span| span >= limit)
    }

    /// For how long the debtor has not got on with this, if it owes it.
    fn standstill(&self, duty: Duty, now: MonotonicTime) -> Option<Duration> {
        let clock = match duty {
            Duty::Hold => self.hold,
            Duty::Execute => self.execute,
            Duty::Persist => self.persist,
            Duty::Order => self.order,
        };
        Some(now.since(clock.since?))
    }

    fn all_mut(&mut self) -> [&mut Clock; 4] {
        [&mut self.hold, &mut self.execute, &mut self.persist, &mut self.order]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(seconds * 1_000_000_000)
    }

    fn work(last_index: u64, executed: u64, persisted: u64) -> Work {
        Work {
            last_index: Index(last_index),
            executed: Index(executed),
            persisted: Index(persisted),
        }
    }

    #[test]
    fn progress_of_one_duty_does_not_hide_the_standstill_of_another() {
        let stuck: [fn(u64) -> Work; 3] = [
            |second| work(9, 9 + second, 9 + second),
            |second| work(9 + second, 9, 9 + second),
            |second| work(9 + second, 9 + second, 9),
        ];
        let duties = [Duty::Hold, Duty::Execute, Duty::Persist];
        for (duty, progress) in duties.into_iter().zip(stuck) {
            let mut debts = Debts::default();
            for second in 0..2 {
                debts.look(Index(100), progress(second), at(second));
                assert_eq!(debts.overdue(LIMIT, at(second)), None);
            }
            debts.look(Index(100), progress(2), at(2));
            let overdue = debts.overdue(LIMIT, at(2));
            assert_eq!(overdue.map(|(duty, _)| duty), Some(duty));
        }
    }

    #[test]
    fn an_entry_is_owed_from_when_the_creditor_is_done_with_it() {
        let mut debts = Debts::default();
        debts.look(Index(5), work(9, 5, 5), at(0));
        debts.look(Index(9), work(9, 5, 5), at(10));
        assert_eq!(debts.overdue(LIMIT, at(11)), None);
        assert!(debts.overdue(LIMIT, at(12)).is_some());
    }

    #[test]
    fn what_is_settled_and_owed_anew_counts_anew() {
        let mut debts = Debts::default();
        debts.look(Index(5), work(5, 4, 4), at(0));
        debts.look(Index(5), work(5, 5, 5), at(1));
        debts.look(Index(6), work(5, 5, 5), at(1));
        assert_eq!(debts.overdue(LIMIT, at(2)), None);
    }

    #[test]
    fn inputs_age_only_while_their_owner_has_nothing_left_to_do_itself() {
        let (mut debts, first) = (Debts::default(), Some(OriginNumber(3)));
        debts.look_at_order(first, true, at(0));
        debts.look_at_order(first, true, at(10));
        assert_eq!(debts.overdue(LIMIT, at(10)), None);
        debts.look_at_order(first, false, at(11));
        assert_eq!(debts.overdue(LIMIT, at(11)), None);
        debts.look_at_order(first, false, at(12));
        assert!(debts.overdue(LIMIT, at(12)).is_some());
    }
}
