//! Which witness the pair uses (section W of `docs/protocol.md`).
//!
//! - W1: a healthy pair turns to its alternate witness, or enrols itself anew with one that has
//!   forgotten it.
//! - W2: the move is an entry with the record that comes next.
//! - W3: a witness takes the record that a member of it tells (the witness's own core checks).

use super::io::Output;
use super::membership::Open;
use super::replica::Replica;
use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::event::{Event, FallBack};
use crate::ids::{Epoch, Index, Lineage, MonotonicTime};
use crate::record::{Origin, Record};
use crate::wire::frames::{Hello, WitnessRefusal};

/// After so many moves in a row that reached no witness the wait between them grows no further.
const DOUBLINGS: u32 = 6;

/// What a replica knows of the witness in use.
#[derive(Debug)]
pub(super) struct Enrolment {
    /// 0 for the preferred one, 1 for the alternate.
    slot: u8,
    /// An entry that moves the pair, of which it is not known that both have it on disk.
    moving: Option<Moving>,
    /// The witness has said that it does not know what it should.
    unknown: bool,
    /// The pair has moved, and the witness has not said yet that it has the record.
    enrolling: bool,
    down_since: Option<MonotonicTime>,
    /// Moves in a row that reached no witness.
    tries: u32,
}

/// A move, ordered and not yet certain.
#[derive(Clone, Copy, Debug)]
struct Moving {
    index: Index,
    record: Record,
    slot: u8,
}

impl Enrolment {
    pub(super) fn new(slot: u8, now: MonotonicTime) -> Self {
        Self {
            slot,
            moving: None,
            unknown: false,
            enrolling: false,
            down_since: Some(now),
            tries: 0,
        }
    }

    pub(super) fn slot(&self) -> u8 {
        self.slot
    }

    /// Whether no witness may be asked anything (rule W2).
    pub(super) fn asks_nobody(&self) -> bool {
        self.moving.is_some()
    }

    /// Whether the witness is to be told the record rather than asked for it.
    pub(super) fn is_enrolling(&self) -> bool {
        self.enrolling
    }
}

impl Replica {
    pub(super) fn on_witness_reached(&mut self) {
        self.enrolment.down_since = None;
    }

    pub(super) fn on_witness_lost(&mut self) {
        self.enrolment.down_since.get_or_insert(self.now.mono);
    }

    pub(super) fn on_witness_refusal(&mut self, reason: WitnessRefusal) {
        let lost = matches!(reason, WitnessRefusal::UnknownPair | WitnessRefusal::Behind);
        self.enrolment.unknown |= lost;
    }

    /// The witness says that this is the present record.
    pub(super) fn on_witness_knows(&mut self, record: &Record) {
        if self.membership.record() == Some(record) {
            let news = core::mem::take(&mut self.enrolment.enrolling);
            (self.enrolment.unknown, self.enrolment.tries) = (false, 0);
            if news {
                let slot = self.enrolment.slot;
                self.event(Event::Enrolled { slot, record: *record });
            }
        }
    }

    /// An entry that moves the pair was appended here. Whatever was asked of the witness before
    /// is void: neither it nor the next one is asked until both are known to have the entry.
    pub(super) fn on_move_ordered(&mut self, index: Index, record: Record, slot: u8) {
        let follows = self.membership.record().is_some_and(|present| record.renews(present));
        if self.is_joiner() || !follows || slot >= self.config.witnesses {
            return;
        }
        self.membership.void_open();
        self.enrolment.moving = Some(Moving { index, record, slot });
    }

    pub(super) fn on_enrolment_due(&mut self) {
        if let Some(moving) = self.enrolment.moving {
            let peer_has = !self.is_duplex() || self.progress.persisted >= moving.index;
            if self.membership.record().is_some() && self.persisted >= moving.index && peer_has {
                self.enter(moving.record);
            }
            return;
        }
        if self.log_misnames_witness() {
            return self.name_witness();
        }
        if let Some(slot) = self.next_witness() {
            self.enrolment.unknown = false;
            if !self.is_duplex() {
                self.drop_joiner(FallBack::Witness);
            }
            let nonce = self.nonce();
            if let Some(record) = self.membership.enrolled_anew(nonce) {
                self.event(Event::Moving { slot, record });
                self.order_own(EntryKind::Witness { slot, record });
            }
        }
    }

    /// Whether the log ends with a move that was void: a joiner, or this process after a restart,
    /// would take it for one that counts, and ask the wrong witness.
    pub(super) fn log_misnames_witness(&self) -> bool {
        let Some(present) = self.membership.record() else { return false };
        let history = self.log.history();
        let ahead = history.enrolled.is_some_and(|enrolled| {
            (enrolled.lineage, enrolled.epoch) > (present.lineage, present.epoch)
        });
        self.enrolment.moving.is_none() && (ahead || history.witness != self.enrolment.slot)
    }

    /// Puts it right, with the record that the witness has; no member moves by it. Not before this
    /// process's own disk has that record: after a restart it would look like a move.
    fn name_witness(&mut self) {
        let Some(&record) = self.membership.record() else { return };
        let (slot, known) = (self.enrolment.slot, self.membership.is_all_persisted());
        if self.is_sequencer() && known && self.has_room() && !self.log.panicked() {
            self.order_own(EntryKind::Witness { slot, record });
        }
    }

    /// Where the pair should move, if it should and is well enough to (rule W1).
    fn next_witness(&mut self) -> Option<u8> {
        let sole = self.membership.record().is_some_and(|record| !record.members.is_duplex());
        // A joiner acts on no record before the member says so (rule J6): whatever becomes of this.
        let joins = |open: &Open| sole && open.request.next.origin == Origin::Joined;
        let healthy = self.is_sequencer()
            && (self.is_duplex() || sole)
            && self.membership.open().is_none_or(joins)
            && self.suspicion.is_none()
            && self.divergence.is_none()
            && self.leaving.is_none()
            && !self.is_peer_leaving()
            // A member that may not know yet that it is one in this epoch could not follow the
            // move.
            && self.confirming.is_none()
            && !self.log.panicked()
            && self.has_room();
        if !healthy || self.enrolment.enrolling && self.witness_up {
            return None;
        }
        let Enrolment { slot, tries, .. } = self.enrolment;
        if self.enrolment.unknown && self.witness_up {
            return Some(slot);
        }
        let patience = self.config.witness_patience * 2u32.pow(tries.min(DOUBLINGS));
        let long = |since| self.now.mono.since(since) >= patience;
        if self.config.witnesses < 2 || !self.enrolment.down_since.is_some_and(long) {
            return None;
        }
        self.enrolment.tries = tries + 1;
        self.enrolment.down_since = Some(self.now.mono);
        Some(1 - slot)
    }

    /// A record is entered. If it is the one with which the pair moves, from here on the next
    /// witness is the one to ask, and never again the previous one.
    pub(super) fn on_moved(&mut self, record: &Record) {
        let Some(moving) = self.enrolment.moving.take() else { return };
        if moving.record != *record {
            // The pair went on to another record before both had the move: it is void.
            return;
        }
        self.enrolment.enrolling = true;
        self.use_witness(moving.slot);
    }

    /// Turns to the witness in this slot.
    pub(super) fn use_witness(&mut self, slot: u8) {
        self.membership.set_witness(slot);
        if self.enrolment.slot == slot {
            return;
        }
        self.enrolment.slot = slot;
        self.enrolment.down_since = Some(self.now.mono);
        // The driver that carries this out says of the witness used from now on whether it is
        // there.
        self.spare_up = core::mem::take(&mut self.witness_up);
        self.outputs.push_back(Output::UseWitness { slot });
    }

    /// A log from before a restart ends with a move of which this process does not know whether
    /// the other has it.
    pub(super) fn find_move(&mut self) {
        let history = self.log.history();
        // In a new lineage nothing of the old one counts.
        let Some(record) = history.enrolled.filter(|_| !self.start.adopt) else { return };
        let slot = history.witness;
        let known = self.membership.last_known();
        if known.is_none_or(|known| known >= (record.lineage, record.epoch))
            || self.membership.passed_over(&record)
        {
            return;
        }
        // No other disk is to have it: with the entry on its disk the predecessor had moved.
        let alone = self.membership.was_alone_before(&record);
        match self.log.enrolled_at(&record) {
            Some(index) if !alone => self.enrolment.moving = Some(Moving { index, record, slot }),
            // What is not in the window was released, so both had it on disk (rule R3).
            _ => self.succeed(record, slot),
        }
    }

    /// The predecessor's place is to be claimed of the witness to which it had moved.
    fn succeed(&mut self, record: Record, slot: u8) {
        self.enrolment.moving = None;
        self.membership.succeed(record);
        self.use_witness(slot);
        self.persist_membership();
    }

    /// The last epoch of which the log knows, if that is a move that is not certain.
    pub(super) fn moving_to(&self) -> Option<(Lineage, Epoch)> {
        self.enrolment.moving.map(|moving| (moving.record.lineage, moving.record.epoch))
    }

    /// What this process's disk shows of the last move, for the other to know.
    pub(super) fn enrolled(&self) -> Option<Digest> {
        let on_disk = self.enrolment.moving.is_none_or(|moving| self.persisted >= moving.index);
        let record = self.log.history().enrolled.filter(|_| on_disk && !self.is_joiner());
        let is_void = |record: &Record| match self.membership.record() {
            Some(_) => self.log_misnames_witness(),
            None => self.membership.passed_over(record),
        };
        record.filter(|record| !is_void(record)).map(|record| record.digest())
    }

    /// A joiner's log is replaced, and with it what it ends with.
    pub(super) fn forget_move(&mut self) {
        self.enrolment.moving = None;
    }

    /// The other shows what its disk has of the move (rule W2).
    pub(super) fn on_presence_of_move(&mut self, hello: &Hello) {
        let Some(moving) = self.enrolment.moving else { return };
        if lacks(hello, &moving) {
            // The process that has the pair's place next has it by the word of the witness in use.
            self.enrolment.moving = None;
        } else if hello.enrolled != Some(moving.record.digest()) || self.persisted < moving.index {
            // The peer may have the move and have followed it, for all that is known.
        } else if self.membership.record().is_some() {
            self.enter(moving.record);
        } else {
            self.succeed(moving.record, moving.slot);
        }
    }
}

/// Whether it is a new process whose disk is whole, was a member's up to the epoch that the move
/// renews, and ends before the move. Then its predecessor never had the move, and no process will.
fn lacks(hello: &Hello, moving: &Moving) -> bool {
    let Some(claim) = hello.claim.filter(|_| hello.record.is_none()) else { return false };
    let Moving { index, record, .. } = moving;
    if !record.members.is_duplex() {
        // Only this place was to have it.
        return false;
    }
    let same = claim.lineage == record.lineage && claim.epoch.next().next() >= record.epoch;
    same && claim.epoch < record.epoch && claim.last_index < *index
}
