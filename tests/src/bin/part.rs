//! The parts of a pair as processes, for the tests: CoServers that run an echo service, their
//! witness, and the commands around them.

fn main() -> std::process::ExitCode {
    lockstep::runtime::cli::main(&lockstep_tests::echo::Parts)
}
