//! Medians over the rounds, as text and as JSON.
//!
//! The ratio compares medians of one round with each other: this row's and the reference row's,
//! taken within seconds. It is the median of those, which says more on a machine whose speed
//! wanders than two figures far apart.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::placement::Placement;
use crate::rows::REFERENCE;
use crate::trips::Load;

/// One round of one row, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Half of the trips took no longer.
    pub p50_us: f64,
    /// 99 % of the trips took no longer.
    pub p99_us: f64,
    /// 99.9 % of the trips took no longer.
    pub p999_us: f64,
    /// The longest trip.
    pub max_us: f64,
    /// Trips a second, by the mean trip and how many were under way.
    pub per_second: f64,
}

impl Figures {
    /// The figures of one round's nanoseconds, with so many trips under way at a time.
    pub fn of(histogram: &Histogram<u64>, depth: usize) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        Self {
            p50_us: micros(histogram.value_at_quantile(0.5)),
            p99_us: micros(histogram.value_at_quantile(0.99)),
            p999_us: micros(histogram.value_at_quantile(0.999)),
            max_us: micros(histogram.max()),
            per_second: depth as f64 * 1e9 / histogram.mean().max(1.0),
        }
    }
}

/// All rounds of one row.
#[derive(Clone, Debug, Serialize)]
pub struct RowReport {
    /// The row's name for `--rows`.
    pub name: &'static str,
    /// What a trip is.
    pub about: &'static str,
    /// Why it was not measured.
    pub skipped: Option<String>,
    /// What went wrong, one line per round that failed.
    pub failures: Vec<String>,
    /// The figures of each round; `None` where the round failed.
    pub rounds: Vec<Option<Figures>>,
    /// The median over the rounds of each figure.
    pub median: Option<Figures>,
    /// The median over the rounds of p50 divided by the reference row's p50.
    pub ratio: Option<f64>,
}

impl RowReport {
    /// A row with no rounds yet.
    pub fn new(name: &'static str, about: &'static str, skipped: Option<String>) -> Self {
        let (failures, rounds) = (Vec::new(), Vec::new());
        Self { name, about, skipped, failures, rounds, median: None, ratio: None }
    }

    fn summarise(&mut self) {
        let done: Vec<_> = self.rounds.iter().flatten().copied().collect();
        let median_of = |pick: fn(&Figures) -> f64| median(done.iter().map(pick).collect());
        self.median = median_of(|f| f.p50_us).map(|p50_us| Figures {
            p50_us,
            p99_us: median_of(|f| f.p99_us).unwrap_or_default(),
            p999_us: median_of(|f| f.p999_us).unwrap_or_default(),
            max_us: median_of(|f| f.max_us).unwrap_or_default(),
            per_second: median_of(|f| f.per_second).unwrap_or_default(),
        });
    }
}

/// What holds for all rows of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// Rounds per row.
    pub rounds: usize,
    /// Trips counted per round.
    pub trips: u64,
    /// Messages in flight.
    pub depth: usize,
    /// Bytes per message.
    pub size: usize,
    /// The core of A.
    pub core_a: usize,
    /// The core of B.
    pub core_b: usize,
    /// The core of the client; `None` if the scheduler chose.
    pub core_client: Option<usize>,
    /// Cores that this process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
}

impl Conditions {
    /// The conditions of a run on this machine.
    pub fn here(rounds: usize, load: Load, placement: Placement) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            rounds,
            trips: load.trips,
            depth: load.depth,
            size: load.size,
            core_a: placement.a,
            core_b: placement.b,
            core_client: placement.client,
            cores: crate::placement::allowed_cores().map_or(0, |cores| cores.len()),
            kernel: kernel.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// A whole run. Its `Display` is the table.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What holds for all rows.
    pub conditions: Conditions,
    /// The row that ratios refer to.
    pub reference: &'static str,
    /// In the order of the table.
    pub rows: Vec<RowReport>,
}

impl Report {
    /// Works out medians and ratios.
    pub fn new(conditions: Conditions, mut rows: Vec<RowReport>) -> Self {
        rows.iter_mut().for_each(RowReport::summarise);
        let reference = rows.iter().find(|row| row.name == REFERENCE);
        let reference = reference.map(|row| row.rounds.clone()).unwrap_or_default();
        for row in &mut rows {
            let both = row.rounds.iter().zip(&reference);
            let ratios = both.filter_map(|(own, reference)| {
                Some(own.as_ref()?.p50_us / reference.as_ref()?.p50_us)
            });
            row.ratio = median(ratios.collect());
        }
        Self { conditions, reference: REFERENCE, rows }
    }

    /// Whether a round of any row failed.
    pub fn has_failures(&self) -> bool {
        self.rows.iter().any(|row| !row.failures.is_empty())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.conditions)?;
        writeln!(
            f,
            "{:<24} {:>7} {:>9} {:>9} {:>9} {:>9} {:>8}  p50 of the rounds",
            "row", "ratio", "p50 us", "p99 us", "p99.9 us", "max us", "trips/s"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            writeln!(f, "{:<24} {}", row.name, row.about)?;
        }
        if !self.conditions.optimised {
            writeln!(f, "\nbuilt without optimisation: use --release for figures that count")?;
        }
        Ok(())
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.core_client.map_or("free".to_owned(), |core| format!("on core {core}"));
        writeln!(
            f,
            "{} rounds of {} trips, {} bytes, {} in flight; medians of the rounds",
            self.rounds, self.trips, self.size, self.depth
        )?;
        writeln!(
            f,
            "A on core {}, B on core {}, client {client}; {} cores, Linux {}",
            self.core_a, self.core_b, self.cores, self.kernel
        )
    }
}

impl fmt::Display for RowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24} ", self.name)?;
        if let Some(reason) = &self.skipped {
            return write!(f, "skipped: {reason}");
        }
        if let Some(median) = &self.median {
            let ratio = self.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let Figures { p50_us, p99_us, p999_us, max_us, per_second } = median;
            write!(f, "{ratio:>7} {p50_us:>9.1} {p99_us:>9.1} {p999_us:>9.1} {max_us:>9.1} ")?;
            write!(f, "{per_second:>8.0} ")?;
            for round in self.rounds.iter().flatten() {
                write!(f, " {:.1}", round.p50_us)?;
            }
        }
        for failure in &self.failures {
            write!(f, "\n{:<24} failed in {failure}", "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p50_us: f64) -> Option<Figures> {
        let (p99_us, p999_us) = (2.0 * p50_us, 3.0 * p50_us);
        Some(Figures { p50_us, p99_us, p999_us, max_us: 9.0, per_second: 1e6 / p50_us })
    }

    fn row(name: &'static str, rounds: Vec<Option<Figures>>) -> RowReport {
        RowReport { rounds, ..RowReport::new(name, "a trip", None) }
    }

    fn report(rows: Vec<RowReport>) -> Report {
        let load = Load { trips: 1, depth: 1, size: 64 };
        let placement = Placement { a: 0, b: 1, client: None };
        Report::new(Conditions::here(3, load, placement), rows)
    }

    #[test]
    fn ratios_compare_within_a_round_and_skip_rounds_that_failed() {
        let reference = row(REFERENCE, vec![figures(10.0), figures(100.0), None, figures(50.0)]);
        let other = row("other", vec![figures(20.0), figures(150.0), figures(1.0), figures(200.0)]);
        let report = report(vec![other, reference]);
        assert_eq!(report.rows[0].ratio, Some(2.0));
        assert_eq!(report.rows[1].ratio, Some(1.0));
        assert_eq!(report.rows[1].median.unwrap().p50_us, 50.0);
        assert_eq!(report.rows[0].median.unwrap().p99_us, 170.0);
    }

    #[test]
    fn a_row_without_rounds_or_reference_says_so() {
        let mut failed = row("failed", vec![None]);
        failed.failures.push("round 1: it broke".to_owned());
        let skipped = RowReport::new("skipped-one", "a trip", Some("do this".to_owned()));
        let report = report(vec![failed, skipped, row("alone", vec![figures(1.0)])]);
        assert!(report.has_failures());
        let text = report.to_string();
        assert!(text.contains("failed in round 1: it broke"), "{text}");
        assert!(text.contains("skipped: do this"), "{text}");
        assert_eq!(report.rows[2].ratio, None);
    }
}
