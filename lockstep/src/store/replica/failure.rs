//! What the disk could not do.

use core::error::Error;

use crate::causes::chain;
use crate::exhaustion::Exhaustion;
use crate::proto::StorageResponse;
use crate::store::checkpoint::CheckpointError;
use crate::store::journal::JournalError;

/// The disk failed, or could not be used: what happened, on which file, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Failure {
    pub(crate) why: String,
    /// Nothing is wrong with the disk: there was no descriptor, or no memory.
    pub(crate) exhausted: bool,
}

impl Failure {
    /// Something is wrong, and the words say what to do.
    pub(crate) fn new(why: String) -> Self {
        Self { why, exhausted: false }
    }

    /// An error of the system, with what to do about it.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        Self::said(&chain(error), error)
    }

    /// The same in these words.
    pub(super) fn said(words: &str, error: &(dyn Error + 'static)) -> Self {
        let what = Exhaustion::among(error);
        let why = match what {
            Some(what) => format!("{words}; {what}"),
            None => format!("{words}; {CHECK_DISK_HINT}"),
        };
        Self { why, exhausted: what.is_some_and(Exhaustion::passes) }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let exhausted = Exhaustion::among(&error).is_some_and(Exhaustion::passes);
        Self { why: error.to_string(), exhausted }
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        Self::of(&error)
    }
}

impl From<Failure> for StorageResponse {
    fn from(Failure { why, exhausted }: Failure) -> Self {
        if exhausted { Self::Exhausted { why } } else { Self::Failed { why } }
    }
}

/// What to do about a disk.
pub(super) const CHECK_DISK_HINT: &str = "see the disk, its free space and its permissions";
