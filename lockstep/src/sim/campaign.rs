//! Many seeds, over all processors: what they reached, and which of them failed.

use core::ops::Range;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use super::marks::{Mark, Marks};
use super::{Outcome, Plan, Profile, Words, run};
use crate::digest::{Digest, Hasher};

/// Most failures that are shown; at one more the campaign ends.
const FAILURES: usize = 5;

/// What a campaign came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How many seeds were run.
    pub seeds: u64,
    /// Requests that were answered.
    pub operations: u64,
    /// Inputs of devices that were taken.
    pub device_inputs: u64,
    /// Steps of the simulation.
    pub steps: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// In how many seeds each mark was reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// Required marks that no seed reached.
    pub missing: Vec<&'static str>,
    /// In how many seeds service could not resume, and why.
    pub impossible: BTreeMap<&'static str, u64>,
    /// The runs' digests, digested in order of their seeds.
    pub digest: Digest,
    /// The seeds that failed.
    pub failures: Vec<Failure>,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed of the run that failed.
    pub seed: u64,
    /// The checker that objects, or what else went wrong.
    pub checker: String,
    /// What the checker objects to.
    pub what: String,
    /// The last lines of the run's trace.
    pub lines: Vec<String>,
}

/// What one seed came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// What the run came to, or why it could not be run.
    pub result: Result<Outcome, String>,
}

/// How a campaign goes.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seeds to run, each once.
    pub seeds: Range<u64>,
    /// How a run is made of its seed.
    pub plan: Plan,
    /// Whether each seed is run a second time, to be compared with the first run.
    pub twice: bool,
    /// How many threads run seeds at the same time.
    pub threads: usize,
}

impl Campaign {
    /// Runs it. `each` is called for every seed, in the order in which they end.
    pub fn run(&self, each: impl FnMut(&Report)) -> Summary {
        self.run_until(&AtomicBool::new(false), each)
    }

    /// Runs it until it is told to stop: then the seeds that were begun are the first of its range,
    /// and all of them are run to their end.
    pub fn run_until(&self, told: &AtomicBool, mut each: impl FnMut(&Report)) -> Summary {
        let (next, enough) = (AtomicU64::new(self.seeds.start), AtomicBool::new(false));
        let goes_on = || !told.load(Ordering::Relaxed) && !enough.load(Ordering::Relaxed);
        let (sender, receiver) = mpsc::sync_channel::<Report>(64);
        let mut reports: BTreeMap<u64, (Digest, Marks)> = BTreeMap::new();
        let mut summary = Summary::empty();
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                let sender = sender.clone();
                scope.spawn(|| self.work(&next, goes_on, sender));
            }
            drop(sender);
            for report in receiver {
                each(&report);
                if let Some(failure) = self.failure(&report) {
                    summary.failures.push(failure);
                    if summary.failures.len() >= FAILURES {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
                if let Ok(outcome) = &report.result {
                    summary.add(outcome);
                    reports.insert(report.seed, (outcome.digest, outcome.marks));
                }
                summary.seeds += 1;
            }
        });
        summary.conclude(self.plan.profile, &reports);
        summary
    }

    fn work(&self, next: &AtomicU64, goes_on: impl Fn() -> bool, sender: mpsc::SyncSender<Report>) {
        while goes_on() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds.end || sender.send(self.report(seed)).is_err() {
                return;
            }
        }
    }

    fn report(&self, seed: u64) -> Report {
        let mut result = attempt(seed, &self.plan);
        if self.twice
            && let (Ok(first), Ok(second)) = (&result, &attempt(seed, &self.plan))
            && first.digest != second.digest
        {
            result = Err(format!(
                "two runs went different ways: {} and {}",
                first.digest, second.digest
            ));
        }
        Report { seed, result }
    }

    /// What is wrong with a report. Only then the run is repeated with words.
    fn failure(&self, report: &Report) -> Option<Failure> {
        let seed = report.seed;
        let plan = Plan { words: Words::Tail, ..self.plan };
        match &report.result {
            Ok(Outcome { verdict: None, .. }) => None,
            Ok(Outcome { verdict: Some(verdict), .. }) => {
                let lines = attempt(seed, &plan).map_or_else(|_| Vec::new(), |again| again.lines);
                let checker = verdict.checker.name().to_owned();
                Some(Failure { seed, checker, what: verdict.to_string(), lines })
            }
            Err(what) => {
                let checker = "invariant".to_owned();
                Some(Failure { seed, checker, what: what.clone(), lines: Vec::new() })
            }
        }
    }
}

/// Runs a seed; a broken invariant of a core is an error.
pub fn attempt(seed: u64, plan: &Plan) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run(seed, plan))).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()));
        text.unwrap_or_else(|| "a panic without a message".to_owned())
    })
}

impl Summary {
    fn empty() -> Self {
        Self {
            seeds: 0,
            operations: 0,
            device_inputs: 0,
            steps: 0,
            faults: BTreeMap::new(),
            marks: BTreeMap::new(),
            missing: Vec::new(),
            impossible: BTreeMap::new(),
            digest: Digest::ZERO,
            failures: Vec::new(),
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        self.operations += outcome.operations;
        self.device_inputs += outcome.device_inputs;
        self.steps += outcome.steps;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind.name()).or_default() += count;
        }
        for mark in outcome.marks.iter() {
            *self.marks.entry(mark.name()).or_default() += 1;
        }
        if let Some(why) = outcome.impossible {
            *self.impossible.entry(why.name()).or_default() += 1;
        }
    }

    fn conclude(&mut self, profile: Profile, reports: &BTreeMap<u64, (Digest, Marks)>) {
        for (seed, (digest, _)) in reports {
            self.digest = Hasher::after(self.digest).number(*seed).bytes(&digest.0).finish();
        }
        let required = Mark::required(profile).into_iter().map(Mark::name);
        self.missing = required.filter(|name| !self.marks.contains_key(name)).collect();
        self.failures.sort_by_key(|failure| failure.seed);
    }

    /// Whether every seed passed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}
