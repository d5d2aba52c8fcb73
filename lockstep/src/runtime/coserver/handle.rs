//! A running CoServer seen from elsewhere in its process.

use tokio::sync::oneshot;

use super::metrics::MetricsSnapshot;
use crate::proto::{Command, HandOverRefused, ReadmitRefused, Status};
use crate::sync::{
    Capacity, CapacityError, Receiver, Sender, Watermark, WatermarkWriter, mailbox, watermark,
};

/// Questions and commands that wait for the loop; one more is refused.
const WAITING: usize = 256;

/// Asks a running CoServer. Cheap to clone, for any thread or task.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Sender<Request>,
    released: Watermark,
}

/// The CoServer has ended, or too many already wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the CoServer has ended, or too many questions to it wait already")]
pub struct Unanswered;

#[derive(Debug)]
pub(super) enum Request {
    Status(oneshot::Sender<Status>),
    Metrics(oneshot::Sender<Box<MetricsSnapshot>>),
    Command(Command),
    HandOver(oneshot::Sender<Result<(), HandOverRefused>>),
    Readmit(oneshot::Sender<Result<usize, ReadmitRefused>>),
    /// Keys, or what is said of them, were replaced.
    Repinned,
}

/// The loop's end of a [`Handle`].
#[derive(Debug)]
pub(super) struct Handled {
    pub(super) requests: Receiver<Request>,
    /// The last entry whose outputs were released.
    pub(super) released: WatermarkWriter,
}

pub(super) fn handle() -> Result<(Handle, Handled), CapacityError> {
    let (sender, requests) = mailbox(Capacity::new(WAITING, WAITING as u64)?, |_: &Request| 1);
    let (writer, released) = watermark(0);
    Ok((Handle { requests: sender, released }, Handled { requests, released: writer }))
}

impl Handle {
    /// The replica's state at a glance.
    ///
    /// # Errors
    /// If the CoServer's loop has ended.
    pub async fn status(&self) -> Result<Status, Unanswered> {
        let (answer, status) = oneshot::channel();
        self.push(Request::Status(answer))?;
        status.await.map_err(|_| Unanswered)
    }

    /// Counters and latencies since the start.
    ///
    /// # Errors
    /// If the CoServer's loop has ended.
    pub async fn metrics(&self) -> Result<Box<MetricsSnapshot>, Unanswered> {
        let (answer, metrics) = oneshot::channel();
        self.push(Request::Metrics(answer))?;
        metrics.await.map_err(|_| Unanswered)
    }

    /// The index of the last entry whose outputs were released here: what any client may have seen.
    /// The index grows, and is closed when the CoServer has ended. To look at it, or to wait for an
    /// entry, asks nothing of the loop.
    pub fn released(&self) -> &Watermark {
        &self.released
    }

    /// Gives a command, which is carried out soon after.
    ///
    /// # Errors
    /// If the CoServer's loop has ended.
    pub fn command(&self, command: Command) -> Result<(), Unanswered> {
        self.push(Request::Command(command))
    }

    /// Has the sequencer role given to the other CoServer. The hand-over is under way when this
    /// returns, and done with the event `handed_over`.
    ///
    /// # Errors
    /// If the CoServer's loop has ended; and why the role is not handed over.
    pub async fn hand_over(&self) -> Result<Result<(), HandOverRefused>, Unanswered> {
        let (answer, done) = oneshot::channel();
        self.push(Request::HandOver(answer))?;
        done.await.map_err(|_| Unanswered)
    }

    /// Has processes at the other place taken in again that are held for repair. What was counted
    /// against them is forgotten when this returns: how many times one had computed something else.
    ///
    /// # Errors
    /// If the CoServer's loop has ended; and why there is nothing to readmit.
    pub async fn readmit(&self) -> Result<Result<usize, ReadmitRefused>, Unanswered> {
        let (answer, done) = oneshot::channel();
        self.push(Request::Readmit(answer))?;
        done.await.map_err(|_| Unanswered)
    }

    /// Has connections closed whose key is not pinned any more, or has more than it may now.
    ///
    /// # Errors
    /// If the CoServer's loop has ended.
    pub fn repinned(&self) -> Result<(), Unanswered> {
        self.push(Request::Repinned)
    }

    fn push(&self, request: Request) -> Result<(), Unanswered> {
        self.requests.try_push(request).map_err(|_| Unanswered)
    }
}
