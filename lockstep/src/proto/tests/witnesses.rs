//! Scenarios of two witnesses, and of one that has forgotten (section W of `docs/protocol.md`).

use super::pair::{MS, Pair, config};
use crate::entry::{Entry, EntryKind, InputKind, Origin as Source};
use crate::event::Event;
use crate::ids::{DeviceId, LogTime, Nonce, OriginNumber, ReplicaId};
use crate::proto::Config;
use crate::proto::io::{Command, Input, Standing};
use crate::record::{Origin, Record};
use crate::wire::frames::{PeerFrame, WitnessRefusal};

use ReplicaId::{A, B};

fn two_witnesses() -> Pair {
    let mut pair = Pair::with(|place| Config { witnesses: 2, ..config(place) });
    pair.run(MS * 100);
    assert!(pair.record.members.is_duplex());
    pair
}

fn serves_alone(pair: &mut Pair, place: ReplicaId) -> bool {
    let standing = pair.node(place).replica.status().standing;
    matches!(standing, Standing::Serving { duplex: false, .. })
}

/// The pair turns to the alternate witness, and A dies before its disk says so otherwise than by
/// the log.
fn moves_and_dies(pair: &mut Pair, meanwhile: impl Fn(&mut Pair)) {
    pair.connect_witness(false);
    let before = pair.node(A).disk.membership.clone();
    while pair.alternate.is_none() {
        pair.run(MS);
    }
    meanwhile(pair);
    pair.kill(A);
    pair.node(A).disk.membership = before;
}

/// A member that is alone asks a witness which has no room.
fn refused_for_want_of_room() -> Pair {
    let mut pair = Pair::formed();
    pair.witness_refuses = Some(WitnessRefusal::Storage);
    pair.kill(B);
    pair.run(MS * 500);
    let before = pair.node(A).calls;
    pair.run(MS * 3000);
    assert!(pair.node(A).calls - before <= 4, "it is asked once a second");
    assert!(!serves_alone(&mut pair, A));
    pair
}

#[test]
fn one_that_stored_nothing_is_asked_at_once_when_it_is_reached_again() {
    let mut pair = refused_for_want_of_room();
    pair.connect_witness(false);
    pair.witness_refuses = Some(WitnessRefusal::Starting);
    pair.connect_witness(true);
    pair.run(MS * 10);
    pair.witness_refuses = None;
    pair.run(MS * 100);
    assert!(serves_alone(&mut pair, A));
}

#[test]
fn one_that_stored_nothing_and_says_something_else_is_asked_as_often_as_any() {
    let mut pair = refused_for_want_of_room();
    pair.witness_refuses = Some(WitnessRefusal::Starting);
    pair.run(MS * 1100);
    pair.witness_refuses = None;
    pair.run(MS * 100);
    assert!(serves_alone(&mut pair, A));
}

#[test]
fn a_healthy_pair_turns_to_the_alternate_and_lives_by_its_word() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.run(MS * 500);
    let enrolled = pair.alternate.expect("the pair is enrolled there");
    assert!(matches!(enrolled.origin, Origin::Renewal(_)));
    assert!(enrolled.epoch > pair.record.epoch.next(), "above all that may have been asked for");
    let before = pair.record;
    pair.kill(A);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, B));
    assert_eq!(pair.alternate.unwrap().origin, Origin::Alone);
    assert_eq!(pair.record, before);
}

#[test]
fn a_preferred_witness_that_comes_back_changes_nothing() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.run(MS * 500);
    pair.witness_up = true;
    pair.run(MS * 1000);
    let present = pair.alternate;
    pair.kill(B);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, A));
    assert_ne!(pair.alternate, present);
}

#[test]
fn while_a_move_is_uncertain_nobody_is_asked() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    // The entry reaches only the sequencer's own disk.
    pair.node(B).disk_stuck = true;
    pair.run(MS * 300);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Moving { .. })));
    pair.kill(B);
    pair.connect_witness(true);
    pair.run(MS * 2000);
    assert!(!serves_alone(&mut pair, A), "the other may have gone on by the old one's word");
    assert!(pair.alternate.is_none());
    assert!(pair.record.members.is_duplex());
}

/// What it was granted may be recorded already: a move would leave the other in doubt for ever once it
/// is gone.
#[test]
fn nobody_moves_while_the_other_leaves() {
    let mut pair = two_witnesses();
    pair.witness_mute = true;
    pair.tell(B, Input::Command(Command::Stop));
    while pair.record.origin == Origin::Formed {
        pair.run(MS / 10);
    }
    pair.connect_witness(false);
    pair.run(MS * 1000);
    assert!(!pair.node(A).saw(|event| matches!(event, Event::Moving { .. })));
    pair.kill(B);
    pair.wipe(B);
    pair.restart(B);
    pair.run(MS * 200);
    pair.witness_mute = false;
    pair.connect_witness(true);
    pair.run_to_duplex();
    assert_eq!(pair.record.origin, Origin::Joined);
}

#[test]
fn an_operator_may_begin_a_lineage_where_a_move_stayed_uncertain() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.node(B).disk_stuck = true;
    pair.run(MS * 300);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Moving { .. })));
    pair.kill(A);
    pair.kill(B);
    pair.connect_witness(true);
    pair.begin_lineage();
    pair.restart_with(A, true);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, A));
    pair.node(B).disk_stuck = false;
    pair.wipe(B);
    pair.restart(B);
    pair.run_to_duplex();
    pair.kill(A);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, B), "it asks the witness that the member asked");
}

#[test]
fn one_that_did_not_get_the_move_goes_on_by_the_old_witness() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.batches_lost = true;
    pair.run(MS * 300);
    pair.kill(A);
    pair.batches_lost = false;
    pair.connect_witness(true);
    pair.run(MS * 500);
    assert!(serves_alone(&mut pair, B));
    // The one that has the move on its disk joins it.
    pair.restart(A);
    pair.run_to_duplex();
    assert_eq!(pair.record.origin, Origin::Joined);
}

#[test]
fn the_restarted_other_shows_that_it_has_the_move() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.run(MS * 195);
    // From here on B hears nothing, and does not learn that A has the move on disk.
    pair.run_until(A, |event| matches!(event, Event::Moving { .. }));
    pair.run(MS / 5);
    pair.kill(A);
    pair.run(MS * 1000);
    pair.restart(A);
    pair.run_to_duplex();
    assert!(pair.alternate.is_some());
}

#[test]
fn after_the_loss_of_both_the_alternate_is_the_one_to_ask() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.run(MS * 500);
    pair.device_input(A, "one");
    pair.run(MS * 5);
    pair.kill(A);
    pair.kill(B);
    // What the old one has is of a time before the move.
    pair.witness_up = true;
    pair.restart(B);
    pair.run(MS * 1500);
    assert!(serves_alone(&mut pair, B));
    assert_eq!(pair.alternate.unwrap().origin, Origin::Restarted);
    pair.restart(A);
    pair.run_to_duplex();
}

#[test]
fn a_wiped_joiner_asks_the_witness_that_the_member_asks() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.run(MS * 500);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 300);
    pair.restart(B);
    pair.run_to_duplex();
    pair.kill(A);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, B));
    assert!(!pair.alternate.unwrap().members.is_duplex());
}

#[test]
fn a_move_that_one_disk_knows_to_be_void_is_void_for_the_other() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.batches_lost = true;
    pair.run(MS * 300);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Moving { .. })));
    let renewal = Origin::Renewal(pair.record.digest());
    pair.record =
        Record { epoch: pair.record.epoch.next(), asker: B, origin: renewal, ..pair.record };
    // A dies before its disk says that it followed the renewal, and before its log says that the
    // move came to nothing.
    pair.node(A).slow_membership = true;
    for place in ReplicaId::BOTH {
        let record = pair.record;
        pair.forge(place, PeerFrame::Epoch { record });
    }
    pair.batches_lost = false;
    let moves = |pair: &mut Pair, place| {
        let last = pair.node(place).disk.entries.last();
        last.is_some_and(|entry| matches!(entry.kind, EntryKind::Witness { .. }))
    };
    while !moves(&mut pair, B) {
        pair.run(MS);
        assert!(moves(&mut pair, A), "its log does not end with the move any more");
    }
    pair.kill(A);
    pair.kill(B);
    pair.connect_witness(true);
    pair.restart(A);
    pair.restart(B);
    // A's disk knows of a later epoch, so B lets it try first.
    pair.run(MS * 5000);
    pair.run_to_duplex();
    assert!(pair.alternate.is_none());
    assert_eq!(pair.record.origin, Origin::Joined);
}

/// A move that reached one disk only, when the pair had itself recorded anew by the old witness.
fn with_a_void_move() -> Pair {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.batches_lost = true;
    pair.run(MS * 300);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Moving { .. })));
    let present = pair.record;
    let renewal = Origin::Renewal(present.digest());
    pair.record = Record { epoch: present.epoch.next(), asker: B, origin: renewal, ..present };
    for place in ReplicaId::BOTH {
        let record = pair.record;
        pair.forge(place, PeerFrame::Epoch { record });
    }
    pair.run(MS);
    pair.batches_lost = false;
    pair.connect_witness(true);
    pair.run(MS * 200);
    assert!(pair.alternate.is_none());
    assert_eq!(pair.node(A).replica.status().record, Some(pair.record));
    pair
}

#[test]
fn a_joiner_after_a_void_move_asks_the_witness_that_the_pair_has() {
    let mut pair = with_a_void_move();
    pair.kill(B);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, A));
    pair.restart(B);
    pair.run_to_duplex();
    pair.kill(A);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, B));
    assert!(pair.alternate.is_none());
}

#[test]
fn after_a_void_move_one_that_restarts_alone_asks_the_witness_that_the_pair_had() {
    let mut pair = with_a_void_move();
    pair.kill(B);
    pair.kill(A);
    pair.restart(A);
    pair.run(MS * 2000);
    assert!(serves_alone(&mut pair, A));
    assert!(pair.alternate.is_none());
}

#[test]
fn a_joiner_after_a_move_that_came_to_nothing_asks_the_witness_that_the_member_asks() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.node(B).disk_stuck = true;
    pair.run_until(A, |event| matches!(event, Event::Moving { .. }));
    // B had asked the old witness for a renewal before, and hears now that it has it.
    let of = pair.record.digest();
    let (epoch, origin) = (pair.record.epoch.next(), Origin::Renewal(of));
    pair.record = Record { epoch, asker: B, nonce: Nonce(77), origin, ..pair.record };
    for place in [A, B] {
        let record = pair.record;
        pair.forge(place, PeerFrame::Epoch { record });
    }
    pair.node(B).disk_stuck = false;
    pair.connect_witness(true);
    pair.run(MS * 100);
    assert_eq!(pair.node(A).replica.status().record, Some(pair.record));
    assert!(pair.alternate.is_none(), "the move is void");
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 300);
    pair.restart(B);
    pair.run_to_duplex();
    pair.kill(A);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, B));
}

#[test]
fn a_witness_that_lost_its_record_is_told_it_by_the_healthy_pair() {
    let mut pair = Pair::formed();
    pair.witness_wiped = true;
    pair.run(MS * 3000);
    assert!(!pair.witness_wiped);
    assert!(matches!(pair.record.origin, Origin::Renewal(_)));
    let status = pair.node(A).replica.status();
    assert_eq!(status.record, Some(pair.record));
    assert!(status.is_sequencer, "sequencer and log are kept");
    pair.kill(A);
    pair.run(MS * 300);
    assert!(serves_alone(&mut pair, B));
}

#[test]
fn a_sole_member_tells_it_as_well_and_then_takes_a_joiner() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 300);
    pair.witness_wiped = true;
    pair.run(MS * 3000);
    assert!(!pair.witness_wiped);
    pair.restart(B);
    pair.run_to_duplex();
}

#[test]
fn a_sole_member_tells_it_though_a_joiner_has_come() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 300);
    pair.restart(B);
    pair.run_until(A, |event| matches!(event, Event::Hosting { .. }));
    pair.witness_wiped = true;
    pair.run_to_duplex();
    assert!(!pair.witness_wiped);
}

#[test]
fn a_lone_member_of_two_does_not_tell_a_witness_that_forgot() {
    let mut pair = Pair::formed();
    pair.cut(0, false);
    pair.cut(1, false);
    pair.witness_wiped = true;
    pair.run(MS * 3000);
    assert!(pair.witness_wiped, "each would have it name itself");
    assert!(!serves_alone(&mut pair, A) && !serves_alone(&mut pair, B));
}

#[test]
fn a_sole_member_that_moved_is_followed_by_what_its_log_says() {
    let mut pair = two_witnesses();
    pair.kill(B);
    pair.run(MS * 300);
    moves_and_dies(&mut pair, |_| ());
    pair.connect_witness(true);
    pair.restart(A);
    pair.run(MS * 2000);
    assert!(serves_alone(&mut pair, A));
    assert_eq!(pair.alternate.unwrap().origin, Origin::Restarted);
    pair.restart(B);
    pair.run_to_duplex();
}

#[test]
fn a_move_is_void_if_the_others_whole_disk_lacks_it() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.node(B).disk_stuck = true;
    pair.run(MS * 300);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Moving { .. })));
    pair.kill(B);
    pair.run(MS * 300);
    pair.node(B).disk_stuck = false;
    pair.restart(B);
    pair.connect_witness(true);
    pair.run_to_duplex();
    assert_eq!(pair.node(A).stopped, None, "it went on by the old one's word");
    assert!(pair.alternate.is_none());
    pair.kill(B);
    pair.kill(A);
    pair.restart(A);
    pair.run(MS * 2000);
    assert!(serves_alone(&mut pair, A), "its log names the witness that it asks");
}

/// Both were killed with a move on their disks that neither is known to follow, and after it A has
/// one entry more than B.
fn both_killed_in_a_move() -> Pair {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.node(A).disk_stuck = true;
    pair.run_until(A, |event| matches!(event, Event::Moving { .. }));
    pair.run(MS);
    pair.kill(B);
    let written = pair.node(B).disk.entries.clone();
    assert!(matches!(written.last().unwrap().kind, EntryKind::Witness { .. }));
    pair.kill(A);
    pair.node(A).disk_stuck = false;
    let after = written.last().unwrap();
    let origin = Source { number: OriginNumber(1), ..after.origin };
    let kind = InputKind::Device { device: DeviceId(0), bytes: "one".into() }.into();
    let (index, time) = (after.index.next(), LogTime(after.time.0 + 1));
    let last = Entry { index, time, origin, kind, ..after.clone() };
    let there = pair.node(A).disk.entries.len();
    for entry in written[there..].iter().cloned().chain([last]) {
        pair.node(A).disk.append(entry);
    }
    pair
}

#[test]
fn a_move_is_not_void_because_the_others_whole_disk_lacks_what_came_after_it() {
    let mut pair = both_killed_in_a_move();
    pair.connect_witness(true);
    let before = pair.record;
    // Of B's log no more is known at first than how long it is.
    pair.node(B).slow_recovery = true;
    pair.restart(B);
    pair.restart(A);
    pair.run(MS * 10);
    pair.finish_recovery(B);
    pair.run(MS * 8000);
    assert_eq!(pair.record, before, "both have the move, so nobody asks the old witness");
    assert!(!serves_alone(&mut pair, A) && !serves_alone(&mut pair, B));
}

#[test]
fn a_move_that_was_released_counts_whatever_the_others_disk_has() {
    let mut pair = two_witnesses();
    moves_and_dies(&mut pair, |pair| {
        for text in ["one", "two"] {
            pair.device_input(A, text);
            pair.run(MS * 5);
        }
    });
    pair.kill(B);
    pair.wipe(B);
    pair.connect_witness(true);
    pair.restart(A);
    pair.run(MS * 2000);
    assert!(serves_alone(&mut pair, A));
    assert_eq!(pair.alternate.unwrap().origin, Origin::Restarted);
    pair.restart(B);
    pair.run_to_duplex();
}

#[test]
fn a_move_stays_uncertain_if_the_others_disk_is_not_what_it_was() {
    let mut pair = two_witnesses();
    pair.connect_witness(false);
    pair.node(B).disk_stuck = true;
    pair.run(MS * 300);
    pair.kill(B);
    pair.run(MS * 300);
    pair.node(B).disk_stuck = false;
    // It may have followed the move, and nothing shows it any more.
    pair.wipe(B);
    pair.restart(B);
    pair.connect_witness(true);
    pair.run(MS * 3000);
    assert!(!serves_alone(&mut pair, A) && !serves_alone(&mut pair, B));
}

#[test]
fn the_pair_does_not_move_before_a_new_member_knows_that_it_is_one() {
    let mut pair = two_witnesses();
    pair.kill(B);
    pair.run(MS * 300);
    pair.restart(B);
    pair.run_until(A, |event| matches!(event, Event::Attached { .. }));
    // It is recorded, and admitted only after the witness has been away for long.
    pair.node(B).executes = false;
    while pair.record.origin != Origin::Joined {
        pair.run(MS / 10);
    }
    pair.run(MS);
    pair.connect_witness(false);
    pair.run(MS * 300);
    pair.resume(B);
    pair.run_until(A, |event| matches!(event, Event::Duplex { .. }));
    pair.kill(B);
    pair.run(MS * 300);
    pair.restart(B);
    pair.connect_witness(true);
    pair.run_to_duplex();
    assert!(pair.alternate.is_none());
}

#[test]
fn nobody_elses_disk_makes_a_sole_members_move_void() {
    let mut pair = two_witnesses();
    pair.tell(B, Input::Command(Command::Stop));
    pair.run(MS * 100);
    assert!(serves_alone(&mut pair, A));
    pair.connect_witness(false);
    pair.node(A).disk_stuck = true;
    pair.run(MS * 300);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Moving { .. })));
    // Its disk is whole, and knows of the epoch: it asked for it.
    pair.restart(B);
    pair.run(MS * 100);
    let moves = |kind: &&EntryKind| matches!(kind, EntryKind::Witness { .. });
    assert_eq!(pair.node(A).executed.iter().filter(moves).count(), 1, "none that takes it back");
}
