//! A session over QUIC, for async callers.
//!
//! ```no_run
//! use lockstep::client::session::{Session, Settings};
//!
//! # async fn example(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
//! let session = Session::open(settings).await?;
//! let reply = session.request("get balance").await?;
//! // Many at once: they take effect in the order in which they were submitted.
//! let first = session.submit("add 1").await?;
//! let second = session.submit("add 2").await?;
//! println!("{reply:?} {:?} {:?}", first.await?, second.await?);
//! session.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Which task does what
//!
//! [`Session::open`] spawns one task on the caller's runtime, which receives and keeps time.
//! A request is sent by its caller, on the spot; so a request and its reply wake that task once
//! and the caller once. On a current-thread runtime neither of them is a thread.

mod connections;
mod error;
mod settings;
mod shared;
mod status;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

pub use error::{CallError, CloseError, OpenError, Trouble, Troubles};
pub use settings::Settings;
pub use status::{PlaceStatus, Status};

use crate::client::{Client, SubmitError};
use crate::ids::{RequestNumber, SessionId};
use crate::runtime::clock::Clock;
use crate::runtime::entropy;
use connections::Connections;
use shared::Shared;

pub(super) use shared::End;

/// A session with the pair. Clones share it.
///
/// When the last clone is dropped the session is closed in the background: requests under way
/// have [`Settings::close_within`] for their replies.
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    /// Callers that found no room wait here, first come, first served.
    turn: tokio::sync::Mutex<()>,
    open_within: Duration,
    patience: Option<Duration>,
    close_within: Duration,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.begin_close(self.close_within);
    }
}

/// Ends the session if the task is dropped with its runtime.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Session {
    /// Begins to open a session. Requests are taken at once and sent when it is open. To be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub fn start(settings: Settings) -> Result<Self, OpenError> {
        let token = entropy::nonce()?;
        let clock = Clock::start();
        let core = Client::new(clock.mono(), settings.core, token, entropy::nonce()?.0);
        let (open_within, patience) = (settings.open_within, settings.patience);
        let close_within = settings.close_within;
        let shared = Shared::new(clock, core, Connections::new(settings));
        tokio::spawn(drive(Finish(Arc::clone(&shared))));
        let turn = tokio::sync::Mutex::new(());
        let handle = Handle { shared, turn, open_within, patience, close_within };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Opens a session. To be called within a tokio runtime.
    ///
    /// # Errors
    /// If neither CoServer will serve this client, or none did in
    /// [`Settings::open_within`]; with what is known of each.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let session = Self::start(settings)?;
        let within = session.handle.open_within;
        match tokio::time::timeout(within, session.opened()).await {
            Ok(opened) => opened.map(|()| session),
            Err(_) => {
                let troubles = session.troubles();
                session.abandon();
                Err(OpenError::TimedOut { within, troubles })
            }
        }
    }

    async fn opened(&self) -> Result<(), OpenError> {
        loop {
            let changed = self.shared().changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.shared().end() {
                Some((End::Over(Err(error)), _)) => return Err(OpenError::Session(error)),
                Some(_) => return Err(OpenError::GivenUp),
                None => {}
            }
            if self.id().is_some() {
                return Ok(());
            }
            let troubles = self.troubles();
            if troubles.are_lasting() {
                self.abandon();
                return Err(OpenError::Refused(troubles));
            }
            changed.await;
        }
    }

    /// Asks something; the reply comes once the request took effect, exactly once. Waits for
    /// room if as many requests are under way as may be.
    ///
    /// # Errors
    /// Why there is no reply; [`CallError::may_have_taken_effect`] says what that means.
    pub async fn request(&self, body: impl Into<Bytes>) -> Result<Bytes, CallError> {
        match self.handle.patience {
            Some(patience) => self.request_within(body, patience).await,
            None => self.submit(body).await?.await,
        }
    }

    /// As [`request`](Self::request), with a time of its own in place of
    /// [`Settings::patience`].
    ///
    /// # Errors
    /// As [`request`](Self::request); [`SubmitError::WindowFull`] if there was no room in time.
    pub async fn request_within(
        &self,
        body: impl Into<Bytes>,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let body = body.into();
        let until = tokio::time::Instant::now() + patience;
        let taken = match self.try_submit_within(body.clone(), Some(patience)) {
            Err(SubmitError::WindowFull) => {
                let room = self.wait_and_submit(body, || {
                    Some(until.saturating_duration_since(tokio::time::Instant::now()))
                });
                let late = |_| Err(SubmitError::WindowFull);
                tokio::time::timeout_at(until, room).await.unwrap_or_else(late)
            }
            taken => taken,
        };
        taken?.await
    }

    /// Hands in a request, waiting for room; its [`PendingReply`] is the reply to come. Dropping
    /// the ticket does not take the request back.
    ///
    /// # Errors
    /// [`SubmitError::TooLong`], or [`SubmitError::Over`].
    pub async fn submit(&self, body: impl Into<Bytes>) -> Result<PendingReply, SubmitError> {
        let body = body.into();
        match self.try_submit(body.clone()) {
            Err(SubmitError::WindowFull) => {
                self.wait_and_submit(body, || self.handle.patience).await
            }
            taken => taken,
        }
    }

    async fn wait_and_submit(
        &self,
        body: Bytes,
        patience: impl Fn() -> Option<Duration>,
    ) -> Result<PendingReply, SubmitError> {
        let _turn = self.handle.turn.lock().await;
        loop {
            match self.take(body.clone(), patience()) {
                Err(SubmitError::WindowFull) => self.shared().room.notified().await,
                taken => return taken,
            }
        }
    }

    /// Hands in a request if there is room now.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn try_submit(&self, body: impl Into<Bytes>) -> Result<PendingReply, SubmitError> {
        self.try_submit_within(body.into(), self.handle.patience)
    }

    fn try_submit_within(
        &self,
        body: Bytes,
        patience: Option<Duration>,
    ) -> Result<PendingReply, SubmitError> {
        // No caller overtakes those that wait.
        match self.handle.turn.try_lock() {
            Ok(_turn) => self.take(body, patience),
            Err(_) => Err(SubmitError::WindowFull),
        }
    }

    fn take(&self, body: Bytes, patience: Option<Duration>) -> Result<PendingReply, SubmitError> {
        let (number, reply) = self.shared().submit(body, patience)?;
        Ok(PendingReply { number, reply })
    }

    /// The session's id, while it is open.
    pub fn id(&self) -> Option<SessionId> {
        self.status().session
    }

    /// The session's state: which CoServer serves, and what is wrong where none does.
    pub fn status(&self) -> Status {
        self.shared().status()
    }

    /// Takes no more requests, waits for the replies under way, at most for
    /// [`Settings::close_within`], and tells the pair that the session is not needed any more.
    /// Closes it for all clones.
    ///
    /// # Errors
    /// If replies were still due, or the session had ended before.
    pub async fn close(self) -> Result<(), CloseError> {
        self.shared().begin_close(self.handle.close_within);
        match self.watch().ended().await {
            End::Over(how) => how.map_err(CloseError::Session),
            End::Late => Err(CloseError::TimedOut),
            End::Dropped => Err(CloseError::GivenUp),
        }
    }

    /// Watches for the session's end without keeping the session from being dropped.
    pub(super) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.handle.shared))
    }

    fn abandon(&self) {
        self.shared().begin_close(Duration::ZERO);
    }

    fn troubles(&self) -> Troubles {
        Troubles::new(self.status().places.map(|place| match place {
            PlaceStatus::Away { trouble } => trouble,
            PlaceStatus::Serving { .. } => None,
        }))
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Sees a session's end.
pub(super) struct Watch(Arc<Shared>);

impl Watch {
    /// Waits until the session is over and its last words have been said.
    pub(super) async fn ended(&self) -> End {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.0.end() {
                Some((end, true)) => return end,
                _ => changed.await,
            }
        }
    }
}

async fn drive(finish: Finish) {
    let shared = &finish.0;
    let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| shared.poll(cx, &mut sleep)).await;
    if let Some(connections) = shared.take_lanes() {
        connections.shutdown().await;
    }
}

/// A reply to come.
#[derive(Debug)]
#[must_use = "the reply comes when the ticket is awaited"]
pub struct PendingReply {
    number: RequestNumber,
    reply: oneshot::Receiver<Result<Bytes, CallError>>,
}

impl PendingReply {
    /// The request's number in its session.
    pub fn number(&self) -> RequestNumber {
        self.number
    }
}

impl Future for PendingReply {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(Pin::new(&mut self.reply).poll(cx));
        Poll::Ready(reply.unwrap_or(Err(CallError::GivenUp)))
    }
}

#[cfg(test)]
mod tests;
