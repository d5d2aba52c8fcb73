//! `rejoin`: what coming back costs a pair with a large state under a steady load, and what a
//! checkpoint costs it. See `benches/README.md`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lexopt::Arg::{Long, Short};
use lexopt::ValueExt;
use lockstep::client::session::Session;
use lockstep_benches::bigstate::{FILL_BYTES, Keeping, Request};
use lockstep_benches::cli::main_of;
use lockstep_benches::part::current_thread;
use lockstep_benches::realpair::{AnyError, Choices, PLACES, RealPair};
use lockstep_benches::steady::{Seen, Steady, put};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const HELP: &str = "\
What coming back, and a checkpoint, cost a pair with a large state under a steady load.

  cargo run --release -p lockstep-benches --bin rejoin -- [OPTION...]

  --mode MODE      `rejoin` (one CoServer killed and back, twice) or `stall` (checkpoints, with
                   a shared state and with a copied one) (rejoin)
  --keeping WAY    in `stall`, only `shared` or only `copied` (both)
  --state MIB      size of the state (1024)
  --rate N         requests a second, 4 KiB each (300)
  --away SECONDS   how long the first absence is (5)
  --calm SECONDS   how long each window without anything particular is (10)
  --join-rate MIB  most that a joiner is sent in a second (64)
  --silence MS     the silence that is taken for a death (rejoin 500, stall 10000)
  --disk DIR       where the CoServers keep their files (the system's temporary directory)
  --help           print this and stop

Exit codes: 0 measured, 1 it failed, 2 the command line is wrong.
";

/// Of each fill: a longer step would hold up heartbeats.
const FILL_MIB: u32 = 8;

/// A large state on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of entries between two checkpoints, in `rejoin`: more than is kept of the journal, so
/// that a wiped disk cannot be filled from entries alone.
const CHECKPOINT_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug)]
struct Options {
    stall: bool,
    keeping: Vec<Keeping>,
    state: u32,
    rate: u32,
    away: Duration,
    /// How long a window without anything particular is measured.
    calm: Duration,
    join_rate: u64,
    silence: Option<Duration>,
    disk: PathBuf,
}

fn main() -> ExitCode {
    main_of("rejoin", HELP, parse, measure)
}

fn parse(words: Vec<std::ffi::OsString>) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        stall: false,
        keeping: vec![Keeping::Shared, Keeping::Copied],
        state: 1024,
        rate: 300,
        away: Duration::from_secs(5),
        calm: Duration::from_secs(10),
        join_rate: 64 << 20,
        silence: None,
        disk: std::env::temp_dir(),
    };
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("mode") => {
                options.stall = match parser.value()?.string()?.as_str() {
                    "rejoin" => false,
                    "stall" => true,
                    _ => return Err("a mode is `rejoin` or `stall`".into()),
                }
            }
            Long("keeping") => options.keeping = vec![parser.value()?.parse()?],
            Long("state") => options.state = parser.value()?.parse()?,
            Long("rate") => options.rate = parser.value()?.parse()?,
            Long("away") => options.away = Duration::from_secs(parser.value()?.parse()?),
            Long("calm") => options.calm = Duration::from_secs(parser.value()?.parse()?),
            Long("join-rate") => options.join_rate = parser.value()?.parse::<u64>()? << 20,
            Long("silence") => {
                options.silence = Some(Duration::from_millis(parser.value()?.parse()?));
            }
            Long("disk") => options.disk = parser.value()?.into(),
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    if !(1..=8192).contains(&options.state) || !(1..=10_000).contains(&options.rate) {
        return Err("--state takes 1 to 8192 MiB, --rate 1 to 10000 requests a second".into());
    }
    Ok(Some(options))
}

fn measure(options: &Options) -> Result<String, AnyError> {
    let local = tokio::task::LocalSet::new();
    local.block_on(&current_thread()?, async {
        let mut table = Table::new(options);
        if options.stall {
            for keeping in &options.keeping {
                stall(options, *keeping, &mut table).await?;
            }
        } else {
            rejoin(options, &mut table).await?;
        }
        Ok(table.text)
    })
}

fn say(what: &str) {
    // Progress that nobody can read is no reason to stop.
    let _ = writeln!(io::stderr(), "{what}");
}

/// Gives the state its size. Returns how many keys there are.
async fn fill(session: &Session, mib: u32) -> Result<u64, AnyError> {
    say("filling");
    let mut left = mib;
    while left > 0 {
        let step = left.min(FILL_MIB);
        session.request(Request::Fill(step).encode()).await?;
        left -= step;
    }
    Ok((u64::from(mib) << 20) / FILL_BYTES as u64)
}

/// Puts so many bytes, as fast as it goes.
async fn put_bytes(session: &Session, keys: u64, bytes: u64) -> Result<(), AnyError> {
    const UNDER_WAY: usize = 32;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut tickets = std::collections::VecDeque::new();
    for _ in 0..bytes / FILL_BYTES as u64 {
        tickets.push_back(session.submit(put(&mut random, keys)).await?);
        if tickets.len() == UNDER_WAY
            && let Some(ticket) = tickets.pop_front()
        {
            ticket.await?;
        }
    }
    for ticket in tickets {
        ticket.await?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measuring time is what this is for")]
fn now() -> Instant {
    Instant::now()
}

async fn calm(options: &Options, steady: &Steady) -> Seen {
    let from = now();
    tokio::time::sleep(options.calm).await;
    steady.seen(from, now())
}

async fn rejoin(options: &Options, table: &mut Table) -> Result<(), AnyError> {
    let choices = Choices {
        keeping: Keeping::Shared,
        checkpoint_bytes: CHECKPOINT_BYTES,
        silence: options.silence.unwrap_or(Duration::from_millis(500)),
        join_rate: options.join_rate,
    };
    let mut pair = RealPair::start(&options.disk, choices)?;
    let session = pair.session().await?;
    let keys = fill(&session, options.state).await?;
    say("taking the first checkpoint");
    put_bytes(&session, keys, CHECKPOINT_BYTES + (8 << 20)).await?;
    pair.wait_for_both("checkpoint", PATIENCE).await?;
    let steady = Steady::begin(session, options.rate, keys);
    tokio::time::sleep(Duration::from_secs(2)).await;
    say("steady load");
    table.row("before", &calm(options, &steady).await, "");
    for (wiped, away) in [(false, options.away), (true, Duration::ZERO)] {
        let name = if wiped { "wiped disk" } else { "entries" };
        say(&format!("killing {}; {name}", PLACES[1]));
        let killed = now();
        pair.kill(1)?;
        if wiped {
            pair.wipe(1)?;
        }
        tokio::time::sleep_until((killed + away.max(Duration::from_secs(2))).into()).await;
        let started = now();
        table.row(&format!("alone ({name})"), &steady.seen(killed, started), "");
        pair.start_coserver(1)?;
        let duplex = pair.wait_for(0, "duplex", PATIENCE).await?;
        let sent = duplex.number("sent").unwrap_or_default();
        let took = duplex.at.duration_since(started);
        // What was due at the end has its replies by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let note = format!(
            "{:.1} s from its start to duplex, {:.1} MiB sent",
            took.as_secs_f64(),
            sent as f64 / 1_048_576.0
        );
        table.row(&format!("joining ({name})"), &steady.seen(started, duplex.at), &note);
        let around = steady.seen(duplex.at - Duration::from_secs(1), now());
        table.row("around duplex", &around, "");
        say("steady load");
        table.row("after", &calm(options, &steady).await, "");
    }
    pair.note();
    let odd = pair.history.iter().filter(|said| {
        ["fell_back", "suspected", "states_differ", "diverged", "no_checkpoint"]
            .contains(&said.name.as_str())
    });
    for said in odd {
        table.line(&format!("{}: {} {}", PLACES[said.place], said.name, said.line));
    }
    Ok(())
}

async fn stall(options: &Options, keeping: Keeping, table: &mut Table) -> Result<(), AnyError> {
    let name = match keeping {
        Keeping::Shared => "shared",
        Keeping::Copied => "copied",
    };
    // The second of them is due a little after the calm window.
    let checkpoint_bytes = u64::from(options.rate) * FILL_BYTES as u64 * 16;
    let choices = Choices {
        keeping,
        checkpoint_bytes,
        silence: options.silence.unwrap_or(Duration::from_secs(10)),
        join_rate: options.join_rate,
    };
    say(&format!("{name} state"));
    let mut pair = RealPair::start(&options.disk, choices)?;
    let session = pair.session().await?;
    let keys = fill(&session, options.state).await?;
    put_bytes(&session, keys, checkpoint_bytes).await?;
    pair.wait_for_both("checkpoint", PATIENCE).await?;
    let steady = Steady::begin(session, options.rate, keys);
    tokio::time::sleep(Duration::from_secs(2)).await;
    say("steady load");
    table.row(&format!("{name}: before"), &calm(options, &steady).await, "");
    let before = [pair.memory(0)?.0, pair.memory(1)?.0];
    pair.forget_peak(0)?;
    pair.forget_peak(1)?;
    let from = now();
    pair.wait_for_both("checkpoint", PATIENCE).await?;
    let to = now();
    let peak = [pair.memory(0)?.1, pair.memory(1)?.1];
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mib = |kib: u64| kib / 1024;
    let note = format!(
        "memory {} and {} MiB before, at most {} and {} during",
        mib(before[0]),
        mib(before[1]),
        mib(peak[0]),
        mib(peak[1])
    );
    table.row(&format!("{name}: checkpoint"), &steady.seen(from, to), &note);
    Ok(())
}

struct Table {
    text: String,
    /// p50 and p99 of the first row, to which the ratios refer.
    first: Option<(u64, u64)>,
}

impl Table {
    fn new(options: &Options) -> Self {
        let text = format!(
            "a state of {} MiB, {} requests of 4 KiB a second, durability journal\n\n\
             {:<24} {:>6} {:>9} {:>6} {:>9} {:>6} {:>9} {:>9}\n",
            options.state,
            options.rate,
            "",
            "count",
            "p50 us",
            "ratio",
            "p99 us",
            "ratio",
            "max ms",
            "gap ms"
        );
        Self { text, first: None }
    }

    fn row(&mut self, name: &str, seen: &Seen, note: &str) {
        let at = |quantile| seen.latency.value_at_quantile(quantile);
        let (half, most) = (at(0.5), at(0.99));
        let (first_half, first_most) = *self.first.get_or_insert((half.max(1), most.max(1)));
        self.line(
            format!(
                "{name:<24} {:>6} {:>9} {:>6.2} {:>9} {:>6.2} {:>9.1} {:>9.1}  {note}",
                seen.latency.len(),
                half / 1000,
                half as f64 / first_half as f64,
                most / 1000,
                most as f64 / first_most as f64,
                seen.latency.max() as f64 / 1e6,
                seen.gap.as_secs_f64() * 1e3,
            )
            .trim_end(),
        );
    }

    fn line(&mut self, text: &str) {
        say(text);
        self.text += text;
        self.text.push('\n');
    }
}
