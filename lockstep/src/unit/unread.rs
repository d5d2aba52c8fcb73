//! The replies that are kept until their clients say that they have them: what they cost, and
//! whose have to go first.

use std::collections::{BTreeMap, BTreeSet};

use super::sessions::Session;
use crate::ids::{LogTime, OwnerId, SessionId};

/// What all sessions keep, and which session keeps it longest.
#[derive(Debug)]
pub(super) struct Unread {
    /// So much is much for one session: what counts when room is to be made. All others together
    /// are far from the bound.
    much: usize,
    bytes: usize,
    owners: BTreeMap<OwnerId, Owned>,
    /// Every session that keeps much, by when its client last said what it has; none of a log
    /// that knew no owners, where none ended by itself.
    oldest: BTreeSet<(LogTime, SessionId)>,
}

/// What one owner's sessions keep.
#[derive(Debug, Default)]
struct Owned {
    bytes: usize,
    /// Sessions that keep much, by the time since which their clients have read nothing.
    oldest: BTreeSet<(LogTime, SessionId)>,
}

impl Unread {
    /// Nothing is kept yet.
    pub(super) fn new(much: usize) -> Self {
        Self { much, bytes: 0, owners: BTreeMap::new(), oldest: BTreeSet::new() }
    }

    /// What all kept replies cost.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The session that keeps much, and has for longest not said what it has; and since when.
    pub(super) fn oldest(&self) -> Option<&(LogTime, SessionId)> {
        self.oldest.first()
    }

    /// Counts what a session keeps now.
    pub(super) fn add(&mut self, id: SessionId, session: &Session) {
        if session.bytes == 0 {
            return;
        }
        self.bytes += session.bytes;
        let owned = self.owners.entry(session.owner).or_default();
        owned.bytes += session.bytes;
        if session.bytes >= self.much {
            owned.oldest.insert((session.read, id));
            if session.owner != OwnerId::UNKNOWN {
                self.oldest.insert((session.read, id));
            }
        }
    }

    /// Takes off what was counted of a session, which has not changed since.
    pub(super) fn take(&mut self, id: SessionId, session: &Session) {
        if session.bytes == 0 {
            return;
        }
        self.bytes -= session.bytes;
        let Some(owned) = self.owners.get_mut(&session.owner) else { return };
        owned.bytes -= session.bytes;
        if session.bytes >= self.much {
            owned.oldest.remove(&(session.read, id));
            self.oldest.remove(&(session.read, id));
        }
    }

    /// The same of a session that is over.
    pub(super) fn forget(&mut self, id: SessionId, session: &Session) {
        self.take(id, session);
        if self.owners.get(&session.owner).is_some_and(|owned| owned.bytes == 0) {
            self.owners.remove(&session.owner);
        }
    }

    /// The session that has to go so that this one can keep `needed` more. It is the oldest of the
    /// owner that keeps most, if that keeps so much more than this one's owner. Otherwise it is the
    /// oldest of the same owner, if it is older than this one.
    pub(super) fn claim(
        &self,
        id: SessionId,
        session: &Session,
        needed: usize,
    ) -> Option<SessionId> {
        // Of a log that knew no owners: what came to nothing then must do so again.
        if session.owner == OwnerId::UNKNOWN {
            return None;
        }
        let own = self.owners.get(&session.owner);
        let has = own.map_or(0, |owned| owned.bytes);
        let others = self.owners.iter().filter(|(name, _)| **name != session.owner);
        let largest = others
            .map(|(_, owned)| owned)
            .filter(|owned| owned.bytes > has + needed && !owned.oldest.is_empty())
            .max_by_key(|owned| owned.bytes);
        let of_own = || own?.oldest.first().filter(|(read, _)| *read < session.read);
        let found = largest.and_then(|owned| owned.oldest.first()).or_else(of_own);
        found.map(|(_, found)| *found).filter(|found| *found != id)
    }
}
