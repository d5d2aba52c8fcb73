//! Scenarios of two processes that cannot run together: who of them ends (rule E2).

use super::pair::{MS, Pair, config};
use crate::event::{Event, StopCause};
use crate::ids::ReplicaId;
use crate::proto::io::{Command, Input, Standing};

use ReplicaId::{A, B};

/// From now on what is started at that place runs another version of the service.
fn misconfigure(pair: &mut Pair, wrong: Option<ReplicaId>) {
    pair.configured = Box::new(move |place| {
        let mut config = config(place);
        config.environment.service_version += u32::from(Some(place) == wrong);
        config
    });
}

fn end(pair: &mut Pair, place: ReplicaId) {
    pair.kill(place);
    pair.run(MS * 200);
}

/// One of them serves alone; the other has ended, and says why.
fn check_stays(pair: &mut Pair, stays: ReplicaId) {
    for _ in 0..40 {
        pair.run(MS * 250);
        pair.reconnect();
    }
    let (goes, stopped) = (stays.other(), pair.node(stays).stopped.clone());
    assert_eq!(stopped, None, "{stays} had the right to go on");
    let standing = pair.node(stays).replica.status().standing;
    assert!(matches!(standing, Standing::Serving { duplex: false, .. }), "{standing:?}");
    let cause = pair.node(goes).stopped.clone();
    assert!(matches!(cause, Some(StopCause::Incompatible { .. })), "{cause:?}");
    pair.kill(goes);
    pair.device_input(stays, "on");
    pair.run(MS * 5);
    assert!(pair.node(stays).texts().contains(&"on"));
}

/// It is mended, and joins.
fn check_joins(pair: &mut Pair, place: ReplicaId) {
    misconfigure(pair, None);
    pair.restart(place);
    pair.run_to_duplex();
}

#[test]
fn one_that_may_go_on_is_not_ended_by_a_stranger_that_is_up_first() {
    for (rightful, stranger) in [(A, B), (B, A)] {
        let mut pair = Pair::formed();
        pair.device_input(A, "before");
        end(&mut pair, stranger);
        pair.device_input(rightful, "alone");
        end(&mut pair, rightful);
        misconfigure(&mut pair, Some(stranger));
        pair.restart(stranger);
        pair.run(MS * 2000);
        pair.restart(rightful);
        check_stays(&mut pair, rightful);
        check_joins(&mut pair, stranger);
    }
}

#[test]
fn one_with_a_log_is_not_ended_by_an_empty_stranger() {
    let mut pair = Pair::formed();
    pair.device_input(A, "before");
    end(&mut pair, B);
    end(&mut pair, A);
    pair.wipe(B);
    misconfigure(&mut pair, Some(B));
    pair.restart(B);
    pair.run(MS * 2000);
    pair.restart(A);
    check_stays(&mut pair, A);
    check_joins(&mut pair, B);
}

/// Not even before it knows that it may.
#[test]
fn one_that_has_not_heard_from_the_witness_yet_waits_for_it() {
    let mut pair = Pair::formed();
    end(&mut pair, B);
    end(&mut pair, A);
    misconfigure(&mut pair, Some(B));
    pair.connect_witness(false);
    pair.restart(B);
    pair.restart(A);
    pair.run(MS * 500);
    pair.reconnect();
    pair.run(MS * 500);
    assert_eq!(pair.node(A).stopped, None);
    let said = |event: &&Event| matches!(event, Event::Incompatible { .. });
    assert_eq!(pair.node(A).events.iter().filter(said).count(), 1, "it is said once");
    pair.connect_witness(true);
    check_stays(&mut pair, A);
    check_joins(&mut pair, B);
}

/// Each could claim: the one with the longer log does, and the other hears that it is a member.
#[test]
fn of_two_that_both_may_go_on_one_does() {
    for (longer, other) in [(A, B), (B, A)] {
        let mut pair = Pair::formed();
        if longer == B {
            pair.tell(A, Input::Command(Command::HandOver));
        }
        pair.device_input(longer, "before");
        pair.run(MS * 5);
        pair.kill(other);
        pair.device_input(longer, "more");
        pair.run(MS);
        pair.kill(longer);
        misconfigure(&mut pair, Some(other));
        pair.restart(other);
        pair.restart(longer);
        check_stays(&mut pair, longer);
        check_joins(&mut pair, other);
    }
}

/// Whoever is a member has the right to go on; which of two configurations is the right one nobody
/// can know.
#[test]
fn a_newcomer_gives_way_to_a_member_that_went_on_with_other_settings() {
    let mut pair = Pair::formed();
    pair.kill(A);
    pair.kill(B);
    misconfigure(&mut pair, Some(B));
    pair.restart(B);
    pair.run(MS * 2000);
    assert!(matches!(pair.node(B).replica.status().standing, Standing::Serving { .. }));
    pair.restart(A);
    check_stays(&mut pair, B);
}

/// An operator has decided for one of them.
#[test]
fn one_that_is_to_adopt_its_log_is_not_ended_by_a_stranger() {
    let mut pair = Pair::formed();
    pair.device_input(A, "before");
    pair.run(MS * 5);
    pair.kill(A);
    pair.kill(B);
    pair.begin_lineage();
    pair.wipe(B);
    misconfigure(&mut pair, Some(B));
    pair.restart(B);
    pair.run(MS * 100);
    pair.restart_with(A, true);
    check_stays(&mut pair, A);
    check_joins(&mut pair, B);
}
