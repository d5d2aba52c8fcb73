//! What a CoServer has on its disk: the store that production runs, over a directory in memory that
//! a crash leaves as it would a real one. What becomes of the disk is decided here, and nothing of
//! what is on it.

use super::options::{Durability, Options};
use super::rng::Rng;
use super::service::shelf;
use super::world::PAIR;
use crate::ids::ReplicaId;
use crate::proto::io;
use crate::store::files::Directory;
use crate::store::home::{Home, HomeError};
use crate::store::journal::JournalError;
use crate::store::memory::{Fault, MemoryDirectory, Operation, seeded};
use crate::store::replica::{
    self, Failure, OpenError, ReplicaStore, StorageSettings, Who, take_back,
};

/// Segments that hold the longest entry of a run, and are begun several times in most.
const SEGMENT_BYTES: u64 = 192 << 10;

/// A disk, and what a running process has open on it.
#[derive(Default)]
pub(super) struct Disk {
    directory: MemoryDirectory,
    open: Option<ReplicaStore>,
}

/// What a process finds that starts.
pub(super) enum Found {
    /// What it can go on from, if there is anything, and why not from the log.
    Usable { disk: Option<io::Disk>, damage: Option<String> },
    /// It is not to be used: an operator has to decide.
    Refused(OpenError),
    /// The disk fails.
    Failed,
}

/// How much of everything is kept: as little as there may be, so that runs come to where it
/// is gone.
pub(super) fn settings(options: &Options) -> StorageSettings {
    StorageSettings {
        durability: match options.durability {
            Durability::Journal => replica::Durability::Journal,
            Durability::Memory => replica::Durability::Memory,
        },
        segment_bytes: SEGMENT_BYTES,
        checkpoint_bytes: options.checkpoint_bytes,
        checkpoints_kept: options.checkpoints_kept,
        journal_keep_bytes: 0,
        retain_limit_bytes: options.retained_bytes,
        join_rate: options.join_rate,
        ..StorageSettings::new("simulated")
    }
}

impl Disk {
    /// Opens it for a process that starts.
    pub(super) fn open(
        &mut self,
        place: ReplicaId,
        settings: &StorageSettings,
        adopt: bool,
        seed: u64,
    ) -> Found {
        match self.try_open(place, settings, adopt, seed) {
            Ok(found) => Found::Usable { disk: found.disk, damage: found.damage },
            Err(
                OpenError::Io(_)
                | OpenError::Home(HomeError::Io { .. })
                | OpenError::Journal(JournalError::Io { .. }),
            ) => Found::Failed,
            Err(refused) => Found::Refused(refused),
        }
    }

    fn try_open(
        &mut self,
        place: ReplicaId,
        settings: &StorageSettings,
        adopt: bool,
        seed: u64,
    ) -> Result<replica::Found, OpenError> {
        if adopt && Home::open(&self.directory, PAIR, place)?.is_some() {
            take_back(&self.directory)?;
        }
        let who = Who { pair: PAIR, place, service: shelf() };
        let (store, found) = replica::open(self.directory.share(), who, settings, adopt, seed)?;
        self.open = Some(store);
        Ok(found)
    }

    /// What the process has open.
    pub(super) fn store(&mut self) -> Result<&mut ReplicaStore, Failure> {
        self.open.as_mut().ok_or_else(|| Failure::new("nothing is open".into()))
    }

    /// What a joiner needs is kept, however much it is.
    pub(super) fn retain_everything(&mut self) {
        self.open.iter_mut().for_each(|store| store.set_retain_limit(u64::MAX));
    }

    /// The process is dead, the machine is not: everything that was written is there.
    pub(super) fn close(&mut self) {
        self.open = None;
        self.directory.heal();
    }

    /// The machine loses its power: what was not synced is there, in part, or not.
    pub(super) fn cut_power(&mut self, rng: &mut Rng) {
        self.close();
        self.directory = self.directory.crash(&mut seeded(rng.bits()));
    }

    /// The power is cut after so many more operations of what the process is doing.
    pub(super) fn halt_after(&self, operations: u64) {
        self.directory.halt_after(operations);
    }

    /// A write to come does not reach the disk, or another place of it, and says nothing.
    pub(super) fn stray(&self, nth: u64, shift: Option<u64>) {
        self.directory.stray(nth, shift);
    }

    /// Has every write at its place. Returns the disk as it is without that, if there is
    /// a difference.
    pub(super) fn mend(&mut self) -> Option<Self> {
        if !self.directory.has_strayed() {
            return None;
        }
        let stray = self.directory.crash(&mut |bound| bound - 1);
        self.directory.mend();
        Some(Self { directory: stray, ..Self::default() })
    }

    /// An operation to come fails.
    pub(super) fn inject(&self, operation: Option<Operation>, nth: u64, error: i32) {
        self.directory.inject(Fault { operation, nth, error });
    }

    /// Nothing more fails.
    pub(super) fn heal(&self) {
        self.directory.heal();
    }

    /// A copy of what is there, as a backup has it.
    pub(super) fn backup(&self) -> Self {
        Self { directory: self.directory.copy(), ..Self::default() }
    }

    /// What the disk has if it has said of everything since that it is synced, and lied.
    pub(super) fn stale(&self) -> Self {
        Self { directory: self.directory.crash(&mut |_| 0), ..Self::default() }
    }

    /// A byte of some file is not what was written.
    pub(super) fn rot(&mut self, rng: &mut Rng) {
        let mut names = self.directory.list().unwrap_or_default();
        names.sort();
        names.retain(|name| self.directory.contents(name).is_some_and(|bytes| !bytes.is_empty()));
        if names.is_empty() {
            return;
        }
        let name = &names[rng.below(names.len())];
        let Some(mut bytes) = self.directory.contents(name) else { return };
        // Most of a segment is zeros that nobody reads: rather near what is used.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |at| at + 1);
        let at = rng.below(used);
        bytes[at] ^= 1 << rng.from(0, 7);
        if let Ok(file) = self.directory.open(name) {
            let _ = file.write_all_at(&bytes[at..=at], at as u64);
            let _ = file.sync();
        }
    }
}
