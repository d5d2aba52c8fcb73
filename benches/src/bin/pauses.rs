//! `pauses`: how long each client waits when a CoServer dies that the other one came back beside.
//! See `benches/README.md`.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep::clap::builder::RangedU64ValueParser;
use lockstep::clap::{self, Parser};
use lockstep::client::session::Session;
use lockstep_benches::bigstate::{Keeping, Request};
use lockstep_benches::cli::{main_of, milliseconds, print, say};
use lockstep_benches::now;
use lockstep_benches::part::current_thread;
use lockstep_benches::realpair::{AnyError, Choices, PLACES, RealPair};

/// Within this everything has happened, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a pause may exceed the silence by: the witness, a handshake, a scheduler.
const ALLOWANCE: Duration = Duration::from_millis(50);

/// What was reported so long before a kill may say why the pause after it was a long one.
const BEFORE: Duration = Duration::from_millis(500);

/// Replies that each client has to have after a kill before the next trial begins.
const REPLIES: usize = 20;

/// Bytes of entries between two checkpoints: none is taken while this runs.
const CHECKPOINT_BYTES: u64 = 1 << 30;

/// How long each client waits when one CoServer was dead, is back, and the other is killed
#[derive(Clone, Debug, Parser)]
#[command(
    name = "pauses",
    override_usage = "cargo run --release -p lockstep-benches --bin pauses -- [OPTIONS]",
    after_help = "Exit codes: 0 measured, 1 it failed, 2 the command line is wrong."
)]
struct Options {
    /// Clients, each with a session and one request under way, 1 to 512
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=512))]
    clients: usize,
    /// Times that each row is tried, from either side in turn
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    trials: usize,
    /// How long the first is dead, in seconds
    #[arg(long, value_name = "LIST", default_value = "0.2,1,3,6", value_parser = seconds)]
    dead: Spans,
    /// Seconds from duplex to the second kill
    #[arg(long, value_name = "LIST", default_value = "0,0.5,1,2,4", value_parser = seconds)]
    wait: Spans,
    /// How long both are dead, in seconds
    #[arg(long, value_name = "LIST", default_value = "1,6", value_parser = seconds)]
    both: Spans,
    /// Between a reply and the next request
    #[arg(long, value_name = "MS", default_value = "5", value_parser = milliseconds)]
    think: Duration,
    /// The silence that is taken for a death
    #[arg(long, value_name = "MS", default_value = "100", value_parser = milliseconds)]
    silence: Duration,
    /// Where the CoServers keep their files
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    disk: PathBuf,
}

/// Times, each tried in turn.
#[derive(Clone, Debug)]
struct Spans(Vec<Duration>);

fn main() -> ExitCode {
    main_of(measure)
}

/// Seconds, separated by commas.
fn seconds(list: &str) -> Result<Spans, &'static str> {
    let one = |text: &str| {
        let number = text.trim().parse::<f64>().ok();
        number.and_then(|number| Duration::try_from_secs_f64(number).ok())
    };
    let words = list.split(',').filter(|word| !word.trim().is_empty());
    let all: Option<Vec<_>> = words.map(one).collect();
    all.map(Spans).ok_or("write a list of seconds, such as 0.2,1")
}

/// A client that asks, waits for the reply, and asks again.
struct Asker {
    replies: Rc<RefCell<Vec<Instant>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Asker {
    fn begin(number: u64, session: Session, think: Duration) -> Self {
        let replies = Rc::new(RefCell::new(vec![now()]));
        let seen = Rc::clone(&replies);
        let task = tokio::task::spawn_local(async move {
            loop {
                let put = Request::Put(number, Bytes::from_static(b"a value"));
                match session.request(put.encode()).await {
                    Ok(_) => seen.borrow_mut().push(now()),
                    Err(error) => return say(&format!("client {number}: {error:?}")),
                }
                tokio::time::sleep(think).await;
            }
        });
        Self { replies, task }
    }

    fn replies_since(&self, from: Instant) -> usize {
        self.replies.borrow().iter().rev().take_while(|at| **at >= from).count()
    }

    /// The longest time without a reply that had not ended before `from`.
    fn pause_since(&self, from: Instant) -> Duration {
        let replies = self.replies.borrow();
        let gaps = replies.windows(2).filter(|pair| pair[1] >= from);
        gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    fn first_since(&self, from: Instant) -> Duration {
        let first = self.replies.borrow().iter().find(|at| **at >= from).copied();
        first.map_or(Duration::ZERO, |at| at - from)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Bench {
    pair: RealPair,
    askers: Vec<Asker>,
    /// Which is killed first in the next trial.
    turn: usize,
    /// The pause that no client should exceed.
    goal: Duration,
}

impl Bench {
    async fn start(options: &Options) -> Result<Self, AnyError> {
        let choices = Choices {
            keeping: Keeping::Shared,
            checkpoint_bytes: CHECKPOINT_BYTES,
            silence: options.silence,
            join_rate: 64 << 20,
        };
        let pair = RealPair::start(&options.disk, choices)?;
        let mut askers = Vec::new();
        for number in 0..options.clients as u64 {
            askers.push(Asker::begin(number, pair.session().await?, options.think));
        }
        let goal = options.silence + ALLOWANCE;
        let mut bench = Self { pair, askers, turn: 0, goal };
        bench.all_served_since(now()).await?;
        Ok(bench)
    }

    /// Waits until every client has had some replies since then.
    async fn all_served_since(&mut self, from: Instant) -> Result<(), AnyError> {
        let until = now() + PATIENCE;
        while self.askers.iter().any(|asker| asker.replies_since(from) < REPLIES) {
            if now() >= until {
                return Err("a client has had no reply for a minute".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn back(&mut self, place: usize) -> Result<(), AnyError> {
        self.pair.note();
        self.pair.start_coserver(place)?;
        self.pair.wait_for(1 - place, "duplex", PATIENCE).await?;
        Ok(())
    }

    /// One CoServer dead for a while, back, and the other killed after another while. How long each
    /// client had no reply then.
    async fn one_by_one(
        &mut self,
        dead: Duration,
        wait: Duration,
    ) -> Result<Vec<Duration>, AnyError> {
        let first = self.turn;
        self.turn = 1 - first;
        self.pair.kill(first)?;
        tokio::time::sleep(dead).await;
        self.back(first).await?;
        tokio::time::sleep(wait).await;
        let killed = now();
        self.pair.kill(1 - first)?;
        let served = self.all_served_since(killed).await;
        if served.is_err() {
            self.explain(killed);
        }
        served?;
        let pauses: Vec<_> = self.askers.iter().map(|asker| asker.pause_since(killed)).collect();
        if pauses.iter().max().is_some_and(|most| *most > self.goal) {
            self.explain(killed);
        }
        self.back(1 - first).await?;
        // The next trial begins with everybody connected to both.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(pauses)
    }

    /// Says what the CoServers reported around a pause that was too long.
    fn explain(&mut self, killed: Instant) {
        self.pair.note();
        for said in self.pair.history.iter().filter(|said| said.at + BEFORE >= killed) {
            let after = said.at.saturating_duration_since(killed);
            let before = killed.saturating_duration_since(said.at);
            let at = after.as_secs_f64() - before.as_secs_f64();
            say(&format!("  {at:>7.3} s, {}: {}", PLACES[said.place], said.line));
        }
    }

    /// Both killed, and started again after a while. How long each client waited from then on.
    async fn both(&mut self, dead: Duration) -> Result<Vec<Duration>, AnyError> {
        self.pair.kill(0)?;
        self.pair.kill(1)?;
        tokio::time::sleep(dead).await;
        self.pair.note();
        let started = now();
        self.pair.start_coserver(0)?;
        self.pair.start_coserver(1)?;
        self.all_served_since(started).await?;
        let waits = self.askers.iter().map(|asker| asker.first_since(started)).collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(waits)
    }
}

fn row(name: &str, mut pauses: Vec<Duration>, goal: Option<Duration>) -> io::Result<()> {
    pauses.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let median = pauses.get(pauses.len() / 2).copied().unwrap_or_default();
    let most = pauses.last().copied().unwrap_or_default();
    let over = goal.map_or_else(String::new, |goal| {
        format!("{:>6} of {}", pauses.iter().filter(|pause| **pause > goal).count(), pauses.len())
    });
    print(&format!("{name:<34} {:>10.1} {:>10.1} {over}", ms(median), ms(most)))
}

fn measure(options: &Options) -> Result<String, AnyError> {
    let runtime = current_thread()?;
    tokio::task::LocalSet::new().block_on(&runtime, measure_rows(options))?;
    // Each row was printed as soon as it was there.
    Ok(String::new())
}

async fn measure_rows(options: &Options) -> Result<(), AnyError> {
    let mut bench = Bench::start(options).await?;
    let goal = bench.goal;
    print(&format!(
        "{} clients, {} trials a row, {:?} between a reply and the next request, silence {:?}, \
         durability journal\n",
        options.clients, options.trials, options.think, options.silence
    ))?;
    print(&format!(
        "{:<34} {:>10} {:>10} {:>11}",
        "pause of each client",
        "median ms",
        "max ms",
        format!("> {} ms", goal.as_millis())
    ))?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for dead in &options.dead.0 {
        for wait in &options.wait.0 {
            let mut pauses = Vec::new();
            for _ in 0..options.trials {
                let name = PLACES[bench.turn];
                say(&format!("{name} dead for {dead:?}, the other killed after {wait:?}"));
                pauses.extend(bench.one_by_one(*dead, *wait).await?);
            }
            let name = format!("dead {dead:?}, then {wait:?}");
            row(&name, pauses, Some(goal))?;
        }
    }
    for dead in &options.both.0 {
        let mut waits = Vec::new();
        for _ in 0..options.trials {
            say(&format!("both dead for {dead:?}"));
            waits.extend(bench.both(*dead).await?);
        }
        row(&format!("both dead {dead:?}, from their start"), waits, None)?;
    }
    Ok(())
}
