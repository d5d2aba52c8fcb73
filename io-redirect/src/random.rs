//! Random numbers: the same on both CoServers, because their seed is an entry of the log.

use core::convert::Infallible;
use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{SeedableRng, TryCryptoRng, TryRng};
use rkyv::{Archive, Deserialize, Serialize};

/// The service's generator: ChaCha20, seeded once per lineage from the first entry. It
/// implements the traits of `rand_core`, so that `rand`'s distributions work with it.
///
/// Unpredictable to the outside as long as nobody reads the log; what must stay secret from
/// whoever can read the CoServers' memory or journals must not come from here.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceRng(ChaCha20Rng);

/// A generator's place in its stream.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RngState {
    seed: [u8; 32],
    position: u128,
}

impl ServiceRng {
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    pub(crate) fn state(&self) -> RngState {
        RngState { seed: self.0.get_seed(), position: self.0.get_word_pos() }
    }

    pub(crate) fn from_state(state: RngState) -> Self {
        let mut rng = ChaCha20Rng::from_seed(state.seed);
        rng.set_word_pos(state.position);
        Self(rng)
    }
}

/// The seed is left out: it must not be shown.
impl fmt::Debug for ServiceRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceRng").field("position", &self.0.get_word_pos()).finish()
    }
}

impl TryRng for ServiceRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(out)
    }
}

impl TryCryptoRng for ServiceRng {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::Rng;

    #[test]
    fn a_restored_generator_goes_on_where_it_was_taken() {
        let mut rng = ServiceRng::from_seed([7; 32]);
        let mut bytes = [0; 13];
        rng.fill_bytes(&mut bytes);
        let mut restored = ServiceRng::from_state(rng.state());
        for _ in 0..100 {
            assert_eq!(rng.next_u32(), restored.next_u32());
            assert_eq!(rng.next_u64(), restored.next_u64());
        }
    }

    #[test]
    fn the_seed_is_not_shown() {
        assert!(!format!("{:?}", ServiceRng::from_seed([0xab; 32])).contains("171"));
    }
}
