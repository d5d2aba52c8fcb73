//! A model of the pair as a client's session sees it, in virtual time: frames are lost and
//! repeated, connections break, a CoServer dies and is back. The session's core is tried against
//! it, by this crate's tests and by others'.
//!
//! The caller says what the log makes of a call ([`Log`]); everything else is here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{Client, Config, Input, Output, PROTOCOL, SubmitError};
use crate::ids::{Epoch, Incarnation, MonotonicTime, Nonce, ReplicaId};
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};

/// The session's mark.
pub const TOKEN: Nonce = Nonce(7);

/// More turns than any session needs once nothing fails any more.
const TURNS: usize = 200_000;

/// What the log does with calls.
pub trait Log {
    /// A call is ordered. What the clients are answered, if anything.
    fn order(&mut self, call: ClientCall) -> Option<ClientAnswer>;
}

/// A connection, as both ends have it.
#[derive(Debug, Default)]
pub struct Line {
    /// Whether it stands.
    pub up: bool,
    /// Which process it leads to; one that has been replaced takes nothing.
    pub with: u64,
    /// The CoServer serves the client on it.
    pub welcomed: bool,
    /// Whether the client waits on it for the CoServer to serve.
    pub deferred: bool,
    /// Frames that the client has sent and the CoServer has not read.
    pub to_server: VecDeque<ClientCall>,
    /// What the CoServer has sent and the client has not read.
    pub to_client: VecDeque<ClientAnswer>,
    /// The highest request sent on this connection.
    sent: u64,
}

/// A client with a model of the pair that it talks to.
#[derive(Debug)]
pub struct World<L> {
    /// The present time.
    pub now: MonotonicTime,
    /// The session under test.
    pub client: Client,
    /// The pair's log, as the model keeps it.
    pub log: L,
    /// The client's connection to each place.
    pub lines: [Line; 2],
    dialled: VecDeque<ReplicaId>,
    /// Whether a process runs at each place.
    pub alive: [bool; 2],
    /// Number of the process at each place; a new process gets a new one.
    process: [u64; 2],
    /// Whether the process at each place serves yet.
    pub serves: [bool; 2],
    sequencer: ReplicaId,
    /// The requests that the client took, in order.
    pub submitted: Vec<Bytes>,
    /// The answers that the client gave, by number.
    pub answered: BTreeMap<u64, Bytes>,
    /// Whether the session has ended.
    pub over: bool,
}

/// What happens next.
#[derive(Clone, Debug)]
pub enum Act {
    /// The client is asked this.
    Submit(Bytes),
    /// This many milliseconds pass.
    Advance(u16),
    /// A CoServer takes one frame.
    ToServer(ReplicaId),
    /// The client takes one.
    ToClient(ReplicaId),
    /// A frame to a CoServer is lost.
    LoseToServer(ReplicaId),
    /// A frame to the client is lost.
    LoseToClient(ReplicaId),
    /// A frame to the client comes twice.
    RepeatToClient(ReplicaId),
    /// A connection breaks.
    Break(ReplicaId),
    /// A CoServer turns the client away.
    Refuse(ReplicaId, ClientRefusal),
    /// A CoServer dies, and the client is told.
    Kill(ReplicaId),
    /// A CoServer dies, and the client is not told.
    Vanish(ReplicaId),
    /// Another process begins where one died.
    Return(ReplicaId),
    /// A CoServer that has begun serves from now on.
    Join(ReplicaId),
    /// The other one tells the client of it.
    Tell(ReplicaId),
    /// The other one tells the client of this process there.
    TellOf(ReplicaId, Incarnation),
    /// Something was acknowledged by this one.
    Hear(ReplicaId),
}

impl<L: Log> World<L> {
    /// A session is asked for, and both serve.
    pub fn new(config: Config, log: L, seed: u64) -> Self {
        let now = MonotonicTime(1);
        let mut world = Self {
            now,
            client: Client::new(now, config, TOKEN, seed),
            log,
            lines: Default::default(),
            dialled: VecDeque::new(),
            alive: [true; 2],
            process: [1; 2],
            serves: [true; 2],
            sequencer: ReplicaId::A,
            submitted: Vec::new(),
            answered: BTreeMap::new(),
            over: false,
        };
        world.drain();
        world
    }

    /// Lets one thing happen.
    ///
    /// # Panics
    /// If the client does what it must not, here and in every other method.
    pub fn act(&mut self, act: Act) {
        match act {
            Act::Submit(body) => self.submit(body),
            Act::Advance(millis) => {
                self.now = self.now.plus(Duration::from_millis(millis.into()));
                self.give(Input::Timeout);
            }
            Act::ToServer(place) => self.serve(place),
            Act::ToClient(place) => {
                if let Some(answer) = self.line(place).to_client.pop_front() {
                    self.give(Input::Answer { place, answer });
                }
            }
            Act::LoseToServer(place) => drop(self.line(place).to_server.pop_front()),
            Act::LoseToClient(place) => drop(self.line(place).to_client.pop_front()),
            Act::RepeatToClient(place) => {
                let first = self.line(place).to_client.front().cloned();
                self.line(place).to_client.extend(first);
            }
            Act::Break(place) => self.cut(place),
            Act::Refuse(place, reason) => {
                if self.line(place).up {
                    self.line(place).to_client.push_back(ClientAnswer::Refused { reason });
                }
            }
            Act::Kill(place) => {
                if self.vanish(place) {
                    self.cut(place);
                }
            }
            Act::Vanish(place) => drop(self.vanish(place)),
            Act::Return(place) => {
                if !std::mem::replace(&mut self.alive[place.slot()], true) {
                    self.process[place.slot()] += 1;
                }
            }
            Act::Join(place) => self.join(place),
            Act::Tell(place) => self.tell(place, Incarnation(self.process[place.slot()])),
            Act::TellOf(place, incarnation) => self.tell(place, incarnation),
            Act::Hear(place) => self.give(Input::Heard { place }),
        }
    }

    fn submit(&mut self, body: Bytes) {
        match self.client.submit(self.now, body.clone(), None) {
            Ok(number) => {
                self.submitted.push(body);
                assert_eq!(number.0, self.submitted.len() as u64);
            }
            Err(error) => assert_eq!(error, SubmitError::WindowFull),
        }
        self.drain();
    }

    /// What the other one says of the process at this place.
    fn tell(&mut self, place: ReplicaId, incarnation: Incarnation) {
        let line = self.line(place.other());
        if line.welcomed {
            line.to_client.push_back(ClientAnswer::PeerBack { place, incarnation });
        }
    }

    /// Asks for the end of the session.
    pub fn close(&mut self) {
        self.client.close(self.now);
        self.drain();
    }

    /// Lets a CoServer that serves die, if the other serves.
    fn vanish(&mut self, place: ReplicaId) -> bool {
        let serves = self.serves == [true; 2];
        if serves {
            (self.alive[place.slot()], self.serves[place.slot()]) = (false, false);
            self.sequencer = place.other();
            // What it had not read is gone; what it had sent may still arrive.
            self.line(place).to_server.clear();
        }
        serves
    }

    /// Lets a process that was kept waiting serve, and welcome the clients that wait.
    fn join(&mut self, place: ReplicaId) {
        let (process, slot) = (self.process[place.slot()], place.slot());
        if self.alive[slot] && !std::mem::replace(&mut self.serves[slot], true) {
            let line = self.line(place);
            if line.up && line.with == process && line.deferred {
                line.welcomed = true;
                line.to_client.push_back(welcome(place, process));
            }
        }
    }

    /// The connection to a place.
    pub fn line(&mut self, place: ReplicaId) -> &mut Line {
        &mut self.lines[place.slot()]
    }

    fn cut(&mut self, place: ReplicaId) {
        if std::mem::take(self.line(place)).up {
            self.give(Input::Down { place });
        }
    }

    /// A CoServer takes one frame. The log's answer goes to every client connection of both.
    fn serve(&mut self, place: ReplicaId) {
        let process = self.process[place.slot()];
        let dead = !self.alive[place.slot()] || self.line(place).with != process;
        let Some(call) = self.line(place).to_server.pop_front().filter(|_| !dead) else {
            // A new process there does not know the connection; without a process nothing is said.
            if dead && self.alive[place.slot()] {
                self.cut(place);
            }
            return;
        };
        if let ClientCall::Hello { protocol, .. } = call {
            assert_eq!(protocol, PROTOCOL);
            let serves = self.serves[place.slot()];
            let line = self.line(place);
            (line.welcomed, line.deferred) = (serves, !serves);
            return line.to_client.push_back(match serves {
                true => welcome(place, process),
                false => not_yet(process),
            });
        }
        if let ClientCall::Probe = call {
            return self.give(Input::Heard { place });
        }
        assert!(self.line(place).welcomed, "said before it was welcome: {call:?}");
        let kept = match call {
            ClientCall::Open { alone, .. } | ClientCall::Request { alone, .. } => !alone,
            ClientCall::Hello { .. } | ClientCall::Close { .. } | ClientCall::Probe => false,
        };
        // A follower waits to see it ordered; one that never does is the worst there is.
        if kept && place != self.sequencer {
            return;
        }
        if let Some(answer) = self.log.order(call) {
            for place in ReplicaId::BOTH {
                let process = self.process[place.slot()];
                let serves = self.serves[place.slot()];
                let line = self.line(place);
                if line.welcomed && line.with == process && serves {
                    line.to_client.push_back(answer.clone());
                }
            }
        }
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

    /// The first attempt that can be taken is.
    fn connect(&mut self, place: ReplicaId) {
        let (up, stood) = (self.alive[place.slot()], self.line(place).up);
        if up {
            let with = self.process[place.slot()];
            *self.line(place) = Line { up, with, ..Line::default() };
            self.client.handle(self.now, Input::Up { place });
        } else if !stood {
            self.client.handle(self.now, Input::Down { place });
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Connect { place } => self.dialled.push_back(place),
                Output::Probe { place } => {
                    assert!(self.line(place).up, "probed without a connection");
                    self.line(place).to_server.push_back(ClientCall::Probe);
                }
                Output::Disconnect { place } => {
                    *self.line(place) = Line::default();
                    self.dialled.retain(|dialled| *dialled != place);
                    self.client.handle(self.now, Input::Down { place });
                }
                Output::Send { place, call } => self.on_send(place, call),
                Output::Reply { number, result } => {
                    let before = self.answered.insert(number.0, result.unwrap());
                    assert_eq!(before, None, "request {number} was answered twice");
                }
                Output::Over(how) => {
                    assert_eq!(how, Ok(()));
                    self.over = true;
                }
                Output::Event(_) => {}
            }
        }
    }

    fn on_send(&mut self, place: ReplicaId, call: ClientCall) {
        let line = &mut self.lines[place.slot()];
        assert!(line.up, "sent on a connection that is down: {call:?}");
        if let ClientCall::Request { number, .. } = &call {
            let mut skipped = line.sent + 1..number.0;
            let answered = skipped.all(|number| self.answered.contains_key(&number));
            assert!(answered, "request {number} sent right after {}", line.sent);
            line.sent = line.sent.max(number.0);
        }
        line.to_server.push_back(call);
    }

    /// No more faults: everything arrives, and time passes when nothing is under way; until every
    /// request is answered, or the session over.
    pub fn heal(&mut self, closed: bool) {
        ReplicaId::BOTH.into_iter().for_each(|place| self.join(place));
        for _ in 0..TURNS {
            let before = self.answered.len();
            for place in ReplicaId::BOTH {
                self.act(Act::ToServer(place));
                self.act(Act::ToClient(place));
            }
            let quiet = self
                .lines
                .iter()
                .all(|line| line.to_server.is_empty() && line.to_client.is_empty());
            let answered = self.answered.len() == self.submitted.len();
            let done = if closed { self.over } else { quiet && answered };
            if done {
                return;
            }
            if quiet && before == self.answered.len() {
                let next = self.client.next_timeout().expect("waits for nothing");
                assert!(next > self.now, "a timeout that is past was not served");
                self.now = next;
                self.give(Input::Timeout);
            }
        }
        panic!("not every request was answered");
    }
}

fn welcome(place: ReplicaId, process: u64) -> ClientAnswer {
    ClientAnswer::Welcome { place, incarnation: Incarnation(process), epoch: Epoch(1) }
}

fn not_yet(process: u64) -> ClientAnswer {
    let reason = ClientRefusal::Starting;
    ClientAnswer::NotYet { incarnation: Incarnation(process), reason }
}
