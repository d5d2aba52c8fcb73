//! Pools that several owners want, when they are full (rule C9).

use core::time::Duration;

use super::{Fixture, answer, request, small};
use crate::entry::{EntryKind, InputKind};
use crate::ids::{Nonce, OwnerId, SessionId};
use crate::limits::{
    REPLY_BYTES, SESSION_ABANDONED, SESSION_UNREAD, SESSION_UNUSED, SESSION_UNUSED_ENDS,
};
use crate::loss::Loss;
use crate::output::{Executed, OutputKind, Refusal};
use crate::unit::UnitConfig;
use crate::unit::records::Reader;
use crate::unit::{Unit, tests::Probe};

/// Sessions enough, and room for a few large replies.
fn config() -> UnitConfig {
    UnitConfig {
        session_idle: Duration::MAX,
        session_replies: 100,
        session_reply_bytes: 8 << 20,
        reply_bytes: (REPLY_BYTES + 64) * 3,
        ..small()
    }
}

fn open(fixture: &mut Fixture, owner: u64, token: u64) -> Result<SessionId, Refusal> {
    let kind = InputKind::SessionOpenFor { owner: OwnerId(owner), token: Nonce(token) }.into();
    match fixture.run(kind).outputs.last().map(|output| output.kind.clone()) {
        Some(OutputKind::Opened { result, .. }) => result,
        other => panic!("no answer: {other:?}"),
    }
}

/// Asks for a reply of so many bytes, having read nothing.
fn ask(
    fixture: &mut Fixture,
    session: SessionId,
    token: u64,
    number: u64,
    bytes: usize,
) -> Executed {
    fixture.run(request(session, token, number, 1, &format!("large {bytes}")))
}

/// The sessions that the service was told are over.
fn ended(fixture: &Fixture) -> Vec<String> {
    let lines =
        fixture.seen().iter().filter_map(|line| line.split_once("SessionEnded { session: "));
    lines.map(|(_, session)| session.trim_end_matches(" }").to_owned()).collect()
}

fn pass(fixture: &mut Fixture, time: Duration) {
    fixture.time += u64::try_from(time.as_nanos()).unwrap();
}

#[test]
fn where_all_sessions_are_taken_whoever_has_most_gives_one_up() {
    let mut fixture = Fixture::new(config());
    let taken: Vec<_> = (0..4).map(|token| open(&mut fixture, 1, token).unwrap()).collect();
    assert!(open(&mut fixture, 2, 10).is_ok());
    assert!(open(&mut fixture, 2, 11).is_ok());
    assert_eq!(ended(&fixture), [format!("{:?}", taken[3]), format!("{:?}", taken[2])]);
    assert_eq!(open(&mut fixture, 2, 12), Err(Refusal::TooManySessions), "two and two");
    assert_eq!(open(&mut fixture, 1, 0), Ok(taken[0]), "it has one");
    assert_eq!(fixture.unit.sessions(), 4);
}

#[test]
fn one_in_which_nothing_was_asked_soon_gives_way_to_the_same_owner_too() {
    let mut fixture = Fixture::new(config());
    let taken: Vec<_> = (0..4).map(|token| open(&mut fixture, 1, token).unwrap()).collect();
    let _ = ask(&mut fixture, taken[0], 0, 1, 1);
    assert_eq!(open(&mut fixture, 1, 10), Err(Refusal::TooManySessions));
    pass(&mut fixture, SESSION_UNUSED);
    assert_eq!(open(&mut fixture, 1, 1), Ok(taken[1]), "its client is there");
    assert!(open(&mut fixture, 1, 10).is_ok());
    assert_eq!(ended(&fixture), [format!("{:?}", taken[2])]);
}

/// A client that opens sessions and asks nothing leaves nothing behind.
#[test]
fn one_in_which_nothing_was_asked_ends_by_itself() {
    let mut fixture = Fixture::new(config());
    let [unused, used, awaited] = [0, 1, 2].map(|token| open(&mut fixture, 1, token).unwrap());
    let _ = ask(&mut fixture, used, 1, 1, 1);
    let due = fixture.unit.wakeup().expect("the first of them ends");
    fixture.time = due.0 - 100;
    assert_eq!(open(&mut fixture, 1, 2), Ok(awaited), "its client is there");
    assert!(ended(&fixture).is_empty());
    fixture.time = due.0;
    fixture.run(EntryKind::Tick);
    assert_eq!(ended(&fixture), [format!("{unused:?}")]);
    let _ = ask(&mut fixture, awaited, 2, 1, 1);
    pass(&mut fixture, SESSION_UNUSED_ENDS);
    fixture.run(EntryKind::Tick);
    assert_eq!(fixture.unit.sessions(), 2, "what was asked is kept");
    assert_eq!(answer(&ask(&mut fixture, unused, 0, 1, 1), 1), Err(Refusal::UnknownSession));
}

#[test]
fn one_that_was_left_long_ago_gives_way() {
    let mut fixture = Fixture::new(config());
    let taken: Vec<_> = (0..4).map(|token| open(&mut fixture, 1, token).unwrap()).collect();
    for (token, session) in (0..).zip(&taken) {
        let _ = ask(&mut fixture, *session, token, 1, 1);
    }
    pass(&mut fixture, SESSION_ABANDONED - Duration::from_nanos(50));
    assert_eq!(open(&mut fixture, 1, 10), Err(Refusal::TooManySessions));
    assert!(open(&mut fixture, 1, 10).is_ok());
    assert_eq!(ended(&fixture), [format!("{:?}", taken[0])]);
}

/// One key's clients that never read once kept every other client from being answered.
#[test]
fn replies_that_nobody_reads_give_way_to_another_owner() {
    let mut fixture = Fixture::new(config());
    let [first, second] = [0, 1].map(|token| open(&mut fixture, 1, token).unwrap());
    let honest = open(&mut fixture, 2, 9).unwrap();
    for number in 1..=2 {
        let _ = ask(&mut fixture, first, 0, number, 500_000);
        let _ = ask(&mut fixture, second, 1, number, 500_000);
    }
    let _ = ask(&mut fixture, second, 1, 3, 500_000);
    assert_eq!(answer(&ask(&mut fixture, first, 0, 3, 10), 3), Err(Refusal::TooManyReplies));
    assert!(answer(&ask(&mut fixture, honest, 9, 1, 10), 1).is_ok());
    assert_eq!(ended(&fixture), [format!("{first:?}")], "the one that has not read for longest");
    assert_eq!(answer(&ask(&mut fixture, first, 0, 2, 0), 2), Err(Refusal::UnknownSession));
    assert!(answer(&ask(&mut fixture, second, 1, 1, 0), 1).is_ok(), "the other is not touched");
}

/// What every end and refusal was for, and whose loss it was.
#[test]
fn what_was_lost_is_said_by_its_owner_and_cause() {
    let mut fixture = Fixture::new(config());
    let lost = |executed: Executed| executed.sessions.lost;
    let wants = |owner, token| {
        InputKind::SessionOpenFor { owner: OwnerId(owner), token: Nonce(token) }.into()
    };
    let [first, second] = [0, 1].map(|token| open(&mut fixture, 1, token).unwrap());
    for number in 1..=2 {
        let _ = ask(&mut fixture, first, 0, number, 500_000);
        let _ = ask(&mut fixture, second, 1, number, 500_000);
    }
    assert_eq!(lost(ask(&mut fixture, second, 1, 3, 500_000)), []);
    assert_eq!(lost(ask(&mut fixture, first, 0, 3, 9)), [(OwnerId(1), Loss::NoRoom)]);
    let honest = open(&mut fixture, 2, 9).unwrap();
    let made = ask(&mut fixture, honest, 9, 1, 10);
    assert_eq!((made.sessions.open, made.sessions.reply_bytes), (2, fixture.unit.reply_bytes()));
    assert_eq!(lost(made), [(OwnerId(1), Loss::MadeRoom)]);
    assert_eq!(lost(fixture.run(wants(1, 2))), []);
    assert_eq!(lost(fixture.run(wants(1, 3))), []);
    assert_eq!(lost(fixture.run(wants(2, 4))), [(OwnerId(1), Loss::Displaced)]);
    assert_eq!(lost(fixture.run(wants(2, 5))), [(OwnerId(2), Loss::NoSession)]);
    pass(&mut fixture, SESSION_UNUSED_ENDS);
    let unused = [(OwnerId(1), Loss::Unused), (OwnerId(2), Loss::Unused)];
    assert_eq!(lost(fixture.run(EntryKind::Tick)), unused);
}

#[test]
fn of_one_owner_the_client_that_reads_goes_before_those_that_do_not() {
    let mut fixture = Fixture::new(config());
    let silent = open(&mut fixture, 1, 0).unwrap();
    let honest = open(&mut fixture, 1, 1).unwrap();
    for number in 1..=5 {
        let _ = ask(&mut fixture, silent, 0, number, 500_000);
    }
    let reads = |fixture: &mut Fixture, number: u64| {
        let asked = fixture.run(request(honest, 1, number, number, "large 900000"));
        assert!(answer(&asked, number).is_ok(), "{number}");
    };
    (1..10).for_each(|number| reads(&mut fixture, number));
    assert_eq!(ended(&fixture), [format!("{silent:?}")]);
}

#[test]
fn much_that_nobody_reads_ends_where_room_is_scarce_and_a_little_stays() {
    let mut fixture = Fixture::new(config());
    let [much, little, other] = [0, 1, 2].map(|token| open(&mut fixture, 1, token).unwrap());
    let _ = ask(&mut fixture, much, 0, 1, 5000);
    let _ = ask(&mut fixture, little, 1, 1, 50);
    let _ = ask(&mut fixture, other, 2, 1, 50);
    pass(&mut fixture, SESSION_UNREAD);
    fixture.run(EntryKind::Tick);
    assert!(ended(&fixture).is_empty(), "a client at rest keeps its session");
    fixture.run(request(other, 2, 2, 2, "large 900000"));
    let _ = ask(&mut fixture, other, 2, 3, 900_000);
    let due = fixture.unit.wakeup().unwrap();
    assert!(due.0 <= fixture.time);
    fixture.run(EntryKind::Tick);
    assert_eq!(ended(&fixture), [format!("{much:?}")]);
    assert!(answer(&ask(&mut fixture, little, 1, 1, 0), 1).is_ok());
}

#[test]
fn whoever_has_most_already_takes_nothing_that_is_anothers() {
    let mut fixture = Fixture::new(config());
    let other = open(&mut fixture, 2, 9).unwrap();
    for token in 0..3 {
        let session = open(&mut fixture, 1, token).unwrap();
        let _ = ask(&mut fixture, session, token, 1, 1);
    }
    pass(&mut fixture, SESSION_UNUSED);
    assert_eq!(open(&mut fixture, 1, 10), Err(Refusal::TooManySessions));
    let _ = ask(&mut fixture, other, 9, 1, 1);
    pass(&mut fixture, SESSION_ABANDONED);
    assert!(open(&mut fixture, 1, 10).is_ok(), "in place of one of its own");
    assert!(answer(&ask(&mut fixture, other, 9, 1, 0), 1).is_ok());
}

#[test]
fn what_is_much_and_for_how_long_can_be_set() {
    let short = Duration::from_micros(1);
    let mut fixture = Fixture::new(UnitConfig {
        sessions: 2,
        reply_bytes: 400,
        longest_reply: 100,
        session_unused: short,
        session_unread: short,
        unread_bytes: 100,
        ..config()
    });
    let [unread, unused] = [0, 1].map(|token| open(&mut fixture, 1, token).unwrap());
    assert_eq!(answer(&ask(&mut fixture, unread, 0, 1, 101), 1), Err(Refusal::ReplyTooLarge));
    assert!(answer(&ask(&mut fixture, unread, 0, 2, 100), 2).is_ok());
    pass(&mut fixture, short);
    fixture.run(EntryKind::Tick);
    assert_eq!(ended(&fixture), [format!("{unread:?}")], "more than half is kept, and it has much");
    assert!(open(&mut fixture, 2, 2).is_ok());
    assert!(open(&mut fixture, 3, 3).is_ok());
    assert_eq!(ended(&fixture)[1..], [format!("{unused:?}")]);
}

/// What filled the room before it was asked whose it is must not fill it for a day more.
#[test]
fn what_nobody_owns_gives_way_to_an_owner() {
    let mut fixture = Fixture::new(config());
    fixture.run(InputKind::SessionOpen { token: Nonce(0) }.into());
    let old = SessionId(1);
    let new = open(&mut fixture, 1, 1).unwrap();
    for number in 1..=5 {
        let _ = ask(&mut fixture, old, 0, number, 500_000);
    }
    assert!(answer(&ask(&mut fixture, new, 1, 1, 9), 1).is_ok());
    assert_eq!(ended(&fixture), [format!("{old:?}")]);
}

#[test]
fn a_log_that_knows_no_owners_comes_to_what_it_came_to() {
    let mut fixture = Fixture::new(config());
    let open = |fixture: &mut Fixture, token| {
        let executed = fixture.run(InputKind::SessionOpen { token: Nonce(token) }.into());
        let OutputKind::Opened { result, .. } = executed.outputs[0].kind else { panic!() };
        result
    };
    let taken: Vec<_> = (0..4).map(|token| open(&mut fixture, token).unwrap()).collect();
    for number in 1..=5 {
        let _ = ask(&mut fixture, taken[0], 0, number, 500_000);
    }
    assert_eq!(answer(&ask(&mut fixture, taken[1], 1, 1, 9), 1), Err(Refusal::TooManyReplies));
    pass(&mut fixture, SESSION_UNREAD + SESSION_ABANDONED);
    assert_eq!(open(&mut fixture, 10), Err(Refusal::TooManySessions));
    assert!(ended(&fixture).is_empty());
}

#[test]
fn a_restored_unit_gives_way_like_the_one_that_it_was_taken_of() {
    let mut fixture = Fixture::new(config());
    let taken: Vec<_> =
        (0..4).map(|token| open(&mut fixture, 1 + token / 3, token).unwrap()).collect();
    for number in 1..=5 {
        let _ = ask(&mut fixture, taken[1], 1, number, 500_000);
    }
    let bytes = fixture.unit.freeze().to_bytes().unwrap();
    let mut records = Reader::open(bytes.clone()).unwrap();
    let mut copy = Unit::restore(Probe::default(), config(), &mut records).unwrap();
    assert_eq!(copy.freeze().to_bytes().unwrap(), bytes);
    let entries = [
        fixture.entry(InputKind::SessionOpenFor { owner: OwnerId(3), token: Nonce(30) }.into()),
        fixture.entry(request(taken[3], 3, 1, 1, "large 9")),
        fixture.entry(EntryKind::Tick),
    ];
    for entry in &entries {
        assert_eq!(copy.execute(entry), fixture.unit.execute(entry));
    }
    assert_eq!(copy.service().seen, fixture.seen());
    assert_eq!(ended(&fixture).len(), 2);
}

/// The state of a pair before it was asked whose a session is.
#[test]
fn a_state_of_version_2_is_restored_with_sessions_of_nobody() {
    let bytes = include_bytes!("../../../tests/fixtures/unit-v2/records");
    let mut records = Reader::open(bytes::Bytes::from_static(bytes)).unwrap();
    let mut unit = Unit::restore(Probe::default(), small(), &mut records).unwrap();
    assert_eq!((unit.sessions(), unit.index().0), (2, 6));
    assert_eq!(unit.wakeup(), None, "it was taken within a gap");
    let mut entry = Fixture::new(small()).entry(request(SessionId(1), 7, 2, 1, "large 9"));
    entry.index = unit.index().next();
    entry.time = unit.time();
    assert_eq!(answer(&unit.execute(&entry), 2).unwrap().len(), 9, "the reply is kept");
    let again = unit.freeze().to_bytes().unwrap();
    let mut records = Reader::open(again.clone()).unwrap();
    let copy = Unit::restore(Probe::default(), small(), &mut records).unwrap();
    assert_eq!(copy.freeze().to_bytes().unwrap(), again);
}
