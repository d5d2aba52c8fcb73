//! Both CoServers are told to stop, one after the other, and started again: in which order that
//! may be, and what the one says that has to wait.

use lockstep::client::blocking::Session;
use lockstep::runtime::exit::Exit;
use lockstep_tests::caller::{self, Caller};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, other};
use lockstep_tests::process::wait_for;
use register::ops::{Answer, Op};

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// Stops this one in good order, then the other, which has served alone meanwhile.
fn both_leave(pair: &mut Pair, first: Part, meanwhile: impl Fn(&Pair)) {
    assert_eq!(pair.terminate(first).code(), Some(0), "{}", pair.logs());
    pair.wait_for_mode(other(first), "simplex");
    meanwhile(pair);
    assert_eq!(pair.terminate(other(first)).code(), Some(0), "{}", pair.logs());
}

/// The first line of a log with this event that has all of these.
fn line_of(pair: &mut Pair, part: Part, event: &str, having: &[&str]) -> String {
    let event = format!("event=\"{event}\"");
    let look = || {
        let log = pair.process(part).log();
        let fits = |line: &&str| line.contains(&event) && having.iter().all(|w| line.contains(w));
        log.lines().find(fits).map(str::to_owned).ok_or(log)
    };
    wait_for(DEADLINE, look).unwrap_or_else(|log| panic!("no {event} with {having:?}: {log}"))
}

/// It names the one that left last, and what to do, in its status and twice in its log. It does so
/// when it has met no other process, and as a warning some ten seconds after its start.
fn waits_for_the_last(pair: &mut Pair, first: Part) {
    let last = other(first).name();
    let status = pair.wait_until(first, "waiting for the one that left last", |status| {
        status["waits_for"]["reason"] == "last-member"
    });
    assert_eq!(status["mode"], "starting");
    let (why, todo) = (format!("CoServer {last} went on alone"), format!("start CoServer {last}."));
    assert!(status["waits_for"]["why"].as_str().unwrap().starts_with(&why), "{status}");
    assert!(status["waits_for"]["todo"].as_str().unwrap().starts_with(&todo), "{status}");
    for (event, level) in [("waiting", " WARN "), ("waiting", "ERROR "), ("waits_for", " WARN ")] {
        let line = line_of(pair, first, event, &[&why, level]);
        assert!(line.contains(&todo) && line.contains("--adopt"), "{line}");
    }
    assert_eq!(pair.status(first).unwrap()["mode"], "starting", "it must not go on by itself");
}

#[test]
fn the_first_that_left_waits_for_the_last_and_says_so() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    for first in [A, B] {
        both_leave(&mut pair, first, |pair| caller.goes_on(pair));
        pair.run(first);
        waits_for_the_last(&mut pair, first);
        pair.run(other(first));
        pair.wait_for_duplex();
        caller.goes_on(&pair);
    }
    caller.finish();
}

#[test]
fn the_last_that_left_waits_for_nobody() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    for first in [A, B] {
        both_leave(&mut pair, first, |pair| caller.goes_on(pair));
        pair.run(other(first));
        pair.wait_for_mode(other(first), "simplex");
        caller.goes_on(&pair);
        pair.run(first);
        pair.wait_for_duplex();
        caller.goes_on(&pair);
    }
    caller.finish();
}

/// What the register is after one more.
fn add(session: &Session) -> Answer {
    let add = Op::Add { name: "served".into(), delta: 1 };
    let answer = session.request_within(add.encode(), DEADLINE).expect("somebody serves");
    Answer::decode(&answer).expect("an answer")
}

/// The disk of the one that left last is lost: an operator does what the other one says.
#[test]
fn the_first_that_left_goes_on_by_an_operators_word() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    assert_eq!(add(&caller::open(&pair)), Answer::Value(Some(1)));
    both_leave(&mut pair, A, |pair| {
        assert_eq!(add(&caller::open(pair)), Answer::Value(Some(2)));
    });
    pair.wipe(B);
    pair.run(A);
    waits_for_the_last(&mut pair, A);
    for part in [A, WITNESS] {
        assert_eq!(pair.terminate(part).code(), Some(Exit::Done.code().into()));
    }
    pair.begin_lineage();
    pair.run_with(A, &["--adopt"]);
    pair.wait_for_mode(A, "simplex");
    // What was done by the other alone is lost, as the message says.
    assert_eq!(add(&caller::open(&pair)), Answer::Value(Some(2)));
    pair.run(B);
    assert_eq!(pair.wait_for_duplex()["lineage"], 2);
}
