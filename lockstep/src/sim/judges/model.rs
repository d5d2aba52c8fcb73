//! What a log comes to: the sessions' rule and the service, written a second time.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::entry::{Entry, EntryKind};
use crate::ids::{Index, LogTime, Nonce, RequestNumber, SessionId};
use crate::sim::ops::{Answer, Op, Request};

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
#[derive(Debug, Default)]
pub struct Model {
    objects: Objects,
    sessions: BTreeMap<SessionId, (Nonce, RequestNumber)>,
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
    /// The next entry of the log. Tells which timer it sets, if it does.
    pub(super) fn append(&mut self, entry: &Entry) -> Option<(LogTime, u64)> {
        match &entry.kind {
            EntryKind::SessionOpen { token } | EntryKind::SessionOpenFor { token, .. } => {
                let session = SessionId(entry.index.0);
                self.sessions.insert(session, (*token, RequestNumber(0)));
                None
            }
            EntryKind::SessionClose { session, token } => {
                if self.sessions.get(session).is_some_and(|(own, _)| own == token) {
                    self.sessions.remove(session);
                }
                None
            }
            EntryKind::SessionRequest { session, token, number, body, .. } => {
                let (own, last) = self.sessions.get_mut(session)?;
                if own != token || *number != last.next() {
                    return None;
                }
                *last = *number;
                self.request(entry, body)
            }
            _ => None,
        }
    }

    fn request(&mut self, entry: &Entry, body: &[u8]) -> Option<(LogTime, u64)> {
        let request = Request::decode(body).ok()?;
        let answer = self.objects.apply(request.op);
        // A second effect of one request is another judge's matter.
        let effect = Effect { index: entry.index, answer };
        self.effects.entry(request.id).or_insert(effect);
        let Op::Later { after } = request.op else { return None };
        Some((entry.time.plus(Duration::from_nanos(after)), request.id))
    }

    /// What a request came to.
    pub fn effect(&self, id: u64) -> Option<&Effect> {
        self.effects.get(&id)
    }
}
