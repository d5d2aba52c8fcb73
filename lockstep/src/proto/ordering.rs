//! Identity and order (section O of `docs/protocol.md`).
//!
//! - O1, O8, O9: which member orders. There is one per epoch: the asker of a record, or the member
//!   that the role is handed to.
//! - O2: entries are appended in index order; of several copies the first counts.
//! - O3: each tells the other how far it is ([`flow`](super::flow) sends it, [`peer`](super::peer)
//!   reads it).
//! - O4, O13: log time ([`clock`](super::clock)).
//! - O5 to O7: inputs have origins and numbers, and are kept until the log has them
//!   ([`pending`](super::pending)).
//! - O10: ticks for wake-ups.
//! - O11, O12, O14: entries that tell of a gap ([`gap`](super::gap)).
//! - O15: what one process took in a round is one entry.

use core::time::Duration;

use super::clock;
use super::io::{HandOverRefused, Output};
use super::replica::Replica;
use crate::entry::{Entry, EntryKind, InputKind, Origin};
use crate::event::{Event, Ignored};
use crate::ids::{Incarnation, Index, LogTime, MonotonicTime, OriginNumber, ReplicaId};
use crate::limits;
use crate::wire::frames::Forward;

/// The least time between two entries.
pub(super) const LEAST_STEP: Duration = Duration::from_nanos(1);

impl Replica {
    /// Takes an input from outside. It is ordered with what else comes in this round, or kept for
    /// the sequencer (rule O5).
    pub(super) fn take(&mut self, kind: InputKind) {
        debug_assert!(kind.payload_len() <= limits::INPUT_BYTES, "the driver bounds inputs");
        if self.membership.record().is_none() || self.is_joiner() {
            return;
        }
        self.pending.keep(kind);
    }

    /// As sequencer, once a round of inputs is in: orders what waits, own inputs first, as far as
    /// there is room. What one process took becomes one entry, as far as that holds it.
    pub(super) fn order_waiting(&mut self) {
        while self.is_sequencer() && self.has_room() {
            let room = self.config.window_entries - self.log.steps();
            let room = room.min(self.log.steps_within(limits::ENTRY_OUTPUT_BYTES));
            let (place, incarnation, (number, inputs)) =
                if let Some(own) = self.pending.next_entry(room) {
                    (self.config.place, self.incarnation, own)
                } else if let Some(forwarded) = self.forwarded_inputs.next_entry(room) {
                    let Some(peer) = self.membership.peer() else { break };
                    (self.config.place.other(), peer, forwarded)
                } else {
                    break;
                };
            self.order(EntryKind::Inputs(inputs), Origin { place, incarnation, number });
        }
    }

    /// Orders an entry that the protocol, or the time, makes.
    pub(super) fn order_own(&mut self, kind: EntryKind) {
        self.order(kind, self.own_origin());
    }

    /// The origin of what the protocol itself makes.
    pub(super) fn own_origin(&self) -> Origin {
        let (place, incarnation) = (self.config.place, self.incarnation);
        Origin { place, incarnation, number: OriginNumber(0) }
    }

    /// Gives an input the next index and a timestamp (rule O1), behind a gap if there is one.
    fn order(&mut self, kind: EntryKind, origin: Origin) {
        assert!(self.is_sequencer(), "only the sequencer orders (rule O1)");
        let time = self.clock.stamp(self.now);
        if !self.is_after_gap(time) {
            return self.order_at(time, kind, origin);
        }
        // The gap begins at the entry before, or where this process stood still.
        let from = self.ran_until();
        if kind.begins().is_some() {
            let begins = from.unwrap_or(self.log.last_time().plus(LEAST_STEP));
            self.order_at(begins, kind, origin);
            return self.order_gap(time);
        }
        if let Some(from) = from {
            self.order_at(from, EntryKind::Tick, self.own_origin());
        }
        self.order_gap(time);
        if kind != EntryKind::Tick {
            self.order_at(self.log.last_time().plus(LEAST_STEP), kind, origin);
        }
    }

    /// Orders an entry of this time, which is later than the last one's.
    pub(super) fn order_at(&mut self, time: LogTime, kind: EntryKind, origin: Origin) {
        let index = self.log.last_index().next();
        self.append(Entry { index, epoch: self.membership.epoch(), time, origin, kind });
    }

    fn append(&mut self, entry: Entry) {
        if entry.origin.incarnation == self.incarnation {
            self.pending.ordered(entry.last_number());
        }
        self.stood_still = self.stood_still.filter(|stop| entry.time <= stop.from);
        self.gateway.appended(&entry);
        // What a joiner is brought up to date with is old.
        if self.clock.anchor(entry.last_time(), self.now) && !self.is_joiner() {
            self.event(Event::ClockStrays { wall: self.now.wall, log: entry.time });
        }
        self.outputs.push_back(Output::Append(entry.clone()));
        let (index, epoch) = (entry.index, entry.epoch);
        let hand_over = match entry.kind {
            // A hand-over that a renewal has overtaken counts: the role is kept over renewals, and
            // the member that made it has acted on it.
            EntryKind::HandOver { to } if epoch >= self.membership_epoch && !self.is_joiner() => {
                Some(to)
            }
            _ => None,
        };
        let checkpoint = matches!(entry.kind, EntryKind::Checkpoint);
        let moved = match entry.kind {
            EntryKind::Witness { slot, record } => Some((record, slot)),
            _ => None,
        };
        self.log.append(entry, self.sequencer);
        if self.is_joiner() {
            self.sequencer = self.log.history().sequencer;
        }
        if checkpoint {
            self.on_checkpoint_ordered();
        }
        if let Some((record, slot)) = moved {
            self.on_move_ordered(index, record, slot);
        }
        if let Some(to) = hand_over {
            self.on_handed_over(to, index);
        }
    }

    /// Gives the sequencer role away (rule O9).
    pub(super) fn hand_over(&mut self) {
        if self.may_hand_over().is_ok() {
            self.order_own(EntryKind::HandOver { to: self.config.place.other() });
        }
    }

    /// Whether [`Command::HandOver`](super::io::Command::HandOver) would be carried out now.
    ///
    /// # Errors
    /// Why the role is not handed over.
    pub fn may_hand_over(&self) -> Result<(), HandOverRefused> {
        // An operator may ask again and again while nothing moves. Half of the reserve is for
        // entries that cannot be asked for.
        let room = self.log.steps() < self.config.window_entries + limits::WINDOW_RESERVE / 2;
        if !self.is_duplex() {
            return Err(HandOverRefused::Alone);
        }
        if !self.is_sequencer() {
            return Err(HandOverRefused::Follower { sequencer: self.sequencer });
        }
        if self.suspicion.is_some() || self.divergence.is_some() || self.log.panicked() {
            return Err(HandOverRefused::Suspects);
        }
        if room { Ok(()) } else { Err(HandOverRefused::Full) }
    }

    fn on_handed_over(&mut self, to: ReplicaId, index: Index) {
        self.sequencer = to;
        self.last_transfer = index;
        // What the follower forwarded it keeps, and now orders itself; should it not get round
        // to that before the role goes back, it forwards it again.
        self.forwarded_inputs.clear();
        self.progress.ordered = self.ordered_of(self.config.place, self.incarnation);
        let first = self.pending.first();
        for link in &mut self.links {
            link.forward = first;
        }
        self.clear_ahead();
        self.peer_debts.restart_order(self.now.mono);
        self.event(Event::HandedOver { to, index });
        self.announce_standing();
        if self.is_sequencer() {
            self.take_over_copies();
        }
    }

    /// Having become the sequencer: what was kept for the other one is ordered here (rule O6).
    /// Copies for which there is no room yet follow when they are overdue.
    pub(super) fn take_over_copies(&mut self) {
        while self.pending.has_room()
            && let Some(copy) = self.gateway.oldest_copy()
        {
            self.pending.keep(copy);
        }
    }

    /// Entries from the sequencer, on any link, in any order, perhaps for the second time (rule
    /// O2).
    pub(super) fn on_entries(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if entry.index <= self.log.last_index() {
                self.peer_last_index = self.peer_last_index.max(entry.index);
                continue;
            }
            if self.is_sequencer() {
                return self.ignore(Ignored::NotOurRole);
            }
            // The reserve is for what this replica adds if it has to go on alone.
            let limit = self.window_limit() - limits::WINDOW_RESERVE;
            let last = self.log.base().0 + limit as u64;
            let full = self.reorder_bytes + entry.weight() > self.config.window_bytes;
            let next = entry.index == self.log.last_index().next();
            let over = self.log.steps() + entry.steps() > limit;
            if entry.index.0 > last || (over && next) || (full && !next) {
                return self.ignore(Ignored::BeyondWindow { index: entry.index });
            }
            self.peer_last_index = self.peer_last_index.max(entry.index);
            if next {
                self.append_from_peer(entry);
                self.append_ahead();
            } else {
                self.reorder_bytes += entry.weight();
                if let Some(old) = self.reorder_buffer.insert(entry.index, entry) {
                    self.reorder_bytes -= old.weight();
                }
            }
        }
    }

    fn append_ahead(&mut self) {
        while !self.is_sequencer()
            && let Some(entry) = self.reorder_buffer.remove(&self.log.last_index().next())
        {
            self.reorder_bytes -= entry.weight();
            self.append_from_peer(entry);
        }
        // Copies of what meanwhile came by another link.
        while let Some(first) = self.reorder_buffer.first_entry()
            && *first.key() <= self.log.last_index()
        {
            self.reorder_bytes -= first.remove().weight();
        }
    }

    pub(super) fn clear_ahead(&mut self) {
        self.reorder_buffer.clear();
        self.reorder_bytes = 0;
    }

    fn append_from_peer(&mut self, entry: Entry) {
        if self.is_absurd(&entry) {
            return self.ignore(Ignored::ProtocolViolation);
        }
        self.append(entry);
    }

    /// Whether no sound sequencer can have made this the next entry (rule F7).
    fn is_absurd(&self, entry: &Entry) -> bool {
        let Origin { place, incarnation, .. } = entry.origin;
        let members = self.membership.record().map(|record| record.members);
        let in_time = entry.last_time() < clock::LATEST;
        let follows = self.log.history().check(entry).is_ok();
        if self.is_joiner() {
            // What it is brought up to date with is older than its own membership.
            return !(follows && in_time && incarnation != self.incarnation);
        }
        let of_member = members.is_some_and(|members| members.has(place, incarnation));
        let taken = place != self.config.place || entry.last_number() <= self.pending.last();
        let in_epoch = entry.epoch <= self.membership.epoch();
        !(follows && of_member && taken && in_time && in_epoch)
    }

    /// Inputs from the follower; only the next one of its origin is taken (rule O5).
    pub(super) fn on_forwards(&mut self, forwards: Vec<Forward>) {
        if forwards.is_empty() || !self.is_sequencer() {
            return;
        }
        for forward in forwards {
            if forward.number != self.taken_from_peer().next() {
                continue;
            }
            // No follower has taken more than this without seeing it ordered.
            let bytes = self.forwarded_inputs.bytes() + forward.kind.payload_len();
            let full =
                self.forwarded_inputs.len() >= limits::KEPT_INPUTS || bytes > limits::KEPT_BYTES;
            if full {
                self.ignore(Ignored::ProtocolViolation);
                break;
            }
            self.forwarded_inputs.push(forward);
        }
    }

    /// The highest of the peer's inputs that is in the log or waits for room in it.
    pub(super) fn taken_from_peer(&self) -> OriginNumber {
        let there = self.config.place.other();
        let peer = self.membership.peer().map(|peer| self.ordered_of(there, peer));
        peer.unwrap_or_default().max(self.forwarded_inputs.last().unwrap_or_default())
    }

    /// The highest number ordered of this process's inputs.
    pub(super) fn ordered_of(&self, place: ReplicaId, incarnation: Incarnation) -> OriginNumber {
        self.log.history().ordered_of(place, incarnation)
    }

    pub(super) fn ignore(&mut self, why: Ignored) {
        self.event(Event::Ignored { why });
    }

    /// As sequencer: when the service's wake-up wants an entry of its own (rule O10).
    pub(super) fn tick_due(&self) -> Option<MonotonicTime> {
        let due = self.log.wakeup()?;
        let idle = self.log.executed() == self.log.last_index();
        if !self.is_sequencer() || !self.has_room() || self.log.panicked() {
            return None;
        }
        if due <= self.log.last_time() {
            // More wake-ups than one entry carries out were due.
            return idle.then_some(self.now.mono);
        }
        if self.clock.stamp(self.now) >= due {
            return Some(self.now.mono);
        }
        Some(self.clock.look_again(due, self.now))
    }

    pub(super) fn on_tick_due(&mut self) {
        if self.pending.len() > 0 || !self.forwarded_inputs.is_empty() {
            // The entry that they are about to get carries wake-ups out as well.
            return;
        }
        if self.tick_due().is_some_and(|due| due <= self.now.mono) {
            self.order_own(EntryKind::Tick);
        }
    }
}
