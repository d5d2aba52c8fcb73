//! Rounds of a loss and a return, under mail that never stops.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lockstep::client::blocking::Session;
use lockstep::ids::ReplicaId;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::relay::{Copies, Hop, RelayPair, wait_until};
use super::steady::{Ledger, Span, Steady};
use crate::caller::settings;
use crate::pair::{A, B, DEADLINE, Part, WITNESS};

/// Mails that have to be accepted before a round goes on: while one is alone, and after
/// each round.
const SOME: u64 = 20;

/// What happens to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to the CoServer at this place.
    Kill(ReplicaId),
    /// SIGKILL to one CoServer, after a while to the other; they are started again in the
    /// same order.
    KillBoth {
        /// The CoServer that is killed first.
        first: ReplicaId,
        /// Time between the two kills.
        apart: Duration,
    },
    /// SIGKILL to the witness and to one CoServer.
    KillWithWitness(ReplicaId),
    /// SIGKILL to everything.
    KillAll,
    /// SIGSTOP until the CoServer is removed, then SIGCONT: it comes back by itself.
    Pause(ReplicaId),
    /// SIGTERM: the CoServer leaves in good order.
    Leave(ReplicaId),
    /// SIGKILL, and the CoServer's disk is empty when it is started again.
    Wipe(ReplicaId),
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blow::Kill(place) => write!(f, "{place} killed"),
            Blow::KillBoth { first, apart } => {
                write!(f, "{first} killed, after {apart:?} {} too", first.other())
            }
            Blow::KillWithWitness(place) => write!(f, "witness and {place} killed"),
            Blow::KillAll => f.write_str("witness, a and b killed"),
            Blow::Pause(place) => write!(f, "{place} paused until it was removed"),
            Blow::Leave(place) => write!(f, "{place} left in good order"),
            Blow::Wipe(place) => write!(f, "{place} killed and its disk wiped"),
        }
    }
}

/// Draws blows: the same ones for the same seed.
#[derive(Debug, Clone, Copy)]
pub struct Draw(pub u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are good enough for a choice.
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// The next blow: half of them are plain kills.
    pub fn blow(&mut self) -> Blow {
        let place = ReplicaId::BOTH[self.below(2) as usize];
        match self.below(14) {
            0 | 1 => {
                Blow::KillBoth { first: place, apart: Duration::from_millis(self.below(1000)) }
            }
            2 => Blow::KillWithWitness(place),
            3 => Blow::KillAll,
            4 => Blow::Pause(place),
            5 => Blow::Leave(place),
            6 => Blow::Wipe(place),
            _ => Blow::Kill(place),
        }
    }
}

/// How a round went.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// What happened to the pair.
    pub blow: Blow,
    /// Time from the moment when everything ran again until the pair was duplex.
    pub back: Duration,
    /// Bytes of entries and checkpoints that the joiner was sent.
    pub sent: u64,
    /// Replies from the blow until some time after the pair was duplex.
    pub during: Span,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Round { blow, back, sent, during } = self;
        write!(
            f,
            "{blow}: duplex {:.1} s after the start, {} KiB sent, {} replies, \
             longest gap {:.2} s",
            back.as_secs_f64(),
            sent >> 10,
            during.replies,
            during.longest_gap.as_secs_f64()
        )
    }
}

impl RelayPair {
    /// One round: the blow, the return, and some mails afterwards.
    ///
    /// # Panics
    /// If the pair does not become duplex, or no mail is accepted.
    pub async fn round(&mut self, blow: Blow, load: &Steady) -> Round {
        let begun = Instant::now();
        self.strike(blow, load).await;
        let there = Instant::now();
        self.pair.wait_for_duplex();
        let duplex = Instant::now();
        let sent = self.pair.sent_to_joiner();
        self.goes_on(load).await;
        let during = load.span(begun, Instant::now());
        Round { blow, back: duplex - there, sent, during }
    }

    async fn strike(&mut self, blow: Blow, load: &Steady) {
        let pair = &mut self.pair;
        match blow {
            Blow::Kill(place) => {
                pair.kill(Part::CoServer(place));
                self.alone(place.other(), load).await;
                self.pair.run(Part::CoServer(place));
            }
            Blow::Wipe(place) => {
                pair.kill(Part::CoServer(place));
                pair.wipe(Part::CoServer(place));
                self.alone(place.other(), load).await;
                self.pair.run(Part::CoServer(place));
            }
            Blow::KillBoth { first, apart } => {
                let both = [first, first.other()].map(Part::CoServer);
                pair.kill(both[0]);
                sleep(apart).await;
                pair.kill(both[1]);
                both.into_iter().for_each(|part| pair.run(part));
            }
            Blow::KillWithWitness(place) => {
                let gone = [WITNESS, Part::CoServer(place)];
                gone.into_iter().for_each(|part| pair.kill(part));
                gone.into_iter().for_each(|part| pair.run(part));
            }
            Blow::KillAll => {
                let all = [WITNESS, A, B];
                all.into_iter().for_each(|part| pair.kill(part));
                all.into_iter().for_each(|part| pair.run(part));
            }
            Blow::Pause(place) => {
                pair.pause(Part::CoServer(place));
                self.alone(place.other(), load).await;
                self.pair.resume(Part::CoServer(place));
            }
            Blow::Leave(place) => {
                let status = pair.terminate(Part::CoServer(place));
                assert_eq!(status.code(), Some(0), "{}", pair.logs());
                self.alone(place.other(), load).await;
                self.pair.run(Part::CoServer(place));
            }
        }
    }

    /// Waits until one serves alone.
    async fn alone(&self, place: ReplicaId, load: &Steady) {
        self.pair.wait_for_mode(Part::CoServer(place), "simplex");
        self.goes_on(load).await;
    }

    async fn goes_on(&self, load: &Steady) {
        let from = load.accepted();
        let more = async || (load.accepted() >= from + SOME).then_some(());
        let within = DEADLINE;
        let done = tokio::time::timeout(within, async {
            while more().await.is_none() {
                sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(done.await.is_ok(), "no mail is accepted within {within:?}{}", self.pair.logs());
    }

    /// The relay's own counters.
    ///
    /// # Panics
    /// If it does not answer.
    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    pub fn counters(&self) -> Value {
        let settings = settings(&self.pair);
        // A client of the library brings a runtime of its own, which no runtime's thread may.
        let asked = std::thread::spawn(move || {
            let session = Session::open(settings).expect("a session");
            let answer = session.request_within(bytes::Bytes::new(), DEADLINE).expect("an answer");
            let _ = session.close();
            answer
        });
        let answer = asked.join().expect("the relay answers");
        serde_json::from_slice(&answer).expect("in JSON")
    }
}

/// What became of all mails.
#[derive(Debug)]
pub struct Balance {
    /// The sender's book.
    pub ledger: Ledger,
    /// Accepted mails that did not arrive.
    pub lost: Vec<u64>,
    /// Mails that arrived changed.
    pub damaged: u64,
    /// Mails that came more than once, by their numbers.
    pub copies: BTreeMap<u64, Copies>,
    /// How often the relay did not see the next hop's answer, by its own count.
    pub in_doubt: u64,
    /// How often it does not know whether a sender saw its answer.
    pub answers_in_doubt: u64,
}

impl Balance {
    /// Ends the load, waits for everything that was accepted, and adds up.
    ///
    /// # Panics
    /// If a mail is not answered, or an accepted one does not arrive, in time.
    pub async fn draw_up(relay: &RelayPair, hop: &Hop, load: Steady) -> Balance {
        let ledger = load.finish(DEADLINE * 3).await;
        let all_there = async || {
            let arrived = hop.numbers().await;
            ledger.accepted.keys().all(|number| arrived.contains_key(number)).then_some(())
        };
        wait_until("every accepted mail to arrive", DEADLINE * 2, all_there).await;
        // A copy may still be on its way: the relay's queue has to be empty.
        let counters = wait_until("an empty queue", DEADLINE * 2, async || {
            let counters = relay.counters();
            (counters["queued"] == 0).then_some(counters)
        })
        .await;
        let arrived = hop.numbers().await;
        Balance {
            lost: ledger.accepted.keys().filter(|n| !arrived.contains_key(n)).copied().collect(),
            damaged: hop.damaged().await,
            copies: hop.copies().await,
            in_doubt: counters["in_doubt"].as_u64().expect("a counter"),
            answers_in_doubt: counters["answers_in_doubt"].as_u64().expect("a counter"),
            ledger,
        }
    }

    /// Copies that the sender made, and copies that the relay made.
    fn resent_and_delivered_again(&self) -> (u64, u64) {
        let all = self.copies.values();
        let add = |sum: (u64, u64), of: &Copies| (sum.0 + of.resent, sum.1 + of.delivered_again);
        all.fold((0, 0), add)
    }

    /// Holds that nothing was lost, and that each copy is explained by whoever made it.
    ///
    /// # Panics
    /// If that is not so.
    #[track_caller]
    pub fn check(&self) {
        let Balance { ledger, lost, damaged, copies, in_doubt, answers_in_doubt } = self;
        assert_eq!(*lost, [0; 0], "accepted and not delivered");
        assert_eq!(*damaged, 0, "delivered, but changed");
        assert_eq!(ledger.refused, [""; 0]);
        assert_eq!(ledger.given_up, [0; 0]);
        assert_eq!(ledger.accepted.len() as u64, ledger.sent);
        let (resent, delivered_again) = self.resent_and_delivered_again();
        assert!(delivered_again <= *in_doubt, "{in_doubt} deliveries in doubt: {copies:?}");
        assert!(resent <= *answers_in_doubt, "{answers_in_doubt} answers in doubt: {copies:?}");
        for (number, copies) in copies {
            let doubts = ledger.accepted.get(number).copied().unwrap_or(0);
            assert!(copies.resent <= doubts.into(), "{number} was sent again without doubt");
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Balance { ledger, lost, in_doubt, answers_in_doubt, .. } = self;
        let (resent, delivered_again) = self.resent_and_delivered_again();
        write!(
            f,
            "{} mails accepted, {} lost; {} connections lost or refused, {} mails put off; {} \
             copies: {resent} sent twice ({answers_in_doubt} answers in doubt), {delivered_again} \
             delivered twice ({in_doubt} deliveries in doubt)",
            ledger.accepted.len(),
            lost.len(),
            ledger.troubles,
            ledger.put_off,
            resent + delivered_again,
        )
    }
}
