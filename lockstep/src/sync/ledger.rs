//! How much of a mailbox is taken: items, bytes and the closed mark in one word. So a producer is
//! admitted, refused or told of the end by one atomic operation (R6 to R8).

use super::orderings::Site;
use super::shim::{AtomicU64, Ordering};
use thiserror::Error;

const ITEM: u64 = 1 << 40;
const BYTES: u64 = ITEM - 1;
const CLOSED: u64 = 1 << 63;

/// The bounds of a [`mailbox`](super::mailbox).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    items: u64,
    bytes: u64,
}

/// A [`Capacity`] that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CapacityError {
    /// No item would fit, or the slots, which are allocated at once, would
    /// take too much memory.
    #[error("{0} items: choose from 1 to {max}", max = Capacity::MAX_ITEMS)]
    Items(usize),
    /// The count of bytes would not fit its field.
    #[error("{0} bytes: choose at most {max}", max = Capacity::MAX_BYTES)]
    Bytes(u64),
}

impl Capacity {
    /// Most items of a mailbox: 2^20, a second of input at a million a second.
    /// Slots are allocated when the mailbox is made.
    pub const MAX_ITEMS: usize = 1 << 20;

    /// Largest byte budget: 2^40 - 1, more than a machine holds.
    pub const MAX_BYTES: u64 = BYTES;

    /// Room for `items` items that together weigh at most `bytes`.
    ///
    /// # Errors
    /// Either bound outside its range.
    pub const fn new(items: usize, bytes: u64) -> Result<Self, CapacityError> {
        if items == 0 || items > Self::MAX_ITEMS {
            return Err(CapacityError::Items(items));
        }
        if bytes > Self::MAX_BYTES {
            return Err(CapacityError::Bytes(bytes));
        }
        Ok(Self { items: items as u64, bytes })
    }

    /// Most items at a time.
    pub const fn items(&self) -> usize {
        self.items as usize
    }

    /// Most bytes at a time, by the weight that the mailbox gives its items.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// How full a mailbox is: a moment's view, for counters and status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Items in the mailbox.
    pub items: usize,
    /// Weight of those items in bytes.
    pub bytes: u64,
}

/// Why a producer was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    TooLarge,
    Closed,
}

#[derive(Debug)]
pub(super) struct Ledger {
    taken: AtomicU64,
    capacity: Capacity,
}

impl Ledger {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self { taken: AtomicU64::new(0), capacity }
    }

    /// Admits an item of `weight`: from here on a slot is its producer's (R6).
    pub(super) fn reserve(&self, weight: u64) -> Result<(), Refusal> {
        // Relaxed: only a guess, which the exchange checks. A stale "full" is
        // caught by looking again after enlisting (R3).
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let next = self.admit(taken, weight)?;
            match self.taken.compare_exchange_weak(
                taken,
                next,
                Site::Reserve.ordering(),
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => taken = now,
            }
        }
    }

    fn admit(&self, taken: u64, weight: u64) -> Result<u64, Refusal> {
        if taken & CLOSED != 0 {
            return Err(Refusal::Closed);
        }
        if weight > self.capacity.bytes {
            return Err(Refusal::TooLarge);
        }
        let depth = depth(taken);
        if depth.items as u64 == self.capacity.items || depth.bytes + weight > self.capacity.bytes {
            return Err(Refusal::Full);
        }
        Ok(taken + ITEM + weight)
    }

    /// Gives back what an item took, once its slot is empty (R7).
    pub(super) fn free(&self, weight: u64) {
        self.taken.fetch_sub(ITEM + weight, Site::Free.ordering());
    }

    /// From here on nobody is admitted (R8).
    pub(super) fn close(&self) {
        // Relaxed: whoever must learn of it soon is notified afterwards.
        self.taken.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Closed, and every item that was admitted has been taken out. Final.
    pub(super) fn is_finished(&self) -> bool {
        // Relaxed: for the consumer, who alone gives back, no stale value says
        // "closed and empty" of a mailbox that is not.
        self.taken.load(Ordering::Relaxed) == CLOSED
    }

    pub(super) fn is_closed(&self) -> bool {
        self.taken.load(Ordering::Relaxed) & CLOSED != 0
    }

    pub(super) fn depth(&self) -> Depth {
        depth(self.taken.load(Ordering::Relaxed))
    }
}

fn depth(taken: u64) -> Depth {
    let open = taken & !CLOSED;
    Depth { items: (open / ITEM) as usize, bytes: open & BYTES }
}
