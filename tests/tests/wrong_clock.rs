//! A CoServer whose machine's clock is far ahead: nothing begins with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lockstep::limits::CLOCK_STEP;
use lockstep_tests::ahead::clock_ahead;
use lockstep_tests::caller::serves;
use lockstep_tests::pair::{A, B, Pair, Part, SILENCE, WITNESS};
use lockstep_tests::said::skipped;

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// More than one clock is believed alone.
const AHEAD: Duration = CLOCK_STEP.saturating_mul(2);

/// Log time that is no further than this from the real one was not taken from the wrong clock.
const NEAR: Duration = Duration::from_secs(3600);

fn waits_for_a_clock(pair: &Pair, part: Part) {
    pair.wait_until(part, "waiting for a clock", |status| status["waits_for"]["reason"] == "clock");
    let status = pair.status(part).unwrap();
    assert_eq!(status["mode"], "starting");
    let todo = status["waits_for"]["todo"].as_str().unwrap();
    assert!(todo.contains("NTP"), "{todo}");
}

#[expect(clippy::disallowed_methods, reason = "it compares log time with this machine's clock")]
fn log_time_is_right(pair: &Pair) {
    let status = pair.status(A).unwrap();
    let log = Duration::from_nanos(status["log_time_ns"].as_u64().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(log.abs_diff(now) < NEAR, "log time is {log:?}, and it is {now:?}");
}

#[test]
fn a_log_is_not_taken_up_by_a_clock_that_is_far_ahead() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let ahead = match clock_ahead(AHEAD, pair.directory()) {
        Ok(words) => words,
        Err(error) => return skipped(&format!("a C compiler is needed: {error}")),
    };
    serves(&pair).unwrap();
    [A, B].into_iter().for_each(|part| pair.kill(part));
    pair.run_under(A, &ahead);
    pair.wait_for_event(A, "clock_leaps", 1);
    waits_for_a_clock(&pair, A);
    // The other's is right: it goes first, and the one with the wrong clock joins it.
    pair.run(B);
    pair.wait_for_duplex();
    serves(&pair).unwrap();
    log_time_is_right(&pair);
}

#[test]
fn no_pair_is_formed_while_the_clocks_are_far_apart() {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    let ahead = match clock_ahead(AHEAD, pair.directory()) {
        Ok(words) => words,
        Err(error) => return skipped(&format!("a C compiler is needed: {error}")),
    };
    [WITNESS, B].into_iter().for_each(|part| pair.run(part));
    pair.run_under(A, &ahead);
    for part in [A, B] {
        pair.wait_for_event(part, "clocks_differ", 1);
        waits_for_a_clock(&pair, part);
    }
    let witness = pair.status(WITNESS).unwrap();
    assert_eq!(witness["pairs"][0]["record"]["origin"], "vacant");
    // Somebody sets it right.
    pair.kill(A);
    pair.run(A);
    pair.wait_for_duplex();
    serves(&pair).unwrap();
    log_time_is_right(&pair);
}
