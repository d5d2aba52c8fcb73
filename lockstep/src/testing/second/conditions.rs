//! What is another in the second process: its clock, time zone, locale, environment and
//! working directory.

use core::fmt;
use std::path::PathBuf;
use std::process::Command;

use super::{clock, tell};

/// Variables that a test itself may need to come to its check: those of the tools that build and
/// run it, and of what loads and watches its program.
const KEPT: &[&str] = &[
    "CARGO",
    "RUST",
    "PROPTEST_",
    "QUICKCHECK_",
    "INSTA_",
    "NEXTEST",
    "LD_",
    "LLVM_",
    "ASAN_",
    "LSAN_",
    "MSAN_",
    "TSAN_",
    "UBSAN_",
    "PATH",
    "TMPDIR",
];

/// Those that say where and in which language a user is.
const ZONE: &[&str] = &["TZ", "LANG", "LC_"];

/// One thing that can be another in a second process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Hash seeds and addresses: those of every process are its own.
    Process,
    /// The wall clock, which is days ahead.
    Clock,
    /// The time zone and the locale.
    Zone,
    /// All other variables of the environment.
    Environment,
    /// The working directory.
    Directory,
}

impl Condition {
    pub(in crate::testing) const ALL: [Self; 5] =
        [Self::Process, Self::Clock, Self::Zone, Self::Environment, Self::Directory];
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "hash seeds and addresses",
            Self::Clock => "a clock that is days ahead",
            Self::Zone => "another time zone and locale",
            Self::Environment => "other environment variables",
            Self::Directory => "another working directory",
        })
    }
}

/// Gives a process these conditions when it starts. The working directory is another only while
/// a service runs there ([`directory`]). Says so where the clock cannot be another.
pub(super) fn apply(conditions: &[Condition], command: &mut Command) {
    let zone = conditions.contains(&Condition::Zone);
    let environment = conditions.contains(&Condition::Environment);
    for (name, _) in std::env::vars_os() {
        let is_in = |list: &[&str]| {
            name.to_str().is_some_and(|name| list.iter().any(|it| name.starts_with(it)))
        };
        let other = if is_in(ZONE) { zone } else { environment && !is_in(KEPT) };
        if other {
            command.env_remove(&name);
        }
    }
    if zone {
        command.env("TZ", "XXX-12:45").env("LANG", "tr_TR.UTF-8").env("LC_ALL", "tr_TR.UTF-8");
    }
    if environment {
        command.env("HOME", std::env::temp_dir()).env("USER", "another").env("HOSTNAME", "another");
    }
    // What is printed at last is to be the message of a panic, not where it came from.
    command.env("RUST_BACKTRACE", "0");
    if conditions.contains(&Condition::Clock)
        && let Err(why) = clock::shift(command)
    {
        tell(&format!("its clock is the same as in the first one: {why}"));
    }
}

/// Another working directory than this one.
pub(super) fn directory(present: &std::path::Path) -> PathBuf {
    let other = std::env::temp_dir();
    if other == present { PathBuf::from("/") } else { other }
}
