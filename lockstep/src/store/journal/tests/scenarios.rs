use crate::exhaustion::Exhaustion;
use crate::store::memory::{Fault, Operation, seeded};

use super::*;

fn nothing(_: u64) -> u64 {
    0
}

#[test]
fn an_empty_directory_is_an_empty_journal() {
    let directory = MemoryDirectory::new();
    let (mut journal, recovery) = open(&directory);
    assert_eq!(recovery.state, State::Empty);
    assert_eq!(journal.held(), (Index(0), Digest::ZERO));
    assert_eq!(journal.commit(mark(0)).unwrap(), Index(0), "nothing to commit");
    assert!(directory.list().unwrap().is_empty(), "and nothing written");
    assert_eq!(journal.points().unwrap(), [(Index(0), Digest::ZERO)]);
    assert_eq!(journal.read(Index(1), 100).unwrap(), Some(vec![]));
    assert_eq!(journal.read(Index(0), 100).unwrap(), None);
}

#[test]
fn what_was_committed_is_there_after_a_crash() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=8);
    journal.append(&entry(9, 0, 10)).unwrap();
    assert_eq!(indexes(&all(&mut journal)), Vec::from_iter(1..=9), "seen before it is committed");
    let (held, log_digest) = (journal.committed(), journal.log_digest_at(Index(8)).unwrap());

    let (mut again, recovery) = open(&directory.crash(&mut nothing));
    assert_eq!(recovery.state, State::Whole);
    assert_eq!((recovery.held, Some(recovery.log_digest)), (held, log_digest));
    assert_eq!((recovery.mark, recovery.torn), (mark(7), 0));
    assert_eq!(indexes(&all(&mut again)), Vec::from_iter(1..=8));
    commit_each(&mut again, 9..=12);
    assert_eq!(indexes(&all(&mut again)), Vec::from_iter(1..=12));
}

#[test]
fn a_commit_is_one_write_and_one_sync() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=1);
    let count = |kind| directory.count(Some(kind));
    let before = (count(Operation::Write), count(Operation::Sync), directory.count(None));
    for index in 2..=5 {
        journal.append(&entry(index, 0, 100)).unwrap();
    }
    journal.commit(mark(1)).unwrap();
    assert_eq!(count(Operation::Write), before.0 + 1);
    assert_eq!(count(Operation::Sync), before.1 + 1);
    assert_eq!(directory.count(None), before.2 + 2);
}

#[test]
fn without_syncing_nothing_is_synced() {
    let directory = MemoryDirectory::new();
    let unsynced = Options { sync: false, ..options(1) };
    let (mut journal, _) = Journal::open(directory.share(), IDENTITY, unsynced).unwrap();
    commit_each(&mut journal, 1..=8);
    journal.release_before(Index(6)).unwrap();
    assert_eq!(directory.count(Some(Operation::Sync)), 0);
    assert_eq!(directory.count(Some(Operation::SyncNames)), 0);
    assert_eq!(indexes(&all(&mut journal)), Vec::from_iter(4..=8));
}

#[test]
fn a_batch_has_bounds_and_an_entry_must_be_the_next() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    let error = journal.append(&entry(2, 0, 1)).unwrap_err();
    assert!(matches!(error, JournalError::OutOfOrder { expected: Index(1), found: Index(2) }));
    let error = journal.append(&entry(1, 0, 3 * 4096)).unwrap_err();
    assert!(matches!(error, JournalError::TooLong { .. }), "{error}");
    let mut unsound = entry(1, 0, 1);
    unsound.origin.incarnation = Incarnation(0);
    assert!(matches!(journal.append(&unsound).unwrap_err(), JournalError::Unsound(_)));

    journal.append(&entry(1, 0, 8_000)).unwrap();
    let error = journal.append(&entry(2, 0, 8_000)).unwrap_err();
    assert!(matches!(error, JournalError::BatchFull));
    assert_eq!(journal.held().0, Index(1), "a refused entry leaves nothing behind");
    journal.commit(mark(0)).unwrap();
    journal.append(&entry(2, 0, 8_000)).unwrap();
    journal.commit(mark(0)).unwrap();
    assert_eq!(indexes(&all(&mut journal)), [1, 2]);
}

#[test]
fn reading_is_bounded_and_goes_on_where_it_was() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=20);
    let weight = entry(1, 0, 64).weight();
    let mut next = 1;
    while next <= 20 {
        let before = directory.count(Some(Operation::Read));
        let read = journal.read(Index(next), 2 * weight).unwrap().unwrap();
        assert_eq!(indexes(&read), Vec::from_iter(next..=(next + 1).min(20)));
        assert!(directory.count(Some(Operation::Read)) - before <= 3, "one block for each batch");
        next += read.len() as u64;
    }
    assert_eq!(indexes(&journal.read(Index(5), 0).unwrap().unwrap()), [5], "one at least");
}

#[test]
fn a_replay_says_what_was_agreed_and_outlives_what_it_does_not_need() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=9);
    let mut replay = journal.replay(Index(7)).unwrap();
    let (first, agreed) = replay.next().unwrap().unwrap();
    assert_eq!((first.index, agreed), (Index(7), Some(mark(6))));
    journal.release_before(Index(7)).unwrap();
    commit_each(&mut journal, 10..=13);
    assert_eq!(replay.count(), 2, "what was there when it began");

    let mut late = journal.replay(Index(7)).unwrap();
    journal.release_before(Index(13)).unwrap();
    commit_each(&mut journal, 14..=30);
    let seen: Vec<_> = late.by_ref().collect();
    assert!(seen.iter().any(Result::is_err), "it must not pass over what was released");
    assert!(late.next().is_none());
    assert!(matches!(journal.replay(Index(2)).err().unwrap(), JournalError::NotKept { .. }));
}

#[test]
fn released_segments_are_used_again() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    let mut made = 0;
    for round in 0..20 {
        commit_each(&mut journal, 6 * round + 1..=6 * round + 6);
        journal.release_before(Index(6 * round + 6)).unwrap();
        if round == 3 {
            made = directory.count(Some(Operation::Create));
        }
    }
    assert_eq!(directory.count(Some(Operation::Create)), made, "no new files once it turns over");
    let mut again = whole(&directory.crash(&mut nothing));
    assert_eq!(again.held().0, Index(120));
    assert!(again.base().0 >= Index(114) && again.base().0 < Index(120));
    assert_eq!(again.read(Index(1), 1).unwrap(), None);
    all(&mut again);
}

#[test]
fn spares_are_made_ahead_in_steps() {
    let directory = MemoryDirectory::new();
    let large = Options { segment_bytes: 3 << 20, ..options(1) };
    let (mut journal, _) = Journal::open(directory.share(), IDENTITY, large).unwrap();
    let mut steps = 1;
    while !journal.prepare().unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 6, "two spares of three steps each");
    let made = directory.count(Some(Operation::Create));
    journal.append(&entry(1, 0, 9)).unwrap();
    journal.commit(mark(0)).unwrap();
    assert_eq!(directory.count(Some(Operation::Create)), made);

    directory.inject(Fault { operation: Some(Operation::Write), nth: 1, error: 28 });
    assert!(matches!(journal.prepare().unwrap_err(), JournalError::Io { .. }));
    while !journal.prepare().unwrap() {}
    journal.append(&entry(2, 0, 9)).unwrap();
    assert_eq!(journal.commit(mark(0)).unwrap(), Index(2), "a full disk ahead harms no commit");
}

#[test]
fn a_conflicting_end_is_dropped_for_good() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=8);
    journal.append(&entry(9, 0, 1)).unwrap();
    journal.truncate_after(Index(8)).unwrap();
    journal.truncate_after(Index(4)).unwrap();
    assert_eq!(journal.mark(), mark(3), "what was agreed about entry 7 is gone, not about 3");
    assert_eq!(indexes(&all(&mut journal)), [1, 2, 3, 4]);
    let mut again = whole(&directory.crash(&mut nothing));
    assert_eq!((indexes(&all(&mut again)), again.mark()), (vec![1, 2, 3, 4], mark(3)));

    journal.append(&entry(5, 1, 64)).unwrap();
    journal.commit(mark(4)).unwrap();
    journal.truncate_after(Index(2)).unwrap();
    journal.append(&entry(3, 2, 64)).unwrap();
    journal.commit(mark(2)).unwrap();
    let expected = [entry(1, 0, 64), entry(2, 0, 64), entry(3, 2, 64)];
    assert_eq!(all(&mut journal), expected);
    assert_eq!(all(&mut whole(&directory.crash(&mut nothing))), expected);

    journal.release_before(Index(3)).unwrap();
    assert_eq!(indexes(&all(&mut journal)), [3]);
    let crashed = directory.crash(&mut nothing);
    assert_eq!(indexes(&all(&mut whole(&crashed))), [3]);
    let error = journal.truncate_after(Index(1)).unwrap_err();
    assert!(matches!(error, JournalError::NotKept { asked: Index(1), base: Index(2) }));
}

/// The second segment begins where the last one does, and holds another entry before that.
#[test]
fn an_end_may_be_dropped_twice_at_the_same_place() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=6);
    assert_eq!(journal.segments[1].first, Index(4));
    journal.truncate_after(Index(2)).unwrap();
    for index in 3..=5 {
        journal.append(&entry(index, 1, 64)).unwrap();
    }
    journal.commit(mark(2)).unwrap();
    journal.truncate_after(Index(3)).unwrap();
    let held = journal.held();
    let mut again = whole(&directory.crash(&mut nothing));
    assert_eq!(again.held(), held);
    assert_eq!(all(&mut again)[2], entry(3, 1, 64));
}

#[test]
fn a_journal_begins_anew_after_a_checkpoint() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=8);
    let log_digest = Digest([3; 16]);
    journal.restart_at(Index(100), log_digest, mark(90)).unwrap();
    assert_eq!(journal.held(), (Index(100), log_digest));
    assert_eq!(journal.read(Index(8), 1).unwrap(), None);
    let (mut again, recovery) = open(&directory.crash(&mut nothing));
    assert_eq!(recovery.base, (Index(100), log_digest));
    assert_eq!((recovery.held, recovery.mark), (Index(100), mark(90)));
    commit_each(&mut again, 101..=105);
    assert_eq!(indexes(&all(&mut again)), Vec::from_iter(101..=105));
}

#[test]
fn points_go_back_ever_further() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=40);
    let points = journal.points().unwrap();
    let at: Vec<u64> = points.iter().map(|(index, _)| index.0).collect();
    assert_eq!(at, [40, 39, 38, 36, 32, 24, 8, 0]);
    for (index, log_digest) in points {
        assert_eq!(journal.log_digest_at(index).unwrap(), Some(log_digest));
    }
    assert_eq!(journal.log_digest_at(Index(41)).unwrap(), None);
}

#[test]
fn sizes_are_told_for_policies() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=7);
    assert_eq!(journal.size(), 3 * u64::from(SMALL));
    assert_eq!(journal.bytes_since(Index(0)), 7 * 4096);
    assert_eq!(journal.bytes_since(Index(6)), 4096);
    assert_eq!(journal.bytes_since(Index(7)), 0);
}

#[test]
fn another_owner_and_another_version_are_refused_by_name() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=2);
    let files = directory.list().unwrap();
    let other = Identity { place: ReplicaId::B, ..IDENTITY };
    let error = Journal::open(directory.share(), other, options(1)).unwrap_err();
    assert!(matches!(error, JournalError::Stranger { place: ReplicaId::A, .. }), "{error}");

    let name = "journal-0000000001";
    let mut bytes = directory.contents(name).unwrap();
    bytes[8] = 3;
    directory.put(name, &bytes);
    let error = Journal::open(directory.share(), IDENTITY, options(1)).unwrap_err();
    assert!(matches!(error, JournalError::Version { version: 3, .. }), "{error}");
    assert_eq!(directory.list().unwrap(), files, "nothing is touched");
    Journal::wipe(&*directory.share()).unwrap();
    assert!(directory.list().unwrap().is_empty());
}

#[test]
fn options_that_cannot_be_followed_are_refused() {
    for segment_bytes in [0, 4096, 2 * 4096, 3 * 4096 + 512, (1 << 30) + 4096] {
        let options = Options { segment_bytes, ..options(1) };
        let refused = Journal::open(MemoryDirectory::new().share(), IDENTITY, options);
        assert!(matches!(refused.unwrap_err(), JournalError::Options { .. }));
    }
}

#[test]
fn what_was_exhausted_is_said_by_all_that_fails_after_it_too() {
    for (error, exhausted) in [(24, Some(Exhaustion::ProcessFiles)), (5, None)] {
        let directory = MemoryDirectory::new();
        let (mut journal, _) = open(&directory);
        journal.append(&entry(1, 0, 64)).unwrap();
        directory.inject(Fault { operation: Some(Operation::Sync), nth: 1, error });
        for _ in 0..2 {
            let error = journal.commit(mark(1)).unwrap_err();
            assert_eq!(Exhaustion::among(&error), exhausted, "{error}");
            let blames_disk = error.to_string().contains("the disk");
            assert_eq!(blames_disk, exhausted.is_none(), "{error}");
        }
    }
}

#[test]
fn after_an_error_everything_fails_until_it_is_opened_again() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    commit_each(&mut journal, 1..=2);
    journal.append(&entry(3, 0, 64)).unwrap();
    directory.inject(Fault { operation: Some(Operation::Sync), nth: 1, error: 5 });
    let error = journal.commit(mark(2)).unwrap_err();
    assert!(matches!(&error, JournalError::Io { action: "sync", file, .. }
        if file == "journal-0000000001"));
    assert!(matches!(journal.commit(mark(2)).unwrap_err(), JournalError::Failed { .. }));
    assert!(matches!(journal.append(&entry(4, 0, 1)).unwrap_err(), JournalError::Failed { .. }));
    assert!(matches!(journal.read(Index(1), 1).unwrap_err(), JournalError::Failed { .. }));

    // Entry 3 can be read, though its sync failed. Once it is said to be there, it stays.
    let (_, recovery) = open(&directory);
    assert_eq!(recovery.held, Index(3));
    let (_, recovery) = open(&directory.crash(&mut nothing));
    assert_eq!((recovery.state, recovery.held), (State::Whole, Index(3)));
}

#[test]
fn a_signal_is_no_error() {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory);
    for operation in [Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncNames] {
        directory.inject(Fault { operation: Some(operation), nth: 1, error: 4 });
    }
    commit_each(&mut journal, 1..=8);
    assert_eq!(whole(&directory.crash(&mut nothing)).held().0, Index(8));
}

#[test]
fn a_torn_last_batch_is_dropped_and_harms_nothing_later() {
    for seed in 0..200 {
        let directory = MemoryDirectory::new();
        let (mut journal, _) = open(&directory);
        commit_each(&mut journal, 1..=1);
        directory.halt_after(1);
        journal.append(&entry(2, 0, 6_000)).unwrap();
        journal.commit(mark(1)).unwrap_err();

        let directory = directory.crash(&mut seeded(seed));
        let (mut journal, recovery) = open(&directory);
        assert_eq!(recovery.state, State::Whole, "seed {seed}");
        if recovery.held == Index(2) {
            continue;
        }
        // The next batch is shorter, so that what is left of the torn one would be behind it.
        commit_each(&mut journal, 2..=3);
        let (mut journal, recovery) = open(&directory.crash(&mut nothing));
        assert_eq!((recovery.state, recovery.torn), (State::Whole, 0), "seed {seed}");
        assert_eq!(indexes(&all(&mut journal)), [1, 2, 3]);
    }
}

#[cfg(feature = "runtime")]
#[test]
fn it_works_over_the_system_s_files() {
    let place = tempfile::tempdir().unwrap();
    let directory = crate::store::os::OsDirectory::open(place.path()).unwrap();
    let open = || Journal::open(directory.share(), IDENTITY, options(1)).unwrap();
    let (mut journal, _) = open();
    commit_each(&mut journal, 1..=8);
    journal.truncate_after(Index(7)).unwrap();
    journal.release_before(Index(5)).unwrap();
    while !journal.prepare().unwrap() {}
    drop(journal);
    let (mut journal, recovery) = open();
    assert_eq!((recovery.state, recovery.held), (State::Whole, Index(7)));
    commit_each(&mut journal, 8..=20);
    assert_eq!(indexes(&all(&mut journal)), Vec::from_iter(4..=20));
    Journal::wipe(&directory).unwrap();
    assert_eq!(place.path().read_dir().unwrap().count(), 0);
}

/// Sectors of two attempts at the same batch, each right in itself, must not be taken together
/// for one batch that has changed.
#[test]
fn what_is_left_of_two_torn_batches_does_not_look_like_damage() {
    for seed in 0..200 {
        let mut directory = MemoryDirectory::new();
        let (mut journal, _) = open(&directory);
        commit_each(&mut journal, 1..=1);
        for variant in 1..=3 {
            if journal.held().0 == Index(2) {
                break;
            }
            directory.halt_after(1);
            journal.append(&entry(2, variant, 1_500)).unwrap();
            journal.commit(mark(1)).unwrap_err();
            directory = directory.crash(&mut seeded(seed * 3 + u64::from(variant)));
            journal = whole(&directory);
        }
    }
}

#[test]
fn a_journal_may_be_moved_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<Journal>();
    sendable::<Replay>();
}
