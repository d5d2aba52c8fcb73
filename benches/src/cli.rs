//! The command line of `latency` and the run it asks for; and what the programs that measure a
//! [real pair](crate::realpair) do with theirs.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::Arg::{Long, Short};
use lexopt::ValueExt;

use crate::harness::{self, Setup, locate_peers};
use crate::placement::{Placement, PlacementError};
use crate::realpair::{self, AnyError, ROLE_WORD};
use crate::report::{Conditions, Figures, Report, RowReport};
use crate::rows::{self, Row};
use crate::trips::{Load, LoadError};

/// What `--help` prints.
pub const HELP: &str = "\
Round trips of several kinds, all in one run with the same placement.

  cargo run --release -p lockstep-benches --bin latency -- [OPTION...]

  --rows A,B,C     only these rows (--list names them)
  --rounds N       rounds per row, interleaved (5)
  --trips N        trips counted per round (5000)
  --depth D        messages in flight (1)
  --size BYTES     bytes per message (64)
  --cores A,B      the cores of A and B (the first two allowed; may be equal)
  --client CORE    the core of the client, or `free` (free)
  --links N        links between the CoServers, 1 to 4 (2)
  --disk DIR       where rows that write to a disk do so (the system's temporary directory)
  --peers PATH     the program of benches/peers, if it is not where cargo puts it
  --json           print JSON instead of a table
  --list           name the rows and stop
  --help           print this and stop

Exit codes: 0 measured, 1 a round failed, 2 the command line is wrong.
";

/// The exit code for a wrong command line.
pub const WRONG_USAGE: u8 = 2;

/// The most rounds of a run.
const MAX_ROUNDS: usize = 1_000;

/// The most links that the benchmark gives a pair.
const MAX_LINKS: u8 = 4;

/// The `main` of a program that measures a real pair. It plays a role of that if its first word says
/// so; else it measures what `parse` makes of its words, or prints its help where that is nothing.
/// Prints what `measure` returns.
pub fn main_of<O>(
    name: &str,
    help: &str,
    parse: impl FnOnce(Vec<OsString>) -> Result<Option<O>, lexopt::Error>,
    measure: impl FnOnce(&O) -> Result<String, AnyError>,
) -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == ROLE_WORD) {
        let words: Vec<_> = words[1..].iter().map(|w| w.to_string_lossy().into_owned()).collect();
        return realpair::play(&words);
    }
    let found = match parse(words) {
        Ok(Some(options)) => measure(&options),
        Ok(None) => Ok(help.to_owned()),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error}; see --help");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match found {
        Ok(text) => {
            // A reader that went away has what it wanted.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Print [`HELP`].
    Help,
    /// Name the rows.
    List,
    /// Measure.
    Run(Options),
}

/// What to measure, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// JSON instead of a table.
    pub json: bool,
    /// Rounds per row.
    pub rounds: usize,
    /// The trips of one round.
    pub load: Load,
    /// Rows by name; `None` for all.
    pub rows: Option<Vec<String>>,
    /// The cores of A and B.
    pub cores: Option<(usize, usize)>,
    /// The core of the client.
    pub client: Option<usize>,
    /// Links between the CoServers.
    pub links: u8,
    /// Where rows that write to a disk do so; `None` for the system's temporary directory.
    pub disk: Option<PathBuf>,
    /// The peers' program.
    pub peers: Option<PathBuf>,
}

/// A command line that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// An unknown option, or a value that is not one.
    #[error("{0}; see --help")]
    Syntax(#[from] lexopt::Error),
    /// A load out of bounds.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No rounds, or too many.
    #[error("{0} rounds; give 1 to {MAX_ROUNDS}")]
    Rounds(usize),
    /// A row that does not exist.
    #[error("no row is called {name:?}; there are {known:?}")]
    Row {
        /// The name given.
        name: String,
        /// The rows there are.
        known: Vec<&'static str>,
    },
    /// No links, or too many.
    #[error("--links {0}: give 1 to {MAX_LINKS}")]
    Links(u8),
    /// Not two cores.
    #[error("--cores {0:?}: give two core numbers, as in 0,1")]
    Cores(String),
    /// Not a core.
    #[error("--client {0:?}: give a core number, or free")]
    Client(String),
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

impl Request {
    /// Reads the arguments after the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut options = Options {
            json: false,
            rounds: 5,
            load: Load { trips: 5_000, depth: 1, size: 64 },
            rows: None,
            cores: None,
            client: None,
            links: 2,
            disk: None,
            peers: None,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("json") => options.json = true,
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("trips") => options.load.trips = parser.value()?.parse()?,
                Long("depth") => options.load.depth = parser.value()?.parse()?,
                Long("size") => options.load.size = parser.value()?.parse()?,
                Long("rows") => options.rows = Some(names(&parser.value()?.string()?)?),
                Long("cores") => options.cores = Some(two_cores(parser.value()?.string()?)?),
                Long("client") => options.client = client(parser.value()?.string()?)?,
                Long("links") => options.links = parser.value()?.parse()?,
                Long("disk") => options.disk = Some(parser.value()?.into()),
                Long("peers") => options.peers = Some(parser.value()?.into()),
                Long("list") => return Ok(Self::List),
                Long("help") | Short('h') => return Ok(Self::Help),
                other => return Err(other.unexpected().into()),
            }
        }
        options.load.checked()?;
        if !(1..=MAX_LINKS).contains(&options.links) {
            return Err(UsageError::Links(options.links));
        }
        if !(1..=MAX_ROUNDS).contains(&options.rounds) {
            return Err(UsageError::Rounds(options.rounds));
        }
        Ok(Self::Run(options))
    }
}

fn names(list: &str) -> Result<Vec<String>, UsageError> {
    let known: Vec<_> = rows::all().iter().map(|row| row.name()).collect();
    let names: Vec<_> = list.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(UsageError::Row { name: name.clone(), known }),
        None => Ok(names),
    }
}

fn two_cores(text: String) -> Result<(usize, usize), UsageError> {
    let parts = text
        .split_once(',')
        .and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    parts.ok_or(UsageError::Cores(text))
}

fn client(text: String) -> Result<Option<usize>, UsageError> {
    match text.as_str() {
        "free" => Ok(None),
        core => core.parse().map(Some).map_err(|_| UsageError::Client(text)),
    }
}

impl Options {
    fn setup(&self) -> Result<Setup, UsageError> {
        let placement = match self.cores {
            Some((a, b)) => Placement { a, b, client: self.client },
            None => Placement { client: self.client, ..Placement::first_two_cores()? },
        };
        placement.check()?;
        let own = std::env::current_exe().map_err(UsageError::Own)?;
        let peers = locate_peers(self.peers.as_deref(), &own).map_err(UsageError::Peers)?;
        let disk = self.disk.clone().unwrap_or_else(std::env::temp_dir);
        if !disk.is_dir() {
            return Err(UsageError::Disk(disk));
        }
        Ok(Setup { placement, load: self.load, links: self.links, disk, own, peers })
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
        let setup = self.setup()?;
        let rows = self.chosen();
        let figures = |histogram: &_| Figures::of(histogram, self.load.depth);
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
        let conditions = Conditions::here(self.rounds, self.load, setup.placement);
        Ok(Report::new(conditions, reports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, UsageError> {
        Request::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let line = "--json --rounds 2 --trips 9 --depth 3 --size 100 --rows udp,quinn \
                    --cores 1,0 --client 1 --links 1 --disk /d --peers /p";
        let Request::Run(options) = parse(line).unwrap() else { panic!("not a run") };
        let expected = Options {
            json: true,
            rounds: 2,
            load: Load { trips: 9, depth: 3, size: 100 },
            rows: Some(vec!["udp".to_owned(), "quinn".to_owned()]),
            cores: Some((1, 0)),
            client: Some(1),
            links: 1,
            disk: Some("/d".into()),
            peers: Some("/p".into()),
        };
        assert_eq!(options, expected);
        assert_eq!(parse("--list").unwrap(), Request::List);
        assert_eq!(parse("-h").unwrap(), Request::Help);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            ("--rows nonsense", "no row is called \"nonsense\""),
            ("--trips 0", "0 trips"),
            ("--trips many", "many"),
            ("--rounds 0", "0 rounds"),
            ("--size 1", "messages of 1 bytes"),
            ("--depth 4096 --size 60000", "bytes in flight"),
            ("--links 0", "--links 0"),
            ("--links 5", "--links 5"),
            ("--cores 1", "--cores"),
            ("--client somewhere", "--client"),
            ("--verbose", "--verbose"),
            ("surplus", "surplus"),
        ] {
            let message = parse(line).unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
