use std::io::ErrorKind;
use std::path::PathBuf;

use super::*;
use crate::ids::{Epoch, Incarnation, Lineage, Nonce, PairId, ReplicaId};
use crate::record::{Members, Origin, Record};
use crate::store::scratch::{Fault, Loss, Scratch, wrong};

fn record(epoch: u64) -> Record {
    Record {
        pair: PairId([7; 16]),
        lineage: Lineage(1),
        epoch: Epoch(epoch),
        members: Members::both(Incarnation(11), Incarnation(12)),
        asker: ReplicaId::A,
        nonce: Nonce(epoch + 100),
        origin: Origin::Formed,
    }
}

fn membership(epoch: u64) -> Membership {
    Membership {
        record: Some(record(epoch)),
        asked: vec![record(epoch + 1), record(epoch + 2)],
        witness: 1,
    }
}

fn loaded(dir: &Scratch) -> Option<Membership> {
    MembershipStore::load(dir).unwrap().1
}

/// A directory in which 1 and then 2 were saved.
fn saved() -> Scratch {
    let dir = Scratch::new();
    let (mut store, none) = MembershipStore::load(&dir).unwrap();
    assert_eq!(none, None);
    store.save(&membership(1)).unwrap();
    store.save(&membership(2)).unwrap();
    dir
}

#[test]
fn what_was_saved_last_is_loaded() {
    let dir = saved();
    assert_eq!(loaded(&dir), Some(membership(2)));
    let none = Membership { record: None, asked: Vec::new(), witness: 0 };
    MembershipStore::load(&dir).unwrap().0.save(&none).unwrap();
    assert_eq!(loaded(&dir), Some(none.clone()));
    assert_eq!(loaded(&dir.after_crash(Loss::All)), Some(none));
}

#[test]
fn a_crash_anywhere_in_saving_leaves_the_old_or_the_new_one_and_for_good() {
    for operation in 1.. {
        let dir = saved();
        let (mut store, _) = MembershipStore::load(&dir).unwrap();
        dir.fail_at(operation, Fault::Crash);
        let done = store.save(&membership(3));
        if !dir.struck() {
            done.unwrap();
            break;
        }
        for loss in Loss::all() {
            let found = dir.after_crash(loss);
            let first = loaded(&found).unwrap();
            let known = [membership(2), membership(3)];
            assert!(known.contains(&first), "{operation} {loss:?}");
            assert!(done.is_err() || first == membership(3), "{operation} {loss:?}");
            // Whatever was found is in both copies now: neither a power cut nor the loss of one
            // of them turns it back.
            for name in NAMES {
                let later = found.after_crash(Loss::All);
                later.put(name, b"gone");
                assert_eq!(loaded(&later), Some(first.clone()), "{operation} {loss:?} {name}");
            }
        }
    }
}

#[test]
fn a_crash_in_the_first_save_is_as_if_nothing_had_been_saved_or_all() {
    for operation in 1.. {
        let dir = Scratch::new();
        let (mut store, _) = MembershipStore::load(&dir).unwrap();
        dir.fail_at(operation, Fault::Crash);
        let done = store.save(&membership(1));
        if !dir.struck() {
            done.unwrap();
            break;
        }
        for loss in Loss::all() {
            let found = loaded(&dir.after_crash(loss));
            assert!(found.is_none() || found == Some(membership(1)), "{operation} {loss:?}");
        }
    }
}

#[test]
fn a_crash_in_loading_changes_nothing() {
    for operation in 1.. {
        let dir = saved();
        dir.fail_at(operation, Fault::Crash);
        let done = MembershipStore::load(&dir);
        if !dir.struck() {
            done.unwrap();
            break;
        }
        for loss in Loss::all() {
            assert_eq!(loaded(&dir.after_crash(loss)), Some(membership(2)));
        }
    }
}

#[test]
fn after_a_failure_nothing_more_is_said_to_be_saved() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for operation in 1.. {
            let dir = saved();
            let (mut store, _) = MembershipStore::load(&dir).unwrap();
            dir.fail_at(operation, Fault::Error(kind));
            let done = store.save(&membership(3));
            if !dir.struck() {
                done.unwrap();
                break;
            }
            assert!(matches!(done, Err(MembershipError::Io { .. })), "{operation}");
            assert!(matches!(store.save(&membership(4)), Err(MembershipError::Failed)));
            let next = loaded(&dir).unwrap();
            assert!([membership(2), membership(3)].contains(&next), "{operation}");
        }
    }
}

#[test]
fn one_wrong_copy_does_no_harm() {
    let dir = saved();
    for name in NAMES {
        let bytes = dir.bytes(name).unwrap();
        for other in wrong(&bytes) {
            let found = dir.copy();
            found.put(name, &other);
            assert_eq!(loaded(&found), Some(membership(2)));
            assert_eq!(found.bytes(name).unwrap().len(), COPY_BYTES, "it is mended");
        }
        dir.put(name, &bytes);
    }
}

#[test]
fn two_wrong_copies_are_noticed() {
    let dir = saved();
    let [one, other] = NAMES.map(|name| dir.bytes(name).unwrap());
    // An empty file beside a damaged one is what a crash in the first save leaves.
    let pairs = wrong(&one).zip(wrong(&other)).filter(|(one, _)| !one.is_empty());
    for (one, other) in pairs {
        let found = dir.copy();
        found.put(NAMES[0], &one);
        found.put(NAMES[1], &other);
        let error = MembershipStore::load(&found).unwrap_err();
        let named =
            matches!(error, MembershipError::Damaged { .. } | MembershipError::Version { .. });
        assert!(named, "{error}");
    }
    let mut store = MembershipStore::start_anew(&dir);
    store.save(&membership(9)).unwrap();
    assert_eq!(loaded(&dir), Some(membership(9)));
}

#[test]
fn a_copy_in_the_others_place_does_not_count() {
    let dir = saved();
    let [one, other] = NAMES.map(|name| dir.bytes(name).unwrap());
    dir.put(NAMES[0], &other);
    dir.put(NAMES[1], &one);
    assert!(matches!(MembershipStore::load(&dir), Err(MembershipError::Damaged { .. })));
}

#[test]
fn another_version_is_named_if_there_is_nothing_else() {
    let dir = saved();
    for name in NAMES {
        let mut bytes = dir.bytes(name).unwrap();
        bytes[8] = 2;
        dir.put(name, &bytes);
    }
    let error = MembershipStore::load(&dir).unwrap_err();
    assert!(matches!(error, MembershipError::Version { found: 2, .. }), "{error}");
}

#[test]
fn the_fixture_of_this_version_is_read() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/membership-v1");
    let (dir, again) = (Scratch::new(), saved());
    for name in NAMES {
        let path = folder.join(name);
        let kept = std::fs::read(&path).unwrap_or_else(|_| {
            // Only where there is none: a file that was released is never replaced.
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, again.bytes(name).unwrap()).unwrap();
            panic!("{} was missing and has been written: commit it", path.display())
        });
        assert_eq!(kept, again.bytes(name).unwrap(), "{name} is written otherwise: a version");
        dir.put(name, &kept);
    }
    assert_eq!(loaded(&dir), Some(membership(2)));
}
