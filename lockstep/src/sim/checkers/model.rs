//! What a log comes to: the service, written a second time.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::sessions::{Book, Came, Outcome};
use crate::entry::{Entry, InputKind};
use crate::ids::{Index, LogTime};
use crate::sim::ops::{Answer, Op, Request};
use crate::unit::UnitConfig;

/// The objects that the service keeps, as far as they are visible in answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Objects {
    registers: BTreeMap<u8, u64>,
    queues: BTreeMap<u8, VecDeque<u64>>,
    lists: BTreeMap<u8, u64>,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// At which entry.
    pub index: Index,
    /// What it has to be answered; `None` if that is left to chance.
    pub answer: Option<Answer>,
}

/// A log, replayed.
#[derive(Debug)]
pub struct Model {
    objects: Objects,
    sessions: Book,
    effects: BTreeMap<u64, Effect>,
}

impl Objects {
    /// Applies one operation.
    pub(super) fn apply(&mut self, op: Op) -> Option<Answer> {
        Some(match op {
            Op::Set { key, value } => Answer::Value(self.registers.insert(key, value)),
            Op::Get { key } => Answer::Value(self.registers.get(&key).copied()),
            Op::Swap { key, from, to } => match self.registers.get_mut(&key) {
                Some(value) if *value == from => {
                    *value = to;
                    Answer::Done(true)
                }
                _ => Answer::Done(false),
            },
            Op::Push { queue, value } => {
                let queue = self.queues.entry(queue).or_default();
                queue.push_back(value);
                Answer::Length(queue.len() as u64)
            }
            Op::Pop { queue } => {
                let queue = self.queues.entry(queue).or_default();
                Answer::Value(queue.pop_front())
            }
            Op::Append { list } => {
                let length = self.lists.entry(list).or_insert(0);
                *length += 1;
                Answer::Length(*length)
            }
            Op::Later { .. } => Answer::Done(true),
            Op::Chance | Op::Poison => return None,
        })
    }
}

/// The object that an operation is about, if its answer depends on one.
pub(super) fn object(op: Op) -> Option<(u8, u8)> {
    match op {
        Op::Set { key, .. } | Op::Get { key } | Op::Swap { key, .. } => Some((0, key)),
        Op::Push { queue, .. } | Op::Pop { queue } => Some((1, queue)),
        Op::Append { list } => Some((2, list)),
        Op::Later { .. } | Op::Chance | Op::Poison => None,
    }
}

impl Model {
    /// Of an empty log.
    pub(super) fn new(bounds: UnitConfig) -> Self {
        let (objects, sessions) = (Objects::default(), Book::new(bounds));
        Self { objects, sessions, effects: BTreeMap::new() }
    }

    /// The bounds of the unit.
    pub(super) fn bounds(&self) -> &UnitConfig {
        self.sessions.bounds()
    }

    /// The next entry of the log. Tells which timers it sets, and what each of its steps comes to
    /// for sessions.
    pub(super) fn append(&mut self, entry: &Entry) -> (Vec<(LogTime, u64)>, Vec<Outcome>) {
        let outcomes = self.sessions.append(entry);
        let effective =
            |outcome: &Outcome| outcome.came == Came::Kept { effect: true, first: true };
        let inputs = entry.kind.inputs().iter().zip(&outcomes).enumerate();
        let timers = inputs.filter_map(|(position, (input, outcome))| match input {
            InputKind::SessionRequest { body, .. } if effective(outcome) => {
                self.request(entry, position, body)
            }
            _ => None,
        });
        (timers.collect(), outcomes)
    }

    fn request(&mut self, entry: &Entry, position: usize, body: &[u8]) -> Option<(LogTime, u64)> {
        let request = Request::decode(body).ok()?;
        let answer = self.objects.apply(request.op);
        // A second effect of one request is another checker's matter.
        let effect = Effect { index: entry.index, answer };
        self.effects.entry(request.id).or_insert(effect);
        let Op::Later { after } = request.op else { return None };
        Some((entry.time_at(position).plus(Duration::from_nanos(after)), request.id))
    }

    /// What a request came to.
    pub fn effect(&self, id: u64) -> Option<&Effect> {
        self.effects.get(&id)
    }
}
