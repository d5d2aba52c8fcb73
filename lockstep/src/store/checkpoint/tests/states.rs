//! What goes in comes out, whatever the state looks like.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::entry::{Entry, EntryKind, InputKind, Origin as EntryOrigin};
use crate::limits::{CHECKPOINT_BLOCK_BYTES, CHECKPOINT_SYNC_BYTES, RECORD_BYTES};
use crate::machine::{Context, Freeze, RecordSource, RestoreError, SinkError, StateMachine, Step};
use crate::unit::{Unit, UnitConfig};

#[test]
fn records_of_every_size_come_back_in_order() {
    let dir = Scratch::new();
    let mut states = vec![
        Vec::new(),
        vec![Vec::new()],
        vec![noise(RECORD_BYTES, 3), vec![5; RECORD_BYTES], noise(1, 4), noise(RECORD_BYTES, 5)],
        three_blocks(),
    ];
    states.push((0..100_000_u32).map(|number| number.to_le_bytes().to_vec()).collect());
    for (number, state) in states.into_iter().enumerate() {
        let index = 1 + number as u64;
        let stamp = take_in_blocks(&dir, &at(index), &state, CHECKPOINT_BLOCK_BYTES).unwrap();
        assert_eq!(records(&dir, stamp.index).unwrap(), state);
        let summary = verify(&dir, stamp.index).unwrap();
        assert_eq!((summary.stamp, summary.records), (stamp, state.len() as u64));
        assert_eq!(summary.bytes, state.iter().map(|record| record.len() as u64).sum::<u64>());
        assert_eq!(summary.header, at(index));
        assert_eq!(dir.bytes(&file_name(stamp.index)).unwrap().len() as u64, stamp.len);
    }
}

#[test]
fn equal_states_give_equal_bytes_and_others_another_hash() {
    let (one, other) = (Scratch::new(), Scratch::new());
    let state = three_blocks();
    let stamp = take(&one, &header(), &state).unwrap();
    assert_eq!(take(&other, &header(), &state).unwrap(), stamp);
    assert_eq!(one.bytes(&file_name(AT)), other.bytes(&file_name(AT)));
    let mut changed = state.clone();
    changed[1][10] ^= 1;
    assert_ne!(take(&other, &header(), &changed).unwrap().hash, stamp.hash);
    // The same bytes, divided otherwise.
    let split = vec![state[0].clone(), state[1].clone(), b"the".to_vec(), b" last one".to_vec()];
    assert_ne!(take(&other, &header(), &split).unwrap().hash, stamp.hash);
    let mut elsewhere = header();
    elsewhere.outputs.0[3] ^= 1;
    assert_ne!(take(&other, &elsewhere, &state).unwrap().hash, stamp.hash);
}

#[test]
fn what_compresses_is_smaller_and_what_does_not_hardly_larger() {
    let dir = Scratch::new();
    let plain = take(&dir, &header(), &[vec![0; RECORD_BYTES]]).unwrap();
    assert!(plain.len < 10_000, "{}", plain.len);
    let noisy = take(&dir, &header(), &[noise(RECORD_BYTES, 1)]).unwrap();
    assert!(noisy.len < RECORD_BYTES as u64 + 1000, "{}", noisy.len);
}

#[test]
fn a_record_that_is_too_long_leaves_nothing_behind() {
    let dir = Scratch::new();
    let error = take(&dir, &header(), &[vec![0; RECORD_BYTES + 1]]).unwrap_err();
    assert!(matches!(error, CheckpointError::State(SinkError::TooLong { .. })), "{error}");
    assert_eq!(dir.list().unwrap(), Vec::<String>::new());
}

#[test]
fn writing_stops_when_it_is_told_to() {
    let (dir, seen) = (Scratch::new(), Arc::new(AtomicU64::new(0)));
    let blocks = seen.clone();
    let pace = move |bytes| {
        assert!(bytes > 0);
        match blocks.fetch_add(1, Ordering::Relaxed) {
            1 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let mut writer = Writer::new(&dir, &header(), Box::new(pace)).unwrap();
    writer.block = SMALL;
    let stopped = three_blocks().iter().find_map(|record| writer.record(record).err());
    assert!(matches!(stopped, Some(SinkError::Io(_))));
    // A state that goes on regardless gets nowhere.
    assert!(writer.record(b"more").is_err());
    assert!(matches!(writer.finish(), Err(CheckpointError::Stopped)));
    assert_eq!(seen.load(Ordering::Relaxed), 2);
    assert_eq!(dir.list().unwrap(), Vec::<String>::new());
}

#[test]
fn a_long_checkpoint_is_synced_on_the_way() {
    let dir = Scratch::new();
    let records = CHECKPOINT_SYNC_BYTES.div_ceil(RECORD_BYTES as u64);
    let mut writer = Writer::new(&dir, &header(), unhurried()).unwrap();
    for number in 0..=records {
        writer.record(&noise(RECORD_BYTES, number)).unwrap();
    }
    let found = dir.after_crash(crate::store::scratch::Loss::None);
    let synced = dir.after_crash(crate::store::scratch::Loss::All);
    assert!(synced.bytes(&part_name(AT)).is_none(), "its name is not synced before it is whole");
    assert!(found.bytes(&part_name(AT)).unwrap().len() as u64 > CHECKPOINT_SYNC_BYTES);
    assert!(dir.synced(&part_name(AT)) >= CHECKPOINT_SYNC_BYTES);
}

/// Adds up what it is asked to.
#[derive(Clone, Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Frozen = Self;
    fn identity(&self) -> Identity {
        header().service
    }
    fn step(&mut self, _: &mut Context<'_>, _: Step<'_>) -> Bytes {
        self.0 += 1;
        Bytes::new()
    }
    fn freeze(&self) -> Self {
        self.clone()
    }
    fn restore(&mut self, source: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let record = source.record()?.and_then(|record| record[..].try_into().ok());
        self.0 = u64::from_le_bytes(record.ok_or(RestoreError::Missing { missing: "sum" })?);
        Ok(())
    }
}

impl Freeze for Sum {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        sink.record(&self.0.to_le_bytes())
    }
}

fn unit() -> Unit<Sum> {
    let mut unit = Unit::new(Sum::default());
    let origin =
        EntryOrigin { place: ReplicaId::A, incarnation: Incarnation(11), number: OriginNumber(0) };
    for index in 1..=AT.0 {
        let (index, time) = (Index(index), LogTime(index));
        let kind = match index.0 {
            1 => EntryKind::Genesis { seed: [0; 32] },
            _ => InputKind::SessionOpenFor { owner: crate::ids::OwnerId(1), token: Nonce(index.0) }
                .into(),
        };
        unit.execute(&Entry { index, epoch: Epoch(5), time, origin, kind });
    }
    unit
}

fn header_of(unit: &Unit<Sum>) -> Header {
    Header { outputs: unit.digest(), ..header() }
}

#[test]
fn a_unit_comes_back_as_it_was() {
    let (dir, unit) = (Scratch::new(), unit());
    let stamp = write(&dir, &header_of(&unit), &unit.freeze(), unhurried()).unwrap();
    let (summary, again) = load(&dir, AT, Sum::default(), UnitConfig::default()).unwrap();
    assert_eq!(summary.stamp, stamp);
    assert_eq!(again.freeze().to_bytes().unwrap(), unit.freeze().to_bytes().unwrap());
}

#[test]
fn a_state_that_is_not_the_headers_is_not_used() {
    let (dir, unit) = (Scratch::new(), unit());
    let mut other = header_of(&unit);
    other.outputs = Digest([3; 16]);
    let mut writer = Writer::new(&dir, &other, unhurried()).unwrap();
    unit.freeze().write(&mut writer).unwrap();
    writer.finish().unwrap();
    let error = load(&dir, AT, Sum::default(), UnitConfig::default()).err().unwrap();
    assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
    let mut writer = Writer::new(&dir, &header_of(&unit), unhurried()).unwrap();
    writer.record(b"no unit").unwrap();
    writer.finish().unwrap();
    let error = load(&dir, AT, Sum::default(), UnitConfig::default()).err().unwrap();
    assert!(matches!(error, LoadError::State { .. }), "{error}");
}
