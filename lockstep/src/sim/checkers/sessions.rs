//! The sessions' rules once more (C1, C2, C6, C9, C10), without any index: what each entry does.

use std::collections::{BTreeMap, VecDeque};

use crate::entry::{Entry, EntryKind, InputKind};
use crate::ids::{LogTime, Nonce, OwnerId, RequestNumber, SessionId};
use crate::output::Refusal;
use crate::sim::service::{REFUSAL_COST, REPLY_COST};
use crate::unit::UnitConfig;

/// What a step of an entry comes to, as far as sessions go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Every session that it ends, in order.
    pub ended: Vec<SessionId>,
    /// Whether one of them was idle for too long.
    pub idle: bool,
    /// Whether in one of them nothing was asked for too long.
    pub unused: bool,
    /// Whether one of them kept too much for too long.
    pub unread: bool,
    /// The sessions that gave way to another, and why.
    pub gave_way: Vec<(SessionId, GaveWay)>,
    /// What became of the call.
    pub came: Came,
    /// Who had what when a call found its pool full.
    pub before: Option<Vec<Has>>,
}

/// Why a session gave way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveWay {
    /// Nothing was ever asked in it.
    Unused,
    /// The session's owner had most.
    Share,
    /// The session was idle for long.
    Abandoned,
    /// The session's owner kept most replies.
    Replies,
    /// The session kept replies of the one that asked.
    OwnReplies,
}

/// What became of a client's call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Came {
    /// It was none, or one without an answer.
    #[default]
    Nothing,
    /// A session was to be opened.
    Opened(Result<SessionId, Refusal>),
    /// A request has its number, and an answer that is kept.
    Kept {
        /// Whether it is an effect's, rather than that it may not be asked.
        effect: bool,
        /// Whether it has it now rather than from before.
        first: bool,
    },
    /// A request has no number.
    Refused(Refusal),
}

/// What a session has of the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Has {
    pub session: SessionId,
    pub token: Nonce,
    /// What its replies cost.
    pub bytes: usize,
}

/// The sessions of one log, as the rules have them.
#[derive(Clone, Debug)]
pub(super) struct Book {
    bounds: UnitConfig,
    open: BTreeMap<SessionId, Open>,
    now: LogTime,
    /// Log time in which no process ran (ns).
    skipped: u64,
    held: bool,
}

#[derive(Clone, Debug)]
struct Open {
    owner: OwnerId,
    token: Nonce,
    last: u64,
    read: u64,
    lowest: u64,
    /// Whether each of the kept replies is of an effect.
    replies: VecDeque<bool>,
}

impl Open {
    fn bytes(&self) -> usize {
        self.replies.iter().map(|effect| if *effect { REPLY_COST } else { REFUSAL_COST }).sum()
    }

    fn next(&self) -> u64 {
        self.lowest + self.replies.len() as u64
    }
}

impl Book {
    pub(super) fn new(bounds: UnitConfig) -> Self {
        Self { bounds, open: BTreeMap::new(), now: LogTime(0), skipped: 0, held: false }
    }

    pub(super) fn bounds(&self) -> &UnitConfig {
        &self.bounds
    }

    /// The next entry of the log: what each of its steps comes to.
    pub(super) fn append(&mut self, entry: &Entry) -> Vec<Outcome> {
        match entry.kind {
            EntryKind::Resume { .. } => {
                self.held = true;
                self.skip(entry.time);
            }
            EntryKind::Ready => self.held = false,
            EntryKind::Gap => self.skip(entry.time),
            _ => {}
        }
        self.now = self.now.max(entry.time);
        let mut outcomes = vec![Outcome::default(); entry.steps()];
        if !self.held {
            self.expire(&mut outcomes[0]);
        }
        for (position, input) in entry.kind.inputs().iter().enumerate() {
            self.now = self.now.max(entry.time_at(position));
            let id = SessionId::new(entry.index, position);
            self.call(id, input, &mut outcomes[position]);
        }
        outcomes
    }

    fn skip(&mut self, to: LogTime) {
        self.skipped += to.0.saturating_sub(self.now.0);
    }

    /// Log time as sessions count it.
    fn counted(&self) -> u64 {
        self.now.0.saturating_sub(self.skipped)
    }

    fn is_past(&self, since: u64, span: core::time::Duration) -> bool {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        since.saturating_add(span) <= self.counted()
    }

    fn bytes(&self) -> usize {
        self.open.values().map(Open::bytes).sum()
    }

    fn keeps_much(&self, session: &Open) -> bool {
        session.bytes() >= self.bounds.unread_bytes
    }

    /// Sessions that end by themselves.
    fn expire(&mut self, outcome: &mut Outcome) {
        loop {
            let idle = self.first(|session| session.last, |_| true);
            let idle = idle.filter(|(since, _)| self.is_past(*since, self.bounds.session_idle));
            let scarce = self.bytes() > self.bounds.reply_bytes / 2;
            let unread = self
                .first(|session| session.read, |session| self.keeps_much(session))
                .filter(|(since, _)| scarce && self.is_past(*since, self.bounds.session_unread));
            let unused = self
                .first(|session| session.last, |session| session.next() == 1)
                .filter(|(since, _)| self.is_past(*since, self.bounds.session_unused_ends));
            let (ends, why) = match (idle, unused, unread) {
                (Some(idle), ..) => (idle, &mut outcome.idle),
                (None, Some(unused), _) => (unused, &mut outcome.unused),
                (None, None, Some(unread)) => (unread, &mut outcome.unread),
                (None, None, None) => return,
            };
            *why = true;
            self.end(ends.1, outcome);
        }
    }

    /// Of some sessions the one that comes first by a time.
    fn first(
        &self,
        time: impl Fn(&Open) -> u64,
        may: impl Fn(&Open) -> bool,
    ) -> Option<(u64, SessionId)> {
        let some = self.open.iter().filter(|(_, session)| may(session));
        some.map(|(id, session)| (time(session), *id)).min()
    }

    fn end(&mut self, id: SessionId, outcome: &mut Outcome) {
        self.open.remove(&id);
        outcome.ended.push(id);
    }

    /// An input, and the id of the session that it opens if it does.
    fn call(&mut self, id: SessionId, input: &InputKind, outcome: &mut Outcome) {
        match input {
            InputKind::SessionOpenFor { owner, token } => {
                outcome.came = Came::Opened(self.opened(id, *owner, *token, outcome));
            }
            InputKind::SessionRequest { session, token, number, lowest, .. } => {
                outcome.came = self.asked(*session, *token, *number, *lowest, true, outcome);
            }
            InputKind::SessionRefused { session, token, number, lowest } => {
                outcome.came = self.asked(*session, *token, *number, *lowest, false, outcome);
            }
            InputKind::SessionClose { session, token }
                if self.open.get(session).is_some_and(|known| known.token == *token) =>
            {
                self.end(*session, outcome);
            }
            _ => {}
        }
    }

    fn opened(
        &mut self,
        id: SessionId,
        owner: OwnerId,
        token: Nonce,
        outcome: &mut Outcome,
    ) -> Result<SessionId, Refusal> {
        let now = self.counted();
        if let Some((id, known)) = self.open.iter_mut().find(|(_, known)| known.token == token) {
            known.last = now;
            return Ok(*id);
        }
        if self.open.len() >= self.bounds.sessions {
            outcome.before = Some(self.shares());
            let (victim, why) = self.gives_way(owner).ok_or(Refusal::TooManySessions)?;
            outcome.gave_way.push((victim, why));
            self.end(victim, outcome);
        }
        let replies = VecDeque::new();
        self.open.insert(id, Open { owner, token, last: now, read: now, lowest: 1, replies });
        Ok(id)
    }

    fn shares(&self) -> Vec<Has> {
        let all = self.open.iter();
        all.map(|(session, open)| Has { session: *session, token: open.token, bytes: open.bytes() })
            .collect()
    }

    fn owned(&self, owner: OwnerId) -> usize {
        self.open.values().filter(|session| session.owner == owner).count()
    }

    /// Rule C9: which session ends for a new one of this owner.
    fn gives_way(&self, owner: OwnerId) -> Option<(SessionId, GaveWay)> {
        let own = self.owned(owner);
        let may_end = |session: &Open, span| {
            let may = session.owner == owner || self.owned(session.owner) > own;
            may && self.is_past(session.last, span)
        };
        let unused = self.first(
            |session| session.last,
            |session| session.next() == 1 && may_end(session, self.bounds.session_unused),
        );
        if let Some((_, id)) = unused {
            return Some((id, GaveWay::Unused));
        }
        let most = self.open.values().map(|session| (self.owned(session.owner), session.owner));
        let (most, largest) = most.max()?;
        if most > own + 1 {
            let last = self.open.iter().rfind(|(_, session)| session.owner == largest);
            return last.map(|(id, _)| (*id, GaveWay::Share));
        }
        let abandoned = self.bounds.session_abandoned;
        let idle = self.first(|session| session.last, |session| may_end(session, abandoned));
        idle.map(|(_, id)| (id, GaveWay::Abandoned))
    }

    fn asked(
        &mut self,
        id: SessionId,
        token: Nonce,
        number: RequestNumber,
        lowest: RequestNumber,
        effect: bool,
        outcome: &mut Outcome,
    ) -> Came {
        let now = self.counted();
        let Some(session) = self.open.get_mut(&id).filter(|session| session.token == token) else {
            return Came::Refused(Refusal::UnknownSession);
        };
        session.last = now;
        let mut gave_up = false;
        while session.lowest < lowest.0.min(number.0) && session.replies.pop_front().is_some() {
            session.lowest += 1;
            gave_up = true;
        }
        if gave_up || session.replies.is_empty() {
            session.read = now;
        }
        let (next, kept) = (session.next(), session.bytes());
        if number.0 > next {
            return Came::Refused(Refusal::Gap { expected: RequestNumber(next) });
        }
        if number.0 < next {
            let at = number.0.checked_sub(session.lowest).and_then(|at| usize::try_from(at).ok());
            let reply = at.and_then(|at| session.replies.get(at));
            return reply.map_or(Came::Refused(Refusal::Forgotten), |effect| Came::Kept {
                effect: *effect,
                first: false,
            });
        }
        let replies = session.replies.len();
        if replies >= self.bounds.session_replies
            || kept + self.largest() > self.bounds.session_reply_bytes
            || !self.has_room_for(id, outcome)
        {
            return Came::Refused(Refusal::TooManyReplies);
        }
        if let Some(session) = self.open.get_mut(&id) {
            session.replies.push_back(effect);
        }
        Came::Kept { effect, first: true }
    }

    fn largest(&self) -> usize {
        self.bounds.longest_reply + REFUSAL_COST
    }

    /// Rule C9: whether there is room for one more reply of this session, once others gave way.
    fn has_room_for(&mut self, id: SessionId, outcome: &mut Outcome) -> bool {
        while self.bytes() + self.largest() > self.bounds.reply_bytes {
            outcome.before.get_or_insert_with(|| self.shares());
            let Some((victim, why)) = self.makes_room(id) else { return false };
            outcome.gave_way.push((victim, why));
            self.end(victim, outcome);
        }
        true
    }

    fn kept(&self, owner: OwnerId) -> usize {
        self.open.values().filter(|session| session.owner == owner).map(Open::bytes).sum()
    }

    fn makes_room(&self, id: SessionId) -> Option<(SessionId, GaveWay)> {
        let asks = self.open.get(&id)?;
        let enough = self.kept(asks.owner) + self.largest();
        let others = self.open.values().filter(|session| {
            session.owner != asks.owner
                && self.kept(session.owner) > enough
                && self.keeps_much(session)
        });
        let largest = others.map(|session| (self.kept(session.owner), session.owner)).max();
        let of = |owner: OwnerId| {
            let much = |session: &Open| session.owner == owner && self.keeps_much(session);
            self.first(|session| session.read, much)
        };
        if let Some((_, owner)) = largest {
            return of(owner).map(|(_, found)| (found, GaveWay::Replies));
        }
        let own = of(asks.owner).filter(|(read, found)| *read < asks.read && *found != id);
        own.map(|(_, found)| (found, GaveWay::OwnReplies))
    }
}
