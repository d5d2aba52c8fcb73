//! The table "what each fault does" of `docs/operations.md`, row by row, with a client that
//! counts across each fault: no request is lost and none takes effect twice.

use lockstep::client::session::{CallError, PlaceStatus, Status, Trouble};
use lockstep::client::{RequestError, SessionError};
use lockstep::ids::ReplicaId;
use lockstep::wire::frames::ClientRefusal;
use lockstep_tests::caller::{self, Caller};
use lockstep_tests::emulator::{Emulator, Toward};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, links_up, other};
use lockstep_tests::process::wait_for;
use std::time::Duration;

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

fn place(part: Part) -> ReplicaId {
    if part == A { ReplicaId::A } else { ReplicaId::B }
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

/// Who is a member, as the witness has it.
fn record(pair: &Pair) -> serde_json::Value {
    pair.status(WITNESS).unwrap()["pairs"][0]["record"].clone()
}

/// What a client would notice is that one waits for the other's silence to be long enough: nobody
/// took the other for dead.
fn is_unnoticed(pair: &mut Pair) {
    for part in [A, B] {
        let log = pair.process(part).log();
        let accuses = |line: &&str| {
            line.contains("event=\"suspected\"")
                && (line.contains("suspicion=\"silent\"") || line.contains("suspicion=\"dead\""))
        };
        assert_eq!(log.lines().find(accuses), None, "{}", part.name());
    }
}

/// Kills one, chosen by role, starts it again, and has the client count on all the while.
fn killed(choose: impl Fn(&Pair) -> Part) {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    let part = choose(&pair);
    pair.kill(part);
    pair.wait_for_mode(other(part), "simplex");
    caller.goes_on(&pair);
    pair.run(part);
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    // What it was brought up to date with is good for going on alone.
    pair.kill(other(part));
    pair.wait_for_mode(part, "simplex");
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn the_sequencer_killed_and_started_again_loses_no_request() {
    killed(|pair| roles(pair).0);
}

#[test]
fn the_follower_killed_and_started_again_loses_no_request() {
    killed(|pair| roles(pair).1);
}

/// Sessions that ask nothing, so that they would not find out by themselves for long.
const IDLE: usize = 6;

/// Much less than an idle session takes to notice by itself that a connection is dead, and much
/// more than a busy machine takes for a handshake.
const SOON: Duration = Duration::from_secs(5);

/// Duplex means that clients are redundant too. Each has a connection to the one that is back, so
/// that the loss of the other one is to them what it is to the pair.
#[test]
fn every_client_is_with_the_one_that_is_back_before_it_is_needed() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let sessions: Vec<_> = (0..IDLE).map(|_| caller::open(&pair)).collect();
    let caller = Caller::start(&pair, "n");
    let is_with =
        |status: &Status, part: Part, since: &serde_json::Value| match status.place(place(part)) {
            PlaceStatus::Serving { epoch } => Some(epoch.0) >= since.as_u64(),
            PlaceStatus::Away { .. } => false,
        };
    let everybody_is_with =
        |pair: &Pair, caller: &Caller, part: Part, since: &serde_json::Value| {
            let statuses =
                || sessions.iter().map(|session| session.status()).chain([caller.status()]);
            let look = || match statuses().filter(|status| !is_with(status, part, since)).count() {
                0 => Ok(()),
                lacking => Err(lacking),
            };
            wait_for(SOON, look).unwrap_or_else(|lacking| {
                panic!("{lacking} clients are not with {}{}", part.name(), pair.logs())
            });
        };
    everybody_is_with(&pair, &caller, A, &0.into());
    everybody_is_with(&pair, &caller, B, &0.into());
    pair.kill(A);
    pair.wait_for_mode(B, "simplex");
    caller.goes_on(&pair);
    pair.run(A);
    let epoch = pair.wait_for_duplex()["epoch"].clone();
    everybody_is_with(&pair, &caller, A, &epoch);
    pair.kill(B);
    for session in &sessions {
        caller::adds(session, &pair);
    }
    caller.goes_on(&pair);
    caller.finish();
}

/// Stops one, chosen by role; it comes back by itself when it goes on.
fn stopped(choose: impl Fn(&Pair) -> Part) {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    let part = choose(&pair);
    pair.pause(part);
    pair.wait_for_mode(other(part), "simplex");
    caller.goes_on(&pair);
    pair.resume(part);
    refuses(&pair, &caller, part, ClientRefusal::Removed);
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn the_sequencer_stopped_is_removed_and_comes_back_when_it_goes_on() {
    stopped(|pair| roles(pair).0);
}

#[test]
fn the_follower_stopped_is_removed_and_comes_back_when_it_goes_on() {
    stopped(|pair| roles(pair).1);
}

/// Ends one in good order, and starts it again: the other is asked to go on, and waits for nothing.
fn left(choose: impl Fn(&Pair) -> Part) {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    let part = choose(&pair);
    assert_eq!(pair.terminate(part).code(), Some(0), "{}", pair.logs());
    pair.wait_for_mode(other(part), "simplex");
    // By the word of the one that left, rather than by its silence.
    assert_eq!(record(&pair)["origin"], "left");
    caller.goes_on(&pair);
    pair.run(part);
    pair.wait_for_duplex();
    assert_eq!(record(&pair)["origin"], "joined");
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn the_sequencer_leaves_and_comes_back_without_a_pause() {
    left(|pair| roles(pair).0);
}

#[test]
fn the_follower_leaves_and_comes_back_without_a_pause() {
    left(|pair| roles(pair).1);
}

/// Kills one, takes its disk away, and starts it again with an empty one.
#[test]
fn one_whose_disk_is_lost_is_brought_up_to_date() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    let part = roles(&pair).0;
    pair.kill(part);
    pair.wipe(part);
    pair.wait_for_mode(other(part), "simplex");
    pair.run(part);
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    pair.kill(other(part));
    pair.wait_for_mode(part, "simplex");
    caller.goes_on(&pair);
    caller.finish();
}

/// Hurts one link, mends it, and sees that nobody noticed but the two ends.
fn one_link_away(link: usize, hurt: impl Fn(&Emulator)) {
    let (mut pair, emulators) = Pair::start_emulated(REGISTERS, SILENCE);
    let (epoch, members) = (pair.status(A).unwrap()["epoch"].clone(), record(&pair));
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
    caller.finish();
    assert_eq!(record(&pair), members);
    is_unnoticed(&mut pair);
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
    let (mut pair, emulators) = Pair::start_emulated(REGISTERS, SILENCE);
    let (epoch, members) = (pair.status(A).unwrap()["epoch"].clone(), record(&pair));
    let caller = Caller::start(&pair, "n");
    emulators[0].delay(Duration::from_millis(30));
    emulators[0].lose(20);
    for _ in 0..5 {
        caller.goes_on(&pair);
    }
    let (passed, dropped) = emulators[0].counts(Toward::B);
    assert!(passed > 0 && dropped > 0, "the link was not used: {passed}, {dropped}");
    caller.finish();
    for part in [A, B] {
        let status = pair.status(part).unwrap();
        assert_eq!((&status["mode"], &status["epoch"]), (&"duplex".into(), &epoch), "{status}");
    }
    assert_eq!(record(&pair), members);
    is_unnoticed(&mut pair);
}

#[test]
fn both_links_cut_leave_one_that_goes_on_and_one_that_refuses_and_comes_back() {
    let (pair, emulators) = Pair::start_emulated(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    emulators.iter().for_each(Emulator::cut);
    let mode = |part| pair.status(part).ok().map(|status| status["mode"].clone());
    let alone = || [A, B].into_iter().find(|part| mode(*part) == Some("simplex".into())).ok_or(());
    let alone = wait_for(DEADLINE, alone).unwrap_or_else(|()| panic!("none: {}", pair.logs()));
    refuses(&pair, &caller, other(alone), ClientRefusal::Removed);
    pair.wait_until(other(alone), "a new process that looks for the other", |status| {
        status["mode"] == "starting" && links_up(status) == 0
    });
    caller.goes_on(&pair);
    let record = &pair.status(WITNESS).unwrap()["pairs"][0]["record"];
    assert_eq!(record[alone.name()], pair.status(alone).unwrap()["incarnation"], "{record}");
    assert!(record[other(alone).name()].is_null(), "{record}");
    assert_eq!(pair.status(alone).unwrap()["mode"], "simplex");
    emulators.iter().for_each(Emulator::mend);
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn the_witness_killed_and_restarted_is_not_visible_to_a_client() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let (epoch, members) = (pair.status(A).unwrap()["epoch"].clone(), record(&pair));
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
    caller.finish();
    assert_eq!(record(&pair), members);
    is_unnoticed(&mut pair);
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
fn both_killed_and_started_again_go_on_with_everything() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    for order in [[A, B], [B, A]] {
        for part in order {
            pair.kill(part);
        }
        for part in order {
            pair.run(part);
        }
        pair.wait_for_duplex();
        caller.goes_on(&pair);
    }
    caller.finish();
    assert_eq!(pair.status(A).unwrap()["lineage"], 1);
}

#[test]
fn both_killed_with_their_state_in_memory_serve_nobody_until_a_new_lineage_is_begun() {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    pair.use_memory();
    pair.form();
    let caller = Caller::start(&pair, "n");
    for part in [A, B] {
        pair.kill(part);
    }
    for part in [A, B] {
        pair.run(part);
    }
    for part in [A, B] {
        let waits = || {
            let log = pair.process(part).log();
            if log.contains("event=\"waiting\"") { Ok(()) } else { Err(log) }
        };
        wait_for(DEADLINE, waits).unwrap_or_else(|log| panic!("it does not wait: {log}"));
        assert_eq!(pair.status(part).unwrap()["mode"], "starting");
    }
    for part in [A, B, WITNESS] {
        pair.kill(part);
    }
    begin_anew(&mut pair);
    session_is_over(&pair, caller);
}

/// A new lineage with nothing of the old one.
fn begin_anew(pair: &mut Pair) {
    pair.begin_lineage();
    for part in [A, B] {
        pair.run_with(part, &["--discard", "--yes"]);
    }
    assert_eq!(pair.wait_for_duplex()["lineage"], 2);
}

fn session_is_over(pair: &Pair, caller: Caller) {
    let error = caller.fails(pair);
    let lost = CallError::NoReply(RequestError::SessionOver(SessionError::Expired));
    assert_eq!(error, lost, "{}", pair.logs());
    caller::serves(pair).unwrap();
}

#[test]
fn a_new_lineage_that_begins_empty_ends_an_old_session() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    for part in [A, B, WITNESS] {
        pair.kill(part);
    }
    begin_anew(&mut pair);
    session_is_over(&pair, caller);
}

#[test]
fn a_new_lineage_that_adopts_a_disk_loses_no_request() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    // A alone, so that its disk has all that was acknowledged.
    pair.kill(B);
    pair.wait_for_mode(A, "simplex");
    caller.goes_on(&pair);
    for part in [A, WITNESS] {
        pair.kill(part);
    }
    pair.begin_lineage();
    pair.run_with(A, &["--adopt"]);
    pair.run_with(B, &["--discard", "--yes"]);
    assert_eq!(pair.wait_for_duplex()["lineage"], 2);
    caller.goes_on(&pair);
    caller.finish();
}
