//! What can go wrong with a journal.

use std::io;

use crate::exhaustion::{Exhaustion, remedy_of_disk};
use crate::ids::{Index, PairId, ReplicaId};
use crate::store::journal::format::VERSION;
use crate::wire::error::FrameError;

/// A journal could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused an operation.
    #[error("cannot {action} {file}: {source}; {}", remedy_of_disk(source))]
    Io {
        /// The operation that failed, as a verb: `read`, `sync`.
        action: &'static str,
        /// On which file of the data directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A segment is not what was written.
    #[error(
        "the journal's file {file} is damaged at byte {offset} ({why}): this replica must join the \
         other one as if it had no journal"
    )]
    Damaged {
        /// The segment's name.
        file: String,
        /// Offset in bytes of the part that is wrong.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// A segment is of another version of the format.
    #[error(
        "the journal's file {file} is of format version {version}, this process reads {VERSION}: run \
         the version that wrote it, or discard the directory (`--discard`) and let this CoServer join \
         the other one"
    )]
    Version {
        /// The segment's name.
        file: String,
        /// The version in the segment's header.
        version: u16,
    },
    /// A segment of another pair, or of the other place.
    #[error(
        "the journal's file {file} belongs to place {place} of pair {pair}: the data directory is \
         that of another CoServer"
    )]
    Stranger {
        /// The segment's name.
        file: String,
        /// The pair that it belongs to.
        pair: PairId,
        /// The place that it belongs to.
        place: ReplicaId,
    },
    /// No journal can have these options.
    #[error("a journal cannot have these options: {why}")]
    Options {
        /// The rule that the options break.
        why: &'static str,
    },
    /// An entry is not the next one.
    #[error("entry {found} was to be appended where {expected} comes next")]
    OutOfOrder {
        /// The entry that comes next.
        expected: Index,
        /// The entry that came.
        found: Index,
    },
    /// An entry breaks a limit.
    #[error("an entry that breaks a limit was to be appended: {0}")]
    Unsound(#[source] FrameError),
    /// An entry does not fit any batch.
    #[error("an entry takes {len} bytes and a batch {limit}: make the segments larger")]
    TooLong {
        /// Bytes that it takes.
        len: usize,
        /// Bytes that a batch may have.
        limit: usize,
    },
    /// The present batch has no room for the entry.
    #[error("the batch is full: commit it, then append the entry again")]
    BatchFull,
    /// Entries are asked for that are not kept.
    #[error("the journal keeps what comes after entry {base}, and was asked about entry {asked}")]
    NotKept {
        /// The entry that was asked about.
        asked: Index,
        /// Everything after this is kept.
        base: Index,
    },
    /// An earlier operation failed, so what it left on the disk is unknown.
    #[error("the journal failed before ({why}): {}", after(source.as_ref()))]
    Failed {
        /// What that operation reported.
        why: String,
        /// What the system reported then; `None` if the failure was not the system's.
        source: Option<io::Error>,
    },
}

impl JournalError {
    /// The system's number of the error, if it is one of the system.
    pub(super) fn number(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// What to do after an earlier error.
fn after(system: Option<&io::Error>) -> &'static str {
    match system.and_then(Exhaustion::of).filter(|what| what.passes()) {
        Some(_) => "then start the process again",
        None => "put the disk in order and restart the process",
    }
}

/// How often an operation that a signal interrupted is tried: far more often than signals come,
/// and not for ever.
const TRIES: u32 = 100;

/// Does something on a file, again if a signal interrupts it.
pub(super) fn attempt<T>(
    action: &'static str,
    file: &str,
    mut operation: impl FnMut() -> io::Result<T>,
) -> Result<T, JournalError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match operation() {
            Ok(value) => return Ok(value),
            Err(error) if error.kind() == io::ErrorKind::Interrupted && tries < TRIES => {}
            Err(source) => return Err(JournalError::Io { action, file: file.to_owned(), source }),
        }
    }
}
