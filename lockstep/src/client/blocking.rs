//! A session for callers that block, on any number of threads.
//!
//! ```no_run
//! use lockstep::client::{blocking, session::Settings};
//! use lockstep::runtime::config::{ClientConfig, Overrides};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // As `init` wrote it.
//! let config = ClientConfig::read("pair/client.toml".as_ref(), &Overrides::new())?;
//! let settings = Settings::new(config.pair, config.coservers, config.credentials);
//! let session = blocking::Session::open(settings)?;
//! let reply = session.request("get balance")?;
//! session.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! One thread of its own receives and keeps time; a caller's thread sends, and is woken once, by
//! the reply. All methods that wait panic when called from within an async task, where they
//! would stop everything else on its thread: use [`session`] there.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::client::SubmitError;
use crate::client::session::{self, CallError, CloseError, OpenError, Settings, Status};

/// A session with the pair. Clones share it.
///
/// When the last clone is dropped the session is closed in good order, which may block for
/// [`Settings::close_within`].
#[derive(Clone, Debug)]
pub struct Session {
    // In this order: the session ends before its thread does.
    session: session::Session,
    thread: Arc<Thread>,
}

/// A reply to come.
#[derive(Debug)]
#[must_use = "the reply comes when the ticket is waited for"]
pub struct PendingReply {
    ticket: session::PendingReply,
    thread: Arc<Thread>,
}

impl Session {
    /// Opens a session and starts its thread.
    ///
    /// # Errors
    /// As [`session::Session::open`]; also fails if no thread can be had.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let (session, thread) = Thread::start(settings)?;
        let thread = Arc::new(thread);
        Ok(Self { session, thread })
    }

    /// Asks something and waits for the reply; see [`session::Session::request`].
    ///
    /// # Errors
    /// Why there is no reply.
    pub fn request(&self, body: impl Into<Bytes>) -> Result<Bytes, CallError> {
        self.thread.wait(self.session.request(body))
    }

    /// As [`request`](Self::request), waiting no longer than this.
    ///
    /// # Errors
    /// Why there is no reply.
    pub fn request_within(
        &self,
        body: impl Into<Bytes>,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        self.thread.wait(self.session.request_within(body, patience))
    }

    /// Hands in a request, waiting for room only.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn submit(&self, body: impl Into<Bytes>) -> Result<PendingReply, SubmitError> {
        let ticket = self.thread.wait(self.session.submit(body))?;
        Ok(PendingReply { ticket, thread: Arc::clone(&self.thread) })
    }

    /// Hands in a request if there is room now. Does not block.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn try_submit(&self, body: impl Into<Bytes>) -> Result<PendingReply, SubmitError> {
        let ticket = self.session.try_submit(body)?;
        Ok(PendingReply { ticket, thread: Arc::clone(&self.thread) })
    }

    /// The session's state.
    pub fn status(&self) -> Status {
        self.session.status()
    }

    /// Closes the session; see [`session::Session::close`].
    ///
    /// # Errors
    /// If replies were still due, or the session had ended before.
    pub fn close(self) -> Result<(), CloseError> {
        let Self { session, thread } = self;
        thread.wait(session.close())
    }
}

impl PendingReply {
    /// Waits for the reply.
    ///
    /// # Errors
    /// Why there is none.
    pub fn wait(self) -> Result<Bytes, CallError> {
        self.thread.wait(self.ticket)
    }
}

/// Time beyond that for replies for a session's last words.
const GRACE: Duration = Duration::from_secs(2);

/// The thread that drives a session. Ends with the last who may wait for something.
#[derive(Debug)]
struct Thread {
    runtime: runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    fn start(settings: Settings) -> Result<(session::Session, Self), OpenError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(OpenError::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (give, opened) = crossbeam::channel::bounded(1);
        let thread = std::thread::Builder::new()
            .name("lockstep-client".into())
            .spawn(move || {
                runtime.block_on(run(settings, &give, stopped));
                // Not for a name that is still being looked up: a resolver may take for ever.
                runtime.shutdown_background();
            })
            .map_err(OpenError::Thread)?;
        let thread = Self { runtime: handle, stop: Some(stop), thread: Some(thread) };
        let session = opened.recv().unwrap_or(Err(OpenError::GivenUp))?;
        Ok((session, thread))
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// Opens a session, drives it until told to stop, and then, within a bound, to its end.
async fn run(
    settings: Settings,
    give: &crossbeam::channel::Sender<Result<session::Session, OpenError>>,
    stopped: oneshot::Receiver<()>,
) {
    let grace = settings.close_within + GRACE;
    let session = match session::Session::open(settings).await {
        Ok(session) => session,
        Err(error) => {
            let _ = give.send(Err(error));
            return;
        }
    };
    let watch = session.watch();
    let _ = give.send(Ok(session));
    let _ = stopped.await;
    let _ = tokio::time::timeout(grace, watch.ended()).await;
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
