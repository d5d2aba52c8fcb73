//! Running digests: of the entries, and of the outputs.
//!
//! XXH3-128, chained: the digest at *n* covers everything from the first entry
//! to *n*, so that two equal digests at *n* mean equality all the way. It guards
//! against faults, not against an adversary; the peers are authenticated. What
//! is hashed is laid out by hand, field by field, little-endian, so that the
//! digest does not depend on how a frame happens to be encoded.

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// A 128-bit digest.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// The digest before anything was hashed.
    pub const ZERO: Self = Self([0; 16]);

    /// The digest of these bytes alone.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(bytes).to_le_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Hashes fields in a fixed layout: integers little-endian, byte strings after their length.
pub struct Hasher(Xxh3);

impl Hasher {
    /// Begins a digest that continues `previous`.
    pub fn after(previous: Digest) -> Self {
        let mut hasher = Self(Xxh3::new());
        hasher.0.update(&previous.0);
        hasher
    }

    /// Adds one byte, for tags and small enums.
    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.0.update(&[value]);
        self
    }

    /// Adds an integer, as eight bytes in little-endian order.
    pub fn number(&mut self, value: u64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    /// Adds a byte string, after its length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.number(value.len() as u64);
        self.0.update(value);
        self
    }

    /// The digest of all that was given.
    pub fn finish(&self) -> Digest {
        Digest(self.0.digest128().to_le_bytes())
    }
}
