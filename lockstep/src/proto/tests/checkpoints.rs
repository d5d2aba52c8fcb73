//! Scenarios of checkpoints that both take, and of states that differ (section K of
//! `docs/protocol.md`).

use core::time::Duration;

use super::pair::{MS, Pair, config};
use crate::digest::Digest;
use crate::event::Event;
use crate::ids::{Index, ReplicaId};
use crate::proto::io::Standing;

use ReplicaId::{A, B};

/// Longer than the sequencer waits for a follower that is not done.
const LONG: Duration = Duration::from_secs(61);

/// A pair that takes a checkpoint at every few inputs.
fn formed() -> Pair {
    let mut pair =
        Pair::with(|place| crate::proto::Config { checkpoint_bytes: 2_000, ..config(place) });
    pair.run(MS * 100);
    pair
}

/// Inputs until the sequencer has ordered one more checkpoint.
fn order_one(pair: &mut Pair) {
    let ordered = |pair: &mut Pair| {
        let executed = &pair.node(A).executed;
        executed.iter().filter(|kind| matches!(kind, crate::entry::EntryKind::Checkpoint)).count()
    };
    let before = ordered(pair);
    for number in 0..200 {
        if ordered(pair) > before {
            return;
        }
        pair.device_input(A, &format!("{number}"));
        pair.run(MS * 2);
    }
    panic!("no checkpoint is ordered");
}

fn differed(pair: &mut Pair, place: ReplicaId) -> Vec<(Index, Digest, Digest)> {
    let differ = |event: &Event| match event {
        Event::StatesDiffer { index, ours, theirs } => Some((*index, *ours, *theirs)),
        _ => None,
    };
    pair.node(place).events.iter().filter_map(differ).collect()
}

fn checkpoints(pair: &mut Pair, place: ReplicaId) -> Vec<(Index, Digest)> {
    let done = |event: &Event| match event {
        Event::Checkpoint { index, hash, .. } => Some((*index, *hash)),
        _ => None,
    };
    pair.node(place).events.iter().filter_map(done).collect()
}

/// A state may take longer to copy than a peer that does nothing is waited for: both do it at once.
#[test]
fn both_hold_the_entry_before_either_freezes_its_state() {
    for executes_first in [false, true] {
        let mut pair = formed();
        pair.executes_first = executes_first;
        for _ in 0..2 {
            order_one(&mut pair);
            pair.run(MS * 2);
        }
        for place in ReplicaId::BOTH {
            assert_eq!(pair.node(place).held_before_frozen, [true, true]);
        }
    }
}

/// It waits for no heartbeat: a follower that freezes has none to spare.
#[test]
fn a_follower_says_that_it_holds_the_entry_before_it_executes_it() {
    let mut pair = formed();
    pair.heartbeats_lost = true;
    pair.node(B).executes = false;
    for number in 0..40 {
        pair.device_input(A, &format!("{number}"));
        pair.run(MS / 2);
    }
    assert_eq!(pair.node(A).held_before_frozen, [true]);
}

/// Nobody is waited for who is gone.
#[test]
fn a_sequencer_that_waits_to_freeze_goes_on_when_the_follower_dies() {
    let mut pair = formed();
    pair.batches_lost = true;
    for number in 0..40 {
        pair.device_input(A, &format!("{number}"));
        pair.run(MS);
    }
    assert!(pair.node(A).held_before_frozen.is_empty());
    pair.kill(B);
    pair.batches_lost = false;
    pair.run(MS * 500);
    assert!(!pair.node(A).held_before_frozen.is_empty());
    assert_eq!(pair.node(A).texts().len(), 40);
}

#[test]
fn states_that_differ_behind_equal_outputs_are_reported_by_both_once_and_change_nothing_else() {
    let mut pair = formed();
    order_one(&mut pair);
    pair.run(MS * 10);
    let epoch = pair.record.epoch;
    pair.node(B).other_state = true;
    order_one(&mut pair);
    pair.run(MS * 50);
    let ours = *checkpoints(&mut pair, A).last().unwrap();
    let theirs = *checkpoints(&mut pair, B).last().unwrap();
    assert_eq!(ours.0, theirs.0, "at one entry");
    assert_ne!(ours.1, theirs.1);
    assert_eq!(differed(&mut pair, A), [(ours.0, ours.1, theirs.1)]);
    assert_eq!(differed(&mut pair, B), [(ours.0, theirs.1, ours.1)]);

    // It is an event and no more: which of the two is right nobody knows.
    let released = pair.node(A).texts().len();
    pair.device_input(A, "after");
    pair.run(MS * 500);
    assert_eq!(pair.node(A).texts().len(), released + 1);
    assert_eq!(pair.record.epoch, epoch, "nobody was removed");
    for place in ReplicaId::BOTH {
        let node = pair.node(place);
        let standing = node.replica.status().standing;
        assert!(matches!(standing, Standing::Serving { duplex: true, .. }), "{standing:?}");
        assert!(!node.saw(|event| matches!(event, Event::Diverged { .. })));
        assert!(!node.saw(|event| matches!(event, Event::Suspected { .. })));
    }

    // The next checkpoint is compared anew.
    pair.node(B).other_state = false;
    order_one(&mut pair);
    pair.run(MS * 50);
    assert_eq!(checkpoints(&mut pair, A).last(), checkpoints(&mut pair, B).last());
    assert_eq!((differed(&mut pair, A).len(), differed(&mut pair, B).len()), (1, 1));
    order_one(&mut pair);
    pair.node(A).other_state = true;
    order_one(&mut pair);
    pair.run(MS * 50);
    assert_eq!((differed(&mut pair, A).len(), differed(&mut pair, B).len()), (2, 2));
}

#[test]
fn the_follower_writes_its_checkpoint_first_and_the_sequencer_when_that_is_there() {
    let mut pair = formed();
    pair.node(B).slow_checkpoints = true;
    order_one(&mut pair);
    pair.run(MS * 5_000);
    assert_eq!(pair.node(B).written.len(), 1, "the follower writes");
    assert!(pair.node(A).written.is_empty(), "and the sequencer does not, meanwhile");
    let done = pair.now;
    pair.finish_checkpoint(B);
    pair.run(MS * 5);
    let [a, b] = ReplicaId::BOTH.map(|place| pair.node(place).written[0]);
    assert_eq!(a.1, b.1, "at one entry");
    assert!(b.0 < done && a.0 > done, "{b:?}, done at {done:?}, {a:?}");
    assert_eq!(checkpoints(&mut pair, A), checkpoints(&mut pair, B));
}

#[test]
fn the_sequencer_does_not_wait_for_ever_for_the_followers_checkpoint() {
    let mut pair = formed();
    pair.node(B).slow_checkpoints = true;
    order_one(&mut pair);
    let ordered = pair.now;
    pair.run(LONG);
    let (began, at) = pair.node(A).written[0];
    assert!(began - ordered > LONG / 2, "it waited for {:?}", began - ordered);

    // One that is not done with the last takes none.
    order_one(&mut pair);
    pair.run(LONG);
    assert_eq!(pair.node(A).written.len(), 2);
    assert_eq!(pair.node(B).written.len(), 1, "one at a time");
    // Too late to be compared with anything; the next is again.
    pair.node(B).slow_checkpoints = false;
    pair.finish_checkpoint(B);
    pair.run(MS * 10);
    assert_eq!(checkpoints(&mut pair, B).last().unwrap().0, at);
    order_one(&mut pair);
    pair.run(MS * 10);
    assert_eq!(checkpoints(&mut pair, A).last(), checkpoints(&mut pair, B).last());
    assert!(differed(&mut pair, A).is_empty() && differed(&mut pair, B).is_empty());
    assert!(pair.record.members.is_duplex());
}
