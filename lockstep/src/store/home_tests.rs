use std::io::ErrorKind;
use std::path::PathBuf;

use super::*;
use crate::ids::Index;
use crate::store::scratch::{Fault, Loss, Scratch, wrong};

const PAIR: PairId = PairId([7; 16]);

fn open(dir: &dyn Directory) -> Result<Option<Home>, HomeError> {
    Home::open(dir, PAIR, ReplicaId::A)
}

fn service() -> Identity {
    Identity { name: "ledger".into(), version: 3, configuration: Digest([9; 16]) }
}

fn create(dir: &dyn Directory) -> Result<Home, HomeError> {
    Home::create(dir, PAIR, ReplicaId::A, &service(), Kept::OnDisk)
}

fn renew(dir: &dyn Directory) -> Result<Home, HomeError> {
    Home::renew(dir, PAIR, ReplicaId::A, &service(), Kept::OnDisk)
}

fn made() -> Scratch {
    let dir = Scratch::new();
    create(&dir).unwrap();
    dir
}

#[test]
fn an_empty_directory_is_nobodys_until_it_is_made_somebodys() {
    let dir = Scratch::new();
    assert_eq!(open(&dir).unwrap(), None);
    dir.put("lock", b"");
    dir.put("notes.txt", b"an operator's own");
    assert_eq!(open(&dir).unwrap(), None);
    let home = create(&dir).unwrap();
    assert_eq!(home.service, Some(service()));
    assert_eq!(open(&dir).unwrap().as_ref(), Some(&home));
    assert_eq!(open(&dir.after_crash(Loss::All)).unwrap(), Some(home));
    assert!(matches!(create(&dir), Err(HomeError::Exists)));
}

#[test]
fn anothers_directory_is_refused() {
    let dir = made();
    let other = Home::open(&dir, PairId([8; 16]), ReplicaId::A).unwrap_err();
    assert!(matches!(other, HomeError::OtherPair { found: PAIR, .. }), "{other}");
    let other = Home::open(&dir, PAIR, ReplicaId::B).unwrap_err();
    assert!(matches!(other, HomeError::OtherPlace { found: ReplicaId::A, .. }), "{other}");
}

#[test]
fn a_copied_directory_is_refused_and_says_what_to_do() {
    let error = open(&made().copy()).unwrap_err();
    assert!(matches!(error, HomeError::Copied), "{error}");
    assert!(error.to_string().contains("`--discard`"), "{error}");
}

#[test]
fn an_older_copy_that_was_copied_over_it_is_refused() {
    let dir = made();
    let older = dir.bytes(NAME).unwrap();
    renew(&dir).unwrap();
    assert!(open(&dir).unwrap().is_some());
    assert!(open(&dir.after_crash(Loss::All)).unwrap().is_some());
    dir.put(NAME, &older);
    assert!(matches!(open(&dir), Err(HomeError::Copied)));
}

#[test]
fn a_crash_or_error_anywhere_in_renewing_it_leaves_it_ours() {
    for fault in [Fault::Crash, Fault::Error(ErrorKind::StorageFull)] {
        for operation in 1.. {
            let dir = made();
            dir.fail_at(operation, fault);
            let done = renew(&dir);
            if !dir.struck() {
                done.unwrap();
                break;
            }
            for loss in Loss::all() {
                assert!(open(&dir.after_crash(loss)).unwrap().is_some(), "{operation} {loss:?}");
            }
        }
    }
}

#[test]
fn a_home_that_had_no_mark_is_refused_where_there_are_marks() {
    let dir = made();
    dir.put(NAME, &encode(&Home { mark: None, ..open(&dir).unwrap().unwrap() }));
    assert!(matches!(open(&dir), Err(HomeError::Copied)));
}

#[test]
fn files_without_a_home_are_refused() {
    for name in ["journal-1", "membership.1", &checkpoint::file_name(Index(3))] {
        let dir = Scratch::new();
        dir.put(name, b"x");
        assert!(matches!(open(&dir), Err(HomeError::Missing { name: named }) if named == name));
        let error = create(&dir).unwrap_err();
        assert!(matches!(error, HomeError::Missing { .. }), "{error}");
    }
}

#[test]
fn a_crash_anywhere_in_making_it_leaves_it_made_or_nobodys() {
    for operation in 1.. {
        let dir = Scratch::new();
        dir.fail_at(operation, Fault::Crash);
        let done = create(&dir);
        if !dir.struck() {
            done.unwrap();
            break;
        }
        for loss in Loss::all() {
            let found = dir.after_crash(loss);
            match open(&found).unwrap() {
                Some(_) => {}
                None => {
                    assert!(done.is_err(), "{operation} {loss:?}");
                    create(&found).unwrap();
                    open(&found).unwrap().unwrap();
                }
            }
        }
    }
}

#[test]
fn every_failing_operation_is_reported() {
    for (kind, making) in [(ErrorKind::StorageFull, true), (ErrorKind::Other, false)] {
        for operation in 1.. {
            let dir = if making { Scratch::new() } else { made() };
            dir.fail_at(operation, Fault::Error(kind));
            let done = if making { create(&dir).map(Some) } else { open(&dir) };
            if !dir.struck() {
                done.unwrap();
                break;
            }
            assert!(matches!(done, Err(HomeError::Io { .. })), "{operation}");
        }
    }
}

#[test]
fn a_wrong_byte_anywhere_is_noticed() {
    let bytes = made().bytes(NAME).unwrap();
    for other in wrong(&bytes) {
        let dir = made();
        dir.put(NAME, &other);
        let error = open(&dir).unwrap_err();
        let named = matches!(error, HomeError::Damaged { .. } | HomeError::Version { .. });
        assert!(named, "{error}");
    }
}

#[test]
fn another_version_is_named() {
    let dir = made();
    let mut bytes = dir.bytes(NAME).unwrap();
    bytes[8] = 9;
    dir.put(NAME, &bytes);
    assert!(matches!(open(&dir), Err(HomeError::Version { found: 9 })));
}

#[test]
fn the_longest_name_has_room() {
    let name = "n".repeat(NAME_BYTES);
    let service = Identity { name, ..service() };
    let dir = Scratch::new();
    let home = Home::create(&dir, PAIR, ReplicaId::A, &service, Kept::OnDisk).unwrap();
    assert_eq!(home.service, Some(service));
    assert_eq!(open(&dir).unwrap(), Some(home));
}

#[test]
fn it_says_what_the_log_is_worth() {
    let dir = made();
    for kept in [Kept::InMemory, Kept::OnDisk] {
        let home = Home::renew(&dir, PAIR, ReplicaId::A, &service(), kept).unwrap();
        assert_eq!(home.kept, kept);
        assert_eq!(open(&dir).unwrap(), Some(home));
    }
}

#[test]
fn the_fixtures_of_all_versions_are_read_and_the_last_is_still_written_so() {
    use Kept::{InMemory, OnDisk};
    let known =
        [(1, None, OnDisk), (2, Some(service()), OnDisk), (VERSION, Some(service()), InMemory)];
    for (version, service, kept) in known {
        let folder = format!("tests/fixtures/home-v{version}");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(NAME);
        let mark = Some(0x1122_3344_5566_7788);
        let home = Home { pair: PAIR, place: ReplicaId::A, service, kept, mark };
        let released = std::fs::read(&path).unwrap_or_else(|_| {
            // Only where there is none: a file that was released is never replaced.
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, encode(&home)).unwrap();
            panic!("{} was missing and has been written: commit it", path.display())
        });
        if version == VERSION {
            assert_eq!(released, encode(&home), "it is written otherwise: raise the version");
        }
        assert_eq!(decode(&released), Ok(home));
        let dir = Scratch::new();
        dir.put(NAME, &released);
        assert!(matches!(open(&dir), Err(HomeError::Copied)), "its mark is another file's");
    }
}

#[test]
fn a_file_that_says_more_than_its_version_knows_is_damaged() {
    let dir = Scratch::new();
    Home::create(&dir, PAIR, ReplicaId::A, &service(), Kept::InMemory).unwrap();
    for (version, bits) in [(1, MARKED), (2, MARKED | IN_MEMORY), (3, MARKED | 4)] {
        let mut fields = dir.bytes(NAME).unwrap();
        (fields[8], fields[11]) = (version, bits);
        fields.truncate(SEALED_BYTES - 16);
        let dir = Scratch::new();
        dir.put(NAME, &seal(fields));
        assert!(matches!(open(&dir), Err(HomeError::Damaged { .. })), "{version}");
    }
}
