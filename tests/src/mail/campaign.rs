//! Many mails from a sender that keeps book, with a kill in the middle.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep::runtime::cli::chain;
use mail_relay::load::{self, Event, Job, Plan};
use mail_relay::smtp::Domain;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::relay::{Hop, RelayPair, wait_until};
use crate::pair::Part;
use crate::said::note;

/// What to send, and whom to kill.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// How many mails to send.
    pub mails: u64,
    /// The size of the smallest mail, in octets.
    pub least: usize,
    /// The size of the largest mail, in octets.
    pub most: usize,
    /// How many connections send.
    pub connections: usize,
    /// The process that is killed when half of the mails are accepted; `None` for none.
    pub kill: Option<Part>,
    /// How long the campaign may take altogether.
    pub within: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Accepted mails, and how often each had been sent whole before without an answer.
    pub accepted: BTreeMap<u64, u32>,
    /// How often each mail arrived.
    pub arrived: BTreeMap<u64, u32>,
    /// Mails that arrived changed.
    pub damaged: u64,
    /// Connections that the sender lost.
    pub troubles: u64,
    /// Refusals, in the server's words.
    pub refused: Vec<String>,
    /// Mails that the sender gave up.
    pub given_up: Vec<u64>,
    /// Octets of the accepted mails.
    pub octets: u64,
    /// Time from the first mail to the last answer.
    pub took: Duration,
}

impl Outcome {
    /// Accepted mails that did not arrive.
    pub fn lost(&self) -> Vec<u64> {
        self.accepted.keys().filter(|number| !self.arrived.contains_key(number)).copied().collect()
    }

    /// Arrivals beyond each mail's first.
    pub fn copies(&self) -> u64 {
        self.arrived.values().map(|count| u64::from(count.saturating_sub(1))).sum()
    }

    /// Of these, those whose sender had sent the mail whole more than once.
    pub fn resent_copies(&self) -> u64 {
        let of = |(number, count): (&u64, &u32)| {
            let doubts = self.accepted.get(number).copied().unwrap_or(0);
            u64::from(doubts.min(count.saturating_sub(1)))
        };
        self.arrived.iter().map(of).sum()
    }
}

impl Campaign {
    /// The size of a mail: from the least to the most, as many small ones as large ones on
    /// a scale of ratios, in an order that mixes them.
    fn size(&self, number: u64) -> usize {
        let share = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64;
        let ratio = self.most as f64 / self.least as f64;
        (self.least as f64 * ratio.powf(share)) as usize
    }

    /// Starts the senders.
    fn start(&self, relay: &RelayPair) -> (JoinSet<()>, mpsc::UnboundedReceiver<Event>) {
        let (jobs, queue) = mpsc::channel(self.connections);
        let (events, happened) = mpsc::unbounded_channel();
        let plan = Plan {
            targets: relay.both(),
            connections: self.connections,
            patience: Duration::from_secs(20),
            give_up: self.within,
            hostname: Domain::parse("sender.example").expect("a domain"),
        };
        let mut senders = load::start(plan, queue, events);
        let campaign = self.clone();
        senders.spawn(async move {
            for number in 0..campaign.mails {
                let size = campaign.size(number);
                let delivery = load::mail("campaign", number, size, "example.org");
                if jobs.send(Job { delivery: delivery.expect("a domain") }).await.is_err() {
                    return;
                }
            }
        });
        (senders, happened)
    }

    /// Sends everything and waits until it is accepted.
    ///
    /// # Panics
    /// If it takes too long.
    pub async fn send(&self, relay: &RelayPair) {
        let (_senders, mut happened) = self.start(relay);
        let mut outcome = Outcome::default();
        let all = async {
            while let Some(event) = happened.recv().await {
                self.take(event, &mut outcome);
                if outcome.accepted.len() as u64 == self.mails {
                    return;
                }
            }
        };
        assert!(timeout(self.within, all).await.is_ok(), "{outcome:?}{}", relay.pair.logs());
    }

    /// Sends everything, kills on the way, and waits until every accepted mail has arrived.
    ///
    /// # Panics
    /// If it takes too long.
    pub async fn run(&self, relay: &mut RelayPair, hop: &Hop) -> Outcome {
        let (_senders, mut happened) = self.start(relay);
        let begun = Instant::now();
        let mut outcome = Outcome::default();
        let mut kill = self.kill;
        while outcome.settled() < self.mails {
            let left = self.within.saturating_sub(begun.elapsed());
            let event = timeout(left, happened.recv()).await;
            let Ok(Some(event)) = event else {
                panic!(
                    "{} of {} mails after {:?}{}",
                    outcome.settled(),
                    self.mails,
                    self.within,
                    relay.pair.logs()
                )
            };
            self.take(event, &mut outcome);
            if outcome.accepted.len() as u64 >= self.mails / 2
                && let Some(part) = kill.take()
            {
                relay.pair.process(part).signal(Signal::KILL);
            }
        }
        outcome.took = begun.elapsed();
        wait_until("every accepted mail to arrive", Duration::from_secs(60), async || {
            let arrived = hop.numbers().await;
            outcome.accepted.keys().all(|number| arrived.contains_key(number)).then_some(())
        })
        .await;
        outcome.arrived = hop.numbers().await;
        outcome.damaged = hop.damaged().await;
        outcome
    }

    fn take(&self, event: Event, outcome: &mut Outcome) {
        match event {
            Event::Accepted { number, doubts, .. } => {
                outcome.accepted.insert(number, doubts);
                outcome.octets += self.size(number) as u64;
            }
            Event::Refused { reply, .. } => outcome.refused.push(reply),
            Event::Trouble { why, target, .. } => {
                outcome.troubles += 1;
                note(&format!("sender: target {target}: {}", chain(&why)));
            }
            Event::GivenUp { number } => outcome.given_up.push(number),
        }
    }
}

impl Outcome {
    fn settled(&self) -> u64 {
        (self.accepted.len() + self.given_up.len()) as u64
    }
}
