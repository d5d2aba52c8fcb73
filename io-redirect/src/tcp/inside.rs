//! The inside half: the replicated table of listeners and connections.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lockstep::ids::{DeviceId, Place};
use lockstep::output::Carrier;

use super::rows::{Conn, Deferred, Head, Phase};
use super::words::{Handle, ListenOrder, Order, Report};
use super::{
    ConnId, ConnectError, ConnectFailure, ListenError, ListenerId, ResetCause, Target, TcpEvent,
    TcpLimits,
};
use crate::io::Outbox;
use crate::limits;

/// What one report means to the service: at most two events.
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
    pub(super) deferred: BTreeMap<ConnId, Deferred>,
    /// Finds accepted connections by the outside half's name.
    pub(super) accepted: BTreeMap<(Place, Handle), ConnId>,
    /// The rows of `conns` that are lost.
    pub(super) lost: BTreeSet<ConnId>,
}

impl TcpTable {
    pub(crate) fn new(device: Option<DeviceId>, limits: TcpLimits) -> Self {
        Self {
            device,
            limits,
            head: Head::default(),
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            deferred: BTreeMap::new(),
            accepted: BTreeMap::new(),
            lost: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    /// A connection that the service may still speak of.
    pub(crate) fn open(&self, conn: ConnId) -> Option<&Conn> {
        self.conns.get(&conn).filter(|row| matches!(row.phase, Phase::Open | Phase::Connecting))
    }

    pub(crate) fn open_mut(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&conn).filter(|row| matches!(row.phase, Phase::Open | Phase::Connecting))
    }

    pub(crate) fn order(&self, place: Option<Place>, order: &Order, outbox: &mut Outbox) {
        if let (Some(device), Some(place)) = (self.device, place) {
            outbox.push(device, Carrier::Place(place), order.encode());
        }
    }

    fn present(&self) -> impl Iterator<Item = Place> + use<> {
        let present = self.head.present;
        Place::BOTH.into_iter().filter(move |place| present[place.slot()])
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
        let order = Order::Listen { listener, options: options.clone() };
        self.present().for_each(|place| self.order(Some(place), &order, outbox));
        self.listeners.insert(listener, options);
        Ok(listener)
    }

    pub(crate) fn unlisten(&mut self, listener: ListenerId, outbox: &mut Outbox) -> bool {
        let known = self.listeners.remove(&listener).is_some();
        if known {
            let order = Order::Unlisten { listener };
            self.present().for_each(|place| self.order(Some(place), &order, outbox));
        }
        known
    }

    pub(crate) fn connect(
        &mut self,
        target: Target,
        timeout: Option<Duration>,
        from: Option<Place>,
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
        if self.conns.len() >= self.limits.connections as usize {
            return Err(ConnectError::TooMany);
        }
        if let Some(place) = from
            && !self.head.present[place.slot()]
        {
            return Err(ConnectError::NotAMember(place));
        }
        let timeout = timeout.unwrap_or(self.limits.connect_timeout).as_millis();
        let timeout_ms = u32::try_from(timeout).unwrap_or(u32::MAX).max(1);
        let conn = self.next_conn();
        let windows = self.limits.windows();
        let row = Conn::new(None, Handle::made(conn), Phase::Connecting, windows);
        self.conns.insert(conn, row);
        self.deferred.insert(conn, Deferred { target, timeout_ms });
        self.send_connect(conn, from.or(self.head.sequencer), outbox);
        Ok(conn)
    }

    /// Hands a connection that is to be made to its carrier, as soon as there is one.
    fn send_connect(&mut self, conn: ConnId, place: Option<Place>, outbox: &mut Outbox) {
        let Some(place) = place else { return };
        let (Some(row), Some(deferred)) = (self.conns.get_mut(&conn), self.deferred.remove(&conn))
        else {
            return;
        };
        row.place = Some(place);
        let Deferred { target, timeout_ms } = deferred;
        let windows = self.limits.windows();
        let order = Order::Connect { handle: row.handle, target, timeout_ms, windows };
        self.order(Some(place), &order, outbox);
    }

    fn next_conn(&mut self) -> ConnId {
        self.head.last_conn += 1;
        ConnId(self.head.last_conn)
    }

    /// The service is done with a connection; says who is to be told, if anybody.
    pub(crate) fn let_go(&mut self, conn: ConnId) -> Option<(Place, Handle)> {
        let row = self.open_mut(conn)?;
        let Some(place) = row.place else {
            self.remove(conn);
            return None;
        };
        row.phase = Phase::LetGo;
        Some((place, row.handle))
    }

    fn remove(&mut self, conn: ConnId) {
        self.deferred.remove(&conn);
        if let Some(row) = self.conns.remove(&conn)
            && let Some(place) = row.place
            && row.handle.boot != 0
        {
            self.accepted.remove(&(place, row.handle));
        }
    }

    /// Grants the outside half what was taken, when it is worth an output.
    pub(crate) fn flush_grant(&mut self, conn: ConnId, outbox: &mut Outbox) {
        let Some(row) = self.conns.get_mut(&conn) else { return };
        if let Some(bytes) = row.taken.take_if_due() {
            let (place, handle) = (row.place, row.handle);
            self.order(place, &Order::Credit { handle, bytes }, outbox);
        }
    }

    /// The outside half of `place` says something.
    pub(crate) fn on_report(&mut self, place: Place, bytes: &Bytes, outbox: &mut Outbox) -> Events {
        match Report::decode(bytes) {
            Ok(report) if self.head.present[place.slot()] => {
                self.on_sound_report(place, report, outbox)
            }
            _ => self.ignore(),
        }
    }

    /// Reports of connections that the service let go, or of another incarnation of the
    /// CoServer, come late; others can only come from a defect outside, and change nothing.
    fn ignore(&mut self) -> Events {
        self.head.ignored += 1;
        NOTHING
    }

    fn on_sound_report(&mut self, place: Place, report: Report, outbox: &mut Outbox) -> Events {
        let window = self.limits.send_window;
        match report {
            Report::Accepted { handle, listener, peer, local } => {
                self.on_accepted(place, handle, listener, outbox).map_or(NOTHING, |conn| {
                    [Some(TcpEvent::Accepted { conn, listener, peer, local }), None]
                })
            }
            Report::Connected { handle, peer, local } => match self.find(place, handle) {
                Some((conn, row)) if row.phase == Phase::Connecting => {
                    row.phase = Phase::Open;
                    [Some(TcpEvent::Connected { conn, peer, local }), None]
                }
                _ => self.ignore(),
            },
            Report::ConnectFailed { handle, why, text } => {
                let why = ConnectFailure::from_parts(why, &text);
                self.on_end(place, handle, |conn| TcpEvent::ConnectFailed { conn, why })
            }
            Report::Data { handle, written, bytes } => {
                self.on_data(place, handle, written, bytes, outbox)
            }
            Report::Written { handle, written } => match self.find(place, handle) {
                Some((conn, row)) => [on_written(conn, row, written, window), None],
                None => self.ignore(),
            },
            Report::PeerClosed { handle } => match self.find(place, handle) {
                Some((conn, row)) if row.phase == Phase::Open => {
                    [Some(TcpEvent::PeerClosed { conn }), None]
                }
                _ => self.ignore(),
            },
            Report::Ended { handle } => self.on_end(place, handle, |conn| TcpEvent::Ended { conn }),
            Report::Reset { handle, cause } => {
                self.on_end(place, handle, |conn| TcpEvent::Reset { conn, cause })
            }
        }
    }

    fn find(&mut self, place: Place, handle: Handle) -> Option<(ConnId, &mut Conn)> {
        let conn = match handle.boot {
            0 => ConnId(handle.number),
            _ => *self.accepted.get(&(place, handle))?,
        };
        let row = self.conns.get_mut(&conn)?;
        (row.place == Some(place) && row.handle == handle).then_some((conn, row))
    }

    fn on_accepted(
        &mut self,
        place: Place,
        handle: Handle,
        listener: ListenerId,
        outbox: &mut Outbox,
    ) -> Option<ConnId> {
        if handle.boot == 0 || self.accepted.contains_key(&(place, handle)) {
            self.ignore();
            return None;
        }
        let full = self.conns.len() >= self.limits.connections as usize;
        let options = self.listeners.get(&listener);
        if full || options.is_none() {
            let refusal = options.map(|options| options.refusal.clone()).unwrap_or_default();
            self.order(Some(place), &Order::Send { handle, bytes: refusal }, outbox);
            self.order(Some(place), &Order::Close { handle }, outbox);
            return None;
        }
        let conn = self.next_conn();
        let row = Conn::new(Some(place), handle, Phase::Open, self.limits.windows());
        self.conns.insert(conn, row);
        self.accepted.insert((place, handle), conn);
        Some(conn)
    }

    fn on_data(
        &mut self,
        place: Place,
        handle: Handle,
        written: u32,
        bytes: Bytes,
        outbox: &mut Outbox,
    ) -> Events {
        let window = self.limits.send_window;
        let Some((conn, row)) = self.find(place, handle) else { return self.ignore() };
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
        place: Place,
        handle: Handle,
        event: impl FnOnce(ConnId) -> TcpEvent,
    ) -> Events {
        let Some((conn, row)) = self.find(place, handle) else { return self.ignore() };
        let told = matches!(row.phase, Phase::Open | Phase::Connecting);
        self.remove(conn);
        [told.then(|| event(conn)), None]
    }

    /// The members changed: new ones are told of the listeners, and the connections of those
    /// who left are lost.
    pub(crate) fn on_members(&mut self, present: [bool; 2], sequencer: Place, outbox: &mut Outbox) {
        let before = core::mem::replace(&mut self.head.present, present);
        self.head.sequencer = Some(sequencer);
        for place in Place::BOTH {
            match (before[place.slot()], present[place.slot()]) {
                (false, true) => self.on_joined(place, outbox),
                (true, false) => self.on_left(place),
                _ => {}
            }
        }
        let waiting: Vec<ConnId> = self.deferred.keys().copied().collect();
        waiting.into_iter().for_each(|conn| self.send_connect(conn, Some(sequencer), outbox));
    }

    fn on_joined(&self, place: Place, outbox: &mut Outbox) {
        for (listener, options) in &self.listeners {
            let order = Order::Listen { listener: *listener, options: options.clone() };
            self.order(Some(place), &order, outbox);
        }
    }

    fn on_left(&mut self, place: Place) {
        let mut over = Vec::new();
        for (conn, row) in self.conns.iter_mut().filter(|(_, row)| row.place == Some(place)) {
            match row.phase {
                Phase::Open | Phase::Connecting => {
                    row.phase = Phase::Lost { made: row.phase == Phase::Open };
                    self.lost.insert(*conn);
                }
                Phase::LetGo => over.push(*conn),
                Phase::Lost { .. } => {}
            }
        }
        over.into_iter().for_each(|conn| self.remove(conn));
    }

    /// Whether the service is still to be told of lost connections.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The next lost connection, in the order of their ids.
    pub(crate) fn take_lost(&mut self) -> Option<TcpEvent> {
        let conn = self.lost.pop_first()?;
        let made = self.conns.get(&conn)?.phase == Phase::Lost { made: true };
        self.remove(conn);
        Some(if made {
            TcpEvent::Reset { conn, cause: ResetCause::CarrierLost }
        } else {
            TcpEvent::ConnectFailed { conn, why: ConnectFailure::CarrierLost }
        })
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
