//! The program: the parts of a pair, and a client's commands.
//!
//! The commands of [`lockstep::runtime::cli`] run the parts; those of this module ask.

mod args;
mod ask;
mod histories;

use std::io::Write;
use std::process::ExitCode;

use lockstep::ids::ReplicaId;
use lockstep::runtime::cli::{self, Application, BuildError, Program};
use lockstep::runtime::config::Section;
use lockstep::runtime::coserver::Devices;
use lockstep::runtime::exit::Exit;

use crate::service::Register;
use args::{Check, Command};

/// The service refused what was asked. The number is stable.
pub const REFUSED: u8 = 20;

/// The history cannot have come from one register service.
pub const VIOLATED: u8 = 21;

/// The history could not be checked to the end.
pub const UNDECIDED: u8 = 22;

/// The program and its service.
pub struct App;

impl Application for App {
    type Service = Register;

    fn program(&self) -> Program {
        Program {
            name: "register",
            version: env!("CARGO_PKG_VERSION"),
            about: "Registers and queues on two servers at once.",
        }
    }

    fn build(&self, _: ReplicaId, own: Section) -> Result<(Register, Devices), BuildError> {
        own.finish()?;
        Ok((Register::new(), Devices::default()))
    }
}

/// A command that failed: what is said, and how the process ends.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(exit: Exit, error: &dyn std::error::Error) -> Self {
        Self { message: cli::chain(error), code: exit.code() }
    }
}

/// Runs the program with the arguments that it was started with.
pub fn main() -> ExitCode {
    cli::run(&App, std::env::args_os().skip(1), |command| {
        carry_out(command).unwrap_or_else(|failure| {
            let _ = writeln!(std::io::stderr().lock(), "register: {}", failure.message);
            failure.code
        })
    })
}

/// The exit code, if it did not fail.
fn carry_out(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Ask(ask) => {
            let (client, op) = ask.split();
            ask::ask(&client, &op)
        }
        Command::Record(record) => histories::record(&record),
        Command::Check(Check { file, states, json }) => histories::check(&file, states, json),
    }
}

/// On standard output. A reader that has gone away wants no more.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
