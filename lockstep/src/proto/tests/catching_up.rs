//! Scenarios of a joiner that has much to execute before it is level (rules J5, J6).

use core::time::Duration;

use super::pair::{MS, Pair, config};
use crate::event::Event;
use crate::ids::ReplicaId;
use crate::proto::Config;

use ReplicaId::{A, B};

/// Entries that B lacks when it comes back.
const BACKLOG: usize = 200;

/// A pair of which B returns with an empty disk, and executes at this pace what it is sent.
fn returning(step_takes: Duration, configured: impl Fn(ReplicaId) -> Config + 'static) -> Pair {
    let mut pair = Pair::with(configured);
    pair.run(MS * 100);
    for number in 0..BACKLOG {
        pair.device_input(A, &format!("{number}"));
        pair.run(MS);
    }
    pair.kill(B);
    pair.run(MS * 300);
    pair.node(B).step_takes = step_takes;
    pair.node(B).batches.clear();
    pair.wipe(B);
    pair.restart(B);
    pair
}

#[test]
fn a_member_releases_while_a_joiner_executes_what_it_missed() {
    let mut pair = returning(MS, config);
    let (mut told, mut longest) = (0, Duration::ZERO);
    let mut last = pair.now;
    while !pair.node(A).saw(|event| matches!(event, Event::Duplex { .. })) {
        assert!(pair.now < MS * 10_000, "{:#?}", pair.node(B).replica.status());
        pair.device_input(A, "meanwhile");
        pair.run(MS * 4);
        let released = pair.node(A).released.len();
        if released > told {
            (told, last) = (released, pair.now);
        }
        longest = longest.max(pair.now - last);
    }
    assert!(longest <= MS * 20, "clients of the member waited {longest:?} for the joiner");
}

#[test]
fn a_joiner_that_executes_what_it_missed_reports_now_and_then() {
    let mut pair = returning(MS, config);
    pair.run_until(A, |event| matches!(event, Event::Admitting { .. }));
    let reports = pair.node(B).batches.len();
    assert!(reports <= BACKLOG / 4, "{reports} reports of {BACKLOG} entries");
}

#[test]
fn a_joiner_that_gets_no_closer_joins_all_the_same() {
    let mut pair = returning(MS, config);
    pair.run_until(A, |event| matches!(event, Event::Attached { .. }));
    // From here on it executes as fast as there are inputs, and stays as far behind as it is.
    pair.node(B).step_takes = MS * 4;
    while !pair.node(A).saw(|event| matches!(event, Event::Duplex { .. })) {
        assert!(pair.now < MS * 10_000, "{:#?}", pair.node(B).replica.status());
        pair.device_input(A, "meanwhile");
        pair.run(MS * 4);
    }
    assert!(!pair.node(A).saw(|event| matches!(event, Event::FellBack { .. })));
}
