//! The command line of every program that embeds the library.
//!
//! A program implements [`Application`] and calls [`main`]; it then has the commands `init`,
//! `coserver`, `witness`, `status`, `metrics`, `hand-over`, `readmit`, `stop`, `replace-peer`,
//! `replace-key`, `enrol`, `new-lineage`, `completions` and `man`. A program with commands of its
//! own describes them with [`clap`] and calls [`run`].
//!
//! ```no_run
//! # use lockstep::machine::StateMachine;
//! use lockstep::ids::ReplicaId;
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
//!     fn build(&self, _: ReplicaId, mut own: Section) -> Result<(Counter, Devices), BuildError> {
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
//!
//! With a command of its own, which `--help`, the completions and the manual pages then show:
//!
//! ```no_run
//! # mod program {
//! # use lockstep::ids::ReplicaId;
//! # use lockstep::runtime::cli::{Application, BuildError, Program};
//! # use lockstep::runtime::config::Section;
//! # use lockstep::runtime::coserver::Devices;
//! # pub struct Counting;
//! # pub struct Counter;
//! # impl lockstep::machine::StateMachine for Counter {
//! #     type Frozen = lockstep::bytes::Bytes;
//! #     fn identity(&self) -> lockstep::machine::Identity { unimplemented!() }
//! #     fn step(&mut self, _: &mut lockstep::machine::Context<'_>, _: lockstep::machine::Step<'_>)
//! #         -> lockstep::bytes::Bytes { unimplemented!() }
//! #     fn freeze(&self) -> lockstep::bytes::Bytes { unimplemented!() }
//! #     fn restore(&mut self, _: &mut dyn lockstep::machine::RecordSource)
//! #         -> Result<(), lockstep::machine::RestoreError> { Ok(()) }
//! # }
//! # impl Application for Counting {
//! #     type Service = Counter;
//! #     fn program(&self) -> Program { unimplemented!() }
//! #     fn build(&self, _: ReplicaId, _: Section) -> Result<(Counter, Devices), BuildError> {
//! #         unimplemented!()
//! #     }
//! # }
//! # }
//! # use program::Counting;
//! use std::process::ExitCode;
//!
//! use lockstep::clap::{self, Subcommand};
//!
//! #[derive(Subcommand)]
//! enum Command {
//!     /// Print this text, so often
//!     Echo {
//!         text: String,
//!         #[arg(long, default_value_t = 1)]
//!         times: usize,
//!     },
//! }
//!
//! fn main() -> ExitCode {
//!     let arguments = std::env::args_os().skip(1);
//!     lockstep::runtime::cli::run(&Counting, arguments, |command| match command {
//!         Command::Echo { text, times } => {
//!             println!("{}", text.repeat(times));
//!             ExitCode::SUCCESS
//!         }
//!     })
//! }
//! ```

mod args;
mod commands;
mod flags;
mod guardian;
mod human;
mod objects;
mod pages;
mod process;
mod processes;
mod rejoin;
mod reload;
mod reset;
mod starting;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;

use clap::{FromArgMatches, Subcommand};

use super::config::{ConfigError, Section};
use super::coserver::Devices;
use super::exit::Exit;
use super::init::{Ports, ServiceSections};
pub use crate::causes::chain;
use crate::exhaustion::Exhaustion;
use crate::ids::ReplicaId;
use crate::machine::StateMachine;

use args::{Command, NOTES};
use flags::UsageError;
pub use process::{GuardError, Guards, Heard, Reload, Signals};
pub use processes::{PartError, run_coserver, run_witness};

/// What a program is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name on the command line.
    pub name: &'static str,
    /// The program's version, as `--version` prints it.
    pub version: &'static str,
    /// What the program does, in a sentence.
    pub about: &'static str,
}

/// A program that runs a service in lockstep.
pub trait Application {
    /// The service that the program runs.
    type Service: StateMachine;

    /// The program's name, version and purpose.
    fn program(&self) -> Program;

    /// Makes the service, and the outside halves of its devices, from the section `[service]` of
    /// a CoServer's file.
    ///
    /// # Errors
    /// If the section cannot be used, or something that the service needs is not there.
    fn build(&self, place: ReplicaId, own: Section)
    -> Result<(Self::Service, Devices), BuildError>;

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
}

/// A service cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The service's own section of the file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The service cannot be made for another reason.
    #[error("the service cannot be made")]
    Other(#[source] Box<dyn Error + Send + Sync>),
}

impl BuildError {
    /// Something that is no fault of the configuration, such as an address in use.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

/// Runs the program with the arguments that it was started with. The program has the commands that
/// every program has, and no others.
pub fn main<A: Application>(app: &A) -> ExitCode {
    run(app, std::env::args_os().skip(1), |none: Infallible| -> ExitCode { match none {} })
}

/// Runs the program with these arguments, its own name left out. The program has the commands that
/// every program has, and those of `C`, which `own` carries out. What goes wrong is said on
/// standard error.
///
/// `--help` shows the commands of `C` behind the others, and what `C` says by `after_help` behind
/// the exit codes. The program's commands need other names than those that every program has.
pub fn run<A, C, E>(
    app: &A,
    arguments: impl IntoIterator<Item = OsString>,
    own: impl FnOnce(C) -> E,
) -> ExitCode
where
    A: Application,
    C: Subcommand,
    E: Into<ExitCode>,
{
    let program = app.program();
    let definition = definition::<C>(&program);
    let done = match parse(definition.clone(), arguments) {
        Ok(Any::Own(command)) => return own(command).into(),
        Ok(Any::Shared(command)) => command.carry_out(app, definition),
        Err(answer) if !answer.use_stderr() => {
            print(answer.render().to_string().trim_end());
            Ok(Exit::Done)
        }
        Err(wrong) => Err(Failure::usage(&wrong)),
    };
    let exit = done.unwrap_or_else(|failure| {
        say(&format!("{}: {}", program.name, failure.message));
        failure.exit
    });
    exit.into()
}

/// A command of every program, or one of this program's own.
#[derive(Subcommand)]
enum Any<C: Subcommand> {
    #[command(flatten)]
    Shared(Box<Command>),
    #[command(flatten)]
    Own(C),
}

fn definition<C: Subcommand>(program: &Program) -> clap::Command {
    let own = C::augment_subcommands(clap::Command::new(program.name));
    let notes = match own.get_after_help() {
        Some(own) => format!("{NOTES}\n{own}"),
        None => NOTES.into(),
    };
    Any::<C>::augment_subcommands(clap::Command::new(program.name))
        .version(program.version)
        .about(program.about)
        .long_about(None)
        .after_help(notes)
        .subcommand_required(true)
}

fn parse<C: Subcommand>(
    definition: clap::Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Any<C>, clap::Error> {
    let name = OsString::from(definition.get_name());
    let matches = definition.try_get_matches_from(iter::once(name).chain(arguments))?;
    Any::from_arg_matches(&matches)
}

/// Why a command failed: what is said, and how the process ends.
#[derive(Debug)]
struct Failure {
    message: String,
    exit: Exit,
}

impl Failure {
    /// What a command line that does not read well gets to hear, under this program's name.
    fn usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end().into();
        Self { message, exit: Exit::Usage }
    }
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

/// Written on standard error; a failure of that cannot be reported.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// On standard output. A reader that has gone away wants no more.
fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}
