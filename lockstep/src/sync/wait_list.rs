//! Who sleeps until something changes, and the wake-up protocol (R1 to R5).

use super::orderings::Site;
use super::shim::{AtomicBool, Lock, MutexGuard, Ordering, Parker};
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Instant;

/// Wakers of tasks and threads that wait for a number to be reached. Where
/// what is waited for is not a number, everyone waits for [`ANYTHING`].
///
/// The list is as long as there are waiters at present: each owns at most one
/// entry through its [`Ticket`].
#[derive(Debug)]
pub(super) struct WaitList {
    armed: AtomicBool,
    waiting: Lock<Waiting>,
}

/// The threshold of those whom every notification concerns.
pub(super) const ANYTHING: u64 = 0;

#[derive(Debug, Default)]
struct Waiting {
    last_ticket: u64,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    threshold: u64,
    waker: Waker,
}

/// A waiter's place on a [`WaitList`], kept from one sleep to the next.
#[derive(Debug, Default)]
pub(super) struct Ticket(Option<u64>);

/// A task's place on a list, given up with the future that owns it.
pub(super) struct Slot<'a> {
    pub(super) list: &'a WaitList,
    pub(super) ticket: Ticket,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.list.delist(&mut self.ticket);
    }
}

impl WaitList {
    pub(super) fn new() -> Self {
        Self { armed: AtomicBool::new(false), waiting: Lock::new(Waiting::default()) }
    }

    /// Announces that the owner of `ticket` is about to sleep until a
    /// notification of `threshold` or more. Afterwards it must look once more
    /// at what it waits for, and only then sleep (R3).
    pub(super) fn enlist(&self, ticket: &mut Ticket, threshold: u64, waker: &Waker) {
        // A waker's clone and drop are foreign code: outside the lock.
        let waker = waker.clone();
        let replaced = self.lock().put(ticket, threshold, waker);
        self.armed.swap(true, Site::Arm.ordering());
        drop(replaced);
    }

    /// Takes the owner of `ticket` off the list, because it is awake (R5).
    pub(super) fn delist(&self, ticket: &mut Ticket) {
        let Some(number) = ticket.0.take() else { return };
        let removed = {
            let mut waiting = self.lock();
            let removed = waiting.remove(number);
            if waiting.entries.is_empty() {
                // Relaxed: publishes nothing. A read-modify-write, so that a
                // notifier's release still reaches the next one to arm.
                self.armed.swap(false, Ordering::Relaxed);
            }
            removed
        };
        drop(removed);
    }

    /// Wakes those who wait for `reached` or less; what they wait for must be
    /// in place already (R4). One uncontended exchange if nobody sleeps.
    pub(super) fn notify(&self, reached: u64) {
        if !self.armed.swap(false, Site::Notify.ordering()) {
            return;
        }
        let (first, rest) = {
            let mut waiting = self.lock();
            let due = waiting.take_due(reached);
            if !waiting.entries.is_empty() {
                // Those left stay armed. Relaxed, as in `delist`.
                self.armed.swap(true, Ordering::Relaxed);
            }
            due
        };
        for waker in first.into_iter().chain(rest) {
            waker.wake();
        }
    }

    /// Blocks the thread until `ready` has an answer, `None` at the deadline.
    /// `ready` is asked at least once, and always again after enlisting.
    pub(super) fn block_on<R>(
        &self,
        threshold: u64,
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        if let Some(answer) = ready() {
            return Some(answer);
        }
        let parker = Parker::new();
        let mut ticket = Ticket::default();
        let answer = loop {
            self.enlist(&mut ticket, threshold, parker.waker());
            if let Some(answer) = ready() {
                break Some(answer);
            }
            if !parker.park(deadline) {
                break None;
            }
        };
        self.delist(&mut ticket);
        answer
    }

    /// Poisoning is no news: nothing that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Gives `ticket` this entry; returns the waker that it had before.
    fn put(&mut self, ticket: &mut Ticket, threshold: u64, waker: Waker) -> Option<Waker> {
        let number = ticket.0.unwrap_or_else(|| {
            self.last_ticket += 1;
            self.last_ticket
        });
        ticket.0 = Some(number);
        let replaced = self.remove(number);
        self.entries.push(Entry { ticket: number, threshold, waker });
        replaced
    }

    fn remove(&mut self, ticket: u64) -> Option<Waker> {
        let at = self.entries.iter().position(|entry| entry.ticket == ticket)?;
        Some(self.entries.swap_remove(at).waker)
    }

    /// The first apart from the rest, because there seldom is a rest and an
    /// empty `Vec` does not allocate.
    fn take_due(&mut self, reached: u64) -> (Option<Waker>, Vec<Waker>) {
        let mut due = self
            .entries
            .extract_if(.., |entry| entry.threshold <= reached)
            .map(|entry| entry.waker);
        (due.next(), due.collect())
    }
}
