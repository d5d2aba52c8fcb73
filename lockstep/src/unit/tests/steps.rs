//! Order, time and transactions of steps.

use bytes::Bytes;

use super::{Fixture, answer, request, small};
use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::ids::{Epoch, Incarnation, Index, Lineage, LogTime, PairId, ReplicaId};
use crate::machine::Step;
use crate::output::{OutputKind, chain};
use crate::record::{Members, Origin as RecordOrigin, Record};
use crate::unit::{UnitConfig, check_unwinding};

fn fixture() -> Fixture {
    Fixture::new(UnitConfig::default())
}

fn record(epoch: u64, members: Members, asker: ReplicaId) -> Record {
    Record { members, asker, ..Record::vacant(PairId([0; 16]), Lineage(1), Epoch(epoch)) }
}

#[test]
fn a_build_that_catches_panics_is_accepted() {
    assert_eq!(check_unwinding(), Ok(()));
}

#[test]
fn the_first_step_brings_the_seed() {
    let mut fixture = fixture();
    fixture.run(EntryKind::Genesis { seed: [3; 32] });
    assert_eq!(fixture.seen(), [format!("1.0 at 1010: {:?}", Step::Start { seed: &[3; 32] })]);
}

#[test]
fn a_device_event_carries_the_place_where_it_came_in() {
    let mut fixture = fixture();
    fixture.device("hello");
    assert!(fixture.seen()[0].contains("place: B"), "{:?}", fixture.seen());
}

#[test]
fn outputs_are_numbered_within_their_step_and_the_reply_is_the_last() {
    let mut fixture = fixture();
    let session = fixture.open(7).unwrap();
    fixture.ask((session, 7), 1, 1, "wake 5").unwrap();
    let executed = fixture.run(request(session, 7, 2, 1, "send 2"));
    let names: Vec<_> =
        executed.outputs.iter().map(|output| (output.step, output.ordinal)).collect();
    assert_eq!(names, [(0, 0), (1, 0), (1, 1), (1, 2)]);
    assert!(answer(&executed, 2).is_ok());
}

#[test]
fn due_wake_ups_come_before_the_entry_each_at_its_deadline() {
    let mut fixture = fixture();
    fixture.device("wake 3 2");
    let executed = fixture.device("nothing");
    assert_eq!(executed.wakeup, None);
    let steps: Vec<_> =
        fixture.seen().iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(steps, ["1.0 at 1010", "2.0 at 1013", "2.1 at 1016", "2.2 at 1019", "2.3 at 1020"]);
    assert!(fixture.seen()[1..4].iter().all(|line| line.ends_with("Wake")));
}

#[test]
fn a_wake_up_due_exactly_at_an_entry_comes_first() {
    let mut fixture = fixture();
    fixture.device("wake 10");
    fixture.device("nothing");
    assert!(fixture.seen()[1].ends_with("2.0 at 1020: Wake"), "{:?}", fixture.seen());
}

#[test]
fn a_wake_up_that_is_not_due_waits_and_is_told() {
    let mut fixture = fixture();
    let executed = fixture.device("wake 11");
    assert_eq!(executed.wakeup, Some(LogTime(1021)));
    assert_eq!(fixture.run(EntryKind::Tick).wakeup, Some(LogTime(1021)));
    assert_eq!(fixture.seen().len(), 1);
    assert_eq!(fixture.run(EntryKind::Tick).outputs.len(), 1);
}

#[test]
fn wake_ups_beyond_the_bound_come_before_the_next_entry_and_time_does_not_go_back() {
    let mut fixture = Fixture::new(small());
    fixture.device("wake 1 6");
    let executed = fixture.device("nothing");
    assert_eq!(executed.wakeup, Some(LogTime(1016)), "in the past");
    fixture.run(EntryKind::Tick);
    let times: Vec<u64> = fixture.seen().iter().map(|line| time_of(line)).collect();
    assert_eq!(times, [1010, 1011, 1012, 1013, 1014, 1015, 1020, 1020, 1021]);
}

fn time_of(line: &str) -> u64 {
    line.split([' ', ':']).nth(2).unwrap().parse().unwrap()
}

#[test]
fn members_and_sequencer_are_told_and_only_a_hand_over_of_the_present_epoch_counts() {
    let mut fixture = fixture();
    let both = Members::both(Incarnation(1), Incarnation(2));
    let told = |fixture: &mut Fixture, kind| {
        let before = fixture.seen().len();
        fixture.run(kind);
        fixture.seen()[before..]
            .iter()
            .map(|line| line.split_once(": ").unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    let expect = |members, sequencer| vec![format!("{:?}", Step::Members { members, sequencer })];

    let members =
        |epoch, members, asker| EntryKind::Membership { record: record(epoch, members, asker) };
    fixture.epoch = 2;
    assert_eq!(told(&mut fixture, members(2, both, ReplicaId::B)), expect(both, ReplicaId::B));
    assert_eq!(
        told(&mut fixture, EntryKind::HandOver { to: ReplicaId::A }),
        expect(both, ReplicaId::A)
    );
    fixture.epoch = 1;
    assert!(
        told(&mut fixture, EntryKind::HandOver { to: ReplicaId::B }).is_empty(),
        "an earlier epoch"
    );
    // A renewal raises the epoch without an entry of its own.
    fixture.epoch = 3;
    assert_eq!(
        told(&mut fixture, EntryKind::HandOver { to: ReplicaId::B }),
        expect(both, ReplicaId::B)
    );
    fixture.epoch = 4;
    let alone = Members::alone(ReplicaId::A, Incarnation(1));
    assert_eq!(told(&mut fixture, members(4, alone, ReplicaId::A)), expect(alone, ReplicaId::A));
    assert!(told(&mut fixture, EntryKind::HandOver { to: ReplicaId::B }).is_empty(), "no member");
}

#[test]
fn another_process_at_a_place_is_told_and_whoever_stays_orders() {
    let mut fixture = fixture();
    let mut told = |record: Record| {
        fixture.epoch = record.epoch.0;
        fixture.run(EntryKind::Membership { record });
        fixture.seen().last().unwrap().split_once(": ").unwrap().1.to_owned()
    };
    let expect = |members, sequencer| format!("{:?}", Step::Members { members, sequencer });
    let both = Members::both(Incarnation(1), Incarnation(2));
    let formed = record(1, both, ReplicaId::A);
    told(formed);
    // Both ended; A is started again with its disk, then B behind it.
    let alone = Members::alone(ReplicaId::A, Incarnation(3));
    let restarted = Record { origin: RecordOrigin::Restarted, ..record(2, alone, ReplicaId::A) };
    assert_eq!(told(restarted), expect(alone, ReplicaId::A));
    let both = Members::both(Incarnation(3), Incarnation(4));
    let joined = Record { origin: RecordOrigin::Joined, ..record(3, both, ReplicaId::A) };
    assert_eq!(told(joined), expect(both, ReplicaId::A));
    // A leaves in good order: it is the asker, and B orders from there on.
    let stays = Members::alone(ReplicaId::B, Incarnation(4));
    let left = RecordOrigin::Left(joined.digest());
    let left = Record { origin: left, ..record(4, stays, ReplicaId::A) };
    assert_eq!(told(left), expect(stays, ReplicaId::B));
}

#[test]
fn a_panic_gives_no_outputs_and_another_digest() {
    let mut fixture = fixture();
    let session = fixture.open(7).unwrap();
    let before = fixture.unit.digest();
    fixture.ask((session, 7), 1, 1, "wake 10 1").unwrap();
    let after = fixture.unit.digest();
    assert_ne!(before, after);
    let executed = fixture.run(request(session, 7, 2, 1, "panic"));
    assert_eq!(executed.panic.as_deref(), Some("told to"));
    assert!(executed.outputs.is_empty(), "the wake-up before it made one");
    assert_eq!(executed.wakeup, None);
    assert_eq!(executed.digest, chain(after, executed.index, &[], None, true));
    assert!(fixture.unit.has_panicked());
}

#[test]
#[should_panic(expected = "after a step that panicked")]
fn nothing_is_executed_after_a_panic() {
    let mut fixture = fixture();
    fixture.device("panic");
    fixture.device("nothing");
}

#[test]
#[should_panic(expected = "in index order")]
fn an_entry_out_of_order_is_our_own_mistake() {
    let mut fixture = fixture();
    fixture.entry(EntryKind::Tick);
    fixture.run(EntryKind::Tick);
}

#[test]
fn the_digest_is_the_chain_over_all_results() {
    let mut fixture = fixture();
    let mut digest = Digest::ZERO;
    for text in ["a", "send 3", "wake 4 2", "b"] {
        let executed = fixture.device(text);
        digest = chain(digest, executed.index, &executed.outputs, executed.wakeup, false);
        assert_eq!(executed.digest, digest);
        assert_eq!(fixture.unit.digest(), digest);
    }
    assert_eq!(fixture.unit.index(), Index(4));
}

#[test]
fn what_is_sent_reaches_the_device_as_it_was() {
    let mut fixture = fixture();
    let executed = fixture.device("send 1");
    assert!(matches!(
        &executed.outputs[0].kind,
        OutputKind::Device { bytes, .. } if *bytes == Bytes::from_static(b"0")
    ));
}
