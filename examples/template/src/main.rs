//! The program: the commands that every program on lockstep has, and one that asks the pair.

mod service;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lockstep::clap::{self, Subcommand};
use lockstep::client::blocking::Session;
use lockstep::client::session::Settings;
use lockstep::ids::ReplicaId;
use lockstep::runtime::cli::{self, Application, BuildError, Program};
use lockstep::runtime::config::{ClientConfig, Overrides, Section};
use lockstep::runtime::coserver::Devices;

use service::Counters;

struct App;

impl Application for App {
    type Service = Counters;

    fn program(&self) -> Program {
        Program {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            about: "Counts, on two servers at once.",
        }
    }

    /// From the section `[service]` of `a.toml` or `b.toml`. Settings would be taken from it here,
    /// and their digest go into the service's identity: both CoServers must have the same.
    fn build(&self, _: ReplicaId, own: Section) -> Result<(Counters, Devices), BuildError> {
        own.finish()?;
        Ok((Counters::default(), Devices::default()))
    }
}

/// The commands of this program's own.
#[derive(Subcommand)]
enum Command {
    /// Send a request to the pair and print the answer
    Ask {
        /// The client's configuration: the client.toml that `init` has made
        config: PathBuf,
        /// The text of the request
        text: String,
    },
}

fn main() -> ExitCode {
    cli::run(&App, std::env::args_os().skip(1), |command| match command {
        Command::Ask { config, text } => match ask(&config, text) {
            Ok(answer) => {
                println!("{answer}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                // With its causes. A `main` that returns the error would print it for programmers.
                eprintln!("{}: {}", App.program().name, cli::chain(&*error));
                ExitCode::FAILURE
            }
        },
    })
}

/// Sends one request. It takes effect once, whichever CoServer dies meanwhile.
fn ask(config: &Path, text: String) -> Result<String, Box<dyn Error>> {
    let config = ClientConfig::read(config, &Overrides::new())?;
    let session = Session::open(Settings::new(config.pair, config.coservers, config.credentials))?;
    let answer = session.request(text)?;
    session.close()?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
