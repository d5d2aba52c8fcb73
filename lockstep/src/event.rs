//! What happened to the pair: every change of state is one structured event with its cause.

mod cause;
mod reminder;
mod wait;

use core::time::Duration;

use crate::digest::Digest;
use crate::ids::{Incarnation, Index, LinkId, LogTime, OwnerId, ReplicaId};
use crate::loss::SessionPool;
use crate::outline::Found;
use crate::record::Record;
use crate::wire::frames::{CheckpointFile, Hello, WitnessRefusal};

pub use cause::{Duty, FallBack, Ignored, StopCause, Suspicion};
pub use reminder::Reminder;
#[cfg(feature = "runtime")]
pub(crate) use reminder::said_again_after;
pub use wait::Wait;

/// One event of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A link carries heartbeats both ways.
    LinkUp {
        /// Which.
        link: LinkId,
    },
    /// A link's own heartbeats no longer come back, or its connection ended.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Whether the connection ended; otherwise it fell silent.
        closed: bool,
        /// Whether both are members, so that the pair misses it. One to a process that has left
        /// in good order ends with that.
        missed: bool,
    },
    /// The other CoServer introduced itself.
    Met {
        /// Its process.
        incarnation: Incarnation,
    },
    /// The other CoServer cannot run with this one.
    Incompatible {
        /// What it presented.
        theirs: Box<Hello>,
        /// What does not fit.
        why: String,
    },
    /// The replica is in this epoch from now on.
    Epoch {
        /// Its record.
        record: Record,
        /// The sequencer.
        sequencer: ReplicaId,
        /// The entry after which it begins here.
        after: Index,
    },
    /// The sequencer role went to the member at this place.
    HandedOver {
        /// The new sequencer.
        to: ReplicaId,
        /// The entry that says so.
        index: Index,
    },
    /// The peer is to be removed: the witness will be asked.
    Suspected {
        /// Why.
        suspicion: Suspicion,
    },
    /// What was suspected is no longer so.
    Cleared {
        /// What had been suspected.
        suspicion: Suspicion,
    },
    /// The witness was asked.
    Asked {
        /// For which record.
        next: Record,
    },
    /// The peer asked the witness, and may have been granted it.
    PeerAsked {
        /// For which record.
        next: Record,
    },
    /// The witness refused to answer with a record.
    WitnessRefused {
        /// Why.
        reason: WitnessRefusal,
    },
    /// The connection to the witness came up or went down.
    Witness {
        /// Whether it is up.
        up: bool,
    },
    /// The peer is gone and nobody lets this replica go on alone: outputs are held.
    Holding {
        /// The last entry whose outputs were released.
        released: Index,
    },
    /// All sessions are taken, or the room for replies is, or half of it: somebody loses theirs, or
    /// gets none (rule C9). Said at growing intervals while it goes on.
    PoolFull {
        /// Of what.
        pool: SessionPool,
        /// Whose loss was the last.
        owner: OwnerId,
        /// How many sessions ended for it since the last of these events.
        ended: u64,
        /// How many sessions or requests were refused.
        refused: u64,
    },
    /// Outputs flow again after [`Event::Holding`].
    Resumed {
        /// For how long they were held.
        held: Duration,
    },
    /// The replicas computed different outputs. Nothing from the entry on is released by both.
    Diverged {
        /// The first entry that differs, as far as it is known.
        index: Index,
        /// This replica's running digest there.
        ours: Digest,
        /// The peer's.
        theirs: Digest,
    },
    /// Which output of the first entry that differs does, and where. Nothing of what it says is of
    /// an output's content.
    Difference {
        /// The entry.
        index: Index,
        /// Where.
        found: Box<Found>,
    },
    /// The replicas hold different entries at this index.
    EntriesDiffer {
        /// Where.
        index: Index,
        /// This replica's running digest there.
        ours: Digest,
        /// The peer's.
        theirs: Digest,
    },
    /// The service panicked; the replica executes no further than this entry.
    Panicked {
        /// The entry.
        index: Index,
        /// The panic's message.
        message: String,
    },
    /// Outputs no longer match their digest at the moment of release: this machine's memory is
    /// not to be trusted.
    Corrupted {
        /// The entry whose outputs changed while they were held.
        index: Index,
    },
    /// The log is taken up again after a time in which nobody ran; wake-ups are held until the
    /// devices stand.
    TakenUp {
        /// The entry that says so.
        index: Index,
        /// How long nobody ran.
        gap: Duration,
    },
    /// The log goes on after this process stood still for long, or after nobody could order for
    /// long although a wake-up of the service was due.
    Gap {
        /// The entry that says so.
        index: Index,
        /// The time between it and the entry before.
        gap: Duration,
    },
    /// The log is not taken up: this machine's clock says that more time has passed than one clock
    /// is believed alone.
    ClockLeaps {
        /// The wall clock here.
        wall: LogTime,
        /// The last entry's time.
        log: LogTime,
        /// How far apart they are.
        step: Duration,
        /// The most that is believed.
        most: Duration,
    },
    /// No pair is formed: the two machines' clocks are too far apart, and nobody knows which of
    /// them is right.
    ClocksDiffer {
        /// The wall clock here.
        ours: LogTime,
        /// The other's.
        theirs: LogTime,
        /// How far apart they are.
        apart: Duration,
        /// The most that is believed.
        most: Duration,
    },
    /// A device does not stand after so long: wake-ups go on without it.
    DevicesLate {
        /// How long it was waited for.
        waited: Duration,
    },
    /// This replica's clock and the log's time have strayed from each other.
    ClockStrays {
        /// The wall clock here.
        wall: LogTime,
        /// What log time says.
        log: LogTime,
    },
    /// The process was not scheduled for this long; silence of others during it does not count.
    Stalled {
        /// For how long.
        span: Duration,
    },
    /// The window is full: no input is taken until the peer has caught up.
    WindowFull {
        /// The last entry ordered.
        ordered: Index,
        /// The last entry that both executed.
        agreed: Index,
    },
    /// There is room in the window again.
    WindowOpen,
    /// A frame was ignored.
    Ignored {
        /// What was wrong with it.
        why: Ignored,
    },
    /// The state was restored from disk.
    Recovered {
        /// The last entry of which it is sure that it was released.
        released: Index,
        /// The last entry on disk.
        held: Index,
    },
    /// What is on disk cannot be used: the replica has to be brought up to date by the other.
    Unrecovered {
        /// What is wrong.
        why: String,
    },
    /// What is on disk comes to something else than what was released, and is wanted all the same
    /// (rule J8).
    Contradicts {
        /// Where, and how.
        why: String,
    },
    /// It can neither go on by what is on its disk nor is there a member that it could join.
    Waiting {
        /// The record in force.
        record: Record,
        /// Nobody is there either who could take it in, and has not been for long.
        in_vain: bool,
        /// What is missing.
        wait: Wait,
    },
    /// The replica has waited for this for a while, and still does. Said once, then at growing
    /// intervals for as long as it lasts.
    WaitsFor {
        /// For what.
        wait: Wait,
        /// For how long.
        span: Duration,
    },
    /// The other, a sole member, brings this replica up to date.
    Joining {
        /// The member's process.
        host: Incarnation,
    },
    /// The member has said with what this replica begins.
    Offered {
        /// The last entry that both have, or that of the checkpoint.
        from: Index,
        /// The checkpoint that will be sent.
        checkpoint: Option<CheckpointFile>,
        /// The last entry that the member holds.
        held: Index,
    },
    /// A joiner has come to this sole member.
    Hosting {
        /// Its process.
        joiner: Incarnation,
    },
    /// A joiner gets entries as they are ordered, from this one on.
    Attached {
        /// Its process.
        joiner: Incarnation,
        /// The entry.
        at: Index,
    },
    /// This sole member goes on without its joiner.
    FellBack {
        /// Its process.
        joiner: Incarnation,
        /// Why.
        why: FallBack,
    },
    /// A joiner has to wait, since those before it computed something else.
    Postponed {
        /// Its process.
        joiner: Incarnation,
        /// How often one at its place did of late.
        divergences: usize,
        /// For how long.
        wait: Duration,
    },
    /// Those at the other place computed something else too often: none is taken in any more until
    /// an operator says so.
    HeldForRepair {
        /// How often of late.
        divergences: usize,
        /// The process that wanted to join, if one did.
        joiner: Option<Incarnation>,
    },
    /// An operator says that the other CoServer is in order again: what was counted against it is
    /// forgotten.
    Readmitted {
        /// How often one there had computed something else.
        divergences: usize,
    },
    /// The joiner has what the pair has, and is being told that it is a member (rule J6): nothing
    /// is released without it any more, and alone it could not go on yet.
    Admitting {
        /// Its process.
        joiner: Incarnation,
        /// The entry from which on both have to agree.
        from: Index,
    },
    /// The joiner is a member, and its disk says so: the pair is redundant again, and from now on
    /// either may be lost.
    Duplex {
        /// Its process.
        joiner: Incarnation,
        /// The entry from which on both have to agree.
        from: Index,
        /// Bytes of entries and checkpoints that it was sent to catch up.
        sent: u64,
        /// How long it took from when it asked.
        took: Duration,
    },
    /// This replica is a member, brought up to date.
    Admitted {
        /// The record.
        record: Record,
        /// The last entry that it holds.
        from: Index,
    },
    /// The pair turns to the witness in this slot, and enrols itself there.
    Moving {
        /// 0 for the preferred one, 1 for the alternate.
        slot: u8,
        /// The record with which it does.
        record: Record,
    },
    /// The witness in use knows the pair's record now.
    Enrolled {
        /// Its slot.
        slot: u8,
        /// The record.
        record: Record,
    },
    /// This member takes its leave in good order.
    Leaving,
    /// The other member says that it stops for good.
    Farewell {
        /// Why, in its words.
        why: String,
    },
    /// A checkpoint is on disk.
    Checkpoint {
        /// The entry at which it was taken.
        index: Index,
        /// Bytes of its file.
        len: u64,
        /// The digest of the state.
        hash: Digest,
    },
    /// A checkpoint could not be taken; the one before stays.
    NoCheckpoint {
        /// The entry at which it was to be taken.
        index: Index,
        /// Why.
        why: String,
    },
    /// The replicas' checkpoints at one entry are not equal.
    StatesDiffer {
        /// The entry.
        index: Index,
        /// The digest of the state here.
        ours: Digest,
        /// The peer's.
        theirs: Digest,
    },
    /// The replica is out.
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

/// What is waited for is missing once it has not come for so long: processes that are started one
/// after the other wait for each other for less.
const ORDINARY: Duration = Duration::from_secs(8);

/// How much an event matters to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Of use when looking for something.
    Detail,
    /// A change that belongs to a healthy pair's life.
    Notice,
    /// Redundancy or service is impaired, or may soon be.
    Warning,
    /// The service does not go on here, or something computed wrongly.
    Alarm,
}

impl Event {
    /// The event's name in logs; stable.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LinkUp { .. } => "link_up",
            Self::LinkDown { .. } => "link_down",
            Self::Met { .. } => "met",
            Self::Incompatible { .. } => "incompatible",
            Self::Epoch { .. } => "epoch",
            Self::HandedOver { .. } => "handed_over",
            Self::Suspected { .. } => "suspected",
            Self::Cleared { .. } => "cleared",
            Self::Asked { .. } => "asked",
            Self::PeerAsked { .. } => "peer_asked",
            Self::WitnessRefused { .. } => "witness_refused",
            Self::Witness { .. } => "witness",
            Self::Holding { .. } => "holding",
            Self::Resumed { .. } => "resumed",
            Self::Diverged { .. } => "diverged",
            Self::Difference { .. } => "difference",
            Self::EntriesDiffer { .. } => "entries_differ",
            Self::Panicked { .. } => "panicked",
            Self::Corrupted { .. } => "corrupted",
            Self::TakenUp { .. } => "taken_up",
            Self::Gap { .. } => "gap",
            Self::ClockLeaps { .. } => "clock_leaps",
            Self::ClocksDiffer { .. } => "clocks_differ",
            Self::DevicesLate { .. } => "devices_late",
            Self::ClockStrays { .. } => "clock_strays",
            Self::Stalled { .. } => "stalled",
            Self::WindowFull { .. } => "window_full",
            Self::PoolFull { .. } => "pool_full",
            Self::WindowOpen => "window_open",
            Self::Ignored { .. } => "ignored",
            Self::Recovered { .. } => "recovered",
            Self::Unrecovered { .. } => "unrecovered",
            Self::Contradicts { .. } => "contradicts",
            Self::Waiting { .. } => "waiting",
            Self::WaitsFor { .. } => "waits_for",
            Self::Joining { .. } => "joining",
            Self::Offered { .. } => "offered",
            Self::Hosting { .. } => "hosting",
            Self::Attached { .. } => "attached",
            Self::FellBack { .. } => "fell_back",
            Self::Postponed { .. } => "postponed",
            Self::HeldForRepair { .. } => "held_for_repair",
            Self::Readmitted { .. } => "readmitted",
            Self::Admitting { .. } => "admitting",
            Self::Duplex { .. } => "duplex",
            Self::Admitted { .. } => "admitted",
            Self::Moving { .. } => "moving",
            Self::Enrolled { .. } => "enrolled",
            Self::Leaving => "leaving",
            Self::Farewell { .. } => "farewell",
            Self::Checkpoint { .. } => "checkpoint",
            Self::NoCheckpoint { .. } => "no_checkpoint",
            Self::StatesDiffer { .. } => "states_differ",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Self::WaitsFor { wait, span } => {
                let soon = *span < ORDINARY || wait.is_progress();
                if soon { Severity::Notice } else { Severity::Warning }
            }
            // Each time it is asked while it has only just started.
            Self::WitnessRefused { reason: WitnessRefusal::Starting } => Severity::Detail,
            Self::Ignored { .. } | Self::PeerAsked { .. } | Self::WindowOpen => Severity::Detail,
            Self::LinkUp { .. }
            | Self::LinkDown { missed: false, .. }
            | Self::Met { .. }
            | Self::Epoch { .. }
            | Self::HandedOver { .. }
            | Self::Cleared { .. }
            | Self::Asked { .. }
            | Self::Witness { up: true }
            | Self::Recovered { .. }
            | Self::TakenUp { .. }
            | Self::Joining { .. }
            | Self::Offered { .. }
            | Self::Hosting { .. }
            | Self::Attached { .. }
            | Self::Admitting { .. }
            | Self::Duplex { .. }
            | Self::Admitted { .. }
            | Self::Enrolled { .. }
            | Self::Leaving
            | Self::Readmitted { .. }
            | Self::Checkpoint { .. }
            | Self::Resumed { .. } => Severity::Notice,
            Self::LinkDown { missed: true, .. }
            | Self::Suspected { .. }
            | Self::WitnessRefused { .. }
            | Self::Witness { up: false }
            | Self::ClockStrays { .. }
            | Self::DevicesLate { .. }
            | Self::Gap { .. }
            | Self::Stalled { .. }
            | Self::Unrecovered { .. }
            | Self::FellBack { .. }
            | Self::Postponed { .. }
            | Self::Moving { .. }
            | Self::Waiting { in_vain: false, .. }
            | Self::Farewell { .. }
            | Self::NoCheckpoint { .. }
            | Self::WindowFull { .. }
            | Self::PoolFull { .. } => Severity::Warning,
            Self::Incompatible { .. }
            | Self::Contradicts { .. }
            | Self::ClockLeaps { .. }
            | Self::ClocksDiffer { .. }
            | Self::Holding { .. }
            | Self::Diverged { .. }
            | Self::Difference { .. }
            | Self::EntriesDiffer { .. }
            | Self::Panicked { .. }
            | Self::HeldForRepair { .. }
            | Self::Waiting { in_vain: true, .. }
            | Self::StatesDiffer { .. }
            | Self::Corrupted { .. } => Severity::Alarm,
            Self::Stopped { cause: StopCause::Asked | StopCause::Left { .. } } => Severity::Notice,
            Self::Stopped { .. } => Severity::Alarm,
        }
    }
}
