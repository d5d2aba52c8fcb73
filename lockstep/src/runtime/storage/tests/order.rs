//! In which order the disk gets things, and which answers about it still count.

use core::future::poll_fn;
use std::collections::VecDeque;

use super::super::journal::{Command, JournalThread, Spares};
use super::handle::on;
use super::*;
use crate::ids::Index;
use crate::proto::io::Membership;
use crate::proto::{StorageRequest, StorageResponse};
use crate::runtime::clock::Clock;
use crate::sync::{Capacity, mailbox};

/// The journal's thread on this disk, without a thread.
fn journal_thread(disk: &MemoryDirectory) -> JournalThread {
    let capacity = || Capacity::new(16, 16).unwrap();
    let (commands, inbox) = mailbox(capacity(), |_: &Command| 1);
    let (answers, heard) = mailbox(capacity(), |_: &Answer| 1);
    // Nobody waits for either here.
    core::mem::forget((commands, heard));
    JournalThread {
        store: opened(disk).0,
        commands: inbox,
        answers,
        clock: Clock::start(),
        _lock: None,
        reads: VecDeque::new(),
        newest: None,
        spares: Spares::Wanting,
    }
}

#[test]
fn a_membership_is_not_on_the_disk_before_the_entries_that_came_before_it() {
    let disk = MemoryDirectory::new();
    let mut thread = journal_thread(&disk);
    let membership = Membership { record: Some(record()), ..Membership::default() };
    let append = Command::Append { entries: entries(10, 20), mark: MARK, generation: 0 };
    let persist = Command::Request(StorageRequest::PersistMembership {
        number: 1,
        membership: membership.clone(),
    });
    assert!(thread.take(append).is_ok() && thread.take(persist).is_ok());
    // The power fails now: what was not synced is gone.
    let found = opened(&disk.crash(&mut |_| 0)).1.disk.unwrap();
    assert_eq!((found.membership, found.last_index), (membership, Index(10)));
}

#[tokio::test]
async fn what_was_said_of_entries_before_the_log_was_cut_does_not_count_after_it() {
    let mut storage = on(MemoryDirectory::new(), &settings(), 4096);
    for entry in entries(10, 20) {
        storage.append(entry);
    }
    storage.flush((MARK.index, MARK.outputs));
    let early = loop {
        match poll_fn(|cx| storage.poll(cx)).await {
            answer @ Answer::Persisted { index: Index(10), .. } => break answer,
            other => drop(storage.note(other)),
        }
    };
    let truncate = StorageRequest::Truncate { after: Index(5) };
    storage.request(truncate, (Index(5), MARK.outputs));
    assert!(matches!(storage.note(early), Noted::Nothing), "those entries are gone");
    // What comes in their place counts once it is there.
    storage.append(entries(6, 20).remove(5));
    storage.flush((Index(5), MARK.outputs));
    loop {
        let answer = poll_fn(|cx| storage.poll(cx)).await;
        if let Noted::Tell(StorageResponse::Persisted(index)) = storage.note(answer) {
            break assert_eq!(index, Index(6));
        }
    }
}
