//! Writing a checkpoint.

use core::ops::ControlFlow;
use std::io;

use super::block::{self, END_BYTES, End, PREFIX_BYTES, Position};
use super::header::HEADER_BYTES;
use super::{CheckpointError, Header, Stamp, failed_to, file_name, part_name};
use crate::digest::{Digest, Hasher};
use crate::limits::{CHECKPOINT_BLOCK_BYTES, CHECKPOINT_SYNC_BYTES, RECORD_BYTES};
use crate::machine::{Freeze, RecordSink, SinkError};
use crate::store::files::{Directory, File};
use crate::unit::FrozenUnit;

/// Called with the bytes just written, after each of a checkpoint's blocks. The callback may wait,
/// so that the disk is left to the journal meanwhile, and says whether to go on. A flag that
/// another thread sets is the usual way to stop:
///
/// ```
/// use core::ops::ControlFlow;
/// use core::sync::atomic::{AtomicBool, Ordering};
/// use lockstep::store::checkpoint::Pace;
/// use std::sync::Arc;
///
/// fn until(stop: Arc<AtomicBool>) -> Pace {
///     Box::new(move |_bytes| match stop.load(Ordering::Relaxed) {
///         true => ControlFlow::Break(()),
///         false => ControlFlow::Continue(()),
///     })
/// }
/// # let stop = Arc::new(AtomicBool::new(false));
/// # assert!(until(stop.clone())(1).is_continue());
/// # stop.store(true, Ordering::Relaxed);
/// # assert!(until(stop)(1).is_break());
/// ```
pub type Pace = Box<dyn FnMut(usize) -> ControlFlow<()> + Send>;

/// Writes a frozen unit as the checkpoint of its index.
///
/// # Errors
/// [`CheckpointError::Io`], [`CheckpointError::Stopped`], [`CheckpointError::State`]. No part of
/// it is left behind, unless the disk refuses even that ([`tidy`](super::tidy)).
///
/// # Panics
/// If the header is that of another entry than the view's: a mistake of the caller.
pub fn write<F: Freeze>(
    dir: &dyn Directory,
    header: &Header,
    view: &FrozenUnit<F>,
    pace: Pace,
) -> Result<Stamp, CheckpointError> {
    let said = (header.history.index, header.outputs);
    assert_eq!(said, (view.index(), view.outputs()), "a checkpoint's header is that of its state");
    let mut writer = Writer::new(dir, header, pace)?;
    match view.write(&mut writer) {
        Err(error) if writer.failure.is_none() => Err(CheckpointError::State(error)),
        _ => writer.finish(),
    }
}

/// Takes the records of a state into a checkpoint's file.
///
/// Dropped before it [finished](Self::finish) it removes what it has written.
pub struct Writer {
    dir: Box<dyn Directory>,
    file: Box<dyn File>,
    part: String,
    header: Header,
    at: Position,
    /// Bytes of records in a block. Readers do not depend on it.
    pub(super) block: usize,
    /// The records of the present block, each after its length.
    raw: Vec<u8>,
    records_in_block: u32,
    /// The present block as it is written.
    packed: Vec<u8>,
    records: u64,
    bytes: u64,
    hash: Hasher,
    blocks_digest: Hasher,
    unsynced: u64,
    pace: Pace,
    /// What went wrong first; nothing is written after it.
    failure: Option<CheckpointError>,
    finished: bool,
}

impl Writer {
    /// Begins the checkpoint that the header speaks of, in place of what was left of an
    /// attempt before.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    ///
    /// # Panics
    /// If the name of the service is longer than a name may be.
    pub fn new(dir: &dyn Directory, header: &Header, pace: Pace) -> Result<Self, CheckpointError> {
        let part = part_name(header.history.index);
        let encoded = header.encode();
        let file = create_anew(dir, &part)?;
        let checksum = checksum_of(&encoded);
        let writer = Self {
            dir: dir.share(),
            file,
            part,
            header: header.clone(),
            at: Position { header: checksum, number: 0, offset: HEADER_BYTES as u64 },
            block: CHECKPOINT_BLOCK_BYTES,
            raw: Vec::with_capacity(CHECKPOINT_BLOCK_BYTES),
            records_in_block: 0,
            packed: Vec::new(),
            records: 0,
            bytes: 0,
            hash: header.state_hasher(),
            blocks_digest: Hasher::after(checksum),
            unsynced: HEADER_BYTES as u64,
            pace,
            failure: None,
            finished: false,
        };
        let written = writer.file.write_all_at(&encoded, 0);
        written.map_err(failed_to("write", &writer.part))?;
        Ok(writer)
    }

    /// Ends the checkpoint, and gives the file its name once it is on disk.
    ///
    /// # Errors
    /// What went wrong first, now or at one of the records.
    pub fn finish(mut self) -> Result<Stamp, CheckpointError> {
        match self.failure.take() {
            Some(error) => Err(error),
            None => self.end(),
        }
    }

    fn end(&mut self) -> Result<Stamp, CheckpointError> {
        self.flush()?;
        let index = self.header.history.index;
        let len = self.at.offset + END_BYTES as u64;
        let end = End {
            blocks: self.at.number,
            records: self.records,
            bytes: self.bytes,
            len,
            hash: self.hash.finish(),
            blocks_digest: self.blocks_digest.finish(),
        };
        let mark = end.encode(self.at.header);
        let written = self.file.write_all_at(&mark, self.at.offset);
        written.map_err(failed_to("write", &self.part))?;
        self.file.sync().map_err(failed_to("sync", &self.part))?;
        let name = file_name(index);
        self.dir.rename(&self.part, &name).map_err(failed_to("rename", &self.part))?;
        self.finished = true;
        self.dir.sync().map_err(failed_to("sync the directory of", &name))?;
        Ok(Stamp { index, len, hash: end.hash })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        if bytes.len() > RECORD_BYTES {
            let too_long = SinkError::TooLong { len: bytes.len(), limit: RECORD_BYTES };
            return Err(CheckpointError::State(too_long));
        }
        if self.raw.len() + PREFIX_BYTES + bytes.len() > self.block {
            self.flush()?;
        }
        self.raw.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(bytes);
        self.hash.bytes(bytes);
        self.records_in_block += 1;
        self.records += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes the present block, if there is one.
    fn flush(&mut self) -> Result<(), CheckpointError> {
        if self.records_in_block == 0 {
            return Ok(());
        }
        let checksum = block::encode(&self.at, &self.raw, self.records_in_block, &mut self.packed);
        let written = self.file.write_all_at(&self.packed, self.at.offset);
        written.map_err(failed_to("write", &self.part))?;
        self.blocks_digest.bytes(&checksum.0);
        self.at.number += 1;
        self.at.offset += self.packed.len() as u64;
        self.unsynced += self.packed.len() as u64;
        self.raw.clear();
        self.records_in_block = 0;
        if self.unsynced >= CHECKPOINT_SYNC_BYTES {
            self.file.sync().map_err(failed_to("sync", &self.part))?;
            self.unsynced = 0;
        }
        match (self.pace)(self.packed.len()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CheckpointError::Stopped),
        }
    }
}

impl RecordSink for Writer {
    fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if let Some(failure) = &self.failure {
            return Err(failure.to_sink());
        }
        self.push(bytes).map_err(|error| {
            let passed_on = error.to_sink();
            self.failure = Some(error);
            passed_on
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed at the next start.
            let _ = self.dir.remove(&self.part);
        }
    }
}

impl core::fmt::Debug for Writer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Writer").field("part", &self.part).field("at", &self.at).finish()
    }
}

/// An empty file of this name, whatever had it.
pub(super) fn create_anew(
    dir: &dyn Directory,
    name: &str,
) -> Result<Box<dyn File>, CheckpointError> {
    match dir.remove(name) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed_to("remove", name)(error)),
    }
    dir.create(name).map_err(failed_to("create", name))
}

/// The checksum at the end of a header's bytes, which are that long.
pub(super) fn checksum_of(header: &[u8]) -> Digest {
    let mut checksum = Digest::ZERO;
    checksum.0.copy_from_slice(&header[HEADER_BYTES - 16..HEADER_BYTES]);
    checksum
}
