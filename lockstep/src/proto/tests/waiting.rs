//! Scenarios of a process that can become nothing by itself, and what it says of that.

use core::time::Duration;

use super::pair::{MS, Pair, config};
use crate::event::{Event, Severity, Wait};
use crate::ids::ReplicaId;
use crate::proto::Input;
use crate::proto::io::Command;

use ReplicaId::{A, B};

/// How loudly it has said that it waits.
fn said(pair: &mut Pair, place: ReplicaId) -> Vec<Severity> {
    let waits = |event: &&Event| matches!(event, Event::Waiting { .. });
    pair.node(place).events.iter().filter(waits).map(Event::severity).collect()
}

/// The other goes on alone; this one is started again.
fn returning() -> Pair {
    let mut pair = Pair::formed();
    pair.kill(A);
    pair.run(MS * 200);
    for link in [0, 1] {
        pair.cut(link, false);
    }
    pair.restart(A);
    pair
}

fn connect(pair: &mut Pair) {
    for link in [0, 1] {
        pair.cut(link, true);
    }
    // A hello that was lost is said again by a new connection.
    pair.reconnect();
}

#[test]
fn a_return_that_takes_longer_to_meet_is_no_alarm() {
    let mut pair = returning();
    pair.run(MS * 2000);
    assert_eq!(said(&mut pair, A), [Severity::Warning]);
    connect(&mut pair);
    pair.run_to_duplex();
    assert_eq!(said(&mut pair, A), [Severity::Warning]);
}

#[test]
fn one_that_hears_of_nobody_for_long_calls_for_somebody_once() {
    let mut pair = returning();
    pair.run(MS * 20_000);
    assert_eq!(said(&mut pair, A), [Severity::Warning, Severity::Alarm]);
    connect(&mut pair);
    pair.run_to_duplex();
}

/// Two that both have nothing to go on by, as under `memory`: to hear of each other is no help.
#[test]
fn two_that_wait_for_each_other_in_vain_call_for_somebody() {
    let mut pair = Pair::formed();
    for place in ReplicaId::BOTH {
        pair.kill(place);
        pair.wipe(place);
    }
    for place in ReplicaId::BOTH {
        pair.restart(place);
    }
    pair.run(MS * 20_000);
    for place in ReplicaId::BOTH {
        assert_eq!(said(&mut pair, place), [Severity::Warning, Severity::Alarm], "{place}");
    }
}

/// The other is a member that is slow to find out that it is alone.
#[test]
fn one_that_hears_of_a_member_is_patient() {
    let slow = |place| crate::proto::Config {
        silence: Duration::from_secs(20),
        silence_floor: Duration::from_secs(20),
        ..config(place)
    };
    let mut pair = Pair::with(slow);
    pair.run(MS * 100);
    pair.kill(A);
    pair.wipe(A);
    pair.connect_witness(false);
    pair.restart(A);
    pair.connect_witness(true);
    pair.witness_mute = true;
    pair.run(MS * 10_000);
    assert!(!said(&mut pair, A).contains(&Severity::Alarm));
    pair.witness_mute = false;
    pair.run_to_duplex();
    assert!(!said(&mut pair, A).contains(&Severity::Alarm));
}

/// What it waits for as its status says, and as it has said in `waiting`.
fn waits_for(pair: &mut Pair, place: ReplicaId) -> (Option<Wait>, Vec<Wait>) {
    let said = |event: &Event| match event {
        Event::Waiting { wait, .. } => Some(*wait),
        _ => None,
    };
    let node = pair.node(place);
    let status = node.replica.status().wait.map(|(wait, _)| wait);
    (status, node.events.iter().filter_map(said).collect())
}

/// Both leave in good order, one after the other, and only the one that left first is there again:
/// what the other did alone is on the other's disk only.
#[test]
fn the_first_that_left_names_the_one_that_left_last_and_joins_it() {
    for first in ReplicaId::BOTH {
        let last = first.other();
        let mut pair = Pair::formed();
        for place in [first, last] {
            pair.device_input(place, "x");
            pair.run(MS * 20);
            pair.tell(place, Input::Command(Command::Stop));
            pair.run(MS * 20);
            assert!(pair.node(place).stopped.is_some(), "{place}");
        }
        pair.restart(first);
        pair.run(MS * 20_000);
        let wait = Wait::LastMember(last);
        assert_eq!(waits_for(&mut pair, first), (Some(wait), vec![wait; 2]), "{first}");
        assert!(wait.to_string().contains(&format!("CoServer {last}")));
        assert!(wait.remedy().starts_with(&format!("start CoServer {last}.")));
        pair.restart(last);
        pair.run_to_duplex();
        let last_index = ReplicaId::BOTH.map(|place| pair.node(place).replica.status().last_index);
        assert_eq!(last_index[0], last_index[1], "{first}");
        assert_eq!(pair.node(first).replica.status().wait, None);
    }
}

/// The one that left last needs nobody.
#[test]
fn the_last_that_left_goes_on_alone() {
    for first in ReplicaId::BOTH {
        let last = first.other();
        let mut pair = Pair::formed();
        for place in [first, last] {
            pair.tell(place, Input::Command(Command::Stop));
            pair.run(MS * 20);
        }
        pair.restart(last);
        pair.run(MS * 1500);
        assert!(pair.record.members.at(first).is_none(), "{first}");
        assert!(pair.node(last).replica.status().record.is_some(), "{last}");
        pair.restart(first);
        pair.run_to_duplex();
    }
}

/// It was alone, and its disk is not the one that it had then: nobody else has what it did.
#[test]
fn one_that_was_alone_and_has_lost_its_disk_says_that_it_is_its_own() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 200);
    pair.kill(A);
    pair.wipe(A);
    pair.restart(A);
    pair.run(MS * 20_000);
    assert_eq!(waits_for(&mut pair, A), (Some(Wait::OwnDisk), vec![Wait::OwnDisk; 2]));
}
