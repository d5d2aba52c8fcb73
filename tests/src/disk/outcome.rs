//! What a process did about a call that failed, and whether it was right.

use std::fmt;
use std::process::ExitStatus;

use lockstep::runtime::exit::Exit;

/// What it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It went on, or tried again.
    WentOn,
    /// It went on, and then served alone with a disk that had lost its power.
    ServedAlone,
    /// It ended with this exit code.
    Ended(i32),
    /// It refuses to say anything until it is started again; a witness does.
    Refused,
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WentOn => f.write_str("went on"),
            Self::ServedAlone => f.write_str("served alone"),
            Self::Ended(code) => write!(f, "ended {code}"),
            Self::Refused => f.write_str("refused"),
        }
    }
}

/// Words that say what to do about a disk.
const REMEDIES: [&str; 3] = ["check the disk", "see the disk", "free space"];

/// The error that says nothing of a disk: a process that ends for it may be started again.
const EXHAUSTED: &str = "EMFILE";

/// Words that say what to do about that.
const RAISE: [&str; 1] = ["LimitNOFILE"];

/// Whether a process that ended over a failed call ended rightly. `call` is as strace shows it,
/// `said` what the process said since the fault; `is_own` if it was about a file of the process's
/// own directory. Other files are the system's and the program's: the loader, sockets, entropy.
///
/// # Errors
/// What is wrong with its end.
pub fn ended(status: ExitStatus, call: &str, said: &str, is_own: bool) -> Result<Did, String> {
    let last = said.lines().last().unwrap_or_default();
    let wrong = |what: &str| Err(format!("{what}: {status}; {call}; it said: {last}"));
    let Some(code) = status.code() else { return wrong("it was killed") };
    if code == 101 || code == i32::from(Exit::Software.code()) {
        return wrong("it panicked, or takes it for a defect");
    }
    if code == 0 {
        return wrong("it ended as if all were well");
    }
    if is_own {
        let (exit, remedies) = match call.contains(EXHAUSTED) {
            true => (Exit::System, &RAISE[..]),
            false => (Exit::Storage, &REMEDIES[..]),
        };
        if code != i32::from(exit.code()) {
            return wrong("another exit code than for what failed");
        }
        if !remedies.iter().any(|remedy| last.contains(remedy)) {
            return wrong("it does not say what to do");
        }
    }
    if last.is_empty() { wrong("it said nothing") } else { Ok(Did::Ended(code)) }
}
