//! Where a witness keeps its records: the trait, and what is kept.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::exhaustion::remedy_of_disk;
use crate::ids::{Epoch, Lineage, PairId};
use crate::record::Record;

/// An epoch that a pair's member knows of: what a witness compares its own with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// The lineage of that epoch.
    pub lineage: Lineage,
    /// The epoch's number in its lineage.
    pub epoch: Epoch,
}

impl From<&Record> for Told {
    fn from(record: &Record) -> Self {
        Self { lineage: record.lineage, epoch: record.epoch }
    }
}

/// What a store keeps for a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The present record.
    pub record: Record,
    /// The epoch that a member named and this record cannot explain. The record is then not trusted
    /// until an operator begins a new lineage.
    pub behind: Option<Told>,
}

impl Held {
    /// A record that nothing speaks against.
    pub fn trusted(record: Record) -> Self {
        Self { record, behind: None }
    }

    /// The vacant record of the lineage after everything that is known: this record's, and what
    /// a member has told of. `None` if the numbers are used up.
    pub fn next_lineage(&self) -> Option<Record> {
        let known = self.behind.map_or(Told::from(&self.record), |told| Told {
            lineage: told.lineage.max(self.record.lineage),
            epoch: told.epoch.max(self.record.epoch),
        });
        let lineage = Lineage(known.lineage.0.checked_add(1)?);
        let epoch = Epoch(known.epoch.0.checked_add(1)?);
        Some(Record::vacant(self.record.pair, lineage, epoch))
    }
}

/// What came of writing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The record is there for good.
    There,
    /// The record is certainly not there: the previous one is, for good.
    NotThere,
    /// It is not known which of the two the next process finds.
    Unknown,
}

impl From<&Result<(), StoreError>> for Stored {
    fn from(result: &Result<(), StoreError>) -> Self {
        match result {
            Ok(()) => Self::There,
            Err(StoreError::Unchanged { .. }) => Self::NotThere,
            Err(_) => Self::Unknown,
        }
    }
}

/// A pair, and what is kept for it or why that cannot be read.
pub type Loaded = (PairId, Result<Held, StoreError>);

/// Keeps one record for each pair, each replaced by compare-and-set.
///
/// What a method has returned `Ok` for survives the death of the process and of the machine. After
/// [`StoreError::Unchanged`] the pair has what it had, and the store can be asked again. After any
/// other error of writing it is not known which record is kept; the store answers nothing more for
/// that pair until it is opened anew.
pub trait RecordStore {
    /// Every pair that is kept here.
    ///
    /// # Errors
    /// If not even the list of pairs can be read.
    fn load(&mut self) -> Result<Vec<Loaded>, StoreError>;

    /// What the store keeps for this pair.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], or if it cannot be read.
    fn present(&mut self, pair: PairId) -> Result<Held, StoreError>;

    /// Replaces the record with this digest by `next`, a record of the same pair.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the present record is another one; or if writing fails.
    fn replace(&mut self, present: Digest, next: &Record) -> Result<(), StoreError>;

    /// Keeps this record in place of whatever was kept for its pair: the pair's members say that
    /// it is theirs, and what is here is missing, or older (rule W3).
    ///
    /// # Errors
    /// If reading or writing fails.
    fn adopt(&mut self, record: &Record) -> Result<(), StoreError>;

    /// Keeps in mind that the pair's record is not to be trusted, over restarts.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], or if reading or writing fails.
    fn distrust(&mut self, pair: PairId, told: Told) -> Result<(), StoreError>;

    /// Makes a vacant record, number 0, for a pair that has none.
    ///
    /// # Errors
    /// [`StoreError::Enrolled`] if it has one; or if writing fails.
    fn enrol(&mut self, pair: PairId) -> Result<Held, StoreError>;

    /// Gives up what the pair held: a vacant record of the next lineage, with a number above
    /// every one that is known. For the operator, when both CoServers have lost their state.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], [`StoreError::UsedUp`], or if reading or writing fails.
    fn new_lineage(&mut self, pair: PairId) -> Result<Held, StoreError>;
}

/// A store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be used.
    #[error("cannot {action} {}: {source}; {}", path.display(), remedy_of_disk(source))]
    Io {
        /// The operation that failed, as a verb: `read`, `sync`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// The same, before anything was changed: what was kept is kept.
    #[error(
        "cannot {action} {}: {source}; what was kept is unchanged; {}",
        path.display(),
        remedy_of_disk(source)
    )]
    Unchanged {
        /// The operation that failed, as a verb: `read`, `sync`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system reported.
        source: std::io::Error,
    },
    /// Another process uses the directory.
    #[error("{} is in use: another witness runs on this directory, stop it first", path.display())]
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
    /// A record's file is not what was written.
    #[error(
        "the record in {} is damaged ({why}): restore nothing older; move the file away, enrol \
         the pair again, let its running CoServers connect, then begin a new lineage",
        path.display()
    )]
    Damaged {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A record's file is of another version.
    #[error(
        "the record in {} is of format version {version}, this witness reads {ours}: run the \
         version that wrote it",
        path.display()
    )]
    Version {
        /// The record's file.
        path: PathBuf,
        /// The format version in the file.
        version: u16,
        /// The version that is read here.
        ours: u16,
    },
    /// The pair has a record already.
    #[error(
        "pair {pair} is enrolled already; if both its CoServers have lost their state, begin a \
         new lineage"
    )]
    Enrolled {
        /// The pair that has a record already.
        pair: PairId,
    },
    /// The pair has no record.
    #[error("pair {pair} is not known here: enrol it first")]
    Unknown {
        /// The pair without a record.
        pair: PairId,
    },
    /// The present record is another one.
    #[error("the present record is another one, of epoch {}", present.epoch)]
    Conflict {
        /// The present record.
        present: Box<Record>,
    },
    /// An earlier write failed, so it is not known what is kept.
    #[error(
        "an earlier write for pair {pair} failed: put the disk in order and restart the witness"
    )]
    Failed {
        /// The pair whose record may or may not have been written.
        pair: PairId,
    },
    /// The pair's numbers are used up: no record could have a higher one.
    #[error("pair {pair} has used up its numbers: make a configuration with a new pair id")]
    UsedUp {
        /// The pair whose numbers are used up.
        pair: PairId,
    },
}
