//! Flags that several subcommands have, and what can be wrong with a command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::{Arg, Parser, ValueExt};

use super::process::Guards;
use crate::ids::PairId;
use crate::runtime::config::Overrides;
use crate::runtime::exit::Exit;
use crate::runtime::logging::{self, Filter, LogFormat};

/// The command line is wrong.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A flag without a value, or with one that it does not take.
    #[error("{0}; see --help")]
    Argument(#[from] lexopt::Error),
    /// Something is missing.
    #[error("{0} is missing; see --help")]
    Missing(&'static str),
    /// A value that cannot be used.
    #[error("{flag} {value:?}: {why}")]
    Value {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
        /// What is wrong, and what to write.
        why: String,
    },
    /// There is no such subcommand.
    #[error("there is no command {0:?}; see --help")]
    Command(String),
    /// Two that exclude each other, or none of them.
    #[error("give either {0}; see --help")]
    Either(&'static str),
    /// One flag, given more than once.
    #[error("{0} is given twice; leave one of the two out")]
    Twice(&'static str),
    /// The command is for something else: what to do instead.
    #[error("{0}")]
    Instead(String),
    /// Logging.
    #[error(transparent)]
    Log(#[from] crate::runtime::logging::LogError),
}

impl From<&UsageError> for Exit {
    fn from(_: &UsageError) -> Self {
        Exit::Usage
    }
}

/// How a process logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logging {
    /// The filter; see [`crate::runtime::logging`].
    pub filter: Option<String>,
    /// How a line looks.
    pub format: LogFormat,
}

impl Logging {
    /// Begins logging, as the command line says, else the configuration file, else by default.
    pub(super) fn begin(&self, configured: Option<&str>) -> Result<Filter, UsageError> {
        let filter = self.filter.as_deref().or(configured).unwrap_or(logging::DEFAULT_FILTER);
        Ok(logging::begin(filter, self.format)?.fixed(self.filter.is_some()))
    }
}

/// The flags of a process that stays: its file, what takes the place of fields of it, its guards
/// and its log.
#[derive(Debug, Default)]
pub(super) struct PartFlags {
    pub(super) config: Option<PathBuf>,
    pub(super) overrides: Overrides,
    pub(super) guards: Guards,
    pub(super) logging: Logging,
    /// What is asked of a CoServer beside running.
    pub(super) disk: DiskFlags,
    /// One that is out ends, instead of coming back.
    pub(super) no_return: bool,
    links: usize,
}

/// What is to become of what is on a CoServer's disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DiskFlags {
    pub(super) adopt: bool,
    pub(super) discard: bool,
    pub(super) yes: bool,
    pub(super) pair: Option<PairId>,
}

impl PartFlags {
    /// Takes all arguments. `addresses` are the flags that set a field to an address.
    pub(super) fn parse(
        parser: &mut Parser,
        addresses: &[&'static str],
        links: bool,
    ) -> Result<Self, UsageError> {
        let mut flags = Self::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("config") => config(&mut flags.config, parser)?,
                Arg::Long("directory") => {
                    flags.path("directory", "--directory", parser.value()?)?
                }
                Arg::Long("key") => flags.path("key", "--key", parser.value()?)?,
                Arg::Long("adopt") if links => flags.disk.adopt = true,
                Arg::Long("discard") if links => flags.disk.discard = true,
                Arg::Long("yes") if links => flags.disk.yes = true,
                Arg::Long("pair") if links => flags.disk.pair = Some(value(parser, "--pair")?),
                Arg::Long("no-return") if links => flags.no_return = true,
                Arg::Long("link") if links => flags.link(parser.value()?.string()?)?,
                Arg::Long("log") => flags.logging.filter = Some(parser.value()?.string()?),
                Arg::Long("log-format") => {
                    flags.logging.format = log_format(&parser.value()?.string()?)?;
                }
                Arg::Long("die-with-parent") => {
                    flags.guards.die_with_parent = Some(value(parser, "--die-with-parent")?);
                }
                Arg::Long("allow-core-dumps") => flags.guards.allow_core_dumps = true,
                Arg::Long(name) => match addresses.iter().find(|known| **known == name) {
                    Some(field) => {
                        let text = parser.value()?.string()?;
                        flags.overrides.set(field, format!("--{field}"), text);
                    }
                    None => return Err(Arg::Long(name).unexpected().into()),
                },
                other => return Err(other.unexpected().into()),
            }
        }
        flags.disk.check()?;
        Ok(flags)
    }

    pub(super) fn config(&self) -> Result<&PathBuf, UsageError> {
        self.config.as_ref().ok_or(UsageError::Missing("--config FILE"))
    }

    /// A path on the command line is relative to where the command is given.
    fn path(
        &mut self,
        field: &'static str,
        flag: &'static str,
        value: OsString,
    ) -> Result<(), UsageError> {
        let refused = |why: &str| UsageError::Value {
            flag: flag.into(),
            value: value.to_string_lossy().into_owned(),
            why: why.into(),
        };
        let path = std::path::absolute(&value).map_err(|_| refused("is no path; write one"))?;
        let text = path.to_str().ok_or_else(|| refused("is not UTF-8; choose another path"))?;
        self.overrides.set(field, flag, text);
        Ok(())
    }

    /// The first sets the first link's addresses, the second the second's.
    fn link(&mut self, value: String) -> Result<(), UsageError> {
        let Some((local, remote)) = value.split_once(',') else {
            let why = "write this side's address, a comma, and the other side's".into();
            return Err(UsageError::Value { flag: "--link".into(), value, why });
        };
        self.overrides.set_item(("links", self.links, "local"), "--link", local);
        self.overrides.set_item(("links", self.links, "remote"), "--link", remote);
        self.links += 1;
        Ok(())
    }
}

impl DiskFlags {
    fn check(self) -> Result<(), UsageError> {
        if self.adopt && self.discard {
            return Err(UsageError::Either("--adopt or --discard"));
        }
        if (self.yes || self.pair.is_some()) && !self.discard {
            return Err(UsageError::Missing("--discard, to which --yes and --pair belong,"));
        }
        Ok(())
    }
}

fn log_format(text: &str) -> Result<LogFormat, UsageError> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(UsageError::Value {
            flag: "--log-format".into(),
            value: text.into(),
            why: "write text or json".into(),
        }),
    }
}

/// Takes the file that `--config` names: there is one.
pub(super) fn config(file: &mut Option<PathBuf>, parser: &mut Parser) -> Result<(), UsageError> {
    match file.replace(parser.value()?.into()) {
        None => Ok(()),
        Some(_) => Err(UsageError::Twice("--config")),
    }
}

/// A flag's value by its own syntax.
pub(super) fn value<T>(parser: &mut Parser, flag: &str) -> Result<T, UsageError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    parsed(flag, parser.value()?.string()?, |text| text.parse().map_err(|e: T::Err| e.to_string()))
}

/// The same with a parser of its own.
pub(super) fn parsed<T>(
    flag: &str,
    value: String,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, UsageError> {
    parse(&value).map_err(|why| UsageError::Value { flag: flag.into(), value, why })
}
