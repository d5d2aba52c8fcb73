//! A pair with two witness processes, and one whose witness has forgotten: "An alternate witness"
//! of `docs/operations.md`, with a client that counts across everything that happens.

use std::time::Duration;

use lockstep::client::session::{PlaceStatus, Trouble};
use lockstep::wire::frames::ClientRefusal;
use lockstep_tests::caller::Caller;
use lockstep_tests::pair::{A, ALTERNATE, B, DEADLINE, Pair, Part, SILENCE, WITNESS, other};
use lockstep_tests::process::wait_for;
use serde_json::Value;

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// Turned to the alternate witness after this: long enough that a machine that is busy with other
/// tests does not take the preferred one for lost.
const PATIENCE: Duration = Duration::from_secs(3);

fn follower(pair: &Pair) -> Part {
    match pair.status(A).unwrap()["sequencer"].as_str() {
        Some("a") => B,
        Some("b") => A,
        _ => panic!("no sequencer{}", pair.logs()),
    }
}

fn two_witnesses() -> Pair {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    pair.add_alternate(PATIENCE);
    pair.run(ALTERNATE);
    pair.form();
    pair
}

/// Waits until both use the alternate witness and it has their record.
fn moved(pair: &Pair) -> Value {
    for part in [A, B] {
        pair.wait_until(part, "with the alternate witness", |status| {
            status["witness_slot"] == 1 && status["witness"] == true
        });
    }
    pair.wait_until(ALTERNATE, "told the record", |status| {
        let record = &status["pairs"][0]["record"];
        record["origin"] == "renewal" && record["a"].is_string() && record["b"].is_string()
    });
    pair.wait_for_duplex()
}

fn record(pair: &Pair, witness: Part) -> Value {
    pair.status(witness).unwrap()["pairs"][0]["record"].clone()
}

/// A CoServer goes on alone, by the word of this witness.
fn alone_by(pair: &Pair, survivor: Part, witness: Part) {
    let status = pair.wait_for_mode(survivor, "simplex");
    let record = record(pair, witness);
    assert_eq!(record["origin"], "alone", "{record}");
    assert_eq!(record[survivor.name()], status["incarnation"], "{record}");
    assert!(record[other(survivor).name()].is_null(), "{record}");
}

fn has_logged(pair: &mut Pair, part: Part, event: &str) -> bool {
    pair.process(part).log().contains(&format!("event=\"{event}\""))
}

/// The preferred witness is killed, and then a CoServer, chosen by role.
fn moves_and_goes_on_alone(choose: impl Fn(&Pair) -> Part) {
    let mut pair = two_witnesses();
    let caller = Caller::start(&pair, "n");
    pair.kill(WITNESS);
    moved(&pair);
    assert!([A, B].into_iter().any(|part| has_logged(&mut pair, part, "moving")));
    assert!([A, B].into_iter().any(|part| has_logged(&mut pair, part, "enrolled")));
    caller.goes_on(&pair);
    let part = choose(&pair);
    pair.kill(part);
    alone_by(&pair, other(part), ALTERNATE);
    caller.goes_on(&pair);
    // Everything comes back, and stays with the alternate one.
    pair.run(WITNESS);
    pair.run(part);
    assert_eq!(pair.wait_for_duplex()["witness_slot"], 1);
    caller.goes_on(&pair);
    pair.kill(other(part));
    alone_by(&pair, part, ALTERNATE);
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn a_pair_whose_witness_is_killed_turns_to_the_alternate_one_and_then_loses_its_sequencer() {
    moves_and_goes_on_alone(|pair| other(follower(pair)));
}

#[test]
fn a_pair_whose_witness_is_killed_turns_to_the_alternate_one_and_then_loses_its_follower() {
    moves_and_goes_on_alone(follower);
}

#[test]
fn a_preferred_witness_that_comes_back_changes_nothing() {
    let mut pair = two_witnesses();
    let caller = Caller::start(&pair, "n");
    let before = record(&pair, WITNESS);
    pair.kill(WITNESS);
    let epoch = moved(&pair)["epoch"].clone();
    pair.run(WITNESS);
    pair.wait_until(WITNESS, "up with the record it had", |status| {
        status["pairs"][0]["record"] == before
    });
    for _ in 0..5 {
        caller.goes_on(&pair);
    }
    let status = pair.wait_for_duplex();
    assert_eq!((&status["witness_slot"], &status["epoch"]), (&1.into(), &epoch), "{status}");
    pair.kill(A);
    alone_by(&pair, B, ALTERNATE);
    assert_eq!(record(&pair, WITNESS), before, "nobody tells or asks it anything");
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn a_pair_that_lost_its_alternate_turns_back_to_the_preferred_one() {
    let mut pair = two_witnesses();
    let caller = Caller::start(&pair, "n");
    pair.kill(WITNESS);
    moved(&pair);
    pair.run(WITNESS);
    pair.kill(ALTERNATE);
    for part in [A, B] {
        pair.wait_until(part, "with the preferred witness", |status| {
            status["witness_slot"] == 0 && status["witness"] == true
        });
    }
    pair.wait_for_duplex();
    pair.wait_until(WITNESS, "told the record", |status| {
        status["pairs"][0]["record"]["origin"] == "renewal"
    });
    pair.kill(B);
    alone_by(&pair, A, WITNESS);
    caller.goes_on(&pair);
    caller.finish();
}

/// A pair that is not well cannot move: the other might still be granted to go on alone.
#[test]
fn an_alternate_does_not_help_one_that_lost_witness_and_peer_at_once() {
    let mut pair = two_witnesses();
    let caller = Caller::start(&pair, "n");
    for part in [WITNESS, B] {
        pair.kill(part);
    }
    let status = pair.wait_for_mode(A, "holding");
    assert_eq!(status["witness_slot"], 0, "{status}");
    let refused = || match caller.status().place(lockstep::ids::ReplicaId::A) {
        PlaceStatus::Away { trouble: Some(Trouble::Refused(ClientRefusal::Holding)) } => Ok(()),
        found => Err(format!("{found:?}")),
    };
    wait_for(DEADLINE, refused).unwrap_or_else(|found| panic!("{found}{}", pair.logs()));
    let answered = caller.answered();
    pair.run(WITNESS);
    alone_by(&pair, A, WITNESS);
    caller.goes_on(&pair);
    assert!(caller.finish().answered > answered);
}

#[test]
fn a_witness_whose_records_are_gone_is_told_by_a_pair_that_is_well() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    pair.kill(WITNESS);
    pair.wipe(WITNESS);
    pair.run(WITNESS);
    let members = [A, B].map(|part| pair.status(part).unwrap()["incarnation"].clone());
    let told = pair.wait_until(WITNESS, "told the record", |status| {
        let record = &status["pairs"][0]["record"];
        record["a"] == members[0] && record["b"] == members[1]
    });
    let record = &told["pairs"][0]["record"];
    assert_eq!(record["origin"], "renewal", "{record}");
    caller.goes_on(&pair);
    let part = follower(&pair);
    pair.kill(part);
    alone_by(&pair, other(part), WITNESS);
    caller.goes_on(&pair);
    pair.run(part);
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    caller.finish();
}
