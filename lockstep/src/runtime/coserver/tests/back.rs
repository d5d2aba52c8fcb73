//! Scenarios of coming back, over real sockets and real files.

use std::path::Path;

use super::*;
use crate::ids::Index;
use crate::store::memory::{Fault, MemoryDirectory, Operation};
use crate::store::replica::Durability;

/// Counts the inputs of its device and tells each how many there have been.
struct Counter {
    count: u64,
    /// What it adds for each.
    step: u64,
}

struct Count(u64);

impl Freeze for Count {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        sink.record(&self.0.to_le_bytes())
    }
}

impl StateMachine for Counter {
    type Frozen = Count;

    fn identity(&self) -> Identity {
        Identity { name: "counter".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        if let Step::Device { device, place, .. } = step {
            self.count += self.step;
            context.send(device, Carrier::Replica(place), self.count.to_string().into());
        }
        Bytes::new()
    }

    fn freeze(&self) -> Count {
        Count(self.count)
    }

    fn restore(&mut self, source: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let record = source.record()?.ok_or(RestoreError::Missing { missing: "count" })?;
        let bytes = record[..].try_into().ok();
        self.count = u64::from_le_bytes(bytes.ok_or(RestoreError::Missing { missing: "count" })?);
        Ok(())
    }
}

const COUNTING: Counter = Counter { count: 0, step: 1 };

impl Running {
    /// Another input; the service has had so many by now.
    async fn count(&mut self, bytes: usize) -> u64 {
        self.inputs.push(Bytes::from(vec![7; bytes])).await.unwrap();
        let released = soon(self.released.recv()).await.unwrap();
        std::str::from_utf8(&released).unwrap().parse().unwrap()
    }

    /// The same after a restart. What was not surely released before may be released again.
    async fn count_on(&mut self, expected: u64) {
        let mut count = self.count(100).await;
        while count < expected {
            let released = soon(self.released.recv()).await.unwrap();
            count = std::str::from_utf8(&released).unwrap().parse().unwrap();
        }
        assert_eq!(count, expected);
    }

    /// As a SIGKILL would: nothing is said to anybody.
    async fn kill(self) {
        self.ended.abort();
        assert!(self.ended.await.unwrap_err().is_cancelled());
    }

    async fn storage(&self) -> StorageMetrics {
        self.handle.metrics().await.unwrap().storage
    }
}

/// A pair that notices soon that one is dead.
struct Play {
    stage: Stage,
    change: fn(&mut Settings),
}

impl Play {
    fn new(change: fn(&mut Settings)) -> Self {
        Self { stage: Stage::new(), change }
    }

    fn settings(&self, place: ReplicaId) -> Settings {
        let mut settings = self.stage.settings(place);
        settings.silence = Duration::from_millis(400);
        settings.silence_floor = Duration::from_millis(400);
        settings.meeting = Duration::from_millis(300);
        (self.change)(&mut settings);
        settings
    }

    async fn start(&self, place: ReplicaId) -> Running {
        let settings = self.settings(place);
        self.stage.ports(&settings).await;
        self.stage.start(settings, COUNTING)
    }

    async fn both(&self) -> [Running; 2] {
        let pair = [self.start(ReplicaId::A).await, self.start(ReplicaId::B).await];
        duplex(&pair).await;
        pair
    }
}

async fn duplex(pair: &[Running; 2]) {
    for side in pair {
        side.until(is_duplex).await;
    }
}

fn wipe(directory: &Path) {
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn one_that_was_killed_comes_back_with_the_entries_that_it_missed() {
    for execution in [Execution::Inline, Execution::Thread] {
        let play = Play::new(match execution {
            Execution::Inline => |_| {},
            Execution::Thread => |settings| settings.execution = Execution::Thread,
        });
        let [mut a, mut b] = play.both().await;
        for count in 1..=20 {
            assert_eq!(a.count(100).await, count);
        }
        assert_eq!(b.count(100).await, 21);
        b.kill().await;
        a.until(is_alone).await;
        for count in 22..=40 {
            assert_eq!(a.count(100).await, count);
        }
        let b = play.start(ReplicaId::B).await;
        let mut pair = [a, b];
        duplex(&pair).await;
        let storage = pair[1].storage().await;
        assert_eq!(storage.gauges.checkpoint, None, "entries were enough");
        assert!(!storage.commit.is_empty(), "what it got was synced");
        assert_eq!(pair[1].count(100).await, 41);

        // What came back is good for going on alone.
        let [a, mut b] = pair;
        a.kill().await;
        b.until(is_alone).await;
        assert_eq!(b.count(100).await, 42);
    }
}

/// With so little kept, a journal of 4 MiB segments soon lacks its beginning.
fn keeps_little(settings: &mut Settings) {
    settings.storage.checkpoint_bytes = 1 << 20;
    settings.storage.journal_keep_bytes = 0;
    settings.storage.checkpoints_kept = 1;
}

#[tokio::test]
async fn one_whose_disk_was_wiped_comes_back_with_a_checkpoint() {
    let play = Play::new(keeps_little);
    let [mut a, b] = play.both().await;
    b.kill().await;
    a.until(is_alone).await;
    wipe(&play.stage.directory(ReplicaId::B));
    let mut count = 0;
    while a.storage().await.gauges.journal_base == Index(0) {
        count = a.count(64 << 10).await;
        assert!(count < 1000, "the journal's beginning goes after some MiB");
    }
    let b = play.start(ReplicaId::B).await;
    let mut pair = [a, b];
    duplex(&pair).await;
    let gauges = pair[1].storage().await.gauges;
    assert!(gauges.checkpoint.is_some(), "its journal begins with a checkpoint: {gauges:?}");
    assert_eq!(pair[1].count(100).await, count + 1);
}

#[tokio::test]
async fn a_pair_that_lost_its_power_goes_on_with_everything() {
    for change in [(|_| {}) as fn(&mut Settings), keeps_little] {
        let play = Play::new(change);
        let [mut a, b] = play.both().await;
        let mut count = 0;
        for _ in 0..60 {
            count = a.count(64 << 10).await;
        }
        a.kill().await;
        b.kill().await;
        let mut pair = play.both().await;
        pair[0].count_on(count + 1).await;
        pair[1].count_on(count + 2).await;
    }
}

#[tokio::test]
async fn one_alone_with_its_disk_claims_its_place_again() {
    let play = Play::new(|_| {});
    let [mut a, b] = play.both().await;
    b.kill().await;
    a.until(is_alone).await;
    assert_eq!(a.count(100).await, 1);
    a.kill().await;
    let mut a = play.start(ReplicaId::A).await;
    a.until(is_alone).await;
    a.count_on(2).await;
}

#[tokio::test]
async fn a_member_whose_disk_fails_is_removed_and_says_why() {
    let play = Play::new(|_| {});
    let disk = MemoryDirectory::new();
    let locked = Locked { directory: Box::new(disk.clone()), lock: None };
    let a = play.start(ReplicaId::A).await;
    let b = play.stage.start_on(locked, play.settings(ReplicaId::B), COUNTING);
    let mut pair = [a, b];
    duplex(&pair).await;
    assert_eq!(pair[0].count(100).await, 1);
    const ENOSPC: i32 = 28;
    disk.inject(Fault { operation: Some(Operation::Write), nth: 1, error: ENOSPC });
    let [mut a, b] = pair;
    assert_eq!(a.count(100).await, 2, "the other goes on");
    let StopCause::Storage { why } = soon(b.ended).await.unwrap() else { panic!("another cause") };
    assert!(why.contains("write journal-") && why.contains("free space"), "{why}");
    a.until(is_alone).await;
    assert_eq!(a.count(100).await, 3);
}

#[tokio::test]
async fn a_failing_disk_removes_nobody_where_memory_is_enough() {
    let play = Play::new(|settings| settings.storage.durability = Durability::Memory);
    let disk = MemoryDirectory::new();
    let locked = Locked { directory: Box::new(disk.clone()), lock: None };
    let a = play.start(ReplicaId::A).await;
    let b = play.stage.start_on(locked, play.settings(ReplicaId::B), COUNTING);
    let mut pair = [a, b];
    duplex(&pair).await;
    assert_eq!(pair[0].count(100).await, 1);
    soon(async {
        while !pair[1].storage().await.failed {
            // One that strikes a spare file, which is made ready meanwhile, is done without.
            disk.inject(Fault { operation: Some(Operation::Write), nth: 1, error: 5 });
            tokio::task::yield_now().await;
        }
    })
    .await;
    for count in 2..50 {
        assert_eq!(pair[1].count(100).await, count);
    }
    duplex(&pair).await;
}

#[tokio::test]
async fn without_a_journal_to_claim_by_one_comes_back_as_a_joiner() {
    let play = Play::new(|settings| settings.storage.durability = Durability::Memory);
    let [mut a, b] = play.both().await;
    assert_eq!(a.count(100).await, 1);
    b.kill().await;
    a.until(is_alone).await;
    assert_eq!(a.count(100).await, 2);
    let mut pair = [a, play.start(ReplicaId::B).await];
    duplex(&pair).await;
    assert_eq!(pair[1].count(100).await, 3);
}

#[tokio::test]
async fn a_damaged_journal_is_set_aside_and_the_other_asked() {
    let play = Play::new(|_| {});
    let [mut a, b] = play.both().await;
    for count in 1..=50 {
        assert_eq!(a.count(1000).await, count);
    }
    b.kill().await;
    a.until(is_alone).await;
    let directory = play.stage.directory(ReplicaId::B);
    drop(Locked::take(&directory).unwrap());
    let segment = directory.join("journal-0000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[3 * 4096 + 100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let mut pair = [a, play.start(ReplicaId::B).await];
    duplex(&pair).await;
    assert!(directory.join("journal-0000000001.damaged").exists());
    assert_eq!(pair[1].count(100).await, 51);
}

#[tokio::test]
async fn a_replay_that_contradicts_what_was_released_is_no_claim() {
    let play = Play::new(|_| {});
    let [mut a, b] = play.both().await;
    for count in 1..=10 {
        assert_eq!(a.count(100).await, count);
    }
    b.kill().await;
    a.until(is_alone).await;
    // A service that computes something else from the same log.
    let other = Counter { count: 0, step: 2 };
    let settings = play.settings(ReplicaId::B);
    play.stage.ports(&settings).await;
    let b = play.stage.start(settings, other);
    soon(async {
        while !play.stage.directory(ReplicaId::B).join("journal-0000000001.damaged").exists() {
            b.handle.status().await.unwrap();
        }
    })
    .await;
    assert_eq!(a.count(100).await, 11);
}

/// Nobody else has its state, and its own disk contradicts what it released.
#[tokio::test]
async fn a_sole_member_whose_replay_contradicts_is_adopted_in_a_new_lineage() {
    let mut play = Play::new(|_| {});
    let [mut a, b] = play.both().await;
    b.kill().await;
    a.until(is_alone).await;
    for count in 1..=10 {
        assert_eq!(a.count(100).await, count);
    }
    a.kill().await;
    // What runs now computes something else from the same log, as if that had been wrong before.
    let other = || Counter { count: 0, step: 2 };
    let settings = play.settings(ReplicaId::A);
    play.stage.ports(&settings).await;
    let a = play.stage.start(settings, other());
    let segment = play.stage.directory(ReplicaId::A).join("journal-0000000001");
    soon(async {
        while !segment.with_extension("damaged").exists() {
            a.handle.status().await.unwrap();
        }
    })
    .await;
    a.kill().await;
    play.stage.witness = start_witness_at(&play.stage.cast, Lineage(1), Epoch(100)).into();
    for adopt in [true, false] {
        let settings = Settings { adopt, ..play.settings(ReplicaId::A) };
        play.stage.ports(&settings).await;
        let mut a = play.stage.start(settings, other());
        a.until(is_alone).await;
        assert!(!segment.with_extension("damaged").exists());
        // With all ten inputs, and after a restart as well.
        a.count_on(if adopt { 22 } else { 24 }).await;
        a.kill().await;
    }
}

#[test]
fn a_service_has_a_name_that_fits() {
    let named = |bytes| Identity { name: "n".repeat(bytes), ..COUNTING.identity() };
    check_name(&named(NAME_BYTES)).unwrap();
    for wrong in [0, NAME_BYTES + 1] {
        let refused = check_name(&named(wrong)).unwrap_err();
        assert!(matches!(refused, StartupError::ServiceName { bytes } if bytes == wrong));
    }
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let stage = Stage::new();
    let settings = stage.settings(ReplicaId::A);
    let _taken = Locked::take(&settings.storage.directory).unwrap();
    let credentials = stage.cast.of(Role::CoServer(ReplicaId::A));
    let refused = CoServer::start(settings, credentials, COUNTING, Devices::default()).err();
    let error = refused.unwrap();
    assert!(
        matches!(error, StartupError::Storage { source: StorageError::Directory(_), .. }),
        "{error}"
    );
}
