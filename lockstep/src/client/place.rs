//! The connection to one CoServer, as the session sees it.

use core::time::Duration;

use crate::client::jitter::Jitter;
use crate::ids::{Incarnation, MonotonicTime, RequestNumber};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is no connection; one is asked for at this time.
    Waiting {
        /// When to ask for the next connection.
        until: MonotonicTime,
    },
    /// The driver was asked for one.
    Dialling {
        /// When it was last asked.
        since: MonotonicTime,
    },
    /// The connection is up, and the CoServer has until then to say that it serves.
    Greeting {
        /// When that is given up.
        until: MonotonicTime,
    },
    /// The CoServer does not serve yet, and will say when it does.
    Deferred {
        /// Who is at the other end.
        with: Incarnation,
    },
    /// The CoServer serves. With an open session, everything unanswered has been sent to it.
    Welcomed {
        /// Who is at the other end.
        with: Incarnation,
        /// The last number from which it was asked to be sent everything again, so that a gap's
        /// many reports cause one repetition.
        gap: Option<RequestNumber>,
    },
    /// The driver was asked to end it.
    Ending,
}

/// The connection to one CoServer.
#[derive(Debug)]
pub struct Connection {
    /// Where the connection is in its life.
    pub stage: Stage,
    /// Probes have been sent from then on, and nothing has come from the other end since.
    pub unheard: Option<MonotonicTime>,
    /// Whether the CoServer was asked on this connection to open the session.
    pub asked_to_open: bool,
    /// The CoServer refused this client. Haste would not help.
    pub refused: bool,
    delay: Duration,
    shortest: Duration,
    longest: Duration,
}

impl Connection {
    /// A connection that is asked for at once. Between two attempts it waits from `shortest`,
    /// doubling, to `longest`.
    pub fn new(now: MonotonicTime, shortest: Duration, longest: Duration) -> Self {
        let longest = longest.max(shortest);
        Self {
            stage: Stage::Waiting { until: now },
            unheard: None,
            asked_to_open: false,
            refused: false,
            delay: shortest,
            shortest,
            longest,
        }
    }

    /// Whether requests go there.
    pub fn is_welcomed(&self) -> bool {
        matches!(self.stage, Stage::Welcomed { .. })
    }

    /// Who is at the other end, once that is known.
    pub fn with(&self) -> Option<Incarnation> {
        match self.stage {
            Stage::Deferred { with } | Stage::Welcomed { with, .. } => Some(with),
            _ => None,
        }
    }

    /// The connection is up: the CoServer has until then to answer.
    pub fn greet(&mut self, until: MonotonicTime) {
        self.stage = Stage::Greeting { until };
        (self.unheard, self.asked_to_open) = (None, false);
    }

    /// The CoServer serves: the next failure is the first.
    pub fn welcome(&mut self, with: Incarnation) {
        self.stage = Stage::Welcomed { with, gap: None };
        self.expect_soon();
    }

    /// There is none any more; the next attempt waits longer than the last one did, though never
    /// longer than `most` unless the CoServer refused this client.
    pub fn lost(&mut self, now: MonotonicTime, most: Duration, jitter: &mut Jitter) {
        let most = if self.refused { self.longest } else { most };
        self.stage = Stage::Waiting { until: now.plus(jitter.about(self.delay.min(most))) };
        self.delay = self.delay.saturating_mul(2).min(self.longest);
    }

    /// The next attempt waits no longer than the first did.
    pub fn expect_soon(&mut self) {
        self.delay = self.shortest;
        self.refused = false;
    }

    /// The next attempt waits as long as any: what stands in the way will not pass soon.
    pub fn expect_nothing_soon(&mut self) {
        self.delay = self.longest;
    }

    /// When something is due.
    pub fn timeout(&self) -> Option<MonotonicTime> {
        match self.stage {
            Stage::Waiting { until } | Stage::Greeting { until } => Some(until),
            Stage::Dialling { .. }
            | Stage::Deferred { .. }
            | Stage::Welcomed { .. }
            | Stage::Ending => None,
        }
    }
}
