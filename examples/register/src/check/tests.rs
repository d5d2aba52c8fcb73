//! Histories that are in order, and such that are not.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::model::State;
use super::*;

fn call(session: u64, number: u64, (from, to): (u64, u64), op: Op, answer: Answer) -> Call {
    Call { session, number, from, to: Some(to), op, answer: Some(answer), error: None }
}

fn open(session: u64, number: u64, from: u64, op: Op) -> Call {
    Call { session, number, from, to: None, op, answer: None, error: Some("lost".into()) }
}

fn get() -> Op {
    Op::Get { name: "r".into() }
}

fn set(value: i64) -> Op {
    Op::Set { name: "r".into(), value }
}

fn add(delta: i64) -> Op {
    Op::Add { name: "c".into(), delta }
}

fn push(item: &str) -> Op {
    Op::Push { queue: "q".into(), item: item.into() }
}

fn pop() -> Op {
    Op::Pop { queue: "q".into() }
}

fn item(item: &str) -> Answer {
    Answer::Item(Some(item.into()))
}

fn complaint(calls: &[Call]) -> String {
    let report = check(calls, STATES);
    assert_eq!(report.violations.len(), 1, "{report:?}");
    format!("{}: {}", report.violations[0].object, report.violations[0].what)
}

#[test]
fn calls_at_the_same_time_may_take_effect_in_any_order() {
    let late = [
        call(1, 1, (0, 10), set(1), Answer::Value(None)),
        call(2, 1, (0, 10), set(2), Answer::Value(Some(1))),
        call(3, 1, (5, 6), get(), Answer::Value(Some(1))),
        call(3, 2, (11, 12), get(), Answer::Value(Some(2))),
    ];
    assert!(check(&late, STATES).is_good());
}

#[test]
fn a_stale_read_is_found() {
    let stale = [
        call(1, 1, (0, 1), set(1), Answer::Value(None)),
        call(1, 2, (2, 3), set(2), Answer::Value(Some(1))),
        call(2, 1, (4, 5), get(), Answer::Value(Some(1))),
    ];
    assert!(complaint(&stale).starts_with("register r: no order"));
    let stuck = &check(&stale, STATES).violations[0].calls;
    assert_eq!(stuck[..], stale[2..]);
}

#[test]
fn what_was_not_answered_may_have_taken_effect_or_not() {
    let before = call(2, 1, (5, 6), get(), Answer::Value(Some(1)));
    let after = call(2, 2, (7, 8), get(), Answer::Value(None));
    let lost = open(1, 1, 0, set(1));
    assert!(check(&[lost.clone(), before.clone()], STATES).is_good());
    assert!(check(&[lost.clone(), after.clone()], STATES).is_good());
    assert!(!check(&[lost, before, after], STATES).is_good());
}

#[test]
fn in_a_session_what_was_asked_first_takes_effect_first() {
    let overtaken = [
        open(1, 1, 0, set(1)),
        call(1, 2, (1, 2), set(2), Answer::Value(Some(1))),
        call(2, 1, (3, 4), get(), Answer::Value(Some(1))),
    ];
    assert!(!check(&overtaken, STATES).is_good());
}

#[test]
fn what_comes_out_twice_or_from_nowhere_is_named() {
    let first =
        [call(1, 1, (0, 1), push("x"), Answer::Length(1)), call(1, 2, (2, 3), pop(), item("x"))];
    assert!(check(&first, STATES).is_good());
    let twice = [&first[..], &[call(1, 3, (4, 5), pop(), item("x"))]].concat();
    assert_eq!(complaint(&twice), "queue q: \"x\" was taken out twice");
    let nowhere = [&first[..], &[call(1, 3, (4, 5), pop(), item("y"))]].concat();
    assert_eq!(complaint(&nowhere), "queue q: \"y\" was never put in");
    let lost = [
        call(1, 1, (0, 1), push("x"), Answer::Length(1)),
        call(1, 2, (2, 3), pop(), Answer::Item(None)),
    ];
    assert!(complaint(&lost).starts_with("queue q: no order"));
}

#[test]
fn what_was_added_twice_is_named() {
    let twice = [
        call(1, 1, (0, 1), add(1), Answer::Value(Some(1))),
        call(2, 1, (0, 1), add(1), Answer::Value(Some(3))),
    ];
    assert_eq!(complaint(&twice), "register c: it is 3, but only 2 was ever asked for");
    let same = [
        call(1, 1, (0, 1), add(1), Answer::Value(Some(1))),
        call(2, 1, (0, 1), add(1), Answer::Value(Some(1))),
    ];
    assert_eq!(complaint(&same), "register c: two additions made it 1");
}

#[test]
fn log_time_that_goes_back_is_found() {
    let back = [
        call(1, 1, (0, 5), Op::Now, Answer::Time(100)),
        call(2, 1, (2, 9), Op::Now, Answer::Time(90)),
        call(2, 2, (10, 11), Op::Now, Answer::Time(99)),
    ];
    assert!(check(&back[..2], STATES).is_good());
    assert_eq!(complaint(&back), "log time: it went back from 100 to 99");
}

#[test]
fn a_search_that_is_too_long_is_given_up() {
    let mut calls: Vec<Call> =
        (0..12).map(|n| call(n, 1, (0, 100), set(n as i64), Answer::Value(None))).collect();
    calls[0].answer = Some(Answer::Value(Some(50)));
    for call in &mut calls[1..] {
        (call.to, call.answer) = (None, None);
    }
    let report = check(&calls, 100);
    assert_eq!(report.undecided, ["register r"]);
    assert!(!report.is_good());
}

#[test]
fn a_long_history_of_many_clients_is_checked() {
    let mut value = None;
    let mut calls = Vec::new();
    for n in 0..20_000u64 {
        let (session, from) = (n % 8, 10 * n);
        let answer = Answer::Value(value.replace(n as i64));
        // Each overlaps with its neighbours.
        calls.push(call(session, n / 8 + 1, (from, from + 35), set(n as i64), answer));
    }
    assert!(check(&calls, STATES).is_good());
    calls[15_000].answer = Some(Answer::Value(Some(3)));
    assert!(!check(&calls, STATES).is_good());
}

/// A search that tries every order and remembers nothing.
fn is_explained(left: &[&Call], state: &State<'_>) -> bool {
    let deadline = left.iter().filter_map(|call| call.to).min();
    let Some(deadline) = deadline else { return true };
    let may_be_next = |call: &&&Call| {
        let earlier =
            left.iter().any(|other| other.session == call.session && other.number < call.number);
        call.from <= deadline && !earlier
    };
    left.iter().filter(may_be_next).any(|next| {
        let rest: Vec<&Call> = left.iter().filter(|call| *call != next).copied().collect();
        let after = state.after(&next.op, next.answer.as_ref());
        after.is_some_and(|after| is_explained(&rest, &after))
    })
}

/// A few calls of three sessions that overlap, each with an answer that one order explains, but
/// for what is lost, or wrong.
fn drawn(random: &mut ChaCha8Rng) -> Vec<Call> {
    let mut draw = |below: u32| random.next_u32() % below;
    let mut calls = Vec::new();
    let mut value = None;
    for at in 0..7 {
        let op = match draw(4) {
            0 => get(),
            1 => set(draw(2).into()),
            _ => Op::Cas { name: "r".into(), expected: value, value: draw(2).into() },
        };
        let (answer, next) = match &op {
            Op::Get { .. } => (Answer::Value(value), value),
            Op::Set { value: new, .. } => (Answer::Value(value), Some(*new)),
            Op::Cas { value: new, .. } => (Answer::Swapped, Some(*new)),
            _ => unreachable!("nothing else is drawn"),
        };
        let (session, from) = (draw(3).into(), u64::from(10 * at - draw(10 * at + 1).min(25)));
        let until = u64::from(10 * at + 1 + draw(25));
        let mut call = call(session, at.into(), (from, until), op, answer);
        match draw(6) {
            0 => (call.to, call.answer) = (None, None),
            1 => call.answer = Some(Answer::Value(Some(draw(2).into()))),
            _ => value = next,
        }
        calls.push(call);
    }
    calls
}

#[test]
fn the_search_finds_what_trying_every_order_finds() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut found = [0; 2];
    for _ in 0..5000 {
        let calls = drawn(&mut random);
        let all: Vec<&Call> = calls.iter().collect();
        let object = Object::Register("r".into());
        let explained = is_explained(&all, &object.start());
        let verdict = search::search(&object, &all, STATES);
        assert_eq!(verdict == Verdict::Linearizable, explained, "{verdict:?} {calls:#?}");
        found[usize::from(explained)] += 1;
    }
    assert!(found.iter().all(|count| *count > 500), "{found:?}");
}
