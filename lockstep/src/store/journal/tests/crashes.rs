//! A crash after every operation, and every operation failing once.

use crate::store::memory::{Fault, Operation, seeded};

use super::*;

/// What a run did, as far as its process knew.
#[derive(Default)]
struct Known {
    /// What a crash must leave.
    acknowledged: Vec<Entry>,
    /// What it may leave instead: the log as it would be after the operation that did not end.
    possible: Vec<Vec<Entry>>,
    /// Entries before this one may be gone.
    released: u64,
}

/// Appends, commits, cuts and releases until the journal fails. The log is told entry by entry, to
/// be compared with what a crash leaves.
fn run(directory: &MemoryDirectory, known: &mut Known) -> Result<(), JournalError> {
    known.possible = vec![vec![]];
    let (mut journal, _) = Journal::open(directory.share(), IDENTITY, options(1))?;
    let mut variant = 0;
    for step in 0..14u64 {
        let mut log = known.acknowledged.clone();
        for _ in 0..=step % 3 {
            let next = log.len() as u64 + 1;
            let entry = entry(next, variant, (next * 977 % 5_000) as usize);
            match journal.append(&entry) {
                Err(JournalError::BatchFull) => break,
                done => done?,
            }
            log.push(entry);
        }
        known.possible = vec![known.acknowledged.clone(), log.clone()];
        journal.commit(mark(log.len() as u64 - 1))?;
        known.acknowledged = log;
        if step % 5 == 4 {
            variant += 1;
            let keep = known.acknowledged.len() - 2;
            let cut = known.acknowledged[..keep].to_vec();
            known.possible = vec![known.acknowledged.clone(), cut.clone()];
            journal.truncate_after(Index(keep as u64))?;
            known.acknowledged = cut;
        }
        known.possible = vec![known.acknowledged.clone()];
        if step % 4 == 3 {
            known.released = known.acknowledged.len() as u64 - 3;
            journal.release_before(Index(known.released))?;
        }
        if step % 3 == 0 {
            journal.prepare()?;
        }
    }
    Ok(())
}

/// What was left must be what was acknowledged, or that with the operation under way, or, of an
/// unfinished commit, nothing in between.
fn judge(directory: &MemoryDirectory, known: &Known, what: &str) {
    let (mut journal, recovery) =
        Journal::open(directory.share(), IDENTITY, options(2)).expect(what);
    assert!(!matches!(recovery.state, State::Damaged(_)), "{what}: {recovery:?}");
    let entries = all(&mut journal);
    let base = recovery.base.0.0;
    assert!(base == 0 || base < known.released, "{what}: too much was released");
    let fits = |log: &Vec<Entry>| log[base as usize..] == entries[..];
    assert!(known.possible.iter().any(fits), "{what}: {:?}", indexes(&entries));

    // It goes on from there, and what it then acknowledges is kept.
    let next = recovery.held.0 + 1;
    commit_each(&mut journal, next..=next + 4);
    let mut again = whole(&directory.crash(&mut |_| 0));
    assert_eq!(again.held(), journal.held(), "{what}");
    all(&mut again);
}

fn operations(kind: Option<Operation>) -> u64 {
    let (directory, mut known) = (MemoryDirectory::new(), Known::default());
    run(&directory, &mut known).unwrap();
    judge(&directory.crash(&mut |_| 0), &known, "an undisturbed run");
    directory.count(kind)
}

#[test]
fn a_crash_after_any_operation_loses_nothing_that_was_acknowledged() {
    let (mut torn, mut lost) = (0, 0);
    for operation in 0..operations(None) {
        for seed in 0..12 {
            let (directory, mut known) = (MemoryDirectory::new(), Known::default());
            directory.halt_after(operation);
            run(&directory, &mut known).unwrap_err();
            let left = match seed {
                0 => directory.crash(&mut |_| 0),
                1 => directory.crash(&mut |bound| bound - 1),
                _ => directory.crash(&mut seeded(seed)),
            };
            let what = format!("a crash after operation {operation}, seed {seed}");
            let copy = left.crash(&mut |_| 0);
            judge(&left, &known, &what);
            let (journal, recovery) = open(&copy);
            torn += u64::from(recovery.torn > 0);
            lost += u64::from(journal.committed().0 < known.possible.last().unwrap().len() as u64);
        }
    }
    assert!(torn > 20 && lost > 20, "a crash that costs nothing shows nothing: {torn}, {lost}");
}

#[test]
fn a_crash_while_recovering_from_a_crash_loses_nothing_either() {
    for operation in (3..operations(None)).step_by(3) {
        for seed in 0..4 {
            let (directory, mut known) = (MemoryDirectory::new(), Known::default());
            directory.halt_after(operation);
            run(&directory, &mut known).unwrap_err();
            let first = directory.crash(&mut seeded(seed));
            for second in 0..8 {
                let left = first.crash(&mut |_| 0);
                left.halt_after(second);
                let _ = Journal::open(left.share(), IDENTITY, options(2));
                let what = format!("operation {operation}, then {second}, seed {seed}");
                judge(&left.crash(&mut seeded(second)), &known, &what);
            }
        }
    }
}

#[test]
fn any_operation_may_fail_once() {
    for error in [5, 28, 24] {
        for nth in 1..=operations(None) {
            let (directory, mut known) = (MemoryDirectory::new(), Known::default());
            directory.inject(Fault { operation: None, nth, error });
            let failed = run(&directory, &mut known).unwrap_err();
            let JournalError::Io { source, file, .. } = &failed else { panic!("{failed}") };
            assert_eq!(source.raw_os_error(), Some(error), "{file}");
            let what = format!("error {error} at operation {nth}");
            // The process starts again, or the machine does.
            let seed = nth ^ u64::from(error.unsigned_abs());
            judge(&directory.crash(&mut seeded(seed)), &known, &format!("{what}, and a crash"));
            judge(&directory, &known, &what);
        }
    }
}

#[test]
fn what_was_read_after_a_failed_sync_stays_after_a_crash() {
    for nth in 1..=operations(Some(Operation::Sync)) {
        let (directory, mut known) = (MemoryDirectory::new(), Known::default());
        directory.inject(Fault { operation: Some(Operation::Sync), nth, error: 5 });
        run(&directory, &mut known).unwrap_err();
        let (mut journal, _) = open(&directory);
        let (held, seen) = (journal.held(), all(&mut journal));
        let mut again = whole_or_empty(&directory.crash(&mut |_| 0));
        assert_eq!(again.held(), held, "sync {nth}");
        assert_eq!(all(&mut again), seen);
    }
}

fn whole_or_empty(directory: &MemoryDirectory) -> Journal {
    let (journal, recovery) = open(directory);
    assert!(!matches!(recovery.state, State::Damaged(_)), "{recovery:?}");
    journal
}
