//! The journal: every entry that this replica holds, in order, on disk.
//!
//! A journal is a row of segments: files of one size, zero-filled before they are used, and used
//! again when what they hold is no longer needed. So a commit overwrites blocks that exist and
//! costs one write and one sync of data. Entries are gathered into a batch without I/O and
//! committed together. `docs/journal.md` describes the format and what may be relied on.
//!
//! There are no threads here and there is no clock: who calls decides where the waiting is done.
//! Everything goes through [`files`](super::files).
//!
//! - [`Journal::open`] says what is there, and whether it is whole.
//! - [`append`](Journal::append) then [`commit`](Journal::commit) add entries.
//! - [`read`](Journal::read), [`replay`](Journal::replay), [`log_digest_at`](Journal::log_digest_at) and
//!   [`points`](Journal::points) look things up.
//! - [`truncate_after`](Journal::truncate_after), [`release_before`](Journal::release_before) and
//!   [`restart_at`](Journal::restart_at) drop entries at the end, at the beginning, and all.
//! - [`prepare`](Journal::prepare) makes spare segments when there is time.

mod batch;
mod cursor;
mod error;
mod first_version;
mod format;
mod opening;
mod options;
mod pending;
mod reading;
mod recovery;
mod segment;
mod writer;

use std::io;

use crate::digest::Digest;
use crate::entry::Entry;
use crate::ids::Index;
use crate::store::files::{Directory, File};
use batch::BatchHeader;
use error::attempt;
use format::Beginning;
use pending::Pending;
use segment::{PART, Segment, segment_number, spare_number};
use writer::Making;

pub use cursor::Replay;
pub use error::JournalError;
pub use format::{BLOCK_BYTES, HEADER_BYTES, SEGMENT_BYTES_MAX, VERSION};
pub use options::{Identity, Mark, Options, Recovery, State};
pub use recovery::Damage;

/// Most points that [`Journal::points`] gives.
pub const POINTS: usize = 64;

/// Whether the journal can be used.
enum Health {
    Sound,
    /// Found so when it was opened.
    Damaged(Damage),
    /// An operation failed, and what it left on the disk is not known.
    Failed {
        why: String,
        /// The system's number of the error, if it was one of the system.
        number: Option<i32>,
    },
}

/// The journal of one replica.
///
/// After an error of any method that writes, the journal is failed. Every later call says so, and
/// what the failed call would have made durable is not to be believed. Opening it anew tells what
/// is there.
pub struct Journal {
    directory: Box<dyn Directory>,
    identity: Identity,
    options: Options,
    health: Health,
    /// Oldest first, with consecutive sequence numbers; the last one is written to.
    segments: Vec<Segment>,
    active: Option<Box<dyn File>>,
    mark: Mark,
    next_sequence: u64,
    spares: Vec<String>,
    next_spare: u64,
    making: Option<Making>,
    pending: Pending,
    cursor: cursor::Cursor,
    /// Where a batch is laid out; kept for its memory.
    buffer: Vec<u8>,
}

impl core::fmt::Debug for Journal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (base, held) = (self.base().0, self.held().0);
        f.debug_struct("Journal").field("base", &base).field("held", &held).finish_non_exhaustive()
    }
}

impl Journal {
    fn check(&self) -> Result<(), JournalError> {
        match &self.health {
            Health::Sound => Ok(()),
            Health::Damaged(Damage { file, offset, why }) => {
                Err(JournalError::Damaged { file: file.clone(), offset: *offset, why: why.clone() })
            }
            Health::Failed { why, number } => Err(JournalError::Failed {
                why: why.clone(),
                source: number.map(io::Error::from_raw_os_error),
            }),
        }
    }

    /// Does something that writes. If it fails, so is the journal.
    fn write<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        self.check()?;
        let done = operation(self);
        if let Err(error) = &done {
            self.health = Health::Failed { why: error.to_string(), number: error.number() };
        }
        done
    }

    /// The last entry that was appended, committed or not, and the running digest there.
    pub fn held(&self) -> (Index, Digest) {
        self.pending.end()
    }

    /// The last entry that was committed.
    pub fn committed(&self) -> Index {
        self.end().0
    }

    /// Begins the first segment of an empty journal, so that a start tells it from one whose files
    /// are gone. Does nothing to a journal that was begun.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the journal is failed.
    pub fn establish(&mut self) -> Result<(), JournalError> {
        if !self.segments.is_empty() {
            return Ok(());
        }
        let (end, log_digest) = self.end();
        let mark = self.mark;
        self.write(|journal| journal.begin(Beginning::Restarts, end.next(), log_digest, mark))
    }

    /// Adds the next entry to the batch. No I/O.
    ///
    /// # Errors
    /// [`JournalError::BatchFull`] if it must be committed first; [`JournalError::OutOfOrder`],
    /// [`JournalError::Unsound`], [`JournalError::TooLong`] if the entry can never be appended. In
    /// all of these cases nothing has changed.
    pub fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.check()?;
        self.pending.append(entry, &self.options)
    }

    /// Writes the batch, with what is agreed by now, and syncs it. The last entry that it returns
    /// and all before survive whatever happens from here on (unless nothing is synced, by
    /// [`Options::sync`]). Without entries nothing is written.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the journal is failed.
    pub fn commit(&mut self, mark: Mark) -> Result<Index, JournalError> {
        self.write(|journal| journal.write_batch(mark))
    }

    fn write_batch(&mut self, mark: Mark) -> Result<Index, JournalError> {
        if self.pending.is_empty() {
            return Ok(self.committed());
        }
        let room = batch::room_for(self.pending.body().len());
        let (held, log_digest) = self.end();
        match self.segments.last() {
            Some(newest) if newest.has_room(room) => {}
            Some(_) => self.begin(Beginning::Continues, held.next(), log_digest, mark)?,
            None => self.begin(Beginning::Restarts, held.next(), log_digest, mark)?,
        }
        let (Some(newest), Some(file)) = (self.segments.last_mut(), &self.active) else {
            unreachable!("a segment was there or was begun");
        };
        let (last, log_digest) = self.pending.end();
        let (first, count) = (self.pending.first(), self.pending.count());
        let header = BatchHeader { count, first, mark, log_digest };
        header.encode(self.pending.body(), newest.within, &newest.end, &mut self.buffer);
        let (name, offset) = (newest.name(), newest.end.offset.into());
        attempt("write", &name, || file.write_all_at(&self.buffer, offset))?;
        if self.options.sync {
            attempt("sync", &name, || file.sync())?;
        }
        newest.extend(newest.end.after(room as u32, count, log_digest));
        self.pending.restart(last, log_digest);
        self.mark = mark;
        Ok(last)
    }

    /// Drops the entries after this one, so that they never come back. What was agreed about any
    /// of them is forgotten; the mark is then the last that was written about what is left.
    ///
    /// # Errors
    /// [`JournalError::NotKept`] if the entry is before the base, and nothing has changed;
    /// otherwise the journal is failed.
    pub fn truncate_after(&mut self, index: Index) -> Result<(), JournalError> {
        self.check()?;
        let base = self.base().0;
        if index < base {
            return Err(JournalError::NotKept { asked: index, base });
        }
        if index >= self.held().0 {
            return Ok(());
        }
        if index >= self.committed() {
            self.pending.truncate_after(index);
            return Ok(());
        }
        self.write(|journal| journal.cut(index))
    }

    /// A new segment says where the log goes on: with its name the old end is gone, at once.
    fn cut(&mut self, index: Index) -> Result<(), JournalError> {
        let Some(log_digest) = self.log_digest_at(index)? else {
            unreachable!("an entry between base and end has a digest");
        };
        let mark = if self.mark.index > index { self.mark_up_to(index)? } else { self.mark };
        self.begin(Beginning::Cuts, index.next(), log_digest, mark)?;
        let newest = self.segments.len() - 1;
        self.segments[..newest].iter_mut().for_each(|segment| segment.cut(index));
        self.cursor.forget();
        self.pending.restart(index, log_digest);
        Ok(())
    }

    /// Entries before this one are not needed any more: segments with none after are used again,
    /// or removed. The newest segment always stays.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the journal is failed.
    pub fn release_before(&mut self, index: Index) -> Result<(), JournalError> {
        self.write(|journal| journal.release(index))
    }

    /// Begins anew after this entry, as after a checkpoint at it was installed: nothing before is
    /// kept, and the next entry to be appended is the one after. Also the way on after damage.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the journal is failed. Opened again it is the old one or the new one.
    pub fn restart_at(
        &mut self,
        index: Index,
        log_digest: Digest,
        mark: Mark,
    ) -> Result<(), JournalError> {
        let sound = matches!(self.health, Health::Sound);
        if let Health::Damaged(_) = self.health {
            self.health = Health::Sound;
        }
        self.write(|journal| journal.restart(index, log_digest, mark, sound))
    }

    fn restart(
        &mut self,
        index: Index,
        log_digest: Digest,
        mark: Mark,
        reusable: bool,
    ) -> Result<(), JournalError> {
        self.cursor.forget();
        if !reusable {
            // Damage kept them from being looked at when the journal was opened.
            let names = attempt("list", "the directory", || self.directory.list())?;
            self.collect_spares(&names)?;
        }
        self.begin(Beginning::Restarts, index.next(), log_digest, mark)?;
        self.pending.restart(index, log_digest);
        let newest = self.segments.split_off(self.segments.len() - 1);
        let present = newest[0].sequence;
        self.segments = newest;
        let names = attempt("list", "the directory", || self.directory.list())?;
        for sequence in names.iter().filter_map(|name| segment_number(name)) {
            if sequence < present {
                self.recycle(sequence, false)?;
            }
        }
        self.sync_names()
    }

    /// Bytes of files that the journal takes, spares aside.
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.within.len)).sum()
    }

    /// About how many bytes of batches were committed after this entry: what a replay from there
    /// would read. Off by at most a fraction of a segment.
    pub fn bytes_since(&self, index: Index) -> u64 {
        let counting = self.segments.iter().filter(|segment| segment.last > index);
        counting.map(|segment| segment.bytes_since(index.next())).sum()
    }

    /// Removes every file of a journal, whichever process wrote it.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn wipe(directory: &dyn Directory) -> Result<(), JournalError> {
        for name in attempt("list", "the directory", || directory.list())? {
            let ours = segment_number(&name).is_some() || spare_number(&name).is_some();
            if ours || name == PART {
                attempt("remove", &name, || directory.remove(&name))?;
            }
        }
        attempt("sync", "the directory", || directory.sync())
    }
}

#[cfg(test)]
mod tests;
