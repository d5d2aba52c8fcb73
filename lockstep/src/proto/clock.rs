//! Log time: what the sequencer stamps on entries.
//!
//! The time of the last entry plus the monotonic time since, slewed towards the wall clock (rule
//! O4). It neither goes back nor stands still when the wall clock jumps, or when a replica with
//! another clock becomes the sequencer.

use core::time::Duration;

use crate::ids::{LogTime, MonotonicTime, Timestamps};

/// A wall clock further than this from log time is reported.
const STRAY: Duration = Duration::from_secs(1);

/// No entry is later, so that there is always a later time to stamp: the year 2262.
pub(super) const LATEST: LogTime = LogTime(u64::MAX / 2);

#[derive(Debug)]
pub(super) struct LogClock {
    /// Log time runs at most this much faster or slower than the monotonic clock, as a divisor.
    slew: u64,
    /// The last entry's timestamp and when it was appended here.
    last: LogTime,
    at: MonotonicTime,
    /// The last entry is from before a restart.
    resumes: bool,
    misrouted: bool,
}

impl LogClock {
    pub(super) fn new(slew: u32) -> Self {
        let (last, at) = (LogTime(0), MonotonicTime(0));
        Self { slew: u64::from(slew).max(1), last, at, resumes: false, misrouted: false }
    }

    /// By how much the next entry would step forward, if that is more than one clock is believed
    /// alone (rule O13): what it says now cannot be taken back.
    pub(super) fn leap(&self, now: Timestamps, most: Duration) -> Option<Duration> {
        let step = now.wall.since(self.last);
        (self.is_behind() && step > most).then_some(step)
    }

    /// The last entry's time.
    pub(super) fn last(&self) -> LogTime {
        self.last
    }

    /// An entry of this time was appended now. Tells when this machine's wall clock has newly
    /// strayed from the log's time.
    pub(super) fn anchor(&mut self, time: LogTime, now: Timestamps) -> bool {
        // An epoch may begin before a gap, with an entry that is not as late as log time is (rule
        // O14).
        let log = if self.last == LogTime(0) { time } else { time.max(self.stamp(now)) };
        self.last = time;
        self.at = now.mono;
        self.resumes = false;
        let distance = Duration::from_nanos(now.wall.0.abs_diff(log.0));
        let misrouted = if self.misrouted { distance > STRAY / 2 } else { distance > STRAY };
        let newly = misrouted && !self.misrouted;
        self.misrouted = misrouted;
        newly
    }

    /// Nothing was said so far of how far this machine's clock has strayed: whoever was only being
    /// brought up to date had nothing to compare it with.
    pub(super) fn begin_reporting(&mut self) {
        self.misrouted = false;
    }

    /// The log goes on after an entry of this time, made while nobody here ran: there is nothing
    /// to be steered slowly, log time takes up the wall clock's.
    pub(super) fn restored(&mut self, time: LogTime) {
        (self.last, self.resumes) = (time, true);
    }

    /// Whether the next entry takes up the wall clock's time, whatever lies between.
    pub(super) fn is_behind(&self) -> bool {
        self.resumes && self.last != LogTime(0)
    }

    /// The log's time now: what an entry ordered now is stamped with. Later than the last one.
    pub(super) fn stamp(&self, now: Timestamps) -> LogTime {
        if self.last == LogTime(0) {
            return LogTime(now.wall.0.clamp(1, LATEST.0 / 2));
        }
        if self.resumes {
            let next = self.last.0.saturating_add(1);
            return LogTime(now.wall.0.min(LATEST.0).max(next));
        }
        let elapsed = now.mono.0.saturating_sub(self.at.0);
        let free = self.last.0.saturating_add(elapsed);
        let slew = elapsed / self.slew;
        let steered = now.wall.0.clamp(free - slew, free.saturating_add(slew));
        LogTime(steered.max(self.last.0.saturating_add(1)))
    }

    /// When to look again whether log time has come to `due`: never late by more than the slew
    /// of the remaining time, and not busily.
    pub(super) fn look_again(&self, due: LogTime, now: Timestamps) -> MonotonicTime {
        let remaining = due.since(self.stamp(now));
        let soonest = remaining.mul_f64(self.slew as f64 / (self.slew + 1) as f64);
        now.mono.plus(soonest.max(Duration::from_micros(20)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const SLEW: u64 = crate::limits::CLOCK_SLEW as u64;

    fn clock() -> LogClock {
        LogClock::new(crate::limits::CLOCK_SLEW)
    }

    fn at(mono: u64, wall: u64) -> Timestamps {
        Timestamps { mono: MonotonicTime(mono), wall: LogTime(wall) }
    }

    #[test]
    fn follows_the_wall_clock_while_that_is_steady() {
        let mut clock = clock();
        clock.anchor(LogTime(100 * SECOND), at(0, 100 * SECOND));
        assert_eq!(clock.stamp(at(SECOND, 101 * SECOND)), LogTime(101 * SECOND));
    }

    #[test]
    fn neither_goes_back_nor_stands_still_when_the_wall_clock_jumps_back() {
        let mut clock = clock();
        clock.anchor(LogTime(100 * SECOND), at(0, 100 * SECOND));
        let stamp = clock.stamp(at(SECOND, 50 * SECOND));
        assert_eq!(stamp, LogTime(101 * SECOND - SECOND / SLEW));
    }

    #[test]
    fn does_not_leap_when_the_wall_clock_does() {
        let mut clock = clock();
        clock.anchor(LogTime(100 * SECOND), at(0, 100 * SECOND));
        let stamp = clock.stamp(at(SECOND, 500 * SECOND));
        assert_eq!(stamp, LogTime(101 * SECOND + SECOND / SLEW));
    }

    #[test]
    fn a_log_that_is_far_ahead_is_caught_up_with_at_the_pace_that_is_set() {
        // Ten days ahead, in thirty days at a third less than real time.
        let day = 86_400 * SECOND;
        let mut clock = LogClock::new(3);
        clock.anchor(LogTime(110 * day), at(0, 100 * day));
        for passed in 1..=30 {
            let now = at(passed * day, (100 + passed) * day);
            let stamp = clock.stamp(now);
            assert_eq!(stamp, LogTime(110 * day + passed * day - passed * (day / 3)));
            clock.anchor(stamp, now);
        }
        assert_eq!(clock.last(), LogTime(130 * day));
    }

    #[test]
    fn a_step_is_too_far_only_where_a_log_is_taken_up_and_only_forward() {
        let mut clock = clock();
        let (most, now) = (Duration::from_secs(10), at(5, 100 * SECOND));
        assert_eq!(clock.leap(now, most), None, "a new log takes what there is");
        clock.restored(LogTime(90 * SECOND));
        assert_eq!(clock.leap(now, most), None);
        assert_eq!(clock.leap(at(5, 101 * SECOND), most), Some(Duration::from_secs(11)));
        assert_eq!(clock.leap(at(5, SECOND), most), None, "log time does not go back anyway");
        clock.anchor(LogTime(90 * SECOND), now);
        assert_eq!(clock.leap(at(5, 200 * SECOND), most), None, "it is steered");
    }

    #[test]
    fn two_entries_in_one_instant_have_different_times() {
        let mut clock = clock();
        clock.anchor(LogTime(7), at(5, 7));
        assert_eq!(clock.stamp(at(5, 7)), LogTime(8));
    }

    #[test]
    fn a_straying_clock_is_reported_once_until_it_has_come_back() {
        let mut clock = clock();
        assert!(!clock.anchor(LogTime(100 * SECOND), at(0, 100 * SECOND)));
        assert!(clock.anchor(LogTime(101 * SECOND), at(0, 200 * SECOND)));
        assert!(!clock.anchor(LogTime(102 * SECOND), at(0, 200 * SECOND)));
        assert!(!clock.anchor(LogTime(200 * SECOND), at(0, 200 * SECOND)));
        assert!(clock.anchor(LogTime(201 * SECOND), at(0, 900 * SECOND)));
    }

    #[test]
    fn looking_again_comes_to_the_due_time_in_few_looks() {
        let mut clock = clock();
        clock.anchor(LogTime(100 * SECOND), at(0, 100 * SECOND));
        let due = LogTime(110 * SECOND);
        let (mut now, mut looks) = (at(0, 100 * SECOND), 0);
        while clock.stamp(now) < due {
            let next = clock.look_again(due, now);
            now = at(next.0, 100 * SECOND + next.0);
            looks += 1;
        }
        assert!(looks < 12, "{looks}");
    }
}
