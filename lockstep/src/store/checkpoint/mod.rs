//! Checkpoints: the whole replicated state at one index, as a file.
//!
//! A checkpoint is a [`Header`] (what it is a checkpoint of), the unit's records in compressed,
//! checksummed blocks, and an end mark with the *state hash*. `docs/checkpoint.md` is the format.
//! Two CoServers that have the same state at the same index write the same bytes.
//!
//! Everything streams: memory is bounded by a block, whatever the state's size. Nothing here has
//! a thread or a clock; who calls says how fast to go, and when to stop ([`Pace`]).
//!
//! | what | how |
//! | --- | --- |
//! | take one | [`write()`], or a [`Writer`] as a [`RecordSink`](crate::machine::RecordSink) |
//! | use one | [`load()`], or a [`Reader`] as a [`RecordSource`](crate::machine::RecordSource); [`verify`] reads it once and uses nothing |
//! | keep some | [`list`], [`keep`], [`tidy`] |
//! | bring one to the other CoServer | [`Outgoing`], [`Incoming`] |
//!
//! A file has its name only when it is whole and synced. Before, it ends in `.part`.

mod block;
mod error;
mod header;
mod reader;
mod retention;
#[cfg(test)]
mod tests;
mod transfer;
mod writer;

pub use error::{CheckpointError, IncomingError, LoadError};
pub use header::{Header, VERSION};
pub use reader::{Reader, load, verify};
pub use retention::{Kept, Listing, keep, list, newest_unfinished, tidy};
pub use transfer::{Incoming, Outgoing};
pub use writer::{Pace, Writer, write};

use crate::digest::Digest;
use crate::ids::Index;
use crate::wire::frames::CheckpointFile;

/// Names a checkpoint exactly: two with the same stamp have the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The last entry that it contains.
    pub index: Index,
    /// Length of the file in bytes.
    pub len: u64,
    /// The state hash: over the header and the uncompressed records. Equal on both CoServers, or
    /// their states differ.
    pub hash: Digest,
}

impl From<Stamp> for CheckpointFile {
    fn from(Stamp { index, len, hash }: Stamp) -> Self {
        Self { index, len, hash }
    }
}

impl From<CheckpointFile> for Stamp {
    fn from(CheckpointFile { index, len, hash }: CheckpointFile) -> Self {
        Self { index, len, hash }
    }
}

/// What a checkpoint's header and end mark say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The checkpoint's entry, length and digest.
    pub stamp: Stamp,
    /// The checkpoint's header.
    pub header: Header,
    /// How many records the state has.
    pub records: u64,
    /// Bytes of those records before compression.
    pub bytes: u64,
}

const PREFIX: &str = "checkpoint-";
const UNFINISHED: &str = ".part";

/// As many digits as the largest index has, so that names sort like indices.
const DIGITS: usize = 20;

/// The name of the checkpoint of this index.
pub fn file_name(index: Index) -> String {
    format!("{PREFIX}{:0DIGITS$}", index.0)
}

fn part_name(index: Index) -> String {
    format!("{}{UNFINISHED}", file_name(index))
}

/// The index in a checkpoint's name, and whether the file is whole.
fn parse_name(name: &str) -> Option<(Index, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (digits, whole) = match rest.strip_suffix(UNFINISHED) {
        Some(digits) => (digits, false),
        None => (rest, true),
    };
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { Some((Index(digits.parse().ok()?), whole)) } else { None }
}

/// Whether a file of this name belongs to this module.
pub(super) fn is_name(name: &str) -> bool {
    parse_name(name).is_some()
}

fn failed_to(
    action: &'static str,
    name: &str,
) -> impl FnOnce(std::io::Error) -> CheckpointError + use<> {
    let name = name.to_owned();
    move |source| CheckpointError::Io { action, name, source }
}
