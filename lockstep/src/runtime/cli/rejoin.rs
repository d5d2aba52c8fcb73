//! A CoServer that is out comes back by itself: its process makes a new one of itself.
//!
//! A new process, not a second life of the old one: whatever was wrong with its memory is gone,
//! and it is a new incarnation as any restarted one.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::process::Signals;
use crate::event::StopCause;
use crate::ids::MonotonicTime;
use crate::runtime::clock::Clock;
use crate::runtime::link::Backoff;

/// How often in a row this process has ended soon after it began; set by its predecessor.
const MARK: &str = "LOCKSTEP_RETURNS";

/// The running program, also when its file has been replaced since it was started.
const ITSELF: &str = "/proc/self/exe";

/// A process that lived for less is not to come back at once.
const SOON: Duration = Duration::from_secs(10);

/// The waits of processes in a row that are not to come back at once.
pub(super) const WAITS: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// What is known of this process's predecessors.
pub(super) struct Returns {
    /// How many processes in a row have lived for less than [`SOON`]; `None` for a process that
    /// another program has started.
    short: Option<u32>,
    clock: Clock,
}

impl Returns {
    pub(super) fn begin() -> Self {
        let mark = std::env::var_os(MARK).and_then(|mark| mark.to_str()?.parse().ok());
        Self { short: mark, clock: Clock::start() }
    }

    /// Whether another program has started this process: what its flags ask for to be done once is
    /// to be done now.
    pub(super) fn is_first(&self) -> bool {
        self.short.is_none()
    }

    /// Comes back after a while. Returns only if it does not: because it was told to stop in the
    /// meantime, or the system refuses.
    pub(super) fn again(&self, cause: &StopCause, signals: &mut Signals) -> io::Result<()> {
        let lived = self.clock.mono().since(MonotonicTime(0));
        let (short, after) = wait(self.short.unwrap_or(0), lived);
        tracing::info!(event = "returning", %cause, after_ms = after.as_millis() as u64);
        if stopped_within(after, signals)? {
            return Ok(());
        }
        Err(itself(Some(short)).exec())
    }
}

/// The running program with the same arguments; as a successor of so many that ended soon, or as
/// one that another program starts.
pub(super) fn itself(short: Option<u32>) -> Command {
    let mut args = std::env::args_os();
    let name: OsString = args.next().unwrap_or_else(|| ITSELF.into());
    let mut command = Command::new(ITSELF);
    command.arg0(name).args(args);
    if let Some(short) = short {
        command.env(MARK, short.to_string());
    }
    command
}

/// How often in a row a process has ended soon now, and how long to wait.
fn wait(before: u32, lived: Duration) -> (u32, Duration) {
    if lived >= SOON {
        return (0, Duration::ZERO);
    }
    (before.saturating_add(1), WAITS.pause(before))
}

/// Whether a signal to stop has come, or comes within that time.
fn stopped_within(span: Duration, signals: &mut Signals) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        tokio::select! {
            biased;
            () = signals.told() => true,
            () = tokio::time::sleep(span) => false,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lives_in_a_row_wait_longer_and_a_long_one_ends_the_row() {
        let soon = Duration::from_millis(300);
        let mut row = 0;
        let mut waits = Vec::new();
        for _ in 0..7 {
            let (next, after) = wait(row, soon);
            row = next;
            waits.push(after.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(wait(row, SOON), (0, Duration::ZERO));
        assert_eq!(wait(u32::MAX, soon), (u32::MAX, WAITS.longest));
    }
}
