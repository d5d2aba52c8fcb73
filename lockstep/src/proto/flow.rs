//! Flow control, and how entries travel on several links (section F of `docs/protocol.md`).
//!
//! - F1, F2: what is not agreed upon and released is bounded, with a reserve for the protocol.
//! - F4: small entries go on every link, bulk on one in turn.
//! - F5: what is unacknowledged on a link is bounded; the rest stays in the log.
//! - F6: without progress of the peer, what it lacks is sent again.
//!
//! F3 is kept by [`pending`](super::pending) and [`gateway`](super::gateway), F7 wherever a frame
//! is read, F8 outside of the core.

use core::time::Duration;

use super::epochs::ASK_AGAIN;
use super::io::{LinkSet, Output, Standing};
use super::links::{Link, Told};
use super::replica::Replica;
use crate::entry::Entry;
use crate::ids::{Epoch, Incarnation, Index, Lineage, LinkId, MonotonicTime, OriginNumber};
use crate::limits;
use crate::wire::frames::{Forward, PeerFrame, Progress};

/// What the peer lacks is sent again after this long at most.
const RESEND_SLOWEST: Duration = Duration::from_secs(1);

/// Bytes that a link carries in a microsecond, as assumed for how much may be under way: 1 Gbit/s.
const LINK_RATE: usize = 128;

/// When what the peer lacks is sent again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resend {
    pub(super) entries: Unacknowledged,
    /// Forwarded inputs: a peer that gets on with entries may lack them all the same.
    pub(super) inputs: Unacknowledged,
    /// The longest that an acknowledgement took of late; forgotten by parts. Bulk takes longer than
    /// heartbeats, which go before it.
    pub(super) usual: Duration,
}

impl Resend {
    /// The peer got on with entries. Whether the first of them brought it so far, or a later one
    /// that was sent again, is not known: too long a time does no harm.
    pub(super) fn on_entries(&mut self, now: MonotonicTime) {
        if let Some(first) = self.entries.first {
            self.usual = now.since(first).max(self.usual - self.usual / 64);
        }
        self.entries = Unacknowledged::default();
    }

    /// This process did not run for so long.
    pub(super) fn discount(&mut self, late: Duration) {
        for sent in [&mut self.entries, &mut self.inputs] {
            sent.waiting = sent.waiting.map(|since| since.plus(late));
            sent.first = sent.first.map(|since| since.plus(late));
        }
    }
}

/// What was sent and is not acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unacknowledged {
    /// Since when it has owed an acknowledgement without any progress.
    pub(super) waiting: Option<MonotonicTime>,
    /// The same since it was sent first.
    pub(super) first: Option<MonotonicTime>,
    /// How often in a row it was sent again.
    pub(super) tries: u32,
}

impl Unacknowledged {
    /// It is under way, from now on if it was not before.
    pub(super) fn sent(&mut self, now: MonotonicTime) {
        self.waiting.get_or_insert(now);
        self.first.get_or_insert(now);
    }
}

impl Replica {
    /// How many bytes of inputs may be taken before one that is taken then waits behind more than
    /// `line`, and what a fast link carries in a round trip. There is no bound while this replica
    /// does not serve: it takes no inputs then, and tells the clients that come.
    pub fn room_for_inputs(&self, line: usize) -> usize {
        let Standing::Serving { .. } = self.standing else { return usize::MAX };
        let trips = self.links.iter().filter(|link| link.up).filter_map(|link| link.least_trip());
        let trip = trips.min().filter(|_| self.is_duplex()).unwrap_or_default();
        let carried = usize::try_from(trip.as_micros()).unwrap_or(usize::MAX);
        let line = line.saturating_add(carried.saturating_mul(LINK_RATE));
        line.saturating_sub(self.under_way())
    }

    /// Bytes of the entries that one of the members has yet to execute, as far as this one knows,
    /// and of the inputs that this one keeps for the sequencer. An input that is taken now is
    /// executed after them.
    fn under_way(&self) -> usize {
        let own = self.log.executed();
        let done = if self.is_duplex() { own.min(self.progress.executed) } else { own };
        let ahead =
            self.log.weight_at(self.log.last_index()).saturating_sub(self.log.weight_at(done));
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        ahead.saturating_add(self.pending.bytes() + self.gateway.copied())
    }

    /// The first entry that the peer may lack. What a joiner has is the member's already, or no
    /// member's (rule J3).
    pub(super) fn peer_lacks(&self) -> Index {
        if self.is_joiner() {
            return self.log.last_index().next();
        }
        self.progress.last_index.max(self.peer_last_index).max(self.log.base()).next()
    }

    /// The first input that the sequencer may lack.
    pub(super) fn forwards_lacking(&self) -> OriginNumber {
        self.pending.first()
    }

    /// Whether the window takes another input (rule F1). Entries of the protocol itself always
    /// fit (rule F2).
    pub(super) fn has_room(&self) -> bool {
        self.log.steps() < self.config.window_entries && self.log.bytes() < self.config.window_bytes
    }

    /// The most steps that a follower's window holds. Its sequencer keeps its own window within
    /// the bound, and may have dropped up to one window that the follower, with its fewer reports,
    /// has not yet released.
    pub(super) fn window_limit(&self) -> usize {
        2 * (self.config.window_entries + limits::WINDOW_RESERVE)
    }

    /// The process that gets entries as they are ordered: the other member, or a joiner, or for
    /// a joiner the member.
    pub(super) fn stream_peer(&self) -> Option<Incarnation> {
        if let Some(join) = &self.join {
            return Some(join.donor);
        }
        let joiner = self.joiner.as_ref().filter(|joiner| joiner.attached);
        match joiner {
            Some(joiner) => Some(joiner.incarnation),
            None if self.is_duplex() => self.membership.peer(),
            None => None,
        }
    }

    /// The epoch that frames are of: for a joiner that of the member, as far as it knows.
    pub(super) fn stream_epoch(&self) -> (Lineage, Epoch) {
        match &self.join {
            Some(join) if self.is_following() => (join.record.lineage, join.record.epoch),
            Some(_) => (Lineage(0), Epoch(0)),
            None => (self.membership.lineage(), self.membership.epoch()),
        }
    }

    /// How far this replica is, for the peer.
    pub(super) fn own_progress(&self) -> Progress {
        let (last_index, executed) = (self.log.last_index(), self.log.executed());
        Progress {
            last_index,
            entries: self.log.log_digest_at(last_index).unwrap_or_default(),
            persisted: self.persisted,
            executed,
            outputs: self.log.agreement_at(executed).unwrap_or_default(),
            halted: self.log.panicked(),
            ordered: self.taken_from_peer(),
        }
    }

    /// Sends every link what it has not sent yet; links that are at the same point share
    /// a frame.
    pub(super) fn send_batches(&mut self) {
        let peer = self.stream_peer();
        if peer.is_none() {
            return;
        }
        let mut done = LinkSet::NONE;
        for at in 0..self.links.len() {
            let link = &self.links[at];
            if done.contains(link.id) || !link.carries() || link.handshaken_with != peer {
                continue;
            }
            let position = self.position(at);
            let mut links = LinkSet::NONE;
            let mut members = Vec::with_capacity(self.links.len());
            for other in at..self.links.len() {
                let link = &self.links[other];
                let fit = link.carries() && link.handshaken_with == peer && !done.contains(link.id);
                if fit && self.position(other) == position {
                    links.insert(link.id);
                    done.insert(link.id);
                    members.push(other);
                }
            }
            self.send_from(&position, links, &members);
        }
    }

    /// Sends batches from a position until there is nothing more or the link is full.
    fn send_from(&mut self, position: &Position, links: LinkSet, members: &[usize]) {
        let (mut cursor, mut forward) = (position.cursor, position.forward);
        let mut tell = self.worth_telling(&position.told);
        let (lineage, epoch) = self.stream_epoch();
        loop {
            let (entries, next) = self.batch_from(cursor, position);
            let (forwards, next_forward) = self.forwards_from(forward);
            if entries.is_empty() && forwards.is_empty() && !tell {
                cursor = next;
                break;
            }
            let progress = self.own_progress();
            let frame = PeerFrame::Batch { lineage, epoch, progress, entries, forwards };
            self.outputs.push_back(Output::Peer { links, frame });
            (cursor, forward, tell) = (next, next_forward, false);
            for &member in members {
                let Progress { executed, persisted, last_index, .. } = progress;
                let steps = self.log.steps_at(executed.min(persisted));
                self.links[member].told = Told { executed, persisted, last_index, steps };
            }
        }
        for &member in members {
            self.links[member].cursor = cursor;
            self.links[member].forward = forward;
        }
        let now = self.now.mono;
        if self.awaits_entries() {
            self.resend.entries.sent(now);
        }
        if self.awaits_inputs() {
            self.resend.inputs.sent(now);
        }
    }

    /// Whether entries were sent to the peer that it has not acknowledged.
    pub(super) fn awaits_entries(&self) -> bool {
        let lacking = self.peer_lacks();
        self.links.iter().any(|link| link.connected && link.cursor > lacking)
    }

    /// Whether inputs were forwarded to the peer that it has not acknowledged.
    pub(super) fn awaits_inputs(&self) -> bool {
        let lacking = self.progress.ordered.next().max(self.pending.first());
        self.links.iter().any(|link| link.connected && link.forward > lacking)
    }

    /// What a link is to send next, and by which rule for bulk.
    fn position(&self, at: usize) -> Position {
        let link = &self.links[at];
        // A silent link gets what is small, so that it is level when it comes back. A silent link
        // gets no bulk, which would then have to be sent again, unless no link is up.
        let up = self.links.iter().any(|link| link.up && link.carries());
        let takes_turn = |link: &Link| link.carries() && (link.up || !up);
        let before = self.links[..at].iter().filter(|other| takes_turn(other)).count();
        let turns = self.links.iter().filter(|other| takes_turn(other)).count().max(1);
        let turn = if takes_turn(link) { before } else { turns };
        let cursor = link.cursor.max(self.peer_lacks());
        let bulk_waits = self.log.last_bulk() >= cursor;
        Position {
            cursor,
            forward: link.forward.max(self.progress.ordered.next()).max(self.pending.first()),
            told: link.told,
            // What lies behind makes no difference, and must not keep links from sharing frames.
            whole_to: if link.whole_to < cursor { Index(0) } else { link.whole_to },
            // Links that have no bulk to divide are at the same point.
            turn: if bulk_waits { (turn as u64, turns as u64) } else { (0, 1) },
        }
    }

    /// Entries for one frame, and where the next one begins.
    fn batch_from(&self, from: Index, position: &Position) -> (Vec<Entry>, Index) {
        let (mut entries, mut bytes, mut next) = (Vec::new(), 0, from);
        let acknowledged = self.log.weight_at(self.peer_lacks().prev());
        while let Some(entry) = self.log.entry(next) {
            let flight = self.log.weight_at(next).saturating_sub(acknowledged);
            let over = flight > limits::LINK_FLIGHT_BYTES as u64 && flight > entry.weight() as u64;
            if bytes >= limits::BATCH_BYTES || entries.len() >= limits::BATCH_ENTRIES || over {
                break;
            }
            if position.carries(next, entry) {
                bytes += entry.weight();
                entries.push(entry.clone());
            }
            next = next.next();
        }
        (entries, next)
    }

    fn forwards_from(&self, from: OriginNumber) -> (Vec<Forward>, OriginNumber) {
        if self.is_sequencer() {
            return (Vec::new(), from);
        }
        let (mut forwards, mut bytes, mut next) = (Vec::new(), 0, from);
        for forward in self.pending.from(from) {
            if bytes >= limits::BATCH_BYTES || forwards.len() >= limits::BATCH_ENTRIES {
                break;
            }
            bytes += forward.kind.payload_len();
            next = forward.number.next();
            forwards.push(forward.clone());
        }
        (forwards, next)
    }

    /// Whether progress alone is worth a frame. Results are, as soon as they are persisted. What is
    /// merely held is worth one when much of it is unacknowledged, or when the sequencer waits for
    /// it to freeze its state; otherwise the next heartbeat says it.
    fn worth_telling(&self, told: &Told) -> bool {
        let weight = self.log.weight_at(self.log.last_index());
        let unsaid = weight.saturating_sub(self.log.weight_at(told.last_index));
        // What is executed and not persisted lets neither side release yet (rule R3).
        let whole = self.log.executed().min(self.persisted);
        // Nor does what a joiner makes up for, until it is level: every report costs the member a
        // frame (rule J5).
        let level = whole >= self.log.last_index();
        let enough = if self.is_joiner() && !level {
            self.log.steps_at(whole).abs_diff(told.steps) >= self.joiner_distance().max(1)
        } else {
            whole > told.executed.min(told.persisted)
        };
        enough
            || (unsaid > limits::BATCH_BYTES as u64 && self.peer_last_index > told.last_index)
            || (unsaid > 0 && !self.is_sequencer() && self.is_to_freeze())
    }

    /// An eighth of the window, in steps: a joiner that is no further behind is close, and until it
    /// is level it reports as often as that, or the member would not see it (rule J5).
    pub(super) fn joiner_distance(&self) -> u64 {
        (self.config.window_entries / 8) as u64
    }

    /// What is unacknowledged there is all that it may be: the rest stays in the log (rule F5).
    pub(super) fn on_link_blocked(&mut self, link: LinkId) {
        if !core::mem::replace(&mut self.link(link).blocked, true) {
            self.reassign_bulk();
        }
    }

    /// A link fails (rule F4), and what was under way on it may be lost. The others have sent the
    /// rest themselves, but bulk that was its to bring they have to bring in its place.
    pub(super) fn reassign_bulk(&mut self) {
        if self.log.last_bulk() >= self.peer_lacks() {
            self.rewind_links();
        }
    }

    pub(super) fn on_link_writable(&mut self, link: LinkId) {
        let (first, forward) = (self.peer_lacks(), self.forwards_lacking());
        let link = self.link(link);
        link.blocked = false;
        link.rewind(first, forward);
    }

    pub(super) fn rewind_links(&mut self) {
        let (first, forward) = (self.peer_lacks(), self.forwards_lacking());
        for link in &mut self.links {
            link.rewind(first, forward);
        }
    }

    pub(super) fn resend_due(&self, sent: &Unacknowledged) -> Option<MonotonicTime> {
        let slowest = self.links.iter().filter(|link| link.connected).map(|l| l.resend_after());
        let most = RESEND_SLOWEST.min(self.config.slow_limit / 4);
        let after = slowest.max().unwrap_or(ASK_AGAIN).max(self.resend.usual.saturating_mul(2));
        let after = (after.min(most) * 2u32.pow(sent.tries.min(5))).min(RESEND_SLOWEST);
        sent.waiting.map(|since| since.plus(after))
    }

    /// Without any progress of the peer what it lacks is sent again, at growing intervals (rule
    /// F6).
    pub(super) fn on_resend_due(&mut self) {
        let Resend { mut entries, mut inputs, usual } = self.resend;
        let mut due = self.is_to_resend(&mut entries, self.awaits_entries());
        due |= self.is_to_resend(&mut inputs, self.awaits_inputs());
        self.resend = Resend { entries, inputs, usual };
        if due {
            self.rewind_links();
        }
    }

    fn is_to_resend(&self, sent: &mut Unacknowledged, awaited: bool) -> bool {
        let now = self.now.mono;
        if awaited {
            sent.sent(now);
        } else {
            (sent.waiting, sent.first) = (None, None);
        }
        let due = self.resend_due(sent).is_some_and(|due| due <= now);
        if due {
            *sent = Unacknowledged { waiting: Some(now), tries: sent.tries + 1, ..*sent };
        }
        due
    }
}

/// What a link sends next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    cursor: Index,
    forward: OriginNumber,
    told: Told,
    whole_to: Index,
    /// Which of how many links it is, for dividing bulk.
    turn: (u64, u64),
}

impl Position {
    /// Whether this link brings the entry: everything, but bulk only in turn.
    fn carries(&self, index: Index, entry: &Entry) -> bool {
        let (turn, turns) = self.turn;
        index <= self.whole_to || !is_bulk(entry) || index.0 % turns == turn
    }
}

fn is_bulk(entry: &Entry) -> bool {
    entry.kind.payload_len() >= limits::BULK_BYTES
}
