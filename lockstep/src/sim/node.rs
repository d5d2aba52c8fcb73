//! A CoServer in the world: drives the replica core and the replicated unit as the real runtime
//! does, and is where a pair is broken on purpose.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use super::broken::Broken;
use super::clock::Clock;
use super::judges::{OutputName, Seen, Who};
use super::marks::Mark;
use super::net::WireId;
use super::options::Options;
use super::service::{Flaw, Knob, LEDGER, PORT, Shelf};
use super::wiring::Role;
use super::world::{Due, PAIR, World};
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind};
use crate::event::StopCause;
use crate::ids::{ConnId, Index, LinkId, LogTime, Now, Place, SessionId};
use crate::output::{Carrier, Executed, OutputKind};
use crate::proto::{Boot, Command, Config, Input, Output, Replica, Standing};
use crate::unit::Unit;
use crate::wire::codec;
use crate::wire::frames::{ClientAnswer, ClientCall, Environment, PeerFrame, Versions};

/// Most inputs that a device of the world keeps for a CoServer that takes none.
const DEVICE_QUEUE: usize = 32;

/// How long a replica that is out goes on telling its clients (ns).
const GRACE: u64 = 60_000_000;

/// The machine at a place, and the process on it while one runs.
pub(super) struct CoServer {
    place: Place,
    pub(super) clock: Clock,
    pub(super) life: u32,
    process: Option<Process>,
    inbox: VecDeque<Arrival>,
    runs_at: Option<u64>,
    pub(super) paused_until: u64,
    pub(super) knob: Knob,
    /// Steps of its service take this much longer (ns).
    pub(super) slowness: u64,
    pub(super) next_input: u64,
}

/// What has come to a process and waits for it to look.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A link is up.
    LinkUp(LinkId),
    /// A link is down.
    LinkDown(LinkId),
    /// A full link takes frames again.
    LinkWritable(LinkId),
    /// The witness is connected.
    WitnessUp,
    /// It is not any more.
    WitnessDown,
    /// A client is connected.
    ClientUp(WireId),
    /// It is not any more.
    ClientDown(WireId),
    /// A frame.
    Frame { wire: WireId, generation: u32, role: Role, bytes: Bytes },
    /// A result of the service thread.
    Executed(Executed),
    /// The operator wants something.
    Command(Command),
    /// A device has an input.
    Poke,
}

struct Process {
    who: Who,
    replica: Replica,
    unit: Unit<Shelf>,
    conns: BTreeMap<ConnId, WireId>,
    wires: BTreeMap<WireId, ConnId>,
    next_conn: u64,
    /// Clients' frames that wait until inputs are taken.
    waiting: VecDeque<(ConnId, ClientCall)>,
    armed: Option<u64>,
    /// Entries for the service thread, the first of which it is at.
    executing: VecDeque<Entry>,
    device: VecDeque<u64>,
    taken: BTreeSet<u64>,
    held: Index,
    standing: Standing,
    rounds: u64,
    is_ending: bool,
    /// For a pair that answers too early: who asked last in a session.
    asked: BTreeMap<SessionId, ConnId>,
}

impl CoServer {
    pub(super) fn new(place: Place, mut clock: Clock, options: &Options) -> Self {
        if options.broken == Some(Broken::FrozenClock) {
            clock.slow_down(1000);
        }
        Self {
            place,
            clock,
            life: 0,
            process: None,
            inbox: VecDeque::new(),
            runs_at: None,
            paused_until: 0,
            knob: Knob::default(),
            slowness: 0,
            next_input: 0,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn is_sequencer(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            let place = self.place;
            matches!(process.standing, Standing::Serving { sequencer, .. } if sequencer == place)
        })
    }

    fn who(&self) -> Option<Who> {
        self.process.as_ref().map(|process| process.who)
    }
}

fn config(options: &Options, place: Place) -> Config {
    let window =
        if options.broken == Some(Broken::NoWindow) { 4096 } else { options.window_entries };
    Config {
        pair: PAIR,
        place,
        links: u8::try_from(options.links.len()).unwrap_or(u8::MAX),
        environment: Environment {
            service: "shelf".into(),
            service_version: 1,
            configuration: Digest::ZERO,
            protocol: Versions { oldest: 1, newest: 1 },
        },
        silence: options.silence,
        silence_floor: options.silence_floor,
        heartbeat: options.heartbeat,
        slow_limit: options.slow_limit,
        forward_delay: options.forward_delay,
        hold_limit: options.hold_limit,
        window_entries: window,
        window_bytes: options.window_bytes,
        divergence: options.divergence,
    }
}

/// Life of a process: starting, running in rounds, ending.
impl World {
    pub(super) fn start_server(&mut self, place: Place) {
        let incarnation = self.incarnation();
        let boot = Boot { incarnation, seed: self.rng.seed() };
        let who = Who { place, incarnation };
        let now = self.servers[place.slot()].clock.now(self.at);
        let flaw = match self.options.broken {
            Some(Broken::Twice) => Flaw::Twice,
            Some(Broken::LostWakeUps) => Flaw::Sleepy,
            Some(Broken::StaleRead) => Flaw::StaleRead,
            _ => Flaw::None,
        };
        let replica = Replica::new(config(&self.options, place), boot, now);
        let server = self.server(place);
        if server.process.is_some() {
            return;
        }
        server.knob.clear();
        server.life += 1;
        server.inbox.clear();
        server.runs_at = None;
        server.process = Some(Process {
            who,
            replica,
            unit: Unit::new(Shelf::new(server.knob.clone(), flaw)),
            conns: BTreeMap::new(),
            wires: BTreeMap::new(),
            next_conn: 0,
            waiting: VecDeque::new(),
            armed: None,
            executing: VecDeque::new(),
            device: VecDeque::new(),
            taken: BTreeSet::new(),
            held: Index(0),
            standing: Standing::Starting,
            rounds: 0,
            is_ending: false,
            asked: BTreeMap::new(),
        });
        self.trace.step(self.at, 30, incarnation.0);
        self.trace.say(self.at, || format!("{who} starts"));
        self.see(Seen::Started { who });
        for (wire, end) in self.wires_of(place) {
            self.renew(wire, end);
        }
        if let Some(pace) = self.options.device_pace[place.slot()] {
            let at = self.at + self.rng.from(1, pace);
            self.queue.put(at, Due::Device { place });
        }
        self.wake(place);
    }

    /// The wires that end at a CoServer, and which end it is.
    fn wires_of(&self, place: Place) -> Vec<(WireId, usize)> {
        let links = (0..self.options.links.len()).map(|link| (WireId(link), place.slot()));
        let clients = (0..self.clients.len()).map(|client| (self.client_wire(client, place), 1));
        links.chain([(self.witness_wire(place), 0)]).chain(clients).collect()
    }

    /// The process ends at once, whatever it was about to do.
    pub(super) fn kill_server(&mut self, place: Place) -> bool {
        let Some(process) = self.server(place).process.take() else { return false };
        let who = process.who;
        self.server(place).inbox.clear();
        self.trace.step(self.at, 31, place.slot() as u64);
        self.trace.say(self.at, || format!("{who} ends"));
        for (wire, end) in self.wires_of(place) {
            self.abandon(wire, end);
        }
        self.see(Seen::Ended { who });
        true
    }

    pub(super) fn on_exit(&mut self, place: Place, life: u32) {
        if self.servers[place.slot()].life == life {
            self.kill_server(place);
        }
    }

    /// Something comes to a process.
    pub(super) fn arrive(&mut self, place: Place, arrival: Arrival) {
        if self.servers[place.slot()].is_running() {
            self.server(place).inbox.push_back(arrival);
            self.wake(place);
        }
    }

    /// The process looks at what has come, in a moment.
    pub(super) fn wake(&mut self, place: Place) {
        if self.servers[place.slot()].runs_at.is_some() {
            return;
        }
        let due = self.at + self.rng.from(1, self.options.turnaround);
        let server = &mut self.servers[place.slot()];
        let due = due.max(server.paused_until);
        server.runs_at = Some(due);
        let life = server.life;
        self.queue.put(due, Due::Run { place, life });
    }

    pub(super) fn on_timer(&mut self, place: Place, life: u32) {
        let server = self.server(place);
        if server.life != life {
            return;
        }
        let Some(process) = &mut server.process else { return };
        process.armed = None;
        self.wake(place);
    }

    pub(super) fn on_run(&mut self, place: Place, life: u32) {
        let at = self.at;
        let server = self.server(place);
        if server.life != life || server.process.is_none() {
            return;
        }
        server.runs_at = None;
        if at < server.paused_until {
            return self.wake(place);
        }
        self.trace.step(at, 32, place.slot() as u64);
        self.round(place);
        if !self.servers[place.slot()].inbox.is_empty() {
            self.wake(place);
        }
    }

    fn round(&mut self, place: Place) {
        let batch = self.options.batch[place.slot()];
        // The driver calls with a timeout in every round: it is never too often.
        self.tell(place, Input::Timeout);
        for _ in 0..batch {
            let Some(arrival) = self.server(place).inbox.pop_front() else { break };
            self.on_arrival(place, arrival);
        }
        self.feed(place, batch);
        self.drain(place);
        self.feed(place, batch);
        self.drain(place);
        self.arm(place);
        self.measure(place);
    }

    fn now(&self, place: Place) -> Now {
        self.servers[place.slot()].clock.now(self.at)
    }

    fn tell(&mut self, place: Place, input: Input) {
        let now = self.now(place);
        if let Some(process) = &mut self.server(place).process {
            process.replica.handle(now, input);
        }
    }

    fn arm(&mut self, place: Place) {
        let at = self.at;
        let server = self.server(place);
        let life = server.life;
        let Some(process) = &mut server.process else { return };
        let Some(due) = process.replica.next_timeout() else { return };
        let due = server.clock.when(due).max(at + 1);
        if process.armed.is_none_or(|armed| due < armed) {
            process.armed = Some(due);
            self.queue.put(due, Due::Timer { place, life });
        }
    }

    fn measure(&mut self, place: Place) {
        let Some(process) = &mut self.server(place).process else { return };
        process.rounds += 1;
        if process.rounds.is_multiple_of(8) {
            let (who, status) = (process.who, process.replica.status());
            self.see(Seen::Measured { who, status: &status });
        }
    }
}

/// What arrives.
impl World {
    fn on_arrival(&mut self, place: Place, arrival: Arrival) {
        match arrival {
            Arrival::LinkUp(link) => self.tell(place, Input::LinkUp { link }),
            Arrival::LinkDown(link) => self.tell(place, Input::LinkDown { link }),
            Arrival::LinkWritable(link) => self.tell(place, Input::LinkWritable { link }),
            Arrival::WitnessUp => self.tell(place, Input::WitnessUp),
            Arrival::WitnessDown => self.tell(place, Input::WitnessDown),
            Arrival::ClientUp(wire) => self.on_conn_up(place, wire),
            Arrival::ClientDown(wire) => self.on_conn_down(place, wire),
            Arrival::Executed(executed) => self.give_result(place, executed),
            Arrival::Command(command) => self.tell(place, Input::Command(command)),
            Arrival::Poke => {}
            Arrival::Frame { wire, generation, role, bytes } => {
                if self.wires[wire.0].generation != generation {
                    return;
                }
                let end = if role == Role::Client { 1 } else { self.end_at(place, role) };
                self.taken(wire, end, bytes.len());
                match role {
                    Role::Link(link) => self.on_peer_frame(place, wire, link, &bytes),
                    Role::Witness => self.on_witness_frame(place, wire, &bytes),
                    Role::Client => self.on_client_call(place, wire, &bytes),
                }
            }
        }
    }

    fn end_at(&self, place: Place, role: Role) -> usize {
        if role == Role::Witness { 0 } else { place.slot() }
    }

    fn on_peer_frame(&mut self, place: Place, wire: WireId, link: LinkId, bytes: &[u8]) {
        let Ok(mut frame) = codec::decode_peer(bytes) else {
            self.reach(Mark::CorruptRefused);
            self.trace.say(self.at, || format!("{place} refuses a frame on link {link}"));
            self.close(wire, place.slot());
            return self.tell(place, Input::LinkDown { link });
        };
        self.trace.say(self.at, || format!("{place} <- link {link}  {}", brief(&frame)));
        if let PeerFrame::Batch { entries, .. } = &mut frame {
            let held = self.held(place);
            if entries.first().is_some_and(|entry| entry.index <= held) {
                self.reach(Mark::LateDuplicate);
            }
            if self.options.broken == Some(Broken::OtherEntry) && place == Place::B {
                entries.iter_mut().filter(|entry| entry.index.0 % 8 == 0).for_each(|entry| {
                    entry.time.0 += 1;
                });
            }
        }
        self.tell(place, Input::Peer { link, frame });
    }

    fn held(&self, place: Place) -> Index {
        self.servers[place.slot()].process.as_ref().map_or(Index(0), |process| process.held)
    }

    fn on_witness_frame(&mut self, place: Place, wire: WireId, bytes: &[u8]) {
        let Ok(answer) = codec::decode_witness_answer(bytes) else {
            self.reach(Mark::CorruptRefused);
            self.close(wire, 0);
            return self.tell(place, Input::WitnessDown);
        };
        self.trace.say(self.at, || format!("{place} <- witness  {answer:?}"));
        let serves = matches!(
            self.servers[place.slot()].process.as_ref().map(|process| process.standing),
            Some(Standing::Serving { .. } | Standing::Holding)
        );
        if serves && self.options.broken == Some(Broken::DeafToWitness) {
            return;
        }
        self.tell(place, Input::Witness(answer));
    }

    fn on_conn_up(&mut self, place: Place, wire: WireId) {
        let Some(process) = &mut self.server(place).process else { return };
        process.next_conn += 1;
        let conn = ConnId(process.next_conn);
        process.conns.insert(conn, wire);
        process.wires.insert(wire, conn);
    }

    fn on_conn_down(&mut self, place: Place, wire: WireId) {
        let Some(process) = &mut self.server(place).process else { return };
        let Some(conn) = process.wires.remove(&wire) else { return };
        process.conns.remove(&conn);
        process.waiting.retain(|(from, _)| *from != conn);
        self.tell(place, Input::ClientGone { conn });
    }

    fn on_client_call(&mut self, place: Place, wire: WireId, bytes: &[u8]) {
        let Some(process) = &mut self.server(place).process else { return };
        let Some(conn) = process.wires.get(&wire).copied() else { return };
        match codec::decode_client_call(bytes) {
            Ok(call) => {
                if let ClientCall::Request { session, .. } = &call {
                    process.asked.insert(*session, conn);
                }
                process.waiting.push_back((conn, call));
            }
            Err(_) => {
                self.reach(Mark::CorruptRefused);
                self.close(wire, 1);
                self.on_conn_down(place, wire);
            }
        }
    }

    /// Gives the core inputs of clients and devices while it takes them.
    fn feed(&mut self, place: Place, batch: usize) {
        for _ in 0..batch {
            let Some(process) = &mut self.server(place).process else { return };
            let serves = matches!(process.standing, Standing::Serving { .. } | Standing::Holding);
            let takes = process.replica.takes_input();
            let first = process.waiting.front();
            let passes = first.is_some_and(|(_, call)| {
                takes || !serves || matches!(call, ClientCall::Hello { .. })
            });
            if passes && let Some((conn, call)) = process.waiting.pop_front() {
                self.trace.say(self.at, || format!("{place} <- client {conn}  {call:?}"));
                self.tell(place, Input::Client { conn, call });
                continue;
            }
            let Some(id) = process.device.front().copied().filter(|_| takes) else { return };
            process.device.pop_front();
            process.taken.insert(id);
            self.device_inputs += 1;
            let bytes = Bytes::copy_from_slice(&id.to_le_bytes());
            let lost = self.options.broken == Some(Broken::LostInput) && id.is_multiple_of(16);
            if !lost {
                self.tell(place, Input::Device { device: PORT, bytes });
            }
        }
        // More is there: another round.
        let process = self.servers[place.slot()].process.as_ref();
        if process.is_some_and(|process| !process.waiting.is_empty()) {
            self.arrive(place, Arrival::Poke);
        }
    }

    /// A device of this CoServer has an input with this id.
    pub(super) fn offer(&mut self, place: Place, id: u64) {
        let Some(process) = &mut self.server(place).process else { return };
        if process.device.len() < DEVICE_QUEUE {
            process.device.push_back(id);
            self.arrive(place, Arrival::Poke);
        }
    }
}

/// What a core wants done.
impl World {
    fn drain(&mut self, place: Place) {
        loop {
            let mut answers = Vec::new();
            while let Some(output) =
                self.server(place).process.as_mut().and_then(|process| process.replica.poll())
            {
                self.carry_out(place, output, &mut answers);
                if self.verdict.is_some() {
                    return;
                }
            }
            if answers.is_empty() {
                return;
            }
            for input in answers {
                match input {
                    Input::Executed(executed) => self.give_result(place, executed),
                    input => self.tell(place, input),
                }
            }
        }
    }

    fn carry_out(&mut self, place: Place, output: Output, answers: &mut Vec<Input>) {
        let Some(who) = self.servers[place.slot()].who() else { return };
        match output {
            Output::Peer { links, frame } => self.send_to_peer(who, links, &frame, answers),
            Output::CloseLink { link } => {
                let wire = self.link_wire(link);
                self.close(wire, place.slot());
                answers.push(Input::LinkDown { link });
            }
            Output::Witness(call) => {
                let wire = self.witness_wire(place);
                match self.encoder.witness_call(&call) {
                    Ok(bytes) => self.send(wire, 0, bytes),
                    Err(error) => panic!("the call {call:?} cannot be encoded: {error}"),
                };
            }
            Output::Client { conn, answer } => self.answer(who, conn, &answer),
            Output::CloseClient { conn } => {
                let process = self.server(place).process.as_mut();
                let wire = process.and_then(|process| process.conns.remove(&conn));
                if let Some(wire) = wire {
                    if let Some(process) = &mut self.server(place).process {
                        process.wires.remove(&wire);
                        process.waiting.retain(|(from, _)| *from != conn);
                    }
                    self.close(wire, 1);
                }
            }
            Output::Append(entry) => {
                answers.push(Input::Persisted(entry.index));
                self.appended(who, entry);
            }
            Output::Execute(entry) => self.execute(place, entry, answers),
            Output::PersistMembership { number, .. } => {
                answers.push(Input::MembershipPersisted(number));
            }
            Output::Release { index, step, ordinal, epoch, kind } => {
                let name = OutputName { index, step, ordinal };
                self.release(who, name, epoch, kind);
            }
            Output::Standing(standing) => {
                if let Some(process) = &mut self.server(place).process {
                    process.standing = standing;
                }
                self.trace.say(self.at, || format!("{who} is {standing:?}"));
                self.see(Seen::Standing { who, standing });
            }
            Output::Event(event) => {
                self.trace.say(self.at, || format!("{who} event {event:?}"));
                self.see(Seen::Event { who, event: &event });
            }
            Output::Stop { cause } => self.stop(who, &cause),
        }
    }

    fn stop(&mut self, who: Who, cause: &StopCause) {
        self.trace.say(self.at, || format!("{who} stops: {cause}"));
        self.see(Seen::Stopped { who, cause });
        let server = self.server(who.place);
        let life = server.life;
        if let Some(process) = &mut server.process
            && !core::mem::replace(&mut process.is_ending, true)
        {
            self.queue.put(self.at + GRACE, Due::Exit { place: who.place, life });
        }
    }

    fn send_to_peer(
        &mut self,
        who: Who,
        links: crate::proto::io::LinkSet,
        frame: &PeerFrame,
        answers: &mut Vec<Input>,
    ) {
        if let PeerFrame::Batch { forwards, .. } = frame
            && let Some(last) = forwards.last()
        {
            self.watch.forwards(who, last.number);
        }
        let bytes = match self.encoder.peer(frame) {
            Ok(bytes) => bytes,
            Err(error) => panic!("a frame of {who} cannot be encoded: {error}"),
        };
        for link in links.iter() {
            if !self.send_on_link(who.place, link, bytes.clone()) {
                answers.push(Input::LinkBlocked { link });
            }
        }
    }

    fn answer(&mut self, who: Who, conn: ConnId, answer: &ClientAnswer) {
        self.trace.say(self.at, || format!("{who} -> client {conn}  {answer:?}"));
        self.see(Seen::Answered { who, answer });
        let process = self.servers[who.place.slot()].process.as_ref();
        let Some(wire) = process.and_then(|process| process.conns.get(&conn)).copied() else {
            return;
        };
        if let ClientAnswer::Reply { session, number, .. } = answer {
            let follows = !self.servers[who.place.slot()].is_sequencer();
            self.watch.answers(*session, *number, follows);
        }
        match self.encoder.client_answer(answer) {
            Ok(bytes) => {
                if !self.send(wire, 1, bytes) {
                    self.close(wire, 1);
                    self.on_conn_down(who.place, wire);
                }
            }
            Err(error) => panic!("the answer {answer:?} cannot be encoded: {error}"),
        }
    }

    fn appended(&mut self, who: Who, mut entry: Entry) {
        if self.options.broken == Some(Broken::ClockBack)
            && who.place == Place::A
            && entry.index.0.is_multiple_of(10)
        {
            entry.time = LogTime(entry.time.0 - 1_000_000_000);
        }
        if self.servers[who.place.slot()].is_sequencer()
            && entry.origin.incarnation == who.incarnation
        {
            self.watch.orders_own(who, entry.origin.number);
        }
        if let Some(process) = &mut self.server(who.place).process {
            process.held = entry.index;
        }
        self.trace.step(self.at, 33, entry.index.0);
        self.trace.say(self.at, || format!("{who} appends {}", entry_in_brief(&entry)));
        self.see(Seen::Appended { who, entry: &entry });
    }

    fn release(&mut self, who: Who, name: OutputName, epoch: crate::ids::Epoch, kind: OutputKind) {
        let kind = match kind {
            OutputKind::Device { device, carrier, bytes }
                if self.options.broken == Some(Broken::RewriteRelease)
                    && who.place == Place::B
                    && carrier == Carrier::Both =>
            {
                let mut bytes = BytesMut::from(&bytes[..]);
                bytes.extend_from_slice(b"!");
                OutputKind::Device { device, carrier, bytes: bytes.freeze() }
            }
            kind => kind,
        };
        self.trace.step(self.at, 34, name.index.0);
        self.trace.say(self.at, || format!("{who} releases {name} in epoch {epoch}"));
        self.see(Seen::Released { who, epoch, name, kind: &kind });
    }
}

/// The service: inline, or on a thread of its own.
impl World {
    fn execute(&mut self, place: Place, entry: Entry, answers: &mut Vec<Input>) {
        if self.options.service_time[place.slot()].is_some() {
            let Some(process) = &mut self.server(place).process else { return };
            process.executing.push_back(entry);
            if process.executing.len() == 1 {
                self.begin_step(place);
            }
            return;
        }
        let at = self.at;
        let server = self.server(place);
        // Inline, a slow step holds up the whole process.
        if server.slowness != 0 && !entry.kind.is_protocol() {
            server.paused_until = server.paused_until.max(at) + server.slowness / 4;
        }
        let Some(process) = &mut server.process else { return };
        // What was handed out before a panic was known is not executed any more.
        if !process.unit.has_panicked() {
            answers.push(Input::Executed(process.unit.execute(&entry)));
        }
    }

    fn begin_step(&mut self, place: Place) {
        let time = self.options.service_time[place.slot()].unwrap_or(1);
        let server = &mut self.servers[place.slot()];
        let (life, slowness) = (server.life, server.slowness);
        let Some(process) = &mut server.process else { return };
        if process.unit.has_panicked() {
            return;
        }
        let Some(entry) = process.executing.front() else { return };
        let executed = Box::new(process.unit.execute(entry));
        let at = self.at + self.rng.from(time / 2, time) + slowness;
        let at = at.max(self.servers[place.slot()].paused_until);
        self.queue.put(at, Due::Executed { place, life, executed });
    }

    pub(super) fn on_executed(&mut self, place: Place, life: u32, executed: Executed) {
        let server = self.server(place);
        if server.life != life || server.process.is_none() {
            return;
        }
        if let Some(process) = &mut server.process {
            process.executing.pop_front();
        }
        self.arrive(place, Arrival::Executed(executed));
        self.begin_step(place);
    }

    /// A result goes to the core.
    fn give_result(&mut self, place: Place, executed: Executed) {
        let Some(who) = self.servers[place.slot()].who() else { return };
        self.trace.step(self.at, 35, executed.index.0);
        self.trace.bytes(&executed.digest.0);
        self.see(Seen::Executed { who, executed: &executed });
        if let Some(process) = &mut self.server(place).process {
            for output in &executed.outputs {
                if let OutputKind::Device { device: LEDGER, bytes, .. } = &output.kind
                    && let Some(id) = bytes.first_chunk()
                {
                    process.taken.remove(&u64::from_le_bytes(*id));
                }
            }
        }
        self.misuse(who, &executed);
        self.tell(place, Input::Executed(executed));
    }

    /// Broken on purpose: lets results out that nobody else has yet, or that are another's.
    fn misuse(&mut self, who: Who, executed: &Executed) {
        let index = executed.index;
        let process = self.servers[who.place.slot()].process.as_ref();
        let record = process.and_then(|process| process.replica.status().record);
        let (Some(broken), Some(record)) = (self.options.broken, record) else { return };
        for output in &executed.outputs {
            let (step, ordinal) = (output.step, output.ordinal);
            let name = OutputName { index, step, ordinal };
            match (broken, who.place, &output.kind) {
                (
                    Broken::ReleaseEarly,
                    Place::A,
                    OutputKind::Device { carrier: Carrier::Both, .. },
                )
                | (Broken::BothCarry, _, OutputKind::Device { carrier: Carrier::Sequencer, .. }) => {
                    self.release(who, name, record.epoch, output.kind.clone())
                }
                (
                    Broken::AnswerEarly,
                    Place::A,
                    OutputKind::Reply { session, number, result, .. },
                ) => {
                    let (session, number) = (*session, *number);
                    if let Some(conn) = self.asker_of(who.place, session) {
                        let result = result.clone();
                        self.answer(who, conn, &ClientAnswer::Reply { session, number, result });
                    }
                }
                _ => {}
            }
        }
    }

    fn asker_of(&self, place: Place, session: SessionId) -> Option<ConnId> {
        self.servers[place.slot()].process.as_ref()?.asked.get(&session).copied()
    }

    /// The operator's word to a CoServer.
    pub(super) fn command(&mut self, place: Place, command: Command) {
        self.arrive(place, Arrival::Command(command));
    }

    /// Shows the judges the digest of each replica's whole state.
    pub(super) fn show_states(&mut self) {
        for place in Place::BOTH {
            let Some(process) = &self.servers[place.slot()].process else { continue };
            if process.unit.has_panicked() {
                continue;
            }
            let (who, index) = (process.who, process.unit.index());
            let Ok(digest) = process.unit.freeze().state_digest() else { continue };
            // A service thread may be ahead of what the core was told.
            if process.executing.is_empty() {
                self.see(Seen::State { who, index, digest });
            }
        }
    }

    /// Inputs of devices that a replica took, which still serves and has not executed them.
    pub(super) fn devices_lost(&self) -> u64 {
        let members: BTreeSet<Who> = self.judges.ground().members().map(|(who, _)| who).collect();
        let processes = self.servers.iter().filter_map(|server| server.process.as_ref());
        processes
            .filter(|process| members.contains(&process.who) && !process.unit.has_panicked())
            .map(|process| process.taken.len() as u64)
            .sum()
    }
}

fn brief(frame: &PeerFrame) -> String {
    match frame {
        PeerFrame::Batch { epoch, progress, entries, forwards, .. } => format!(
            "batch epoch {epoch}, held {}, executed {}, entries {:?}, forwards {:?}",
            progress.held,
            progress.executed,
            entries.iter().map(|entry| entry.index.0).collect::<Vec<_>>(),
            forwards.iter().map(|forward| forward.number.0).collect::<Vec<_>>(),
        ),
        PeerFrame::Ping { sequence, epoch, progress, .. } => format!(
            "ping {sequence}, epoch {epoch}, held {}, executed {}",
            progress.held, progress.executed
        ),
        PeerFrame::Epoch { record } => super::witness::short(record),
        PeerFrame::Asked { request } => {
            format!("asked for {}", super::witness::short(&request.next))
        }
        frame => format!("{frame:?}"),
    }
}

fn entry_in_brief(entry: &Entry) -> String {
    let what = match &entry.kind {
        EntryKind::Genesis { .. } => "genesis".into(),
        EntryKind::Membership { record } => super::witness::short(record),
        EntryKind::SessionRequest { session, number, body, .. } => {
            let request = super::ops::Request::decode(body);
            format!(
                "request {session}/{number} {:x?}",
                request.map(|request| (request.id, request.op))
            )
        }
        EntryKind::Device { bytes, .. } => format!("device input {bytes:02x?}"),
        kind => format!("{kind:?}"),
    };
    format!(
        "{} (epoch {}, time {}, from {}/{}): {what}",
        entry.index, entry.epoch, entry.time, entry.origin.place, entry.origin.number
    )
}
