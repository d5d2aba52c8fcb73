//! The bounds of a unit, and what a build must be like.

use core::time::Duration;

use crate::digest::{Digest, Hasher};
use crate::limits;

/// What both CoServers must have the same in their units. Part of the configuration digest
/// ([`UnitConfig::digest`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitConfig {
    /// A session without an entry of its client for this long, by log time, is ended.
    pub session_idle: Duration,
    /// Most open sessions; at one more one that is worth less ends (rule C9), or it is
    /// [`TooManySessions`](crate::output::Refusal::TooManySessions).
    pub sessions: usize,
    /// Most replies kept for one session; at one more
    /// [`TooManyReplies`](crate::output::Refusal::TooManyReplies).
    pub session_replies: usize,
    /// Most bytes of the same, 64 more for each. A request is refused unless its session has
    /// room for the longest reply, so nothing takes effect with less than that and 64.
    pub session_reply_bytes: usize,
    /// Most bytes of replies kept for all sessions together; at one more a session ends whose
    /// client does not read (rule C9), or it is the same refusal.
    pub reply_bytes: usize,
    /// Longest reply of the service, at most [`limits::REPLY_BYTES`]; for a longer one its client
    /// is told [`ReplyTooLarge`](crate::output::Refusal::ReplyTooLarge).
    pub longest_reply: usize,
    /// Where all sessions are taken, one in which nothing was asked for so long gives way.
    pub session_unused: Duration,
    /// After so long it ends by itself.
    pub session_unused_ends: Duration,
    /// Where all sessions are taken, one that was idle for so long gives way.
    pub session_abandoned: Duration,
    /// While more than half of `reply_bytes` is kept, a session that keeps at least
    /// `unread_bytes`, of which its client has given up none for so long, ends.
    pub session_unread: Duration,
    /// Sessions that keep less than this never end for it. As many sessions as there may be should
    /// keep at most half of `reply_bytes` so, or they could take all of it for good.
    pub unread_bytes: usize,
    /// Most wake-ups, most ends of idle sessions, and most of sessions that give way, before
    /// one entry.
    pub steps_before_entry: u32,
}

impl Default for UnitConfig {
    fn default() -> Self {
        Self {
            session_idle: limits::SESSION_IDLE,
            sessions: limits::SESSIONS,
            session_replies: limits::SESSION_REPLIES,
            session_reply_bytes: limits::SESSION_REPLY_BYTES,
            reply_bytes: limits::REPLIES_BYTES,
            longest_reply: limits::REPLY_BYTES,
            session_unused: limits::SESSION_UNUSED,
            session_unused_ends: limits::SESSION_UNUSED_ENDS,
            session_abandoned: limits::SESSION_ABANDONED,
            session_unread: limits::SESSION_UNREAD,
            unread_bytes: limits::SESSION_UNREAD_BYTES,
            steps_before_entry: limits::WAKES_PER_ENTRY,
        }
    }
}

impl UnitConfig {
    /// Names this configuration: two units may run together only if theirs are equal.
    pub fn digest(&self) -> Digest {
        let Self {
            session_idle,
            sessions,
            session_replies,
            session_reply_bytes,
            reply_bytes,
            longest_reply,
            session_unused,
            session_unused_ends,
            session_abandoned,
            session_unread,
            unread_bytes,
            steps_before_entry,
        } = *self;
        Hasher::after(Digest::ZERO)
            .number(nanos(session_idle))
            .number(sessions as u64)
            .number(session_replies as u64)
            .number(session_reply_bytes as u64)
            .number(reply_bytes as u64)
            .number(steps_before_entry.into())
            .number(longest_reply as u64)
            .number(nanos(session_unused))
            .number(nanos(session_unused_ends))
            .number(nanos(session_abandoned))
            .number(nanos(session_unread))
            .number(unread_bytes as u64)
            .finish()
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The program is built with `panic = "abort"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "built with `panic = \"abort\"`, which would turn a panic of the service into the loss of \
     both CoServers: build with `panic = \"unwind\"`"
)]
pub struct AbortRefused;

/// To be called before a pair is started. A panic in a step must be caught, so that both CoServers
/// can agree on it and hold, instead of dying one after the other.
///
/// # Errors
/// If panics abort the process in this build.
pub const fn check_unwinding() -> Result<(), AbortRefused> {
    if cfg!(panic = "abort") { Err(AbortRefused) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_part_of_the_digest() {
        let (usual, second) = (UnitConfig::default(), Duration::from_secs(1));
        let others = [
            UnitConfig { session_idle: second, ..usual.clone() },
            UnitConfig { sessions: 2, ..usual.clone() },
            UnitConfig { session_replies: 2, ..usual.clone() },
            UnitConfig { session_reply_bytes: 2, ..usual.clone() },
            UnitConfig { reply_bytes: 2, ..usual.clone() },
            UnitConfig { longest_reply: 2, ..usual.clone() },
            UnitConfig { session_unused: second, ..usual.clone() },
            UnitConfig { session_unused_ends: second, ..usual.clone() },
            UnitConfig { session_abandoned: second, ..usual.clone() },
            UnitConfig { session_unread: second, ..usual.clone() },
            UnitConfig { unread_bytes: 2, ..usual.clone() },
            UnitConfig { steps_before_entry: 2, ..usual.clone() },
        ];
        let digests: std::collections::BTreeSet<Digest> =
            others.iter().chain([&usual]).map(UnitConfig::digest).collect();
        assert_eq!(digests.len(), others.len() + 1);
    }
}
