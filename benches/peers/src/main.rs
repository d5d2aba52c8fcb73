//! Peers to measure lockstep against, as parts of its latency benchmark.
//!
//! Not for use by hand: `latency` of `lockstep-benches` starts this program
//! with the word `part`. What the parts are is written in `benches/README.md`.

mod client;
mod group;
mod network;
mod node;

use std::io::Write;
use std::process::ExitCode;

use lockstep_benches::part::{PART_WORD, PartError, play};

/// The exit code for a command line that is wrong.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|word| word != PART_WORD) {
        let _ = writeln!(
            std::io::stderr(),
            "lockstep-peers: started by the latency command: \
             cargo run --release -p lockstep-benches --bin latency"
        );
        return ExitCode::from(WRONG_USAGE);
    }
    play(arguments, |part| match part.options.kind.as_str() {
        "raft-node" => node::play(&part).map(|()| None),
        "raft-client" => client::play(&part).map(Some),
        other => Err(PartError::Arguments(format!("no part is called {other}"))),
    })
}
