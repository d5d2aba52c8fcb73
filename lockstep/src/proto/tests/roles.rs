//! Scenarios of the sequencer's role: handing it over, taking it over.

use super::pair::{MS, Pair};
use crate::event::Event;
use crate::ids::ReplicaId;
use crate::limits;
use crate::proto::io::{Command, Input};
use crate::record::Origin;

use ReplicaId::{A, B};

#[test]
fn a_hand_over_made_before_a_renewal_and_received_after_it_counts() {
    let mut pair = Pair::formed();
    pair.batches_lost = true;
    pair.witness_up = false;
    pair.tell(A, Input::Command(Command::HandOver));
    pair.cut(0, false);
    pair.cut(1, false);
    pair.run(MS * 120);
    pair.cut(0, true);
    pair.run(MS * 20);
    pair.witness_up = true;
    pair.run(MS * 60);
    assert!(matches!(pair.record.origin, Origin::Renewal(_)));
    pair.batches_lost = false;
    pair.run(MS * 300);
    assert!(pair.node(B).replica.status().is_sequencer);
    assert!(!pair.node(A).replica.status().is_sequencer);
    pair.device_input(A, "after");
    pair.run(MS * 5);
    assert_eq!(pair.node(A).texts(), ["after"]);
}

#[test]
fn inputs_that_waited_at_a_sequencer_are_forwarded_again_when_the_role_comes_back() {
    let mut pair = Pair::formed();
    pair.node(B).executes = false;
    while pair.node(A).replica.takes_input() {
        pair.device_input(A, "x");
    }
    pair.device_input(B, "one");
    pair.device_input(B, "two");
    pair.run(MS * 30);
    for from in [A, B] {
        pair.tell(from, Input::Command(Command::HandOver));
        pair.run(MS * 2);
    }
    assert!(pair.node(A).replica.status().is_sequencer);
    pair.resume(B);
    pair.run(MS * 200);
    assert_eq!(pair.node(B).texts(), ["one", "two"]);
    assert!(!pair.node(B).saw(|event| matches!(event, Event::Suspected { .. })));
}

#[test]
fn a_follower_full_of_inputs_and_of_copies_takes_over_within_its_bounds() {
    let mut pair = Pair::formed();
    pair.greet(B);
    pair.loss = Box::new(|| true);
    while pair.node(B).replica.takes_input() {
        pair.device_input(B, "x");
    }
    for number in 1..=limits::KEPT_INPUTS as u64 {
        pair.request(B, number, false);
    }
    pair.kill(A);
    pair.run(MS * 1000);
    assert_eq!(pair.node(B).released.len(), limits::KEPT_INPUTS);
    let replies = pair.node(B).answers.len() - 1;
    assert_eq!(replies, limits::KEPT_INPUTS);
}

#[test]
fn hand_overs_without_end_do_not_overfill_the_window() {
    let mut pair = Pair::formed();
    for place in ReplicaId::BOTH {
        pair.node(place).executes = false;
    }
    let mut taken = 0;
    while pair.node(A).replica.takes_input() {
        pair.device_input(A, "x");
        taken += 1;
    }
    for _ in 0..400 {
        for place in ReplicaId::BOTH {
            pair.tell(place, Input::Command(Command::HandOver));
            pair.run(MS / 5);
        }
    }
    for place in ReplicaId::BOTH {
        pair.resume(place);
    }
    pair.run(MS * 100);
    assert_eq!(pair.node(A).released.len(), taken);
}
