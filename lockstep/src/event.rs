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
use crate::wire::frames::{CheckpointFile, Death, Hello, WitnessRefusal};

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
        /// The link whose heartbeats now come back.
        link: LinkId,
    },
    /// A link's own heartbeats no longer come back, or its connection ended.
    LinkDown {
        /// The link that went down.
        link: LinkId,
        /// Whether the connection ended; otherwise the link fell silent.
        closed: bool,
        /// Whether both processes are members, so that the pair misses the link. A link to a
        /// process that left in good order is not missed.
        missed: bool,
    },
    /// The other CoServer introduced itself.
    Met {
        /// The incarnation that the other CoServer named in its hello.
        incarnation: Incarnation,
    },
    /// The other CoServer cannot run with this one.
    Incompatible {
        /// The hello of the other CoServer.
        theirs: Box<Hello>,
        /// What does not fit.
        why: String,
    },
    /// The replica has entered a new epoch.
    Epoch {
        /// The witness's record of that epoch: lineage, number and members.
        record: Record,
        /// The member that orders the inputs in it.
        sequencer: ReplicaId,
        /// The last entry of this replica's log from before the epoch.
        after: Index,
    },
    /// The sequencer role went to the member at this place.
    HandedOver {
        /// The new sequencer.
        to: ReplicaId,
        /// The entry that hands the role over; the new sequencer orders from the next one on.
        index: Index,
    },
    /// This member means to go on without its peer, and will ask the witness for it.
    Suspected {
        /// What the peer is suspected of.
        suspicion: Suspicion,
    },
    /// A suspicion no longer holds.
    Cleared {
        /// What had been suspected.
        suspicion: Suspicion,
    },
    /// The witness was asked.
    Asked {
        /// The record that this replica asked the witness for.
        next: Record,
    },
    /// The peer asked the witness, and may have been granted it.
    PeerAsked {
        /// The record that the peer asked the witness for.
        next: Record,
    },
    /// The witness refused to answer with a record.
    WitnessRefused {
        /// What the witness gave as its reason.
        reason: WitnessRefusal,
    },
    /// The connection to the witness came up or went down.
    Witness {
        /// Whether it is up.
        up: bool,
    },
    /// The peer is gone and the witness has not let this replica go on alone, so it holds
    /// its outputs.
    Holding {
        /// The last entry whose outputs were released.
        released: Index,
    },
    /// The sessions, or the room for replies, are all or half taken: an owner loses a session or is
    /// refused one (rule C9). Said at growing intervals while it goes on.
    PoolFull {
        /// What there is too little of: sessions, or room for replies.
        pool: SessionPool,
        /// The owner that lost a session, or was refused, last.
        owner: OwnerId,
        /// How many sessions ended since the last of these events.
        ended: u64,
        /// How many sessions or requests were refused since the last of these events.
        refused: u64,
    },
    /// Outputs flow again after [`Event::Holding`].
    Resumed {
        /// For how long they were held.
        held: Duration,
    },
    /// The replicas computed different outputs. Neither releases outputs of this entry or of later
    /// ones as agreed.
    Diverged {
        /// The first entry that differs, as far as it is known.
        index: Index,
        /// This replica's running digest of the outputs at that entry.
        ours: Digest,
        /// The peer's running digest of the outputs at that entry.
        theirs: Digest,
    },
    /// Which output of the first entry that differs is not the same, and where in it. The event
    /// carries nothing of an output's content.
    Difference {
        /// Index of the first entry that both sides computed differently.
        index: Index,
        /// The output that differs, and the first difference in it.
        found: Box<Found>,
    },
    /// The replicas hold different entries at this index.
    EntriesDiffer {
        /// The index at which their entries differ.
        index: Index,
        /// This replica's running digest of the entries at that index.
        ours: Digest,
        /// The peer's running digest of the entries at that index.
        theirs: Digest,
    },
    /// The service panicked; the replica executes no further than this entry.
    Panicked {
        /// The entry whose execution panicked.
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
    /// The log is taken up again after a time in which no process ran. The service's wake-ups are
    /// held until the devices stand.
    TakenUp {
        /// The resume entry, which tells the service so (rule O11).
        index: Index,
        /// Log time in which no process ran.
        gap: Duration,
    },
    /// The log goes on after this process stood still for long, or after no process could order for
    /// long although a wake-up of the service was due.
    Gap {
        /// The gap entry, which tells the service so (rule O14).
        index: Index,
        /// Log time between the gap entry and the entry before it.
        gap: Duration,
    },
    /// The log is not taken up: this machine's clock says that more time has passed than one clock
    /// alone is believed (rule O13).
    ClockLeaps {
        /// The wall clock here.
        wall: LogTime,
        /// The last entry's time.
        log: LogTime,
        /// How far the clock is ahead of the last entry's time.
        step: Duration,
        /// The largest difference that is believed without an operator (`clock_step`).
        most: Duration,
    },
    /// No pair is formed: the two machines' clocks are too far apart, and neither is known to be
    /// right (rule O13).
    ClocksDiffer {
        /// The wall clock of this machine.
        ours: LogTime,
        /// The wall clock of the other machine, from its hello.
        theirs: LogTime,
        /// The difference between the two.
        apart: Duration,
        /// The largest difference at which a pair is formed (`clock_step`).
        most: Duration,
    },
    /// A device is not ready after so long: wake-ups go on without it (rule O12).
    DevicesLate {
        /// How long the replica waited for its devices.
        waited: Duration,
    },
    /// This replica's clock and the log's time have strayed from each other.
    ClockStrays {
        /// The wall clock here.
        wall: LogTime,
        /// What log time says.
        log: LogTime,
    },
    /// The process was not scheduled for this long. Silence of the peer during that time does
    /// not count.
    Stalled {
        /// How long the process stood still.
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
        /// What was wrong with the frame.
        why: Ignored,
    },
    /// The state was restored from disk.
    Recovered {
        /// The last entry that the journal notes as released.
        released: Index,
        /// The last entry on disk.
        held: Index,
    },
    /// What is on disk cannot be used: the replica has to be brought up to date by the other.
    Unrecovered {
        /// Why the disk cannot be used.
        why: String,
    },
    /// The state replayed from the disk contradicts what was released, and an operator adopts it
    /// all the same (rule J8).
    Contradicts {
        /// The entry at which the replay differs, and how it does.
        why: String,
    },
    /// This process can neither go on with what its disk holds nor reach a member that it
    /// could join.
    Waiting {
        /// The witness's record in force.
        record: Record,
        /// Whether no process that could take this one in has been reachable for long.
        in_vain: bool,
        /// What this process waits for.
        wait: Wait,
    },
    /// The replica has waited for this for a while, and still does. Said once, then at growing
    /// intervals for as long as it lasts.
    WaitsFor {
        /// What the replica waits for.
        wait: Wait,
        /// How long the replica has waited so far.
        span: Duration,
    },
    /// The other CoServer, a sole member, brings this replica up to date.
    Joining {
        /// The incarnation of that member.
        host: Incarnation,
    },
    /// The sole member has said from where this replica is brought up to date.
    Offered {
        /// The last entry that both have, or the checkpoint's entry if one is sent.
        from: Index,
        /// The checkpoint that will be sent; `None` if the missing entries suffice.
        checkpoint: Option<CheckpointFile>,
        /// The last entry that the member holds.
        held: Index,
    },
    /// A joiner has come to this sole member.
    Hosting {
        /// The joiner's incarnation.
        joiner: Incarnation,
    },
    /// The joiner gets entries as they are ordered from now on.
    Attached {
        /// The joiner's incarnation.
        joiner: Incarnation,
        /// The last entry that this member held then.
        at: Index,
    },
    /// This sole member goes on without its joiner.
    FellBack {
        /// The joiner's incarnation.
        joiner: Incarnation,
        /// Why the member gave the joiner up.
        why: FallBack,
    },
    /// A joiner has to wait, since processes at its place diverged of late (rule D5).
    Postponed {
        /// The joiner's incarnation.
        joiner: Incarnation,
        /// How many processes at its place have diverged within
        /// [`limits::DIVERGENCE_WINDOW`](crate::limits::DIVERGENCE_WINDOW).
        divergences: usize,
        /// How long the joiner has to wait.
        wait: Duration,
    },
    /// Processes at the other place diverged too often: none is taken in any more until an operator
    /// readmits them (rule D5).
    HeldForRepair {
        /// How many of them have diverged within
        /// [`limits::DIVERGENCE_WINDOW`](crate::limits::DIVERGENCE_WINDOW).
        divergences: usize,
        /// The process that wanted to join, if one did.
        joiner: Option<Incarnation>,
    },
    /// An operator says that the other CoServer has been repaired: the divergences counted against
    /// it are forgotten.
    Readmitted {
        /// How many divergences were forgotten.
        divergences: usize,
    },
    /// The joiner is up to date, and is being told that it is a member (rule J6). Nothing is
    /// released without it any more, but it could not go on alone yet.
    Admitting {
        /// The joiner's incarnation.
        joiner: Incarnation,
        /// The first entry on which both have to agree before its outputs are released.
        from: Index,
    },
    /// The joiner is a member, and its disk says so: the pair is redundant again, and from now on
    /// either may be lost.
    Duplex {
        /// The incarnation of the joiner that became a member.
        joiner: Incarnation,
        /// The first entry on which both have to agree before its outputs are released.
        from: Index,
        /// Bytes of entries and checkpoints that the joiner was sent to catch up.
        sent: u64,
        /// Time since the joiner asked to join.
        took: Duration,
    },
    /// This replica is a member, brought up to date.
    Admitted {
        /// The record that names both members.
        record: Record,
        /// The last entry that this replica held when it became a member.
        from: Index,
    },
    /// The pair turns to the witness in this slot, and enrols itself there (rule W3).
    Moving {
        /// 0 for the preferred one, 1 for the alternate.
        slot: u8,
        /// The record with which the pair enrols.
        record: Record,
    },
    /// The witness in use knows the pair's record now.
    Enrolled {
        /// The witness's slot: 0 for the preferred one, 1 for the alternate.
        slot: u8,
        /// The record that the witness now has.
        record: Record,
    },
    /// This member leaves the pair in good order.
    Leaving,
    /// The other member says that it stops for good.
    Farewell {
        /// The reason that the other member gave.
        why: String,
    },
    /// The guardian of the other member says that its process has ended.
    PeerDied {
        /// The process that has ended.
        incarnation: Incarnation,
        /// How it ended.
        how: Death,
    },
    /// A checkpoint is on disk.
    Checkpoint {
        /// The entry at which it was taken.
        index: Index,
        /// Length of the checkpoint's file in bytes.
        len: u64,
        /// The digest of the state.
        hash: Digest,
    },
    /// A checkpoint could not be taken; the previous one stays.
    NoCheckpoint {
        /// The entry at which it was to be taken.
        index: Index,
        /// Why the checkpoint could not be taken.
        why: String,
    },
    /// The replicas' checkpoints at one entry are not equal.
    StatesDiffer {
        /// The entry at which both took a checkpoint.
        index: Index,
        /// The digest of the state here.
        ours: Digest,
        /// The digest of the peer's state.
        theirs: Digest,
    },
    /// The replica is no member any more, and its process ends.
    Stopped {
        /// Why the replica stopped.
        cause: StopCause,
    },
}

/// A wait that lasts this long becomes a warning. Processes that are started one after the other
/// wait for each other for less.
const ORDINARY: Duration = Duration::from_secs(8);

/// How much an event matters to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Useful when looking for something.
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
            Self::PeerDied { .. } => "peer_died",
            Self::Checkpoint { .. } => "checkpoint",
            Self::NoCheckpoint { .. } => "no_checkpoint",
            Self::StatesDiffer { .. } => "states_differ",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// How much this event matters to an operator.
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
            | Self::PeerDied { .. }
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
