//! A number that only grows, published by one writer and awaited by many:
//! "persisted up to n", "executed up to n".

use super::error::WaitError;
use super::orderings::Site;
use super::shim::{Arc, AtomicU64};
use super::wait_list::{Slot, Ticket, WaitList};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

/// Beside the value, in the same word: a reader that sees the end of the
/// writer sees its last value too.
const CLOSED: u64 = 1 << 63;

/// Makes a watermark that stands at `start`.
///
/// # Panics
/// `start` above [`Watermark::MAX`].
///
/// ```
/// use lockstep::sync::watermark;
///
/// let (mut writer, persisted) = watermark(0);
/// writer.advance(7);
/// assert_eq!(persisted.get(), 7);
/// assert_eq!(persisted.wait(5, None), Ok(7));
/// ```
pub fn watermark(start: u64) -> (WatermarkWriter, Watermark) {
    check(start);
    let shared = Arc::new(Shared { word: AtomicU64::new(start), readers: WaitList::new() });
    let writer = WatermarkWriter { shared: Arc::clone(&shared), value: start };
    (writer, Watermark { shared })
}

fn check(value: u64) {
    assert!(value <= Watermark::MAX, "watermark: {value} is above {}", Watermark::MAX);
}

#[derive(Debug)]
struct Shared {
    word: AtomicU64,
    readers: WaitList,
}

/// The writer's end of a [`watermark`]. Dropping it tells the readers that
/// the number will not grow any more.
#[derive(Debug)]
pub struct WatermarkWriter {
    shared: Arc<Shared>,
    value: u64,
}

impl WatermarkWriter {
    /// Publishes `value`. Whoever sees it, or a larger one, sees everything
    /// that this thread wrote before. A value that is not larger than the last
    /// changes nothing.
    ///
    /// # Panics
    /// `value` above [`Watermark::MAX`].
    pub fn advance(&mut self, value: u64) {
        check(value);
        if value <= self.value {
            return;
        }
        self.value = value;
        self.shared.word.store(value, Site::Advance.ordering());
        self.shared.readers.notify(value);
    }

    /// The value published last.
    pub fn get(&self) -> u64 {
        self.value
    }
}

impl Drop for WatermarkWriter {
    fn drop(&mut self) {
        self.shared.word.store(self.value | CLOSED, Site::Advance.ordering());
        self.shared.readers.notify(u64::MAX);
    }
}

/// A reader's end of a [`watermark`].
#[derive(Clone, Debug)]
pub struct Watermark {
    shared: Arc<Shared>,
}

impl Watermark {
    /// The largest value: one bit is the end mark.
    pub const MAX: u64 = CLOSED - 1;

    /// The value at this moment.
    pub fn get(&self) -> u64 {
        self.word() & !CLOSED
    }

    /// Whether the writer is gone, so that the value is final.
    pub fn is_closed(&self) -> bool {
        self.word() & CLOSED != 0
    }

    /// Waits until `threshold` is reached; returns the value, which may be
    /// larger. Wait for `seen + 1` to learn of any progress.
    ///
    /// # Errors
    /// `Closed` if the writer ends short of it; never `TimedOut`.
    pub async fn reached(&self, threshold: u64) -> Result<u64, WaitError> {
        let mut place = Slot { list: &self.shared.readers, ticket: Ticket::default() };
        poll_fn(move |cx| {
            if let Some(answer) = self.answer(threshold) {
                return Poll::Ready(answer);
            }
            place.list.enlist(&mut place.ticket, threshold, cx.waker());
            self.answer(threshold).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// As [`reached`](Self::reached), blocking the thread, until `deadline`;
    /// without one for as long as it takes.
    ///
    /// # Errors
    /// `Closed` if the writer ends short of it, `TimedOut` at the deadline.
    pub fn wait(&self, threshold: u64, deadline: Option<Instant>) -> Result<u64, WaitError> {
        self.shared
            .readers
            .block_on(threshold, deadline, || self.answer(threshold))
            .unwrap_or_else(|| Err(WaitError::TimedOut { reached: self.get() }))
    }

    /// `None` while there is hope.
    fn answer(&self, threshold: u64) -> Option<Result<u64, WaitError>> {
        let word = self.word();
        let reached = word & !CLOSED;
        if reached >= threshold {
            Some(Ok(reached))
        } else if word & CLOSED != 0 {
            Some(Err(WaitError::Closed { reached }))
        } else {
            None
        }
    }

    fn word(&self) -> u64 {
        self.shared.word.load(Site::Read.ordering())
    }
}
