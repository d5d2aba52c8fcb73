//! The state machine.

use std::time::Duration;

use bytes::Bytes;
use imbl::{OrdMap, Vector};
use lockstep::digest::Digest;
use lockstep::ids::LogTime;
use lockstep::machine::{Context, Identity, RecordSource, RestoreError, StateMachine, Step};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::frozen::Frozen;
use crate::limits;
use crate::ops::{Answer, Info, Op, Refusal};

/// The register service, as the pair replicates it.
///
/// A frozen view costs a few pointers: the state shares its parts with it, and copies a part (a
/// few dozen entries) when that first changes while the view lives.
#[derive(Debug, Default)]
pub struct Register {
    state: State,
}

/// All of the state, in maps that are cheap to copy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) registers: OrdMap<String, i64>,
    /// None of them empty.
    pub(crate) queues: OrdMap<String, Vector<String>>,
    /// By due time, then in the order in which they were set.
    pub(crate) reminders: OrdMap<(LogTime, u64), Reminder>,
    /// The next reminder's number.
    pub(crate) next: u64,
    /// Reminders dropped because there was no room for another queue.
    pub(crate) missed: u64,
    /// Texts in queues.
    pub(crate) items: usize,
    pub(crate) random: ChaCha8Rng,
}

/// A text on its way into a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reminder {
    pub(crate) queue: String,
    pub(crate) item: String,
}

impl Default for State {
    fn default() -> Self {
        Self {
            registers: OrdMap::new(),
            queues: OrdMap::new(),
            reminders: OrdMap::new(),
            next: 0,
            missed: 0,
            items: 0,
            random: ChaCha8Rng::from_seed([0; 32]),
        }
    }
}

impl Register {
    /// The service without any content.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StateMachine for Register {
    type Frozen = Frozen;

    fn identity(&self) -> Identity {
        Identity { name: "register".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        let answer = match step {
            Step::Start { seed } => {
                self.state.random = ChaCha8Rng::from_seed(*seed);
                return Bytes::new();
            }
            Step::Wake => {
                self.state.remind(context.now());
                None
            }
            // Reminders are due by the calendar: those of the time in which no process ran are
            // late, and come with the next wake-up.
            Step::Resumed { .. } => None,
            Step::Request { body, .. } => Some(match Op::decode(body) {
                Ok(op) => self.apply(op, context.now()),
                Err(_) => Answer::Refused(Refusal::Malformed),
            }),
            _ => None,
        };
        context.set_wakeup(self.state.next_due());
        answer.map_or_else(Bytes::new, |answer| answer.encode())
    }

    fn is_read_only(request: &[u8]) -> bool {
        Op::decode(request).is_ok_and(|op| op.is_read_only())
    }

    fn freeze(&self) -> Frozen {
        Frozen::new(self.state.clone())
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        self.state = Frozen::read(records)?;
        Ok(())
    }
}

impl Register {
    fn apply(&mut self, op: Op, now: LogTime) -> Answer {
        let answer = match op {
            Op::Get { name } => Ok(Answer::Value(self.state.registers.get(&name).copied())),
            Op::Peek { queue } => {
                let items = self.state.queues.get(&queue);
                Ok(Answer::Item(items.and_then(|items| items.front().cloned())))
            }
            Op::Len { queue } => Ok(Answer::Length(self.state.length(&queue))),
            Op::Now => Ok(Answer::Time(now.0)),
            Op::Info => Ok(Answer::Info(self.state.info())),
            op => self.state.change(op, now),
        };
        answer.unwrap_or_else(Answer::Refused)
    }
}

impl State {
    fn change(&mut self, op: Op, now: LogTime) -> Result<Answer, Refusal> {
        match op {
            Op::Set { name, value } => self.set(name, value).map(Answer::Value),
            Op::Cas { name, expected, value } => {
                let found = self.registers.get(&name).copied();
                if found != expected {
                    return Ok(Answer::Differs(found));
                }
                self.set(name, value)?;
                Ok(Answer::Swapped)
            }
            Op::Add { name, delta } => {
                let before = self.registers.get(&name).copied().unwrap_or(0);
                let after = before.checked_add(delta).ok_or(Refusal::Overflow)?;
                self.set(name, after)?;
                Ok(Answer::Value(Some(after)))
            }
            Op::Push { queue, item } => {
                self.check_room(&queue, &item)?;
                self.push(queue, item).map(Answer::Length)
            }
            Op::Pop { queue } => Ok(Answer::Item(self.pop(&queue))),
            Op::Remind { queue, item, after } => {
                self.check_room(&queue, &item)?;
                let after = Duration::from_nanos(after);
                if after > limits::REMIND {
                    return Err(Refusal::TooFar);
                }
                let due = now.plus(after);
                self.reminders.insert((due, self.next), Reminder { queue, item });
                self.next += 1;
                Ok(Answer::Due(due.0))
            }
            Op::Random { below: 0 } => Err(Refusal::Empty),
            Op::Random { below } => Ok(Answer::Number(self.draw(below))),
            // Those that change nothing are answered elsewhere.
            _ => Err(Refusal::Malformed),
        }
    }

    fn set(&mut self, name: String, value: i64) -> Result<Option<i64>, Refusal> {
        check_name(&name)?;
        if self.registers.len() >= limits::REGISTERS && !self.registers.contains_key(&name) {
            return Err(Refusal::TooManyRegisters);
        }
        Ok(self.registers.insert(name, value))
    }

    fn check_room(&self, queue: &str, item: &str) -> Result<(), Refusal> {
        check_name(queue)?;
        if item.len() > limits::ITEM_BYTES {
            return Err(Refusal::ItemTooLong);
        }
        if self.items + self.reminders.len() >= limits::ITEMS {
            return Err(Refusal::TooManyItems);
        }
        Ok(())
    }

    fn push(&mut self, queue: String, item: String) -> Result<u64, Refusal> {
        if self.queues.len() >= limits::QUEUES && !self.queues.contains_key(&queue) {
            return Err(Refusal::TooManyQueues);
        }
        let items = self.queues.entry(queue).or_default();
        items.push_back(item);
        self.items += 1;
        Ok(items.len() as u64)
    }

    fn pop(&mut self, queue: &str) -> Option<String> {
        let items = self.queues.get_mut(queue)?;
        let item = items.pop_front()?;
        if items.is_empty() {
            self.queues.remove(queue);
        }
        self.items -= 1;
        Some(item)
    }

    fn length(&self, queue: &str) -> u64 {
        self.queues.get(queue).map_or(0, |items| items.len() as u64)
    }

    fn next_due(&self) -> Option<LogTime> {
        self.reminders.get_min().map(|((due, _), _)| *due)
    }

    /// Carries out what is due.
    fn remind(&mut self, now: LogTime) {
        while let Some(((due, _), _)) = self.reminders.get_min()
            && *due <= now
        {
            let (first, rest) = self.reminders.without_min();
            self.reminders = rest;
            let Some(Reminder { queue, item }) = first else { return };
            if let Err(refusal) = self.push(queue, item) {
                self.missed += 1;
                // Both CoServers log it; what is no news, the runtime marks.
                tracing::warn!(%refusal, missed = self.missed, "a reminder was dropped");
            }
        }
    }

    /// Every number with the same chance: those of the last, incomplete round are thrown away.
    fn draw(&mut self, below: u64) -> u64 {
        let rounds = u64::MAX / below * below;
        loop {
            let number = self.random.next_u64();
            if number < rounds {
                return number % below;
            }
        }
    }

    fn info(&self) -> Info {
        Info {
            registers: self.registers.len() as u64,
            queues: self.queues.len() as u64,
            items: self.items as u64,
            reminders: self.reminders.len() as u64,
            missed: self.missed,
        }
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    match name.len() {
        1..=limits::NAME_BYTES => Ok(()),
        _ => Err(Refusal::Name),
    }
}

#[cfg(test)]
mod tests;
