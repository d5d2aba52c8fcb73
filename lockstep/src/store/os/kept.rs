//! File descriptors that are kept for when no other is to be had any more.
#![expect(clippy::disallowed_types, reason = "shared by the threads of the storage")]

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many: those of a journal that begins a segment while a checkpoint is written, read
/// and listed.
const KEPT: usize = 4;

/// Some descriptors, of which one is closed so that a file can be opened in its place.
#[derive(Debug, Default)]
pub(super) struct KeptDescriptors(Mutex<Vec<File>>);

impl KeptDescriptors {
    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps as many as are to be kept, or as there are: descriptors of this file.
    pub(super) fn fill(&self, of: &File) {
        let mut kept = self.lock();
        while kept.len() < KEPT
            && let Ok(another) = of.try_clone()
        {
            kept.push(another);
        }
    }

    /// Takes one of them, if one is left.
    pub(super) fn take(&self) -> Option<File> {
        self.lock().pop()
    }
}
