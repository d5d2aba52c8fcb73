//! The inside half: the replicated table of listeners and connections.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lockstep::ids::{DeviceId, Incarnation, Index, ReplicaId};
use lockstep::output::Carrier;
use lockstep::record::Members;

use super::messages::{Command, Event, Handle, ListenOrder, Room};
use super::places::Places;
use super::table::{Conn, Dialling, Head, Origin, Phase};
use super::{
    ConnId, ConnectError, ConnectFailure, ListenError, ListenerId, Target, TcpEvent, TcpLimits,
};
use crate::io::Outbox;
use crate::limits;

/// What one report means to the service: at most two events, in this order.
pub(crate) type Events = [Option<TcpEvent>; 2];

const NOTHING: Events = [None, None];

/// All listeners and connections of a service.
#[derive(Clone, Debug)]
pub(crate) struct TcpTable {
    pub(crate) device: Option<DeviceId>,
    pub(crate) limits: TcpLimits,
    pub(super) head: Head,
    pub(super) listeners: BTreeMap<ListenerId, ListenOrder>,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    /// Connections in `conns` that are being made, or wait for a CoServer that makes them.
    pub(super) dialling: BTreeMap<ConnId, Dialling>,
    /// Finds accepted connections by the outside half's name.
    pub(super) accepted: BTreeMap<Handle, ConnId>,
    /// The rows of `conns` that are lost.
    pub(super) lost: BTreeSet<ConnId>,
    /// Who has the rows of `conns` that were accepted on either CoServer, lost ones left out.
    pub(super) places: Places<ConnId>,
    /// The same, by listener.
    pub(super) of_listener: BTreeMap<ListenerId, Places<ConnId>>,
}

impl TcpTable {
    pub(crate) fn new(device: Option<DeviceId>, limits: TcpLimits) -> Self {
        Self {
            device,
            limits,
            head: Head::default(),
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            dialling: BTreeMap::new(),
            accepted: BTreeMap::new(),
            lost: BTreeSet::new(),
            places: Places::default(),
            of_listener: BTreeMap::new(),
        }
    }

    /// A connection that the service may still speak of.
    pub(crate) fn open(&self, conn: ConnId) -> Option<&Conn> {
        self.conns.get(&conn).filter(|row| matches!(row.phase, Phase::Open | Phase::Connecting))
    }

    pub(crate) fn open_mut(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&conn).filter(|row| matches!(row.phase, Phase::Open | Phase::Connecting))
    }

    pub(crate) fn order(&self, place: Option<ReplicaId>, order: &Command, outbox: &mut Outbox) {
        if let (Some(device), Some(place)) = (self.device, place) {
            outbox.push(device, Carrier::Replica(place), order.encode());
        }
    }

    /// Who the members are, as far as the device was told.
    pub(crate) fn members(&self) -> Members {
        self.head.members
    }

    fn processes(&self) -> impl Iterator<Item = (ReplicaId, Incarnation)> + use<> {
        let members = self.head.members;
        ReplicaId::BOTH.into_iter().filter_map(move |place| Some((place, members.at(place)?)))
    }

    pub(crate) fn listen(
        &mut self,
        options: ListenOrder,
        outbox: &mut Outbox,
    ) -> Result<ListenerId, ListenError> {
        if self.listeners.values().any(|known| known.name == options.name) {
            return Err(ListenError::Twice(options.name));
        }
        if self.listeners.len() >= limits::LISTENERS {
            return Err(ListenError::TooMany);
        }
        let last = self.head.last_listener.checked_add(1).ok_or(ListenError::TooMany)?;
        self.head.last_listener = last;
        let listener = ListenerId(last);
        for (place, process) in self.processes() {
            let order = Command::Listen { process, listener, options: options.clone() };
            self.order(Some(place), &order, outbox);
        }
        self.listeners.insert(listener, options);
        Ok(listener)
    }

    pub(crate) fn unlisten(&mut self, listener: ListenerId, outbox: &mut Outbox) -> bool {
        let known = self.listeners.remove(&listener).is_some();
        for (place, process) in self.processes().filter(|_| known) {
            self.order(Some(place), &Command::Unlisten { process, listener }, outbox);
        }
        known
    }

    pub(crate) fn connect(
        &mut self,
        target: Target,
        timeout: Option<Duration>,
        from: Option<ReplicaId>,
        outbox: &mut Outbox,
    ) -> Result<ConnId, ConnectError> {
        if self.device.is_none() {
            return Err(ConnectError::NoDevice);
        }
        if let Target::Name { host, .. } = &target
            && (host.is_empty() || host.len() > limits::HOST_BYTES)
        {
            return Err(ConnectError::Host);
        }
        if self.live() >= self.room().total as usize {
            return Err(ConnectError::TooMany);
        }
        if let Some(place) = from
            && self.head.members.at(place).is_none()
        {
            return Err(ConnectError::NotAMember(place));
        }
        let timeout = timeout.unwrap_or(self.limits.connect_timeout).as_millis();
        let timeout_ms = u32::try_from(timeout).unwrap_or(u32::MAX).max(1);
        let conn = self.next_conn();
        let windows = self.limits.windows();
        let handle = Handle::made(Incarnation(0), conn);
        self.conns.insert(conn, Conn::new(None, handle, Phase::Connecting, windows));
        self.dialling.insert(conn, Dialling { target, timeout_ms, from });
        self.dial(conn, outbox);
        Ok(conn)
    }

    /// Hands a connection that is to be made to its carrier, as soon as there is one.
    pub(super) fn dial(&mut self, conn: ConnId, outbox: &mut Outbox) {
        let (Some(row), Some(dialling)) = (self.conns.get_mut(&conn), self.dialling.get(&conn))
        else {
            return;
        };
        let Some(place) = dialling.from.or(self.head.sequencer) else { return };
        let Some(process) = self.head.members.at(place) else { return };
        row.place = Some(place);
        row.handle = Handle::made(process, conn);
        let Dialling { target, timeout_ms, .. } = dialling.clone();
        let windows = self.limits.windows();
        let order = Command::Connect { handle: row.handle, target, timeout_ms, windows };
        self.order(Some(place), &order, outbox);
    }

    /// How many connections the CoServers carry, or are to make. Connections of a CoServer that is
    /// gone take no room: their clients are about to come to the other one.
    pub(crate) fn live(&self) -> usize {
        self.conns.len() - self.lost.len()
    }

    /// How many connections the pair may have. What two serve must fit one that is left, so it is
    /// as many as the member with the least room can hold, and not the sum of both.
    pub(super) fn room(&self) -> Room {
        let limit = self.limits.connections;
        let most = Room { total: limit, accepted: limit };
        self.head.rooms.into_iter().flatten().fold(most, |least, room| Room {
            total: least.total.min(room.total),
            accepted: least.accepted.min(room.accepted),
        })
    }

    pub(super) fn next_conn(&mut self) -> ConnId {
        self.head.last_conn += 1;
        ConnId(self.head.last_conn)
    }

    /// The service is done with a connection; says who is to be told, if anybody.
    pub(crate) fn let_go(&mut self, conn: ConnId) -> Option<(ReplicaId, Handle)> {
        let row = self.open_mut(conn)?;
        let Some(place) = row.place else {
            self.remove(conn);
            return None;
        };
        row.phase = Phase::Released;
        let handle = row.handle;
        self.dialling.remove(&conn);
        Some((place, handle))
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        self.dialling.remove(&conn);
        self.lost.remove(&conn);
        if let Some(row) = self.conns.remove(&conn) {
            self.accepted.remove(&row.handle);
            self.leave_place(conn, row.origin);
        }
    }

    /// Grants the outside half what was taken, when it is worth an output.
    pub(crate) fn flush_grant(&mut self, conn: ConnId, outbox: &mut Outbox) {
        let Some(row) = self.conns.get_mut(&conn) else { return };
        if let Some(bytes) = row.taken.take_if_due() {
            let (place, handle) = (row.place, row.handle);
            self.order(place, &Command::Credit { handle, bytes }, outbox);
        }
    }

    /// The outside half of `place` says something. What another process than the present member
    /// says, there or elsewhere, says nothing about what is there now.
    pub(crate) fn on_report(
        &mut self,
        place: ReplicaId,
        index: Index,
        bytes: &Bytes,
        outbox: &mut Outbox,
    ) -> Events {
        match Event::decode(bytes) {
            Ok(report) if self.head.members.has(place, report.handle().process) => {
                self.on_sound_report(place, index, report, outbox)
            }
            _ => self.ignore(),
        }
    }

    /// Reports of another process of the CoServer come late; others can only come from a defect
    /// outside, and change nothing.
    pub(super) fn ignore(&mut self) -> Events {
        self.head.ignored += 1;
        NOTHING
    }

    /// A member reports of a connection that is not in the table: it was lost with the place and
    /// the process is a member again. No service here will ever end it, so it is broken off.
    fn reset_unknown(&mut self, place: ReplicaId, handle: Handle, outbox: &mut Outbox) -> Events {
        self.order(Some(place), &Command::Reset { handle }, outbox);
        self.ignore()
    }

    fn on_sound_report(
        &mut self,
        place: ReplicaId,
        index: Index,
        report: Event,
        outbox: &mut Outbox,
    ) -> Events {
        let window = self.limits.send_window;
        match report {
            Event::Accepted { handle, listener, peer, local } => {
                let origin = Origin { listener, peer: peer.ip(), heard: index, protected: false };
                let Some((conn, displaced)) = self.on_accepted(place, handle, origin, outbox)
                else {
                    return NOTHING;
                };
                [displaced, Some(TcpEvent::Accepted { conn, listener, peer, local })]
            }
            Event::Connected { handle, peer, local } => match self.find(place, handle) {
                Some((conn, row)) if row.phase == Phase::Connecting => {
                    row.phase = Phase::Open;
                    self.dialling.remove(&conn);
                    [Some(TcpEvent::Connected { conn, peer, local }), None]
                }
                Some(_) => self.ignore(),
                None => self.reset_unknown(place, handle, outbox),
            },
            Event::ConnectFailed { handle, why, text } => {
                let why = ConnectFailure::from_parts(why, &text);
                self.on_end(place, handle, |conn| TcpEvent::ConnectFailed { conn, why })
            }
            Event::Data { handle, written, bytes } => {
                self.on_data(place, index, handle, written, bytes, outbox)
            }
            Event::Written { handle, written } => match self.find(place, handle) {
                Some((conn, row)) => [on_written(conn, row, written, window), None],
                None => self.reset_unknown(place, handle, outbox),
            },
            Event::PeerClosed { handle } => match self.find(place, handle) {
                Some((conn, row)) if row.phase == Phase::Open => {
                    [Some(TcpEvent::PeerClosed { conn }), None]
                }
                Some(_) => self.ignore(),
                None => self.reset_unknown(place, handle, outbox),
            },
            Event::Room { room, .. } => {
                self.head.rooms[place.slot()] = Some(room);
                NOTHING
            }
            Event::Ended { handle } => self.on_end(place, handle, |conn| TcpEvent::Ended { conn }),
            Event::Reset { handle, cause } => {
                self.on_end(place, handle, |conn| TcpEvent::Reset { conn, cause })
            }
        }
    }

    fn find(&mut self, place: ReplicaId, handle: Handle) -> Option<(ConnId, &mut Conn)> {
        let conn = match handle.made_by_service() {
            Some(conn) => conn,
            None => *self.accepted.get(&handle)?,
        };
        let row = self.conns.get_mut(&conn)?;
        (row.place == Some(place) && row.handle == handle).then_some((conn, row))
    }

    fn on_data(
        &mut self,
        place: ReplicaId,
        index: Index,
        handle: Handle,
        written: u32,
        bytes: Bytes,
        outbox: &mut Outbox,
    ) -> Events {
        let window = self.limits.send_window;
        let Some((conn, row)) = self.find(place, handle) else {
            return self.reset_unknown(place, handle, outbox);
        };
        if let Some(origin) = &mut row.origin {
            origin.heard = index;
        }
        let writable = on_written(conn, row, written, window);
        if row.phase != Phase::Open || bytes.is_empty() {
            return [writable, None];
        }
        match &mut row.held {
            Some(held) => {
                *held = held.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            }
            None => row.grant(bytes.len()),
        }
        self.flush_grant(conn, outbox);
        [writable, Some(TcpEvent::Received { conn, bytes })]
    }

    fn on_end(
        &mut self,
        place: ReplicaId,
        handle: Handle,
        event: impl FnOnce(ConnId) -> TcpEvent,
    ) -> Events {
        let Some((conn, row)) = self.find(place, handle) else { return self.ignore() };
        let told = matches!(row.phase, Phase::Open | Phase::Connecting);
        self.remove(conn);
        [told.then(|| event(conn)), None]
    }
}

/// The outside half wrote this much more of what was sent.
fn on_written(conn: ConnId, row: &mut Conn, written: u32, window: u32) -> Option<TcpEvent> {
    row.unwritten = row.unwritten.saturating_sub(written);
    let writable = row.phase == Phase::Open
        && !row.write_closed
        && row.wants_room
        && row.unwritten <= window / 2;
    writable.then(|| {
        row.wants_room = false;
        TcpEvent::Writable { conn }
    })
}
