//! Inputs that this replica took: kept until the log has them (rules O5 to O7).

use std::collections::VecDeque;

use crate::entry::EntryKind;
use crate::ids::OriginNumber;
use crate::limits;
use crate::wire::frames::Forward;

/// A follower's inputs on their way into the log, in number order without gaps.
#[derive(Debug, Default)]
pub(super) struct PendingInputs {
    inputs: VecDeque<Forward>,
    bytes: usize,
    last: OriginNumber,
}

impl PendingInputs {
    /// Whether another input may be taken (rule F3).
    pub(super) fn has_room(&self) -> bool {
        self.inputs.len() < limits::KEPT_INPUTS
            && self.bytes + limits::INPUT_BYTES <= limits::KEPT_BYTES
    }

    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The lowest number that is not in the log yet, or will be given next.
    pub(super) fn first(&self) -> OriginNumber {
        self.inputs.front().map_or(self.last.next(), |input| input.number)
    }

    /// The highest number given.
    pub(super) fn last(&self) -> OriginNumber {
        self.last
    }

    /// Takes an input, to be forwarded.
    pub(super) fn keep(&mut self, kind: EntryKind) {
        let number = self.number();
        self.bytes += kind.payload_len();
        self.inputs.push_back(Forward { number, kind });
    }

    /// The next number, for an input that is ordered at once.
    pub(super) fn number(&mut self) -> OriginNumber {
        self.last = self.last.next();
        self.last
    }

    /// The log has everything up to this number.
    pub(super) fn ordered(&mut self, number: OriginNumber) {
        while self.first() <= number {
            let Some(input) = self.inputs.pop_front() else { break };
            self.bytes -= input.kind.payload_len();
        }
    }

    /// Inputs from this number on.
    pub(super) fn from(&self, number: OriginNumber) -> impl Iterator<Item = &Forward> {
        let skip = number.0.saturating_sub(self.first().0);
        self.inputs.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }
}
