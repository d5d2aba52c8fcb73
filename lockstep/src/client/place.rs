//! The connection to one CoServer, as the session sees it.

use core::time::Duration;

use crate::ids::{Mono, RequestNumber};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is none; one is asked for at this time.
    Waiting {
        /// When.
        until: Mono,
    },
    /// The driver was asked for one.
    Dialling,
    /// It is up, and the CoServer has until then to say that it serves.
    Greeting {
        /// When that is given up.
        until: Mono,
    },
    /// The CoServer serves. With an open session, everything unanswered has been sent to it.
    Welcomed {
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
    /// Where it is in its life.
    pub stage: Stage,
    delay: Duration,
    shortest: Duration,
    longest: Duration,
}

impl Connection {
    /// One that is asked for at once. Between two attempts it waits from `shortest`, doubling, to
    /// `longest`.
    pub fn new(now: Mono, shortest: Duration, longest: Duration) -> Self {
        let longest = longest.max(shortest);
        Self { stage: Stage::Waiting { until: now }, delay: shortest, shortest, longest }
    }

    /// Whether requests go there.
    pub fn is_welcomed(&self) -> bool {
        matches!(self.stage, Stage::Welcomed { .. })
    }

    /// It serves: the next failure is the first.
    pub fn welcome(&mut self) {
        self.stage = Stage::Welcomed { gap: None };
        self.delay = self.shortest;
    }

    /// There is none any more; the next attempt waits longer than the last one did.
    pub fn lost(&mut self, now: Mono) {
        self.stage = Stage::Waiting { until: now.plus(self.delay) };
        self.delay = self.delay.saturating_mul(2).min(self.longest);
    }

    /// The next attempt waits as long as any: what stands in the way will not pass soon.
    pub fn expect_nothing_soon(&mut self) {
        self.delay = self.longest;
    }

    /// When something is due.
    pub fn timeout(&self) -> Option<Mono> {
        match self.stage {
            Stage::Waiting { until } | Stage::Greeting { until } => Some(until),
            Stage::Dialling | Stage::Welcomed { .. } | Stage::Ending => None,
        }
    }
}
