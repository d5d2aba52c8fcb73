//! Timers: many deadlines of a service on the engine's one wake-up.

use core::time::Duration;
use std::collections::BTreeMap;

use lockstep::ids::LogTime;
use rkyv::{Archive, Deserialize, Serialize};

use crate::limits;

/// What a timer means to the service that set it; comes back when it fires.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
#[rkyv(derive(Debug))]
pub struct Token(pub u64);

/// A timer that was set. Never reused, so a late `cancel` harms nothing.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[rkyv(derive(Debug, PartialEq, Eq, PartialOrd, Ord))]
pub struct TimerId {
    /// Nanoseconds of log time; a plain number, so that the archived form has an order too.
    at: u64,
    number: u64,
}

impl TimerId {
    /// The deadline, by log time.
    pub fn deadline(self) -> LogTime {
        LogTime(self.at)
    }
}

/// A timer cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimerError {
    /// The bound is reached.
    #[error("{} timers are set: cancel some, or let one serve many deadlines", limits::TIMERS)]
    TooMany,
}

/// The timers that are set, in the order in which they fire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimerTable {
    set: BTreeMap<TimerId, Token>,
    next: u64,
}

impl TimerTable {
    fn set(&mut self, at: LogTime, token: Token) -> Result<TimerId, TimerError> {
        if self.set.len() >= limits::TIMERS {
            return Err(TimerError::TooMany);
        }
        self.next += 1;
        let id = TimerId { at: at.0, number: self.next };
        self.set.insert(id, token);
        Ok(id)
    }

    /// When the next one fires.
    pub(crate) fn next_deadline(&self) -> Option<LogTime> {
        self.set.first_key_value().map(|(id, _)| id.deadline())
    }

    /// Takes the next one out if it is due.
    pub(crate) fn take_due(&mut self, now: LogTime) -> Option<(TimerId, Token)> {
        let first = self.set.first_entry()?;
        (first.key().deadline() <= now).then(|| first.remove_entry())
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    pub(crate) fn counter(&self) -> u64 {
        self.next
    }

    pub(crate) fn rows(&self) -> Vec<(TimerId, Token)> {
        self.set.iter().map(|(id, token)| (*id, *token)).collect()
    }

    pub(crate) fn from_rows(next: u64, rows: Vec<(TimerId, Token)>) -> Option<Self> {
        let len = rows.len();
        let set: BTreeMap<_, _> = rows.into_iter().collect();
        let sound = set.len() == len && set.keys().all(|id| id.number <= next);
        sound.then_some(Self { set, next })
    }
}

/// Sets and cancels timers; from [`Io::timers`](crate::Io::timers).
///
/// Timers fire in the order of their deadlines, and those of one deadline in the order in which
/// they were set. Each fires in a step of its own, before any input of a later time. A deadline
/// that is not after [`Io::now`](crate::Io::now) fires right after the present step. For several
/// timers with one deadline, and for those that were overtaken, [`Io::now`](crate::Io::now) says a
/// few nanoseconds later than the deadline.
///
/// Timers that fell due while no process ran fire late, each once, after
/// [`Service::on_resumed`](crate::Service::on_resumed). If all processes had ended, they do not
/// fire before the devices stand.
#[derive(Debug)]
pub struct Timers<'a> {
    pub(crate) table: &'a mut TimerTable,
    pub(crate) now: LogTime,
}

impl Timers<'_> {
    /// Fires once, this much later.
    ///
    /// # Errors
    /// If [`limits::TIMERS`] are set.
    pub fn after(&mut self, span: Duration, token: Token) -> Result<TimerId, TimerError> {
        self.at(self.now.plus(span), token)
    }

    /// Fires once, at this log time.
    ///
    /// # Errors
    /// If [`limits::TIMERS`] are set.
    pub fn at(&mut self, at: LogTime, token: Token) -> Result<TimerId, TimerError> {
        self.table.set(at, token)
    }

    /// Cancels a timer; says whether it was still set. After `true` it does not fire.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.table.set.remove(&timer).is_some()
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_by_deadline_then_by_creation() {
        let mut table = TimerTable::default();
        let mut timers = Timers { table: &mut table, now: LogTime(100) };
        timers.at(LogTime(300), Token(3)).unwrap();
        timers.at(LogTime(200), Token(1)).unwrap();
        timers.at(LogTime(200), Token(2)).unwrap();
        let cancelled = timers.after(Duration::from_nanos(50), Token(0)).unwrap();
        assert!(timers.cancel(cancelled));
        assert!(!timers.cancel(cancelled));
        assert_eq!(table.next_deadline(), Some(LogTime(200)));
        assert_eq!(table.take_due(LogTime(199)), None);
        let mut fired = Vec::new();
        while let Some((_, token)) = table.take_due(LogTime(300)) {
            fired.push(token.0);
        }
        assert_eq!(fired, [1, 2, 3]);
    }

    #[test]
    fn one_timer_too_many_is_refused() {
        let mut table = TimerTable::default();
        let mut timers = Timers { table: &mut table, now: LogTime(0) };
        for number in 0..limits::TIMERS as u64 {
            timers.at(LogTime(number), Token(number)).unwrap();
        }
        assert_eq!(timers.at(LogTime(0), Token(0)), Err(TimerError::TooMany));
    }
}
