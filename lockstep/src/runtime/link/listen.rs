//! Ports that accept, and what strangers may cost.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};

use super::port::Outbox;
use crate::ids::Place;
use crate::runtime::keys::Role;
use crate::runtime::quic::{Attempt, CloseCode, Endpoint, EndpointConfig, Settings, SetupError};
use crate::runtime::tls::Purpose;

/// Handshakes of one port in flight at a time: enough for a wave of clients that
/// come back together, few enough that their memory does not count. Each ends
/// after `setup_within`. Further attempts are ignored, and an honest peer
/// repeats its first packet.
const HANDSHAKES_MAX: usize = 64;

/// With as many in flight, a sender must first show that it receives at its
/// address; so forged addresses cannot take the rest.
const HANDSHAKES_UNVALIDATED: usize = 16;

/// Handshakes of one address in flight, so that one host cannot take all.
const HANDSHAKES_PER_SOURCE: usize = 32;

/// Whom a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// One peer at a time; a new connection takes the place of the old one.
    Newest,
    /// As many connections as this; more are closed with
    /// [`CloseCode::TOO_MANY`].
    UpTo(usize),
}

/// A port that accepts connections.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// The socket and its connections.
    pub endpoint: EndpointConfig,
    /// Whom it takes.
    pub admit: Admit,
    /// The only address that is listened to; packets of strangers from anywhere
    /// else are ignored.
    pub from: Option<IpAddr>,
}

impl ListenConfig {
    /// A CoServer link of the place that listens. `remote` is the other's
    /// address on this link; an unspecified one (`0.0.0.0`) means any.
    pub fn link(peer: Place, local: SocketAddr, remote: IpAddr) -> Self {
        let from = (!remote.is_unspecified()).then_some(remote);
        let endpoint = accepting(Purpose::Link, vec![Role::CoServer(peer)], local);
        ListenConfig { endpoint, admit: Admit::Newest, from }
    }

    /// A witness; every CoServer of a pair takes a connection, or two while it
    /// restarts.
    pub fn witness(local: SocketAddr, connections_max: usize) -> Self {
        let wanted = vec![Role::CoServer(Place::A), Role::CoServer(Place::B)];
        let endpoint = accepting(Purpose::Witness, wanted, local);
        ListenConfig { endpoint, admit: Admit::UpTo(connections_max), from: None }
    }

    /// A CoServer's port for clients.
    pub fn clients(local: SocketAddr, connections_max: usize) -> Self {
        let endpoint = accepting(Purpose::Client, vec![Role::Client], local);
        ListenConfig { endpoint, admit: Admit::UpTo(connections_max), from: None }
    }
}

fn accepting(purpose: Purpose, wanted: Vec<Role>, local: SocketAddr) -> EndpointConfig {
    EndpointConfig { local, purpose, wanted, accepts: true, settings: Settings::of(purpose) }
}

/// What became of the attempts to connect to a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenStats {
    /// Handshakes begun.
    pub begun: u64,
    /// Of them, those that ended in a connection.
    pub completed: u64,
    /// Attempts that had to show their address first.
    pub retried: u64,
    /// Attempts ignored, from a wrong address or over a limit.
    pub ignored: u64,
    /// The most handshakes that were in flight together.
    pub in_flight_max: u64,
}

/// The counters behind [`ListenStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    begun: AtomicU64,
    completed: AtomicU64,
    retried: AtomicU64,
    ignored: AtomicU64,
    in_flight_max: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> ListenStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListenStats {
            begun: read(&self.begun),
            completed: read(&self.completed),
            retried: read(&self.retried),
            ignored: read(&self.ignored),
            in_flight_max: read(&self.in_flight_max),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The accepting side of a port.
pub(super) struct Listener {
    endpoint: Endpoint,
    from: Option<IpAddr>,
    places: Option<Arc<Semaphore>>,
    outbox: Outbox,
    counters: Arc<Counters>,
    handshakes: JoinSet<()>,
    sources: BTreeMap<Id, IpAddr>,
}

impl Listener {
    pub(super) fn new(
        endpoint: Endpoint,
        config: &ListenConfig,
        outbox: Outbox,
        counters: Arc<Counters>,
    ) -> Self {
        let places = match config.admit {
            Admit::Newest => None,
            Admit::UpTo(most) => Some(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
        };
        Listener {
            endpoint,
            from: config.from,
            places,
            outbox,
            counters,
            handshakes: JoinSet::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Accepts until the endpoint is closed.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next_with_id() => {
                    let id = match done {
                        Ok((id, ())) => id,
                        Err(failed) => failed.id(),
                    };
                    self.sources.remove(&id);
                }
                attempt = self.endpoint.accept() => match attempt {
                    Some(attempt) => self.on_attempt(attempt),
                    None => return,
                },
            }
        }
    }

    fn on_attempt(&mut self, attempt: Attempt) {
        let source = attempt.remote().ip();
        let in_flight = self.sources.len();
        let of_source = self.sources.values().filter(|known| **known == source).count();
        let foreign = self.from.is_some_and(|from| from != source);
        if foreign || in_flight >= HANDSHAKES_MAX || of_source >= HANDSHAKES_PER_SOURCE {
            count(&self.counters.ignored);
            attempt.ignore();
        } else if in_flight >= HANDSHAKES_UNVALIDATED && !attempt.is_validated() {
            count(&self.counters.retried);
            attempt.retry();
        } else {
            count(&self.counters.begun);
            let handshake =
                finish(attempt, self.places.clone(), self.outbox.clone(), self.counters.clone());
            let task = self.handshakes.spawn(handshake);
            self.sources.insert(task.id(), source);
            self.counters.in_flight_max.fetch_max(self.sources.len() as u64, Ordering::Relaxed);
        }
    }
}

async fn finish(
    attempt: Attempt,
    places: Option<Arc<Semaphore>>,
    outbox: Outbox,
    counters: Arc<Counters>,
) {
    let mut connection = match attempt.finish().await {
        Ok(connection) => connection,
        Err(error) => return outbox.failed(error),
    };
    let place = places.map(Semaphore::try_acquire_owned).transpose();
    let Ok(place) = place else {
        let remote = connection.peer().remote;
        connection.close(CloseCode::TOO_MANY, "this port has as many connections as it may");
        return outbox.failed(SetupError::Busy { remote });
    };
    count(&counters.completed);
    // Fails only when the network is gone, and the connection with it.
    let _ = outbox.arrived(connection, place).await;
}
