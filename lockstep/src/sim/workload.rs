//! Clients and devices: what the world asks of the pair.

use core::time::Duration;
use std::collections::BTreeMap;

use super::checkers::Observation;
use super::marks::Mark;
use super::ops::{Answer, Op, Request};
use super::options::Options;
use super::rng::Rng;
use super::shares::Habits;
use super::world::{Due, PAIR, World};
use crate::client::{Client, Config, Event, Input, Output, RequestError};
use crate::ids::{MonotonicTime, Nonce, ReplicaId, RequestNumber};
use crate::limits;
use crate::wire::codec;
use crate::wire::frames::ClientCall;

/// Clients and devices go on for this long after the faults have ended (ns).
const GOES_ON: u64 = 150_000_000;

/// Requests that every client makes after the faults have ended, at least.
const PROBES: u64 = 2;

/// A simulated client: a client core and what it has under way.
pub(super) struct SimClient {
    id: usize,
    core: Option<Client>,
    config: Config,
    /// The requests under way: their ids, and whether they were made after the faults.
    open: BTreeMap<RequestNumber, (u64, bool)>,
    wants: [bool; 2],
    rng: Rng,
    pipeline: usize,
    think: u64,
    long_permille: u32,
    bulk_permille: u32,
    made: u64,
    made_since_heal: u64,
    pub(super) answered_since_heal: u64,
    armed: Option<u64>,
    pub(super) poison: bool,
    pub(super) habits: Habits,
    /// It will think again.
    thinks: bool,
}

impl SimClient {
    pub(super) fn new(id: usize, options: &Options, mut rng: Rng) -> Self {
        Self {
            id,
            core: None,
            config: config(options, &mut rng),
            open: BTreeMap::new(),
            wants: [false; 2],
            pipeline: options.pipeline,
            think: options.think,
            long_permille: options.long_permille,
            bulk_permille: options.bulk_permille,
            rng,
            made: 0,
            made_since_heal: 0,
            answered_since_heal: 0,
            armed: None,
            poison: false,
            habits: Habits::new(id, options),
            thinks: true,
        }
    }

    /// Whether it wants a connection to this CoServer.
    pub(super) fn wants(&self, place: ReplicaId) -> bool {
        self.wants[place.slot()]
    }

    /// Requests without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Whether it has asked enough since the faults ended, and has all its answers.
    pub(super) fn is_done(&self) -> bool {
        self.made_since_heal >= PROBES && self.open.is_empty()
    }

    /// Its session is over, or forgotten: the next thought begins with a new one.
    pub(super) fn begin_anew(&mut self) {
        let lost = core::mem::take(&mut self.open);
        let since_heal = lost.values().filter(|(_, since_heal)| *since_heal).count() as u64;
        self.made_since_heal = self.made_since_heal.saturating_sub(since_heal);
        (self.core, self.wants) = (None, [false; 2]);
    }

    /// A thought is to come, unless one is already.
    pub(super) fn thinks_again(&mut self) -> bool {
        !core::mem::replace(&mut self.thinks, true)
    }

    fn draw(&mut self) -> Request {
        self.made += 1;
        let id = (self.id as u64 + 1) << 32 | self.made;
        if core::mem::take(&mut self.poison) {
            return Request { id, op: Op::Poison, padding: 0 };
        }
        let object = self.rng.from(0, 3) as u8;
        let op = match self.rng.from(0, 99) {
            0..=24 => Op::Set { key: object, value: id },
            25..=44 => Op::Get { key: object },
            45..=54 => {
                // The value of somebody's recent request, perhaps.
                let from = self.rng.from(1, 4) << 32 | self.made.saturating_sub(1).max(1);
                Op::Swap { key: object, from, to: id }
            }
            55..=69 => Op::Push { queue: object, value: id },
            70..=81 => Op::Pop { queue: object },
            82..=89 => Op::Append { list: object },
            90..=95 => Op::Later { after: self.rng.spread(100_000, 150_000_000) },
            _ => Op::Chance,
        };
        Request { id, op, padding: self.padding() }
    }

    fn padding(&mut self) -> u32 {
        if self.rng.chance(self.bulk_permille) {
            return self.rng.from(limits::BULK_BYTES as u64, limits::BULK_BYTES as u64 * 2) as u32;
        }
        if self.rng.chance(self.long_permille) { self.rng.spread(64, 16 << 10) as u32 } else { 0 }
    }
}

/// What clients do in the world.
impl World {
    pub(super) fn on_think(&mut self, client: usize) {
        self.forget(client);
        let at = self.at;
        let since = self.healed.map(|healed| at - healed);
        let known = &mut self.clients[client];
        let enough = since.is_some_and(|since| since > GOES_ON) && known.made_since_heal >= PROBES;
        if known.core.is_none() {
            let token = Nonce(known.rng.mark());
            let seed = known.rng.mark();
            known.core = Some(Client::new(MonotonicTime(at), known.config, token, seed));
            let owner = known.habits.tenant.owner;
            self.see(Observation::Came { client, owner, token });
            self.serve_client(client);
        } else if enough {
            known.thinks = false;
            return;
        } else if known.open.len() < known.pipeline {
            self.ask(client);
        }
        let known = &mut self.clients[client];
        let at = at + known.rng.from(known.think / 4, known.think);
        self.queue.put(at, Due::Think { client });
    }

    fn ask(&mut self, client: usize) {
        let (at, since_heal) = (self.at, self.healed.is_some());
        let known = &mut self.clients[client];
        if !known.core.as_ref().is_some_and(|core| core.has_room(limits::BULK_BYTES * 3)) {
            return;
        }
        let request = known.draw();
        self.trace.step(at, 40, request.id);
        self.trace.say(at, || format!("client {client} asks {:x} {:?}", request.id, request.op));
        self.see(Observation::Invoked { client, request });
        let known = &mut self.clients[client];
        known.made_since_heal += u64::from(since_heal);
        let Some(core) = &mut known.core else { return };
        match core.submit(MonotonicTime(at), request.encode(), None) {
            Ok(number) => known.open.insert(number, (request.id, since_heal)),
            Err(error) => panic!("the client's core takes no request: {error}"),
        };
        self.serve_client(client);
    }

    pub(super) fn on_client_up(&mut self, client: usize, place: ReplicaId) {
        self.tell_client(client, Input::Up { place });
    }

    pub(super) fn on_client_down(&mut self, client: usize, place: ReplicaId) {
        self.clients[client].wants[place.slot()] = false;
        self.tell_client(client, Input::Down { place });
    }

    pub(super) fn on_client_frame(&mut self, client: usize, place: ReplicaId, bytes: &[u8]) {
        match codec::decode_client_answers(bytes) {
            Ok(answers) => {
                for answer in answers {
                    self.tell_client(client, Input::Answer { place, answer });
                }
            }
            Err(_) => {
                self.reach(Mark::CorruptRefused);
                let wire = self.client_wire(client, place);
                self.close(wire, 0);
                self.on_client_down(client, place);
            }
        }
    }

    pub(super) fn on_client_timer(&mut self, client: usize) {
        self.clients[client].armed = None;
        self.tell_client(client, Input::Timeout);
    }

    fn tell_client(&mut self, client: usize, input: Input) {
        let now = MonotonicTime(self.at);
        if let Some(core) = &mut self.clients[client].core {
            core.handle(now, input);
        }
        self.serve_client(client);
    }

    fn serve_client(&mut self, client: usize) {
        while let Some(output) = self.clients[client].core.as_mut().and_then(Client::poll) {
            self.do_for_client(client, output);
        }
        let at = self.at;
        let known = &mut self.clients[client];
        if let Some(due) = known.core.as_ref().and_then(Client::next_timeout)
            && known.armed.is_none_or(|armed| due.0 < armed)
        {
            known.armed = Some(due.0);
            self.queue.put(due.0.max(at + 1), Due::ClientTimer { client });
        }
    }

    fn do_for_client(&mut self, client: usize, output: Output) {
        match output {
            Output::Connect { place } => {
                self.clients[client].wants[place.slot()] = true;
                let wire = self.client_wire(client, place);
                self.redial(wire);
            }
            Output::Disconnect { place } => {
                let wire = self.client_wire(client, place);
                self.close(wire, 0);
                self.on_client_down(client, place);
            }
            Output::Probe { place } => {
                let wire = self.client_wire(client, place);
                self.do_for_client(client, Output::Send { place, call: ClientCall::Probe });
                if self.is_answered(wire)
                    && let Some(core) = &mut self.clients[client].core
                {
                    core.handle(MonotonicTime(self.at), Input::Heard { place });
                }
            }
            Output::Send { place, call } => {
                let wire = self.client_wire(client, place);
                let call = self.clients[client].habits.said(call, self.healed.is_some());
                match self.encoder.client_calls(&vec![call]) {
                    Ok(bytes) => self.send(wire, 0, bytes),
                    Err(error) => panic!("a call cannot be encoded: {error}"),
                };
            }
            Output::Reply { number, result } => match result {
                Ok(bytes) => self.answered(client, number, &bytes),
                Err(RequestError::ReadOnly) => self.denied(client, number),
                // What the session's end is like is said next.
                Err(RequestError::SessionOver(_)) => {}
                Err(error) => panic!("request {number} of client {client} failed: {error}"),
            },
            Output::Over(how) => self.session_over(client, how),
            Output::Event(event) => {
                self.trace.say(self.at, || format!("client {client} event {event:?}"));
                if matches!(event, Event::Resent { .. } | Event::Lost { .. })
                    && !self.clients[client].open.is_empty()
                {
                    self.reach(Mark::ClientResent);
                }
            }
        }
    }

    /// The request's id.
    fn close_request(&mut self, client: usize, number: RequestNumber) -> u64 {
        let known = &mut self.clients[client];
        let Some((id, since_heal)) = known.open.remove(&number) else {
            panic!("client {client} has an answer to request {number}, which it did not make");
        };
        known.answered_since_heal += u64::from(since_heal);
        id
    }

    fn denied(&mut self, client: usize, number: RequestNumber) {
        let id = self.close_request(client, number);
        self.operations += 1;
        self.trace.step(self.at, 43, id);
        self.trace.say(self.at, || format!("client {client} may not ask {id:x}"));
        self.see(Observation::Denied { id });
    }

    fn answered(&mut self, client: usize, number: RequestNumber, bytes: &[u8]) {
        let id = self.close_request(client, number);
        let Ok(answer) = Answer::decode(bytes) else {
            panic!("the service answers {id:x} with what is no answer");
        };
        self.operations += 1;
        self.trace.step(self.at, 41, id);
        self.trace.say(self.at, || format!("client {client} has {id:x}: {answer:?}"));
        self.see(Observation::Completed { client, id, answer });
    }

    /// A client's connection could not be made, or is to be made again: its core decides.
    pub(super) fn on_not_dialled(&mut self, client: usize, place: ReplicaId) {
        // One beside a connection that stands is not missed.
        let wire = self.client_wire(client, place);
        if self.clients[client].wants(place) && !self.wires[wire.0].open[0] {
            self.on_client_down(client, place);
        }
    }
}

fn config(options: &Options, rng: &mut Rng) -> Config {
    Config {
        window: options.pipeline.max(2),
        window_bytes: limits::INPUT_BYTES * 2,
        resend: Duration::from_nanos(rng.spread(50_000_000, 400_000_000)),
        resend_longest: Duration::from_millis(800),
        redial: Duration::from_nanos(rng.spread(2_000_000, 50_000_000)),
        redial_longest: Duration::from_millis(300),
        silence: Duration::from_nanos(rng.spread(10_000_000, 200_000_000)),
        silence_longest: Duration::from_nanos(rng.spread(50_000_000, 400_000_000)),
        deaf: Duration::from_nanos(rng.spread(50_000_000, 500_000_000)),
        greeting: Duration::from_nanos(rng.spread(50_000_000, 500_000_000)),
        reopen_unused_after: options.bounds().session_unused / 2,
        ..Config::new(PAIR)
    }
}

/// What devices do in the world.
impl World {
    pub(super) fn on_device(&mut self, place: ReplicaId) {
        let over = self.healed.is_some_and(|healed| self.at - healed > GOES_ON);
        let Some(pace) = self.options.device_pace[place.slot()].filter(|_| !over) else { return };
        let server = self.server(place);
        if !server.is_running() {
            return;
        }
        server.next_input += 1;
        let id = (0xd0 + place.slot() as u64) << 56 | server.next_input;
        self.trace.step(self.at, 42, id);
        self.offer(place, id);
        let at = self.at + self.rng.from(pace / 4, pace);
        self.queue.put(at, Due::Device { place });
    }
}
