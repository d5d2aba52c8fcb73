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
    /// A peer is connected and has proved its key and its role.
    Up {
        /// The port that the connection belongs to.
        port: PortId,
        /// The new connection.
        connection: ConnectionId,
        /// The peer's key, role and address.
        peer: Peer,
    },
    /// A peer sent a frame.
    Frame {
        /// The port that the connection belongs to.
        port: PortId,
        /// The connection over which the frame came.
        connection: ConnectionId,
        /// The frame's bytes, not yet checked.
        frame: Bytes,
    },
    /// A connection that refused a frame can take it now, and at least half of
    /// its queue.
    Writable {
        /// The connection that takes frames again.
        connection: ConnectionId,
    },
    /// A connection is over; what was queued for it is gone.
    Down {
        /// The port that the connection belonged to.
        port: PortId,
        /// The connection that is over.
        connection: ConnectionId,
        /// The peer's key, role and address.
        peer: Peer,
        /// How it ended.
        lost: Lost,
    },
    /// An attempt to connect, of this side or a peer's, came to nothing. A port
    /// that dials tries again by itself. Under a flood not all are reported.
    Failed {
        /// The port at which the attempt was made.
        port: PortId,
        /// Why the attempt failed.
        error: SetupError,
    },
}
