//! Where the service is executed: in the loop, or on a thread of its own.

use std::task::{Context, Poll};
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver as Entries, Sender as ToThread};

use super::settings::Execution;
use crate::entry::Entry;
use crate::machine::StateMachine;
use crate::output::Executed;
use crate::sync::{Capacity, PushError, Receiver, mailbox};
use crate::unit::Unit;

/// Executes entries in order.
pub(super) enum Executor<S: StateMachine> {
    Inline(Box<Unit<S>>),
    Thread(ThreadExecutor),
}

/// The service on its own thread. The queues are as long as the window that the core keeps.
pub(super) struct ThreadExecutor {
    entries: ToThread<Entry>,
    results: Receiver<Executed>,
    thread: Option<JoinHandle<()>>,
}

/// The service's thread could not be started, or its queues would be too long.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// No thread.
    #[error("the service's thread cannot be started")]
    Thread(#[from] std::io::Error),
    /// No queue.
    #[error("the window is too long for the queue of the service's thread")]
    Queue(#[from] crate::sync::CapacityError),
}

impl<S: StateMachine> Executor<S> {
    pub(super) fn start(
        service: S,
        execution: Execution,
        window: usize,
    ) -> Result<Self, ExecutorError> {
        let unit = Unit::new(service);
        match execution {
            Execution::Inline => Ok(Self::Inline(Box::new(unit))),
            Execution::Thread => ThreadExecutor::start(unit, window).map(Self::Thread),
        }
    }

    /// Executes the entry, now or on the thread. `None` if the result comes later.
    pub(super) fn execute(&mut self, entry: Entry) -> Option<Executed> {
        match self {
            Self::Inline(unit) => Some(unit.execute(&entry)),
            Self::Thread(thread) => {
                // A thread that is gone panicked outside the service's steps; the results
                // that no longer come make the peer find this replica too slow.
                let _ = thread.entries.send(entry);
                None
            }
        }
    }

    /// The next result of the thread.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Executed> {
        match self {
            Self::Inline(_) => Poll::Pending,
            Self::Thread(thread) => match thread.results.poll_pop(cx) {
                Poll::Ready(Some(executed)) => Poll::Ready(executed),
                _ => Poll::Pending,
            },
        }
    }

    /// A result that is there already.
    pub(super) fn try_next(&mut self) -> Option<Executed> {
        match self {
            Self::Inline(_) => None,
            Self::Thread(thread) => thread.results.pop().ok(),
        }
    }
}

impl ThreadExecutor {
    fn start<S: StateMachine>(unit: Unit<S>, window: usize) -> Result<Self, ExecutorError> {
        let (entries, inbox) = channel::bounded(window);
        // Results are bounded by the entries under way; their bytes by the core's window.
        let capacity = Capacity::new(window, 1 << 39)?;
        let (outbox, results) = mailbox(capacity, |_: &Executed| 1);
        let thread = std::thread::Builder::new()
            .name("lockstep-service".into())
            .spawn(move || run(unit, &inbox, |executed| outbox.push_blocking(executed, None)))?;
        Ok(Self { entries, results, thread: Some(thread) })
    }
}

fn run<S: StateMachine>(
    mut unit: Unit<S>,
    entries: &Entries<Entry>,
    give: impl Fn(Executed) -> Result<(), PushError<Executed>>,
) {
    while let Ok(entry) = entries.recv() {
        if unit.has_panicked() {
            // Handed out before the panic was known; nothing after it is executed.
            continue;
        }
        if give(unit.execute(&entry)).is_err() {
            return;
        }
    }
}

impl Drop for ThreadExecutor {
    fn drop(&mut self) {
        let (closed, _) = channel::bounded(0);
        self.entries = closed;
        self.results.close();
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            // One that is inside a step is left behind: the process is about to end.
            let _ = thread.join();
        }
    }
}
