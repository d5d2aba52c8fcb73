//! Entropy: the other place where the engine takes something that differs between the CoServers.

use crate::ids::{Incarnation, Nonce, PairId};
use crate::proto::Boot;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes: check that getrandom(2) works here")]
pub struct NoEntropy;

fn fill(bytes: &mut [u8]) -> Result<(), NoEntropy> {
    use rustls::crypto::ring::default_provider;
    default_provider().secure_random.fill(bytes).map_err(|_| NoEntropy)
}

fn number() -> Result<u64, NoEntropy> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

/// What is new with every start of a CoServer.
///
/// # Errors
/// If there is no entropy.
pub fn boot() -> Result<Boot, NoEntropy> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(Boot { incarnation: Incarnation(number()?), seed, disk: None, adopt: false })
}

/// A nonce that cannot be guessed.
///
/// # Errors
/// If there is no entropy.
pub fn nonce() -> Result<Nonce, NoEntropy> {
    number().map(Nonce)
}

/// A new pair's name.
///
/// # Errors
/// If there is no entropy.
pub fn pair() -> Result<PairId, NoEntropy> {
    let mut id = [0; 16];
    fill(&mut id)?;
    Ok(PairId(id))
}
