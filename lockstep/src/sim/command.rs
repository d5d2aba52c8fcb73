//! The command `lockstep-sim`.

mod arguments;

use core::ops::Range;
use std::io::{self, Write};

use clap::Parser;
use serde::Serialize;

use super::campaign::{Campaign, Failure, Report, Summary};
use super::mutants::Mutant;
use super::{Plan, options};
use arguments::Arguments;

/// The exit code for a wrong command line.
const WRONG_USAGE: u8 = 2;

/// Runs the command with the process's arguments.
///
/// # Errors
/// If standard output cannot be written to.
pub fn main() -> io::Result<u8> {
    match Arguments::try_parse() {
        Ok(arguments) => {
            let mut out = io::stdout().lock();
            match arguments.fresh() {
                Some(fresh) => Ok(u8::from(!fresh.run(&mut out)?)),
                None => command(&arguments, &mut out),
            }
        }
        // Help too, on standard output.
        Err(error) => {
            error.print()?;
            Ok(if error.use_stderr() { WRONG_USAGE } else { 0 })
        }
    }
}

fn command(arguments: &Arguments, out: &mut impl Write) -> io::Result<u8> {
    let (seeds, plan) = (&arguments.seeds(), &arguments.plan());
    if !arguments.json {
        let (from, to) = (seeds.start, seeds.end);
        writeln!(out, "seeds {from}..{to}; one again: {}", replay("SEED", plan))?;
        if arguments.is_single() {
            writeln!(out, "{:#?}", options(seeds.start, plan))?;
        }
    }
    let campaign = Campaign {
        seeds: seeds.clone(),
        plan: *plan,
        twice: arguments.twice,
        threads: arguments.threads,
    };
    let shows = (arguments.each || arguments.is_single()) && !arguments.json;
    let mut shown = Ok(());
    let summary = campaign.run(|report| {
        if shows && shown.is_ok() {
            shown = show(report, out);
        }
    });
    shown?;
    let is_campaign =
        plan.profile.campaign().is_some_and(|enough| seeds.end - seeds.start >= enough);
    let asks = arguments.marks().unwrap_or(plan.mutant.is_none() && is_campaign);
    let is_vacuous = asks && summary.passed() && !summary.missing.is_empty();
    if arguments.json {
        let json = Json::of(&summary, plan, seeds, is_vacuous);
        serde_json::to_writer_pretty(&mut *out, &json)?;
        writeln!(out)?;
    } else {
        conclude(&summary, plan, is_vacuous, out)?;
    }
    Ok(if !summary.passed() {
        1
    } else if is_vacuous {
        3
    } else {
        0
    })
}

/// The command that runs a seed again.
pub(super) fn replay(seed: &str, plan: &Plan) -> String {
    let mut command = format!("lockstep-sim --seed {seed} --profile {}", plan.profile.name());
    if let Some(mutant) = plan.mutant {
        command += &format!(" --mutant {mutant}");
    }
    if let Some(checker) = plan.checker {
        command += &format!(" --checker {checker}");
    }
    command + " --trace"
}

fn show(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let seed = report.seed;
    match &report.result {
        Err(what) => writeln!(out, "seed {seed}: {what}"),
        Ok(outcome) => {
            outcome.lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            let faults: Vec<String> =
                outcome.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            let ended = match (&outcome.verdict, outcome.impossible) {
                (Some(verdict), _) => verdict.to_string(),
                (None, Some(why)) => format!("passed, could not resume ({})", why.name()),
                (None, None) => "passed".to_owned(),
            };
            writeln!(
                out,
                "seed {seed}: {} operations, {} device inputs, {:.0} ms, {} steps, digest {}; \
                 faults: {}; {ended}",
                outcome.operations,
                outcome.device_inputs,
                outcome.span as f64 / 1e6,
                outcome.steps,
                outcome.digest,
                if faults.is_empty() { "none".to_owned() } else { faults.join(", ") },
            )
        }
    }
}

fn conclude(
    summary: &Summary,
    plan: &Plan,
    is_vacuous: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let list = |counts: &std::collections::BTreeMap<&'static str, u64>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    writeln!(
        out,
        "{} seeds, {} operations, {} device inputs, {} steps, digest {}",
        summary.seeds, summary.operations, summary.device_inputs, summary.steps, summary.digest
    )?;
    writeln!(out, "faults: {}", list(&summary.faults))?;
    writeln!(out, "marks, by seeds: {}", list(&summary.marks))?;
    writeln!(out, "could not resume: {}", list(&summary.impossible))?;
    for Failure { seed, what, lines, .. } in &summary.failures {
        writeln!(out, "\nFAILED seed {seed}: {what}")?;
        lines.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        writeln!(out, "again: {}", replay(&seed.to_string(), plan))?;
    }
    if !summary.missing.is_empty() {
        let word = if is_vacuous { "VACUOUS: " } else { "" };
        writeln!(out, "{word}never reached: {}", summary.missing.join(", "))?;
    }
    let failed = !summary.passed() || is_vacuous;
    writeln!(out, "{}", if failed { "FAILED" } else { "passed" })
}

#[derive(Serialize)]
struct Json<'a> {
    profile: &'static str,
    mutant: Option<&'static str>,
    from: u64,
    to: u64,
    seeds: u64,
    passed: bool,
    vacuous: bool,
    operations: u64,
    device_inputs: u64,
    steps: u64,
    faults: &'a std::collections::BTreeMap<&'static str, u64>,
    marks: &'a std::collections::BTreeMap<&'static str, u64>,
    missing: &'a [&'static str],
    impossible: &'a std::collections::BTreeMap<&'static str, u64>,
    trace_digest: String,
    failures: Vec<JsonFailure<'a>>,
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    seed: u64,
    checker: &'a str,
    what: &'a str,
    replay: String,
    trace: &'a [String],
}

impl<'a> Json<'a> {
    fn of(summary: &'a Summary, plan: &Plan, seeds: &Range<u64>, vacuous: bool) -> Self {
        let failures = summary.failures.iter().map(|failure| JsonFailure {
            seed: failure.seed,
            checker: &failure.checker,
            what: &failure.what,
            replay: replay(&failure.seed.to_string(), plan),
            trace: &failure.lines,
        });
        Self {
            profile: plan.profile.name(),
            mutant: plan.mutant.map(Mutant::name),
            from: seeds.start,
            to: seeds.end,
            seeds: summary.seeds,
            passed: summary.passed() && !vacuous,
            vacuous,
            operations: summary.operations,
            device_inputs: summary.device_inputs,
            steps: summary.steps,
            faults: &summary.faults,
            marks: &summary.marks,
            missing: &summary.missing,
            impossible: &summary.impossible,
            trace_digest: summary.digest.to_string(),
            failures: failures.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Profile;
    use super::*;

    /// The exit code, and what was printed.
    fn run(line: &str) -> (u8, String) {
        let words = core::iter::once("lockstep-sim").chain(line.split_whitespace());
        let mut out = Vec::new();
        let code = command(&Arguments::try_parse_from(words).expect("it is known"), &mut out);
        (code.expect("a vector takes all"), String::from_utf8(out).expect("it is text"))
    }

    #[test]
    fn a_campaign_that_misses_what_its_profile_requires_is_vacuous() {
        let (code, said) = run("--seeds 0..1 --profile rejoin --marks");
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("VACUOUS: never reached: ") && said.contains("joiner-died-at-chunk"));
        assert!(said.ends_with("FAILED\n"));
        let (code, said) = run("--seeds 0..1 --profile rejoin --marks --json");
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("\"vacuous\": true") && said.contains("\"passed\": false"));
    }

    #[test]
    fn one_too_short_to_reach_them_all_is_not() {
        for line in ["--seeds 0..1 --profile rejoin", "--seeds 0..1 --profile calm --marks"] {
            let (code, said) = run(line);
            assert_eq!(code, 0, "{said}");
            assert!(!said.contains("VACUOUS") && said.ends_with("passed\n"));
        }
    }

    #[test]
    fn a_seed_that_fails_outweighs_what_was_not_reached() {
        let (code, said) = run("--seeds 0..3 --mutant rewrite-release --marks");
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("FAILED seed ") && !said.contains("VACUOUS"));
    }

    #[test]
    fn every_profile_that_requires_marks_says_how_many_seeds_reach_them() {
        for (profile, name) in Profile::ALL {
            let required = super::super::marks::Mark::required(profile);
            assert_eq!(required.is_empty(), profile.campaign().is_none(), "{name}");
        }
    }
}
