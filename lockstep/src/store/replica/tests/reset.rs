//! What `--discard` sets aside.

use super::super::reset::{put_back, set_aside};
use super::*;
use crate::store::files::Directory;
use crate::store::memory::seeded;

fn formed() -> Membership {
    member(Record { origin: Origin::Formed, ..record() })
}

fn member(record: Record) -> Membership {
    Membership { record: Some(record), ..Membership::default() }
}

/// A disk with ten entries and a membership.
fn used() -> MemoryDirectory {
    let disk = MemoryDirectory::new();
    let log = entries(10, 20);
    with_log(&disk, &log);
    checkpoint(&disk, history(&log, 4));
    opened(&disk).0.save(&member(record())).unwrap();
    disk
}

fn names(disk: &MemoryDirectory, beginning: &str) -> Vec<String> {
    let names = disk.list().unwrap().into_iter();
    names.filter(|name| name.starts_with(beginning)).collect()
}

#[test]
fn what_is_discarded_comes_back_until_this_one_is_a_member() {
    let disk = used();
    set_aside(&disk).unwrap();
    assert_eq!(opened(&disk).1.disk, None, "it starts as a new one");
    // Once more, after a join that came to nothing: what was set aside first is what counts.
    with_log(&disk, &entries(3, 20));
    set_aside(&disk).unwrap();
    assert_eq!(opened(&disk).1.disk, None);
    assert!(put_back(&disk).unwrap());
    let found = opened(&disk).1.disk.unwrap();
    assert_eq!((found.last_index, found.membership), (Index(10), member(record())));
    assert_eq!(names(&disk, "discard"), Vec::<String>::new());
    assert!(!put_back(&disk).unwrap());
}

#[test]
fn it_goes_once_the_other_has_brought_this_one_up_to_date() {
    let disk = used();
    set_aside(&disk).unwrap();
    let (mut store, _) = opened(&disk);
    store.save(&Membership::default()).unwrap();
    assert_ne!(names(&disk, "discarding-"), Vec::<String>::new());
    store.save(&member(Record { origin: Origin::Joined, ..record() })).unwrap();
    assert_eq!(names(&disk, "discard"), Vec::<String>::new());
    assert!(!put_back(&disk).unwrap());
}

#[test]
fn it_is_kept_where_the_pair_then_began_with_nothing() {
    let disk = used();
    set_aside(&disk).unwrap();
    opened(&disk).0.save(&formed()).unwrap();
    assert!(!put_back(&disk).unwrap());
    assert_ne!(names(&disk, "discarded-journal-"), Vec::<String>::new());
    let found = opened(&disk).1.disk.unwrap();
    assert_eq!(found.membership, formed());
    // There is one set of them.
    set_aside(&disk).unwrap();
    assert_eq!(names(&disk, "discarded-"), Vec::<String>::new());
    assert!(put_back(&disk).unwrap());
    assert_eq!(opened(&disk).1.disk.unwrap().membership, formed());
}

/// After any number of operations of either.
#[test]
fn a_crash_while_files_are_set_aside_or_put_back_loses_none() {
    for aside in [true, false] {
        for operations in 0.. {
            let disk = used();
            if !aside {
                set_aside(&disk).unwrap();
            }
            disk.halt_after(operations);
            let done = if aside { set_aside(&disk).is_ok() } else { put_back(&disk).is_ok() };
            if done {
                break;
            }
            let disk = disk.crash(&mut seeded(operations));
            // As it was, or as it was to be: which of the two, the next start knows.
            let found = opened(&disk).1.disk.map(|disk| disk.last_index);
            assert!(found.is_none() || found == Some(Index(10)), "{aside} {operations}: {found:?}");
            put_back(&disk).unwrap();
            let found = opened(&disk).1.disk.map(|disk| disk.last_index);
            assert_eq!(found, Some(Index(10)), "set aside {aside}, {operations} operations");
        }
    }
}
