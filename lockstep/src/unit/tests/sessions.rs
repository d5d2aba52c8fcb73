//! What becomes of requests.

use core::time::Duration;

use super::{Fixture, request, small};
use crate::entry::{EntryKind, InputKind};
use crate::ids::{LogTime, Nonce, RequestNumber, SessionId};
use crate::limits::REPLY_BYTES;
use crate::output::{Output, OutputKind, Refusal};
use crate::unit::UnitConfig;

fn fixture() -> (Fixture, (SessionId, u64)) {
    let mut fixture = Fixture::new(UnitConfig { session_idle: Duration::MAX, ..small() });
    let session = fixture.open(7).unwrap();
    (fixture, (session, 7))
}

fn requests(fixture: &Fixture) -> usize {
    fixture.seen().iter().filter(|line| line.contains("request")).count()
}

#[test]
fn a_session_has_the_index_of_its_entry_and_opening_again_gives_the_same() {
    let (mut fixture, (session, _)) = fixture();
    assert_eq!(session, SessionId(1));
    assert_eq!(fixture.open(7), Ok(session));
    assert_eq!(fixture.open(8), Ok(SessionId(3)));
    assert_eq!(fixture.unit.sessions(), 2);
    assert_eq!(fixture.seen().len(), 2, "told of each once");
}

#[test]
fn a_repeated_request_is_answered_from_the_stored_reply() {
    let (mut fixture, client) = fixture();
    let first = fixture.ask(client, 1, 1, "one").unwrap();
    let second = fixture.ask(client, 2, 1, "two").unwrap();
    assert_eq!(fixture.ask(client, 1, 1, "one"), Ok(first));
    assert_eq!(fixture.ask(client, 2, 1, "two"), Ok(second));
    assert_eq!(requests(&fixture), 2);
}

#[test]
fn a_gap_is_refused_with_the_number_expected() {
    let (mut fixture, client) = fixture();
    let expected = Refusal::Gap { expected: RequestNumber(1) };
    assert_eq!(fixture.ask(client, 2, 1, "two"), Err(expected));
    assert_eq!(requests(&fixture), 0);
    assert!(fixture.ask(client, 1, 1, "one").is_ok());
}

#[test]
fn an_answer_given_up_is_forgotten_and_never_computed_again() {
    let (mut fixture, client) = fixture();
    fixture.ask(client, 1, 1, "one").unwrap();
    fixture.ask(client, 2, 2, "two").unwrap();
    assert_eq!(fixture.ask(client, 1, 1, "one"), Err(Refusal::Forgotten));
    assert_eq!(fixture.ask(client, 0, 0, "zero"), Err(Refusal::Forgotten));
    assert_eq!(requests(&fixture), 2);
}

#[test]
fn a_lowest_beyond_the_request_counts_up_to_it() {
    let (mut fixture, client) = fixture();
    let reply = fixture.ask(client, 1, u64::MAX, "one").unwrap();
    assert_eq!(fixture.ask(client, 1, u64::MAX, "one"), Ok(reply));
    assert!(fixture.ask(client, 2, u64::MAX, "two").is_ok());
}

#[test]
fn an_unknown_session_or_a_wrong_token_is_refused_and_not_executed() {
    let (mut fixture, (session, token)) = fixture();
    let executed = fixture.run(request(session, token + 1, 1, 1, "one"));
    let refused = OutputKind::Reply {
        session,
        token: Nonce(token + 1),
        number: RequestNumber(1),
        result: Err(Refusal::UnknownSession),
    };
    assert_eq!(executed.outputs, [Output { step: 0, ordinal: 0, kind: refused }]);
    let unknown = (SessionId(99), token);
    assert_eq!(fixture.ask(unknown, 1, 1, "one"), Err(Refusal::UnknownSession));
    assert_eq!(requests(&fixture), 0);
}

#[test]
fn too_many_replies_are_refused_without_effect_until_some_are_given_up() {
    let (mut fixture, client) = fixture();
    for number in 1..=3 {
        fixture.ask(client, number, 1, "x").unwrap();
    }
    assert_eq!(fixture.ask(client, 4, 1, "x"), Err(Refusal::TooManyReplies));
    assert_eq!(requests(&fixture), 3);
    assert!(fixture.ask(client, 4, 2, "x").is_ok());
    assert_eq!(requests(&fixture), 4);
}

#[test]
fn bytes_of_replies_are_bounded_for_a_session_and_for_all() {
    let (mut fixture, client) = fixture();
    fixture.ask(client, 1, 1, "large 137").unwrap();
    assert_eq!(fixture.ask(client, 2, 1, "x"), Err(Refusal::TooManyReplies), "137 and 64 over 200");
    assert!(fixture.ask(client, 2, 2, "large 136").is_ok());
    for token in 8..10 {
        let other = (fixture.open(token).unwrap(), token);
        assert!(fixture.ask(other, 1, 1, "large 136").is_ok());
    }
    let fourth = (fixture.open(10).unwrap(), 10);
    assert!(fixture.ask(fourth, 1, 1, "").is_ok(), "600 are full");
    assert_eq!(fixture.ask(fourth, 2, 1, ""), Err(Refusal::TooManyReplies));
    fixture.run(InputKind::SessionClose { session: client.0, token: Nonce(7) }.into());
    assert!(fixture.ask(fourth, 2, 1, "").is_ok());
}

#[test]
fn a_refused_request_has_its_number_and_its_answer_and_never_reaches_the_service() {
    let (mut fixture, client) = fixture();
    fixture.ask(client, 1, 1, "one").unwrap();
    // It waits for those before it like any other.
    assert_eq!(fixture.refuse(client, 3, 1), Err(Refusal::Gap { expected: RequestNumber(2) }));
    assert_eq!(fixture.refuse(client, 2, 1), Err(Refusal::ReadOnly));
    assert_eq!(
        fixture.ask(client, 3, 1, "three").unwrap(),
        fixture.ask(client, 3, 1, "three").unwrap()
    );
    assert_eq!(requests(&fixture), 2);
    // What was first is what it came to, whoever repeats it and whatever that one takes it for.
    assert_eq!(fixture.refuse(client, 2, 1), Err(Refusal::ReadOnly));
    assert_eq!(fixture.ask(client, 2, 1, "two"), Err(Refusal::ReadOnly));
    assert_eq!(fixture.refuse(client, 3, 1), fixture.ask(client, 3, 1, "three"));
    assert_eq!(fixture.refuse((client.0, 8), 4, 1), Err(Refusal::UnknownSession));
    assert_eq!(requests(&fixture), 2);
    // A client that has its answer gives it up like any other.
    assert_eq!(fixture.refuse(client, 4, 4), Err(Refusal::ReadOnly));
    assert_eq!(fixture.refuse(client, 2, 1), Err(Refusal::Forgotten));
}

#[test]
fn a_reply_too_large_takes_effect_and_is_stored_as_that() {
    let (mut fixture, client) = fixture();
    let body = format!("large {}", REPLY_BYTES + 1);
    assert_eq!(fixture.ask(client, 1, 1, &body), Err(Refusal::ReplyTooLarge));
    assert_eq!(fixture.ask(client, 1, 1, &body), Err(Refusal::ReplyTooLarge));
    assert_eq!(requests(&fixture), 1);
    let body = format!("large {REPLY_BYTES}");
    assert_eq!(fixture.ask(client, 2, 2, &body).unwrap().len(), REPLY_BYTES);
}

#[test]
fn sessions_are_bounded() {
    let (mut fixture, client) = fixture();
    for token in 8..11 {
        fixture.open(token).unwrap();
    }
    assert_eq!(fixture.open(11), Err(Refusal::TooManySessions));
    assert_eq!(fixture.open(7), Ok(client.0), "it has one");
    fixture.run(InputKind::SessionClose { session: client.0, token: Nonce(7) }.into());
    assert!(fixture.open(11).is_ok());
}

#[test]
fn a_closed_session_is_told_once_and_unknown_afterwards() {
    let (mut fixture, client) = fixture();
    let close = |token| InputKind::SessionClose { session: client.0, token: Nonce(token) }.into();
    fixture.run(close(8));
    assert_eq!(fixture.unit.sessions(), 1, "not with another's token");
    fixture.run(close(7));
    fixture.run(close(7));
    let ended = fixture.seen().iter().filter(|line| line.contains("SessionEnded")).count();
    assert_eq!(ended, 1);
    assert_eq!(fixture.ask(client, 1, 1, "x"), Err(Refusal::UnknownSession));
    assert_eq!(fixture.open(7), Ok(SessionId(6)), "the token may open another one");
}

#[test]
fn idle_sessions_end_before_the_entry_the_longest_idle_first() {
    let mut fixture = Fixture::new(small());
    let first = fixture.open(1).unwrap();
    let second = fixture.open(2).unwrap();
    let third = fixture.open(3).unwrap();
    fixture.ask((first, 1), 1, 1, "x").unwrap();
    fixture.time = 2025;
    let executed = fixture.run(EntryKind::Tick);
    assert_eq!(executed.wakeup, Some(LogTime(2040)), "the first session's turn");
    let ended: Vec<_> =
        fixture.seen().iter().filter(|line| line.contains("SessionEnded")).collect();
    assert_eq!(ended.len(), 2);
    assert!(ended[0].starts_with("5.0 at 2035") && ended[0].contains(&format!("{second:?}")));
    assert!(ended[1].starts_with("5.1 at 2035") && ended[1].contains(&format!("{third:?}")));
}

#[test]
fn a_request_on_the_day_its_session_ends_comes_too_late() {
    let mut fixture = Fixture::new(small());
    let session = fixture.open(1).unwrap();
    fixture.time = 2000;
    assert_eq!(fixture.ask((session, 1), 1, 1, "x"), Err(Refusal::UnknownSession));
    let session = fixture.open(1).unwrap();
    fixture.time += 980;
    assert!(fixture.ask((session, 1), 1, 1, "x").is_ok(), "20 ns before the end");
}

#[test]
fn only_so_many_sessions_end_before_one_entry() {
    let mut fixture = Fixture::new(UnitConfig { sessions: 100, ..small() });
    for token in 0..12 {
        fixture.open(token).unwrap();
    }
    fixture.time = 5000;
    let left = [7, 2, 0].map(|_| {
        fixture.run(EntryKind::Tick);
        fixture.unit.sessions()
    });
    assert_eq!(left, [7, 2, 0]);
    assert_eq!(fixture.unit.wakeup(), None);
}
