//! Epochs: which record this replica follows, and what it has asked of the witness.
//!
//! Pure bookkeeping of section E of `docs/protocol.md`. It decides what a record
//! means for this replica and what may be asked next; when to ask is the hub's.

use crate::ids::{Epoch, Incarnation, Lineage, Mono, Nonce, PairId, Place};
use crate::proto::io;
use crate::record::{Members, Origin, Record, Request};

/// A request that the witness has not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) request: Request,
    /// The number of the membership that has to be on disk before it may be sent.
    persist: u64,
    /// When it was last sent.
    pub(super) sent: Option<Mono>,
    /// An earlier request, to go on alone, of which it is not known whether it was granted.
    /// This one settles it (rule E6).
    doubt: Option<Record>,
}

/// What a record means for this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing new.
    Same,
    /// Nobody is a member, and the pair may be formed on it.
    Vacant,
    /// This replica follows it from now on. Sequencer and log are kept if it renews the one
    /// before.
    Enter {
        /// The record.
        record: Record,
    },
    /// The peer goes on without this replica.
    Removed,
    /// The pair exists without this process.
    NotAMember,
    /// Older than what this replica knows: not the present one.
    Stale,
}

#[derive(Debug)]
pub(super) struct Membership {
    pair: PairId,
    place: Place,
    incarnation: Incarnation,
    /// The epoch that this replica is in.
    record: Option<Record>,
    /// A vacant record that the witness has, to form the pair on.
    vacant: Option<Record>,
    open: Option<Open>,
    /// The last membership handed out to be persisted, and the last known to be.
    written: u64,
    persisted: u64,
}

impl Membership {
    pub(super) fn new(pair: PairId, place: Place, incarnation: Incarnation) -> Self {
        let (record, vacant, open) = (None, None, None);
        Self { pair, place, incarnation, record, vacant, open, written: 0, persisted: 0 }
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
        let asked = self.open.map(|open| open.request.next);
        (self.written, io::Membership { record: self.record, asked })
    }

    pub(super) fn persisted(&mut self, number: u64) {
        self.persisted = self.persisted.max(number);
    }

    /// Whether the open request is not on disk yet, so must not be sent (rule E4).
    pub(super) fn waits_for_disk(&self) -> bool {
        self.open.is_some_and(|open| open.persist > self.persisted)
    }

    /// The open request, if it may be sent.
    pub(super) fn send_open(&mut self, now: Mono) -> Option<Request> {
        let persisted = self.persisted;
        let open = self.open.as_mut().filter(|open| open.persist <= persisted)?;
        open.sent = Some(now);
        Some(open.request)
    }

    /// Asks to form the pair with the peer's process (rule E3). Only place `a` asks.
    pub(super) fn ask_to_form(&mut self, peer: Incarnation, nonce: Nonce) -> Option<Record> {
        let present = self.vacant?;
        if self.record.is_some() || self.place != Place::A {
            return None;
        }
        let members = Members::both(self.incarnation, peer);
        if self.open.is_some_and(|open| open.request.next.members == members) {
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
        let next = Record {
            pair: self.pair,
            lineage: present.lineage,
            epoch: present.epoch.next(),
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
    pub(super) fn meaning(&mut self, told: Record) -> Meaning {
        // After the last number nothing more could be asked for.
        if told.pair != self.pair || told.epoch == Epoch(u64::MAX) {
            return Meaning::Stale;
        }
        match self.record {
            Some(record) => self.meaning_for_member(&record, told),
            None => self.meaning_for_newcomer(told),
        }
    }

    fn meaning_for_member(&self, record: &Record, told: Record) -> Meaning {
        if told == *record {
            return Meaning::Same;
        }
        if (told.lineage, told.epoch) <= (record.lineage, record.epoch) {
            return Meaning::Stale;
        }
        if told.origin == Origin::Vacant {
            // An operator has begun a new lineage: what this replica was a member of is over.
            return Meaning::NotAMember;
        }
        let asked = self.open.is_some_and(|open| {
            open.request.next == told || open.doubt.is_some_and(|doubt| doubt == told)
        });
        // Only a renewal made directly from our own epoch readmits us (rule E7): one further on
        // may have been made after we had been removed and another process had joined.
        if asked || told.renews(record) {
            Meaning::Enter { record: told }
        } else {
            Meaning::Removed
        }
    }

    fn meaning_for_newcomer(&mut self, told: Record) -> Meaning {
        if told.origin == Origin::Vacant {
            self.vacant = Some(told);
            return Meaning::Vacant;
        }
        // Formed with us in it: whoever asked, nothing can have been released without us.
        let formed = told.origin == Origin::Formed;
        if formed && told.members.has(self.place, self.incarnation) {
            return Meaning::Enter { record: told };
        }
        Meaning::NotAMember
    }

    /// Follows this record from now on; whatever was asked before is answered or void.
    pub(super) fn enter(&mut self, record: Record) {
        assert!(record.members.has(self.place, self.incarnation), "only members follow a record");
        assert!(self.record.is_none_or(|old| old.epoch < record.epoch), "epochs only grow");
        self.record = Some(record);
        self.open = None;
    }
}
