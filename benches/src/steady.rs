//! A steady load of requests, whatever becomes of the replies, and what it saw in a span of time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use lockstep::client::session::Session;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::bigstate::{FILL_BYTES, Request};
use crate::now;
use crate::talk::empty_histogram;

/// One request: when it was due, and when its reply came.
#[derive(Clone, Copy, Debug)]
struct Sample {
    due: Instant,
    done: Instant,
}

/// A load that goes on until it is dropped.
pub struct Steady {
    samples: Rc<RefCell<Vec<Sample>>>,
    task: tokio::task::JoinHandle<()>,
}

/// What a span of time was like.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How long a request took from when it was due, in nanoseconds.
    pub latency: Histogram<u64>,
    /// The longest time without any reply.
    pub gap: Duration,
}

impl Steady {
    /// Begins to put so many values a second under keys below this one. To be called within a
    /// `LocalSet`.
    pub fn begin(session: Session, per_second: u32, keys: u64) -> Self {
        let samples = Rc::new(RefCell::new(Vec::new()));
        let task = tokio::task::spawn_local(run(session, per_second, keys, Rc::clone(&samples)));
        Self { samples, task }
    }

    /// What was seen of requests that were due in this span.
    pub fn seen(&self, from: Instant, to: Instant) -> Seen {
        let mut latency = empty_histogram();
        let mut done = vec![from, to];
        for Sample { due, done: at } in self.samples.borrow().iter() {
            if (from..to).contains(due) {
                let nanos = at.duration_since(*due).as_nanos();
                latency.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
            }
            if (from..to).contains(at) {
                done.push(*at);
            }
        }
        done.sort_unstable();
        let gaps = done.windows(2).map(|pair| pair[1] - pair[0]);
        Seen { latency, gap: gaps.max().unwrap_or_default() }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(session: Session, per_second: u32, keys: u64, samples: Rc<RefCell<Vec<Sample>>>) {
    let period = Duration::from_secs(1) / per_second.max(1);
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut due = now();
    loop {
        tokio::time::sleep_until(due.into()).await;
        let request = put(&mut random, keys);
        let Ok(ticket) = session.submit(request).await else { return };
        let (samples, at) = (Rc::clone(&samples), due);
        tokio::task::spawn_local(async move {
            if ticket.await.is_ok() {
                samples.borrow_mut().push(Sample { due: at, done: now() });
            }
        });
        due += period;
    }
}

/// A value that no compression makes smaller, under any of the keys.
pub fn put(random: &mut ChaCha8Rng, keys: u64) -> Bytes {
    let mut value = vec![0; FILL_BYTES];
    random.fill_bytes(&mut value);
    Request::Put(random.next_u64() % keys.max(1), value.into()).encode()
}
