//! What a network's consumer is told, and the names in it.

use bytes::Bytes;

use crate::runtime::quic::{Lost, Peer, SetupError};

/// One port of a [`Network`](super::Network).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub(super) u16);

/// One connection of a [`Network`](super::Network); never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

/// What happened on a network. Each `Up` is followed by exactly one `Down`.
#[derive(Debug)]
pub enum Event {
    /// A peer is connected, its key and role proved.
    Up {
        /// On this port.
        port: PortId,
        /// The connection.
        connection: ConnectionId,
        /// Who it is.
        peer: Peer,
    },
    /// A peer sent a frame.
    Frame {
        /// On this port.
        port: PortId,
        /// Over this connection.
        connection: ConnectionId,
        /// The frame.
        frame: Bytes,
    },
    /// A connection that refused a frame can take it now, and at least half of
    /// its queue.
    Writable {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection is over; what was queued for it is gone.
    Down {
        /// On this port.
        port: PortId,
        /// The connection.
        connection: ConnectionId,
        /// Who it was.
        peer: Peer,
        /// How it ended.
        lost: Lost,
    },
    /// An attempt to connect, of this side or a peer's, came to nothing. A port
    /// that dials tries again by itself. Under a flood not all are reported.
    Failed {
        /// On this port.
        port: PortId,
        /// Why.
        error: SetupError,
    },
}
