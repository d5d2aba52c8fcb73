//! Logs that are set aside, and that are not there.

use super::*;
use crate::store::memory::seeded;

fn member() -> Membership {
    Membership { record: Some(record()), ..Membership::default() }
}

/// A member's log over several segments, with a checkpoint in a later one.
fn in_segments() -> (MemoryDirectory, ReplicaStore) {
    in_segments_of(settings())
}

fn in_segments_of(settings: StorageSettings) -> (MemoryDirectory, ReplicaStore) {
    let disk = MemoryDirectory::new();
    let small = StorageSettings { segment_bytes: 32 << 10, ..settings };
    let (mut store, _) = open(Box::new(disk.clone()), who(), &small, false, 1).unwrap();
    let log = entries(20, 3 << 10);
    for entry in &log {
        store.append(core::slice::from_ref(entry), released(12)).unwrap();
        store.commit(released(12)).unwrap();
    }
    store.save(&member()).unwrap();
    checkpoint(&disk, history(&log, 10));
    store.checkpoint_written().unwrap();
    (disk, store)
}

/// What becomes of the scenario if the disk does no more than so many operations, with several
/// seeds for what a crash leaves. It is tried with one operation more each time, until the scenario
/// says that it was all.
fn however_far_it_came(seeds: u64, scenario: impl Fn(u64, u64) -> bool) {
    for operations in 0.. {
        let is_done = (0..seeds).map(|seed| scenario(operations, seed)).last();
        if is_done == Some(true) {
            return;
        }
    }
}

/// A process that dies before the membership says so leaves a member without a log.
#[test]
fn a_member_whose_log_is_gone_has_lost_it() {
    let (disk, mut store) = in_segments();
    assert_eq!(opened(&disk).1.damage, None);
    store.set_aside().unwrap();
    for _ in 0..2 {
        let (_, found) = opened(&disk);
        assert!(found.damage.is_some(), "it would claim its predecessor's place with nothing");
        let found = found.disk.unwrap();
        assert_eq!((found.membership, found.last_index), (member(), Index(0)));
        let aside = disk.contents("journal-0000000001.damaged");
        assert!(aside.is_some(), "what was set aside is there for whoever wants to look at it");
    }
    let (mut store, _) = opened(&disk);
    store.save(&Membership::default()).unwrap();
    assert_eq!(opened(&disk).1.damage, None, "it claims nothing any more");
}

/// Both machines lose power when the pair has just been formed: neither lacks anything.
#[test]
fn a_member_that_never_wrote_an_entry_has_not_lost_its_log() {
    let formed = Membership {
        record: Some(Record { origin: Origin::Formed, ..record() }),
        ..Membership::default()
    };
    however_far_it_came(10, |operations, seed| {
        let disk = MemoryDirectory::new();
        let (mut store, _) = opened(&disk);
        disk.halt_after(operations);
        let is_done = store.save(&formed).is_ok();
        let (_, found) = opened(&disk.crash(&mut seeded(seed)));
        assert_eq!(found.damage, None, "after {operations} operations, seed {seed}");
        match found.disk {
            Some(found) => {
                assert_eq!((&found.membership, found.last_index), (&formed, Index(0)));
                assert_eq!(found.points.len(), 1, "it has the beginning");
            }
            None => assert!(!is_done, "what was saved is there"),
        }
        is_done
    });
}

#[test]
fn a_crash_while_a_log_is_set_aside_leaves_no_shorter_one() {
    however_far_it_came(10, |operations, seed| {
        let (disk, mut store) = in_segments();
        disk.halt_after(operations);
        let is_done = store.set_aside().is_ok();
        let left = disk.crash(&mut seeded(seed));
        let (_, found) = opened(&left);
        let held = found.disk.unwrap().last_index;
        assert!(
            found.damage.is_some() || held == Index(20),
            "after {operations} operations, seed {seed}: a log that ends at {held}"
        );
        is_done
    });
}

/// Where the files of the two fit each other by their numbers, too.
#[test]
fn a_log_that_was_set_aside_does_not_come_back_into_another() {
    let disk = MemoryDirectory::new();
    let small = StorageSettings { segment_bytes: 16 << 10, journal_keep_bytes: 0, ..settings() };
    let (mut store, _) = open(Box::new(disk.clone()), who(), &small, false, 1).unwrap();
    let log = entries(20, 4 << 10);
    store.append(&log[..6], released(6)).unwrap();
    store.commit(released(6)).unwrap();
    store.set_aside().unwrap();
    for at in 1..=20 {
        store.append(&log[at - 1..at], released(at as u64)).unwrap();
        store.commit(released(at as u64)).unwrap();
        checkpoint(&disk, history(&log, at as u64));
        store.checkpoint_written().unwrap();
        let copy = disk.crash(&mut |bound| bound - 1);
        assert!(!take_back(&copy).unwrap());
        let (_, found) = opened(&copy);
        assert_eq!((found.damage, found.disk.unwrap().last_index), (None, Index(at as u64)));
    }
}

#[test]
fn a_log_that_was_set_aside_comes_back_whole_or_is_set_aside_again() {
    however_far_it_came(10, |operations, seed| {
        let (disk, mut store) = in_segments();
        store.set_aside().unwrap();
        drop(store);
        disk.halt_after(operations);
        let is_done = take_back(&disk).is_ok();
        let left = disk.crash(&mut seeded(seed));
        // Whoever does not want it any more finds none.
        let (_, found) = opened(&left.crash(&mut |bound| bound - 1));
        assert!(found.damage.is_some() || found.disk.unwrap().last_index == Index(20));
        let _ = take_back(&left).unwrap();
        let (_, found) = opened(&left);
        assert_eq!((found.damage, found.disk.unwrap().last_index), (None, Index(20)));
        is_done
    });
}

#[test]
fn a_log_that_needs_its_checkpoint_comes_back_with_it_however_it_was_broken_off() {
    however_far_it_came(10, |operations, seed| {
        let little = StorageSettings { journal_keep_bytes: 0, ..settings() };
        let (disk, mut store) = in_segments_of(little);
        assert!(disk.contents("journal-0000000001").is_none(), "it begins at the checkpoint");
        disk.halt_after(operations);
        let is_done = store.set_aside().is_ok();
        let left = disk.crash(&mut seeded(seed));
        let _ = take_back(&left).unwrap();
        let (_, found) = opened(&left);
        assert_eq!(
            (found.damage, found.disk.unwrap().last_index),
            (None, Index(20)),
            "after {operations} operations, seed {seed}"
        );
        is_done
    });
}

#[test]
fn a_crash_while_a_log_takes_the_place_of_one_set_aside_before_mixes_none_of_the_two() {
    however_far_it_came(30, |operations, seed| {
        let (disk, mut store) = in_segments();
        store.set_aside().unwrap();
        drop(store);
        let (mut store, _) = opened(&disk);
        let log = entries(3, 1 << 10);
        store.append(&log, released(1)).unwrap();
        store.commit(released(1)).unwrap();
        disk.halt_after(operations);
        let is_done = store.set_aside().is_ok();
        let left = disk.crash(&mut seeded(seed));
        let _ = take_back(&left).unwrap();
        let (_, found) = opened(&left);
        let held = found.disk.map_or(Index(0), |disk| disk.last_index);
        assert!(
            found.damage.is_some() || held == Index(3),
            "after {operations} operations, seed {seed}: a log that ends at {held}"
        );
        is_done
    });
}
