//! Chance for waiting times, so that clients that lost a CoServer together do not come back
//! in step.

use core::time::Duration;

/// Draws waiting times. Its seed is an argument, so that a run can be repeated.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Draws by this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A time from half of this one to all of it.
    pub fn about(&mut self, time: Duration) -> Duration {
        let half = time / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        time - Duration::from_nanos(self.next() % nanos)
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lie_between_half_and_whole_and_differ() {
        let mut jitter = Jitter::new(1);
        let whole = Duration::from_millis(100);
        let drawn: Vec<Duration> = (0..1000).map(|_| jitter.about(whole)).collect();
        assert!(drawn.iter().all(|time| (whole / 2..=whole).contains(time)));
        let span = *drawn.iter().max().unwrap() - *drawn.iter().min().unwrap();
        assert!(span > whole / 3, "{span:?}");
        assert_eq!(jitter.about(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let draw = |seed| Jitter::new(seed).about(Duration::from_secs(1));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
