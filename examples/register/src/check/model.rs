//! Registers and queues, written a second time.

use std::collections::VecDeque;
use std::fmt;

use crate::ops::{Answer, Op, Refusal};

/// What a call is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Register(String),
    Queue(String),
}

/// The state of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State<'a> {
    Register(Option<i64>),
    Queue(VecDeque<&'a str>),
}

impl Object {
    /// What an operation is about; `None` if its answer depends on no one object.
    pub(super) fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Get { name }
            | Op::Set { name, .. }
            | Op::Cas { name, .. }
            | Op::Add { name, .. } => Some(Self::Register(name.clone())),
            Op::Push { queue, .. } | Op::Pop { queue } | Op::Peek { queue } | Op::Len { queue } => {
                Some(Self::Queue(queue.clone()))
            }
            Op::Remind { .. } | Op::Random { .. } | Op::Now | Op::Info => None,
        }
    }

    pub(super) fn start<'a>(&self) -> State<'a> {
        match self {
            Self::Register(_) => State::Register(None),
            Self::Queue(_) => State::Queue(VecDeque::new()),
        }
    }
}

impl<'a> State<'a> {
    /// Applies an operation whose answer is known, or not. `None` if it cannot have been that.
    pub(super) fn after(&self, op: &'a Op, answer: Option<&Answer>) -> Option<Self> {
        if let Some(Answer::Refused(_)) = answer {
            // For a limit, and then nothing was done.
            return Some(self.clone());
        }
        let mut state = self.clone();
        let expected = state.apply(op)?;
        answer.is_none_or(|answer| *answer == expected).then_some(state)
    }

    fn apply(&mut self, op: &'a Op) -> Option<Answer> {
        match (self, op) {
            (Self::Register(register), op) => apply_to_register(register, op),
            (Self::Queue(queue), op) => apply_to_queue(queue, op),
        }
    }
}

fn apply_to_register(register: &mut Option<i64>, op: &Op) -> Option<Answer> {
    Some(match op {
        Op::Get { .. } => Answer::Value(*register),
        Op::Set { value, .. } => Answer::Value(register.replace(*value)),
        Op::Cas { expected, value, .. } if register == expected => {
            *register = Some(*value);
            Answer::Swapped
        }
        Op::Cas { .. } => Answer::Differs(*register),
        Op::Add { delta, .. } => {
            let Some(sum) = register.unwrap_or(0).checked_add(*delta) else {
                return Some(Answer::Refused(Refusal::Overflow));
            };
            *register = Some(sum);
            Answer::Value(*register)
        }
        _ => return None,
    })
}

fn apply_to_queue<'a>(queue: &mut VecDeque<&'a str>, op: &'a Op) -> Option<Answer> {
    Some(match op {
        Op::Push { item, .. } => {
            queue.push_back(item);
            Answer::Length(queue.len() as u64)
        }
        Op::Pop { .. } => Answer::Item(queue.pop_front().map(str::to_owned)),
        Op::Peek { .. } => Answer::Item(queue.front().map(|item| (*item).to_owned())),
        Op::Len { .. } => Answer::Length(queue.len() as u64),
        _ => return None,
    })
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register(name) => write!(f, "register {name}"),
            Self::Queue(name) => write!(f, "queue {name}"),
        }
    }
}
