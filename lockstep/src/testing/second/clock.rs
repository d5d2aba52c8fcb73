//! A wall clock that is days ahead, in one process: a few lines of C between it and the kernel.
//!
//! Rust's standard library reads the clock through the C library, and the loader lets another
//! library answer in its place (`LD_PRELOAD`). That library is compiled where it is needed, once,
//! and lies beside the test's program.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str = include_str!("clock.c");

/// By how much the clock is ahead: more than a year, and another month, day of the week, hour,
/// minute and second.
pub(super) const AHEAD: Duration = Duration::from_secs(400 * 86_400 + 7 * 3600 + 11 * 60 + 13);

/// Has a process begin with a clock that is ahead.
///
/// # Errors
/// Why it cannot be had.
pub(super) fn shift(command: &mut Command) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let library = library("cc", program.parent().unwrap_or(&program))?;
    let mut loaded = library.into_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD") {
        loaded.push(":");
        loaded.push(others);
    }
    command.env("LD_PRELOAD", loaded);
    Ok(())
}

/// The compiled library, in this directory.
pub(super) fn library(compiler: &str, directory: &Path) -> Result<PathBuf, String> {
    let digest = xxhash_rust::xxh3::xxh3_64(SOURCE.as_bytes());
    let library = directory.join(format!("lockstep-clock-{digest:016x}.so"));
    if !library.exists() {
        compile(compiler, &library).map_err(|error| {
            format!("a C compiler (`{compiler}`) is needed to shift it: {error}")
        })?;
    }
    Ok(library)
}

/// Compiles under another name first: several tests may do so at once.
#[expect(clippy::disallowed_methods, reason = "a name that no other process uses")]
fn compile(compiler: &str, library: &Path) -> io::Result<()> {
    let thread = std::thread::current().id();
    let part = library.with_extension(format!("{}-{thread:?}.part", std::process::id()));
    let mut child = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-x", "c", "-o"])
        .arg(&part)
        .arg(format!("-DAHEAD={}", AHEAD.as_secs()))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        io::Write::write_all(&mut stdin, SOURCE.as_bytes())?;
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    std::fs::rename(&part, library)
}
