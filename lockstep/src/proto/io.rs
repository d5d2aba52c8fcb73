//! The boundary of the replica core: closed enums in and out.

use core::time::Duration;

use bytes::Bytes;

use crate::entry::Entry;
use crate::event::{Event, StopCause};
use crate::ids::{ConnId, DeviceId, Epoch, Incarnation, Index, LinkId, LogTime, PairId, Place};
use crate::output::{Executed, OutputKind};
use crate::record::Record;
use crate::wire::frames::{
    ClientAnswer, ClientCall, Environment, PeerFrame, WitnessAnswer, WitnessCall,
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
    /// The witness said something.
    Witness(WitnessAnswer),
    /// A client said something.
    Client {
        /// On which connection. The first frame on it makes it known.
        conn: ConnId,
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
    /// The operator asks for something.
    Command(Command),
}

/// What an operator may ask of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give the sequencer role to the other member. Ignored unless this one has it.
    HandOver,
    /// Leave the pair and stop.
    Stop,
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
    /// Something worth recording happened.
    Event(Event),
    /// The replica is out: tell the clients, then end the process.
    Stop {
        /// Why.
        cause: StopCause,
    },
}

/// What a replica must remember of its membership over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The epoch that it is in, if any.
    pub record: Option<Record>,
    /// A request to the witness whose outcome is not known.
    pub asked: Option<Record>,
}

/// Whether a CoServer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not met the other yet.
    Starting,
    /// It is a member: inputs are taken, outputs flow.
    Serving {
        /// Its epoch.
        epoch: Epoch,
        /// Whether the other is a member too.
        duplex: bool,
        /// Who orders the inputs.
        sequencer: Place,
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
    pub place: Place,
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
}

/// Who goes on when the replicas computed different things. A replica whose service panicked
/// where the other's did not never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DivergencePolicy {
    /// The sequencer.
    Sequencer,
    /// The one at this place.
    Prefer(Place),
    /// Nobody: both hold until an operator stops one.
    Hold,
}

/// What is new with every start of the process: from the entropy source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// This process.
    pub incarnation: Incarnation,
    /// The seed of the service's randomness, should this replica begin a lineage, and of the
    /// marks on its requests.
    pub seed: [u8; 32],
}

/// A replica's state at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its place.
    pub place: Place,
    /// Its process.
    pub incarnation: Incarnation,
    /// Its standing.
    pub standing: Standing,
    /// The epoch's record, if it is a member of one.
    pub record: Option<Record>,
    /// Whether it orders the inputs.
    pub is_sequencer: bool,
    /// The last entry that it holds.
    pub held: Index,
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
    /// Whether the witness is connected.
    pub witness_up: bool,
    /// The log's time at the last entry.
    pub time: LogTime,
    /// Inputs taken here and not yet seen ordered.
    pub kept: usize,
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
