//! Flags that several commands have, the values that they take, and what can be wrong with a
//! command line that reads well.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};

use super::process::Guards;
use crate::ids::{PairId, ReplicaId};
use crate::runtime::config::Overrides;
use crate::runtime::exit::Exit;
use crate::runtime::logging::{self, Filter, LogFormat};

/// The command line reads well, but cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsageError {
    /// Something is missing.
    #[error("{0} is missing; see --help")]
    Missing(&'static str),
    /// The command is for something else: what to do instead.
    #[error("{0}")]
    Instead(String),
    /// The log cannot be set up as the flags say.
    #[error(transparent)]
    Log(#[from] logging::LogError),
}

impl From<&UsageError> for Exit {
    fn from(_: &UsageError) -> Self {
        Exit::Usage
    }
}

/// The flags of a process that stays: its file, what takes the place of fields of it, its log and
/// its guards.
#[derive(Debug, Args)]
pub(super) struct ProcessFlags {
    /// The configuration of the process
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    log: Logging,
    #[command(flatten)]
    pub(super) guards: Guards,
}

/// A path on the command line is relative to where the command is given.
#[derive(Debug, Args)]
#[command(next_help_heading = "In place of fields of the file")]
struct Paths {
    /// Where the process keeps its data
    #[arg(long, value_name = "DIR", value_parser = absolute(), value_hint = ValueHint::DirPath)]
    directory: Option<String>,
    /// The process's own private key
    #[arg(long, value_name = "FILE", value_parser = absolute(), value_hint = ValueHint::FilePath)]
    key: Option<String>,
}

/// How a process logs.
#[derive(Debug, Args)]
#[command(next_help_heading = "The log, on standard error")]
struct Logging {
    /// What is shown: a level, or a list of `module=level`; goes before the file's `log`
    #[arg(long = "log", value_name = "FILTER")]
    filter: Option<String>,
    /// How a line looks
    #[arg(long = "log-format", value_name = "FORMAT", default_value = "text",
          value_parser = log_format())]
    format: LogFormat,
}

impl ProcessFlags {
    /// The paths that take the place of fields of the file.
    pub(super) fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::new();
        let Paths { directory, key } = &self.paths;
        for (field, flag, path) in [("directory", "--directory", directory), ("key", "--key", key)]
        {
            if let Some(path) = path {
                overrides.set(field, flag, path);
            }
        }
        overrides
    }

    /// Begins logging, as the command line says, else the configuration file, else by default.
    pub(super) fn begin_log(&self, configured: Option<&str>) -> Result<Filter, UsageError> {
        let Logging { filter, format } = &self.log;
        let shown = filter.as_deref().or(configured).unwrap_or(logging::DEFAULT_FILTER);
        Ok(logging::begin(shown, *format)?.fixed(filter.is_some()))
    }
}

/// What is to become of what is on a CoServer's disk.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "What is on the disk")]
pub(super) struct DiskFlags {
    /// Begin the new lineage with it
    #[arg(long, conflicts_with = "discard")]
    pub(super) adopt: bool,
    /// Begin with an empty disk; without --pair or --yes it only says what would be lost
    #[arg(long)]
    pub(super) discard: bool,
    /// Discard it if it is of this pair
    #[arg(long, value_name = "ID", requires = "discard")]
    pub(super) pair: Option<PairId>,
    /// Discard it whatever it is
    #[arg(long, requires = "discard")]
    pub(super) yes: bool,
}

/// Where the two ends of a link are, as the configuration has them.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    pub(super) local: String,
    pub(super) remote: String,
}

pub(super) fn ends(text: &str) -> Result<Ends, &'static str> {
    let (local, remote) =
        text.split_once(',').ok_or("write this side's address, a comma, and the other side's")?;
    Ok(Ends { local: local.into(), remote: remote.into() })
}

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(
        |_| "write an IP address with a port, as in 192.0.2.1:17400 or [2001:db8::1]:17400",
    )
}

pub(super) fn place() -> impl TypedValueParser<Value = ReplicaId> {
    PossibleValuesParser::new(["a", "b"]).try_map(|text| text.parse::<ReplicaId>())
}

fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"]).map(|text| match text.as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    })
}

fn absolute() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(|path: OsString| {
        let path = std::path::absolute(path).map_err(|_| "this is no path: write one")?;
        let text = path.into_os_string().into_string();
        text.map_err(|_| "the path is not UTF-8: choose another one")
    })
}
