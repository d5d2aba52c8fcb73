//! One child process: killed when it is dropped, its output kept in files.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// In which Linux counts processor time for whoever asks (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Waits until `look` gives something, at most until the deadline, and gives that or the
/// last refusal.
///
/// # Errors
/// What `look` said last.
#[expect(clippy::disallowed_methods, reason = "a test waits for other processes")]
pub fn wait_for<T, E>(within: Duration, mut look: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(LOOK),
            settled => return settled,
        }
    }
}

/// The processor time that a process has used, its system calls included; none where the system
/// does not say.
pub fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Its name comes before, in parentheses, and may have anything in it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// A child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stderr: PathBuf,
}

impl Process {
    /// Starts a program; what it says on standard error goes to `NAME.log` in `directory`, at
    /// its end if there is something already.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[&str],
        directory: &Path,
    ) -> io::Result<Self> {
        let stderr = directory.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&stderr)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self { name: name.into(), child, stderr })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has said on standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The most memory that it has had, in octets; 0 where the system does not say.
    pub fn most_memory(&self) -> u64 {
        self.memory_in("VmHWM:")
    }

    /// The memory that it has, in octets; 0 where the system does not say.
    pub fn memory(&self) -> u64 {
        self.memory_in("VmRSS:")
    }

    fn memory_in(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|found| found.strip_prefix(line));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If there is no such process any more: the test has lost track of it.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time; its log is shown.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let ended = wait_for(within, || self.child.try_wait().ok().flatten().ok_or(()));
        ended.unwrap_or_else(|()| {
            panic!("{} did not end within {within:?}; its log:\n{}", self.name, self.log())
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped process is killed by SIGKILL too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
