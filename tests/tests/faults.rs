//! The table "what each fault does" of `docs/operations.md`, row by row, with a client that
//! counts across each fault: no request is lost and none takes effect twice.

use lockstep::client::session::{CallError, PlaceStatus, Trouble};
use lockstep::client::{RequestError, SessionError};
use lockstep::ids::Place;
use lockstep::runtime::exit::Exit;
use lockstep::wire::frames::ClientRefusal;
use lockstep_tests::caller::{self, Caller, Ran};
use lockstep_tests::emulator::{Emulator, Toward};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, links_up};
use lockstep_tests::process::wait_for;
use std::time::Duration;

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// Much less than the silence timeout, and much for a machine that is busy with other tests: who
/// is answered within it has not noticed that anything was waited for.
const UNNOTICED: Duration = Duration::from_millis(1500);

fn other(part: Part) -> Part {
    if part == A { B } else { A }
}

fn place(part: Part) -> Place {
    if part == A { Place::A } else { Place::B }
}

/// The sequencer, and the follower.
fn roles(pair: &Pair) -> (Part, Part) {
    let status = pair.status(A).unwrap();
    match status["sequencer"].as_str() {
        Some("a") => (A, B),
        Some("b") => (B, A),
        _ => panic!("no sequencer: {status}"),
    }
}

/// Waits until a CoServer tells the caller this instead of serving it.
fn refuses(pair: &Pair, caller: &Caller, part: Part, refusal: ClientRefusal) {
    let look = || match caller.status().place(place(part)) {
        PlaceStatus::Away { trouble: Some(Trouble::Refused(found)) } if *found == refusal => Ok(()),
        found => Err(format!("{found:?}")),
    };
    let name = part.name();
    wait_for(DEADLINE, look).unwrap_or_else(|found| {
        panic!("{name} does not refuse by {refusal:?} but is {found}{}", pair.logs())
    });
}

fn is_unnoticed(ran: Ran) {
    assert!(ran.longest_gap < UNNOTICED, "{ran:?}");
}

/// Kills one, chosen by role, and has the client count on.
fn killed(choose: impl Fn(&Pair) -> Part) {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    let part = choose(&pair);
    pair.kill(part);
    pair.wait_for_mode(other(part), "simplex");
    caller.goes_on(&pair);
    caller.finish();
    // It stays out: the pair has state that it does not know.
    pair.run(part);
    pair.expect_exit(part, Exit::NotAMember);
    caller::serves(&pair).unwrap();
}

#[test]
fn the_sequencer_killed_and_its_restart_refused_lose_no_request() {
    killed(|pair| roles(pair).0);
}

#[test]
fn the_follower_killed_and_its_restart_refused_lose_no_request() {
    killed(|pair| roles(pair).1);
}

/// Stops one, chosen by role; it ends when it goes on.
fn stopped(choose: impl Fn(&Pair) -> Part) {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    let part = choose(&pair);
    pair.pause(part);
    pair.wait_for_mode(other(part), "simplex");
    caller.goes_on(&pair);
    pair.resume(part);
    pair.expect_exit(part, Exit::Removed);
    caller.goes_on(&pair);
    caller.finish();
    assert_eq!(pair.status(other(part)).unwrap()["mode"], "simplex");
}

#[test]
fn the_sequencer_stopped_is_removed_and_ends_when_it_goes_on() {
    stopped(|pair| roles(pair).0);
}

#[test]
fn the_follower_stopped_is_removed_and_ends_when_it_goes_on() {
    stopped(|pair| roles(pair).1);
}

/// Hurts one link, mends it, and sees that nobody noticed but the two ends.
fn one_link_away(link: usize, hurt: impl Fn(&Emulator)) {
    let (pair, emulators) = Pair::start_emulated(REGISTERS, SILENCE);
    let epoch = pair.status(A).unwrap()["epoch"].clone();
    let caller = Caller::start(&pair, "n");
    hurt(&emulators[link]);
    for part in [A, B] {
        let status = pair.wait_until(part, "on one link", |status| links_up(status) == 1);
        assert_eq!(status["links"][link]["up"], false, "{status}");
        assert_eq!(status["mode"], "duplex");
        assert_eq!(status["epoch"], epoch);
    }
    caller.goes_on(&pair);
    emulators[link].mend();
    for part in [A, B] {
        let status = pair.wait_until(part, "on both links", |status| links_up(status) == 2);
        assert_eq!(status["mode"], "duplex");
        assert_eq!(status["epoch"], epoch);
    }
    caller.goes_on(&pair);
    is_unnoticed(caller.finish());
}

#[test]
fn the_first_link_cut_is_not_visible_to_a_client() {
    one_link_away(0, Emulator::cut);
}

#[test]
fn the_second_link_cut_is_not_visible_to_a_client() {
    one_link_away(1, Emulator::cut);
}

#[test]
fn a_link_cut_in_one_direction_is_not_visible_to_a_client() {
    one_link_away(0, |link| link.cut_toward(Toward::A));
    one_link_away(1, |link| link.cut_toward(Toward::B));
}

#[test]
fn a_link_that_is_slow_and_loses_packets_is_not_visible_to_a_client() {
    let (pair, emulators) = Pair::start_emulated(REGISTERS, SILENCE);
    let epoch = pair.status(A).unwrap()["epoch"].clone();
    let caller = Caller::start(&pair, "n");
    emulators[0].delay(Duration::from_millis(30));
    emulators[0].lose(20);
    for _ in 0..5 {
        caller.goes_on(&pair);
    }
    let (passed, dropped) = emulators[0].counts(Toward::B);
    assert!(passed > 0 && dropped > 0, "the link was not used: {passed}, {dropped}");
    is_unnoticed(caller.finish());
    for part in [A, B] {
        let status = pair.status(part).unwrap();
        assert_eq!((&status["mode"], &status["epoch"]), (&"duplex".into(), &epoch), "{status}");
    }
}

#[test]
fn both_links_cut_leave_one_that_goes_on_and_one_that_refuses_and_ends() {
    let (mut pair, emulators) = Pair::start_emulated(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    emulators.iter().for_each(Emulator::cut);
    let mode = |part| pair.status(part).ok().map(|status| status["mode"].clone());
    let alone = || [A, B].into_iter().find(|part| mode(*part) == Some("simplex".into())).ok_or(());
    let alone = wait_for(DEADLINE, alone).unwrap_or_else(|()| panic!("none: {}", pair.logs()));
    refuses(&pair, &caller, other(alone), ClientRefusal::Removed);
    pair.expect_exit(other(alone), Exit::Removed);
    caller.goes_on(&pair);
    caller.finish();
    let record = &pair.status(WITNESS).unwrap()["pairs"][0]["record"];
    assert_eq!(record[alone.name()], pair.status(alone).unwrap()["incarnation"], "{record}");
    assert!(record[other(alone).name()].is_null(), "{record}");
    assert_eq!(pair.status(alone).unwrap()["mode"], "simplex");
}

#[test]
fn the_witness_killed_and_restarted_is_not_visible_to_a_client() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let epoch = pair.status(A).unwrap()["epoch"].clone();
    let caller = Caller::start(&pair, "n");
    pair.kill(WITNESS);
    for connected in [false, true] {
        if connected {
            pair.run(WITNESS);
        }
        for part in [A, B] {
            let what = "as the witness is";
            let status = pair.wait_until(part, what, |status| status["witness"] == connected);
            assert_eq!((&status["mode"], &status["epoch"]), (&"duplex".into(), &epoch));
        }
        caller.goes_on(&pair);
    }
    is_unnoticed(caller.finish());
}

/// Without a witness, one is killed; the other holds until the witness is back.
fn held(choose: impl Fn(&Pair) -> Part) {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    pair.kill(WITNESS);
    for part in [A, B] {
        pair.wait_until(part, "without a witness", |status| status["witness"] == false);
    }
    let part = choose(&pair);
    pair.kill(part);
    let survivor = other(part);
    let status = pair.wait_for_mode(survivor, "holding");
    refuses(&pair, &caller, survivor, ClientRefusal::Holding);
    let answered = caller.answered();
    let later = pair.status(survivor).unwrap();
    assert_eq!(later["released"], status["released"], "an output was released");
    pair.run(WITNESS);
    pair.wait_for_mode(survivor, "simplex");
    caller.goes_on(&pair);
    assert!(caller.finish().answered > answered);
}

#[test]
fn the_follower_that_lost_sequencer_and_witness_holds_until_the_witness_is_back() {
    held(|pair| roles(pair).0);
}

#[test]
fn the_sequencer_that_lost_follower_and_witness_holds_until_the_witness_is_back() {
    held(|pair| roles(pair).1);
}

#[test]
fn after_the_loss_of_both_an_old_session_ends_and_a_new_lineage_serves() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    for part in [A, B, WITNESS] {
        pair.kill(part);
    }
    let config = pair.config(WITNESS);
    let (said, status) =
        pair.command(&["new-lineage", "--config", config.to_str().unwrap(), "--yes"]);
    assert_eq!(status.code(), Some(0), "{said}");
    pair.form();
    let error = caller.fails(&pair);
    let lost = CallError::NoReply(RequestError::SessionOver(SessionError::Expired));
    assert_eq!(error, lost, "{}", pair.logs());
    caller::serves(&pair).unwrap();
    assert_eq!(pair.status(A).unwrap()["lineage"], 2);
}

#[test]
fn both_restarted_without_a_new_lineage_serve_nobody() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    for part in [A, B] {
        pair.kill(part);
    }
    for part in [A, B] {
        pair.run(part);
    }
    for part in [A, B] {
        pair.expect_exit(part, Exit::NotAMember);
    }
}
