//! One client's connection.

use std::collections::VecDeque;
use std::net::IpAddr;

use bytes::Bytes;
use io_redirect::Io;
use io_redirect::tcp::ConnId;
use rkyv::{Archive, Deserialize, Serialize};

use super::backlog::Backlog;
use super::settings::RelaySettings;
use super::shared::Shared;
use crate::limits;
use crate::queue::QueueId;
use crate::smtp::server::{Action, Input, ServerSession, Verdict};

/// A session, and what waits on either side of it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct Inbound {
    pub(super) session: ServerSession,
    /// Replies that the client has not taken. While there are any, nothing is read.
    backlog: Backlog,
    /// What came meanwhile; the device sends no more than its window.
    input: VecDeque<Bytes>,
    /// The client sends nothing more.
    peer_closed: bool,
    /// The session is over, and until then the last replies may be taken.
    closing_until: Option<u64>,
    /// The mail last taken over here, while nothing shows that the client knows: it shows by
    /// bringing the next one to its end.
    unconfirmed: Option<QueueId>,
    /// What of this is in [`Shared::memory`].
    pub(super) counted: u64,
    /// What is entered for it in the alarms.
    pub(super) alarm: Option<u64>,
}

/// What happens to a client's connection.
pub(super) enum Event {
    /// Bytes came from the client.
    Received(Bytes),
    /// The client sends nothing more.
    PeerClosed,
    /// The connection's deadline may have come.
    Deadline,
    /// There may be room for replies.
    GoOn,
}

impl Inbound {
    /// A session with its greeting.
    pub(super) fn open(
        io: &Io<'_>,
        settings: &RelaySettings,
        post: &mut Shared,
        peer: IpAddr,
    ) -> Inbound {
        let env = post.surroundings(settings, io.now().0, peer);
        let (session, greeting) = ServerSession::open(env, peer);
        post.counters.clients += 1;
        let mut row = Inbound {
            session,
            backlog: Backlog::default(),
            input: VecDeque::new(),
            peer_closed: false,
            closing_until: None,
            unconfirmed: None,
            counted: 0,
            alarm: None,
        };
        row.carry_out(io, settings, post, greeting);
        row
    }

    /// Takes one event. True when the connection has been let go.
    pub(super) fn on_event(
        &mut self,
        io: &mut Io<'_>,
        conn: ConnId,
        settings: &RelaySettings,
        post: &mut Shared,
        event: Event,
    ) -> bool {
        match event {
            Event::Received(bytes) => self.input.push_back(bytes),
            Event::PeerClosed => self.peer_closed = true,
            Event::Deadline if self.closing_until.is_some_and(|until| until <= io.now().0) => {
                io.tcp().reset(conn);
                self.on_broken_off(post);
                return true;
            }
            Event::Deadline => self.give(io, settings, post, Input::Deadline),
            Event::GoOn => {}
        }
        self.go_on(io, conn, settings, post);
        self.settle(io, conn, post)
    }

    /// Ends the session because the memory is needed for others; where it has ended already and
    /// the client does not take the last replies, the connection is broken off. True when the
    /// connection has been let go.
    pub(super) fn give_way(
        &mut self,
        io: &mut Io<'_>,
        conn: ConnId,
        settings: &RelaySettings,
        post: &mut Shared,
    ) -> bool {
        if self.session.is_closed() {
            io.tcp().reset(conn);
            self.on_broken_off(post);
            return true;
        }
        post.counters.out_of_memory += 1;
        self.give(io, settings, post, Input::NoRoom);
        self.input.clear();
        self.backlog.flush(io, conn);
        self.settle(io, conn, post)
    }

    /// Counts what is held, and lets the connection go if the session is over and its last reply
    /// taken. True if so.
    fn settle(&mut self, io: &mut Io<'_>, conn: ConnId, post: &mut Shared) -> bool {
        self.count(conn, post);
        let done = self.session.is_closed() || (self.peer_closed && self.input.is_empty());
        let over = done && self.backlog.is_empty();
        if over {
            io.tcp().close(conn);
        } else if done {
            let until = io.now().0.saturating_add(limits::LAST_REPLIES);
            self.closing_until.get_or_insert(until);
        }
        over
    }

    /// Moves every deadline by a time in which no relay ran.
    pub(super) fn skip(&mut self, gap: u64) {
        self.closing_until = self.closing_until.map(|until| until.saturating_add(gap));
        self.session.skip(gap);
    }

    /// When to give [`Event::Deadline`].
    pub(super) fn deadline(&self) -> Option<u64> {
        self.closing_until.into_iter().chain(self.session.deadline()).min()
    }

    /// The connection broke off. If the client does not have the answer for its last mail, it
    /// sends it again (RFC 1047), and as another mail it will be delivered too.
    pub(super) fn on_broken_off(&self, post: &mut Shared) {
        if let Some(id) = self.unconfirmed {
            post.counters.answers_in_doubt += 1;
            tracing::info!(%id, "a client was lost before it is known to have its answer");
        }
    }

    /// Looks at what has come, as long as the client takes its replies.
    fn go_on(
        &mut self,
        io: &mut Io<'_>,
        conn: ConnId,
        settings: &RelaySettings,
        post: &mut Shared,
    ) {
        loop {
            self.backlog.flush(io, conn);
            if !self.backlog.is_empty() {
                return;
            }
            let Some(bytes) = self.input.pop_front() else { return };
            self.give(io, settings, post, Input::Data(&bytes));
            io.tcp().consume(conn, bytes.len());
        }
    }

    fn give(&mut self, io: &Io<'_>, settings: &RelaySettings, post: &mut Shared, input: Input<'_>) {
        let actions = self.handle(io.now().0, settings, post, input);
        self.carry_out(io, settings, post, actions);
    }

    fn handle(
        &mut self,
        now: u64,
        settings: &RelaySettings,
        post: &mut Shared,
        input: Input<'_>,
    ) -> Vec<Action> {
        let (peer, before) = (self.session.peer(), self.session.over_share());
        let env = post.surroundings(settings, now, peer);
        let actions = self.session.handle(env, input);
        post.on_over_share(peer, now, self.session.over_share() - before);
        actions
    }

    fn carry_out(
        &mut self,
        io: &Io<'_>,
        settings: &RelaySettings,
        post: &mut Shared,
        actions: Vec<Action>,
    ) {
        let now = io.now().0;
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Reply(bytes) => self.backlog.push(bytes),
                Action::Accepted(mail) => {
                    let id = post.submit(settings, now, *mail);
                    self.unconfirmed = id.ok();
                    let id = id.map(|id| id.to_string());
                    let verdict = match &id {
                        Ok(id) => Verdict::Queued(id),
                        Err(refusal) => Verdict::Refused(*refusal),
                    };
                    actions.extend(self.handle(now, settings, post, Input::Verdict(verdict)));
                }
                // The session knows that it is closed, and the connection goes when the last
                // reply has.
                Action::Close => {
                    self.input.clear();
                    if self.session.is_at_fault() {
                        post.rates.on_fault(&settings.shares, self.session.peer(), now);
                    }
                }
            }
        }
    }

    /// Brings what is counted up to date.
    fn count(&mut self, conn: ConnId, post: &mut Shared) {
        let input: usize = self.input.iter().map(Bytes::len).sum();
        let held = self.session.held_bytes()
            + self.backlog.bytes()
            + input as u64
            + limits::SESSION_OVERHEAD;
        post.memory.change(conn, self.session.peer(), self.counted, held);
        self.counted = held;
    }
}
