//! What came of an attack.

use std::fmt;
use std::time::Duration;

use super::Mode;
use super::honest::Served;

/// The heading of the table whose rows the reports are.
pub const HEADING: &str = "\
| mode | rate, control | rate, attack | attack by control | newcomers, attack by control | longest gap: quiet, control, attack | longest new client: quiet, control, attack | processor | memory before, most, after | given back after |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// Three spans of one round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Round {
    pub(super) quiet: Served,
    pub(super) attack: Served,
    pub(super) control: Served,
    /// Processors that the attacker kept busy.
    pub(super) processors: f64,
}

/// What came of one attack.
#[derive(Debug)]
pub struct Report {
    pub(super) mode: Mode,
    pub(super) rounds: Vec<Round>,
    /// Of both CoServers together, in octets.
    pub(super) before: u64,
    pub(super) most: u64,
    pub(super) after: u64,
    /// How long it took until everything was given back.
    pub(super) back: Duration,
    pub(super) broken: Vec<String>,
}

impl Report {
    /// The promises that did not hold.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// The median over the rounds of one figure by another of the same round.
    fn ratio(&self, of: fn(&Round) -> f64, by: fn(&Round) -> f64) -> f64 {
        self.median(|round| of(round) / by(round).max(0.001))
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        let mut all: Vec<f64> = self.rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn longest(&self, of: impl Fn(&Round) -> Duration) -> u128 {
        self.rounds.iter().map(of).max().unwrap_or_default().as_millis()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {}, {}, {} ms | {}, {}, {} ms | {:.2} | {}, {}, {} MiB | {} ms |",
            self.mode,
            self.ratio(|round| round.control.rate, |round| round.quiet.rate),
            self.ratio(|round| round.attack.rate, |round| round.quiet.rate),
            self.ratio(|round| round.attack.rate, |round| round.control.rate),
            self.ratio(|round| round.attack.newcomers, |round| round.control.newcomers),
            self.longest(|round| round.quiet.gap),
            self.longest(|round| round.control.gap),
            self.longest(|round| round.attack.gap),
            self.longest(|round| round.quiet.longest),
            self.longest(|round| round.control.longest),
            self.longest(|round| round.attack.longest),
            self.median(|round| round.processors),
            mib(self.before),
            mib(self.most),
            mib(self.after),
            self.back.as_millis(),
        )?;
        for broken in &self.broken {
            write!(f, "\n  broken: {broken}")?;
        }
        Ok(())
    }
}
