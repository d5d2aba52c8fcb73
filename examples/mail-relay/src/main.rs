//! The always-on mail relay: see [`mail_relay::cli`].

fn main() -> std::process::ExitCode {
    mail_relay::cli::main()
}
