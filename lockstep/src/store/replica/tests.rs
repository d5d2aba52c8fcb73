//! What is found on a disk, and what is kept on it.

use super::opening::{OpenError, open};
use super::settings::StorageSettings;
use super::store::ReplicaStore;
use super::testing::*;
use super::*;
use crate::digest::Digest;
use crate::ids::{Index, Lineage};
use crate::proto::io::Membership;
use crate::record::{Members, Origin, Record};
use crate::store::home::HomeError;
use crate::store::memory::MemoryDirectory;
use crate::unit::Unit;
use crate::wire::frames::LogPosition;

mod aside;
mod inline;
mod reset;

#[test]
fn a_new_directory_is_told_from_one_that_was_used() {
    let disk = MemoryDirectory::new();
    assert_eq!(opened(&disk).1.disk, None);
    assert_eq!(opened(&disk).1.disk, None, "to have looked is no use");

    let log = entries(10, 20);
    with_log(&disk, &log);
    let found = opened(&disk).1.disk.unwrap();
    assert_eq!((found.last_index, found.lineage), (Index(10), Lineage(3)));
    assert_eq!(found.membership, Membership::default());
    let last = LogPosition { index: Index(10), log_digest: history(&log, 10).log_digest };
    let first = LogPosition { index: Index(0), log_digest: Digest::ZERO };
    assert_eq!((found.points.first(), found.points.last()), (Some(&last), Some(&first)));
}

#[test]
fn the_state_is_restored_up_to_what_was_surely_released() {
    let disk = MemoryDirectory::new();
    let log = entries(10, 20);
    with_log(&disk, &log);
    checkpoint(&disk, history(&log, 4));
    checkpoint(&disk, history(&log, 8));
    let (mut store, _) = opened(&disk);
    let plan = store.plan(None, 100).unwrap();
    assert_eq!(plan.target, MARK.index);
    let starts: Vec<_> = plan.starts.iter().map(|start| start.checkpoint).collect();
    assert_eq!(starts, [Some(Index(4)), None], "none after the target, the newest first");

    // To join at entry 3 means to give up what comes after it, checkpoints too.
    let plan = store.plan(Some(Index(3)), 100).unwrap();
    assert_eq!((plan.target, plan.starts.len()), (Index(3), 1));
    drop(store);
    let (store, found) = opened(&disk);
    assert_eq!(found.disk.unwrap().last_index, Index(3));
    assert!(store.checkpoints.is_empty());
}

#[test]
fn a_checkpoint_of_what_never_became_durable_is_dropped() {
    let disk = MemoryDirectory::new();
    let log = entries(10, 20);
    with_log(&disk, &log[..8]);
    checkpoint(&disk, history(&log, 5));
    checkpoint(&disk, history(&log, 10));
    let mut other = history(&log, 7);
    other.log_digest = Digest([9; 16]);
    checkpoint(&disk, other);
    let (store, _) = opened(&disk);
    let kept: Vec<_> = store.checkpoints.iter().map(|kept| kept.stamp.index).collect();
    assert_eq!(kept, [Index(5)]);
}

#[test]
fn a_damaged_log_is_set_aside_once_and_is_nothing_new() {
    let disk = MemoryDirectory::new();
    with_log(&disk, &entries(10, 20));
    const SEGMENT: &str = "journal-0000000001";
    let mut bytes = disk.contents(SEGMENT).unwrap();
    // The segment's header is whole in two places; what is between is not.
    bytes[4096 + 60] ^= 1;
    bytes.truncate(bytes.len() - 4096);
    disk.put(SEGMENT, &bytes);
    let (store, found) = opened(&disk);
    assert!(found.damage.is_some());
    assert_eq!(found.disk.unwrap().points, []);
    assert_eq!(store.journal.held().0, Index(0));
    drop(store);
    assert!(disk.contents(&format!("{SEGMENT}.damaged")).is_some());
    let (_, again) = opened(&disk);
    assert_eq!(again.damage, None);
    assert!(again.disk.is_some(), "a CoServer that lost its log is not a new one");
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let disk = MemoryDirectory::new();
    with_log(&disk, &entries(5, 20));
    let other = refused(&disk, Who { place: ReplicaId::B, ..who() });
    assert!(matches!(other, OpenError::Home(HomeError::OtherPlace { .. })), "{other}");
    let copy = refused(&disk.copy(), who());
    assert!(matches!(copy, OpenError::Home(HomeError::Copied)), "{copy}");

    let mut service = who();
    service.service.name = "another".into();
    let foreign = refused(&disk, service.clone());
    assert!(matches!(foreign, OpenError::OtherService { .. }), "{foreign}");
    // Also without a `home` that says so.
    let log = entries(5, 20);
    checkpoint(&disk, history(&log, 5));
    let mut store = opened(&disk).0;
    store.computed_by = service.service.clone();
    store.renew_home();
    let foreign = refused(&disk, service);
    assert!(matches!(foreign, OpenError::OtherService { .. }), "{foreign}");
}

/// With other settings, and of another version.
fn changed() -> [Who; 2] {
    let set = Service { configuration: Digest([1; 16]), ..who().service };
    let newer = Service { version: 2, ..who().service };
    [set, newer].map(|service| Who { service, ..who() })
}

#[test]
fn a_log_that_something_else_computed_is_refused_and_left_as_it_is() {
    let disk = MemoryDirectory::new();
    // Nothing was computed yet.
    for who in changed() {
        open(Box::new(disk.clone()), who, &settings(), false, 1).unwrap();
    }
    let log = entries(10, 20);
    with_log(&disk, &log);
    for who in changed() {
        let error = refused(&disk, who);
        assert!(matches!(error, OpenError::OtherBehaviour { .. }), "{error}");
        assert!(error.to_string().contains("`--adopt`"), "{error}");
    }
    let (_, found) = opened(&disk);
    assert_eq!((found.damage, found.disk.unwrap().last_index), (None, Index(10)));
}

#[test]
fn a_log_that_is_adopted_is_the_new_services_once_it_is_a_member_with_it() {
    for who in changed() {
        let disk = MemoryDirectory::new();
        with_log(&disk, &entries(10, 20));
        let adopting = || open(Box::new(disk.clone()), who.clone(), &settings(), true, 1).unwrap();
        // Opened, and no more: the settings can still be put back.
        drop(adopting());
        drop(opened(&disk));
        let (mut store, _) = adopting();
        assert!(store.plan(None, 100).unwrap().otherwise.is_some());
        let next = Record { lineage: Lineage(4), origin: Origin::Adopted, ..record() };
        let asked = Membership { record: None, asked: vec![next], ..Membership::default() };
        let elsewhere = Record { members: Members::alone(ReplicaId::B, WHO), ..next };
        let same = Membership { record: Some(record()), ..asked.clone() };
        let other = Membership { record: Some(elsewhere), ..asked.clone() };
        for no_member in [Membership::default(), same, other, asked.clone()] {
            store.save(&no_member).unwrap();
        }
        // Put back in between, it counts as before.
        store.save(&Membership { record: Some(record()), ..Membership::default() }).unwrap();
        drop(store);
        drop(opened(&disk));
        let (mut store, _) = adopting();
        store.save(&Membership { record: Some(next), ..asked }).unwrap();
        drop(store);
        assert!(matches!(refused(&disk, self::who()), OpenError::OtherBehaviour { .. }));
        let (_, found) = open(Box::new(disk), who, &settings(), false, 1).unwrap();
        assert_eq!(found.disk.unwrap().last_index, Index(10));
    }
}

/// Nobody adopts the log of another service.
#[test]
fn a_log_of_another_service_is_refused_also_where_it_is_to_be_adopted() {
    let disk = MemoryDirectory::new();
    with_log(&disk, &entries(5, 20));
    let other = Who { service: Service { name: "another".into(), ..who().service }, ..who() };
    let refused = open(Box::new(disk), other, &settings(), true, 1).err().unwrap();
    assert!(matches!(refused, OpenError::OtherService { .. }), "{refused}");
}

fn memory() -> StorageSettings {
    StorageSettings { durability: Durability::Memory, ..settings() }
}

/// Under `memory`, of any service, and after it.
#[test]
fn nothing_of_a_predecessor_under_memory_counts() {
    let [other, _] = changed();
    for (who, then) in [(who(), memory()), (other, memory()), (who(), settings())] {
        let disk = MemoryDirectory::new();
        let log = entries(10, 20);
        let (mut store, _) =
            open(Box::new(disk.clone()), self::who(), &memory(), false, 1).unwrap();
        store.append(&log, MARK).unwrap();
        store.commit(MARK).unwrap();
        store.save(&Membership { record: Some(record()), ..Membership::default() }).unwrap();
        drop(store);
        checkpoint(&disk, history(&log, 8));
        let (store, found) = open(Box::new(disk), who, &then, false, 1).unwrap();
        assert_eq!(found.disk, None);
        assert_eq!((store.journal.held().0, store.checkpoints.len()), (Index(0), 0));
    }
}

#[test]
fn a_log_that_was_kept_on_disk_is_not_thrown_away_because_the_settings_say_memory_now() {
    let disk = MemoryDirectory::new();
    // There is none yet.
    drop(opened(&disk));
    drop(open(Box::new(disk.clone()), who(), &memory(), false, 1).unwrap());
    with_log(&disk, &entries(10, 20));
    for _ in 0..2 {
        let refused = open(Box::new(disk.clone()), who(), &memory(), false, 1).err().unwrap();
        assert!(matches!(refused, OpenError::KeptLog), "{refused}");
    }
    let (_, found) = opened(&disk);
    assert_eq!((found.damage, found.disk.unwrap().last_index), (None, Index(10)));
    // Nor is what it was a member of.
    let disk = MemoryDirectory::new();
    let (mut store, _) = opened(&disk);
    store.save(&Membership { record: Some(record()), ..Membership::default() }).unwrap();
    drop(store);
    let refused = open(Box::new(disk), who(), &memory(), false, 1).err().unwrap();
    assert!(matches!(refused, OpenError::KeptLog), "{refused}");
}

#[test]
fn retention_keeps_what_a_checkpoint_and_a_joiner_need() {
    let disk = MemoryDirectory::new();
    let log = entries(400, 64 << 10);
    let keep_little = StorageSettings { journal_keep_bytes: 0, checkpoints_kept: 1, ..settings() };
    let (mut store, _) = open(Box::new(disk.clone()), who(), &keep_little, false, 1).unwrap();
    for entry in &log {
        store.append(core::slice::from_ref(entry), MARK).unwrap();
    }
    store.commit(released(400)).unwrap();
    checkpoint(&disk, history(&log, 200));
    store.retain = Some(Index(50));
    store.checkpoint_written().unwrap();
    assert!(store.journal.base().0 <= Index(50), "a joiner reads from there");
    store.retain = None;
    checkpoint(&disk, history(&log, 390));
    store.checkpoint_written().unwrap();
    let base = store.journal.base().0;
    assert!(Index(250) < base && base <= Index(390), "{base:?}");
    assert_eq!(store.oldest_start(), Some(Index(390)));
    assert_eq!(
        store
            .find_common_prefix(&[LogPosition { index: Index(1), log_digest: Digest::ZERO }])
            .unwrap()
            .common,
        None
    );
    let Some(read) = store.read(Index(390)).unwrap() else { panic!("what is after it is kept") };
    assert_eq!(read[0].index, Index(391));
    assert!(read.len() < 10, "no more at once than fits a frame");
    assert_eq!(store.read(Index(10)).unwrap(), None);
}

/// A member that is far ahead of what was released writes checkpoints of entries that are not.
#[test]
fn the_state_at_the_last_released_entry_stays_however_few_are_kept() {
    let disk = MemoryDirectory::new();
    let log = entries(200, 64 << 10);
    let one = StorageSettings { journal_keep_bytes: 0, checkpoints_kept: 1, ..settings() };
    let (mut store, _) = open(Box::new(disk.clone()), who(), &one, false, 1).unwrap();
    let mark = released(120);
    for entry in &log {
        store.append(core::slice::from_ref(entry), mark).unwrap();
    }
    store.commit(mark).unwrap();
    for index in [90, 110, 180, 190] {
        checkpoint(&disk, history(&log, index));
        store.checkpoint_written().unwrap();
    }
    let kept = |store: &ReplicaStore| -> Vec<_> {
        store.checkpoints.iter().map(|summary| summary.stamp.index.0).collect()
    };
    assert_eq!(kept(&store), [110, 190]);
    let plan = store.plan(None, 100).unwrap();
    let starts: Vec<_> = plan.starts.iter().map(|start| start.checkpoint).collect();
    assert_eq!((plan.target, &plan.lost_outputs), (Index(120), &None));
    assert!(starts.contains(&Some(Index(110))), "{starts:?}");
}

/// Outputs would be lost that nobody has said anything about.
#[test]
fn a_state_beyond_the_last_released_entry_is_no_state_to_go_on_from() {
    let disk = MemoryDirectory::new();
    let log = entries(200, 64 << 10);
    let little = StorageSettings { journal_keep_bytes: 0, ..settings() };
    let (mut store, _) = open(Box::new(disk.clone()), who(), &little, false, 1).unwrap();
    for entry in &log {
        store.append(core::slice::from_ref(entry), MARK).unwrap();
    }
    store.commit(released(195)).unwrap();
    for index in [190, 199] {
        checkpoint(&disk, history(&log, index));
        store.checkpoint_written().unwrap();
    }
    assert!(store.journal.base().0 > Index(0));
    assert_eq!(store.plan(None, 100).unwrap().lost_outputs, None);
    store.set_checkpoint_aside(Index(190)).unwrap();
    let plan = store.plan(None, 100).unwrap();
    let lost = plan.lost_outputs.clone().expect("nothing is left at the mark");
    assert!(lost.contains("195") && lost.contains("199"), "{lost}");
    let mut unit = Unit::new(Nothing::default());
    let initial_snapshot = unit.freeze();
    let refused = recover(&mut unit, &initial_snapshot, plan, |_| {}).result.unwrap_err();
    assert!(matches!(&refused, Unrecovered::Unusable(why) if *why == lost), "{refused:?}");
}

#[test]
fn a_checkpoint_that_comes_takes_the_place_of_the_own_one_at_that_entry() {
    let (disk, theirs, log) = (MemoryDirectory::new(), MemoryDirectory::new(), entries(20, 8));
    with_log(&disk, &log);
    checkpoint(&disk, history(&log, 5));
    checkpoint(&disk, history(&log, 10));
    with_log(&theirs, &log);
    checkpoint(&theirs, history(&log, 10));
    let (mut store, _) = opened(&disk);
    let (mut sender, _) = opened(&theirs);
    let (offered, log_digest) = sender.find_common_prefix(&[]).unwrap().checkpoint.unwrap();
    store.begin_chunks(offered).unwrap();
    let bytes = sender.read_chunk(Index(10), 0).unwrap();
    assert_eq!(bytes.len() as u64, offered.len, "one piece");
    store.write_chunk(Index(10), 0, &bytes).unwrap();
    assert_eq!(store.install(offered, log_digest).unwrap(), Ok(()));
    assert_eq!(store.oldest_start(), Some(Index(10)));
    let (store, _) = opened(&disk);
    let found: Vec<_> = store.checkpoints.iter().map(|summary| summary.stamp.index).collect();
    assert_eq!(found, [Index(10)], "it is there, and no other");
    assert_eq!(store.journal.base().0, Index(10));
}

#[test]
fn what_a_joiner_needs_goes_when_it_is_more_than_the_limit() {
    let disk = MemoryDirectory::new();
    let log = entries(400, 64 << 10);
    let kept = |limit| StorageSettings {
        journal_keep_bytes: 0,
        checkpoints_kept: 1,
        retain_limit_bytes: limit,
        ..settings()
    };
    let (mut store, _) = open(Box::new(disk.clone()), who(), &kept(16 << 20), false, 1).unwrap();
    store.retain = Some(Index(50));
    for entry in &log[..200] {
        store.append(core::slice::from_ref(entry), MARK).unwrap();
    }
    store.commit(released(200)).unwrap();
    checkpoint(&disk, history(&log, 200));
    store.checkpoint_written().unwrap();
    assert!(store.read(Index(50)).unwrap().is_some(), "10 MiB are within the limit");
    for entry in &log[200..] {
        store.append(core::slice::from_ref(entry), MARK).unwrap();
    }
    store.commit(released(400)).unwrap();
    checkpoint(&disk, history(&log, 390));
    store.checkpoint_written().unwrap();
    assert_eq!(store.read(Index(50)).unwrap(), None, "more than 20 MiB are not");
    // It is to begin with the checkpoint instead.
    let points = [LogPosition { index: Index(50), log_digest: history(&log, 50).log_digest }];
    let found = store.find_common_prefix(&points).unwrap();
    assert_eq!(found.common, None);
    assert_eq!(found.checkpoint.map(|(file, _)| file.index), Some(Index(390)));
    assert!(store.read(Index(390)).unwrap().is_some());
}

/// It was begun before the end of the log was cut off, and is written after.
#[test]
fn a_checkpoint_of_a_log_that_was_cut_meanwhile_is_none_to_begin_with() {
    let disk = MemoryDirectory::new();
    let log = entries(10, 20);
    with_log(&disk, &log);
    let (mut store, _) = opened(&disk);
    store.truncate(Index(5)).unwrap();
    let mut others = entries(10, 24).split_off(5);
    others.iter_mut().for_each(|entry| entry.time.0 += 1);
    store.append(&others, released(5)).unwrap();
    store.commit(released(5)).unwrap();
    checkpoint(&disk, history(&log, 8));
    store.checkpoint_written().unwrap();
    assert_eq!(store.find_common_prefix(&[]).unwrap().checkpoint, None);
    let plan = store.plan(Some(Index(9)), 100).unwrap();
    let starts: Vec<_> = plan.starts.iter().map(|start| start.checkpoint).collect();
    assert_eq!(starts, [None]);
}
