//! The models that loom explores, and the proof that each ordering matters.
//!
//! Models of lost wake-ups keep the other end alive until the wait is over:
//! its drop notifies too, and would hide the loss.

use crate::sync::orderings::Site;
use crate::sync::orderings::weaken::with_weakened;
use crate::sync::{Capacity, PopError, PushError, Receiver, Sender, WaitError};
use crate::sync::{mailbox, watermark};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use std::process::{Command, Output};

/// How many switches of threads an execution may have where none has to be.
const PREEMPTIONS: usize = 3;

/// For models of which three would take minutes.
const FEWER: usize = 2;

fn explore(model: fn(), preemptions: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn slots(items: usize) -> (Sender<u64>, Receiver<u64>) {
    mailbox(Capacity::new(items, 100).unwrap(), |_| 1)
}

fn arrivals_wake_the_consumer() {
    let (sender, mut receiver) = slots(2);
    let other = sender.clone();
    let first = thread::spawn(move || {
        other.try_push(1).unwrap();
        other
    });
    let second = thread::spawn(move || {
        sender.try_push(2).unwrap();
        sender
    });
    let sum = receiver.pop_blocking(None).unwrap() + receiver.pop_blocking(None).unwrap();
    assert_eq!(sum, 3);
    drop((first.join().unwrap(), second.join().unwrap()));
}

fn one_producer_keeps_its_order() {
    let (sender, mut receiver) = slots(2);
    let producer = thread::spawn(move || {
        sender.try_push(1).unwrap();
        sender.try_push(2).unwrap();
        sender
    });
    assert_eq!(receiver.pop_blocking(None), Ok(1));
    assert_eq!(receiver.pop_blocking(None), Ok(2));
    drop(producer.join().unwrap());
}

fn room_wakes_a_producer() {
    let (sender, mut receiver) = slots(1);
    let producer = thread::spawn(move || {
        sender.try_push(1).unwrap();
        sender.push_blocking(2, None).unwrap();
        sender
    });
    assert_eq!(receiver.pop_blocking(None), Ok(1));
    drop(producer.join().unwrap());
    assert_eq!(receiver.pop(), Ok(2));
}

fn room_wakes_all_producers() {
    let (sender, mut receiver) = slots(1);
    sender.try_push(0).unwrap();
    let other = sender.clone();
    let producer = thread::spawn(move || {
        other.push_blocking(1, None).unwrap();
        other
    });
    let second = thread::spawn(move || {
        sender.push_blocking(2, None).unwrap();
        sender
    });
    let mut sum = 0;
    for _ in 0..3 {
        sum += receiver.pop_blocking(None).unwrap();
    }
    assert_eq!(sum, 3);
    drop((producer.join().unwrap(), second.join().unwrap()));
}

fn whoever_is_admitted_finds_a_slot() {
    let (sender, mut receiver) = slots(1);
    sender.try_push(1).unwrap();
    let producer = thread::spawn(move || match sender.try_push(2) {
        Ok(()) => 2,
        Err(PushError::Full(_)) => 0,
        Err(other) => panic!("{other:?}"),
    });
    assert_eq!(receiver.pop(), Ok(1));
    let pushed = producer.join().unwrap();
    assert_eq!(receiver.pop().unwrap_or(0), pushed);
}

fn the_last_producer_to_go_wakes_the_consumer() {
    let (sender, mut receiver) = slots(2);
    let other = sender.clone();
    let first = thread::spawn(move || other.try_push(1).unwrap());
    let second = thread::spawn(move || drop(sender));
    assert_eq!(receiver.pop_blocking(None), Ok(1));
    assert_eq!(receiver.pop_blocking(None), Err(PopError::Closed));
    first.join().unwrap();
    second.join().unwrap();
}

fn nothing_is_lost_between_a_push_and_a_close() {
    let (sender, mut receiver) = slots(2);
    let other = sender.clone();
    let producer = thread::spawn(move || match other.try_push(1) {
        Ok(()) => 1,
        Err(PushError::Closed(_)) => 0,
        Err(other) => panic!("{other:?}"),
    });
    let closer = thread::spawn(move || {
        sender.close();
        sender
    });
    let taken = receiver.pop_blocking(None).unwrap_or(0);
    if taken != 0 {
        assert_eq!(receiver.pop_blocking(None), Err(PopError::Closed));
    }
    assert_eq!(taken, producer.join().unwrap());
    drop(closer.join().unwrap());
}

fn a_lost_consumer_frees_a_blocked_producer() {
    let (sender, receiver) = slots(1);
    sender.try_push(1).unwrap();
    let consumer = thread::spawn(move || drop(receiver));
    assert_eq!(sender.push_blocking(2, None), Err(PushError::Closed(2)));
    consumer.join().unwrap();
}

fn progress_wakes_a_reader() {
    let (mut writer, reader) = watermark(0);
    let progress = thread::spawn(move || {
        writer.advance(1);
        writer.advance(2);
        writer
    });
    assert_eq!(reader.wait(2, None), Ok(2));
    drop(progress.join().unwrap());
}

fn readers_with_different_thresholds_all_wake() {
    let (mut writer, reader) = watermark(0);
    let far = reader.clone();
    let far = thread::spawn(move || far.wait(2, None));
    let progress = thread::spawn(move || {
        writer.advance(1);
        writer
    });
    assert_eq!(reader.wait(1, None), Ok(1));
    let mut writer = progress.join().unwrap();
    writer.advance(2);
    assert_eq!(far.join().unwrap(), Ok(2));
    drop(writer);
}

fn what_came_before_a_value_is_seen_with_it() {
    let (mut writer, reader) = watermark(0);
    let data = Arc::new(AtomicU64::new(0));
    let source = Arc::clone(&data);
    let progress = thread::spawn(move || {
        source.store(9, Ordering::Relaxed);
        writer.advance(1);
    });
    if reader.get() == 1 {
        assert_eq!(data.load(Ordering::Relaxed), 9);
    }
    progress.join().unwrap();
}

fn the_end_of_a_writer_hides_no_progress() {
    let (mut writer, reader) = watermark(0);
    let other = reader.clone();
    let near = thread::spawn(move || other.wait(1, None));
    let progress = thread::spawn(move || {
        writer.advance(1);
    });
    assert_eq!(reader.wait(2, None), Err(WaitError::Closed { reached: 1 }));
    assert_eq!(near.join().unwrap(), Ok(1));
    progress.join().unwrap();
}

macro_rules! hold {
    ($($name:ident: $preemptions:ident),* $(,)?) => {
        mod hold {
            $(#[test]
            fn $name() {
                super::explore(super::$name, super::$preemptions);
            })*
        }
    };
}

hold!(
    arrivals_wake_the_consumer: PREEMPTIONS,
    one_producer_keeps_its_order: PREEMPTIONS,
    room_wakes_a_producer: PREEMPTIONS,
    room_wakes_all_producers: FEWER,
    whoever_is_admitted_finds_a_slot: PREEMPTIONS,
    the_last_producer_to_go_wakes_the_consumer: PREEMPTIONS,
    nothing_is_lost_between_a_push_and_a_close: PREEMPTIONS,
    a_lost_consumer_frees_a_blocked_producer: PREEMPTIONS,
    progress_wakes_a_reader: PREEMPTIONS,
    readers_with_different_thresholds_all_wake: PREEMPTIONS,
    what_came_before_a_value_is_seen_with_it: PREEMPTIONS,
    the_end_of_a_writer_hides_no_progress: PREEMPTIONS,
);

const DEADLOCK: &str = "deadlock";
const NO_SLOT: &str = "no free slot";
const NOT_SEEN: &str = "assertion `left == right` failed";

/// What goes wrong, and in which model, without which ordering. Where an
/// ordering serves several protocols it is shown for each of them.
const NEEDED: [(Site, fn(), &str); 10] = [
    (Site::Arm, arrivals_wake_the_consumer, DEADLOCK),
    (Site::Arm, room_wakes_a_producer, DEADLOCK),
    (Site::Arm, progress_wakes_a_reader, DEADLOCK),
    (Site::Notify, arrivals_wake_the_consumer, DEADLOCK),
    (Site::Notify, room_wakes_a_producer, DEADLOCK),
    (Site::Notify, the_last_producer_to_go_wakes_the_consumer, DEADLOCK),
    (Site::Reserve, whoever_is_admitted_finds_a_slot, NO_SLOT),
    (Site::Free, whoever_is_admitted_finds_a_slot, NO_SLOT),
    (Site::Advance, what_came_before_a_value_is_seen_with_it, NOT_SEEN),
    (Site::Read, what_came_before_a_value_is_seen_with_it, NOT_SEEN),
];

#[test]
fn every_ordering_is_needed() {
    for site in [Site::Arm, Site::Notify, Site::Reserve, Site::Free, Site::Advance, Site::Read] {
        assert!(NEEDED.iter().any(|needed| needed.0 == site), "{site:?} is not shown");
    }
    for (row, (site, _, failure)) in NEEDED.iter().enumerate() {
        let run = run_weakened(row);
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success(), "row {row}: the model holds without {site:?}");
        assert!(said.contains(failure), "row {row}, {site:?}: {said}");
    }
}

const ROW: &str = "LOCKSTEP_LOOM_ROW";

/// In a process of its own, because a model that deadlocks ends in a panic
/// inside a destructor, and so in an abort.
fn run_weakened(row: usize) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sync::tests::models::weakened", "--ignored", "--nocapture"])
        .env(ROW, row.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap()
}

#[test]
#[ignore = "must fail: every_ordering_is_needed runs it, once for each row"]
#[expect(clippy::disallowed_methods, reason = "how a test tells its child what to do")]
fn weakened() {
    let row: usize = std::env::var(ROW).unwrap().parse().unwrap();
    let (site, model, _) = NEEDED[row];
    with_weakened(site, || explore(model, PREEMPTIONS));
}
