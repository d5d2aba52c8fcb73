//! The engine's side of a redirected device: how its outside half is started, fed and heard.
//!
//! A device has two halves. The *inside* half is part of the deterministic service; the engine
//! sees nothing of it but opaque bytes with a [`DeviceId`]. The *outside* half does real I/O on
//! one CoServer, and meets the engine here:
//!
//! - [`Outside::start`] brings it up, with an [`Inputs`] to push what happens outside;
//! - [`Device::release`] hands it the outputs that may go out, in the order of
//!   (index, step, ordinal), each at most once per process;
//! - [`Device::standing`] tells it whether the CoServer serves, so that it opens and closes what
//!   clients can see.
//!
//! All of [`Device`] runs on the thread that runs links and protocol. A method that blocks holds
//! up heartbeats, so a device that must wait does it on a task or a thread of its own.
//!
//! Every input is a log entry, shipped to the other CoServer and executed twice. So a device sends
//! what the service needs, in as few inputs as it can, and bounds what it has under way.

use core::fmt;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
#[expect(
    clippy::disallowed_types,
    reason = "outside halves stand outside the deterministic part"
)]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Wake;
use std::thread::Thread;
use std::time::Instant;

use bytes::Bytes;

use crate::digest::{Digest, Hasher};
use crate::ids::{DeviceId, Epoch, Incarnation, Index, ReplicaId};
use crate::limits;

pub use crate::proto::io::Standing;
pub use descriptors::{Descriptors, Lease, Want};
pub use flow::Flow;

mod descriptors;
mod flow;

/// The outside half of a device, running.
pub trait Device: Send {
    /// Carries an output out. An output is released: both CoServers computed it, or this one is
    /// alone by right. Must not block; what cannot be done now is queued, and the inside half is
    /// what keeps that queue bounded (by waiting for inputs that say what has been done).
    ///
    /// Bytes that make no sense are dropped with a log event: they can only come from an inside
    /// half of another version.
    fn release(&mut self, released: Released);

    /// The CoServer's standing changed. Told once right after the start too, and perhaps again
    /// without a change. A device takes from the outside only while
    /// [`Standing::Serving`]; when [`Standing::Holding`] or [`Standing::Out`] it turns new users
    /// away, clearly, so that they try the other CoServer.
    fn standing(&mut self, standing: Standing);

    /// What it counts, for the status, by stable names: connections at present, say, and how many
    /// were turned away since the start.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Whether it stands: it does what it was told so far, and what it is told next goes out. Asked
    /// again and again after a start that takes up a log after a time in which no process ran. The
    /// service's timers wait until every device stands, and for at most [`limits::DEVICES_WAIT`].
    fn stands(&self) -> bool {
        true
    }

    /// The process is about to end: lets go of everything at once. What should have been said to
    /// users was said after [`Standing::Out`].
    fn stop(&mut self) {}
}

/// The outside half of a device, configured and not yet running.
pub trait Outside: Send {
    /// Brings it up. Called once, on the loop's thread and within its async runtime, if it has one.
    /// The device takes nothing from the outside before the first [`Device::standing`].
    ///
    /// # Errors
    /// What keeps it from starting, in words for an operator. The CoServer then does not start.
    fn start(self: Box<Self>, setup: Setup) -> Result<Box<dyn Device>, StartError>;

    /// The most connections that its settings allow at a time, each of which takes a file
    /// descriptor. Before the device starts, this is compared with what this process may have. 0
    /// for a device without any.
    fn connections(&self) -> u32 {
        0
    }
}

/// What an outside half is told when it starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The device's position in the table.
    pub device: DeviceId,
    /// The CoServer's place: outputs for [`Carrier::Replica`](crate::output::Carrier::Replica) of
    /// this place come here.
    pub place: ReplicaId,
    /// This process: part of every name that the device gives to things outside, so that a name
    /// from before a restart is never taken for one from after it.
    pub incarnation: Incarnation,
    /// Where what happens outside is pushed.
    pub inputs: Inputs,
    /// File descriptors for its connections: one is to be taken for each, before it is accepted
    /// or made.
    pub descriptors: Descriptors,
}

/// A device could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the device `{device}` cannot start")]
pub struct StartError {
    /// The device's name.
    pub device: String,
    /// What is wrong, and what to do about it.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// An output of the device that may go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The epoch in which it is released. With the index it lets the far end refuse an order
    /// that comes late.
    pub epoch: Epoch,
    /// The entry that caused it.
    pub index: Index,
    /// The step within the entry.
    pub step: u32,
    /// The output's position among the step's outputs.
    pub ordinal: u32,
    /// What, in the device's own words.
    pub bytes: Bytes,
}

/// What becomes of a device's outputs when the CoServer that carried them dies.
///
/// An output is released only after both CoServers computed it, but whether it was still carried
/// out before a crash cannot be known in general. So the device's author decides, once:
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputClass {
    /// Harmless if carried out twice, late, or after newer ones: the inside half repeats what is
    /// needed, or the far end drops repeats. A packet of a protocol with retransmission; a
    /// display that shows the latest value.
    Repeatable,
    /// Kept in the replicated state until an input says that it has been carried out. The
    /// survivor gets those in doubt, to repeat or to settle. A write to a disk; a valve.
    ///
    /// In this version the engine does not repeat them by itself. The inside half keeps the order,
    /// and sends it again when [`Step::Members`](crate::machine::Step::Members) shows that its
    /// carrier is gone. The outside half drops repeats by a number that the inside half gives.
    Completed,
    /// Ends with its carrier: what was under way there is lost as a whole, visibly to the far
    /// end, and the inside half learns of it from
    /// [`Step::Members`](crate::machine::Step::Members). The bytes of a kernel's TCP connection.
    CarrierBound,
}

/// Takes the inputs of all devices of a CoServer. The runtime backs it by its mailbox, the
/// simulator by its own queue, a test by [`InputQueue`].
pub trait Intake: Send + Sync {
    /// Takes one input, or gives it back at once. Inputs of one flow of a device that are pushed by
    /// one thread or task take effect in that order.
    ///
    /// # Errors
    /// The reason, with the bytes.
    fn try_push(&self, device: DeviceId, flow: Flow, bytes: Bytes) -> Result<(), Refused>;

    /// Has `waker` woken, once, when there is room for this flow again or the intake closes; at
    /// once or needlessly is allowed, never is not. A task that registers tries once more before
    /// it sleeps.
    fn register(&self, device: DeviceId, flow: Flow, waker: &Waker);
}

/// Why an input was not taken; the bytes come back where they can still be of use.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no room at present: keep the input, take nothing more from outside, and push it
    /// again when [`Inputs::poll_push`] says so.
    #[error("the engine takes no input at present: keep it and push it again")]
    Full(Bytes),
    /// Longer than [`limits::INPUT_BYTES`]: it will never fit.
    #[error(
        "an input of {len} bytes is over the limit of {}: send it in smaller parts",
        limits::INPUT_BYTES
    )]
    TooLong {
        /// Length of the input in bytes.
        len: usize,
    },
    /// The CoServer is stopping, or has no such device.
    #[error("the engine takes no more inputs: stop the device")]
    Closed,
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The bytes are left out: they may be a user's.
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::TooLong { len } => write!(f, "TooLong({len} bytes)"),
            Self::Closed => f.write_str("Closed"),
        }
    }
}

/// Where one device pushes its inputs. Cheap to clone; clones may be used from many threads.
#[derive(Clone)]
pub struct Inputs {
    device: DeviceId,
    flow: Flow,
    intake: Arc<dyn Intake>,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("device", &self.device)
            .field("flow", &self.flow)
            .finish_non_exhaustive()
    }
}

impl Inputs {
    /// The inputs of one device, taken by `intake`.
    pub fn new(device: DeviceId, intake: Arc<dyn Intake>) -> Self {
        Self { device, flow: Flow::default(), intake }
    }

    /// The same for inputs of one flow: for devices that strangers may say something to.
    #[must_use]
    pub fn of(&self, flow: Flow) -> Self {
        Self { flow, ..self.clone() }
    }

    /// Pushes without waiting.
    ///
    /// # Errors
    /// Why it was not taken, with the bytes where a later push can succeed.
    pub fn try_push(&self, bytes: Bytes) -> Result<(), Refused> {
        if bytes.len() > limits::INPUT_BYTES {
            return Err(Refused::TooLong { len: bytes.len() });
        }
        self.intake.try_push(self.device, self.flow, bytes)
    }

    /// Pushes what is in `slot` and empties it; while there is no room, leaves it there and has
    /// the task woken. An empty slot is ready.
    ///
    /// # Errors
    /// Too long or closed; the slot is then empty, and what was in it is lost.
    pub fn poll_push(
        &self,
        cx: &mut Context<'_>,
        slot: &mut Option<Bytes>,
    ) -> Poll<Result<(), Refused>> {
        for attempt in 0..2 {
            let Some(bytes) = slot.take() else { return Poll::Ready(Ok(())) };
            match self.try_push(bytes) {
                Err(Refused::Full(bytes)) => *slot = Some(bytes),
                settled => return Poll::Ready(settled),
            }
            if attempt == 0 {
                self.intake.register(self.device, self.flow, cx.waker());
            }
        }
        Poll::Pending
    }

    /// Pushes, waiting while there is no room.
    ///
    /// # Errors
    /// Too long or closed, never full.
    pub async fn push(&self, bytes: Bytes) -> Result<(), Refused> {
        let mut slot = Some(bytes);
        core::future::poll_fn(|cx| self.poll_push(cx, &mut slot)).await
    }

    /// Pushes, blocking the thread while there is no room, until `deadline`; without one for as
    /// long as it takes. For devices with threads of their own; never for the loop's thread.
    ///
    /// # Errors
    /// Too long or closed; full at the deadline.
    pub fn push_blocking(&self, bytes: Bytes, deadline: Option<Instant>) -> Result<(), Refused> {
        let waker = Waker::from(Arc::new(unpark_this_thread()));
        let mut slot = Some(bytes);
        loop {
            let poll = self.poll_push(&mut Context::from_waker(&waker), &mut slot);
            match (poll, deadline.map(remaining)) {
                (Poll::Ready(result), _) => return result,
                (Poll::Pending, None) => std::thread::park(),
                (Poll::Pending, Some(Some(span))) => std::thread::park_timeout(span),
                (Poll::Pending, Some(None)) => {
                    return Err(slot.map_or(Refused::Closed, Refused::Full));
                }
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of an outside half waits for room")]
fn remaining(deadline: Instant) -> Option<core::time::Duration> {
    deadline.checked_duration_since(Instant::now()).filter(|span| !span.is_zero())
}

struct Unpark(Thread);

#[expect(clippy::disallowed_methods, reason = "a thread of an outside half waits for room")]
fn unpark_this_thread() -> Unpark {
    Unpark(std::thread::current())
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An [`Intake`] with a queue of its own: for tests, and for loops that share their thread with
/// the devices.
pub struct InputQueue {
    items: usize,
    #[expect(clippy::disallowed_types, reason = "outside the deterministic part")]
    state: Mutex<Queued>,
}

#[derive(Default)]
struct Queued {
    inputs: VecDeque<(DeviceId, Bytes)>,
    waiting: Vec<Waker>,
    closed: bool,
    consumer: Option<Waker>,
}

impl InputQueue {
    /// An empty queue that holds at most `items` inputs.
    #[expect(clippy::disallowed_types, reason = "outside the deterministic part")]
    pub fn new(items: usize) -> Arc<Self> {
        Arc::new(Self { items: items.max(1), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest input; those who wait for room are woken.
    pub fn pop(&self) -> Option<(DeviceId, Bytes)> {
        let (input, waiting) = {
            let mut state = self.lock();
            let input = state.inputs.pop_front();
            (input, core::mem::take(&mut state.waiting))
        };
        waiting.into_iter().for_each(Waker::wake);
        input
    }

    /// The oldest input, or a wake-up when one comes; `None` once closed and empty. For
    /// one consumer.
    pub fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<(DeviceId, Bytes)>> {
        if let Some(input) = self.pop() {
            return Poll::Ready(Some(input));
        }
        let mut state = self.lock();
        if !state.inputs.is_empty() {
            cx.waker().wake_by_ref();
        } else if state.closed {
            return Poll::Ready(None);
        }
        state.consumer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes nothing more.
    pub fn close(&self) {
        let (waiting, consumer) = {
            let mut state = self.lock();
            state.closed = true;
            (core::mem::take(&mut state.waiting), state.consumer.take())
        };
        waiting.into_iter().chain(consumer).for_each(Waker::wake);
    }

    /// How many inputs wait.
    pub fn len(&self) -> usize {
        self.lock().inputs.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Intake for InputQueue {
    fn try_push(&self, device: DeviceId, _: Flow, bytes: Bytes) -> Result<(), Refused> {
        let consumer = {
            let mut state = self.lock();
            if state.closed {
                return Err(Refused::Closed);
            }
            if state.inputs.len() >= self.items {
                return Err(Refused::Full(bytes));
            }
            state.inputs.push_back((device, bytes));
            state.consumer.take()
        };
        consumer.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn register(&self, _: DeviceId, _: Flow, waker: &Waker) {
        let mut state = self.lock();
        if state.closed || state.inputs.len() < self.items {
            drop(state);
            waker.wake_by_ref();
        } else if !state.waiting.iter().any(|known| known.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
    }
}

/// Longest name of a device: it stands in configuration files and log events.
pub const NAME_BYTES: usize = 64;

/// The devices of a service, in a fixed order: a device's [`DeviceId`] is its position. Part of
/// what the CoServers compare before they run together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceTable {
    rows: Vec<DeviceRow>,
}

/// One device of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// The device's name, unique in the table.
    pub name: String,
    /// What becomes of its outputs when their carrier dies.
    pub outputs: OutputClass,
}

/// A device cannot be in the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There is one of that name.
    #[error("there are two devices named `{0}`: give each a name of its own")]
    Twice(String),
    /// The name is empty or too long.
    #[error("`{0}` cannot be a device's name: use 1 to {NAME_BYTES} bytes")]
    Name(String),
    /// The table is full.
    #[error("more devices than a table holds")]
    Full,
}

impl DeviceTable {
    /// A table without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device after those that are there.
    ///
    /// # Errors
    /// If its name is taken, empty or too long, or the table is full.
    pub fn add(&mut self, name: &str, outputs: OutputClass) -> Result<DeviceId, TableError> {
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(TableError::Name(name.into()));
        }
        if self.find(name).is_some() {
            return Err(TableError::Twice(name.into()));
        }
        let id = u16::try_from(self.rows.len()).map_err(|_| TableError::Full)?;
        self.rows.push(DeviceRow { name: name.into(), outputs });
        Ok(DeviceId(id))
    }

    /// The device of this name.
    pub fn find(&self, name: &str) -> Option<DeviceId> {
        let position = self.rows.iter().position(|row| row.name == name)?;
        u16::try_from(position).ok().map(DeviceId)
    }

    /// The device with this id.
    pub fn get(&self, id: DeviceId) -> Option<&DeviceRow> {
        self.rows.get(usize::from(id.0))
    }

    /// All devices, in order.
    pub fn iter(&self) -> impl Iterator<Item = (DeviceId, &DeviceRow)> {
        (0..=u16::MAX).map(DeviceId).zip(&self.rows)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Names the table exactly; goes into the configuration digest of the service.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::after(Digest::ZERO);
        hasher.number(self.rows.len() as u64);
        for row in &self.rows {
            hasher.bytes(row.name.as_bytes()).byte(match row.outputs {
                OutputClass::Repeatable => 0,
                OutputClass::Completed => 1,
                OutputClass::CarrierBound => 2,
            });
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests;
