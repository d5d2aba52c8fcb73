//! Inputs on their way into the log: those that this replica took, kept until the log has them
//! (rules O5 to O7), and those that the follower forwarded. What the next entry has of them (O15).

use std::collections::VecDeque;

use crate::entry::{InputKind, Inputs};
use crate::ids::OriginNumber;
use crate::limits;
use crate::wire::frames::Forward;

/// Inputs of one process, in number order without gaps.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inputs: VecDeque<Forward>,
    bytes: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Bytes of payload in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the last one.
    pub(super) fn last(&self) -> Option<OriginNumber> {
        self.inputs.back().map(|input| input.number)
    }

    pub(super) fn push(&mut self, input: Forward) {
        self.bytes += input.kind.payload_len();
        self.inputs.push_back(input);
    }

    fn pop(&mut self) -> Option<Forward> {
        let input = self.inputs.pop_front()?;
        self.bytes -= input.kind.payload_len();
        Some(input)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes out the inputs of the next entry, and the number of the first: as many as this, as an
    /// entry holds, and as stay below bulk, but one at least.
    pub(super) fn next_entry(&mut self, most: usize) -> Option<(OriginNumber, Inputs)> {
        let Forward { number, kind } = self.pop()?;
        let mut payload = kind.payload_len();
        let mut inputs = vec![kind];
        while let Some(next) = self.inputs.front()
            && inputs.len() < most.min(limits::ENTRY_INPUTS)
            && limits::may_share(inputs.len() + 1, payload + next.kind.payload_len())
        {
            payload += next.kind.payload_len();
            inputs.extend(self.pop().map(|input| input.kind));
        }
        Some((number, inputs.into()))
    }
}

/// What this replica took and the log does not have yet.
#[derive(Debug, Default)]
pub(super) struct PendingInputs {
    queue: Queue,
    last: OriginNumber,
}

impl PendingInputs {
    /// Whether another input may be taken (rule F3).
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < limits::KEPT_INPUTS
            && self.queue.bytes + limits::INPUT_BYTES <= limits::KEPT_BYTES
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.queue.bytes
    }

    /// The lowest number that is not in the log yet, or will be given next.
    pub(super) fn first(&self) -> OriginNumber {
        self.queue.inputs.front().map_or(self.last.next(), |input| input.number)
    }

    /// The highest number given.
    pub(super) fn last(&self) -> OriginNumber {
        self.last
    }

    /// Takes an input, to be ordered or forwarded.
    pub(super) fn keep(&mut self, kind: InputKind) {
        self.last = self.last.next();
        self.queue.push(Forward { number: self.last, kind });
    }

    /// Takes out what the sequencer orders next ([`Queue::next_entry`]).
    pub(super) fn next_entry(&mut self, most: usize) -> Option<(OriginNumber, Inputs)> {
        self.queue.next_entry(most)
    }

    /// The log has everything up to this number.
    pub(super) fn ordered(&mut self, number: OriginNumber) {
        while self.first() <= number {
            if self.queue.pop().is_none() {
                break;
            }
        }
    }

    /// Inputs from this number on.
    pub(super) fn from(&self, number: OriginNumber) -> impl Iterator<Item = &Forward> {
        let skip = number.0.saturating_sub(self.first().0);
        self.queue.inputs.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }
}
