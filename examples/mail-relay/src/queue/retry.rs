//! Pauses between attempts, for a mail and for the next hop as a whole.

use rkyv::{Archive, Deserialize, Serialize};

use super::QueueConfig;
use crate::limits;

/// What is known of the next hop. While it cannot be reached, one mail at a time probes it, and no
/// other mail is charged for that. RFC 5321 section 4.5.4.1 has a host that is down remembered
/// rather than tried per mail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub struct HopState {
    failures: u32,
    not_before: u64,
}

impl HopState {
    /// Attempts in a row that did not reach the hop; 0 while the hop is there.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Log time before which the hop is left alone.
    pub(super) fn not_before(&self) -> u64 {
        self.not_before
    }

    pub(super) fn most_deliveries(&self, config: &QueueConfig) -> u32 {
        if self.failures == 0 { config.max_deliveries } else { config.max_deliveries.min(1) }
    }

    pub(super) fn on_reached(&mut self) {
        *self = HopState::default();
    }

    /// Deliveries that were under way together fail together; they count once.
    pub(super) fn on_unreachable(&mut self, now: u64, random: u64) {
        if now < self.not_before {
            return;
        }
        let (first, most) = (limits::HOP_RETRY_FIRST, limits::HOP_RETRY_MOST);
        self.not_before = now.saturating_add(backoff(first, most, self.failures, random));
        self.failures = self.failures.saturating_add(1);
    }
}

/// The pause after failure number `failures` (from 0). It is `first`, doubled each time up to
/// `most`, then a quarter of it at most taken off, so that what failed together does not come
/// back together.
pub(super) fn backoff(first: u64, most: u64, failures: u32, random: u64) -> u64 {
    let factor = 1u64.checked_shl(failures).unwrap_or(u64::MAX);
    let pause = first.saturating_mul(factor).min(most);
    pause - random % (pause / 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_are_spread_by_a_quarter() {
        for (failures, full) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1000), (200, 1000)] {
            assert_eq!(backoff(100, 1000, failures, 0), full);
            for random in [1, 17, 12_345, u64::MAX] {
                let pause = backoff(100, 1000, failures, random);
                assert!((full - full / 4..=full).contains(&pause), "{pause}");
            }
        }
        assert_eq!(backoff(0, 0, 3, 7), 0);
        assert_eq!(backoff(u64::MAX, u64::MAX, u32::MAX, 0), u64::MAX);
    }
}
