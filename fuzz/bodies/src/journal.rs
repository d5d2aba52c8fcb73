//! The journal: any bytes laid over its files, and any operations with crashes and faults.
//!
//! The first byte chooses, modulo 3. 0 lays bytes over a journal, and 2 operates. 1 lays bytes and
//! makes the checksums right again, so that what lies behind them is reached too.

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::entry::{Entry, InputKind, Origin};
use lockstep::ids::{
    DeviceId, Epoch, Incarnation, Index, LogTime, OriginNumber, PairId, ReplicaId,
};
use lockstep::store::files::Directory as _;
use lockstep::store::journal::{
    BLOCK_BYTES, Identity, Journal, JournalError, Mark, Options, State,
};
use lockstep::store::memory::{Fault, MemoryDirectory, Operation};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed, xxh3_128};

use crate::source::Source;

const IDENTITY: Identity = Identity { pair: PairId([7; 16]), place: ReplicaId::A };
const OPTIONS: Options = Options { segment_bytes: 5 * BLOCK_BYTES, spares: 1, sync: true, seed: 1 };
const BLOCK: usize = BLOCK_BYTES as usize;
const SECTOR: usize = 512;
const PAYLOAD: usize = 492;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let mut source = Source::new(rest);
    match how % 3 {
        0 => laid_over(&mut source, false),
        1 => laid_over(&mut source, true),
        _ => World::new().run(&mut source),
    }
}

fn open(
    directory: &MemoryDirectory,
) -> Result<(Journal, lockstep::store::journal::Recovery), JournalError> {
    Journal::open(directory.share(), IDENTITY, OPTIONS)
}

fn entry(index: u64, variant: u8, len: usize) -> Entry {
    Entry {
        index: Index(index),
        epoch: Epoch(1),
        time: LogTime(index),
        origin: Origin {
            place: ReplicaId::A,
            incarnation: Incarnation(9),
            number: OriginNumber(index),
        },
        kind: InputKind::Device { device: DeviceId(3), bytes: Bytes::from(vec![variant; len]) }
            .into(),
    }
}

fn mark(index: u64) -> Mark {
    Mark { index: Index(index), outputs: Digest([index as u8; 16]) }
}

/// What can be read of a journal, by an iterator that may end in an error.
fn read_all(journal: &Journal, from: Index) -> Vec<Entry> {
    journal.replay(from).expect("kept").map(|item| item.expect("sound").0).collect()
}

/// Three segments, a cut between two of them.
fn small() -> (MemoryDirectory, Vec<Entry>) {
    let directory = MemoryDirectory::new();
    let (mut journal, _) = open(&directory).expect("an empty directory");
    let mut log = Vec::new();
    for round in 0..6u64 {
        for _ in 0..=round % 3 {
            let next = entry(log.len() as u64 + 1, 0, 200 * round as usize);
            journal.append(&next).expect("room");
            log.push(next);
        }
        journal.commit(mark(round)).expect("a sound disk");
        if round == 4 {
            log.truncate(log.len() - 1);
            journal.truncate_after(Index(log.len() as u64)).expect("a sound disk");
        }
    }
    (directory, log)
}

/// Whatever the bytes: damage is named, or what is found is what was written. With checksums made
/// right anything may be found, but nothing panics.
fn laid_over(source: &mut Source<'_>, right: bool) {
    let (directory, log) = small();
    let mut names = directory.list().expect("a sound disk");
    names.sort();
    for _ in 0..=source.below(3) {
        let name = source.pick(&names.iter().map(String::as_str).collect::<Vec<_>>()).to_owned();
        let mut bytes = directory.contents(&name).expect("a file");
        let at = position(source, bytes.len());
        if source.byte() == 0xFF {
            bytes.truncate(at);
        }
        let len = source.below(24);
        for (byte, new) in bytes.iter_mut().skip(at).zip(source.take(len)) {
            *byte = *new;
        }
        if right {
            make_right(&mut bytes);
        }
        directory.put(&name, &bytes);
    }
    let Ok((mut journal, recovery)) = open(&directory) else { return };
    if let State::Damaged(damage) = recovery.state {
        assert!(!damage.file.is_empty() && !damage.why.is_empty());
        assert!(journal.append(&entry(recovery.held.0 + 1, 1, 1)).is_err());
        journal.restart_at(Index(5), Digest::ZERO, mark(5)).expect("a way on");
    } else if !right {
        let base = recovery.base.0.0 as usize;
        let found = read_all(&journal, recovery.base.0.next());
        assert_eq!(log.get(base..base + found.len()), Some(&found[..]), "something else was found");
    } else {
        let _ = journal.replay(recovery.base.0.next()).map(Iterator::count);
        let _ = journal.points();
    }
    let next = journal.held().0.next();
    journal.append(&entry(next.0, 1, 10)).expect("it goes on");
    assert_eq!(journal.commit(mark(0)).expect("it goes on"), next);
}

/// Where headers and batches begin, more often than elsewhere.
fn position(source: &mut Source<'_>, len: usize) -> usize {
    let block = source.below(5) * BLOCK;
    let within = match source.byte() {
        byte @ 0..160 => usize::from(byte),
        byte => usize::from(byte) * 16 + source.below(16),
    };
    (block + within).min(len)
}

/// The checksums of the header, and of each batch of one block, as `docs/journal.md` has them.
fn make_right(bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(..112) {
        let checksum = xxh3_128(&header[..96]).to_le_bytes();
        header[96..].copy_from_slice(&checksum);
    }
    for (number, block) in bytes.chunks_exact_mut(BLOCK).enumerate().skip(1) {
        let offset = (number * BLOCK) as u64;
        let mut payload: Vec<u8> =
            block.chunks(SECTOR).flat_map(|sector| &sector[..PAYLOAD]).copied().collect();
        if payload[..4] != *b"LKJB" {
            continue;
        }
        let salt = u64::from_le_bytes(block[492..500].try_into().expect("eight bytes"));
        let body = u32::from_le_bytes(payload[16..20].try_into().expect("four bytes")) as usize;
        let Some(end) = body.checked_add(80).filter(|end| *end <= payload.len()) else { continue };
        let mut hasher = Xxh3::with_seed(salt.wrapping_add(offset));
        hasher.update(&payload[..64]);
        hasher.update(&payload[80..end]);
        payload[64..80].copy_from_slice(&hasher.digest128().to_le_bytes());
        let pieces = payload.chunks(PAYLOAD).take(end.div_ceil(PAYLOAD));
        for (at, (sector, piece)) in block.chunks_mut(SECTOR).zip(pieces).enumerate() {
            sector[..PAYLOAD].copy_from_slice(piece);
            let check = xxh3_64_with_seed(&sector[..504], offset + (at * SECTOR) as u64);
            sector[504..].copy_from_slice(&check.to_le_bytes());
        }
    }
}

/// A journal with crashes and faults, and a list of what it should hold.
struct World {
    directory: MemoryDirectory,
    journal: Journal,
    base: u64,
    /// What was committed.
    log: Vec<Entry>,
    appended: Vec<Entry>,
    variant: u8,
}

impl World {
    fn new() -> Self {
        let directory = MemoryDirectory::new();
        let (journal, _) = open(&directory).expect("an empty directory");
        Self { directory, journal, base: 0, log: vec![], appended: vec![], variant: 0 }
    }

    fn held(&self) -> u64 {
        self.base + (self.log.len() + self.appended.len()) as u64
    }

    fn run(mut self, source: &mut Source<'_>) {
        while let Some(op) = source.choice() {
            match op % 12 {
                0..=2 => self.append(source),
                3..=5 => self.commit(source),
                6 => self.truncate(source),
                7 => self.release(source),
                8 => self.restart(source),
                9 => self.crash(source),
                10 => self.fault(source),
                _ => {
                    if self.journal.prepare().is_err() {
                        // Nothing depends on it, unless the journal has failed before.
                        self.directory.heal();
                    }
                }
            }
        }
        self.crash(&mut Source::new(&[]));
    }

    fn fault(&mut self, source: &mut Source<'_>) {
        let operation = Some(source.pick(&Operation::ALL));
        let fault = Fault {
            operation,
            nth: 1 + source.below(4) as u64,
            error: source.pick(&[5, 28, 4, 24]),
        };
        self.directory.inject(fault);
    }

    fn append(&mut self, source: &mut Source<'_>) {
        let entry = entry(self.held() + 1, self.variant, source.below(256) * 30);
        match self.journal.append(&entry) {
            Ok(()) => self.appended.push(entry),
            Err(JournalError::BatchFull) => assert!(!self.appended.is_empty()),
            Err(error) => panic!("{error}"),
        }
    }

    fn commit(&mut self, source: &mut Source<'_>) {
        let mut longer = self.log.clone();
        longer.append(&mut self.appended);
        let done = self.journal.commit(mark(1)).map(drop);
        self.settle(done, (self.base, longer), source);
    }

    fn truncate(&mut self, source: &mut Source<'_>) {
        let to = self.held().saturating_sub(source.below(8) as u64);
        let committed = self.base + self.log.len() as u64;
        match self.journal.truncate_after(Index(to)) {
            Err(JournalError::NotKept { .. }) => assert!(to < self.base),
            done => {
                self.variant = self.variant.wrapping_add(1);
                self.appended.truncate(to.saturating_sub(committed) as usize);
                let mut shorter = self.log.clone();
                shorter.truncate((to - self.base) as usize);
                self.settle(done, (self.base, shorter), source);
            }
        }
    }

    fn release(&mut self, source: &mut Source<'_>) {
        let before = self.held().saturating_sub(source.below(8) as u64);
        let done = self.journal.release_before(Index(before));
        let failed = done.is_err();
        self.settle(done, (self.base, self.log.clone()), source);
        if !failed {
            let base = self.journal.points().ok().and_then(|points| Some(points.last()?.0.0));
            let Some(base) = base else { return self.reopen() };
            assert!(base == self.base || base < before, "too much was released");
            self.log.drain(..(base - self.base) as usize);
            self.base = base;
        }
    }

    fn restart(&mut self, source: &mut Source<'_>) {
        let index = self.held() + source.below(8) as u64;
        self.appended.clear();
        let done = self.journal.restart_at(Index(index), Digest([4; 16]), mark(index));
        self.settle(done, (index, vec![]), source);
    }

    /// What is done is so; what failed is so or not, and the process starts again, or
    /// the machine.
    fn settle(
        &mut self,
        done: Result<(), JournalError>,
        after: (u64, Vec<Entry>),
        source: &mut Source<'_>,
    ) {
        let Err(error) = done else {
            (self.base, self.log) = after;
            return;
        };
        assert!(matches!(error, JournalError::Io { .. }), "{error}");
        assert!(matches!(self.journal.commit(mark(0)), Err(JournalError::Failed { .. })));
        self.directory.heal();
        if source.flag() {
            self.directory = self.directory.crash(&mut |bound| u64::from(source.byte()) % bound);
        }
        let before = (self.base, core::mem::take(&mut self.log));
        self.look(&[before, after]);
    }

    fn crash(&mut self, source: &mut Source<'_>) {
        self.directory.heal();
        self.directory = self.directory.crash(&mut |bound| u64::from(source.byte()) % bound);
        let log = core::mem::take(&mut self.log);
        self.look(&[(self.base, log)]);
    }

    fn reopen(&mut self) {
        self.directory.heal();
        let log = core::mem::take(&mut self.log);
        self.look(&[(self.base, log)]);
    }

    /// What is found is one of these; of its beginning some may have been released.
    fn look(&mut self, expected: &[(u64, Vec<Entry>)]) {
        self.appended.clear();
        let (journal, recovery) = open(&self.directory).expect("a sound disk");
        assert!(!matches!(recovery.state, State::Damaged(_)), "{recovery:?}");
        let found = read_all(&journal, recovery.base.0.next());
        let base = recovery.base.0.0;
        let fits = |(from, log): &(u64, Vec<Entry>)| {
            let skipped = base.checked_sub(*from);
            skipped.is_some_and(|skipped| log.get(skipped as usize..) == Some(&found[..]))
        };
        assert!(expected.iter().any(fits), "{recovery:?} instead of what was acknowledged");
        (self.journal, self.base, self.log) = (journal, base, found);
    }
}
