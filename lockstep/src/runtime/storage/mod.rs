//! The disk of a running CoServer, behind threads that wait for it so that the loop never does.
//!
//! | thread | does |
//! | --- | --- |
//! | `lockstep-journal` | everything on journal and membership, in the order in which it was asked for; what a joiner reads and writes |
//! | `lockstep-checkpoint` | writes frozen views, one at a time, at a low priority |
//!
//! The loop asks through one bounded queue for each, and hears from both through one mailbox,
//! which wakes it. What the queue to the journal has no room for stays with the loop; how much
//! that can be is bounded by the core: entries by its window, memberships by its requests to the
//! witness, pieces for and of a joiner by what it has under way. The mailbox holds one answer for
//! each of these.
//!
//! After the disk has failed nothing more is done on it: `Answer::Failed` is the last answer of
//! the journal's thread.

mod aside;
mod checkpoints;
mod handle;
mod journal;
mod keeper;
mod opening;
mod recovery;
mod reset;
mod settings;
#[cfg(test)]
mod tests;

pub use opening::StorageError;
pub use settings::{Durability, StorageSettings};

pub use handle::Gauges;
pub(crate) use handle::{Answer, Noted, Opened, Storage};
pub(crate) use keeper::Failure;
pub(crate) use recovery::{Outcome, Plan, Unrecovered, recover};

use std::path::Path;
use std::time::Duration;

use crate::ids::{PairId, Place};
use crate::machine::Identity as Service;
use crate::runtime::control::DataDirectory;
use crate::store::files::Directory;
use crate::store::journal::Identity;
use crate::store::os::OsDirectory;

/// How long a start waits for its predecessor to let go of the directory: a process that was
/// killed holds it until the kernel has freed its memory.
const LOCK_WITHIN: Duration = Duration::from_secs(2);

/// Whose disk it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) pair: PairId,
    pub(crate) place: Place,
    /// What runs here. Its `configuration` is of everything that a replay depends on, devices and
    /// the engine included.
    pub(crate) service: Service,
}

impl Who {
    fn journal_identity(&self) -> Identity {
        Identity { pair: self.pair, place: self.place }
    }
}

/// A directory that this process has for itself.
pub(crate) struct Locked {
    pub(crate) directory: Box<dyn Directory>,
    /// Held for its lock. A directory that is no file system's has none.
    pub(crate) lock: Option<DataDirectory>,
}

impl Locked {
    /// Takes the directory, and makes it if its parent is there.
    ///
    /// # Errors
    /// If another process has it and keeps it, or it cannot be made or opened.
    pub(crate) fn take(path: &Path) -> Result<Self, StorageError> {
        let lock = DataDirectory::open_within(path, LOCK_WITHIN)?;
        Ok(Self { directory: Box::new(OsDirectory::open(path)?), lock: Some(lock) })
    }
}

/// Has a log that was set aside looked at once more, which an operator wants to begin a new
/// lineage with: what was wrong with it may be what is given up.
pub(crate) fn take_back(directory: &dyn Directory, who: &Who) -> Result<(), StorageError> {
    if crate::store::home::Home::open(directory, who.pair, who.place)?.is_some()
        && aside::take_back(directory)?
    {
        tracing::warn!(event = "log_taken_back");
    }
    Ok(())
}

/// Sets aside what a CoServer has in this directory, so that it starts as a new one. It goes for good
/// once the CoServer is a member again; until then [`put_back`] undoes it.
///
/// # Errors
/// [`StorageError::Home`] if the directory is another CoServer's; others if it cannot be done.
pub fn discard(path: &Path, pair: PairId, place: Place) -> Result<(), StorageError> {
    use crate::store::home::{Home, HomeError};
    let locked = Locked::take(path)?;
    match Home::open(&*locked.directory, pair, place) {
        Err(error @ (HomeError::OtherPair { .. } | HomeError::OtherPlace { .. })) => {
            Err(error.into())
        }
        // Whatever else is wrong with it is what it is thrown away for.
        _ => Ok(reset::set_aside(&*locked.directory)?),
    }
}

/// Undoes [`discard`], unless the CoServer has become a member since. Whether there was anything to
/// undo.
///
/// # Errors
/// If another process has the directory, or it cannot be done.
pub fn put_back(path: &Path) -> Result<bool, StorageError> {
    if !path.exists() || !reset::is_pending(&OsDirectory::open(path)?)? {
        return Ok(false);
    }
    let locked = Locked::take(path)?;
    Ok(reset::put_back(&*locked.directory)?)
}
