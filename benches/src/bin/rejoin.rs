//! `rejoin`: what coming back costs a pair with a large state under a steady load, and what a
//! checkpoint costs it. See `benches/README.md`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lockstep::clap::{self, Parser, ValueEnum, value_parser};
use lockstep::client::session::Session;
use lockstep_benches::bigstate::{FILL_BYTES, Keeping, fill};
use lockstep_benches::cli::{main_of, milliseconds, say, seconds};
use lockstep_benches::now;
use lockstep_benches::part::current_thread;
use lockstep_benches::realpair::{AnyError, Choices, PLACES, RealPair};
use lockstep_benches::steady::{Seen, Steady, put};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A large state on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of entries between two checkpoints, in `rejoin`: more than is kept of the journal, so
/// that a wiped disk cannot be filled from entries alone.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// What coming back, and a checkpoint, cost a pair with a large state under a steady load
#[derive(Clone, Debug, Parser)]
#[command(
    name = "rejoin",
    override_usage = "cargo run --release -p lockstep-benches --bin rejoin -- [OPTIONS]",
    after_help = "Exit codes: 0 measured, 1 it failed, 2 the command line is wrong."
)]
struct Options {
    /// What happens to the pair
    #[arg(long, value_enum, default_value = "rejoin")]
    mode: Mode,
    /// Keep the state only so in `stall`, `shared` or `copied`; both if not said
    #[arg(long, value_name = "WAY")]
    keeping: Option<Keeping>,
    /// Size of the state, 1 to 8192
    #[arg(long, value_name = "MIB", default_value_t = 1024,
          value_parser = value_parser!(u32).range(1..=8192))]
    state: u32,
    /// Requests a second, 4 KiB each, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 300,
          value_parser = value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How long the first absence is
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    away: Duration,
    /// How long each window without anything particular is measured
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    calm: Duration,
    /// Most that a joiner is sent in a second, 1 to 65536
    #[arg(long, value_name = "MIB", default_value_t = 64,
          value_parser = value_parser!(u64).range(1..=65_536))]
    join_rate: u64,
    /// The silence that is taken for a death; 500 in `rejoin` and 10000 in `stall` if not said
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    silence: Option<Duration>,
    /// Where the CoServers keep their files
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    disk: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// One CoServer is killed and comes back, twice
    Rejoin,
    /// Checkpoints, with a shared state and with a copied one
    Stall,
}

fn main() -> ExitCode {
    main_of(measure)
}

fn measure(options: &Options) -> Result<String, AnyError> {
    let local = tokio::task::LocalSet::new();
    local.block_on(&current_thread()?, async {
        let mut table = Table::new(options);
        if options.mode == Mode::Stall {
            let both = [Keeping::Shared, Keeping::Copied];
            for keeping in
                both.into_iter().filter(|one| options.keeping.is_none_or(|it| it == *one))
            {
                stall(options, keeping, &mut table).await?;
            }
        } else {
            rejoin(options, &mut table).await?;
        }
        Ok(table.text)
    })
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
        join_rate: options.join_rate << 20,
    };
    let mut pair = RealPair::start(&options.disk, choices)?;
    let session = pair.session().await?;
    say("filling");
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
        join_rate: options.join_rate << 20,
    };
    say(&format!("{name} state"));
    let mut pair = RealPair::start(&options.disk, choices)?;
    let session = pair.session().await?;
    say("filling");
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
