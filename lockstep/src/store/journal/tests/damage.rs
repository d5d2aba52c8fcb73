//! A byte that is flipped, zeroed or missing, anywhere.

use super::*;

/// Three segments, the last one with room, one spare that was used before.
fn journal() -> (MemoryDirectory, Vec<Entry>) {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=6);
    journal.release_before(Index(4)).unwrap();
    for index in 7..=11 {
        journal.append(&entry(index, 0, 300)).unwrap();
    }
    journal.commit(mark(6)).unwrap();
    commit_each(&mut journal, 12..=14);
    let entries = all(&mut journal);
    assert_eq!(journal.segments.len(), 3);
    (directory, entries)
}

/// Opens what is there, as the process that finds it; says whether damage was found. If not, all
/// that was acknowledged must be there.
fn detected(directory: &MemoryDirectory, acknowledged: &[Entry], what: &str) -> bool {
    match Journal::open(directory.share(), IDENTITY, options(2)) {
        Err(JournalError::Version { .. }) => true,
        Err(error) => panic!("{what}: {error}"),
        Ok((_, Recovery { state: State::Damaged(damage), .. })) => {
            assert!(!damage.why.is_empty() && damage.file.starts_with("journal-"));
            true
        }
        Ok((journal, _)) => {
            let from = acknowledged[0].index;
            let found = journal.replay(from).unwrap().map(|item| item.unwrap().0);
            assert!(found.eq(acknowledged.iter().cloned()), "{what}: something was lost");
            assert_eq!(journal.committed(), acknowledged[acknowledged.len() - 1].index, "{what}");
            false
        }
    }
}

fn change_every_byte(change: fn(&[u8], usize) -> Option<Vec<u8>>, least: usize) {
    let (directory, acknowledged) = journal();
    let mut found = 0;
    for name in directory.list().unwrap() {
        let bytes = directory.contents(&name).unwrap();
        // Nobody reads what a spare holds.
        let step = if spare_number(&name).is_some() { 61 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            let Some(changed) = change(&bytes, at) else { continue };
            directory.put(&name, &changed);
            found += usize::from(detected(&directory, &acknowledged, &format!("{name} at {at}")));
            directory.put(&name, &bytes);
        }
    }
    assert!(found >= least, "only {found} changes were noticed");
}

#[test]
fn a_flipped_byte_is_noticed_or_harmless() {
    // Three headers, and one sector for each batch at least.
    change_every_byte(
        |bytes, at| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0x20;
            Some(bytes)
        },
        3 * HEADER_BYTES + 6 * 512,
    );
}

#[test]
fn a_zeroed_byte_is_noticed_or_harmless() {
    change_every_byte(
        |bytes, at| {
            let mut bytes = bytes.to_vec();
            (bytes[at] != 0).then(|| {
                bytes[at] = 0;
                bytes
            })
        },
        500,
    );
}

#[test]
fn a_missing_byte_is_noticed() {
    change_every_byte(
        |bytes, at| {
            let mut bytes = bytes.to_vec();
            bytes.remove(at);
            Some(bytes)
        },
        3 * SMALL as usize,
    );
}

#[test]
fn a_file_cut_anywhere_is_noticed() {
    change_every_byte(|bytes, at| Some(bytes[..at].to_vec()), 3 * SMALL as usize);
}

#[test]
fn a_missing_segment_is_noticed_unless_it_is_the_oldest() {
    let (directory, acknowledged) = journal();
    let names: Vec<_> = directory
        .list()
        .unwrap()
        .into_iter()
        .filter(|name| segment_number(name).is_some())
        .collect();
    for (at, name) in names.iter().enumerate() {
        let copy = directory.crash(&mut |bound| bound - 1);
        copy.take(name).unwrap();
        if at > 0 {
            assert!(detected(&copy, &acknowledged, name));
        } else {
            // Then the journal begins later, and says so.
            let (journal, recovery) = open(&copy);
            assert_eq!(recovery.state, State::Whole);
            assert!(journal.base().0 > Index(3));
        }
    }
}

#[test]
fn swapped_and_stale_segments_are_noticed() {
    let (directory, acknowledged) = journal();
    let names: Vec<_> = directory
        .list()
        .unwrap()
        .into_iter()
        .filter(|name| segment_number(name).is_some())
        .collect();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let copy = directory.crash(&mut |bound| bound - 1);
        let (first, second) = (copy.take(&names[one]).unwrap(), copy.take(&names[other]).unwrap());
        copy.put(&names[one], &second);
        copy.put(&names[other], &first);
        assert!(detected(&copy, &acknowledged, "swapped"));
    }
    // A batch of one segment written over the same place of another.
    let copy = directory.crash(&mut |bound| bound - 1);
    let (from, mut to) = (copy.contents(&names[0]).unwrap(), copy.contents(&names[1]).unwrap());
    to[4096..8192].copy_from_slice(&from[4096..8192]);
    copy.put(&names[1], &to);
    assert!(detected(&copy, &acknowledged, "misdirected"));
}

#[test]
fn a_lost_batch_is_noticed_if_a_later_one_was_written() {
    let (directory, acknowledged) = journal();
    let names: Vec<_> = directory
        .list()
        .unwrap()
        .into_iter()
        .filter(|name| segment_number(name).is_some())
        .collect();
    let last = open(&directory).0.segments[2].end.offset as usize;
    for (name, ends) in [(&names[0], 4 * 4096), (&names[1], 4 * 4096), (&names[2], last - 4096)] {
        for at in (4096..ends).step_by(4096) {
            let copy = directory.crash(&mut |bound| bound - 1);
            let mut bytes = copy.contents(name).unwrap();
            bytes[at..at + 4096].fill(0);
            copy.put(name, &bytes);
            assert!(detected(&copy, &acknowledged, &format!("{name} at {at}")));
        }
    }
}

#[test]
fn a_damaged_journal_does_nothing_but_begin_anew() {
    let (directory, _) = journal();
    let name = "journal-0000000003";
    let mut bytes = directory.contents(name).unwrap();
    bytes[5000] ^= 1;
    directory.put(name, &bytes);
    let before = directory.count(None);
    let (mut journal, recovery) = open(&directory);
    let State::Damaged(damage) = recovery.state else { panic!("{recovery:?}") };
    assert_eq!((damage.file.as_str(), damage.offset), (name, 4608));
    assert_eq!(directory.count(None), before, "nothing is touched");
    assert!(matches!(journal.append(&entry(15, 0, 1)).unwrap_err(), JournalError::Damaged { .. }));
    assert!(matches!(journal.commit(mark(1)).unwrap_err(), JournalError::Damaged { .. }));

    journal.restart_at(Index(50), Digest([9; 16]), mark(50)).unwrap();
    commit_each(&mut journal, 51..=53);
    let mut again = whole(&directory.crash(&mut |_| 0));
    assert_eq!(indexes(&all(&mut again)), [51, 52, 53]);
}

#[test]
fn a_sector_that_cannot_be_read_is_damage_and_a_missing_descriptor_is_not() {
    use crate::store::memory::{Fault, Operation};
    let (directory, _) = journal();
    directory.inject(Fault { operation: Some(Operation::Read), nth: 6, error: 5 });
    assert!(matches!(open(&directory).1.state, State::Damaged(_)));
    directory.inject(Fault { operation: Some(Operation::Open), nth: 2, error: 24 });
    let error = Journal::open(directory.share(), IDENTITY, options(1)).unwrap_err();
    assert!(matches!(&error, JournalError::Io { action: "open", source, .. }
        if source.raw_os_error() == Some(24)));
    whole(&directory);
}
