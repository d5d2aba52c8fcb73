//! What was promised and what was kept.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use lockstep::ids::ReplicaId;
use tokio::time::Instant;

/// Replies within this time after a kill are "during" it, and within it after the return to duplex
/// they belong to that: many times what the pair needs.
pub(super) const DURING: Duration = Duration::from_secs(1);

/// What became of one mail.
#[derive(Debug, Default, Clone, Copy)]
struct Mail {
    accepted: bool,
    /// Its data had gone out whole, without an answer, this often.
    doubts: u32,
    delivered: u32,
}

/// What the pair goes through, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The pair is duplex, and nothing happens.
    Calm,
    /// One CoServer is killed.
    Kill,
    /// The other CoServer is alone.
    Alone,
    /// The killed CoServer is started, and brought up to date.
    Return,
    /// The pair is duplex again.
    Duplex,
    /// The other CoServer is killed.
    SecondKill,
    /// The CoServer that was back is alone.
    After,
}

impl Stage {
    /// Whether something happens to the pair in it.
    fn is_event(self) -> bool {
        matches!(self, Stage::Kill | Stage::Return | Stage::SecondKill)
    }
}

/// The replies of a stage.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) stage: Stage,
    from: Instant,
    pub(super) latency: Histogram<u64>,
    /// The longest time between two replies.
    pub(super) longest_gap: Duration,
}

impl Phase {
    fn new(stage: Stage, from: Instant) -> Phase {
        #[expect(clippy::expect_used, reason = "the bounds are constants in order")]
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds in order");
        Phase { stage, from, latency, longest_gap: Duration::ZERO }
    }
}

/// The killing of a CoServer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kill {
    pub(super) place: ReplicaId,
    pub(super) was_sequencer: bool,
}

/// The return to duplex.
#[derive(Debug, Clone, Copy)]
pub(super) struct Return {
    pub(super) place: ReplicaId,
    /// Since its process was started.
    pub(super) took: Duration,
    /// Bytes of entries and checkpoints that the returning CoServer was sent.
    pub(super) sent: u64,
}

/// What became of every mail, and when the pair went through what.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) begun: Instant,
    mails: BTreeMap<u64, Mail>,
    /// The stages one after the other; the last may lie ahead.
    pub(super) phases: Vec<Phase>,
    pub(super) kills: Vec<Kill>,
    started: Option<(ReplicaId, Instant)>,
    pub(super) back: Option<Return>,
    last_reply: Option<Instant>,
    /// Mails handed to the senders.
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) accepted_by: [u64; 2],
    pub(super) delivered: u64,
    pub(super) copies: u64,
    pub(super) damaged: u64,
    pub(super) strangers: u64,
    pub(super) troubles: u64,
    pub(super) refused_for_now: u64,
    pub(super) refused: u64,
    pub(super) given_up: u64,
    /// Latest second, for the progress line.
    pub(super) second: Phase,
}

impl Ledger {
    pub(super) fn new(begun: Instant) -> Ledger {
        Ledger {
            begun,
            mails: BTreeMap::new(),
            phases: vec![Phase::new(Stage::Calm, begun)],
            kills: Vec::new(),
            started: None,
            back: None,
            last_reply: None,
            sent: 0,
            accepted: 0,
            accepted_by: [0; 2],
            delivered: 0,
            copies: 0,
            damaged: 0,
            strangers: 0,
            troubles: 0,
            refused_for_now: 0,
            refused: 0,
            given_up: 0,
            second: Phase::new(Stage::Calm, begun),
        }
    }

    pub(super) fn on_kill(&mut self, place: ReplicaId, was_sequencer: bool) {
        let stages = match self.kills.is_empty() {
            true => [Stage::Kill, Stage::Alone],
            false => [Stage::SecondKill, Stage::After],
        };
        self.kills.push(Kill { place, was_sequencer });
        let now = Instant::now();
        self.phases.push(Phase::new(stages[0], now));
        self.phases.push(Phase::new(stages[1], now + DURING));
    }

    pub(super) fn on_start(&mut self, place: ReplicaId) {
        let now = Instant::now();
        self.started = Some((place, now));
        self.phases.push(Phase::new(Stage::Return, now));
    }

    pub(super) fn on_duplex(&mut self, sent: u64) {
        let Some((place, started)) = self.started else { return };
        let now = Instant::now();
        self.back = Some(Return { place, took: now - started, sent });
        self.phases.push(Phase::new(Stage::Duplex, now + DURING));
    }

    pub(super) fn on_accepted(
        &mut self,
        number: u64,
        at: Instant,
        latency: Duration,
        target: usize,
        doubts: u32,
    ) {
        let mail = self.mails.entry(number).or_default();
        mail.accepted = true;
        mail.doubts = doubts;
        self.accepted += 1;
        self.accepted_by[target.min(1)] += 1;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let gap = self.last_reply.map_or(Duration::ZERO, |last| at.duration_since(last));
        let phase = self.phase_of(at);
        self.phases[phase].latency.saturating_record(micros);
        let phase = self.phase_of_gap(at);
        for phase in [&mut self.phases[phase], &mut self.second] {
            phase.longest_gap = phase.longest_gap.max(gap);
        }
        self.second.latency.saturating_record(micros);
        self.last_reply = Some(at);
    }

    fn phase_of(&self, at: Instant) -> usize {
        self.phases.partition_point(|phase| phase.from <= at).saturating_sub(1)
    }

    /// A gap into which something falls, or that ends during it, belongs to that.
    fn phase_of_gap(&self, end: Instant) -> usize {
        let (first, last) = (self.phase_of(self.last_reply.unwrap_or(end)), self.phase_of(end));
        let event = (first..=last).find(|at| self.phases[*at].stage.is_event());
        event.unwrap_or(last)
    }

    /// The longest gap of the stages of this kind.
    pub(super) fn longest_gap(&self, of: impl Fn(Stage) -> bool) -> Duration {
        let those = self.phases.iter().filter(|phase| of(phase.stage));
        those.map(|phase| phase.longest_gap).max().unwrap_or_default()
    }

    pub(super) fn on_delivered(&mut self, number: u64, sound: bool) {
        let mail = self.mails.entry(number).or_default();
        mail.delivered += 1;
        self.damaged += u64::from(!sound);
        match mail.delivered {
            1 => self.delivered += 1,
            _ => self.copies += 1,
        }
    }

    pub(super) fn on_refused(&mut self, for_good: bool) {
        if for_good {
            self.refused += 1;
        } else {
            self.refused_for_now += 1;
        }
    }

    /// Answered with 250 and not at the next hop.
    pub(super) fn lost(&self) -> u64 {
        self.count(|mail| mail.accepted && mail.delivered == 0)
    }

    /// Mails that came twice and whose sender had sent them twice.
    pub(super) fn resent_copies(&self) -> u64 {
        let of = |mail: &Mail| u64::from(mail.doubts.min(mail.delivered.saturating_sub(1)));
        self.mails.values().map(of).sum()
    }

    /// At the next hop without an answer to the sender.
    pub(super) fn unanswered(&self) -> u64 {
        self.count(|mail| !mail.accepted && mail.delivered > 0)
    }

    fn count(&self, holds: impl Fn(&Mail) -> bool) -> u64 {
        self.mails.values().filter(|mail| holds(mail)).count() as u64
    }

    /// Everything that was handed to the senders has been answered and has come.
    pub(super) fn is_settled(&self) -> bool {
        self.accepted + self.refused + self.given_up >= self.sent && self.lost() == 0
    }

    /// Nothing lost, nothing damaged, nothing refused; and who was killed came back.
    pub(super) fn is_kept(&self) -> bool {
        (self.kills.is_empty() || self.back.is_some())
            && self.lost() == 0
            && self.damaged == 0
            && self.refused == 0
            && self.given_up == 0
            && self.accepted > 0
    }
}
