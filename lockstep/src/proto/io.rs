//! The boundary of the replica core: closed enums in and out.

use core::time::Duration;

use bytes::Bytes;

use crate::digest::Digest;
use crate::entry::Entry;
use crate::event::{Event, StopCause, Wait};
use crate::history::History;
use crate::ids::{
    ConnId, DeviceId, Epoch, Incarnation, Index, Lineage, LinkId, LogTime, OwnerId, PairId,
    ReplicaId,
};
use crate::output::{Executed, OutputKind};
use crate::proto::shortage::SessionCounts;
use crate::record::Record;
use crate::wire::frames::{
    CheckpointFile, ClientAnswer, ClientCall, Death, Environment, LogPosition, PeerFrame,
    WitnessAnswer, WitnessCall,
};

mod storage;

pub use storage::{StorageRequest, StorageResponse};

/// What a replica is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but the time: [`Replica::next_timeout`](super::Replica::next_timeout) has come.
    Timeout,
    /// A connection to the peer is up on this link, and authenticated as the peer's.
    LinkUp {
        /// The link that has a connection now.
        link: LinkId,
    },
    /// The connection on this link ended.
    LinkDown {
        /// The link that has lost its connection.
        link: LinkId,
    },
    /// A frame for this link was dropped because the link's queue is full; nothing more is sent
    /// there until [`Input::LinkWritable`].
    LinkBlocked {
        /// The link whose queue is full.
        link: LinkId,
    },
    /// A blocked link takes frames again.
    LinkWritable {
        /// The link that takes frames again.
        link: LinkId,
    },
    /// A frame came from the peer.
    Peer {
        /// The link on which the frame came.
        link: LinkId,
        /// The checked frame.
        frame: PeerFrame,
    },
    /// The other CoServer's guardian says that a process at its place has ended (rule S7).
    PeerDied {
        /// The process that has ended.
        incarnation: Incarnation,
        /// How it ended.
        how: Death,
    },
    /// The connection to the witness came up.
    WitnessUp,
    /// The connection to the witness ended.
    WitnessDown,
    /// The connection to the witness that is not in use came up or ended. Before the first of these
    /// inputs that witness counts as unreachable.
    SpareWitness {
        /// Whether the connection is up.
        up: bool,
    },
    /// A frame came from the witness.
    Witness(WitnessAnswer),
    /// A frame came from a client.
    Client {
        /// The connection on which the frame came. The first frame on a connection makes it known.
        conn: ConnId,
        /// The owner of the key that the connection authenticated with.
        owner: OwnerId,
        /// Whether that key may ask this (rule C10); looked at only for requests.
        permitted: bool,
        /// The checked frame.
        call: ClientCall,
    },
    /// A client's connection ended.
    ClientGone {
        /// The connection that ended.
        conn: ConnId,
    },
    /// A device of this CoServer brings an input. Only while
    /// [`Replica::takes_input`](super::Replica::takes_input); otherwise the driver keeps it.
    Device {
        /// The device that brings the input.
        device: DeviceId,
        /// The input, at most [`limits::INPUT_BYTES`](crate::limits::INPUT_BYTES).
        bytes: Bytes,
    },
    /// The service executed the next entry.
    Executed(Executed),
    /// All devices of this CoServer are ready: their listeners listen and their outputs go out.
    /// Given only while [`Replica::waits_for_devices`](super::Replica::waits_for_devices).
    DevicesStand,
    /// The disk did what [`Output::Storage`], [`Output::Append`], [`Output::Recover`] or
    /// [`Output::WriteCheckpoint`] asked for, or failed.
    Storage(StorageResponse),
    /// The operator gives a command.
    Command(Command),
}

/// The state at one entry, restored from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The log up to that entry, as its running digest and what follows from it.
    pub history: History,
    /// The running digest of the outputs at that entry.
    pub outputs: Digest,
    /// When the service wants to be woken next; `None` if it does not.
    pub wakeup: Option<LogTime>,
    /// Weight of the entries that were executed again, from a checkpoint or the first entry on:
    /// what a new checkpoint would save the next start.
    pub replayed: u64,
    /// How the replay differs from what was released (rule R5), if an operator adopts the state all
    /// the same. Always `None` from a driver that was not told to adopt.
    pub contradicts: Option<String>,
    /// Entries on the disk after that one, still to be executed; at most a window of them.
    pub tail: Vec<Entry>,
}

/// What a journal has for a joiner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonPrefix {
    /// The first of the joiner's positions that this journal has too, with every entry after it.
    pub common: Option<LogPosition>,
    /// Bytes of the entries after `common`.
    pub bytes: u64,
    /// The newest checkpoint with the log's digest at it, if the journal has every entry after it.
    pub checkpoint: Option<(CheckpointFile, Digest)>,
}

/// What an operator may ask of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give the sequencer role to the other member. Ignored unless this replica has it.
    HandOver,
    /// Leave the pair and stop.
    Stop,
    /// Take in again the processes at the other place that are held for repair. Ignored where
    /// nothing is counted against them.
    Readmit,
}

/// Why the sequencer role is not given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverRefused {
    /// This replica does not have the role.
    #[error(
        "this CoServer does not order the inputs: ask the one at place {sequencer}, which does"
    )]
    Follower {
        /// The member that has the role.
        sequencer: ReplicaId,
    },
    /// There is no other member to give the role to.
    #[error(
        "no two CoServers are members at present, so there is nobody to hand over to: see `mode` and `waits_for` in the status"
    )]
    Alone,
    /// The other member may be gone, or has computed something else.
    #[error(
        "this CoServer is about to go on without the other one, or holds its outputs: see the log"
    )]
    Suspects,
    /// The window has no room for the entry that would hand the role over.
    #[error("the other CoServer is a whole window behind: ask again once it has caught up")]
    Full,
}

/// Why there is nothing to readmit: this replica keeps no process out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadmitRefused {
    /// This replica is no member, so it takes no process in.
    #[error(
        "this CoServer is no member of the pair, so nothing is held here: ask the one at place {other}"
    )]
    NoMember {
        /// The place where the member is, if there is one.
        other: ReplicaId,
    },
    /// This replica has removed no process that computed something else.
    #[error(
        "nothing to readmit: in the last {} minutes this CoServer has not removed CoServer {other} because it computed something else. If CoServer {other} is the one that serves, ask that",
        crate::limits::DIVERGENCE_WINDOW.as_secs() / 60
    )]
    NothingHeld {
        /// The other place.
        other: ReplicaId,
    },
}

/// What a replica wants done. Drain all of them after every round of inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this frame on these links. Where a link's queue is full, drop it there and say
    /// [`Input::LinkBlocked`].
    Peer {
        /// The links to send on, each a copy.
        links: LinkSet,
        /// The frame to send.
        frame: PeerFrame,
    },
    /// Close this link's connection, since the peer on it is not to be talked to. The driver may
    /// dial again after a while.
    CloseLink {
        /// The link to close.
        link: LinkId,
    },
    /// Send this frame to the witness.
    Witness(WitnessCall),
    /// Talk to the witness in this slot from now on, and to the other one no more. Until a
    /// connection to it is there the driver says nothing of any witness.
    UseWitness {
        /// 0 for the preferred one, 1 for the alternate.
        slot: u8,
    },
    /// Send this frame to a client.
    Client {
        /// The connection to send on.
        conn: ConnId,
        /// The frame to send.
        answer: ClientAnswer,
    },
    /// End a client's connection, after what was sent on it before.
    CloseClient {
        /// The connection to end.
        conn: ConnId,
    },
    /// Append this entry to the journal; answered by [`StorageResponse::Persisted`], in order. Under
    /// `memory` durability answered at once.
    Append(Entry),
    /// Execute this entry, after those before it; answered by [`Input::Executed`].
    Execute(Entry),
    /// Carry out a device's output, which is released.
    Release {
        /// The entry that caused it.
        index: Index,
        /// The step within it.
        step: u32,
        /// The output's ordinal within the step.
        ordinal: u32,
        /// The epoch in which it is released.
        epoch: Epoch,
        /// The output, always an [`OutputKind::Device`]; answers to clients come as
        /// [`Output::Client`].
        kind: OutputKind,
    },
    /// The replica's standing in the pair changed; devices open and close by it.
    Standing(Standing),
    /// Do this on disk, after what was asked before; the request says what answers it.
    Storage(StorageRequest),
    /// Restore the newest checkpoint and replay the journal; answered by [`StorageResponse::Recovered`].
    Recover {
        /// `Some`: restore exactly this entry, and drop from the journal what comes after it.
        /// `None`: restore the last entry that was surely released, and hand over those after it.
        to: Option<Index>,
    },
    /// Write the state as it was frozen when this entry was executed (rule K1); answered by
    /// [`StorageResponse::CheckpointWritten`]. The driver freezes whenever it has executed an
    /// [`EntryKind::Checkpoint`](crate::entry::EntryKind::Checkpoint) and keeps the newest.
    WriteCheckpoint {
        /// The log up to the entry.
        history: History,
    },
    /// Record this event.
    Event(Event),
    /// The replica is out: tell the clients, then end the process.
    Stop {
        /// Why the replica stopped.
        cause: StopCause,
    },
}

/// What a replica must remember of its membership over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The record of the epoch in which the process was last a member, if its log is what a
    /// member's has to be.
    pub record: Option<Record>,
    /// Requests to the witness whose outcome is not known, the oldest first; at most
    /// [`limits::OPEN_REQUESTS`](crate::limits::OPEN_REQUESTS).
    pub asked: Vec<Record>,
    /// The slot of the witness to ask: 0 for the preferred one, 1 for the alternate.
    pub witness: u8,
}

/// What a process finds on its disk when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// The membership that the predecessor wrote last.
    pub membership: Membership,
    /// The lineage of the last epoch in the log.
    pub lineage: Lineage,
    /// The last entry on the disk.
    pub last_index: Index,
    /// Entries of the log from which the process can go on, the last first; at most
    /// [`limits::POINTS`](crate::limits::POINTS).
    pub points: Vec<LogPosition>,
}

/// Whether a CoServer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The replica has not met the other CoServer yet.
    Starting,
    /// The replica is being brought up to date by the other CoServer.
    Joining,
    /// The replica is a member: it takes inputs and releases outputs.
    Serving {
        /// The number of the epoch that the replica is in.
        epoch: Epoch,
        /// Whether either may be lost: both are members, and the disks of both say so (rule J6).
        duplex: bool,
        /// The member that orders the inputs.
        sequencer: ReplicaId,
    },
    /// The replica is a member that has held its outputs for long: new clients should try the
    /// other CoServer.
    Holding,
    /// The replica is no member any more, and its process ends.
    Out,
}

/// A set of links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSet(u8);

impl LinkSet {
    /// The set without any link.
    pub const NONE: Self = Self(0);

    /// The set of this link alone.
    pub fn of(link: LinkId) -> Self {
        Self(1 << link.0)
    }

    /// Adds a link to the set.
    pub fn insert(&mut self, link: LinkId) {
        self.0 |= 1 << link.0;
    }

    /// Whether the link is in the set.
    pub fn contains(self, link: LinkId) -> bool {
        self.0 & (1 << link.0) != 0
    }

    /// Whether the set has no link.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The links of the set in ascending order.
    pub fn iter(self) -> impl Iterator<Item = LinkId> {
        (0..8).map(LinkId).filter(move |link| self.contains(*link))
    }
}

/// What a replica's core has to know of its pair. Made by the driver from a checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The pair that the replica belongs to.
    pub pair: PairId,
    /// This replica's place.
    pub place: ReplicaId,
    /// How many links there are, at most [`limits::LINKS`](crate::limits::LINKS).
    pub links: u8,
    /// What this replica runs.
    pub environment: Environment,
    /// Silence of every link for this long is taken for the peer's death. This is an upper bound:
    /// the timeout adapts below it to the observed round trips.
    pub silence: Duration,
    /// The lower bound of the adaptive silence timeout.
    pub silence_floor: Duration,
    /// Time between two heartbeats on a link.
    pub heartbeat: Duration,
    /// A peer that keeps the window full, or inputs unordered, for this long is too slow.
    pub slow_limit: Duration,
    /// A follower forwards a client's request that it has not seen ordered after this long.
    pub forward_delay: Duration,
    /// A member that has held its outputs for this long turns clients away.
    pub hold_limit: Duration,
    /// Most entries that are ordered and not yet agreed and released.
    pub window_entries: usize,
    /// Most bytes of those entries, their outputs included.
    pub window_bytes: usize,
    /// Which replica goes on when the two computed different things.
    pub divergence: DivergencePolicy,
    /// A process that starts with a journal tries for this long to meet the other before it
    /// claims its predecessor's place (rule J2).
    pub meeting: Duration,
    /// A log is not taken up again if its time would step forward by more than this (rule O13).
    pub clock_step: Duration,
    /// A process that has not run for longer than this has a gap in its log. So does a wake-up
    /// overdue by more, with nothing ordered since (rule O14).
    pub gap_least: Duration,
    /// Log time runs faster or slower than real time by at most one part in this many (rule O4).
    pub clock_slew: u32,
    /// Bytes of entries after which a checkpoint is taken (rule K1).
    pub checkpoint_bytes: u64,
    /// Most bytes per second of missing entries and checkpoints that a joiner is sent.
    pub join_rate: u64,
    /// How many witnesses there are: 1, or 2 with an alternate.
    pub witnesses: u8,
    /// The pair turns to the other witness once its sequencer has not reached the one in use for
    /// this long. Every move in vain doubles the time.
    pub witness_patience: Duration,
}

/// Which replica goes on when the two computed different things. A replica never goes on whose
/// service panicked where the other's did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DivergencePolicy {
    /// The sequencer goes on.
    Sequencer,
    /// The replica at this place goes on.
    Prefer(ReplicaId),
    /// Neither goes on: both hold until an operator stops one.
    Hold,
}

/// What is new at every start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The incarnation of this process, drawn at random.
    pub incarnation: Incarnation,
    /// The seed of the service's randomness, should this replica begin a lineage, and of the nonces
    /// of its requests. Drawn at random.
    pub seed: [u8; 32],
    /// What the disk holds; `None` if it holds nothing, or nothing usable.
    pub disk: Option<Disk>,
    /// Whether an operator wants this process to begin a new lineage with its disk's log (rule J8).
    pub adopt: bool,
}

/// A replica's state at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The replica's place.
    pub place: ReplicaId,
    /// The replica's incarnation.
    pub incarnation: Incarnation,
    /// Whether the replica serves, and in which epoch.
    pub standing: Standing,
    /// The epoch's record; `None` unless the replica is a member.
    pub record: Option<Record>,
    /// Whether the replica orders the inputs.
    pub is_sequencer: bool,
    /// The last entry that the replica holds.
    pub last_index: Index,
    /// The last entry that the replica has executed.
    pub executed: Index,
    /// The last entry on which both agree, or that the replica may release alone.
    pub agreed: Index,
    /// The last entry whose outputs the replica has released.
    pub released: Index,
    /// The last entry that the peer is known to hold.
    pub peer_held: Index,
    /// The last entry that the peer is known to have executed.
    pub peer_executed: Index,
    /// The peer's incarnation; `None` until the two have met.
    pub peer: Option<Incarnation>,
    /// Every link of the pair, with its connection and heartbeats.
    pub links: Vec<LinkStatus>,
    /// The silence timeout in force.
    pub silence: Duration,
    /// Whether the witness in use is connected.
    pub witness_up: bool,
    /// Slot of the witness in use: 0 for the preferred one, 1 for the alternate.
    pub witness_slot: u8,
    /// The log's time at the last entry.
    pub time: LogTime,
    /// How many inputs were taken here and not yet seen ordered.
    pub pending: usize,
    /// What the replica waits for, and for how long it has.
    pub wait: Option<(Wait, Duration)>,
    /// How much the clients' sessions take, and what was lost of them while the replica was
    /// a member.
    pub sessions: SessionCounts,
    /// Whether processes at the other place are not taken in until an operator says so.
    pub held_for_repair: bool,
}

/// How often a process went on without one at the other place, member or joiner, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removals {
    /// Times that no link to the other was up.
    pub silent: u64,
    /// Times that the other left, or another process came in its place.
    pub dead: u64,
    /// Times that the other did not keep up.
    pub slow: u64,
    /// Times that the other computed something else.
    pub diverged: u64,
}

/// One link at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The number of the link.
    pub link: LinkId,
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether heartbeats come back.
    pub up: bool,
    /// Smoothed round trip of heartbeats; `None` until one came back.
    pub round_trip: Option<Duration>,
}
