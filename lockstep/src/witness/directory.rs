//! Records in a directory: one file for each pair, replaced whole.
//!
//! A record is written to a file of its own beside the old one, synced, renamed over it, and the
//! directory synced. So at every moment there is either the old record or the new one, whole. A
//! file that is neither was damaged by something else, and is refused rather than passed over.
//!
//! A record's file says which file it is ([`FileMark`]). What was copied here, or copied back over
//! a later record, says something else, and counts as not to be trusted. The pair is refused until
//! its operator begins a new lineage, as if the directory had been wiped. Records of version 1 do
//! not say it. They are taken once, while the directory has no file `MARK` yet.
//!
//! That needs a file system whose inodes keep their numbers, as those of Linux for local disks do.
//! What it cannot notice is that the file system itself, below the files, was set back.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::digest::Digest;
use crate::exhaustion::Exhaustion;
use crate::ids::{Epoch, Lineage, PairId};
use crate::record::Record;
use crate::witness::format::{self, FILE_BYTES, FileMark, Kept, Unreadable};
use crate::witness::store::{Held, Loaded, RecordStore, StoreError, Told};

const LOCK: &str = "lock";
const RECORD: &str = "record";
const UNFINISHED: &str = "new";

/// This file says that all records here know their own file.
const MARK: &str = "mark";

/// Where a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// The record belongs to the file that it is in.
    Here,
    /// The record belongs to another file.
    Elsewhere,
    /// The record does not say, and the directory still takes such records.
    Unknown,
}

/// A directory of records, locked against other processes for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    /// Pairs of which it is not known what is on disk, since a write failed midway.
    failed: BTreeSet<PairId>,
    /// Whether records that do not know their own file are still taken.
    unmarked: bool,
    /// Held for its lock; the system releases it however the process ends.
    lock: File,
}

impl Drop for Directory {
    /// Closing the file would do, were it not for a child that is just being spawned and has its
    /// descriptors still.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Directory {
    /// Takes the directory, making it if it is not there (its parent must be).
    ///
    /// # Errors
    /// [`StoreError::Locked`] if a process has it; [`StoreError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        make_directory(&path)?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed_to("open", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked { path: lock_path.clone() },
            TryLockError::Error(source) => failed_to("lock", &lock_path)(source),
        })?;
        let handle = File::open(&path).map_err(failed_to("open", &path))?;
        // A predecessor may have died between renaming and syncing. What is read from here on
        // will be told to askers, so it must not be lost with the machine's power later.
        handle.sync_all().map_err(failed_to("sync", &path))?;
        let unmarked = match fs::exists(path.join(MARK)) {
            Ok(there) => !there,
            Err(source) => return Err(failed_to("look for", &path.join(MARK))(source)),
        };
        let mut directory = Self { path, handle, failed: BTreeSet::new(), unmarked, lock };
        if unmarked {
            directory.adopt()?;
        }
        Ok(directory)
    }

    /// Writes the records anew that do not know their own file, and then the mark. Until that is
    /// there, the next process begins again.
    fn adopt(&mut self) -> Result<(), StoreError> {
        for pair in self.pairs()? {
            match self.read_file(pair) {
                Ok(Some((held, Seat::Unknown))) => {
                    self.write(&held)?;
                    tracing::warn!(event = "record_adopted", %pair);
                }
                // What cannot be read is for the process that asks for it.
                Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Version { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mark = self.path.join(MARK);
        let made = File::create(&mark).and_then(|file| file.sync_all());
        made.map_err(failed_to("create", &mark))?;
        self.handle.sync_all().map_err(failed_to("sync", &self.path))?;
        self.unmarked = false;
        Ok(())
    }

    /// The pairs of which there is a file.
    fn pairs(&self) -> Result<BTreeSet<PairId>, StoreError> {
        let mut pairs = BTreeSet::new();
        for item in fs::read_dir(&self.path).map_err(failed_to("list", &self.path))? {
            let path = item.map_err(failed_to("list", &self.path))?.path();
            if path.extension().is_some_and(|kind| kind == RECORD) {
                let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
                let pair = name.parse().map_err(|_| StoreError::Damaged {
                    path: path.clone(),
                    why: "its name is no pair's id",
                })?;
                pairs.insert(pair);
            }
        }
        Ok(pairs)
    }

    fn file(&self, pair: PairId, kind: &str) -> PathBuf {
        self.path.join(format!("{pair}.{kind}"))
    }

    /// The pair's record; one that was copied here is not to be trusted.
    fn read(&self, pair: PairId) -> Result<Option<Held>, StoreError> {
        let Some((held, seat)) = self.read_file(pair)? else { return Ok(None) };
        if seat != Seat::Elsewhere {
            return Ok(Some(held));
        }
        tracing::error!(event = "record_restored", %pair, path = %self.file(pair, RECORD).display());
        let behind = held.behind.or(Some(Told::from(&held.record)));
        Ok(Some(Held { behind, ..held }))
    }

    /// Reads a record's file, and makes sure that what was read is on disk.
    fn read_file(&self, pair: PairId) -> Result<Option<(Held, Seat)>, StoreError> {
        if self.failed.contains(&pair) {
            return Err(StoreError::Failed { pair });
        }
        let path = self.file(pair, RECORD);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // What this process lacks says nothing about the record.
            Err(error) if Exhaustion::of(&error).is_some() => {
                return Err(not_begun("open", &path)(error));
            }
            Err(error) => return Err(failed_to("open", &path)(error)),
        };
        let mut bytes = Vec::with_capacity(FILE_BYTES + 1);
        let most = FILE_BYTES as u64 + 1;
        (&file).take(most).read_to_end(&mut bytes).map_err(failed_to("read", &path))?;
        let kept = format::decode(&bytes).map_err(|error| match error {
            Unreadable::Version(version) => {
                StoreError::Version { path: path.clone(), version, ours: format::VERSION }
            }
            Unreadable::Damaged(why) => StoreError::Damaged { path: path.clone(), why },
        })?;
        let Kept { held, mark } = kept;
        if held.record.pair != pair {
            return Err(StoreError::Damaged { path, why: "it is another pair's record" });
        }
        file.sync_all().map_err(failed_to("sync", &path))?;
        let own = mark_of(&file).map_err(failed_to("read", &path))?;
        let seat = match mark {
            None if self.unmarked => Seat::Unknown,
            Some(mark) if mark == own => Seat::Here,
            _ => Seat::Elsewhere,
        };
        Ok(Some((held, seat)))
    }

    fn known(&self, pair: PairId) -> Result<Held, StoreError> {
        self.read(pair)?.ok_or(StoreError::Unknown { pair })
    }

    /// Until the rename nothing is changed. Whatever goes wrong from there on, even the last sync:
    /// the new record may or may not be what the next process reads. So nothing is said about the
    /// pair until then.
    fn write(&mut self, held: &Held) -> Result<(), StoreError> {
        let pair = held.record.pair;
        let new = self.file(pair, UNFINISHED);
        if let Err(error) = write_new(&new, held) {
            // It may be what takes the room. If it stays, the next attempt begins with it.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        let path = self.file(pair, RECORD);
        let moved = fs::rename(&new, &path).map_err(failed_to("replace", &path));
        let done =
            moved.and_then(|()| self.handle.sync_all().map_err(failed_to("sync", &self.path)));
        if done.is_err() {
            self.failed.insert(pair);
        }
        done
    }
}

/// Writes a file that was not there, so that no sync that failed speaks of it: after one, the
/// system may take what it has not written for written.
fn write_new(new: &Path, held: &Held) -> Result<(), StoreError> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(not_begun("remove", new)(error));
        }
        _ => {}
    }
    let mut file = File::create_new(new).map_err(not_begun("create", new))?;
    let mark = mark_of(&file).map_err(not_begun("read", new))?;
    file.write_all(&format::encode(held, mark)).map_err(not_begun("write", new))?;
    file.sync_all().map_err(not_begun("sync", new))
}

impl RecordStore for Directory {
    fn load(&mut self) -> Result<Vec<Loaded>, StoreError> {
        let pairs = self.pairs()?;
        let known = |pair| (pair, self.known(pair));
        Ok(pairs.into_iter().map(known).collect())
    }

    fn present(&mut self, pair: PairId) -> Result<Held, StoreError> {
        self.known(pair)
    }

    fn replace(&mut self, present: Digest, next: &Record) -> Result<(), StoreError> {
        let held = self.known(next.pair)?;
        if held.record.digest() != present || held.behind.is_some() {
            return Err(StoreError::Conflict { present: Box::new(held.record) });
        }
        self.write(&Held::trusted(*next))
    }

    fn adopt(&mut self, record: &Record) -> Result<(), StoreError> {
        self.read(record.pair)?;
        self.write(&Held::trusted(*record))
    }

    fn distrust(&mut self, pair: PairId, told: Told) -> Result<(), StoreError> {
        let held = self.known(pair)?;
        let behind = held.behind.map_or(told, |before| before.max(told));
        self.write(&Held { behind: Some(behind), ..held })
    }

    fn enrol(&mut self, pair: PairId) -> Result<Held, StoreError> {
        if self.read(pair)?.is_some() {
            return Err(StoreError::Enrolled { pair });
        }
        let held = Held::trusted(Record::vacant(pair, Lineage(1), Epoch(0)));
        self.write(&held)?;
        Ok(held)
    }

    fn new_lineage(&mut self, pair: PairId) -> Result<Held, StoreError> {
        let next = self.known(pair)?.next_lineage().ok_or(StoreError::UsedUp { pair })?;
        let held = Held::trusted(next);
        self.write(&held)?;
        Ok(held)
    }
}

/// Makes the directory so that it is still there after the machine lost its power.
fn make_directory(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(failed_to("make", path)(error)),
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let sync = File::open(parent).and_then(|parent| parent.sync_all());
    sync.map_err(failed_to("sync", parent))
}

fn mark_of(file: &File) -> io::Result<FileMark> {
    let meta = file.metadata()?;
    let since = meta.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    // Lasts until the year 2554.
    let born = since.and_then(|since| u64::try_from(since.as_nanos()).ok());
    Ok(FileMark { inode: meta.ino(), born: born.unwrap_or(0) })
}

fn failed_to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// The same where nothing was changed yet.
fn not_begun(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Unchanged { action, path, source }
}
