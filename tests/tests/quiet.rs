//! Nothing normal is a warning: what belongs to a healthy pair's life is logged as news, or less.

use lockstep_tests::pair::{A, B, Pair, Part, SILENCE, WITNESS};

const PART: &str = env!("CARGO_BIN_EXE_part");

/// The warnings and errors that a process has logged.
fn loud(pair: &mut Pair, part: Part) -> Vec<String> {
    let log = pair.process(part).log();
    // A machine that lends a process no processor, or little memory, is not normal, and no test's
    // to mend.
    let is_loud = |line: &&str| {
        (line.contains(" WARN ") || line.contains(" ERROR "))
            && !["stalled", "memory_short"].iter().any(|name| line.contains(&format!("\"{name}\"")))
    };
    log.lines().filter(is_loud).map(String::from).collect()
}

#[test]
fn a_start_a_stop_and_a_rejoin_are_no_warnings() {
    let mut pair = Pair::init(PART, SILENCE);
    for part in [B, A] {
        pair.run(part);
        // It looks for the others, who are not there yet.
        pair.wait_for_mode(part, "starting");
    }
    pair.run(WITNESS);
    pair.wait_for_duplex();
    for (leaves, stays) in [(B, A), (A, B)] {
        pair.terminate(leaves);
        pair.wait_for_mode(stays, "simplex");
        pair.run(leaves);
        pair.wait_for_duplex();
    }
    pair.terminate(B);
    pair.wait_for_mode(A, "simplex");
    pair.terminate(A);
    pair.terminate(WITNESS);
    for part in [A, B, WITNESS] {
        let loud = loud(&mut pair, part);
        assert!(loud.is_empty(), "{}:\n{}", part.name(), loud.join("\n"));
    }
}
