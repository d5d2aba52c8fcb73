//! Clients that write down what they saw, while something happens to the pair.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lockstep::client::session::{Session, Settings};
use register::check::{STATES, check};
use register::history;
use register::ops::{Answer, Refusal};
use register::record::{Plan, RecordError, Summary, record};

use crate::caller::settings;
use crate::pair::{DEADLINE, Pair};
use crate::process::wait_for;

/// So many of the longest requests are more than a segment of 4 MiB.
const BULK: usize = 5;

/// Makes requests that are as long as may be, which the service refuses.
async fn fill(settings: Settings, requests: usize) -> Result<(), RecordError> {
    if requests == 0 {
        return Ok(());
    }
    let session = Session::open(settings).await?;
    let body = bytes::Bytes::from(vec![255; lockstep::limits::INPUT_BYTES]);
    for _ in 0..requests {
        let reply = session.request(body.clone()).await.expect("nothing is lost");
        let answer = Answer::decode(&reply).expect("an answer");
        assert_eq!(answer, Answer::Refused(Refusal::Malformed));
    }
    session.close().await.expect("nothing is lost");
    Ok(())
}

/// A recorded run on a thread of its own.
#[derive(Debug)]
pub struct Load {
    answered: Arc<AtomicU64>,
    thread: JoinHandle<(Result<Summary, RecordError>, Vec<u8>)>,
}

/// Keeps a history, and counts its lines.
struct Book {
    bytes: Vec<u8>,
    answered: Arc<AtomicU64>,
}

impl Write for Book {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend(bytes);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.answered.fetch_add(lines, Ordering::SeqCst);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Load {
    /// Begins to make so many requests, with names that begin with `prefix`.
    pub fn start(pair: &Pair, ops: u64, prefix: &str) -> Self {
        Self::begin(pair, ops, prefix, 0)
    }

    /// The same, with a few of the longest requests beside them: they fill the files sooner.
    pub fn start_with_bulk(pair: &Pair, ops: u64, prefix: &str) -> Self {
        Self::begin(pair, ops, prefix, BULK)
    }

    fn begin(pair: &Pair, ops: u64, prefix: &str, bulk: usize) -> Self {
        let answered = Arc::new(AtomicU64::new(0));
        let mut book = Book { bytes: Vec::new(), answered: Arc::clone(&answered) };
        let (settings, prefix) = (settings(pair), prefix.to_owned());
        #[expect(
            clippy::disallowed_methods,
            reason = "a test stands outside the deterministic part"
        )]
        let thread = std::thread::spawn(move || {
            let plan = Plan { ops, clients: 4, pipeline: 4, keys: 4, ..Plan::default() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let bulk = fill(settings.clone(), bulk);
            let recorded = record(&settings, &plan, &prefix, &mut book);
            let (recorded, filled) = runtime.block_on(async { tokio::join!(recorded, bulk) });
            (filled.and(recorded), book.bytes)
        });
        Self { answered, thread }
    }

    /// Waits until so many requests have an outcome, or all of them.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn reach(&self, answered: u64, pair: &Pair) {
        let there = || self.answered.load(Ordering::SeqCst) >= answered || self.is_finished();
        wait_for(DEADLINE, || there().then_some(()).ok_or(())).unwrap_or_else(|()| {
            panic!("{} of {answered} answers{}", self.answered.load(Ordering::SeqCst), pair.logs())
        });
    }

    /// Requests that have an outcome.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Whether all requests have their outcome.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until every request is answered and the end state was read back, and checks the
    /// history. Nothing that was acknowledged may be lost, nothing may take effect twice, and the
    /// answers are those of a single register service.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn finish(self, within: Duration) -> Result<Summary, String> {
        wait_for(within, || self.is_finished().then_some(()).ok_or(())).map_err(|()| {
            let answered = self.answered.load(Ordering::SeqCst);
            format!("the clients are not done within {within:?}; {answered} answers")
        })?;
        let (summary, bytes) = self.thread.join().map_err(|_| "the recorder panicked")?;
        let summary = summary.map_err(|error| error.to_string())?;
        if summary.unanswered + summary.sessions_lost > 0 {
            return Err(format!("requests or sessions were lost: {summary:?}"));
        }
        let calls = history::read(&bytes[..]).map_err(|error| error.to_string())?;
        let mut numbers: Vec<_> = calls.iter().map(|call| (call.session, call.number)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() != calls.len() {
            return Err("a request has two outcomes".into());
        }
        let report = check(&calls, STATES);
        if report.is_good() { Ok(summary) } else { Err(format!("{report:#?}")) }
    }
}
