//! The ports and connections of a process behind one poll.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::dial::{DialConfig, Dialler};
use super::event::{ConnectionId, Event, PortId};
use super::listen::{Admit, Counters, ListenConfig, ListenStats, Listener};
use super::names::Names;
use super::port::{NEWS_MAX, Outbox, Port, PortEvent, Slot};
use super::queues::Queues;
use super::ready::{Rank, ReadySet, Source};
use crate::ids::MonotonicTime;
use crate::runtime::fair::FairReading;
use crate::runtime::keys::{PublicKey, Role};
use crate::runtime::quic::{
    BindError, CloseCode, Connection, Endpoint, Lost, Peer, SendError, SetupError, Stats,
};
use crate::runtime::tls::{Credentials, judge_key};
use crate::shares::{AddressBlock, Shares};

mod admission;

use admission::share_of;

/// Events given out before the consumer's task must yield once, so that quinn
/// can send and receive meanwhile however much has already arrived.
const TURN: u32 = 256;

/// The source that is no connection: news from ports.
const NEWS: u64 = 0;

/// All connections of a process. See the [module](super) for how it is used.
pub struct Network {
    credentials: Credentials,
    names: Names,
    ready: Arc<ReadySet>,
    news: mpsc::Receiver<PortEvent>,
    news_sender: mpsc::Sender<PortEvent>,
    news_source: Arc<Source>,
    news_waker: Waker,
    ports: BTreeMap<PortId, Port>,
    slots: BTreeMap<ConnectionId, Slot>,
    /// Whose turn it is to be read, among the clients' connections.
    fair: FairReading<PublicKey, ConnectionId>,
    /// Most bytes that may wait for all connections together.
    queued_most: usize,
    unflushed: Vec<ConnectionId>,
    /// Events already decided; at most a few per connection that ends.
    events: VecDeque<Event>,
    /// Connections that end in good order, each within its time.
    finishing: JoinSet<(PortId, ConnectionId)>,
    last_connection: u64,
    last_port: u16,
    given_out: u32,
}

impl Network {
    /// A network without ports. To be used within a tokio runtime.
    pub fn new(credentials: Credentials) -> Self {
        let ready = Arc::new(ReadySet::default());
        let (news_sender, news) = mpsc::channel(NEWS_MAX);
        let news_source = ready.source(NEWS, Rank::Vital);
        let news_waker = Waker::from(Arc::clone(&news_source));
        // The first look registers the waker with the channel.
        news_waker.wake_by_ref();
        Network {
            credentials,
            names: Names::new(),
            ready,
            news,
            news_sender,
            news_source,
            news_waker,
            ports: BTreeMap::new(),
            slots: BTreeMap::new(),
            fair: FairReading::new(),
            queued_most: 0,
            unflushed: Vec::new(),
            events: VecDeque::new(),
            finishing: JoinSet::new(),
            last_connection: NEWS,
            last_port: 0,
            given_out: 0,
        }
    }

    /// Opens a port that accepts.
    ///
    /// # Errors
    /// If its address cannot be had or its settings contradict each other.
    pub fn listen(&mut self, mut config: ListenConfig) -> Result<PortId, BindError> {
        config.endpoint.accepts = true;
        let endpoint = Endpoint::bind(config.endpoint.clone(), self.credentials.clone())?;
        let (outbox, counters) = (self.next_outbox(), Arc::new(Counters::default()));
        let port = outbox.port;
        let from = config.endpoint.from;
        let listener = Listener::new(endpoint.clone(), from, outbox, Arc::clone(&counters));
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.run());
        self.open(port, endpoint, config.admit, counters, tasks);
        Ok(port)
    }

    /// Opens a port that keeps a connection up.
    ///
    /// # Errors
    /// If its local address cannot be had or its settings contradict each other.
    pub fn dial(&mut self, config: DialConfig) -> Result<PortId, BindError> {
        let bind = |endpoint| Endpoint::bind(endpoint, self.credentials.clone());
        let endpoint = match (bind(config.endpoint.clone()), config.without_ipv6()) {
            (Err(_), Some(ipv4)) => bind(ipv4)?,
            (bound, _) => bound?,
        };
        let outbox = self.next_outbox();
        let port = outbox.port;
        let (mut tasks, counters) = (JoinSet::new(), Arc::new(Counters::default()));
        if config.endpoint.takes_guardians {
            let (from, counters) = (config.endpoint.from, Arc::clone(&counters));
            tasks.spawn(Listener::new(endpoint.clone(), from, outbox.clone(), counters).run());
        }
        let DialConfig { remote, backoff, .. } = config;
        let names = self.names.clone();
        let dialler = Dialler { endpoint: endpoint.clone(), remote, backoff, names };
        tasks.spawn(dialler.run(outbox));
        self.open(port, endpoint, Admit::Newest, counters, tasks);
        Ok(port)
    }

    fn next_outbox(&mut self) -> Outbox {
        self.last_port = self.last_port.checked_add(1).expect("a process opens a few ports only");
        Outbox { port: PortId(self.last_port), news: self.news_sender.clone() }
    }

    fn open(
        &mut self,
        port: PortId,
        endpoint: Endpoint,
        admit: Admit,
        counters: Arc<Counters>,
        tasks: JoinSet<()>,
    ) {
        let (shares, current, guardian) = (Shares::new(), None, None);
        let opened = Port { endpoint, admit, shares, current, guardian, counters, _tasks: tasks };
        self.ports.insert(port, opened);
    }

    /// Closes a port and its connections; each of them goes `Down`.
    pub fn close_port(&mut self, port: PortId, code: CloseCode, reason: &str) {
        let Some(closed) = self.ports.remove(&port) else { return };
        let connections: Vec<_> =
            self.slots.iter().filter(|(_, slot)| slot.port == port).map(|(id, _)| *id).collect();
        for connection in connections {
            self.close(connection, code, reason);
        }
        closed.endpoint.close(code, reason);
    }

    /// The address of a port's socket.
    pub fn local_addr(&self, port: PortId) -> Option<SocketAddr> {
        self.ports.get(&port)?.endpoint.local_addr()
    }

    /// What became of the attempts to connect to a port.
    pub fn listen_stats(&self, port: PortId) -> Option<ListenStats> {
        let port = self.ports.get(&port)?;
        Some(ListenStats { dropped: port.endpoint.dropped(), ..port.counters.read() })
    }

    /// The newest connection of a port, while it is up: of a link, the link.
    pub fn connection(&self, port: PortId) -> Option<ConnectionId> {
        self.ports.get(&port)?.current
    }

    /// The peer of a connection.
    pub fn peer(&self, connection: ConnectionId) -> Option<&Peer> {
        self.slots.get(&connection).map(|slot| slot.connection.peer())
    }

    /// What QUIC knows about the way to the peer.
    pub fn stats(&self, connection: ConnectionId) -> Option<Stats> {
        self.slots.get(&connection).map(|slot| slot.connection.stats())
    }

    /// Bytes that a connection can take now; none if it is not up. A frame takes
    /// its length and four more.
    pub fn budget(&self, connection: ConnectionId) -> usize {
        self.slots.get(&connection).map_or(0, |slot| slot.connection.budget())
    }

    /// Takes a frame, to be written at the next flush.
    ///
    /// # Errors
    /// [`SendError::Full`] if it does not fit at present: an
    /// [`Event::Writable`] will say when to try again.
    pub fn send(&mut self, connection: ConnectionId, frame: Bytes) -> Result<(), SendError> {
        let slot = self.slots.get_mut(&connection).ok_or(SendError::NotConnected)?;
        let before = slot.queued();
        let taken = slot.connection.send(frame);
        if slot.takes_turns {
            self.queued_most += slot.queued() - before;
        }
        if let Err(SendError::Full { needed, .. }) = taken {
            slot.starved = slot.starved.max(needed);
        }
        self.flush_later(connection);
        taken
    }

    /// The connections that are to be closed if more than `most` bytes wait for clients, so that
    /// three quarters of that are left. Of the key with most they are the one with most, and so on.
    pub fn overfull(&mut self, most: usize) -> Vec<ConnectionId> {
        if self.queued_most <= most {
            return Vec::new();
        }
        let waits = self.slots.iter().filter(|(_, slot)| slot.takes_turns);
        let waits = waits.map(|(id, slot)| (slot.connection.peer().key, *id, slot.queued()));
        let mut queues = Queues::of(waits);
        let chosen = if queues.sum() > most { queues.cut(most / 4 * 3) } else { Vec::new() };
        self.queued_most = queues.sum();
        chosen
    }

    /// Takes a frame that goes before all others, to be written at the next flush.
    ///
    /// # Errors
    /// [`SendError::Full`] if others of its kind have not gone yet; it need not be tried again.
    pub fn send_urgent(&mut self, connection: ConnectionId, frame: Bytes) -> Result<(), SendError> {
        let slot = self.slots.get_mut(&connection).ok_or(SendError::NotConnected)?;
        let taken = slot.connection.send_urgent(frame);
        self.flush_later(connection);
        taken
    }

    fn flush_later(&mut self, connection: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(&connection)
            && !core::mem::replace(&mut slot.unflushed, true)
        {
            self.unflushed.push(connection);
        }
    }

    /// Writes what was queued. It leaves when the caller's task yields.
    pub fn flush(&mut self) {
        for connection in self.unflushed.drain(..) {
            let Some(slot) = self.slots.get_mut(&connection) else { continue };
            slot.unflushed = false;
            let flushed = slot.connection.poll_flush(&mut Context::from_waker(&slot.waker));
            let lost = matches!(flushed, Poll::Ready(Err(_)));
            if lost || slot.is_relieved() {
                slot.waker.wake_by_ref();
            }
        }
    }

    /// Writes what was queued and yields once, so that it leaves now.
    pub async fn transmit(&mut self) {
        self.flush();
        let mut yielded = false;
        // Waking oneself puts this task behind quinn's, which the flush woke.
        poll_fn(|cx| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Reads no more from a connection until [`resume`](Self::resume); its peer
    /// is stopped when the window is full.
    pub fn pause(&mut self, connection: ConnectionId) {
        self.set_reading(connection, false);
    }

    /// Reads from a connection again.
    pub fn resume(&mut self, connection: ConnectionId) {
        self.set_reading(connection, true);
    }

    /// Says how many bytes of clients' frames may be read before too many wait to be carried out.
    /// From then on clients whose key had more read than others are not read. `elsewhere` is when
    /// inputs last came another way that wait with theirs.
    pub fn set_room(&mut self, room: usize, now: MonotonicTime, elsewhere: Option<MonotonicTime>) {
        self.fair.set_room(room, now);
        self.fair.set_elsewhere(elsewhere);
    }

    /// When a client was last read.
    pub fn clients_read(&self) -> Option<MonotonicTime> {
        self.fair.last_read()
    }

    fn set_reading(&mut self, connection: ConnectionId, reading: bool) {
        if let Some(slot) = self.slots.get_mut(&connection) {
            slot.reading = reading;
            // A look registers for what is now of interest.
            slot.waker.wake_by_ref();
        }
    }

    /// Closes a connection at once; it goes `Down`. A port that dials will dial
    /// again; [`close_port`](Self::close_port) ends that too.
    pub fn close(&mut self, connection: ConnectionId, code: CloseCode, reason: &str) {
        if let Some(mut slot) = self.remove(connection, Lost::Here { code }) {
            slot.connection.close(code, reason);
        }
    }

    /// Closes a connection when the peer has what was queued, or after `within`;
    /// it goes `Down` at once.
    pub fn finish(
        &mut self,
        connection: ConnectionId,
        code: CloseCode,
        reason: &str,
        within: Duration,
    ) {
        let Some(slot) = self.remove(connection, Lost::Here { code }) else { return };
        let (reason, port) = (reason.to_owned(), slot.port);
        self.sweep();
        // The connection keeps its place until it is gone.
        if let Some(opened) = self.ports.get_mut(&port) {
            let (key, block) = share_of(slot.connection.peer());
            opened.shares.take(key, block, connection);
        }
        self.finishing.spawn(async move {
            slot.connection.finish(code, &reason, within).await;
            (port, connection)
        });
    }

    /// Gives back the places of those that have finished.
    fn sweep(&mut self) {
        while let Some(finished) = self.finishing.try_join_next() {
            if let Ok((port, connection)) = finished
                && let Some(opened) = self.ports.get_mut(&port)
            {
                opened.shares.give_back(connection);
            }
        }
    }

    /// Lets finishing connections finish, closes all others, and waits, at most
    /// `within`, until the peers know.
    pub async fn shutdown(mut self, code: CloseCode, reason: &str, within: Duration) {
        self.flush();
        let goodbye = async { while self.finishing.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(within, goodbye).await;
        self.close_all(code, reason);
        let all_know = async {
            for port in self.ports.values() {
                port.endpoint.wait_idle(within).await;
            }
        };
        let _ = tokio::time::timeout(within, all_know).await;
    }

    fn close_all(&mut self, code: CloseCode, reason: &str) {
        // First the connections: dropped unclosed, they would give no reason.
        for slot in self.slots.values_mut() {
            slot.connection.close(code, reason);
        }
        self.slots.clear();
        for port in self.ports.values() {
            port.endpoint.close(code, reason);
        }
    }

    /// Waits for the next event. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event. Before it is pending, everything queued is written.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.given_out < TURN
            && let Some(event) = self.try_next()
        {
            return Poll::Ready(event);
        }
        self.given_out = 0;
        self.flush();
        self.ready.watch(cx.waker());
        if !self.events.is_empty() || !self.ready.is_empty() || self.fair.has_next() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// The next event, if there is one; for taking a batch without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = loop {
            if let Some(event) = self.events.pop_front() {
                break event;
            }
            // Where something is always ready, those put aside get on all the same.
            let overdue = match self.fair.has_overdue() {
                true => self.next_aside(),
                false => None,
            };
            if let Some(event) = overdue.and_then(|id| self.look_at(id)) {
                break event;
            }
            let next = match self.ready.pop() {
                Some(NEWS) => {
                    self.look_for_news();
                    continue;
                }
                Some(number) => ConnectionId(number),
                None => self.next_aside()?,
            };
            if let Some(event) = self.look_at(next) {
                break event;
            }
        };
        self.given_out = self.given_out.saturating_add(1);
        Some(event)
    }

    /// A connection that was put aside and may be read now.
    fn next_aside(&mut self) -> Option<ConnectionId> {
        loop {
            let id = self.fair.next()?;
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.aside = false;
                return Some(id);
            }
        }
    }

    fn look_for_news(&mut self) {
        let mut cx = Context::from_waker(&self.news_waker);
        let Poll::Ready(Some(news)) = self.news.poll_recv(&mut cx) else { return };
        // There may be more.
        std::task::Wake::wake_by_ref(&self.news_source);
        match news {
            PortEvent::Arrived { port, connection } => match self.refusal(&connection) {
                None => self.on_arrived(port, *connection),
                Some(error) => self.on_refused(port, *connection, error),
            },
            PortEvent::Failed { port, error } => {
                self.events.push_back(Event::Failed { port, error })
            }
        }
    }

    /// Why a connection is not taken whose handshake was taken: the key was replaced since. The
    /// owner closes what is up when a key is replaced; what waits here is not up yet.
    fn refusal(&self, connection: &Connection) -> Option<SetupError> {
        let Peer { role, key, remote, .. } = *connection.peer();
        let refusal = judge_key(&self.credentials.roster(), &[role], key).err()?;
        Some(SetupError::PeerKey { remote, refusal })
    }

    fn on_refused(&mut self, port: PortId, mut connection: Connection, error: SetupError) {
        connection.close(CloseCode::DONE, "the key was replaced");
        self.events.push_back(Event::Failed { port, error });
    }

    fn on_arrived(&mut self, port: PortId, mut connection: Connection) {
        if !self.ports.contains_key(&port) {
            return connection.close(CloseCode::SHUTDOWN, "the port is closed");
        }
        if let Err(error) = self.admit(port, connection.peer()) {
            let reason = match error {
                SetupError::Bounded { .. } => "this key has as many connections here as it may",
                _ => "this port has as many connections as it may",
            };
            connection.close(CloseCode::TOO_MANY, reason);
            return self.events.push_back(Event::Failed { port, error });
        }
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let (key, block) = share_of(connection.peer());
        if let Some(opened) = self.ports.get_mut(&port) {
            opened.shares.take(key, block, id);
            *opened.newest(connection.peer().purpose) = Some(id);
        }
        let takes_turns = connection.peer().role == Role::Client;
        let rank = if takes_turns { Rank::Ordinary } else { Rank::Vital };
        let waker = Waker::from(self.ready.source(id.0, rank));
        waker.wake_by_ref();
        self.events.push_back(Event::Up { port, connection: id, peer: *connection.peer() });
        let queue = connection.budget();
        let slot = Slot {
            connection,
            port,
            waker,
            reading: true,
            takes_turns,
            aside: false,
            starved: 0,
            unflushed: false,
            queue,
        };
        self.slots.insert(id, slot);
    }

    /// Looks at a connection that was woken; one event at a time, so that none
    /// keeps the others waiting.
    fn look_at(&mut self, id: ConnectionId) -> Option<Event> {
        let slot = self.slots.get_mut(&id)?;
        let waker = slot.waker.clone();
        let mut cx = Context::from_waker(&waker);
        // What was queued since the last flush stays together with what may
        // follow; only what the stream did not take is tried here.
        let flushed = match slot.unflushed {
            true => Poll::Pending,
            false => slot.connection.poll_flush(&mut cx),
        };
        if slot.is_relieved() {
            slot.starved = 0;
            slot.waker.wake_by_ref();
            return Some(Event::Writable { connection: id });
        }
        let key = slot.connection.peer().key;
        let its_turn = !slot.takes_turns || (!slot.aside && self.fair.may_read(key));
        let seen = match slot.reading && its_turn {
            true => slot.connection.poll_recv(&mut cx),
            false => slot.connection.poll_closed(&mut cx).map(Err),
        };
        if slot.reading && !its_turn && !core::mem::replace(&mut slot.aside, true) {
            self.fair.put_aside(key, id);
        }
        let lost = match (seen, flushed) {
            (Poll::Ready(Ok(frame)), _) => {
                slot.waker.wake_by_ref();
                if slot.takes_turns {
                    self.fair.read(key, frame.len());
                }
                return Some(Event::Frame { port: slot.port, connection: id, frame });
            }
            // What the peer said before it went comes first, so that the
            // reading side is asked before the writing side.
            (Poll::Ready(Err(lost)), _) | (Poll::Pending, Poll::Ready(Err(lost))) => lost,
            (Poll::Pending, _) => return None,
        };
        self.remove(id, lost);
        self.events.pop_back()
    }

    /// Takes a connection out, with its `Down` as the last of the events.
    fn remove(&mut self, id: ConnectionId, lost: Lost) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        let peer = *slot.connection.peer();
        if let Some(port) = self.ports.get_mut(&slot.port) {
            let newest = port.newest(peer.purpose);
            *newest = newest.filter(|newest| *newest != id);
            port.shares.give_back(id);
        }
        if slot.takes_turns {
            let held = self.ports.get(&slot.port).map_or(0, |port| port.shares.held(peer.key));
            self.fair.gone(peer.key, &id);
            if held == 0 {
                self.fair.forget(peer.key);
            }
        }
        self.events.push_back(Event::Down { port: slot.port, connection: id, peer, lost });
        Some(slot)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.close_all(CloseCode::SHUTDOWN, "the process gave up its network");
    }
}
