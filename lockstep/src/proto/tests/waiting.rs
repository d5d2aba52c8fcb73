//! Stories of a process that can become nothing by itself, and what it says of that.

use core::time::Duration;

use super::pair::{MS, Pair, config};
use crate::event::{Event, Severity};
use crate::ids::Place;

use Place::A;

/// How loudly it has said that it waits.
fn said(pair: &mut Pair, place: Place) -> Vec<Severity> {
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
    for place in Place::BOTH {
        pair.kill(place);
        pair.wipe(place);
    }
    for place in Place::BOTH {
        pair.restart(place);
    }
    pair.run(MS * 20_000);
    for place in Place::BOTH {
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
