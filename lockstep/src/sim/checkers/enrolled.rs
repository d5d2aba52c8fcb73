//! What each witness has of the pair, and which witness counts: the checkers' own book of it.
//!
//! The one that counts changes when every member has on disk the entry that moves the pair, and
//! with it the record that the entry tells. What another witness records is no one's right.

use std::collections::BTreeMap;

use crate::ids::{Epoch, Index, Lineage};
use crate::record::{Origin, Record};

/// An entry that moves the pair, and that no member is known to follow yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ordered {
    /// Where it is in the log.
    pub(super) index: Index,
    /// The slot of the witness that the pair is to turn to.
    pub(super) slot: u8,
    /// The record with which it does.
    pub(super) record: Record,
}

/// What the witnesses have, and which records ever counted.
#[derive(Debug, Default)]
pub(super) struct Enrolled {
    slot: u8,
    latest: Option<Record>,
    /// Every record that ever counted.
    records: BTreeMap<(Lineage, Epoch), Vec<Record>>,
    /// The record that the witness in each slot has.
    present: [Option<Record>; 2],
    ordered: Vec<Ordered>,
}

impl Enrolled {
    /// A witness has this record on its disk.
    pub(super) fn record(&mut self, slot: u8, record: Record) {
        self.present[usize::from(slot & 1)] = Some(record);
        let begins = record.origin == Origin::Vacant;
        let is_later = self.latest.is_none_or(|latest| key(&latest) <= key(&record));
        if is_later && (slot == self.slot || begins) {
            self.slot = slot;
            self.count(record);
        }
    }

    /// A witness lost what it had, or has an old copy of it, which is known for one.
    pub(super) fn forget(&mut self, slot: u8) {
        self.present[usize::from(slot & 1)] = None;
    }

    /// A move is in a log.
    pub(super) fn order(&mut self, index: Index, slot: u8, record: Record) {
        let ordered = Ordered { index, slot, record };
        if !self.is_recorded(&record) && !self.ordered.contains(&ordered) {
            self.ordered.push(ordered);
        }
    }

    /// The moves of which it is not known that they are followed.
    pub(super) fn ordered(&self) -> impl Iterator<Item = Ordered> {
        self.ordered.iter().copied()
    }

    /// The pair follows a move.
    pub(super) fn follow(&mut self, moved: Ordered) {
        self.ordered.retain(|ordered| key(&ordered.record) > key(&moved.record));
        self.slot = moved.slot;
        self.count(moved.record);
    }

    fn count(&mut self, record: Record) {
        let of_epoch = self.records.entry(key(&record)).or_default();
        if !of_epoch.contains(&record) {
            of_epoch.push(record);
        }
        self.latest = Some(record);
    }

    /// The present record, of the witness that counts.
    pub(super) fn latest(&self) -> Option<&Record> {
        self.latest.as_ref()
    }

    /// Whether that witness has it.
    pub(super) fn is_known(&self) -> bool {
        self.present[usize::from(self.slot & 1)] == self.latest
    }

    /// Whether this record ever counted.
    pub(super) fn is_recorded(&self, record: &Record) -> bool {
        self.records.get(&key(record)).is_some_and(|of_epoch| of_epoch.contains(record))
    }

    /// The record that counted before this one.
    pub(super) fn before(&self, record: &Record) -> Option<&Record> {
        self.records.range(..key(record)).next_back().and_then(|(_, of_epoch)| of_epoch.last())
    }

    /// The records that counted after the one and up to the other, in order.
    pub(super) fn between(&self, from: &Record, to: &Record) -> impl Iterator<Item = &Record> {
        let (from, to) = (key(from), key(to));
        self.records.range(from..=to).filter(move |(at, _)| **at > from).flat_map(|(_, of)| of)
    }
}

/// Records are in order of their lineages, and in each of their numbers.
pub(super) fn key(record: &Record) -> (Lineage, Epoch) {
    (record.lineage, record.epoch)
}
