//! A log that is taken up again: what a service sees of the time in which nobody ran.

use super::{Fixture, Probe, small};
use crate::entry::EntryKind;
use crate::ids::{Epoch, Incarnation, Lineage, LogTime, PairId, ReplicaId};
use crate::output::Refusal;
use crate::record::{Members, Origin, Record};
use crate::unit::records::Reader;
use crate::unit::{Unit, UnitConfig};

fn record(origin: Origin) -> Record {
    let members = Members::alone(ReplicaId::B, Incarnation(5));
    Record { members, origin, ..Record::vacant(PairId([0; 16]), Lineage(1), Epoch(2)) }
}

fn take_up(fixture: &mut Fixture, gap: u64) {
    fixture.time += gap - 10;
    fixture.run(EntryKind::Resume { record: record(Origin::Restarted) });
}

/// What the probe saw, without the details.
fn seen(fixture: &Fixture) -> Vec<String> {
    let brief =
        |line: &String| line.split([' ', '{']).skip(2).take(2).collect::<Vec<_>>().join(" ");
    fixture.seen().iter().map(brief).collect()
}

#[test]
fn the_service_learns_of_the_gap_first_and_is_woken_once_the_devices_stand() {
    let mut fixture = Fixture::new(UnitConfig::default());
    // At 1010; due at 1013, and then each 3 ns after the last.
    fixture.device("wake 3 1");
    take_up(&mut fixture, 5000);
    fixture.device("nothing");
    let ready = fixture.run(EntryKind::Ready);
    let expected = [
        "1010: Device",
        "6010: Resumed",
        "6010: Members",
        "6020: Device",
        "6020: Wake",
        "6023: Wake",
    ];
    assert_eq!(seen(&fixture), expected);
    assert_eq!(ready.wakeup, None);
    assert!(fixture.seen()[1].contains("gap: 5µs"), "{}", fixture.seen()[1]);
}

#[test]
fn processes_that_stood_still_have_a_gap_and_wait_for_nothing() {
    let mut fixture = Fixture::new(UnitConfig::default());
    fixture.device("wake 3 1");
    fixture.time += 5000;
    let gap = fixture.run(EntryKind::Gap);
    fixture.device("nothing");
    // Once for the time of the gap; what that step sets is as early as it says.
    let expected = ["1010: Device", "6020: Resumed", "6020: Wake", "6023: Wake", "6030: Device"];
    assert_eq!(seen(&fixture), expected);
    assert_eq!(gap.wakeup, Some(LogTime(6023)));
    assert!(fixture.seen()[1].contains("gap: 5.01µs"), "{}", fixture.seen()[1]);
}

#[test]
fn no_entry_is_asked_for_while_wake_ups_are_held() {
    let mut fixture = Fixture::new(UnitConfig::default());
    fixture.device("wake 3");
    fixture.open(1).unwrap();
    take_up(&mut fixture, 5000);
    assert_eq!(fixture.unit.wakeup(), None);
    assert_eq!(fixture.device("wake 4").wakeup, None);
    assert!(fixture.run(EntryKind::Ready).wakeup.is_some(), "the end of the session");
}

#[test]
fn a_log_of_before_there_were_gaps_is_replayed_as_it_was() {
    let mut fixture = Fixture::new(UnitConfig::default());
    fixture.device("wake 3");
    fixture.time += 5000;
    fixture.run(EntryKind::Membership { record: record(Origin::Restarted) });
    assert_eq!(seen(&fixture), ["1010: Device", "1013: Wake", "6020: Members"]);
}

#[test]
fn the_time_in_which_nobody_ran_is_no_client_s_idleness() {
    let mut fixture = Fixture::new(small());
    let session = fixture.open(7).unwrap();
    fixture.time += 500;
    take_up(&mut fixture, 5000);
    fixture.run(EntryKind::Ready);
    fixture.time += 400;
    assert!(fixture.ask((session, 7), 1, 1, "nothing").is_ok(), "idle for 420 of 1000 ns");
    fixture.time += 980;
    assert!(fixture.ask((session, 7), 2, 1, "nothing").is_ok());
    fixture.time += 1000;
    assert_eq!(fixture.ask((session, 7), 3, 1, "nothing"), Err(Refusal::UnknownSession));
}

#[test]
fn a_session_ends_by_its_own_time_after_a_gap() {
    let mut fixture = Fixture::new(small());
    fixture.open(7).unwrap();
    take_up(&mut fixture, 5000);
    let wakeup = fixture.run(EntryKind::Ready).wakeup;
    assert_eq!(wakeup, Some(LogTime(1010 + 1000 + 5000)));
}

#[test]
fn a_second_gap_before_the_first_has_ended_is_another_one() {
    let mut fixture = Fixture::new(UnitConfig::default());
    fixture.device("wake 3");
    take_up(&mut fixture, 5000);
    take_up(&mut fixture, 7000);
    fixture.run(EntryKind::Ready);
    let expected = [
        "1010: Device",
        "6010: Resumed",
        "6010: Members",
        "13010: Resumed",
        "13010: Members",
        "13010: Wake",
    ];
    assert_eq!(seen(&fixture), expected);
}

#[test]
fn a_unit_restored_within_a_gap_goes_on_in_it() {
    let mut fixture = Fixture::new(small());
    let session = fixture.open(7).unwrap();
    fixture.device("wake 3 1");
    take_up(&mut fixture, 5000);
    let bytes = fixture.unit.freeze().to_bytes().unwrap();
    let mut records = Reader::open(bytes.clone()).unwrap();
    let mut copy = Unit::restore(Probe::default(), small(), &mut records).unwrap();
    assert_eq!(copy.freeze().to_bytes().unwrap(), bytes);
    let entries = [
        fixture.entry(EntryKind::Tick),
        fixture.entry(EntryKind::Ready),
        fixture.entry(super::request(session, 7, 1, 1, "nothing")),
    ];
    for entry in &entries {
        assert_eq!(copy.execute(entry), fixture.unit.execute(entry));
    }
    assert_eq!(copy.service().seen, fixture.seen());
}

#[test]
fn a_state_of_the_version_before_is_restored_with_nothing_held() {
    let bytes = include_bytes!("../../../tests/fixtures/unit-v1/records");
    let mut records = Reader::open(bytes::Bytes::from_static(bytes)).unwrap();
    let unit = Unit::restore(Probe::default(), UnitConfig::default(), &mut records).unwrap();
    assert_eq!((unit.sessions(), unit.index().0), (3, 11));
    assert!(unit.wakeup().is_some());
    let again = unit.freeze().to_bytes().unwrap();
    let mut records = Reader::open(again).unwrap();
    let copy = Unit::restore(Probe::default(), UnitConfig::default(), &mut records).unwrap();
    assert_eq!(copy.wakeup(), unit.wakeup());
}

#[test]
fn ready_without_a_gap_changes_nothing() {
    let mut fixture = Fixture::new(UnitConfig::default());
    fixture.device("wake 3");
    fixture.run(EntryKind::Ready);
    assert_eq!(seen(&fixture), ["1010: Device", "1013: Wake"]);
}
