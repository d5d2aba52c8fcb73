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
            /// Every checker, in the order of declaration.
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
    /// A replica that serves has everything that was ever acknowledged.
    Serving = "serving", serving: serving::Serving;
    /// No process takes its predecessor's place without everything that the predecessor had.
    Claims = "claims", claims: claims::Claims;
    /// No replica releases alone without the witness's grant.
    Alone = "alone", alone: alone::Alone;
    /// What is restored is what there was.
    Restored = "restored", restored: restored::Restored;
    /// Sessions and replies are shared out by the rules, and what may not be asked has no effect.
    Shares = "shares", shares: shares::Shares;
}

impl Checkers {
    /// What the checkers have observed so far.
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
    /// The checker that objects.
    pub checker: CheckerName,
    /// When the checker objected (ns of the world).
    pub at: u64,
    /// What the checker objects to.
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
        /// The process that started.
        who: Who,
    },
    /// A CoServer process ended, killed or by itself.
    Ended {
        /// The process that ended.
        who: Who,
    },
    /// A replica appended an entry: it holds it.
    Appended {
        /// The replica that appended.
        who: Who,
        /// The entry that it holds now.
        entry: &'a Entry,
    },
    /// A replica has executed an entry.
    Executed {
        /// The replica that executed.
        who: Who,
        /// What the entry came to.
        executed: &'a Executed,
    },
    /// A replica's event.
    Event {
        /// The replica that gave the event.
        who: Who,
        /// What happened to that replica.
        event: &'a Event,
    },
    /// A replica's standing changed.
    Standing {
        /// The replica whose standing changed.
        who: Who,
        /// The replica's standing now.
        standing: Standing,
    },
    /// A replica is out.
    Stopped {
        /// The replica that is out.
        who: Who,
        /// Why the replica stopped.
        cause: &'a StopCause,
    },
    /// A device's output was released.
    Released {
        /// The replica that released the output.
        who: Who,
        /// The epoch in which the replica released it.
        epoch: Epoch,
        /// The output's name.
        name: OutputName,
        /// The content of the output.
        kind: &'a OutputKind,
    },
    /// A replica answered a client.
    Answered {
        /// The replica that answered.
        who: Who,
        /// The frame that it sent to the client.
        answer: &'a ClientAnswer,
    },
    /// Entries up to here are on a replica's disk for good.
    Persisted {
        /// The replica whose disk it is.
        who: Who,
        /// The last entry on the disk.
        index: Index,
    },
    /// A membership is on a replica's disk for good.
    Remembered {
        /// The replica whose disk it is.
        who: Who,
        /// The membership on the disk.
        membership: &'a Membership,
    },
    /// A membership was being written when the disk failed or the process died: the disk has it, or
    /// what it had before.
    Unsure {
        /// The place of the disk.
        place: ReplicaId,
        /// The membership that was being written.
        membership: &'a Membership,
    },
    /// A process that starts finds this membership on its disk.
    Found {
        /// The place of the disk.
        place: ReplicaId,
        /// The membership on the disk.
        membership: &'a Membership,
    },
    /// The disk at this place was replaced by an empty one.
    Wiped {
        /// The place of the disk.
        place: ReplicaId,
    },
    /// A replica restored a state from its disk.
    Restored {
        /// The replica that restored.
        who: Who,
        /// The state that it restored.
        recovered: &'a Recovered,
    },
    /// A replica dropped the end of its log.
    Truncated {
        /// The replica that dropped entries.
        who: Who,
        /// The last entry that the replica keeps.
        after: Index,
    },
    /// A witness has this record on its disk.
    Recorded {
        /// The witness's slot: 0 for the preferred one, 1 for the alternate.
        slot: u8,
        /// The record on the witness's disk.
        record: &'a Record,
    },
    /// A witness has lost its disk, or has an old copy of it.
    Forgotten {
        /// The witness's slot: 0 for the preferred one, 1 for the alternate.
        slot: u8,
    },
    /// A client begins, with a session to come.
    Came {
        /// The client's number.
        client: usize,
        /// The owner of the client's key.
        owner: OwnerId,
        /// The nonce with which the session will be opened.
        token: Nonce,
    },
    /// A client is told that it may not make a request.
    Denied {
        /// The request's id.
        id: u64,
    },
    /// A client made a request.
    Invoked {
        /// The client's number.
        client: usize,
        /// What the client asked.
        request: Request,
    },
    /// A client has its answer.
    Completed {
        /// The client's number.
        client: usize,
        /// The request's id.
        id: u64,
        /// What the service answered.
        answer: Answer,
    },
    /// A replica's state at a glance.
    Measured {
        /// The replica that was looked at.
        who: Who,
        /// The replica's status.
        status: &'a Status,
    },
    /// How many bytes a link holds.
    Queued {
        /// The place that the link sends from.
        from: ReplicaId,
        /// How many bytes wait on the link.
        bytes: usize,
    },
    /// The digest of a replica's whole state.
    State {
        /// The replica whose state it is.
        who: Who,
        /// The last entry that the state includes.
        index: Index,
        /// The digest of the state.
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
    /// The entry that caused the output.
    pub index: Index,
    /// The step within the entry.
    pub step: u32,
    /// The output's ordinal within the step.
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
