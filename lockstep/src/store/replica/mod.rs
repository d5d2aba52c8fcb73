//! Everything that one CoServer keeps on its disk, and the rules of it. They say what a start
//! finds and puts in order, what is kept for how long, how a state is restored, and what a joiner
//! is given.
//!
//! Synchronous, and over [`Directory`](super::files::Directory): the runtime has a thread of its
//! own for it, the simulator runs it inline.

mod aside;
mod failure;
#[cfg(any(test, feature = "sim"))]
mod inline;
mod opening;
mod recovery;
mod requests;
mod reset;
mod settings;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use opening::OpenError;
pub use settings::{Durability, StorageSettings};
pub use store::Gauges;

pub(crate) use aside::take_back;
pub(crate) use failure::Failure;
#[cfg(feature = "sim")]
pub(crate) use opening::Found;
pub(crate) use opening::open;
pub(crate) use recovery::{Outcome, Plan, Unrecovered, recover};
pub(crate) use reset::{is_pending, put_back, set_aside};
pub(crate) use store::ReplicaStore;

use super::journal::Identity;
use crate::ids::{PairId, ReplicaId};
use crate::machine::Identity as Service;

/// Whose disk it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) pair: PairId,
    pub(crate) place: ReplicaId,
    /// The service that runs here. The service's `configuration` is of everything that a replay
    /// depends on, devices and the engine included.
    pub(crate) service: Service,
}

impl Who {
    fn journal_identity(&self) -> Identity {
        Identity { pair: self.pair, place: self.place }
    }
}
