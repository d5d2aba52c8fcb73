//! One CoServer: its replica, its service, and what waits for either.

use std::collections::{BTreeMap, VecDeque};

use lockstep::entry::Entry;
use lockstep::ids::{Epoch, Incarnation, Index, LinkId, ReplicaId};
use lockstep::output::Executed;
use lockstep::proto::Replica;
use lockstep::unit::Unit;

use super::disk::Disk;
use super::storage::Storage;
use crate::counting_service::CountingService;

pub(super) struct Node {
    pub(super) replica: Replica,
    pub(super) incarnation: Incarnation,
    pub(super) unit: Unit<CountingService>,
    /// Entries handed out and not executed yet.
    pub(super) todo: VecDeque<Entry>,
    /// The process runs; a dead one's place may be taken by another.
    pub(super) alive: bool,
    pub(super) stopped: bool,
    /// Whether the process is not scheduled: it takes nothing in, and its timers do not fire.
    pub(super) paused: bool,
    /// Links whose queue towards the peer is full.
    pub(super) blocked: BTreeMap<LinkId, bool>,
    /// Under way to this node, encoded.
    pub(super) inbox: VecDeque<Mail>,
    /// The last epoch of anything that it released.
    pub(super) epoch: Epoch,
    /// The last output that it released: they come in order.
    pub(super) last: Option<(Index, u32, u32)>,
    /// Survives the process.
    pub(super) disk: Disk,
    pub(super) storage: Storage,
}

/// Something on its way to a node.
#[derive(Clone, Debug)]
pub(super) enum Mail {
    /// On this link, over its connection of this number.
    Peer { link: LinkId, connection: u64, bytes: bytes::Bytes },
    /// From the witness, on this connection.
    Witness { conn: lockstep::ids::ConnId, bytes: bytes::Bytes },
}

impl Node {
    pub(super) fn new(replica: Replica, incarnation: Incarnation, disk: Disk) -> Self {
        Self {
            replica,
            incarnation,
            unit: Unit::new(CountingService::default()),
            todo: VecDeque::new(),
            alive: true,
            stopped: false,
            paused: false,
            blocked: BTreeMap::new(),
            inbox: VecDeque::new(),
            epoch: Epoch(0),
            last: None,
            disk,
            storage: Storage::default(),
        }
    }

    /// Whether it does anything.
    pub(super) fn runs(&self) -> bool {
        self.alive && !self.paused
    }

    /// Executes the next entry that waits.
    pub(super) fn execute(&mut self) -> Option<Executed> {
        if self.unit.has_panicked() {
            return None;
        }
        let entry = self.todo.pop_front()?;
        let executed = self.unit.execute(&entry);
        self.freeze(&entry);
        Some(executed)
    }
}

/// Where a node's incarnations count from.
pub(super) fn incarnation(place: ReplicaId, generation: u64) -> Incarnation {
    Incarnation(10 * (1 + place.slot() as u64) + generation)
}
