//! Beginning, sealing and releasing segments, and making spare ones.

use crate::digest::Digest;
use crate::ids::Index;
use crate::store::files::File;
use crate::store::journal::error::{JournalError, attempt};
use crate::store::journal::format::{BLOCK_BYTES, Beginning, Header, VERSION, salt};
use crate::store::journal::segment::{PART, Segment, segment_name, spare_name};
use crate::store::journal::{Journal, Mark};

/// Zeros written and synced by one step of making a spare: so short that a commit which waits for
/// it hardly notices.
const STEP_BYTES: u32 = 1 << 20;

/// A segment that is being zero-filled.
pub(super) struct Making {
    file: Box<dyn File>,
    /// Bytes that are zero-filled so far.
    filled: u32,
}

impl Journal {
    /// Does one step (at most 1 MiB written and synced) towards having every spare segment ready,
    /// and says whether they are. To be called when there is nothing to commit: a commit that
    /// finds no spare makes one itself, and takes that much longer.
    ///
    /// # Errors
    /// If the disk is full, for example. Nothing that was committed depends on it, and commits go
    /// on while there is room; the step may be tried again.
    pub fn prepare(&mut self) -> Result<bool, JournalError> {
        self.check()?;
        if self.spares.len() >= self.options.spares {
            return Ok(true);
        }
        self.step()?;
        Ok(self.spares.len() >= self.options.spares)
    }

    fn step(&mut self) -> Result<(), JournalError> {
        let done = self.try_step();
        if done.is_err() && self.making.take().is_some() {
            // If that fails too, the next start removes it.
            let _ = self.directory.remove(PART);
        }
        done
    }

    fn try_step(&mut self) -> Result<(), JournalError> {
        let making = match self.making.take() {
            Some(making) => self.making.insert(making),
            None => {
                let file = attempt("create", PART, || self.directory.create(PART))?;
                self.making.insert(Making { file, filled: 0 })
            }
        };
        let len = STEP_BYTES.min(self.options.segment_bytes - making.filled);
        let zeros = vec![0; len as usize];
        let offset = making.filled.into();
        attempt("zero-fill", PART, || making.file.write_all_at(&zeros, offset))?;
        if self.options.sync {
            attempt("sync", PART, || making.file.sync())?;
        }
        making.filled += len;
        if making.filled == self.options.segment_bytes {
            let name = self.new_spare_name();
            attempt("rename", PART, || self.directory.rename(PART, &name))?;
            self.making = None;
            self.spares.push(name);
        }
        Ok(())
    }

    fn new_spare_name(&mut self) -> String {
        self.next_spare += 1;
        spare_name(self.next_spare)
    }

    fn take_spare(&mut self) -> Result<String, JournalError> {
        loop {
            if let Some(name) = self.spares.pop() {
                return Ok(name);
            }
            self.step()?;
        }
    }

    /// Begins a segment. Its header is on the disk before it has a segment's name, and its name
    /// before anything else is written. So a segment without a header is damage, not a crash.
    pub(super) fn begin(
        &mut self,
        beginning: Beginning,
        first: Index,
        log_digest: Digest,
        mark: Mark,
    ) -> Result<(), JournalError> {
        let spare = self.take_spare()?;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let header = Header {
            version: VERSION,
            identity: self.identity,
            beginning,
            len: self.options.segment_bytes,
            sequence,
            salt: salt(self.options.seed, sequence),
            first,
            log_digest,
            mark,
        };
        let file = attempt("open", &spare, || self.directory.open(&spare))?;
        self.write_block(&*file, &spare, &header.encode(), 0)?;
        let name = segment_name(sequence);
        attempt("rename", &spare, || self.directory.rename(&spare, &name))?;
        self.sync_names()?;
        if beginning != Beginning::Restarts {
            self.seal_newest()?;
        }
        self.segments.push(Segment::new(&header));
        self.active = Some(file);
        self.mark = mark;
        Ok(())
    }

    /// Says at the end of the newest segment that there is a next one, so that this one's loss
    /// would be noticed.
    fn seal_newest(&mut self) -> Result<(), JournalError> {
        let (Some(segment), Some(file)) = (self.segments.last(), &self.active) else {
            return Ok(());
        };
        self.write_seal(segment, &**file)
    }

    pub(super) fn write_seal(
        &self,
        segment: &Segment,
        file: &dyn File,
    ) -> Result<(), JournalError> {
        let (bytes, offset) = (segment.seal().encode(), segment.within.area_end());
        self.write_block(file, &segment.name(), &bytes, offset)
    }

    /// Writes a whole block, so that the system need not read the rest of it first.
    fn write_block(
        &self,
        file: &dyn File,
        name: &str,
        bytes: &[u8],
        offset: u32,
    ) -> Result<(), JournalError> {
        let mut block = vec![0; BLOCK_BYTES as usize];
        block[..bytes.len()].copy_from_slice(bytes);
        attempt("write", name, || file.write_all_at(&block, offset.into()))?;
        self.sync_file(file, name)
    }

    pub(super) fn sync_file(&self, file: &dyn File, name: &str) -> Result<(), JournalError> {
        if self.options.sync { attempt("sync", name, || file.sync()) } else { Ok(()) }
    }

    pub(super) fn sync_names(&self) -> Result<(), JournalError> {
        let sync = || self.directory.sync();
        if self.options.sync { attempt("sync", "the directory", sync) } else { Ok(()) }
    }

    /// Where the base would be without the oldest segment.
    fn base_without_oldest(&self) -> Option<Index> {
        let rest = self.segments.get(1..)?;
        rest.iter().map(|segment| segment.first.prev()).min()
    }

    /// Releases the oldest segments. One name is synced after the other: a crash that kept an
    /// older segment and not a newer one would look like damage.
    pub(super) fn release(&mut self, before: Index) -> Result<(), JournalError> {
        while self.base_without_oldest().is_some_and(|base| base < before) {
            let oldest = self.segments.remove(0);
            self.cursor.forget();
            let reusable = oldest.within.len == self.options.segment_bytes;
            self.recycle(oldest.sequence, reusable)?;
            self.sync_names()?;
        }
        Ok(())
    }

    pub(super) fn recycle(&mut self, sequence: u64, reusable: bool) -> Result<(), JournalError> {
        let name = segment_name(sequence);
        if reusable && self.spares.len() < self.options.spares {
            let spare = self.new_spare_name();
            attempt("rename", &name, || self.directory.rename(&name, &spare))?;
            self.spares.push(spare);
            return Ok(());
        }
        attempt("remove", &name, || self.directory.remove(&name))
    }
}
