//! `continuity`: how long nobody is answered when something happens to a pair under load. See
//! `benches/README.md`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep::clap::builder::RangedU64ValueParser;
use lockstep::clap::{self, Parser};
use lockstep::client::session::Session;
use lockstep_benches::bigstate::{Request, fill};
use lockstep_benches::cli::{main_of, milliseconds, print};
use lockstep_benches::now;
use lockstep_benches::part::current_thread;
use lockstep_benches::realpair::AnyError;
use lockstep_benches::served::{COMMANDS, Parts, ServedPair};

/// What is looked at of each trial, and when in it something happens.
const WINDOW: Duration = Duration::from_secs(2);
const HAPPENS_AT: Duration = Duration::from_millis(500);

/// Between a pair's being whole again and the next trial.
const SETTLES_IN: Duration = Duration::from_millis(1500);

/// A request that was not answered by then is counted as late as that.
const ANSWERED_BY: Duration = Duration::from_secs(10);

/// The longest time without an answer, under load, when something happens to a pair
#[derive(Clone, Debug, Parser)]
#[command(
    name = "continuity",
    override_usage = "cargo run --release -p lockstep-benches --bin continuity -- [OPTIONS]",
    after_help = "Exit codes: 0 measured, 1 it failed, 2 the command line is wrong."
)]
struct Options {
    /// Times that each row is tried, all rows in turn
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    trials: usize,
    /// Requests a second, at fixed times whatever becomes of the answers
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = RangedU64ValueParser::<u32>::new().range(8..=100_000))]
    rate: u32,
    /// Clients, each with a session of its own, that make these requests in turn
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=512))]
    clients: usize,
    /// The state of each CoServer, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    state: u32,
    /// The silence that is taken for a death, if it is not to be the default
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    silence: Option<Duration>,
    /// Rows by their names, all if none is named
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,
    /// Where the CoServers keep their files
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    disk: PathBuf,
    /// Print one JSON object for each row
    #[arg(long)]
    json: bool,
}

/// What happens in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Nothing,
    HandOver,
    Leave,
    KillFollower,
    KillSequencer,
}

impl Happening {
    const ALL: [Self; 5] =
        [Self::Nothing, Self::HandOver, Self::Leave, Self::KillFollower, Self::KillSequencer];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::HandOver => "hand-over",
            Self::Leave => "leave",
            Self::KillFollower => "kill-follower",
            Self::KillSequencer => "kill-sequencer",
        }
    }
}

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    match COMMANDS.contains(&command.as_str()) {
        true => lockstep::runtime::cli::main(&Parts),
        false => main_of(measure),
    }
}

/// One request: whose it was, when it was due, and when it was answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    client: usize,
    due: Instant,
    answered: Option<Instant>,
}

/// What one trial showed.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The longest time without an answer to anybody.
    gap: Duration,
    /// The same of the client that had the longest.
    client_gap: Duration,
    /// The longest from when a request was due to its answer.
    latency: Duration,
}

/// A pair with its clients.
struct Stage {
    pair: ServedPair,
    sessions: Vec<Rc<Session>>,
}

impl Stage {
    async fn start(options: &Options, guarded: bool) -> Result<Self, AnyError> {
        let pair = ServedPair::start(&options.disk, options.silence, guarded).await?;
        let mut sessions = Vec::new();
        for _ in 0..options.clients {
            sessions.push(Rc::new(pair.session().await?));
        }
        fill(&sessions[0], options.state).await?;
        Ok(Self { pair, sessions })
    }

    async fn trial(&mut self, what: Happening, rate: u32) -> Result<Trial, AnyError> {
        tokio::time::sleep(SETTLES_IN).await;
        let sequencer = self.pair.sequencer()?;
        let place = match what {
            Happening::KillFollower => 1 - sequencer,
            _ => sequencer,
        };
        let process = self.pair.process(place)?;
        let began = now();
        let load = tokio::task::spawn_local(load(self.sessions.clone(), rate, began));
        tokio::time::sleep_until((began + HAPPENS_AT).into()).await;
        match what {
            Happening::Nothing => {}
            Happening::HandOver => self.pair.tell(place, "hand-over")?,
            Happening::Leave => self.pair.tell(place, "stop")?,
            Happening::KillFollower | Happening::KillSequencer => self.pair.kill(process)?,
        }
        let asked = load.await?;
        match what {
            Happening::Nothing | Happening::HandOver => {}
            // The guardian has done so, if there is one.
            Happening::KillFollower | Happening::KillSequencer if self.pair.is_guarded() => {}
            _ => self.pair.start_again(place)?,
        }
        self.pair.wait_for_duplex().await?;
        Ok(judge(&asked, self.sessions.len(), began))
    }
}

/// Asks at fixed times for as long as a window, and waits for the answers.
async fn load(sessions: Vec<Rc<Session>>, rate: u32, began: Instant) -> Vec<Asked> {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    let apart = Duration::from_secs(1) / rate;
    for number in 0.. {
        let due = began + apart * number;
        if due >= began + WINDOW {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let client = number as usize % sessions.len();
        let (session, asked) = (Rc::clone(&sessions[client]), Rc::clone(&asked));
        tasks.spawn_local(async move {
            let put = Request::Put(u64::MAX - client as u64, Bytes::from_static(b"a value"));
            let answer = tokio::time::timeout(ANSWERED_BY, session.request(put.encode())).await;
            let answered = matches!(answer, Ok(Ok(_))).then(now);
            asked.borrow_mut().push(Asked { client, due, answered });
        });
    }
    while tasks.join_next().await.is_some() {}
    asked.take()
}

fn judge(asked: &[Asked], clients: usize, began: Instant) -> Trial {
    let longest = |of: &dyn Fn(&Asked) -> bool| {
        let mut times: Vec<_> =
            asked.iter().filter(|one| of(one)).filter_map(|one| one.answered).collect();
        times.push(began);
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(WINDOW)
    };
    let late = |one: &Asked| one.answered.map_or(ANSWERED_BY, |at| at - one.due);
    Trial {
        gap: longest(&|_| true),
        client_gap: (0..clients)
            .map(|client| longest(&|one| one.client == client))
            .max()
            .unwrap_or_default(),
        latency: asked.iter().map(late).max().unwrap_or_default(),
    }
}

/// A row of the table, and its trials so far.
struct Row {
    what: Happening,
    guarded: bool,
    trials: Vec<Trial>,
}

impl Row {
    fn name(&self) -> String {
        let with = if self.guarded { ", guardian" } else { "" };
        format!("{}{with}", self.what.name())
    }

    /// In milliseconds: the part of the trials that is given by this permille, of one figure.
    fn part(&self, permille: usize, of: fn(&Trial) -> Duration) -> f64 {
        let mut all: Vec<_> = self.trials.iter().map(of).collect();
        all.sort_unstable();
        let at = (all.len() * permille / 1000).min(all.len().saturating_sub(1));
        all.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    fn text(&self) -> String {
        let [gap, client, latency]: [fn(&Trial) -> Duration; 3] =
            [|trial| trial.gap, |trial| trial.client_gap, |trial| trial.latency];
        format!(
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            self.name(),
            self.part(500, gap),
            self.part(900, gap),
            self.part(1000, gap),
            self.part(500, client),
            self.part(1000, client),
            self.part(500, latency),
            self.part(1000, latency),
        )
    }

    fn json(&self) -> String {
        let all = |of: fn(&Trial) -> Duration| -> Vec<f64> {
            self.trials.iter().map(|trial| of(trial).as_secs_f64() * 1e3).collect()
        };
        serde_json::json!({
            "row": self.name(),
            "gap_ms": all(|trial| trial.gap),
            "client_gap_ms": all(|trial| trial.client_gap),
            "latency_ms": all(|trial| trial.latency),
        })
        .to_string()
    }
}

fn measure(options: &Options) -> Result<String, AnyError> {
    let runtime = current_thread()?;
    tokio::task::LocalSet::new().block_on(&runtime, measure_rows(options))?;
    // Each row was printed as soon as it was there.
    Ok(String::new())
}

/// The rows of these names, or all of them.
fn rows(names: &[String]) -> Result<Vec<Row>, AnyError> {
    let row = |what, guarded| Row { what, guarded, trials: Vec::new() };
    let all = || Happening::ALL.into_iter().flat_map(|what| [row(what, true), row(what, false)]);
    if let Some(unknown) = names.iter().find(|name| all().all(|row| row.name() != **name)) {
        let known: Vec<_> = all().map(|row| format!("`{}`", row.name())).collect();
        return Err(format!("there is no row `{unknown}`; rows: {}", known.join(", ")).into());
    }
    Ok(all().filter(|row| names.is_empty() || names.contains(&row.name())).collect())
}

async fn measure_rows(options: &Options) -> Result<(), AnyError> {
    let mut rows = rows(&options.rows)?;
    let mut stages = [Stage::start(options, true).await?, Stage::start(options, false).await?];
    for _ in 0..options.trials {
        for row in &mut rows {
            let stage = &mut stages[usize::from(!row.guarded)];
            row.trials.push(stage.trial(row.what, options.rate).await?);
        }
    }
    if !options.json {
        print(&format!(
            "{} requests a second of {} clients, {} trials, a state of {} MiB\n",
            options.rate, options.clients, options.trials, options.state
        ))?;
        print(
            "| what happens | gap: median ms | p90 | max | one client's: median ms | max | \
             latency: median ms | max |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
        )?;
    }
    rows.iter().try_for_each(|row| print(&if options.json { row.json() } else { row.text() }))?;
    Ok(())
}
