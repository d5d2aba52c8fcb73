//! Two processes that sync the same disk at once. They show what a disk and a socket cost before
//! any protocol of ours, for comparison with the rows with durability `journal`.
//!
//! The driver sends what may go, writes it into zero-filled blocks of its own file and syncs them.
//! The far side writes and syncs the same into its file, and then sends it back. A trip is over
//! when both have synced. What was sent together is synced together.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::BytesMut;
use hdrhistogram::Histogram;

use super::{LOOPBACK, Row, far_side};
use crate::harness::{Cast, PartSpec, Program, RunError, Setup};
use crate::part::{Part, PartError};
use crate::placement::Seat;
use crate::talk::Ready;
use crate::trips::{MAX_IN_FLIGHT_BYTES, TripError, Trips};

pub(super) const ECHO: &str = "synced-echo";
pub(super) const DRIVE: &str = "synced-drive";

/// What is written and synced at least, as by the journal.
const BLOCK_BYTES: usize = 4096;

/// The file, written round and round. As long as a few thousand commits of one block.
const FILE_BYTES: usize = 16 << 20;

const _: () = assert!(FILE_BYTES.is_multiple_of(BLOCK_BYTES) && FILE_BYTES > MAX_IN_FLIGHT_BYTES);

pub(super) struct Synced;

impl Row for Synced {
    fn name(&self) -> &'static str {
        "synced"
    }

    fn about(&self) -> &'static str {
        "bytes over TCP and back, both processes write a zero-filled block and fdatasync it"
    }

    fn cast(&self, setup: &Setup) -> Result<Cast, RunError> {
        let directory = tempfile::Builder::new().prefix("lockstep-synced-").tempdir_in(&setup.disk);
        let directory = directory.map_err(|error| RunError::Prepare(error.to_string()))?;
        let part = |kind, seat| {
            let file = directory.path().join(kind).to_string_lossy().into_owned();
            PartSpec { program: Program::Own, kind, seat, words: vec![file] }
        };
        let parts = vec![part(ECHO, Seat::B), part(DRIVE, Seat::A)];
        Ok(Cast { parts, keep: Some(Box::new(directory)) })
    }
}

/// Blocks that exist, to be overwritten in turn.
struct Blocks {
    file: File,
    offset: usize,
    block: Vec<u8>,
}

impl Blocks {
    fn new(part: &Part) -> Result<Self, PartError> {
        let word = part.options.words.first();
        let path = word.map(PathBuf::from);
        let path = path.ok_or_else(|| PartError::Arguments("no file".into()))?;
        let file = File::create_new(path).map_err(PartError::io("make the file"))?;
        let zeros = vec![0; BLOCK_BYTES];
        for offset in (0..FILE_BYTES).step_by(BLOCK_BYTES) {
            file.write_all_at(&zeros, offset as u64).map_err(PartError::io("fill the file"))?;
        }
        file.sync_all().map_err(PartError::io("sync the file"))?;
        Ok(Self { file, offset: 0, block: Vec::new() })
    }

    /// Writes and syncs these bytes, padded to whole blocks.
    fn commit(&mut self, bytes: &[u8]) -> Result<(), PartError> {
        self.block.clear();
        self.block.extend_from_slice(bytes);
        self.block.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        if self.offset + self.block.len() > FILE_BYTES {
            self.offset = 0;
        }
        let written = self.file.write_all_at(&self.block, self.offset as u64);
        written.map_err(PartError::io("write to the file"))?;
        self.offset += self.block.len();
        self.file.sync_data().map_err(PartError::io("sync the file"))
    }
}

/// Echoes what was synced until the far side ends.
pub(super) fn echo(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let mut blocks = Blocks::new(part)?;
    let listener = TcpListener::bind(LOOPBACK).map_err(PartError::io("bind a TCP socket"))?;
    let address = listener.local_addr().map_err(PartError::io("read the socket's address"))?;
    part.ready(Ready::at(address))?;
    let (mut stream, _) = listener.accept().map_err(PartError::io("accept a connection"))?;
    stream.set_nodelay(true).map_err(PartError::io("set an option"))?;
    let mut bytes = vec![0; MAX_IN_FLIGHT_BYTES];
    loop {
        let count = stream.read(&mut bytes).map_err(PartError::io("receive"))?;
        if count == 0 {
            return Ok(None);
        }
        blocks.commit(&bytes[..count])?;
        stream.write_all(&bytes[..count]).map_err(PartError::io("send back"))?;
    }
}

pub(super) fn drive(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let mut blocks = Blocks::new(part)?;
    let go = part.ready(Ready::silent())?;
    let (far, _) = far_side(&go)?;
    let mut stream = TcpStream::connect(far).map_err(PartError::io("connect"))?;
    stream.set_nodelay(true).map_err(PartError::io("set an option"))?;
    let mut trips = Trips::new(part.options.load);
    let (mut outgoing, mut incoming) = (Vec::new(), BytesMut::new());
    let mut bytes = vec![0; MAX_IN_FLIGHT_BYTES];
    while !trips.is_finished() {
        outgoing.clear();
        trips.depart_into(&mut outgoing);
        if !outgoing.is_empty() {
            stream.write_all(&outgoing).map_err(TripError::Io)?;
            blocks.commit(&outgoing)?;
        }
        let count = stream.read(&mut bytes).map_err(PartError::io("get an answer"))?;
        if count == 0 {
            return Err(PartError::NoGo("the far side ended".into()));
        }
        incoming.extend_from_slice(&bytes[..count]);
        trips.arrive_from(&mut incoming)?;
    }
    Ok(Some(trips.into_histogram()))
}
