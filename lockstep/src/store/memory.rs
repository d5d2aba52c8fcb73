//! A directory in memory that knows what a crash would leave of it.
//!
//! Reads see every write at once, as they do through a page cache. What a crash leaves is what
//! [`files`](super::files) promises: everything synced, and of the rest any subset, writes by
//! sectors of [`SECTOR`] bytes, names one by one and in no order. A failed sync leaves what it
//! covered in doubt for good. A later sync that succeeds does not cover it, as on Linux, until the
//! same sector is written again.
//!
//! Nothing here is left to chance. Faults are named by their number, and what a crash leaves is
//! chosen by the caller, from a seed ([`seeded`]) or from a fuzzer's bytes.

mod disk;
mod faults;

use std::io;
#[expect(clippy::disallowed_types, reason = "a directory is shared between threads")]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::store::files::{Directory, File};

pub use disk::SECTOR;
use disk::{Disk, FileId};
pub use faults::{Fault, Operation};

/// Chooses a number below the one that it is given, which is not 0.
pub type Chooser<'a> = dyn FnMut(u64) -> u64 + 'a;

/// Choices that follow from a seed.
pub fn seeded(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |bound| {
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// A directory in memory. Clones, like [`Directory::share`], are handles on the same one.
#[derive(Clone, Debug, Default)]
#[expect(clippy::disallowed_types, reason = "a directory is shared between threads")]
pub struct MemoryDirectory(Arc<Mutex<Disk>>);

impl MemoryDirectory {
    /// A directory without files.
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a crash leaves of it now; this one stays as it is, for a process that is dead. For each
    /// write and each name that was not synced the chooser says what becomes of it. Its 0 is always
    /// "lost", so a chooser that always says 0 loses whatever may be lost. One that always says the
    /// highest number loses nothing.
    #[must_use]
    #[expect(clippy::disallowed_types, reason = "a directory is shared between threads")]
    pub fn crash(&self, choose: &mut Chooser<'_>) -> Self {
        Self(Arc::new(Mutex::new(self.disk().crash(choose))))
    }

    /// The same files in another directory, as a backup has them: their
    /// [marks](Directory::mark) are other ones.
    #[must_use]
    #[expect(clippy::disallowed_types, reason = "a directory is shared between threads")]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.disk().copy())))
    }

    /// Has an operation to come fail. Several may be set.
    pub fn inject(&self, fault: Fault) {
        self.disk().faults.inject(fault);
    }

    /// Has a write to come report success and not be done. With a shift, the write is done that
    /// many sectors further on in its file, or further back where the file ends before.
    pub fn stray(&self, nth: u64, shift: Option<u64>) {
        self.disk().faults.stray(nth, shift);
    }

    /// Whether a write was lost or came elsewhere.
    pub fn has_strayed(&self) -> bool {
        self.disk().has_strayed()
    }

    /// Puts everything right that went wrong so, as though it never had.
    pub fn mend(&self) {
        self.disk().mend();
    }

    /// Takes back every fault that has not struck yet.
    pub fn heal(&self) {
        self.disk().faults.heal();
    }

    /// After this many more operations every further one fails: the process is dead, and only
    /// [`crash`](Self::crash) goes on from here.
    pub fn halt_after(&self, operations: u64) {
        self.disk().faults.halt_after(operations);
    }

    /// How many operations of this kind there were; of all kinds but reading for `None`.
    pub fn count(&self, operation: Option<Operation>) -> u64 {
        self.disk().faults.count(operation)
    }

    /// What a file holds as reads see it.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        self.disk().contents(name).map(<[u8]>::to_vec)
    }

    /// Puts a file there, synced, in place of what had the name.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.disk().put(name, bytes);
    }

    /// Takes a file away, for good.
    pub fn take(&self, name: &str) -> Option<Vec<u8>> {
        self.disk().take(name)
    }
}

impl Directory for MemoryDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.faults.pass(Operation::List)?;
        Ok(disk.names())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let id = self.disk().open(name)?;
        Ok(Box::new(MemoryFile { directory: self.clone(), id }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let id = self.disk().create(name)?;
        Ok(Box::new(MemoryFile { directory: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk().remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk().sync_names()
    }

    fn mark(&self, name: &str) -> io::Result<Option<u64>> {
        self.disk().mark(name).map(Some)
    }

    fn share(&self) -> Box<dyn Directory> {
        Box::new(self.clone())
    }
}

/// A file is known by what it is, not by its name, so that it can be renamed while open.
#[derive(Debug)]
struct MemoryFile {
    directory: MemoryDirectory,
    id: FileId,
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.directory.disk().file(self.id).now.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.directory.disk().read(self.id, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.directory.disk().write(self.id, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.directory.disk().set_len(self.id, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.disk().sync(self.id)
    }
}

#[cfg(test)]
mod tests;
