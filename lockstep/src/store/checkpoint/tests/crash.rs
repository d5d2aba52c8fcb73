//! Whatever operation fails, or is the last one before the power goes.

use std::io::ErrorKind;

use super::*;
use crate::store::scratch::{Fault, Loss};

fn indices(dir: &Scratch) -> Vec<u64> {
    list(dir).unwrap().whole.iter().map(|summary| summary.stamp.index.0).collect()
}

/// A directory with two checkpoints, and what the next start makes of what a crash left.
fn two() -> Scratch {
    let dir = Scratch::new();
    for index in [10, 20] {
        take(&dir, &at(index), &three_blocks()).unwrap();
    }
    dir
}

#[test]
fn a_crash_anywhere_in_writing_leaves_the_others_and_no_half_of_it() {
    let mut last = 0;
    for operation in 1.. {
        let dir = two();
        dir.fail_at(operation, Fault::Crash);
        let done = take(&dir, &at(30), &three_blocks());
        if !dir.struck() {
            done.unwrap();
            break;
        }
        last = operation;
        let said = done.is_ok();
        for loss in Loss::all() {
            let found = dir.after_crash(loss);
            tidy(&found, None).unwrap();
            let listed = indices(&found);
            assert!(listed == [10, 20] || listed == [10, 20, 30], "{operation} {loss:?}");
            assert!(!said || listed.len() == 3, "{operation} {loss:?}: said to be there");
            for index in listed {
                verify(&found, Index(index)).unwrap();
            }
            assert!(found.list().unwrap().iter().all(|name| parse_name(name).unwrap().1));
        }
    }
    assert!(last > 8, "{last} operations");
}

#[test]
fn any_failing_operation_is_reported_and_leaves_no_half() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for operation in 1.. {
            let dir = two();
            dir.fail_at(operation, Fault::Error(kind));
            let done = take(&dir, &at(30), &three_blocks());
            if !dir.struck() {
                done.unwrap();
                break;
            }
            // An attempt at removing a leftover may fail without harm only if there is none.
            match done.expect_err("a failure is not passed over") {
                CheckpointError::Io { source, .. } => assert_eq!(source.kind(), kind),
                other => panic!("{other}"),
            }
            assert!(!dir.list().unwrap().contains(&part_name(Index(30))), "{operation}");
            for index in indices(&dir) {
                verify(&dir, Index(index)).unwrap();
            }
        }
    }
}

#[test]
fn a_failing_read_is_no_damage() {
    for operation in 1.. {
        let dir = two();
        dir.fail_at(operation, Fault::Error(ErrorKind::Other));
        let done = verify(&dir, Index(20));
        if !dir.struck() {
            done.unwrap();
            break;
        }
        assert!(!done.unwrap_err().is_damage(), "{operation}");
    }
}

#[test]
fn a_second_attempt_replaces_what_the_first_one_left() {
    let dir = two();
    dir.put(&part_name(Index(30)), &[1; 100_000]);
    take(&dir, &at(30), &three_blocks()).unwrap();
    verify(&dir, Index(30)).unwrap();
    take(&dir, &at(30), &three_blocks()).unwrap();
    assert_eq!(indices(&dir), [10, 20, 30]);
}

#[test]
fn the_newest_are_kept_and_those_that_are_read() {
    let dir = two();
    for index in [30, 40, 50] {
        take(&dir, &at(index), &[vec![1]]).unwrap();
    }
    let kept = keep(&dir, 2, &[Index(20)]).unwrap();
    assert_eq!(kept.kept, [20, 40, 50].map(Index));
    assert_eq!(kept.removed, [10, 30].map(Index));
    assert_eq!(indices(&dir.after_crash(Loss::All)), [20, 40, 50]);
    assert_eq!(keep(&dir, 5, &[]).unwrap().removed, []);
}

#[test]
fn an_unusable_one_does_not_count_and_goes_when_enough_are_newer() {
    let dir = two();
    dir.put(&file_name(Index(15)), b"nothing");
    dir.put(&file_name(Index(30)), b"nothing");
    assert_eq!(keep(&dir, 3, &[]).unwrap().removed, []);
    let kept = keep(&dir, 1, &[]).unwrap();
    assert_eq!((kept.kept, kept.removed), (vec![Index(20)], vec![Index(10), Index(15)]));
    assert!(dir.bytes(&file_name(Index(30))).is_some());
}

#[test]
fn a_crash_in_retention_loses_nothing_that_is_to_be_kept() {
    for operation in 1.. {
        let dir = two();
        take(&dir, &at(30), &[vec![1]]).unwrap();
        dir.fail_at(operation, Fault::Crash);
        let done = keep(&dir, 1, &[]);
        if !dir.struck() {
            done.unwrap();
            break;
        }
        for loss in Loss::all() {
            let found = dir.after_crash(loss);
            verify(&found, Index(30)).unwrap();
        }
    }
}

#[test]
fn tidying_leaves_what_is_wanted_and_what_is_not_ours() {
    let dir = two();
    for name in [part_name(Index(30)), part_name(Index(31)), "journal-1".into(), "x.part".into()] {
        dir.put(&name, b"bytes");
    }
    tidy(&dir, Some(Index(31))).unwrap();
    let mut names = dir.list().unwrap();
    names.retain(|name| name != &file_name(Index(10)) && name != &file_name(Index(20)));
    assert_eq!(names, [&part_name(Index(31)), "journal-1", "x.part"]);
}
