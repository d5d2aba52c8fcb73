//! Real threads, few and short. Every wait has a deadline, so that a lost
//! wake-up is a failure and not a hang.
#![expect(clippy::disallowed_methods, reason = "tests of what connects threads")]

use crate::sync::{Capacity, PopError, Sender, WaitError, mailbox, watermark};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const PRODUCERS: u64 = 3;
const EACH: u64 = 20_000;

fn deadline() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(20))
}

/// Pushes this producer's numbers in order, blocking where there is no room.
fn produce(sender: Sender<(u64, u64)>, producer: u64) {
    for number in 0..EACH {
        sender.push_blocking((producer, number), deadline()).unwrap();
    }
}

/// Notes one more item; each producer's must come in order, none missing.
fn note(next: &mut [u64; PRODUCERS as usize], (producer, number): (u64, u64)) {
    assert_eq!(next[producer as usize], number);
    next[producer as usize] += 1;
}

fn weigh(item: &(u64, u64)) -> u64 {
    item.1 % 5
}

#[test]
fn threads_lose_nothing_through_a_tight_mailbox() {
    for (items, bytes) in [(1, 4), (3, 6), (64, 1000)] {
        let (sender, mut receiver) = mailbox(Capacity::new(items, bytes).unwrap(), weigh);
        let mut next = [0; PRODUCERS as usize];
        thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let sender = sender.clone();
                scope.spawn(move || produce(sender, producer));
            }
            drop(sender);
            loop {
                match receiver.pop_blocking(deadline()) {
                    Ok(item) => note(&mut next, item),
                    Err(end) => break assert_eq!(end, PopError::Closed, "stuck at {next:?}"),
                }
            }
        });
        assert_eq!(next, [EACH; PRODUCERS as usize]);
    }
}

#[test]
fn a_task_loses_nothing_from_threads() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (sender, mut receiver) = mailbox(Capacity::new(16, 40).unwrap(), weigh);
    let mut next = [0; PRODUCERS as usize];
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let sender = sender.clone();
            scope.spawn(move || produce(sender, producer));
        }
        drop(sender);
        runtime.block_on(async {
            let all = async {
                while let Some(item) = receiver.recv().await {
                    note(&mut next, item);
                }
            };
            tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
        });
    });
    assert_eq!(next, [EACH; PRODUCERS as usize]);
}

#[test]
fn a_task_waits_for_room_that_a_thread_makes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (sender, mut receiver) = mailbox(Capacity::new(2, 100).unwrap(), |_: &u64| 1);
    thread::scope(|scope| {
        let service = scope.spawn(move || {
            for number in 0..EACH {
                assert_eq!(receiver.pop_blocking(deadline()), Ok(number));
            }
            assert_eq!(receiver.pop_blocking(deadline()), Err(PopError::Closed));
        });
        runtime.block_on(async {
            for number in 0..EACH {
                let push = sender.push(number);
                tokio::time::timeout(Duration::from_secs(20), push).await.unwrap().unwrap();
            }
        });
        drop(sender);
        service.join().unwrap();
    });
}

#[test]
fn readers_of_a_watermark_see_what_was_written_before() {
    let (mut writer, reader) = watermark(0);
    let data = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for stride in [1, 7, 1000] {
            let (reader, data) = (reader.clone(), Arc::clone(&data));
            scope.spawn(move || {
                let mut threshold = stride;
                while threshold <= EACH {
                    let reached = reader.wait(threshold, deadline()).unwrap();
                    assert!(reached >= threshold);
                    assert!(data.load(Ordering::Relaxed) >= reached);
                    threshold = reached + stride;
                }
                let end = reader.wait(EACH + 1, deadline());
                assert_eq!(end, Err(WaitError::Closed { reached: EACH }));
            });
        }
        scope.spawn(move || {
            for value in 1..=EACH {
                data.store(value, Ordering::Relaxed);
                writer.advance(value);
            }
        });
    });
}
