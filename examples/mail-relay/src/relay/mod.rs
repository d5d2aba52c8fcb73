//! The relay as a service: sessions, queue and deliveries on redirected connections.
//!
//! Every byte of a client comes in as an input of the TCP device, and every reply leaves as an
//! output of it. The `250` for a mail is an output of the step that put it in the queue, so it is
//! released only when both CoServers hold the mail. A connection ends with the CoServer that
//! carries it. A client of a dead CoServer connects to the other one and sends again what was not
//! acknowledged. A delivery that was under way there is made again from the other one, where the
//! next hop may get that mail twice (RFC 1047). The same holds for a CoServer that was started
//! again, also where both had ended: queue, back-off and counters are as they were, all sessions
//! and deliveries begin anew. Both kinds of possible copies are counted ([`Counters::in_doubt`],
//! [`Counters::answers_in_doubt`]).
//!
//! # What it logs
//! Each CoServer logs what it executes; the runtime marks what is no news, on the follower, while
//! catching up and in a replay ([`lockstep::machine`] says how). Nothing here asks where it runs.
//! Pools that run short are events (`scarce.rs`).
//!
//! # Who gets what
//! Clients share what there is by blocks of addresses: connections, memory, the queue, mails a
//! minute. A block that takes all it can keeps no other out; see `rates.rs`, `memory.rs` and the
//! `share.rs` of the queue.
//!
//! # Memory
//! All that sessions hold is added up ([`RelaySettings::session_bytes`]), and who holds most gives
//! way; the queue counts for itself. A client is read from only as far as it takes its replies, and
//! what goes to the next hop waits as slices of the stored mail.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

mod backlog;
mod frozen;
mod hop;
mod inbound;
mod memory;
mod outbound;
mod rates;
mod remembered;
mod scarce;
mod settings;
mod shared;
mod timeouts;

#[cfg(test)]
mod crowds;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod gaps;
#[cfg(test)]
mod large;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use io_redirect::tcp::{ConnId, ListenOptions, ResetCause, TcpEvent};
use io_redirect::{Io, Members, Request, Service, TimerId, Token};
use lockstep::machine::{Identity, RecordSource, RestoreError};

use crate::limits;
use crate::smtp::client::{self, CloseCause};
use frozen::{Rows, change_each};
use inbound::Inbound;
use outbound::Outbound;
use shared::Shared;
use timeouts::Timeouts;

pub use frozen::Frozen;
pub use rates::{ShareCounters, ShareSettings};
pub use settings::{HopAddress, RelaySettings, SettingsError};
pub use shared::Counters;

/// The name of the listener that clients connect to.
pub const LISTENER: &str = "smtp";

/// The behaviour's version; part of what the CoServers compare.
const VERSION: u32 = 5;

/// The relay: a deterministic service that takes mails and hands them on.
#[derive(Debug)]
pub struct Relay {
    settings: RelaySettings,
    post: Shared,
    inbound: Rows<Inbound>,
    outbound: Rows<Outbound>,
    timeouts: Timeouts,
}

impl Relay {
    /// A relay with an empty queue.
    pub fn new(settings: RelaySettings) -> Relay {
        Relay {
            settings,
            post: Shared::default(),
            inbound: Rows::new(),
            outbound: Rows::new(),
            timeouts: Timeouts::default(),
        }
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.post.counters
    }

    /// What came of sharing the relay out among its clients.
    pub fn share_counters(&self) -> ShareCounters {
        self.post.rates.counters
    }

    /// The queue, to look at.
    pub fn queue(&self) -> &crate::queue::Queue {
        &self.post.queue
    }

    /// Sessions with clients.
    pub fn clients(&self) -> usize {
        self.inbound.len()
    }

    /// Connections to the next hop.
    pub fn hops(&self) -> usize {
        self.outbound.len()
    }

    /// Octets that all sessions hold.
    pub fn held_bytes(&self) -> u64 {
        self.post.memory.total()
    }

    fn on_inbound(&mut self, io: &mut Io<'_>, conn: ConnId, event: inbound::Event) {
        let Some(row) = self.inbound.get_mut(&conn).map(Arc::make_mut) else { return };
        let over = row.on_event(io, conn, &self.settings, &mut self.post, event);
        self.after_inbound(conn, over);
        self.free_memory(io);
    }

    fn after_inbound(&mut self, conn: ConnId, over: bool) {
        let Some(row) = self.inbound.get_mut(&conn).map(Arc::make_mut) else { return };
        if over {
            self.drop_inbound(conn);
        } else {
            let deadline = row.deadline();
            self.timeouts.see(conn, &mut row.alarm, deadline);
        }
    }

    /// Ends sessions until the others have room. Each of them is let go the second time at the
    /// latest, so there is an end to it.
    fn free_memory(&mut self, io: &mut Io<'_>) {
        while self.post.memory.total() > self.settings.session_bytes {
            let Some(conn) = self.post.memory.largest() else { return };
            let Some(row) = self.inbound.get_mut(&conn).map(Arc::make_mut) else { return };
            tracing::debug!(peer = %row.session.peer(), "the memory is full: its session gives way");
            let over = row.give_way(io, conn, &self.settings, &mut self.post);
            self.after_inbound(conn, over);
        }
    }

    fn drop_inbound(&mut self, conn: ConnId) {
        if let Some(row) = self.inbound.remove(&conn) {
            self.post.memory.change(conn, row.session.peer(), row.counted, 0);
            self.timeouts.forget(conn, row.alarm);
            self.see_clients(None);
        }
    }

    /// The number of clients has changed. If that makes connections scarce, clients that are silent
    /// have less time, from now on.
    fn see_clients(&mut self, now: Option<u64>) {
        let became = self.post.rates.see_clients(self.inbound.len(), self.settings.max_clients);
        let Some(now) = now.filter(|_| became) else { return };
        let usual = self.settings.server.idle;
        change_each(&mut self.inbound, |conn, row| {
            let idle = self.post.rates.idle(&self.settings.shares, row.session.peer(), usual);
            row.session.hurry(now.saturating_add(idle));
            let deadline = row.deadline();
            self.timeouts.see(conn, &mut row.alarm, deadline);
        });
    }

    fn on_outbound(&mut self, io: &mut Io<'_>, conn: ConnId, input: client::Input<'_>) {
        let Some(row) = self.outbound.get_mut(&conn).map(Arc::make_mut) else { return };
        let over = row.handle(io, conn, &self.settings, &mut self.post, input);
        self.after_outbound(conn, over);
    }

    fn after_outbound(&mut self, conn: ConnId, over: bool) {
        let Some(row) = self.outbound.get_mut(&conn).map(Arc::make_mut) else { return };
        if over {
            self.timeouts.forget(conn, row.alarm);
            self.outbound.remove(&conn);
        } else {
            let deadline = row.deadline();
            self.timeouts.see(conn, &mut row.alarm, deadline);
        }
    }

    /// Begins every delivery that may begin now, and sets the timer. The last thing of
    /// each step.
    fn dispatch(&mut self, io: &mut Io<'_>) {
        let now = io.now().0;
        self.post.expire(&self.settings.queue, now);
        while let Some(job) = self.post.queue.next_job(&self.settings.queue, now) {
            let mut used = self.outbound.iter().filter(|(_, row)| row.is_idle() && !job.needs_new);
            let idle = used.next().map(|(conn, _)| *conn);
            let conn = match idle.map_or_else(|| self.connect(io), Ok) {
                Ok(conn) => conn,
                Err(reason) => {
                    self.post.unreachable(io, &self.settings, &job, reason);
                    continue;
                }
            };
            self.on_outbound(io, conn, client::Input::Deliver(job.delivery));
        }
        self.timeouts.arm(io, self.post.queue.next_wakeup(&self.settings.queue));
        self.post.say_what_is_scarce(&self.settings);
    }

    fn connect(&mut self, io: &mut Io<'_>) -> Result<ConnId, String> {
        let last = self.post.hop.last(io.now().0);
        let target = self.settings.next_hop.target().last(last);
        let conn = io.tcp().connect(target).map_err(|error| error.to_string())?;
        self.outbound.insert(conn, Arc::new(Outbound::new(io.now().0)));
        Ok(conn)
    }

    fn on_accepted(&mut self, io: &mut Io<'_>, conn: ConnId, peer: std::net::IpAddr) {
        let now = io.now().0;
        if !self.post.rates.admit(&self.settings.shares, peer, now) {
            // Nothing was sent before it, so there is room.
            let _ = io.tcp().send(conn, self.settings.shut_out().as_bytes());
            return io.tcp().close(conn);
        }
        if self.settings.shares.trusts(peer) {
            io.tcp().protect(conn);
        }
        io.tcp().hold(conn);
        let row = Inbound::open(io, &self.settings, &mut self.post, peer);
        self.inbound.insert(conn, Arc::new(row));
        self.see_clients(Some(now));
        self.on_inbound(io, conn, inbound::Event::GoOn);
    }

    fn on_connected(&mut self, io: &mut Io<'_>, conn: ConnId, peer: std::net::SocketAddr) {
        if let Some(row) = self.outbound.get_mut(&conn).map(Arc::make_mut) {
            row.on_connected(peer);
        }
        self.on_outbound(io, conn, client::Input::Connected);
    }

    fn on_writable(&mut self, io: &mut Io<'_>, conn: ConnId) {
        self.on_inbound(io, conn, inbound::Event::GoOn);
        if let Some(row) = self.outbound.get_mut(&conn).map(Arc::make_mut) {
            row.backlog.flush(io, conn);
        }
    }

    /// The connection is over.
    fn on_end(&mut self, io: &mut Io<'_>, conn: ConnId, cause: CloseCause<'_>) {
        self.drop_inbound(conn);
        if self.outbound.contains_key(&conn) {
            self.on_outbound(io, conn, client::Input::Closed(cause));
            self.after_outbound(conn, true);
        }
    }

    /// The far end sends nothing more. A client may still want its replies; a next hop that
    /// closes is done with us.
    fn on_peer_closed(&mut self, io: &mut Io<'_>, conn: ConnId) {
        self.on_inbound(io, conn, inbound::Event::PeerClosed);
        if self.outbound.contains_key(&conn) {
            io.tcp().close(conn);
            self.on_end(io, conn, CloseCause::FarEnd("the next hop closed the connection"));
        }
    }
}

impl Service for Relay {
    type Frozen = Frozen;

    fn identity(&self) -> Identity {
        Identity {
            name: "mail-relay".into(),
            version: VERSION,
            configuration: self.settings.digest(),
        }
    }

    fn memory_bound(&self) -> u64 {
        // A view keeps mails that are delivered, and sessions that end, while it is written.
        self.settings.session_bytes.saturating_add(self.settings.queue.max_bytes).saturating_mul(2)
    }

    fn on_start(&mut self, io: &mut Io<'_>) {
        let options = ListenOptions {
            refusal: Bytes::from(self.settings.refusal()),
            connections: Some(self.settings.max_clients),
        };
        if let Err(error) = io.tcp().listen(LISTENER, options) {
            tracing::error!(%error, "the relay cannot listen and will take no mail");
        }
    }

    fn on_tcp(&mut self, io: &mut Io<'_>, event: TcpEvent) {
        match event {
            TcpEvent::Accepted { conn, peer, .. } => self.on_accepted(io, conn, peer.ip()),
            TcpEvent::Connected { conn, peer, .. } => self.on_connected(io, conn, peer),
            TcpEvent::ConnectFailed { conn, why } => {
                self.on_end(io, conn, CloseCause::FarEnd(&why.to_string()));
            }
            TcpEvent::Received { conn, bytes } if self.outbound.contains_key(&conn) => {
                self.on_outbound(io, conn, client::Input::Data(&bytes));
            }
            TcpEvent::Received { conn, bytes } => {
                self.on_inbound(io, conn, inbound::Event::Received(bytes));
            }
            TcpEvent::Writable { conn } => self.on_writable(io, conn),
            TcpEvent::PeerClosed { conn } => self.on_peer_closed(io, conn),
            TcpEvent::Ended { conn } => {
                self.on_end(io, conn, CloseCause::FarEnd("the connection ended"));
            }
            TcpEvent::Reset { conn, cause } => {
                if let Some(row) = self.inbound.get(&conn) {
                    row.on_broken_off(&mut self.post);
                    let gave_way = cause == ResetCause::Displaced;
                    self.post.rates.counters.displaced += u64::from(gave_way);
                }
                self.on_end(io, conn, outbound::close_cause(cause));
            }
        }
        self.dispatch(io);
    }

    fn on_timer(&mut self, io: &mut Io<'_>, timer: TimerId, _: Token) {
        self.timeouts.on_timer(timer);
        for _ in 0..limits::ALARMS_PER_STEP {
            let Some(conn) = self.timeouts.take_due(io.now().0) else { break };
            if let Some(row) = self.inbound.get_mut(&conn).map(Arc::make_mut) {
                row.alarm = None;
                self.on_inbound(io, conn, inbound::Event::Deadline);
            } else if let Some(row) = self.outbound.get_mut(&conn).map(Arc::make_mut) {
                row.alarm = None;
                let input = row.on_deadline(io.now().0);
                self.on_outbound(io, conn, input);
            }
        }
        self.dispatch(io);
    }

    /// Whatever is asked, the answer is the relay at a glance, as JSON.
    fn on_request(&mut self, _: &mut Io<'_>, _: Request<'_>) -> Bytes {
        Bytes::from(self.post.describe(self.inbound.len(), self.outbound.len()))
    }

    /// Nothing can be changed by asking.
    fn is_read_only(_: &[u8]) -> bool {
        true
    }

    /// A client that could not be heard has as much longer to speak, and no mail grows old by it.
    /// Alarms that come too soon then are set again.
    fn on_resumed(&mut self, _: &mut Io<'_>, gap: Duration) {
        tracing::info!(?gap, queued = self.post.queue.len(), "nobody ran or could order");
        let gap = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        change_each(&mut self.inbound, |_, row| row.skip(gap));
        change_each(&mut self.outbound, |_, row| row.skip(gap));
        self.post.queue.skip(gap);
    }

    fn on_members(&mut self, io: &mut Io<'_>, members: Members) {
        tracing::debug!(?members, queued = self.post.queue.len(), "the members changed");
        self.dispatch(io);
    }

    fn freeze(&self) -> Frozen {
        Frozen::of(self)
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        self.thaw(records)
    }
}
