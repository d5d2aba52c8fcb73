//! The program: the commands that every program on lockstep has, and one that asks the pair.

mod service;

use std::error::Error;
use std::process::ExitCode;

use lockstep::client::blocking::Session;
use lockstep::client::session::Settings;
use lockstep::ids::Place;
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
    fn build(&self, _: Place, own: Section) -> Result<(Counters, Devices), BuildError> {
        own.finish()?;
        Ok((Counters::default(), Devices::default()))
    }

    fn usage(&self) -> &str {
        "  ask           send a request to the pair and print the answer\n\n\
         ask CLIENT_TOML TEXT"
    }
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.collect();
    match &arguments[..] {
        [command, config, text] if command == "ask" => match ask(config, text) {
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
        _ => cli::main(&App),
    }
}

/// Sends one request. It takes effect once, whichever CoServer dies meanwhile.
fn ask(config: &str, text: &str) -> Result<String, Box<dyn Error>> {
    let config = ClientConfig::read(config.as_ref(), &Overrides::new())?;
    let session = Session::open(Settings::new(config.pair, config.coservers, config.credentials))?;
    let answer = session.request(text.to_owned())?;
    session.close()?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
