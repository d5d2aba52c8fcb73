//! A guardian beside each CoServer: what it does when the process ends, and when it ends itself.

use lockstep::runtime::exit::Exit;
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, other};
use lockstep_tests::process::wait_for;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

const PART: &str = env!("CARGO_BIN_EXE_part");

/// A pair with a guardian on each side, of which nothing is left behind.
struct Guarded(Pair);

impl Guarded {
    /// A pair whose guardians can speak.
    fn start(arguments: &[&str]) -> Self {
        let mut guarded = Self(Pair::init(PART, SILENCE));
        guarded.0.run(WITNESS);
        for part in [A, B] {
            guarded.run(part, arguments);
        }
        guarded.0.wait_for_duplex();
        for part in [A, B] {
            guarded.wait_for_log(part, "guardian_connected");
        }
        guarded
    }

    fn run(&mut self, part: Part, arguments: &[&str]) {
        let arguments = [&["--guardian"], arguments].concat();
        self.0.run_with(part, &arguments);
    }

    fn log(&mut self, part: Part) -> String {
        self.0.process(part).log()
    }

    fn wait_for_log(&mut self, part: Part, words: &str) {
        let says = || {
            let log = self.log(part);
            if log.contains(words) { Ok(()) } else { Err(log) }
        };
        wait_for(DEADLINE, says).unwrap_or_else(|log| panic!("{part:?} never says {words}: {log}"));
    }

    /// The CoServer's own process.
    fn pid(&self, part: Part) -> Pid {
        pid_of(&self.0.status(part).unwrap()).unwrap()
    }

    /// What becomes of the CoServer's own process.
    fn signal(&self, part: Part, signal: Signal) -> Pid {
        let pid = self.pid(part);
        kill_process(pid, signal).unwrap();
        pid
    }
}

fn pid_of(status: &Value) -> Option<Pid> {
    Pid::from_raw(i32::try_from(status["pid"].as_i64()?).ok()?)
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // First those that would start the others again.
        let running = [A, B].map(|part| self.0.status(part).ok().and_then(|it| pid_of(&it)));
        for part in [A, B] {
            self.0.end(part);
        }
        let after = [A, B].map(|part| self.0.status(part).ok().and_then(|it| pid_of(&it)));
        for pid in running.into_iter().chain(after).flatten() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn a_process_that_is_killed_is_missed_at_once_and_started_again() {
    for victim in [A, B] {
        let mut guarded = Guarded::start(&[]);
        let before = guarded.0.status(victim).unwrap();
        let killed = guarded.signal(victim, Signal::KILL);
        guarded.wait_for_log(other(victim), "peer_died");
        guarded.0.wait_until(victim, "started again", |status| {
            pid_of(status).is_some_and(|pid| pid != killed)
        });
        guarded.0.wait_for_duplex();
        let after = guarded.0.status(victim).unwrap();
        assert_ne!(after["incarnation"], before["incarnation"]);
        let log = guarded.log(other(victim));
        // It was gone by the guardian's word, long before it would have been silent.
        assert!(
            !log.contains("suspicion=\"silent\"") && !log.contains("suspicion=silent"),
            "{log}"
        );
        let log = guarded.log(victim);
        assert!(log.contains("restarting") && log.contains("killed by signal 9"), "{log}");
    }
}

#[test]
fn the_end_of_a_guardian_ends_nothing() {
    let mut guarded = Guarded::start(&[]);
    let (pid, epoch) = (guarded.pid(A), guarded.0.status(A).unwrap()["epoch"].clone());
    guarded.0.kill(A);
    test_kill_process(pid).expect("its process goes on");
    // Nothing is said of it either: the other knows no reason to go on without it.
    guarded.0.ask(A, "hand-over").unwrap();
    let status = guarded.0.wait_for_duplex();
    assert_eq!(status["epoch"], epoch);
    guarded.0.wait_until(A, "its process", |status| pid_of(status) == Some(pid));
    // It comes back by itself as before, and is no guardian of its own.
    kill_process(pid, Signal::STOP).unwrap();
    guarded.0.wait_for_mode(B, "simplex");
    kill_process(pid, Signal::CONT).unwrap();
    guarded.0.wait_for_duplex();
    assert_eq!(guarded.pid(A), pid);
    // What it runs is told to stop as any other.
    let told = guarded.0.ask(A, "stop");
    assert!(told.is_ok(), "{told:?}");
    wait_for(DEADLINE, || test_kill_process(pid).err().ok_or("it runs")).unwrap();
}

#[test]
fn a_guardian_that_is_told_to_stop_has_its_process_leave_and_ends_as_it_does() {
    let mut guarded = Guarded::start(&[]);
    let pid = guarded.pid(A);
    let ended = guarded.0.terminate(A);
    assert_eq!(ended.code(), Some(0), "{}", guarded.0.logs());
    assert!(test_kill_process(pid).is_err(), "no process is left");
    let record = &guarded.0.status(WITNESS).unwrap()["pairs"][0]["record"];
    assert_eq!(record["origin"], "left", "{record}");
}

#[test]
fn signals_that_come_before_the_process_hears_any_wait() {
    let mut guarded = Guarded(Pair::init(PART, SILENCE));
    guarded.run(A, &[]);
    guarded.wait_for_log(A, "guarding");
    guarded.0.process(A).signal(Signal::HUP);
    guarded.0.wait_for_mode(A, "starting");
    assert!(!guarded.log(A).contains("restarting"), "{}", guarded.log(A));
    guarded.run(B, &[]);
    guarded.wait_for_log(B, "guarding");
    assert_eq!(guarded.0.terminate(B).code(), Some(0), "{}", guarded.0.logs());
}

#[test]
fn a_process_that_hangs_is_killed_when_it_is_told_to_stop() {
    let mut guarded = Guarded::start(&[]);
    let pid = guarded.signal(A, Signal::STOP);
    assert_eq!(guarded.0.terminate(A).code(), Some(137), "{}", guarded.0.logs());
    assert!(test_kill_process(pid).is_err(), "no process is left");
}

#[test]
fn a_process_that_is_killed_too_often_stays_down() {
    let mut guarded = Guarded::start(&["--restarts", "1", "--restart-window", "1h"]);
    let killed = guarded.signal(B, Signal::KILL);
    guarded
        .0
        .wait_until(B, "started again", |status| pid_of(status).is_some_and(|pid| pid != killed));
    guarded.0.wait_for_duplex();
    guarded.signal(B, Signal::KILL);
    guarded.0.expect_exit(B, Exit::Software);
    guarded.wait_for_log(B, "restarts_spent");
    guarded.0.wait_for_mode(A, "simplex");
}

#[test]
fn what_was_to_be_done_once_is_not_done_again() {
    let mut guarded = Guarded::start(&[]);
    guarded.0.terminate(B);
    guarded.run(B, &["--discard", "--yes"]);
    guarded.0.wait_for_duplex();
    guarded.wait_for_log(A, "joined");
    let killed = guarded.signal(B, Signal::KILL);
    guarded
        .0
        .wait_until(B, "started again", |status| pid_of(status).is_some_and(|pid| pid != killed));
    let status = guarded.0.wait_for_duplex();
    let log = guarded.log(B);
    let (_, since) = log.rsplit_once("restarting").unwrap();
    // Its disk is what it begins with.
    assert!(since.contains("event=\"recovered\""), "{status} {since}");
}

/// Its end is said of one process only, whoever comes after it.
#[test]
fn a_process_that_comes_back_by_itself_is_watched_under_its_new_name() {
    let mut guarded = Guarded::start(&[]);
    let before = guarded.0.status(A).unwrap()["incarnation"].clone();
    let pid = guarded.signal(A, Signal::STOP);
    guarded.0.wait_for_mode(B, "simplex");
    kill_process(pid, Signal::CONT).unwrap();
    guarded.0.wait_for_duplex();
    let after = guarded.0.status(A).unwrap();
    assert_ne!(after["incarnation"], before);
    assert_eq!(pid_of(&after), Some(pid), "it made the new one of itself");
    kill_process(pid, Signal::KILL).unwrap();
    let said = after["incarnation"].as_str().unwrap();
    let words = format!("event=\"peer_died\" incarnation={said}");
    guarded.wait_for_log(B, &words);
    guarded.0.wait_for_duplex();
}
