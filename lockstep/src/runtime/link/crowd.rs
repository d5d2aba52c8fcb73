//! More packets and handshakes than there are places for: logged in sums.

use std::time::Duration;

use tokio::time::Instant;

/// A crowd is logged once in so long, with what it came to since.
const PERIOD: Duration = Duration::from_secs(10);

/// What a crowd came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Attempts left unanswered, as no place was to be had.
    pub(super) ignored: u64,
    /// Handshakes that gave way to others.
    pub(super) displaced: u64,
    /// Packets that were not looked at.
    pub(super) dropped: u64,
}

/// What was not logged yet.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    pub(super) sums: Sums,
    /// All packets so far that were not looked at.
    dropped: u64,
    reported: Option<Instant>,
}

impl Crowd {
    /// Takes how many packets were not looked at so far: whether there are more.
    pub(super) fn dropped(&mut self, so_far: u64) -> bool {
        let more = so_far - self.dropped;
        self.dropped = so_far;
        self.sums.dropped += more;
        more > 0
    }

    /// What there is to log now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Sums> {
        if self.reported.is_some_and(|at| now.duration_since(at) < PERIOD) {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
    fn a_crowd_is_logged_at_once_and_then_in_sums() {
        let begun: Instant = std::time::Instant::now().into();
        let mut crowd = Crowd::default();
        crowd.sums.ignored = 1;
        assert_eq!(crowd.due(begun), Some(Sums { ignored: 1, ..Sums::default() }));
        crowd.sums.ignored += 5;
        crowd.sums.displaced += 2;
        assert!(crowd.dropped(7));
        assert_eq!(crowd.due(begun + PERIOD / 2), None);
        crowd.sums.displaced += 1;
        assert!(crowd.dropped(9) && !crowd.dropped(9));
        let sums = Sums { ignored: 5, displaced: 3, dropped: 9 };
        assert_eq!(crowd.due(begun + PERIOD), Some(sums));
        assert_eq!(crowd.due(begun + PERIOD * 2), Some(Sums::default()));
    }
}
