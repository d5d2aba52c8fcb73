//! What is sent, executed and released, once a round of inputs is in.

use super::io::{LinkSet, Output};
use super::links::{Link, Told};
use super::replica::Replica;
use crate::entry::{Entry, EntryKind};
use crate::event::{Event, StopCause};
use crate::ids::{Epoch, Index, Lineage, OriginNumber, ReplicaId};
use crate::limits;
use crate::output::{Carrier, Output as ServiceOutput, OutputKind};
use crate::wire::frames::{Forward, PeerFrame, Progress};

impl Replica {
    /// Makes the next outputs. Frames come before executions, so that both replicas execute at
    /// the same time.
    pub(super) fn pump(&mut self) {
        if self.stopped {
            return;
        }
        self.send_batches();
        self.hand_out();
    }

    pub(super) fn hand_out(&mut self) {
        // What a restarted process had not released is executed once it is known what it becomes.
        if !self.is_following() {
            return;
        }
        while self.handed_out < self.log.last_index() && !self.log.panicked() {
            let next = self.handed_out.next();
            let entry = self.log.entry(next).expect("what is not executed is kept").clone();
            if matches!(entry.kind, EntryKind::Checkpoint) && self.freezes_later(next) {
                return;
            }
            self.outputs.push_back(Output::Execute(entry));
            self.handed_out = next;
        }
    }

    /// Whether the follower does not hold the entry yet at which both freeze (rule K1).
    fn freezes_later(&self, index: Index) -> bool {
        self.is_sequencer() && self.is_duplex() && self.progress.last_index < index
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

    /// Sends every link what it has not sent yet; links that are at the same point share a
    /// frame.
    fn send_batches(&mut self) {
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

    /// The epoch that frames are of: for a joiner that of the member, as far as it knows.
    pub(super) fn stream_epoch(&self) -> (Lineage, Epoch) {
        match &self.join {
            Some(join) if self.is_following() => (join.record.lineage, join.record.epoch),
            Some(_) => (Lineage(0), Epoch(0)),
            None => (self.membership.lineage(), self.membership.epoch()),
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
                self.links[member].told = Told {
                    executed: progress.executed,
                    persisted: progress.persisted,
                    last_index: progress.last_index,
                };
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
        // A silent link gets what is small, so that it is level when it comes back, but no bulk
        // that would then have to be sent again; unless no link is up.
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

    /// Whether progress alone is worth a frame: results are, as soon as they are persisted; what is
    /// merely held only when much of it is unacknowledged, for the next heartbeat says it too; or
    /// when the sequencer waits for it to freeze its state.
    fn worth_telling(&self, told: &Told) -> bool {
        let last_index = self.log.weight_at(self.log.last_index());
        let unsaid = last_index.saturating_sub(self.log.weight_at(told.last_index));
        // What is executed and not persisted lets nobody release yet (rule R3).
        let whole = self.log.executed().min(self.persisted);
        // Nor does what a joiner makes up for, until it is level: every report costs the member a
        // frame (rule J5).
        let level = whole >= self.log.last_index();
        let step =
            if self.is_joiner() && !level { (self.config.window_entries / 8) as u64 } else { 1 };
        whole.0 >= told.executed.min(told.persisted).0 + step.max(1)
            || (unsaid > limits::BATCH_BYTES as u64 && self.peer_last_index > told.last_index)
            || (unsaid > 0 && !self.is_sequencer() && self.is_to_freeze())
    }

    /// The last entry whose outputs may be released by the release rule (rules R1 to R3).
    pub(super) fn agreed(&self) -> Index {
        let own = self.log.executed().min(self.persisted);
        if self.is_joiner() {
            return own.min(self.released_without_us()).max(self.released);
        }
        if self.membership.record().is_none() {
            return self.released;
        }
        if self.is_uncommitted && self.joiner.is_some() {
            // From where the joiner is to be a member nothing leaves without it (rule J6).
            return own.min(self.log.history().began.prev()).max(self.released);
        }
        if self.is_duplex() {
            let both = self.agreement.compared().min(self.progress.persisted);
            own.min(both).max(self.released)
        } else {
            own
        }
    }

    /// Lets out what may go (section R), and drops what nobody needs any more.
    pub(super) fn release(&mut self) {
        if self.stopped {
            return;
        }
        let agreed = self.agreed();
        while self.released < agreed {
            let index = self.released.next();
            let Some((outputs, sequencer)) = self.log.release(index) else {
                self.event(Event::Corrupted { index });
                return self.stop(StopCause::Corrupted);
            };
            self.released = index;
            if self.is_joiner() {
                continue;
            }
            for output in outputs {
                self.release_one(index, sequencer, output);
            }
            if let Some(EntryKind::SessionClose { session, token }) =
                self.log.entry(index).map(|entry| &entry.kind)
            {
                let (session, token) = (*session, *token);
                self.gateway.forget(session, token);
            }
        }
        let agreed = self.agreement.compared();
        let joiner = self.joiner.as_ref().and_then(|joiner| joiner.needs_after(agreed));
        let needed = if self.is_duplex() { agreed } else { joiner.unwrap_or(self.released) };
        self.log.drop_to(self.released.min(needed));
        self.order_waiting();
    }

    fn release_one(&mut self, index: Index, sequencer: ReplicaId, output: ServiceOutput) {
        let ServiceOutput { step, ordinal, kind } = output;
        let OutputKind::Device { carrier, .. } = &kind else { return self.answer_client(kind) };
        if self.carries(*carrier, sequencer) {
            let epoch = self.membership.epoch();
            self.outputs.push_back(Output::Release { index, step, ordinal, epoch, kind });
        }
    }

    /// Whether an output is carried out here. What the sequencer at its entry was to carry, and
    /// is no member any more, falls to the present one.
    fn carries(&self, carrier: Carrier, sequencer: ReplicaId) -> bool {
        match carrier {
            Carrier::Replica(place) => place == self.config.place,
            Carrier::Sequencer => {
                let there = self.is_duplex() || sequencer == self.config.place;
                (if there { sequencer } else { self.sequencer }) == self.config.place
            }
            Carrier::Both => true,
        }
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
