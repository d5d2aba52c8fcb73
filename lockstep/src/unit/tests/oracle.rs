//! Any sequence of entries against a simple oracle, and restored at any cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Fixture, Probe, answer, request, small};
use crate::entry::{EntryKind, InputKind};
use crate::ids::{Nonce, OwnerId, SessionId};
use crate::output::{Executed, OutputKind, Refusal};
use crate::unit::records::Reader;
use crate::unit::{Unit, UnitConfig};

#[derive(Clone, Debug)]
enum Op {
    Open { token: u64 },
    Request { token: u64, wrong: bool, number: u64, lowest: u64, size: u64 },
    Close { token: u64, wrong: bool },
    Pass { span: u64 },
    Device { command: &'static str },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0u64..6).prop_map(|token| Op::Open { token }),
        8 => (0u64..6, prop::bool::weighted(0.05), 0u64..8, 0u64..8, 0u64..120)
            .prop_map(|(token, wrong, number, lowest, size)| {
                Op::Request { token, wrong, number, lowest, size }
            }),
        1 => (0u64..6, any::<bool>()).prop_map(|(token, wrong)| Op::Close { token, wrong }),
        1 => (0u64..1500).prop_map(|span| Op::Pass { span }),
        1 => prop::sample::select(vec!["wake 7 3", "wake 300 9", "send 2", "x"])
            .prop_map(|command| Op::Device { command }),
    ]
}

/// What a session should be, kept in the plainest way: every answer that was ever given.
#[derive(Default)]
struct Known {
    session: SessionId,
    last: u64,
    given_up: u64,
    answers: Vec<Bytes>,
}

#[derive(Default)]
struct Oracle {
    known: BTreeMap<u64, Known>,
    ended: usize,
}

impl Oracle {
    /// Sessions idle for too long are no more.
    fn expire(&mut self, now: u64) {
        let before = self.known.len();
        self.known.retain(|_, known| known.last + 1000 > now);
        self.ended += before - self.known.len();
    }

    /// Checks the answer to a request, and returns whether it took effect.
    fn request(
        &mut self,
        token: u64,
        number: u64,
        lowest: u64,
        now: u64,
        answer: Result<Bytes, Refusal>,
    ) -> bool {
        let bounds = small();
        let all: usize = self.known.values().map(Known::cost).sum();
        let Some(known) = self.known.get_mut(&token) else {
            assert_eq!(answer, Err(Refusal::UnknownSession));
            return false;
        };
        known.last = now;
        let before = known.cost();
        let next = known.answers.len() as u64 + 1;
        known.given_up = known.given_up.max(lowest.min(number).min(next).saturating_sub(1));
        let all = all - (before - known.cost());
        let room = |cost: usize, bound| cost + crate::limits::REPLY_BYTES + 64 <= bound;
        if number > next {
            let Err(Refusal::Gap { expected }) = answer else { panic!("{answer:?}") };
            assert_eq!(expected.0, next);
        } else if number <= known.given_up {
            assert_eq!(answer, Err(Refusal::Forgotten));
        } else if number < next {
            assert_eq!(answer.as_ref(), Ok(&known.answers[number as usize - 1]), "repeatable");
        } else if next - 1 - known.given_up >= bounds.session_replies as u64
            || !room(known.cost(), bounds.session_reply_bytes)
            || !room(all, bounds.reply_bytes)
        {
            assert_eq!(answer, Err(Refusal::TooManyReplies));
        } else {
            known.answers.push(answer.unwrap());
            return true;
        }
        false
    }
}

impl Known {
    fn cost(&self) -> usize {
        self.answers[self.given_up as usize..].iter().map(|answer| answer.len() + 64).sum()
    }
}

fn kind(op: &Op, sessions: &BTreeMap<u64, SessionId>) -> EntryKind {
    let session = |token: &u64| sessions.get(token).copied().unwrap_or(SessionId(9999));
    match op {
        Op::Open { token } => {
            InputKind::SessionOpenFor { owner: OwnerId(1), token: Nonce(*token) }.into()
        }
        Op::Request { token, wrong, number, lowest, size } => {
            let given = token + if *wrong { 100 } else { 0 };
            request(session(token), given, *number, *lowest, &format!("large {size}"))
        }
        Op::Close { token, wrong } => InputKind::SessionClose {
            session: session(token),
            token: Nonce(token + if *wrong { 100 } else { 0 }),
        }
        .into(),
        Op::Pass { .. } => EntryKind::Tick,
        Op::Device { command } => InputKind::Device {
            device: crate::ids::DeviceId(1),
            bytes: Bytes::from_static(command.as_bytes()),
        }
        .into(),
    }
}

fn count(fixture: &Fixture, what: &str) -> usize {
    fixture.seen().iter().filter(|line| line.contains(what)).count()
}

fn check(
    fixture: &Fixture,
    oracle: &mut Oracle,
    op: &Op,
    executed: &Executed,
    effects: &mut usize,
) {
    let now = fixture.time;
    oracle.expire(now);
    match op {
        Op::Open { token } => {
            let OutputKind::Opened { result, .. } = executed.outputs.last().unwrap().kind else {
                panic!("{executed:?}")
            };
            let full = oracle.known.len() >= small().sessions;
            if let Some(known) = oracle.known.get_mut(token) {
                known.last = now;
                assert_eq!(result, Ok(known.session));
            } else if full {
                assert_eq!(result, Err(Refusal::TooManySessions));
            } else {
                let session = SessionId(executed.index.0);
                assert_eq!(result, Ok(session));
                oracle.known.insert(*token, Known { session, last: now, ..Known::default() });
            }
        }
        Op::Request { wrong: true, number, .. } => {
            assert_eq!(answer(executed, *number), Err(Refusal::UnknownSession));
        }
        Op::Request { token, number, lowest, .. } => {
            let answer = answer(executed, *number);
            *effects += usize::from(oracle.request(*token, *number, *lowest, now, answer));
        }
        Op::Close { token, wrong: false } => {
            oracle.ended += usize::from(oracle.known.remove(token).is_some());
        }
        Op::Close { .. } | Op::Pass { .. } | Op::Device { .. } => {}
    }
    assert_eq!(fixture.unit.sessions(), oracle.known.len());
    assert_eq!(count(fixture, "request"), *effects, "each takes effect exactly once");
    assert_eq!(count(fixture, "SessionEnded"), oracle.ended);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sessions_do_what_the_oracle_says(ops in prop::collection::vec(op(), 1..80)) {
        let mut fixture = Fixture::new(small());
        let mut oracle = Oracle::default();
        let mut effects = 0;
        for op in &ops {
            if let Op::Pass { span } = op {
                fixture.time += span;
            }
            let sessions: BTreeMap<_, _> =
                oracle.known.iter().map(|(token, known)| (*token, known.session)).collect();
            let executed = fixture.run(kind(op, &sessions));
            check(&fixture, &mut oracle, op, &executed, &mut effects);
        }
    }

    #[test]
    fn a_unit_restored_at_any_cut_goes_on_identically(
        ops in prop::collection::vec(op(), 1..60),
        cuts in prop::collection::vec(any::<bool>(), 60),
    ) {
        let config = UnitConfig { session_replies: 5, ..small() };
        let mut fixture = Fixture::new(config.clone());
        let mut other = Unit::with_config(Probe::default(), config.clone());
        let mut sessions = BTreeMap::new();
        for (op, cut) in ops.iter().zip(cuts) {
            if let Op::Pass { span } = op {
                fixture.time += span;
            }
            let entry = fixture.entry(kind(op, &sessions));
            let executed = fixture.unit.execute(&entry);
            if let (Op::Open { token }, Some(OutputKind::Opened { result: Ok(session), .. })) =
                (op, executed.outputs.last().map(|output| &output.kind))
            {
                sessions.insert(*token, *session);
            }
            prop_assert_eq!(other.execute(&entry), executed);
            if cut {
                let bytes = other.freeze().to_bytes().unwrap();
                prop_assert_eq!(&bytes, &fixture.unit.freeze().to_bytes().unwrap());
                let mut reader = Reader::open(bytes).unwrap();
                other = Unit::restore(Probe::default(), config.clone(), &mut reader).unwrap();
            }
        }
    }
}
