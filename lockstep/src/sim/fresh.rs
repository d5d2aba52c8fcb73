//! Campaigns over ranges that nobody has seen before: they go on until they are told to stop, and
//! end with their lines for the ledger (`docs/campaigns.md`).

use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::fs::File;
use std::io::{self, Read, Write};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::campaign::{Campaign, Failure, Summary};
use super::command::replay;
use super::options::Profile;
use super::{Plan, rng::Rng};

/// The profiles that CI runs.
const PROFILES: [Profile; 5] =
    [Profile::Default, Profile::Storage, Profile::Rejoin, Profile::Witnesses, Profile::Shares];

/// Seeds in a range: less than a minute of one processor, so that the profiles take turns.
const RANGE: u64 = 500;

/// Ranges are drawn below this: nine digits are short enough to be copied by hand.
const SEEDS: u64 = 1_000_000_000;

/// What is run.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    /// Only this profile; `None`: those that CI runs, in turn.
    pub(super) profile: Option<Profile>,
    /// For how long at most.
    pub(super) limit: Option<Duration>,
    /// How many threads.
    pub(super) threads: usize,
    /// What the ledger calls the build.
    pub(super) revision: String,
}

/// What one profile came to.
struct Line {
    profile: Profile,
    ranges: Vec<Range<u64>>,
    operations: u64,
    faults: u64,
    failures: Vec<(u64, String)>,
}

impl Fresh {
    /// Runs ranges until a signal or the time ends it. Whether every seed passed.
    ///
    /// # Errors
    /// If there is no entropy, no signal can be heard, or the output cannot be written to.
    pub(super) fn run(&self, out: &mut impl Write) -> io::Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (told, (ended, end)) = (AtomicBool::new(false), oneshot::channel::<()>());
        let mut signals = {
            let _inside = runtime.enter();
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]
        };
        let limit = self.limit;
        std::thread::scope(|scope| {
            let told = &told;
            scope.spawn(move || {
                let [interrupt, terminate] = &mut signals;
                runtime.block_on(async {
                    let late = async {
                        match limit {
                            Some(limit) => tokio::time::sleep(limit).await,
                            None => core::future::pending().await,
                        }
                    };
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        () = late => {}
                        _ = end => {}
                    }
                });
                told.store(true, Ordering::Relaxed);
            });
            let ran = self.run_until(told, &mut drawn()?, out);
            drop(ended);
            ran
        })
    }

    /// Runs ranges that are drawn from this until it is told to stop.
    fn run_until(
        &self,
        told: &AtomicBool,
        rng: &mut Rng,
        out: &mut impl Write,
    ) -> io::Result<bool> {
        let profiles = self.profile.as_ref().map_or(&PROFILES[..], core::slice::from_ref);
        let mut lines: Vec<Line> = profiles.iter().map(|profile| Line::new(*profile)).collect();
        'campaign: loop {
            for line in &mut lines {
                if told.load(Ordering::Relaxed) {
                    break 'campaign;
                }
                let from = rng.from(0, SEEDS - 1);
                self.run_range(line, from..from + RANGE, told, out)?;
            }
        }
        conclude(&lines, &self.revision, out)
    }

    fn run_range(
        &self,
        line: &mut Line,
        seeds: Range<u64>,
        told: &AtomicBool,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let plan = Plan { profile: line.profile, ..Plan::default() };
        let (name, Range { start, end }) = (line.profile.name(), seeds.clone());
        writeln!(out, "{name} {start}..{end}; again: {}", range_again(&seeds, line.profile))?;
        let campaign = Campaign { seeds, plan, twice: false, threads: self.threads };
        let summary = campaign.run_until(told, |_| {});
        writeln!(
            out,
            "  {} seeds, {} operations, {} faults, {} failures",
            summary.seeds,
            summary.operations,
            faults(&summary),
            summary.failures.len()
        )?;
        for Failure { seed, what, lines, .. } in &summary.failures {
            writeln!(out, "\nFAILED seed {seed}: {what}")?;
            lines.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
            writeln!(out, "again: {}", replay(&seed.to_string(), &plan))?;
        }
        out.flush()?;
        line.add(start, &summary);
        Ok(())
    }
}

/// Chance that no seed repeats: which ranges are run.
fn drawn() -> io::Result<Rng> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Rng::new(u64::from_le_bytes(bytes)))
}

/// The command that runs a range again.
fn range_again(seeds: &Range<u64>, profile: Profile) -> String {
    let (from, to) = (seeds.start, seeds.end);
    format!("lockstep-sim --seeds {from}..{to} --profile {} --no-marks", profile.name())
}

fn faults(summary: &Summary) -> u64 {
    summary.faults.values().sum()
}

fn conclude(lines: &[Line], revision: &str, out: &mut impl Write) -> io::Result<bool> {
    let total = |count: fn(&Line) -> u64| lines.iter().map(count).sum::<u64>();
    let failed = total(|line| line.failures.len() as u64);
    writeln!(
        out,
        "total: {} seeds, {} operations, {} faults, {failed} failures; for docs/campaigns.md:",
        total(Line::seeds),
        total(|line| line.operations),
        total(|line| line.faults),
    )?;
    let mut ran = lines.iter().filter(|line| !line.ranges.is_empty());
    ran.try_for_each(|line| writeln!(out, "{}", line.row(revision)))?;
    writeln!(out, "{}", if failed == 0 { "passed" } else { "FAILED" })?;
    Ok(failed == 0)
}

impl Line {
    fn new(profile: Profile) -> Self {
        Self { profile, ranges: Vec::new(), operations: 0, faults: 0, failures: Vec::new() }
    }

    /// A range was run from its start on; a campaign that was told to stop has not run all of it.
    fn add(&mut self, start: u64, summary: &Summary) {
        if summary.seeds > 0 {
            self.ranges.push(start..start + summary.seeds);
        }
        self.operations += summary.operations;
        self.faults += faults(summary);
        let failures = summary.failures.iter();
        self.failures.extend(failures.map(|failure| (failure.seed, failure.checker.clone())));
    }

    fn seeds(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// A row of the ledger.
    fn row(&self, revision: &str) -> String {
        let ranges = self.ranges.iter().map(|range| format!("{}..{}", range.start, range.end));
        let failures = self.failures.iter().map(|(seed, checker)| format!("{seed} ({checker})"));
        let (ranges, failures) =
            (ranges.collect::<Vec<_>>().join(" "), failures.collect::<Vec<_>>().join(", "));
        format!(
            "| {revision} | {} | {ranges} | {} | {} | {} | {} |",
            self.profile.name(),
            self.seeds(),
            self.operations,
            self.faults,
            if failures.is_empty() { "none".to_owned() } else { failures },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm() -> Fresh {
        let revision = "1234567".to_owned();
        Fresh { profile: Some(Profile::Calm), limit: Some(Duration::ZERO), threads: 1, revision }
    }

    #[test]
    fn a_row_says_what_ran_and_what_failed() {
        let mut line = Line::new(Profile::Storage);
        let campaign = Campaign {
            seeds: 7..8,
            plan: Plan { profile: Profile::Calm, ..Plan::default() },
            twice: false,
            threads: 1,
        };
        let summary = campaign.run(|_| {});
        for start in [7, 100] {
            line.add(start, &summary);
        }
        let operations = 2 * summary.operations;
        let row = line.row("1234567");
        assert_eq!(
            row,
            format!("| 1234567 | storage | 7..8 100..101 | 2 | {operations} | 0 | none |")
        );
        line.failures.push((7, "time".into()));
        assert!(line.row("").ends_with("| 7 (time) |"));
    }

    #[test]
    fn the_ledger_has_the_columns_of_a_row() {
        let ledger = include_str!("../../../docs/campaigns.md");
        let cells = |row: &str| row.matches('|').count();
        let columns = cells(&Line::new(Profile::Calm).row(""));
        let (ledger, _) = ledger.split_once("\n## ").expect("then it says what failures were");
        let rows: Vec<_> = ledger.lines().filter(|line| line.starts_with('|')).collect();
        assert!(rows.len() >= 2 && rows.iter().all(|row| cells(row) == columns), "{rows:?}");
    }

    #[test]
    fn a_campaign_that_was_told_to_stop_says_what_it_came_to() {
        let mut out = Vec::new();
        let passed = calm().run_until(&AtomicBool::new(true), &mut Rng::new(1), &mut out);
        assert!(passed.expect("a vector takes all"));
        let said = String::from_utf8(out).expect("it is text");
        assert!(said.starts_with("total: 0 seeds, 0 operations, 0 faults, 0 failures"), "{said}");
        assert!(said.ends_with("passed\n"), "{said}");
    }

    #[test]
    fn a_range_is_told_with_what_repeats_it_and_ends_at_the_time() {
        let mut out = Vec::new();
        calm().run(&mut out).expect("there are entropy and signals");
        let said = String::from_utf8(out).expect("it is text");
        let first = said.lines().next().expect("it says something");
        let ran = first.starts_with("calm ") && first.contains("; again: lockstep-sim --seeds ");
        assert!(ran || first.starts_with("total: 0 seeds"), "{said}");
    }
}
