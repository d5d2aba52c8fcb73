//! TCP over the kernel's sockets of the CoServers.
//!
//! Each CoServer accepts on listen addresses of its own, and makes connections from its own
//! addresses. The service knows listeners by name and connections by [`ConnId`], and does not
//! notice on which CoServer one is, except when that CoServer goes. Its connections end with it,
//! and the service hears [`TcpEvent::Reset`] with [`ResetCause::CarrierLost`] for each. Clients
//! connect again, to the other CoServer. A connection that the service asked for and that is not
//! made yet has carried nothing: the other CoServer makes it, with its whole time limit again. A
//! CoServer that is back, or started again, is told of the listeners anew.
//!
//! What counts is the process, not the place: one that took another's place at once loses its
//! predecessor's connections all the same. Every name that the two halves have for a connection
//! begins with its process. So neither takes what is said of one for another, however late and
//! however often it comes. The outside half passes over what is for another process, the inside
//! half what comes from one.
//!
//! Nothing that the service sends leaves before both CoServers computed it. Which of the bytes
//! under way reached the far end when a CoServer dies cannot be known. So the device's outputs are
//! [`CarrierBound`](lockstep::device::OutputClass::CarrierBound), neither repeated nor completed. A
//! protocol above that needs an answer waits for it (RFC 1047 is about just that, for mail).
//!
//! # When there are too many
//!
//! Connections are bounded, and the bound is shared out by blocks of addresses (/24, for IPv6 /48).
//! No newcomer is turned away while there is room. Once there is none, a newcomer takes the place
//! of a connection of the block that has most, if that has at least two more than the newcomer's.
//! So no client can shut out the others by taking every place. The connection that gives way is the
//! one that has said nothing for longest, and the service hears [`TcpEvent::Reset`] with
//! [`ResetCause::Displaced`]. Both who gives way and who is turned away get the listener's text. A
//! service that knows a client better than by its address keeps it with [`Tcp::protect`].
//!
//! # Back-pressure
//!
//! Of each connection the outside half reads at most a window ahead of what the service has
//! taken: then the kernel's buffers fill up and the far end waits. Bytes count as taken when
//! they are delivered, or, after [`Tcp::hold`], when the service says so with [`Tcp::consume`].
//! The other way, at most a window may be sent and not yet reported as written to the socket;
//! beyond that [`Tcp::send`] is [`SendError::Full`], and [`TcpEvent::Writable`] follows.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::limits;

mod accepted;
mod error;
mod flow;
mod handle;
mod inside;
mod members;
pub(crate) mod messages;
mod options;
#[cfg(feature = "runtime")]
mod outside;
mod places;
mod simulated;
mod table;

pub use error::{ConnectError, ListenError, SendError};
pub use handle::Tcp;
pub(crate) use inside::TcpTable;
pub use options::{ListenOptions, TcpLimits, TcpLimitsError};
#[cfg(feature = "runtime")]
pub use outside::{BindError, TcpOptions, TcpOutside};
pub use simulated::{Client, ConnectionState, Dial, NotListening, Simulated};
pub(crate) use table::{Frozen, before};

/// A connection, as the service knows it: counts up from 1 in a lineage, never reused.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[rkyv(derive(Debug, PartialEq, Eq, PartialOrd, Ord))]
pub struct ConnId(pub u64);

/// A listener, as the service knows it. Never reused in a lineage.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[rkyv(derive(Debug, PartialEq, Eq, PartialOrd, Ord))]
pub struct ListenerId(pub u16);

/// Something happened on a connection.
///
/// A connection begins with `Accepted` or with `Connected`, and is over after `ConnectFailed`,
/// `Ended`, `Reset`, or the service's own [`Tcp::close`] or [`Tcp::reset`], after which nothing
/// more is heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpEvent {
    /// A client connected.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// The listener that the client connected to.
        listener: ListenerId,
        /// The client's address.
        peer: SocketAddr,
        /// The address that it connected to.
        local: SocketAddr,
    },
    /// A connection that the service asked for is made.
    Connected {
        /// The connection that is made.
        conn: ConnId,
        /// The address that answered.
        peer: SocketAddr,
        /// The address of the CoServer's end.
        local: SocketAddr,
    },
    /// A connection that the service asked for could not be made.
    ConnectFailed {
        /// The connection that was to be made; it is over.
        conn: ConnId,
        /// Why the connection could not be made.
        why: ConnectFailure,
    },
    /// Bytes came, in order; how they are cut into events means nothing.
    Received {
        /// On which connection.
        conn: ConnId,
        /// The bytes that came, never empty.
        bytes: Bytes,
    },
    /// After [`SendError::Full`] or a short [`Tcp::send_prefix`]: at least half of the window
    /// is free.
    Writable {
        /// The connection that takes bytes again.
        conn: ConnId,
    },
    /// The far end will send nothing more, but may still read.
    PeerClosed {
        /// The connection whose far end is done.
        conn: ConnId,
    },
    /// Both ends have closed, and everything sent was written.
    Ended {
        /// The connection that ended; it is over.
        conn: ConnId,
    },
    /// The connection broke off. What of the bytes under way arrived is not known.
    Reset {
        /// The connection that broke off; it is over.
        conn: ConnId,
        /// Why the connection broke off.
        cause: ResetCause,
    },
}

/// Why a connection broke off.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// The far end reset it, or closed it while bytes were still under way to it.
    Peer,
    /// The far end stopped answering.
    TimedOut,
    /// The network or the kernel gave it up.
    Network,
    /// The CoServer's process that carried it is no longer a member of the pair; the CoServer may
    /// be, with another one.
    CarrierLost,
    /// No more connections may be there, and it gave way to one from elsewhere. Of the blocks of
    /// addresses that connected, its block had most, and of the connections of that block it had
    /// said nothing for longest. The far end gets the listener's
    /// [`refusal`](ListenOptions::refusal). A connection that is [protected](Tcp::protect) never
    /// gives way.
    Displaced,
}

impl ResetCause {
    fn code(self) -> u8 {
        match self {
            Self::Peer => 1,
            Self::TimedOut => 2,
            Self::Network => 3,
            Self::CarrierLost => 4,
            Self::Displaced => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Peer, Self::TimedOut, Self::Network, Self::CarrierLost, Self::Displaced]
            .into_iter()
            .find(|cause| cause.code() == code)
    }
}

/// Why a connection could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    /// The name could not be resolved.
    #[error("the name was not resolved: {0}")]
    Unresolved(String),
    /// No process listens there.
    #[error("connection refused")]
    Refused,
    /// No answer came in time.
    #[error("no answer in time")]
    TimedOut,
    /// There is no way there, or the CoServer's own system refused.
    #[error("{0}")]
    Unreachable(String),
    /// The CoServer that was to make it had no file descriptor, or no memory, for it. That says
    /// nothing about the far end: try again soon.
    #[error("the CoServer that was to connect is exhausted: {0}")]
    Exhausted(String),
    /// The service had chosen the CoServer that was to make it, and that has left the pair.
    #[error("the CoServer that was connecting left the pair")]
    CarrierLost,
}

impl ConnectFailure {
    pub(crate) fn parts(&self) -> (u8, &str) {
        match self {
            Self::Unresolved(text) => (1, text),
            Self::Refused => (2, ""),
            Self::TimedOut => (3, ""),
            Self::Unreachable(text) => (4, text),
            Self::CarrierLost => (5, ""),
            Self::Exhausted(text) => (6, text),
        }
    }

    pub(crate) fn from_parts(code: u8, text: &[u8]) -> Self {
        let text = || String::from_utf8_lossy(text).into_owned();
        match code {
            1 => Self::Unresolved(text()),
            2 => Self::Refused,
            3 => Self::TimedOut,
            5 => Self::CarrierLost,
            6 => Self::Exhausted(text()),
            _ => Self::Unreachable(text()),
        }
    }
}

/// Where to connect to.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address, without a look-up.
    Address(SocketAddr),
    /// A name, looked up anew for each connection by the CoServer that connects. Its addresses are
    /// tried in the resolver's order, IPv6 and IPv4 in turns, at most
    /// [`ADDRESSES_TRIED`](crate::limits::ADDRESSES_TRIED). Each is begun when the one before has
    /// failed or has had its [`HEAD_START`](crate::limits::HEAD_START), and the first that answers
    /// is taken. One that does not answer takes nothing from the others' time (RFC 5321, section
    /// 5.1; RFC 8305, section 5).
    Name {
        /// The host, at most [`HOST_BYTES`](crate::limits::HOST_BYTES).
        host: String,
        /// The TCP port, the same for all addresses of the name.
        port: u16,
        /// The addresses of the name that are tried after the others, see [`Target::last`].
        last: Vec<SocketAddr>,
    },
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl Target {
    /// A host, by name or by the text of its address, and a port.
    pub fn host(host: &str, port: u16) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => Self::Address(SocketAddr::new(ip, port)),
            Err(_) => Self::Name { host: host.into(), port, last: Vec::new() },
        }
    }

    /// The same, with these addresses behind the other ones of the name. For a service that
    /// knows of an address ([`TcpEvent::Connected`] says which one answered) that it accepts
    /// connections and does not serve; only a service can know that. More than
    /// [`ADDRESSES_TRIED`](crate::limits::ADDRESSES_TRIED) are not looked at; for an address
    /// there is nothing to choose from.
    #[must_use]
    pub fn last(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        if let Self::Name { last, .. } = &mut self {
            *last = addresses.into_iter().take(limits::ADDRESSES_TRIED).collect();
        }
        self
    }
}

impl core::fmt::Display for Target {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}
