//! One client: a session, replaced when it is lost, and the calls made in it.
#![expect(clippy::disallowed_types, reason = "a client is outside the pair")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep::client::session::{CallError, OpenError, Session, Settings};
use lockstep::client::{RequestError, SubmitError};
use tokio::sync::mpsc;

use super::draw::Draw;
use super::{Plan, Stopwatch};
use crate::history::Call;
use crate::ops::{Answer, Op};

/// What all clients of a run share.
pub(super) struct Run {
    settings: Settings,
    plan: Plan,
    prefix: String,
    clock: Stopwatch,
    calls: Mutex<Option<mpsc::Sender<Call>>>,
    left: AtomicU64,
    stopped: AtomicBool,
    lost: AtomicU64,
    failed: Mutex<Option<OpenError>>,
}

impl Run {
    pub(super) fn new(
        settings: Settings,
        plan: &Plan,
        prefix: &str,
        clock: Stopwatch,
        calls: mpsc::Sender<Call>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            left: AtomicU64::new(plan.ops),
            plan: plan.clone(),
            prefix: prefix.to_owned(),
            clock,
            calls: Mutex::new(Some(calls)),
            stopped: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            failed: Mutex::new(None),
        })
    }

    /// Whether one more request is to be made.
    fn goes_on(&self) -> bool {
        let within = self.plan.within.unwrap_or(Duration::MAX);
        let one_less = |left: u64| left.checked_sub(1);
        !self.stopped.load(Ordering::Relaxed)
            && u128::from(self.clock.now()) < within.as_nanos()
            && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    /// Says that no more calls will come.
    pub(super) fn finish(&self) {
        lock(&self.calls).take();
    }

    /// How many sessions were replaced.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Why the run ended early, if it did.
    pub(super) fn failure(&self) -> Option<OpenError> {
        lock(&self.failed).take()
    }

    async fn report(&self, call: Call) {
        let calls = lock(&self.calls).clone();
        if let Some(calls) = calls {
            let _ = calls.send(call).await;
        }
    }
}

/// A client; its clones share the session.
#[derive(Clone)]
pub(super) struct Caller {
    run: Arc<Run>,
    draw: Arc<Mutex<Draw>>,
    session: Arc<tokio::sync::Mutex<(u64, Session)>>,
}

impl Caller {
    pub(super) fn new(run: &Arc<Run>, client: u64, session: Session) -> Self {
        let Plan { seed, mix, keys, .. } = run.plan;
        let draw = Draw::new(seed, client, mix, keys, &run.prefix);
        let slot = (id(&session), session);
        Self {
            run: Arc::clone(run),
            draw: Arc::new(Mutex::new(draw)),
            session: Arc::new(tokio::sync::Mutex::new(slot)),
        }
    }

    /// Makes requests, one at a time, until the run ends.
    pub(super) async fn run(self) {
        while self.run.goes_on() {
            let op = lock(&self.draw).next();
            self.ask(op).await;
            if !self.run.plan.pause.is_zero() {
                tokio::time::sleep(self.run.plan.pause).await;
            }
        }
    }

    /// Makes one request, and reports it; the answer, if one came.
    pub(super) async fn ask(&self, op: Op) -> Option<Answer> {
        let (session, handle) = self.session.lock().await.clone();
        let from = self.run.clock.now();
        let ticket = match handle.submit(op.encode()).await {
            Ok(ticket) => ticket,
            Err(SubmitError::Over) => {
                self.replace(session).await;
                return None;
            }
            Err(SubmitError::WindowFull | SubmitError::TooLong { .. }) => return None,
        };
        let number = ticket.number().0;
        let reply = ticket.await;
        let to = self.run.clock.now();
        let mut call = Call { session, number, from, to: None, op, answer: None, error: None };
        let lost = reply.as_ref().is_err_and(is_lost);
        match reply.map(|bytes| Answer::decode(&bytes)) {
            Ok(Ok(answer)) => {
                call.to = Some(to);
                call.answer = Some(answer);
            }
            Ok(Err(malformed)) => call.error = Some(format!("a malformed answer: {malformed}")),
            Err(error) => call.error = Some(text(&error)),
        }
        let answer = call.answer.clone();
        self.run.report(call).await;
        if lost {
            self.replace(session).await;
        }
        answer
    }

    /// Another session in place of the one that was lost, unless there is one already.
    async fn replace(&self, lost: u64) {
        let mut slot = self.session.lock().await;
        if slot.0 != lost || self.run.stopped.load(Ordering::Relaxed) {
            return;
        }
        self.run.lost.fetch_add(1, Ordering::Relaxed);
        match Session::open(self.run.settings.clone()).await {
            Ok(session) => *slot = (id(&session), session),
            Err(error) => {
                self.run.stopped.store(true, Ordering::Relaxed);
                lock(&self.run.failed).get_or_insert(error);
            }
        }
    }

    /// Closes the session.
    pub(super) async fn close(self) {
        let session = self.session.lock().await.1.clone();
        // One that is over, or whose last reply is late, ends by itself.
        let _ = session.close().await;
    }
}

fn id(session: &Session) -> u64 {
    session.id().map_or(0, |id| id.0)
}

fn is_lost(error: &CallError) -> bool {
    matches!(error, CallError::GivenUp | CallError::NoReply(RequestError::SessionOver(_)))
}

/// The error with its causes.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
