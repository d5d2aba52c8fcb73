//! Honest clients: one that asks all the time, and one after another that comes anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lockstep::client::blocking::{Session, Ticket};
use lockstep::client::session::Settings;

use crate::pair::DEADLINE;
use crate::process::wait_for;

/// Requests of the first client under way together, and the pause between two: what a pair does with
/// ease beside what else is on its cores.
const UNDER_WAY: usize = 16;
const PAUSE: Duration = Duration::from_millis(1);

/// Between two clients that come.
const COMES_AFTER: Duration = Duration::from_millis(20);

/// What they saw in some time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Served {
    /// Answers a second for the one that asks all the time.
    pub(super) rate: f64,
    /// Its longest time without an answer.
    pub(super) gap: Duration,
    /// Clients a second that came, were served, and went.
    pub(super) newcomers: f64,
    /// The longest that one of them took.
    pub(super) longest: Duration,
}

/// Honest clients of a pair.
#[derive(Debug)]
pub(super) struct Honest {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

#[derive(Debug, Default)]
struct Counts {
    ended: AtomicBool,
    asked: Watched,
    came: Watched,
}

/// What happens again and again.
#[derive(Debug)]
struct Watched {
    began: Instant,
    times: AtomicU64,
    /// When it last happened, and the longest time between two since the last look, in microseconds.
    last: AtomicU64,
    longest: AtomicU64,
}

impl Default for Watched {
    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    fn default() -> Self {
        let (times, last, longest) = Default::default();
        Self { began: Instant::now(), times, last, longest }
    }
}

impl Watched {
    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn happened(&self) {
        let now = self.now();
        let last = self.last.swap(now, Ordering::SeqCst);
        self.longest.fetch_max(now.saturating_sub(last), Ordering::SeqCst);
        self.times.fetch_add(1, Ordering::SeqCst);
    }

    fn times(&self) -> u64 {
        self.times.load(Ordering::SeqCst)
    }

    /// The longest time between two since it was asked for last, the one that still lasts included.
    fn longest(&self) -> Duration {
        let lasts = self.now().saturating_sub(self.last.load(Ordering::SeqCst));
        Duration::from_micros(self.longest.swap(0, Ordering::SeqCst).max(lasts))
    }
}

impl Honest {
    /// They begin, with these settings.
    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    pub(super) fn start(settings: &Settings) -> Self {
        let counts = Arc::new(Counts::default());
        let asking = (settings.clone(), Arc::clone(&counts));
        let coming = (settings.clone(), Arc::clone(&counts));
        let threads = vec![
            std::thread::spawn(move || ask(asking.0, &asking.1)),
            std::thread::spawn(move || come(&coming.0, &coming.1)),
        ];
        Self { counts, threads }
    }

    /// Waits until each of them was served a few times more.
    pub(super) fn go_on(&self) -> Result<(), String> {
        let Counts { asked, came, .. } = &*self.counts;
        let (asked_before, came_before) = (asked.times(), came.times());
        let goes_on = || asked.times() >= asked_before + 20 && came.times() >= came_before + 2;
        let failed = || self.threads.iter().any(JoinHandle::is_finished);
        wait_for(DEADLINE, || (goes_on() || failed()).then_some(()).ok_or(()))
            .map_err(|()| format!("honest clients are not served any more, after {DEADLINE:?}"))?;
        if failed() { Err("an honest client was refused".into()) } else { Ok(()) }
    }

    /// What they see in this time.
    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    pub(super) fn watch(&self, time: Duration) -> Served {
        let Counts { asked, came, .. } = &*self.counts;
        let (began, asked_before, came_before) = (Instant::now(), asked.times(), came.times());
        let _ = (asked.longest(), came.longest());
        std::thread::sleep(time);
        let seconds = began.elapsed().as_secs_f64();
        Served {
            rate: (asked.times() - asked_before) as f64 / seconds,
            gap: asked.longest(),
            newcomers: (came.times() - came_before) as f64 / seconds,
            longest: came.longest(),
        }
    }

    /// They end. Why one of them was not served, if so.
    pub(super) fn finish(self) -> Result<(), String> {
        self.counts.ended.store(true, Ordering::SeqCst);
        self.threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err("an honest client panicked".into()))
        })
    }
}

fn ask(settings: Settings, counts: &Counts) -> Result<(), String> {
    let session = Session::open(settings).map_err(|error| error.to_string())?;
    let mut under_way = VecDeque::new();
    let mut number = 0_u64;
    while !counts.ended.load(Ordering::SeqCst) {
        number += 1;
        let ticket = session.submit(number.to_be_bytes().to_vec());
        under_way.push_back((number, ticket.map_err(|error| error.to_string())?));
        if under_way.len() >= UNDER_WAY {
            take(&mut under_way, counts)?;
        }
        pause(PAUSE);
    }
    while !under_way.is_empty() {
        take(&mut under_way, counts)?;
    }
    session.close().map_err(|error| error.to_string())
}

fn take(under_way: &mut VecDeque<(u64, Ticket)>, counts: &Counts) -> Result<(), String> {
    let Some((number, ticket)) = under_way.pop_front() else { return Ok(()) };
    let reply = ticket.wait().map_err(|error| format!("request {number}: {error:?}"))?;
    counts.asked.happened();
    if reply[..] == number.to_be_bytes() { Ok(()) } else { Err(format!("{number}: {reply:?}")) }
}

fn come(settings: &Settings, counts: &Counts) -> Result<(), String> {
    while !counts.ended.load(Ordering::SeqCst) {
        let session = Session::open(settings.clone()).map_err(|error| error.to_string())?;
        let reply = session.request_within("new", DEADLINE);
        reply.map_err(|error| format!("a new client: {error:?}"))?;
        session.close().map_err(|error| error.to_string())?;
        counts.came.happened();
        pause(COMES_AFTER);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
