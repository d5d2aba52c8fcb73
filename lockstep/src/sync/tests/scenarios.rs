//! What one thread can see: bounds, order, closing, and who is woken how often.

use crate::sync::{Capacity, CapacityError, Depth, PopError, PushError, Receiver, Sender};
use crate::sync::{WaitError, Watermark, mailbox, watermark};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn boxed(items: usize, bytes: u64) -> (Sender<u64>, Receiver<u64>) {
    mailbox(Capacity::new(items, bytes).unwrap(), |weight| *weight)
}

#[expect(clippy::disallowed_methods, reason = "a deadline for a thread that blocks")]
fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(20))
}

#[test]
fn absurd_capacities_are_refused() {
    assert_eq!(Capacity::new(0, 1), Err(CapacityError::Items(0)));
    let many = Capacity::MAX_ITEMS + 1;
    assert_eq!(Capacity::new(many, 1), Err(CapacityError::Items(many)));
    let heavy = Capacity::MAX_BYTES + 1;
    assert_eq!(Capacity::new(1, heavy), Err(CapacityError::Bytes(heavy)));
    let message = CapacityError::Items(0).to_string();
    assert_eq!(message, "0 items: choose from 1 to 1048576");
    let most = Capacity::new(1, Capacity::MAX_BYTES).unwrap();
    assert_eq!((most.items(), most.bytes()), (1, Capacity::MAX_BYTES));
}

#[test]
fn both_bounds_hold_and_give_the_item_back() {
    let (sender, mut receiver) = boxed(2, 10);
    assert_eq!(sender.try_push(11), Err(PushError::TooLarge(11)));
    assert_eq!(sender.try_push(u64::MAX), Err(PushError::TooLarge(u64::MAX)));
    sender.try_push(6).unwrap();
    assert_eq!(sender.try_push(5), Err(PushError::Full(5)));
    sender.try_push(4).unwrap();
    assert_eq!(sender.try_push(0).map_err(PushError::into_item), Err(0));
    assert_eq!(receiver.depth(), Depth { items: 2, bytes: 10 });
    assert_eq!(receiver.pop(), Ok(6));
    sender.try_push(5).unwrap();
    assert_eq!(sender.depth(), Depth { items: 2, bytes: 9 });
}

#[test]
fn the_largest_weights_fit_their_field() {
    let (sender, mut receiver) = boxed(2, Capacity::MAX_BYTES);
    sender.try_push(Capacity::MAX_BYTES).unwrap();
    assert_eq!(sender.try_push(1), Err(PushError::Full(1)));
    sender.try_push(0).unwrap();
    assert_eq!(receiver.pop(), Ok(Capacity::MAX_BYTES));
    assert_eq!(sender.depth(), Depth { items: 1, bytes: 0 });
}

#[test]
fn a_sleeping_consumer_is_woken_once_and_an_awake_one_never() {
    let (sender, mut receiver) = boxed(8, 100);
    let (woken, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    assert_eq!(receiver.poll_pop(&mut cx), Poll::Pending);
    for item in 1..=3 {
        sender.try_push(item).unwrap();
    }
    assert_eq!(woken.get(), 1);
    for item in 1..=3 {
        assert_eq!(receiver.poll_pop(&mut cx), Poll::Ready(Some(item)));
    }
    sender.try_push(4).unwrap();
    assert_eq!(woken.get(), 1);
    assert_eq!(receiver.poll_pop(&mut cx), Poll::Ready(Some(4)));
    assert_eq!(receiver.poll_pop(&mut cx), Poll::Pending);
    assert_eq!(receiver.pop(), Err(PopError::Empty), "awake again, for another reason");
    sender.try_push(5).unwrap();
    assert_eq!(woken.get(), 1);
}

#[test]
fn the_waker_given_last_is_the_one_that_counts() {
    let (sender, mut receiver) = boxed(8, 100);
    let ((old, first), (new, second)) = (Count::new(), Count::new());
    assert!(receiver.poll_pop(&mut Context::from_waker(&first)).is_pending());
    assert!(receiver.poll_pop(&mut Context::from_waker(&second)).is_pending());
    sender.try_push(1).unwrap();
    assert_eq!((old.get(), new.get()), (0, 1));
}

#[test]
fn room_wakes_a_waiting_task_and_a_dropped_one_leaves_nothing() {
    let (sender, mut receiver) = boxed(1, 100);
    sender.try_push(1).unwrap();
    let (woken, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    {
        let mut given_up = pin!(sender.push(7));
        assert!(given_up.as_mut().poll(&mut cx).is_pending());
    }
    assert_eq!(Arc::strong_count(&woken), 2, "the waker here, and no other");
    let mut push = pin!(sender.push(2));
    assert!(push.as_mut().poll(&mut cx).is_pending());
    assert_eq!(receiver.pop(), Ok(1));
    assert_eq!(woken.get(), 1);
    assert_eq!(push.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(receiver.pop(), Ok(2));
}

#[test]
fn closing_refuses_new_items_and_drains_old_ones() {
    for from_the_consumer in [true, false] {
        let (sender, mut receiver) = boxed(4, 100);
        sender.try_push(1).unwrap();
        if from_the_consumer {
            receiver.close()
        } else {
            sender.close()
        }
        assert!(sender.is_closed());
        assert_eq!(sender.try_push(2), Err(PushError::Closed(2)));
        assert_eq!(sender.push_blocking(2, None), Err(PushError::Closed(2)));
        assert_eq!(receiver.pop(), Ok(1));
        assert_eq!(receiver.pop(), Err(PopError::Closed));
        assert_eq!(receiver.pop_blocking(None), Err(PopError::Closed));
    }
}

#[test]
fn the_last_sender_closes_and_wakes() {
    let (sender, mut receiver) = boxed(4, 100);
    let other = sender.clone();
    let (woken, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    assert!(receiver.poll_pop(&mut cx).is_pending());
    drop(sender);
    assert_eq!(woken.get(), 0);
    drop(other);
    assert_eq!(woken.get(), 1);
    assert_eq!(receiver.poll_pop(&mut cx), Poll::Ready(None));
}

#[test]
fn a_dropped_receiver_drops_what_it_was_sent() {
    let capacity = Capacity::new(4, 100).unwrap();
    let (sender, receiver) = mailbox(capacity, |_: &Arc<()>| 1);
    let item = Arc::new(());
    sender.try_push(Arc::clone(&item)).unwrap();
    drop(receiver);
    assert_eq!(Arc::strong_count(&item), 1);
    assert_eq!(sender.try_push(item), Err(PushError::Closed(Arc::new(()))));
}

#[test]
fn deadlines_end_every_blocking_wait() {
    let (sender, mut receiver) = boxed(1, 100);
    assert_eq!(receiver.pop_blocking(soon()), Err(PopError::Empty));
    sender.try_push(1).unwrap();
    assert_eq!(sender.push_blocking(2, soon()), Err(PushError::Full(2)));
    let (_writer, reader) = watermark(3);
    assert_eq!(reader.wait(4, soon()), Err(WaitError::TimedOut { reached: 3 }));
}

#[test]
fn a_watermark_wakes_those_it_has_reached_and_no_others() {
    let (mut writer, reader) = watermark(0);
    let ((near, first), (far, second)) = (Count::new(), Count::new());
    let (mut five, mut nine) = (pin!(reader.reached(5)), pin!(reader.reached(9)));
    assert!(five.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
    assert!(nine.as_mut().poll(&mut Context::from_waker(&second)).is_pending());
    writer.advance(4);
    assert_eq!((near.get(), far.get()), (0, 0));
    writer.advance(6);
    assert_eq!((near.get(), far.get()), (1, 0));
    assert_eq!(five.as_mut().poll(&mut Context::from_waker(&first)), Poll::Ready(Ok(6)));
    writer.advance(9);
    assert_eq!((near.get(), far.get()), (1, 1));
    assert_eq!(nine.as_mut().poll(&mut Context::from_waker(&second)), Poll::Ready(Ok(9)));
}

#[test]
fn a_task_that_gives_one_wait_up_keeps_its_other() {
    let (mut writer, reader) = watermark(0);
    let (woken, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    let mut kept = pin!(reader.reached(2));
    assert!(kept.as_mut().poll(&mut cx).is_pending());
    {
        let mut given_up = pin!(reader.reached(1));
        assert!(given_up.as_mut().poll(&mut cx).is_pending());
    }
    writer.advance(2);
    assert_eq!(woken.get(), 1);
}

#[test]
fn a_watermark_never_goes_back_and_ends_with_its_writer() {
    let (mut writer, reader) = watermark(5);
    writer.advance(4);
    assert_eq!((writer.get(), reader.get()), (5, 5));
    writer.advance(Watermark::MAX - 1);
    assert!(!reader.is_closed());
    drop(writer);
    assert!(reader.is_closed());
    assert_eq!(reader.wait(7, None), Ok(Watermark::MAX - 1));
    let reached = Watermark::MAX - 1;
    assert_eq!(reader.wait(Watermark::MAX, None), Err(WaitError::Closed { reached }));
}

#[test]
#[should_panic(expected = "is above")]
fn a_value_with_the_end_mark_is_our_own_mistake() {
    watermark(0).0.advance(Watermark::MAX + 1);
}
