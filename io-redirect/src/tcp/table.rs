//! The rows of the inside half's table, and the table as it is frozen.

pub(crate) mod before;

use std::net::IpAddr;

use lockstep::ids::{DeviceId, Index, ReplicaId};
use lockstep::record::Members;
use rkyv::{Archive, Deserialize, Serialize};

use super::flow::Tally;
use super::inside::TcpTable;
use super::messages::{Handle, ListenOrder, Room, Windows};
use super::{ConnId, ListenerId, Target, TcpLimits};

/// What is replicated of a connection.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conn {
    /// The CoServer that carries the connection; `None` until one can make it.
    pub(crate) place: Option<ReplicaId>,
    pub(crate) handle: Handle,
    /// Where the connection came from; `None` if the service makes it.
    pub(crate) origin: Option<Origin>,
    pub(crate) phase: Phase,
    /// Whether the service closed its direction.
    pub(crate) write_closed: bool,
    /// Bytes that were sent and not yet reported as written; at most the send window.
    pub(crate) unwritten: u32,
    /// Whether the service was told "full" and is owed a `Writable`.
    pub(crate) wants_room: bool,
    /// Bytes that were delivered and not yet taken; `None` where the service does not
    /// take explicitly.
    pub(crate) held: Option<u32>,
    /// Bytes that were taken and not yet granted anew.
    pub(super) taken: Tally,
}

/// The origin of an accepted connection, and what its place is worth.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The listener that accepted the connection.
    pub(crate) listener: ListenerId,
    pub(crate) peer: IpAddr,
    /// The entry that brought the connection's last bytes, or the connection itself.
    pub(crate) heard: Index,
    /// Whether the connection gives way to no other.
    pub(crate) protected: bool,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open,
    /// The service is done with it; the outside half has not yet reported its end.
    Released,
    /// The connection's carrier is gone; the service is about to be told.
    Lost {
        /// Whether it had been made before.
        made: bool,
    },
}

impl Conn {
    pub(super) fn new(
        place: Option<ReplicaId>,
        handle: Handle,
        phase: Phase,
        windows: Windows,
    ) -> Self {
        Self {
            place,
            handle,
            origin: None,
            phase,
            write_closed: false,
            unwritten: 0,
            wants_room: false,
            held: None,
            taken: Tally::of_reads(windows.read),
        }
    }

    /// This many bytes were taken by the service.
    pub(crate) fn grant(&mut self, bytes: usize) {
        self.taken.add(bytes);
    }
}

/// What is to be known to make a connection, kept until it is made: should its carrier go
/// before, another one makes it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialling {
    pub(super) target: Target,
    pub(super) timeout_ms: u32,
    /// The place that the service chose; `None` for that of the sequencer, whichever that is.
    pub(super) from: Option<ReplicaId>,
}

/// The numbers of the table, as they are frozen.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) members: Members,
    pub(super) sequencer: Option<ReplicaId>,
    pub(super) last_conn: u64,
    pub(super) last_listener: u16,
    /// What the members' processes have said that they have room for, by place; `None` for as
    /// many as the bounds allow.
    pub(super) rooms: [Option<Room>; 2],
    /// How many reports made no sense, for debugging.
    pub(super) ignored: u64,
}

/// The table as it is frozen: rows, in order.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default)]
pub(crate) struct Frozen {
    head: Head,
    listeners: Vec<(ListenerId, ListenOrder)>,
    #[rkyv(with = rkyv::with::Skip)]
    pub(crate) dialling: Vec<(ConnId, Dialling)>,
    #[rkyv(with = rkyv::with::Skip)]
    pub(crate) conns: Vec<(ConnId, Conn)>,
}

impl TcpTable {
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen {
            head: self.head,
            listeners: self.listeners.iter().map(|(id, row)| (*id, row.clone())).collect(),
            dialling: self.dialling.iter().map(|(id, row)| (*id, row.clone())).collect(),
            conns: self.conns.iter().map(|(id, row)| (*id, row.clone())).collect(),
        }
    }

    /// The table of which this is the frozen view, if it can be one.
    pub(crate) fn restore(
        device: Option<DeviceId>,
        limits: TcpLimits,
        frozen: Frozen,
    ) -> Option<Self> {
        let mut table = Self::new(device, limits);
        let rows = [frozen.conns.len(), frozen.dialling.len()];
        table.head = frozen.head;
        table.listeners = frozen.listeners.into_iter().collect();
        table.dialling = frozen.dialling.into_iter().collect();
        table.conns = frozen.conns.into_iter().collect();
        let mut origins = Vec::new();
        for (conn, row) in &table.conns {
            if matches!(row.phase, Phase::Lost { .. }) {
                table.lost.insert(*conn);
            } else {
                origins.extend(row.origin.map(|origin| (*conn, origin)));
            }
            if row.handle.made_by_service().is_none()
                && table.accepted.insert(row.handle, *conn).is_some()
            {
                return None;
            }
        }
        origins.into_iter().for_each(|(conn, origin)| table.take_place(conn, origin));
        let sound = table.conns.iter().all(|(conn, row)| table.is_sound(*conn, row));
        (sound && rows == [table.conns.len(), table.dialling.len()]).then_some(table)
    }

    /// Whether a row can be one of this table. A connection whose carrier is no member would
    /// never end.
    fn is_sound(&self, conn: ConnId, row: &Conn) -> bool {
        let carried =
            row.place.is_some_and(|place| self.head.members.has(place, row.handle.process));
        let dialling = self.dialling.contains_key(&conn);
        let sound = match row.phase {
            Phase::Open | Phase::Released => carried && !dialling,
            Phase::Connecting => dialling && (carried || row.place.is_none()),
            Phase::Lost { .. } => !dialling,
        };
        sound && conn.0 <= self.head.last_conn
    }
}
