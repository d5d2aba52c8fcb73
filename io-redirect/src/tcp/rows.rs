//! The rows of the inside half's table, and the table as it is frozen.

use lockstep::ids::{DeviceId, Place};
use rkyv::{Archive, Deserialize, Serialize};

use super::flow::Tally;
use super::inside::TcpTable;
use super::words::{Handle, ListenOrder, Windows};
use super::{ConnId, ListenerId, Target, TcpLimits};

/// One connection.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conn {
    /// Who carries it; `None` while it waits for the first members.
    pub(crate) place: Option<Place>,
    pub(crate) handle: Handle,
    pub(crate) phase: Phase,
    /// The service closed its direction.
    pub(crate) write_closed: bool,
    /// Sent and not yet reported as written; at most the send window.
    pub(crate) unwritten: u32,
    /// The service was told "full" and is owed a `Writable`.
    pub(crate) wants_room: bool,
    /// Delivered and not yet taken, where the service takes explicitly.
    pub(crate) held: Option<u32>,
    /// Taken and not yet granted anew.
    pub(super) taken: Tally,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open,
    /// The service is done with it; the outside half has not yet reported its end.
    LetGo,
    /// Its carrier is gone; the service is about to be told.
    Lost {
        /// Whether it had been made before.
        made: bool,
    },
}

impl Conn {
    pub(super) fn new(
        place: Option<Place>,
        handle: Handle,
        phase: Phase,
        windows: Windows,
    ) -> Self {
        Self {
            place,
            handle,
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

/// A connection asked for before anybody was known to be a member.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct Deferred {
    pub(super) target: Target,
    pub(super) timeout_ms: u32,
}

/// The numbers of the table, as they are frozen.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) present: [bool; 2],
    pub(super) sequencer: Option<Place>,
    pub(super) last_conn: u64,
    pub(super) last_listener: u16,
    /// Reports that made no sense, for whoever debugs.
    pub(super) ignored: u64,
}

/// The table as it is frozen: rows, in order.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default)]
pub(crate) struct Frozen {
    head: Head,
    listeners: Vec<(ListenerId, ListenOrder)>,
    deferred: Vec<(ConnId, Deferred)>,
    #[rkyv(with = rkyv::with::Skip)]
    pub(crate) conns: Vec<(ConnId, Conn)>,
}

impl TcpTable {
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen {
            head: self.head,
            listeners: self.listeners.iter().map(|(id, row)| (*id, row.clone())).collect(),
            deferred: self.deferred.iter().map(|(id, row)| (*id, row.clone())).collect(),
            conns: self.conns.iter().map(|(id, row)| (*id, row.clone())).collect(),
        }
    }

    /// The table of which this is the frozen view, if it can be one.
    pub(crate) fn thaw(
        device: Option<DeviceId>,
        limits: TcpLimits,
        frozen: Frozen,
    ) -> Option<Self> {
        let mut table = Self::new(device, limits);
        let rows = frozen.conns.len();
        table.head = frozen.head;
        table.listeners = frozen.listeners.into_iter().collect();
        table.deferred = frozen.deferred.into_iter().collect();
        table.conns = frozen.conns.into_iter().collect();
        for (conn, row) in &table.conns {
            if matches!(row.phase, Phase::Lost { .. }) {
                table.lost.insert(*conn);
            }
            if let Some(place) = row.place
                && row.handle.boot != 0
                && table.accepted.insert((place, row.handle), *conn).is_some()
            {
                return None;
            }
        }
        let known = table.conns.keys().all(|conn| conn.0 <= table.head.last_conn);
        (known && table.conns.len() == rows).then_some(table)
    }
}
