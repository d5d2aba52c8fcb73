//! A client and a model of the pair, in virtual time: frames are lost and repeated, connections
//! break, a CoServer dies. Each request is answered once, rightly, and was executed once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::{Epoch, Incarnation, Mono, Nonce, PairId, Place, RequestNumber, SessionId};
use crate::output::Refusal;
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};

const TOKEN: Nonce = Nonce(7);
const SESSION: SessionId = SessionId(42);

/// What the log does with requests: the whole of exactly-once on the pair's side.
#[derive(Default)]
struct Log {
    open: bool,
    next: u64,
    /// What was executed, in order.
    executed: Vec<(u64, Bytes)>,
    replies: BTreeMap<u64, Bytes>,
    most_replies: usize,
}

impl Log {
    fn order(&mut self, call: ClientCall) -> Option<ClientAnswer> {
        match call {
            ClientCall::Open { token, .. } => {
                if !self.open {
                    (self.open, self.next) = (true, 1);
                }
                Some(ClientAnswer::Opened { token, result: Ok(SESSION) })
            }
            ClientCall::Request { session, token, number, lowest, body, .. } => {
                assert_eq!((session, token), (SESSION, TOKEN));
                assert!(lowest <= number && lowest.0 > 0);
                let result = self.request(number.0, lowest.0, body);
                Some(ClientAnswer::Reply { session, number, result })
            }
            ClientCall::Hello { .. } | ClientCall::Close { .. } | ClientCall::Probe => None,
        }
    }

    fn request(&mut self, number: u64, lowest: u64, body: Bytes) -> Result<Bytes, Refusal> {
        self.replies = self.replies.split_off(&lowest);
        if number > self.next {
            return Err(Refusal::Gap { expected: RequestNumber(self.next) });
        }
        if number == self.next {
            if self.replies.len() >= self.most_replies {
                return Err(Refusal::TooManyReplies);
            }
            self.executed.push((number, body.clone()));
            self.replies.insert(number, reply_to(number, &body));
            self.next += 1;
        }
        self.replies.get(&number).cloned().ok_or(Refusal::Forgotten)
    }
}

fn welcome(place: Place, process: u64) -> ClientAnswer {
    ClientAnswer::Welcome { place, incarnation: Incarnation(process), epoch: Epoch(1) }
}

fn not_yet(process: u64) -> ClientAnswer {
    let reason = ClientRefusal::Starting;
    ClientAnswer::NotYet { incarnation: Incarnation(process), reason }
}

fn reply_to(number: u64, body: &[u8]) -> Bytes {
    Bytes::from(format!("{number}: {body:?}"))
}

#[derive(Default)]
struct Line {
    up: bool,
    /// Which process it leads to; one that has been replaced takes nothing.
    with: u64,
    welcomed: bool,
    /// It waits for the CoServer to serve.
    deferred: bool,
    to_server: VecDeque<ClientCall>,
    to_client: VecDeque<ClientAnswer>,
    /// The highest request sent on this connection.
    sent: u64,
}

struct World {
    now: Mono,
    client: Client,
    log: Log,
    lines: [Line; 2],
    dialled: VecDeque<Place>,
    alive: [bool; 2],
    /// The present process at each place, and whether it serves yet.
    process: [u64; 2],
    serves: [bool; 2],
    sequencer: Place,
    submitted: Vec<Bytes>,
    answered: BTreeMap<u64, Bytes>,
    over: bool,
}

#[derive(Clone, Debug)]
enum Act {
    Submit(u8),
    Advance(u16),
    ToServer(Place),
    ToClient(Place),
    LoseToServer(Place),
    LoseToClient(Place),
    RepeatToClient(Place),
    Break(Place),
    Refuse(Place),
    Kill(Place),
    /// Dies, and nobody tells the client.
    Vanish(Place),
    /// Another process begins where one died.
    Return(Place),
    /// One that has begun serves from now on.
    Join(Place),
    /// The other one tells the client of it.
    Tell(Place),
}

fn any_act() -> impl Strategy<Value = Act> {
    let place = || any::<bool>().prop_map(|a| if a { Place::A } else { Place::B });
    prop_oneof![
        8 => any::<u8>().prop_map(Act::Submit),
        4 => (0..800_u16).prop_map(Act::Advance),
        12 => place().prop_map(Act::ToServer),
        12 => place().prop_map(Act::ToClient),
        2 => place().prop_map(Act::LoseToServer),
        2 => place().prop_map(Act::LoseToClient),
        2 => place().prop_map(Act::RepeatToClient),
        1 => place().prop_map(Act::Break),
        1 => place().prop_map(Act::Refuse),
        1 => place().prop_map(Act::Kill),
        1 => place().prop_map(Act::Vanish),
        2 => place().prop_map(Act::Return),
        2 => place().prop_map(Act::Join),
        2 => place().prop_map(Act::Tell),
    ]
}

impl World {
    fn new(window: usize, most_replies: usize, seed: u64) -> Self {
        let now = Mono(1);
        let config = Config { window, ..Config::new(PairId([1; 16])) };
        let mut world = Self {
            now,
            client: Client::new(now, config, TOKEN, seed),
            log: Log { most_replies, ..Log::default() },
            lines: Default::default(),
            dialled: VecDeque::new(),
            alive: [true; 2],
            process: [1; 2],
            serves: [true; 2],
            sequencer: Place::A,
            submitted: Vec::new(),
            answered: BTreeMap::new(),
            over: false,
        };
        world.drain();
        world
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Submit(fill) => {
                let body = Bytes::from(vec![fill; usize::from(fill % 4)]);
                match self.client.submit(self.now, body.clone(), None) {
                    Ok(number) => {
                        self.submitted.push(body);
                        assert_eq!(number.0, self.submitted.len() as u64);
                    }
                    Err(error) => assert_eq!(error, SubmitError::WindowFull),
                }
                self.drain();
            }
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
            Act::Refuse(place) => {
                if self.line(place).up {
                    let reason = ClientRefusal::Holding;
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
                if !self.alive[place.slot()] {
                    self.alive[place.slot()] = true;
                    self.process[place.slot()] += 1;
                }
            }
            Act::Join(place) => self.join(place),
            Act::Tell(place) => {
                let back = self.peer_back(place);
                let line = self.line(place.other());
                if line.welcomed {
                    line.to_client.push_back(back);
                }
            }
        }
    }

    /// One that serves dies, if the other serves.
    fn vanish(&mut self, place: Place) -> bool {
        let serves = self.serves == [true; 2];
        if serves {
            (self.alive[place.slot()], self.serves[place.slot()]) = (false, false);
            self.sequencer = place.other();
            // What it had not read is gone; what it had sent may still arrive.
            self.line(place).to_server.clear();
        }
        serves
    }

    /// A process that was kept waiting serves, and welcomes whoever waits.
    fn join(&mut self, place: Place) {
        let (process, slot) = (self.process[place.slot()], place.slot());
        if self.alive[slot] && !std::mem::replace(&mut self.serves[slot], true) {
            let line = self.line(place);
            if line.up && line.with == process && line.deferred {
                line.welcomed = true;
                line.to_client.push_back(welcome(place, process));
            }
        }
    }

    /// What the other one says of the process at this place.
    fn peer_back(&self, place: Place) -> ClientAnswer {
        ClientAnswer::PeerBack { place, incarnation: Incarnation(self.process[place.slot()]) }
    }

    fn line(&mut self, place: Place) -> &mut Line {
        &mut self.lines[place.slot()]
    }

    fn cut(&mut self, place: Place) {
        if std::mem::take(self.line(place)).up {
            self.give(Input::Down { place });
        }
    }

    /// A CoServer takes one frame. The log's answer goes to every client connection of both.
    fn serve(&mut self, place: Place) {
        let process = self.process[place.slot()];
        let dead = !self.alive[place.slot()] || self.line(place).with != process;
        let Some(call) = self.line(place).to_server.pop_front().filter(|_| !dead) else {
            // Whoever is there now does not know the connection; nobody says nothing.
            if dead && self.alive[place.slot()] {
                self.cut(place);
            }
            return;
        };
        if let ClientCall::Hello { .. } = call {
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
            for place in Place::BOTH {
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
    fn connect(&mut self, place: Place) {
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

    fn on_send(&mut self, place: Place, call: ClientCall) {
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
    fn heal(&mut self, closed: bool) {
        Place::BOTH.into_iter().for_each(|place| self.join(place));
        for _ in 0..200_000 {
            let before = self.answered.len();
            for place in Place::BOTH {
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

    fn judge(&self) {
        for (number, body) in (1..).zip(&self.submitted) {
            assert_eq!(self.answered.get(&number), Some(&reply_to(number, body)));
        }
        let once: Vec<_> = (1..).zip(self.submitted.iter().cloned()).collect();
        assert_eq!(self.log.executed, once, "not each executed once, in order");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_request_is_answered_once_and_executed_once(
        acts in proptest::collection::vec(any_act(), 1..200),
        window in 1..20_usize,
        most_replies in 1..20_usize,
        seed in any::<u64>(),
    ) {
        let mut world = World::new(window, most_replies, seed);
        for act in acts {
            world.act(act);
        }
        world.heal(false);
        world.judge();
        world.client.close(world.now);
        world.drain();
        world.heal(true);
        prop_assert_eq!(world.client.next_timeout(), None);
    }
}

/// The campaign above is worth little if its faults never bite.
#[test]
fn the_model_loses_what_a_naive_client_would_not_get_back() {
    let mut world = World::new(8, 8, 1);
    let both = |world: &mut World, act: fn(Place) -> Act| {
        Place::BOTH.into_iter().for_each(|place| world.act(act(place)));
    };
    for _ in 0..3 {
        both(&mut world, Act::ToServer);
        both(&mut world, Act::ToClient);
    }
    world.act(Act::Submit(1));
    world.act(Act::Submit(2));
    both(&mut world, Act::LoseToServer);
    assert_eq!(world.log.executed.len(), 0);
    world.act(Act::Kill(Place::A));
    world.heal(false);
    world.judge();
    assert_eq!(world.log.executed.len(), 2);
}

/// The time until everything is answered, when everything arrives at once.
fn pause(world: &mut World) -> Duration {
    let from = world.now;
    world.heal(false);
    world.judge();
    world.now.since(from)
}

fn deliver(world: &mut World) {
    for _ in 0..20 {
        for place in Place::BOTH {
            world.act(Act::ToServer(place));
            world.act(Act::ToClient(place));
        }
    }
}

fn served_by_both(seed: u64) -> World {
    let mut world = World::new(8, 8, seed);
    deliver(&mut world);
    assert!(Place::BOTH.into_iter().all(|place| world.line(place).welcomed));
    world
}

/// The loss of a CoServer, its return and the loss of the other: the client needs two silences at
/// most to be with the one that is back, whatever it was told, and whether or not it knows that
/// its connection to the one before is dead.
#[test]
fn the_pause_is_bounded_by_silence_however_long_one_was_dead() {
    for seed in 0..200 {
        let mut world = served_by_both(seed);
        let lost: fn(Place) -> Act = if seed % 2 == 0 { Act::Kill } else { Act::Vanish };
        world.act(lost(Place::A));
        for _ in 0..seed * 7 % 100 {
            world.act(Act::Advance(50));
        }
        world.act(Act::Return(Place::A));
        if seed % 3 == 0 {
            world.act(Act::Tell(Place::A));
            deliver(&mut world);
        }
        world.act(Act::Join(Place::A));
        deliver(&mut world);
        world.act(Act::Vanish(Place::B));
        world.act(Act::Submit(1));
        let pause = pause(&mut world);
        assert!(pause <= Duration::from_millis(150), "seed {seed}: {pause:?}");
    }
}

/// Nobody is there for seconds while something is asked: the first that serves is found soon.
#[test]
fn the_first_that_serves_after_both_were_dead_is_found_soon() {
    for seed in 0..200 {
        let mut world = served_by_both(seed);
        world.act(Act::Vanish(Place::A));
        world.serves = [false; 2];
        world.alive = [false; 2];
        world.lines.iter_mut().for_each(|line| line.to_server.clear());
        world.act(Act::Submit(1));
        for _ in 0..600 {
            world.act(Act::Advance(10));
            deliver(&mut world);
        }
        Place::BOTH.into_iter().for_each(|place| world.act(Act::Return(place)));
        let pause = pause(&mut world);
        assert!(pause <= Duration::from_millis(300), "seed {seed}: {pause:?}");
    }
}
