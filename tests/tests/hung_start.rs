//! A process whose start hangs, since something that it reads does not answer.

use std::path::Path;
use std::process::Command;

use lockstep::runtime::exit::Exit;
use lockstep_tests::pair::{A, DEADLINE, Pair, Part, SILENCE, WITNESS};
use lockstep_tests::process::wait_for;
use rustix::process::Signal;

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// Waits until the process hears SIGTERM itself: before that the system ends it.
fn hears(pid: u32) {
    let heard = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        let term = 1_u64 << (Signal::TERM.as_raw() - 1);
        (mask & term != 0).then_some(()).ok_or(status)
    };
    wait_for(DEADLINE, heard).unwrap_or_else(|status| panic!("it hears no SIGTERM: {status}"));
}

/// Whoever opens it waits for somebody at its other end.
fn make_fifo(path: &Path) {
    let _ = std::fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn ends_when_it_is_told_to(part: Part) {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    make_fifo(&pair.config(part));
    pair.run(part);
    hears(pair.process(part).pid());
    pair.process(part).signal(Signal::TERM);
    pair.expect_exit(part, Exit::Done);
    let log = pair.process(part).log();
    assert!(log.contains("told to stop while starting"), "{log}");
}

#[test]
fn a_coserver_whose_start_hangs_ends_when_it_is_told_to() {
    ends_when_it_is_told_to(A);
}

#[test]
fn a_witness_whose_start_hangs_ends_when_it_is_told_to() {
    ends_when_it_is_told_to(WITNESS);
}
