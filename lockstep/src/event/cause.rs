//! Causes: why a replica suspects, falls back, ignores a frame, or stops.

use core::fmt;
use core::time::Duration;

use crate::ids::{Epoch, Index, Lineage};
use crate::record::Record;

/// Why a member wants to go on without its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspicion {
    /// No link is up.
    Silent,
    /// The peer said that it leaves, or a new process has come at its place.
    Dead,
    /// The peer does not keep up, or leaves forwarded inputs unordered.
    Slow,
    /// The peer computed something else, and the configured preference is for this side.
    Diverged,
}

/// What a member has to do with each entry or input for its peer's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Receive an entry.
    Hold,
    /// Execute an entry.
    Execute,
    /// Persist an entry.
    Persist,
    /// Order the inputs that the peer forwarded; only of a sequencer.
    Order,
}

impl Suspicion {
    /// The suspicion's name in logs; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Dead => "dead",
            Self::Slow => "slow",
            Self::Diverged => "diverged",
        }
    }
}

/// Why a sole member goes on without its joiner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FallBack {
    /// No link to the joiner is up any more.
    Silent,
    /// The joiner does not keep up.
    Slow,
    /// The joiner computed something else.
    Diverged,
    /// Another process has come at the joiner's place.
    Replaced,
    /// What the joiner asked for is not kept any more, or cannot be read.
    Unreadable,
    /// The witness has to be told first who the member is, or the pair turns to another witness.
    Witness,
}

/// Why a frame was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// The frame is of another epoch or lineage.
    OtherEpoch {
        /// The epoch that the frame names.
        epoch: Epoch,
    },
    /// The frame came before the hello on its link.
    BeforeHello,
    /// The frame is of another pair, or from this replica's own place.
    NotOurPeer,
    /// The frame has entries beyond what the window takes.
    BeyondWindow {
        /// The first entry that does not fit.
        index: Index,
    },
    /// The frame has entries or inputs that this replica takes only in another role.
    NotOurRole,
    /// The report contradicts itself, such as more executed than held, or more than exists.
    ProtocolViolation,
    /// The witness's answer is about something else than the request that is open.
    StaleAnswer,
}

/// Why a replica stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The operator, or SIGTERM, told the replica to stop.
    Asked,
    /// The other CoServer goes on alone.
    Removed {
        /// The record by which the other CoServer is the sole member.
        by: Record,
    },
    /// The replica left in good order: the other goes on alone.
    Left {
        /// The record by which the other CoServer is the sole member.
        to: Record,
    },
    /// The member that brought this replica up to date is gone, or goes on without it: the process
    /// has to be started again.
    JoinEnded,
    /// An operator has begun a new lineage, and this disk's log is of an earlier one.
    LineageOver {
        /// The lineage of the log on the disk.
        lineage: Lineage,
        /// The last entry on the disk.
        held: Index,
    },
    /// The disk failed.
    Storage {
        /// What the system reported, in words for the operator.
        why: String,
    },
    /// The disk could not be used for want of a descriptor or of memory. Nothing is wrong with the
    /// disk, and a new process can use it again.
    Exhausted {
        /// What the system reported, in words for the operator.
        why: String,
    },
    /// An operator has begun a new lineage: what this replica was a member of is over.
    NotAMember {
        /// The record in force.
        record: Record,
    },
    /// The other CoServer runs something else.
    Incompatible {
        /// What does not fit, in words for the operator.
        why: String,
    },
    /// Outputs changed in memory while they were held: this machine's memory is not to be trusted.
    Corrupted,
    /// This replica hangs while the other does not: the other goes on alone.
    Hanging {
        /// The duty that this replica did not get on with.
        duty: Duty,
        /// How long nothing was done.
        span: Duration,
    },
}

impl StopCause {
    /// Whether a new process at this place comes back by itself, brought up to date by the other
    /// CoServer. Otherwise an operator wanted the stop, or has to decide or mend something first.
    pub fn comes_back(&self) -> bool {
        match self {
            Self::Removed { .. }
            | Self::JoinEnded
            | Self::NotAMember { .. }
            | Self::Hanging { .. } => true,
            Self::Asked
            | Self::Left { .. }
            | Self::LineageOver { .. }
            | Self::Storage { .. }
            | Self::Exhausted { .. }
            | Self::Incompatible { .. }
            | Self::Corrupted => false,
        }
    }
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "no link to the peer is up",
            Self::Dead => "the peer is reported dead or left",
            Self::Slow => "the peer is too slow",
            Self::Diverged => "the peer computed something else",
        })
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "received",
            Self::Execute => "executed",
            Self::Persist => "written to disk",
            Self::Order => "ordered",
        })
    }
}

impl fmt::Display for FallBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "the joiner is not heard any more",
            Self::Slow => "the joiner does not keep up",
            Self::Diverged => "the joiner computed something else",
            Self::Replaced => "another process has come in the joiner's place",
            Self::Unreadable => "what the joiner asked for is not kept any more, or cannot be read",
            Self::Witness => "the witness has to be told first who the member is",
        })
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherEpoch { .. } => "it is of another epoch or lineage",
            Self::BeforeHello => "it came before the hello on its link",
            Self::NotOurPeer => "it is of another pair, or from this replica's own place",
            Self::BeyondWindow { .. } => "its entries are beyond what the window takes",
            Self::NotOurRole => "it is for a replica in another role",
            Self::ProtocolViolation => "it contradicts itself",
            Self::StaleAnswer => "it is an answer of the witness about something else",
        })
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("told to stop"),
            Self::Removed { by } => {
                write!(f, "removed: the other CoServer goes on alone since epoch {}", by.epoch)
            }
            Self::Left { to } => {
                write!(f, "left: the other CoServer goes on alone since epoch {}", to.epoch)
            }
            Self::JoinEnded => f.write_str(
                "the member that brought this one up to date is gone: start this one again",
            ),
            Self::LineageOver { held: Index(0), .. } => f.write_str(
                "there is nothing on the disk to begin the new lineage with: look for the disk that \
                 has it, or start with `--discard` to begin empty",
            ),
            Self::LineageOver { lineage, held } => write!(
                f,
                "the disk holds {held} entries of lineage {lineage}, which is over: start with \
                 `--adopt` to begin the new lineage with them, if nobody serves in it yet, or with \
                 `--discard` to give up what the other CoServer does not have of them"
            ),
            Self::Storage { why } => write!(f, "the disk failed: {why}"),
            Self::Exhausted { why } => write!(
                f,
                "what was to be acknowledged could not be written, and nothing is wrong with the \
                 disk: {why}"
            ),
            Self::NotAMember { record } => write!(
                f,
                "an operator has begun lineage {}: what this process was a member of is over",
                record.lineage
            ),
            Self::Incompatible { why } => write!(
                f,
                "the CoServers cannot run together: {why}. Make the two alike, then start again the \
                 one that has ended"
            ),
            Self::Corrupted => f.write_str("outputs changed in memory while they were held"),
            Self::Hanging { duty, span } => write!(
                f,
                "nothing was {duty} here for {span:.1?}, although the other CoServer did: it goes \
                 on alone. Look at {} of this machine",
                if *duty == Duty::Execute { "the service and the load" } else { "the disk" }
            ),
        }
    }
}
