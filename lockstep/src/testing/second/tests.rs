//! What is the same throughout a process, and is found all the same.

use std::hash::BuildHasher;
use std::sync::OnceLock;

use bytes::Bytes;

use super::{Condition, clock, wall_clock};
use crate::digest::Digest;
use crate::machine::{Context, Identity, RecordSource, RestoreError, StateMachine, Step};
use crate::testing::{Check, Difference, Mismatch, Run, Script, check_determinism};

/// Answers with what it should not look at.
struct Looks(fn() -> String);

impl StateMachine for Looks {
    type Frozen = Bytes;

    fn identity(&self) -> Identity {
        Identity { name: "looks".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, _: &mut Context<'_>, step: Step<'_>) -> Bytes {
        if let Step::Request { .. } = step { (self.0)().into() } else { Bytes::new() }
    }

    fn freeze(&self) -> Bytes {
        Bytes::new()
    }

    fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Ok(())
    }
}

fn script() -> Script {
    Script::new().request(1, "first").request(2, "second")
}

/// Finds it in the second process, at the first request, and what it depends on.
#[track_caller]
fn found(looks: fn() -> String, only: Condition) {
    let difference = check_determinism(|| Looks(looks), &script()).unwrap_err();
    assert_eq!(difference.run, Run::SecondProcess { only: Some(only) }, "{difference}");
    let text = difference.to_string();
    assert!(text.contains("\"first\"") && text.contains(&only.to_string()), "{text}");
    assert!(matches!(*difference.what, Mismatch::Output { .. }), "{text}");
}

#[test]
fn a_clock_in_whole_seconds_is_found() {
    // Days, so that this test itself does not depend on the second in which it runs.
    found(|| (wall_clock() / 86_400).to_string(), Condition::Clock);
}

#[test]
#[expect(clippy::disallowed_types, reason = "the mistake that the check has to find")]
fn hash_seeds_of_a_whole_process_are_found() {
    static SEEDS: OnceLock<std::hash::RandomState> = OnceLock::new();
    let hash = || SEEDS.get_or_init(std::hash::RandomState::new).hash_one("name").to_string();
    found(hash, Condition::Process);
}

#[test]
fn the_address_of_a_function_is_found() {
    found(|| format!("{:p}", wall_clock as fn() -> u64), Condition::Process);
}

#[test]
fn an_environment_variable_is_found() {
    found(|| format!("{:?}", std::env::var_os("HOME")), Condition::Environment);
}

#[test]
fn the_time_zone_is_found() {
    found(|| format!("{:?}", std::env::var_os("TZ")), Condition::Zone);
}

#[test]
fn the_working_directory_is_found() {
    found(|| format!("{:?}", std::env::current_dir().ok()), Condition::Directory);
}

#[test]
fn a_panic_there_alone_is_told_with_its_message() {
    let looks = || {
        assert!(!super::is_second(), "not here");
        String::new()
    };
    let difference = check_determinism(|| Looks(looks), &script()).unwrap_err();
    assert!(difference.to_string().contains("panics in this run only: not here"), "{difference}");
}

#[test]
fn a_service_that_cannot_be_made_there_is_told_with_what_it_printed() {
    let make = || {
        assert!(!super::is_second(), "cannot be made");
        Looks(String::new)
    };
    let difference = check_determinism(make, &script()).unwrap_err();
    assert!(matches!(*difference.what, Mismatch::Process(_)), "{difference}");
    assert!(difference.to_string().contains("cannot be made"), "{difference}");
    Check::new().in_one_process().run(make, &script()).unwrap();
    let text = difference.to_string();
    assert!(text.contains("`Check::in_one_process`") && text.contains("101"), "{text}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a number that is another in each process")]
fn calls_are_told_apart_and_scripts_come_from_the_first_process() -> Result<(), Difference> {
    for number in 0..4 {
        // As a test does that draws its scripts: another one in each process.
        let script = Script::random(number + u64::from(std::process::id()), 20, |rng| rng.bytes(8));
        let text: fn() -> String = if number % 2 == 0 { || "even".into() } else { || "odd".into() };
        // A call that only one of the two makes harms no other.
        if super::is_second() || number == 3 {
            check_determinism(|| Looks(text), &script)?;
        }
        check_determinism(|| Looks(text), &script)?;
    }
    Ok(())
}

#[test]
fn it_runs_this_test_and_no_other() {
    let test = super::test_name().unwrap();
    assert!(test.ends_with("it_runs_this_test_and_no_other"));
    let command = super::command(&test, &Condition::ALL).unwrap();
    let arguments: Vec<_> = command.get_args().collect();
    assert_eq!(arguments[..2], [test.as_str(), "--exact"]);
    let unnamed = std::thread::scope(|scope| scope.spawn(super::test_name).join().unwrap());
    assert!(unnamed.is_err(), "{unnamed:?}");
}

#[test]
fn a_missing_compiler_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let why = clock::library("no-such-compiler", directory.path()).unwrap_err();
    assert!(why.contains("`no-such-compiler`"), "{why}");
}
