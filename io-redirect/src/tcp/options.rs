//! Bounds of the device, and of a listener.

use bytes::Bytes;

use super::messages::Windows;
use crate::limits;

/// How a listener is to behave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Sent to a client before its connection is closed, when it cannot be served: the CoServer
    /// holds or has left the pair, or there are too many connections. Also sent to established
    /// connections, after everything else, when the CoServer leaves, and to one that gives way to
    /// another. Empty for nothing. At most
    /// [`limits::REFUSAL_BYTES`].
    pub refusal: Bytes,
    /// Connections of this listener, on both CoServers together: what two serve must fit the one
    /// that is left. At one more, a client takes the place of another one or is turned away, see
    /// [the module](super#when-there-are-too-many). `None` for [`limits::LISTENER_CONNECTIONS`].
    pub connections: Option<u32>,
}

/// Bounds of the TCP device; part of what the CoServers must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections at a time on both CoServers together, see [`limits::CONNECTIONS`].
    pub connections: u32,
    /// Bytes read ahead per connection, see [`limits::READ_WINDOW`].
    pub read_window: u32,
    /// Bytes sent ahead per connection, see [`limits::SEND_WINDOW`].
    pub send_window: u32,
    /// How long finding the addresses of a name may take, and after that making a connection to
    /// one of them.
    pub connect_timeout: core::time::Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS,
            read_window: limits::READ_WINDOW,
            send_window: limits::SEND_WINDOW,
            connect_timeout: limits::CONNECT_TIMEOUT,
        }
    }
}

/// A bound of the TCP device is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TcpLimitsError {
    /// A window is too small or too large.
    #[error(
        "a window of {0} bytes is out of range: use {min} to {max}",
        min = limits::WINDOW_MIN,
        max = limits::WINDOW_MAX
    )]
    Window(u32),
    /// No connection at all.
    #[error("a TCP device without connections: allow at least one, or leave the device out")]
    NoConnections,
}

impl TcpLimits {
    /// Whether every bound is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), TcpLimitsError> {
        for window in [self.read_window, self.send_window] {
            if !(limits::WINDOW_MIN..=limits::WINDOW_MAX).contains(&window) {
                return Err(TcpLimitsError::Window(window));
            }
        }
        if self.connections == 0 { Err(TcpLimitsError::NoConnections) } else { Ok(()) }
    }

    pub(crate) fn windows(&self) -> Windows {
        Windows { read: self.read_window, send: self.send_window }
    }
}
