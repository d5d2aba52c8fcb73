//! Scenarios of who is suspected, and who is not.

use super::pair::{MS, Pair, config};
use crate::event::{Event, Suspicion};
use crate::ids::{Incarnation, Index, ReplicaId};
use crate::proto::io::{Command, DivergencePolicy, Input, Standing};
use crate::wire::frames::Death;

use ReplicaId::{A, B};

fn is_slow(event: &Event) -> bool {
    matches!(event, Event::Suspected { suspicion: Suspicion::Slow })
}

fn is_suspicion(event: &Event) -> bool {
    matches!(event, Event::Suspected { .. })
}

fn died(incarnation: Incarnation) -> Input {
    Input::PeerDied { incarnation, how: Death::Killed { signal: 9 } }
}

#[test]
fn a_peer_whose_guardian_says_that_it_died_is_gone_at_once() {
    for place in [A, B] {
        let mut pair = Pair::formed();
        let other = place.other();
        let process = pair.record.members.at(other).unwrap();
        pair.device_input(place, "one");
        pair.run(MS * 20);
        pair.kill(other);
        pair.tell(place, died(process));
        // Much less than the silence: the way to the witness and back.
        pair.run(MS * 3);
        let standing = pair.node(place).replica.status().standing;
        assert!(matches!(standing, Standing::Serving { duplex: false, .. }), "{standing:?}");
        pair.restart(other);
        pair.run_to_duplex();
    }
}

#[test]
fn the_death_of_a_process_that_is_no_member_means_nothing() {
    let mut pair = Pair::formed();
    let before = pair.record.members.at(B).unwrap();
    pair.kill(B);
    pair.restart(B);
    pair.run_to_duplex();
    let present = pair.record;
    for process in [before, present.members.at(A).unwrap(), Incarnation(77)] {
        pair.tell(A, died(process));
        pair.run(MS * 50);
    }
    assert_eq!(pair.record, present);
    assert!(!pair.node(A).saw(|event| matches!(event, Event::PeerDied { .. })));
    // And nobody goes on alone without the witness's word, whatever a guardian says.
    pair.connect_witness(false);
    pair.tell(A, died(present.members.at(B).unwrap()));
    pair.run(MS * 500);
    assert!(pair.record.members.is_duplex());
    let standing = pair.node(A).replica.status().standing;
    assert!(!matches!(standing, Standing::Serving { duplex: false, .. }), "{standing:?}");
}

#[test]
fn what_a_peer_owed_while_no_link_was_up_does_not_make_it_slow() {
    let mut pair = Pair::formed();
    pair.connect_witness(false);
    pair.cut(0, false);
    pair.cut(1, false);
    pair.device_input(A, "one");
    pair.device_input(B, "two");
    pair.run(MS * 1000);
    pair.cut(0, true);
    pair.run(MS * 30);
    pair.connect_witness(true);
    pair.run(MS * 200);
    assert!(!pair.nodes.iter().any(|node| node.saw(is_slow)));
    assert!(pair.record.members.is_duplex());
    assert_eq!(pair.node(A).texts(), ["one"]);
    assert_eq!(pair.node(B).texts(), ["two"]);
}

#[test]
fn a_slow_peer_that_catches_up_before_the_witness_answers_stays() {
    let mut pair = Pair::formed();
    pair.connect_witness(false);
    pair.node(B).executes = false;
    pair.device_input(A, "one");
    pair.run(MS * 600);
    assert!(pair.node(A).saw(is_slow));
    pair.resume(B);
    pair.run(MS * 1000);
    let standing = pair.node(A).replica.status().standing;
    assert!(matches!(standing, Standing::Serving { .. }), "{standing:?}");
    pair.connect_witness(true);
    pair.run(MS * 200);
    assert!(pair.record.members.is_duplex());
}

#[test]
fn time_that_a_follower_was_not_running_does_not_make_its_sequencer_slow() {
    let mut pair = Pair::with(|place| {
        let mut config = config(place);
        config.silence = MS * 2000;
        config
    });
    pair.run(MS * 100);
    pair.device_input(B, "one");
    pair.pause(B, true);
    pair.run(MS * 700);
    pair.tell(B, Input::Timeout);
    pair.pause(B, false);
    pair.run(MS * 100);
    assert!(!pair.node(B).saw(is_slow));
    assert_eq!(pair.node(B).texts(), ["one"]);
}

#[test]
fn a_peer_that_left_is_not_forgotten_over_a_renewal() {
    let mut pair = Pair::formed();
    pair.witness_up = false;
    pair.cut(0, false);
    pair.cut(1, false);
    pair.run(MS * 200);
    pair.cut(0, true);
    pair.run(MS * 50);
    pair.tell(B, Input::Command(Command::Stop));
    pair.run(MS * 5);
    pair.witness_up = true;
    pair.run(MS * 70);
    assert!(!pair.record.members.is_duplex());
}

#[test]
fn a_farewell_that_a_renewal_overtakes_counts() {
    let mut pair = Pair::formed();
    pair.witness_up = false;
    pair.cut(0, false);
    pair.cut(1, false);
    pair.run(MS * 200);
    pair.cut(0, true);
    pair.run(MS * 50);
    pair.pause(B, true);
    pair.witness_up = true;
    pair.run(MS * 60);
    assert!(pair.record.members.is_duplex());
    pair.tell(B, Input::WitnessDown);
    pair.tell(B, Input::Command(Command::Stop));
    pair.run(MS * 5);
    assert!(!pair.record.members.is_duplex());
}

#[test]
fn where_the_policy_is_to_hold_an_operator_who_stops_one_lets_the_other_go_on() {
    let mut pair = Pair::with(|place| {
        let mut config = config(place);
        config.divergence = DivergencePolicy::Hold;
        config
    });
    pair.run(MS * 100);
    pair.node(B).wrong_from = Some(Index(4));
    for text in ["one", "two"] {
        pair.device_input(A, text);
    }
    pair.run(MS * 1000);
    assert_eq!(pair.node(A).texts(), ["one"]);
    assert!(pair.record.members.is_duplex());
    pair.tell(B, Input::Command(Command::Stop));
    pair.run(MS * 50);
    assert_eq!(pair.node(A).texts(), ["one", "two"]);
}

#[test]
fn a_peer_whose_heartbeats_are_stuck_behind_bulk_is_not_silent() {
    let mut pair = Pair::formed();
    pair.heartbeats_lost = true;
    for _ in 0..100 {
        pair.device_input(A, "x");
        pair.run(MS * 5);
    }
    assert!(!pair.nodes.iter().any(|node| node.saw(is_suspicion)));
    pair.kill(A);
    pair.run(MS * 150);
    assert_eq!(pair.record.asker, B);
    assert!(!pair.record.members.is_duplex());
}

#[test]
fn a_survivor_that_held_never_names_a_sequencer_that_is_gone() {
    let mut pair = Pair::formed();
    pair.witness_up = false;
    pair.kill(A);
    pair.run(MS * 600);
    assert_eq!(pair.node(B).standings.last(), Some(&Standing::Holding));
    pair.witness_up = true;
    pair.run(MS * 200);
    let alone = |standing: &&Standing| matches!(standing, Standing::Serving { duplex: false, .. });
    let named: Vec<_> = pair.node(B).standings.iter().filter(alone).collect();
    assert!(matches!(named[..], [Standing::Serving { sequencer: B, .. }]), "{named:?}");
}
