//! What a replica says that it waits for, although nothing changes.

use core::time::Duration;

use super::pair::{MS, Pair, config};
use crate::event::{Event, Severity, Wait};
use crate::ids::{LinkId, ReplicaId};
use crate::proto::io::{Command, HandOverRefused};
use crate::proto::{Config, Input};

use ReplicaId::{A, B};

/// What it has said, and after how long.
fn said(pair: &mut Pair, place: ReplicaId) -> Vec<(Wait, Duration, Severity)> {
    let waits = |event: &Event| match event {
        Event::WaitsFor { wait, span } => Some((*wait, *span, event.severity())),
        _ => None,
    };
    pair.node(place).events.iter().filter_map(waits).collect()
}

#[test]
fn two_that_are_restarted_without_a_witness_name_it_once_and_then_at_growing_intervals() {
    let mut pair = Pair::formed();
    ReplicaId::BOTH.into_iter().for_each(|place| pair.kill(place));
    pair.witness_up = false;
    ReplicaId::BOTH.into_iter().for_each(|place| pair.restart(place));
    pair.run(MS * 22_000);
    for place in ReplicaId::BOTH {
        let said = said(&mut pair, place);
        let (waits, spans): (Vec<_>, Vec<_>) =
            said.iter().map(|(wait, span, level)| ((*wait, *level), span.as_secs_f64())).unzip();
        let levels = [Severity::Notice, Severity::Warning, Severity::Warning];
        assert_eq!(waits, levels.map(|level| (Wait::Witness, level)), "{place}");
        for (span, due) in spans.into_iter().zip([3.0, 9.0, 21.0]) {
            assert!((due - 0.5..due + 0.5).contains(&span), "{place}: {span} s, not {due}");
        }
        let status = pair.node(place).replica.status();
        assert!(matches!(status.wait, Some((Wait::Witness, span)) if span.as_secs() >= 20));
    }
    pair.connect_witness(true);
    pair.run_to_duplex();
    assert_eq!(pair.node(A).replica.status().wait, None);
}

#[test]
fn one_that_is_alone_says_whom_it_is_without() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 4_000);
    let waits: Vec<_> = said(&mut pair, A).into_iter().map(|(wait, ..)| wait).collect();
    assert_eq!(waits, [Wait::Other]);
    pair.connect_witness(false);
    pair.run(MS * 100);
    let status = pair.node(A).replica.status();
    assert_eq!(status.wait.map(|(wait, _)| wait), Some(Wait::OtherAndWitness));
}

#[test]
fn a_joiner_whose_member_is_lost_waits_for_that_one_rather_than_for_the_join() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 300);
    pair.restart(B);
    pair.run_until(A, |event| matches!(event, Event::Attached { .. }));
    pair.node(B).executes = false;
    pair.run(MS * 100);
    assert_eq!(pair.node(B).replica.status().wait.map(|(wait, _)| wait), Some(Wait::Join));
    pair.kill(A);
    pair.run(MS * 5_000);
    let waits: Vec<_> = said(&mut pair, B).into_iter().map(|(wait, ..)| wait).collect();
    assert_eq!(waits, [Wait::LastMember(A)]);
    pair.node(B).executes = true;
    ReplicaId::BOTH.into_iter().for_each(|place| pair.restart(place));
    pair.run_to_duplex();
}

#[test]
fn a_healthy_pair_waits_for_nothing() {
    let mut pair = Pair::formed();
    pair.run(MS * 5_000);
    for place in ReplicaId::BOTH {
        assert_eq!(said(&mut pair, place), []);
        assert_eq!(pair.node(place).replica.status().wait, None);
    }
}

/// A pair whose second witness nobody has ever reached.
#[test]
fn a_spare_witness_that_is_not_reached_is_named_although_the_pair_serves() {
    let mut pair = Pair::with(|place| Config { witnesses: 2, ..config(place) });
    pair.run(MS * 10_000);
    for place in ReplicaId::BOTH {
        let waits: Vec<_> = said(&mut pair, place).into_iter().map(|(wait, ..)| wait).collect();
        assert_eq!(waits, [Wait::SpareWitness; 2], "{place}");
        pair.tell(place, Input::SpareWitness { up: true });
    }
    pair.run(MS * 100);
    assert_eq!(pair.node(A).replica.status().wait, None);
    // It is lost again.
    pair.tell(A, Input::SpareWitness { up: false });
    pair.run(MS * 100);
    let wait = pair.node(A).replica.status().wait.map(|(wait, _)| wait);
    assert_eq!(wait, Some(Wait::SpareWitness));
}

/// The pair has turned to the alternate: what it had before is the spare one.
#[test]
fn after_a_move_the_witness_that_was_lost_is_the_spare_one() {
    let mut pair = Pair::with(|place| Config { witnesses: 2, ..config(place) });
    pair.run(MS * 100);
    pair.tell(A, Input::SpareWitness { up: true });
    pair.connect_witness(false);
    pair.run(MS * 500);
    assert!(pair.alternate.is_some(), "the pair has moved");
    let wait = |pair: &mut Pair| pair.node(A).replica.status().wait.map(|(wait, _)| wait);
    assert_eq!(wait(&mut pair), Some(Wait::SpareWitness));
    pair.tell(A, Input::SpareWitness { up: true });
    pair.run(MS * 100);
    assert_eq!(wait(&mut pair), None);
}

#[test]
fn a_hand_over_is_refused_with_the_reason_where_it_would_do_nothing() {
    let mut pair = Pair::formed();
    let sequencer = if pair.node(A).replica.status().is_sequencer { A } else { B };
    let follower = sequencer.other();
    assert_eq!(pair.node(sequencer).replica.may_hand_over(), Ok(()));
    let refused = pair.node(follower).replica.may_hand_over();
    assert_eq!(refused, Err(HandOverRefused::Follower { sequencer }));
    pair.tell(follower, Input::Command(Command::HandOver));
    pair.run(MS * 5);
    assert!(pair.node(sequencer).replica.status().is_sequencer, "nothing was done");
    pair.kill(follower);
    pair.run(MS * 500);
    let alone = pair.node(sequencer).replica.may_hand_over();
    assert_eq!(alone, Err(HandOverRefused::Alone));
}

/// What it says that it waits for now.
fn wait(pair: &mut Pair, place: ReplicaId) -> Option<Wait> {
    pair.node(place).replica.status().wait.map(|(wait, _)| wait)
}

#[test]
fn a_link_that_was_never_up_is_said_and_one_that_fell_while_alone() {
    let mut never = Pair::new();
    never.cut(1, false);
    let mut meanwhile = Pair::formed();
    meanwhile.kill(B);
    meanwhile.run(MS * 300);
    meanwhile.cut(1, false);
    meanwhile.restart(B);
    for mut pair in [never, meanwhile] {
        pair.run_to_duplex();
        pair.run(MS * 4_000);
        for place in ReplicaId::BOTH {
            let waits: Vec<_> = said(&mut pair, place).into_iter().map(|(wait, ..)| wait).collect();
            assert_eq!(waits.last(), Some(&Wait::Link(LinkId(1))), "{place}");
            assert_eq!(wait(&mut pair, place), Some(Wait::Link(LinkId(1))));
        }
        pair.cut(1, true);
        pair.run(MS * 1_000);
        assert_eq!(ReplicaId::BOTH.map(|place| wait(&mut pair, place)), [None; 2]);
    }
}

#[test]
fn a_disk_or_a_service_that_hangs_is_said_where_it_hangs() {
    type Hang = fn(&mut Pair, ReplicaId);
    let hang: [(Hang, Wait); 2] = [
        (|pair, place| pair.node(place).disk_stuck = true, Wait::OwnStorage),
        (|pair, place| pair.node(place).executes = false, Wait::OwnService),
    ];
    for (hang, expected) in hang {
        // The one that is left has nobody to accuse.
        let mut pair = Pair::formed();
        pair.kill(B);
        pair.run(MS * 500);
        hang(&mut pair, A);
        pair.device_input(A, "a");
        pair.run(MS * 5_000);
        assert_eq!(wait(&mut pair, A), Some(expected));
        let waits: Vec<_> = said(&mut pair, A).into_iter().map(|(wait, ..)| wait).collect();
        assert_eq!(waits.last(), Some(&expected));
        // Where both hang, each names its own.
        let mut pair = Pair::formed();
        ReplicaId::BOTH.into_iter().for_each(|place| hang(&mut pair, place));
        pair.device_input(A, "a");
        pair.run(MS * 1_900);
        for place in ReplicaId::BOTH {
            assert_eq!(wait(&mut pair, place), Some(expected), "{place}");
        }
    }
}
