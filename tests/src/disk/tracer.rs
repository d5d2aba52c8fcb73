//! System calls that fail, by `strace -e inject`.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::pair::DEADLINE;
use crate::process::{Process, wait_for};

/// The calls that the storage makes, as strace selects them.
pub const CALLS: [&str; 8] = [
    "fsync",
    "fdatasync",
    "pwrite64",
    WRITE,
    "openat",
    "rename,renameat,renameat2",
    "ftruncate",
    "unlink,unlinkat",
];

/// What the witness writes its records with, and everybody the lock. It is what logs and wakes
/// threads as well, so it has to be narrowed to files.
pub const WRITE: &str = "write";

/// What they fail with.
pub const ERRORS: [&str; 4] = ["error=EIO", "error=ENOSPC", "error=EINTR", "error=EMFILE"];

/// One call of each thread that is traced does not happen, and fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// One of [`CALLS`].
    pub call: &'static str,
    /// What strace is to do with it, as `error=EIO` or `signal=SIGKILL`.
    pub action: &'static str,
    /// The how manieth, from 1; 0 for every one.
    pub when: u32,
}

/// Why nothing can be traced here; `None` if it can.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("tracing a process that allows no debugger needs root".into());
    }
    let tried = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"])
        .output();
    match tried {
        Err(_) => Some("strace is missing".into()),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Fault {
    fn arguments(&self, said: &Path, files: &[PathBuf]) -> Vec<String> {
        let Self { call, action, when } = self;
        let first = (*when).max(1);
        let last = if *when == 0 { "+" } else { "" };
        let inject = format!("inject={call}:{action}:when={first}{last}");
        let words = ["-y", "-o", said.to_str().expect("UTF-8"), "-e", &format!("trace={call}")];
        let files = files.iter().flat_map(|file| ["-P", file.to_str().expect("UTF-8")]);
        let words = words.into_iter().chain(["-e", &inject]).chain(files);
        words.map(str::to_owned).collect()
    }

    /// What to start a program with, so that it has this fault from its first moment on. The
    /// program is the child, not strace, which goes when the program does. With `files`, only
    /// calls about one of them count.
    pub fn wrapper(&self, said: &Path, files: &[PathBuf]) -> Vec<String> {
        let mut words: Vec<String> = ["strace", "-D", "-f", "--seccomp-bpf"].map(Into::into).into();
        words.extend(self.arguments(said, files));
        words
    }
}

/// A strace on threads of a running process; it lets go of them when it is dropped.
#[derive(Debug)]
pub struct Tracer {
    process: Process,
    said: PathBuf,
}

impl Tracer {
    /// Traces one thread, or a process with all its threads. With `files`, only calls about one
    /// of them count.
    ///
    /// # Panics
    /// If it cannot be attached.
    pub fn attach(
        pid: u32,
        thread: Option<u32>,
        fault: Fault,
        directory: &Path,
        files: &[PathBuf],
    ) -> Self {
        let said = directory.join(format!("strace-{pid}.out"));
        let _ = std::fs::remove_file(&said);
        let mut words = fault.arguments(&said, files);
        if thread.is_none() {
            words.push("-f".into());
        }
        words.extend(["-p".into(), thread.unwrap_or(pid).to_string()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let process = Process::start("strace", Path::new("strace"), &words, directory);
        let process = process.expect("strace was there a moment ago");
        // Strace says so itself: a thread that the fault kills may be gone before its state is read.
        let attached = || {
            let log = process.log();
            if log.contains(" attached") { Ok(()) } else { Err(log) }
        };
        wait_for(DEADLINE, attached).unwrap_or_else(|why| panic!("strace did not attach: {why}"));
        Self { process, said }
    }

    /// What strace says goes to this file.
    pub fn said(&self) -> &Path {
        &self.said
    }

    /// The call that failed, as strace shows it.
    pub fn injected(&self) -> Option<String> {
        injected(&self.said)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            // On this it detaches; killed, it could leave a thread stopped.
            self.process.signal(Signal::TERM);
            let _ = wait_for(DEADLINE, || self.process.ended().ok_or(()));
        }
    }
}

/// The first call that failed, from what strace said.
pub fn injected(said: &Path) -> Option<String> {
    let text = std::fs::read_to_string(said).unwrap_or_default();
    text.lines().find(|line| line.contains("(INJECTED)")).map(str::to_owned)
}

/// A thread of a process, by the beginning of its name, of which the system keeps 15 bytes.
pub fn thread(pid: u32, name: &str) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().find_map(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let named = name.starts_with(comm.trim_end()) || comm.trim_end() == name;
        named.then(|| task.file_name().to_str()?.parse().ok()).flatten()
    })
}
