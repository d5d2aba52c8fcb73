//! Honest clients, and what they see: one that asks all the time, and one after another that
//! comes anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::pair::DEADLINE;
use crate::process::wait_for;

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

/// What an honest client does until they are to end.
pub(super) type Work = Box<dyn FnOnce(&Counts) -> Result<(), String> + Send>;

/// What they count.
#[derive(Debug, Default)]
pub(super) struct Counts {
    ended: AtomicBool,
    asked: Watched,
    came: Watched,
}

impl Counts {
    /// Whether they are to go on.
    pub(super) fn go_on(&self) -> bool {
        !self.ended.load(Ordering::SeqCst)
    }

    /// The one that asks all the time was answered.
    pub(super) fn answered(&self) {
        self.asked.happened();
    }

    /// One that came anew was served, and went; a moment later comes the next.
    pub(super) fn served(&self) {
        self.came.happened();
        pause(COMES_AFTER);
    }
}

/// What happens again and again.
#[derive(Debug)]
struct Watched {
    began: Instant,
    times: AtomicU64,
    /// When it last happened, and the longest time between two since the last look,
    /// in microseconds.
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
    /// They begin: the one that asks, and those that come.
    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    pub(super) fn start(asks: Work, come: Work) -> Self {
        let counts = Arc::new(Counts::default());
        let threads = [asks, come].map(|work| {
            let counts = Arc::clone(&counts);
            std::thread::spawn(move || work(&counts))
        });
        Self { counts, threads: threads.into() }
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

#[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}
