//! What happens to a pair of real processes when one of them ends.

use std::time::Duration;

use lockstep::runtime::exit::Exit;
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, links_up, other};
use lockstep_tests::process::wait_for;
use rustix::process::Signal;

const PART: &str = env!("CARGO_BIN_EXE_part");
/// Its service has addresses of its own.
const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// Looks at the other side after a CoServer has gone without a word.
fn goes_on_alone(pair: &Pair, survivor: Part) {
    is_alone(pair, survivor, "alone");
}

/// The same after it has taken its leave.
fn was_left(pair: &Pair, survivor: Part) {
    is_alone(pair, survivor, "left");
}

fn is_alone(pair: &Pair, survivor: Part, origin: &str) {
    let status = pair.wait_for_mode(survivor, "simplex");
    assert_eq!(status["sequencer"], survivor.name());
    assert_eq!(status["role"], "sequencer");
    let witness = pair.status(WITNESS).unwrap();
    let record = &witness["pairs"][0]["record"];
    assert_eq!(record["origin"], origin, "{witness}");
    assert_eq!(record[survivor.name()], status["incarnation"], "{witness}");
    assert!(record[other(survivor).name()].is_null(), "{witness}");
}

#[test]
fn two_coservers_and_a_witness_form_a_pair() {
    let mut pair = Pair::start(PART, SILENCE);
    let (a, b) = (pair.status(A).unwrap(), pair.status(B).unwrap());
    for (status, part) in [(&a, A), (&b, B)] {
        assert_eq!(status["kind"], "coserver");
        assert_eq!(status["service"], "echo");
        assert_eq!(status["place"], part.name());
        assert_eq!(status["lineage"], 1);
        assert_eq!(status["links"].as_array().unwrap().len(), 2);
        assert!(status["metrics"]["entries"].as_u64().unwrap() > 0);
        assert_eq!(status["silence_us"], 2_000_000);
    }
    assert_eq!(a["epoch"], b["epoch"]);
    assert_eq!(a["sequencer"], b["sequencer"]);
    assert_eq!(a["peer"]["incarnation"], b["incarnation"]);
    assert_eq!(b["peer"]["incarnation"], a["incarnation"]);
    let witness = pair.status(WITNESS).unwrap();
    assert_eq!(witness["pairs"][0]["record"]["origin"], "formed", "{witness}");
    assert_eq!(witness["pairs"][0]["connections"], serde_json::json!([1, 1]));
    // A process is written in one way wherever it is named.
    let record = &witness["pairs"][0]["record"];
    for (status, part) in [(&a, A), (&b, B)] {
        let name = status["incarnation"].as_str().unwrap();
        assert_eq!(record[part.name()], name);
        assert!(name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
        let here = pair.process(part).log();
        assert!(here.contains(&format!("incarnation={name}")), "{here}");
        let there = pair.process(other(part)).log();
        assert!(there.contains(&format!("incarnation={name}")), "{there}");
        let granted = pair.process(WITNESS).log();
        assert!(granted.contains(&format!("{}={name}", part.name())), "{granted}");
    }
}

#[test]
fn b_goes_on_when_a_is_killed() {
    let mut pair = Pair::start(PART, SILENCE);
    pair.kill(A);
    goes_on_alone(&pair, B);
}

#[test]
fn a_goes_on_when_b_is_killed() {
    let mut pair = Pair::start(PART, SILENCE);
    pair.kill(B);
    goes_on_alone(&pair, A);
}

#[test]
fn a_member_told_to_end_does_so_and_the_other_goes_on() {
    for part in [A, B] {
        let mut pair = Pair::start(PART, SILENCE);
        assert_eq!(pair.terminate(part).code(), Some(0), "{}", pair.logs());
        was_left(&pair, other(part));
        pair.run(part);
        pair.wait_for_duplex();
    }
}

#[test]
fn a_member_told_to_end_by_its_socket_does_so() {
    let mut pair = Pair::start(PART, SILENCE);
    pair.ask(A, "stop").unwrap();
    pair.expect_exit(A, Exit::Done);
    was_left(&pair, B);
    assert_eq!(pair.terminate(B).code(), Some(0));
    assert_eq!(pair.terminate(WITNESS).code(), Some(0));
}

#[test]
fn the_loss_of_the_witness_changes_nothing() {
    let mut pair = Pair::start(PART, SILENCE);
    let epoch = pair.status(A).unwrap()["epoch"].clone();
    pair.kill(WITNESS);
    for part in [A, B] {
        let status = pair.wait_until(part, "without a witness", |s| s["witness"] == false);
        assert_eq!(status["mode"], "duplex");
        assert_eq!(status["epoch"], epoch);
    }
    pair.run(WITNESS);
    for part in [A, B] {
        let status = pair.wait_until(part, "with a witness", |s| s["witness"] == true);
        assert_eq!(status["mode"], "duplex");
        assert_eq!(status["epoch"], epoch);
    }
    pair.kill(A);
    goes_on_alone(&pair, B);
}

/// Less than the idle time of a connection between CoServers, and much more than a busy machine
/// takes for what it is the deadline of.
const SOON: Duration = Duration::from_secs(4);

#[test]
fn a_witness_that_is_gone_is_missed_soon() {
    let mut pair = Pair::start(PART, SILENCE);
    pair.kill(WITNESS);
    let missed = || {
        let away = |part: &Part| pair.status(*part).is_ok_and(|status| status["witness"] == false);
        if [A, B].iter().all(away) { Ok(()) } else { Err(()) }
    };
    wait_for(SOON, missed).unwrap_or_else(|()| panic!("it is not missed{}", pair.logs()));
}

#[test]
fn one_that_was_paused_for_too_long_comes_back_by_itself() {
    for part in [A, B] {
        let mut pair = Pair::start(PART, SILENCE);
        let before = pair.status(part).unwrap();
        pair.pause(part);
        goes_on_alone(&pair, other(part));
        pair.resume(part);
        pair.wait_for_duplex();
        let after = pair.status(part).unwrap();
        assert_eq!(after["pid"], before["pid"], "it was not started again");
        assert_ne!(after["incarnation"], before["incarnation"]);
        let log = pair.process(part).log();
        assert!(log.contains("returning") && log.contains("cause=removed"), "{log}");
    }
}

#[test]
fn one_that_was_removed_ends_where_it_is_not_to_come_back() {
    let mut pair = Pair::start(PART, SILENCE);
    pair.kill(A);
    goes_on_alone(&pair, B);
    pair.run_with(A, &["--no-return"]);
    pair.wait_for_duplex();
    pair.pause(A);
    goes_on_alone(&pair, B);
    pair.resume(A);
    pair.expect_exit(A, Exit::Removed);
    assert_eq!(pair.status(B).unwrap()["mode"], "simplex");
}

#[test]
fn one_that_comes_back_joins_the_other() {
    for part in [A, B] {
        let mut pair = Pair::start(PART, SILENCE);
        pair.kill(part);
        goes_on_alone(&pair, other(part));
        let epoch = pair.status(other(part)).unwrap()["epoch"].as_u64().unwrap();
        pair.run(part);
        let status = pair.wait_for_duplex();
        assert_eq!(status["epoch"], epoch + 1);
        assert_eq!(status["sequencer"], other(part).name(), "who serves keeps its role");
        let witness = pair.status(WITNESS).unwrap();
        assert_eq!(witness["pairs"][0]["record"]["origin"], "joined", "{witness}");
        // Who came back is good for going on alone.
        pair.kill(other(part));
        goes_on_alone(&pair, part);
    }
}

#[test]
fn both_that_were_killed_go_on_in_whatever_order_they_start() {
    let mut pair = Pair::start(PART, SILENCE);
    for [first, second] in [[A, B], [B, A]] {
        for part in [A, B] {
            pair.kill(part);
        }
        pair.run(first);
        // The first has nobody to meet: it claims what its disk says.
        pair.wait_for_mode(first, "simplex");
        pair.run(second);
        let status = pair.wait_for_duplex();
        assert_eq!(status["lineage"], 1);
        assert_eq!(status["sequencer"], first.name());
    }
    for part in [A, B] {
        pair.kill(part);
    }
    for part in [A, B] {
        pair.run(part);
    }
    assert_eq!(pair.wait_for_duplex()["lineage"], 1);
}

/// They know that they are the pair, and their logs may not have begun.
#[test]
fn both_that_are_killed_as_soon_as_they_are_the_pair_go_on() {
    for _ in 0..3 {
        let mut pair = Pair::init(PART, SILENCE);
        for part in [WITNESS, A, B] {
            pair.run(part);
        }
        let is_formed = || {
            let log = pair.process(A).log();
            log.contains("origin=\"formed\"").then_some(()).ok_or(log)
        };
        wait_for(DEADLINE, is_formed).unwrap();
        for part in [A, B] {
            pair.kill(part);
        }
        for part in [A, B] {
            pair.run(part);
        }
        assert_eq!(pair.wait_for_duplex()["lineage"], 1);
    }
}

#[test]
fn a_new_lineage_begun_by_hand_needs_a_word_about_each_disk() {
    let mut pair = Pair::start(PART, SILENCE);
    let epoch = pair.status(A).unwrap()["epoch"].as_u64().unwrap();
    let config = pair.config(WITNESS);
    let config = config.to_str().unwrap();
    let refused = pair.command(&["new-lineage", "--config", config, "--yes"]);
    assert_eq!(refused.1.code(), Some(Exit::Locked.code().into()), "{}", refused.0);
    for part in [A, B, WITNESS] {
        pair.kill(part);
    }
    let refused = pair.command(&["new-lineage", "--config", config]);
    assert_eq!(refused.1.code(), Some(Exit::Usage.code().into()), "{}", refused.0);
    assert!(refused.0.contains("gives up everything"), "{}", refused.0);
    let done = pair.command(&["new-lineage", "--config", config, "--yes"]);
    assert_eq!(done.1.code(), Some(0), "{}", done.0);
    assert!(done.0.contains("--adopt") && done.0.contains("--discard"), "{}", done.0);
    for part in [WITNESS, A, B] {
        pair.run(part);
    }
    // What is on their disks is of a lineage that is over: somebody has to say what to do.
    for part in [A, B] {
        pair.expect_exit(part, Exit::LineageOver);
        let log = pair.process(part).log();
        assert!(log.contains("--adopt") && log.contains("--discard"), "{log}");
    }
    let own = pair.config(B);
    let refused = pair.command(&["coserver", "--config", own.to_str().unwrap(), "--discard"]);
    assert_eq!(refused.1.code(), Some(Exit::Usage.code().into()), "{}", refused.0);
    assert!(refused.0.contains("is the disk of CoServer b"), "{}", refused.0);
    pair.run_with(A, &["--adopt"]);
    pair.run_with(B, &["--discard", "--yes"]);
    let status = pair.wait_for_duplex();
    assert_eq!(status["lineage"], 2);
    assert!(status["epoch"].as_u64().unwrap() > epoch);
}

#[test]
fn a_pair_forms_when_its_witness_is_there() {
    let mut pair = Pair::init(PART, SILENCE);
    for part in [A, B] {
        pair.run(part);
    }
    for part in [A, B] {
        let status = pair.wait_until(part, "connected", |s| links_up(s) == 2);
        assert_eq!(status["mode"], "starting", "nobody goes ahead without the witness");
        assert_eq!(status["epoch"], 0);
    }
    pair.run(WITNESS);
    for part in [A, B] {
        pair.wait_for_mode(part, "duplex");
    }
}

#[test]
fn one_that_has_not_met_the_other_ends_when_told() {
    let mut pair = Pair::init(PART, SILENCE);
    pair.run(A);
    pair.wait_for_mode(A, "starting");
    assert_eq!(pair.terminate(A).code(), Some(0), "{}", pair.logs());
}

/// It hears signals before it takes its directory, which is the first that can be seen of it.
#[test]
fn one_that_is_told_to_end_as_soon_as_it_begins_ends_in_good_order() {
    for part in [A, WITNESS] {
        let mut pair = Pair::init(PART, SILENCE);
        let lock = pair.data(part).join("process.lock");
        pair.run(part);
        wait_for(DEADLINE, || lock.exists().then_some(()).ok_or("not begun")).unwrap();
        assert_eq!(pair.terminate(part).code(), Some(0), "{}", pair.logs());
    }
}

#[test]
fn a_process_leaves_no_core_dump_and_no_socket() {
    let mut pair = Pair::init(PART, SILENCE);
    pair.run(WITNESS);
    pair.wait_until(WITNESS, "there", |_| true);
    let limits = format!("/proc/{}/limits", pair.process(WITNESS).pid());
    let limits = std::fs::read_to_string(limits).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let socket = pair.data(WITNESS).join("control.sock");
    assert!(socket.exists());
    assert_eq!(pair.terminate(WITNESS).code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn the_sequencer_role_is_handed_over() {
    let pair = Pair::start(PART, SILENCE);
    let first = pair.status(A).unwrap()["sequencer"].as_str().unwrap().to_owned();
    let (from, to) = if first == "a" { (A, B) } else { (B, A) };
    let refused = pair.ask(to, "hand-over").unwrap_err();
    assert_eq!(Exit::from(&refused), Exit::Unavailable);
    assert!(refused.to_string().contains(&format!("place {first}")), "{refused}");
    pair.ask(from, "hand-over").unwrap();
    for part in [A, B] {
        pair.wait_until(part, "under the new sequencer", |s| s["sequencer"] == to.name());
        assert_eq!(pair.status(part).unwrap()["mode"], "duplex");
    }
}

#[test]
fn a_hangup_ends_nobody_and_has_the_file_read_again() {
    let mut pair = Pair::start(PART, SILENCE);
    pair.change(B, "[service]\n", "[service]\nmisspelt = 1\n[oops]\n");
    for part in [A, B, WITNESS] {
        pair.process(part).signal(Signal::HUP);
    }
    for part in [A, WITNESS] {
        pair.wait_for_event(part, "reloaded", 1);
    }
    let log = pair.wait_for_event(B, "not_reloaded", 1);
    assert!(log.contains("oops"), "{log}");
    pair.change(B, "[service]\nmisspelt = 1\n[oops]\n", "[service]\n");
    pair.process(B).signal(Signal::HUP);
    pair.wait_for_event(B, "reloaded", 1);
    for part in [A, B] {
        assert_eq!(pair.status(part).unwrap()["mode"], "duplex");
        let links = &pair.status(part).unwrap()["links"];
        assert_eq!(links[0]["up"], true, "whose keys have not changed stays connected");
    }
}

#[test]
fn two_that_are_restarted_without_a_witness_say_what_they_wait_for() {
    let mut pair = Pair::start(PART, SILENCE);
    for part in [A, B, WITNESS] {
        pair.kill(part);
    }
    for part in [A, B] {
        pair.run(part);
    }
    for part in [A, B] {
        let status = pair.wait_until(part, "waiting for the witness", |status| {
            status["waits_for"]["reason"] == "witness"
        });
        assert_eq!(status["mode"], "starting");
        let log = pair.wait_for_event(part, "waits_for", 1);
        assert!(log.contains("the witness in use is not reached"), "{log}");
    }
    pair.run(WITNESS);
    for part in [A, B] {
        pair.wait_until(part, "waiting for nothing", |status| {
            status["mode"] == "duplex" && status["waits_for"].is_null()
        });
    }
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    for program in [PART, RELAY] {
        let pair = Pair::start(program, SILENCE);
        for part in [A, B, WITNESS] {
            let mut second = pair.run_another(part);
            let status = second.wait(DEADLINE);
            assert_eq!(status.code(), Some(Exit::Locked.code().into()), "{}", second.log());
            assert!(second.log().contains("in use by another process (pid"), "{}", second.log());
        }
        assert_eq!(pair.status(A).unwrap()["mode"], "duplex");
    }
}

#[test]
fn one_can_be_started_right_after_the_command_that_stops_it() {
    let mut pair = Pair::start(PART, SILENCE);
    for part in [A, WITNESS] {
        let config = pair.config(part);
        let (said, status) = pair.command(&["stop", "--config", config.to_str().unwrap()]);
        assert_eq!(status.code(), Some(0), "{said}");
        // It need not be waited for: the second one gets the directory.
        let mut next = pair.run_another(part);
        pair.wait_until(part, "there again", |_| true);
        assert!(next.ended().is_none(), "{}", next.log());
        pair.expect_exit(part, Exit::Done);
    }
}

#[test]
fn what_a_service_logs_in_a_replay_is_told_apart_from_news() {
    let mut pair = Pair::start(RELAY, SILENCE);
    let said = |pair: &mut Pair| {
        let log = pair.process(A).log();
        let lines = log.lines().filter(|line| line.contains("the members changed"));
        let (again, news): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains(" replay: "));
        (again.len(), news.len())
    };
    wait_for(DEADLINE, || if said(&mut pair).1 > 0 { Ok(()) } else { Err(pair.logs()) }).unwrap();
    assert_eq!(said(&mut pair).0, 0);
    // The one that did not order it says so.
    let marked = |pair: &mut Pair| {
        let logs = [A, B].map(|part| pair.process(part).log()).concat();
        let mut lines = logs.lines().filter(|line| line.contains("the members changed"));
        lines.any(|line| [" follower: ", " catch_up: "].iter().any(|mark| line.contains(mark)))
    };
    wait_for(DEADLINE, || if marked(&mut pair) { Ok(()) } else { Err(pair.logs()) }).unwrap();
    for part in [A, B] {
        pair.kill(part);
    }
    let (_, before) = said(&mut pair);
    // Alone it does nothing before the replay is over, and then what is new.
    pair.run(A);
    pair.wait_for_mode(A, "simplex");
    let (again, after) = said(&mut pair);
    assert!(again >= 1, "{}", pair.logs());
    assert!(after <= before + 1, "{}", pair.logs());
}

#[test]
fn an_address_in_use_is_an_error_that_says_so() {
    let pair = Pair::init(PART, SILENCE);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (part, command, flag) in [(WITNESS, "witness", "--listen"), (A, "coserver", "--clients")] {
        let config = pair.config(part);
        let config = config.to_str().unwrap();
        let (said, status) = pair.command(&[command, "--config", config, flag, &address]);
        assert_eq!(status.code(), Some(Exit::Unavailable.code().into()), "{said}");
        assert!(said.contains(&address) && said.contains("another process has it"), "{said}");
    }
}

#[test]
fn a_wrong_command_line_or_file_is_refused_with_its_code() {
    let pair = Pair::init(PART, SILENCE);
    let config = pair.config(A);
    let path = config.to_str().unwrap();
    let ends = |arguments: &[&str], exit: Exit, saying: &str| {
        let (said, status) = pair.command(arguments);
        assert_eq!(status.code(), Some(exit.code().into()), "{arguments:?}: {said}");
        assert!(said.contains(saying), "{arguments:?}: {said}");
    };
    ends(&["--help"], Exit::Done, "Usage: part <COMMAND>");
    ends(&["coserver", "--help"], Exit::Done, "Usage: part coserver [OPTIONS] --config <FILE>");
    ends(&["--version"], Exit::Done, "part 0.");
    ends(&[], Exit::Usage, "part: 'part' requires a subcommand");
    ends(&["dance"], Exit::Usage, "part: unrecognized subcommand 'dance'");
    ends(&["coserver"], Exit::Usage, "not provided:\n  --config <FILE>");
    ends(&["coserver", "--config", path, "--fast"], Exit::Usage, "--fast");
    ends(&["coserver", "--config", path, "--log", "a=b=c"], Exit::Usage, "a filter is");
    ends(&["coserver", "--config", path, "--link", "127.0.0.1:1"], Exit::Usage, "a comma");
    ends(&["coserver", "--config", path, "--witness", "x"], Exit::Config, "--witness (over");
    ends(&["coserver", "--config", "/nowhere/a.toml"], Exit::Config, "/nowhere/a.toml");
    ends(&["status", "--config", path], Exit::Unavailable, "no process answers");
    ends(&["status"], Exit::Usage, "<--config <FILE>|--dir <DIR>>");
    let twice = "'--config <FILE>' cannot be used multiple times";
    ends(&["status", "--config", path, "--config", path], Exit::Usage, twice);
    ends(&["coserver", "--config", path, "--config", path], Exit::Usage, twice);
    let both = ["init", "--dir", "x", "--base-port", "7000", "--free-ports"];
    ends(&both, Exit::Usage, "'--base-port <PORT>' cannot be used with '--free-ports'");
    ends(&["completions", "bash"], Exit::Done, "new-lineage");
    ends(&["man", "coserver"], Exit::Done, ".TH part-coserver 1");
    ends(&["man", "--dir", "/nowhere"], Exit::Storage, "cannot write manual pages into /nowhere");
    ends(&["enrol", "--config", path], Exit::Usage, "is a process, not an object store");
    let witness = pair.config(WITNESS);
    let witness = witness.to_str().unwrap();
    ends(&["new-lineage", "--config", witness], Exit::Usage, "when it first starts");
    assert!(!pair.data(WITNESS).exists(), "it has made nothing");
    let other = "00112233445566778899aabbccddeeff";
    let wrong = ["new-lineage", "--config", witness, "--pair", other];
    ends(&wrong, Exit::Usage, "is not in");
    let wrong = ["coserver", "--config", path, "--discard", "--pair", other];
    ends(&wrong, Exit::Usage, "is another pair");
    ends(&["init", "--dir", pair.directory().to_str().unwrap()], Exit::Exists, "is there already");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("place = \"a\"", "place = \"c\"")).unwrap();
    ends(&["coserver", "--config", path], Exit::Config, "a.toml:2:9: `place`");
    std::fs::write(&config, text + "speed = 9\n").unwrap();
    ends(&["coserver", "--config", path], Exit::Config, "`service.speed`: there is no such field");
}
