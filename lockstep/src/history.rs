//! What the log says of itself at one of its entries, apart from the service.
//!
//! It follows from the entries alone, so every holder of the same log has the same [`History`] at
//! the same index. A checkpoint begins with it, and a replica that starts from the checkpoint
//! continues from there without the entries before.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use rkyv::{Archive, Deserialize, Serialize};

use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, Origin};
use crate::ids::{Epoch, Incarnation, Index, Lineage, LogTime, OriginNumber, ReplicaId};
use crate::record::{Members, Record};

/// The log up to one of its entries.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The last entry.
    pub index: Index,
    /// The running digest of the entries there.
    pub log_digest: Digest,
    /// The time of the last entry's last step.
    pub time: LogTime,
    /// The epoch in which the last entry was ordered.
    pub epoch: Epoch,
    /// The record of the last epoch that began with an entry; renewals of it have none.
    pub record: Option<Record>,
    /// The entry with which that epoch began.
    pub began: Index,
    /// Who orders after this entry, as far as the entries say.
    pub sequencer: ReplicaId,
    /// The slot of the witness that the pair uses: 0 for the preferred one, 1 for the alternate.
    pub witness: u8,
    /// The record with which the pair was last enrolled there.
    pub enrolled: Option<Record>,
    /// At each place the highest number ordered of the inputs of the member there.
    pub ordered: [OriginNumber; 2],
}

impl Default for History {
    fn default() -> Self {
        Self {
            index: Index(0),
            log_digest: Digest::ZERO,
            time: LogTime(0),
            epoch: Epoch(0),
            record: None,
            began: Index(0),
            sequencer: ReplicaId::A,
            witness: 0,
            enrolled: None,
            ordered: [OriginNumber(0); 2],
        }
    }
}

/// Why an entry cannot be the next one of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// The entry is not the next one.
    #[error("the entry does not follow the last one")]
    Index,
    /// The entry's time is not later than the last one's.
    #[error("the entry's time is not later than the last one's")]
    Time,
    /// The entry is of an earlier epoch than the last one, or begins one that it is not of.
    #[error("the entry is of an epoch that is over")]
    Epoch,
    /// The entry's origin is no member, or its number not the next one of that origin.
    #[error("the entry's origin is no member, or its number not the next one")]
    Origin,
    /// The log begins with the genesis, and has no other.
    #[error("the entry is a genesis and not the first, or the first and no genesis")]
    Genesis,
}

impl History {
    /// The lineage, once there is one.
    pub fn lineage(&self) -> Lineage {
        self.record.map_or(Lineage(0), |record| record.lineage)
    }

    /// The members, as far as the entries say.
    pub fn members(&self) -> Members {
        self.record.map_or(Members::NONE, |record| record.members)
    }

    /// The highest number ordered of this process's inputs.
    pub fn ordered_of(&self, place: ReplicaId, incarnation: Incarnation) -> OriginNumber {
        let known = self.members().has(place, incarnation);
        if known { self.ordered[place.slot()] } else { OriginNumber(0) }
    }

    /// Whether the entry can be the next one.
    ///
    /// # Errors
    /// Why it cannot: no sound sequencer has ordered it there.
    pub fn check(&self, entry: &Entry) -> Result<(), InvalidEntry> {
        fits(entry.index == self.index.next(), InvalidEntry::Index)?;
        fits(entry.time > self.time, InvalidEntry::Time)?;
        fits(entry.epoch >= self.epoch, InvalidEntry::Epoch)?;
        let genesis = matches!(entry.kind, EntryKind::Genesis { .. });
        fits(genesis == (entry.index == Index(1)), InvalidEntry::Genesis)?;
        let Origin { place, incarnation, number } = entry.origin;
        match &entry.kind {
            // No process is a member yet: the record comes with the next entry.
            EntryKind::Genesis { .. } => fits(number == OriginNumber(0), InvalidEntry::Origin),
            EntryKind::Membership { record } | EntryKind::Resume { record } => {
                let later = self
                    .record
                    .is_none_or(|old| (record.lineage, record.epoch) > (old.lineage, old.epoch));
                fits(record.epoch == entry.epoch && later, InvalidEntry::Epoch)?;
                let own = record.members.has(place, incarnation) && number == OriginNumber(0);
                fits(own, InvalidEntry::Origin)
            }
            kind => {
                let member = self.members().has(place, incarnation);
                let next = match kind {
                    EntryKind::Inputs(_) => self.ordered_of(place, incarnation).next(),
                    _ => OriginNumber(0),
                };
                fits(member && number == next, InvalidEntry::Origin)
            }
        }
    }

    /// Takes the next entry, which must fit ([`check`](Self::check)).
    pub fn append(&mut self, entry: &Entry) {
        self.index = entry.index;
        self.log_digest = entry.chain(self.log_digest);
        self.time = entry.last_time();
        self.epoch = entry.epoch;
        match &entry.kind {
            EntryKind::Membership { record } | EntryKind::Resume { record } => self.begin(*record),
            EntryKind::HandOver { to } => self.sequencer = *to,
            EntryKind::Witness { slot, record } => {
                (self.witness, self.enrolled) = (*slot, Some(*record));
            }
            _ => {}
        }
        if entry.last_number() != OriginNumber(0) {
            self.ordered[entry.origin.place.slot()] = entry.last_number();
        }
    }

    /// Inputs of a process that stays a member go on being counted; those of others never come
    /// again (rule O7).
    fn begin(&mut self, record: Record) {
        let before = self.members();
        for place in ReplicaId::BOTH {
            if before.at(place) != record.members.at(place) {
                self.ordered[place.slot()] = OriginNumber(0);
            }
        }
        self.sequencer = record.sequencer();
        self.record = Some(record);
        self.began = self.index;
    }
}

fn fits(holds: bool, misfit: InvalidEntry) -> Result<(), InvalidEntry> {
    if holds { Ok(()) } else { Err(misfit) }
}
