//! More handshakes than there are places for: logged in sums.

use std::time::Duration;

use tokio::time::Instant;

/// A crowd is logged once in so long, with what it came to since.
const PERIOD: Duration = Duration::from_secs(10);

/// What was not logged yet.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    pub(super) ignored: u64,
    pub(super) displaced: u64,
    reported: Option<Instant>,
}

impl Crowd {
    /// What there is to log now: how many were ignored, and how many gave way.
    pub(super) fn due(&mut self, now: Instant) -> Option<(u64, u64)> {
        if self.reported.is_some_and(|at| now.duration_since(at) < PERIOD) {
            return None;
        }
        let Self { ignored, displaced, .. } = *self;
        *self = Self { reported: Some(now), ..Self::default() };
        Some((ignored, displaced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
    fn a_crowd_is_logged_at_once_and_then_in_sums() {
        let begun: Instant = std::time::Instant::now().into();
        let mut crowd = Crowd { ignored: 1, ..Crowd::default() };
        assert_eq!(crowd.due(begun), Some((1, 0)));
        crowd.ignored += 5;
        crowd.displaced += 2;
        assert_eq!(crowd.due(begun + PERIOD / 2), None);
        crowd.displaced += 1;
        assert_eq!(crowd.due(begun + PERIOD), Some((5, 3)));
    }
}
