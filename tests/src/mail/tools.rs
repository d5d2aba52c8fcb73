//! Programs that are not ours.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::said::skipped;

/// Where Debian has what is not in everybody's path.
const ELSEWHERE: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"];

/// A program, if it is installed; otherwise the reason for skipping is printed.
pub fn find_tool(name: &str, package: &str) -> Option<PathBuf> {
    let found = locate(name);
    if found.is_none() {
        skipped(&format!("{name} is not installed (Debian package {package})"));
    }
    found
}

fn locate(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = std::env::split_paths(&path).chain(ELSEWHERE.map(PathBuf::from));
    known.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Python with a module, if there is one.
#[derive(Debug)]
pub struct Python(pub PathBuf);

impl Python {
    /// Looks for it; otherwise the reason for skipping is printed.
    pub fn with(module: &str) -> Option<Python> {
        let python = find_tool("python3", "python3")?;
        let has = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        if has.is_ok_and(|output| output.status.success()) {
            return Some(Python(python));
        }
        skipped(&format!("Python has no module {module} (pip install {module})"));
        None
    }
}

/// A port that is free at the moment, for a program that cannot choose one itself.
///
/// # Panics
/// If there is none.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

/// Runs a program to its end, outside the runtime's threads.
///
/// # Panics
/// If it cannot be run, fails, or takes too long.
pub async fn run_to_end(program: &Path, args: &[&str], within: Duration) -> Output {
    let name = program.display().to_string();
    let mut command = Command::new(program);
    command.args(args);
    let running = tokio::task::spawn_blocking(move || command.output());
    let ended = tokio::time::timeout(within, running).await;
    let output = ended.unwrap_or_else(|_| panic!("{name} did not end within {within:?}"));
    let output = output.expect("it was waited for").expect("it can be run");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&said));
    output
}
