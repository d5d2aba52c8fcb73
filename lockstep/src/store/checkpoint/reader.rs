//! Reading a checkpoint, of which nothing is believed before it is checked.

use std::io;

use bytes::{Buf, Bytes};

use super::block::{END_BYTES, End, HEAD_BYTES, Head, Position};
use super::header::HEADER_BYTES;
use super::writer::checksum_of;
use super::{CheckpointError, Header, LoadError, Stamp, Summary, failed_to, file_name};
use crate::digest::Hasher;
use crate::ids::Index;
use crate::machine::{RecordSource, RestoreError, StateMachine};
use crate::store::fields::Broken;
use crate::store::files::{Directory, File};
use crate::unit::{Unit, UnitConfig};

/// Reads a checkpoint once and checks all of it. To be called before the file is relied on, since a
/// [`Reader`] gives records before it has seen the end mark.
///
/// # Errors
/// [`CheckpointError::Io`], or what is wrong with it.
pub fn verify(dir: &dyn Directory, index: Index) -> Result<Summary, CheckpointError> {
    Reader::open(dir, index)?.finish()
}

/// Makes a unit, around a fresh service, of the checkpoint of this index.
///
/// The whole file is checked: the last that is done is to compare the end mark.
///
/// # Errors
/// [`LoadError`]: the file, or the state in it, is not what it should be.
pub fn load<S: StateMachine>(
    dir: &dyn Directory,
    index: Index,
    service: S,
    config: UnitConfig,
) -> Result<(Summary, Unit<S>), LoadError> {
    let mut reader = Reader::open(dir, index)?;
    let restored = Unit::restore(service, config, &mut reader);
    // A damaged file is one whatever the service made of it.
    let unit = match (restored, reader.failure.take()) {
        (_, Some(failure)) => return Err(failure.into()),
        (Err(source), None) => return Err(LoadError::State { index, source }),
        (Ok(unit), None) => unit,
    };
    let summary = reader.finish()?;
    if unit.index() != index {
        return Err(LoadError::Mismatch { index, what: "it has executed another entry last" });
    }
    if unit.digest() != summary.header.outputs {
        return Err(LoadError::Mismatch { index, what: "its outputs are other ones" });
    }
    Ok((summary, unit))
}

/// Gives a checkpoint's records, each after its block was checked; no more after an error.
pub struct Reader {
    file: Box<dyn File>,
    name: String,
    len: u64,
    header: Header,
    at: Position,
    /// The records of the present block that are still to be given.
    block: Bytes,
    left: u32,
    records: u64,
    bytes: u64,
    hash: Hasher,
    blocks_digest: Hasher,
    end: Option<End>,
    failure: Option<CheckpointError>,
}

impl Reader {
    /// Opens a checkpoint and checks its header.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], or what is wrong with it.
    pub fn open(dir: &dyn Directory, index: Index) -> Result<Self, CheckpointError> {
        Self::open_as(dir, file_name(index), index)
    }

    pub(super) fn open_as(
        dir: &dyn Directory,
        name: String,
        index: Index,
    ) -> Result<Self, CheckpointError> {
        let file = dir.open(&name).map_err(failed_to("open", &name))?;
        let len = file.len().map_err(failed_to("measure", &name))?;
        let encoded: [u8; HEADER_BYTES] = read(&*file, &name, len, 0)?;
        let header = Header::decode(&encoded).map_err(|broken| match broken {
            Broken::Version(found) => CheckpointError::Version { name: name.clone(), found },
            Broken::Damaged(what) => CheckpointError::Damaged { name: name.clone(), at: 0, what },
        })?;
        if header.history.index != index {
            let what = "it is the checkpoint of another entry than its name says";
            return Err(CheckpointError::Damaged { name, at: 0, what });
        }
        let checksum = checksum_of(&encoded);
        Ok(Self {
            file,
            name,
            len,
            at: Position { header: checksum, number: 0, offset: HEADER_BYTES as u64 },
            block: Bytes::new(),
            left: 0,
            records: 0,
            bytes: 0,
            hash: header.state_hasher(),
            blocks_digest: Hasher::after(checksum),
            header,
            end: None,
            failure: None,
        })
    }

    /// What it is a checkpoint of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How far the file is read and found right: the end of a block, or of everything.
    pub(super) fn checked(&self) -> u64 {
        self.at.offset
    }

    /// The next record, `None` after the last one and once the end mark was found right. Not to
    /// be called again after an error.
    pub(super) fn next_record(&mut self) -> Result<Option<Bytes>, CheckpointError> {
        while self.left == 0 {
            if !self.next_part()? {
                return Ok(None);
            }
        }
        let start = self.at.offset;
        self.take_record()
            .ok_or_else(|| self.damaged(start, "a block's records do not fill it"))
            .map(Some)
    }

    /// Reads whatever is left, and gives the whole file's summary.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], or what is wrong with it.
    pub fn finish(mut self) -> Result<Summary, CheckpointError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        loop {
            if self.next_record()?.is_none() {
                break;
            }
        }
        let end = self.end.expect("an end mark was found");
        let stamp = Stamp { index: self.header.history.index, len: end.len, hash: end.hash };
        Ok(Summary { stamp, header: self.header, records: end.records, bytes: end.bytes })
    }

    /// What header and end mark say, without what is between.
    pub(super) fn outline(self) -> Result<Summary, CheckpointError> {
        let start = self.len.saturating_sub(END_BYTES as u64);
        let mark = read(&*self.file, &self.name, self.len, start)?;
        let end = End::decode(&mark, self.at.header).map_err(|what| self.damaged(start, what))?;
        if end.len != self.len {
            return Err(self.damaged(start, "the file is not as long as its end mark says"));
        }
        let stamp = Stamp { index: self.header.history.index, len: end.len, hash: end.hash };
        Ok(Summary { stamp, header: self.header, records: end.records, bytes: end.bytes })
    }

    /// The next block; `false` at the end mark.
    fn next_part(&mut self) -> Result<bool, CheckpointError> {
        if self.end.is_some() {
            return Ok(false);
        }
        let start = self.at.offset;
        let bytes = read(&*self.file, &self.name, self.len, start)?;
        match Head::decode(&bytes).map_err(|what| self.damaged(start, what))? {
            Some(head) => self.next_block(&head, &bytes).map(|()| true),
            None => self.at_end().map(|()| false),
        }
    }

    fn next_block(
        &mut self,
        head: &Head,
        head_bytes: &[u8; HEAD_BYTES],
    ) -> Result<(), CheckpointError> {
        let start = self.at.offset;
        let end = start + HEAD_BYTES as u64 + u64::from(head.stored);
        if end > self.len {
            return Err(self.damaged(start, "the file ends within a block"));
        }
        let mut body = vec![0; head.stored as usize];
        let read = self.file.read_exact_at(&mut body, start + HEAD_BYTES as u64);
        read.map_err(|error| read_failed(&self.name, start, error))?;
        let (raw, checksum) =
            head.open(&self.at, head_bytes, body).map_err(|what| self.damaged(start, what))?;
        self.blocks_digest.bytes(&checksum.0);
        self.block = Bytes::from(raw);
        self.left = head.records;
        self.at.number += 1;
        self.at.offset = end;
        Ok(())
    }

    fn at_end(&mut self) -> Result<(), CheckpointError> {
        let start = self.at.offset;
        let mark = read(&*self.file, &self.name, self.len, start)?;
        let end = End::decode(&mark, self.at.header).map_err(|what| self.damaged(start, what))?;
        let found = End {
            blocks: self.at.number,
            records: self.records,
            bytes: self.bytes,
            len: start + END_BYTES as u64,
            hash: self.hash.finish(),
            blocks_digest: self.blocks_digest.finish(),
        };
        if end != found {
            return Err(self.damaged(start, "the end mark speaks of other records"));
        }
        if self.len != end.len {
            return Err(self.damaged(start, "something follows the end mark"));
        }
        self.at.offset = end.len;
        self.end = Some(end);
        Ok(())
    }

    fn take_record(&mut self) -> Option<Bytes> {
        let len = self.block.try_get_u32_le().ok()? as usize;
        if len > self.block.len() {
            return None;
        }
        let record = self.block.split_to(len);
        self.left -= 1;
        if self.left == 0 && !self.block.is_empty() {
            return None;
        }
        self.hash.bytes(&record);
        self.records += 1;
        self.bytes += len as u64;
        Some(record)
    }

    fn damaged(&self, at: u64, what: &'static str) -> CheckpointError {
        CheckpointError::Damaged { name: self.name.clone(), at, what }
    }
}

impl RecordSource for Reader {
    fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
        if let Some(failure) = &self.failure {
            let why = failure.to_string();
            return Err(RestoreError::Invalid { record: "checkpoint", why });
        }
        match self.next_record() {
            // A service that keeps a record must not keep the whole block with it.
            Ok(record) => Ok(record.map(|record| Bytes::copy_from_slice(&record))),
            Err(error) => {
                let why = error.to_string();
                self.failure = Some(error);
                Err(RestoreError::Invalid { record: "checkpoint", why })
            }
        }
    }
}

impl core::fmt::Debug for Reader {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reader").field("name", &self.name).field("at", &self.at).finish()
    }
}

/// `N` bytes from there, if the file is that long.
fn read<const N: usize>(
    file: &dyn File,
    name: &str,
    len: u64,
    at: u64,
) -> Result<[u8; N], CheckpointError> {
    let mut bytes = [0; N];
    if len.saturating_sub(at) < N as u64 {
        let what = "the file ends before its end mark";
        return Err(CheckpointError::Damaged { name: name.to_owned(), at, what });
    }
    file.read_exact_at(&mut bytes, at).map_err(|error| read_failed(name, at, error))?;
    Ok(bytes)
}

/// A file that has become shorter since it was measured is damaged, not unreadable.
fn read_failed(name: &str, at: u64, error: io::Error) -> CheckpointError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let what = "the file ends before its end mark";
        return CheckpointError::Damaged { name: name.to_owned(), at, what };
    }
    failed_to("read", name)(error)
}
