//! When entries are sent to the journal's thread.

use core::future::poll_fn;
use core::time::Duration;

use super::*;
use crate::ids::Index;
use crate::proto::{StorageRequest, StorageResponse};
use crate::runtime::clock::Clock;
use crate::store::replica::{Durability, StorageSettings};
use crate::unit::Unit;

fn storage(window: usize) -> Storage<Nothing> {
    let settings = StorageSettings { durability: Durability::Memory, ..settings() };
    on(MemoryDirectory::new(), &settings, window)
}

pub(super) fn on(
    disk: MemoryDirectory,
    settings: &StorageSettings,
    window: usize,
) -> Storage<Nothing> {
    let locked = Locked { directory: Box::new(disk), lock: None };
    Storage::open(locked, who(), settings, false, 1, window, Clock::start()).unwrap().storage
}

async fn told(storage: &mut Storage<Nothing>) -> StorageResponse {
    loop {
        let answer = poll_fn(|cx| storage.poll(cx)).await;
        if let Noted::Tell(input) = storage.note(answer) {
            return input;
        }
    }
}

#[tokio::test]
async fn under_memory_entries_share_a_write_and_a_joiner_still_sees_them_all() {
    let mut storage = storage(4096);
    for entry in entries(5, 20) {
        storage.append(entry);
        assert!(storage.persists_at_once());
        storage.flush((MARK.index, MARK.outputs));
    }
    let read = StorageRequest::ReadEntries { after: Index(0) };
    storage.request(read, (MARK.index, MARK.outputs));
    assert_eq!(told(&mut storage).await, StorageResponse::Persisted(Index(5)));
    let StorageResponse::EntriesRead { entries: Some(read), .. } = told(&mut storage).await else {
        panic!("they are there");
    };
    assert_eq!(read, entries(5, 20));
}

#[tokio::test]
async fn under_memory_what_is_waited_for_is_not_left_unwritten() {
    let mut storage = storage(160);
    let last = Index(105);
    for entry in entries(last.0, 20) {
        storage.append(entry);
        storage.flush((MARK.index, MARK.outputs));
    }
    assert!(!storage.persists_at_once(), "the disk is behind by more than the pair allows");
    let written = async { while told(&mut storage).await != StorageResponse::Persisted(last) {} };
    tokio::time::timeout(Duration::from_secs(30), written).await.expect("all of it is written");
}

#[tokio::test]
async fn a_service_that_panics_over_its_records_costs_a_checkpoint_and_not_the_thread() {
    let mut storage = storage(4096);
    for panics in [true, false] {
        let mut unit = Unit::new(Nothing { panics });
        let log = entries(1, 8);
        unit.execute(&log[0]);
        storage.write_checkpoint(history(&log, 1), unit.freeze()).unwrap();
        let StorageResponse::CheckpointWritten { result, .. } = told(&mut storage).await else {
            panic!("another answer");
        };
        match (panics, result) {
            (true, Err(why)) => assert!(why.contains("panicked") && why.contains("not these")),
            (false, Ok(_)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
}
