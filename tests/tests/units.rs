//! The units of `docs/systemd` are what systemd takes, and agree with the exit codes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep_tests::said::skipped;

const UNITS: [&str; 2] = ["coserver@.service", "witness.service"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/systemd")
}

fn text(unit: &str) -> String {
    std::fs::read_to_string(folder().join(unit)).unwrap()
}

/// As an operator would write them, with a program that is there.
fn written(unit: &str) -> String {
    text(unit)
        .replace("/usr/local/bin/PROGRAM", env!("CARGO_BIN_EXE_part"))
        .replace("User=lockstep", "User=root")
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skipped("systemd-analyze is not installed (Debian package systemd)");
    }
    let directory = tempfile::tempdir().unwrap();
    for unit in UNITS {
        // A template is looked at as one of its instances.
        let file = directory.path().join(unit.replace("@.", "@a."));
        std::fs::write(&file, written(unit)).unwrap();
        let done = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        let of_ours: Vec<_> = said.lines().filter(|line| line.contains(unit)).collect();
        assert!(done.status.success() && of_ours.is_empty(), "{unit}: {said}");
        assert!(!said.contains("Unknown key"), "{unit}: {said}");
    }
}

/// Each code that is not worth another start, and no other, is named by the unit.
#[test]
fn what_needs_an_operator_is_not_started_again() {
    let exit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lockstep/src/runtime/exit.rs");
    let exit = std::fs::read_to_string(exit).unwrap();
    let rows = exit.lines().filter_map(|line| line.strip_prefix("//! | "));
    let hopeless: BTreeSet<u8> = rows
        .filter(|row| row.trim_end_matches(" |").ends_with("| no"))
        .filter_map(|row| row.split(' ').next()?.parse().ok())
        .filter(|code| *code != 0)
        .collect();
    assert!(hopeless.len() > 5, "{hopeless:?}: the table of exit codes is elsewhere");
    let unit = text("coserver@.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    let named: BTreeSet<u8> = line.unwrap().split(' ').map(|code| code.parse().unwrap()).collect();
    assert_eq!(named, hopeless);
}

/// What a guardian's end is to leave alone, and what ends a CoServer whose guardian is gone.
#[test]
fn a_guardian_that_dies_takes_nothing_with_it() {
    let unit = text("coserver@.service");
    assert!(unit.lines().any(|line| line == "KillMode=process"));
    assert!(unit.lines().any(|line| line.starts_with("ExecStop=") && line.contains(" stop ")));
    assert!(
        unit.lines().any(|line| line.starts_with("ExecStart=") && line.ends_with("--guardian"))
    );
}
