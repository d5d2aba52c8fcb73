//! The release rule's arithmetic: how far both replicas are known to agree.

use std::collections::VecDeque;

use super::log::Log;
use crate::digest::Digest;
use crate::ids::Index;

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
