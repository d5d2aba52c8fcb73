//! Drives a pair with many clients at once and writes down what they saw.

mod caller;
mod draw;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use lockstep::client::session::{OpenError, Session, Settings};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::history::{self, Call};
use crate::ops::{Answer, Op};
use caller::{Caller, Run};
pub use draw::Mix;

/// Calls that wait to be written.
const WAITING: usize = 4096;

/// How to drive the pair.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Requests in all; the run ends after so many.
    pub ops: u64,
    /// The run ends after this long, if that comes first.
    pub within: Option<Duration>,
    /// Clients, each with a session of its own.
    pub clients: usize,
    /// Requests of each client under way at the same time.
    pub pipeline: usize,
    /// Registers, counters and queues that are used, so many of each kind.
    pub keys: u64,
    /// How often each kind of request is drawn.
    pub mix: Mix,
    /// A pause of each client between two requests.
    pub pause: Duration,
    /// The seed of the requests that are drawn. The same seed draws the same, but the network
    /// decides what meets what.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            ops: 10_000,
            within: None,
            clients: 8,
            pipeline: 4,
            keys: 8,
            mix: Mix::default(),
            pause: Duration::ZERO,
            seed: 1,
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many requests the clients made.
    pub calls: u64,
    /// Requests without an answer, whose outcome is unknown.
    pub unanswered: u64,
    /// Answers that refuse for a limit.
    pub refused: u64,
    /// Sessions that were lost and replaced by new ones.
    pub sessions_lost: u64,
    /// How long the run took, in microseconds.
    pub took_us: u64,
    /// The longest time between two answers, to any client, in microseconds.
    pub longest_gap_us: u64,
    /// Time from request to answer in microseconds: the median.
    pub p50_us: u64,
    /// Time from request to answer in microseconds: 99 of 100 are faster.
    pub p99_us: u64,
    /// Time from request to answer in microseconds: the slowest.
    pub max_us: u64,
}

/// A run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No session could be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The history cannot be written.
    #[error("the history cannot be written")]
    Write(#[from] std::io::Error),
}

/// Drives the pair as planned, then reads everything back, so that what was lost shows. Each
/// call is written to `out` when it has ended. The names used begin with `prefix`, so that
/// several histories of one pair do not meet.
///
/// # Errors
/// If no session can be opened, or the output fails.
pub async fn record(
    settings: &Settings,
    plan: &Plan,
    prefix: &str,
    out: &mut impl Write,
) -> Result<Summary, RecordError> {
    let clock = Stopwatch::start();
    let mut tally = Tally::default();
    let (calls, mut ended) = mpsc::channel(WAITING);
    let run = Run::new(settings.clone(), plan, prefix, clock, calls);
    let mut callers = Vec::new();
    let mut tasks = JoinSet::new();
    for client in 0..plan.clients.max(1) as u64 {
        let session = Session::open(settings.clone()).await?;
        let caller = Caller::new(&run, client, session);
        callers.push(caller.clone());
        for _ in 0..plan.pipeline.max(1) {
            tasks.spawn(caller.clone().run());
        }
    }
    let done = async {
        while tasks.join_next().await.is_some() {}
        run.finish();
        Ok(())
    };
    tokio::try_join!(done, write_down(&mut ended, &mut tally, out))?;
    tally.pause();
    let closing: JoinSet<()> = callers.into_iter().map(Caller::close).collect();
    closing.join_all().await;
    if let Some(error) = run.failure() {
        out.flush()?;
        return Err(error.into());
    }
    let sessions_lost = run.lost();

    let (calls, mut ended) = mpsc::channel(WAITING);
    let run = Run::new(settings.clone(), plan, prefix, clock, calls);
    let caller = Caller::new(&run, u64::MAX, Session::open(settings.clone()).await?);
    let done = async {
        read_back(&run, caller, plan, prefix).await;
        Ok(())
    };
    tokio::try_join!(done, write_down(&mut ended, &mut tally, out))?;
    Ok(tally.summary(sessions_lost))
}

/// Writes every call down as it ends, until no more come.
async fn write_down(
    ended: &mut mpsc::Receiver<Call>,
    tally: &mut Tally,
    out: &mut impl Write,
) -> std::io::Result<()> {
    while let Some(call) = ended.recv().await {
        tally.take(&call);
        history::write(out, &call)?;
    }
    out.flush()
}

/// Reads every register, and takes out what is left in the queues.
async fn read_back(run: &Run, caller: Caller, plan: &Plan, prefix: &str) {
    for key in 0..plan.keys.max(1) {
        for kind in ["r", "c"] {
            caller.ask(Op::Get { name: format!("{prefix}{kind}{key}") }).await;
        }
        let pop = Op::Pop { queue: format!("{prefix}q{key}") };
        while let Some(Answer::Item(Some(_))) = caller.ask(pop.clone()).await {}
    }
    caller.close().await;
    run.finish();
}

/// Counts while the history is written.
#[derive(Default)]
struct Tally {
    summary: Summary,
    first: Option<u64>,
    last: u64,
    paused: bool,
    /// How many answers took so many microseconds, to three digits.
    spread: BTreeMap<u64, u64>,
}

impl Tally {
    fn take(&mut self, call: &Call) {
        self.summary.calls += 1;
        self.summary.refused += u64::from(matches!(call.answer, Some(Answer::Refused(_))));
        let Some(to) = call.to else {
            self.summary.unanswered += 1;
            return;
        };
        if self.paused {
            return;
        }
        let first = *self.first.get_or_insert(to);
        if to > self.last {
            if self.last > 0 {
                let gap = (to - self.last) / 1000;
                self.summary.longest_gap_us = self.summary.longest_gap_us.max(gap);
            }
            self.last = to;
        }
        self.summary.took_us = self.summary.took_us.max(to.saturating_sub(first) / 1000);
        let took = (to - call.from) / 1000;
        self.summary.max_us = self.summary.max_us.max(took);
        *self.spread.entry(three_digits(took)).or_default() += 1;
    }

    /// The clients are done; what is read back is not their doing.
    fn pause(&mut self) {
        self.paused = true;
    }

    fn summary(mut self, sessions_lost: u64) -> Summary {
        self.summary.sessions_lost = sessions_lost;
        self.summary.p50_us = self.quantile(50);
        self.summary.p99_us = self.quantile(99);
        self.summary
    }

    fn quantile(&self, percent: u64) -> u64 {
        let all: u64 = self.spread.values().sum();
        let mut left = (all * percent).div_ceil(100);
        for (value, count) in &self.spread {
            if *count >= left {
                return *value;
            }
            left -= count;
        }
        0
    }
}

/// Rounded down, so that a long run's times take little memory.
fn three_digits(value: u64) -> u64 {
    let mut scale = 1;
    while value / scale >= 1000 {
        scale *= 10;
    }
    value / scale * scale
}

/// The clock of a history: nanoseconds since its first look.
#[derive(Clone, Copy)]
struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
