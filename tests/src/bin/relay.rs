//! The mail relay's own program, so that tests can start it.

fn main() -> std::process::ExitCode {
    mail_relay::cli::main()
}
