//! Inputs of devices on their way into the loop.
//!
//! Each device has so much room, and a flow gets more of it only while it has no more than it
//! leaves free. So one flow alone has half of it, and the next half of what is left (dynamic
//! thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). Where so many
//! flows have some that one with nothing finds none, what comes free is kept for the one that waits
//! longest. The loop takes them in turn ([`FairReading`]).
#![allow(clippy::disallowed_types, reason = "devices have threads of their own")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::device::{Flow, Intake, Refused};
use crate::ids::{DeviceId, MonotonicTime};
use crate::limits;
use crate::runtime::fair::FairReading;

/// Bytes of inputs of all devices that wait for the loop, shared out evenly. More wait in
/// the devices.
const BYTES: u64 = 16 << 20;

/// What an input counts for besides its bytes, so that there are never more than some thousand.
const INPUT: u64 = 4 << 10;

/// What a device may have at least, however many there are: of one flow an input of the longest
/// kind while another is on its way.
const LEAST: u64 = 3 * (limits::INPUT_BYTES as u64 + INPUT);

/// After one input was taken, this many of those that wait for room in its flow try again. They are
/// more than one, so that a flow gets what others do not use any more.
const WOKEN: usize = 2;

/// How many inputs are taken, while there is room for the one that waits longest and it does not
/// come, before the next one has its chance. The one that waited may be gone.
const CHANCES: u32 = 64;

/// A flow of a device.
type Source = (DeviceId, Flow);

fn room_of_each(count: usize) -> u64 {
    (BYTES / count.max(1) as u64).max(LEAST)
}

/// Bytes that wait for the loop at most, with so many devices.
pub(crate) fn bytes_of_all(count: usize) -> u64 {
    count as u64 * room_of_each(count)
}

/// The devices' end.
pub(super) struct DeviceIntake {
    room: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<DeviceId, Line>,
    /// Sources that have had inputs since the loop looked, and none before.
    fresh: Vec<Source>,
    consumer: Option<Waker>,
    is_closed: bool,
}

/// What a device has here.
#[derive(Default)]
struct Line {
    weight: u64,
    flows: BTreeMap<Flow, Queue>,
    /// The flows that have nothing here, and wait for room: the one that waits longest is first.
    starved: BTreeMap<u64, Starved>,
    starved_ever: u64,
}

#[derive(Default)]
struct Queue {
    weight: u64,
    inputs: VecDeque<Bytes>,
    waiting: VecDeque<Waker>,
    /// The flow's place among those that are starved.
    place: Option<u64>,
}

struct Starved {
    flow: Flow,
    /// Weight of the input that there has to be room for.
    weight: u64,
    chances: u32,
}

/// The loop's end.
pub(super) struct DeviceInputs {
    intake: Arc<DeviceIntake>,
    fair: FairReading<Source, Source>,
}

/// Room for these devices.
pub(super) fn intake(devices: &[DeviceId]) -> (Arc<DeviceIntake>, DeviceInputs) {
    let lines = devices.iter().map(|device| (*device, Line::default())).collect();
    let state = Mutex::new(State { lines, ..State::default() });
    let intake = Arc::new(DeviceIntake { room: room_of_each(devices.len()), state });
    (Arc::clone(&intake), DeviceInputs { intake, fair: FairReading::new() })
}

impl Intake for DeviceIntake {
    fn try_push(&self, device: DeviceId, flow: Flow, bytes: Bytes) -> Result<(), Refused> {
        let mut state = self.lock();
        let State { lines, fresh, consumer, is_closed } = &mut *state;
        let Some(line) = lines.get_mut(&device).filter(|_| !*is_closed) else {
            return Err(Refused::Closed);
        };
        if !line.has_room(self.room, flow, weight(&bytes)) {
            line.starves(flow, weight(&bytes));
            return Err(Refused::Full(bytes));
        }
        if line.put(flow, bytes) {
            fresh.push((device, flow));
        }
        let consumer = consumer.take();
        drop(state);
        consumer.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn register(&self, device: DeviceId, flow: Flow, waker: &Waker) {
        let mut state = self.lock();
        let is_closed = state.is_closed;
        if let Some(line) = state.lines.get_mut(&device).filter(|_| !is_closed) {
            return line.wait(flow, waker);
        }
        drop(state);
        waker.wake_by_ref();
    }
}

impl DeviceIntake {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + INPUT
}

impl Line {
    fn has_room(&self, room: u64, flow: Flow, weight: u64) -> bool {
        let own = self.flows.get(&flow).map_or(0, |queue| queue.weight);
        let eldest = self.starved.values().next().filter(|eldest| eldest.flow != flow);
        let kept = eldest.map_or(0, |eldest| eldest.weight);
        own + weight + kept <= room.saturating_sub(self.weight)
    }

    /// There was no room for an input of this flow.
    fn starves(&mut self, flow: Flow, weight: u64) {
        let queue = self.flows.entry(flow).or_default();
        if !queue.inputs.is_empty() {
            return;
        }
        let place = *queue.place.get_or_insert_with(|| {
            self.starved_ever += 1;
            self.starved_ever
        });
        let new = || Starved { flow, weight, chances: CHANCES };
        let starved = self.starved.entry(place).or_insert_with(new);
        starved.weight = starved.weight.max(weight);
    }

    /// True if the flow had nothing here.
    fn put(&mut self, flow: Flow, bytes: Bytes) -> bool {
        let queue = self.flows.entry(flow).or_default();
        queue.weight += weight(&bytes);
        self.weight += weight(&bytes);
        queue.inputs.push_back(bytes);
        queue.place.take().inspect(|place| {
            self.starved.remove(place);
        });
        queue.inputs.len() == 1
    }

    fn wait(&mut self, flow: Flow, waker: &Waker) {
        let queue = self.flows.entry(flow).or_default();
        if !queue.waiting.iter().any(|known| known.will_wake(waker)) {
            queue.waiting.push_back(waker.clone());
        }
    }

    /// The oldest input of a flow, whether there is another, and who is to try again. While a flow
    /// has something here, more of those who wait in it are woken when that is taken: all of them
    /// with the last.
    fn take(&mut self, room: u64, flow: Flow) -> Option<(Bytes, bool, Vec<Waker>)> {
        let queue = self.flows.get_mut(&flow)?;
        let bytes = queue.inputs.pop_front()?;
        queue.weight -= weight(&bytes);
        self.weight -= weight(&bytes);
        let more = !queue.inputs.is_empty();
        let woken = if more { WOKEN.min(queue.waiting.len()) } else { queue.waiting.len() };
        let mut woken: Vec<Waker> = queue.waiting.drain(..woken).collect();
        if !more {
            self.flows.remove(&flow);
        }
        if self.weight == 0 {
            self.starved.clear();
            woken.extend(core::mem::take(&mut self.flows).into_values().flat_map(|q| q.waiting));
        } else {
            woken.extend(self.take_eldest(room));
        }
        Some((bytes, more, woken))
    }

    /// The tasks that wait in the flow that is starved longest, once there is room for it; and in
    /// one that has had its chances, to be the last again.
    fn take_eldest(&mut self, room: u64) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(mut eldest) = self.starved.first_entry() {
            let Starved { flow, weight, chances } = eldest.get_mut();
            if *weight > room.saturating_sub(self.weight) {
                break;
            }
            if let Some(queue) = self.flows.get_mut(flow) {
                woken.extend(queue.waiting.drain(..));
            }
            if *chances > 0 {
                *chances -= 1;
                break;
            }
            self.flows.remove(flow);
            eldest.remove();
        }
        woken
    }
}

impl DeviceInputs {
    /// How many bytes may be taken before too many wait to be carried out, and when inputs last
    /// came another way that wait with these. From then on flows that had more than others are
    /// not taken.
    pub(super) fn set_room(
        &mut self,
        room: usize,
        now: MonotonicTime,
        elsewhere: Option<MonotonicTime>,
    ) {
        self.fair.set_room(room, now);
        self.fair.set_elsewhere(elsewhere);
    }

    /// When an input was last taken.
    pub(super) fn last_taken(&self) -> Option<MonotonicTime> {
        self.fair.last_read()
    }

    /// The oldest input of the flow whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(DeviceId, Bytes)> {
        let mut state = self.intake.lock();
        for source in state.fresh.drain(..) {
            self.fair.put_aside(source, source);
        }
        let source = self.fair.next()?;
        let (device, flow) = source;
        let room = self.intake.room;
        let (bytes, more, woken) = state.lines.get_mut(&device)?.take(room, flow)?;
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        self.fair.read(source, bytes.len());
        if more {
            self.fair.put_aside(source, source);
        }
        Some((device, bytes))
    }

    /// Whether an input may be taken; otherwise the task is woken when one comes.
    pub(super) fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<(DeviceId, Bytes)> {
        match &mut self.intake.lock().consumer {
            Some(consumer) => consumer.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        match self.pop() {
            Some(input) => Poll::Ready(input),
            None => Poll::Pending,
        }
    }

    /// Takes nothing more; devices that wait learn of it.
    pub(super) fn close(&mut self) {
        let waiting: Vec<Waker> = {
            let mut state = self.intake.lock();
            state.is_closed = true;
            let flows = state.lines.values_mut().flat_map(|line| line.flows.values_mut());
            flows.flat_map(|queue| queue.waiting.drain(..)).collect()
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use core::future::poll_fn;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use core::time::Duration;
    use std::task::Wake;

    use super::*;
    use crate::device::Inputs;

    const GREEDY: DeviceId = DeviceId(0);
    const OTHER: DeviceId = DeviceId(1);
    const FIRST: Flow = Flow::new(1);
    const SECOND: Flow = Flow::new(2);

    fn two() -> (Arc<DeviceIntake>, DeviceInputs) {
        intake(&[GREEDY, OTHER])
    }

    fn push(intake: &DeviceIntake, device: DeviceId, flow: Flow, len: usize) -> bool {
        intake.try_push(device, flow, Bytes::from(vec![7; len])).is_ok()
    }

    /// Pushes until there is no room.
    fn fill(intake: &DeviceIntake, device: DeviceId, flow: Flow, len: usize) -> usize {
        (0..).take_while(|_| push(intake, device, flow, len)).count()
    }

    #[test]
    fn a_device_that_takes_all_it_can_leaves_room_for_the_others() {
        let (intake, mut inputs) = two();
        let greedy = fill(&intake, GREEDY, FIRST, 1);
        assert!((500..2000).contains(&greedy), "{greedy}");
        assert_eq!(fill(&intake, OTHER, FIRST, 1), greedy, "as many");
        inputs.set_room(usize::MAX, MonotonicTime(0), None);
        let taken: Vec<_> = core::iter::from_fn(|| inputs.pop()).map(|(from, _)| from).collect();
        assert_eq!(taken.len(), 2 * greedy);
        let half = &taken[..greedy];
        let of_greedy = half.iter().filter(|from| **from == GREEDY).count();
        assert!(of_greedy.abs_diff(greedy / 2) <= 1, "they take turns: {of_greedy}");
    }

    #[test]
    fn flows_that_take_all_they_can_leave_room_for_one_more() {
        let (intake, mut inputs) = two();
        let alone = fill(&intake, GREEDY, FIRST, 16 << 10);
        let second = fill(&intake, GREEDY, SECOND, 16 << 10);
        assert!(second * 2 >= alone - 1 && second < alone, "half of what is left: {second}");
        for flow in 3..6 {
            fill(&intake, GREEDY, Flow::new(flow), 16 << 10);
        }
        assert!(push(&intake, GREEDY, Flow::new(0), 64 << 10), "after five");
        for flow in 6..10_000 {
            fill(&intake, GREEDY, Flow::new(flow), 16 << 10);
        }
        let held = intake.lock().lines[&GREEDY].weight;
        assert!(held <= intake.room, "{held}");
        while inputs.pop().is_some() {}
        let line = &intake.lock().lines[&GREEDY];
        assert!(line.flows.is_empty() && line.starved.is_empty(), "nothing is left behind");
    }

    /// All that there is is filled by flows that each have one input and want more; and how many
    /// inputs that are.
    fn crowded() -> (Arc<DeviceIntake>, DeviceInputs, u64) {
        let (intake, mut inputs) = two();
        inputs.set_room(usize::MAX, MonotonicTime(0), None);
        let mut taken = 0;
        for flow in 100..1000 {
            let flow = Flow::new(flow);
            taken += fill(&intake, GREEDY, flow, 32 << 10) as u64;
            intake.register(GREEDY, flow, Waker::noop());
        }
        forget_starved(&intake);
        for flow in 1000..10_000 {
            taken += fill(&intake, GREEDY, Flow::new(flow), 1) as u64;
        }
        (intake, inputs, taken)
    }

    /// No task waits for room any more.
    fn forget_starved(intake: &DeviceIntake) {
        let mut state = intake.lock();
        let line = state.lines.get_mut(&GREEDY).unwrap();
        line.starved.clear();
        line.flows.retain(|_, queue| !queue.inputs.is_empty());
    }

    #[test]
    fn what_comes_free_is_kept_for_whoever_waits_longest_with_nothing() {
        let (intake, mut inputs, _) = crowded();
        forget_starved(&intake);
        let long = (SECOND, 200 << 10);
        assert!(!push(&intake, GREEDY, long.0, long.1), "there is no room");
        assert!(!push(&intake, GREEDY, FIRST, 1), "nor for one that comes later, and for less");
        let mut pushed = 0;
        while !push(&intake, GREEDY, long.0, long.1) {
            assert!(inputs.pop().is_some());
            for flow in 100..1000 {
                assert!(!push(&intake, GREEDY, Flow::new(flow), 32 << 10), "it is kept");
            }
            assert!(!push(&intake, GREEDY, FIRST, 200 << 10), "one after the other");
            pushed += 1;
        }
        assert!(pushed < 10, "{pushed}");
    }

    #[test]
    fn one_that_waited_and_is_gone_keeps_nobody_waiting() {
        let (intake, mut inputs, held) = crowded();
        let gone = intake.lock().lines[&GREEDY].starved.len();
        assert!(gone > 100, "{gone}");
        assert!(!push(&intake, GREEDY, FIRST, 32 << 10));
        let woken = wait(&intake, GREEDY, FIRST, 1);
        let mut taken = 0;
        while woken.load(Ordering::Relaxed) == 0 && inputs.pop().is_some() {
            taken += 1;
        }
        assert!(taken <= held, "at the latest when there is nothing left");
        assert!(push(&intake, GREEDY, FIRST, 32 << 10));
    }

    #[test]
    fn a_flow_that_says_a_lot_waits_behind_itself_and_nobody_behind_it() {
        let (intake, mut inputs) = two();
        inputs.set_room(usize::MAX, MonotonicTime(0), None);
        push(&intake, GREEDY, SECOND, 1 << 10);
        assert!(inputs.pop().is_some());
        assert!(fill(&intake, GREEDY, FIRST, 64 << 10) > 30);
        for _ in 0..3 {
            assert_eq!(inputs.pop().map(|(_, bytes)| bytes.len()), Some(64 << 10));
        }
        push(&intake, GREEDY, SECOND, 1 << 10);
        assert_eq!(inputs.pop().map(|(_, bytes)| bytes.len()), Some(1 << 10));
        // What is taken and not carried out is a long line.
        inputs.set_room(0, MonotonicTime(1), None);
        assert_eq!(inputs.pop(), None);
        push(&intake, GREEDY, SECOND, 1 << 10);
        assert_eq!(inputs.pop().map(|(_, bytes)| bytes.len()), Some(1 << 10));
        assert_eq!(inputs.pop(), None);
        inputs.set_room(1, MonotonicTime(2), None);
        assert_eq!(inputs.pop().map(|(_, bytes)| bytes.len()), Some(64 << 10));
    }

    #[test]
    fn a_flow_that_is_alone_is_not_held_back_unless_clients_ask() {
        let (intake, mut inputs) = two();
        fill(&intake, GREEDY, FIRST, 64 << 10);
        inputs.set_room(0, MonotonicTime(1), None);
        for _ in 0..4 {
            assert!(inputs.pop().is_some());
        }
        inputs.set_room(0, MonotonicTime(1), Some(MonotonicTime(1)));
        assert_eq!(inputs.pop(), None);
    }

    #[test]
    fn what_one_flow_pushed_comes_in_its_order() {
        let (intake, mut inputs) = two();
        for number in 0..200_u8 {
            let flow = Flow::new(u64::from(number % 2));
            intake.try_push(OTHER, flow, Bytes::copy_from_slice(&[number])).unwrap();
        }
        let taken: Vec<u8> = core::iter::from_fn(|| inputs.pop()).map(|(_, b)| b[0]).collect();
        let (odd, even): (Vec<u8>, Vec<u8>) = taken.iter().partition(|number| *number % 2 == 1);
        assert_eq!(taken.len(), 200);
        assert!(odd.is_sorted() && even.is_sorted());
    }

    /// Counts how often it was woken, with others that are not the same waker.
    struct Counted(Arc<AtomicUsize>);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wait(intake: &DeviceIntake, device: DeviceId, flow: Flow, count: usize) -> Arc<AtomicUsize> {
        let woken = Arc::new(AtomicUsize::new(0));
        for _ in 0..count {
            let waker = Waker::from(Arc::new(Counted(Arc::clone(&woken))));
            intake.register(device, flow, &waker);
            intake.register(device, flow, &waker);
        }
        woken
    }

    #[test]
    fn those_who_wait_are_woken_a_few_at_a_time_and_all_when_there_is_nothing_left() {
        let (intake, mut inputs) = two();
        let count = fill(&intake, GREEDY, FIRST, 1 << 20);
        assert!(count >= 3, "{count}");
        let waiting = wait(&intake, GREEDY, FIRST, 10);
        push(&intake, OTHER, FIRST, 1);
        inputs.set_room(usize::MAX, MonotonicTime(0), None);
        let woken = || waiting.load(Ordering::Relaxed);
        let mut left = count;
        while left > 0 {
            let (device, _) = inputs.pop().unwrap();
            left -= usize::from(device == GREEDY);
            let expected = if left == 0 { 10 } else { WOKEN * (count - left) };
            assert_eq!(woken(), expected, "{left} are left");
        }
    }

    #[test]
    fn flows_without_room_are_woken_one_after_the_other() {
        let (intake, mut inputs, _) = crowded();
        forget_starved(&intake);
        let flows = [SECOND, FIRST];
        let starved = flows.map(|flow| {
            assert!(!push(&intake, GREEDY, flow, 16 << 10));
            wait(&intake, GREEDY, flow, 2)
        });
        let woken = || starved.each_ref().map(|one| one.load(Ordering::Relaxed));
        assert!(inputs.pop().is_some());
        assert_eq!(woken(), [2, 0], "whoever waits longest");
        assert!(push(&intake, GREEDY, flows[0], 16 << 10));
        assert!(inputs.pop().is_some());
        assert_eq!(woken(), [2, 2]);
        assert!(push(&intake, GREEDY, flows[1], 16 << 10));
    }

    #[test]
    fn who_waits_learns_that_the_engine_takes_nothing_more() {
        let (intake, mut inputs) = two();
        let waiting = wait(&intake, OTHER, FIRST, 1);
        inputs.close();
        assert_eq!(waiting.load(Ordering::Relaxed), 1);
        let refused = |device| intake.try_push(device, FIRST, Bytes::new());
        assert!(matches!(refused(OTHER), Err(Refused::Closed)));
        let later = [wait(&intake, OTHER, FIRST, 1), wait(&intake, DeviceId(9), FIRST, 1)];
        assert!(later.iter().all(|one| one.load(Ordering::Relaxed) > 0));
        assert!(matches!(refused(DeviceId(9)), Err(Refused::Closed)));
    }

    /// Many tasks push as much as they can, and none is left behind.
    #[test]
    fn nobody_who_waits_for_room_is_forgotten() {
        const TASKS: u64 = 60;
        const EACH: u64 = 50;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (intake, mut inputs) = two();
        let all = Inputs::new(GREEDY, intake);
        let done = runtime.block_on(async {
            for task in 0..TASKS {
                let own = all.of(Flow::new(task % 7));
                tokio::spawn(async move {
                    for number in 0..EACH {
                        let mut bytes = vec![0; 100 << 10];
                        bytes[..8].copy_from_slice(&(task * EACH + number).to_le_bytes());
                        own.push(bytes.into()).await.unwrap();
                    }
                });
            }
            let mut next = [0; TASKS as usize];
            let taken = async {
                for _ in 0..TASKS * EACH {
                    let (_, bytes) = poll_fn(|cx| inputs.poll_pop(cx)).await;
                    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                    let (task, number) = (number / EACH, number % EACH);
                    assert_eq!(next[task as usize], number, "of one task in order");
                    next[task as usize] += 1;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), taken).await.is_ok()
        });
        assert!(done);
    }
}
