//! Why something was not done.

use lockstep::ids::ReplicaId;

use crate::limits;

/// A listener cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// The service was wrapped without the TCP device.
    #[error("the service has no TCP device: give the wrapper one")]
    NoDevice,
    /// There is one of that name.
    #[error("there is a listener `{0}` already: close it first")]
    Twice(String),
    /// The name is empty or too long.
    #[error("a listener's name has 1 to {} bytes", limits::LISTENER_NAME_BYTES)]
    Name,
    /// The text for clients that are turned away is too long.
    #[error("a refusal has at most {} bytes", limits::REFUSAL_BYTES)]
    Refusal,
    /// The bound is reached.
    #[error("{} listeners are open: close one first", limits::LISTENERS)]
    TooMany,
}

/// A connection cannot be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The service was wrapped without the TCP device.
    #[error("the service has no TCP device: give the wrapper one")]
    NoDevice,
    /// The bound is reached.
    #[error("the bound on connections is reached: wait until some are closed")]
    TooMany,
    /// The host name is empty or too long.
    #[error("a host name has 1 to {} bytes", limits::HOST_BYTES)]
    Host,
    /// The chosen CoServer is not a member of the pair.
    #[error("the CoServer at place {0} is not a member at present")]
    NotAMember(ReplicaId),
}

/// Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The window is full. [`TcpEvent::Writable`](super::TcpEvent::Writable) follows.
    #[error("the connection takes {room} bytes at present: wait until it is writable")]
    Full {
        /// Bytes that the connection takes at present.
        room: usize,
    },
    /// More than half of the window: to be sent in parts.
    #[error("more than {limit} bytes at once: send them in parts")]
    TooLong {
        /// Half of the window.
        limit: usize,
    },
    /// The connection is not made yet.
    #[error("the connection is not made yet: wait for it")]
    NotConnected,
    /// The service closed this direction.
    #[error("this direction of the connection is closed")]
    Closed,
    /// The connection is over, or never was. Normal where a reset is about to be told.
    #[error("the connection is over")]
    Gone,
}
