//! What a SIGHUP has a process read again, and what it does with that.

use lockstep::runtime::keys::SecretKey;
use lockstep_tests::caller::{adds, open, serves, serving, wait_for_serving};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, other};
use lockstep_tests::process::wait_for;
use rustix::process::Signal;

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// Starts a part that logs what its file says: elsewhere a flag says it.
fn run_by_its_file(pair: &mut Pair, part: Part) {
    let command = if part == WITNESS { "witness" } else { "coserver" };
    let line = format!("{REGISTERS} {command} --config {}", pair.config(part).display());
    pair.run_line(part, &line);
}

fn handed_over(pair: &mut Pair, part: Part) -> usize {
    pair.process(part).log().matches("event=\"handed_over\"").count()
}

/// Gives the pair's clients a new key, which neither CoServer knows yet. Its public half, and the
/// old one's.
fn new_client_key(pair: &Pair) -> (String, String) {
    let keys = pair.directory().join("keys");
    let old = SecretKey::load(&keys.join("client.key")).unwrap().public();
    let new = SecretKey::generate().unwrap();
    new.save_new(&keys.join("new-client.key")).unwrap();
    (new.public().to_string(), old.to_string())
}

/// Has the clients that begin from now on use it.
fn use_new_client_key(pair: &Pair) {
    let file = pair.directory().join("client.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("keys/client.key", "keys/new-client.key")).unwrap();
}

#[test]
fn a_client_s_key_that_is_not_named_any_more_is_shut_out_and_the_new_one_is_served() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let session = open(&pair);
    wait_for_serving(&session, &pair, 2);
    adds(&session, &pair);
    let (new, old) = new_client_key(&pair);
    for (part, left) in [(A, 1), (B, 0)] {
        pair.change(part, &old, &new);
        pair.process(part).signal(Signal::HUP);
        pair.wait_for_event(part, "reloaded", 1);
        // A connection that was up is closed, and no other comes of it.
        wait_for_serving(&session, &pair, left);
    }
    use_new_client_key(&pair);
    serves(&pair).unwrap();
    assert_eq!(serving(&session), 0, "{}", pair.logs());
    for part in [A, B] {
        let status = pair.status(part).unwrap();
        assert_eq!(status["mode"], "duplex", "who is still named stays connected");
        assert_eq!(status["witness"], true);
        let log = pair.process(part).log();
        assert!(!log.contains("event=\"link_down\""), "{log}");
        assert!(!log.contains("event=\"witness\" up=false"), "{log}");
    }
}

#[test]
fn what_is_logged_changes_at_once() {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    pair.run(WITNESS);
    for part in [A, B] {
        run_by_its_file(&mut pair, part);
    }
    let sequencer = if pair.wait_for_duplex()["sequencer"] == "a" { A } else { B };
    let place = "# Where the service is executed";
    let log = pair.process(sequencer).log();
    assert!(!log.contains(" DEBUG "), "{log}");

    pair.change(sequencer, place, &format!("log = \"debug\"\n{place}"));
    pair.process(sequencer).signal(Signal::HUP);
    pair.wait_for_event(sequencer, "reloaded", 1);
    // The end of a client's connection is no news, and is said in detail.
    serves(&pair).unwrap();
    let look = || pair.process(sequencer).log().contains("DEBUG").then_some(()).ok_or(());
    wait_for(DEADLINE, look).unwrap_or_else(|()| panic!("nothing in detail{}", pair.logs()));

    pair.change(sequencer, "log = \"debug\"", "log = \"error\"");
    pair.process(sequencer).signal(Signal::HUP);
    // It does not say so: that is no error. A change that the other one logs is not logged here.
    let quiet = || {
        let before = [sequencer, other(sequencer)].map(|part| handed_over(&mut pair, part));
        for part in [sequencer, other(sequencer)] {
            if pair.ask(part, "hand-over").is_ok() {
                break;
            }
        }
        pair.wait_for_event(other(sequencer), "handed_over", before[1] + 1);
        if handed_over(&mut pair, sequencer) == before[0] { Ok(()) } else { Err(()) }
    };
    wait_for(DEADLINE, quiet).unwrap_or_else(|()| panic!("it still logs news{}", pair.logs()));
}

#[test]
fn a_file_of_which_a_part_cannot_be_used_changes_nothing() {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    pair.run(WITNESS);
    for part in [A, B] {
        run_by_its_file(&mut pair, part);
    }
    pair.wait_for_duplex();
    let session = open(&pair);
    wait_for_serving(&session, &pair, 2);
    let (new, old) = new_client_key(&pair);
    let place = "# Where the service is executed";
    for part in [A, B] {
        pair.change(part, &old, &new);
        pair.change(part, place, &format!("log = \"a=b=c\"\n{place}"));
        pair.process(part).signal(Signal::HUP);
        let log = pair.wait_for_event(part, "not_reloaded", 1);
        assert!(log.contains("a filter is"), "{log}");
    }
    // The client's key is the one that it was.
    serves(&pair).unwrap();
    assert_eq!(serving(&session), 2, "{}", pair.logs());
    adds(&session, &pair);
}
