//! The command line of every program that embeds the library.
//!
//! A program implements [`Application`] and calls [`main`]; it then has the subcommands `init`,
//! `coserver`, `witness`, `enrol`, `new-lineage`, `replace-peer`, `replace-key`, `status`, `metrics`,
//! `hand-over` and `stop`. Commands of its own it looks for before, and the rest it hands to [`run`].
//!
//! ```no_run
//! # use lockstep::machine::StateMachine;
//! use lockstep::ids::Place;
//! use lockstep::runtime::cli::{Application, BuildError, Program};
//! use lockstep::runtime::config::Section;
//! use lockstep::runtime::coserver::Devices;
//!
//! # struct Counter;
//! # impl Counter { fn new(_: u64) -> Self { Counter } }
//! # impl StateMachine for Counter {
//! #     type Frozen = F;
//! #     fn identity(&self) -> lockstep::machine::Identity { unimplemented!() }
//! #     fn step(&mut self, _: &mut lockstep::machine::Context<'_>, _: lockstep::machine::Step<'_>)
//! #         -> lockstep::bytes::Bytes { unimplemented!() }
//! #     fn freeze(&self) -> F { F }
//! #     fn restore(&mut self, _: &mut dyn lockstep::machine::RecordSource)
//! #         -> Result<(), lockstep::machine::RestoreError> { Ok(()) }
//! # }
//! # struct F;
//! # impl lockstep::machine::Freeze for F {
//! #     fn write(&self, _: &mut dyn lockstep::machine::RecordSink)
//! #         -> Result<(), lockstep::machine::SinkError> { Ok(()) }
//! # }
//! struct Counting;
//!
//! impl Application for Counting {
//!     type Service = Counter;
//!
//!     fn program(&self) -> Program {
//!         Program { name: "counting", version: "1.0.0", about: "Counts, on two servers at once." }
//!     }
//!
//!     fn build(&self, _: Place, mut own: Section) -> Result<(Counter, Devices), BuildError> {
//!         let first = own.optional("first", "where counting begins")?.unwrap_or(0);
//!         own.finish()?;
//!         Ok((Counter::new(first), Devices::default()))
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     lockstep::runtime::cli::main(&Counting)
//! }
//! ```

mod args;
mod commands;
mod discarding;
mod flags;
mod help;
mod human;
mod objects;
mod parts;
mod process;
mod reloading;
mod returning;
mod starting;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use super::config::{ConfigError, Section};
use super::coserver::Devices;
use super::exit::Exit;
use super::init::{Ports, ServiceSections};
pub use crate::causes::chain;
use crate::exhaustion::Exhaustion;
use crate::ids::Place;
use crate::machine::StateMachine;

pub use flags::{Logging, UsageError};
pub use parts::{PartError, run_coserver, run_witness};
pub use process::{GuardError, Guards, Heard, Reload, Signals};

/// What a program is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
}

/// A program that runs a service in lockstep.
pub trait Application {
    /// The service.
    type Service: StateMachine;

    /// Name and version.
    fn program(&self) -> Program;

    /// Makes the service, and the outside halves of its devices, from the section `[service]` of
    /// a CoServer's file.
    ///
    /// # Errors
    /// If the section cannot be used, or something that the service needs is not there.
    fn build(&self, place: Place, own: Section) -> Result<(Self::Service, Devices), BuildError>;

    /// The sections `[service]` that `init` writes, when a new pair is made: the text that
    /// [`build`](Self::build) will read, with a line of comment for each field. Listeners get
    /// their addresses from `ports`, one for each place. Without this they are empty.
    ///
    /// # Errors
    /// If there are no ports.
    fn init(&self, ports: &mut Ports) -> Result<ServiceSections, Box<dyn Error + Send + Sync>> {
        let _ = ports;
        Ok(ServiceSections::default())
    }

    /// Its own subcommands, for `--help`: lines of the form `  name   what it does`.
    fn usage(&self) -> &str {
        ""
    }
}

/// A service cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something else.
    #[error("the service cannot be made")]
    Other(#[source] Box<dyn Error + Send + Sync>),
}

impl BuildError {
    /// Something that is no fault of the configuration, such as an address in use.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

/// Runs the program with the arguments that it was started with.
pub fn main<A: Application>(app: &A) -> ExitCode {
    run(app, std::env::args_os().skip(1)).into()
}

/// Runs the program with these arguments, its own name left out. What goes wrong is said on
/// standard error.
pub fn run<A: Application>(app: &A, args: impl IntoIterator<Item = OsString>) -> Exit {
    match args::run(app, lexopt::Parser::from_args(args)) {
        Ok(exit) => exit,
        Err(failure) => {
            say(&format!("{}: {}", app.program().name, failure.message));
            failure.exit
        }
    }
}

/// Why a command failed: what is said, and how the process ends.
#[derive(Debug)]
struct Failure {
    message: String,
    exit: Exit,
}

impl<E: Error + 'static> From<E> for Failure
where
    for<'a> Exit: From<&'a E>,
{
    /// Where the process or the machine has run out of something, that is the cause, whatever it
    /// was wanted for.
    fn from(error: E) -> Self {
        let message = chain(&error);
        match Exhaustion::among(&error) {
            Some(what) if what.passes() => {
                Self { message: format!("{message}; {what}"), exit: Exit::System }
            }
            _ => Self { message, exit: Exit::from(&error) },
        }
    }
}

impl From<&BuildError> for Exit {
    fn from(error: &BuildError) -> Self {
        match error {
            BuildError::Config(_) => Exit::Config,
            BuildError::Other(_) => Exit::Unavailable,
        }
    }
}

/// On standard error; there is nobody to tell if that fails.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// On standard output. A reader that has gone away wants no more.
fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}
