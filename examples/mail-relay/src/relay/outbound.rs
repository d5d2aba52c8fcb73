//! One connection to the next hop.

use std::net::SocketAddr;

use io_redirect::Io;
use io_redirect::tcp::{ConnId, ResetCause};
use rkyv::{Archive, Deserialize, Serialize};

use super::backlog::Backlog;
use super::settings::RelaySettings;
use super::shared::Shared;
use crate::limits;
use crate::smtp::client::{Action, ClientSession, CloseCause, Input, Report, SessionFailure};

/// A session, and what waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct Outbound {
    session: ClientSession,
    /// The address that answered; `None` until one has.
    peer: Option<SocketAddr>,
    pub(super) backlog: Backlog,
    /// When a session without a mail ends; `None` while it has one.
    idle_until: Option<u64>,
    /// The time that is entered for this session in the timeouts.
    pub(super) alarm: Option<u64>,
}

impl Outbound {
    /// A connection that is being made.
    pub(super) fn new(now: u64) -> Outbound {
        Outbound {
            session: ClientSession::open(now),
            peer: None,
            backlog: Backlog::default(),
            idle_until: None,
            alarm: None,
        }
    }

    /// Whether the session waits for a mail.
    pub(super) fn is_idle(&self) -> bool {
        self.idle_until.is_some() && self.session.is_free()
    }

    /// The connection is made.
    pub(super) fn on_connected(&mut self, peer: SocketAddr) {
        self.peer = Some(peer);
    }

    /// Moves the deadlines by a gap in which no process ran (ns).
    pub(super) fn skip(&mut self, gap: u64) {
        self.idle_until = self.idle_until.map(|until| until.saturating_add(gap));
        self.session.skip(gap);
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.session.deadline().or(self.idle_until)
    }

    /// What the session is to be told when its time may have come.
    pub(super) fn on_deadline(&self, now: u64) -> Input<'static> {
        let idle_too_long = self.idle_until.is_some_and(|until| until <= now);
        if idle_too_long { Input::Quit } else { Input::Deadline }
    }

    /// Gives the session its input and does what it says. True when the connection has been
    /// let go.
    pub(super) fn handle(
        &mut self,
        io: &mut Io<'_>,
        conn: ConnId,
        settings: &RelaySettings,
        post: &mut Shared,
        input: Input<'_>,
    ) -> bool {
        if matches!(input, Input::Deliver(_) | Input::Quit) {
            self.idle_until = None;
        }
        let now = io.now().0;
        let mut actions =
            std::collections::VecDeque::from(self.session.handle(&settings.client, now, input));
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(bytes) => self.backlog.push(bytes),
                Action::Done(mut report) => {
                    // What has not left cannot have been taken. Nor does it leave later, so that is
                    // exact also where the CoServer died that carried the connection. What was
                    // released there both had computed, so the survivor knows of it.
                    report.in_doubt &= self.backlog.is_empty();
                    self.judge(post, now, &report);
                    post.finish(io, settings, report);
                    if self.session.is_free() {
                        actions.extend(self.next(settings, post, now));
                    }
                }
                Action::Close => {}
            }
        }
        if !self.session.is_closed() {
            self.backlog.flush(io, conn);
            return false;
        }
        if self.backlog.is_empty() {
            io.tcp().close(conn);
        } else {
            // The rest of a mail that was reported must not follow, and half a mail must not be
            // followed by an orderly end.
            io.tcp().reset(conn);
        }
        true
    }

    /// Remembers whether this address of the hop serves.
    fn judge(&self, post: &mut Shared, now: u64, report: &Report) {
        let Some(peer) = self.peer else { return };
        match &report.failure {
            Some(SessionFailure::Unreachable(_)) => post.hop.failed(peer, now),
            Some(SessionFailure::CarrierLost) => {}
            _ => post.hop.served(peer),
        }
    }

    /// The next mail on this connection, or none for a while.
    fn next(&mut self, settings: &RelaySettings, post: &mut Shared, now: u64) -> Vec<Action> {
        match post.queue.next_job_for_used(&settings.queue, now) {
            Some(job) => self.session.handle(&settings.client, now, Input::Deliver(job.delivery)),
            None => {
                self.idle_until = Some(now.saturating_add(limits::HOP_IDLE));
                Vec::new()
            }
        }
    }
}

/// Why a connection broke off; the words are for bounces and events.
pub(super) fn close_cause(cause: ResetCause) -> CloseCause<'static> {
    match cause {
        ResetCause::Peer => CloseCause::FarEnd("the far end reset it"),
        ResetCause::TimedOut => CloseCause::FarEnd("the far end stopped answering"),
        ResetCause::Network => CloseCause::FarEnd("the network gave it up"),
        ResetCause::CarrierLost => CloseCause::CarrierLost,
        // Of a client; the relay's own connections give way to nobody.
        ResetCause::Displaced => CloseCause::FarEnd("it gave way to another"),
    }
}
