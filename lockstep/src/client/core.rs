//! A session with the pair, without I/O.
//!
//! # Driving it
//! Call [`Client::handle`], [`Client::submit`] and [`Client::close`] in any order; after each, take
//! [`Client::poll`]'s outputs until there are none, and come back with [`Input::Timeout`] at
//! [`Client::next_timeout`]. Frames must be sent in the order in which they are given, on the
//! connection that is up at that time. A driver whose queue for a connection is full ends the
//! connection and says [`Input::Down`] rather than leave frames out.
//!
//! # How a request takes effect exactly once
//! It goes to both CoServers, which order it once or twice; the session's state in the log
//! executes it the first time and repeats the stored reply after that. The first reply counts
//! here, later copies are dropped. A request is kept until its reply is there, and sent again to
//! every CoServer that newly serves, after the other connection broke, and after a silence. All
//! of it is harmless, because a repeated request is answered from the stored reply for as long as
//! `lowest` does not pass its number.
//!
//! A session in which nothing was asked ends before long (rule C6), and sooner where all are taken
//! (C9). Before the first request of one that may be over it is asked for again: nothing was asked
//! there, so nothing can be asked twice.
//!
//! # How it finds a CoServer that serves
//! A connected CoServer says when the other one is back, and one that starts keeps its connection
//! until it serves. So the session usually has both before it needs them. Where that failed there
//! is the silence (rule C8). While something is unanswered the session dials a CoServer that it has
//! no connection to, and probes one that it has a connection to. A CoServer that reacts to no probe
//! is dialled beside the connection, which stands until another is up. Only a probe tells a service
//! that takes long from one that is dead.

mod waiting;

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use crate::client::error::{RequestError, SessionError, SubmitError};
use crate::client::io::{Config, Counters, Event, Input, Output, PROTOCOL};
use crate::client::jitter::Jitter;
use crate::client::place::{Connection, Stage};
use crate::client::room::Room;
use crate::client::window::Window;
use crate::ids::{Epoch, Incarnation, MonotonicTime, Nonce, ReplicaId, RequestNumber, SessionId};
use crate::limits;
use crate::output::Refusal;
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};

/// A client's session: decides what to send to which CoServer, and does no I/O.
#[derive(Debug)]
pub struct Client {
    config: Config,
    token: Nonce,
    state: State,
    window: Window,
    places: [Connection; 2],
    /// When the session was first asked for, or asked for again.
    asked: Option<MonotonicTime>,
    /// When everything unanswered is sent again, and how long after that once more.
    resend_at: Option<MonotonicTime>,
    resend_after: Duration,
    /// When silence is acted upon, and how long after that once more.
    silent_at: Option<MonotonicTime>,
    silent_after: Duration,
    jitter: Jitter,
    /// Until then no request is given up.
    deadline: Option<MonotonicTime>,
    /// How much of the window the pair has room for.
    room: Room,
    outputs: VecDeque<Output>,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A session is asked for.
    Opening { closing: bool },
    /// Requests are sent. When closing, no more are taken, and the session ends with the
    /// last reply.
    Open { session: SessionId, closing: bool },
    /// Nothing more is sent.
    Over,
}

impl Client {
    /// Silence is never judged more often, whatever the configuration says.
    const LEAST: Duration = Duration::from_millis(1);

    /// A session that is opened as soon as a CoServer serves.
    ///
    /// `token` is its secret mark: random, from the system's entropy, not zero, never used twice.
    /// `seed` spreads its waiting times, and is better different for each session too. Requests
    /// can be submitted at once.
    ///
    /// # Panics
    /// If the mark is zero.
    pub fn new(now: MonotonicTime, config: Config, token: Nonce, seed: u64) -> Self {
        assert!(token != Nonce(0), "a session's mark is random and not zero");
        let window = Window::new(
            config.window.clamp(1, limits::SESSION_REPLIES),
            config.window_bytes.max(limits::INPUT_BYTES),
        );
        let connection = || Connection::new(now, config.redial, config.redial_longest);
        let mut client = Self {
            config,
            token,
            state: State::Opening { closing: false },
            window,
            places: [connection(), connection()],
            asked: None,
            resend_at: None,
            resend_after: config.resend,
            silent_at: None,
            silent_after: config.silence,
            jitter: Jitter::new(seed),
            deadline: None,
            room: Room::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        };
        client.arm_silence(now);
        client.on_time(now);
        client
    }

    /// Takes one input. See the [module](self) for what has to follow.
    pub fn handle(&mut self, now: MonotonicTime, input: Input) {
        match input {
            Input::Timeout => {}
            Input::Up { place } => self.on_up(now, place),
            Input::Down { place } => self.on_down(now, place),
            Input::Heard { place } => self.at(place).unheard = None,
            Input::Answer { place, answer } => self.on_answer(now, place, answer),
        }
        self.on_time(now);
        self.check_invariants();
    }

    /// Takes a request and sends it to every CoServer that serves. The outcome comes as
    /// [`Output::Reply`] with this number; after `patience` it is [`RequestError::TimedOut`].
    ///
    /// # Errors
    /// [`SubmitError`]; then the request was not taken, and will not take effect.
    pub fn submit(
        &mut self,
        now: MonotonicTime,
        body: Bytes,
        patience: Option<Duration>,
    ) -> Result<RequestNumber, SubmitError> {
        let (len, limit) = (body.len(), limits::INPUT_BYTES);
        if len > limit {
            return Err(SubmitError::TooLong { len, limit });
        }
        if !self.takes_requests() {
            return Err(SubmitError::Over);
        }
        if !self.window.has_room(len) {
            return Err(SubmitError::WindowFull);
        }
        let deadline = patience.map(|patience| now.plus(patience));
        self.deadline = self.deadline.or(deadline).min(deadline.or(self.deadline));
        let number = self.window.push(body, deadline);
        self.counters.submitted += 1;
        if self.may_be_over(now) {
            self.ask_again(now);
        } else {
            self.send_waiting();
        }
        self.arm_resend(now);
        self.arm_silence(now);
        self.check_invariants();
        Ok(number)
    }

    /// Takes no more requests, and ends the session when those under way have their replies.
    pub fn close(&mut self, now: MonotonicTime) {
        match &mut self.state {
            State::Opening { closing } | State::Open { closing, .. } => *closing = true,
            State::Over => {}
        }
        self.end_if_done();
        self.on_time(now);
        self.check_invariants();
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with [`Input::Timeout`], if nothing else happens.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        let places = self.places.iter().filter_map(Connection::timeout);
        let resend = self.resend_at.filter(|_| self.serving() > 0);
        if self.state == State::Over {
            return None;
        }
        places.chain(resend).chain(self.silent_at).chain(self.deadline).min()
    }

    /// Whether a request of this length would be taken now.
    pub fn has_room(&self, len: usize) -> bool {
        self.takes_requests() && len <= limits::INPUT_BYTES && self.window.has_room(len)
    }

    /// The session's id, once it is open.
    pub fn session(&self) -> Option<SessionId> {
        match self.state {
            State::Open { session, .. } => Some(session),
            State::Opening { .. } | State::Over => None,
        }
    }

    /// What the session has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn takes_requests(&self) -> bool {
        matches!(self.state, State::Opening { closing: false } | State::Open { closing: false, .. })
    }

    fn on_up(&mut self, now: MonotonicTime, place: ReplicaId) {
        let stood = match self.at(place).stage {
            Stage::Waiting { .. } | Stage::Ending => return,
            Stage::Dialling { .. } | Stage::Greeting { .. } | Stage::Deferred { .. } => false,
            Stage::Welcomed { .. } => true,
        };
        let until = now.plus(self.config.greeting);
        self.at(place).greet(until);
        if stood {
            // A new connection has taken the place of one that nothing came on any more.
            self.outputs.push_back(Output::Event(Event::Lost { place }));
            self.on_last_one_left(now, place.other());
        }
        self.send_hello(place);
    }

    fn send_hello(&mut self, place: ReplicaId) {
        let call = ClientCall::Hello { pair: self.config.pair, protocol: PROTOCOL };
        self.outputs.push_back(Output::Send { place, call });
    }

    fn on_down(&mut self, now: MonotonicTime, place: ReplicaId) {
        if matches!(self.at(place).stage, Stage::Waiting { .. }) {
            return;
        }
        let served = self.at(place).is_welcomed();
        let most = match self.is_owed() {
            true => self.config.silence_longest,
            false => self.config.redial_longest,
        };
        self.places[place.slot()].lost(now, most, &mut self.jitter);
        if served {
            self.outputs.push_back(Output::Event(Event::Lost { place }));
            self.on_last_one_left(now, place.other());
        }
    }

    /// The other CoServer may have had requests that this one waits to see ordered, or that it
    /// was not given yet: it must not wait for them now.
    fn on_last_one_left(&mut self, now: MonotonicTime, place: ReplicaId) {
        if self.at(place).is_welcomed() {
            self.send_all(now, place, true);
        }
    }

    fn on_answer(&mut self, now: MonotonicTime, place: ReplicaId, answer: ClientAnswer) {
        self.at(place).unheard = None;
        match (answer, self.at(place).stage) {
            (
                ClientAnswer::Welcome { incarnation, epoch, .. },
                Stage::Greeting { .. } | Stage::Deferred { .. },
            ) => self.on_welcome(now, place, incarnation, epoch),
            (ClientAnswer::NotYet { incarnation, reason }, Stage::Greeting { .. }) => {
                self.at(place).stage = Stage::Deferred { with: incarnation };
                self.outputs.push_back(Output::Event(Event::Deferred { place, reason }));
            }
            (ClientAnswer::PeerBack { place: back, incarnation }, Stage::Welcomed { .. })
                if back != place =>
            {
                self.on_back(now, back, incarnation);
            }
            (
                ClientAnswer::Refused { reason },
                Stage::Greeting { .. } | Stage::Deferred { .. } | Stage::Welcomed { .. },
            ) => self.on_refused(now, place, reason),
            (ClientAnswer::Opened { token, result }, Stage::Welcomed { .. })
                if token == self.token =>
            {
                self.on_opened(now, result);
            }
            (ClientAnswer::Reply { session, number, result }, Stage::Welcomed { .. })
                if self.session() == Some(session) =>
            {
                self.on_reply(now, place, number, result);
            }
            // The frame is late, repeated, or of another session.
            _ => {}
        }
    }

    fn on_welcome(
        &mut self,
        now: MonotonicTime,
        place: ReplicaId,
        with: Incarnation,
        epoch: Epoch,
    ) {
        self.at(place).welcome(with);
        self.outputs.push_back(Output::Event(Event::Welcomed { place, epoch }));
        if self.may_be_over(now) && !self.window.is_empty() {
            return self.ask_again(now);
        }
        let alone = self.serving() == 1;
        // A session that the other CoServer was already asked for would only be opened twice.
        if alone || self.session().is_some() {
            self.send_all(now, place, alone);
        }
    }

    /// That process is there, or on its way (rule C7).
    fn on_back(&mut self, now: MonotonicTime, place: ReplicaId, incarnation: Incarnation) {
        self.outputs.push_back(Output::Event(Event::Back { place }));
        let soon = now.plus(self.jitter.about(self.config.redial));
        let connection = self.at(place);
        connection.expect_soon();
        match connection.stage {
            Stage::Waiting { until } => {
                connection.stage = Stage::Waiting { until: until.min(soon) }
            }
            Stage::Dialling { .. } => self.dial_again(now, place),
            Stage::Deferred { with } | Stage::Welcomed { with, .. } if with != incarnation => {
                self.give_up(now, place);
            }
            _ => {}
        }
    }

    /// The other end of this connection is gone for certain.
    fn give_up(&mut self, now: MonotonicTime, place: ReplicaId) {
        let served = self.at(place).is_welcomed();
        self.at(place).stage = Stage::Ending;
        self.outputs.push_back(Output::Disconnect { place });
        if served {
            self.outputs.push_back(Output::Event(Event::Lost { place }));
            self.on_last_one_left(now, place.other());
        }
    }

    fn on_refused(&mut self, now: MonotonicTime, place: ReplicaId, reason: ClientRefusal) {
        let served = self.at(place).is_welcomed();
        self.at(place).refused = true;
        match reason {
            ClientRefusal::Starting | ClientRefusal::Holding | ClientRefusal::Busy => {}
            ClientRefusal::Removed
            | ClientRefusal::WrongPair
            | ClientRefusal::Version
            | ClientRefusal::Protocol => self.at(place).expect_nothing_soon(),
        }
        self.at(place).stage = Stage::Ending;
        self.outputs.push_back(Output::Disconnect { place });
        self.outputs.push_back(Output::Event(Event::Refused { place, reason }));
        if served {
            self.on_last_one_left(now, place.other());
        }
    }

    fn on_opened(&mut self, now: MonotonicTime, result: Result<SessionId, Refusal>) {
        let State::Opening { closing } = self.state else {
            return;
        };
        match result {
            Err(refusal) => self.end(Err(SessionError::NotOpened(refusal))),
            Ok(session) => {
                self.state = State::Open { session, closing };
                self.outputs.push_back(Output::Event(Event::Opened { session }));
                self.on_progress(now);
                self.send_waiting();
                self.end_if_done();
            }
        }
    }

    /// Whether the pair may have ended the session because nothing was asked in it. What was never
    /// sent cannot be asked twice.
    fn may_be_over(&self, now: MonotonicTime) -> bool {
        let is_unused = self.counters.sent == 0 && self.session().is_some();
        is_unused
            && self.asked.is_some_and(|asked| now.since(asked) >= self.config.reopen_unused_after)
    }

    /// Asks for the session as if there was none.
    fn ask_again(&mut self, now: MonotonicTime) {
        self.state = State::Opening { closing: false };
        self.asked = None;
        self.places.iter_mut().for_each(|connection| connection.asked_to_open = false);
        let alone = self.serving() == 1;
        let serves = ReplicaId::BOTH.into_iter().find(|place| self.at(*place).is_welcomed());
        if let Some(place) = serves {
            self.send_all(now, place, alone);
        }
    }

    fn on_reply(
        &mut self,
        now: MonotonicTime,
        place: ReplicaId,
        number: RequestNumber,
        result: Result<Bytes, Refusal>,
    ) {
        let Some(sent_with) = self.window.get(number).map(|pending| pending.sent_with) else {
            self.counters.dropped += 1;
            return;
        };
        match result {
            Ok(bytes) => self.on_outcome(now, number, Ok(bytes)),
            Err(Refusal::ReplyTooLarge) => {
                self.on_outcome(now, number, Err(RequestError::ReplyTooLong));
            }
            Err(Refusal::Gap { expected }) => self.on_gap(place, expected),
            Err(Refusal::ReadOnly) => {
                self.on_outcome(now, number, Err(RequestError::ReadOnly));
            }
            Err(Refusal::TooManyReplies) => {
                self.room.refused(number, sent_with);
                self.send_waiting();
            }
            Err(Refusal::UnknownSession) => self.end(Err(SessionError::Expired)),
            Err(refusal @ (Refusal::Forgotten | Refusal::TooManySessions)) => {
                self.end(Err(SessionError::Contradiction(refusal)));
            }
        }
    }

    fn on_outcome(
        &mut self,
        now: MonotonicTime,
        number: RequestNumber,
        result: Result<Bytes, RequestError>,
    ) {
        if let Some(pending) = self.window.take(number) {
            self.counters.answered += 1;
            self.room.answered(self.config.window as u64);
            if !pending.given_up {
                self.outputs.push_back(Output::Reply { number, result });
            }
        }
        self.on_progress(now);
        self.send_waiting();
        self.end_if_done();
    }

    /// Sends what waits, as far as the pair has room for it.
    fn send_waiting(&mut self) {
        let lowest = self.window.lowest();
        let first = self.window.from_mut(self.room.waiting()).next();
        let first = first.map(|(number, pending)| (number, pending.sent_with));
        let end = self.room.end(lowest);
        let Some((first, sent_with)) = first.filter(|(number, _)| *number < end) else { return };
        // Sent since the lowest last changed, it would come to the same again.
        if self.session().is_none() || sent_with >= lowest {
            return;
        }
        let was_refused = sent_with > RequestNumber(0);
        let alone = was_refused || self.serving() == 1;
        for place in ReplicaId::BOTH {
            self.send_from(place, first, alone);
        }
    }

    /// A request overtook one that was lost on the way: that one, and all after it, again.
    fn on_gap(&mut self, place: ReplicaId, expected: RequestNumber) {
        let Stage::Welcomed { gap, .. } = &mut self.at(place).stage else {
            return;
        };
        // What the log expects only grows: a lower number is an old report.
        if gap.is_some_and(|before| expected <= before) {
            return;
        }
        *gap = Some(expected);
        if expected < self.room.waiting() && self.window.get(expected).is_some() {
            self.send_from(place, expected, true);
        }
    }

    /// Sends a CoServer that serves everything that has no answer.
    fn send_all(&mut self, now: MonotonicTime, place: ReplicaId, alone: bool) {
        if let State::Opening { .. } = self.state {
            let call = ClientCall::Open { token: self.token, alone };
            self.asked.get_or_insert(now);
            self.at(place).asked_to_open = true;
            self.outputs.push_back(Output::Send { place, call });
        }
        self.send_from(place, self.window.lowest(), alone);
        self.arm_resend(now);
    }

    /// Sends every request without a reply from this number on, if the session is open and the
    /// CoServer serves.
    fn send_from(&mut self, place: ReplicaId, number: RequestNumber, alone: bool) {
        let State::Open { session, .. } = self.state else {
            return;
        };
        if !self.places[place.slot()].is_welcomed() {
            return;
        }
        let (token, lowest, next) = (self.token, self.window.lowest(), self.window.next());
        let end = self.room.end(lowest);
        self.room.sent(lowest, next);
        for (number, pending) in self.window.from_mut(number).take_while(|(n, _)| *n < end) {
            pending.sent_with = lowest;
            let body = pending.body.clone();
            let call = ClientCall::Request { session, token, number, lowest, alone, body };
            self.outputs.push_back(Output::Send { place, call });
            self.counters.sent += 1;
        }
    }

    /// A session that is being closed ends with its last reply.
    fn end_if_done(&mut self) {
        if let State::Open { session, closing: true } = self.state
            && self.window.is_empty()
        {
            // Without a CoServer that serves, it ends by being idle.
            for place in ReplicaId::BOTH {
                if self.at(place).is_welcomed() {
                    let call = ClientCall::Close { session, token: self.token };
                    self.outputs.push_back(Output::Send { place, call });
                }
            }
            self.end(Ok(()));
        }
    }

    fn end(&mut self, how: Result<(), SessionError>) {
        let open = self.window.clear();
        if let Err(error) = how {
            let result = || Err(RequestError::SessionOver(error));
            let replies = open.into_iter().map(|number| Output::Reply { number, result: result() });
            self.outputs.extend(replies);
        }
        for place in ReplicaId::BOTH {
            if !matches!(self.at(place).stage, Stage::Waiting { .. } | Stage::Ending) {
                self.outputs.push_back(Output::Disconnect { place });
            }
            self.at(place).stage = Stage::Ending;
        }
        self.state = State::Over;
        self.resend_at = None;
        self.silent_at = None;
        self.deadline = None;
        self.outputs.push_back(Output::Over(how));
    }

    fn at(&mut self, place: ReplicaId) -> &mut Connection {
        &mut self.places[place.slot()]
    }

    /// How many CoServers serve.
    fn serving(&self) -> usize {
        self.places.iter().filter(|connection| connection.is_welcomed()).count()
    }

    fn check_invariants(&self) {
        self.window.check_invariants();
        let done = self.counters.submitted - self.counters.answered;
        let spread = self.window.next().0 - self.window.lowest().0;
        assert!(self.state == State::Over || done <= spread, "a request was lost");
        let owed = !self.window.is_empty() && self.session().is_some();
        assert!(!owed || self.resend_at.is_some(), "nobody waits for the replies under way");
        assert_eq!(
            self.silent_at.is_some(),
            self.is_owed(),
            "silence is judged when answers are due"
        );
    }
}
