//! The slots of a mailbox. What the mailbox relies on is little. An item is seen by a `pop` that
//! its `push` happened before, and a slot is free for a `push` that its last `pop` happened before.
//! The queue for the model checker promises exactly that and no more. So a mailbox which holds
//! there does not lean on anything that the real queue happens to do besides.

#[cfg(lockstep_loom)]
pub(super) use self::modelled::Queue;
#[cfg(not(lockstep_loom))]
pub(super) use self::real::Queue;

/// The ledger admits only as many items as there are slots, so a `push`
/// without a slot is a defect of this module.
const NO_SLOT: &str = "mailbox: an item was admitted for which there is no free slot";

#[cfg(not(lockstep_loom))]
mod real {
    use crossbeam::queue::ArrayQueue;

    /// A `crossbeam` queue. A producer that is preempted in the middle of its
    /// `push` delays a `pop` that finds nothing older, never loses an item.
    #[derive(Debug)]
    pub(in crate::sync) struct Queue<T>(ArrayQueue<T>);

    impl<T> Queue<T> {
        pub(in crate::sync) fn new(slots: usize) -> Self {
            Self(ArrayQueue::new(slots))
        }

        pub(in crate::sync) fn push(&self, item: T) {
            assert!(self.0.push(item).is_ok(), "{}", super::NO_SLOT);
        }

        pub(in crate::sync) fn pop(&self) -> Option<T> {
            self.0.pop()
        }
    }
}

#[cfg(lockstep_loom)]
mod modelled {
    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicUsize, Ordering};

    /// A ring whose slots carry a stamp: twice the position when free for the
    /// push of that position, one more when filled. One thread pops.
    pub(in crate::sync) struct Queue<T> {
        slots: Vec<Slot<T>>,
        head: AtomicUsize,
        tail: AtomicUsize,
    }

    struct Slot<T> {
        stamp: AtomicUsize,
        item: Mutex<Option<T>>,
    }

    impl<T> Queue<T> {
        pub(in crate::sync) fn new(slots: usize) -> Self {
            let slot = |n| Slot { stamp: AtomicUsize::new(2 * n), item: Mutex::new(None) };
            Self {
                slots: (0..slots).map(slot).collect(),
                head: AtomicUsize::new(0),
                tail: AtomicUsize::new(0),
            }
        }

        pub(in crate::sync) fn push(&self, item: T) {
            let position = self.tail.fetch_add(1, Ordering::Relaxed);
            let slot = &self.slots[position % self.slots.len()];
            // Relaxed: that the slot is free must come from the ledger.
            assert_eq!(slot.stamp.load(Ordering::Relaxed), 2 * position, "{}", super::NO_SLOT);
            *slot.item.lock().unwrap() = Some(item);
            slot.stamp.store(2 * position + 1, Ordering::Release);
        }

        pub(in crate::sync) fn pop(&self) -> Option<T> {
            let position = self.head.load(Ordering::Relaxed);
            let slot = &self.slots[position % self.slots.len()];
            if slot.stamp.load(Ordering::Acquire) != 2 * position + 1 {
                return None;
            }
            let item = slot.item.lock().unwrap().take();
            slot.stamp.store(2 * (position + self.slots.len()), Ordering::Release);
            self.head.store(position + 1, Ordering::Relaxed);
            item
        }
    }
}
