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
    /// Most replies kept for one session; at one more [`TooManyReplies`](crate::output::Refusal::TooManyReplies).
    pub session_replies: usize,
    /// Most bytes of the same, 64 more for each. A request is refused unless its session has
    /// room for the largest reply, so nothing takes effect with less than
    /// [`limits::REPLY_BYTES`] and 64.
    pub session_reply_bytes: usize,
    /// Most bytes of replies kept for all sessions together; at one more a session ends whose
    /// client does not read (rule C9), or it is the same refusal.
    pub reply_bytes: usize,
    /// Most wake-ups, most ends of idle sessions, and most of sessions that give way, before one
    /// entry.
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
            steps_before_entry: limits::WAKES_PER_ENTRY,
        }
    }
}

impl UnitConfig {
    /// Names this configuration: two units may run together only if theirs are equal.
    pub fn digest(&self) -> Digest {
        let idle = u64::try_from(self.session_idle.as_nanos()).unwrap_or(u64::MAX);
        Hasher::after(Digest::ZERO)
            .number(idle)
            .number(self.sessions as u64)
            .number(self.session_replies as u64)
            .number(self.session_reply_bytes as u64)
            .number(self.reply_bytes as u64)
            .number(self.steps_before_entry.into())
            .finish()
    }
}

/// The program is built with `panic = "abort"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "built with `panic = \"abort\"`, which would turn a panic of the service into the loss of \
     both CoServers: build with `panic = \"unwind\"`"
)]
pub struct AbortRefused;

/// To be called before a pair is started: a panic in a step must be caught, so that both
/// CoServers can agree on it and hold, instead of dying one after the other.
///
/// # Errors
/// If panics abort the process in this build.
pub const fn check_unwinding() -> Result<(), AbortRefused> {
    if cfg!(panic = "abort") { Err(AbortRefused) } else { Ok(()) }
}
