//! Ports that accept, and what strangers may cost.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::crowd::{Crowd, Sums};
use super::handshakes::{Handshakes, Verdict};
use super::port::Outbox;
use crate::ids::ReplicaId;
use crate::runtime::keys::Role;
use crate::runtime::quic::{Attempt, Endpoint, EndpointConfig, Settings};
use crate::runtime::tls::Purpose;

/// The peers that a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// One peer at a time; a new connection takes the place of the old one.
    Newest,
    /// As many connections as this. One more takes the place of a connection of the key that has
    /// most, if that has at least two more, and of that key's block of addresses that has most.
    /// Otherwise the new one is closed. In both cases the close has
    /// [`CloseCode::TOO_MANY`](crate::runtime::quic::CloseCode::TOO_MANY).
    UpTo(usize),
}

/// A port that accepts connections.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// The socket and its connections.
    pub endpoint: EndpointConfig,
    /// The peers that the port takes.
    pub admit: Admit,
}

impl ListenConfig {
    /// A CoServer link of the place that listens. `remote` is the other's
    /// address on this link; an unspecified one (`0.0.0.0`) means any.
    pub fn link(peer: ReplicaId, local: SocketAddr, remote: IpAddr) -> Self {
        let from = (!remote.is_unspecified()).then_some(remote);
        let endpoint = accepting(Purpose::Link, vec![Role::CoServer(peer)], local);
        let endpoint = EndpointConfig { from, takes_guardians: true, ..endpoint };
        ListenConfig { endpoint, admit: Admit::Newest }
    }

    /// A witness; every CoServer of a pair takes a connection, or two while
    /// it restarts.
    pub fn witness(local: SocketAddr, connections_max: usize) -> Self {
        let wanted = vec![Role::CoServer(ReplicaId::A), Role::CoServer(ReplicaId::B)];
        let endpoint = accepting(Purpose::Witness, wanted, local);
        ListenConfig { endpoint, admit: Admit::UpTo(connections_max) }
    }

    /// A CoServer's port for clients.
    pub fn clients(local: SocketAddr, connections_max: usize) -> Self {
        let endpoint = accepting(Purpose::Client, vec![Role::Client], local);
        ListenConfig { endpoint, admit: Admit::UpTo(connections_max) }
    }
}

fn accepting(purpose: Purpose, wanted: Vec<Role>, local: SocketAddr) -> EndpointConfig {
    let settings = Settings::of(purpose);
    let (accepts, takes_guardians) = (true, false);
    EndpointConfig { local, purpose, wanted, accepts, takes_guardians, from: None, settings }
}

/// What became of the attempts to connect to a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenStats {
    /// Handshakes that were begun.
    pub begun: u64,
    /// Handshakes that ended in a connection.
    pub completed: u64,
    /// Attempts that had to prove their address first.
    pub retried: u64,
    /// Attempts that got no answer: from a wrong address, or while all places were taken.
    pub ignored: u64,
    /// Handshakes ended because their places were the share of others.
    pub displaced: u64,
    /// Packets of strangers that were dropped unread, since their senders had used up their share.
    pub dropped: u64,
    /// The most handshakes that were in flight at the same time.
    pub in_flight_max: u64,
}

/// The counters behind [`ListenStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    begun: AtomicU64,
    completed: AtomicU64,
    retried: AtomicU64,
    ignored: AtomicU64,
    displaced: AtomicU64,
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
            displaced: read(&self.displaced),
            dropped: 0,
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
    outbox: Outbox,
    counters: Arc<Counters>,
    handshakes: Handshakes,
    crowd: Crowd,
    /// Each ends with its number, or was ended by it.
    tasks: JoinSet<u64>,
}

impl Listener {
    pub(super) fn new(
        endpoint: Endpoint,
        from: Option<IpAddr>,
        outbox: Outbox,
        counters: Arc<Counters>,
    ) -> Self {
        Listener {
            endpoint,
            from,
            outbox,
            counters,
            handshakes: Handshakes::new(),
            crowd: Crowd::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Accepts until the endpoint is closed.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                Some(done) = self.tasks.join_next() => {
                    match done {
                        Ok(number) => self.handshakes.end(number),
                        // A handshake that was ended early has given its place up before.
                        Err(failed) => self.handshakes.abandoned(failed.id()),
                    }
                }
                attempt = self.endpoint.accept() => match attempt {
                    Some(attempt) => self.on_attempt(attempt),
                    None => return,
                },
            }
        }
    }

    fn on_attempt(&mut self, attempt: Attempt) {
        let (source, now) = (attempt.remote().ip(), Instant::now());
        if self.crowd.dropped(self.endpoint.dropped()) {
            self.report(now);
        }
        if self.from.is_some_and(|from| from != source) {
            count(&self.counters.ignored);
            return attempt.ignore();
        }
        match self.handshakes.judge(source, attempt.is_validated(), now) {
            Verdict::Ignore => {
                count(&self.counters.ignored);
                attempt.ignore();
                self.crowd.sums.ignored += 1;
                self.report(now);
            }
            Verdict::Retry => {
                count(&self.counters.retried);
                attempt.retry();
            }
            Verdict::Begin(instead) => {
                if let Some(number) = instead {
                    count(&self.counters.displaced);
                    self.handshakes.end(number);
                    self.crowd.sums.displaced += 1;
                    self.report(now);
                }
                self.begin(attempt, now);
            }
        }
    }

    fn report(&mut self, now: Instant) {
        if let Some(Sums { ignored, displaced, dropped }) = self.crowd.due(now) {
            let port = self.endpoint.local_addr().map(tracing::field::display);
            tracing::warn!(event = "port_crowded", port, ignored, displaced, dropped);
        }
    }

    fn begin(&mut self, attempt: Attempt, now: Instant) {
        count(&self.counters.begun);
        let (number, greeted) = self.handshakes.begin(attempt.remote().ip(), now);
        let (outbox, counters) = (self.outbox.clone(), Arc::clone(&self.counters));
        let task = self.tasks.spawn(async move {
            finish(attempt, greeted, outbox, counters).await;
            number
        });
        self.handshakes.carried_by(number, task);
        let in_flight = self.handshakes.len() as u64;
        self.counters.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
    }
}

async fn finish(
    attempt: Attempt,
    greeted: Arc<AtomicBool>,
    outbox: Outbox,
    counters: Arc<Counters>,
) {
    match attempt.finish(|| greeted.store(true, Ordering::Relaxed)).await {
        Ok(connection) => {
            count(&counters.completed);
            // Fails only when the network is gone, and the connection with it.
            let _ = outbox.arrived(connection).await;
        }
        Err(error) => outbox.failed(error),
    }
}
