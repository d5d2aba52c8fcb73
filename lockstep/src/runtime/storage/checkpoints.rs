//! The thread that writes checkpoints.

use core::ops::ControlFlow;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use rustix::process::setpriority_process;

use super::handle::Answer;
use crate::causes::chain;
use crate::ids::Index;
use crate::machine::Freeze;
use crate::store::checkpoint::{self, Header, Pace};
use crate::store::files::Directory;
use crate::sync::Sender;
use crate::unit::{FrozenUnit, panic_message};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The thread's nice value: the loop, the journal and the service come first.
const NICE: i32 = 10;

/// After each block the disk is left to the journal for so long.
const PAUSE: Duration = Duration::from_micros(500);

/// One checkpoint to be written.
pub(super) struct Job<F> {
    pub(super) header: Header,
    pub(super) view: FrozenUnit<F>,
}

/// Writes what comes until the loop is gone; `stop` ends it in the middle of one, by being
/// dropped at its other end.
pub(super) fn run<F: Freeze>(
    directory: &dyn Directory,
    jobs: &Receiver<Job<F>>,
    stop: &Receiver<()>,
    answers: &Sender<Answer>,
) {
    // Of this thread alone, as Linux has it. One that may not be changed is as good.
    let _ = setpriority_process(None, NICE);
    while let Ok(Job { header, view }) = jobs.recv() {
        let index: Index = header.history.index;
        // The service's code writes its records.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let result = checkpoint::write(directory, &header, &view, pace(stop.clone()));
            drop(view);
            result.map_err(|error| chain(&error))
        }));
        let result = result.unwrap_or_else(|payload| {
            Err(format!("the service panicked over its records: {}", panic_message(payload)))
        });
        if answers.push_blocking(Answer::Checkpoint { index, result }, None).is_err() {
            return;
        }
    }
}

fn pace(stop: Receiver<()>) -> Pace {
    Box::new(move |_| {
        let ended = match stop.try_recv() {
            Err(TryRecvError::Disconnected) => true,
            _ => stop.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected),
        };
        if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}
