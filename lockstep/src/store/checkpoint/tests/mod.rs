//! Checkpoints as scenarios: written, damaged, interrupted, sent.

mod crash;
mod damage;
mod fixture;
mod states;
mod transfer;

use core::ops::ControlFlow;

use super::*;
use crate::history::History;
use crate::ids::{Epoch, Incarnation, Lineage, LogTime, Nonce, OriginNumber, PairId, ReplicaId};
use crate::machine::{Identity, RecordSink};
use crate::record::{Members, Origin, Record};
use crate::store::files::Directory;
use crate::store::scratch::Scratch;

const PAIR: PairId = PairId([7; 16]);
const AT: Index = Index(40);

fn header() -> Header {
    let record = Record {
        pair: PAIR,
        lineage: Lineage(2),
        epoch: Epoch(5),
        members: Members::both(Incarnation(11), Incarnation(12)),
        asker: ReplicaId::B,
        nonce: Nonce(13),
        origin: Origin::Joined,
    };
    let history = History {
        index: AT,
        log_digest: Digest([1; 16]),
        time: LogTime(1_000),
        epoch: Epoch(5),
        record: Some(record),
        began: Index(1),
        sequencer: ReplicaId::B,
        ordered: [OriginNumber(3), OriginNumber(4)],
        ..History::default()
    };
    let service = Identity { name: "counter".into(), version: 3, configuration: Digest([9; 16]) };
    Header { pair: PAIR, service, history, outputs: Digest([2; 16]) }
}

fn at(index: u64) -> Header {
    let mut header = header();
    header.history.index = Index(index);
    header
}

fn unhurried() -> Pace {
    Box::new(|_| ControlFlow::Continue(()))
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Four records in three blocks of at most this many bytes.
fn blocks_of(block: usize) -> Vec<Vec<u8>> {
    vec![noise(50, 1), vec![7; block - 8], Vec::new(), b"the last one".to_vec()]
}

/// Small, so that every byte of it can be tried.
const SMALL: usize = 64;

fn three_blocks() -> Vec<Vec<u8>> {
    blocks_of(SMALL)
}

fn take(dir: &Scratch, header: &Header, records: &[Vec<u8>]) -> Result<Stamp, CheckpointError> {
    take_in_blocks(dir, header, records, SMALL)
}

fn take_in_blocks(
    dir: &Scratch,
    header: &Header,
    records: &[Vec<u8>],
    block: usize,
) -> Result<Stamp, CheckpointError> {
    let mut writer = Writer::new(dir, header, unhurried())?;
    writer.block = block;
    for record in records {
        if writer.record(record).is_err() {
            break;
        }
    }
    writer.finish()
}

fn records(dir: &Scratch, index: Index) -> Result<Vec<Vec<u8>>, CheckpointError> {
    let mut reader = Reader::open(dir, index)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record.to_vec());
    }
    Ok(records)
}
