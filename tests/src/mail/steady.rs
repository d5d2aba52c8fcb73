//! Mail at a steady rate, from a sender that keeps book.
#![expect(clippy::disallowed_types, reason = "a sender is outside the pair")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lockstep::runtime::cli::chain;
use mail_relay::load::{self, Event, Job, Plan};
use mail_relay::smtp::Domain;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::relay::RelayPair;
use crate::said::note;

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Mails a second.
    pub rate: u32,
    /// Octets of each.
    pub size: usize,
    /// Connections at a time.
    pub connections: usize,
}

/// The sender's book.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Mails that were sent, from 0 on.
    pub sent: u64,
    /// Mails that were answered with 250, and how often each had been sent whole before without
    /// an answer.
    pub accepted: BTreeMap<u64, u32>,
    /// When each of these answers came, and how long after the end of the mail.
    pub replies: Vec<(Instant, Duration)>,
    /// Connections lost or refused.
    pub troubles: u64,
    /// Mails put off by a 4xx, each time.
    pub put_off: u64,
    /// Mails refused for good, in the server's words.
    pub refused: Vec<String>,
    /// Mails that the sender gave up.
    pub given_up: Vec<u64>,
}

/// Answers within a span of time.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// How many replies came.
    pub replies: usize,
    /// Half of the answers took no longer.
    pub p50: Duration,
    /// 99 of 100 answers took no longer.
    pub p99: Duration,
    /// The longest time between two answers; also from the last before the span to its first.
    pub longest_gap: Duration,
}

impl Ledger {
    /// The answers that came from one moment to another.
    pub fn span(&self, from: Instant, to: Instant) -> Span {
        let first = self.replies.partition_point(|(at, _)| *at < from);
        let end = self.replies.partition_point(|(at, _)| *at <= to);
        let mut took: Vec<Duration> = self.replies[first..end].iter().map(|(_, t)| *t).collect();
        took.sort_unstable();
        let times = &self.replies[first.saturating_sub(1)..end];
        let gaps = times.windows(2).map(|two| two[1].0 - two[0].0);
        let of = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
        Span {
            replies: took.len(),
            p50: of(50),
            p99: of(99),
            longest_gap: gaps.max().unwrap_or_default(),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Accepted { number, at, latency, doubts, .. } => {
                self.accepted.insert(number, doubts);
                self.replies.push((at, latency));
            }
            Event::Refused { for_good: false, .. } => self.put_off += 1,
            Event::Refused { number, reply, .. } => self.refused.push(format!("{number}: {reply}")),
            Event::Trouble { why, target, .. } => {
                self.troubles += 1;
                // Enough to see what it is about.
                if self.troubles <= 20 {
                    note(&format!("sender: target {target}: {}", chain(&why)));
                }
            }
            Event::GivenUp { number } => self.given_up.push(number),
        }
    }
}

/// Mail on its way, until it is ended.
#[derive(Debug)]
pub struct Steady {
    ledger: Arc<Mutex<Ledger>>,
    ended: Arc<AtomicBool>,
    senders: JoinSet<()>,
    keeper: JoinHandle<()>,
}

impl Steady {
    /// Begins to send to both CoServers of a pair. To be called within a runtime that has threads
    /// beside the caller's. A mail without an answer is given up after `give_up`.
    ///
    /// # Panics
    /// If a domain is none.
    pub fn start(relay: &RelayPair, pace: Pace, give_up: Duration) -> Steady {
        let (jobs, queue) = mpsc::channel(pace.connections);
        let (events, mut happened) = mpsc::unbounded_channel();
        let plan = Plan {
            targets: relay.both(),
            connections: pace.connections,
            patience: Duration::from_secs(2),
            give_up,
            hostname: Domain::parse("sender.example").expect("a domain"),
        };
        let mut senders = load::start(plan, queue, events);
        let (ledger, ended) = (Arc::new(Mutex::new(Ledger::default())), Arc::default());
        senders.spawn(feed(pace, Arc::clone(&ledger), Arc::clone(&ended), jobs));
        let book = Arc::clone(&ledger);
        let keeper = tokio::spawn(async move {
            while let Some(event) = happened.recv().await {
                locked(&book).take(event);
            }
        });
        Steady { ledger, ended, senders, keeper }
    }

    /// Mails accepted so far.
    pub fn accepted(&self) -> u64 {
        locked(&self.ledger).accepted.len() as u64
    }

    /// Answers so far, from one moment to another.
    pub fn span(&self, from: Instant, to: Instant) -> Span {
        locked(&self.ledger).span(from, to)
    }

    /// Sends no more, waits for all answers, and gives the book.
    ///
    /// # Panics
    /// If they do not come in time.
    pub async fn finish(mut self, within: Duration) -> Ledger {
        self.ended.store(true, Ordering::SeqCst);
        let all = async {
            while self.senders.join_next().await.is_some() {}
            // All events are told by now.
            self.keeper.await.expect("it keeps the book");
        };
        let answered = timeout(within, all).await;
        let ledger = std::mem::take(&mut *locked(&self.ledger));
        assert!(answered.is_ok(), "{} of {}", ledger.accepted.len(), ledger.sent);
        ledger
    }
}

fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().expect("nobody panics with it")
}

/// Hands mails to the senders. While none of them is free the rate is not kept, nor made up for.
async fn feed(
    pace: Pace,
    ledger: Arc<Mutex<Ledger>>,
    ended: Arc<AtomicBool>,
    jobs: mpsc::Sender<Job>,
) {
    let mut due = interval(Duration::from_secs(1) / pace.rate);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0.. {
        due.tick().await;
        let delivery = load::mail("steady", number, pace.size, "example.org").expect("a domain");
        if ended.load(Ordering::SeqCst) || jobs.send(Job { delivery }).await.is_err() {
            return;
        }
        locked(&ledger).sent += 1;
    }
}
