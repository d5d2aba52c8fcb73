//! The batch that is being gathered.

use rkyv::ser::allocator::Arena;

use crate::digest::Digest;
use crate::entry::Entry;
use crate::ids::Index;
use crate::store::journal::batch::{BODY_BYTES, Chained, decode_entries, encode_entry};
use crate::store::journal::error::JournalError;
use crate::store::journal::format::VERSION;
use crate::store::journal::options::Options;
use crate::wire::check::check_entry;
use crate::wire::error::FrameError;

/// Entries that were appended and not committed.
pub(super) struct Pending {
    /// The last entry that was committed, and the running digest there.
    before: (Index, Digest),
    body: Vec<u8>,
    /// After each entry: how long the body is, and the running digest.
    ends: Vec<(usize, Digest)>,
    arena: Arena,
}

impl Pending {
    pub(super) fn new(index: Index, log_digest: Digest) -> Self {
        Self {
            before: (index, log_digest),
            body: Vec::new(),
            ends: Vec::new(),
            arena: Arena::new(),
        }
    }

    /// Begins after this entry, with nothing.
    pub(super) fn restart(&mut self, index: Index, log_digest: Digest) {
        self.before = (index, log_digest);
        self.body.clear();
        self.ends.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The index of its first entry.
    pub(super) fn first(&self) -> Index {
        self.before.0.next()
    }

    /// The last entry, and the running digest there.
    pub(super) fn end(&self) -> (Index, Digest) {
        let index = Index(self.before.0.0 + self.ends.len() as u64);
        (index, self.ends.last().map_or(self.before.1, |(_, log_digest)| *log_digest))
    }

    pub(super) fn append(&mut self, entry: &Entry, options: &Options) -> Result<(), JournalError> {
        let (held, log_digest) = self.end();
        if entry.index != held.next() {
            return Err(JournalError::OutOfOrder { expected: held.next(), found: entry.index });
        }
        check_entry(entry).map_err(JournalError::Unsound)?;
        let before = self.body.len();
        let encoded = encode_entry(entry, &mut self.arena, &mut self.body);
        let (len, fits) = (self.body.len(), options.fits(self.body.len()));
        if encoded.is_ok() && fits && len <= BODY_BYTES {
            self.ends.push((len, entry.chain(log_digest)));
            return Ok(());
        }
        self.body.truncate(before);
        Err(match encoded {
            Err(error) => JournalError::Unsound(FrameError::Archive { why: error.to_string() }),
            Ok(()) if !self.is_empty() => JournalError::BatchFull,
            Ok(()) => JournalError::TooLong { len, limit: options.longest_body() },
        })
    }

    /// Drops the entries after this one, which is not before the batch.
    pub(super) fn truncate_after(&mut self, index: Index) {
        self.ends.truncate((index.0 - self.before.0.0) as usize);
        self.body.truncate(self.ends.last().map_or(0, |(end, _)| *end));
    }

    pub(super) fn log_digest_at(&self, index: Index) -> Option<Digest> {
        let at = index.0.checked_sub(self.before.0.0)?;
        match at.checked_sub(1) {
            None => Some(self.before.1),
            Some(at) => self.ends.get(usize::try_from(at).ok()?).map(|(_, log_digest)| *log_digest),
        }
    }

    /// All its entries.
    pub(super) fn entries(&self) -> Vec<Chained> {
        decode_entries(&self.body, VERSION, self.first(), self.before.1)
            .expect("what was just encoded can be read")
    }
}
