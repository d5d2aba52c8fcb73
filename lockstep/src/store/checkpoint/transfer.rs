//! A checkpoint on its way from one CoServer to the other, in chunks.

use std::io;

use super::reader::Reader;
use super::writer::create_anew;
use super::{CheckpointError, IncomingError, Stamp, Summary, failed_to, file_name, part_name};
use crate::ids::Index;
use crate::limits::{CHECKPOINT_SYNC_BYTES, CHUNK_BYTES};
use crate::store::files::{Directory, File};

/// A checkpoint that is being given away. The file stays readable only while retention leaves it:
/// pin its index ([`keep`](super::keep)).
pub struct Outgoing {
    file: Box<dyn File>,
    name: String,
    stamp: Stamp,
}

impl Outgoing {
    /// Opens it, and checks header and end mark. The receiver checks the rest.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], or what is wrong with it.
    pub fn open(dir: &dyn Directory, index: Index) -> Result<Self, CheckpointError> {
        let name = file_name(index);
        let stamp = Reader::open(dir, index)?.outline()?.stamp;
        let file = dir.open(&name).map_err(failed_to("open", &name))?;
        Ok(Self { file, name, stamp })
    }

    /// The checkpoint that the file holds.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Its bytes from this offset: as many as asked for, at most [`CHUNK_BYTES`], fewer at the
    /// end, none after it.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn read(&self, offset: u64, most: usize) -> Result<Vec<u8>, CheckpointError> {
        let rest = self.stamp.len.saturating_sub(offset);
        let len = usize::try_from(rest).unwrap_or(usize::MAX).min(most).min(CHUNK_BYTES);
        if len == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; len];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(failed_to("read", &self.name))?;
        Ok(bytes)
    }
}

impl core::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Outgoing").field("stamp", &self.stamp).finish()
    }
}

/// A checkpoint that is being received.
pub struct Incoming {
    dir: Box<dyn Directory>,
    file: Box<dyn File>,
    part: String,
    wanted: Stamp,
    received: u64,
    unsynced: u64,
    failed: bool,
}

impl Incoming {
    /// Goes on where an earlier attempt at this checkpoint ended, or from the start. What is
    /// there is read and checked block by block; whatever is not right is cut off.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn open(dir: &dyn Directory, wanted: Stamp) -> Result<Self, CheckpointError> {
        let part = part_name(wanted.index);
        let sound = sound_part(dir, &part, &wanted)?;
        let file = match sound {
            0 => create_anew(dir, &part)?,
            _ => dir.open(&part).map_err(failed_to("open", &part))?,
        };
        if sound > 0 {
            file.set_len(sound).map_err(failed_to("cut", &part))?;
        }
        let dir = dir.share();
        Ok(Self { dir, file, part, wanted, received: sound, unsynced: sound, failed: false })
    }

    /// The checkpoint that is being received.
    pub fn wanted(&self) -> Stamp {
        self.wanted
    }

    /// How many bytes of it are there: the offset of the next chunk.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        self.received == self.wanted.len
    }

    /// Takes the next chunk, of at most [`CHUNK_BYTES`]; gives the offset of the one after it.
    ///
    /// # Errors
    /// [`IncomingError`]. A chunk that does not belong here changes nothing; after a failure of
    /// the disk nothing more is taken.
    pub fn chunk(&mut self, of: &Stamp, offset: u64, bytes: &[u8]) -> Result<u64, IncomingError> {
        self.check(of, offset, bytes)?;
        self.failed = true;
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(failed_to("write", &self.part))?;
        self.received += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= CHECKPOINT_SYNC_BYTES {
            self.sync()?;
            self.unsynced = 0;
        }
        self.failed = false;
        Ok(self.received)
    }

    /// After a failure the system may go on giving what the disk does not have, and call the next
    /// sync a success. So nothing of the file is to be resumed.
    fn sync(&self) -> Result<(), CheckpointError> {
        self.file.sync().map_err(|error| {
            let _ = self.dir.remove(&self.part);
            failed_to("sync", &self.part)(error)
        })
    }

    fn check(&self, of: &Stamp, offset: u64, bytes: &[u8]) -> Result<(), IncomingError> {
        if self.failed {
            return Err(IncomingError::Failed);
        }
        if *of != self.wanted {
            return Err(IncomingError::Foreign { wanted: self.wanted, found: *of });
        }
        if offset != self.received {
            return Err(IncomingError::Offset { expected: self.received, offset });
        }
        let most = (self.wanted.len - self.received).min(CHUNK_BYTES as u64);
        if bytes.is_empty() || bytes.len() as u64 > most {
            return Err(IncomingError::Length { offset, len: bytes.len(), most });
        }
        Ok(())
    }

    /// Checks all of it and gives it its name: from then on it is a checkpoint like any other.
    ///
    /// # Errors
    /// [`IncomingError::Unfinished`] and [`IncomingError::Failed`], after which what is there
    /// stays for the next attempt. If it is not the checkpoint that was wanted, or cannot be
    /// synced, it is removed; the next attempt begins from the start.
    pub fn install(self) -> Result<Summary, IncomingError> {
        if self.failed {
            return Err(IncomingError::Failed);
        }
        if !self.is_complete() {
            let Self { received, wanted, .. } = self;
            return Err(IncomingError::Unfinished { received, len: wanted.len });
        }
        let summary = self.verify().inspect_err(|error| {
            if error.is_damage() {
                // What cannot be removed now fails the same way the next time.
                let _ = self.dir.remove(&self.part);
            }
        })?;
        self.sync()?;
        let name = file_name(self.wanted.index);
        self.dir.rename(&self.part, &name).map_err(failed_to("rename", &self.part))?;
        self.dir.sync().map_err(failed_to("sync the directory of", &name))?;
        Ok(summary)
    }

    pub(super) fn verify(&self) -> Result<Summary, CheckpointError> {
        let reader = Reader::open_as(&*self.dir, self.part.clone(), self.wanted.index)?;
        let summary = reader.finish()?;
        if summary.stamp == self.wanted {
            Ok(summary)
        } else {
            Err(CheckpointError::Other { name: self.part.clone(), found: summary.stamp })
        }
    }
}

impl core::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Incoming")
            .field("wanted", &self.wanted)
            .field("received", &self.received)
            .finish()
    }
}

/// How much of an unfinished file is right, and not too much; 0 if there is none.
fn sound_part(dir: &dyn Directory, part: &str, wanted: &Stamp) -> Result<u64, CheckpointError> {
    let mut reader = match Reader::open_as(dir, part.to_owned(), wanted.index) {
        Ok(reader) => reader,
        Err(CheckpointError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(0);
        }
        Err(error) if error.is_damage() => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut sound = reader.checked();
    loop {
        match reader.next_record() {
            Ok(Some(_)) if reader.checked() <= wanted.len => sound = reader.checked(),
            Ok(None) if reader.checked() == wanted.len => return Ok(wanted.len),
            Err(error) if !error.is_damage() => return Err(error),
            // Another checkpoint's, or as far as it goes.
            Ok(_) => return Ok(0),
            Err(_) => return Ok(sound),
        }
    }
}
