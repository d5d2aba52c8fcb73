//! Identities: Ed25519 keys, the roles they stand for, and the roster that
//! pins both.
//!
//! A party is known by its raw public key (RFC 7250); there is no certificate and so no date on
//! which a running pair would lose its identity. What a key may do follows from the [`Roster`]. One
//! key has exactly one [`Role`], so the key of a client or of the witness is never taken for that
//! of a CoServer.

mod client;
mod file;
mod roster;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::signature::Ed25519KeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;

pub use client::{ClientName, ClientTerms, NotAClientName, Rights};
pub use file::KeyFileError;
pub use roster::{Role, Roster, RosterError};

/// The DER bytes before the 32 key bytes of an Ed25519 SubjectPublicKeyInfo
/// (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What the text form of a public key starts with.
const TEXT_PREFIX: &str = "ed25519:";

/// The points of small order, without the sign of x: anybody can sign for such a key. These are the
/// seven that libsodium refuses (`ge25519_has_small_order`). Their y is 0, 1, the two values of
/// order 8, and -1. The last two are 0 and 1 again, as p and p + 1, which RFC 8032 (section 5.1.3)
/// does not decode, but not every implementation keeps to that.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    with_ends(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
];

const fn with_ends(first: u8, all: u8, last: u8) -> [u8; 32] {
    let mut bytes = [all; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// An Ed25519 public key: the name of a party.
///
/// Its text form, for configuration files and messages, is `ed25519:` followed
/// by 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these 32 bytes (RFC 8032, section 5.1.5).
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        PublicKey(bytes)
    }

    /// The 32 bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in a DER SubjectPublicKeyInfo, the form that TLS carries
    /// (RFC 7250, section 3); `None` for any other algorithm or encoding.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let bytes = der.strip_prefix(&SPKI_PREFIX)?;
        bytes.try_into().ok().map(PublicKey)
    }

    /// The key's beginning, to tell it from the few others in a list.
    pub(super) fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(TEXT_PREFIX.len() + 16);
        text
    }

    /// Whether the key is a point of small order, for which anyone can sign, so that it is no
    /// holder's key.
    fn is_weak(&self) -> bool {
        let mut y = self.0;
        y[31] &= 0x7f;
        SMALL_ORDER.contains(&y)
    }

    /// The DER SubjectPublicKeyInfo of this key.
    pub fn to_spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0[..]].concat()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TEXT_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let digits = text.trim().strip_prefix(TEXT_PREFIX).ok_or(ParseKeyError::Prefix)?;
        let found = digits.chars().count();
        if found != 64 {
            return Err(ParseKeyError::Length { found });
        }
        let mut bytes = [0; 32];
        for (at, digit) in digits.chars().enumerate() {
            let value = digit.to_digit(16).ok_or(ParseKeyError::Digit { digit, at })?;
            bytes[at / 2] = bytes[at / 2] << 4 | value as u8;
        }
        let key = PublicKey(bytes);
        if key.is_weak() { Err(ParseKeyError::Weak) } else { Ok(key) }
    }
}

/// A text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// The text does not start with the name of the algorithm.
    #[error(
        "a public key starts with `ed25519:`; copy the whole line that was printed when the key was made"
    )]
    Prefix,
    /// Too short or too long.
    #[error(
        "a public key has 64 hexadecimal digits after `ed25519:`, this one has {found}; copy it again"
    )]
    Length {
        /// Characters found after the prefix.
        found: usize,
    },
    /// A character that is no hexadecimal digit.
    #[error(
        "`{digit}` (digit {at} of the public key, from 0) is not hexadecimal; copy the key again"
    )]
    Digit {
        /// The character that is no digit.
        digit: char,
        /// Its position after the prefix, counted from 0.
        at: usize,
    },
    /// A point of small order, such as all zeros.
    #[error(
        "no secret key has this public key, and anybody could pass for its owner; copy the one that `init` wrote for this party"
    )]
    Weak,
}

/// An Ed25519 private key. The key shows itself only by its public half; the secret leaves it
/// towards the key file and TLS and nowhere else.
pub struct SecretKey {
    pkcs8: PrivatePkcs8KeyDer<'static>,
    signer: Arc<dyn SigningKey>,
    public: PublicKey,
}

/// Bytes that are no usable private key, or none could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no random numbers for a new key; try again later")]
    NoEntropy,
    /// The content is not PKCS#8, or not Ed25519, or its two halves do not belong together.
    #[error(
        "not an Ed25519 private key in PKCS#8; restore the file, or have `init` make a new key in another directory and give its public half to the others, as for a machine that is replaced"
    )]
    Malformed,
}

impl SecretKey {
    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`SecretKeyError::NoEntropy`] if there is none.
    pub fn generate() -> Result<Self, SecretKeyError> {
        let random = ring::rand::SystemRandom::new();
        let document =
            Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| SecretKeyError::NoEntropy)?;
        Self::from_pkcs8(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()))
    }

    /// The key in a PKCS#8 document (RFC 5958, RFC 8410).
    ///
    /// # Errors
    /// [`SecretKeyError::Malformed`] for anything but one Ed25519 key.
    pub fn from_pkcs8(pkcs8: PrivatePkcs8KeyDer<'static>) -> Result<Self, SecretKeyError> {
        let signer = rustls::crypto::ring::sign::any_eddsa_type(&pkcs8)
            .map_err(|_| SecretKeyError::Malformed)?;
        let spki = signer.public_key().ok_or(SecretKeyError::Malformed)?;
        let public = PublicKey::from_spki(&spki).ok_or(SecretKeyError::Malformed)?;
        Ok(SecretKey { signer, public, pkcs8 })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn signer(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signer)
    }

    /// A symmetric key for `purpose` that only the holder of this key can make
    /// and that is the same after every restart.
    pub(super) fn derive(&self, purpose: &[u8]) -> ring::hmac::Key {
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.pkcs8.secret_pkcs8_der());
        let derived = ring::hmac::sign(&secret, purpose);
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derived.as_ref())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public)
    }
}

#[cfg(test)]
mod tests;
