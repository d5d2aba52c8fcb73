use super::*;

fn nothing(_: u64) -> u64 {
    0
}

fn everything(bound: u64) -> u64 {
    bound - 1
}

fn with_file(bytes: &[u8]) -> (MemoryDirectory, Box<dyn File>) {
    let directory = MemoryDirectory::new();
    let file = directory.create("f").unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync().unwrap();
    directory.sync().unwrap();
    (directory, file)
}

#[test]
fn what_was_synced_survives_and_the_rest_may() {
    let (directory, file) = with_file(b"old");
    file.write_all_at(b"new and longer", 0).unwrap();
    assert_eq!(directory.crash(&mut nothing).contents("f").unwrap(), b"old");
    assert_eq!(directory.crash(&mut everything).contents("f").unwrap(), b"new and longer");
    assert_eq!(directory.contents("f").unwrap(), b"new and longer");
}

#[test]
fn a_write_strays_in_silence_until_it_is_mended() {
    for (shift, seen) in [(None, [1, 1, 3]), (Some(1), [1, 2, 3])] {
        let (directory, file) = with_file(&[1; 3 * SECTOR]);
        directory.stray(2, shift);
        file.write_all_at(&[3; SECTOR], 2 * SECTOR as u64).unwrap();
        file.write_all_at(&[2; SECTOR], 0).unwrap();
        file.sync().unwrap();
        let firsts = |directory: &MemoryDirectory| {
            let bytes = directory.crash(&mut nothing).contents("f").unwrap();
            [bytes[0], bytes[SECTOR], bytes[2 * SECTOR]]
        };
        assert_eq!(firsts(&directory), seen);
        assert!(directory.has_strayed());
        directory.mend();
        assert_eq!(firsts(&directory), [2, 1, 3]);
        assert!(!directory.has_strayed());
    }
}

#[test]
fn any_subset_of_sectors_may_survive() {
    let (directory, file) = with_file(&[1; 3 * SECTOR]);
    file.write_all_at(&[2; 3 * SECTOR], 0).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let bytes = directory.crash(&mut seeded(seed)).contents("f").unwrap();
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn names_survive_once_the_directory_is_synced() {
    let (directory, _) = with_file(b"x");
    directory.rename("f", "g").unwrap();
    directory.create("h").unwrap();
    let list = |directory: MemoryDirectory| directory.list().unwrap();
    assert_eq!(list(directory.crash(&mut nothing)), ["f"]);
    assert_eq!(list(directory.crash(&mut everything)), ["g", "h"]);
    directory.sync().unwrap();
    assert_eq!(list(directory.crash(&mut nothing)), ["g", "h"]);
    directory.remove("g").unwrap();
    assert_eq!(list(directory.crash(&mut nothing)), ["g", "h"]);
    assert_eq!(list(directory.crash(&mut everything)), ["h"]);
}

#[test]
fn a_sync_after_a_failed_one_proves_nothing_until_it_is_written_again() {
    let (directory, file) = with_file(b"old");
    file.write_all_at(b"new", 0).unwrap();
    directory.inject(Fault { operation: Some(Operation::Sync), nth: 1, error: 5 });
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    file.sync().unwrap();
    assert_eq!(directory.crash(&mut nothing).contents("f").unwrap(), b"old");
    file.write_all_at(b"new", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(directory.crash(&mut nothing).contents("f").unwrap(), b"new");
    assert_eq!(directory.crash(&mut everything).contents("f").unwrap(), b"new");
}

#[test]
fn the_nth_operation_of_a_kind_fails_once() {
    let (directory, file) = with_file(b"");
    directory.inject(Fault { operation: Some(Operation::Write), nth: 2, error: 28 });
    file.write_all_at(b"one", 0).unwrap();
    assert_eq!(file.write_all_at(b"four", 3).unwrap_err().raw_os_error(), Some(28));
    assert_eq!(directory.contents("f").unwrap(), b"onefo", "a part may have been written");
    file.write_all_at(b"four", 3).unwrap();
    assert_eq!(directory.count(Some(Operation::Write)), 4);
}

#[test]
fn a_dead_process_changes_nothing_more() {
    let (directory, file) = with_file(b"");
    directory.halt_after(1);
    file.write_all_at(b"last", 0).unwrap();
    file.write_all_at(b"more", 4).unwrap_err();
    file.sync().unwrap_err();
    directory.rename("f", "g").unwrap_err();
    assert_eq!(directory.crash(&mut everything).contents("f").unwrap(), b"last");
}

#[test]
fn a_seed_gives_the_same_choices_every_time() {
    let draw = |seed| {
        let mut choose = seeded(seed);
        [choose(1000), choose(1000), choose(1000)]
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
}

#[test]
fn a_copy_has_the_files_and_other_marks() {
    let directory = MemoryDirectory::new();
    let file = directory.create("one").unwrap();
    file.write_all_at(b"not synced", 0).unwrap();
    directory.put("two", b"bytes");
    let marks = ["one", "two"].map(|name| directory.mark(name).unwrap());
    assert_ne!(marks[0], marks[1]);
    let copy = directory.copy();
    for (name, mark) in ["one", "two"].into_iter().zip(marks) {
        assert_eq!(copy.contents(name), directory.contents(name));
        assert_ne!(copy.mark(name).unwrap(), mark);
        assert_eq!(directory.crash(&mut |bound| bound - 1).mark(name).unwrap(), mark);
    }
}
