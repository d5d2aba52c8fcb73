//! A start that hangs: a signal to stop counts all the same.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::process::Signals;
use super::say;
use crate::runtime::exit::Exit;

/// A start that is told to stop has so long to come to its end, and then to stop in good order.
const GRACE: Duration = Duration::from_secs(2);

/// Hears signals in the place of the thread that starts, which may wait for a file or a disk that
/// does not answer, until it is dropped.
#[derive(Debug)]
pub(super) struct Starting {
    _ended: oneshot::Sender<()>,
}

impl Starting {
    /// Has a signal to stop end the process, if its start is not over soon after.
    ///
    /// # Errors
    /// If the operating system gives no thread, or lets no process wait for signals.
    pub(super) fn watch() -> io::Result<Self> {
        Self::watch_for(Signals::hear()?, GRACE, || {
            say("told to stop while starting: what the start waits for does not come; it ends");
            // As after SIGKILL: whatever is on the disk is good for the next start.
            std::process::exit(Exit::Done.code().into());
        })
    }

    fn watch_for(
        mut signals: Signals,
        grace: Duration,
        give_up: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (ended, mut started) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            let hangs = runtime.block_on(async {
                tokio::select! {
                    () = signals.told() => {}
                    _ = &mut started => return false,
                }
                tokio::time::timeout(grace, &mut started).await.is_err()
            });
            if hangs {
                give_up();
            }
        };
        thread::Builder::new().name("lockstep-signals".into()).spawn(run)?;
        Ok(Self { _ended: ended })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn a_start_that_hangs_is_given_up_when_it_is_told_to_stop_and_one_that_is_over_is_not() {
        let watch = || {
            let (given_up, told) = mpsc::channel();
            let signals = Signals::hear().unwrap();
            let starting = Starting::watch_for(signals, Duration::from_millis(1), move || {
                given_up.send(()).unwrap();
            });
            (starting.unwrap(), told)
        };
        let (over, untold) = watch();
        drop(over);
        // Its thread has ended without a word.
        assert_eq!(untold.recv(), Err(mpsc::RecvError));
        let (_hanging, told) = watch();
        kill_process(getpid(), Signal::TERM).unwrap();
        told.recv().expect("it is given up");
    }
}
