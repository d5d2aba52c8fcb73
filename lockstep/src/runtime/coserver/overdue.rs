//! Says that a part of the start takes long, from a thread beside the one that it blocks.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::event;

/// Speaks, after twice as long each time, until it is dropped.
#[derive(Debug)]
pub(super) struct Overdue {
    /// The thread waits for this to be dropped. No task waits for the thread: where the log goes to
    /// a disk that hangs, it may be speaking still.
    _ended: mpsc::Sender<()>,
}

impl Overdue {
    /// `say` is called with the time that has passed, for the first time after `first`. Without a
    /// thread to be had, nothing is said.
    #[expect(clippy::disallowed_methods, reason = "it measures how long a start takes")]
    pub(super) fn watch(first: Duration, say: impl Fn(Duration) + Send + 'static) -> Self {
        let (ended, told) = mpsc::channel();
        let began = std::time::Instant::now();
        let run = move || {
            let mut interval = first;
            while told.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                say(began.elapsed());
                interval = event::said_again_after(interval);
            }
        };
        let _ = thread::Builder::new().name("lockstep-start".into()).spawn(run);
        Self { _ended: ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_again_and_again_until_the_end() {
        let (said, heard) = mpsc::channel();
        let overdue = Overdue::watch(Duration::from_millis(1), move |span| {
            let _ = said.send(span);
        });
        let spans: Vec<_> = (0..4).filter_map(|_| heard.recv().ok()).collect();
        assert!(spans.is_sorted() && spans[0] >= Duration::from_millis(1), "{spans:?}");
        drop(overdue);
        heard.try_iter().for_each(drop);
        assert_eq!(heard.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn what_ends_in_time_is_not_spoken_of() {
        let (said, heard) = mpsc::channel();
        drop(Overdue::watch(Duration::from_secs(60), move |span| {
            let _ = said.send(span);
        }));
        assert_eq!(heard.recv(), Err(mpsc::RecvError));
    }
}
