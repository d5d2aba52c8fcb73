//! The CoServer's connections: which is which, and frames to bytes and back.

use core::fmt;
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::panic::catch_unwind;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::StartupError;
use super::clients::{ClientBook, ClientsMetrics, owner_of};
use super::metrics::Counters;
use super::settings::{LinkAddresses, Settings, WitnessAddress};
use crate::ids::{ConnId, LinkId, OwnerId, PairId, ReplicaId};
use crate::limits;
use crate::proto::{Input, io::LinkSet};
use crate::runtime::keys::{PublicKey, Rights, Role, Roster};
use crate::runtime::link::{
    ConnectionId, DialConfig, Event, ListenConfig, ListenStats, Network, PortId,
};
use crate::runtime::pack::Pack;
use crate::runtime::quic::{BindError, CloseCode, Lost, Peer, SendError, SetupError};
use crate::runtime::refusals::Refusals;
use crate::runtime::tls::{self, Credentials};
use crate::runtime::witness::{ObjectEvent, ObjectLink};
use crate::wire::codec::{self, Encoder};
use crate::wire::error::FrameError;
use crate::wire::frames::{ClientAnswer, ClientCall, DeathNotice, PeerFrame, WitnessCall};

/// A frame was not valid.
const INVALID_FRAME: CloseCode = CloseCode(CloseCode::FREE.0);
/// The other end is not to be talked to at present; the frame before says why.
const TURNED_AWAY: CloseCode = CloseCode(CloseCode::FREE.0 + 1);
/// The client does not take its answers.
const NOT_READING: CloseCode = CloseCode(CloseCode::FREE.0 + 2);

/// How long a client that is turned away has to take the reason.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Link(LinkId),
    /// By its slot.
    Witness(u8),
    Client(ClientConnection),
    /// The other's guardian, along this link.
    Guardian(LinkId),
}

/// A port that is for one connection; clients have a port of their own.
#[derive(Clone, Copy, Debug)]
enum Only {
    Link(LinkId),
    /// By its slot.
    Witness(u8),
}

/// A client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClientConnection {
    conn: ConnId,
    owner: OwnerId,
    rights: Rights,
    /// Whether it was said in the log that something was refused.
    warned: bool,
}

/// A key that is not named any more, and whose connection is about to end, changes nothing.
fn rights_of(key: &PublicKey, roster: &Roster) -> Rights {
    roster.client(key).map_or(Rights::Read, |terms| terms.rights)
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "link {link}"),
            Self::Witness(slot) => write!(f, "witness {slot}"),
            Self::Client(client) => write!(f, "client {}", client.conn),
            Self::Guardian(link) => write!(f, "guardian, link {link}"),
        }
    }
}

/// All connections of a CoServer.
pub(super) struct Connections {
    pair: PairId,
    network: Network,
    credentials: Credentials,
    encoder: Encoder,
    ports: BTreeMap<PortId, Only>,
    clients_port: Option<PortId>,
    connections: BTreeMap<ConnectionId, Purpose>,
    links: Vec<Option<ConnectionId>>,
    /// Connections to the witnesses, and which of them the replica asks.
    witnesses: [Option<ConnectionId>; 2],
    slot: u8,
    /// In place of a connection to the preferred witness.
    objects: Option<ObjectLink>,
    objects_up: bool,
    clients: BTreeMap<ConnId, ConnectionId>,
    /// Of one frame: no other is read before the replica has them.
    calls: VecDeque<(ConnectionId, ClientConnection, ClientCall)>,
    /// The answers that will share the next frame to a client.
    packs: BTreeMap<ConnId, Pack<ClientAnswer>>,
    book: ClientBook,
    is_read_only: fn(&[u8]) -> bool,
    last_client: u64,
    reading_clients: bool,
    refusals: Refusals,
    /// Something was queued since the last transmission.
    queued: bool,
}

impl Connections {
    /// `is_read_only` is what the service says of requests.
    pub(super) fn open(
        settings: &Settings,
        credentials: Credentials,
        is_read_only: fn(&[u8]) -> bool,
    ) -> Result<Self, StartupError> {
        let mut network = Network::new(credentials.clone());
        let mut ports = BTreeMap::new();
        for (link, addresses) in (0..).map(LinkId).zip(&settings.links) {
            ports.insert(open_link(&mut network, settings.place, addresses)?, Only::Link(link));
        }
        let mut objects = None;
        match &settings.witness {
            WitnessAddress::Process(address) => {
                ports.insert(network.dial(DialConfig::witness(address.clone()))?, Only::Witness(0));
            }
            WitnessAddress::Objects(url) => objects = Some(ObjectLink::start(url, settings.pair)?),
        }
        if let Some(address) = &settings.alternate {
            ports.insert(network.dial(DialConfig::witness(address.clone()))?, Only::Witness(1));
        }
        let mut clients_port = None;
        if let Some(address) = settings.clients {
            let config = ListenConfig::clients(address, settings.client_connections);
            let port = network.listen(config)?;
            clients_port = Some(port);
        }
        Ok(Self {
            pair: settings.pair,
            network,
            credentials,
            encoder: Encoder::new(),
            ports,
            clients_port,
            connections: BTreeMap::new(),
            links: vec![None; settings.links.len()],
            witnesses: [None; 2],
            slot: 0,
            objects,
            objects_up: false,
            clients: BTreeMap::new(),
            calls: VecDeque::new(),
            packs: BTreeMap::new(),
            book: ClientBook::default(),
            is_read_only,
            last_client: 0,
            reading_clients: true,
            refusals: Refusals::new(),
            queued: false,
        })
    }

    pub(super) fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Clients connected at present.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// What the key of each has.
    pub(super) fn clients_by_key(&self) -> ClientsMetrics {
        self.book.metrics(&self.credentials.roster())
    }

    /// The name of the key whose sessions these are.
    pub(super) fn name_of(&self, owner: OwnerId) -> String {
        self.book.name_of(owner, &self.credentials.roster())
    }

    /// What became of the attempts to connect to the clients' port, if there is one.
    pub(super) fn handshakes(&self) -> ListenStats {
        let stats = self.clients_port.and_then(|port| self.network.listen_stats(port));
        stats.unwrap_or_default()
    }

    /// What a network event means for the replica, beside the calls of a client that it may have
    /// brought ([`next_call`](Self::next_call)).
    pub(super) fn on_event(&mut self, event: Event, counters: &mut Counters) -> Option<Input> {
        match event {
            Event::Up { port, connection, peer } => self.on_up(port, connection, &peer),
            Event::Down { connection, peer, lost, .. } => {
                self.refusals.on_lost(&peer, self.book.name(&peer.key), &lost);
                self.on_down(connection, &peer, &lost)
            }
            Event::Writable { connection } => match self.connections.get(&connection)? {
                Purpose::Link(link) => Some(Input::LinkWritable { link: *link }),
                _ => None,
            },
            Event::Failed { error, .. } => {
                self.on_failed(&error, counters);
                None
            }
            Event::Frame { connection, frame, .. } => self.on_frame(connection, &frame, counters),
        }
    }

    /// Turns to the witness in this slot. Tells that it is up, if it is.
    pub(super) fn use_witness(&mut self, slot: u8) -> Option<Input> {
        self.slot = slot;
        let objects = slot == 0 && self.objects_up;
        (objects || self.witnesses[usize::from(slot & 1)].is_some()).then_some(Input::WitnessUp)
    }

    /// What it means that the witness in this slot is there, or is not.
    fn on_witness(&self, slot: u8, up: bool) -> Input {
        match up {
            _ if slot != self.slot => Input::SpareWitness { up },
            true => Input::WitnessUp,
            false => Input::WitnessDown,
        }
    }

    /// What a store that is the witness says next.
    pub(super) fn poll_objects(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let Some(objects) = &mut self.objects else { return Poll::Pending };
        loop {
            let event = match objects.poll_next(cx) {
                Poll::Ready(event) => event,
                Poll::Pending => return Poll::Pending,
            };
            let up = match event {
                ObjectEvent::Up => true,
                ObjectEvent::Down => false,
                ObjectEvent::Answer(answer) if self.slot == 0 => {
                    return Poll::Ready(Input::Witness(answer));
                }
                // Of one that was asked before.
                ObjectEvent::Answer(_) => continue,
            };
            self.objects_up = up;
            return Poll::Ready(self.on_witness(0, up));
        }
    }

    fn on_up(&mut self, port: PortId, connection: ConnectionId, peer: &Peer) -> Option<Input> {
        // The peer's key may have been taken out of the file between its handshake and this.
        if self.credentials.roster().role_of(&peer.key) != Some(peer.role) {
            self.network.close(connection, TURNED_AWAY, "the key is not named here any more");
            return None;
        }
        if self.clients_port == Some(port) {
            self.on_client_up(connection, peer);
            return None;
        }
        let (wire, input) = match *self.ports.get(&port)? {
            Only::Link(link) if peer.purpose == tls::Purpose::Guardian => {
                (Purpose::Guardian(link), None)
            }
            Only::Link(link) => {
                self.links[usize::from(link.0)] = Some(connection);
                (Purpose::Link(link), Some(Input::LinkUp { link }))
            }
            Only::Witness(slot) => {
                self.witnesses[usize::from(slot)] = Some(connection);
                (Purpose::Witness(slot), Some(self.on_witness(slot, true)))
            }
        };
        self.connections.insert(connection, wire);
        input
    }

    fn on_client_up(&mut self, connection: ConnectionId, peer: &Peer) {
        self.last_client += 1;
        let conn = ConnId(self.last_client);
        self.clients.insert(conn, connection);
        let roster = self.credentials.roster();
        self.book.connected(peer.key, &roster);
        if !self.reading_clients {
            self.network.pause(connection);
        }
        let (owner, rights) = (owner_of(&peer.key), rights_of(&peer.key, &roster));
        let client = ClientConnection { conn, owner, rights, warned: false };
        self.connections.insert(connection, Purpose::Client(client));
    }

    fn on_failed(&mut self, error: &SetupError, counters: &mut Counters) {
        let roster = self.credentials.roster();
        let known = error.turned_away().filter(|key| roster.client(key).is_some());
        if let Some(key) = known {
            counters.clients_refused += 1;
            self.book.refused(*key);
        }
        self.refusals.on_failed(error, known.and_then(|key| roster.client_name(key)));
    }

    fn on_down(&mut self, connection: ConnectionId, peer: &Peer, lost: &Lost) -> Option<Input> {
        match self.connections.remove(&connection)? {
            Purpose::Link(link) => {
                let slot = &mut self.links[usize::from(link.0)];
                (*slot == Some(connection)).then(|| {
                    *slot = None;
                    Input::LinkDown { link }
                })
            }
            Purpose::Witness(slot) => {
                let known = &mut self.witnesses[usize::from(slot)];
                if *known != Some(connection) {
                    return None;
                }
                *known = None;
                Some(self.on_witness(slot, false))
            }
            Purpose::Guardian(_) => None,
            Purpose::Client(ClientConnection { conn, .. }) => {
                self.clients.remove(&conn);
                self.calls.retain(|(from, ..)| *from != connection);
                self.packs.remove(&conn);
                let displaced = matches!(lost, Lost::Here { code: CloseCode::TOO_MANY });
                self.book.gone(peer.key, displaced, &self.credentials.roster());
                Some(Input::ClientGone { conn })
            }
        }
    }

    fn on_frame(
        &mut self,
        connection: ConnectionId,
        frame: &Bytes,
        counters: &mut Counters,
    ) -> Option<Input> {
        let wire = *self.connections.get(&connection)?;
        let read = match wire {
            Purpose::Link(link) => {
                counters.frames_received += 1;
                counters.bytes_received += frame.len() as u64;
                codec::decode_peer(frame).map(|frame| Some(Input::Peer { link, frame }))
            }
            // Of one that was asked before.
            Purpose::Witness(slot) if slot != self.slot => return None,
            Purpose::Witness(_) => {
                codec::decode_witness_answer(frame).map(|answer| Some(Input::Witness(answer)))
            }
            Purpose::Guardian(_) => codec::decode_death_notice(frame).map(|notice| {
                let DeathNotice { pair, incarnation, how } = notice;
                (pair == self.pair).then_some(Input::PeerDied { incarnation, how })
            }),
            Purpose::Client(client) => codec::decode_client_calls(frame).map(|calls| {
                self.calls.extend(calls.into_iter().map(|call| (connection, client, call)));
                None
            }),
        };
        read.map_err(|error| {
            counters.frames_invalid += 1;
            if let Some(peer) = self.network.peer(connection) {
                self.refusals.on_invalid(&wire, peer, self.book.name(&peer.key), &error);
            }
            self.network.close(connection, INVALID_FRAME, &error.to_string());
        })
        .ok()
        .flatten()
    }

    /// Whether calls that came have not been given to the replica.
    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// The next call that has come.
    pub(super) fn next_call(&mut self) -> Option<Input> {
        let (connection, client, call) = self.calls.pop_front()?;
        Some(self.on_client_call(connection, client, call))
    }

    /// A key that may only read asks what the service says changes nothing, or is refused by the
    /// replica (rule C10).
    fn on_client_call(
        &mut self,
        connection: ConnectionId,
        client: ClientConnection,
        call: ClientCall,
    ) -> Input {
        let ClientConnection { conn, owner, rights, .. } = client;
        let permitted = rights == Rights::All || self.only_reads(&call);
        if !permitted {
            self.on_request_refused(connection);
        }
        Input::Client { conn, owner, permitted, call }
    }

    fn only_reads(&self, call: &ClientCall) -> bool {
        let ClientCall::Request { body, .. } = call else { return true };
        let is_read_only = self.is_read_only;
        // Bytes of anybody meet the service's own code: a panic there says nothing in their favour.
        catch_unwind(|| is_read_only(body)).unwrap_or(false)
    }

    /// Counts it, and says so once for each connection.
    fn on_request_refused(&mut self, connection: ConnectionId) {
        let Some(&peer) = self.network.peer(connection) else { return };
        self.book.request_refused(peer.key);
        if let Some(Purpose::Client(client)) = self.connections.get_mut(&connection)
            && !core::mem::replace(&mut client.warned, true)
        {
            self.refusals.on_request_refused(&peer, self.book.name(&peer.key));
        }
    }

    /// Sends a frame on these links. Returns those that had no room for it.
    pub(super) fn send_peer(
        &mut self,
        links: LinkSet,
        frame: &PeerFrame,
        counters: &mut Counters,
    ) -> LinkSet {
        let mut blocked = LinkSet::NONE;
        let urgent = frame.is_heartbeat();
        let Some(bytes) = self.encoded(|encoder| encoder.peer(frame)) else { return blocked };
        for link in links.iter() {
            let Some(connection) = self.links[usize::from(link.0)] else { continue };
            let taken = match urgent {
                true => self.network.send_urgent(connection, bytes.clone()),
                false => self.network.send(connection, bytes.clone()),
            };
            match taken {
                Ok(()) => {
                    counters.frames_sent += 1;
                    counters.bytes_sent += bytes.len() as u64;
                }
                Err(SendError::Full { .. }) => {
                    counters.frames_dropped += 1;
                    if !urgent {
                        blocked.insert(link);
                    }
                }
                Err(error) => tracing::debug!(?link, %error, "frame not sent"),
            }
        }
        blocked
    }

    pub(super) fn send_witness(&mut self, call: &WitnessCall) {
        if let Some(objects) = self.objects.as_ref().filter(|_| self.slot == 0) {
            return objects.call(call.clone());
        }
        let Some(bytes) = self.encoded(|encoder| encoder.witness_call(call)) else { return };
        let Some(connection) = self.witnesses[usize::from(self.slot & 1)] else { return };
        if let Err(error) = self.network.send(connection, bytes) {
            tracing::debug!(%error, "call to the witness not sent; it is repeated");
        }
    }

    /// Gathers an answer for the next frame to its client.
    pub(super) fn send_client(&mut self, conn: ConnId, answer: ClientAnswer) {
        if let Some(frame) = self.packs.entry(conn).or_default().add(answer) {
            self.send_answers(conn, &frame);
        }
    }

    /// Sends what was gathered and queued.
    pub(super) fn flush(&mut self) {
        self.send_packs();
        self.network.flush();
    }

    fn send_packs(&mut self) {
        for (conn, mut pack) in core::mem::take(&mut self.packs) {
            if let Some(frame) = pack.take() {
                self.send_answers(conn, &frame);
            }
        }
    }

    /// A client that does not take its answers is disconnected: it asks again on another
    /// connection and gets the stored replies.
    fn send_answers(&mut self, conn: ConnId, answers: &Vec<ClientAnswer>) {
        let Some(bytes) = self.encoded(|encoder| encoder.client_answers(answers)) else { return };
        let Some(&connection) = self.clients.get(&conn) else { return };
        match self.network.send(connection, bytes) {
            Ok(()) => {}
            Err(SendError::Full { .. }) => self.close_unread(connection),
            Err(error) => {
                tracing::debug!(%conn, %error, "answer not sent");
                self.network.close(connection, NOT_READING, "this client takes no such answer");
            }
        }
        for connection in self.network.overfull(limits::CLIENT_QUEUES_BYTES) {
            self.close_unread(connection);
        }
    }

    fn close_unread(&mut self, connection: ConnectionId) {
        if let Some(&peer) = self.network.peer(connection) {
            self.book.unread(peer.key);
            self.refusals.on_unread(&peer, self.book.name(&peer.key));
        }
        self.network.close(connection, NOT_READING, "take the answers that you ask for");
    }

    fn encoded(
        &mut self,
        encode: impl FnOnce(&mut Encoder) -> Result<Bytes, FrameError>,
    ) -> Option<Bytes> {
        self.queued = true;
        // The limits of what may be in a frame are those of what the core takes in.
        encode(&mut self.encoder)
            .inspect_err(|error| tracing::error!(event = "frame_not_encoded", %error))
            .ok()
    }

    pub(super) fn close_link(&mut self, link: LinkId) {
        if let Some(connection) = self.links[usize::from(link.0)] {
            self.network.finish(connection, TURNED_AWAY, "not the expected peer", FAREWELL);
        }
    }

    pub(super) fn close_client(&mut self, conn: ConnId) {
        if let Some(frame) = self.packs.remove(&conn).and_then(|mut pack| pack.take()) {
            self.send_answers(conn, &frame);
        }
        if let Some(&connection) = self.clients.get(&conn) {
            if let Some(peer) = self.network.peer(connection) {
                self.book.refused(peer.key);
            }
            self.network.finish(connection, TURNED_AWAY, "turned away", FAREWELL);
        }
    }

    /// The roster has changed. Closes connections whose key is not pinned any more, and those of a
    /// client that are more than its key may have now, the newest first. Connections that stay have
    /// the rights that their keys have now.
    pub(super) fn repinned(&mut self) {
        let roster = self.credentials.roster();
        let mut peers = Vec::new();
        for connection in self.connections.keys().rev() {
            peers.extend(self.network.peer(*connection).map(|peer| (*connection, *peer)));
        }
        let unpinned = |(_, peer): &(_, Peer)| roster.role_of(&peer.key) != Some(peer.role);
        let (unpinned, pinned): (Vec<_>, Vec<_>) = peers.into_iter().partition(unpinned);
        self.close_unpinned(unpinned);
        self.close_beyond_bounds(pinned, &roster);
        self.book.take(&roster);
        for (connection, wire) in &mut self.connections {
            if let Purpose::Client(client) = wire
                && let Some(peer) = self.network.peer(*connection)
            {
                client.rights = rights_of(&peer.key, &roster);
            }
        }
    }

    fn close_unpinned(&mut self, unpinned: Vec<(ConnectionId, Peer)>) {
        let mut revoked = BTreeMap::<PublicKey, usize>::new();
        for (connection, peer) in unpinned {
            self.network.close(connection, TURNED_AWAY, "the key is not named here any more");
            if peer.role == Role::Client {
                *revoked.entry(peer.key).or_default() += 1;
            }
        }
        for (key, connections) in revoked {
            let client = self.book.name(&key);
            tracing::info!(event = "client_revoked", client, %key, connections);
        }
    }

    fn close_beyond_bounds(&mut self, newest_first: Vec<(ConnectionId, Peer)>, roster: &Roster) {
        let mut held = BTreeMap::<PublicKey, usize>::new();
        for (_, peer) in &newest_first {
            *held.entry(peer.key).or_default() += 1;
        }
        for (connection, Peer { key, .. }) in newest_first {
            let most = roster.client(&key).and_then(|terms| terms.connections);
            if let Some(held) = held.get_mut(&key)
                && most.is_some_and(|most| *held > most)
            {
                *held -= 1;
                let reason = "this key may have fewer connections here now";
                self.network.close(connection, CloseCode::TOO_MANY, reason);
            }
        }
    }

    /// Reads clients, or leaves what they say with them; in turn, once so many bytes were read.
    pub(super) fn read_clients(&mut self, reading: bool) {
        if self.reading_clients == reading {
            return;
        }
        self.reading_clients = reading;
        for connection in self.clients.values() {
            match reading {
                true => self.network.resume(*connection),
                false => self.network.pause(*connection),
            }
        }
    }

    /// Lets what was gathered and queued leave before the caller goes on.
    pub(super) async fn transmit(&mut self) {
        self.send_packs();
        if core::mem::take(&mut self.queued) {
            self.network.transmit().await;
        }
    }

    /// Says goodbye to everybody.
    pub(super) async fn shutdown(self, reason: &str) {
        self.network.shutdown(CloseCode::SHUTDOWN, reason, FAREWELL).await;
    }
}

/// Place `a` listens on a link, place `b` dials.
fn open_link(
    network: &mut Network,
    place: ReplicaId,
    addresses: &LinkAddresses,
) -> Result<PortId, BindError> {
    let LinkAddresses { local, remote } = addresses;
    // What a name means may change at any time, and the key says who it is.
    let from = remote.address().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip());
    match place {
        ReplicaId::A => network.listen(ListenConfig::link(ReplicaId::B, *local, from)),
        ReplicaId::B => network.dial(DialConfig::link(ReplicaId::A, *local, remote.clone())),
    }
}
