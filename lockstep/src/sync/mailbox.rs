//! A bounded queue from many producers to one consumer, each of them a thread
//! or a task.

use super::error::{PopError, PushError};
use super::ledger::{Capacity, Depth, Ledger, Refusal};
use super::queue::Queue;
use super::shim::Arc;
use super::wait_list::{ANYTHING, Slot, Ticket, WaitList};
use std::fmt;
use std::future::{Future, poll_fn};
use std::task::{Context, Poll};
use std::time::Instant;

/// Makes a mailbox. `weigh` gives the bytes that an item counts for; it is
/// asked once for each attempt to push it.
///
/// Items of one producer arrive in the order in which they were pushed.
///
/// ```
/// use lockstep::sync::{Capacity, PopError, mailbox};
///
/// let capacity = Capacity::new(16, 1024)?;
/// let (sender, mut receiver) = mailbox(capacity, |bytes: &Vec<u8>| bytes.len() as u64);
/// sender.try_push(b"hello".to_vec()).unwrap();
/// assert_eq!(receiver.pop().unwrap(), b"hello");
/// assert_eq!(receiver.pop(), Err(PopError::Empty));
/// # Ok::<(), lockstep::sync::CapacityError>(())
/// ```
pub fn mailbox<T>(capacity: Capacity, weigh: fn(&T) -> u64) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: Queue::new(capacity.items()),
        ledger: Ledger::new(capacity),
        arrival: WaitList::new(),
        room: WaitList::new(),
        weigh,
    });
    let producers = Arc::new(Producers { shared: Arc::clone(&shared) });
    (Sender { producers }, Receiver { shared, ticket: Ticket::default() })
}

/// What all hold.
struct Shared<T> {
    queue: Queue<Weighed<T>>,
    ledger: Ledger,
    /// The consumer, while it sleeps.
    arrival: WaitList,
    /// Producers that found the mailbox full.
    room: WaitList,
    weigh: fn(&T) -> u64,
}

struct Weighed<T> {
    item: T,
    weight: u64,
}

impl<T> Shared<T> {
    fn try_push(&self, item: T) -> Result<(), PushError<T>> {
        let weight = (self.weigh)(&item);
        match self.ledger.reserve(weight) {
            Ok(()) => {
                self.queue.push(Weighed { item, weight });
                self.arrival.notify(ANYTHING);
                Ok(())
            }
            Err(Refusal::Full) => Err(PushError::Full(item)),
            Err(Refusal::TooLarge) => Err(PushError::TooLarge(item)),
            Err(Refusal::Closed) => Err(PushError::Closed(item)),
        }
    }

    /// For the consumer only.
    fn pop(&self) -> Result<T, PopError> {
        match self.queue.pop() {
            Some(Weighed { item, weight }) => {
                self.ledger.free(weight);
                self.room.notify(ANYTHING);
                Ok(item)
            }
            None if self.ledger.is_finished() => Err(PopError::Closed),
            None => Err(PopError::Empty),
        }
    }

    fn close(&self) {
        self.ledger.close();
        self.arrival.notify(ANYTHING);
        self.room.notify(ANYTHING);
    }
}

/// Closes the mailbox when the last [`Sender`] goes.
struct Producers<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Drop for Producers<T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The producers' end of a [`mailbox`]. When the last clone is dropped the
/// mailbox closes.
pub struct Sender<T> {
    producers: Arc<Producers<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { producers: Arc::clone(&self.producers) }
    }
}

impl<T> Sender<T> {
    fn shared(&self) -> &Shared<T> {
        &self.producers.shared
    }

    /// Pushes without waiting. Cheap while the consumer is awake: two atomic
    /// operations beside the queue's own, no system call.
    ///
    /// # Errors
    /// The item, with the reason.
    pub fn try_push(&self, item: T) -> Result<(), PushError<T>> {
        self.shared().try_push(item)
    }

    /// Pushes, blocking the thread while there is no room, until `deadline`;
    /// without one for as long as it takes. A deadline in the past tries once.
    ///
    /// Producers that wait are not served in order; a heavy item may see
    /// lighter ones pass.
    ///
    /// # Errors
    /// The item, with the reason; `Full` at the deadline.
    pub fn push_blocking(&self, item: T, deadline: Option<Instant>) -> Result<(), PushError<T>> {
        let mut waiting = Some(item);
        let attempt = || settle(&mut waiting, |item| self.try_push(item));
        match self.shared().room.block_on(ANYTHING, deadline, attempt) {
            Some(result) => result,
            None => waiting.map_or(Ok(()), |item| Err(PushError::Full(item))),
        }
    }

    /// Pushes, waiting while there is no room. Dropping the future before it
    /// is ready drops the item unpushed.
    ///
    /// # Errors
    /// The item, with the reason; never `Full`.
    pub async fn push(&self, item: T) -> Result<(), PushError<T>> {
        let mut waiting = Some(item);
        let mut place = Slot { list: &self.shared().room, ticket: Ticket::default() };
        poll_fn(move |cx| {
            let mut attempt = || settle(&mut waiting, |item| self.try_push(item));
            if let Some(result) = attempt() {
                return Poll::Ready(result);
            }
            place.list.enlist(&mut place.ticket, ANYTHING, cx.waker());
            attempt().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Closes the mailbox for all: nothing more is taken in, and the consumer
    /// gets what is there, then [`PopError::Closed`].
    pub fn close(&self) {
        self.shared().close();
    }

    /// Whether either side has closed the mailbox.
    pub fn is_closed(&self) -> bool {
        self.shared().ledger.is_closed()
    }

    /// How full the mailbox is at this moment.
    pub fn depth(&self) -> Depth {
        self.shared().ledger.depth()
    }
}

/// Tries to get rid of what is in `waiting`; `None` if the mailbox is full,
/// and then it is still there.
fn settle<T>(
    waiting: &mut Option<T>,
    push: impl FnOnce(T) -> Result<(), PushError<T>>,
) -> Option<Result<(), PushError<T>>> {
    match push(waiting.take()?) {
        Err(PushError::Full(item)) => {
            *waiting = Some(item);
            None
        }
        settled => Some(settled),
    }
}

/// The consumer's end of a [`mailbox`]. Dropping it closes the mailbox and
/// drops what is in it.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    ticket: Ticket,
}

impl<T> Receiver<T> {
    /// Takes the oldest item, without waiting.
    ///
    /// # Errors
    /// Nothing there, for now or for good.
    pub fn pop(&mut self) -> Result<T, PopError> {
        // Awake by another's wake-up: pushes need not wake this one.
        self.shared.arrival.delist(&mut self.ticket);
        self.shared.pop()
    }

    /// Takes the oldest item, or has `cx` woken, once, when one arrives or the
    /// mailbox is closed. `None` when it is closed and empty.
    pub fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(answer) = answer(self.pop()) {
            return Poll::Ready(answer);
        }
        self.shared.arrival.enlist(&mut self.ticket, ANYTHING, cx.waker());
        match answer(self.shared.pop()) {
            None => Poll::Pending,
            Some(answer) => {
                self.shared.arrival.delist(&mut self.ticket);
                Poll::Ready(answer)
            }
        }
    }

    /// Waits for the oldest item; `None` when the mailbox is closed and empty.
    /// Dropping the future loses nothing, so it may stand in a `select!`.
    pub fn recv(&mut self) -> impl Future<Output = Option<T>> {
        poll_fn(|cx| self.poll_pop(cx))
    }

    /// Takes the oldest item, blocking the thread until there is one or
    /// `deadline`; without one for as long as it takes.
    ///
    /// # Errors
    /// `Empty` at the deadline; `Closed` when closed and empty.
    pub fn pop_blocking(&mut self, deadline: Option<Instant>) -> Result<T, PopError> {
        self.shared.arrival.delist(&mut self.ticket);
        let attempt = || answer(self.shared.pop());
        match self.shared.arrival.block_on(ANYTHING, deadline, attempt) {
            Some(item) => item.ok_or(PopError::Closed),
            None => Err(PopError::Empty),
        }
    }

    /// Closes the mailbox: producers get [`PushError::Closed`], and what is
    /// there, or being pushed at this moment, can still be taken.
    pub fn close(&self) {
        self.shared.close();
    }

    /// How full the mailbox is at this moment.
    pub fn depth(&self) -> Depth {
        self.shared.ledger.depth()
    }
}

/// `None` when there is nothing yet.
fn answer<T>(popped: Result<T, PopError>) -> Option<Option<T>> {
    match popped {
        Ok(item) => Some(Some(item)),
        Err(PopError::Closed) => Some(None),
        Err(PopError::Empty) => None,
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.arrival.delist(&mut self.ticket);
        self.shared.close();
        // Senders may live on for long; what was meant for us should not.
        while self.shared.pop().is_ok() {}
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("depth", &self.depth()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("depth", &self.depth()).finish_non_exhaustive()
    }
}
