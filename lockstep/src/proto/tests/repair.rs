//! A side that computes something else again and again (rule D5).

use super::pair::{MS, Pair};
use crate::event::{Event, StopCause};
use crate::ids::{Index, ReplicaId};
use crate::limits;
use crate::proto::io::{Command, Input, ReadmitRefused, Standing};

use ReplicaId::{A, B};

/// B, whose service computes something else, comes back until it is not taken in any more.
fn last_index() -> Pair {
    let mut pair = Pair::formed();
    pair.node(B).wrong_from = Some(Index(4));
    for _ in 0..600 {
        if pair.node(A).replica.status().held_for_repair {
            return pair;
        }
        pair.device_input(A, "x");
        pair.run(MS * 50);
        if pair.node(B).stopped.is_some() {
            pair.restart(B);
        }
    }
    panic!("not held for repair: {:?}", pair.node(A).replica.removals());
}

#[test]
fn one_that_diverges_again_and_again_is_held_for_repair() {
    let mut pair = last_index();
    assert_eq!(pair.node(A).replica.removals().diverged, limits::DIVERGENCES as u64);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Postponed { .. })), "it waits before");
    let is_said = |event: &&Event| matches!(event, Event::HeldForRepair { joiner: None, .. });
    assert_eq!(pair.node(A).events.iter().filter(is_said).count(), 1);
    let epoch = pair.record.epoch;
    for _ in 0..3 {
        pair.restart(B);
        pair.run(MS * 300);
        let Some(StopCause::Incompatible { why }) = pair.node(B).stopped.clone() else {
            panic!("{:?}", pair.node(B).stopped);
        };
        assert!(why.contains("held for repair") && why.contains("`readmit`"), "{why}");
    }
    assert_eq!(pair.record.epoch, epoch, "the survivor is left in peace");
    let standing = pair.node(A).replica.status().standing;
    assert!(matches!(standing, Standing::Serving { duplex: false, .. }));
}

#[test]
fn an_operator_has_one_taken_in_again_that_was_held_for_repair() {
    let mut pair = last_index();
    pair.node(B).wrong_from = None;
    pair.tell(A, Input::Command(Command::Readmit));
    assert!(pair.node(A).saw(|event| matches!(event, Event::Readmitted { .. })));
    pair.restart(B);
    pair.run_to_duplex();
    let before = pair.node(A).released.len();
    pair.device_input(A, "after");
    pair.run(MS * 10);
    assert_eq!(pair.node(A).released.len(), before + 1);
}

#[test]
fn a_readmission_is_refused_where_there_is_nothing_to_forgive() {
    let readmitted = |event: &Event| matches!(event, Event::Readmitted { .. });
    let mut pair = Pair::formed();
    for place in ReplicaId::BOTH {
        let refused = pair.node(place).replica.may_readmit();
        assert_eq!(refused, Err(ReadmitRefused::NothingHeld { other: place.other() }));
        pair.tell(place, Input::Command(Command::Readmit));
        assert!(!pair.node(place).saw(readmitted), "nothing was done");
    }
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    let refused = pair.node(B).replica.may_readmit();
    assert_eq!(refused, Err(ReadmitRefused::NoMember { other: A }));

    let mut pair = last_index();
    assert_eq!(pair.node(A).replica.may_readmit(), Ok(limits::DIVERGENCES));
    pair.tell(A, Input::Command(Command::Readmit));
    let refused = pair.node(A).replica.may_readmit();
    assert_eq!(refused, Err(ReadmitRefused::NothingHeld { other: B }));
    pair.tell(A, Input::Command(Command::Readmit));
    let divergences = limits::DIVERGENCES;
    let said = pair.node(A).events.iter().filter(|event| readmitted(event));
    assert_eq!(said.collect::<Vec<_>>(), [&Event::Readmitted { divergences }], "once");
}

#[test]
fn removals_are_counted_by_cause() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.run_to_duplex();
    pair.tell(B, Input::WitnessDown);
    pair.tell(B, Input::Command(Command::Stop));
    pair.run(MS * 200);
    let removals = pair.node(A).replica.removals();
    assert_eq!((removals.silent, removals.dead), (1, 1));
    assert_eq!((removals.slow, removals.diverged), (0, 0));
}
