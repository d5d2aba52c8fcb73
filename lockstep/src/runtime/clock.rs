//! The clocks: one of the two places where the engine reads something that differs between
//! the CoServers.
#![allow(clippy::disallowed_methods, reason = "this is where time comes in")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::ids::{LogTime, MonotonicTime, Timestamps};

/// This process's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins to count monotonic time at zero.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The monotonic time and the wall clock now.
    pub fn now(&self) -> Timestamps {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamps { mono: self.mono(), wall: LogTime(nanos(wall)) }
    }

    /// The monotonic clock alone.
    pub fn mono(&self) -> MonotonicTime {
        MonotonicTime(nanos(self.start.elapsed()))
    }

    /// When this monotonic time is, for a timer.
    pub fn instant(&self, at: MonotonicTime) -> Instant {
        self.start + Duration::from_nanos(at.0)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
