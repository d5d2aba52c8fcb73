//! The outside half without sockets: the far ends are a test's own.
//!
//! Deterministic, and strict: it keeps the same windows as the real one, and panics where an
//! inside half oversteps them. [`Harness`](crate::Harness) drives a service with it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use lockstep::ids::{Incarnation, ReplicaId};

use super::flow::Tally;
use super::messages::{Command, Event, Handle, ListenOrder, Room, Windows};
use super::{ConnectFailure, ListenerId, ResetCause, Target};
use crate::limits;

/// The far end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    pub(crate) place: ReplicaId,
    handle: Handle,
}

/// A connection that the service asked for and no peer has answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The CoServer that is connecting.
    pub place: ReplicaId,
    /// Where the service wants to connect to.
    pub target: Target,
    handle: Handle,
}

/// How a connection stands, as its far end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Both directions are open, as far as the far end can see.
    Open,
    /// The service sends nothing more.
    ServiceClosed,
    /// Both directions ended in good order.
    Ended,
    /// The service, or the loss of the CoServer, reset it.
    Reset,
}

/// No service listens under this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no listener `{0}` is open on that CoServer")]
pub struct NotListening(pub String);

/// One CoServer's outside half of the TCP device.
#[derive(Debug)]
pub struct Simulated {
    place: ReplicaId,
    process: Incarnation,
    accepted: u64,
    misrouted: u64,
    chunk: usize,
    listeners: BTreeMap<ListenerId, ListenOrder>,
    dials: BTreeMap<Handle, (Target, Windows)>,
    ends: BTreeMap<Handle, End>,
    reports: VecDeque<Bytes>,
}

#[derive(Debug)]
struct End {
    windows: Windows,
    /// Said to it if it is one too many, or gives way.
    refusal: Bytes,
    /// Bytes that may be read before the inside half grants more.
    credit: u32,
    writes: Tally,
    /// Bytes from the far end, not yet read.
    incoming: BytesMut,
    far_closed: Closing,
    /// Bytes to the far end, not yet written.
    outgoing: BytesMut,
    own_closed: Closing,
    /// The service is done with it.
    let_go: bool,
    stalled: bool,
    received: Vec<u8>,
    fate: ConnectionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    Wanted,
    Done,
}

impl End {
    fn new(windows: Windows) -> Self {
        Self {
            windows,
            refusal: Bytes::new(),
            credit: windows.read,
            writes: Tally::of_writes(windows.send),
            incoming: BytesMut::new(),
            far_closed: Closing::No,
            outgoing: BytesMut::new(),
            own_closed: Closing::No,
            let_go: false,
            stalled: false,
            received: Vec::new(),
            fate: ConnectionState::Open,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.fate, ConnectionState::Ended | ConnectionState::Reset)
    }

    /// Moves what can move; reports go to `reports`.
    fn pump(&mut self, handle: Handle, chunk: usize, reports: &mut VecDeque<Bytes>) {
        if self.is_over() {
            return;
        }
        self.write(handle, reports);
        self.read(handle, chunk, reports);
        let far_done = self.far_closed == Closing::Done || self.let_go;
        if self.own_closed == Closing::Done && far_done {
            self.fate = ConnectionState::Ended;
            reports.push_back(Event::Ended { handle }.encode());
        }
    }

    fn write(&mut self, handle: Handle, reports: &mut VecDeque<Bytes>) {
        if !self.stalled {
            self.writes.add(self.outgoing.len());
            self.received.extend_from_slice(&self.outgoing.split());
            if self.own_closed == Closing::Wanted {
                self.own_closed = Closing::Done;
                self.fate = ConnectionState::ServiceClosed;
            }
        }
        if let Some(written) = self.writes.take_if_due() {
            reports.push_back(Event::Written { handle, written }.encode());
        }
    }

    fn read(&mut self, handle: Handle, chunk: usize, reports: &mut VecDeque<Bytes>) {
        if self.let_go {
            self.incoming.clear();
            return;
        }
        while self.credit > 0 && !self.incoming.is_empty() {
            let len = self.incoming.len().min(chunk).min(self.credit as usize);
            self.credit -= u32::try_from(len).unwrap_or(self.credit);
            let bytes = self.incoming.split_to(len).freeze();
            let written = self.writes.take();
            reports.push_back(Event::Data { handle, written, bytes }.encode());
        }
        if self.incoming.is_empty() && self.far_closed == Closing::Wanted {
            self.far_closed = Closing::Done;
            reports.push_back(Event::PeerClosed { handle }.encode());
        }
    }
}

impl Simulated {
    /// The outside half of this process at this place.
    pub fn new(place: ReplicaId, process: Incarnation) -> Self {
        Self {
            place,
            process,
            accepted: 0,
            misrouted: 0,
            chunk: limits::CHUNK_BYTES,
            listeners: BTreeMap::new(),
            dials: BTreeMap::new(),
            ends: BTreeMap::new(),
            reports: VecDeque::new(),
        }
    }

    /// From now on at most this many bytes come in one event.
    pub fn set_chunk(&mut self, bytes: usize) {
        self.chunk = bytes.clamp(1, limits::CHUNK_BYTES);
    }

    /// Says that this CoServer has file descriptors for so many connections only, and for so many
    /// of those who connect.
    pub fn set_room(&mut self, total: u32, accepted: u32) {
        let (handle, room) = (Handle::of_process(self.process), Room { total, accepted });
        self.reports.push_back(Event::Room { handle, room }.encode());
    }

    /// Connects to a listener.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn connect(&mut self, name: &str, peer: SocketAddr) -> Result<Client, NotListening> {
        let (listener, options) = self
            .listeners
            .iter()
            .find(|(_, options)| options.name == name)
            .ok_or_else(|| NotListening(name.into()))?;
        self.accepted += 1;
        let handle = Handle::accepted(self.process, self.accepted);
        let end = End { refusal: options.refusal.clone(), ..End::new(options.windows) };
        self.ends.insert(handle, end);
        let local = address(25);
        let report = Event::Accepted { handle, listener: *listener, peer, local };
        self.reports.push_back(report.encode());
        Ok(Client { place: self.place, handle })
    }

    /// The connections that the service asked for, in the order of their ids.
    pub fn dials(&self) -> Vec<Dial> {
        let place = self.place;
        let dial = |(handle, (target, _)): (&Handle, &(Target, _))| Dial {
            place,
            target: target.clone(),
            handle: *handle,
        };
        self.dials.iter().map(dial).collect()
    }

    /// Answers one; `None` if the service has given it up since.
    pub fn answer(&mut self, dial: &Dial) -> Option<Client> {
        let (target, windows) = self.dials.remove(&dial.handle)?;
        let handle = dial.handle;
        let peer = match target {
            Target::Address(peer) => peer,
            Target::Name { port, .. } => address(port),
        };
        self.ends.insert(handle, End::new(windows));
        let report = Event::Connected { handle, peer, local: address(40_000) };
        self.reports.push_back(report.encode());
        Some(Client { place: self.place, handle })
    }

    /// Lets an attempt to connect fail.
    pub fn fail(&mut self, dial: &Dial, failure: &ConnectFailure) {
        if self.dials.remove(&dial.handle).is_some() {
            let (why, text) = failure.parts();
            let text = Bytes::copy_from_slice(text.as_bytes());
            let report = Event::ConnectFailed { handle: dial.handle, why, text };
            self.reports.push_back(report.encode());
        }
    }

    /// The far end sends.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.change(client, |end| end.incoming.extend_from_slice(bytes));
    }

    /// The far end sends nothing more.
    pub fn half_close(&mut self, client: Client) {
        self.change(client, |end| {
            if end.far_closed == Closing::No {
                end.far_closed = Closing::Wanted;
            }
        });
    }

    /// The far end resets the connection.
    pub fn reset(&mut self, client: Client) {
        let handle = client.handle;
        let Some(end) = self.ends.get_mut(&handle).filter(|end| !end.is_over()) else { return };
        end.fate = ConnectionState::Reset;
        self.reports.push_back(Event::Reset { handle, cause: ResetCause::Peer }.encode());
    }

    /// The far end stops reading, or goes on.
    pub fn stall(&mut self, client: Client, stalled: bool) {
        self.change(client, |end| end.stalled = stalled);
    }

    /// Takes what the far end has received since the last call.
    pub fn take(&mut self, client: Client) -> Vec<u8> {
        self.ends
            .get_mut(&client.handle)
            .map(|end| core::mem::take(&mut end.received))
            .unwrap_or_default()
    }

    /// How the connection stands.
    pub fn fate(&self, client: Client) -> ConnectionState {
        self.ends.get(&client.handle).map_or(ConnectionState::Reset, |end| end.fate)
    }

    /// The names of the listeners that are open.
    pub fn listeners(&self) -> Vec<&str> {
        self.listeners.values().map(|options| options.name.as_str()).collect()
    }

    /// Outputs that were for another process of this CoServer, and were passed over.
    pub fn misrouted(&self) -> u64 {
        self.misrouted
    }

    /// What is to go into the log next.
    pub fn next_input(&mut self) -> Option<Bytes> {
        self.reports.pop_front()
    }

    /// A released output.
    ///
    /// # Panics
    /// If the inside half oversteps a window, or makes no sense.
    #[expect(clippy::panic, reason = "a defect in this crate; a test must not go on")]
    pub fn release(&mut self, bytes: &Bytes) {
        match Command::decode(bytes) {
            Ok(order) if order.process() == self.process => self.on_order(order),
            Ok(_) => self.misrouted += 1,
            Err(garbled) => panic!("the inside half said {garbled:?}: {bytes:?}"),
        }
    }

    fn on_order(&mut self, order: Command) {
        match order {
            Command::Listen { listener, options, .. } => {
                self.listeners.insert(listener, options);
            }
            Command::Unlisten { listener, .. } => {
                self.listeners.remove(&listener);
            }
            Command::Connect { handle, target, windows, .. } => {
                self.dials.insert(handle, (target, windows));
            }
            Command::Send { handle, bytes } => self.on_send(handle, &bytes),
            Command::Refuse { handle } | Command::Displace { handle } => self.on(handle, |end| {
                let refusal = end.refusal.clone();
                end.outgoing.extend_from_slice(&refusal);
                end.let_go = true;
                end.own_closed = Closing::Wanted;
            }),
            // Sockets are not scarce here.
            Command::Protect { .. } => {}
            Command::Shutdown { handle } => self.on(handle, |end| end.own_closed = Closing::Wanted),
            Command::Close { handle } => {
                self.give_up(handle);
                self.on(handle, |end| {
                    end.let_go = true;
                    if end.own_closed == Closing::No {
                        end.own_closed = Closing::Wanted;
                    }
                });
            }
            Command::Reset { handle } => {
                self.give_up(handle);
                if let Some(end) = self.ends.get_mut(&handle).filter(|end| !end.is_over()) {
                    end.fate = ConnectionState::Reset;
                    self.reports.push_back(Event::Ended { handle }.encode());
                }
            }
            Command::Credit { handle, bytes } => self.on(handle, |end| {
                end.credit += bytes;
                assert!(end.credit <= end.windows.read, "more was granted than was taken");
            }),
        }
    }

    fn on_send(&mut self, handle: Handle, bytes: &[u8]) {
        self.on(handle, |end| {
            assert!(end.own_closed == Closing::No, "bytes were sent after the end");
            end.outgoing.extend_from_slice(bytes);
            assert!(end.outgoing.len() <= end.windows.send as usize, "the window was overstepped");
        });
    }

    /// A connection is no longer wanted while it is being made.
    fn give_up(&mut self, handle: Handle) {
        if self.dials.remove(&handle).is_some() {
            self.reports.push_back(Event::Ended { handle }.encode());
        }
    }

    fn change(&mut self, client: Client, act: impl FnOnce(&mut End)) {
        self.on(client.handle, act);
    }

    fn on(&mut self, handle: Handle, act: impl FnOnce(&mut End)) {
        if let Some(end) = self.ends.get_mut(&handle).filter(|end| !end.is_over()) {
            act(end);
            end.pump(handle, self.chunk, &mut self.reports);
        }
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
