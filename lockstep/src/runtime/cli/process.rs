//! What a process asks of the operating system for itself.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getppid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use tokio::signal::unix::{SignalKind, signal};

/// Against leaks and orphans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guards {
    /// The kernel kills this process when the thread that started it ends; that thread's process
    /// has this id.
    pub die_with_parent: Option<u32>,
    /// The process may leave core dumps, and be traced. They hold keys and users' data.
    pub allow_core_dumps: bool,
}

impl Guards {
    /// Puts them into force.
    ///
    /// # Errors
    /// If the operating system refuses, or the parent has ended already.
    pub fn apply(self) -> io::Result<()> {
        if !self.allow_core_dumps {
            // The limit alone is not enough: the kernel does not apply it to a core that is
            // piped to a program.
            setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        if let Some(parent) = self.die_with_parent {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // Whoever ended before that sends no signal any more.
            let present = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
            if present != Some(parent) {
                return Err(io::Error::other(format!("process {parent} is not the parent")));
            }
        }
        Ok(())
    }
}

/// Waits for SIGTERM, SIGINT or SIGHUP: a terminal that goes is no reason to go without a word.
///
/// # Errors
/// If the operating system lets nobody wait for them.
pub async fn terminated() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!(event = "signal", name = "SIGTERM"),
        _ = interrupt.recv() => tracing::info!(event = "signal", name = "SIGINT"),
        _ = hangup.recv() => tracing::info!(event = "signal", name = "SIGHUP"),
    }
    Ok(())
}
