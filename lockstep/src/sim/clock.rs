//! The clocks of a simulated machine: each strays in its own way from the world's time.

use crate::ids::{LogTime, MonotonicTime, Timestamps};

/// The wall clock at the world's beginning: 2026-01-01 in nanoseconds since the Unix epoch.
const WALL: u64 = 1_767_225_600_000_000_000;

/// A machine's monotonic and wall clock, as functions of the world's time (nanoseconds).
#[derive(Clone, Debug)]
pub(super) struct Clock {
    offset: u64,
    drift_ppm: i64,
    wall_drift_ppm: i64,
    wall_offset: i64,
    slowness: u64,
}

impl Clock {
    /// A clock that began `offset` ns before the world and gains `drift_ppm` on it.
    pub(super) fn new(offset: u64, drift_ppm: i64, wall_offset: i64, wall_drift_ppm: i64) -> Self {
        Self { offset, drift_ppm, wall_drift_ppm, wall_offset, slowness: 1 }
    }

    /// Makes both clocks run this many times slower: nearly stopped, for a broken pair.
    pub(super) fn slow_down(&mut self, times: u64) {
        self.slowness = times.max(1);
    }

    /// What the machine's clocks show at the world's time `at`.
    pub(super) fn now(&self, at: u64) -> Timestamps {
        let at = at / self.slowness;
        let wall = WALL.saturating_add(strayed(at, self.wall_drift_ppm));
        Timestamps {
            mono: MonotonicTime(self.offset + strayed(at, self.drift_ppm)),
            wall: LogTime(wall.saturating_add_signed(self.wall_offset)),
        }
    }

    /// The first moment of the world at which the monotonic clock shows `mono` or later.
    pub(super) fn when(&self, mono: MonotonicTime) -> u64 {
        let local = i128::from(mono.0.saturating_sub(self.offset));
        let rate = i128::from(1_000_000 + self.drift_ppm);
        let world = (local * 1_000_000).div_euclid(rate) + 1;
        u64::try_from(world).unwrap_or(u64::MAX).saturating_mul(self.slowness)
    }

    /// Somebody sets the wall clock: forward, or back if negative (ns).
    pub(super) fn jump(&mut self, by: i64) {
        self.wall_offset = self.wall_offset.saturating_add(by);
    }
}

fn strayed(at: u64, ppm: i64) -> u64 {
    let gained = i128::from(at) * i128::from(ppm) / 1_000_000;
    u64::try_from(i128::from(at) + gained).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_clock_says_so_and_not_long_before() {
        for drift in [-300, 0, 450] {
            let clock = Clock::new(987_654_321, drift, 0, 0);
            for mono in [987_654_322, 1_000_000_000, 77_000_000_123] {
                let at = clock.when(MonotonicTime(mono));
                assert!(clock.now(at).mono >= MonotonicTime(mono));
                assert!(clock.now(at.saturating_sub(2_000)).mono < MonotonicTime(mono));
            }
        }
    }

    #[test]
    fn a_jump_moves_the_wall_clock_alone() {
        let mut clock = Clock::new(5, 0, 0, 0);
        let before = clock.now(1000);
        clock.jump(-500);
        assert_eq!(clock.now(1000).mono, before.mono);
        assert_eq!(clock.now(1000).wall.0, before.wall.0 - 500);
    }
}
