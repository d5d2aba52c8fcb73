//! The arguments of a client's commands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};
use lockstep::runtime::config::parse_duration;

use super::Failure;
use crate::check::STATES;
use crate::ops::Op;
use crate::record::Plan;

/// A command of this program's own.
#[derive(Debug)]
pub(super) enum Command {
    Ask { client: Client, op: Op },
    Record { client: Client, plan: Plan, prefix: String, out: PathBuf },
    Check { file: PathBuf, states: usize, json: bool },
}

/// What all commands that ask have in common.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) config: PathBuf,
    pub(super) timeout: Duration,
    pub(super) json: bool,
}

/// What may be said, by flags; which of them mean something depends on the command.
struct Flags {
    client: Client,
    plan: Plan,
    prefix: String,
    out: Option<PathBuf>,
    states: usize,
    words: Vec<String>,
}

impl Command {
    /// Reads the arguments; `None` if the command is one that every program has.
    pub(super) fn parse(arguments: &[OsString]) -> Result<Option<Self>, Failure> {
        let Some(command) = arguments.first().and_then(|first| first.to_str()) else {
            return Ok(None);
        };
        let words = match command {
            "now" | "info" | "record" => 0,
            "get" | "pop" | "peek" | "len" | "random" | "check" => 1,
            "set" | "add" | "push" => 2,
            "cas" | "remind" => 3,
            _ => return Ok(None),
        };
        if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
            return Ok(None);
        }
        let flags = Flags::parse(command, &arguments[1..])?;
        if flags.words.len() != words {
            let found = flags.words.len();
            return Err(Failure::usage(format!("{command} takes {words} words, not {found}")));
        }
        flags.command(command).map(Some)
    }
}

impl Flags {
    fn parse(command: &str, arguments: &[OsString]) -> Result<Self, Failure> {
        let client =
            Client { config: "client.toml".into(), timeout: Duration::from_secs(10), json: false };
        let mut flags = Self {
            client,
            plan: Plan::default(),
            prefix: String::new(),
            out: None,
            states: STATES,
            words: Vec::new(),
        };
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = flags.next(&mut parser)? {
            let taken = match command {
                "record" => {
                    flags.take_common(&argument, &mut parser)?
                        || flags.take_record(&argument, &mut parser)?
                }
                "check" => flags.take_check(&argument, &mut parser)?,
                _ => flags.take_common(&argument, &mut parser)?,
            };
            if !taken {
                return Err(Failure::usage(format!("{command} takes no {argument}")));
            }
        }
        Ok(flags)
    }

    /// The next flag; words are put aside. A number below zero is a word.
    fn next(&mut self, parser: &mut Parser) -> Result<Option<String>, Failure> {
        loop {
            if let Some(mut raw) = parser.try_raw_args() {
                let number = |text: &str| text == "-" || text.parse::<i64>().is_ok();
                let word = raw.peek().and_then(|next| next.to_str()).filter(|text| number(text));
                if let Some(word) = word.map(str::to_owned) {
                    raw.next();
                    self.words.push(word);
                    continue;
                }
            }
            match parser.next().map_err(usage)? {
                None => return Ok(None),
                Some(Arg::Value(word)) => self.words.push(word.string().map_err(usage)?),
                Some(Arg::Long(name)) => return Ok(Some(format!("--{name}"))),
                Some(Arg::Short(name)) => return Ok(Some(format!("-{name}"))),
            }
        }
    }

    fn take_common(&mut self, flag: &str, parser: &mut Parser) -> Result<bool, Failure> {
        match flag {
            "--config" => self.client.config = parser.value().map_err(usage)?.into(),
            "--timeout" => self.client.timeout = duration(flag, parser)?,
            "--json" => self.client.json = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_record(&mut self, flag: &str, parser: &mut Parser) -> Result<bool, Failure> {
        let plan = &mut self.plan;
        match flag {
            "--ops" => plan.ops = value(flag, parser)?,
            "--seconds" => {
                plan.within = Some(Duration::from_secs(value(flag, parser)?));
                plan.ops = u64::MAX;
            }
            "--clients" => plan.clients = within(flag, value(flag, parser)?, 1, 1000)?,
            "--pipeline" => plan.pipeline = within(flag, value(flag, parser)?, 1, 1000)?,
            "--keys" => plan.keys = within(flag, value(flag, parser)?, 1, 10_000)?,
            "--pause" => plan.pause = duration(flag, parser)?,
            "--seed" => plan.seed = value(flag, parser)?,
            "--prefix" => self.prefix = parser.value().and_then(ValueExt::string).map_err(usage)?,
            "--out" => self.out = Some(parser.value().map_err(usage)?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_check(&mut self, flag: &str, parser: &mut Parser) -> Result<bool, Failure> {
        match flag {
            "--states" => self.states = value(flag, parser)?,
            "--json" => self.client.json = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn command(self, command: &str) -> Result<Command, Failure> {
        let Self { client, plan, prefix, out, states, words } = self;
        match command {
            "record" => {
                let out = out.ok_or_else(|| Failure::usage("record needs --out FILE"))?;
                Ok(Command::Record { client, plan, prefix, out })
            }
            "check" => {
                let json = client.json;
                Ok(Command::Check { file: PathBuf::from(&words[0]), states, json })
            }
            _ => Ok(Command::Ask { client, op: op(command, words)? }),
        }
    }
}

fn op(command: &str, words: Vec<String>) -> Result<Op, Failure> {
    let mut words = words.into_iter();
    let mut word = || words.next().unwrap_or_default();
    Ok(match command {
        "get" => Op::Get { name: word() },
        "set" => Op::Set { name: word(), value: parsed("VALUE", &word())? },
        "cas" => Op::Cas {
            name: word(),
            expected: match word().as_str() {
                "-" => None,
                text => Some(parsed("EXPECTED", text)?),
            },
            value: parsed("VALUE", &word())?,
        },
        "add" => Op::Add { name: word(), delta: parsed("DELTA", &word())? },
        "push" => Op::Push { queue: word(), item: word() },
        "pop" => Op::Pop { queue: word() },
        "peek" => Op::Peek { queue: word() },
        "len" => Op::Len { queue: word() },
        "remind" => {
            let (queue, time) = (word(), word());
            let after = parse_duration(&time)
                .map_err(|error| Failure::usage(format!("TIME {time:?}: {error}")))?;
            let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            Op::Remind { queue, item: word(), after }
        }
        "random" => {
            let below: u64 = parsed("BELOW", &word())?;
            Op::Random { below: within("BELOW", below, 1, u64::MAX)? }
        }
        "now" => Op::Now,
        _ => Op::Info,
    })
}

fn usage(error: lexopt::Error) -> Failure {
    Failure::usage(error.to_string())
}

fn value<T: FromStr>(flag: &str, parser: &mut Parser) -> Result<T, Failure> {
    let text = parser.value().and_then(ValueExt::string).map_err(usage)?;
    parsed(flag, &text)
}

fn parsed<T: FromStr>(what: &str, text: &str) -> Result<T, Failure> {
    let wrong = |_| Failure::usage(format!("{what} {text:?}: write a number that fits"));
    text.parse().map_err(wrong)
}

fn within<T: PartialOrd + std::fmt::Display>(
    flag: &str,
    value: T,
    least: T,
    most: T,
) -> Result<T, Failure> {
    match value >= least && value <= most {
        true => Ok(value),
        false => Err(Failure::usage(format!("{flag} {value}: choose {least} to {most}"))),
    }
}

fn duration(flag: &str, parser: &mut Parser) -> Result<Duration, Failure> {
    let text = parser.value().and_then(ValueExt::string).map_err(usage)?;
    parse_duration(&text).map_err(|error| Failure::usage(format!("{flag} {text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Command>, Failure> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Command::parse(&arguments)
    }

    fn asked(line: &str) -> Op {
        match parse(line) {
            Ok(Some(Command::Ask { op, .. })) => op,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_become_operations() {
        let name = || "r".to_owned();
        assert_eq!(asked("get r --json"), Op::Get { name: name() });
        assert_eq!(asked("set r -5"), Op::Set { name: name(), value: -5 });
        assert_eq!(asked("add --timeout 2s r -1"), Op::Add { name: name(), delta: -1 });
        let cas = |expected| Op::Cas { name: name(), expected, value: 2 };
        assert_eq!(asked("cas r - 2"), cas(None));
        assert_eq!(asked("cas r -1 2"), cas(Some(-1)));
        let after = 1_500_000_000;
        let remind = Op::Remind { queue: "q".into(), item: "x".into(), after };
        assert_eq!(asked("remind q 1500ms x"), remind);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let complaint = |line| parse(line).unwrap_err().message;
        assert_eq!(complaint("get"), "get takes 1 words, not 0; see --help");
        assert_eq!(complaint("get r --ops 4"), "get takes no --ops; see --help");
        assert_eq!(complaint("set r x"), "VALUE \"x\": write a number that fits; see --help");
        assert_eq!(complaint("record"), "record needs --out FILE; see --help");
        let clients = "--clients 0: choose 1 to 1000; see --help";
        assert_eq!(complaint("record --out x --clients 0"), clients);
        let random = format!("BELOW 0: choose 1 to {}; see --help", u64::MAX);
        assert_eq!(complaint("random 0"), random);
        assert!(parse("coserver --config a.toml").unwrap().is_none());
        assert!(parse("get --help").unwrap().is_none());
    }
}
