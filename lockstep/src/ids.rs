//! The nouns: numbers that must not be mixed up have types of their own.

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};

/// Which of the two CoServers: a position in the pair, not a role.
///
/// A place keeps its letter and its key for life; the process that fills it at
/// a given time is an [`Incarnation`].
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum ReplicaId {
    /// The first place. Where a tie must be broken and nothing else decides, it is this one's.
    A,
    /// The second place.
    B,
}

impl ReplicaId {
    /// Both places, in order.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other place of the pair.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `0` for `A`, `1` for `B`.
    pub const fn slot(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

impl core::str::FromStr for ReplicaId {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        match text {
            "a" | "A" => Ok(Self::A),
            "b" | "B" => Ok(Self::B),
            _ => Err(NotAPlace),
        }
    }
}

/// The text names no place of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a place is `a` or `b`")]
pub struct NotAPlace;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(
            Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd,
            Ord, Hash,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! counter {
    ($(#[$meta:meta])* $name:ident) => {
        number! { $(#[$meta])* $name(u64) }

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

counter! {
    /// An entry's position in the log. The first entry is 1; 0 means "nothing yet".
    Index
}
impl Index {
    /// The last that a log can get to: at a million entries a second in nine years.
    pub const LAST: Self = Self((1 << SessionId::INDEX_BITS) - 1);
}

counter! {
    /// The number of a configuration of members, recorded by the witness; it only grows.
    Epoch
}
counter! {
    /// The number of a request within its session, from 1.
    RequestNumber
}
counter! {
    /// The number that an incarnation gives to an input that it took, from 1; 0 where a
    /// sequencer made the entry itself.
    OriginNumber
}
number! {
    /// A line of epochs; an operator who gives up what the pair held begins a new one.
    Lineage(u32)
}
number! {
    /// Tells an asker's own request apart from every other.
    Nonce(u64)
}
number! {
    /// One of the connections between the CoServers, by its position in the configuration.
    LinkId(u8)
}
number! {
    /// A redirected device, by its position in the service's device table.
    DeviceId(u16)
}
/// A client session: named by the input that opened it, so never reused in a lineage.
///
/// The low 48 bits are the index of the input's entry, the high 16 its position there, so that a
/// session that was opened alone has the entry's index as its id. Ids are ordered as their sessions
/// were opened.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    const INDEX_BITS: u32 = 48;

    /// The session that the input at this position, from 0, of this entry opens. The index is at
    /// most [`Index::LAST`], the position below 2^16.
    pub const fn new(index: Index, position: usize) -> Self {
        Self(index.0 | (position as u64) << Self::INDEX_BITS)
    }

    /// The entry in which it was opened.
    pub const fn index(self) -> Index {
        Index(self.0 & Index::LAST.0)
    }

    /// The position there of the input that opened it.
    pub const fn position(self) -> usize {
        (self.0 >> Self::INDEX_BITS) as usize
    }
}

impl Ord for SessionId {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        // The index first, then the position.
        let place = |id: &Self| id.0.rotate_left(u64::BITS - Self::INDEX_BITS);
        place(self).cmp(&place(other))
    }
}

impl PartialOrd for SessionId {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
number! {
    /// The owner of a session, for shares: names the client's key.
    OwnerId(u64)
}

impl OwnerId {
    /// Where it is not known, as in logs of versions that did not ask.
    pub const UNKNOWN: Self = Self(0);
}

number! {
    /// A client's connection to this CoServer; local to the process.
    ConnId(u64)
}
number! {
    /// Log time: nanoseconds since the Unix epoch as the sequencer stamped them. It is part of
    /// the log, so the same on both CoServers, and strictly increases from entry to entry.
    LogTime(u64)
}
number! {
    /// Nanoseconds on this process's own monotonic clock, from an arbitrary start.
    MonotonicTime(u64)
}

impl Index {
    /// The one before this; of 0, 0.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

macro_rules! time {
    ($name:ident) => {
        impl core::ops::Add<core::time::Duration> for $name {
            type Output = Self;

            /// Adds a span of time, as [`plus`](Self::plus) does.
            fn add(self, span: core::time::Duration) -> Self {
                self.plus(span)
            }
        }

        impl $name {
            /// This much later, saturating.
            #[must_use]
            pub fn plus(self, span: core::time::Duration) -> Self {
                Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
            }

            /// How long after `earlier` this is; zero if it is not.
            #[must_use]
            pub const fn since(self, earlier: Self) -> core::time::Duration {
                core::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
            }
        }
    };
}
time!(LogTime);
time!(MonotonicTime);

/// One start of a CoServer process: random, never zero, never used twice. Written with 16
/// hexadecimal digits wherever an operator meets it.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

/// What time it is outside, handed to a core with every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// The process's monotonic clock: what every deadline is measured on.
    pub mono: MonotonicTime,
    /// The machine's wall clock in nanoseconds since the Unix epoch: only ever steered towards.
    pub wall: LogTime,
}

/// Names a pair; drawn at random when its configuration is made.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub struct PairId(pub [u8; 16]);

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairId({self})")
    }
}

impl core::str::FromStr for PairId {
    type Err = NotAPairId;

    fn from_str(text: &str) -> Result<Self, NotAPairId> {
        let hex = text.as_bytes();
        if hex.len() != 32 || !hex.iter().all(u8::is_ascii_hexdigit) {
            return Err(NotAPairId);
        }
        let mut id = [0; 16];
        for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| NotAPairId)?;
        }
        Ok(Self(id))
    }
}

/// The text is no pair id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pair id is 32 hexadecimal digits, as written by `init`")]
pub struct NotAPairId;
