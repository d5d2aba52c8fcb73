//! Who is too slow, who hangs, and who is neither (rule S5). The limit is 500 ms.

use core::time::Duration;

use super::pair::{MS, Pair, config};
use crate::event::{Duty, Event, StopCause, Suspicion};
use crate::ids::ReplicaId;
use crate::proto::io::{Input, Standing};

use ReplicaId::{A, B};

fn is_slow(event: &Event) -> bool {
    matches!(event, Event::Suspected { suspicion: Suspicion::Slow })
}

/// For so long an input comes every 10 ms, at both or one of them.
fn busy(pair: &mut Pair, places: &[ReplicaId], span: Duration) {
    for _ in 0..span.as_millis() / 10 {
        for place in places {
            let node = pair.node(*place);
            if node.stopped.is_none() && node.replica.takes_input() {
                pair.device_input(*place, "x");
            }
        }
        pair.run(MS * 10);
    }
}

/// The other one serves alone, and what it was given has come out.
fn assert_goes_on_without(pair: &mut Pair, gone: ReplicaId) {
    let stopped = pair.node(gone).stopped.clone();
    let expected =
        |cause: &StopCause| matches!(cause, StopCause::Hanging { .. } | StopCause::Removed { .. });
    assert!(stopped.as_ref().is_some_and(expected), "{stopped:?}");
    let other = pair.node(gone.other());
    assert!(other.stopped.is_none(), "{:?}", other.stopped);
    let standing = other.replica.status().standing;
    assert!(matches!(standing, Standing::Serving { duplex: false, .. }), "{standing:?}");
    let before = pair.node(gone.other()).released.len();
    pair.device_input(gone.other(), "after");
    pair.run(MS * 10);
    assert!(pair.node(gone.other()).released.len() > before);
}

/// A pair whose window is large enough for what comes meanwhile.
fn roomy() -> Pair {
    let mut pair = Pair::with(|place| {
        let mut config = config(place);
        config.window_entries = 4096;
        config
    });
    pair.run(MS * 100);
    pair
}

#[test]
fn a_disk_that_hangs_is_noticed_while_inputs_keep_coming() {
    for gone in ReplicaId::BOTH {
        let mut pair = roomy();
        pair.node(gone).disk_stuck = true;
        busy(&mut pair, &[A], MS * 700);
        assert_goes_on_without(&mut pair, gone);
        assert!(!pair.node(gone).saw(is_slow), "it does not accuse the other");
    }
}

#[test]
fn one_whose_disk_hangs_says_so_itself() {
    let mut pair = roomy();
    pair.node(B).disk_stuck = true;
    busy(&mut pair, &[A, B], MS * 700);
    let stopped = pair.node(B).stopped.clone();
    assert!(matches!(stopped, Some(StopCause::Hanging { duty: Duty::Persist, .. })), "{stopped:?}");
    let said = stopped.unwrap().to_string();
    assert!(said.contains("written to disk") && said.contains("Look at the disk"), "{said}");
    assert!(pair.node(A).saw(|event| matches!(event, Event::Farewell { .. })));
}

#[test]
fn a_service_that_hangs_on_its_thread_is_noticed_while_inputs_keep_coming() {
    for gone in ReplicaId::BOTH {
        let mut pair = roomy();
        pair.node(gone).executes = false;
        busy(&mut pair, &[A], MS * 700);
        assert_goes_on_without(&mut pair, gone);
        assert!(!pair.node(gone).saw(is_slow), "it does not accuse the other");
    }
}

#[test]
fn a_disk_of_which_each_sync_takes_longer_than_the_limit_is_too_slow() {
    for gone in ReplicaId::BOTH {
        let mut pair = roomy();
        pair.node(gone).sync_takes = MS * 625;
        busy(&mut pair, &[A], MS * 1500);
        assert_goes_on_without(&mut pair, gone);
    }
}

#[test]
fn a_disk_of_which_each_sync_takes_less_than_the_limit_is_not() {
    let mut pair = roomy();
    pair.node(B).sync_takes = MS * 300;
    busy(&mut pair, &[A, B], MS * 3000);
    assert!(pair.nodes.iter().all(|node| node.stopped.is_none() && !node.saw(is_slow)));
}

#[test]
fn queued_steps_that_take_long_on_both_remove_nobody() {
    for order in [[A, B], [B, A]] {
        let mut pair = Pair::with(|place| {
            let mut config = config(place);
            // So that inputs wait for room too.
            config.window_entries = 4;
            config
        });
        pair.run(MS * 100);
        for place in ReplicaId::BOTH {
            pair.node(place).step_takes = MS * 250;
        }
        for place in order.into_iter().cycle().take(10) {
            while !pair.node(place).replica.takes_input() {
                pair.run(MS * 1);
            }
            pair.device_input(place, "x");
        }
        pair.run(MS * 5000);
        assert!(!pair.nodes.iter().any(|node| node.saw(is_slow)));
        assert!(pair.record.members.is_duplex());
        let released: usize = pair.nodes.iter().map(|node| node.released.len()).sum();
        assert_eq!(released, 10);
    }
}

#[test]
fn a_slower_half_that_gets_on_with_every_duty_stays() {
    let mut pair = roomy();
    pair.node(A).step_takes = MS * 20;
    pair.node(B).step_takes = MS * 60;
    busy(&mut pair, &[A], MS * 3000);
    assert!(!pair.nodes.iter().any(|node| node.saw(is_slow) || node.stopped.is_some()));
}

#[test]
fn where_both_disks_hang_nobody_is_accused() {
    let mut pair = roomy();
    for place in ReplicaId::BOTH {
        pair.node(place).disk_stuck = true;
    }
    busy(&mut pair, &[A, B], MS * 2000);
    assert!(!pair.nodes.iter().any(|node| node.saw(is_slow) || node.stopped.is_some()));
}

#[test]
fn time_that_a_replica_did_not_run_is_not_taken_for_a_disk_that_hangs() {
    let mut pair = Pair::with(|place| {
        let mut config = config(place);
        config.silence = MS * 5000;
        config
    });
    pair.run(MS * 100);
    pair.node(B).sync_takes = MS * 30;
    pair.device_input(A, "one");
    pair.run(MS * 5);
    pair.pause(B, true);
    pair.run(MS * 450);
    pair.tell(B, Input::Timeout);
    pair.pause(B, false);
    pair.run(MS * 40);
    assert!(pair.nodes.iter().all(|node| node.stopped.is_none()));
}

#[test]
fn one_that_hangs_stays_while_the_witness_could_let_nobody_go_on() {
    let mut pair = roomy();
    pair.connect_witness(false);
    pair.node(B).disk_stuck = true;
    busy(&mut pair, &[A], MS * 900);
    assert!(pair.nodes.iter().all(|node| node.stopped.is_none()));
    pair.connect_witness(true);
    pair.run(MS * 50);
    assert_goes_on_without(&mut pair, B);
}

#[test]
fn a_forwarded_input_that_was_lost_is_sent_again_while_entries_keep_coming() {
    let mut pair = roomy();
    pair.batches_lost = true;
    pair.device_input(B, "lost");
    pair.run(MS / 2);
    pair.batches_lost = false;
    for _ in 0..200 {
        pair.device_input(A, "x");
        pair.run(MS * 1);
    }
    assert_eq!(pair.node(B).texts(), ["lost"]);
}
