//! A service that hangs on its thread on one CoServer of a pair, while clients keep coming: it is
//! that side which is out, and it comes back by itself.

use lockstep_tests::caller::Caller;
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, other};
use lockstep_tests::process::wait_for;

const WAYWARD: &str = env!("CARGO_BIN_EXE_misbehaving");

fn hang(choose: impl Fn(&Pair) -> Part) {
    let mut pair = Pair::init(WAYWARD, SILENCE);
    let file = |part: Part| pair.directory().join(format!("hang-{}", part.name()));
    let files = [A, B].map(file);
    for (part, file) in [A, B].into_iter().zip(&files) {
        let thread = "execution = \"thread\"";
        pair.change(part, "# execution = \"inline\"", thread);
        let own = format!("[service]\nhang_while = \"{}\"\n", file.display());
        pair.change(part, "[service]\n", &own);
    }
    pair.form();
    let caller = Caller::start(&pair, "n");
    let victim = choose(&pair);
    let file = &files[usize::from(victim == B)];
    let before = pair.status(victim).unwrap();
    std::fs::write(file, "").unwrap();
    pair.wait_for_mode(other(victim), "simplex");
    // What comes back is not to hang as well.
    std::fs::remove_file(file).unwrap();
    caller.goes_on(&pair);
    let said = || {
        let log = pair.process(victim).log();
        let says = ["nothing was executed here", "removed: the other CoServer goes on alone"];
        if says.iter().any(|why| log.contains(why)) { Ok(()) } else { Err(log) }
    };
    wait_for(DEADLINE, said).unwrap_or_else(|log| panic!("it does not say why: {log}"));
    let accuses = |pair: &mut Pair| {
        let log = pair.process(victim).log();
        log.contains("event=\"suspected\"")
    };
    assert!(!accuses(&mut pair), "it has no reason to accuse the other{}", pair.logs());
    pair.wait_for_duplex();
    let after = pair.status(victim).unwrap();
    assert_eq!(after["pid"], before["pid"], "the hung thread ended with its program");
    assert_ne!(after["incarnation"], before["incarnation"]);
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn a_follower_whose_service_hangs_is_out_and_comes_back() {
    hang(|pair| if pair.status(A).unwrap()["sequencer"] == "a" { B } else { A });
}

#[test]
fn a_sequencer_whose_service_hangs_is_out_and_comes_back() {
    hang(|pair| if pair.status(A).unwrap()["sequencer"] == "a" { A } else { B });
}
