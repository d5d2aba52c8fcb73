//! Which subcommand, and its arguments.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::flags::{PartFlags, UsageError, config as config_flag, parsed, value};
use super::{Application, Failure, commands, help, objects, parts, print};
use crate::ids::{PairId, Place};
use crate::runtime::config::parse_duration;
use crate::runtime::exit::Exit;
use crate::runtime::init::Plan;
use crate::runtime::keys::PublicKey;

/// How long a question to a running process waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long one that was told to stop is waited for: it leaves in good order, and refuses its
/// clients for a while.
const END_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn run<A: Application>(app: &A, mut parser: Parser) -> Result<Exit, Failure> {
    let first = parser.next().map_err(UsageError::from)?;
    let command = match first {
        Some(Arg::Value(command)) => command.string().map_err(UsageError::from)?,
        Some(Arg::Long("help") | Arg::Short('h')) => {
            print(&help::text(app));
            return Ok(Exit::Done);
        }
        Some(Arg::Long("version") | Arg::Short('V')) => {
            let program = app.program();
            print(&format!("{} {}", program.name, program.version));
            return Ok(Exit::Done);
        }
        Some(other) => return Err(UsageError::from(other.unexpected()).into()),
        None => return Err(UsageError::Missing("a command").into()),
    };
    if asks_for_help(&parser) {
        print(&help::text(app));
        return Ok(Exit::Done);
    }
    match command.as_str() {
        "init" => commands::init(app, &plan(&mut parser)?),
        "coserver" => {
            let flags = PartFlags::parse(&mut parser, &["witness", "clients"], true)?;
            parts::coserver(app, flags)
        }
        "witness" => {
            let flags = PartFlags::parse(&mut parser, &["listen"], false)?;
            parts::witness(flags)
        }
        "replace-peer" | "replace-key" => replace_key(&mut parser, &command),
        "enrol" => enrol(&mut parser),
        "new-lineage" => new_lineage(&mut parser),
        "status" | "metrics" | "hand-over" | "readmit" | "stop" => ask(&mut parser, &command),
        other => Err(UsageError::Command(other.into()).into()),
    }
}

/// Anywhere behind a subcommand.
fn asks_for_help(parser: &Parser) -> bool {
    let mut rest = parser.clone();
    rest.raw_args().is_ok_and(|mut args| args.any(|arg| arg == "--help" || arg == "-h"))
}

fn plan(parser: &mut Parser) -> Result<Plan, UsageError> {
    let mut plan = Plan::new("");
    let (mut directory, mut counts) = (None, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("dir") => directory = Some(parser.value()?.into()),
            Arg::Long("a-link") => plan.a_links.push(value(parser, "--a-link")?),
            Arg::Long("b-link") => plan.b_links.push(value(parser, "--b-link")?),
            Arg::Long("witness") => plan.witness = Some(value(parser, "--witness")?),
            Arg::Long("a-clients") => plan.clients[0] = Some(value(parser, "--a-clients")?),
            Arg::Long("b-clients") => plan.clients[1] = Some(value(parser, "--b-clients")?),
            Arg::Long("base-port") => {
                plan.base_port = value(parser, "--base-port")?;
                counts = true;
            }
            Arg::Long("free-ports") => plan.free_ports = true,
            Arg::Long("silence") => plan.silence = Some(duration(parser, "--silence")?),
            other => return Err(other.unexpected().into()),
        }
    }
    if counts && plan.free_ports {
        return Err(UsageError::Either("--base-port or --free-ports, not both"));
    }
    plan.directory = directory.ok_or(UsageError::Missing("--dir DIR"))?;
    Ok(plan)
}

fn duration(parser: &mut Parser, flag: &str) -> Result<Duration, UsageError> {
    let text = parser.value()?.string()?;
    parsed(flag, text, |text| parse_duration(text).map_err(|error| error.to_string()))
}

fn at(parser: &mut Parser) -> Result<Place, UsageError> {
    parsed("--place", parser.value()?.string()?, |text| {
        let place = Place::BOTH.into_iter().find(|place| place.to_string() == text);
        place.ok_or_else(|| "write a or b".into())
    })
}

fn replace_key(parser: &mut Parser, command: &str) -> Result<Exit, Failure> {
    let mut flags = AskFlags::default();
    let (mut pair, mut place, mut key) = (None, None, None);
    while let Some(arg) = parser.next().map_err(UsageError::from)? {
        match arg {
            Arg::Long("pair") => pair = Some(value::<PairId>(parser, "--pair")?),
            Arg::Long("place") => place = Some(at(parser)?),
            Arg::Long("key") => key = Some(value::<PublicKey>(parser, "--key")?),
            Arg::Long("config") => config_flag(&mut flags.config, parser)?,
            Arg::Long("timeout") => flags.within = duration(parser, "--timeout")?,
            other => return Err(UsageError::from(other.unexpected()).into()),
        }
    }
    let config = flags.config.ok_or(UsageError::Missing("--config FILE"))?;
    let key = key.ok_or(UsageError::Missing("--key KEY"))?;
    let line = match command {
        "replace-peer" => format!("replace-peer {key}"),
        _ => {
            let pair = pair.ok_or(UsageError::Missing("--pair ID"))?;
            let place = place.ok_or(UsageError::Missing("--place a|b"))?;
            format!("replace-key {pair} {place} {key}")
        }
    };
    commands::ask(&commands::directory_of(&config)?, &line, flags.within)
}

fn enrol(parser: &mut Parser) -> Result<Exit, Failure> {
    let mut config: Option<PathBuf> = None;
    while let Some(arg) = parser.next().map_err(UsageError::from)? {
        match arg {
            Arg::Long("config") => config_flag(&mut config, parser)?,
            other => return Err(UsageError::from(other.unexpected()).into()),
        }
    }
    objects::enrol(&config.ok_or(UsageError::Missing("--config FILE"))?)
}

fn new_lineage(parser: &mut Parser) -> Result<Exit, Failure> {
    let mut flags = LineageFlags::default();
    flags.take(parser)?;
    let config = flags.config.ok_or(UsageError::Missing("--config FILE"))?;
    match objects::store_of(&config)? {
        Some(store) => objects::new_lineage(&store, flags.yes),
        None => commands::new_lineage(&config, flags.pair, flags.yes),
    }
}

#[derive(Default)]
struct LineageFlags {
    config: Option<PathBuf>,
    pair: Option<PairId>,
    yes: bool,
}

impl LineageFlags {
    fn take(&mut self, parser: &mut Parser) -> Result<(), UsageError> {
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("config") => config_flag(&mut self.config, parser)?,
                Arg::Long("pair") => self.pair = Some(value(parser, "--pair")?),
                Arg::Long("yes") => self.yes = true,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(())
    }
}

fn ask(parser: &mut Parser, command: &str) -> Result<Exit, Failure> {
    let mut flags = AskFlags::default();
    flags.take(parser, command)?;
    let directory = match (flags.config, flags.directory) {
        (None, Some(directory)) => directory,
        (Some(config), None) => commands::directory_of(&config)?,
        _ => return Err(UsageError::Either("--config FILE or --dir DIR").into()),
    };
    match command {
        "stop" => commands::stop(&directory, flags.within, flags.wait),
        "status" => commands::status(&directory, flags.within, flags.json),
        _ => commands::ask(&directory, command, flags.within),
    }
}

struct AskFlags {
    config: Option<PathBuf>,
    directory: Option<PathBuf>,
    within: Duration,
    wait: Duration,
    json: bool,
}

impl Default for AskFlags {
    fn default() -> Self {
        let (within, wait) = (ANSWER_WITHIN, END_WITHIN);
        Self { config: None, directory: None, within, wait, json: false }
    }
}

impl AskFlags {
    fn take(&mut self, parser: &mut Parser, command: &str) -> Result<(), UsageError> {
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("config") => config_flag(&mut self.config, parser)?,
                Arg::Long("dir") => self.directory = Some(parser.value()?.into()),
                Arg::Long("timeout") => self.within = duration(parser, "--timeout")?,
                // All but the status are JSON in any case.
                Arg::Long("json") => self.json = true,
                Arg::Long("wait") if command == "stop" => self.wait = duration(parser, "--wait")?,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(())
    }
}
