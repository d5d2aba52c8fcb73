//! Processes whose wall clock is ahead, as if nothing had run for so long.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Between a process and the kernel's clocks; see there.
const SOURCE: &str = include_str!("../../lockstep/src/testing/second/clock.c");

/// The words to put before a program's own, such as
/// [`Pair::run_under`](crate::pair::Pair::run_under) takes them: its wall clock is ahead by so
/// much. What is needed for it is compiled in `directory`.
///
/// # Errors
/// If there is no C compiler.
pub fn clock_ahead(by: Duration, directory: &Path) -> io::Result<Vec<String>> {
    let library = directory.join("clock-ahead.so");
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-x", "c", "-o"])
        .arg(&library)
        .arg(format!("-DAHEAD={}", by.as_secs()))
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = compiler.stdin.take() {
        stdin.write_all(SOURCE.as_bytes())?;
    }
    let status = compiler.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("cc ended with {status}")));
    }
    Ok(vec!["env".to_owned(), format!("LD_PRELOAD={}", library.display())])
}
