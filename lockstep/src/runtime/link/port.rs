//! A port, one of its connections, and the way from its tasks to the consumer.

use std::sync::Arc;
use std::task::Waker;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::event::{ConnectionId, PortId};
use super::listen::Counters;
use crate::runtime::quic::{Connection, Endpoint, SetupError};

/// New connections and failures waiting for the consumer. Connections beyond
/// wait in their handshakes, failures beyond are counted and dropped.
pub(super) const NEWS_MAX: usize = 64;

/// What port tasks tell the consumer.
pub(super) enum News {
    Arrived { port: PortId, connection: Box<Connection>, place: Option<OwnedSemaphorePermit> },
    Failed { port: PortId, error: SetupError },
}

/// The way from a port's tasks to the consumer.
#[derive(Clone)]
pub(super) struct Outbox {
    pub(super) port: PortId,
    pub(super) news: mpsc::Sender<News>,
}

/// The network is gone.
pub(super) struct Gone;

impl Outbox {
    pub(super) async fn arrived(
        &self,
        connection: Connection,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Gone> {
        let news = News::Arrived { port: self.port, connection: Box::new(connection), place };
        self.news.send(news).await.map_err(|_| Gone)
    }

    pub(super) fn failed(&self, error: SetupError) {
        tracing::debug!(port = self.port.0, %error, "attempt to connect failed");
        // Half of the room is kept for connections.
        if self.news.capacity() > NEWS_MAX / 2 {
            let _ = self.news.try_send(News::Failed { port: self.port, error });
        }
    }
}

/// An open port.
pub(super) struct Port {
    pub(super) endpoint: Endpoint,
    /// Whether a new connection takes the place of the last.
    pub(super) single: bool,
    /// The newest connection.
    pub(super) current: Option<ConnectionId>,
    pub(super) counters: Arc<Counters>,
    /// Ends with the port.
    pub(super) _task: JoinSet<()>,
}

/// A connection that is up.
pub(super) struct Slot {
    pub(super) connection: Connection,
    pub(super) port: PortId,
    pub(super) waker: Waker,
    pub(super) reading: bool,
    /// Bytes of the largest frame refused since the last `Writable`.
    pub(super) starved: usize,
    /// In `Network::unflushed`.
    pub(super) unflushed: bool,
    /// Its place among those that the port admits, given back on drop.
    pub(super) place: Option<OwnedSemaphorePermit>,
    pub(super) queue: usize,
}

impl Slot {
    /// Whether somebody waits for room and there is enough again.
    pub(super) fn is_relieved(&self) -> bool {
        self.starved > 0 && self.connection.budget() >= self.starved.max(self.queue / 2)
    }
}
