//! Connections that listeners accepted: how many may be there, and which gives way to a newcomer
//! when that many are.

use lockstep::ids::ReplicaId;

use super::inside::TcpTable;
use super::messages::{Command, Handle};
use super::places::Places;
use super::table::{Conn, Origin, Phase};
use super::{ConnId, ResetCause, TcpEvent};
use crate::io::Outbox;

impl TcpTable {
    /// Takes a connection in, if need be in place of another. The service is first told of that
    /// one's end, if it had not let go of it. `None` if it is turned away.
    pub(super) fn on_accepted(
        &mut self,
        place: ReplicaId,
        handle: Handle,
        origin: Origin,
        outbox: &mut Outbox,
    ) -> Option<(ConnId, Option<TcpEvent>)> {
        if handle.made_by_service().is_some() || self.accepted.contains_key(&handle) {
            self.ignore();
            return None;
        }
        let victim = match self.room_for(&origin) {
            Verdict::Free => None,
            Verdict::InPlaceOf(victim) => Some(victim),
            Verdict::TurnAway => {
                self.order(Some(place), &Command::Refuse { handle }, outbox);
                return None;
            }
        };
        let displaced = victim.and_then(|victim| self.displace(victim, outbox));
        let conn = self.next_conn();
        let mut row = Conn::new(Some(place), handle, Phase::Open, self.limits.windows());
        row.origin = Some(origin);
        self.take_place(conn, origin);
        self.conns.insert(conn, row);
        self.accepted.insert(handle, conn);
        Some((conn, displaced))
    }

    /// Whether a connection may be taken in, on whichever CoServer it is.
    fn room_for(&self, origin: &Origin) -> Verdict {
        let Some(options) = self.listeners.get(&origin.listener) else {
            return Verdict::TurnAway;
        };
        let of_listener = self.of_listener.get(&origin.listener);
        let full = if of_listener.map_or(0, Places::len) >= options.connections as usize {
            of_listener
        } else if self.live() >= self.room().accepted as usize {
            Some(&self.places)
        } else {
            return Verdict::Free;
        };
        let victim = full.and_then(|places| self.victim(places.claims(origin.peer)));
        victim.map_or(Verdict::TurnAway, Verdict::InPlaceOf)
    }

    /// Which of these is missed least: one that the service is done with, else the one that has
    /// said nothing for longest. A session at work is the last to go.
    fn victim(&self, claimed: impl Iterator<Item = ConnId>) -> Option<ConnId> {
        claimed.min_by_key(|conn| {
            let row = self.conns.get(conn);
            let heard = row.and_then(|row| row.origin).map(|origin| origin.heard);
            (row.is_some_and(|row| row.phase == Phase::Open), heard, *conn)
        })
    }

    /// Ends a connection in favour of another. What the outside half still says of it is passed
    /// over, as of one that was turned away.
    fn displace(&mut self, conn: ConnId, outbox: &mut Outbox) -> Option<TcpEvent> {
        let row = self.conns.get(&conn)?;
        let (place, handle, phase) = (row.place, row.handle, row.phase);
        self.order(place, &Command::Displace { handle }, outbox);
        self.remove(conn);
        let cause = ResetCause::Displaced;
        (phase == Phase::Open).then_some(TcpEvent::Reset { conn, cause })
    }

    /// Lets an accepted connection keep its place; says who is to be told, if anybody.
    pub(super) fn protect(&mut self, conn: ConnId) -> Option<(ReplicaId, Handle)> {
        let row = self.open_mut(conn)?;
        let origin = row.origin.as_mut().filter(|origin| !origin.protected)?;
        origin.protected = true;
        let (place, handle, listener) = (row.place?, row.handle, origin.listener);
        self.places.protect(conn);
        self.of_listener.entry(listener).or_default().protect(conn);
        Some((place, handle))
    }

    /// Enters an accepted connection where they are counted.
    pub(super) fn take_place(&mut self, conn: ConnId, origin: Origin) {
        let Origin { listener, peer, protected, .. } = origin;
        let of_listener = self.of_listener.entry(listener).or_default();
        for places in [of_listener, &mut self.places] {
            places.take(peer, conn);
            if protected {
                places.protect(conn);
            }
        }
    }

    /// Stops counting a connection. For one that does not count nothing changes.
    pub(super) fn leave_place(&mut self, conn: ConnId, origin: Option<Origin>) {
        let Some(Origin { listener, .. }) = origin else { return };
        self.places.give_back(conn);
        if let Some(places) = self.of_listener.get_mut(&listener) {
            places.give_back(conn);
            if places.len() == 0 {
                self.of_listener.remove(&listener);
            }
        }
    }
}

/// What becomes of a newcomer.
enum Verdict {
    Free,
    InPlaceOf(ConnId),
    TurnAway,
}
