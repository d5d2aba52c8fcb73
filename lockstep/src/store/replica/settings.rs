//! What a CoServer keeps on disk, and how much of it.

use std::path::PathBuf;

use crate::store::home::Kept;
use crate::store::journal::{self, BLOCK_BYTES};

/// When an entry counts as held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once it is on the disk. Nothing that was acknowledged is lost when both CoServers lose
    /// their power.
    #[default]
    Journal,
    /// Once it is in memory: two copies in two machines. A loss of both is a loss. The same files
    /// are written, to bring a joiner up to date, but nothing is waited for. What is found of them
    /// at a start is thrown away, also under `Journal`.
    Memory,
}

/// A CoServer's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// When an entry counts as held. The same on both CoServers.
    pub durability: Durability,
    /// Where the files are: a directory of its own, made if its parent is there. Best on a disk
    /// that nothing else writes to.
    pub directory: PathBuf,
    /// Bytes of a file of the journal, a multiple of 4096. A few are made ahead, and all are
    /// used again.
    pub segment_bytes: u64,
    /// Bytes of entries after which a checkpoint is taken. The same on both CoServers.
    pub checkpoint_bytes: u64,
    /// How many checkpoints are kept.
    pub checkpoints_kept: usize,
    /// At least so many bytes of the journal are kept, so that a CoServer that was away for a
    /// while needs no checkpoint.
    pub journal_keep_bytes: u64,
    /// At most so many bytes of the journal are kept for one that is joining.
    pub retain_limit_bytes: u64,
    /// Most bytes a second that a joiner is sent of what it lacks.
    pub join_rate: u64,
}

/// Bounds of each number: the name, the least, the most. A segment holds at least one entry of
/// the largest size; a checkpoint costs more than a few entries; the rest keeps arithmetic sound.
const BOUNDS: [(&str, u64, u64); 6] = [
    ("segment_bytes", 4 << 20, journal::SEGMENT_BYTES_MAX as u64),
    ("checkpoint_bytes", 64 << 10, 1 << 40),
    ("checkpoints_kept", 1, 64),
    ("journal_keep_bytes", 0, 1 << 50),
    ("retain_limit_bytes", 1 << 20, 1 << 50),
    ("join_rate", 64 << 10, 100 << 30),
];

impl StorageSettings {
    /// Every choice at its default, in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            durability: Durability::Journal,
            directory: directory.into(),
            segment_bytes: 64 << 20,
            checkpoint_bytes: 64 << 20,
            checkpoints_kept: 2,
            journal_keep_bytes: 256 << 20,
            retain_limit_bytes: 4 << 30,
            join_rate: 64 << 20,
        }
    }

    /// The first number that is out of its bounds, or no multiple of what it has to be one of. It
    /// comes as its name, its value, and the least and the most that it may be.
    pub(crate) fn misfit(&self) -> Option<(&'static str, u64, u64, u64)> {
        let values = [
            self.segment_bytes,
            self.checkpoint_bytes,
            self.checkpoints_kept as u64,
            self.journal_keep_bytes,
            self.retain_limit_bytes,
            self.join_rate,
        ];
        let out = |value: u64, name: &str, least: u64, most: u64| {
            let whole = name != "segment_bytes" || value.is_multiple_of(u64::from(BLOCK_BYTES));
            value < least || value > most || !whole
        };
        let named = BOUNDS.into_iter().zip(values);
        named
            .map(|((name, least, most), value)| (name, value, least, most))
            .find(|(name, value, least, most)| out(*value, name, *least, *most))
    }

    /// What the log is worth after a crash.
    pub(super) fn kept(&self) -> Kept {
        match self.durability {
            Durability::Journal => Kept::OnDisk,
            Durability::Memory => Kept::InMemory,
        }
    }

    pub(super) fn journal_options(&self, seed: u64) -> journal::Options {
        let mut options = journal::Options::new(seed);
        options.segment_bytes = u32::try_from(self.segment_bytes).unwrap_or(u32::MAX);
        options.sync = self.kept() == Kept::OnDisk;
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_and_what_does_not_is_named() {
        let settings = StorageSettings::new("x");
        assert_eq!(settings.misfit(), None);
        let odd = StorageSettings { segment_bytes: (4 << 20) + 1, ..settings.clone() };
        assert_eq!(odd.misfit().unwrap().0, "segment_bytes");
        let none = StorageSettings { checkpoints_kept: 0, ..settings };
        assert_eq!(none.misfit(), Some(("checkpoints_kept", 0, 1, 64)));
    }
}
