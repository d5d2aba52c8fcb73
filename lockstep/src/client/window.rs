//! The requests under way: numbered, bounded, kept until answered.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::{MonotonicTime, RequestNumber};

/// A request without a reply.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What is asked.
    pub body: Bytes,
    /// When the caller is told that no reply came.
    pub deadline: Option<MonotonicTime>,
    /// The caller was told. The request stays: those after it cannot take effect before it.
    pub given_up: bool,
    /// The lowest number without a reply when it was last sent; 0 if it has not been yet.
    pub sent_with: RequestNumber,
}

/// Requests from the lowest without a reply to the newest. Bounded by the distance between the
/// two rather than by count, because the pair keeps the replies of all numbers in between.
#[derive(Debug)]
pub struct Window {
    lowest: RequestNumber,
    /// From `lowest` on; `None` where the reply has come. The first is never `None`.
    slots: VecDeque<Option<Pending>>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

impl Window {
    /// An empty window for at most so many numbers and bytes.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        let (lowest, slots) = (RequestNumber(1), VecDeque::new());
        Self { lowest, slots, bytes: 0, most, most_bytes }
    }

    /// The lowest number without a reply; that of the next request if there is none.
    pub fn lowest(&self) -> RequestNumber {
        self.lowest
    }

    /// The number of the next request.
    pub fn next(&self) -> RequestNumber {
        RequestNumber(self.lowest.0 + self.slots.len() as u64)
    }

    /// Whether every request has its reply.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a request of this length may be added.
    pub fn has_room(&self, len: usize) -> bool {
        self.slots.len() < self.most && self.bytes.saturating_add(len) <= self.most_bytes
    }

    /// Adds a request, for which there is room.
    pub fn push(&mut self, body: Bytes, deadline: Option<MonotonicTime>) -> RequestNumber {
        let number = self.next();
        self.bytes += body.len();
        let sent_with = RequestNumber(0);
        self.slots.push_back(Some(Pending { body, deadline, given_up: false, sent_with }));
        number
    }

    /// The request with this number, if it has no reply.
    pub fn get(&self, number: RequestNumber) -> Option<&Pending> {
        self.slots.get(self.slot(number)?)?.as_ref()
    }

    /// Takes the request out, once: its reply has come.
    pub fn take(&mut self, number: RequestNumber) -> Option<Pending> {
        let slot = self.slot(number)?;
        let pending = self.slots.get_mut(slot)?.take()?;
        self.bytes -= pending.body.len();
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.lowest = self.lowest.next();
        }
        Some(pending)
    }

    /// Every request without a reply, in order.
    pub fn iter(&self) -> impl Iterator<Item = (RequestNumber, &Pending)> {
        let slots = (self.lowest.0..).map(RequestNumber).zip(&self.slots);
        slots.filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    /// Every request without a reply from this number on, in order.
    pub fn from_mut(
        &mut self,
        number: RequestNumber,
    ) -> impl Iterator<Item = (RequestNumber, &mut Pending)> {
        let skip = usize::try_from(number.0.saturating_sub(self.lowest.0)).unwrap_or(usize::MAX);
        let first = self.lowest.0.saturating_add(skip as u64);
        let slots = self.slots.iter_mut().skip(skip);
        let numbered = (first..).map(RequestNumber).zip(slots);
        numbered.filter_map(|(number, slot)| Some((number, slot.as_mut()?)))
    }

    /// Marks as given up whatever is due, and says which they are and when the next one is.
    pub fn give_up(&mut self, now: MonotonicTime) -> (Vec<RequestNumber>, Option<MonotonicTime>) {
        let (mut due, mut next) = (Vec::new(), None);
        for (number, slot) in (self.lowest.0..).map(RequestNumber).zip(&mut self.slots) {
            let Some(pending @ Pending { given_up: false, deadline: Some(_), .. }) = slot else {
                continue;
            };
            if pending.deadline <= Some(now) {
                pending.given_up = true;
                due.push(number);
            } else {
                next = next.or(pending.deadline).min(pending.deadline);
            }
        }
        (due, next)
    }

    /// Takes out everything: the session is over. Requests that were given up before are not
    /// among them.
    pub fn clear(&mut self) -> Vec<RequestNumber> {
        let open = |(number, pending): (_, &Pending)| (!pending.given_up).then_some(number);
        let numbers = self.iter().filter_map(open).collect();
        self.lowest = self.next();
        self.slots.clear();
        self.bytes = 0;
        numbers
    }

    /// What always holds.
    pub fn check_invariants(&self) {
        assert!(self.slots.len() <= self.most, "more requests under way than may be");
        assert!(!matches!(self.slots.front(), Some(None)), "the lowest request has its reply");
        debug_assert_eq!(
            self.bytes,
            self.slots.iter().flatten().map(|pending| pending.body.len()).sum::<usize>(),
            "bytes under way are miscounted"
        );
    }

    fn slot(&self, number: RequestNumber) -> Option<usize> {
        usize::try_from(number.0.checked_sub(self.lowest.0)?).ok()
    }
}
