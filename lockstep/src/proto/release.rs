//! Release: which outputs may leave, and when (section R of `docs/protocol.md`).
//!
//! - R1: one alone releases what it holds and has executed.
//! - R2: of two, each releases what both hold and computed equally.
//! - R3: and what both have persisted.
//! - R4: outputs are checked against their digest once more as they leave.
//! - R5: how far was released is noted on disk, with the digest there.

use std::collections::VecDeque;

use super::io::Output;
use super::log::Log;
use super::replica::Replica;
use crate::digest::Digest;
use crate::entry::InputKind;
use crate::event::{Event, StopCause};
use crate::ids::{Index, ReplicaId};
use crate::output::{Carrier, Output as ServiceOutput, OutputKind};

/// Reports of the peer that wait for this replica to get as far. At one more the second is
/// dropped: a later one says as much, and the first is always reached.
const REPORTS: usize = 1024;

/// Compares the peer's reports with this replica's own results.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// Both executed everything up to here to the same digests.
    compared: Index,
    /// Reports of the peer beyond what this replica has executed, in index order.
    reports: VecDeque<(Index, Digest)>,
}

/// Both executed an entry, to different results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The entry of the report; the first difference lies at or before it.
    pub(super) index: Index,
    pub(super) ours: Digest,
    pub(super) theirs: Digest,
}

impl Agreement {
    /// Everything up to here is settled; what comes after is still to be compared.
    pub(super) fn from(compared: Index) -> Self {
        Self { compared, reports: VecDeque::new() }
    }

    /// Both are known to agree up to here.
    pub(super) fn compared(&self) -> Index {
        self.compared
    }

    /// The peer reports its digest at an entry.
    pub(super) fn report(&mut self, index: Index, digest: Digest) {
        let newest = self.reports.back().map_or(self.compared, |(index, _)| *index);
        if index <= newest {
            return;
        }
        if self.reports.len() == REPORTS {
            self.reports.remove(1);
        }
        self.reports.push_back((index, digest));
    }

    /// Compares what can be compared by now.
    pub(super) fn compare(&mut self, log: &Log) -> Result<(), Difference> {
        while let Some(&(index, theirs)) = self.reports.front() {
            if index > log.executed() {
                return Ok(());
            }
            let ours = log.agreement_at(index).expect("what is not agreed upon is kept");
            if ours != theirs {
                return Err(Difference { index, ours, theirs });
            }
            self.compared = index;
            self.reports.pop_front();
        }
        Ok(())
    }
}

impl Replica {
    /// How far this replica has released, with the running digest of the outputs there. A journal
    /// notes it, so that a replay that comes to something else is noticed (rule R5).
    pub fn mark(&self) -> (Index, Digest) {
        let outputs = self.log.outputs_at(self.released);
        (self.released, outputs.expect("what was released last is not dropped before"))
    }

    /// The last entry whose outputs were released here.
    pub fn released(&self) -> Index {
        self.released
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
            // From the index at which the joiner is to be a member, nothing leaves without it (rule
            // J6).
            return own.min(self.log.history().began.prev()).max(self.released);
        }
        if self.is_duplex() {
            let both = self.agreement.compared().min(self.progress.persisted);
            own.min(both).max(self.released)
        } else {
            own
        }
    }

    /// Releases what may go (section R), and drops what neither side needs any more.
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
            let entry = self.log.entry(index).expect("what was just released is kept");
            for input in entry.kind.inputs() {
                if let InputKind::SessionClose { session, token } = *input {
                    self.gateway.forget(session, token);
                }
            }
        }
        let agreed = self.agreement.compared();
        let joiner = self.joiner.as_ref().and_then(|joiner| joiner.needs_after(agreed));
        let needed = if self.is_duplex() { agreed } else { joiner.unwrap_or(self.released) };
        self.log.drop_to(self.released.min(needed));
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
