//! Log events for what strangers, and peers gone wrong, do to this process's ports.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::quic::{CloseCode, Lost, Peer, SetupError};
use crate::wire::error::FrameError;

/// As many refusals are logged in each [`PERIOD`]; of more, only how many they were. That is enough
/// to see who it is; a peer that keeps connecting must not be able to fill a disk with the log.
const LOGGED: u32 = 32;

/// The span of time in which at most [`LOGGED`] lines are written.
const PERIOD: Duration = Duration::from_secs(10);

/// Time between two lines about one name that cannot be resolved.
const UNRESOLVED_EVERY: Duration = Duration::from_secs(60);

/// Logs refused connections, within bounds.
#[derive(Debug)]
pub(in crate::runtime) struct Refusals {
    since: Instant,
    seen: u32,
    /// When a name was last said not to resolve; of a few that the configuration has.
    unresolved: BTreeMap<String, Instant>,
}

impl Refusals {
    pub(in crate::runtime) fn new() -> Self {
        Self { since: Instant::now(), seen: 0, unresolved: BTreeMap::new() }
    }

    /// An attempt to connect came to nothing: of the client with this name, if it is known and has
    /// one. That no process is there is no refusal.
    pub(in crate::runtime) fn on_failed(&mut self, error: &SetupError, client: Option<&str>) {
        if let SetupError::Unresolved { host, .. } = error {
            self.on_unresolved(host, error);
        } else if is_refusal(error) && self.has_room() {
            tracing::warn!(event = "connection_refused", client, %error);
        } else {
            tracing::debug!(%error, "no connection");
        }
    }

    /// A name could not be resolved: said of each name at once, and then now and then.
    fn on_unresolved(&mut self, host: &str, error: &SetupError) {
        let now = Instant::now();
        let is_due = |said: &Instant| now.duration_since(*said) >= UNRESOLVED_EVERY;
        if self.unresolved.get(host).is_none_or(is_due) {
            self.unresolved.insert(host.to_owned(), now);
            tracing::warn!(event = "name_unresolved", %error);
        }
    }

    /// A connection ended: of the client with this name, if it has one.
    pub(in crate::runtime) fn on_lost(&mut self, peer: &Peer, client: Option<&str>, lost: &Lost) {
        let Peer { key, remote, .. } = peer;
        match lost {
            Lost::FrameTooLarge { .. } if self.has_room() => {
                tracing::warn!(event = "frame_invalid", client, %key, %remote, error = %lost);
            }
            Lost::Here { code: CloseCode::TOO_MANY } if self.has_room() => {
                tracing::warn!(event = "connection_displaced", client, %key, %remote);
            }
            _ => tracing::debug!(client, %key, %remote, %lost, "connection ended"),
        }
    }

    /// A frame on this wire was not valid: of the client with this name, if it has one.
    pub(in crate::runtime) fn on_invalid(
        &mut self,
        wire: &dyn fmt::Display,
        peer: &Peer,
        client: Option<&str>,
        error: &FrameError,
    ) {
        if self.has_room() {
            let Peer { key, remote, .. } = peer;
            tracing::warn!(event = "frame_invalid", %wire, client, %key, %remote, %error);
        }
    }

    /// A client asked what its key may not ask.
    pub(in crate::runtime) fn on_request_refused(&mut self, peer: &Peer, client: Option<&str>) {
        if self.has_room() {
            let Peer { key, remote, .. } = peer;
            tracing::warn!(event = "request_refused", client, %key, %remote);
        }
    }

    /// A connection is closed since too many answers wait for it.
    pub(in crate::runtime) fn on_unread(&mut self, peer: &Peer, client: Option<&str>) {
        if self.has_room() {
            let Peer { key, remote, .. } = peer;
            tracing::warn!(event = "answers_unread", client, %key, %remote);
        }
    }

    /// Whether another line about a stranger may be logged now.
    fn has_room(&mut self) -> bool {
        if self.since.elapsed() >= PERIOD {
            let left_out = self.seen.saturating_sub(LOGGED);
            if left_out > 0 {
                tracing::warn!(event = "connection_refused", left_out, "more than are logged");
            }
            (self.since, self.seen) = (Instant::now(), 0);
        }
        self.seen = self.seen.saturating_add(1);
        self.seen <= LOGGED
    }
}

fn is_refusal(error: &SetupError) -> bool {
    match error {
        SetupError::PeerKey { .. }
        | SetupError::OwnKey { .. }
        | SetupError::PeerWithoutKey { .. }
        | SetupError::Purpose { .. }
        | SetupError::Busy { .. }
        | SetupError::Full { .. }
        | SetupError::Bounded { .. }
        | SetupError::Greeting { .. } => true,
        SetupError::Named { error, .. } => is_refusal(error),
        // No process is there, or not yet or not any more.
        SetupError::Timeout { .. }
        | SetupError::Unready { .. }
        | SetupError::Unresolved { .. }
        | SetupError::Dial { .. }
        | SetupError::Lost { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that starts or ends is dialled again and again, in a healthy life.
    #[test]
    fn nobody_s_being_ready_is_no_refusal_and_a_limit_is_one() {
        let remote = "127.0.0.1:7400".parse().unwrap();
        assert!(!is_refusal(&SetupError::Unready { remote }));
        assert!(is_refusal(&SetupError::Busy { remote }));
    }

    #[test]
    fn a_flood_is_not_logged_one_by_one() {
        let mut refusals = Refusals::new();
        let logged = (0..1000).filter(|_| refusals.has_room()).count();
        assert_eq!(logged, LOGGED as usize);
    }
}
