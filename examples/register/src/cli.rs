//! The program: the parts of a pair, and a client's commands.
//!
//! The subcommands of [`lockstep::runtime::cli`] run the parts; those of this module ask.

mod args;
mod ask;
mod histories;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use lockstep::ids::Place;
use lockstep::runtime::cli::{self, Application, BuildError, Program};
use lockstep::runtime::config::Section;
use lockstep::runtime::coserver::Devices;
use lockstep::runtime::exit::Exit;

use crate::service::Register;
use args::Command;

/// The service refused what was asked. The number is stable.
pub const REFUSED: u8 = 20;

/// The history cannot have come from one register service.
pub const VIOLATED: u8 = 21;

/// The history could not be checked to the end.
pub const UNDECIDED: u8 = 22;

const USAGE: &str = "  get NAME                    a register's value
  set NAME VALUE              give it one; prints the one before
  cas NAME EXPECTED VALUE     give it one if it has the expected one; `-` for none
  add NAME DELTA              add to it
  push QUEUE TEXT             put a text at the end of a queue
  pop QUEUE                   take the first one out
  peek QUEUE                  the first one, which stays
  len QUEUE                   how many there are
  remind QUEUE TIME TEXT      put a text into a queue after so long, as in 1500ms
  random BELOW                a random number
  now                         log time
  info                        how much there is of everything
  record                      drive the pair with many clients, write down what they saw
  check FILE                  whether a history is linearizable, and all took effect once

the client's commands
    [--config FILE]                     its configuration, client.toml if not said
    [--timeout TIME]                    how long to wait for an answer; 10s if not said
    [--json]                            answer in JSON
record --out FILE
    [--ops N] [--seconds N] [--clients K] [--pipeline P] [--keys R] [--pause TIME] [--seed S]
    [--prefix TEXT]                     of the names used, so that histories do not meet
check FILE
    [--states N] [--json]               how long to search, in states for each name

More exit codes: 20 refused by the service, 21 violation in the history, 22 history not decided";

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

    fn build(&self, _: Place, own: Section) -> Result<(Register, Devices), BuildError> {
        own.finish()?;
        Ok((Register::new(), Devices::default()))
    }

    fn usage(&self) -> &str {
        USAGE
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

    fn usage(message: impl Into<String>) -> Self {
        Self { message: format!("{}; see --help", message.into()), code: Exit::Usage.code() }
    }
}

/// Runs the program with the arguments that it was started with.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    run(&arguments).into()
}

/// Runs the program with these arguments, its own name left out; its exit code.
pub fn run(arguments: &[OsString]) -> u8 {
    match Command::parse(arguments) {
        Ok(None) => cli::run(&App, arguments.iter().cloned()).code(),
        Ok(Some(command)) => carry_out(command).unwrap_or_else(|failure| {
            let _ = writeln!(std::io::stderr().lock(), "register: {}", failure.message);
            failure.code
        }),
        Err(failure) => {
            let _ = writeln!(std::io::stderr().lock(), "register: {}", failure.message);
            failure.code
        }
    }
}

fn carry_out(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Ask { client, op } => ask::ask(&client, &op),
        Command::Record { client, plan, prefix, out } => {
            histories::record(&client, &plan, &prefix, &out)
        }
        Command::Check { file, states, json } => histories::check(&file, states, json),
    }
}

/// On standard output. A reader that has gone away wants no more.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
