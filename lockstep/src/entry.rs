//! Entries: inputs once they are ordered.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

mod inputs;

use core::time::Duration;

pub use inputs::{InputKind, Inputs};
use rkyv::{Archive, Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::ids::{Epoch, Incarnation, Index, LogTime, OriginNumber, ReplicaId};
use crate::record::Record;

/// Who took an input from outside, and its number there: the input's name (rule O5).
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The place of the CoServer that took it.
    pub place: ReplicaId,
    /// The process that took it.
    pub incarnation: Incarnation,
    /// The input's number among that process's inputs; 0 for an entry that the sequencer
    /// made itself. Of an entry with many inputs it is the first one's; the others follow it.
    pub number: OriginNumber,
}

/// Inputs that were ordered together, or what the protocol says, in their place in the log.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's position in the log.
    pub index: Index,
    /// The epoch in which it was ordered.
    pub epoch: Epoch,
    /// Log time of the entry's first step; later than that of every step before.
    pub time: LogTime,
    /// The incarnation that took the inputs, and the first one's number there.
    pub origin: Origin,
    /// The content of the entry.
    pub kind: EntryKind,
}

/// What an entry says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The first entry of a lineage: the seed of everything random in the service.
    Genesis {
        /// Drawn from the operating system's entropy by the first sequencer.
        seed: [u8; 32],
    },
    /// The first entry of an epoch that is no renewal: who is a member from here on.
    Membership {
        /// The epoch's record.
        record: Record,
    },
    /// From the next entry on the member at this place is the sequencer. Takes effect when
    /// appended, within its epoch and the renewals of that (rule O9).
    HandOver {
        /// The next sequencer.
        to: ReplicaId,
    },
    /// Nothing but the time: a wake-up is due and no input came.
    Tick,
    /// Both take a checkpoint of the state at this entry, so that the two can be compared.
    Checkpoint,
    /// Moves the pair to the witness in this slot. Once both have this entry on disk they follow
    /// this record, a renewal, and enrol the pair there with it (rule W2).
    Witness {
        /// 0 for the preferred one, 1 for the alternate.
        slot: u8,
        /// The record that the pair enrols with.
        record: Record,
    },
    /// Like [`Membership`](Self::Membership), of a process that was started anew and takes its
    /// predecessor's log up again. Between this entry and the one before lies the gap, in which no
    /// process ran. From here on wake-ups are held (rule O11).
    Resume {
        /// The epoch's record.
        record: Record,
    },
    /// The devices stand, or were waited for long enough: wake-ups go on (rule O12).
    Ready,
    /// The sequencer stood still for a while, or no process could order although a wake-up was due.
    /// Between the entry before and this one lies a gap, of which the service is told (rule O14).
    Gap,
    /// What one process took from outside, in the order in which it is executed, each input as a
    /// step of its own.
    Inputs(Inputs),
}

impl EntryKind {
    /// The record of the epoch that begins with this entry, if one does.
    pub fn begins(&self) -> Option<&Record> {
        match self {
            Self::Membership { record } | Self::Resume { record } => Some(record),
            _ => None,
        }
    }

    /// The inputs; none in an entry of the protocol's own.
    pub fn inputs(&self) -> &[InputKind] {
        match self {
            Self::Inputs(inputs) => inputs,
            _ => &[],
        }
    }

    /// Whether the protocol itself made it. Such entries take effect when appended, and every
    /// bound keeps room for them.
    pub fn is_protocol(&self) -> bool {
        !matches!(self, Self::Inputs(_) | Self::Tick)
    }

    /// Bytes of payload, for bounds.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Inputs(inputs) => inputs.payload_len(),
            _ => 0,
        }
    }

    fn hash(&self, hasher: &mut Hasher) {
        match self {
            Self::Genesis { seed } => hasher.byte(0).bytes(seed),
            Self::Membership { record } => hasher.byte(1).bytes(&record.digest().0),
            Self::HandOver { to } => hasher.byte(2).byte(to.slot() as u8),
            Self::Tick => hasher.byte(3),
            Self::Checkpoint => hasher.byte(8),
            Self::Witness { slot, record } => hasher.byte(9).byte(*slot).bytes(&record.digest().0),
            Self::Resume { record } => hasher.byte(10).bytes(&record.digest().0),
            Self::Ready => hasher.byte(11),
            Self::Gap => hasher.byte(14),
            Self::Inputs(inputs) => {
                inputs.iter().for_each(|input| input.hash(hasher));
                hasher
            }
        };
    }
}

impl From<InputKind> for EntryKind {
    fn from(input: InputKind) -> Self {
        Self::Inputs(input.into())
    }
}

impl Entry {
    /// What the entry costs towards a bound: its payload and its bookkeeping.
    pub fn weight(&self) -> usize {
        let inputs = size_of_val(self.kind.inputs());
        self.kind.payload_len() + inputs + core::mem::size_of::<Self>()
    }

    /// How many steps the entry itself is: its inputs, or one.
    pub fn steps(&self) -> usize {
        self.kind.inputs().len().max(1)
    }

    /// Log time of the step at this position, counted from 0: each comes a nanosecond after the one
    /// before, so that a wake-up that a step sets at once comes before the next input.
    pub fn time_at(&self, position: usize) -> LogTime {
        self.time.plus(Duration::from_nanos(position as u64))
    }

    /// Log time of the last step.
    pub fn last_time(&self) -> LogTime {
        self.time_at(self.steps() - 1)
    }

    /// The number of the last input; 0 in an entry that the sequencer made itself.
    pub fn last_number(&self) -> OriginNumber {
        let inputs = self.kind.inputs().len() as u64;
        OriginNumber(self.origin.number.0.saturating_add(inputs).saturating_sub(1))
    }

    /// The running digest of the entries at this one, given that of the one before.
    ///
    /// What an input adds to it says where it ends, so an entry needs no count of its inputs. With
    /// one input it is what it was when each input had an entry of its own, which the running
    /// digests in older journals and checkpoints rely on.
    pub fn chain(&self, previous: Digest) -> Digest {
        let mut hasher = Hasher::after(previous);
        hasher
            .number(self.index.0)
            .number(self.epoch.0)
            .number(self.time.0)
            .byte(self.origin.place.slot() as u8)
            .number(self.origin.incarnation.0)
            .number(self.origin.number.0);
        self.kind.hash(&mut hasher);
        hasher.finish()
    }
}
