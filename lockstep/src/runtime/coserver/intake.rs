//! Inputs of devices on their way into the loop.
#![allow(clippy::disallowed_types, reason = "devices have threads of their own")]

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::device::{Intake, Refused};
use crate::ids::DeviceId;
use crate::limits;
use crate::sync::{Capacity, CapacityError, PushError, Receiver, Sender, mailbox};

/// Inputs of all devices that wait for the loop, shared out evenly. More wait in the devices.
const ITEMS: usize = 4096;

/// Bytes of the same.
const BYTES: u64 = 16 << 20;

/// What a device may have at least, however many there are: an input of the longest kind while
/// another is on its way.
const LEAST: (usize, u64) = (64, 2 * (limits::INPUT_BYTES as u64 + 1));

/// Bytes that are taken from one device before the others have their turn; an input counts for no
/// less than its overhead.
const TURN_BYTES: usize = 32 << 10;
const OVERHEAD: usize = 64;

/// The devices' end: a queue for each, so that none waits for room that another has taken.
pub(super) struct DeviceIntake {
    queues: Vec<Queue>,
}

struct Queue {
    device: DeviceId,
    inputs: Sender<Bytes>,
    waiting: Mutex<Vec<Waker>>,
}

/// The loop's end.
pub(super) struct DeviceInputs {
    inputs: Vec<Receiver<Bytes>>,
    intake: Arc<DeviceIntake>,
    /// Whose turn it is, and how many bytes more it has.
    turn: usize,
    left: usize,
}

fn bytes_of_each(count: usize) -> u64 {
    (BYTES / count.max(1) as u64).max(LEAST.1)
}

/// Bytes that wait for the loop at most, with so many devices.
pub(crate) fn bytes_of_all(count: usize) -> u64 {
    count as u64 * bytes_of_each(count)
}

/// Queues for these devices.
pub(super) fn intake(
    devices: &[DeviceId],
) -> Result<(Arc<DeviceIntake>, DeviceInputs), CapacityError> {
    let count = devices.len().max(1);
    let (items, bytes) = ((ITEMS / count).max(LEAST.0), bytes_of_each(count));
    let (mut queues, mut receivers) = (Vec::new(), Vec::new());
    for &device in devices {
        let (inputs, receiver) =
            mailbox(Capacity::new(items, bytes)?, |bytes: &Bytes| bytes.len() as u64 + 1);
        queues.push(Queue { device, inputs, waiting: Default::default() });
        receivers.push(receiver);
    }
    let intake = Arc::new(DeviceIntake { queues });
    let inputs =
        DeviceInputs { inputs: receivers, intake: Arc::clone(&intake), turn: 0, left: TURN_BYTES };
    Ok((intake, inputs))
}

impl Intake for DeviceIntake {
    fn try_push(&self, device: DeviceId, bytes: Bytes) -> Result<(), Refused> {
        let Some(queue) = self.queue(device) else { return Err(Refused::Closed) };
        queue.inputs.try_push(bytes).map_err(|error| match error {
            PushError::Full(bytes) => Refused::Full(bytes),
            PushError::TooLarge(bytes) => Refused::TooLong { len: bytes.len() },
            PushError::Closed(_) => Refused::Closed,
        })
    }

    fn register(&self, device: DeviceId, waker: &Waker) {
        let Some(queue) = self.queue(device) else { return waker.wake_by_ref() };
        let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        if queue.inputs.is_closed() {
            waiting.drain(..).for_each(Waker::wake);
        }
    }
}

impl DeviceIntake {
    fn queue(&self, device: DeviceId) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.device == device)
    }
}

impl Queue {
    fn wake_waiting(&self) {
        let waiting =
            core::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl DeviceInputs {
    /// The oldest input of the device whose turn it is, or of the next that has one.
    pub(super) fn pop(&mut self) -> Option<(DeviceId, Bytes)> {
        for _ in 0..self.inputs.len() {
            if let Ok(bytes) = self.inputs[self.turn].pop() {
                return Some(self.taken(bytes));
            }
            self.pass_on();
        }
        None
    }

    /// Whether an input waits; otherwise the task is woken when one comes.
    pub(super) fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<(DeviceId, Bytes)> {
        for _ in 0..self.inputs.len() {
            if let Poll::Ready(Some(bytes)) = self.inputs[self.turn].poll_pop(cx) {
                return Poll::Ready(self.taken(bytes));
            }
            self.pass_on();
        }
        Poll::Pending
    }

    fn taken(&mut self, bytes: Bytes) -> (DeviceId, Bytes) {
        let queue = &self.intake.queues[self.turn];
        queue.wake_waiting();
        let device = queue.device;
        self.left = self.left.saturating_sub(bytes.len().max(OVERHEAD));
        if self.left == 0 {
            self.pass_on();
        }
        (device, bytes)
    }

    fn pass_on(&mut self) {
        self.turn = (self.turn + 1) % self.inputs.len().max(1);
        self.left = TURN_BYTES;
    }

    /// Takes nothing more; devices that wait learn of it.
    pub(super) fn close(&mut self) {
        self.inputs.iter().for_each(Receiver::close);
        self.intake.queues.iter().for_each(Queue::wake_waiting);
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    const GREEDY: DeviceId = DeviceId(0);
    const OTHER: DeviceId = DeviceId(1);

    fn two() -> (Arc<DeviceIntake>, DeviceInputs) {
        intake(&[GREEDY, OTHER]).unwrap()
    }

    /// Pushes until there is no room.
    fn fill(intake: &DeviceIntake, device: DeviceId, len: usize) -> usize {
        let bytes = Bytes::from(vec![7; len]);
        (0..).take_while(|_| intake.try_push(device, bytes.clone()).is_ok()).count()
    }

    #[test]
    fn a_device_that_takes_all_it_can_leaves_room_for_the_others() {
        let (intake, mut inputs) = two();
        assert_eq!(fill(&intake, GREEDY, 1), ITEMS / 2);
        assert!(matches!(intake.try_push(GREEDY, Bytes::new()), Err(Refused::Full(_))));
        assert!(intake.try_push(OTHER, Bytes::from_static(b"x")).is_ok());
        let before = (0..).take_while(|_| inputs.pop().unwrap().0 == GREEDY).count();
        assert_eq!(before, TURN_BYTES / OVERHEAD, "the other has its turn");
    }

    #[test]
    fn turns_are_of_bytes_and_none_waits_for_one_that_has_nothing() {
        let (intake, mut inputs) = two();
        let long = fill(&intake, GREEDY, 1 << 20);
        assert!((2..=8).contains(&long), "{long} of a mebibyte in 8 MiB");
        let short = fill(&intake, OTHER, 1 << 10);
        let taken: Vec<_> = core::iter::from_fn(|| inputs.pop()).map(|(from, _)| from).collect();
        assert_eq!(taken.len(), long + short);
        assert_eq!(taken[..2], [GREEDY, OTHER], "one long input is a turn");
        assert_eq!(taken[1..33], [OTHER; 32]);
        assert_eq!(taken[33], GREEDY);
        assert!(taken[long * 33..].iter().all(|from| *from == OTHER), "the rest");
    }

    #[test]
    fn what_one_device_pushed_comes_in_its_order() {
        let (intake, mut inputs) = two();
        for number in 0..200_u8 {
            intake.try_push(OTHER, Bytes::copy_from_slice(&[number])).unwrap();
        }
        let order: Vec<_> = core::iter::from_fn(|| inputs.pop()).map(|(_, b)| b[0]).collect();
        assert_eq!(order, (0..200).collect::<Vec<_>>());
    }

    /// How often it was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_device_that_waits_for_room_is_woken_when_its_own_queue_has_some() {
        let (intake, mut inputs) = two();
        let woken = Arc::new(Woken::default());
        intake.register(GREEDY, &Waker::from(Arc::clone(&woken)));
        intake.try_push(OTHER, Bytes::new()).unwrap();
        assert_eq!(inputs.pop().unwrap().0, OTHER);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "that is no room for this one");
        intake.try_push(GREEDY, Bytes::new()).unwrap();
        assert_eq!(inputs.pop().unwrap().0, GREEDY);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_waits_learns_that_the_engine_takes_nothing_more() {
        let (intake, mut inputs) = two();
        let woken = Arc::new(Woken::default());
        intake.register(OTHER, &Waker::from(Arc::clone(&woken)));
        inputs.close();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(matches!(intake.try_push(OTHER, Bytes::new()), Err(Refused::Closed)));
        intake.register(OTHER, &Waker::from(Arc::clone(&woken)));
        intake.register(DeviceId(9), &Waker::from(Arc::clone(&woken)));
        assert_eq!(woken.0.load(Ordering::Relaxed), 3, "and whoever comes later, or is unknown");
        assert!(matches!(intake.try_push(DeviceId(9), Bytes::new()), Err(Refused::Closed)));
    }

    #[test]
    fn many_devices_have_what_one_needs_at_least() {
        let (intake, _inputs) = intake(&(0..100).map(DeviceId).collect::<Vec<_>>()).unwrap();
        let longest = Bytes::from(vec![7; limits::INPUT_BYTES]);
        for _ in 0..2 {
            intake.try_push(DeviceId(99), longest.clone()).unwrap();
        }
        assert_eq!(fill(&intake, DeviceId(98), 1), LEAST.0);
    }
}
