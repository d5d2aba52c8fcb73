//! How often the peer's place has computed something else, and what follows from it (rule D5).
//!
//! The count lives with the survivor: it knows the other's place, whichever process runs there, so
//! the count outlives the processes that are removed.

use core::time::Duration;
use std::collections::VecDeque;

use super::io::{ReadmitRefused, Removals};
use super::replica::Replica;
use crate::event::{Event, FallBack, Suspicion};
use crate::ids::{Incarnation, MonotonicTime};
use crate::limits;
use crate::record::{Origin, Record};
use crate::wire::frames::PeerFrame;

/// The first wait before a process is taken in whose predecessors diverged twice; each further one
/// is four times as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What this process remembers of those at the other place.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// When it went on without one that computed something else, the oldest first; at most
    /// [`limits::DIVERGENCES`].
    diverged: VecDeque<MonotonicTime>,
    /// Whether no process is taken in there until an operator says so.
    held: bool,
    /// The last joiner of which was said that it has to wait, or is not taken in.
    told: Option<Incarnation>,
    pub(super) removals: Removals,
}

impl Repair {
    /// Counts one more process that computed something else. Whether its place is held from now on.
    fn count(&mut self, now: MonotonicTime) -> bool {
        self.diverged.push_back(now);
        while self.diverged.front().is_some_and(|at| now.since(*at) > limits::DIVERGENCE_WINDOW) {
            self.diverged.pop_front();
        }
        let newly = !self.held && self.diverged.len() >= limits::DIVERGENCES;
        self.held |= newly;
        newly
    }

    /// How long a joiner has to wait still.
    fn wait(&self, now: MonotonicTime) -> Duration {
        let Some((last, row)) = self.diverged.back().zip(self.diverged.len().checked_sub(2)) else {
            return Duration::ZERO;
        };
        let row = u32::try_from(row).unwrap_or(u32::MAX).min(8);
        (FIRST_WAIT * 4u32.pow(row)).saturating_sub(now.since(*last))
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// How many divergences count against the other place; `None` if there is nothing to forgive.
    fn counted(&self, now: MonotonicTime) -> Option<usize> {
        let newest = self.diverged.back()?;
        let counts = self.held || now.since(*newest) <= limits::DIVERGENCE_WINDOW;
        counts.then_some(self.diverged.len())
    }
}

impl Replica {
    /// A record is about to be entered: if it is the one with which this side goes on alone, it is
    /// counted why.
    pub(super) fn count_removal(&mut self, record: &Record) {
        if record.origin != Origin::Alone || record.asker != self.config.place {
            return;
        }
        let suspected = self.suspicion.map(|(suspicion, _)| suspicion);
        match suspected.filter(|_| self.divergence.is_none()) {
            Some(Suspicion::Silent) => self.repair.removals.silent += 1,
            Some(Suspicion::Slow) => self.repair.removals.slow += 1,
            Some(Suspicion::Dead) => self.repair.removals.dead += 1,
            None if self.divergence.is_none() => {}
            Some(Suspicion::Diverged) | None => self.count_divergence(),
        }
    }

    /// A joiner is left behind.
    pub(super) fn count_fall_back(&mut self, why: FallBack) {
        match why {
            FallBack::Diverged => self.count_divergence(),
            FallBack::Slow => self.repair.removals.slow += 1,
            FallBack::Silent => self.repair.removals.silent += 1,
            FallBack::Replaced | FallBack::Unreadable | FallBack::Witness => {}
        }
    }

    fn count_divergence(&mut self) {
        self.repair.removals.diverged += 1;
        if self.repair.count(self.now.mono) {
            let divergences = self.repair.diverged.len();
            self.event(Event::HeldForRepair { divergences, joiner: None });
        }
    }

    /// Whether a joiner is to be left alone: its place is held for repair, or it has to wait.
    pub(super) fn keeps_out(&mut self, joiner: Incarnation) -> bool {
        let wait = self.repair.wait(self.now.mono);
        if !self.repair.held && wait.is_zero() {
            return false;
        }
        let divergences = self.repair.diverged.len();
        let news = self.repair.told.replace(joiner) != Some(joiner);
        if self.repair.held {
            if news {
                self.event(Event::HeldForRepair { divergences, joiner: Some(joiner) });
            }
            self.refuse_for_repair(joiner, divergences);
        } else if news {
            self.event(Event::Postponed { joiner, divergences, wait });
        }
        true
    }

    fn refuse_for_repair(&mut self, joiner: Incarnation, divergences: usize) {
        let reason = format!(
            "the one at {} computed something else {divergences} times within {} minutes and is \
             held for repair. Find out why, then give the other one the command `readmit`",
            self.config.place.other(),
            limits::DIVERGENCE_WINDOW.as_secs() / 60
        );
        if let Some(link) = self.best_link(joiner) {
            self.send_on(link, PeerFrame::Refuse { reason });
        }
    }

    /// How often this process went on without one at the other place, by cause.
    pub fn removals(&self) -> Removals {
        self.repair.removals
    }

    /// Whether [`Command::Readmit`](super::io::Command::Readmit) would do anything now: how many
    /// divergences it would have forgotten.
    ///
    /// # Errors
    /// Why there is nothing to readmit.
    pub fn may_readmit(&self) -> Result<usize, ReadmitRefused> {
        let other = self.config.place.other();
        match self.repair.counted(self.now.mono) {
            Some(divergences) => Ok(divergences),
            None if self.membership.record().is_none() || self.is_joiner() => {
                Err(ReadmitRefused::NoMember { other })
            }
            None => Err(ReadmitRefused::NothingHeld { other }),
        }
    }

    /// An operator says that the other CoServer is in order again.
    pub(super) fn readmit(&mut self) {
        let Ok(divergences) = self.may_readmit() else { return };
        self.repair.diverged.clear();
        (self.repair.held, self.repair.told) = (false, None);
        self.event(Event::Readmitted { divergences });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(seconds * 1_000_000_000)
    }

    #[test]
    fn each_divergence_but_the_first_makes_the_next_process_wait_longer() {
        let mut repair = Repair::default();
        assert!(!repair.count(at(0)));
        assert_eq!(repair.wait(at(0)), Duration::ZERO);
        assert!(!repair.count(at(10)));
        assert_eq!(repair.wait(at(10)), Duration::from_secs(1));
        assert_eq!(repair.wait(at(11)), Duration::ZERO);
        assert!(!repair.count(at(20)));
        assert_eq!(repair.wait(at(21)), Duration::from_secs(3));
    }

    #[test]
    fn at_the_bound_the_place_is_held_once() {
        let mut repair = Repair::default();
        let newly: Vec<bool> =
            (0..=limits::DIVERGENCES as u64).map(|second| repair.count(at(second))).collect();
        assert_eq!(newly.iter().filter(|newly| **newly).count(), 1);
        assert!(newly[limits::DIVERGENCES - 1] && repair.is_held());
    }

    #[test]
    fn what_was_counted_can_be_forgiven_as_long_as_it_counts() {
        let mut repair = Repair::default();
        let apart = limits::DIVERGENCE_WINDOW.as_secs();
        assert_eq!(repair.counted(at(0)), None);
        repair.count(at(0));
        assert_eq!(repair.counted(at(apart)), Some(1));
        assert_eq!(repair.counted(at(apart + 1)), None);
        (1..limits::DIVERGENCES as u64).for_each(|second| _ = repair.count(at(second)));
        assert_eq!(repair.counted(at(9 * apart)), Some(limits::DIVERGENCES), "held until forgiven");
    }

    #[test]
    fn divergences_that_lie_far_apart_hold_nobody() {
        let mut repair = Repair::default();
        let apart = limits::DIVERGENCE_WINDOW.as_secs();
        assert!((0..20).all(|count| !repair.count(at(count * apart))));
    }
}
