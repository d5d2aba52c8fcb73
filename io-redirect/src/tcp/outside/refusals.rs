//! Clients that are turned away, or give way to others: counted, and said in the log now and then.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::net::IpAddr;
#[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
use std::sync::Mutex;
use std::sync::PoisonError;

use lockstep::shares::AddressBlock;
use tokio::time::Instant;

use crate::limits::REFUSALS_LOGGED_EVERY;

/// The bound by which a client was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedBy {
    /// The bound on connections of the pair.
    Pair,
    /// The listener's own, before the pair was asked.
    Listener,
    /// This process's file descriptors.
    Descriptors,
}

impl RefusedBy {
    /// The bound's name in logs; stable.
    fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Listener => "listener",
            Self::Descriptors => "descriptors",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Pair | Self::Listener => {
                "the pair has as many connections as it may: what both serve must fit the one \
                 that is left. Raise the service's bound on connections, if both have file \
                 descriptors for more"
            }
            Self::Descriptors => {
                "no file descriptor is left for connections: raise the hard limit \
                 (`LimitNOFILE=` of systemd), or lower the service's bound on connections"
            }
        }
    }
}

/// Counts the connections that were refused, by reason.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    turned_away: Count,
    displaced: Count,
    shut_out: Count,
    no_filter: Count,
}

/// How many there were since the start, and what was said of them.
#[derive(Debug, Default)]
struct Count {
    in_all: AtomicU64,
    #[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
    said: Mutex<Said>,
}

impl Count {
    fn in_all(&self) -> u64 {
        self.in_all.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.in_all.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more; gives how many a line of the log is to speak of, if one is due.
    fn add_and_say(&self) -> Option<u64> {
        self.add();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.due(Instant::now(), REFUSALS_LOGGED_EVERY)
    }
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    since: u64,
}

impl Said {
    /// How many a line of the log is to speak of, if one is due.
    fn due(&mut self, now: Instant, every: Duration) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < every) {
            return None;
        }
        self.last = Some(now);
        Some(core::mem::take(&mut self.since))
    }
}

impl Refusals {
    /// How many were turned away since the start.
    pub(super) fn in_all(&self) -> u64 {
        self.turned_away.in_all()
    }

    /// How many were served and gave way since the start.
    pub(super) fn displaced(&self) -> u64 {
        self.displaced.in_all()
    }

    /// How often a block of addresses was shut out since the start.
    pub(super) fn shut_out(&self) -> u64 {
        self.shut_out.in_all()
    }

    /// Counts a client that was turned away without a line in the log: this CoServer serves no
    /// client at present.
    pub(super) fn count(&self) {
        self.turned_away.add();
    }

    /// Notes that a client was turned away.
    pub(super) fn note(&self, by: RefusedBy) {
        let Some(turned_away) = self.turned_away.add_and_say() else { return };
        tracing::warn!(
            event = "connections_turned_away",
            turned_away,
            in_all = self.in_all(),
            by = by.name(),
            "{}",
            by.remedy()
        );
    }

    /// A block of addresses is shut out for a while.
    pub(super) fn note_shut_out(&self, block: AddressBlock) {
        let Some(times) = self.shut_out.add_and_say() else { return };
        tracing::warn!(
            event = "connections_shut_out",
            times,
            in_all = self.shut_out(),
            %block,
            "clients of this block of addresses have as many connections as they may, and come \
             again faster than they can be turned away: they get no answer for a second. If they \
             are welcome raise the bound on connections; else keep them out before they reach \
             the CoServer"
        );
    }

    /// The kernel takes no filter, so that a flood is turned away one by one.
    pub(super) fn note_no_filter(&self, listener: &str, error: &io::Error) {
        if self.no_filter.add_and_say().is_none() {
            return;
        }
        tracing::warn!(
            event = "cannot_shut_out",
            listener,
            %error,
            "those of a block of addresses that floods it are turned away one by one, which takes \
             processor time"
        );
    }

    /// Notes that a connection from this address gave way.
    pub(super) fn note_displaced(&self, peer: IpAddr) {
        let Some(displaced) = self.displaced.add_and_say() else { return };
        tracing::warn!(
            event = "connections_displaced",
            displaced,
            in_all = self.displaced(),
            block = %AddressBlock::of(peer),
            "there are as many connections as may be: those of the block of addresses that has \
             most give way to newcomers. If these clients are welcome raise the bound, or have \
             the service protect them; else keep them out before they reach the CoServer"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_rest_in_sums() {
        let every = Duration::from_secs(10);
        let (start, mut said) = (Instant::now(), Said::default());
        let mut due = |seconds| said.due(start + Duration::from_secs(seconds), every);
        assert_eq!(
            [due(0), due(1), due(9), due(10), due(11)],
            [Some(1), None, None, Some(3), None]
        );
    }
}
