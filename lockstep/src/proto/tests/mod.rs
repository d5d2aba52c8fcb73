//! Scenarios of a pair.

mod absurd;
mod back;
mod catching_up;
mod checkpoints;
mod difference;
mod disk;
mod each_wait;
mod forming;
mod gap;
mod hostile;
mod links;
mod pair;
mod repair;
mod roles;
mod slowness;
mod storm;
mod strangers;
mod suspicion;
mod together;
mod waiting;
mod waits;
mod witnesses;

use super::io::{Command, Input, Standing};
use crate::entry::InputKind;
use crate::event::{Event, StopCause, Suspicion};
use crate::ids::{Index, Nonce, ReplicaId};
use crate::output::Refusal;
use crate::record::Origin;
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};
use pair::{CLIENT, MS, Pair, config};

use ReplicaId::{A, B};

#[test]
fn two_fresh_replicas_form_a_pair_with_place_a_as_sequencer() {
    let mut pair = Pair::formed();
    for place in ReplicaId::BOTH {
        let status = pair.node(place).replica.status();
        assert_eq!(status.is_sequencer, place == A);
        assert_eq!(status.released, Index(2), "genesis and membership");
        assert!(matches!(status.standing, Standing::Serving { duplex: true, .. }));
    }
}

#[test]
fn an_input_taken_on_either_side_comes_out_where_it_came_in() {
    let mut pair = Pair::formed();
    pair.device_input(A, "one");
    pair.device_input(B, "two");
    pair.run(MS * 5);
    assert_eq!(pair.node(A).texts(), ["one"]);
    assert_eq!(pair.node(B).texts(), ["two"]);
}

#[test]
fn nothing_leaves_before_both_hold_it() {
    let mut pair = Pair::formed();
    pair.cut(0, false);
    pair.cut(1, false);
    pair.witness_up = false;
    pair.device_input(A, "one");
    pair.run(MS * 1000);
    assert!(pair.node(A).texts().is_empty());
    assert!(pair.node(A).saw(|event| matches!(event, Event::Holding { .. })));
    pair.cut(0, true);
    pair.run(MS * 100);
    assert_eq!(pair.node(A).texts(), ["one"]);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Resumed { .. })));
}

#[test]
fn one_that_has_held_for_long_turns_away_the_clients_that_it_has() {
    let mut pair = Pair::formed();
    pair.greet(A);
    assert!(matches!(pair.node(A).answers[..], [ClientAnswer::Welcome { .. }]));
    pair.witness_up = false;
    pair.kill(B);
    pair.run(MS * 1000);
    let refused = ClientAnswer::Refused { reason: ClientRefusal::Holding };
    assert_eq!(pair.node(A).answers[1..], [refused]);
    pair.greet(A);
    let reason = ClientRefusal::Holding;
    assert!(
        matches!(pair.node(A).answers[2..], [ClientAnswer::NotYet { reason: found, .. }] if found == reason)
    );
    pair.witness_up = true;
    pair.run(MS * 100);
    assert!(matches!(pair.node(A).answers[3..], [ClientAnswer::Welcome { .. }]));
}

#[test]
fn a_client_of_one_that_joins_is_welcomed_when_it_is_a_member() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.greet(B);
    let reason = ClientRefusal::Starting;
    let incarnation = pair.node(B).replica.status().incarnation;
    assert_eq!(pair.node(B).answers, [ClientAnswer::NotYet { incarnation, reason }]);
    pair.call(B, ClientCall::Probe);
    pair.run_to_duplex();
    let welcome = |answer: &ClientAnswer| matches!(answer, ClientAnswer::Welcome { incarnation: found, .. } if *found == incarnation);
    assert!(welcome(&pair.node(B).answers[1]), "{:?}", pair.node(B).answers);
    assert_eq!(pair.node(B).answers.len(), 2);
    pair.call(B, ClientCall::Open { token: Nonce(9), alone: true });
    pair.run(MS * 20);
    assert!(matches!(pair.node(B).answers[2..], [ClientAnswer::Opened { .. }]));
}

#[test]
fn a_client_that_is_gone_before_it_was_welcome_is_forgotten() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.greet(B);
    pair.tell(B, Input::ClientGone { conn: CLIENT });
    pair.run_to_duplex();
    assert_eq!(pair.node(B).answers.len(), 1);
}

#[test]
fn clients_are_told_when_the_other_joins_and_when_it_is_a_member() {
    let mut pair = Pair::formed();
    let first = pair.node(B).replica.status().incarnation;
    pair.greet(A);
    assert_eq!(pair.node(A).told_back, [(B, first)], "whoever comes is told who is there");
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.run_to_duplex();
    let second = pair.node(B).replica.status().incarnation;
    assert_eq!(pair.node(A).told_back[1..], [(B, second); 2]);
}

#[test]
fn the_follower_goes_on_with_its_inputs_when_the_sequencer_dies() {
    let mut pair = Pair::formed();
    pair.device_input(B, "before");
    pair.run(MS * 5);
    pair.kill(A);
    pair.device_input(B, "after");
    pair.run(MS * 200);
    assert_eq!(pair.node(B).texts(), ["before", "after"]);
    assert_eq!(pair.record.origin, Origin::Alone);
    assert_eq!(pair.record.asker, B);
}

#[test]
fn the_sequencer_goes_on_alone_when_the_follower_dies() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.device_input(A, "after");
    pair.run(MS * 200);
    assert_eq!(pair.node(A).texts(), ["after"]);
}

#[test]
fn with_both_links_cut_exactly_one_goes_on_and_the_other_stops() {
    let mut pair = Pair::formed();
    pair.cut(0, false);
    pair.cut(1, false);
    pair.run(MS * 300);
    let out = [A, B].map(|place| pair.node(place).stopped.is_some());
    assert_eq!(out.iter().filter(|out| **out).count(), 1);
}

#[test]
fn losing_one_link_changes_nothing() {
    let mut pair = Pair::formed();
    pair.cut(1, false);
    pair.device_input(A, "one");
    pair.run(MS * 1);
    assert_eq!(pair.node(A).texts(), ["one"]);
    pair.run(MS * 500);
    assert!(pair.node(A).saw(|event| matches!(event, Event::LinkDown { missed: true, .. })));
    assert!(!pair.node(A).saw(|event| matches!(event, Event::Suspected { .. })));
}

#[test]
fn a_paused_sequencer_finds_itself_removed() {
    let mut pair = Pair::formed();
    pair.pause(A, true);
    pair.run(MS * 400);
    assert_eq!(pair.record.asker, B);
    pair.pause(A, false);
    pair.run(MS * 50);
    assert!(matches!(pair.node(A).stopped, Some(StopCause::Removed { .. })));
    assert!(pair.node(B).replica.status().is_sequencer);
}

#[test]
fn a_request_whose_answer_was_lost_is_settled_by_a_renewal() {
    let mut pair = Pair::formed();
    pair.witness_up = false;
    pair.cut(0, false);
    pair.cut(1, false);
    pair.run(MS * 200);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Asked { .. })));
    pair.cut(0, true);
    pair.run(MS * 50);
    pair.device_input(A, "meanwhile");
    pair.run(MS * 5);
    assert_eq!(pair.node(A).texts(), ["meanwhile"], "lockstep goes on with the request open");
    pair.witness_up = true;
    pair.run(MS * 500);
    assert!(matches!(pair.record.origin, Origin::Renewal(_)));
    let epochs = [A, B].map(|place| pair.node(place).replica.status().record.unwrap().epoch);
    assert_eq!(epochs, [pair.record.epoch; 2]);
    assert!(pair.nodes.iter().all(|node| node.stopped.is_none()));
    assert!(pair.node(A).replica.status().is_sequencer, "a renewal keeps the sequencer");
}

#[test]
fn a_grant_whose_answer_was_lost_is_found_and_the_peer_is_told() {
    let mut pair = Pair::formed();
    pair.cut(0, false);
    pair.cut(1, false);
    pair.witness_mute = true;
    pair.run(MS * 200);
    assert_eq!(pair.record.origin, Origin::Alone);
    let winner = pair.record.asker;
    pair.cut(0, true);
    pair.run(MS * 100);
    assert!(pair.nodes.iter().all(|node| node.stopped.is_none()));
    pair.witness_mute = false;
    pair.run(MS * 500);
    assert!(pair.node(winner).stopped.is_none());
    assert!(pair.node(winner.other()).stopped.is_some());
}

#[test]
fn the_sequencer_role_is_handed_over_and_back() {
    let mut pair = Pair::formed();
    for (from, to) in [(A, B), (B, A)] {
        pair.device_input(from, "x");
        pair.tell(from, Input::Command(Command::HandOver));
        pair.device_input(to, "y");
        pair.run(MS * 5);
        assert!(pair.node(to).replica.status().is_sequencer);
        assert!(!pair.node(from).replica.status().is_sequencer);
    }
    assert_eq!(pair.node(A).texts(), ["x", "y"]);
    assert_eq!(pair.node(B).texts(), ["y", "x"]);
}

#[test]
fn a_replica_that_computes_something_else_is_removed_by_the_policy() {
    let mut pair = Pair::formed();
    pair.node(B).wrong_from = Some(Index(4));
    for text in ["one", "two", "three"] {
        pair.device_input(A, text);
    }
    pair.run(MS * 100);
    assert!(pair.node(A).saw(|e| matches!(e, Event::Diverged { index: Index(4), .. })));
    assert_eq!(pair.node(A).texts(), ["one", "two", "three"]);
    assert!(matches!(pair.node(B).stopped, Some(StopCause::Removed { .. })));
}

#[test]
fn a_panic_on_both_sides_holds_both() {
    let mut pair = Pair::formed();
    pair.node(A).panics_at = Some(Index(4));
    pair.node(B).panics_at = Some(Index(4));
    for text in ["one", "two", "three"] {
        pair.device_input(A, text);
    }
    pair.run(MS * 2000);
    assert_eq!(pair.node(A).texts(), ["one"]);
    assert!(pair.nodes.iter().all(|node| node.stopped.is_none()));
    assert!(pair.node(B).saw(|event| matches!(event, Event::Holding { .. })));
}

#[test]
fn a_panic_on_the_sequencer_alone_leaves_the_follower_to_go_on() {
    let mut pair = Pair::formed();
    pair.node(A).panics_at = Some(Index(4));
    for text in ["one", "two"] {
        pair.device_input(B, text);
    }
    pair.run(MS * 300);
    assert_eq!(pair.node(B).texts(), ["one", "two"]);
    assert!(pair.node(A).stopped.is_some());
}

#[test]
fn a_client_of_both_gets_one_entry_and_two_answers() {
    let mut pair = Pair::formed();
    for place in ReplicaId::BOTH {
        pair.greet(place);
        pair.call(place, ClientCall::Open { token: Nonce(9), alone: false });
    }
    pair.run(MS * 40);
    for place in ReplicaId::BOTH {
        pair.request(place, 1, false);
    }
    pair.run(MS * 40);
    assert_eq!(pair.node(A).replica.status().last_index, Index(4));
    for place in ReplicaId::BOTH {
        let answers = &pair.node(place).answers;
        assert!(matches!(answers[1], ClientAnswer::Opened { .. }));
        assert!(matches!(answers[2], ClientAnswer::Reply { .. }));
        assert_eq!(answers.len(), 3);
    }
}

fn replies(pair: &mut Pair, place: ReplicaId) -> Vec<(u64, Option<Refusal>)> {
    let reply = |answer: &ClientAnswer| match answer {
        ClientAnswer::Reply { number, result, .. } => Some((number.0, result.clone().err())),
        _ => None,
    };
    pair.node(place).answers.iter().filter_map(reply).collect()
}

#[test]
fn a_request_that_may_not_be_made_is_ordered_as_its_refusal_and_the_next_one_follows() {
    let mut pair = Pair::formed();
    for place in ReplicaId::BOTH {
        pair.greet(place);
        pair.call(place, ClientCall::Open { token: Nonce(9), alone: false });
    }
    pair.run(MS * 40);
    for number in 1..=3 {
        for place in ReplicaId::BOTH {
            pair.request_if(number != 2, place, number, false);
        }
    }
    pair.run(MS * 100);
    // Each is ordered once: neither the copy of the refusal is forwarded nor that of a request.
    assert_eq!(pair.node(A).replica.status().last_index, Index(6));
    let read_only = Some(Refusal::ReadOnly);
    for place in ReplicaId::BOTH {
        assert_eq!(replies(&mut pair, place), [(1, None), (2, read_only), (3, None)]);
        let bodies = |input: &&InputKind| matches!(input, InputKind::SessionRequest { .. });
        assert_eq!(pair.node(place).executed_inputs().filter(bodies).count(), 2);
    }
}

#[test]
fn a_refusal_that_died_with_the_sequencer_is_ordered_by_the_follower() {
    let mut pair = Pair::formed();
    pair.greet(B);
    pair.call(B, ClientCall::Open { token: Nonce(9), alone: true });
    pair.run(MS * 5);
    pair.kill(A);
    pair.request_if(false, B, 1, false);
    pair.request(B, 2, false);
    pair.run(MS * 1000);
    assert_eq!(replies(&mut pair, B), [(1, Some(Refusal::ReadOnly)), (2, None)]);
}

/// While one has read its file anew and the other has not.
#[test]
fn what_only_one_of_the_two_permits_comes_to_one_thing_on_both() {
    for at_sequencer in [true, false] {
        let mut pair = Pair::formed();
        for place in ReplicaId::BOTH {
            pair.greet(place);
        }
        pair.call(A, ClientCall::Open { token: Nonce(9), alone: true });
        pair.run(MS * 40);
        pair.request_if(!at_sequencer, B, 1, false);
        pair.request_if(at_sequencer, A, 1, false);
        pair.run(MS * 100);
        assert_eq!(pair.node(A).replica.status().last_index, Index(4));
        let expected = [(1, (!at_sequencer).then_some(Refusal::ReadOnly))];
        for place in ReplicaId::BOTH {
            assert_eq!(replies(&mut pair, place), expected);
        }
    }
}

#[test]
fn a_request_given_to_the_follower_alone_is_forwarded() {
    let mut pair = Pair::formed();
    pair.greet(B);
    pair.call(B, ClientCall::Open { token: Nonce(9), alone: true });
    pair.run(MS * 5);
    pair.request(B, 1, true);
    pair.run(MS * 5);
    assert_eq!(pair.node(B).answers.len(), 3);
}

#[test]
fn a_follower_that_does_not_keep_up_is_removed_as_too_slow() {
    let mut pair = Pair::formed();
    pair.node(B).executes = false;
    pair.device_input(A, "one");
    pair.run(MS * 900);
    assert!(pair.node(A).saw(|e| matches!(e, Event::Suspected { suspicion: Suspicion::Slow })));
    assert_eq!(pair.node(A).texts(), ["one"]);
}

#[test]
fn lost_frames_are_made_good() {
    let mut pair = Pair::formed();
    let mut count = 0u64;
    pair.loss = Box::new(move || {
        count = count.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (count >> 33) % 100 < 30
    });
    for round in 0..40 {
        pair.device_input(if round % 2 == 0 { A } else { B }, "x");
        pair.run(MS * 10);
    }
    pair.loss = Box::new(|| false);
    pair.run(MS * 500);
    let both = pair.node(A).released.len() + pair.node(B).released.len();
    assert_eq!(both, 40);
}

#[test]
fn a_leaving_member_is_followed_by_the_other_without_a_timeout() {
    let mut pair = Pair::formed();
    pair.tell(A, Input::Command(Command::Stop));
    pair.run(MS * 2);
    assert!(matches!(pair.record.origin, Origin::Left(_)));
    assert!(matches!(pair.node(A).stopped, Some(StopCause::Left { .. })));
    assert!(!pair.node(A).saw(|event| matches!(event, Event::Suspected { .. })));
    assert!(pair.node(B).replica.status().is_sequencer);
    pair.device_input(B, "after");
    pair.run(MS * 1);
    assert_eq!(pair.node(B).texts(), ["after"]);
}

#[test]
fn a_member_that_leaves_without_the_witness_says_farewell() {
    let mut pair = Pair::formed();
    pair.connect_witness(false);
    pair.tell(A, Input::Command(Command::Stop));
    assert!(matches!(pair.node(A).stopped, Some(StopCause::Asked)));
    pair.connect_witness(true);
    pair.run(MS * 5);
    assert_eq!(pair.record.asker, B);
}

#[test]
fn incompatible_replicas_do_not_form_a_pair() {
    let mut pair = Pair::with(|place| {
        let mut config = config(place);
        config.environment.service_version = 1 + place.slot() as u32;
        config
    });
    pair.run(MS * 50);
    for place in ReplicaId::BOTH {
        let cause = pair.node(place).stopped.clone().unwrap();
        assert!(matches!(cause, StopCause::Incompatible { .. }));
        let said = cause.to_string();
        assert!(said.contains("of the service") && said.contains("start again"), "{said}");
    }
    assert_eq!(pair.record.origin, Origin::Vacant);
}

#[test]
fn a_full_window_takes_no_input_until_there_is_room() {
    let mut pair = Pair::formed();
    pair.pause(B, true);
    let mut taken = 0;
    while pair.node(A).replica.takes_input() {
        pair.device_input(A, "x");
        taken += 1;
        assert!(taken < 1000);
    }
    pair.run(MS * 5);
    pair.pause(B, false);
    pair.run(MS * 30);
    assert!(pair.node(A).replica.takes_input());
    assert_eq!(pair.node(A).released.len(), taken);
}
