//! Chance for tests: everything from one seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// Draws from a seed: the same seed gives the same draws everywhere.
#[derive(Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// Draws from this seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// True once in `n` draws, on average.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Up to `most` arbitrary bytes.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = usize::try_from(self.below(most as u64 + 1)).unwrap_or(0);
        let mut bytes = vec![0; len];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        assert!(!among.is_empty(), "nothing to pick from");
        let at = usize::try_from(self.below(among.len() as u64)).unwrap_or(0);
        &among[at]
    }
}
