//! The commands from outside, with few trips and little state: what they print, what they refuse,
//! and that `latency` leaves no process behind.

#![cfg(feature = "rows")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use lockstep_benches::placement::allowed_cores;
use serde_json::Value;

/// A and B on the first and the last core allowed, so that the tests run on a
/// machine of one core too.
fn cores() -> String {
    let allowed = allowed_cores().unwrap();
    format!("{},{}", allowed[0], allowed[allowed.len() - 1])
}

fn latency(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latency"));
    command.args(["--cores", &cores()]).args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    latency(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn rows_are_measured_in_every_round_and_compared_with_the_reference() {
    let output = run(&["--rows", "quinn,udp", "--rounds", "2", "--trips", "50", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["conditions"]["trips"], 50);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row["rounds"].as_array().unwrap().len(), 2, "{row}");
        assert_eq!(row["failures"].as_array().unwrap().len(), 0, "{row}");
        let figure = |name: &str| row["median"][name].as_f64().unwrap();
        assert!(figure("p50_us") > 0.0 && figure("p50_us") <= figure("p99_us"), "{row}");
        assert!(figure("p99_us") <= figure("max_us"), "{row}");
        assert!(row["ratio"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert_eq!(rows[0]["name"], report["reference"]);
    assert_eq!(rows[0]["ratio"], 1.0);
}

#[test]
fn the_rows_with_processes_of_ours_and_with_a_disk_are_measured() {
    let rows = "lockstep-commit,lockstep-request,synced,lockstep-commit-journal,\
                lockstep-request-journal";
    let output = run(&["--rows", rows, "--rounds", "1", "--trips", "20", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert!(row["skipped"].is_null(), "{row}");
        assert!(row["median"]["p50_us"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn coming_back_is_measured_with_entries_and_with_a_wiped_disk() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rejoin"))
        .args(["--state", "1", "--rate", "20", "--away", "1", "--calm", "1", "--silence", "2000"])
        .arg("--disk")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for row in ["before", "joining (entries)", "joining (wiped disk)", "after"] {
        assert!(table.lines().any(|line| line.starts_with(row)), "{row}: {table}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it leaves no file");
}

#[test]
fn the_pauses_of_each_client_are_measured() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pauses"))
        .args(["--clients", "2", "--trials", "1", "--dead", "0.5", "--wait", "0", "--both", "0.5"])
        .args(["--silence", "1000", "--disk"])
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for row in ["dead 500ms, then 0ns", "both dead 500ms"] {
        assert!(table.lines().any(|line| line.starts_with(row)), "{row}: {table}");
    }
}

#[test]
fn what_happens_to_a_pair_is_measured_with_guardians_and_without() {
    let directory = tempfile::tempdir().unwrap();
    let rows = ["nothing", "kill-sequencer", "kill-sequencer, guardian", "leave, guardian"];
    let continuity = |rows: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuity"));
        command.args(["--trials", "1", "--rate", "50", "--clients", "2", "--silence", "1000"]);
        command.args(["--state", "1", "--json", "--disk"]).arg(directory.path());
        command.args(rows.iter().flat_map(|row| ["--row", row])).output().unwrap()
    };
    let output = continuity(&rows);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let measured: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut names: Vec<_> = measured.iter().map(|row| row["row"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["kill-sequencer", "kill-sequencer, guardian", "leave, guardian", "nothing"]);
    for row in &measured {
        for figure in ["gap_ms", "client_gap_ms", "latency_ms"] {
            let all = row[figure].as_array().unwrap();
            assert!(all.len() == 1 && all[0].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    let refused = continuity(&["kill-nobody"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("`kill-sequencer, guardian`"));
}

#[test]
fn commits_of_the_journal_are_measured() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_journal"))
        .arg(directory.path())
        .arg("20")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for way in ["journal", "overwrite", "append", "append-small"] {
        assert!(text(&output.stdout).contains(way), "{}", text(&output.stdout));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it leaves no file");
}

#[test]
fn several_messages_in_flight_are_all_answered() {
    let output = run(&["--rows", "quinn,udp", "--rounds", "1", "--trips", "500", "--depth", "16"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("16 in flight"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("udp ")), "{table}");
}

#[test]
fn datagrams_that_would_be_dropped_are_skipped_with_the_reason() {
    let output = run(&["--rows", "udp", "--rounds", "1", "--trips", "5", "--depth", "65"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("skipped: datagrams would be dropped"));
}

#[test]
fn a_program_that_is_no_peer_fails_the_row_and_the_run() {
    // `true` ends at once and says nothing.
    let program = ["/bin/true", "/usr/bin/true"].into_iter().find(|p| Path::new(p).is_file());
    let program = program.expect("every Linux system has true");
    let output = run(&["--rows", "raft-rs-2", "--rounds", "1", "--trips", "5", "--peers", program]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("failed in round 1"), "{}", text(&output.stdout));
}

#[test]
fn the_peers_reply_where_they_are_built_and_are_skipped_with_the_command_elsewhere() {
    for depth in ["1", "64"] {
        let rows = ["--rows", "raft-rs-2,raft-rs-3", "--rounds", "1", "--trips", "300"];
        let output = run(&[&rows[..], &["--depth", depth, "--json"]].concat());
        assert!(output.status.success(), "{}", text(&output.stdout));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for row in report["rows"].as_array().unwrap() {
            match row["skipped"].as_str() {
                Some(reason) => assert!(reason.contains("benches/peers/Cargo.toml"), "{row}"),
                None => assert!(row["median"]["p50_us"].as_f64().unwrap() > 0.0, "{row}"),
            }
        }
    }
}

#[test]
fn a_wrong_command_line_is_refused_and_says_what_to_do() {
    for (arguments, expected) in [
        (&["--rows", "nonsense"][..], "[possible values: quinn"),
        (&["--peers", "/nowhere/peers"], "cargo build --release"),
        (&["--client", "999"], "core 999 may not be used here"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn no_part_outlives_a_killed_parent() {
    let mut parent = latency(&["--rows", "udp", "--rounds", "1", "--trips", "10000000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let parts = wait_for("both parts", || {
        let parts = children_of(parent.id());
        (parts.len() == 2).then_some(parts)
    });
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_for("the end of both parts", || parts.iter().all(|part| !is_alive(*part)).then_some(()));
}

#[expect(clippy::disallowed_methods, reason = "a test of real processes, with a deadline")]
fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// State and parent of a process, from `/proc/PID/stat`; the name in brackets
/// before them may hold anything.
fn state_and_parent(pid: &OsStr) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    processes
        .filter(|pid| state_and_parent(pid).is_some_and(|(_, of)| of == parent))
        .filter_map(|pid| pid.to_str()?.parse().ok())
        .collect()
}

/// A process that nobody has reaped yet is dead all the same.
fn is_alive(pid: u32) -> bool {
    let state = state_and_parent(OsStr::new(&pid.to_string()));
    state.is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}
