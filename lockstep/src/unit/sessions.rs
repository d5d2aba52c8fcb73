//! The client sessions: who may ask what next, and the replies kept for asking again.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use super::UnitConfig;
use super::unread::Unread;
use crate::ids::{LogTime, Nonce, OwnerId, RequestNumber, SessionId};
use crate::loss::Loss;
use crate::output::Refusal;
use crate::shares::Shares;

/// What a request came to, as its client is told.
pub(super) type Answer = Result<Bytes, Refusal>;

/// A client's session, with the replies that are kept for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The owner of the key with which the session was opened.
    pub(super) owner: OwnerId,
    /// The nonce that proves that a request is from the session's client.
    pub(super) token: Nonce,
    /// The time of its client's last entry, less what was skipped until then.
    pub(super) last: LogTime,
    /// The lowest number whose reply is kept; the replies follow from there without a gap.
    pub(super) lowest: RequestNumber,
    /// The replies of `lowest` and on. The next request's number is that after the last of them.
    pub(super) replies: VecDeque<Answer>,
    /// What the replies cost ([`weight`]).
    pub(super) bytes: usize,
    /// When its client last said that it needs some of them no more, or there were none; less
    /// what was skipped until then.
    pub(super) read: LogTime,
}

impl Session {
    /// The number of the request that takes effect next.
    pub(super) fn next(&self) -> RequestNumber {
        RequestNumber(self.lowest.0 + self.replies.len() as u64)
    }

    /// Whether no request has taken effect in it.
    fn is_unused(&self) -> bool {
        self.next() == RequestNumber(1)
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

/// How many of the sessions in which nothing was asked, and of those idle longest, are looked at
/// for one that may end. This bounds the work of an entry.
const LOOKED_AT: usize = 64;

/// What keeping a reply costs beside its bytes. The same on every target, as it decides what
/// takes effect.
const OVERHEAD: usize = 64;

/// What a kept reply costs towards the bounds.
pub(super) fn weight(answer: &Answer) -> usize {
    OVERHEAD + answer.as_ref().map_or(0, Bytes::len)
}

impl UnitConfig {
    /// The room that a request needs before it takes effect.
    fn largest(&self) -> usize {
        self.longest_reply + OVERHEAD
    }
}

/// A session that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedSession {
    pub(super) id: SessionId,
    pub(super) owner: OwnerId,
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
    /// The request is the next one; its answer is to be [stored](Sessions::store).
    TakeEffect,
    /// The request is the next one, and there is no room for its answer unless others [make
    /// it](Sessions::make_room).
    NoRoom,
    /// The request does not take effect, or has before.
    Answer(Answer),
}

/// The open sessions, as a persistent map: a frozen view shares it, which costs the same however
/// many there are. A session, and the few nodes above it, are copied when it is used for the first
/// time while the view lives.
pub(super) type Table = OrdMap<SessionId, Arc<Session>>;

/// The open sessions of all clients.
#[derive(Debug)]
pub(super) struct Sessions {
    config: UnitConfig,
    open: Table,
    tokens: BTreeMap<Nonce, SessionId>,
    /// The sessions by their last entry: those to expire come first.
    idle: BTreeSet<(LogTime, SessionId)>,
    /// How many sessions each owner has.
    shares: Shares<OwnerId, (), SessionId>,
    /// Sessions in which nothing was asked yet, by their last entry. There are none in a log that
    /// knew no owners, where no session ended for it.
    unused: BTreeSet<(LogTime, SessionId)>,
    /// What the kept replies cost, and which owners have them.
    unread: Unread,
    /// Log time in which no process ran: it is no client's idleness (rule C6). Taken off every time
    /// of a session instead of being added to each of them.
    skipped: Duration,
}

impl Sessions {
    pub(super) fn new(config: UnitConfig) -> Self {
        Self::with_skipped(config, Duration::ZERO)
    }

    pub(super) fn with_skipped(config: UnitConfig, skipped: Duration) -> Self {
        let unread_bytes = config.unread_bytes;
        Self {
            config,
            open: Table::new(),
            tokens: BTreeMap::new(),
            idle: BTreeSet::new(),
            shares: Shares::new(),
            unused: BTreeSet::new(),
            unread: Unread::new(unread_bytes),
            skipped,
        }
    }

    /// Notes log time in which no process ran.
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
        self.unread.bytes()
    }

    /// Every session, as it is now.
    pub(super) fn freeze(&self) -> Table {
        self.open.clone()
    }

    /// Whether a client that asks with this token gets a session only in place of another.
    pub(super) fn is_full_for(&self, token: Nonce) -> bool {
        self.open.len() >= self.config.sessions && !self.has_token(token)
    }

    /// Removes the session that is worth least, so that this owner can have one (rule C9). First
    /// comes the session in which nothing was asked for longest, if for a while. Next comes the
    /// last session of the owner that has most, if that has more than its share. The session idle
    /// longest comes last, if it has been for long. Of others only where they have more.
    pub(super) fn give_way(&mut self, owner: OwnerId, now: LogTime) -> Option<EndedSession> {
        let now = self.counted(now);
        let own = self.shares.held(owner);
        let may_end = |id: &SessionId, span| {
            self.open.get(id).is_some_and(|session| {
                let may = session.owner == owner || self.shares.held(session.owner) > own;
                may && session.last.plus(span) <= now
            })
        };
        let mut unused = self.unused.iter().take(LOOKED_AT).map(|(_, id)| *id);
        let mut idle = self.idle.iter().take(LOOKED_AT).map(|(_, id)| *id);
        let claimed = || self.shares.claim(owner, ()).and_then(BTreeSet::last).copied();
        let victim = unused
            .find(|id| may_end(id, self.config.session_unused))
            .or_else(claimed)
            .or_else(|| idle.find(|id| may_end(id, self.config.session_abandoned)))?;
        self.remove(victim)
    }

    /// Opens session `id`, unless the token has one: a client that asks twice has one session.
    pub(super) fn open(
        &mut self,
        owner: OwnerId,
        token: Nonce,
        id: SessionId,
        now: LogTime,
    ) -> Opening {
        let now = self.counted(now);
        if let Some(&known) = self.tokens.get(&token) {
            let session = self.open.get_mut(&known).expect("a token's session is open");
            self.unread.take(known, session);
            let session = touch(&mut self.idle, &mut self.unused, session, known, now);
            self.unread.add(known, session);
            return Opening::Again(known);
        }
        if self.open.len() >= self.config.sessions {
            return Opening::Full;
        }
        let session = Session {
            owner,
            token,
            last: now,
            lowest: RequestNumber(1),
            replies: VecDeque::new(),
            bytes: 0,
            read: now,
        };
        self.insert(id, session);
        Opening::New(id)
    }

    /// Adds a session as it is. The caller has checked that id and token are new.
    pub(super) fn insert(&mut self, id: SessionId, session: Session) {
        self.tokens.insert(session.token, id);
        self.idle.insert((session.last, id));
        self.shares.take(session.owner, (), id);
        if session.is_unused() && session.owner != OwnerId::UNKNOWN {
            self.unused.insert((session.last, id));
        }
        self.unread.add(id, &session);
        self.open.insert(id, Arc::new(session));
    }

    /// Whether a token has a session.
    pub(super) fn has_token(&self, token: Nonce) -> bool {
        self.tokens.contains_key(&token)
    }

    /// Decides what a request comes to. In a session that is not open or another's it comes to
    /// nothing (rule C1). Otherwise it is an effect if it is the next one, and the kept reply if it
    /// was before (rule C2). Whatever it comes to, its client shows that it is alive and which
    /// replies it has.
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
        self.unread.take(id, session);
        let session = touch(&mut self.idle, &mut self.unused, session, id, now);
        // The request itself is unanswered, and so is whatever was never asked.
        if session.drop_below(lowest.min(number)) > 0 || session.bytes == 0 {
            session.read = now;
        }
        self.unread.add(id, session);
        let verdict = judge(session, number);
        let full = session.replies.len() >= self.config.session_replies
            || session.bytes + self.config.largest() > self.config.session_reply_bytes;
        match verdict {
            Admission::TakeEffect if full => Admission::Answer(Err(Refusal::TooManyReplies)),
            Admission::TakeEffect if !self.has_room() => Admission::NoRoom,
            verdict => verdict,
        }
    }

    /// Whether the largest reply can be kept.
    pub(super) fn has_room(&self) -> bool {
        self.unread.bytes() + self.config.largest() <= self.config.reply_bytes
    }

    /// Removes a session whose kept replies are in the way of this one's next (rule C9). It is one
    /// of the owner that keeps most, if that is more than its share, or else of the same owner. Of
    /// these, it is the one whose client has said for longest nothing of what it has. `None` if
    /// there is none.
    pub(super) fn make_room(&mut self, id: SessionId) -> Option<EndedSession> {
        let session = self.open.get(&id)?;
        let victim = self.unread.claim(id, session, self.config.largest())?;
        self.remove(victim)
    }

    /// Keeps the answer to the request that was admitted last in this session.
    pub(super) fn store(&mut self, id: SessionId, answer: Answer) {
        let session = self.open.get_mut(&id).expect("the session of an admitted request is open");
        let session = Arc::make_mut(session);
        if session.is_unused() {
            self.unused.remove(&(session.last, id));
        }
        self.unread.take(id, session);
        session.bytes += weight(&answer);
        session.replies.push_back(answer);
        self.unread.add(id, session);
    }

    /// Removes a session at its client's wish; says whether there was one.
    pub(super) fn close(&mut self, id: SessionId, token: Nonce) -> bool {
        let known = self.open.get(&id).is_some_and(|session| session.token == token);
        if known {
            self.remove(id);
        }
        known
    }

    /// Removes the session that has been idle longest, or unused, or has kept much unread for
    /// longest, if that is too long by `now`. `now` is log time (rules C6, C9).
    pub(super) fn expire(&mut self, now: LogTime) -> Option<(EndedSession, Loss)> {
        let now = self.counted(now);
        let due = |&(since, _): &(LogTime, SessionId), span| since.plus(span) <= now;
        let idle = self.idle.first().filter(|first| due(first, self.config.session_idle));
        let unused =
            self.unused.first().filter(|first| due(first, self.config.session_unused_ends));
        let unread = self.oldest_unread().filter(|first| due(first, self.config.session_unread));
        let (&(_, id), why) = idle
            .map(|first| (first, Loss::Idle))
            .or(unused.map(|first| (first, Loss::Unused)))
            .or(unread.map(|first| (first, Loss::Unread)))?;
        Some((self.remove(id)?, why))
    }

    /// The session to end first for what it keeps, where all together keep much. Elsewhere the
    /// replies are in no other's way: a client at rest says only with its next request what it has.
    fn oldest_unread(&self) -> Option<&(LogTime, SessionId)> {
        self.unread.oldest().filter(|_| self.unread.bytes() > self.config.reply_bytes / 2)
    }

    /// When the next session will end by itself.
    pub(super) fn next_expiry(&self) -> Option<LogTime> {
        let at = |&(since, _): &(LogTime, SessionId), span: Duration| {
            since.plus(span.saturating_add(self.skipped))
        };
        let idle = self.idle.first().map(|first| at(first, self.config.session_idle));
        let unused = self.unused.first().map(|first| at(first, self.config.session_unused_ends));
        let unread = self.oldest_unread().map(|first| at(first, self.config.session_unread));
        [idle, unused, unread].into_iter().flatten().min()
    }

    /// The owner of a session, if it is open.
    pub(super) fn owner(&self, id: SessionId) -> Option<OwnerId> {
        self.open.get(&id).map(|session| session.owner)
    }

    fn remove(&mut self, id: SessionId) -> Option<EndedSession> {
        let session = self.open.remove(&id)?;
        self.tokens.remove(&session.token);
        self.idle.remove(&(session.last, id));
        self.shares.give_back(id);
        self.unused.remove(&(session.last, id));
        self.unread.forget(id, &session);
        Some(EndedSession { id, owner: session.owner })
    }
}

/// Notes that a session's client is alive.
fn touch<'a>(
    idle: &mut BTreeSet<(LogTime, SessionId)>,
    unused: &mut BTreeSet<(LogTime, SessionId)>,
    session: &'a mut Arc<Session>,
    id: SessionId,
    now: LogTime,
) -> &'a mut Session {
    let session = Arc::make_mut(session);
    for times in [idle, unused] {
        if times.remove(&(session.last, id)) {
            times.insert((now, id));
        }
    }
    session.last = now;
    if session.owner == OwnerId::UNKNOWN {
        // A restored session is like this if its version did not keep the time; nothing follows
        // from it.
        session.read = now;
    }
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
