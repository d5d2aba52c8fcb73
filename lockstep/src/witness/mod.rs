//! The witness: the third party that lets at most one side go on alone.
//!
//! [`rules`] says which record may replace which, [`core`] serves many pairs by these rules
//! without doing any I/O ([`io`] is its boundary), [`store`] and [`directory`] keep the records.
//! [`object`] is the same without a process of its own, over an object store.
//!
//! Driving it: take the [`Directory`], give what it loads to [`Witness::new`], then carry out
//! every [`Output::Store`] by [`RecordStore::replace`] and every [`Output::Distrust`] by
//! [`RecordStore::distrust`].
//!
//! Not here: sockets, clocks, threads. A driver authenticates connections, gives their calls to
//! the core, and carries out what the core wants written before it gives it anything else.

pub mod core;
pub mod directory;
pub mod format;
pub mod io;
pub mod object;
pub mod rules;
pub mod store;

#[cfg(test)]
mod directory_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;

pub use self::core::Witness;
pub use directory::Directory;
pub use io::{Config, Event, Input, Output, PROTOCOL};
pub use rules::{Asker, Denial};
pub use store::{Held, Loaded, RecordStore, StoreError, Stored, Told};
