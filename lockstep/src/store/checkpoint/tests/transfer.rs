//! A checkpoint on its way, interrupted everywhere.

use std::io::ErrorKind;

use super::*;
use crate::limits::CHUNK_BYTES;
use crate::store::scratch::{Fault, Loss};

fn source() -> (Scratch, Stamp) {
    let dir = Scratch::new();
    let mut state = three_blocks();
    state.push(noise(3_000, 9));
    let stamp = take(&dir, &header(), &state).unwrap();
    (dir, stamp)
}

/// Sends until the end, or an error.
fn go_on(
    from: &Scratch,
    incoming: &mut Incoming,
    chunk: usize,
    chunks: usize,
) -> Result<(), IncomingError> {
    let outgoing = Outgoing::open(from, AT).unwrap();
    let wanted = outgoing.stamp();
    for _ in 0..chunks {
        if incoming.is_complete() {
            break;
        }
        let offset = incoming.received();
        let bytes = outgoing.read(offset, chunk).unwrap();
        assert_eq!(incoming.chunk(&wanted, offset, &bytes)?, offset + bytes.len() as u64);
    }
    Ok(())
}

fn same(from: &Scratch, to: &Scratch) {
    assert_eq!(from.bytes(&file_name(AT)), to.bytes(&file_name(AT)));
    assert!(to.bytes(&part_name(AT)).is_none());
}

#[test]
fn it_arrives_as_it_was_sent() {
    let (from, stamp) = source();
    for chunk in [1, 7, 300, CHUNK_BYTES] {
        let to = Scratch::new();
        let mut incoming = Incoming::open(&to, stamp).unwrap();
        go_on(&from, &mut incoming, chunk, usize::MAX).unwrap();
        assert_eq!(incoming.install().unwrap(), verify(&from, AT).unwrap());
        same(&from, &to);
        same(&from, &to.after_crash(Loss::All));
    }
}

#[test]
fn it_is_resumed_after_an_interruption_at_any_chunk() {
    let (from, stamp) = source();
    let chunks = stamp.len.div_ceil(200) as usize;
    let mut resumed = 0;
    for stop in 0..=chunks {
        for loss in Loss::all() {
            let to = Scratch::new();
            let mut incoming = Incoming::open(&to, stamp).unwrap();
            go_on(&from, &mut incoming, 200, stop).unwrap();
            let had = incoming.received();
            drop(incoming);
            let to = to.after_crash(loss);
            let mut incoming = Incoming::open(&to, stamp).unwrap();
            assert!(incoming.received() <= had, "{stop} {loss:?}");
            resumed += u32::from(incoming.received() > 0);
            go_on(&from, &mut incoming, 200, usize::MAX).unwrap();
            incoming.install().unwrap();
            same(&from, &to);
        }
    }
    assert!(resumed > 20, "only {resumed} went on where they were");
}

#[test]
fn a_killed_process_loses_less_than_a_block() {
    // The first block: 512 bytes of header, 32 of its head, 54 of its record.
    let (from, stamp) = source();
    let to = Scratch::new();
    let mut incoming = Incoming::open(&to, stamp).unwrap();
    go_on(&from, &mut incoming, 1, 600).unwrap();
    assert_eq!(incoming.received(), 600);
    drop(incoming);
    assert_eq!(Incoming::open(&to, stamp).unwrap().received(), 598);
    let mut incoming = Incoming::open(&to, stamp).unwrap();
    go_on(&from, &mut incoming, 1000, usize::MAX).unwrap();
    drop(incoming);
    assert!(Incoming::open(&to, stamp).unwrap().is_complete());
}

#[test]
fn a_chunk_that_does_not_belong_there_is_refused_and_changes_nothing() {
    let (from, stamp) = source();
    let to = Scratch::new();
    let mut incoming = Incoming::open(&to, stamp).unwrap();
    go_on(&from, &mut incoming, 700, 2).unwrap();
    let outgoing = Outgoing::open(&from, AT).unwrap();
    let bytes = outgoing.read(1400, 100).unwrap();
    for offset in [0, 1399, 1401, u64::MAX] {
        let error = incoming.chunk(&stamp, offset, &bytes).unwrap_err();
        assert!(matches!(error, IncomingError::Offset { expected: 1400, .. }), "{error}");
    }
    for other in [
        Stamp { index: Index(41), ..stamp },
        Stamp { len: stamp.len + 1, ..stamp },
        Stamp { hash: Digest([4; 16]), ..stamp },
    ] {
        let error = incoming.chunk(&other, 1400, &bytes).unwrap_err();
        assert!(matches!(error, IncomingError::Foreign { .. }), "{error}");
    }
    let rest = (stamp.len - 1400) as usize;
    for len in [0, rest + 1, CHUNK_BYTES + 1] {
        let error = incoming.chunk(&stamp, 1400, &vec![0; len]).unwrap_err();
        assert!(matches!(error, IncomingError::Length { .. }), "{error}");
    }
    assert_eq!(incoming.received(), 1400);
    go_on(&from, &mut incoming, 700, usize::MAX).unwrap();
    let error = incoming.chunk(&stamp, stamp.len, b"x").unwrap_err();
    assert!(matches!(error, IncomingError::Length { most: 0, .. }), "{error}");
    incoming.install().unwrap();
    same(&from, &to);
}

#[test]
fn half_of_it_is_not_installed_and_stays() {
    let (from, stamp) = source();
    let to = Scratch::new();
    let mut incoming = Incoming::open(&to, stamp).unwrap();
    go_on(&from, &mut incoming, 700, 2).unwrap();
    assert!(matches!(incoming.install(), Err(IncomingError::Unfinished { received: 1400, .. })));
    assert!(Incoming::open(&to, stamp).unwrap().received() >= 512);
}

#[test]
fn wrong_bytes_are_not_installed_and_the_next_attempt_begins_anew() {
    let (from, stamp) = source();
    for at in [0, 9, 600, stamp.len as usize - 1] {
        let to = Scratch::new();
        let mut incoming = Incoming::open(&to, stamp).unwrap();
        let mut bytes = Outgoing::open(&from, AT).unwrap().read(0, CHUNK_BYTES).unwrap();
        bytes[at] ^= 4;
        incoming.chunk(&stamp, 0, &bytes).unwrap();
        let error = incoming.install().unwrap_err();
        let IncomingError::Checkpoint(error) = error else { panic!("{error}") };
        assert!(error.is_damage());
        assert_eq!(to.list().unwrap(), Vec::<String>::new());
        assert_eq!(Incoming::open(&to, stamp).unwrap().received(), 0);
    }
}

#[test]
fn another_checkpoint_of_that_index_is_not_installed() {
    let (from, stamp) = source();
    let to = Scratch::new();
    let wanted = Stamp { hash: Digest([4; 16]), ..stamp };
    let mut incoming = Incoming::open(&to, wanted).unwrap();
    let bytes = Outgoing::open(&from, AT).unwrap().read(0, CHUNK_BYTES).unwrap();
    incoming.chunk(&wanted, 0, &bytes).unwrap();
    let error = incoming.install().unwrap_err();
    let other = matches!(
        error,
        IncomingError::Checkpoint(CheckpointError::Other { found, .. }) if found == stamp
    );
    assert!(other, "{error}");
    assert_eq!(to.list().unwrap(), Vec::<String>::new());
}

#[test]
fn what_is_left_of_a_longer_one_is_not_taken_for_this_one() {
    let (from, stamp) = source();
    let to = Scratch::new();
    to.put(&part_name(AT), &from.bytes(&file_name(AT)).unwrap());
    let shorter = Stamp { len: stamp.len - 1, ..stamp };
    assert_eq!(Incoming::open(&to, shorter).unwrap().received(), 0);
}

#[test]
fn any_failing_operation_or_crash_leaves_all_of_it_or_something_to_resume() {
    let (from, stamp) = source();
    let attempt = |to: &Scratch| -> Result<(), IncomingError> {
        let mut incoming = Incoming::open(to, stamp)?;
        go_on(&from, &mut incoming, 1500, usize::MAX)?;
        incoming.install().map(drop)
    };
    for fault in
        [Fault::Error(ErrorKind::StorageFull), Fault::Error(ErrorKind::Other), Fault::Crash]
    {
        for operation in 1.. {
            let to = Scratch::new();
            to.fail_at(operation, fault);
            let done = attempt(&to);
            if !to.struck() {
                done.unwrap();
                break;
            }
            done.unwrap_err();
            for loss in Loss::all() {
                let found = to.after_crash(loss);
                let whole = list(&found).unwrap();
                assert!(whole.unusable.is_empty(), "{fault:?} at {operation}, {loss:?}");
                attempt(&found).unwrap();
                same(&from, &found);
            }
        }
    }
}

#[test]
fn after_a_failed_write_nothing_more_is_taken() {
    let (from, stamp) = source();
    let to = Scratch::new();
    let mut incoming = Incoming::open(&to, stamp).unwrap();
    to.fail_at(1, Fault::Error(ErrorKind::StorageFull));
    go_on(&from, &mut incoming, 700, 1).unwrap_err();
    let error = go_on(&from, &mut incoming, 700, 1).unwrap_err();
    assert!(matches!(error, IncomingError::Failed), "{error}");
    assert!(matches!(incoming.install(), Err(IncomingError::Failed)));
}

#[test]
fn what_a_failed_sync_covered_is_not_resumed() {
    let (from, stamp) = source();
    let to = Scratch::new();
    let mut incoming = Incoming::open(&to, stamp).unwrap();
    go_on(&from, &mut incoming, CHUNK_BYTES, usize::MAX).unwrap();
    let reads = {
        to.fail_at(u64::MAX, Fault::Crash);
        incoming.verify().unwrap();
        to.operations()
    };
    to.fail_at(reads + 1, Fault::Error(ErrorKind::Other));
    incoming.install().unwrap_err();
    assert_eq!(Incoming::open(&to, stamp).unwrap().received(), 0);
}

#[test]
fn reading_past_the_end_gives_nothing() {
    let (from, stamp) = source();
    let outgoing = Outgoing::open(&from, AT).unwrap();
    assert_eq!(outgoing.read(stamp.len, 10).unwrap(), Vec::<u8>::new());
    assert_eq!(outgoing.read(u64::MAX, 10).unwrap(), Vec::<u8>::new());
    assert_eq!(outgoing.read(stamp.len - 3, usize::MAX).unwrap().len(), 3);
}
