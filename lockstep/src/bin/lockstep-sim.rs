//! Runs the pair in a simulated world; see `docs/simulator.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A reader that has gone away is no failure of the campaign.
    lockstep::sim::command::main().map_or(ExitCode::FAILURE, ExitCode::from)
}
