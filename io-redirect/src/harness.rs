//! Tells a service a scenario and looks at what it does: no sockets, no clock, no engine.
//!
//! A pair of CoServers is played by one instance of the service and two simulated networks.
//! After each call everything that follows has happened, except what waits for time to pass
//! ([`Harness::advance`]) or for a far end.
//!
//! ```
//! use bytes::Bytes;
//! use io_redirect::snapshot::Snapshot;
//! use io_redirect::tcp::{ListenOptions, TcpEvent, TcpLimits};
//! use io_redirect::{Harness, Io, Service, Wrapper};
//! use lockstep::digest::Digest;
//! use lockstep::machine::{Identity, RecordSource, RestoreError};
//!
//! struct Greeter;
//!
//! impl Service for Greeter {
//!     type Frozen = Snapshot<()>;
//!     fn identity(&self) -> Identity {
//!         Identity { name: "greeter".into(), version: 1, configuration: Digest::ZERO }
//!     }
//!     fn on_start(&mut self, io: &mut Io<'_>) {
//!         // Fails for a listener too many: this is the only one.
//!         let _ = io.tcp().listen("door", ListenOptions::default());
//!     }
//!     fn on_tcp(&mut self, io: &mut Io<'_>, event: TcpEvent) {
//!         if let TcpEvent::Accepted { conn, .. } = event {
//!             // Fails where more is under way than a window takes: nothing is yet.
//!             let _ = io.tcp().send(conn, b"welcome\r\n");
//!             io.tcp().close(conn);
//!         }
//!     }
//!     fn freeze(&self) -> Snapshot<()> {
//!         Snapshot(())
//!     }
//!     fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
//!         Snapshot::read(records)
//!     }
//! }
//!
//! let mut scenario = Harness::new(Wrapper::with_tcp(Greeter, TcpLimits::default())?);
//! let client = scenario.connect("door")?;
//! assert_eq!(scenario.take(client), b"welcome\r\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::time::Duration;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use lockstep::digest::{Digest, Hasher};
use lockstep::ids::{DeviceId, Index, LogTime, ReplicaId, RequestNumber, SessionId};
use lockstep::machine::{Freeze, RestoreError, SinkError, StateMachine, Step};
use lockstep::output::Carrier;
use lockstep::record;
use lockstep::testing::{Input, Script, process};

use crate::service::Service;
use crate::tcp::{Client, ConnectFailure, ConnectionState, Dial, NotListening, Simulated};
use crate::wrapper::Wrapper;

mod records;

pub use records::Records;

/// Steps after which a service that keeps itself busy is taken for one that never rests.
const RESTLESS: u32 = 1 << 20;

/// Outputs of before a restart that a harness releases once more after it, as the engine may.
const RELEASED_AGAIN: usize = 64;

/// When the scenario begins: an arbitrary moment, in nanoseconds since 1970.
const BEGIN: LogTime = LogTime(1_700_000_000_000_000_000);

/// A service between two simulated networks.
#[derive(Debug)]
pub struct Harness<S: Service> {
    wrapper: Wrapper<S>,
    index: Index,
    now: LogTime,
    /// The time of the last step.
    stepped: LogTime,
    wakeup: Option<LogTime>,
    /// Wake-ups are held: a log was taken up again, and the devices do not stand yet.
    held: bool,
    nets: [Option<Simulated>; 2],
    sequencer: ReplicaId,
    /// How often a process was started at each place, after the first one.
    starts: [u64; 2],
    /// The last outputs for the TCP device, at most [`RELEASED_AGAIN`].
    recent: VecDeque<(Carrier, Bytes)>,
    clients: u16,
    sessions: Vec<(SessionId, RequestNumber)>,
    printed: Vec<(DeviceId, Carrier, Bytes)>,
    digest: Digest,
    told: Vec<Input>,
}

impl<S: Service> Harness<S> {
    /// Begins: the service has started, both CoServers are members, A is the sequencer.
    pub fn new(wrapper: Wrapper<S>) -> Self {
        Self::with_seed(wrapper, [42; 32])
    }

    /// The same with random numbers from another seed.
    pub fn with_seed(wrapper: Wrapper<S>, seed: [u8; 32]) -> Self {
        let nets = ReplicaId::BOTH.map(|place| Some(Simulated::new(place, process(place, 0))));
        let mut harness = Self {
            wrapper,
            index: Index(0),
            now: BEGIN,
            stepped: BEGIN,
            wakeup: None,
            held: false,
            nets,
            sequencer: ReplicaId::A,
            starts: [0; 2],
            recent: VecDeque::new(),
            clients: 0,
            sessions: Vec::new(),
            printed: Vec::new(),
            digest: Digest::ZERO,
            told: Vec::new(),
        };
        harness.entry(Step::Start { seed: &seed });
        harness.members();
        harness
    }

    /// The service, to look at.
    pub fn service(&self) -> &S {
        self.wrapper.service()
    }

    /// Log time at the last entry.
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// Names everything that the service has sent so far, in order.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Everything that the service was told so far, for
    /// [`check_determinism`](lockstep::testing::check_determinism): any scenario can be made to
    /// look for nondeterminism too.
    pub fn script(&self) -> Script {
        self.told.iter().cloned().collect()
    }

    /// Lets time pass: what falls due on the way happens at its time.
    pub fn advance(&mut self, span: Duration) {
        self.told.push(Input::Pass(span));
        let until = self.now.plus(span);
        for _ in 0..RESTLESS {
            let Some(at) = self.wakeup.filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(at);
            self.index = self.index.next();
            self.wake(at);
            self.settle();
        }
        livelock();
    }

    /// A client connects to a listener of CoServer A, from an address of its own.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn connect(&mut self, listener: &str) -> Result<Client, NotListening> {
        self.clients = self.clients.wrapping_add(1);
        let [.., high, low] = u32::from(self.clients).to_be_bytes();
        let peer = SocketAddr::from((Ipv4Addr::new(192, 0, high, low), 50_000));
        self.connect_from(ReplicaId::A, listener, peer)
    }

    /// A client connects to a listener of this CoServer, from this address.
    ///
    /// # Errors
    /// If there is none of that name, or the CoServer is not there.
    pub fn connect_from(
        &mut self,
        place: ReplicaId,
        listener: &str,
        peer: SocketAddr,
    ) -> Result<Client, NotListening> {
        let net = self.nets[place.slot()].as_mut().ok_or_else(|| NotListening(listener.into()))?;
        let client = net.connect(listener, peer)?;
        self.settle();
        Ok(client)
    }

    /// The far end of a connection sends.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.at(client.place, |net| net.send(client, bytes));
    }

    /// Takes what the far end has received since the last call.
    pub fn take(&mut self, client: Client) -> Vec<u8> {
        self.nets[client.place.slot()].as_mut().map(|net| net.take(client)).unwrap_or_default()
    }

    /// The far end sends nothing more.
    pub fn half_close(&mut self, client: Client) {
        self.at(client.place, |net| net.half_close(client));
    }

    /// The far end resets the connection.
    pub fn reset(&mut self, client: Client) {
        self.at(client.place, |net| net.reset(client));
    }

    /// The far end stops reading, or goes on.
    pub fn stall(&mut self, client: Client, stalled: bool) {
        self.at(client.place, |net| net.stall(client, stalled));
    }

    /// How the connection stands, as its far end sees it.
    pub fn fate(&self, client: Client) -> ConnectionState {
        self.nets[client.place.slot()]
            .as_ref()
            .map_or(ConnectionState::Reset, |net| net.fate(client))
    }

    /// A CoServer says that it has file descriptors for so many connections only, and for so many
    /// of those who connect.
    pub fn set_room(&mut self, place: ReplicaId, total: u32, accepted: u32) {
        self.at(place, |net| net.set_room(total, accepted));
    }

    /// From now on at most this many bytes come in one event.
    pub fn set_chunk(&mut self, bytes: usize) {
        self.nets.iter_mut().flatten().for_each(|net| net.set_chunk(bytes));
    }

    /// The connections that the service asked for and that no peer has answered.
    pub fn dials(&self) -> Vec<Dial> {
        self.nets.iter().flatten().flat_map(Simulated::dials).collect()
    }

    /// Answers one; `None` if the service has given it up since.
    pub fn answer(&mut self, dial: &Dial) -> Option<Client> {
        let mut client = None;
        self.at(dial.place, |net| client = net.answer(dial));
        client
    }

    /// Lets an attempt to connect fail.
    pub fn fail(&mut self, dial: &Dial, failure: &ConnectFailure) {
        self.at(dial.place, |net| net.fail(dial, failure));
    }

    /// A CoServer is lost, with everything that it carried. The other is the sequencer; if it is
    /// not there it comes back before.
    pub fn lose(&mut self, place: ReplicaId) {
        if self.nets[place.other().slot()].is_none() {
            self.join(place.other());
        }
        self.nets[place.slot()] = None;
        self.sequencer = place.other();
        self.told.push(Input::Alone(self.sequencer));
        self.members();
    }

    /// A CoServer that was lost is back, as a new process.
    pub fn join(&mut self, place: ReplicaId) {
        if self.nets[place.slot()].is_none() {
            self.start(place);
        }
        self.told.push(Input::Duplex { sequencer: self.sequencer });
        self.members();
    }

    /// Every process ends, and the CoServer at this place is started again. A fresh instance of the
    /// service takes over the previous state, through its records, and goes on alone. If the
    /// CoServer is not there it comes back before.
    ///
    /// The engine may not know what the old process has released and release the last outputs
    /// again, so that is what happens here.
    ///
    /// # Errors
    /// If the state cannot be written or read back.
    pub fn restart(&mut self, place: ReplicaId, fresh: Wrapper<S>) -> Result<(), RestoreError> {
        self.restart_after(place, fresh, Duration::ZERO)
    }

    /// As [`restart`](Self::restart), after a while in which no process runs.
    ///
    /// # Errors
    /// If the state cannot be written or read back.
    pub fn restart_after(
        &mut self,
        place: ReplicaId,
        fresh: Wrapper<S>,
        gap: Duration,
    ) -> Result<(), RestoreError> {
        if self.nets[place.slot()].is_none() {
            self.join(place);
        }
        self.replace(fresh)?;
        self.nets = [None, None];
        self.start(place);
        let again: Vec<_> = self.recent.iter().cloned().collect();
        again.iter().for_each(|(carrier, bytes)| self.carry(*carrier, bytes));
        self.sequencer = place;
        self.told.push(Input::RestartedAfter { place, gap });
        self.resume(gap);
        Ok(())
    }

    /// Every process stands still for so long, and goes on: see [`Service::on_resumed`].
    pub fn stand_still(&mut self, gap: Duration) {
        self.told.push(Input::Gap(gap));
        self.index = self.index.next();
        self.now = self.now.plus(gap);
        self.step(self.now, Step::Resumed { gap });
        // The wrapper asks to be woken after each step, at the soonest.
        self.advance(Duration::from_nanos(1));
    }

    /// The log is taken up again; the devices stand a moment after everybody was told.
    fn resume(&mut self, gap: Duration) {
        self.index = self.index.next();
        self.now = self.now.plus(gap);
        self.held = true;
        self.step(self.now, Step::Resumed { gap });
        self.members();
        self.held = false;
        self.advance(Duration::from_millis(1));
    }

    /// Outputs that reached another process of a CoServer than they were for, and were passed
    /// over there: those that were released again after a restart.
    pub fn misrouted(&self) -> u64 {
        self.nets.iter().flatten().map(Simulated::misrouted).sum()
    }

    fn start(&mut self, place: ReplicaId) {
        self.starts[place.slot()] += 1;
        let process = process(place, self.starts[place.slot()]);
        self.nets[place.slot()] = Some(Simulated::new(place, process));
    }

    /// The other CoServer becomes the sequencer.
    pub fn hand_over(&mut self, to: ReplicaId) {
        self.sequencer = to;
        self.told.push(Input::HandOver(to));
        self.members();
    }

    /// A client opens a session.
    pub fn open_session(&mut self) -> SessionId {
        let session = SessionId(self.index.next().0);
        self.sessions.push((session, RequestNumber(0)));
        self.told.push(Input::Open { client: client_of(session) });
        self.entry(Step::SessionOpened { session });
        session
    }

    /// A client's next request in its session; returns the reply.
    pub fn request(&mut self, session: SessionId, body: &[u8]) -> Bytes {
        let known = self.sessions.iter_mut().find(|(id, _)| *id == session);
        let number = known.map_or(RequestNumber(1), |(_, number)| {
            *number = number.next();
            *number
        });
        self.told.push(Input::request(client_of(session), Bytes::copy_from_slice(body)));
        self.entry(Step::Request { session, number, body })
    }

    /// A session ends.
    pub fn end_session(&mut self, session: SessionId) {
        self.sessions.retain(|(id, _)| *id != session);
        self.told.push(Input::Close { client: client_of(session) });
        self.entry(Step::SessionEnded { session });
    }

    /// Something happens on a device of the user's own.
    pub fn device_input(&mut self, device: DeviceId, place: ReplicaId, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.told.push(Input::Device { device, place, bytes: bytes.clone() });
        self.entry(Step::Device { device, place, bytes: &bytes });
    }

    /// Takes what the service has sent to devices of the user's own since the last call.
    pub fn device_outputs(&mut self) -> Vec<(DeviceId, Carrier, Bytes)> {
        core::mem::take(&mut self.printed)
    }

    /// The whole state, as records.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn freeze(&self) -> Result<Records, SinkError> {
        let mut records = Records::default();
        self.wrapper.freeze().write(&mut records)?;
        Ok(records)
    }

    /// Goes on with another instance of the service, to which the state of this one is carried
    /// over through its records, as after a restart.
    ///
    /// # Errors
    /// If it cannot be written or read back.
    pub fn replace(&mut self, mut wrapper: Wrapper<S>) -> Result<(), RestoreError> {
        let mut records = self.freeze().map_err(std::io::Error::other)?;
        wrapper.restore(&mut records)?;
        self.wrapper = wrapper;
        Ok(())
    }

    fn at(&mut self, place: ReplicaId, act: impl FnOnce(&mut Simulated)) {
        if let Some(net) = &mut self.nets[place.slot()] {
            act(net);
            self.settle();
        }
    }

    fn members(&mut self) {
        let [a, b] = ReplicaId::BOTH.map(|place| {
            let there = self.nets[place.slot()].is_some();
            there.then(|| process(place, self.starts[place.slot()]))
        });
        let members = record::Members { a, b };
        self.entry(Step::Members { members, sequencer: self.sequencer });
    }

    /// Everything that follows by itself happens.
    fn settle(&mut self) {
        for _ in 0..RESTLESS {
            let report = ReplicaId::BOTH.into_iter().find_map(|place| {
                let net = self.nets[place.slot()].as_mut()?;
                net.next_input().map(|bytes| (place, bytes))
            });
            let Some((place, bytes)) = report else { return };
            let Some(device) = self.wrapper.devices().find(crate::wrapper::TCP) else { return };
            self.told.push(Input::Device { device, place, bytes: bytes.clone() });
            self.ordered(Step::Device { device, place, bytes: &bytes });
        }
        livelock();
    }

    fn entry(&mut self, step: Step<'_>) -> Bytes {
        let reply = self.ordered(step);
        self.settle();
        reply
    }

    /// Executes one entry: first what is due, then the step itself.
    fn ordered(&mut self, step: Step<'_>) -> Bytes {
        self.index = self.index.next();
        self.now = self.now.plus(Duration::from_micros(1));
        for _ in 0..lockstep::limits::WAKES_PER_ENTRY {
            let due = self.wakeup.filter(|at| *at <= self.now && !self.held);
            let Some(at) = due else { break };
            self.wake(at);
        }
        self.step(self.now, step)
    }

    /// A wake-up that is late comes late: time does not go back for it.
    fn wake(&mut self, at: LogTime) {
        self.wakeup = None;
        self.step(at.max(self.stepped), Step::Wake);
    }

    fn step(&mut self, now: LogTime, step: Step<'_>) -> Bytes {
        self.stepped = now;
        let reply = self.wrapper.run(self.index, now, step);
        let next = self.wrapper.next_wakeup(now);
        self.wakeup = next.map(|at| at.max(now.plus(Duration::from_nanos(1))));
        let mut hasher = Hasher::after(self.digest);
        hasher.bytes(&reply);
        let tcp = self.wrapper.devices().find(crate::wrapper::TCP);
        let staged: Vec<_> = self.wrapper.outbox().drain().collect();
        for output in staged {
            hasher.number(output.device.0.into()).bytes(&output.bytes);
            if Some(output.device) == tcp {
                self.carry(output.carrier, &output.bytes);
                self.recent.push_back((output.carrier, output.bytes));
                if self.recent.len() > RELEASED_AGAIN {
                    self.recent.pop_front();
                }
            } else {
                self.printed.push((output.device, output.carrier, output.bytes));
            }
        }
        self.digest = hasher.finish();
        reply
    }

    fn carry(&mut self, carrier: Carrier, bytes: &Bytes) {
        for place in ReplicaId::BOTH {
            let carries = match carrier {
                Carrier::Replica(at) => at == place,
                Carrier::Sequencer => self.sequencer == place,
                Carrier::Both => true,
            };
            if let Some(net) = self.nets[place.slot()].as_mut().filter(|_| carries) {
                net.release(bytes);
            }
        }
    }
}

/// A script names a session's client by a number.
fn client_of(session: SessionId) -> u32 {
    u32::try_from(session.0).unwrap_or(u32::MAX)
}

#[expect(clippy::panic, reason = "a scenario that never ends is a failed test")]
fn livelock() -> ! {
    panic!("the service did not come to rest in {RESTLESS} steps")
}
