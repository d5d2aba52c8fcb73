//! A port, one of its connections, and the way from its tasks to the consumer.

use std::sync::Arc;
use std::task::Waker;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::event::{ConnectionId, PortId};
use super::listen::{Admit, Counters};
use crate::runtime::keys::PublicKey;
use crate::runtime::quic::{Connection, Endpoint, SetupError};
use crate::runtime::tls::Purpose;
use crate::shares::{AddressBlock, Shares};

/// New connections and failures waiting for the consumer. Connections beyond
/// wait in their handshakes, failures beyond are counted and dropped.
pub(super) const NEWS_MAX: usize = 64;

/// What port tasks tell the consumer.
pub(super) enum PortEvent {
    Arrived { port: PortId, connection: Box<Connection> },
    Failed { port: PortId, error: SetupError },
}

/// The way from a port's tasks to the consumer.
#[derive(Clone)]
pub(super) struct Outbox {
    pub(super) port: PortId,
    pub(super) news: mpsc::Sender<PortEvent>,
}

/// The network is gone.
pub(super) struct Closed;

impl Outbox {
    pub(super) async fn arrived(&self, connection: Connection) -> Result<(), Closed> {
        let news = PortEvent::Arrived { port: self.port, connection: Box::new(connection) };
        self.news.send(news).await.map_err(|_| Closed)
    }

    pub(super) fn failed(&self, error: SetupError) {
        tracing::debug!(port = self.port.0, %error, "attempt to connect failed");
        // Half of the room is kept for connections.
        if self.news.capacity() > NEWS_MAX / 2 {
            let _ = self.news.try_send(PortEvent::Failed { port: self.port, error });
        }
    }
}

/// An open port.
pub(super) struct Port {
    pub(super) endpoint: Endpoint,
    pub(super) admit: Admit,
    /// Who has its places: the key, and the block of addresses.
    pub(super) shares: Shares<PublicKey, AddressBlock, ConnectionId>,
    /// The newest connection.
    pub(super) current: Option<ConnectionId>,
    /// The newest connection of the peer's guardian.
    pub(super) guardian: Option<ConnectionId>,
    pub(super) counters: Arc<Counters>,
    /// They end with the port.
    pub(super) _tasks: JoinSet<()>,
}

impl Port {
    /// The newest connection for the same purpose: a guardian's takes the place of no other.
    pub(super) fn newest(&mut self, purpose: Purpose) -> &mut Option<ConnectionId> {
        match purpose {
            Purpose::Guardian => &mut self.guardian,
            _ => &mut self.current,
        }
    }
}

/// A connection that is up.
pub(super) struct Slot {
    pub(super) connection: Connection,
    pub(super) port: PortId,
    pub(super) waker: Waker,
    pub(super) reading: bool,
    /// Whether the connection is one of a key among others, and is read when it is that key's turn.
    pub(super) takes_turns: bool,
    /// Whether the connection waits for its turn.
    pub(super) aside: bool,
    /// Bytes of the largest frame refused since the last `Writable`.
    pub(super) starved: usize,
    /// Whether the connection is in `Network::unflushed`.
    pub(super) unflushed: bool,
    pub(super) queue: usize,
}

impl Slot {
    /// Bytes that wait for the stream to take them.
    pub(super) fn queued(&self) -> usize {
        self.queue - self.connection.budget()
    }

    /// Whether a caller waits for room and there is enough again.
    pub(super) fn is_relieved(&self) -> bool {
        self.starved > 0 && self.connection.budget() >= self.starved.max(self.queue / 2)
    }
}
