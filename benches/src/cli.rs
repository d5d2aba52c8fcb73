//! The command line of `latency` and the run it asks for; and what the programs that measure a
//! [real pair](crate::realpair) do with theirs.

use std::io::{self, Write};
use std::num::ParseIntError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lockstep::clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use lockstep::clap::{self, Parser, value_parser};

use crate::harness::{self, Setup, locate_peers};
use crate::placement::{Placement, PlacementError};
use crate::realpair::{self, AnyError, ROLE_WORD};
use crate::report::{Conditions, Figures, Report, RowReport};
use crate::rows::{self, Row};
use crate::trips::{Load, LoadError};

/// The exit code for a wrong command line.
pub const WRONG_USAGE: u8 = 2;

/// The `main` of a program that measures a real pair. It plays a role of that if its first word
/// says so; else it measures what its command line asks for. Prints what `measure` returns.
pub fn main_of<O: Parser>(measure: impl FnOnce(&O) -> Result<String, AnyError>) -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == ROLE_WORD) {
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        return realpair::play(&words);
    }
    let options = match O::try_parse() {
        Ok(options) => options,
        Err(answer) => return unread(&answer),
    };
    match measure(&options) {
        Ok(text) => {
            // A reader that went away has what it wanted.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", O::command().get_name());
            ExitCode::FAILURE
        }
    }
}

/// Prints a line of what was measured.
///
/// # Errors
/// If nobody reads it.
pub fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Says how far it is. Progress that nobody can read is no reason to stop.
pub fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Says why a command line asks for nothing: it is wrong, or asks for help.
pub fn unread(answer: &clap::Error) -> ExitCode {
    // There is nobody to tell if that fails.
    let _ = answer.print();
    match answer.use_stderr() {
        true => ExitCode::from(WRONG_USAGE),
        false => ExitCode::SUCCESS,
    }
}

/// Reads a whole number of milliseconds.
///
/// # Errors
/// If it is none.
pub fn milliseconds(text: &str) -> Result<Duration, ParseIntError> {
    text.parse().map(Duration::from_millis)
}

/// Reads a whole number of seconds.
///
/// # Errors
/// If it is none.
pub fn seconds(text: &str) -> Result<Duration, ParseIntError> {
    text.parse().map(Duration::from_secs)
}

/// Round trips of several kinds, all in one run with the same placement
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(
    name = "latency",
    override_usage = "cargo run --release -p lockstep-benches --bin latency -- [OPTIONS]",
    after_help = "Exit codes: 0 measured, 1 a round failed, 2 the command line is wrong."
)]
pub struct Options {
    /// Only these rows
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', value_parser = row_names())]
    pub rows: Option<Vec<String>>,
    /// Rounds per row, interleaved, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub rounds: usize,
    /// Trips counted per round
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    trips: u64,
    /// Messages in flight
    #[arg(long, value_name = "D", default_value_t = 1)]
    depth: usize,
    /// Bytes per message
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    size: usize,
    /// The cores of A and B, which may be the same; the first two allowed if not said
    #[arg(long, value_name = "A,B", value_parser = two_cores)]
    pub cores: Option<(usize, usize)>,
    /// The core of the client, or `free`
    #[arg(long, value_name = "CORE", default_value = "free", value_parser = client)]
    pub client: ClientCore,
    /// Links between the CoServers, 1 to 4
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(1..=4))]
    pub links: u8,
    /// Where rows that write to a disk do so
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub disk: PathBuf,
    /// The program of benches/peers, if it is not where cargo puts it
    #[arg(long, value_name = "PATH")]
    pub peers: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Name the rows and stop
    #[arg(long)]
    pub list: bool,
}

/// Where the client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCore {
    /// The client runs where the system lets it.
    Free,
    /// On this core.
    On(usize),
}

impl ClientCore {
    fn core(self) -> Option<usize> {
        match self {
            Self::Free => None,
            Self::On(core) => Some(core),
        }
    }
}

/// A command line that reads well but cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A load out of bounds.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The named directory is not there.
    #[error("--disk {0:?}: no such directory; make it, or name another")]
    Disk(PathBuf),
    /// The named program is not there.
    #[error("--peers {0:?}: no such file; build it with `{build}`", build = harness::BUILD_PEERS)]
    Peers(PathBuf),
    /// This machine cannot give the placement.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// This program's own file cannot be found.
    #[error("cannot find this program's own file, which the parts run from: {0}")]
    Own(io::Error),
}

fn row_names() -> PossibleValuesParser {
    PossibleValuesParser::new(rows::all().iter().map(|row| row.name()))
}

fn two_cores(text: &str) -> Result<(usize, usize), &'static str> {
    let parts = text
        .split_once(',')
        .and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    parts.ok_or("give two core numbers, as in 0,1")
}

fn client(text: &str) -> Result<ClientCore, &'static str> {
    match text {
        "free" => Ok(ClientCore::Free),
        core => core.parse().map(ClientCore::On).map_err(|_| "give a core number, or free"),
    }
}

impl Options {
    /// What each round asks for.
    fn load(&self) -> Result<Load, LoadError> {
        Load { trips: self.trips, depth: self.depth, size: self.size }.checked()
    }

    fn setup(&self, load: Load) -> Result<Setup, UsageError> {
        let client = self.client.core();
        let placement = match self.cores {
            Some((a, b)) => Placement { a, b, client },
            None => Placement { client, ..Placement::first_two_cores()? },
        };
        placement.check()?;
        let own = std::env::current_exe().map_err(UsageError::Own)?;
        let peers = locate_peers(self.peers.as_deref(), &own).map_err(UsageError::Peers)?;
        let disk = self.disk.clone();
        if !disk.is_dir() {
            return Err(UsageError::Disk(disk));
        }
        Ok(Setup { placement, load, links: self.links, disk, own, peers })
    }

    fn chosen(&self) -> Vec<Box<dyn Row>> {
        let wanted = |row: &dyn Row| {
            self.rows.as_ref().is_none_or(|rows| rows.iter().any(|name| name == row.name()))
        };
        rows::all().into_iter().filter(|row| wanted(row.as_ref())).collect()
    }

    /// Measures every row in every round. Each round begins with another row,
    /// so that none always follows the same one. `progress` gets a line per round.
    pub fn run(&self, progress: &mut dyn Write) -> Result<Report, UsageError> {
        let load = self.load()?;
        let setup = self.setup(load)?;
        let rows = self.chosen();
        let figures = |histogram: &_| Figures::of(histogram, load.depth);
        let mut reports: Vec<_> = rows
            .iter()
            .map(|row| RowReport::new(row.name(), row.about(), row.unavailable(&setup)))
            .collect();
        for round in 0..self.rounds {
            // Progress that nobody can read is no reason to stop.
            let _ = writeln!(progress, "round {} of {}", round + 1, self.rounds);
            for turn in 0..rows.len() {
                let at = (round + turn) % rows.len();
                if reports[at].skipped.is_some() {
                    continue;
                }
                match harness::run(rows[at].as_ref(), &setup) {
                    Ok(histogram) => reports[at].rounds.push(Some(figures(&histogram))),
                    Err(error) => {
                        reports[at].rounds.push(None);
                        reports[at].failures.push(format!("round {}: {error}", round + 1));
                    }
                }
            }
        }
        let conditions = Conditions::here(self.rounds, load, setup.placement);
        Ok(Report::new(conditions, reports))
    }
}

#[cfg(test)]
mod tests {
    use lockstep::clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once("latency").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_holds_together() {
        Options::command().debug_assert();
    }

    #[test]
    fn options_are_read() {
        let line = "--json --rounds 2 --trips 9 --depth 3 --size 100 --rows udp,quinn \
                    --cores 1,0 --client 1 --links 1 --disk /d --peers /p";
        let expected = Options {
            json: true,
            list: false,
            rounds: 2,
            trips: 9,
            depth: 3,
            size: 100,
            rows: Some(vec!["udp".to_owned(), "quinn".to_owned()]),
            cores: Some((1, 0)),
            client: ClientCore::On(1),
            links: 1,
            disk: "/d".into(),
            peers: Some("/p".into()),
        };
        assert_eq!(parse(line).unwrap(), expected);
        let Options { rows, cores, client, list, .. } = parse("--list").unwrap();
        assert_eq!((rows, cores, client, list), (None, None, ClientCore::Free, true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            ("--rows nonsense", "'nonsense' for '--rows <A,B,C>'"),
            ("--rows quin", "a similar value exists: 'quinn'"),
            ("--trips many", "many"),
            ("--rounds 0", "0 is not in 1..=1000"),
            ("--links 0", "0 is not in 1..=4"),
            ("--links 5", "5 is not in 1..=4"),
            ("--cores 1", "as in 0,1"),
            ("--client somewhere", "a core number, or free"),
            ("--verbose", "--verbose"),
            ("surplus", "surplus"),
        ] {
            let message = parse(line).expect_err(line).to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
        for (line, part) in [
            ("--trips 0", "0 trips"),
            ("--size 1", "messages of 1 bytes"),
            ("--depth 4096 --size 60000", "bytes in flight"),
        ] {
            let message = parse(line).unwrap().load().unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
