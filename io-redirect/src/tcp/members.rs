//! What becomes of the inside half's table when processes come and go.

use lockstep::ids::{Incarnation, ReplicaId};
use lockstep::record::Members;

use super::inside::TcpTable;
use super::messages::{Command, Handle};
use super::table::Phase;
use super::{ConnId, ConnectFailure, ResetCause, TcpEvent};
use crate::io::Outbox;

impl TcpTable {
    /// The members changed. The connections of a process that left are lost, also where another
    /// process has its place; a process that came is told of the listeners. Connections that
    /// were being made there have carried nothing yet, and are made again.
    pub(crate) fn on_members(
        &mut self,
        members: Members,
        sequencer: ReplicaId,
        outbox: &mut Outbox,
    ) {
        let before = core::mem::replace(&mut self.head.members, members);
        self.head.sequencer = Some(sequencer);
        for place in ReplicaId::BOTH {
            if before.at(place) == members.at(place) {
                continue;
            }
            self.on_left(place);
            self.head.rooms[place.slot()] = None;
            if let Some(process) = members.at(place) {
                self.on_came(place, process, outbox);
            }
        }
        let waiting = self.dialling.keys().filter(|conn| self.waits(**conn));
        let waiting: Vec<ConnId> = waiting.copied().collect();
        waiting.into_iter().for_each(|conn| self.dial(conn, outbox));
    }

    fn waits(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|row| row.place.is_none())
    }

    fn on_came(&self, place: ReplicaId, process: Incarnation, outbox: &mut Outbox) {
        for (listener, options) in &self.listeners {
            let (listener, options) = (*listener, options.clone());
            self.order(Some(place), &Command::Listen { process, listener, options }, outbox);
        }
    }

    fn on_left(&mut self, place: ReplicaId) {
        let (mut over, mut lost) = (Vec::new(), Vec::new());
        for (conn, row) in self.conns.iter_mut().filter(|(_, row)| row.place == Some(place)) {
            match row.phase {
                Phase::Open => {
                    row.phase = Phase::Lost { made: true };
                    self.lost.insert(*conn);
                    lost.push((*conn, row.origin));
                }
                Phase::Connecting => {
                    let chosen = self.dialling.get(conn).and_then(|dialling| dialling.from);
                    if chosen.is_some_and(|place| self.head.members.at(place).is_none()) {
                        row.phase = Phase::Lost { made: false };
                        self.dialling.remove(conn);
                        self.lost.insert(*conn);
                    } else {
                        row.place = None;
                        row.handle = Handle::made(Incarnation(0), *conn);
                    }
                }
                Phase::Released => over.push(*conn),
                Phase::Lost { .. } => {}
            }
        }
        lost.into_iter().for_each(|(conn, origin)| self.leave_place(conn, origin));
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
