//! Scenarios of a pair's first moments.

use super::pair::{MS, Pair, config};
use crate::entry::EntryKind;
use crate::event::{Event, Wait};
use crate::ids::{Epoch, Lineage, ReplicaId};
use crate::limits;
use crate::proto::io::{Command, Config, Input};
use crate::record::{Origin, Record};

use ReplicaId::{A, B};

#[test]
fn a_lineage_begun_while_the_pair_forms_is_the_one_it_is_formed_on() {
    let mut pair = Pair::new();
    pair.run_until(A, |event| matches!(event, Event::Asked { .. }));
    pair.record = Record::vacant(pair.record.pair, Lineage(1), Epoch(0));
    pair.run(MS * 300);
    assert_eq!(pair.record.origin, Origin::Formed);
    assert_eq!(pair.record.lineage, Lineage(1));
}

#[test]
fn a_follower_whose_sequencer_dies_before_the_first_entry_begins_the_log_itself() {
    let mut pair = Pair::new();
    while pair.record.origin != Origin::Formed {
        pair.run(MS / 10);
    }
    pair.kill(A);
    pair.run(MS * 500);
    pair.device_input(B, "one");
    pair.run(MS * 5);
    assert_eq!(pair.node(B).texts(), ["one"]);
    assert!(matches!(pair.node(B).executed[0], EntryKind::Genesis { .. }));
}

#[test]
fn a_pair_whose_forming_nobody_heard_of_comes_to_serve_all_the_same() {
    let mut pair = Pair::new();
    pair.witness_mute = true;
    while pair.record.origin != Origin::Formed {
        // The witness tells them what is vacant, and not that it is no more.
        pair.witness_mute = pair.node(A).saw(|event| matches!(event, Event::Asked { .. }));
        pair.run(MS / 10);
    }
    pair.kill(A);
    pair.kill(B);
    pair.witness_mute = false;
    pair.restart(A);
    pair.restart(B);
    pair.run_to_duplex();
}

/// Log time would begin with what one of the two says, and could not be taken back.
#[test]
fn two_whose_clocks_are_far_apart_form_no_pair_until_one_is_set_right() {
    let mut pair = Pair::new();
    pair.kill(B);
    pair.wall_ahead[B.slot()] = limits::CLOCK_STEP * 2;
    pair.restart(B);
    pair.run(MS * 5_000);
    assert_eq!(pair.record.origin, Origin::Vacant);
    for place in ReplicaId::BOTH {
        let differ = |event: &&Event| matches!(event, Event::ClocksDiffer { .. });
        assert_eq!(pair.node(place).events.iter().filter(differ).count(), 1, "{place}: said once");
        let waits = |event: &Event| matches!(event, Event::WaitsFor { wait: Wait::Clock, .. });
        assert!(pair.node(place).saw(waits), "{place}");
        let wait = pair.node(place).replica.status().wait.map(|(wait, _)| wait);
        assert_eq!(wait, Some(Wait::Clock), "{place}");
    }
    pair.wall_ahead[B.slot()] = limits::CLOCK_STEP / 2;
    pair.run_to_duplex();
    assert_eq!(pair.record.origin, Origin::Formed);
}

/// An operator's word at the one that asks for the pair is enough.
#[test]
fn two_whose_clocks_are_far_apart_form_a_pair_where_that_may_be() {
    let mut pair = Pair::with(|place| {
        let clock_step = limits::CLOCK_STEP * if place == A { 3 } else { 1 };
        Config { clock_step, ..config(place) }
    });
    pair.kill(B);
    pair.wall_ahead[B.slot()] = limits::CLOCK_STEP * 2;
    pair.restart(B);
    pair.run_to_duplex();
    assert!(!pair.node(A).saw(|event| matches!(event, Event::ClocksDiffer { .. })));
}

#[test]
fn a_process_that_died_before_its_request_to_form_counted_asks_anew() {
    let mut pair = Pair::new();
    pair.run_until(A, |event| matches!(event, Event::Asked { .. }));
    let Record { pair: id, lineage, epoch, .. } = pair.record;
    pair.record = Record::vacant(id, lineage, epoch.next());
    pair.kill(A);
    pair.restart(A);
    pair.run_to_duplex();
}

#[test]
fn one_that_never_heard_that_the_pair_was_formed_joins_behind_what_was_ordered_meanwhile() {
    let mut pair = Pair::with(|place| Config { window_entries: 16, ..config(place) });
    pair.tell(B, Input::WitnessDown);
    while pair.record.origin != Origin::Formed {
        pair.run(MS / 10);
    }
    (pair.links[0], pair.links[1]) = (false, false);
    pair.run(MS);
    for number in 0..12 {
        pair.device_input(A, &format!("{number}"));
    }
    pair.run(MS * 300);
    assert_eq!(pair.node(A).texts().len(), 12);
    assert!(pair.node(B).replica.status().record.is_none());
    (pair.links[0], pair.links[1]) = (true, true);
    pair.tell(B, Input::WitnessUp);
    pair.run_to_duplex();
}

#[test]
fn nobody_leaves_the_pair_to_one_that_does_not_know_of_it() {
    let mut pair = Pair::new();
    pair.tell(B, Input::WitnessDown);
    while pair.node(A).replica.status().record.is_none() {
        pair.run(MS / 10);
    }
    (pair.links[0], pair.links[1]) = (false, false);
    pair.tell(A, Input::Command(Command::Stop));
    pair.run(MS * 5);
    assert_eq!(pair.record.origin, Origin::Formed);
    pair.kill(A);
    pair.kill(B);
    (pair.links[0], pair.links[1]) = (true, true);
    pair.restart(A);
    pair.restart(B);
    pair.run_to_duplex();
}
