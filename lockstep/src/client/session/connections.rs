//! The connections to the two CoServers, as the session's core wants them.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::client::io::Input;
use crate::client::session::error::{Trouble, Troubles};
use crate::client::session::settings::Settings;
use crate::ids::ReplicaId;
use crate::limits;
use crate::runtime::link::{ConnectionId, DialConfig, Event, Network, PortId};
use crate::runtime::pack::Pack;
use crate::runtime::quic::{CloseCode, SendError, SetupError};
use crate::wire::codec::{self, Encoder};
use crate::wire::frames::{ClientAnswer, ClientCall};

/// Calls that wait for a connection that takes no more at present: a window sent twice and what
/// surrounds it. At one more the connection is given up; the session's core begins anew on the
/// next one.
const BACKLOG: usize = 2 * limits::SESSION_REPLIES + 16;

/// How long a CoServer has to take a session's last words.
const LEAVE_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);

/// The way to one CoServer.
#[derive(Default)]
struct Route {
    /// The connection and its port.
    connection: Option<(PortId, ConnectionId)>,
    /// Attempts at one: the first has all the time that setting one up may take, the last is
    /// replaced by each that is asked for after it.
    first: Option<PortId>,
    last: Option<PortId>,
    probe: Option<Probe>,
    /// Calls that will share the next frame.
    pack: Pack<ClientCall>,
    /// Frames that the connection has not taken yet.
    backlog: VecDeque<Vec<ClientCall>>,
    trouble: Option<Trouble>,
}

/// What had come and gone on a connection when it was probed.
struct Probe {
    at: Instant,
    received: u64,
    sent: u64,
}

impl Route {
    fn is_on(&self, connection: ConnectionId) -> bool {
        self.connection.is_some_and(|(_, known)| known == connection)
    }

    fn has(&self, port: PortId) -> bool {
        let connected = self.connection.map(|(port, _)| port);
        [connected, self.first, self.last].contains(&Some(port))
    }

    fn is_tried(&self) -> bool {
        self.first.is_some() || self.last.is_some()
    }
}

/// The connections to both CoServers.
pub(super) struct Connections {
    settings: Settings,
    network: Network,
    encoder: Encoder,
    connections: [Route; 2],
}

impl Connections {
    /// Without connections. To be called within a tokio runtime.
    pub(super) fn new(settings: Settings) -> Self {
        let network = Network::new(settings.credentials.clone());
        Self { settings, network, encoder: Encoder::new(), connections: Default::default() }
    }

    pub(super) fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// What was last wrong with either.
    pub(super) fn troubles(&self) -> Troubles {
        Troubles::new(ReplicaId::BOTH.map(|place| self.connections[place.slot()].trouble.clone()))
    }

    /// Notes what is wrong with a connection. `None` once it serves.
    pub(super) fn note(&mut self, place: ReplicaId, trouble: Option<Trouble>) {
        self.connections[place.slot()].trouble = trouble;
    }

    /// Begins to connect, beside what there is; says what the core has to know if that fails at
    /// once. To be called within a tokio runtime.
    pub(super) fn connect(&mut self, place: ReplicaId) -> Option<Input> {
        let last = self.connections[place.slot()].last.take();
        self.close_port(last);
        let remote = self.settings.address(place).clone();
        match self.network.dial(DialConfig::coserver(place, remote)) {
            Ok(port) => {
                let lane = &mut self.connections[place.slot()];
                match lane.first {
                    None => lane.first = Some(port),
                    Some(_) => lane.last = Some(port),
                }
                None
            }
            Err(error) => self.on_not_connected(place, Trouble::socket(&error)),
        }
    }

    /// An attempt failed; that counts if it was the last, and there is no connection.
    fn on_not_connected(&mut self, place: ReplicaId, trouble: Trouble) -> Option<Input> {
        let lane = &self.connections[place.slot()];
        let alone = lane.connection.is_none();
        let over = alone && !lane.is_tried();
        if alone {
            self.note(place, Some(trouble));
        }
        over.then_some(Input::Down { place })
    }

    /// Has the process at the other end show that it is there.
    pub(super) fn probe(&mut self, place: ReplicaId) {
        let Some((_, connection)) = self.connections[place.slot()].connection else { return };
        if let Some(stats) = self.network.stats(connection) {
            let probe = Probe {
                at: Instant::now(),
                received: stats.bytes_received,
                sent: stats.bytes_sent,
            };
            self.connections[place.slot()].probe.get_or_insert(probe);
        }
        // What waits for room already asks for an acknowledgement just as well.
        if let Ok(bytes) = self.encoder.client_calls(&vec![ClientCall::Probe]) {
            let _ = self.network.send(connection, bytes);
        }
    }

    /// Whether something came since the probe, or it cannot be told yet.
    pub(super) fn heard(&mut self, place: ReplicaId) -> Option<Input> {
        let lane = &mut self.connections[place.slot()];
        let (probe, (_, connection)) = (lane.probe.as_ref()?, lane.connection?);
        let stats = self.network.stats(connection)?;
        let came = stats.bytes_received != probe.received;
        // All that was sent before has been acknowledged, and the other end has no room for more.
        let left_nothing = stats.bytes_sent == probe.sent;
        let early = probe.at.elapsed() < 2 * stats.round_trip;
        if came {
            lane.probe = None;
        }
        (came || left_nothing || early).then_some(Input::Heard { place })
    }

    /// Ends a connection, or an attempt at one.
    pub(super) fn disconnect(&mut self, place: ReplicaId) -> Input {
        self.drop_lane(place);
        Input::Down { place }
    }

    /// What an event means for the core.
    pub(super) fn on_event(&mut self, event: Event, inputs: &mut VecDeque<Input>) {
        let last = self.last_of(event, inputs);
        inputs.extend(last);
    }

    /// The last of what an event means for the core; what comes before it goes to `inputs`.
    fn last_of(&mut self, event: Event, inputs: &mut VecDeque<Input>) -> Option<Input> {
        match event {
            Event::Up { port, connection, .. } => {
                let place = self.place_of(port)?;
                self.on_up(place, port, connection);
                Some(Input::Up { place })
            }
            Event::Frame { port, connection, frame } => {
                let place = self.place_of(port)?;
                if !self.connections[place.slot()].is_on(connection) {
                    return None;
                }
                match codec::decode_client_answers(&frame) {
                    Ok(answers) => {
                        inputs.extend(
                            answers.into_iter().map(|answer| self.on_answer(place, answer)),
                        );
                        None
                    }
                    Err(error) => Some(self.fail(place, Trouble::Invalid(error))),
                }
            }
            Event::Writable { connection } => {
                let place = ReplicaId::BOTH
                    .into_iter()
                    .find(|place| self.connections[place.slot()].is_on(connection))?;
                self.send_backlog(place)
            }
            Event::Down { port, connection, lost, .. } => {
                let place = self.place_of(port)?;
                let known = self.connections[place.slot()].is_on(connection);
                known.then(|| self.fail(place, Trouble::Lost(lost)))
            }
            Event::Failed { port, error } => {
                let place = self.place_of(port)?;
                self.on_attempt_failed(place, port, error)
            }
        }
    }

    /// The first that is up is taken.
    fn on_up(&mut self, place: ReplicaId, port: PortId, connection: ConnectionId) {
        let lane = &mut self.connections[place.slot()];
        let before = lane.connection.replace((port, connection)).map(|(port, _)| port);
        let others = [before, lane.first.take(), lane.last.take()];
        lane.probe = None;
        lane.backlog.clear();
        lane.pack.clear();
        for other in others.into_iter().filter(|other| *other != Some(port)) {
            self.close_port(other);
        }
    }

    fn on_attempt_failed(
        &mut self,
        place: ReplicaId,
        port: PortId,
        error: SetupError,
    ) -> Option<Input> {
        let lane = &mut self.connections[place.slot()];
        if lane.first == Some(port) {
            lane.first = lane.last.take();
        } else if lane.last == Some(port) {
            lane.last = None;
        } else {
            return None;
        }
        self.close_port(Some(port));
        self.on_not_connected(place, Trouble::Setup(error))
    }

    fn on_answer(&mut self, place: ReplicaId, answer: ClientAnswer) -> Input {
        if matches!(answer, ClientAnswer::Welcome { .. }) {
            self.note(place, None);
        }
        Input::Answer { place, answer }
    }

    /// Gathers a call for the next frame. Says what the core has to know if the connection is given
    /// up for it.
    pub(super) fn send(&mut self, place: ReplicaId, call: ClientCall) -> Option<Input> {
        let frame = self.connections[place.slot()].pack.add(call)?;
        self.send_frame(place, frame)
    }

    /// Sends what was gathered. Says what the core has to know of connections that this gives up.
    pub(super) fn flush(&mut self) -> [Option<Input>; 2] {
        let told = ReplicaId::BOTH.map(|place| {
            let frame = self.connections[place.slot()].pack.take()?;
            self.send_frame(place, frame)
        });
        self.network.flush();
        told
    }

    /// Sends a frame, or keeps it until the connection takes it.
    fn send_frame(&mut self, place: ReplicaId, frame: Vec<ClientCall>) -> Option<Input> {
        let lane = &mut self.connections[place.slot()];
        if lane.backlog.is_empty() {
            return self.send_now(place, frame);
        }
        if lane.backlog.iter().map(Vec::len).sum::<usize>() >= BACKLOG {
            return Some(self.fail(place, Trouble::Clogged));
        }
        lane.backlog.push_back(frame);
        None
    }

    fn send_backlog(&mut self, place: ReplicaId) -> Option<Input> {
        while let Some(frame) = self.connections[place.slot()].backlog.pop_front() {
            let before = self.connections[place.slot()].backlog.len();
            let down = self.send_now(place, frame);
            if down.is_some() || self.connections[place.slot()].backlog.len() > before {
                return down;
            }
        }
        None
    }

    fn send_now(&mut self, place: ReplicaId, frame: Vec<ClientCall>) -> Option<Input> {
        let lane = &mut self.connections[place.slot()];
        // The connection is gone: the network's word of that is on its way.
        let (_, connection) = lane.connection?;
        let sent = match self.encoder.client_calls(&frame) {
            Ok(bytes) => self.network.send(connection, bytes),
            // What the core takes in is within the limits of frames.
            Err(error) => return Some(self.fail(place, Trouble::Invalid(error))),
        };
        match sent {
            Ok(()) | Err(SendError::NotConnected) => None,
            Err(SendError::Full { .. }) => {
                lane.backlog.push_front(frame);
                None
            }
            Err(error @ SendError::TooLarge { .. }) => {
                Some(self.fail(place, Trouble::Socket(error.to_string())))
            }
        }
    }

    fn fail(&mut self, place: ReplicaId, trouble: Trouble) -> Input {
        // What it said before it went says more than that it went.
        let told = matches!(self.connections[place.slot()].trouble, Some(Trouble::Refused(_)));
        if !(told && matches!(trouble, Trouble::Lost(_))) {
            self.note(place, Some(trouble));
        }
        self.disconnect(place)
    }

    /// The network would dial again by itself; when to do so is for the core to say.
    fn drop_lane(&mut self, place: ReplicaId) {
        let lane = &mut self.connections[place.slot()];
        let connected = lane.connection.take().map(|(port, _)| port);
        let ports = [connected, lane.first.take(), lane.last.take()];
        lane.probe = None;
        lane.backlog.clear();
        lane.pack.clear();
        for port in ports {
            self.close_port(port);
        }
    }

    fn close_port(&mut self, port: Option<PortId>) {
        if let Some(port) = port {
            self.network.close_port(port, CloseCode::DONE, "no more use for this connection");
        }
    }

    /// Sends the last words and waits, within a bound, until they have arrived.
    pub(super) async fn shutdown(mut self) {
        let reason = "session over";
        for lane in &self.connections {
            if let Some((_, connection)) = lane.connection {
                self.network.finish(connection, CloseCode::DONE, reason, LEAVE_TIMEOUT);
            }
        }
        self.network.shutdown(CloseCode::DONE, reason, LEAVE_TIMEOUT).await;
    }

    fn place_of(&self, port: PortId) -> Option<ReplicaId> {
        ReplicaId::BOTH.into_iter().find(|place| self.connections[place.slot()].has(port))
    }
}
