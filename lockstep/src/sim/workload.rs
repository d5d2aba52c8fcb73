//! Clients and devices: what the world asks of the pair.

use std::collections::BTreeMap;

use super::caller::{Act, Caller};
use super::judges::Seen;
use super::marks::Mark;
use super::ops::{Answer, Op, Request};
use super::options::Options;
use super::rng::Rng;
use super::world::{Due, World};
use crate::ids::{Mono, Nonce, Place};
use crate::limits;
use crate::wire::codec;

/// Clients and devices go on for this long after the faults have ended (ns).
const GOES_ON: u64 = 150_000_000;

/// Requests that every client makes after the faults have ended, at least.
const PROBES: u64 = 2;

/// One client.
pub(super) struct SimClient {
    id: usize,
    caller: Caller,
    rng: Rng,
    pipeline: usize,
    think: u64,
    long_permille: u32,
    bulk_permille: u32,
    made: u64,
    made_since_heal: u64,
    pub(super) answered_since_heal: u64,
    asked_after: BTreeMap<u64, bool>,
    started: bool,
    armed: Option<u64>,
    pub(super) poison: bool,
}

impl SimClient {
    pub(super) fn new(id: usize, options: &Options, mut rng: Rng) -> Self {
        Self {
            id,
            caller: Caller::new(Nonce(rng.mark())),
            pipeline: options.pipeline,
            think: options.think,
            long_permille: options.long_permille,
            bulk_permille: options.bulk_permille,
            rng,
            made: 0,
            made_since_heal: 0,
            answered_since_heal: 0,
            asked_after: BTreeMap::new(),
            started: false,
            armed: None,
            poison: false,
        }
    }

    /// Whether it wants a connection to this CoServer.
    pub(super) fn wants(&self, _: Place) -> bool {
        self.started
    }

    /// Requests without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.caller.waiting()
    }

    /// Whether it has asked enough since the faults ended, and has all its answers.
    pub(super) fn is_done(&self) -> bool {
        self.made_since_heal >= PROBES && self.caller.waiting() == 0
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

/// Clients.
impl World {
    pub(super) fn on_think(&mut self, client: usize) {
        let at = self.at;
        let since = self.healed.map(|healed| at - healed);
        let known = &mut self.clients[client];
        let enough = since.is_some_and(|since| since > GOES_ON) && known.made_since_heal >= PROBES;
        if !core::mem::replace(&mut known.started, true) {
            for place in Place::BOTH {
                let wire = self.client_wire(client, place);
                self.redial(wire);
            }
        } else if enough {
            return;
        } else if known.caller.waiting() < known.pipeline {
            self.ask(client);
        }
        let known = &mut self.clients[client];
        let at = at + known.rng.from(known.think / 4, known.think);
        self.queue.put(at, Due::Think { client });
    }

    fn ask(&mut self, client: usize) {
        let (at, healed) = (self.at, self.healed.is_some());
        let known = &mut self.clients[client];
        let request = known.draw();
        known.made_since_heal += u64::from(healed);
        known.asked_after.insert(request.id, healed);
        self.trace.step(at, 40, request.id);
        self.trace.say(at, || format!("client {client} asks {:x} {:?}", request.id, request.op));
        self.see(Seen::Invoked { client, request });
        self.clients[client].caller.request(Mono(at), request.id, request.encode());
        self.serve_client(client);
    }

    pub(super) fn on_client_up(&mut self, client: usize, place: Place) {
        self.clients[client].caller.up(place);
        self.serve_client(client);
    }

    pub(super) fn on_client_down(&mut self, client: usize, place: Place) {
        self.clients[client].caller.down(Mono(self.at), place);
        self.serve_client(client);
    }

    pub(super) fn on_client_frame(&mut self, client: usize, place: Place, bytes: &[u8]) {
        match codec::decode_client_answer(bytes) {
            Ok(answer) => {
                self.clients[client].caller.answer(Mono(self.at), place, answer);
                self.serve_client(client);
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
        self.clients[client].caller.timeout(Mono(self.at));
        self.serve_client(client);
    }

    fn serve_client(&mut self, client: usize) {
        while let Some(act) = self.clients[client].caller.poll() {
            match act {
                Act::Send(place, call) => {
                    let wire = self.client_wire(client, place);
                    match self.encoder.client_call(&call) {
                        Ok(bytes) => self.send(wire, 0, bytes),
                        Err(error) => panic!("the call {call:?} cannot be encoded: {error}"),
                    };
                }
                Act::Close(place) => {
                    let wire = self.client_wire(client, place);
                    self.close(wire, 0);
                }
                Act::Resent => self.reach(Mark::ClientResent),
                Act::Done { ticket, place, result } => {
                    let Ok(bytes) = result else {
                        panic!("request {ticket:x} of a client was refused: {result:?}");
                    };
                    self.answered(client, ticket, place, &bytes);
                }
            }
        }
        let known = &mut self.clients[client];
        if let Some(due) = known.caller.next_timeout()
            && known.armed.is_none_or(|armed| due.0 < armed)
        {
            known.armed = Some(due.0);
            self.queue.put(due.0, Due::ClientTimer { client });
        }
    }

    fn answered(&mut self, client: usize, id: u64, place: Place, bytes: &[u8]) {
        let Ok(answer) = Answer::decode(bytes) else {
            panic!("the service answers {id:x} with what is no answer");
        };
        let known = &mut self.clients[client];
        if known.asked_after.remove(&id) == Some(true) {
            known.answered_since_heal += 1;
        }
        self.operations += 1;
        if !self.servers[place.slot()].is_sequencer()
            && self.servers[place.other().slot()].is_sequencer()
        {
            self.reach(Mark::FollowerFirst);
        }
        self.trace.step(self.at, 41, id);
        self.trace.say(self.at, || format!("client {client} has {id:x}: {answer:?} from {place}"));
        self.see(Seen::Completed { client, id, answer });
    }
}

/// Devices.
impl World {
    pub(super) fn on_device(&mut self, place: Place) {
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
