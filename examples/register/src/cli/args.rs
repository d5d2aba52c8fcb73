//! The commands of a client, and their arguments. Doc comments here are what `--help` says.

use std::path::PathBuf;
use std::time::Duration;

use lockstep::clap::builder::RangedU64ValueParser;
use lockstep::clap::{self, Args, Subcommand};
use lockstep::runtime::config::parse_duration;

use crate::check::STATES;
use crate::ops::Op;
use crate::record::Plan;

/// A command of this program's own.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
More exit codes: 20 refused by the service, 21 violation in the history, 22 history not decided.")]
pub(super) enum Command {
    #[command(flatten)]
    Ask(Ask),
    /// Drive the pair with many clients, write down what they saw
    Record(Record),
    /// Say whether a history is linearizable, and all took effect once
    Check(Check),
}

/// What all commands that ask have in common.
#[derive(Debug, Args)]
pub(super) struct Client {
    /// The client's configuration
    #[arg(long, value_name = "FILE", default_value = "client.toml")]
    pub(super) config: PathBuf,
    /// How long to wait for an answer, as in 500ms or 10s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(super) timeout: Duration,
    /// Answer in JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Ask the pair one thing.
#[derive(Debug, Subcommand)]
pub(super) enum Ask {
    /// Print a register's value
    Get {
        #[command(flatten)]
        client: Client,
        /// The name of the register
        name: String,
    },
    /// Give a register a value; prints the one before
    Set {
        #[command(flatten)]
        client: Client,
        /// The name of the register
        name: String,
        /// Its new value
        #[arg(allow_negative_numbers = true, value_parser = number)]
        value: i64,
    },
    /// Give a register a value if it has the expected one
    Cas {
        #[command(flatten)]
        client: Client,
        /// The name of the register
        name: String,
        /// The value that it is to have; `-` for none
        #[arg(allow_negative_numbers = true, value_parser = expected)]
        expected: Expected,
        /// Its new value
        #[arg(allow_negative_numbers = true, value_parser = number)]
        value: i64,
    },
    /// Add to a register
    Add {
        #[command(flatten)]
        client: Client,
        /// The name of the register
        name: String,
        /// What is added to its value
        #[arg(allow_negative_numbers = true, value_parser = number)]
        delta: i64,
    },
    /// Put a text at the end of a queue
    Push {
        #[command(flatten)]
        client: Client,
        /// The name of the queue
        queue: String,
        /// What is put there
        text: String,
    },
    /// Take the first text out of a queue
    Pop {
        #[command(flatten)]
        client: Client,
        /// The name of the queue
        queue: String,
    },
    /// Print the first text of a queue, which stays
    Peek {
        #[command(flatten)]
        client: Client,
        /// The name of the queue
        queue: String,
    },
    /// Print how many texts are in a queue
    Len {
        #[command(flatten)]
        client: Client,
        /// The name of the queue
        queue: String,
    },
    /// Put a text into a queue after a time
    Remind {
        #[command(flatten)]
        client: Client,
        /// The name of the queue
        queue: String,
        /// After how long, as in 1500ms or 2s
        #[arg(value_name = "TIME", value_parser = nanoseconds)]
        after: u64,
        /// What is put there
        text: String,
    },
    /// Print a random number
    Random {
        #[command(flatten)]
        client: Client,
        /// It is less than this
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        below: u64,
    },
    /// Print the log time
    Now {
        #[command(flatten)]
        client: Client,
    },
    /// Print how much there is of everything
    Info {
        #[command(flatten)]
        client: Client,
    },
}

impl Ask {
    /// How to ask, and what.
    pub(super) fn split(self) -> (Client, Op) {
        match self {
            Self::Get { client, name } => (client, Op::Get { name }),
            Self::Set { client, name, value } => (client, Op::Set { name, value }),
            Self::Cas { client, name, expected: Expected(expected), value } => {
                (client, Op::Cas { name, expected, value })
            }
            Self::Add { client, name, delta } => (client, Op::Add { name, delta }),
            Self::Push { client, queue, text } => (client, Op::Push { queue, item: text }),
            Self::Pop { client, queue } => (client, Op::Pop { queue }),
            Self::Peek { client, queue } => (client, Op::Peek { queue }),
            Self::Len { client, queue } => (client, Op::Len { queue }),
            Self::Remind { client, queue, after, text } => {
                (client, Op::Remind { queue, item: text, after })
            }
            Self::Random { client, below } => (client, Op::Random { below }),
            Self::Now { client } => (client, Op::Now),
            Self::Info { client } => (client, Op::Info),
        }
    }
}

/// A value, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected(Option<i64>);

#[derive(Debug, Args)]
pub(super) struct Record {
    #[command(flatten)]
    pub(super) client: Client,
    /// Where the history goes
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// How many requests at most; 10000 if neither this nor --seconds is said
    #[arg(long, value_name = "N")]
    ops: Option<u64>,
    /// For how long at most
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// How many clients, 1 to 1000
    #[arg(long, value_name = "K", default_value_t = Plan::default().clients,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    clients: usize,
    /// How many requests each has under way, 1 to 1000
    #[arg(long, value_name = "P", default_value_t = Plan::default().pipeline,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pipeline: usize,
    /// How many registers and queues, 1 to 10000
    #[arg(long, value_name = "R", default_value_t = Plan::default().keys,
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    keys: u64,
    /// How long each client waits between an answer and its next request
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_duration)]
    pause: Duration,
    /// What the requests are drawn from
    #[arg(long, value_name = "S", default_value_t = Plan::default().seed)]
    seed: u64,
    /// Begins the names used, so that histories do not meet
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) prefix: String,
}

impl Record {
    /// How to drive the pair. A run that has an end in time needs none in requests.
    pub(super) fn plan(&self) -> Plan {
        let plan = Plan::default();
        let ops = if self.seconds.is_some() { u64::MAX } else { plan.ops };
        Plan {
            ops: self.ops.unwrap_or(ops),
            within: self.seconds.map(Duration::from_secs),
            clients: self.clients,
            pipeline: self.pipeline,
            keys: self.keys,
            pause: self.pause,
            seed: self.seed,
            ..plan
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file with the history to check
    pub(super) file: PathBuf,
    /// How long to search, in states for each name
    #[arg(long, value_name = "N", default_value_t = STATES)]
    pub(super) states: usize,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn number(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| "write a whole number that fits into 64 bits")
}

fn expected(text: &str) -> Result<Expected, &'static str> {
    match text {
        "-" => Ok(Expected(None)),
        text => number(text).map(|value| Expected(Some(value))),
    }
}

fn nanoseconds(text: &str) -> Result<u64, String> {
    let after = parse_duration(text).map_err(|error| error.to_string())?;
    Ok(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use lockstep::clap::{CommandFactory, Error, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn parse(line: &str) -> Result<Command, Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.command)
    }

    fn asked(line: &str) -> Op {
        match parse(line) {
            Ok(Command::Ask(ask)) => ask.split().1,
            other => panic!("{other:?}"),
        }
    }

    fn recorded(line: &str) -> Plan {
        match parse(line) {
            Ok(Command::Record(record)) => record.plan(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Line::command().debug_assert();
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
        assert_eq!(asked("random 6"), Op::Random { below: 6 });
    }

    #[test]
    fn a_run_ends_after_requests_or_after_a_time_or_after_what_comes_first() {
        let plan = recorded("record --out x");
        assert_eq!((plan.ops, plan.within), (Plan::default().ops, None));
        let two = Some(Duration::from_secs(2));
        let plan = recorded("record --out x --seconds 2 --clients 3");
        assert_eq!((plan.ops, plan.within, plan.clients), (u64::MAX, two, 3));
        let plan = recorded("record --out x --ops 5 --seconds 2 --pause 1ms");
        assert_eq!((plan.ops, plan.within, plan.pause), (5, two, Duration::from_millis(1)));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (line, said) in [
            ("get", "<NAME>"),
            ("get r s", "unexpected argument 's'"),
            ("get r --ops 4", "unexpected argument '--ops'"),
            ("set r x", "'x' for '<VALUE>': write a whole number"),
            ("cas r x 1", "'x' for '<EXPECTED>': write a whole number"),
            ("remind q 1.5s x", "write 1500ms"),
            ("get r --timeout 5", "ends with its unit"),
            ("record", "--out <FILE>"),
            ("record --out x --clients 0", "0 is not in 1..=1000"),
            ("random 0", "0 is not in 1.."),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.to_string().contains(said), "{line}: {error}");
        }
    }
}
