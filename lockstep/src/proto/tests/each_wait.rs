//! Each thing that a replica can wait for is reached, said after some seconds, and in the status. A
//! [`Wait`] that no state reaches would be a promise that is never kept.

use core::time::Duration;

use super::pair::{MS, Pair, config};
use crate::event::{Event, Wait};
use crate::ids::{LinkId, ReplicaId};
use crate::limits::{CLOCK_STEP, SAID_FIRST};
use crate::proto::Config;
use crate::proto::io::{Command, DivergencePolicy, Input};

use ReplicaId::{A, B};

/// After so long what is waited for has been said.
const SAID_BY: Duration = SAID_FIRST.saturating_mul(2);

/// Nobody is removed for being slow.
fn patient(place: ReplicaId) -> Config {
    Config { slow_limit: Duration::from_secs(60), ..config(place) }
}

/// Both have ended, with the same log.
fn ended() -> Pair {
    let mut pair = Pair::formed();
    pair.device_input(A, "before");
    pair.run(MS * 20);
    ReplicaId::BOTH.into_iter().for_each(|place| pair.kill(place));
    pair
}

fn restart_both(pair: &mut Pair) {
    ReplicaId::BOTH.into_iter().for_each(|place| pair.restart(place));
}

/// B is gone, and A goes on.
fn alone() -> Pair {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 200);
    pair
}

/// B, back with its disk, is brought up to date and does not come to an end of it.
fn joining() -> Pair {
    let mut pair = Pair::with(patient);
    pair.run_to_duplex();
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.run_until(A, |event| matches!(event, Event::Attached { .. }));
    pair.node(B).executes = false;
    pair
}

fn misconfigured_without_witness() -> Pair {
    let mut pair = ended();
    pair.configured = Box::new(|place| {
        let mut config = config(place);
        config.environment.service_version += u32::from(place == B);
        config
    });
    pair.connect_witness(false);
    restart_both(&mut pair);
    pair
}

/// What A has a claim to, and B a better one, which it cannot make.
fn without_witness_at_the_one_with_more() -> Pair {
    let mut pair = Pair::formed();
    pair.tell(A, Input::Command(Command::HandOver));
    pair.run(MS * 20);
    pair.kill(A);
    pair.device_input(B, "more");
    pair.run(MS);
    pair.kill(B);
    restart_both(&mut pair);
    pair.tell(B, Input::WitnessDown);
    pair
}

/// A has the move to the other witness, and B is gone before A knows whether it had it.
fn moving() -> Pair {
    let mut pair = Pair::with(|place| Config { witnesses: 2, ..config(place) });
    pair.run_to_duplex();
    pair.connect_witness(false);
    pair.node(B).disk_stuck = true;
    pair.run_until(A, |event| matches!(event, Event::Moving { .. }));
    pair.run(MS * 10);
    pair.kill(B);
    pair.connect_witness(true);
    pair
}

/// A's service takes an input, and B's hangs until A's window is full.
fn full_window() -> Pair {
    let mut pair = Pair::with(patient);
    pair.run_to_duplex();
    pair.node(B).executes = false;
    for _ in 0..2 * config(A).window_entries {
        if pair.node(A).replica.takes_input() {
            pair.device_input(A, "x");
        }
    }
    pair
}

fn diverged() -> Pair {
    let hold = |place| Config { divergence: DivergencePolicy::Hold, ..config(place) };
    let mut pair = Pair::with(hold);
    pair.run_to_duplex();
    pair.node(B).wrong_from = Some(pair.nodes[B.slot()].replica.status().last_index.next());
    pair.device_input(A, "x");
    pair
}

/// A state in which the one at this place waits for it; none of what comes before there is
/// a replica.
fn come_to(wait: Wait) -> Option<(Pair, ReplicaId)> {
    let (pair, place) = match wait {
        // `CoServer::start` says it (`tests/tests/hung_start.rs`).
        Wait::Disk => return None,
        Wait::Restore => {
            let mut pair = ended();
            pair.node(A).slow_recovery = true;
            pair.restart(A);
            (pair, A)
        }
        Wait::OtherAndWitness => {
            let mut pair = ended();
            pair.connect_witness(false);
            pair.restart(A);
            (pair, A)
        }
        Wait::Other => (alone(), A),
        Wait::Witness => {
            let mut pair = Pair::formed();
            pair.connect_witness(false);
            (pair, A)
        }
        Wait::WitnessAnswer => {
            let mut pair = ended();
            pair.witness_mute = true;
            pair.restart(A);
            (pair, A)
        }
        Wait::UncertainMove => (moving(), A),
        Wait::OtherFirst => (without_witness_at_the_one_with_more(), A),
        Wait::Member => {
            let mut pair = ended();
            ReplicaId::BOTH.into_iter().for_each(|place| pair.wipe(place));
            restart_both(&mut pair);
            (pair, A)
        }
        Wait::LastMember(A) => {
            let mut pair = alone();
            pair.kill(A);
            pair.restart(B);
            (pair, B)
        }
        Wait::LastMember(B) => unreachable!("it is not among them"),
        Wait::OwnDisk => {
            let mut pair = alone();
            pair.kill(A);
            pair.wipe(A);
            pair.restart(A);
            (pair, A)
        }
        Wait::Incompatible => (misconfigured_without_witness(), A),
        Wait::Clock => {
            let mut pair = ended();
            pair.now += CLOCK_STEP * 2;
            pair.restart(A);
            (pair, A)
        }
        Wait::Join => (joining(), B),
        Wait::Joiner => (joining(), A),
        Wait::OwnStorage => {
            let mut pair = alone();
            pair.node(A).disk_stuck = true;
            pair.device_input(A, "x");
            (pair, A)
        }
        Wait::OwnService => {
            let mut pair = alone();
            pair.node(A).executes = false;
            pair.device_input(A, "x");
            (pair, A)
        }
        Wait::Peer => (full_window(), A),
        Wait::Link(link) => {
            let mut pair = Pair::formed();
            assert_eq!(link, LinkId(0));
            pair.cut(0, false);
            (pair, A)
        }
        Wait::SpareWitness => {
            let mut pair = Pair::with(|place| Config { witnesses: 2, ..config(place) });
            pair.run_to_duplex();
            (pair, A)
        }
        Wait::Operator => (diverged(), A),
        Wait::Leave => {
            let mut pair = Pair::formed();
            pair.witness_mute = true;
            pair.tell(A, Input::Command(Command::Stop));
            (pair, A)
        }
    };
    Some((pair, place))
}

/// Whether it says that it waits for this, and its status says the same when it does.
fn says(pair: &mut Pair, place: ReplicaId, wanted: Wait) -> bool {
    let begun = pair.now;
    while pair.now < begun + SAID_BY {
        pair.run(MS * 250);
        if wanted == Wait::Incompatible {
            // Connections that one closes are made again by the other.
            pair.reconnect();
        }
        let node = pair.node(place);
        let is_it =
            |event: &Event| matches!(event, Event::WaitsFor { wait, .. } if *wait == wanted);
        if node.saw(is_it) {
            return node.replica.status().wait.is_some_and(|(wait, _)| wait == wanted);
        }
    }
    false
}

#[test]
fn each_wait_is_come_to_said_and_in_the_status() {
    let mut missing = Vec::new();
    for wait in Wait::ALL {
        let Some((mut pair, place)) = come_to(wait) else { continue };
        pair.node(place).events.clear();
        if !says(&mut pair, place, wait) {
            let node = pair.node(place);
            missing.push((wait, node.replica.status().wait, node.events.clone()));
        }
    }
    assert!(missing.is_empty(), "never said; with what was: {missing:#?}");
}
