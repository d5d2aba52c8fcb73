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
    CheckpointFile, ClientAnswer, ClientCall, Environment, LogPosition, PeerFrame, WitnessAnswer,
    WitnessCall,
};

/// What a replica is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but the time: [`Replica::next_timeout`](super::Replica::next_timeout) has come.
    Timeout,
    /// A connection to the peer is up on this link, and authenticated as the peer's.
    LinkUp {
        /// Which.
        link: LinkId,
    },
    /// The connection on this link ended.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// A frame for this link was dropped because the link's queue is full; nothing more is sent
    /// there until [`Input::LinkWritable`].
    LinkBlocked {
        /// Which.
        link: LinkId,
    },
    /// A blocked link takes frames again.
    LinkWritable {
        /// Which.
        link: LinkId,
    },
    /// The peer said something.
    Peer {
        /// On which link.
        link: LinkId,
        /// What.
        frame: PeerFrame,
    },
    /// The connection to the witness came up.
    WitnessUp,
    /// It ended.
    WitnessDown,
    /// The connection to the witness that is not in use came up or ended. Before the first of
    /// these it is not there.
    SpareWitness {
        /// Whether it is there.
        up: bool,
    },
    /// The witness said something.
    Witness(WitnessAnswer),
    /// A client said something.
    Client {
        /// On which connection. The first frame on it makes it known.
        conn: ConnId,
        /// Whose connection it is, by its key.
        owner: OwnerId,
        /// Whether that key may ask this (rule C10). Only of a request is that asked.
        permitted: bool,
        /// What.
        call: ClientCall,
    },
    /// A client's connection ended.
    ClientGone {
        /// Which.
        conn: ConnId,
    },
    /// Something happened on a device of this CoServer. Only while
    /// [`Replica::takes_input`](super::Replica::takes_input); otherwise the driver keeps it.
    Device {
        /// Which.
        device: DeviceId,
        /// What, at most [`limits::INPUT_BYTES`](crate::limits::INPUT_BYTES).
        bytes: Bytes,
    },
    /// The service executed the next entry.
    Executed(Executed),
    /// Every entry up to here is on disk. Under `memory` durability the driver says so at once.
    Persisted(Index),
    /// The membership written last with this number is on disk.
    MembershipPersisted(u64),
    /// All devices of this CoServer stand: whoever listens does, and what is sent goes out. While
    /// [`Replica::waits_for_devices`](super::Replica::waits_for_devices).
    DevicesStand,
    /// The operator asks for something.
    Command(Command),
    /// The answer to [`Output::Recover`].
    Recovered(Result<Box<Recovered>, String>),
    /// The answer to [`Output::FindCommonPrefix`].
    CommonPrefix(CommonPrefix),
    /// The answer to [`Output::ReadEntries`].
    EntriesRead {
        /// The entry before the first.
        after: Index,
        /// They follow one another; `None` if the journal does not have them any more.
        entries: Option<Vec<Entry>>,
    },
    /// The answer to [`Output::ReadChunk`].
    ChunkRead {
        /// Which checkpoint.
        checkpoint: Index,
        /// Where in its file.
        offset: u64,
        /// At least one byte, unless the file ends there; `None` if it is not there any more.
        bytes: Option<Bytes>,
    },
    /// How much of the checkpoint is there, after [`Output::BeginChunks`] and each
    /// [`Output::WriteChunk`].
    ChunksWritten {
        /// Which checkpoint.
        checkpoint: Index,
        /// So many bytes from its start.
        have: u64,
    },
    /// The answer to [`Output::Install`]: why it cannot be used, if it cannot.
    Installed(Result<(), String>),
    /// The answer to [`Output::WriteCheckpoint`].
    CheckpointWritten {
        /// The entry.
        index: Index,
        /// The file; or why there is none.
        result: Result<CheckpointFile, String>,
    },
    /// The disk failed: what was to be written may not be there. Nothing more is persisted.
    StorageFailed {
        /// What happened, in words for the operator.
        why: String,
    },
    /// The same, and nothing is wrong with the disk: the process had no descriptor, or no memory.
    StorageExhausted {
        /// What happened, in words for the operator.
        why: String,
    },
}

/// The state at one entry, restored from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The log up to there.
    pub history: History,
    /// The running digest of the outputs.
    pub outputs: Digest,
    /// When the next entry is needed at the latest.
    pub wakeup: Option<LogTime>,
    /// Weight of the entries that were executed again to get there from a checkpoint, or from the
    /// first entry: what a checkpoint would save the next start.
    pub replayed: u64,
    /// The replay came to something else than what was released (rule R5), and an operator wants
    /// the state all the same: how it differs. A driver that was not told to adopt gives none.
    pub contradicts: Option<String>,
    /// Entries after it on the disk, which are still to be executed; at most a window of them.
    pub tail: Vec<Entry>,
}

/// What a journal has for a joiner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonPrefix {
    /// The first of the joiner's points that this journal has too, with every entry after it.
    pub common: Option<LogPosition>,
    /// Bytes of entries after it.
    pub bytes: u64,
    /// The newest checkpoint, if the journal has every entry after it.
    pub checkpoint: Option<(CheckpointFile, Digest)>,
}

/// What an operator may ask of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give the sequencer role to the other member. Ignored unless this one has it.
    HandOver,
    /// Leave the pair and stop.
    Stop,
    /// Take processes at the other place in again that are held for repair. Ignored where nothing
    /// is counted against them.
    Readmit,
}

/// Why the sequencer role is not given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverRefused {
    /// This replica does not have it.
    #[error(
        "this CoServer does not order the inputs: ask the one at place {sequencer}, which does"
    )]
    Follower {
        /// Who has it.
        sequencer: ReplicaId,
    },
    /// There is nobody to give it to.
    #[error(
        "no two CoServers are members at present, so there is nobody to hand over to: see `mode` and `waits_for` in the status"
    )]
    Alone,
    /// The other one may be gone, or computed something else.
    #[error(
        "this CoServer is about to go on without the other one, or holds its outputs: see the log"
    )]
    Suspects,
    /// There is no room for the entry.
    #[error("the other CoServer is a whole window behind: ask again once it has caught up")]
    Full,
}

/// Why the other place is not taken in again: nothing keeps it out here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadmitRefused {
    /// This replica is no member, so it takes nobody in.
    #[error(
        "this CoServer is no member of the pair, so nothing is held here: ask the one at place {other}"
    )]
    NoMember {
        /// Where the member is, if there is one.
        other: ReplicaId,
    },
    /// It did not go on without one that computed something else.
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
    /// Send this on these links; where a link's queue is full, drop it there and say
    /// [`Input::LinkBlocked`].
    Peer {
        /// On which.
        links: LinkSet,
        /// What.
        frame: PeerFrame,
    },
    /// Close this link's connection: the peer on it is not to be talked to. The driver may dial
    /// again after a while.
    CloseLink {
        /// Which.
        link: LinkId,
    },
    /// Send this to the witness.
    Witness(WitnessCall),
    /// Talk to the witness in this slot from now on, and to the other one no more. Until a
    /// connection to it is there the driver says nothing of any witness.
    UseWitness {
        /// 0 for the preferred one, 1 for the alternate.
        slot: u8,
    },
    /// Send this to a client.
    Client {
        /// On which connection.
        conn: ConnId,
        /// What.
        answer: ClientAnswer,
    },
    /// End a client's connection, after what was sent on it.
    CloseClient {
        /// Which.
        conn: ConnId,
    },
    /// Append this entry to the journal; answered by [`Input::Persisted`], in order. Under
    /// `memory` durability answered at once.
    Append(Entry),
    /// Execute this entry, after those before it; answered by [`Input::Executed`].
    Execute(Entry),
    /// Write this membership to disk, then say [`Input::MembershipPersisted`] with its number.
    PersistMembership {
        /// Its number.
        number: u64,
        /// The membership.
        membership: Membership,
    },
    /// A device's output is released: carry it out.
    Release {
        /// The entry that caused it.
        index: Index,
        /// The step within it.
        step: u32,
        /// Its ordinal within the step.
        ordinal: u32,
        /// The epoch in which it is released.
        epoch: Epoch,
        /// What. Only [`OutputKind::Device`]; answers to clients come as [`Output::Client`].
        kind: OutputKind,
    },
    /// The replica's standing in the pair changed; devices open and close by it.
    Standing(Standing),
    /// Restore the newest checkpoint and replay the journal; answered by [`Input::Recovered`].
    Recover {
        /// To the last entry that was surely released, and hand over those after it.
        /// `Some`: exactly to this entry, and drop from the journal what comes after it.
        to: Option<Index>,
    },
    /// Drop from the journal what comes after this entry; nothing of it was executed.
    Truncate {
        /// The last entry to keep.
        after: Index,
    },
    /// Which of these entries does the journal have? Answered by [`Input::CommonPrefix`].
    FindCommonPrefix {
        /// The joiner's points, the last entry first.
        points: Vec<LogPosition>,
    },
    /// Read entries from the journal; answered by [`Input::EntriesRead`].
    ReadEntries {
        /// The entry before the first.
        after: Index,
    },
    /// Read a piece of a checkpoint, at most [`limits::CHUNK_BYTES`](crate::limits::CHUNK_BYTES);
    /// answered by [`Input::ChunkRead`].
    ReadChunk {
        /// Which.
        checkpoint: Index,
        /// From where.
        offset: u64,
    },
    /// A checkpoint will come in pieces; what is there of it already is gone on with. Answered by
    /// [`Input::ChunksWritten`].
    BeginChunks(CheckpointFile),
    /// The next piece of it; answered by [`Input::ChunksWritten`].
    WriteChunk {
        /// Which checkpoint.
        checkpoint: Index,
        /// Where in its file.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The checkpoint is whole: check it, and let it take the place of the journal, whose next
    /// entry is the one after it. Answered by [`Input::Installed`].
    Install {
        /// The file.
        file: CheckpointFile,
        /// The digest of the entries at it.
        log_digest: Digest,
    },
    /// Keep the journal and the checkpoints from this entry on for a joiner, within the
    /// configured limit; `None`: no longer.
    Retain {
        /// The entry.
        from: Option<Index>,
    },
    /// Write the state as it was frozen when this entry was executed (rule K1); answered by
    /// [`Input::CheckpointWritten`]. The driver freezes whenever it has executed an
    /// [`EntryKind::Checkpoint`](crate::entry::EntryKind::Checkpoint) and keeps the newest.
    WriteCheckpoint {
        /// The log up to the entry.
        history: History,
    },
    /// Something worth recording happened.
    Event(Event),
    /// The replica is out: tell the clients, then end the process.
    Stop {
        /// Why.
        cause: StopCause,
    },
}

/// What a replica must remember of its membership over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The epoch in which it was last a member, if its log is what a member's has to be.
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
    /// Who its predecessor was.
    pub membership: Membership,
    /// The last epoch in its log.
    pub lineage: Lineage,
    /// The last entry that it has.
    pub last_index: Index,
    /// Entries of its log from which it can go on, the last first; at most
    /// [`limits::POINTS`](crate::limits::POINTS).
    pub points: Vec<LogPosition>,
}

/// Whether a CoServer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not met the other yet.
    Starting,
    /// It is being brought up to date behind the other.
    Joining,
    /// It is a member: inputs are taken, outputs flow.
    Serving {
        /// Its epoch.
        epoch: Epoch,
        /// Whether either may be lost: both are members, and the disks of both say so (rule J6).
        duplex: bool,
        /// Who orders the inputs.
        sequencer: ReplicaId,
    },
    /// A member that has held its outputs for long: new clients should try the other.
    Holding,
    /// No member any more.
    Out,
}

/// A set of links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSet(u8);

impl LinkSet {
    /// None.
    pub const NONE: Self = Self(0);

    /// This one alone.
    pub fn of(link: LinkId) -> Self {
        Self(1 << link.0)
    }

    /// Adds one.
    pub fn insert(&mut self, link: LinkId) {
        self.0 |= 1 << link.0;
    }

    /// Whether it is there.
    pub fn contains(self, link: LinkId) -> bool {
        self.0 & (1 << link.0) != 0
    }

    /// Whether none is.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are there, in order.
    pub fn iter(self) -> impl Iterator<Item = LinkId> {
        (0..8).map(LinkId).filter(move |link| self.contains(*link))
    }
}

/// What a replica's core must know of its place in the world. Made by the driver from a checked
/// configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The pair.
    pub pair: PairId,
    /// This replica's place.
    pub place: ReplicaId,
    /// How many links there are, at most [`limits::LINKS`](crate::limits::LINKS).
    pub links: u8,
    /// What this replica runs.
    pub environment: Environment,
    /// Silence of every link for this long is taken for the peer's death. An upper bound: the
    /// timeout adapts below it to what is observed.
    pub silence: Duration,
    /// The lower bound of the adaptive silence timeout.
    pub silence_floor: Duration,
    /// Between two heartbeats on a link.
    pub heartbeat: Duration,
    /// A peer that keeps the window full, or inputs unordered, for this long is too slow.
    pub slow_limit: Duration,
    /// A follower forwards a client's request that it has not seen ordered after this long.
    pub forward_delay: Duration,
    /// A member that has held its outputs for this long turns clients away.
    pub hold_limit: Duration,
    /// Bound on entries ordered and not yet agreed and released.
    pub window_entries: usize,
    /// Bound on their bytes, outputs included.
    pub window_bytes: usize,
    /// Who goes on when the replicas computed different things.
    pub divergence: DivergencePolicy,
    /// A process that starts with a journal tries for this long to meet the other before it
    /// claims its predecessor's place (rule J2).
    pub meeting: Duration,
    /// A log is not taken up again if its time would step forward by more than this (rule O13).
    pub clock_step: Duration,
    /// Not to have run for longer than this makes a gap, and so does a wake-up that is overdue by
    /// more, with nothing ordered since (rule O14).
    pub gap_least: Duration,
    /// Log time runs at most one part in so many faster or slower than real time (rule O4).
    pub clock_slew: u32,
    /// Bytes of entries after which a checkpoint is taken (rule K1).
    pub checkpoint_bytes: u64,
    /// Most bytes a second that a joiner is sent of what it lacks.
    pub join_rate: u64,
    /// How many witnesses there are: one, or two with an alternate.
    pub witnesses: u8,
    /// The pair turns to the other witness once its sequencer has not reached the one in use for
    /// this long; with every move in vain for twice as long as before.
    pub witness_patience: Duration,
}

/// Who goes on when the replicas computed different things. A replica whose service panicked
/// where the other's did not never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DivergencePolicy {
    /// The sequencer.
    Sequencer,
    /// The one at this place.
    Prefer(ReplicaId),
    /// Nobody: both hold until an operator stops one.
    Hold,
}

/// What is new with every start of the process: from the entropy source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// This process.
    pub incarnation: Incarnation,
    /// The seed of the service's randomness, should this replica begin a lineage, and of the
    /// marks on its requests.
    pub seed: [u8; 32],
    /// What its disk holds; `None` if there is nothing, or nothing that can be used.
    pub disk: Option<Disk>,
    /// An operator wants it to begin a new lineage with that (rule J8).
    pub adopt: bool,
}

/// A replica's state at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its place.
    pub place: ReplicaId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Its standing.
    pub standing: Standing,
    /// The epoch's record, if it is a member of one.
    pub record: Option<Record>,
    /// Whether it orders the inputs.
    pub is_sequencer: bool,
    /// The last entry that it holds.
    pub last_index: Index,
    /// The last that it has executed.
    pub executed: Index,
    /// The last on which both agree, or that it may release alone.
    pub agreed: Index,
    /// The last whose outputs it has released.
    pub released: Index,
    /// The last that the peer is known to hold.
    pub peer_held: Index,
    /// The last that the peer is known to have executed.
    pub peer_executed: Index,
    /// The peer's process, once met.
    pub peer: Option<Incarnation>,
    /// Links with a connection, and those whose heartbeats come back.
    pub links: Vec<LinkStatus>,
    /// The silence timeout in force.
    pub silence: Duration,
    /// Whether the witness in use is connected.
    pub witness_up: bool,
    /// Which it is: 0 for the preferred one, 1 for the alternate.
    pub witness_slot: u8,
    /// The log's time at the last entry.
    pub time: LogTime,
    /// Inputs taken here and not yet seen ordered.
    pub pending: usize,
    /// What it waits for, and for how long it has.
    pub wait: Option<(Wait, Duration)>,
    /// What the clients' sessions have, and what was lost of them while it is a member.
    pub sessions: SessionCounts,
    /// Processes at the other place are not taken in until an operator says so.
    pub held_for_repair: bool,
}

/// How often a process went on without one at the other place, member or joiner, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removals {
    /// No link to it was up.
    pub silent: u64,
    /// It said that it leaves, or another process came in its place.
    pub dead: u64,
    /// It did not keep up.
    pub slow: u64,
    /// It computed something else.
    pub diverged: u64,
}

/// One link at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Which.
    pub link: LinkId,
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether heartbeats come back.
    pub up: bool,
    /// The smoothed round trip of heartbeats.
    pub round_trip: Option<Duration>,
}
