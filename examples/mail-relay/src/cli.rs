//! The program's command line: [`lockstep::runtime::cli`]'s commands, `sink` and `demo`.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use lockstep::clap::{self, Subcommand};
use lockstep::runtime::cli::{self, Guards, chain};
use lockstep::runtime::exit::Exit;

use crate::app::RelayApp;
use crate::demo::{self, DemoOptions};
use crate::sink::{self, SinkError, SinkOptions};

/// A command of this program's own.
#[derive(Debug, Subcommand)]
enum Command {
    /// Take mail as a next hop would, and print what comes
    Sink {
        #[command(flatten)]
        options: SinkOptions,
        #[command(flatten)]
        guards: Guards,
    },
    /// Start a pair on this host, send mail, kill one CoServer, start it again, kill the other, and
    /// show what happened; also without any command
    Demo(DemoOptions),
}

/// Runs the program with the arguments that it was started with. Without any, that is
/// the demonstration.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() {
        arguments.push("demo".into());
    }
    cli::run(&RelayApp::default(), arguments, |command| {
        let result = match command {
            Command::Sink { options, guards } => run_sink(options, guards),
            Command::Demo(options) => run_demo(options),
        };
        result.unwrap_or_else(|(exit, message)| {
            let _ = writeln!(std::io::stderr().lock(), "mail-relay: {message}");
            exit
        })
    })
}

type Failed = (Exit, String);

fn run_sink(options: SinkOptions, guards: Guards) -> Result<Exit, Failed> {
    guards.apply().map_err(|error| (Exit::from(&error), error.to_string()))?;
    let runtime = runtime().map_err(|error| (Exit::System, error.to_string()))?;
    match runtime.block_on(sink::run(options)) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.is_unheard() => Ok(Exit::Done),
        Err(error @ SinkError::Listen { .. }) => Err((Exit::Unavailable, chain(&error))),
        Err(error) => Err((Exit::Storage, chain(&error))),
    }
}

fn run_demo(options: DemoOptions) -> Result<Exit, Failed> {
    let runtime = runtime().map_err(|error| (Exit::System, error.to_string()))?;
    let kept = runtime.block_on(demo::run(options));
    kept.map_err(|error| (Exit::Unavailable, chain(&error)))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
