//! The disk of a running CoServer, behind threads that wait for it so that the loop never does.
//!
//! | thread | does |
//! | --- | --- |
//! | `lockstep-journal` | everything on journal and membership, in the order in which it was asked for; what a joiner reads and writes |
//! | `lockstep-checkpoint` | writes frozen views, one at a time, at a low priority |
//!
//! The loop asks through one bounded queue for each, and hears from both through one mailbox, which
//! wakes it. What the queue to the journal has no room for stays with the loop, and the core bounds
//! how much that can be. It bounds entries by its window, memberships by its requests to the
//! witness, and pieces for and of a joiner by what it has under way. The mailbox holds one answer
//! for each of these.
//!
//! After the disk has failed nothing more is done on it: `Answer::Failed` is the last answer of
//! the journal's thread.

mod checkpoints;
mod handle;
mod journal;
#[cfg(test)]
mod tests;

pub(crate) use handle::{Answer, Noted, Opened, Storage};

use std::path::Path;
use std::time::Duration;

use crate::ids::{PairId, ReplicaId};
use crate::runtime::control::{DataDirectory, DirectoryError};
use crate::store::files::Directory;
use crate::store::home::{Home, HomeError};
use crate::store::os::OsDirectory;
use crate::store::replica::{self, OpenError, Who};

/// How long a start waits for its predecessor to let go of the directory: a process that was
/// killed holds it until the kernel has freed its memory.
const LOCK_WITHIN: Duration = Duration::from_secs(2);

/// The disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The data directory cannot be locked or used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The content of the directory cannot be used; its log stays as it was.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refused an operation on the directory.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The system gives no thread for the disk.
    #[error("a thread for the disk cannot be started")]
    Thread(#[source] std::io::Error),
    /// A queue for the disk cannot be made.
    #[error("a queue for the disk cannot be made")]
    Queue(#[from] crate::sync::CapacityError),
}

impl StorageError {
    /// Whether what is on the disk keeps this CoServer from starting, and is its own: it has to be
    /// discarded unless something better is known.
    #[cfg(feature = "cli")]
    pub(crate) fn calls_for_discarding(&self) -> bool {
        matches!(self, Self::Open(error) if error.calls_for_discarding())
    }
}

impl From<HomeError> for StorageError {
    fn from(error: HomeError) -> Self {
        OpenError::from(error).into()
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

/// Has a log that was set aside looked at once more, if an operator wants to begin a new lineage
/// with it. What was wrong with it may be what is given up.
pub(crate) fn take_back(directory: &dyn Directory, who: &Who) -> Result<(), StorageError> {
    if Home::open(directory, who.pair, who.place)?.is_some() && replica::take_back(directory)? {
        tracing::warn!(event = "log_taken_back");
    }
    Ok(())
}

/// Sets aside what a CoServer has in this directory, so that it starts as a new one. It goes for
/// good once the CoServer is a member again; until then [`put_back`] undoes it.
///
/// # Errors
/// [`OpenError::Home`] if the directory is another CoServer's; others if it cannot be done.
pub fn discard(path: &Path, pair: PairId, place: ReplicaId) -> Result<(), StorageError> {
    let locked = Locked::take(path)?;
    match Home::open(&*locked.directory, pair, place) {
        Err(error @ (HomeError::OtherPair { .. } | HomeError::OtherPlace { .. })) => {
            Err(error.into())
        }
        // Whatever else is wrong with it is what it is thrown away for.
        _ => Ok(replica::set_aside(&*locked.directory)?),
    }
}

/// Undoes [`discard`], unless the CoServer has become a member since. Whether there was anything
/// to undo.
///
/// # Errors
/// If another process has the directory, or it cannot be done.
pub fn put_back(path: &Path) -> Result<bool, StorageError> {
    if !path.exists() || !replica::is_pending(&OsDirectory::open(path)?)? {
        return Ok(false);
    }
    let locked = Locked::take(path)?;
    Ok(replica::put_back(&*locked.directory)?)
}
