//! What the two processes tell each other.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use std::io::{self, Read, Write};

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::entry::Entry;
use crate::output::Executed;

/// What the second process is to run.
#[derive(Archive, Serialize, Deserialize)]
pub(super) struct Order {
    /// The call of the check that is meant, by its position in the test.
    pub(super) call: String,
    /// How many times the test came to that call before.
    pub(super) before: u64,
    /// Whether the service is to run in another working directory.
    pub(super) directory: bool,
    /// Whether calls on the way there are to check what they would in the first process. That
    /// process did not ask for those that found something, and the test may want to see them.
    pub(super) check_others: bool,
    /// The entries to run over.
    pub(super) entries: Vec<Entry>,
}

/// What that came to.
#[derive(Archive, Serialize, Deserialize)]
pub(crate) struct Report {
    /// For each entry, up to one that panicked.
    pub(crate) results: Vec<Executed>,
    /// The state after the last one, or why it could not be frozen; none after a panic.
    pub(crate) state: Option<Result<Vec<u8>, String>>,
    /// The wall clock there, in seconds since 1970.
    pub(crate) clock: u64,
}

pub(super) fn send<T>(to: &mut impl Write, message: &T) -> io::Result<()>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>,
{
    let bytes = rkyv::to_bytes::<Error>(message).map_err(io::Error::other)?;
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

pub(super) fn receive<T>(from: &mut impl Read) -> io::Result<T>
where
    T: Archive,
    T::Archived:
        for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<T, HighDeserializer<Error>>,
{
    let mut len = [0; 8];
    from.read_exact(&mut len)?;
    let mut bytes = Vec::new();
    from.by_ref().take(u64::from_le_bytes(len)).read_to_end(&mut bytes)?;
    rkyv::from_bytes::<T, Error>(&bytes).map_err(io::Error::other)
}
