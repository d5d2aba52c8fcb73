//! Clients connected to this CoServer: who gets which answer, and which requests wait to see
//! whether the other CoServer had them ordered (section C of `docs/protocol.md`).
//!
//! All of it is local to the process. What makes a request take effect exactly
//! once is the session table in the replicated unit.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{Entry, InputKind};
use crate::ids::{ConnId, MonotonicTime, Nonce, RequestNumber, SessionId};
use crate::limits;

/// What a connection asked to hear about.
#[derive(Debug, Default)]
struct Connection {
    opens: BTreeSet<Nonce>,
    sessions: BTreeSet<(SessionId, Nonce)>,
}

/// Names a client's call: the same call that came to both CoServers has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CallName {
    Open(Nonce),
    Request(SessionId, Nonce, RequestNumber),
    Close(SessionId, Nonce),
}

impl CallName {
    fn of(kind: &InputKind) -> Option<Self> {
        match kind {
            InputKind::SessionOpen { token } | InputKind::SessionOpenFor { token, .. } => {
                Some(Self::Open(*token))
            }
            InputKind::SessionRequest { session, token, number, .. }
            | InputKind::SessionRefused { session, token, number, .. } => {
                Some(Self::Request(*session, *token, *number))
            }
            InputKind::SessionClose { session, token } => Some(Self::Close(*session, *token)),
            InputKind::Device { .. } => None,
        }
    }
}

/// Copies of calls that the client also sent to the sequencer, and the clients' connections.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    connections: BTreeMap<ConnId, Connection>,
    /// Connections that are kept for when this replica serves.
    deferred: BTreeSet<ConnId>,
    opens: BTreeMap<Nonce, ConnId>,
    /// The connection that last asked for a session's replies.
    sessions: BTreeMap<(SessionId, Nonce), ConnId>,
    /// The highest request of each such session seen in the log.
    ordered: BTreeMap<(SessionId, Nonce), RequestNumber>,
    copies: BTreeMap<CallName, (InputKind, MonotonicTime)>,
    by_age: BTreeSet<(MonotonicTime, CallName)>,
    copied: usize,
}

impl Gateway {
    /// A connection introduced itself. `false` if there are too many.
    pub(super) fn connect(&mut self, conn: ConnId) -> bool {
        if !self.admits(conn) {
            return false;
        }
        self.deferred.remove(&conn);
        self.connections.entry(conn).or_default();
        true
    }

    /// A connection introduced itself before this replica serves. `false` if there are too many.
    pub(super) fn defer(&mut self, conn: ConnId) -> bool {
        let admitted = self.admits(conn);
        if admitted {
            self.connections.remove(&conn);
            self.deferred.insert(conn);
        }
        admitted
    }

    fn admits(&self, conn: ConnId) -> bool {
        self.connections.contains_key(&conn)
            || self.deferred.contains(&conn)
            || self.connections.len() + self.deferred.len() < limits::CLIENT_CONNECTIONS
    }

    /// Takes out the connections that wait for this replica to serve.
    pub(super) fn take_deferred(&mut self) -> BTreeSet<ConnId> {
        core::mem::take(&mut self.deferred)
    }

    /// The connections that are served.
    pub(super) fn welcomed(&self) -> Vec<ConnId> {
        self.connections.keys().copied().collect()
    }

    pub(super) fn knows(&self, conn: ConnId) -> bool {
        self.connections.contains_key(&conn)
    }

    pub(super) fn disconnect(&mut self, conn: ConnId) {
        self.deferred.remove(&conn);
        let Some(connection) = self.connections.remove(&conn) else { return };
        for token in connection.opens {
            if self.opens.get(&token) == Some(&conn) {
                self.opens.remove(&token);
            }
        }
        for session in connection.sessions {
            if self.sessions.get(&session) == Some(&conn) {
                self.sessions.remove(&session);
                self.ordered.remove(&session);
            }
        }
    }

    /// Every connection, to be turned away.
    pub(super) fn drain(&mut self) -> Vec<ConnId> {
        let deferred = core::mem::take(&mut self.deferred);
        let connections = core::mem::take(&mut self.connections).into_keys();
        let connections = connections.chain(deferred).collect();
        *self = Self::default();
        connections
    }

    /// The connection will want to hear about this call. `false` if it asks for too much.
    pub(super) fn attach(&mut self, conn: ConnId, kind: &InputKind) -> bool {
        let Some(connection) = self.connections.get_mut(&conn) else { return false };
        match kind {
            InputKind::SessionOpenFor { token, .. } => {
                if connection.opens.len() >= limits::SESSIONS_PER_CONNECTION
                    && !connection.opens.contains(token)
                {
                    return false;
                }
                connection.opens.insert(*token);
                self.opens.insert(*token, conn);
            }
            InputKind::SessionRequest { session, token, .. }
            | InputKind::SessionRefused { session, token, .. } => {
                let name = (*session, *token);
                if connection.sessions.len() >= limits::SESSIONS_PER_CONNECTION
                    && !connection.sessions.contains(&name)
                {
                    return false;
                }
                connection.sessions.insert(name);
                self.sessions.insert(name, conn);
            }
            _ => {}
        }
        true
    }

    /// Who asked for a session with this mark. Asked once.
    pub(super) fn opener(&mut self, token: Nonce) -> Option<ConnId> {
        let conn = self.opens.remove(&token)?;
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.opens.remove(&token);
        }
        Some(conn)
    }

    /// Who hears a session's replies.
    pub(super) fn listener(&self, session: SessionId, token: Nonce) -> Option<ConnId> {
        self.sessions.get(&(session, token)).copied()
    }

    /// The session is over, or the token is not its own.
    pub(super) fn forget(&mut self, session: SessionId, token: Nonce) {
        let name = (session, token);
        self.ordered.remove(&name);
        if let Some(conn) = self.sessions.remove(&name)
            && let Some(connection) = self.connections.get_mut(&conn)
        {
            connection.sessions.remove(&name);
        }
    }

    /// Bytes of the copies.
    pub(super) fn copied(&self) -> usize {
        self.copied
    }

    /// Whether another copy may be kept (rule F3).
    pub(super) fn has_room(&self) -> bool {
        self.copies.len() < limits::KEPT_INPUTS
            && self.copied + limits::INPUT_BYTES <= limits::KEPT_BYTES
    }

    /// Keeps a copy of a call that the client also sent to the sequencer, unless the log already
    /// has it.
    pub(super) fn copy(&mut self, kind: InputKind, now: MonotonicTime) {
        let Some(name) = CallName::of(&kind) else { return };
        if let CallName::Request(session, token, number) = name
            && self.ordered.get(&(session, token)).is_some_and(|highest| number <= *highest)
        {
            return;
        }
        self.drop_copy(name);
        self.copied += kind.payload_len();
        self.by_age.insert((now, name));
        self.copies.insert(name, (kind, now));
    }

    fn drop_copy(&mut self, name: CallName) -> Option<InputKind> {
        let (kind, since) = self.copies.remove(&name)?;
        self.by_age.remove(&(since, name));
        self.copied -= kind.payload_len();
        Some(kind)
    }

    /// An entry was appended: copies of its inputs are not needed any more.
    pub(super) fn appended(&mut self, entry: &Entry) {
        entry.kind.inputs().iter().for_each(|input| self.ordered(input));
    }

    fn ordered(&mut self, input: &InputKind) {
        let Some(name) = CallName::of(input) else { return };
        self.drop_copy(name);
        if let CallName::Request(session, token, number) = name
            && self.sessions.contains_key(&(session, token))
        {
            let highest = self.ordered.entry((session, token)).or_default();
            *highest = number.max(*highest);
        }
    }

    /// When the oldest copy has waited for this long.
    pub(super) fn next_overdue(&self, delay: Duration) -> Option<MonotonicTime> {
        self.by_age.first().map(|(since, _)| since.plus(delay))
    }

    /// Takes a copy that has waited for this long for the sequencer to order it. Requests of a
    /// session come in number order if they came so.
    pub(super) fn overdue(&mut self, delay: Duration, now: MonotonicTime) -> Option<InputKind> {
        let &(since, name) = self.by_age.first()?;
        (since.plus(delay) <= now).then(|| self.drop_copy(name)).flatten()
    }

    /// Takes the copy that came first, for a replica that orders inputs itself from now on.
    pub(super) fn oldest_copy(&mut self) -> Option<InputKind> {
        let &(_, name) = self.by_age.first()?;
        self.drop_copy(name)
    }
}
