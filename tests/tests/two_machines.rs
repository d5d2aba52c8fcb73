//! A site with two machines, of `docs/operations.md`, row by row. The witness runs beside the
//! CoServer `a`, as a process of its own. What is lost is a process, a machine with all that runs
//! on it, or everything between the machines.

use lockstep::client::session::{PlaceStatus, Trouble};
use lockstep::ids::ReplicaId;
use lockstep::wire::frames::ClientRefusal;
use lockstep_tests::caller::Caller;
use lockstep_tests::emulator::Emulator;
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS};
use lockstep_tests::process::wait_for;

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// What runs on the machine of `a`.
const MACHINE_OF_A: [Part; 2] = [A, WITNESS];

fn site() -> (Pair, Caller) {
    let pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    (pair, caller)
}

/// A CoServer turns its clients away, since it reaches neither its peer nor the witness.
fn turns_away(pair: &Pair, caller: &Caller, place: ReplicaId) {
    let look = || match caller.status().place(place) {
        PlaceStatus::Away { trouble: Some(Trouble::Refused(ClientRefusal::Holding)) } => Ok(()),
        found => Err(format!("{found:?}")),
    };
    wait_for(DEADLINE, look).unwrap_or_else(|found| panic!("{found}{}", pair.logs()));
}

/// A CoServer is lost, and comes back.
fn goes_on_alone(lost: Part, survivor: Part) {
    let (mut pair, caller) = site();
    pair.kill(lost);
    pair.wait_for_mode(survivor, "simplex");
    caller.goes_on(&pair);
    pair.run(lost);
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn without_the_machine_of_b_a_goes_on() {
    goes_on_alone(B, A);
}

#[test]
fn without_the_coserver_a_b_goes_on() {
    goes_on_alone(A, B);
}

#[test]
fn without_links_between_the_machines_a_goes_on_and_b_turns_its_clients_away() {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    let to_witness = pair.emulate_witness(B);
    let links = pair.emulate_links();
    pair.form();
    let caller = Caller::start(&pair, "n");
    let between = || links.iter().chain([&to_witness]);
    between().for_each(Emulator::cut);
    pair.wait_for_mode(A, "simplex");
    let status = pair.wait_until(B, "holding, without a witness", |status| {
        status["mode"] == "holding" && status["witness"] == false
    });
    turns_away(&pair, &caller, ReplicaId::B);
    caller.goes_on(&pair);
    let later = pair.status(B).unwrap();
    assert_eq!(later["released"], status["released"], "it released an output");
    between().for_each(Emulator::mend);
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn without_the_witness_alone_nothing_happens() {
    let (mut pair, caller) = site();
    let epoch = pair.status(A).unwrap()["epoch"].clone();
    pair.kill(WITNESS);
    for part in [A, B] {
        pair.wait_until(part, "without a witness", |status| status["witness"] == false);
    }
    caller.goes_on(&pair);
    pair.run(WITNESS);
    assert_eq!(pair.wait_for_duplex()["epoch"], epoch);
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn without_the_machine_of_a_b_holds_until_it_is_back() {
    let (mut pair, caller) = site();
    for part in MACHINE_OF_A {
        pair.kill(part);
    }
    let status = pair.wait_for_mode(B, "holding");
    turns_away(&pair, &caller, ReplicaId::B);
    let answered = caller.answered();
    let later = pair.status(B).unwrap();
    assert_eq!(later["released"], status["released"], "it released an output");
    // The machine starts, and with it what runs on it.
    for part in MACHINE_OF_A {
        pair.run(part);
    }
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    assert!(caller.finish().answered > answered);
}
