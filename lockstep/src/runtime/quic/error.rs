//! What can go wrong with an endpoint, an attempt, a frame, a connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectionError, TransportErrorCode};

use super::SettingsError;
use crate::exhaustion;
use crate::runtime::keys::PublicKey;
use crate::runtime::tls::{KeyRefusal, Purpose};

/// TLS alerts (RFC 8446, section 6) that a refusal shows itself by.
mod alert {
    /// What rustls sends if the peer knows nothing of raw public keys.
    pub(super) const HANDSHAKE_FAILURE: u8 = 40;
    pub(super) const ACCESS_DENIED: u8 = 49;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
    pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

/// Why a side closed a connection, as the other is told (an application error code, RFC 9000
/// section 20.2). Codes from [`CloseCode::FREE`] on belong to the protocol that speaks through
/// the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u32);

impl CloseCode {
    /// The owner has no more use for the connection.
    pub const DONE: Self = CloseCode(0);
    /// A frame was longer than its receiver takes.
    pub const FRAME_TOO_LARGE: Self = CloseCode(1);
    /// The first bytes were no greeting.
    pub const BAD_GREETING: Self = CloseCode(2);
    /// The same peer has a newer connection to the same port.
    pub const REPLACED: Self = CloseCode(3);
    /// There are as many connections as are allowed.
    pub const TOO_MANY: Self = CloseCode(4);
    /// The process is going down in good order.
    pub const SHUTDOWN: Self = CloseCode(5);
    /// The first code that has no meaning here.
    pub const FREE: Self = CloseCode(256);
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CloseCode::DONE => f.write_str("done"),
            CloseCode::FRAME_TOO_LARGE => f.write_str("frame too large"),
            CloseCode::BAD_GREETING => f.write_str("bad greeting"),
            CloseCode::REPLACED => f.write_str("replaced by a newer connection"),
            CloseCode::TOO_MANY => f.write_str("too many connections"),
            CloseCode::SHUTDOWN => f.write_str("shutting down"),
            CloseCode(code) => write!(f, "code {code}"),
        }
    }
}

/// An endpoint that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be had.
    #[error("cannot use UDP address {local}: {source}; {}", remedy(source))]
    Address {
        /// The address asked for.
        local: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The settings contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The TLS library refused its configuration; a defect of this build.
    #[error("the TLS configuration does not work: {0}; report it, with the build's target")]
    Tls(String),
}

fn remedy(error: &io::Error) -> String {
    let otherwise = match error.kind() {
        io::ErrorKind::AddrInUse => "another process has it: stop that one, or choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "no network card of this host has it: correct the address"
        }
        io::ErrorKind::PermissionDenied => "this user may not: choose a port above 1023",
        _ => "check the address and the network card",
    };
    exhaustion::remedy(error, otherwise)
}

/// A connection that did not come about.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SetupError {
    /// No answer came in time, or not to the end.
    #[error(
        "no answer from {remote} within {within:?}; check that it runs, its address, and the way there"
    )]
    Timeout {
        /// The peer's address.
        remote: SocketAddr,
        /// The time it was given.
        within: Duration,
    },
    /// This side refused the peer's key.
    #[error("{remote}: {refusal}")]
    PeerKey {
        /// The peer's address.
        remote: SocketAddr,
        /// Why the key was refused.
        refusal: KeyRefusal,
    },
    /// The peer refused this side's key.
    #[error(
        "{remote} does not accept the key {own} for a {purpose}; enrol it there, in the right role, or check the address"
    )]
    OwnKey {
        /// The peer's address.
        remote: SocketAddr,
        /// The key that was refused.
        own: PublicKey,
        /// What the connection was for.
        purpose: Purpose,
    },
    /// The peer has no key to show.
    #[error("{remote} showed no raw public key; whatever runs there is not part of lockstep")]
    PeerWithoutKey {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// The two sides are not after the same thing.
    #[error(
        "{remote} is not there for a {purpose} of this version; check the port and the versions"
    )]
    Purpose {
        /// The peer's address.
        remote: SocketAddr,
        /// What this side wanted.
        purpose: Purpose,
    },
    /// The peer has as many connections as it may.
    #[error(
        "{remote} has as many connections as its limits allow, all together or of this key; try \
         again later, or raise the limit there"
    )]
    Busy {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// This side has as many connections as it may, and refused the peer one.
    #[error(
        "{remote}, with {key}, is refused: this port has as many connections as it may; if it is \
         to be served, raise the limit (`limits.clients` for clients, on both CoServers)"
    )]
    Full {
        /// The peer's address.
        remote: SocketAddr,
        /// The peer's key.
        key: PublicKey,
    },
    /// The peer's key has as many connections as the configuration here allows it.
    #[error(
        "{remote}, with {key}, is refused: this key has {most} connections here and may have no \
         more; if it is to have more, raise `connections` of its entry in `peers.clients`"
    )]
    Bounded {
        /// The peer's address.
        remote: SocketAddr,
        /// The peer's key.
        key: PublicKey,
        /// Most connections that the key may have.
        most: usize,
    },
    /// The peer's process is there and takes no connection: no limit of its configuration is why.
    #[error(
        "{remote} takes no connections at present: its process is starting or ending, or too many \
         connect at once; it is tried again"
    )]
    Unready {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// The peer does not speak this framing.
    #[error("{remote} did not greet as lockstep does; check what runs there, and its version")]
    Greeting {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// A host's name could not be resolved.
    #[error("{host}: {why}; check the name and this machine's resolver")]
    Unresolved {
        /// The name, with the port.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// An attempt at an address of a host that was given by its name.
    #[error("{host}: {error}")]
    Named {
        /// The name, with the port.
        host: String,
        /// What went wrong.
        error: Box<SetupError>,
    },
    /// This endpoint cannot dial that address.
    #[error("cannot dial {remote}: {reason}; check the address")]
    Dial {
        /// The address that was to be dialled.
        remote: SocketAddr,
        /// What is wrong with the address.
        reason: String,
    },
    /// The connection was lost before it was of use.
    #[error("{remote}: {lost}")]
    Lost {
        /// The peer's address.
        remote: SocketAddr,
        /// How the connection was lost.
        lost: Lost,
    },
}

impl SetupError {
    /// The key that this side turned away although it is known.
    pub(in crate::runtime) fn turned_away(&self) -> Option<&PublicKey> {
        match self {
            Self::Full { key, .. } | Self::Bounded { key, .. } => Some(key),
            _ => None,
        }
    }

    /// What went wrong at the address, where that was found by a name.
    pub fn of_address(&self) -> &Self {
        match self {
            Self::Named { error, .. } => error,
            other => other,
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The peer closed the connection.
    #[error("closed by the peer: {code} {reason:?}")]
    ByPeer {
        /// The code with which the peer closed it.
        code: CloseCode,
        /// The peer's message.
        reason: String,
    },
    /// This side closed it.
    #[error("closed by this side: {code}")]
    Here {
        /// The code sent to the peer.
        code: CloseCode,
    },
    /// No packet came for the idle time.
    #[error("the peer fell silent; check it and the way there")]
    Silent,
    /// The peer's process is a new one that does not know the connection.
    #[error("the peer was restarted; it has to be connected to anew")]
    Restarted,
    /// The peer announced a frame longer than allowed.
    #[error(
        "the peer announced a frame of {size} bytes, {max} are allowed; give both sides the same limit"
    )]
    FrameTooLarge {
        /// The announced size in bytes.
        size: usize,
        /// Most bytes that a frame may have.
        max: usize,
    },
    /// QUIC or TLS failed.
    #[error("the connection failed: {0}; if it happens again, check the peer's version")]
    Transport(String),
}

/// A frame that was not taken; it is the caller's as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The frame does not fit at present.
    #[error("{needed} bytes do not fit, {budget} do; send again when the connection is writable")]
    Full {
        /// Bytes the frame takes, with its prefix.
        needed: usize,
        /// Bytes that could be taken.
        budget: usize,
    },
    /// The frame never fits: the peer takes no frame of that size.
    #[error("a frame of {size} bytes, the peer takes {max}; send less in one frame")]
    TooLarge {
        /// The frame's size in bytes.
        size: usize,
        /// Most bytes that the peer takes in a frame.
        max: usize,
    },
    /// There is no such connection (any more).
    #[error("not connected; wait until the connection is up")]
    NotConnected,
}

impl From<ConnectionError> for Lost {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Lost::ByPeer {
                code: CloseCode(u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX)),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::LocallyClosed => Lost::Here { code: CloseCode::DONE },
            ConnectionError::TimedOut => Lost::Silent,
            ConnectionError::Reset => Lost::Restarted,
            other => Lost::Transport(other.to_string()),
        }
    }
}

/// One side of an attempt, for naming what went wrong with it.
pub(super) struct Attempted {
    pub(super) remote: SocketAddr,
    pub(super) own: PublicKey,
    pub(super) purpose: Purpose,
    pub(super) within: Duration,
}

impl Attempted {
    pub(super) fn timeout(&self) -> SetupError {
        SetupError::Timeout { remote: self.remote, within: self.within }
    }

    /// Names a failure by what this side's verifier found, else by the alert
    /// that either side sent.
    pub(super) fn failed(&self, error: ConnectionError, refusal: Option<KeyRefusal>) -> SetupError {
        let remote = self.remote;
        if let Some(refusal) = refusal {
            return SetupError::PeerKey { remote, refusal };
        }
        match &error {
            ConnectionError::TimedOut => self.timeout(),
            ConnectionError::TransportError(local)
                if is(local.code, alert::CERTIFICATE_REQUIRED)
                    || is(local.code, alert::HANDSHAKE_FAILURE) =>
            {
                SetupError::PeerWithoutKey { remote }
            }
            ConnectionError::TransportError(local)
                if is(local.code, alert::NO_APPLICATION_PROTOCOL) =>
            {
                SetupError::Purpose { remote, purpose: self.purpose }
            }
            ConnectionError::ConnectionClosed(close) => {
                self.refused(close.error_code, error.clone())
            }
            ConnectionError::ApplicationClosed(close)
                if close.error_code.into_inner() == u64::from(CloseCode::TOO_MANY.0) =>
            {
                SetupError::Busy { remote }
            }
            _ => SetupError::Lost { remote, lost: error.into() },
        }
    }

    fn refused(&self, code: TransportErrorCode, error: ConnectionError) -> SetupError {
        let (remote, purpose) = (self.remote, self.purpose);
        if code == TransportErrorCode::CONNECTION_REFUSED {
            SetupError::Unready { remote }
        } else if is(code, alert::NO_APPLICATION_PROTOCOL) {
            SetupError::Purpose { remote, purpose }
        } else if is(code, alert::ACCESS_DENIED) {
            SetupError::OwnKey { remote, own: self.own, purpose }
        } else {
            SetupError::Lost { remote, lost: error.into() }
        }
    }
}

fn is(code: TransportErrorCode, alert: u8) -> bool {
    code == TransportErrorCode::crypto(alert)
}
