//! The program's command line: [`lockstep::runtime::cli`]'s commands, `sink` and `demo`.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};
use lockstep::runtime::cli::{self, Guards, chain};
use lockstep::runtime::exit::Exit;

use crate::app::RelayApp;
use crate::demo::{self, DemoOptions, Victim};
use crate::sink::{self, SinkError, SinkOptions};

/// Runs the program with the arguments that it was started with.
pub fn main() -> ExitCode {
    run(std::env::args_os().skip(1).collect()).into()
}

/// Runs the program with these arguments, its own name left out. Without any, that is the
/// demonstration.
pub fn run(args: Vec<OsString>) -> Exit {
    let rest = args.iter().skip(1);
    let asks_for_help = rest.clone().any(|arg| arg == "--help" || arg == "-h");
    let result = match args.first().and_then(|first| first.to_str()) {
        None => run_demo(&mut Parser::from_args(args)),
        Some("demo") if !asks_for_help => run_demo(&mut Parser::from_args(rest)),
        Some("sink") if !asks_for_help => run_sink(&mut Parser::from_args(rest)),
        Some("demo" | "sink") => return cli::run(&RelayApp::default(), ["--help".into()]),
        Some(_) => return cli::run(&RelayApp::default(), args),
    };
    result.unwrap_or_else(|(exit, message)| {
        let _ = writeln!(std::io::stderr().lock(), "mail-relay: {message}");
        exit
    })
}

type Failed = (Exit, String);

fn usage(error: impl std::fmt::Display) -> Failed {
    (Exit::Usage, format!("{error}; see --help"))
}

fn run_sink(parser: &mut Parser) -> Result<Exit, Failed> {
    let (options, guards) = sink_options(parser).map_err(usage)?;
    guards.apply().map_err(|error| (Exit::from(&error), error.to_string()))?;
    let runtime = runtime().map_err(|error| (Exit::System, error.to_string()))?;
    match runtime.block_on(sink::run(options)) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.is_unheard() => Ok(Exit::Done),
        Err(error @ SinkError::Listen { .. }) => Err((Exit::Unavailable, chain(&error))),
        Err(error) => Err((Exit::Storage, chain(&error))),
    }
}

fn sink_options(parser: &mut Parser) -> Result<(SinkOptions, Guards), lexopt::Error> {
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 2525));
    let mut options = SinkOptions { listen, directory: None };
    let mut guards = Guards::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("listen") => options.listen = parser.value()?.parse()?,
            Arg::Long("directory") => options.directory = Some(parser.value()?.into()),
            Arg::Long("die-with-parent") => guards.die_with_parent = Some(parser.value()?.parse()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok((options, guards))
}

fn run_demo(parser: &mut Parser) -> Result<Exit, Failed> {
    let options = demo_options(parser).map_err(usage)?;
    options.check().map_err(usage)?;
    let runtime = runtime().map_err(|error| (Exit::System, error.to_string()))?;
    let kept = runtime.block_on(demo::run(options));
    kept.map_err(|error| (Exit::Unavailable, chain(&error)))
}

fn demo_options(parser: &mut Parser) -> Result<DemoOptions, lexopt::Error> {
    let mut options = DemoOptions::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("kill") => {
                let text = parser.value()?.string()?;
                options.victim = Victim::parse(&text).ok_or_else(|| {
                    format!("--kill {text:?}: write a, b, sequencer, follower or none")
                })?;
            }
            Arg::Long("seconds") => options.seconds = parser.value()?.parse()?,
            Arg::Long("rate") => options.rate = parser.value()?.parse()?,
            Arg::Long("size") => options.size = parser.value()?.parse()?,
            Arg::Long("connections") => options.connections = parser.value()?.parse()?,
            Arg::Long("keep") => options.keep = true,
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
