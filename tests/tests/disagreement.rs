//! CoServers that do not fit together, compute different things, or panic, as processes: who stays,
//! how the other ends, and what the log says.

use bytes::Bytes;
use lockstep::client::blocking::{PendingReply, Session};
use lockstep::limits;
use lockstep::runtime::exit::Exit;
use lockstep_tests::caller::{serves, settings};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, other};
use lockstep_tests::process::wait_for;

const WAYWARD: &str = env!("CARGO_BIN_EXE_misbehaving");

/// A formed pair in which nobody comes back by itself, with this policy for divergence.
fn formed(policy: &str) -> Pair {
    let mut pair = Pair::init(WAYWARD, SILENCE);
    for part in [A, B] {
        let line = format!("divergence = \"{policy}\"");
        pair.change(part, "# divergence = \"sequencer\"", &line);
    }
    pair.run(WITNESS);
    for part in [A, B] {
        pair.run_with(part, &["--no-return"]);
    }
    pair.wait_for_duplex();
    serves(&pair).unwrap();
    pair
}

fn ask(pair: &Pair, words: &'static str) -> (Session, PendingReply) {
    let session = Session::open(settings(pair)).unwrap();
    let ticket = session.submit(Bytes::from_static(words.as_bytes())).unwrap();
    (session, ticket)
}

/// Waits until a part's log has an event at a level: its line.
fn logged(pair: &mut Pair, part: Part, level: &str, event: &str) -> String {
    let (level, event) = (format!(" {level} "), format!("event=\"{event}\""));
    let look = || {
        let log = pair.process(part).log();
        let found = log.lines().find(|line| line.contains(&level) && line.contains(&event));
        found.map(str::to_owned).ok_or(log)
    };
    wait_for(DEADLINE, look).unwrap_or_else(|log| panic!("no {event} at {}: {log}", part.name()))
}

/// The other is out; this one is alone, serves, and was granted that.
fn stays(pair: &mut Pair, stays: Part, goes: Part) {
    pair.wait_for_mode(stays, "simplex");
    pair.expect_exit(goes, Exit::Removed);
    serves(pair).unwrap();
    let record = &pair.status(WITNESS).unwrap()["pairs"][0]["record"];
    assert!(record[goes.name()].is_null(), "{record}");
}

#[test]
fn of_two_that_computed_different_things_the_preferred_one_stays_and_the_other_joins_it() {
    for (policy, preferred, other) in [("prefer-a", A, B), ("prefer-b", B, A)] {
        let mut pair = formed(policy);
        let (session, ticket) = ask(&pair, "differ");
        stays(&mut pair, preferred, other);
        assert_eq!(ticket.wait().unwrap(), preferred.name(), "the answer of who stayed");
        session.close().unwrap();
        for part in [A, B] {
            logged(&mut pair, part, "ERROR", "diverged");
        }
        // The answers are `a` and `b`.
        let difference = logged(&mut pair, preferred, "ERROR", "difference");
        for field in ["what=\"bytes\"", "output=0", "kind=\"reply\"", "byte=0", "our_outputs=1"] {
            assert!(difference.contains(&format!(" {field}")), "{difference}");
        }
        // It gets a checkpoint: what it computed otherwise is on its disk.
        pair.run(other);
        pair.wait_for_duplex();
        serves(&pair).unwrap();
    }
}

/// Asked to readmit the other, this one refuses: it holds nobody.
fn readmits_nobody(pair: &mut Pair, part: Part) {
    let said = |pair: &mut Pair| pair.process(part).log().matches("event=\"readmitted\"").count();
    let before = said(pair);
    let config = pair.config(part);
    let (answer, status) = pair.command(&["readmit", "--config", config.to_str().unwrap()]);
    assert_eq!(status.code(), Some(Exit::Unavailable.code().into()), "{answer}");
    let refused = pair.ask(part, "readmit").unwrap_err().to_string();
    let other = format!("CoServer {}", other(part).name());
    assert!(refused.contains("nothing to readmit") && refused.contains(&other), "{refused}");
    assert_eq!(said(pair), before);
}

/// The operator's commands are those that the message and the documentation name.
#[test]
fn one_that_differs_again_and_again_is_held_for_repair_until_an_operator_readmits_it() {
    let mut pair = formed("prefer-a");
    // What it computed is on its disk, so that each of these may be counted twice.
    for asked in 0..limits::DIVERGENCES {
        let (session, ticket) = ask(&pair, "differ");
        assert_eq!(ticket.wait().unwrap(), "a");
        session.close().unwrap();
        if asked == 0 {
            pair.expect_exit(B, Exit::Removed);
            // From here on it comes back by itself.
            pair.run(B);
            pair.wait_for_duplex();
            readmits_nobody(&mut pair, B);
        }
        let settled = |status: &serde_json::Value| {
            status["mode"] == "duplex" || status["peer"]["held_for_repair"] == true
        };
        let status = pair.wait_until(A, "redundant, or alone for good", settled);
        if status["peer"]["held_for_repair"] == true {
            break;
        }
    }
    let status = pair.status(A).unwrap();
    assert_eq!(status["metrics"]["removals"]["diverged"], limits::DIVERGENCES, "{status}");
    assert_eq!(status["peer"]["held_for_repair"], true, "{status}");
    logged(&mut pair, A, "ERROR", "held_for_repair");
    pair.expect_exit(B, Exit::Incompatible);
    let log = pair.process(B).log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("held for repair") && last.contains("`readmit`"), "{last}");
    assert_eq!(pair.status(A).unwrap()["mode"], "simplex");

    let config = pair.config(A);
    let (said, status) = pair.command(&["readmit", "--config", config.to_str().unwrap()]);
    assert_eq!(status.code(), Some(Exit::Done.code().into()), "{said}");
    pair.wait_until(A, "taking the other in", |status| status["peer"]["held_for_repair"] == false);
    assert!(said.contains(&format!("\"divergences\":{}", limits::DIVERGENCES)), "{said}");
    logged(&mut pair, A, "INFO", "readmitted");
    readmits_nobody(&mut pair, A);
    pair.run(B);
    pair.wait_for_duplex();
    // It is as good as any: alone it serves.
    pair.kill(A);
    pair.wait_for_mode(B, "simplex");
    serves(&pair).unwrap();
}

#[test]
fn of_two_that_computed_different_things_the_sequencer_stays_by_default() {
    let mut pair = formed("sequencer");
    let sequencer = if pair.status(A).unwrap()["sequencer"] == "a" { A } else { B };
    let other = if sequencer == A { B } else { A };
    let (session, ticket) = ask(&pair, "differ");
    stays(&mut pair, sequencer, other);
    assert_eq!(ticket.wait().unwrap(), sequencer.name());
    session.close().unwrap();
}

#[test]
fn where_nobody_is_preferred_both_hold_until_an_operator_stops_one() {
    let mut pair = formed("hold");
    let (session, ticket) = ask(&pair, "differ");
    let before = [A, B].map(|part| pair.wait_for_mode(part, "holding"));
    for (part, before) in [A, B].into_iter().zip(before) {
        logged(&mut pair, part, "ERROR", "diverged");
        logged(&mut pair, part, "ERROR", "holding");
        let now = pair.status(part).unwrap();
        assert_eq!((&now["released"], &now["epoch"]), (&before["released"], &before["epoch"]));
    }
    pair.terminate(A);
    pair.wait_for_mode(B, "simplex");
    assert_eq!(ticket.wait().unwrap(), "b");
    session.close().unwrap();
    serves(&pair).unwrap();
}

#[test]
fn a_panic_on_one_side_leaves_the_other_to_go_on() {
    for (words, panics, other) in [("panic a", A, B), ("panic b", B, A)] {
        let mut pair = formed("sequencer");
        let (session, ticket) = ask(&pair, words);
        stays(&mut pair, other, panics);
        logged(&mut pair, panics, "ERROR", "panicked");
        let difference = logged(&mut pair, other, "ERROR", "difference");
        assert!(difference.contains(" what=\"panic\"") && difference.contains("other CoServer"));
        // The other took it for what it is to a register: nothing that it knows.
        ticket.wait().unwrap();
        session.close().unwrap();
    }
}

#[test]
fn a_panic_on_both_sides_holds_both() {
    let mut pair = formed("sequencer");
    let epoch = pair.status(A).unwrap()["epoch"].clone();
    let (_session, _ticket) = ask(&pair, "panic");
    for part in [A, B] {
        let status = pair.wait_for_mode(part, "holding");
        assert_eq!(status["epoch"], epoch, "nobody was removed");
        logged(&mut pair, part, "ERROR", "panicked");
        assert!(pair.process(part).ended().is_none());
    }
}

/// A joiner that cannot run with the sole member.
fn refused_to_join(line: &str, why: &str) {
    let mut pair = formed("sequencer");
    pair.kill(B);
    // Its own disk would refuse it else.
    pair.wipe(B);
    pair.wait_for_mode(A, "simplex");
    let epoch = pair.status(A).unwrap()["epoch"].clone();
    pair.change(B, "[service]\n", &format!("[service]\n{line}\n"));
    pair.run(B);
    pair.expect_exit(B, Exit::Incompatible);
    let log = pair.process(B).log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("cannot run together") && last.contains(why), "{last}");
    logged(&mut pair, A, "ERROR", "incompatible");
    serves(&pair).unwrap();
    let status = pair.status(A).unwrap();
    assert_eq!((&status["mode"], &status["epoch"]), (&"simplex".into(), &epoch), "{status}");
    pair.change(B, &format!("{line}\n"), "");
    pair.run(B);
    pair.wait_for_duplex();
}

#[test]
fn a_joiner_with_another_version_of_the_service_is_refused_and_the_member_serves_on() {
    refused_to_join("version = 2", "version");
}

#[test]
fn a_joiner_with_another_configuration_is_refused_and_the_member_serves_on() {
    refused_to_join("configuration = 3", "configuration");
}

#[test]
fn what_was_to_be_discarded_for_a_join_that_fails_is_put_back() {
    let mut pair = formed("sequencer");
    pair.kill(B);
    pair.wait_for_mode(A, "simplex");
    pair.change(B, "[service]\n", "[service]\nversion = 2\n");
    pair.run_with(B, &["--no-return", "--discard", "--yes"]);
    pair.expect_exit(B, Exit::Incompatible);
    let log = pair.process(B).log();
    assert!(log.contains("event=\"discard_undone\""), "{log}");
    assert!(log.lines().last().unwrap_or_default().contains("back as it was"), "{log}");
    pair.change(B, "[service]\nversion = 2\n", "[service]\n");
    pair.run(B);
    pair.wait_for_duplex();
    logged(&mut pair, B, "INFO", "recovered");
    let named = |name: std::fs::DirEntry| name.file_name().into_string().unwrap();
    let left = std::fs::read_dir(pair.data(B).join("store")).unwrap();
    let left: Vec<_> = left.map(|name| named(name.unwrap())).collect();
    assert!(!left.iter().any(|name| name.starts_with("discard")), "{left:?}");
}

/// Changes a line of the service's settings in both files.
fn change_both(pair: &Pair, old: &str, new: &str) {
    for part in [A, B] {
        pair.change(part, &format!("[service]\n{old}"), &format!("[service]\n{new}"));
    }
}

#[test]
fn what_the_service_was_changed_to_since_the_log_was_computed_is_refused_before_a_replay() {
    let mut pair = formed("sequencer");
    let session = Session::open(settings(&pair)).unwrap();
    for part in [A, B] {
        pair.terminate(part);
    }
    for line in ["version = 2\n", "configuration = 3\n"] {
        change_both(&pair, "", line);
        for part in [A, B] {
            pair.run(part);
            pair.expect_exit(part, Exit::Config);
            let log = pair.process(part).log();
            assert!(log.contains("as they were") && !log.contains("log_set_aside"), "{log}");
        }
        // The new lineage forgotten: nothing is claimed, and nothing is given up.
        for part in [A, B] {
            pair.run_with(part, &["--adopt"]);
        }
        for part in [A, B] {
            pair.wait_until(part, "met", |status| !status["peer"].is_null());
            logged(&mut pair, part, "ERROR", "contradicts");
            assert_eq!(pair.status(part).unwrap()["mode"], "starting");
        }
        for part in [A, B] {
            pair.terminate(part);
        }
        change_both(&pair, line, "");
    }
    // Nothing was changed on the disks.
    for part in [A, B] {
        pair.run(part);
    }
    pair.wait_for_duplex();
    session.close().expect("a session from before");

    // The way to change it.
    for part in [A, B, WITNESS] {
        pair.terminate(part);
    }
    change_both(&pair, "", "configuration = 3\n");
    pair.begin_lineage();
    pair.run_with(A, &["--adopt"]);
    pair.run_with(B, &["--discard", "--yes"]);
    pair.wait_for_duplex();
    for part in [A, B] {
        pair.terminate(part);
        pair.wait_for_mode(other(part), "simplex");
        pair.run(part);
        pair.wait_for_duplex();
    }
    serves(&pair).unwrap();
}

#[test]
fn the_one_that_may_go_on_is_not_ended_by_a_stranger_that_is_up_first() {
    let mut pair = formed("sequencer");
    pair.kill(B);
    pair.wait_for_mode(A, "simplex");
    pair.kill(A);
    pair.change(B, "divergence = \"sequencer\"", "divergence = \"hold\"");
    pair.run(B);
    pair.wait_for_mode(B, "starting");
    pair.run(A);
    pair.expect_exit(B, Exit::Incompatible);
    pair.wait_for_mode(A, "simplex");
    serves(&pair).unwrap();
    logged(&mut pair, A, "ERROR", "incompatible");
    pair.change(B, "divergence = \"hold\"", "divergence = \"sequencer\"");
    pair.run(B);
    pair.wait_for_duplex();
}

#[test]
fn one_whose_lineage_an_operator_ends_under_it_is_a_member_no_more() {
    let mut pair = formed("sequencer");
    pair.kill(B);
    pair.wait_for_mode(A, "simplex");
    pair.kill(WITNESS);
    pair.begin_lineage();
    pair.expect_exit(A, Exit::NotAMember);
}

#[test]
fn a_joiner_whose_member_is_gone_says_so() {
    let mut pair = Pair::init(WAYWARD, SILENCE);
    for part in [A, B] {
        // So slow that it is not over before the member is killed.
        pair.change(part, "# join_rate = 67108864", "join_rate = 65536");
    }
    pair.form();
    pair.kill(B);
    pair.wipe(B);
    pair.wait_for_mode(A, "simplex");
    let session = Session::open(settings(&pair)).unwrap();
    for _ in 0..12 {
        let long = vec![255; limits::INPUT_BYTES];
        session.request_within(long, DEADLINE).unwrap();
    }
    session.close().unwrap();
    pair.run_with(B, &["--no-return"]);
    pair.wait_for_mode(B, "joining");
    pair.kill(A);
    // A new process at the member's place: what it goes on from may not be what it sent.
    pair.run(A);
    pair.expect_exit(B, Exit::JoinEnded);
    pair.run(B);
    pair.wait_for_mode(A, "simplex");
}
