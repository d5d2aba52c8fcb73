//! What the handles of a session and the task that drives it share.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Sleep;

use super::connections::Connections;
use super::error::{CallError, Trouble};
use super::status::{PlaceStatus, Status};
use crate::client::io::{Event, Input, Output};
use crate::client::{Client, SessionError, SubmitError};
use crate::ids::{Epoch, MonotonicTime, ReplicaId, RequestNumber};
use crate::runtime::clock::Clock;

#[expect(clippy::disallowed_types, reason = "callers may be on any thread")]
type Mutex<T> = std::sync::Mutex<T>;

/// Where a request's outcome goes.
pub(super) type Outcome = oneshot::Sender<Result<Bytes, CallError>>;

/// The session, behind a lock that is held for the handling of one event or request and never
/// while anybody waits.
pub(super) struct Shared {
    state: Mutex<State>,
    /// There may be room for one more request.
    pub(super) room: Notify,
    /// Something happened that [`Session::open`](super::Session::open) or
    /// [`Session::close`](super::Session::close) may wait for.
    pub(super) changed: Notify,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum End {
    /// The core says so.
    Over(Result<(), SessionError>),
    /// Replies were still due when the time for closing was over.
    Late,
    /// No task drives the session any more.
    Dropped,
}

pub(super) struct State {
    clock: Clock,
    core: Client,
    /// `None` once the session has ended.
    connections: Option<Connections>,
    waiting: BTreeMap<RequestNumber, Outcome>,
    /// Outcomes to be handed out when the lock is free.
    done: Vec<(Outcome, Result<Bytes, CallError>)>,
    /// What the core wants and only the driving task can do.
    deferred: VecDeque<Output>,
    /// What the core has yet to be told.
    untold: VecDeque<Input>,
    serving: [Option<Epoch>; 2],
    end: Option<End>,
    /// The driving task has ended too.
    finished: bool,
    /// The session is being closed, until then at most.
    close_by: Option<MonotonicTime>,
    driver: Option<Waker>,
    /// When the driving task will look at the time.
    armed: Option<MonotonicTime>,
    news: bool,
}

impl Shared {
    pub(super) fn new(clock: Clock, core: Client, connections: Connections) -> Arc<Self> {
        let state = State {
            clock,
            core,
            connections: Some(connections),
            waiting: BTreeMap::new(),
            done: Vec::new(),
            deferred: VecDeque::new(),
            untold: VecDeque::new(),
            serving: [None; 2],
            end: None,
            finished: false,
            close_by: None,
            driver: None,
            armed: None,
            news: false,
        };
        let (room, changed) = (Notify::new(), Notify::new());
        Arc::new(Self { state: Mutex::new(state), room, changed })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is the core's finding that its own state is wrong; the next caller
        // finds the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request and sends it from here, so that the driving task need not wake for it.
    pub(super) fn submit(
        &self,
        body: Bytes,
        patience: Option<Duration>,
    ) -> Result<(RequestNumber, oneshot::Receiver<Result<Bytes, CallError>>), SubmitError> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Err(SubmitError::Over);
        }
        let now = state.clock.mono();
        let number = state.core.submit(now, body, patience)?;
        let (outcome, reply) = oneshot::channel();
        state.waiting.insert(number, outcome);
        // What is asked while something else is under way shares frames with what follows at once.
        let at_once = state.waiting.len() == 1;
        state.send_what_can_be(at_once);
        Ok((number, reply))
    }

    /// Takes no more requests; those under way have until then.
    pub(super) fn begin_close(&self, within: Duration) {
        let mut state = self.lock();
        if state.end.is_some() || state.close_by.is_some() {
            return;
        }
        let now = state.clock.mono();
        state.close_by = Some(now.plus(within));
        state.core.close(now);
        state.send_what_can_be(true);
        state.wake_driver();
    }

    pub(super) fn status(&self) -> Status {
        let state = self.lock();
        let troubles = state.connections.as_ref().map(Connections::troubles).unwrap_or_default();
        let places = ReplicaId::BOTH.map(|place| match state.serving[place.slot()] {
            Some(epoch) => PlaceStatus::Serving { epoch },
            None => PlaceStatus::Away { trouble: troubles.of(place).cloned() },
        });
        Status {
            session: state.core.session(),
            over: state.end.is_some(),
            places,
            waiting: state.waiting.len(),
            counters: state.core.counters(),
        }
    }

    /// How the session ended, if it has, and whether the driving task has ended too.
    pub(super) fn end(&self) -> Option<(End, bool)> {
        let state = self.lock();
        state.end.map(|end| (end, state.finished))
    }

    /// Has the driving task's part done. Ready when the session has ended.
    pub(super) fn poll(&self, cx: &mut Context<'_>, sleep: &mut Pin<Box<Sleep>>) -> Poll<()> {
        let mut state = self.lock();
        let answered = state.core.counters().answered;
        let ended = state.poll(cx, sleep);
        let room = ended.is_ready() || state.core.counters().answered != answered;
        let news = core::mem::take(&mut state.news) || ended.is_ready();
        let done = core::mem::take(&mut state.done);
        drop(state);
        for (outcome, result) in done {
            // A caller that is gone does not care.
            let _ = outcome.send(result);
        }
        if room {
            self.room.notify_one();
        }
        if news {
            self.changed.notify_waiters();
        }
        ended
    }

    /// The connections, for the last words.
    pub(super) fn take_lanes(&self) -> Option<Connections> {
        self.lock().connections.take()
    }

    /// The driving task is ending, in good order or because it is dropped.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.end.get_or_insert(End::Dropped);
        state.finished = true;
        state.serving = [None; 2];
        let connections = state.connections.take();
        let waiting = core::mem::take(&mut state.waiting);
        drop(state);
        drop((connections, waiting));
        self.room.notify_one();
        self.changed.notify_waiters();
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>, sleep: &mut Pin<Box<Sleep>>) -> Poll<()> {
        if !self.driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
        loop {
            self.carry_out();
            self.take_events(cx);
            self.flush();
            if !self.untold.is_empty() {
                continue;
            }
            if self.end.is_none() && self.close_by.is_some_and(|at| at <= self.clock.mono()) {
                self.end = Some(End::Late);
            }
            if self.end.is_some() {
                return Poll::Ready(());
            }
            self.arm(sleep);
            if self.armed.is_none() || sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
            self.look_for_signs();
            self.core.handle(self.clock.mono(), Input::Timeout);
        }
    }

    /// Takes what has come over the network, and sends what follows from it in one go.
    fn take_events(&mut self, cx: &mut Context<'_>) {
        while let Some(connections) = &mut self.connections {
            let Poll::Ready(event) = connections.network().poll_next(cx) else { return };
            connections.on_event(event, &mut self.untold);
            self.carry_out();
        }
    }

    /// Tells the core which connections are alive, before it looks at the time.
    fn look_for_signs(&mut self) {
        for place in ReplicaId::BOTH {
            if let Some(heard) =
                self.connections.as_mut().and_then(|connections| connections.heard(place))
            {
                self.tell(heard);
            }
        }
    }

    fn tell(&mut self, input: Input) {
        if let Input::Down { place } = input {
            self.serving[place.slot()] = None;
            self.news = true;
        }
        self.core.handle(self.clock.mono(), input);
    }

    fn arm(&mut self, sleep: &mut Pin<Box<Sleep>>) {
        let due = self.core.next_timeout().into_iter().chain(self.close_by).min();
        // One that is too early costs a look; moving it with every request would cost more.
        if let Some(due) = due
            && self.armed.is_none_or(|armed| due < armed)
        {
            self.armed = Some(due);
            sleep.as_mut().reset(self.clock.instant(due).into());
        }
    }

    /// Does everything that the core wants. To be called within a tokio runtime.
    fn carry_out(&mut self) {
        let mut ending = Vec::new();
        loop {
            while let Some(output) = self.deferred.pop_front().or_else(|| self.core.poll()) {
                self.carry_out_one(output, &mut ending);
            }
            if self.end.is_none() && !ending.is_empty() {
                self.flush();
                // Where the session ends the connections stay for its last words.
                let connections = self.connections.iter_mut();
                self.untold.extend(connections.flat_map(|connections| {
                    ending.drain(..).map(|place| connections.disconnect(place)).collect::<Vec<_>>()
                }));
            }
            let Some(input) = self.untold.pop_front() else { return };
            self.tell(input);
        }
    }

    fn carry_out_one(&mut self, output: Output, ending: &mut Vec<ReplicaId>) {
        let Some(connections) = &mut self.connections else { return };
        match output {
            Output::Connect { place } => self.untold.extend(connections.connect(place)),
            Output::Disconnect { place } => ending.push(place),
            Output::Probe { place } => connections.probe(place),
            Output::Send { place, call } => self.untold.extend(connections.send(place, call)),
            Output::Reply { number, result } => {
                if let Some(outcome) = self.waiting.remove(&number) {
                    self.done.push((outcome, result.map_err(CallError::NoReply)));
                }
            }
            Output::Over(how) => {
                log_over(how);
                self.end = Some(End::Over(how));
            }
            Output::Event(event) => self.on_event(event),
        }
    }

    fn on_event(&mut self, event: Event) {
        self.news = true;
        let trouble = match event {
            Event::Lost { place } => {
                self.serving[place.slot()] = None;
                None
            }
            Event::Welcomed { place, epoch } => {
                self.serving[place.slot()] = Some(epoch);
                None
            }
            Event::Refused { place, reason } | Event::Deferred { place, reason } => {
                Some((place, Trouble::Refused(reason)))
            }
            Event::Unanswered { place } => Some((place, Trouble::Unanswered)),
            _ => None,
        };
        if let (Some(connections), Some((place, trouble))) = (&mut self.connections, trouble) {
            self.serving[place.slot()] = None;
            connections.note(place, Some(trouble));
        }
        log(event, self.serving.iter().flatten().count());
    }

    /// Does of what the core wants what can be done on any thread, and leaves the rest to the
    /// driving task: what is gathered for the next frames too, unless it is to go at once.
    fn send_what_can_be(&mut self, at_once: bool) {
        while let Some(output) = self.core.poll() {
            match (output, &mut self.connections) {
                (Output::Send { place, call }, Some(connections)) => {
                    self.untold.extend(connections.send(place, call));
                }
                (output, _) => self.deferred.push_back(output),
            }
        }
        if at_once {
            self.flush();
        }
        let earlier = match (self.core.next_timeout(), self.armed) {
            (Some(due), Some(armed)) => due < armed,
            (due, None) => due.is_some(),
            (None, Some(_)) => false,
        };
        if !at_once || earlier || !self.deferred.is_empty() || !self.untold.is_empty() {
            self.wake_driver();
        }
    }

    /// Sends what was gathered for the next frames.
    fn flush(&mut self) {
        if let Some(connections) = &mut self.connections {
            self.untold.extend(connections.flush().into_iter().flatten());
        }
    }

    fn wake_driver(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }
}

fn log(event: Event, serving: usize) {
    match event {
        Event::Opened { session } => tracing::info!(event = "session_opened", session = session.0),
        Event::Welcomed { place, epoch } => {
            tracing::info!(event = "coserver_serves", %place, epoch = epoch.0, serving);
        }
        Event::Deferred { place, reason } => {
            tracing::info!(event = "coserver_not_yet", %place, %reason, serving);
        }
        Event::Back { place } => tracing::debug!(event = "coserver_back", %place),
        Event::Refused { place, reason } => {
            tracing::warn!(event = "coserver_refused", %place, %reason, serving);
        }
        Event::Unanswered { place } => {
            tracing::warn!(event = "coserver_unanswered", %place, serving);
        }
        Event::Lost { place } => tracing::warn!(event = "coserver_lost", %place, serving),
        Event::Resent { requests } => tracing::warn!(event = "requests_resent", requests, serving),
    }
}

fn log_over(how: Result<(), SessionError>) {
    match how {
        Ok(()) => tracing::info!(event = "session_closed"),
        Err(error) => tracing::error!(event = "session_lost", %error),
    }
}
