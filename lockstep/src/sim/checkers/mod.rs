//! The checkers: each watches the run from outside and knows one thing that must hold.
//!
//! They see what left the cores ([`Observation`]) and keep their own books of it
//! ([`ObservedState`]); nothing of the protocol's code decides here. After every step
//! each one may object, which ends the run.

mod acknowledged;
mod agreement;
mod alone;
mod bounds;
mod claims;
mod enrolled;
mod epochs;
mod history;
mod liveness;
mod model;
mod observed;
mod once;
mod outputs;
mod release;
mod restored;
mod serving;
mod sessions;
mod shares;
mod time;
mod view;
mod wgl;

#[cfg(test)]
mod tests;

use core::fmt;

pub use liveness::{Impossible, at_odds, forsaken, impossible, is_unaware, stuck};
pub use observed::{ObservedState, Who};
pub use sessions::{Came, GaveWay, Outcome};
pub use view::View;

use super::ops::{Answer, Request};
use super::options::Options;
use super::shares::Rights;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::event::{Event, StopCause};
use crate::ids::{Epoch, Index, Nonce, OwnerId, ReplicaId};
use crate::output::{Executed, OutputKind};
use crate::proto::io::{Membership, Recovered, Standing, Status};
use crate::record::Record;
use crate::unit::UnitConfig;
use crate::wire::frames::ClientAnswer;

macro_rules! checkers {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $field:ident: $checker:ty;)*) => {
        /// The checkers, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum CheckerName {
            $($(#[doc = $doc])* $name,)*
        }

        impl CheckerName {
            /// Every checker.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        /// All checkers of one run.
        #[derive(Debug)]
        pub struct Checkers {
            observed: ObservedState,
            only: Option<CheckerName>,
            $($field: $checker,)*
        }

        impl Checkers {
            /// The checkers of a run; only one of them, if one is named.
            pub fn new(options: &Options, only: Option<CheckerName>) -> Self {
                let bounds = Bounds::of(options);
                Self {
                    observed: ObservedState::new(options.divergence, options.durability, options.bounds()),
                    only,
                    $($field: <$checker>::new(&bounds),)*
                }
            }

            /// Something was seen.
            ///
            /// # Errors
            /// The first checker's objection.
            pub fn see(&mut self, at: u64, seen: &Observation<'_>) -> Result<(), Verdict> {
                self.observed.see(at, seen);
                $(
                    if self.only.is_none_or(|only| only == CheckerName::$name) {
                        self.$field.see(at, seen, &self.observed).map_err(|what| Verdict {
                            checker: CheckerName::$name,
                            at,
                            what,
                        })?;
                    }
                )*
                Ok(())
            }
        }
    };
}

checkers! {
    /// No output is released twice with different content.
    Outputs = "outputs", outputs: outputs::Outputs;
    /// Nothing is released against the release rule.
    Release = "release-rule", release: release::Release;
    /// No two replicas release in disjoint epochs.
    Epochs = "epochs", epochs: epochs::Epochs;
    /// No acknowledged request is lost.
    Acknowledged = "acknowledged", acknowledged: acknowledged::Acknowledged;
    /// No request takes effect twice.
    Once = "once", once: once::Once;
    /// The clients' history is linearizable.
    History = "history", history: history::History;
    /// Log time neither goes back nor stands still.
    Time = "time", time: time::Time;
    /// Service resumes after the faults.
    Liveness = "liveness", liveness: liveness::Liveness;
    /// Queues stay within their bounds.
    Bounds = "bounds", bounds: bounds::BoundsJudge;
    /// Logs, outputs and states agree where both replicas have them.
    Agreement = "agreement", agreement: agreement::Agreement;
    /// Whoever serves has everything that was ever acknowledged.
    Serving = "serving", serving: serving::Serving;
    /// Nobody takes a predecessor's place without everything that it had.
    Claims = "claims", claims: claims::Claims;
    /// Nobody releases alone without the witness's grant.
    Alone = "alone", alone: alone::Alone;
    /// What is restored is what there was.
    Restored = "restored", restored: restored::Restored;
    /// Sessions and replies are shared out by the rules, and what may not be asked has no effect.
    Shares = "shares", shares: shares::Shares;
}

impl Checkers {
    /// The checkers' own books.
    pub fn observed(&self) -> &ObservedState {
        &self.observed
    }
}

/// What the checkers measure by.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Entries of the service that may be ordered and not released.
    pub window: u64,
    /// Bytes that a link's queue may hold, and how much one frame may add.
    pub link_bytes: usize,
    /// How late a wake-up may be while the pair is healthy (ns).
    pub wake_late: u64,
    /// The bounds of the units.
    pub unit: UnitConfig,
    /// What the clients may ask, one by one.
    pub rights: Vec<Rights>,
    /// Whether the service tells which sessions end.
    pub tells_sessions: bool,
}

impl Bounds {
    fn of(options: &Options) -> Self {
        let capacity = options.links.iter().map(|link| link.capacity).max().unwrap_or(0);
        Self {
            window: options.window_entries as u64,
            link_bytes: capacity + crate::limits::FRAME_BYTES,
            wake_late: 400_000_000,
            unit: options.bounds(),
            rights: (0..options.clients).map(|client| options.tenant(client).rights).collect(),
            tells_sessions: options.shares.is_some(),
        }
    }
}

/// What a checker objects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who objects.
    pub checker: CheckerName,
    /// When (ns of the world).
    pub at: u64,
    /// To what.
    pub what: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at as f64 / 1e6;
        write!(f, "checker {} at {at:.6} ms: {}", self.checker, self.what)
    }
}

impl fmt::Display for CheckerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that can be seen from outside the cores.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// A CoServer process started.
    Started {
        /// Which.
        who: Who,
    },
    /// A CoServer process ended, killed or by itself.
    Ended {
        /// Which.
        who: Who,
    },
    /// A replica appended an entry: it holds it.
    Appended {
        /// Which.
        who: Who,
        /// The entry.
        entry: &'a Entry,
    },
    /// A replica has executed an entry.
    Executed {
        /// Which.
        who: Who,
        /// The outcome.
        executed: &'a Executed,
    },
    /// A replica's event.
    Event {
        /// Which.
        who: Who,
        /// The event.
        event: &'a Event,
    },
    /// A replica's standing changed.
    Standing {
        /// Which.
        who: Who,
        /// Its standing now.
        standing: Standing,
    },
    /// A replica is out.
    Stopped {
        /// Which.
        who: Who,
        /// Why.
        cause: &'a StopCause,
    },
    /// A device's output was released.
    Released {
        /// By which replica.
        who: Who,
        /// In which epoch.
        epoch: Epoch,
        /// The output's name.
        name: OutputName,
        /// The output.
        kind: &'a OutputKind,
    },
    /// A replica answered a client.
    Answered {
        /// Which.
        who: Who,
        /// The answer.
        answer: &'a ClientAnswer,
    },
    /// Entries up to here are on a replica's disk for good.
    Persisted {
        /// Whose.
        who: Who,
        /// The last.
        index: Index,
    },
    /// A membership is on a replica's disk for good.
    Remembered {
        /// Whose.
        who: Who,
        /// The membership.
        membership: &'a Membership,
    },
    /// A membership was being written when the disk failed or the process died: the disk has it, or
    /// what it had before.
    Unsure {
        /// At which place.
        place: ReplicaId,
        /// The membership.
        membership: &'a Membership,
    },
    /// A process that starts finds this membership on its disk.
    Found {
        /// At which place.
        place: ReplicaId,
        /// The membership.
        membership: &'a Membership,
    },
    /// The disk at this place was replaced by an empty one.
    Wiped {
        /// Where.
        place: ReplicaId,
    },
    /// A replica restored a state from its disk.
    Restored {
        /// Which.
        who: Who,
        /// What.
        recovered: &'a Recovered,
    },
    /// A replica dropped the end of its log.
    Truncated {
        /// Which.
        who: Who,
        /// The last entry that it keeps.
        after: Index,
    },
    /// A witness has this record on its disk.
    Recorded {
        /// Its slot.
        slot: u8,
        /// The record.
        record: &'a Record,
    },
    /// A witness has lost its disk, or has an old copy of it.
    Forgotten {
        /// Its slot.
        slot: u8,
    },
    /// A client begins, with a session to come.
    Came {
        /// Which.
        client: usize,
        /// Whose it is.
        owner: OwnerId,
        /// The session's mark.
        token: Nonce,
    },
    /// A client is told that it may not make a request.
    Denied {
        /// The request's id.
        id: u64,
    },
    /// A client made a request.
    Invoked {
        /// By which client.
        client: usize,
        /// The request.
        request: Request,
    },
    /// A client has its answer.
    Completed {
        /// Which client.
        client: usize,
        /// The request's id.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// A replica's state at a glance.
    Measured {
        /// Which.
        who: Who,
        /// Its state.
        status: &'a Status,
    },
    /// How many bytes a link holds.
    Queued {
        /// From which place.
        from: ReplicaId,
        /// How many.
        bytes: usize,
    },
    /// The digest of a replica's whole state.
    State {
        /// Which.
        who: Who,
        /// After which entry.
        index: Index,
        /// The digest.
        digest: Digest,
    },
    /// A fault inside a replica's service was set off: from here on it may compute nonsense.
    Spoiled {
        /// At which place.
        place: ReplicaId,
    },
    /// All faults have ended.
    Healed,
    /// Nothing but the time, now and then after the faults have ended.
    Passed,
    /// The run is over.
    Over {
        /// What is left.
        end: &'a End,
    },
}

/// An output's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputName {
    /// The entry.
    pub index: Index,
    /// The step within it.
    pub step: u32,
    /// Its ordinal there.
    pub ordinal: u32,
}

impl fmt::Display for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}, {})", self.index, self.step, self.ordinal)
    }
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Requests made after the faults had ended and answered.
    pub answered: u64,
    /// Requests still without an answer.
    pub waiting: u64,
    /// Inputs that a device handed to a replica which still serves, not executed anywhere.
    pub devices_lost: u64,
}
