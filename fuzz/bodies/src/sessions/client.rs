//! A client's session against the session table of the pair, over connections that lose, repeat
//! and break, to CoServers that die, come back and say so: each request takes effect once, in
//! order, and is answered with what it came to.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use lockstep::client::{Client, Config, Input, Output, PROTOCOL};
use lockstep::entry::EntryKind;
use lockstep::ids::{
    Epoch, Incarnation, Mono, Nonce, OwnerId, PairId, Place, RequestNumber, SessionId,
};
use lockstep::output::OutputKind;
use lockstep::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};

use super::{Tally, Unit, execute, unit};
use crate::source::Source;

const PAIR: PairId = PairId([3; 16]);
const TOKEN: Nonce = Nonce(1);

/// Turns of the healed world that are more than any session needs.
const TURNS: usize = 100_000;

pub(super) fn run(source: &mut Source<'_>) {
    let seed = u64::from(source.byte());
    let mut world = World::new(seed, 1 + source.below(6));
    while let Some(op) = source.choice() {
        world.act(op, source);
    }
    world.heal();
}

/// A connection, as both ends have it.
#[derive(Default)]
struct Line {
    up: bool,
    /// The process that it leads to.
    with: u64,
    welcomed: bool,
    deferred: bool,
    to_server: VecDeque<ClientCall>,
    to_client: VecDeque<ClientAnswer>,
}

struct World {
    client: Client,
    now: Mono,
    unit: Unit<Tally>,
    lines: [Line; 2],
    dialled: VecDeque<Place>,
    alive: [bool; 2],
    serves: [bool; 2],
    process: [u64; 2],
    sequencer: Place,
    submitted: u64,
    /// Replies that the pair gave, and those that the client had, by number.
    given: Vec<Bytes>,
    had: Vec<Option<Bytes>>,
    over: bool,
}

impl World {
    fn new(seed: u64, window: usize) -> Self {
        // The pair keeps no more replies than this either.
        let config = Config { window: window.min(4), ..Config::new(PAIR) };
        let now = Mono(1);
        let mut world = Self {
            client: Client::new(now, config, TOKEN, seed),
            now,
            unit: unit(),
            lines: Default::default(),
            dialled: VecDeque::new(),
            alive: [true; 2],
            serves: [true; 2],
            process: [1; 2],
            sequencer: Place::A,
            submitted: 0,
            given: Vec::new(),
            had: Vec::new(),
            over: false,
        };
        world.drain();
        world
    }

    fn act(&mut self, op: u8, source: &mut Source<'_>) {
        let place = if op & 1 == 0 { Place::A } else { Place::B };
        match op >> 1 & 31 {
            0..=4 => self.submit(source.byte()),
            5..=7 => self.advance(Duration::from_millis(u64::from(source.byte()) * 4)),
            8..=13 => self.server_takes(place),
            14..=19 => self.client_takes(place),
            20 => drop(self.line(place).to_server.pop_front()),
            21 => drop(self.line(place).to_client.pop_front()),
            22 => {
                let first = self.line(place).to_client.front().cloned();
                self.line(place).to_client.extend(first);
            }
            23 => self.cut(place),
            24 => self.die(place, true),
            25 => self.die(place, false),
            26 => self.come_back(place),
            27 => self.join(place),
            28 => self.tell_back(place, self.process[place.slot()]),
            29 => self.tell_back(place, source.number(1).max(1)),
            30 => self.say(place, ClientAnswer::Refused { reason: any_refusal(source) }),
            _ => self.give(Input::Heard { place }),
        }
    }

    fn line(&mut self, place: Place) -> &mut Line {
        &mut self.lines[place.slot()]
    }

    fn submit(&mut self, fill: u8) {
        if self.client.submit(self.now, Bytes::copy_from_slice(&[fill]), None).is_ok() {
            self.submitted += 1;
            self.had.push(None);
        }
        self.drain();
    }

    fn advance(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        self.give(Input::Timeout);
    }

    fn give(&mut self, input: Input) {
        self.client.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            self.carry_out();
            let Some(place) = self.dialled.pop_front() else { return };
            self.connect(place);
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Connect { place } => self.dialled.push_back(place),
                Output::Disconnect { place } => {
                    *self.line(place) = Line::default();
                    self.dialled.retain(|dialled| *dialled != place);
                    self.client.handle(self.now, Input::Down { place });
                }
                Output::Probe { place } => self.line(place).to_server.push_back(ClientCall::Probe),
                Output::Send { place, call } => {
                    assert!(self.line(place).up, "sent on a connection that is down");
                    self.line(place).to_server.push_back(call);
                }
                Output::Reply { number, result } => {
                    let reply = result.expect("the pair answers everything");
                    let slot = &mut self.had[number.0 as usize - 1];
                    assert_eq!(slot.replace(reply), None, "answered twice");
                }
                Output::Over(how) => {
                    assert_eq!(how, Ok(()), "the session ended");
                    self.over = true;
                }
                Output::Event(_) => {}
            }
        }
    }

    fn connect(&mut self, place: Place) {
        if self.alive[place.slot()] {
            let with = self.process[place.slot()];
            *self.line(place) = Line { up: true, with, ..Line::default() };
            self.client.handle(self.now, Input::Up { place });
        } else if !self.line(place).up {
            self.client.handle(self.now, Input::Down { place });
        }
    }

    fn cut(&mut self, place: Place) {
        if core::mem::take(self.line(place)).up {
            self.give(Input::Down { place });
        }
    }

    fn die(&mut self, place: Place, told: bool) {
        if self.serves != [true; 2] {
            return;
        }
        (self.alive[place.slot()], self.serves[place.slot()]) = (false, false);
        self.sequencer = place.other();
        self.line(place).to_server.clear();
        if told {
            self.cut(place);
        }
    }

    fn come_back(&mut self, place: Place) {
        if !core::mem::replace(&mut self.alive[place.slot()], true) {
            self.process[place.slot()] += 1;
        }
    }

    fn join(&mut self, place: Place) {
        let slot = place.slot();
        if self.alive[slot] && !core::mem::replace(&mut self.serves[slot], true) {
            let (process, line) = (self.process[slot], &mut self.lines[slot]);
            if line.deferred && line.with == process {
                (line.deferred, line.welcomed) = (false, true);
                line.to_client.push_back(welcome(place, process));
            }
        }
    }

    fn tell_back(&mut self, place: Place, process: u64) {
        let incarnation = Incarnation(process);
        self.say(place.other(), ClientAnswer::PeerBack { place, incarnation });
    }

    fn say(&mut self, place: Place, answer: ClientAnswer) {
        if self.line(place).welcomed {
            self.line(place).to_client.push_back(answer);
        }
    }

    fn client_takes(&mut self, place: Place) {
        if let Some(answer) = self.line(place).to_client.pop_front() {
            self.give(Input::Answer { place, answer });
        }
    }

    fn server_takes(&mut self, place: Place) {
        let (slot, process) = (place.slot(), self.process[place.slot()]);
        if self.lines[slot].with != process && self.alive[slot] && self.lines[slot].up {
            // The process that is there now knows of no such connection.
            return self.cut(place);
        }
        let Some(call) = self.line(place).to_server.pop_front().filter(|_| self.alive[slot]) else {
            return;
        };
        match call {
            ClientCall::Hello { protocol, .. } => {
                assert_eq!(protocol, PROTOCOL);
                let serves = self.serves[slot];
                let line = self.line(place);
                (line.welcomed, line.deferred) = (serves, !serves);
                let reason = ClientRefusal::Starting;
                let incarnation = Incarnation(process);
                line.to_client.push_back(match serves {
                    true => welcome(place, process),
                    false => ClientAnswer::NotYet { incarnation, reason },
                });
            }
            ClientCall::Probe => self.give(Input::Heard { place }),
            ClientCall::Open { token, alone } => {
                self.order(place, alone, EntryKind::SessionOpenFor { owner: OwnerId(1), token });
            }
            ClientCall::Request { session, token, number, lowest, alone, body } => {
                let kind = EntryKind::SessionRequest { session, token, number, lowest, body };
                self.order(place, alone, kind);
            }
            ClientCall::Close { session, token } => {
                self.order(place, true, EntryKind::SessionClose { session, token });
            }
        }
    }

    /// A follower waits for the sequencer's entry, and for ever at worst.
    fn order(&mut self, place: Place, alone: bool, kind: EntryKind) {
        assert!(self.line(place).welcomed, "said before it was welcome: {kind:?}");
        if !alone && place != self.sequencer {
            return;
        }
        let Some(output) = execute(&mut self.unit, 1, kind) else { return };
        let answer = match output {
            OutputKind::Opened { token, result } => ClientAnswer::Opened { token, result },
            OutputKind::Reply { session, number, result, .. } => {
                self.note(session, number, result.as_ref().ok());
                ClientAnswer::Reply { session, number, result }
            }
            OutputKind::Device { .. } => return,
        };
        for place in Place::BOTH {
            self.say(place, answer.clone());
        }
    }

    fn note(&mut self, _: SessionId, number: RequestNumber, reply: Option<&Bytes>) {
        let Some(reply) = reply else { return };
        let at = number.0 as usize - 1;
        match self.given.get(at) {
            Some(before) => assert_eq!(before, reply, "another answer than before"),
            None => {
                assert_eq!(self.given.len(), at, "out of order");
                self.given.push(reply.clone());
            }
        }
    }

    /// Nothing more fails: every request is answered, and the session ends when it is closed.
    fn heal(&mut self) {
        for place in Place::BOTH {
            self.come_back(place);
            self.join(place);
        }
        self.client.close(self.now);
        self.drain();
        for _ in 0..TURNS {
            if self.over {
                return self.check();
            }
            for place in Place::BOTH {
                self.server_takes(place);
                self.client_takes(place);
            }
            let mut lines = self.lines.iter();
            if lines.all(|line| line.to_server.is_empty() && line.to_client.is_empty()) {
                let Some(next) = self.client.next_timeout() else { continue };
                self.now = next.max(self.now);
                self.give(Input::Timeout);
            }
        }
        panic!("the session does not end: {:?}", self.client);
    }

    fn check(&self) {
        assert_eq!(self.unit.service().requests, self.submitted, "each takes effect once");
        let had: Vec<_> = self.had.iter().flatten().collect();
        assert_eq!(had.len(), self.had.len(), "a request has no answer");
        assert!(had.into_iter().eq(self.given.iter()), "an answer to something else");
    }
}

fn welcome(place: Place, process: u64) -> ClientAnswer {
    ClientAnswer::Welcome { place, incarnation: Incarnation(process), epoch: Epoch(1) }
}

fn any_refusal(source: &mut Source<'_>) -> ClientRefusal {
    source.pick(&[ClientRefusal::Holding, ClientRefusal::Removed, ClientRefusal::Busy])
}
