//! The client sessions: who may ask what next, and the replies kept for asking again.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use super::UnitConfig;
use crate::ids::{LogTime, Nonce, RequestNumber, SessionId};
use crate::limits;
use crate::output::Refusal;

/// What a request came to, as its client is told.
pub(super) type Answer = Result<Bytes, Refusal>;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The mark that proves that a request is its client's.
    pub(super) token: Nonce,
    /// The time of its client's last entry, less what was skipped until then.
    pub(super) last: LogTime,
    /// The lowest number whose reply is kept; the replies follow from there without a gap.
    pub(super) lowest: RequestNumber,
    /// The replies of `lowest` and on. The next request's number is that after the last of them.
    pub(super) replies: VecDeque<Answer>,
    /// What the replies cost ([`weight`]).
    pub(super) bytes: usize,
}

impl Session {
    /// The number of the request that takes effect next.
    pub(super) fn next(&self) -> RequestNumber {
        RequestNumber(self.lowest.0 + self.replies.len() as u64)
    }

    fn reply(&self, number: RequestNumber) -> Option<&Answer> {
        let at = number.0.checked_sub(self.lowest.0)?;
        self.replies.get(usize::try_from(at).ok()?)
    }

    /// Drops the replies below `lowest`; returns the bytes that this frees.
    fn drop_below(&mut self, lowest: RequestNumber) -> usize {
        let mut freed = 0;
        while self.lowest < lowest {
            let Some(reply) = self.replies.pop_front() else { break };
            freed += weight(&reply);
            self.lowest = self.lowest.next();
        }
        self.bytes -= freed;
        freed
    }
}

/// What keeping a reply costs beside its bytes. The same on every target, as it decides what
/// takes effect.
const OVERHEAD: usize = 64;

/// The room that a request needs before it takes effect.
const LARGEST: usize = limits::REPLY_BYTES + OVERHEAD;

/// What a kept reply costs towards the bounds.
pub(super) fn weight(answer: &Answer) -> usize {
    OVERHEAD + answer.as_ref().map_or(0, Bytes::len)
}

/// What became of a wish for a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    New(SessionId),
    /// The token has one already.
    Again(SessionId),
    Full,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is the next one; its answer is to be [stored](Sessions::store).
    TakeEffect,
    /// It does not take effect, or has before.
    Answer(Answer),
}

/// The open sessions, as a persistent map: a frozen view shares it, which costs the same however
/// many there are. A session, and the few nodes above it, are copied when it is used for the first
/// time while the view lives.
pub(super) type Table = OrdMap<SessionId, Arc<Session>>;

/// All open sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    config: UnitConfig,
    open: Table,
    tokens: BTreeMap<Nonce, SessionId>,
    /// The sessions by their last entry: those to expire come first.
    idle: BTreeSet<(LogTime, SessionId)>,
    /// What all kept replies cost.
    bytes: usize,
    /// Log time in which nobody ran: it is no client's idleness (rule C6). Taken off every time
    /// of a session instead of being added to each of them.
    skipped: Duration,
}

impl Sessions {
    pub(super) fn new(config: UnitConfig) -> Self {
        Self::with_skipped(config, Duration::ZERO)
    }

    pub(super) fn with_skipped(config: UnitConfig, skipped: Duration) -> Self {
        Self {
            config,
            open: Table::new(),
            tokens: BTreeMap::new(),
            idle: BTreeSet::new(),
            bytes: 0,
            skipped,
        }
    }

    /// So much log time has passed in which nobody ran.
    pub(super) fn skip(&mut self, gap: Duration) {
        self.skipped = self.skipped.saturating_add(gap);
    }

    /// How much there was of that.
    pub(super) fn skipped(&self) -> Duration {
        self.skipped
    }

    /// Log time as sessions count it.
    fn counted(&self, now: LogTime) -> LogTime {
        LogTime(now.since(LogTime(0)).saturating_sub(self.skipped).as_nanos() as u64)
    }

    pub(super) fn config(&self) -> &UnitConfig {
        &self.config
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// What the kept replies of all sessions cost.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Every session, as it is now.
    pub(super) fn freeze(&self) -> Table {
        self.open.clone()
    }

    /// Opens session `id`, unless the token has one: a client that asks twice has one session.
    pub(super) fn open(&mut self, token: Nonce, id: SessionId, now: LogTime) -> Opening {
        let now = self.counted(now);
        if let Some(&known) = self.tokens.get(&token) {
            let session = self.open.get_mut(&known).expect("a token's session is open");
            touch(&mut self.idle, session, known, now);
            return Opening::Again(known);
        }
        if self.open.len() >= self.config.sessions {
            return Opening::Full;
        }
        let session = Session {
            token,
            last: now,
            lowest: RequestNumber(1),
            replies: VecDeque::new(),
            bytes: 0,
        };
        self.insert(id, session);
        Opening::New(id)
    }

    /// Adds a session as it is. The caller has checked that id and token are new.
    pub(super) fn insert(&mut self, id: SessionId, session: Session) {
        self.tokens.insert(session.token, id);
        self.idle.insert((session.last, id));
        self.bytes += session.bytes;
        self.open.insert(id, Arc::new(session));
    }

    /// Whether a token has a session.
    pub(super) fn has_token(&self, token: Nonce) -> bool {
        self.tokens.contains_key(&token)
    }

    /// Decides what a request comes to: nothing in a session that is not open or another's (rule
    /// C1), else an effect if it is the next one, and the reply that is kept if it was (rule C2).
    /// Whatever it comes to, its client shows that it is alive and which replies it has.
    pub(super) fn admit(
        &mut self,
        id: SessionId,
        token: Nonce,
        number: RequestNumber,
        lowest: RequestNumber,
        now: LogTime,
    ) -> Admission {
        let now = self.counted(now);
        let Some(session) = self.open.get_mut(&id).filter(|session| session.token == token) else {
            return Admission::Answer(Err(Refusal::UnknownSession));
        };
        let session = touch(&mut self.idle, session, id, now);
        // The request itself is unanswered, and so is whatever was never asked.
        let freed = session.drop_below(lowest.min(number));
        let verdict = judge(session, number);
        let (kept, bytes) = (session.replies.len(), session.bytes);
        self.bytes -= freed;
        let full = kept >= self.config.session_replies
            || bytes + LARGEST > self.config.session_reply_bytes
            || self.bytes + LARGEST > self.config.reply_bytes;
        match verdict {
            Admission::TakeEffect if full => Admission::Answer(Err(Refusal::TooManyReplies)),
            verdict => verdict,
        }
    }

    /// Keeps the answer to the request that was admitted last in this session.
    pub(super) fn store(&mut self, id: SessionId, answer: Answer) {
        let session = self.open.get_mut(&id).expect("the session of an admitted request is open");
        let session = Arc::make_mut(session);
        let weight = weight(&answer);
        session.bytes += weight;
        session.replies.push_back(answer);
        self.bytes += weight;
    }

    /// Removes a session at its client's wish; says whether there was one.
    pub(super) fn close(&mut self, id: SessionId, token: Nonce) -> bool {
        let known = self.open.get(&id).is_some_and(|session| session.token == token);
        if known {
            self.remove(id);
        }
        known
    }

    /// Removes the session that has been idle longest, if that is too long by `now`, which is log
    /// time (rule C6).
    pub(super) fn expire(&mut self, now: LogTime) -> Option<SessionId> {
        let &(last, id) = self.idle.first()?;
        (last.plus(self.config.session_idle) <= self.counted(now)).then(|| {
            self.remove(id);
            id
        })
    }

    /// When the next session will have been idle for too long.
    pub(super) fn next_expiry(&self) -> Option<LogTime> {
        let idle = self.config.session_idle.saturating_add(self.skipped);
        self.idle.first().map(|(last, _)| last.plus(idle))
    }

    fn remove(&mut self, id: SessionId) {
        if let Some(session) = self.open.remove(&id) {
            self.tokens.remove(&session.token);
            self.idle.remove(&(session.last, id));
            self.bytes -= session.bytes;
        }
    }
}

/// Notes that a session's client is alive.
fn touch<'a>(
    idle: &mut BTreeSet<(LogTime, SessionId)>,
    session: &'a mut Arc<Session>,
    id: SessionId,
    now: LogTime,
) -> &'a mut Session {
    let session = Arc::make_mut(session);
    idle.remove(&(session.last, id));
    idle.insert((now, id));
    session.last = now;
    session
}

/// What a request comes to by its number alone (rule C2).
fn judge(session: &Session, number: RequestNumber) -> Admission {
    let expected = session.next();
    match number.cmp(&expected) {
        core::cmp::Ordering::Equal => Admission::TakeEffect,
        core::cmp::Ordering::Greater => Admission::Answer(Err(Refusal::Gap { expected })),
        core::cmp::Ordering::Less => {
            Admission::Answer(session.reply(number).cloned().unwrap_or(Err(Refusal::Forgotten)))
        }
    }
}
