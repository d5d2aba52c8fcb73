//! What a field can hold, and how it is written.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::tree::{Node, Value};
use crate::ids::{PairId, ReplicaId};
use crate::proto::DivergencePolicy;
use crate::runtime::coserver::Execution;
use crate::runtime::keys::{ClientName, PublicKey, Rights};
use crate::runtime::remote::Remote;
use crate::store::replica::Durability;

/// A value that is not what the field takes: what it is instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch(pub String);

/// Something that a field can hold.
pub trait Setting: Sized {
    /// How it is written, to follow "write".
    fn form() -> String;

    /// Reads it.
    ///
    /// # Errors
    /// What the value is instead.
    fn read(value: &Value) -> Result<Self, Mismatch>;
}

fn not(value: &Value, wanted: &str) -> Mismatch {
    Mismatch(format!("is {} instead of {wanted}", value.node.kind()))
}

impl Setting for String {
    fn form() -> String {
        "a string in quotation marks".into()
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match &value.node {
            Node::Text(text) => Ok(text.clone()),
            _ => Err(not(value, "a string")),
        }
    }
}

impl Setting for bool {
    fn form() -> String {
        "true or false".into()
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match value.node {
            Node::Boolean(value) => Ok(value),
            _ => Err(not(value, "true or false")),
        }
    }
}

macro_rules! integers {
    ($($name:ty),*) => {$(
        impl Setting for $name {
            fn form() -> String {
                format!("an integer from 0 to {}", (<$name>::MAX as u64).min(i64::MAX as u64))
            }

            fn read(value: &Value) -> Result<Self, Mismatch> {
                match value.node {
                    Node::Integer(number) => number
                        .and_then(|number| Self::try_from(number).ok())
                        .ok_or_else(|| Mismatch("is out of range".into())),
                    _ => Err(not(value, "an integer")),
                }
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize);

/// Reads a string by its own syntax.
fn parsed<T>(value: &Value, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Mismatch> {
    let text = String::read(value)?;
    parse(&text).map_err(|why| Mismatch(format!("\"{}\" cannot be used: {why}", shown(&text))))
}

/// A value in a message: enough to recognise it.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
    .escape_debug()
    .to_string()
}

macro_rules! from_text {
    ($($name:ty: $form:literal),* $(,)?) => {$(
        impl Setting for $name {
            fn form() -> String {
                $form.into()
            }

            fn read(value: &Value) -> Result<Self, Mismatch> {
                parsed(value, |text| Self::from_str(text).map_err(|error| error.to_string()))
            }
        }
    )*};
}
from_text! {
    SocketAddr: "an IP address with a port, as in \"192.0.2.1:7400\" or \"[2001:db8::1]:7400\"",
    Remote: "a host's name or an IP address, with a port, as in \"b.example.org:7400\" or \"192.0.2.1:7400\"",
    PublicKey: "\"ed25519:\" and 64 hexadecimal digits, as `init` or the key's owner gave it",
    ClientName: "letters, digits, `-`, `_` and `.`, as in \"billing\"",
    PairId: "32 hexadecimal digits in quotation marks, as `init` wrote them",
    ReplicaId: "\"a\" or \"b\"",
}

impl Setting for Duration {
    fn form() -> String {
        "a whole number with its unit (us, ms, s, min, h), as in \"100ms\"".into()
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        parsed(value, |text| parse_duration(text).map_err(|error| error.to_string()))
    }
}

impl Setting for Execution {
    fn form() -> String {
        "\"inline\" or \"thread\"".into()
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        parsed(value, |text| match text {
            "inline" => Ok(Self::Inline),
            "thread" => Ok(Self::Thread),
            _ => Err("there is no such way of execution".into()),
        })
    }
}

impl Setting for Rights {
    fn form() -> String {
        "\"all\" or \"read\"".into()
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        parsed(value, |text| match text {
            "all" => Ok(Self::All),
            "read" => Ok(Self::Read),
            _ => Err("there are no such rights".into()),
        })
    }
}

impl Setting for Durability {
    fn form() -> String {
        "\"journal\" or \"memory\"".into()
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        parsed(value, |text| match text {
            "journal" => Ok(Self::Journal),
            "memory" => Ok(Self::Memory),
            _ => Err("there is no such durability".into()),
        })
    }
}

impl Setting for DivergencePolicy {
    fn form() -> String {
        "\"sequencer\", \"prefer-a\", \"prefer-b\" or \"hold\"".into()
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        parsed(value, |text| match text {
            "sequencer" => Ok(Self::Sequencer),
            "prefer-a" => Ok(Self::Prefer(ReplicaId::A)),
            "prefer-b" => Ok(Self::Prefer(ReplicaId::B)),
            "hold" => Ok(Self::Hold),
            _ => Err("there is no such policy".into()),
        })
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn form() -> String {
        format!("an array in brackets, each item {}", T::form())
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match &value.node {
            Node::Array(items) => items.iter().map(T::read).collect(),
            _ => Err(not(value, "an array")),
        }
    }
}

/// One public key, or several during a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(pub Vec<PublicKey>);

impl Setting for Keys {
    fn form() -> String {
        format!("a public key ({}), or an array of such keys", PublicKey::form())
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        match value.node {
            Node::Array(_) => Vec::read(value).map(Self),
            _ => PublicKey::read(value).map(|key| Self(vec![key])),
        }
    }
}

/// A text that is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotADuration {
    /// The text does not begin with digits.
    #[error("a duration begins with a whole number")]
    Number,
    /// The number has a fraction.
    #[error("a duration is a whole number: write 1500ms for one and a half seconds")]
    Fraction,
    /// There is no unit, or another one.
    #[error("a duration ends with its unit: us, ms, s, min or h")]
    Unit,
    /// Too long to count in nanoseconds.
    #[error("that is longer than anything lasts here")]
    TooLong,
}

/// Reads a duration: a whole number and `us`, `ms`, `s`, `min` or `h`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, NotADuration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 {
        return Err(NotADuration::Number);
    }
    let (number, unit) = text.split_at(digits);
    let micros: u64 = match unit.trim_start() {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        unit if unit.starts_with(['.', ',']) => return Err(NotADuration::Fraction),
        _ => return Err(NotADuration::Unit),
    };
    let number: u64 = number.parse().map_err(|_| NotADuration::TooLong)?;
    let micros = number.checked_mul(micros).filter(|micros| *micros < u64::MAX / 1_000);
    micros.map(Duration::from_micros).ok_or(NotADuration::TooLong)
}

/// A duration as [`parse_duration`] reads it, exact to the microsecond.
pub fn duration_text(duration: Duration) -> String {
    let micros = duration.as_micros();
    for (unit, size) in [("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000)]
    {
        if micros != 0 && micros.is_multiple_of(size) {
            return format!("{}{unit}", micros / size);
        }
    }
    format!("{micros}us")
}
