//! When something that goes on is said: once, and then at growing intervals.

use core::ops::Add;
use core::time::Duration;

use crate::limits::{SAID_FIRST, SAID_MOST};

/// When it is said next, on a clock `T` (`MonotonicTime`, or `Instant` outside of the cores): 3, 9,
/// 21 s after its beginning and so on, at least every [`SAID_MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reminder<T> {
    due: T,
    interval: Duration,
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Reminder<T> {
    /// Reminds of what is said at once as well.
    pub fn at_once(now: T) -> Self {
        Self { due: now, interval: SAID_FIRST / 2 }
    }

    /// Reminds of what is not worth a word if it is over within [`SAID_FIRST`].
    pub fn later(now: T) -> Self {
        Self { due: now + SAID_FIRST, interval: SAID_FIRST }
    }

    /// When it is to be said next.
    pub fn due(&self) -> T {
        self.due
    }

    /// Whether it is to be said now; it is then due again after twice as long.
    pub fn is_due(&mut self, now: T) -> bool {
        let is_due = now >= self.due;
        if is_due {
            self.interval = said_again_after(self.interval);
            self.due = now + self.interval;
        }
        is_due
    }

    /// Begins anew, for something else: what changes all the time is said as often as what stays.
    pub fn restart(&mut self, now: T) {
        let new = Self::later(now);
        *self = Self { due: self.due.min(new.due), ..new };
    }
}

/// When what goes on is said once more, if it was said after `last` this time.
pub(crate) fn said_again_after(last: Duration) -> Duration {
    (last * 2).min(SAID_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MonotonicTime;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(0) + Duration::from_secs(seconds)
    }

    /// The seconds in which it is said, within an hour.
    fn said(mut reminder: Reminder<MonotonicTime>) -> Vec<u64> {
        (0..3600).filter(|second| reminder.is_due(at(*second))).collect()
    }

    #[test]
    fn it_is_said_at_growing_intervals_and_at_least_every_ten_minutes() {
        let later = said(Reminder::later(at(0)));
        assert_eq!(later, [3, 9, 21, 45, 93, 189, 381, 765, 1365, 1965, 2565, 3165]);
        assert_eq!(said(Reminder::at_once(at(0))), [&[0], &later[..]].concat());
    }

    #[test]
    fn what_changes_all_the_time_is_said_as_often_as_what_stays() {
        let mut reminder = Reminder::later(at(0));
        assert!(!reminder.is_due(at(2)));
        reminder.restart(at(2));
        assert!(reminder.is_due(at(3)));
        // It is another one: its intervals begin anew.
        reminder.restart(at(4));
        assert!(!reminder.is_due(at(6)) && reminder.is_due(at(7)));
    }
}
