//! A client's half of the client protocol, as small as it can be: opens a session, sends every
//! request to both CoServers, takes the first reply, sends again after a change.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::world::PAIR;
use crate::ids::{Mono, Nonce, Place, RequestNumber, SessionId};
use crate::output::Refusal;
use crate::wire::frames::{ClientAnswer, ClientCall, Versions};

/// A request without an answer is sent again after this long (ns).
const AGAIN: u64 = 150_000_000;

/// What a caller wants done, or has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Send this.
    Send(Place, ClientCall),
    /// End this connection; a new one is dialled.
    Close(Place),
    /// A request is answered.
    Done { ticket: u64, place: Place, result: Result<Bytes, Refusal> },
    /// Requests were sent again.
    Resent,
}

/// One client's session with the pair.
#[derive(Debug)]
pub(super) struct Caller {
    token: Nonce,
    session: Option<SessionId>,
    ready: [bool; 2],
    next: RequestNumber,
    open: BTreeMap<RequestNumber, (u64, Bytes)>,
    acts: VecDeque<Act>,
    again: Option<Mono>,
}

impl Caller {
    pub(super) fn new(token: Nonce) -> Self {
        Self {
            token,
            session: None,
            ready: [false; 2],
            next: RequestNumber(1),
            open: BTreeMap::new(),
            acts: VecDeque::new(),
            again: None,
        }
    }

    pub(super) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Requests without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_timeout(&self) -> Option<Mono> {
        self.again
    }

    pub(super) fn up(&mut self, place: Place) {
        let protocol = Versions { oldest: 1, newest: 1 };
        self.acts.push_back(Act::Send(place, ClientCall::Hello { pair: PAIR, protocol }));
    }

    pub(super) fn down(&mut self, now: Mono, place: Place) {
        self.ready[place.slot()] = false;
        // The other CoServer had a copy that it need not have forwarded.
        self.send_all(now, place.other());
    }

    /// A new request, known to the caller's user by this ticket.
    pub(super) fn request(&mut self, now: Mono, ticket: u64, body: Bytes) {
        let number = self.next;
        self.next = number.next();
        self.open.insert(number, (ticket, body));
        for place in Place::BOTH {
            self.send_one(place, number);
        }
        self.again.get_or_insert(Mono(now.0 + AGAIN));
    }

    pub(super) fn timeout(&mut self, now: Mono) {
        if self.again.is_none_or(|at| at > now) {
            return;
        }
        self.again = None;
        for place in Place::BOTH {
            self.send_all(now, place);
        }
    }

    pub(super) fn answer(&mut self, now: Mono, place: Place, answer: ClientAnswer) {
        match answer {
            ClientAnswer::Welcome { .. } => {
                self.ready[place.slot()] = true;
                self.send_all(now, place);
            }
            ClientAnswer::Refused { .. } => {
                self.ready[place.slot()] = false;
                self.acts.push_back(Act::Close(place));
                self.send_all(now, place.other());
            }
            ClientAnswer::Opened { token, result } => {
                if token == self.token && self.session.is_none() {
                    self.session = result.ok();
                    Place::BOTH.into_iter().for_each(|place| self.send_all(now, place));
                }
            }
            ClientAnswer::Reply { session, number, result } => {
                if Some(session) == self.session
                    && let Some((ticket, _)) = self.open.remove(&number)
                {
                    self.acts.push_back(Act::Done { ticket, place, result });
                }
            }
        }
        if self.open.is_empty() {
            self.again = None;
        }
    }

    fn send_all(&mut self, now: Mono, place: Place) {
        if !self.ready[place.slot()] || self.open.is_empty() {
            return;
        }
        self.again = Some(Mono(now.0 + AGAIN));
        let Some(_) = self.session else {
            let call = ClientCall::Open { token: self.token, alone: true };
            return self.acts.push_back(Act::Send(place, call));
        };
        self.acts.push_back(Act::Resent);
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            self.call(place, number, true);
        }
    }

    fn send_one(&mut self, place: Place, number: RequestNumber) {
        if !self.ready[place.slot()] {
            return;
        }
        let alone = self.ready != [true, true];
        if self.session.is_some() {
            self.call(place, number, alone);
        } else if self.open.len() == 1 {
            let call = ClientCall::Open { token: self.token, alone };
            self.acts.push_back(Act::Send(place, call));
        }
    }

    fn call(&mut self, place: Place, number: RequestNumber, alone: bool) {
        let (Some(session), Some((_, body))) = (self.session, self.open.get(&number)) else {
            return;
        };
        let lowest = self.open.keys().next().copied().unwrap_or(number);
        let (token, body) = (self.token, body.clone());
        let call = ClientCall::Request { session, token, number, lowest, alone, body };
        self.acts.push_back(Act::Send(place, call));
    }
}
