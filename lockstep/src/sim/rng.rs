//! The one source of chance: ChaCha8, seeded by the campaign's seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// Draws everything that is left to chance in one run.
#[derive(Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A generator of its own for one part of the run, so that one more draw in one part does
    /// not change the others.
    pub fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 64 random bits that are not all zero.
    pub fn mark(&mut self) -> u64 {
        self.bits().max(1)
    }

    /// A number from `low` to `high`, both included.
    pub fn from(&mut self, low: u64, high: u64) -> u64 {
        debug_assert!(low <= high);
        let width = high - low + 1;
        // Multiply and shift; the bias is below 2^-32 for the small ranges drawn here.
        low + ((u128::from(self.bits()) * u128::from(width)) >> 64) as u64
    }

    /// An index below `len`, which is not zero.
    pub fn below(&mut self, len: usize) -> usize {
        self.from(0, len as u64 - 1) as usize
    }

    /// True in so many of a thousand cases.
    pub fn chance(&mut self, permille: u32) -> bool {
        permille != 0 && self.from(1, 1000) <= u64::from(permille)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number from `low` to `high` whose logarithm is evenly spread: small ones are as likely
    /// as large ones.
    pub fn spread(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(1), high.max(1));
        let (from, to) = (low.ilog2(), high.ilog2());
        let exponent = self.from(from.into(), to.into());
        let floor = 1u64 << exponent;
        self.from(floor, floor * 2 - 1).clamp(low, high)
    }

    /// 32 random bytes.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let mut rng = Rng::new(7);
        let draws: Vec<u64> = (0..1000).map(|_| rng.from(3, 6)).collect();
        assert!(draws.iter().all(|draw| (3..=6).contains(draw)));
        assert!((3..=6).all(|value| draws.contains(&value)));
        assert!((0..1000).all(|_| (5..=700).contains(&rng.spread(5, 700))));
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let (mut one, mut two) = (Rng::new(1), Rng::new(1));
        assert!((0..100).all(|_| one.bits() == two.bits()));
        assert_ne!(Rng::new(1).bits(), Rng::new(2).bits());
    }
}
