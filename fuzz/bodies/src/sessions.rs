//! Client sessions by operations: every request takes effect exactly once, and its answer can
//! be had again until it is given up. Inputs that begin with one of `CLIENTS` are about a
//! client's side of it.

mod client;

use ::core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep::entry::{Entry, EntryKind, InputKind, Origin};
use lockstep::ids::{
    Epoch, Incarnation, LogTime, Nonce, OriginNumber, OwnerId, ReplicaId, RequestNumber, SessionId,
};
use lockstep::limits;
use lockstep::output::{OutputKind, Refusal};
use lockstep::unit::records::Reader;
use lockstep::unit::{Unit, UnitConfig};

use crate::counting_service::CountingService;
use crate::source::Source;

const IDLE: u64 = 1_000;

fn config() -> UnitConfig {
    UnitConfig {
        session_idle: Duration::from_nanos(IDLE),
        sessions: 3,
        session_replies: 4,
        session_reply_bytes: limits::REPLY_BYTES + 1024,
        reply_bytes: limits::REPLY_BYTES + 1024,
        steps_before_entry: 8,
        ..UnitConfig::default()
    }
}

/// First bytes of inputs for the client.
const CLIENTS: ::core::ops::Range<u8> = 0x50..0x70;

fn unit() -> Unit<CountingService> {
    Unit::with_config(CountingService::default(), config())
}

/// Executes an entry at this time. Its last output, if it has any.
fn execute(unit: &mut Unit<CountingService>, now: u64, kind: EntryKind) -> Option<OutputKind> {
    let entry = Entry {
        index: unit.index().next(),
        epoch: Epoch(1),
        time: LogTime(now),
        origin: Origin {
            place: ReplicaId::A,
            incarnation: Incarnation(1),
            number: OriginNumber(0),
        },
        kind,
    };
    let executed = unit.execute(&entry);
    assert_eq!(executed.panic, None);
    executed.outputs.into_iter().next_back().map(|output| output.kind)
}

/// Runs one input.
pub fn run(data: &[u8]) {
    if data.first().is_some_and(|first| CLIENTS.contains(first)) {
        return client::run(&mut Source::new(&data[1..]));
    }
    let unit = unit();
    let mut world = World { unit, now: 1, known: BTreeMap::new(), effects: 0 };
    let mut source = Source::new(data);
    while let Some(op) = source.choice() {
        world.now += 1;
        match op % 16 {
            0..=2 => world.open(source.below(5) as u64),
            3..=11 => world.request(&mut source),
            12 => world.close(&mut source),
            13 => world.now += u64::from(source.byte()) * 8,
            14 => drop(world.execute(EntryKind::Tick)),
            _ => world.freeze(),
        }
        world.check();
    }
}

/// What a session should be: every answer that was ever given.
struct Known {
    session: SessionId,
    last: u64,
    given_up: u64,
    answers: Vec<Bytes>,
}

struct World {
    unit: Unit<CountingService>,
    now: u64,
    /// What the sessions are known to have, by their tokens.
    known: BTreeMap<u64, Known>,
    effects: u64,
}

impl World {
    fn execute(&mut self, kind: EntryKind) -> Option<OutputKind> {
        let now = self.now;
        self.known.retain(|_, known| known.last + IDLE > now);
        execute(&mut self.unit, now, kind)
    }

    fn open(&mut self, mark: u64) {
        let token = Nonce(mark);
        let opened = self.execute(InputKind::SessionOpenFor { owner: OwnerId(1), token }.into());
        let Some(OutputKind::Opened { token: named, result }) = opened else {
            panic!("no answer: {opened:?}")
        };
        assert_eq!(named, token);
        let (room, last) = (self.known.len() < config().sessions, self.now);
        if let Some(known) = self.known.get_mut(&mark) {
            known.last = last;
            assert_eq!(result, Ok(known.session), "asking twice gives one session");
        } else if room {
            let session = SessionId(self.unit.index().0);
            assert_eq!(result, Ok(session));
            self.known.insert(mark, Known { session, last, given_up: 0, answers: Vec::new() });
        } else {
            assert_eq!(result, Err(Refusal::TooManySessions));
        }
    }

    fn request(&mut self, source: &mut Source<'_>) {
        let mark = source.below(5) as u64;
        let known = self.known.get(&mark);
        let session = known.map_or(SessionId(9_999), |known| known.session);
        let next = known.map_or(1, |known| known.answers.len() as u64 + 1);
        let (number, lowest) = match source.byte() {
            choice @ 0..160 => (next, next.saturating_sub(u64::from(choice) / 32)),
            choice @ 160..224 => (next.saturating_sub(u64::from(choice & 7)), 1),
            _ => (source.number(next), source.number(next)),
        };
        let body = Bytes::copy_from_slice(&[source.byte()]);
        let request = InputKind::SessionRequest {
            session,
            token: Nonce(mark),
            number: RequestNumber(number),
            lowest: RequestNumber(lowest),
            body,
        }
        .into();
        let replied = self.execute(request);
        let Some(OutputKind::Reply { result, .. }) = replied else {
            panic!("no answer: {replied:?}")
        };
        self.checker(mark, number, lowest, result);
    }

    fn checker(&mut self, mark: u64, number: u64, lowest: u64, result: Result<Bytes, Refusal>) {
        let Some(known) = self.known.get_mut(&mark) else {
            assert_eq!(result, Err(Refusal::UnknownSession));
            return;
        };
        known.last = self.now;
        let next = known.answers.len() as u64 + 1;
        let wanted = lowest.min(number).min(next);
        known.given_up = known.given_up.max(wanted.saturating_sub(1));
        match result {
            Err(Refusal::Gap { expected }) => {
                assert!(number > next);
                assert_eq!(expected.0, next);
            }
            Err(Refusal::Forgotten) => assert!(number <= known.given_up),
            // Bytes count too; that there are some replies is all that can be said simply.
            Err(Refusal::TooManyReplies) => assert_eq!(number, next),
            Err(other) => panic!("{other:?}"),
            Ok(answer) if number == next => {
                known.answers.push(answer);
                self.effects += 1;
            }
            Ok(answer) => {
                assert!((known.given_up + 1..next).contains(&number), "an answer to a gap");
                assert_eq!(known.answers[number as usize - 1], answer, "another answer");
            }
        }
    }

    fn close(&mut self, source: &mut Source<'_>) {
        let mark = source.below(5) as u64;
        let wrong = source.byte() > 192;
        let session = self.known.get(&mark).map_or(SessionId(9_999), |known| known.session);
        let token = Nonce(mark + if wrong { 100 } else { 0 });
        self.execute(InputKind::SessionClose { session, token }.into());
        if !wrong {
            self.known.remove(&mark);
        }
    }

    /// Goes on as a restored copy.
    fn freeze(&mut self) {
        let bytes = self.unit.freeze().to_bytes().expect("a small state");
        let mut reader = Reader::open(bytes).expect("what was just written");
        self.unit = Unit::restore(CountingService::default(), config(), &mut reader)
            .expect("its own state");
    }

    fn check(&self) {
        assert_eq!(self.unit.service().requests, self.effects, "each takes effect once");
        // Sessions whose time has come since the last entry are still there.
        assert!(self.unit.sessions() >= self.known.len());
        assert!(self.unit.sessions() <= config().sessions);
    }
}
