//! The demonstration keeps its word and leaves nothing behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lockstep_tests::process::wait_for;

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// Starts it with a temporary directory of its own.
fn demo(temporary: &Path, args: &[&str]) -> Child {
    Command::new(RELAY)
        .arg("demo")
        .args(args)
        .env("TMPDIR", temporary)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started")
}

/// Processes whose command line names a file in this directory, or that hold it otherwise.
fn processes_of(temporary: &Path) -> Vec<String> {
    let name = temporary.to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&name))
        .collect()
}

#[test]
fn a_kill_of_either_role_a_return_and_a_kill_of_the_other_lose_nothing() {
    for victim in ["sequencer", "follower"] {
        let temporary = tempfile::tempdir().unwrap();
        let args = ["--kill", victim, "--seconds", "8", "--rate", "40"];
        let output = demo(temporary.path(), &args).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        let kills: Vec<_> = said.lines().filter(|line| line.contains("- SIGKILL to")).collect();
        assert!(kills.len() == 2 && kills[0].contains(&format!("the {victim} -----")), "{said}");
        assert_ne!(kills[0].find("CoServer a"), kills[1].find("CoServer a"), "one of each: {said}");
        for words in ["is started again", "duplex again: ", "The longest time without any reply: "]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(said.contains("Nothing was lost"), "{said}");
        let lost = said.lines().find(|line| line.trim_start().starts_with("lost")).unwrap();
        assert!(lost.contains(" 0 "), "{lost}");
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
        assert_eq!(processes_of(temporary.path()), [""; 0]);
    }
}

#[test]
fn its_processes_end_with_it() {
    let temporary = tempfile::tempdir().unwrap();
    let mut running = demo(temporary.path(), &["--seconds", "60"]);
    let within = Duration::from_secs(30);
    // Witness, CoServers and their guardians.
    let there = || if processes_of(temporary.path()).len() == 5 { Ok(()) } else { Err(()) };
    wait_for(within, there).expect("they start");
    running.kill().unwrap();
    running.wait().unwrap();
    let gone = || match processes_of(temporary.path()) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    };
    wait_for(within, gone).expect("they are gone");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    for args in [["--kill", "c"], ["--rate", "0"], ["--seconds", "x"], ["--nonsense", "1"]] {
        let status = demo(temporary.path(), &args).wait().unwrap();
        assert_eq!(status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn a_sink_that_cannot_write_mail_takes_none() {
    let sink = Command::new(RELAY)
        .args(["sink", "--listen", "127.0.0.1:0", "--directory", "/nowhere/at/all"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&sink.stderr);
    assert_eq!(sink.status.code(), Some(74), "{said}");
    assert!(said.contains("/nowhere/at/all") && said.contains("make the directory"), "{said}");
    assert!(sink.stdout.is_empty(), "it does not listen");
}

#[test]
fn a_process_whose_parent_is_gone_does_not_start() {
    // Nobody's child has process 1 for its parent while a test runs it.
    let sink = Command::new(RELAY)
        .args(["sink", "--listen", "127.0.0.1:0", "--die-with-parent", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&sink.stderr);
    assert_eq!(sink.status.code(), Some(64), "{said}");
    assert!(said.contains("not the one that started this one"), "{said}");
}
