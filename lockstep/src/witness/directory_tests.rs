//! The directory keeps its word: over kills, cut files and changed bytes.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::format::{self, FILE_BYTES, FileMark};
use super::*;
use crate::digest::Digest;
use crate::ids::{Epoch, Incarnation, Lineage, Nonce, PairId};
use crate::record::{Members, Origin, Record};

const PAIR: PairId = PairId([0x5a; 16]);
const OTHER: PairId = PairId([0xa5; 16]);

fn after(present: &Record) -> Record {
    let origin = match present.origin {
        Origin::Vacant => Origin::Formed,
        _ => Origin::Renewal(present.digest()),
    };
    Record {
        epoch: present.epoch.next(),
        members: Members::both(Incarnation(1), Incarnation(2)),
        nonce: Nonce(present.epoch.0 + 100),
        origin,
        ..*present
    }
}

fn advance(store: &mut Directory) -> Record {
    let present = store.present(PAIR).unwrap().record;
    let next = after(&present);
    store.replace(present.digest(), &next).unwrap();
    next
}

/// A directory whose pair has had one record replaced, and the bytes of both.
fn used() -> (TempDir, Held, Held) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Directory::open(dir.path()).unwrap();
    let old = store.enrol(PAIR).unwrap();
    let new = Held::trusted(advance(&mut store));
    (dir, old, new)
}

fn record_file(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join(format!("{PAIR}.record"))
}

fn reopened(dir: &TempDir) -> Result<Held, StoreError> {
    Directory::open(dir.path()).unwrap().present(PAIR)
}

#[test]
fn records_survive_reopening() {
    let (dir, _, new) = used();
    assert_eq!(reopened(&dir).unwrap(), new);
    let mut store = Directory::open(dir.path()).unwrap();
    store.enrol(OTHER).unwrap();
    let loaded = store.load().unwrap();
    let pairs: Vec<_> = loaded.iter().map(|(pair, held)| (*pair, held.is_ok())).collect();
    assert_eq!(pairs, [(PAIR, true), (OTHER, true)]);
}

#[test]
fn a_record_is_replaced_only_by_name() {
    let (dir, old, new) = used();
    let mut store = Directory::open(dir.path()).unwrap();
    let next = after(&new.record);
    for stale in [old.record.digest(), Digest::ZERO] {
        let error = store.replace(stale, &next).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { present } if *present == new.record));
    }
    assert_eq!(store.present(PAIR).unwrap(), new);
    store.replace(new.record.digest(), &next).unwrap();
    assert_eq!(store.present(PAIR).unwrap().record, next);
}

#[test]
fn a_distrusted_record_is_never_replaced_but_by_a_new_lineage() {
    let (dir, _, new) = used();
    let mut store = Directory::open(dir.path()).unwrap();
    let told = Told { lineage: Lineage(1), epoch: Epoch(40) };
    store.distrust(PAIR, told).unwrap();
    store.distrust(PAIR, Told { epoch: Epoch(30), ..told }).unwrap();
    drop(store);
    assert_eq!(reopened(&dir).unwrap().behind, Some(told));
    let mut store = Directory::open(dir.path()).unwrap();
    let next = after(&new.record);
    assert!(store.replace(new.record.digest(), &next).is_err());
    let held = store.new_lineage(PAIR).unwrap();
    assert_eq!(held, Held::trusted(Record::vacant(PAIR, Lineage(2), Epoch(41))));
}

#[test]
fn enrolling_twice_and_unknown_pairs_are_errors() {
    let (dir, ..) = used();
    let mut store = Directory::open(dir.path()).unwrap();
    assert!(matches!(store.enrol(PAIR), Err(StoreError::Enrolled { .. })));
    assert!(matches!(store.present(OTHER), Err(StoreError::Unknown { .. })));
    assert!(matches!(store.new_lineage(OTHER), Err(StoreError::Unknown { .. })));
    let last = Record::vacant(OTHER, Lineage(u32::MAX), Epoch(0));
    assert_eq!(Held::trusted(last).next_lineage(), None);
}

#[test]
fn a_directory_has_one_witness_at_a_time() {
    let (dir, ..) = used();
    let first = Directory::open(dir.path()).unwrap();
    let error = Directory::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(first);
    Directory::open(dir.path()).unwrap();
}

#[test]
fn a_write_cut_anywhere_leaves_the_old_record() {
    let (dir, _, new) = used();
    let next = format::encode(&Held::trusted(after(&new.record)), FileMark::default());
    for len in 0..=FILE_BYTES {
        std::fs::write(dir.path().join(format!("{PAIR}.new")), &next[..len]).unwrap();
        assert_eq!(reopened(&dir).unwrap(), new, "cut at {len}");
    }
    let mut store = Directory::open(dir.path()).unwrap();
    advance(&mut store);
}

#[test]
fn a_damaged_record_is_an_error_that_names_its_file() {
    let (dir, ..) = used();
    let file = record_file(&dir);
    let good = std::fs::read(&file).unwrap();
    let refused = |what: &str| {
        let error = reopened(&dir).unwrap_err();
        let expected = matches!(error, StoreError::Damaged { .. } | StoreError::Version { .. });
        assert!(expected, "{what}: {error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    };
    for len in 0..good.len() {
        std::fs::write(&file, &good[..len]).unwrap();
        refused(&format!("cut to {len}"));
    }
    for at in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        std::fs::write(&file, &bytes).unwrap();
        refused(&format!("bit {at}"));
    }
    std::fs::write(&file, [&good[..], b"x"].concat()).unwrap();
    refused("one byte more");
    std::fs::write(&file, &good).unwrap();
    reopened(&dir).unwrap();
}

/// Copies all files as a backup would, each to a new file.
fn copied(from: &std::path::Path, to: &std::path::Path) {
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        std::fs::copy(item.path(), to.join(item.file_name())).unwrap();
    }
}

/// Grants nothing, survives a restart as such, and goes on with a new lineage above what it
/// is told.
fn comes_up_as_a_wiped_one(path: &std::path::Path, restored: Record) {
    let Record { lineage, .. } = restored;
    let told = Told { lineage, epoch: Epoch(9) };
    for _ in 0..2 {
        let mut store = Directory::open(path).unwrap();
        let held = store.present(PAIR).unwrap();
        assert_eq!(held, Held { record: restored, behind: Some(Told::from(&restored)) });
        assert_eq!(store.load().unwrap()[0].1.as_ref().unwrap(), &held);
        let refused = store.replace(restored.digest(), &after(&restored)).unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
        assert!(matches!(store.enrol(PAIR), Err(StoreError::Enrolled { .. })));
    }
    let mut store = Directory::open(path).unwrap();
    store.distrust(PAIR, told).unwrap();
    drop(store);
    // It knows its own file now, and is not to be trusted all the same.
    let mut store = Directory::open(path).unwrap();
    assert_eq!(store.present(PAIR).unwrap().behind, Some(told));
    let begun = store.new_lineage(PAIR).unwrap();
    assert_eq!(begun, Held::trusted(Record::vacant(PAIR, Lineage(lineage.0 + 1), Epoch(10))));
    drop(store);
    assert_eq!(Directory::open(path).unwrap().present(PAIR).unwrap(), begun);
}

#[test]
fn a_directory_restored_from_a_copy_comes_up_as_a_wiped_one() {
    let (dir, _, new) = used();
    let other = tempfile::tempdir().unwrap();
    copied(dir.path(), other.path());
    comes_up_as_a_wiped_one(other.path(), new.record);
    assert_eq!(reopened(&dir).unwrap(), new, "the original is not touched");
}

#[test]
fn an_old_record_copied_back_into_its_place_is_not_trusted() {
    let (dir, ..) = used();
    let backup = tempfile::tempdir().unwrap();
    copied(dir.path(), backup.path());
    let old = reopened(&dir).unwrap();
    advance(&mut Directory::open(dir.path()).unwrap());
    // Into the same file, as `cp` does.
    copied(backup.path(), dir.path());
    comes_up_as_a_wiped_one(dir.path(), old.record);
}

#[test]
fn an_old_record_moved_back_into_its_place_is_not_trusted() {
    let (dir, ..) = used();
    let aside = dir.path().join("aside");
    std::fs::copy(record_file(&dir), &aside).unwrap();
    let old = reopened(&dir).unwrap();
    advance(&mut Directory::open(dir.path()).unwrap());
    // As another file in its place, as `rsync` and `tar` do.
    std::fs::rename(&aside, record_file(&dir)).unwrap();
    comes_up_as_a_wiped_one(dir.path(), old.record);
}

#[test]
fn a_directory_without_a_mark_is_adopted_once() {
    let dir = tempfile::tempdir().unwrap();
    let old = include_bytes!("../../tests/fixtures/record-v1/formed");
    std::fs::write(record_file(&dir), old).unwrap();
    let formed = reopened(&dir).unwrap();
    assert_eq!((formed.record.origin, formed.behind), (Origin::Formed, None));
    assert_eq!(reopened(&dir).unwrap(), formed);
    advance(&mut Directory::open(dir.path()).unwrap());
    // From now on such a record is one that was copied back.
    std::fs::write(record_file(&dir), old).unwrap();
    comes_up_as_a_wiped_one(dir.path(), formed.record);
}

#[test]
fn an_adoption_that_was_cut_short_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(record_file(&dir), include_bytes!("../../tests/fixtures/record-v1/formed"))
        .unwrap();
    let formed = reopened(&dir).unwrap();
    // All is written but the mark; another file is damaged, which is no reason to stop.
    std::fs::remove_file(dir.path().join("mark")).unwrap();
    std::fs::write(dir.path().join(format!("{OTHER}.record")), b"nonsense").unwrap();
    assert_eq!(reopened(&dir).unwrap(), formed);
    assert!(dir.path().join("mark").exists());
    // Nor is a copy taken for a record that does not know better.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(record_file(&dir), record_file(&copy)).unwrap();
    comes_up_as_a_wiped_one(copy.path(), formed.record);
}

#[test]
fn one_damaged_record_does_not_hide_the_others() {
    let (dir, ..) = used();
    Directory::open(dir.path()).unwrap().enrol(OTHER).unwrap();
    std::fs::write(record_file(&dir), b"nonsense").unwrap();
    let loaded = Directory::open(dir.path()).unwrap().load().unwrap();
    assert!(matches!(loaded[0], (PAIR, Err(StoreError::Damaged { .. }))));
    assert!(matches!(loaded[1], (OTHER, Ok(_))));
}

#[test]
fn another_pairs_record_is_not_taken() {
    let (dir, ..) = used();
    let copied = dir.path().join(format!("{OTHER}.record"));
    std::fs::copy(record_file(&dir), copied).unwrap();
    let error = Directory::open(dir.path()).unwrap().present(OTHER).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

/// A directory in the place of the file that is written first: as good as a disk without room.
#[test]
fn a_write_that_changed_nothing_can_be_tried_again() {
    let (dir, _, new) = used();
    let mut store = Directory::open(dir.path()).unwrap();
    let obstacle = dir.path().join(format!("{PAIR}.new"));
    std::fs::create_dir(&obstacle).unwrap();
    let next = after(&new.record);
    let error = store.replace(new.record.digest(), &next).unwrap_err();
    assert!(matches!(error, StoreError::Unchanged { .. }), "{error}");
    assert_eq!(Stored::from(&Err(error)), Stored::NotThere);
    assert_eq!(store.present(PAIR).unwrap(), new);
    std::fs::remove_dir(&obstacle).unwrap();
    store.replace(new.record.digest(), &next).unwrap();
    drop(store);
    assert_eq!(reopened(&dir).unwrap().record, next);
}

/// What an earlier process left of a file is not written into: a sync of it may have failed.
#[test]
fn a_file_that_is_left_is_not_used_again() {
    let (dir, _, new) = used();
    let mut store = Directory::open(dir.path()).unwrap();
    let left = dir.path().join(format!("{PAIR}.new"));
    std::fs::write(&left, b"half").unwrap();
    let still_open = std::fs::File::open(&left).unwrap();
    let next = after(&new.record);
    store.replace(new.record.digest(), &next).unwrap();
    assert_eq!(still_open.metadata().unwrap().len(), 4);
    assert_eq!(store.present(PAIR).unwrap().record, next);
}

const CHILD: &str = "LOCKSTEP_TEST_WITNESS_DIRECTORY";

/// The killed process of the test below; without a directory there is nothing to do.
#[test]
fn child_that_replaces_records_until_killed() {
    #[expect(clippy::disallowed_methods, reason = "a test's way to speak to its own child")]
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let mut store = Directory::open(dir).unwrap();
    loop {
        let record = advance(&mut store);
        // Not captured by the test harness, as print would be.
        writeln!(std::io::stdout(), "kept {}", record.epoch).unwrap();
    }
}

#[test]
fn what_was_kept_survives_a_kill_at_any_moment() {
    let (dir, ..) = used();
    for round in 1..=10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_replaces_records_until_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let kept = |line: std::io::Result<String>| line.ok()?.split("kept ").nth(1)?.parse().ok();
        let mut acknowledged = lines.filter_map(kept);
        let seen = acknowledged.by_ref().take(round * 3).count();
        assert_eq!(seen, round * 3, "the child stopped by itself");
        child.kill().unwrap();
        let last: Option<u64> = acknowledged.last();
        child.wait().unwrap();
        let present = reopened(&dir).unwrap().record.epoch;
        if let Some(last) = last {
            assert!((last..=last + 1).contains(&present.0), "kept {last}, found {present}");
        }
    }
}
