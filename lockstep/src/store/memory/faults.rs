//! Which operation fails.

use std::io;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Listing the names in the directory.
    List,
    /// Opening a file.
    Open,
    /// Making a file.
    Create,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Syncing the names in the directory.
    SyncNames,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Changing a file's length.
    SetLen,
    /// Syncing a file.
    Sync,
}

impl Operation {
    /// Every kind of operation, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::List,
        Self::Open,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::SyncNames,
        Self::Read,
        Self::Write,
        Self::SetLen,
        Self::Sync,
    ];

    /// Whether it changes what a crash would leave.
    fn changes(self) -> bool {
        !matches!(self, Self::List | Self::Open | Self::Read)
    }
}

/// An operation that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of operation that fails; `None` for any that changes something.
    pub operation: Option<Operation>,
    /// Which of those operations fails, counted from 1 from now on.
    pub nth: u64,
    /// The system's number of the error that it fails with.
    pub error: i32,
}

/// What is counted, and what is to come.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    counts: [u64; Operation::ALL.len()],
    /// With the number among those of its kind at which each strikes.
    waiting: Vec<(u64, Fault)>,
    halt: Option<u64>,
    /// The number of the write that strays, and where to.
    stray: Option<(u64, Option<u64>)>,
}

impl Faults {
    pub(super) fn count(&self, operation: Option<Operation>) -> u64 {
        match operation {
            Some(operation) => self.counts[operation as usize],
            None => Operation::ALL
                .iter()
                .filter(|operation| operation.changes())
                .map(|operation| self.counts[*operation as usize])
                .sum(),
        }
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.waiting.push((self.count(fault.operation).saturating_add(fault.nth), fault));
    }

    pub(super) fn stray(&mut self, nth: u64, shift: Option<u64>) {
        let number = self.count(Some(Operation::Write)).saturating_add(nth);
        self.stray = Some((number, shift));
    }

    /// Where the write that was counted last goes, if it strays: nowhere, or so much further on.
    pub(super) fn misrouted(&mut self) -> Option<Option<u64>> {
        let now = self.count(Some(Operation::Write));
        self.stray.take_if(|(number, _)| *number <= now).map(|(_, shift)| shift)
    }

    pub(super) fn heal(&mut self) {
        self.waiting.clear();
        self.stray = None;
    }

    pub(super) fn halt_after(&mut self, operations: u64) {
        self.halt = Some(self.count(None).saturating_add(operations));
    }

    /// Counts the operation.
    ///
    /// # Errors
    /// The error that the operation is to fail with.
    pub(super) fn pass(&mut self, operation: Operation) -> io::Result<()> {
        if self.halt.is_some_and(|halt| self.count(None) >= halt) {
            return Err(io::Error::other("the process that uses this directory is dead"));
        }
        self.counts[operation as usize] += 1;
        let struck = self.waiting.iter().position(|(number, fault)| {
            let counts = match fault.operation {
                Some(kind) => kind == operation,
                None => operation.changes(),
            };
            counts && *number == self.count(fault.operation)
        });
        match struck {
            Some(at) => Err(io::Error::from_raw_os_error(self.waiting.swap_remove(at).1.error)),
            None => Ok(()),
        }
    }
}
