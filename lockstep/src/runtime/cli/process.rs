//! What a process asks of the operating system for itself.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal as LinuxSignal, getppid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::runtime::exit::Exit;

/// Flags against leaks and orphans; a command of one's own may flatten them into its arguments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Against leaks and orphans")]
pub struct Guards {
    /// Be killed by the kernel when the thread that starts this process ends; that thread's process
    /// has this id
    #[arg(long, value_name = "PID")]
    pub die_with_parent: Option<u32>,
    /// Leave core dumps, and be traced; they hold keys and users' data
    #[arg(long)]
    pub allow_core_dumps: bool,
}

/// A guard cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// What was named as the parent is not, or not any more.
    #[error(
        "--die-with-parent {pid}: that process has ended, or is not the one that started this one; write the id of the starting process, or leave the flag out"
    )]
    NotTheParent {
        /// The process that was named.
        pid: u32,
    },
    /// The operating system.
    #[error(
        "the operating system refuses what the process needs: {0}; see what this user's limits are"
    )]
    System(#[from] io::Error),
}

impl From<&GuardError> for Exit {
    fn from(error: &GuardError) -> Self {
        match error {
            GuardError::NotTheParent { .. } => Exit::Usage,
            GuardError::System(_) => Exit::System,
        }
    }
}

impl Guards {
    /// The same for the child of a guardian, which is between it and the process that was named.
    #[must_use]
    pub(super) fn beneath(self, guardian: Option<u32>) -> Self {
        let die_with_parent = self.die_with_parent.map(|named| guardian.unwrap_or(named));
        Self { die_with_parent, ..self }
    }

    /// Puts them into force.
    ///
    /// # Errors
    /// If the operating system refuses, or the parent has ended already.
    pub fn apply(self) -> Result<(), GuardError> {
        if !self.allow_core_dumps {
            // The limit alone is not enough: the kernel does not apply it to a core that is
            // piped to a program.
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            setrlimit(Resource::Core, none).map_err(io::Error::from)?;
            set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)?;
        }
        if let Some(parent) = self.die_with_parent {
            let set = set_parent_process_death_signal(Some(LinuxSignal::KILL));
            set.map_err(io::Error::from)?;
            // A parent that ended before that sends no signal any more.
            let present = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
            if present != Some(parent) {
                return Err(GuardError::NotTheParent { pid: parent });
            }
        }
        Ok(())
    }
}

/// Listens for SIGTERM and SIGINT, which end a process, and SIGHUP, which never does. A terminal
/// that goes, or a rotation of logs, is no reason to take a server out of a pair. A signal that
/// comes before anybody waits for it is not lost.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    reload: Option<Reload>,
}

/// What a SIGHUP has reloaded.
pub type Reload = Box<dyn FnMut() + Send>;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// To end in good order: SIGTERM or SIGINT.
    Stop,
    /// SIGHUP: what can be reloaded has been.
    Reloaded,
}

impl Signals {
    /// From now on such a signal does not end the process any more, and [`told`](Self::told) says
    /// so. Best the first thing that a process does.
    ///
    /// # Errors
    /// If the operating system lets no process wait for them.
    pub fn hear() -> io::Result<Self> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Self::register();
        }
        // Only to register them: whichever runtime waits for them reads what came.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _entered = runtime.enter();
        Self::register()
    }

    fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            reload: None,
        })
    }

    /// Has this done at every SIGHUP.
    #[must_use]
    pub fn reloading(self, reload: Reload) -> Self {
        Self { reload: Some(reload), ..self }
    }

    /// Waits until one has come.
    pub async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => {
                tracing::info!(event = "signal", name = "SIGTERM");
                Heard::Stop
            }
            _ = self.interrupt.recv() => {
                tracing::info!(event = "signal", name = "SIGINT");
                Heard::Stop
            }
            _ = self.hangup.recv() => {
                tracing::info!(event = "signal", name = "SIGHUP");
                if let Some(reload) = &mut self.reload {
                    reload();
                }
                Heard::Reloaded
            }
        }
    }

    /// Waits until one has come that ends the process.
    pub async fn told(&mut self) {
        while self.next().await != Heard::Stop {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_are_heard_from_within_a_runtime_too() {
        Signals::hear().unwrap();
    }

    #[test]
    fn a_signal_that_came_before_anybody_waited_is_not_lost_and_a_hangup_ends_nothing() {
        let (reloads, reloaded) = std::sync::mpsc::channel();
        let early = Signals::hear().unwrap();
        let mut early = early.reloading(Box::new(move || reloads.send(()).unwrap()));
        let mut late = Signals::hear().unwrap();
        let send = |signal| {
            rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
        };
        send(LinuxSignal::HUP);
        for signals in [&mut early, &mut late] {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let soon = std::time::Duration::from_secs(20);
                let heard = tokio::time::timeout(soon, signals.next()).await;
                assert_eq!(heard.unwrap(), Heard::Reloaded);
            });
        }
        reloaded.try_recv().expect("it was reloaded");
        send(LinuxSignal::TERM);
        for signals in [&mut early, &mut late] {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let soon = std::time::Duration::from_secs(20);
                tokio::time::timeout(soon, signals.told()).await.unwrap();
            });
        }
    }
}
