//! Inputs of devices on their way into the loop.
#![allow(clippy::disallowed_types, reason = "devices have threads of their own")]

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::device::{Intake, Refused};
use crate::ids::DeviceId;
use crate::sync::{Capacity, CapacityError, PushError, Receiver, Sender, mailbox};

/// Inputs of all devices that wait for the loop. More wait in the devices.
const ITEMS: usize = 4096;

/// Bytes of the same.
const BYTES: u64 = 16 << 20;

/// The devices' end.
pub(super) struct DeviceIntake {
    inputs: Sender<(DeviceId, Bytes)>,
    waiting: Mutex<Vec<Waker>>,
}

/// The loop's end.
pub(super) struct DeviceInputs {
    inputs: Receiver<(DeviceId, Bytes)>,
    intake: Arc<DeviceIntake>,
}

pub(super) fn intake() -> Result<(Arc<DeviceIntake>, DeviceInputs), CapacityError> {
    let (inputs, receiver) =
        mailbox(Capacity::new(ITEMS, BYTES)?, |(_, bytes): &(_, Bytes)| bytes.len() as u64 + 1);
    let intake = Arc::new(DeviceIntake { inputs, waiting: Default::default() });
    Ok((Arc::clone(&intake), DeviceInputs { inputs: receiver, intake }))
}

impl Intake for DeviceIntake {
    fn try_push(&self, device: DeviceId, bytes: Bytes) -> Result<(), Refused> {
        self.inputs.try_push((device, bytes)).map_err(|error| match error {
            PushError::Full((_, bytes)) => Refused::Full(bytes),
            PushError::TooLarge((_, bytes)) => Refused::TooLong { len: bytes.len() },
            PushError::Closed(_) => Refused::Closed,
        })
    }

    fn register(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        if self.inputs.is_closed() {
            waiting.drain(..).for_each(Waker::wake);
        }
    }
}

impl DeviceIntake {
    fn wake_waiting(&self) {
        let waiting =
            core::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl DeviceInputs {
    /// The oldest input, if one waits.
    pub(super) fn pop(&mut self) -> Option<(DeviceId, Bytes)> {
        let input = self.inputs.pop().ok()?;
        self.intake.wake_waiting();
        Some(input)
    }

    /// Whether an input waits; otherwise the task is woken when one comes.
    pub(super) fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<(DeviceId, Bytes)> {
        match self.inputs.poll_pop(cx) {
            Poll::Ready(Some(input)) => {
                self.intake.wake_waiting();
                Poll::Ready(input)
            }
            _ => Poll::Pending,
        }
    }

    /// Takes nothing more; devices that wait learn of it.
    pub(super) fn close(&mut self) {
        self.inputs.close();
        self.intake.wake_waiting();
    }
}
