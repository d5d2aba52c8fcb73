//! The disk itself: what reads see, what is durable, and what is between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Chooser;
use super::faults::{Faults, Operation};

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// A name that was changed and not synced.
#[derive(Clone, Debug)]
enum NameChange {
    Made(String, FileId),
    Renamed(String, String, FileId),
    Removed(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Made(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Renamed(from, to, id) => {
                if names.get(from) == Some(id) {
                    names.remove(from);
                }
                names.insert(to.clone(), *id);
            }
            Self::Removed(name) => {
                names.remove(name);
            }
        }
    }
}

/// A change of a file that was not synced.
#[derive(Clone, Debug)]
struct Change {
    what: What,
    /// Covered by a sync that failed: no later one covers it.
    doubtful: bool,
}

#[derive(Clone, Debug)]
enum What {
    /// A write within one sector.
    Piece {
        offset: usize,
        bytes: Vec<u8>,
    },
    Length(usize),
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match &self.what {
            What::Piece { offset, bytes } => {
                let end = offset + bytes.len();
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[*offset..end].copy_from_slice(bytes);
            }
            What::Length(len) => data.resize(*len, 0),
        }
    }

    fn sector(&self) -> Option<usize> {
        match self.what {
            What::Piece { offset, .. } => Some(offset / SECTOR),
            What::Length(_) => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// The bytes as reads see them.
    pub(super) now: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
    /// What it would be if no write had strayed.
    meant: Option<Box<Self>>,
}

impl Contents {
    /// Splits a write where sectors end, since each of them survives for itself.
    fn write(&mut self, bytes: &[u8], offset: usize) {
        if let Some(meant) = &mut self.meant {
            meant.write(bytes, offset);
        }
        let mut at = 0;
        while at < bytes.len() {
            let room = SECTOR - (offset + at) % SECTOR;
            let piece = &bytes[at..bytes.len().min(at + room)];
            self.change_this(What::Piece { offset: offset + at, bytes: piece.to_vec() });
            at += piece.len();
        }
    }

    /// A write that reports success and goes nowhere, or to another place of the file.
    fn stray(&mut self, bytes: &[u8], offset: usize, shift: Option<u64>) {
        let mut meant = self.meant.take().unwrap_or_else(|| Box::new(self.clone()));
        meant.write(bytes, offset);
        if let Some(sectors) = shift.and_then(|shift| usize::try_from(shift).ok()) {
            let room = self.now.len().saturating_sub(bytes.len()).max(1);
            self.write(bytes, (offset + sectors * SECTOR) % room);
        }
        self.meant = Some(meant);
    }

    fn change(&mut self, what: What) {
        if let Some(meant) = &mut self.meant {
            meant.change(what.clone());
        }
        self.change_this(what);
    }

    fn change_this(&mut self, what: What) {
        let change = Change { what, doubtful: false };
        change.apply(&mut self.now);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        if let Some(meant) = &mut self.meant {
            meant.sync();
        }
        let mut again = BTreeSet::new();
        for change in self.changes.iter().filter(|change| !change.doubtful) {
            change.apply(&mut self.durable);
            again.extend(change.sector());
        }
        self.changes.retain(|change| {
            change.doubtful && change.sector().is_none_or(|sector| !again.contains(&sector))
        });
    }

    fn doubt(&mut self) {
        if let Some(meant) = &mut self.meant {
            meant.doubt();
        }
        self.changes.iter_mut().for_each(|change| change.doubtful = true);
    }

    fn crash(&self, choose: &mut Chooser<'_>) -> Self {
        let mut left = self.durable.clone();
        // How the file as a whole fares, so that all and nothing are as likely as some.
        let fate = if self.changes.is_empty() { 0 } else { choose(4) };
        for change in &self.changes {
            let survives = match fate {
                0 => false,
                3 => true,
                _ => choose(2) == 1,
            };
            if survives {
                change.apply(&mut left);
            }
        }
        Self { now: left.clone(), durable: left, ..Self::default() }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<FileId, Contents>,
    next: u64,
    /// How often it was copied from another one.
    copies: u64,
    pub(super) faults: Faults,
}

impl Disk {
    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    fn find(&self, name: &str) -> io::Result<FileId> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The file behind an open handle: never forgotten while the disk lives.
    pub(super) fn file(&mut self, id: FileId) -> &mut Contents {
        self.files.entry(id).or_default()
    }

    pub(super) fn open(&mut self, name: &str) -> io::Result<FileId> {
        self.faults.pass(Operation::Open)?;
        self.find(name)
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<FileId> {
        self.faults.pass(Operation::Create)?;
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.new_file();
        self.change_name(NameChange::Made(name.into(), id));
        Ok(id)
    }

    fn new_file(&mut self) -> FileId {
        self.next += 1;
        let id = FileId(self.next);
        self.files.insert(id, Contents::default());
        id
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.faults.pass(Operation::Rename)?;
        let id = self.find(from)?;
        self.change_name(NameChange::Renamed(from.into(), to.into(), id));
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.faults.pass(Operation::Remove)?;
        self.find(name)?;
        self.change_name(NameChange::Removed(name.into()));
        Ok(())
    }

    pub(super) fn sync_names(&mut self) -> io::Result<()> {
        self.faults.pass(Operation::SyncNames)?;
        self.durable_names = self.names.clone();
        self.name_changes.clear();
        Ok(())
    }

    pub(super) fn read(&mut self, id: FileId, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.faults.pass(Operation::Read)?;
        let offset = position(offset)?;
        let end = offset.checked_add(buffer.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = self.file(id).now.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    /// A write that fails has written its first half, as one that runs out of room does.
    pub(super) fn write(&mut self, id: FileId, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = position(offset)?;
        let halted = self.faults.count(None);
        let passed = self.faults.pass(Operation::Write);
        let written = match passed {
            Ok(()) => bytes,
            // Nothing comes from a process that is dead.
            Err(_) if self.faults.count(None) == halted => &[],
            Err(_) => &bytes[..bytes.len() / 2],
        };
        match passed.is_ok().then(|| self.faults.misrouted()).flatten() {
            Some(shift) => self.file(id).stray(written, offset, shift),
            None => self.file(id).write(written, offset),
        }
        passed
    }

    pub(super) fn set_len(&mut self, id: FileId, len: u64) -> io::Result<()> {
        self.faults.pass(Operation::SetLen)?;
        let len = position(len)?;
        self.file(id).change(What::Length(len));
        Ok(())
    }

    pub(super) fn sync(&mut self, id: FileId) -> io::Result<()> {
        let halted = self.faults.count(None);
        let passed = self.faults.pass(Operation::Sync);
        match &passed {
            Ok(()) => self.file(id).sync(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if self.faults.count(None) == halted => {}
            Err(_) => self.file(id).doubt(),
        }
        passed
    }

    pub(super) fn has_strayed(&self) -> bool {
        self.files.values().any(|file| file.meant.is_some())
    }

    pub(super) fn mend(&mut self) {
        for file in self.files.values_mut() {
            if let Some(meant) = file.meant.take() {
                *file = *meant;
            }
        }
    }

    pub(super) fn contents(&self, name: &str) -> Option<&[u8]> {
        Some(&self.files.get(self.names.get(name)?)?.now)
    }

    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) {
        let id = match self.names.get(name) {
            Some(id) => *id,
            None => self.new_file(),
        };
        let contents =
            Contents { now: bytes.to_vec(), durable: bytes.to_vec(), ..Contents::default() };
        self.files.insert(id, contents);
        self.names.insert(name.into(), id);
        self.durable_names.insert(name.into(), id);
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        self.durable_names.remove(name);
        let id = self.names.remove(name)?;
        self.files.get(&id).map(|file| file.now.clone())
    }

    pub(super) fn crash(&self, choose: &mut Chooser<'_>) -> Self {
        let mut names = self.durable_names.clone();
        for change in &self.name_changes {
            if choose(2) == 1 {
                change.apply(&mut names);
            }
        }
        let mut files = BTreeMap::new();
        for id in names.values() {
            if let (false, Some(file)) = (files.contains_key(id), self.files.get(id)) {
                files.insert(*id, file.crash(choose));
            }
        }
        Self {
            durable_names: names.clone(),
            names,
            name_changes: Vec::new(),
            files,
            next: self.next,
            copies: self.copies,
            faults: Faults::default(),
        }
    }

    /// What reads see, as a backup has it.
    pub(super) fn copy(&self) -> Self {
        let mut copy = self.crash(&mut |bound| bound - 1);
        copy.copies += 1;
        copy
    }

    /// Differs from file to file, and from copy to copy.
    pub(super) fn mark(&mut self, name: &str) -> io::Result<u64> {
        self.faults.pass(Operation::Open)?;
        Ok(self.find(name)?.0 ^ self.copies << 32)
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}
