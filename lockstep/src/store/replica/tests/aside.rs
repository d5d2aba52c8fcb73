//! Logs that are set aside, and that are not there.

use super::*;

fn member() -> Membership {
    Membership { record: Some(record()), ..Membership::default() }
}

/// A member's log over several segments, with a checkpoint in a later one.
fn in_segments() -> (MemoryDirectory, ReplicaStore) {
    let disk = MemoryDirectory::new();
    let small = StorageSettings { segment_bytes: 32 << 10, ..settings() };
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
        assert_eq!((found.membership, found.held), (member(), Index(0)));
        let aside = disk.contents("journal-0000000001.damaged");
        assert!(aside.is_some(), "what was set aside is there for whoever wants to look at it");
    }
    let (mut store, _) = opened(&disk);
    store.save(&Membership::default()).unwrap();
    assert_eq!(opened(&disk).1.damage, None, "it claims nothing any more");
}
