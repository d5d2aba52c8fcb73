//! Which record this replica follows, and what it has asked of the witness: the bookkeeping of
//! section E of `docs/protocol.md`.
//!
//! It decides what a record means for this replica and what may be asked next; when to ask is
//! decided by the hub and by [`epochs`](super::epochs).

use crate::ids::{Epoch, Incarnation, Lineage, MonotonicTime, Nonce, PairId, ReplicaId};
use crate::limits;
use crate::proto::io;
use crate::record::{Members, Origin, Record, Request};

/// A request that the witness has not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) request: Request,
    /// The number of the membership that has to be on disk before it may be sent.
    persist: u64,
    /// When it was last sent.
    pub(super) sent: Option<MonotonicTime>,
    /// An earlier request, to go on alone, of which it is not known whether it was granted.
    /// This one settles it (rule E6).
    doubt: Option<Record>,
}

/// What a record means for this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordVerdict {
    /// The record says nothing new.
    Same,
    /// The record names no member, so that the pair may be formed on it.
    Vacant,
    /// The record names other processes; this one may be the successor of one of them.
    Others,
    /// This process is to be a member once the sole member says so (rule J6).
    Joined,
    /// What this replica asked for when it left is recorded (rule E11).
    Left,
    /// This replica follows the record from now on. Sequencer and log stay if it renews the
    /// previous record.
    Enter {
        /// The record to follow.
        record: Record,
    },
    /// The peer goes on without this replica.
    Removed,
    /// What this replica was a member of is over.
    NotAMember,
    /// The record is older than what this replica knows, so it is not the present one.
    Stale,
}

#[derive(Debug)]
pub(super) struct Membership {
    pair: PairId,
    place: ReplicaId,
    incarnation: Incarnation,
    /// The epoch that this replica is in.
    record: Option<Record>,
    /// A vacant record that the witness has, to form the pair on.
    vacant: Option<Record>,
    open: Option<Open>,
    /// The record of others that the witness has, as far as this process knows.
    present: Option<Record>,
    /// The epoch in which a predecessor was a member, with everything that its log needs for
    /// that; and what its predecessors asked for without an answer.
    predecessor: Option<Record>,
    inherited: Vec<Record>,
    /// The slot of the witness to ask.
    witness: u8,
    /// The record in which this joiner is to be a member.
    joined: Option<Record>,
    /// The last membership handed out to be persisted, and the last known to be.
    written: u64,
    persisted: u64,
}

impl Membership {
    pub(super) fn new(
        pair: PairId,
        place: ReplicaId,
        incarnation: Incarnation,
        disk: io::Membership,
    ) -> Self {
        Self {
            pair,
            place,
            incarnation,
            record: None,
            vacant: None,
            open: None,
            present: None,
            predecessor: disk.record,
            inherited: disk.asked,
            witness: disk.witness,
            joined: None,
            written: 0,
            persisted: 0,
        }
    }

    /// The record of others that the witness has.
    pub(super) fn present(&self) -> Option<&Record> {
        self.present.as_ref()
    }

    /// The vacant record that the witness has.
    pub(super) fn vacant(&self) -> Option<&Record> {
        self.vacant.as_ref()
    }

    /// The last epoch that the disk knows of, if this process may claim a place by it.
    pub(super) fn last_known(&self) -> Option<(Lineage, Epoch)> {
        let own = self.predecessor?;
        let all = self.inherited.iter().chain([&own]);
        all.map(|record| (record.lineage, record.epoch)).max()
    }

    /// Whether this process may claim its predecessor's place in that record (rule J1).
    fn may_claim(&self, told: &Record) -> bool {
        let was_ours = |known: &Record| told == known || told.renews(known) || told.leaves(known);
        // Who only asked for the pair to be formed lacks nothing: it has whatever the first epoch
        // came to at its place.
        let counts = |known: &&Record| self.predecessor.is_some() || known.origin == Origin::Formed;
        let known = self.inherited.iter().filter(counts).chain(&self.predecessor);
        told.members.at(self.place).is_some() && known.into_iter().any(was_ours)
    }

    /// The record in which it may claim its predecessor's place, if that is the present one.
    pub(super) fn claimable(&self) -> Option<Record> {
        self.present.filter(|present| self.may_claim(present))
    }

    pub(super) fn witness(&self) -> u8 {
        self.witness
    }

    pub(super) fn set_witness(&mut self, slot: u8) {
        self.witness = slot;
    }

    /// What was asked is asked no more, whatever becomes of it (rule W2).
    pub(super) fn void_open(&mut self) {
        self.open = None;
    }

    /// Whether the predecessor was a member alone in the epoch that this record renews.
    pub(super) fn was_alone_before(&self, record: &Record) -> bool {
        let known = self.inherited.iter().chain(&self.predecessor);
        let own = record.members.at(self.place).is_some() && !record.members.is_duplex();
        own && known.into_iter().any(|known| record.renews(known))
    }

    /// Whether the predecessor had gone on to another record than this one, with which the pair was
    /// to be enrolled anew. The number between the two is that of a renewal by the previous witness
    /// (rule W2).
    pub(super) fn passed_over(&self, record: &Record) -> bool {
        self.predecessor
            .is_some_and(|own| own.lineage == record.lineage && own.epoch.next() == record.epoch)
    }

    /// The members that there were had all turned to this record.
    pub(super) fn succeed(&mut self, record: Record) {
        self.predecessor = Some(record);
        self.inherited.clear();
        self.open = None;
    }

    /// The record with which the pair is enrolled anew: a renewal, with a number above every one
    /// that may have been asked for from the present record.
    pub(super) fn enrolled_anew(&self, nonce: Nonce) -> Option<Record> {
        let present = self.record?;
        Some(Record {
            epoch: present.epoch.next().next(),
            asker: self.place,
            nonce,
            origin: Origin::Renewal(present.digest()),
            ..present
        })
    }

    /// What it was is over: from here on it is a joiner, which its disk has to say.
    pub(super) fn forget(&mut self) {
        assert!(self.record.is_none(), "only a process that is no member becomes a joiner");
        self.predecessor = None;
        self.inherited.clear();
        self.open = None;
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.record.map_or(Epoch(0), |record| record.epoch)
    }

    pub(super) fn lineage(&self) -> Lineage {
        self.record.map_or(Lineage(0), |record| record.lineage)
    }

    /// Whether this replica is a member together with the peer.
    pub(super) fn is_duplex(&self) -> bool {
        self.record.is_some_and(|record| record.members.is_duplex())
    }

    /// The peer's process in this epoch.
    pub(super) fn peer(&self) -> Option<Incarnation> {
        self.record?.members.at(self.place.other())
    }

    pub(super) fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// What must be on disk (rule E4), with its number.
    pub(super) fn write_down(&mut self) -> (u64, io::Membership) {
        self.written += 1;
        if let Some(open) = &mut self.open
            && open.sent.is_none()
        {
            open.persist = self.written;
        }
        let record = self.record.or(self.predecessor);
        let own = self.open.into_iter().flat_map(|open| [open.doubt, Some(open.request.next)]);
        let mut asked = self.inherited.clone();
        asked.extend(own.flatten());
        let surplus = asked.len().saturating_sub(limits::OPEN_REQUESTS);
        asked.drain(..surplus);
        (self.written, io::Membership { record, asked, witness: self.witness })
    }

    /// Whether this membership is on disk.
    pub(super) fn is_persisted(&self, number: u64) -> bool {
        self.persisted >= number
    }

    pub(super) fn persisted(&mut self, number: u64) {
        self.persisted = self.persisted.max(number);
    }

    /// Whether everything handed out to be persisted is.
    pub(super) fn is_all_persisted(&self) -> bool {
        self.persisted >= self.written
    }

    /// Whether the open request is not on disk yet, so must not be sent (rule E4).
    pub(super) fn waits_for_disk(&self) -> bool {
        self.open.is_some_and(|open| open.persist > self.persisted)
    }

    /// The open request, if it may be sent.
    pub(super) fn send_open(&mut self, now: MonotonicTime) -> Option<Request> {
        let persisted = self.persisted;
        let open = self.open.as_mut().filter(|open| open.persist <= persisted)?;
        open.sent = Some(now);
        Some(open.request)
    }

    /// Asks to form the pair with the peer's process (rule E3). Only place `a` asks.
    pub(super) fn ask_to_form(&mut self, peer: Incarnation, nonce: Nonce) -> Option<Record> {
        let present = self.vacant?;
        if self.record.is_some() || self.place != ReplicaId::A {
            return None;
        }
        let members = Members::both(self.incarnation, peer);
        let asked = |open: Open| {
            open.request.next.members == members && open.request.present == present.digest()
        };
        if self.open.is_some_and(asked) {
            return None;
        }
        // A request for an earlier process of the peer may have been granted without our
        // knowing; then the present record tells, and this one is refused by the witness.
        Some(self.ask(present, members, Origin::Formed, nonce, None))
    }

    /// Asks to go on alone. Nothing is asked while another request is open (rule E6).
    pub(super) fn ask_alone(&mut self, nonce: Nonce) -> Option<Record> {
        let present = self.record.filter(|record| record.members.is_duplex())?;
        if self.open.is_some() {
            return None;
        }
        let members = Members::alone(self.place, self.incarnation);
        Some(self.ask(present, members, Origin::Alone, nonce, None))
    }

    /// Asks for the place of its predecessor (rule J1), once it has seen who is present.
    pub(super) fn ask_restarted(&mut self, nonce: Nonce) -> Option<Record> {
        let present = self.claimable().filter(|_| self.record.is_none() && self.open.is_none())?;
        let members = Members::alone(self.place, self.incarnation);
        Some(self.ask(present, members, Origin::Restarted, nonce, None))
    }

    /// Asks to begin a lineage alone, with what is on its disk (rule J8), whose last entry is of
    /// this epoch: the witness may never have heard of it.
    pub(super) fn ask_adopted(&mut self, nonce: Nonce, last: Epoch) -> Option<Record> {
        let present = self.vacant.filter(|_| self.record.is_none() && self.open.is_none())?;
        let members = Members::alone(self.place, self.incarnation);
        let number = present.epoch.max(last).next();
        Some(self.ask_numbered(number, present, members, Origin::Adopted, nonce, None))
    }

    /// As sole member: asks that a process that has caught up be recorded (rule J5).
    pub(super) fn ask_joined(&mut self, joiner: Incarnation, nonce: Nonce) -> Option<Record> {
        let present = self.record.filter(|record| !record.members.is_duplex())?;
        if self.open.is_some() {
            return None;
        }
        let members = match self.place {
            ReplicaId::A => Members::both(self.incarnation, joiner),
            ReplicaId::B => Members::both(joiner, self.incarnation),
        };
        Some(self.ask(present, members, Origin::Joined, nonce, None))
    }

    /// Asks that the other member go on alone, since this one leaves (rule E11).
    pub(super) fn ask_to_leave(&mut self, nonce: Nonce) -> Option<Record> {
        let present = self.record.filter(|record| record.members.is_duplex())?;
        if self.open.is_some() {
            return None;
        }
        let other = self.place.other();
        let members = Members::alone(other, present.members.at(other)?);
        let origin = Origin::Left(present.digest());
        Some(self.ask(present, members, origin, nonce, None))
    }

    /// The peer is back before a request to go on alone was answered: settles it by having both
    /// members recorded anew (rule E6). A request that was never sent is simply dropped.
    pub(super) fn settle(&mut self, nonce: Nonce) -> Option<Record> {
        let open = self.open.filter(|open| open.request.next.origin == Origin::Alone)?;
        if open.sent.is_none() {
            self.open = None;
            return None;
        }
        let present = self.record?;
        let origin = Origin::Renewal(present.digest());
        Some(self.ask(present, present.members, origin, nonce, Some(open.request.next)))
    }

    fn ask(
        &mut self,
        present: Record,
        members: Members,
        origin: Origin,
        nonce: Nonce,
        doubt: Option<Record>,
    ) -> Record {
        self.ask_numbered(present.epoch.next(), present, members, origin, nonce, doubt)
    }

    fn ask_numbered(
        &mut self,
        epoch: Epoch,
        present: Record,
        members: Members,
        origin: Origin,
        nonce: Nonce,
        doubt: Option<Record>,
    ) -> Record {
        let next = Record {
            pair: self.pair,
            lineage: present.lineage,
            epoch,
            members,
            asker: self.place,
            nonce,
            origin,
        };
        let request = Request { present: present.digest(), next };
        self.open = Some(Open { request, persist: u64::MAX, sent: None, doubt });
        next
    }

    /// What a record means that the witness, or the peer in its name, says is the present one.
    pub(super) fn meaning(&mut self, told: Record) -> RecordVerdict {
        // A record after which no epoch can come is nothing to go on from.
        if told.pair != self.pair || told.epoch == Epoch(u64::MAX) {
            return RecordVerdict::Stale;
        }
        match self.record {
            Some(record) => self.meaning_for_member(&record, told),
            None => self.verdict_for_newcomer(told),
        }
    }

    fn meaning_for_member(&self, record: &Record, told: Record) -> RecordVerdict {
        if told == *record {
            return RecordVerdict::Same;
        }
        if (told.lineage, told.epoch) <= (record.lineage, record.epoch) {
            return RecordVerdict::Stale;
        }
        if told.origin == Origin::Vacant {
            // An operator has begun a new lineage: what this replica was a member of is over.
            return RecordVerdict::NotAMember;
        }
        let asked = self.has_asked(&told);
        if asked && !told.members.has(self.place, self.incarnation) {
            return RecordVerdict::Left;
        }
        // Only a renewal made directly from our own epoch readmits us (rule E7): one further on
        // may have been made after we had been removed and another process had joined.
        if asked || told.renews(record) || self.stays_by(&told, record) {
            RecordVerdict::Enter { record: told }
        } else {
            RecordVerdict::Removed
        }
    }

    fn has_asked(&self, told: &Record) -> bool {
        self.open.is_some_and(|open| open.request.next == *told || open.doubt == Some(*told))
    }

    /// The other member left (rule E11), and this one stays.
    fn stays_by(&self, told: &Record, record: &Record) -> bool {
        told.leaves(record) && told.members.has(self.place, self.incarnation)
    }

    fn verdict_for_newcomer(&mut self, told: Record) -> RecordVerdict {
        let known = [self.present, self.vacant, self.joined];
        let newest = known.iter().flatten().map(|known| (known.lineage, known.epoch)).max();
        if newest.is_some_and(|newest| (told.lineage, told.epoch) < newest) {
            return RecordVerdict::Stale;
        }
        if told.origin == Origin::Vacant {
            if self.joined.is_some() {
                return RecordVerdict::NotAMember;
            }
            self.vacant = Some(told);
            self.present = None;
            return RecordVerdict::Vacant;
        }
        let ours = told.members.has(self.place, self.incarnation);
        // Formed with us in it: whichever of the two asked, nothing can have been released without
        // us.
        if ours && (told.origin == Origin::Formed || self.has_asked(&told)) {
            return RecordVerdict::Enter { record: told };
        }
        if self.open.is_some_and(|open| open.request.present != told.digest()) {
            // It names a record that is gone.
            self.open = None;
        }
        if ours && told.origin == Origin::Joined {
            self.joined = Some(told);
            return RecordVerdict::Joined;
        }
        if self.joined.is_some() {
            return RecordVerdict::Removed;
        }
        self.present = Some(told);
        self.vacant = None;
        RecordVerdict::Others
    }

    /// Follows this record from now on; whatever was asked before is answered or void.
    pub(super) fn enter(&mut self, record: Record) {
        assert!(record.members.has(self.place, self.incarnation), "only members follow a record");
        assert!(self.record.is_none_or(|old| old.epoch < record.epoch), "epochs only grow");
        self.record = Some(record);
        self.predecessor = None;
        self.inherited.clear();
        self.joined = None;
        self.open = None;
    }
}
