//! Those who are turned away: counted, and said in the log now and then.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
#[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::time::Instant;

use crate::limits::REFUSALS_LOGGED_EVERY;

/// What they were turned away by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedBy {
    /// The bound on connections of the pair.
    Pair,
    /// The listener's own, before the pair was asked.
    Listener,
    /// This process's file descriptors.
    Descriptors,
}

impl RefusedBy {
    /// Its name in logs; stable.
    fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Listener => "listener",
            Self::Descriptors => "descriptors",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Pair | Self::Listener => {
                "the pair has as many connections as it may: what both serve must fit the one \
                 that is left. Raise the service's bound on connections, if both have file \
                 descriptors for more"
            }
            Self::Descriptors => {
                "no file descriptor is left for connections: raise the hard limit \
                 (`LimitNOFILE=` of systemd), or lower the service's bound on connections"
            }
        }
    }
}

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_all: AtomicU64,
    #[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    since: u64,
}

impl Said {
    /// How many a line of the log is to speak of, if one is due.
    fn due(&mut self, now: Instant, every: Duration) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < every) {
            return None;
        }
        self.last = Some(now);
        Some(core::mem::take(&mut self.since))
    }
}

impl Refusals {
    /// How many there were since the start.
    pub(super) fn in_all(&self) -> u64 {
        self.in_all.load(Ordering::Relaxed)
    }

    /// One more that nothing need be said of: this CoServer serves nobody at present.
    pub(super) fn count(&self) {
        self.in_all.fetch_add(1, Ordering::Relaxed);
    }

    /// One more.
    pub(super) fn note(&self, by: RefusedBy) {
        self.count();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(turned_away) = said.due(Instant::now(), REFUSALS_LOGGED_EVERY) else { return };
        tracing::warn!(
            event = "connections_turned_away",
            turned_away,
            in_all = self.in_all(),
            by = by.name(),
            "{}",
            by.remedy()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_rest_in_sums() {
        let every = Duration::from_secs(10);
        let (start, mut said) = (Instant::now(), Said::default());
        let mut due = |seconds| said.due(start + Duration::from_secs(seconds), every);
        assert_eq!(
            [due(0), due(1), due(9), due(10), due(11)],
            [Some(1), None, None, Some(3), None]
        );
    }
}
