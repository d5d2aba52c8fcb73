//! Any bytes as a checkpoint, and a checkpoint that is received in pieces.
//!
//! The first byte says which: the rest is a file as it is, a file whose checksums are put right, or
//! what happens to a transfer.

use ::core::ops::ControlFlow;

use lockstep::digest::Digest;
use lockstep::history::History;
use lockstep::ids::{Index, PairId};
use lockstep::machine::{Identity, RecordSink, RecordSource};
use lockstep::store::checkpoint::{
    Header, Incoming, IncomingError, Outgoing, Pace, Reader, Stamp, Writer, file_name, list, tidy,
    verify,
};
use lockstep::store::memory::{MemoryDirectory, seeded};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::source::Source;

const AT: Index = Index(40);
const HEADER: usize = 512;
const HEAD: usize = 32;
const END: usize = 88;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    match how % 3 {
        0 => file(rest),
        1 => file(&with_right_checksums(rest)),
        _ => Transfer::new().run(&mut Source::new(rest)),
    }
}

/// What can be read is written as a checkpoint of the same hash, and read as the same.
fn file(bytes: &[u8]) {
    let dir = MemoryDirectory::new();
    dir.put(&file_name(AT), bytes);
    let listed = list(&dir).expect("nothing fails here");
    assert_eq!(listed.whole.len() + listed.unusable.len(), 1);
    let mut records = Vec::new();
    if let Ok(mut reader) = Reader::open(&dir, AT) {
        while let Ok(Some(record)) = reader.record() {
            records.push(record);
        }
    }
    let Ok(summary) = verify(&dir, AT) else { return };
    assert_eq!(listed.whole, std::slice::from_ref(&summary));
    assert_eq!(summary.records, records.len() as u64);
    let again = MemoryDirectory::new();
    let mut writer = Writer::new(&again, &summary.header, unhurried()).expect("room");
    records.iter().for_each(|record| writer.record(record).expect("room"));
    let stamp = writer.finish().expect("room");
    assert_eq!(stamp.hash, summary.stamp.hash, "the hash depends on how it was written");
    assert_eq!(verify(&again, AT).expect("it was just written").header, summary.header);
}

fn unhurried() -> Pace {
    Box::new(|_| ControlFlow::Continue(()))
}

/// So that what is behind the checksums is reached.
fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some((header, _)) = bytes.split_at_mut_checked(HEADER) else { return bytes };
    let (fields, checksum) = header.split_at_mut(HEADER - 16);
    checksum.copy_from_slice(&xxh3_128(fields).to_le_bytes());
    let own: [u8; 16] = checksum.try_into().expect("sixteen");
    let (mut at, mut number) = (HEADER, 0_u64);
    while let Some(head) = bytes.get(at..at + HEAD) {
        let stored = u32::from_le_bytes(head[..4].try_into().expect("four"));
        let (fields, body) = if stored == u32::MAX { (END - 16, 0) } else { (16, stored as usize) };
        let whole = fields + 16 + body;
        let Some(part) = bytes.get_mut(at..at.saturating_add(whole)) else { break };
        let mut hasher = Xxh3::new();
        hasher.update(&own);
        hasher.update(&number.to_le_bytes());
        hasher.update(&(at as u64).to_le_bytes());
        hasher.update(&part[..fields]);
        hasher.update(&part[fields + 16..]);
        part[fields..fields + 16].copy_from_slice(&hasher.digest128().to_le_bytes());
        (at, number) = (at + whole, number + 1);
    }
    bytes
}

/// One checkpoint, and how much of it is there, as far as nothing but right chunks was taken.
struct Transfer {
    from: MemoryDirectory,
    to: MemoryDirectory,
    stamp: Stamp,
    incoming: Incoming,
    /// A chunk with a wrong byte was taken.
    spoilt: bool,
}

impl Transfer {
    fn new() -> Self {
        let from = MemoryDirectory::new();
        let service = Identity { name: "x".into(), version: 1, configuration: Digest::ZERO };
        let history = History { index: AT, ..History::default() };
        let header = Header { pair: PairId([1; 16]), service, history, outputs: Digest::ZERO };
        let mut writer = Writer::new(&from, &header, unhurried()).expect("room");
        for number in 0..40_u8 {
            writer.record(&[number; 3]).expect("room");
        }
        let stamp = writer.finish().expect("room");
        let to = MemoryDirectory::new();
        let incoming = Incoming::open(&to, stamp).expect("nothing fails here");
        Self { from, to, stamp, incoming, spoilt: false }
    }

    fn run(mut self, source: &mut Source<'_>) {
        while let Some(op) = source.choice() {
            match op % 8 {
                0..=3 => self.next(source.number(60) as usize % 400, source.byte()),
                4 => self.any(source),
                5 => self.restart(source.number(1)),
                6 => self.install(),
                _ => tidy(&self.to, Some(AT)).expect("nothing fails here"),
            }
            assert!(self.incoming.received() <= self.stamp.len);
        }
    }

    /// The next chunk, at times with a wrong byte.
    fn next(&mut self, len: usize, wrong: u8) {
        let offset = self.incoming.received();
        let outgoing = Outgoing::open(&self.from, AT).expect("it is there");
        let mut bytes = outgoing.read(offset, len).expect("it can be read");
        let spoils = wrong > 0xF0 && !bytes.is_empty();
        if spoils {
            bytes[0] ^= wrong;
        }
        match self.incoming.chunk(&self.stamp, offset, &bytes) {
            Ok(next) => assert_eq!(next, offset + bytes.len() as u64),
            Err(IncomingError::Length { .. }) => assert!(bytes.is_empty()),
            Err(error) => panic!("the next chunk is refused: {error}"),
        }
        self.spoilt |= spoils;
    }

    /// A chunk from anywhere.
    fn any(&mut self, source: &mut Source<'_>) {
        let before = self.incoming.received();
        let offset = source.number(before);
        let bytes = source.take(20);
        let of = Stamp { len: source.number(self.stamp.len), ..self.stamp };
        match self.incoming.chunk(&of, offset, bytes) {
            Ok(_) => {
                assert!((offset, of) == (before, self.stamp), "a foreign chunk is taken");
                self.spoilt = true;
            }
            Err(_) => assert_eq!(self.incoming.received(), before, "a refused chunk has effect"),
        }
    }

    /// The power goes; what is found sound is right, so nothing spoilt is left.
    fn restart(&mut self, seed: u64) {
        self.to = self.to.crash(&mut seeded(seed));
        self.incoming = Incoming::open(&self.to, self.stamp).expect("nothing fails here");
        assert!(self.incoming.received() <= self.stamp.len);
        self.spoilt = false;
    }

    fn install(&mut self) {
        let next = MemoryDirectory::new();
        let fresh = Incoming::open(&next, self.stamp).expect("nothing fails here");
        let incoming = ::core::mem::replace(&mut self.incoming, fresh);
        let whole = incoming.is_complete();
        match incoming.install() {
            Ok(summary) => {
                assert!(whole && summary.stamp == self.stamp);
                let name = file_name(AT);
                assert_eq!(self.to.contents(&name), self.from.contents(&name));
            }
            Err(error) => assert!(!whole || self.spoilt, "it is whole, and refused: {error}"),
        }
        (self.to, self.spoilt) = (next, false);
    }
}
