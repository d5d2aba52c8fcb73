//! What clients lose by the rules of sessions (C6, C9): a session that comes to its end, or
//! something new that there is no room for.

use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::OwnerId;

/// What an owner lost because a session came to its end by a rule, or a pool of all sessions was
/// full (rules C6, C9).
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A session: its client was idle for too long.
    Idle,
    /// A session: nothing was ever asked in it.
    Unused,
    /// A session: its client read nothing for long, and more than half of the room for replies
    /// is taken.
    Unread,
    /// A session, for a new one: all were taken.
    Displaced,
    /// A session, for an owner's next reply: there was no room for it.
    MadeRoom,
    /// A new session: all are taken, and none gave way.
    NoSession,
    /// A request: there is no room for its reply, and no session gave way.
    NoRoom,
}

impl Loss {
    /// One of each, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Idle,
        Self::Unused,
        Self::Unread,
        Self::Displaced,
        Self::MadeRoom,
        Self::NoSession,
        Self::NoRoom,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Unused => "unused",
            Self::Unread => "unread",
            Self::Displaced => "displaced",
            Self::MadeRoom => "made-room",
            Self::NoSession => "no-session",
            Self::NoRoom => "no-room",
        }
    }

    /// Which pool was full, if it comes of that.
    pub fn pool(self) -> Option<SessionPool> {
        match self {
            Self::Idle | Self::Unused => None,
            Self::Displaced | Self::NoSession => Some(SessionPool::Sessions),
            Self::Unread | Self::MadeRoom | Self::NoRoom => Some(SessionPool::Replies),
        }
    }

    /// Whether something was refused, and no session ended.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::NoSession | Self::NoRoom)
    }
}

/// What all sessions of a pair share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionPool {
    /// The sessions themselves.
    Sessions,
    /// The bytes of the replies that are kept.
    Replies,
}

impl SessionPool {
    /// Both, in the order of their declaration.
    pub const ALL: [Self; 2] = [Self::Sessions, Self::Replies];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Replies => "replies",
        }
    }
}

/// What all sessions have after an entry, and what clients lost at it. No part of the digest: it
/// only explains steps and outputs that the digest covers already.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionUse {
    /// How many are open.
    pub open: usize,
    /// Bytes of the kept replies of all of them, 64 more for each.
    pub reply_bytes: usize,
    /// Who lost what at this entry, in order.
    pub lost: Vec<(OwnerId, Loss)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted is found by its place in the list.
    #[test]
    fn the_lists_are_in_the_order_of_the_declarations() {
        assert!(Loss::ALL.into_iter().enumerate().all(|(at, loss)| loss as usize == at));
        assert!(SessionPool::ALL.into_iter().enumerate().all(|(at, pool)| pool as usize == at));
    }
}
