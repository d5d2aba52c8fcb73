//! The window of the log: entries held, their digests, and what executing them came to.
//!
//! Everything that is agreed upon and released is dropped from the front, so
//! the window is as long as what is under way.

use std::collections::VecDeque;

use crate::digest::Digest;
use crate::entry::{Entry, EntryKind};
use crate::history::History;
use crate::ids::{Index, LogTime, ReplicaId};
use crate::outline::Outline;
use crate::output::{Executed, Output};
use crate::record::Record;
use crate::{limits, output};

/// One entry and what became of it.
#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// Running digest of the entries at this one.
    log_digest: Digest,
    /// Weight of all entries from the start of the lineage up to this one.
    weight: u64,
    /// Steps of the same.
    steps: u64,
    /// Who was the sequencer at this entry.
    sequencer: ReplicaId,
    /// Set once executed; `outputs` is emptied when they are released.
    done: Option<Done>,
}

#[derive(Debug)]
struct Done {
    outputs: Vec<Output>,
    weight: usize,
    digest: Digest,
    wakeup: Option<LogTime>,
    panicked: bool,
}

/// The digests at one index.
#[derive(Clone, Copy, Debug, Default)]
struct Digests {
    log_digest: Digest,
    outputs: Digest,
    weight: u64,
    steps: u64,
}

/// The entries that are held and not yet dropped.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The last entry that was dropped, and the digests there.
    base: Index,
    at_base: Digests,
    slots: VecDeque<Slot>,
    /// What the log says of itself at the entry it was restored at, and at the last one.
    base_history: History,
    history: History,
    executed: Index,
    wakeup: Option<LogTime>,
    output_weight: usize,
    /// What the outputs of a step weigh, at most of late; forgotten by parts.
    step_weight: usize,
    panicked: bool,
    last_bulk: Index,
    /// The last entry at which both take a checkpoint.
    last_checkpoint: Index,
}

impl Log {
    /// The last entry held; everything before it is held or was.
    pub(super) fn last_index(&self) -> Index {
        Index(self.base.0 + self.slots.len() as u64)
    }

    pub(super) fn executed(&self) -> Index {
        self.executed
    }

    /// The last entry dropped.
    pub(super) fn base(&self) -> Index {
        self.base
    }

    /// Timestamp of the last entry's last step.
    pub(super) fn last_time(&self) -> LogTime {
        self.history.time
    }

    /// What the log says of itself at the last entry.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// A log that goes on from a restored state, everything before it executed and released.
    pub(super) fn restored(history: History, outputs: Digest, wakeup: Option<LogTime>) -> Self {
        Self {
            base: history.index,
            at_base: Digests { log_digest: history.log_digest, outputs, weight: 0, steps: 0 },
            slots: VecDeque::new(),
            executed: history.index,
            base_history: history.clone(),
            history,
            wakeup,
            output_weight: 0,
            step_weight: 0,
            panicked: false,
            last_bulk: Index(0),
            last_checkpoint: Index(0),
        }
    }

    /// When the service wants to be woken, as of the last entry executed.
    pub(super) fn wakeup(&self) -> Option<LogTime> {
        self.wakeup
    }

    /// Whether the last entry executed panicked; nothing is executed after it.
    pub(super) fn panicked(&self) -> bool {
        self.panicked
    }

    /// The last entry that is bulk.
    pub(super) fn last_bulk(&self) -> Index {
        self.last_bulk
    }

    /// The last entry at which both take a checkpoint; 0 if there was none in this log.
    pub(super) fn last_checkpoint(&self) -> Index {
        self.last_checkpoint
    }

    /// How many inputs come to outputs of this weight, as far as those of late tell; one at least.
    pub(super) fn steps_within(&self, weight: usize) -> usize {
        (weight / self.step_weight.max(1)).max(1)
    }

    /// How many steps the entries of the window are ([`Entry::steps`]).
    pub(super) fn steps(&self) -> usize {
        self.steps_between(self.base, self.last_index()) as usize
    }

    /// Steps of the entries after the first and up to the second; of entries that are not in the
    /// window any more one each.
    pub(super) fn steps_between(&self, after: Index, up_to: Index) -> u64 {
        let dropped = self.base.0.saturating_sub(after.0);
        dropped + self.steps_at(up_to).saturating_sub(self.steps_at(after))
    }

    /// Steps of all entries up to this one; before the window: that at its start.
    pub(super) fn steps_at(&self, index: Index) -> u64 {
        self.slot(index).map_or(self.at_base.steps, |slot| slot.steps)
    }

    /// Bytes of entries and outputs in the window.
    pub(super) fn bytes(&self) -> usize {
        let entries = self.weight_at(self.last_index()).saturating_sub(self.at_base.weight);
        usize::try_from(entries).unwrap_or(usize::MAX).saturating_add(self.output_weight)
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        let at = index.0.checked_sub(self.base.0 + 1)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    /// The entry at this index, if it is in the window.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.slot(index).map(|slot| &slot.entry)
    }

    /// Where in the window the pair was enrolled with this record; `None` if that was dropped, or
    /// came before the state that the log was restored at.
    pub(super) fn enrolled_at(&self, record: &Record) -> Option<Index> {
        let enrols = |slot: &&Slot| matches!(&slot.entry.kind, EntryKind::Witness { record: own, .. } if own == record);
        self.slots.iter().rev().find(enrols).map(|slot| slot.entry.index)
    }

    /// Weight of all entries up to this one, for measuring what is under way between two.
    /// Before the window: that at its start.
    pub(super) fn weight_at(&self, index: Index) -> u64 {
        self.slot(index).map_or(self.at_base.weight, |slot| slot.weight)
    }

    /// The running digest of the entries at this index, if it is still known.
    pub(super) fn log_digest_at(&self, index: Index) -> Option<Digest> {
        if index == self.base {
            return Some(self.at_base.log_digest);
        }
        self.slot(index).map(|slot| slot.log_digest)
    }

    /// The running digest of the outputs at this index, if it is still known.
    pub(super) fn outputs_at(&self, index: Index) -> Option<Digest> {
        if index == self.base {
            return Some(self.at_base.outputs);
        }
        self.slot(index)?.done.as_ref().map(|done| done.digest)
    }

    /// What two replicas compare at an executed entry: its outputs' running digest together with
    /// the entries' (rule R2). So replicas that executed different entries to the same outputs are
    /// told apart too.
    pub(super) fn agreement_at(&self, index: Index) -> Option<Digest> {
        let (log_digest, outputs) = (self.log_digest_at(index)?, self.outputs_at(index)?);
        // In one piece, because every report and every comparison needs one: the outputs'
        // digest continued by the entries' as a byte string.
        let mut both = [0; 40];
        both[..16].copy_from_slice(&outputs.0);
        both[16..24].copy_from_slice(&16u64.to_le_bytes());
        both[24..].copy_from_slice(&log_digest.0);
        Some(Digest::of(&both))
    }

    /// Appends the next entry, made while this place had the sequencer.
    pub(super) fn append(&mut self, entry: Entry, sequencer: ReplicaId) {
        assert_eq!(entry.index, self.last_index().next(), "entries are appended in order");
        assert!(entry.time > self.history.time, "log time goes forward");
        let weight = self.weight_at(self.last_index()) + entry.weight() as u64;
        let steps = self.steps_at(self.last_index()) + entry.steps() as u64;
        self.history.append(&entry);
        let log_digest = self.history.log_digest;
        if entry.kind.payload_len() >= limits::BULK_BYTES {
            self.last_bulk = entry.index;
        }
        if matches!(entry.kind, EntryKind::Checkpoint) {
            self.last_checkpoint = entry.index;
        }
        self.slots.push_back(Slot { entry, log_digest, weight, steps, sequencer, done: None });
    }

    /// Drops what comes after this entry; nothing of it may have been executed.
    pub(super) fn truncate(&mut self, after: Index) {
        assert!(self.executed <= after && after >= self.base, "only what was not executed is cut");
        let kept: Vec<_> = self.slots.drain(..).filter(|slot| slot.entry.index <= after).collect();
        self.history = self.base_history.clone();
        self.last_checkpoint = Index(0);
        for slot in kept {
            self.append(slot.entry, slot.sequencer);
        }
    }

    /// Takes the result of the next entry.
    pub(super) fn executed_next(&mut self, executed: Executed) {
        assert_eq!(executed.index, self.executed.next(), "entries are executed in order");
        assert!(!self.panicked, "nothing is executed after a panic");
        let at = usize::try_from(executed.index.0 - self.base.0 - 1).expect("in the window");
        let weight: usize = executed.outputs.iter().map(Output::weight).sum();
        let slot = self.slots.get_mut(at).expect("only entries that are held are executed");
        let step_weight = weight / slot.entry.steps();
        self.step_weight = step_weight.max(self.step_weight - self.step_weight / 16);
        self.executed = executed.index;
        self.wakeup = executed.wakeup;
        self.panicked = executed.panic.is_some();
        self.output_weight += weight;
        slot.done = Some(Done {
            outputs: executed.outputs,
            weight,
            digest: executed.digest,
            wakeup: executed.wakeup,
            panicked: executed.panic.is_some(),
        });
    }

    /// Takes the outputs of an executed entry for release, after checking once more that they
    /// are what was agreed upon (rule R4), and tells who the sequencer was there. `None` if they
    /// no longer match their digest.
    pub(super) fn release(&mut self, index: Index) -> Option<(Vec<Output>, ReplicaId)> {
        let previous = self.outputs_at(index.prev()).expect("released in order");
        let at = usize::try_from(index.0 - self.base.0 - 1).expect("in the window");
        let slot = &mut self.slots[at];
        let done = slot.done.as_mut().expect("only executed entries are released");
        let digest = output::chain(previous, index, &done.outputs, done.wakeup, done.panicked);
        if digest != done.digest {
            return None;
        }
        self.output_weight -= core::mem::take(&mut done.weight);
        Some((core::mem::take(&mut done.outputs), slot.sequencer))
    }

    /// What executing an entry came to, in outline; of one that is released nothing is there
    /// any more.
    pub(super) fn outline(&self, index: Index) -> Option<Outline> {
        let before = self.outputs_at(index.prev())?;
        let done = self.slot(index)?.done.as_ref()?;
        Some(Outline::new(index, before, &done.outputs, done.wakeup, done.panicked))
    }

    /// Drops everything up to this entry, which must be executed and released.
    pub(super) fn drop_to(&mut self, index: Index) {
        while self.base < index {
            let slot = self.slots.pop_front().expect("only entries that are held are dropped");
            let done = slot.done.expect("only executed entries are dropped");
            assert_eq!(done.weight, 0, "only released entries are dropped");
            self.base = slot.entry.index;
            let Slot { log_digest, weight, steps, .. } = slot;
            self.at_base = Digests { log_digest, outputs: done.digest, weight, steps };
        }
    }
}
