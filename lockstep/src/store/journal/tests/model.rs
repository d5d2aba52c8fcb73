//! Any sequence of operations, against a list of entries.

use proptest::prelude::*;

use crate::store::memory::seeded;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Append { len: usize },
    Commit,
    Truncate { back: u64 },
    Release { back: u64 },
    Restart { ahead: u64 },
    Prepare,
    Read { back: u64, bytes: usize },
    Crash { seed: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0usize..6_000).prop_map(|len| Op::Append { len }),
        6 => Just(Op::Commit),
        1 => (0u64..12).prop_map(|back| Op::Truncate { back }),
        1 => (0u64..12).prop_map(|back| Op::Release { back }),
        1 => (0u64..50).prop_map(|ahead| Op::Restart { ahead }),
        1 => Just(Op::Prepare),
        2 => (0u64..12, 0usize..8_000).prop_map(|(back, bytes)| Op::Read { back, bytes }),
        1 => any::<u64>().prop_map(|seed| Op::Crash { seed }),
    ]
}

/// What the journal should hold.
struct Model {
    directory: MemoryDirectory,
    journal: Journal,
    base: u64,
    log: Vec<Entry>,
    committed: usize,
    mark: Mark,
    /// What was agreed when the entries from an index on were written, or begun with.
    marks: Vec<(u64, Mark)>,
    variant: u8,
}

impl Model {
    fn new() -> Self {
        let directory = MemoryDirectory::new();
        let (journal, _) = open(&directory);
        Self {
            directory,
            journal,
            base: 0,
            log: Vec::new(),
            committed: 0,
            mark: Mark::default(),
            marks: Vec::new(),
            variant: 0,
        }
    }

    fn held(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Append { len } => {
                let entry = entry(self.held() + 1, self.variant, len);
                match self.journal.append(&entry) {
                    Ok(()) => self.log.push(entry),
                    Err(JournalError::BatchFull) => {
                        assert!(self.committed < self.log.len(), "an empty batch is not full");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Commit => {
                let mark = mark(self.held() / 2);
                assert_eq!(self.journal.commit(mark).unwrap(), Index(self.held()));
                if self.committed < self.log.len() {
                    self.mark = mark;
                    self.marks.push((self.base + self.committed as u64 + 1, mark));
                }
                self.committed = self.log.len();
            }
            Op::Truncate { back } => self.truncate(self.held().saturating_sub(back)),
            Op::Release { back } => {
                let before = self.held().saturating_sub(back);
                self.journal.release_before(Index(before)).unwrap();
                let base = self.journal.base().0.0;
                assert!(base == self.base || base < before, "too much was released");
                self.log.drain(..(base - self.base) as usize);
                self.committed -= (base - self.base) as usize;
                self.base = base;
                self.marks.retain(|(first, _)| *first > base);
            }
            Op::Restart { ahead } => {
                let index = self.held() + ahead;
                let mark = mark(index);
                self.journal.restart_at(Index(index), Digest([4; 16]), mark).unwrap();
                (self.base, self.committed, self.mark) = (index, 0, mark);
                self.log.clear();
                self.marks = vec![(index + 1, mark)];
            }
            Op::Prepare => drop(self.journal.prepare().unwrap()),
            Op::Read { back, bytes } => self.read(self.held().saturating_sub(back), bytes),
            Op::Crash { seed } => self.crash(seed),
        }
    }

    fn truncate(&mut self, to: u64) {
        let done = self.journal.truncate_after(Index(to));
        if to < self.base {
            assert!(matches!(done.unwrap_err(), JournalError::NotKept { .. }));
            return;
        }
        done.unwrap();
        self.variant += 1;
        self.log.truncate((to - self.base) as usize);
        if self.log.len() < self.committed {
            self.committed = self.log.len();
            self.cut_marks(to);
        }
    }

    fn cut_marks(&mut self, to: u64) {
        self.marks.retain(|(first, mark)| *first <= to && mark.index.0 <= to);
        if self.mark.index.0 > to {
            self.mark = self.marks.last().map_or(Mark::default(), |(_, mark)| *mark);
        }
        if to == self.base {
            // The oldest segment's header has one, which is of nothing that is in the list.
            let found = self.journal.mark();
            assert!(found == mark(found.index.0) && found.index.0 <= to, "{found:?}");
            self.mark = found;
        }
        self.marks.push((to + 1, self.mark));
    }

    fn read(&mut self, from: u64, bytes: usize) {
        let read = self.journal.read(Index(from), bytes).unwrap();
        if from <= self.base {
            assert_eq!(read, None);
            return;
        }
        let (read, expected) = (read.unwrap(), &self.log[(from - self.base - 1) as usize..]);
        assert_eq!(read[..], expected[..read.len()]);
        let most: usize = read.iter().rev().skip(1).map(Entry::weight).sum();
        assert!(most <= bytes, "more was read than asked for");
        let enough = read.iter().map(Entry::weight).sum::<usize>() >= bytes;
        assert!(enough || read.len() == expected.len(), "less was read than asked for");
    }

    /// Nothing is under way, so what is committed is what is left.
    fn crash(&mut self, seed: u64) {
        self.directory = self.directory.crash(&mut seeded(seed));
        self.log.truncate(self.committed);
        let (journal, recovery) = open(&self.directory);
        self.journal = journal;
        assert!(!matches!(recovery.state, State::Damaged(_)), "{recovery:?}");
        assert_eq!((recovery.base.0.0, recovery.held.0), (self.base, self.held()));
        assert_eq!((recovery.mark, recovery.torn), (self.mark, 0));
    }

    fn check(&mut self) {
        assert_eq!(all(&mut self.journal), self.log);
        assert_eq!(self.journal.committed().0, self.base + self.committed as u64);
        assert_eq!(self.journal.base().0.0, self.base);
        assert_eq!(self.journal.mark(), self.mark);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_holds_what_a_list_would(ops in proptest::collection::vec(op(), 1..60)) {
        let mut model = Model::new();
        for op in ops {
            model.apply(op);
            model.check();
        }
        model.crash(0);
        model.check();
    }
}
