//! The command `lockstep-sim`.

use core::ops::Range;
use core::time::Duration;
use std::io::{self, Write};

use lexopt::prelude::*;
use serde::Serialize;

use super::broken::Broken;
use super::campaign::{Campaign, Failure, Report, Summary};
use super::fresh::Fresh;
use super::judges::JudgeName;
use super::options::Profile;
use super::{Plan, Words, options};

const HELP: &str = "\
lockstep-sim: runs the pair in a simulated world and lets judges watch

  --seed N           one seed, in words
  --seeds FROM..TO   a range of seeds (0..100)
  --profile NAME     default (also: ci), calm, storm, links, witness, divergence, storage,
                     rejoin, witnesses, shares
  --broken NAME      break the pair on purpose, to see a judge notice
  --judge NAME       only this judge watches
  --twice            run each seed twice and compare
  --trace            every step in words (with --seed)
  --each             one line for every seed: operations and faults
  --marks            ask which situations were reached, however few the seeds are
  --no-marks         do not ask, however many
  --threads N        how many threads (all processors)
  --json             the result as JSON
  --fresh            ranges drawn at random, over the profiles that CI runs or the one named, until
                     SIGINT or SIGTERM; ends with rows for docs/campaigns.md
  --for MINUTES      at most so long (with --fresh)
  --revision NAME    what those rows call the build (with --fresh)

Exit codes: 0 passed, 1 a seed failed, 2 wrong usage, 3 required situations were not reached.
";

/// What the command was told.
#[derive(Debug)]
struct Arguments {
    seeds: Range<u64>,
    plan: Plan,
    twice: bool,
    json: bool,
    each: bool,
    marks: Option<bool>,
    threads: usize,
    is_single: bool,
    fresh: Option<Fresh>,
    help: bool,
}

/// Runs the command with the process's arguments.
///
/// # Errors
/// If standard output cannot be written to.
pub fn main() -> io::Result<u8> {
    let mut out = io::stdout().lock();
    match arguments(lexopt::Parser::from_env()) {
        Ok(arguments) if arguments.help => {
            out.write_all(HELP.as_bytes())?;
            Ok(0)
        }
        Ok(Arguments { fresh: Some(fresh), .. }) => Ok(u8::from(!fresh.run(&mut out)?)),
        Ok(arguments) => command(&arguments, &mut out),
        Err(error) => {
            writeln!(io::stderr(), "lockstep-sim: {error}\n\n{HELP}")?;
            Ok(2)
        }
    }
}

fn arguments(mut parser: lexopt::Parser) -> Result<Arguments, lexopt::Error> {
    let threads = std::thread::available_parallelism().map_or(1, core::num::NonZero::get);
    let mut found = Arguments {
        seeds: 0..100,
        plan: Plan::default(),
        twice: false,
        json: false,
        each: false,
        marks: None,
        threads,
        is_single: false,
        fresh: None,
        help: false,
    };
    let (mut is_fresh, mut limit, mut revision) = (false, None, None);
    let (mut profile, mut others) = (None, Vec::new());
    while let Some(argument) = parser.next()? {
        if let Long(name) = &argument {
            let goes_with_fresh = ["fresh", "for", "revision", "profile", "threads", "help"];
            others.extend((!goes_with_fresh.contains(name)).then(|| format!("--{name}")));
        }
        match argument {
            Long("seed") => {
                let seed: u64 = parser.value()?.parse()?;
                found.seeds = seed..seed.saturating_add(1);
                found.is_single = true;
            }
            Long("seeds") => found.seeds = range(&parser.value()?.string()?)?,
            Long("profile") => {
                found.plan.profile = known(&parser.value()?.string()?, Profile::named)?;
                profile = Some(found.plan.profile);
            }
            Long("broken") => {
                found.plan.broken = Some(known(&parser.value()?.string()?, Broken::named)?);
            }
            Long("judge") => {
                found.plan.judge = Some(known(&parser.value()?.string()?, judge)?);
            }
            Long("twice") => found.twice = true,
            Long("trace") => found.plan.words = Words::All,
            Long("each") => found.each = true,
            Long("marks") => found.marks = Some(true),
            Long("no-marks") => found.marks = Some(false),
            Long("threads") => found.threads = parser.value()?.parse()?,
            Long("json") => found.json = true,
            Long("fresh") => is_fresh = true,
            Long("for") => limit = Some(minutes(parser.value()?.parse()?)?),
            Long("revision") => revision = Some(parser.value()?.string()?),
            Short('h') | Long("help") => found.help = true,
            other => return Err(other.unexpected()),
        }
    }
    if is_fresh {
        if let Some(other) = others.first() {
            return Err(format!("`{other}` does not go with `--fresh`").into());
        }
        let (threads, revision) = (found.threads, revision.unwrap_or_else(|| "?".to_owned()));
        found.fresh = Some(Fresh { profile, limit, threads, revision });
    } else if limit.is_some() || revision.is_some() {
        return Err("`--for` and `--revision` go with `--fresh`".into());
    }
    Ok(found)
}

/// So many minutes, whole or not.
fn minutes(number: f64) -> Result<Duration, lexopt::Error> {
    let seconds = Duration::try_from_secs_f64(number * 60.0);
    seconds.map_err(|_| format!("`{number}` is no number of minutes").into())
}

fn judge(name: &str) -> Option<JudgeName> {
    JudgeName::ALL.iter().copied().find(|judge| judge.name() == name)
}

fn known<T>(name: &str, find: impl Fn(&str) -> Option<T>) -> Result<T, lexopt::Error> {
    find(name).ok_or_else(|| format!("`{name}` is not known here: see --help").into())
}

fn range(text: &str) -> Result<Range<u64>, lexopt::Error> {
    let (from, to) = text.split_once("..").ok_or("a range of seeds is written FROM..TO")?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no seed"));
    let range = number(from)?..number(to)?;
    if range.is_empty() {
        return Err("the range of seeds is empty".into());
    }
    Ok(range)
}

fn command(arguments: &Arguments, out: &mut impl Write) -> io::Result<u8> {
    let Arguments { seeds, plan, .. } = arguments;
    if !arguments.json {
        let (from, to) = (seeds.start, seeds.end);
        writeln!(out, "seeds {from}..{to}; one again: {}", replay("SEED", plan))?;
        if arguments.is_single {
            writeln!(out, "{:#?}", options(seeds.start, plan))?;
        }
    }
    let campaign = Campaign {
        seeds: seeds.clone(),
        plan: *plan,
        twice: arguments.twice,
        threads: arguments.threads,
    };
    let shows = (arguments.each || arguments.is_single) && !arguments.json;
    let mut shown = Ok(());
    let summary = campaign.run(|report| {
        if shows && shown.is_ok() {
            shown = show(report, out);
        }
    });
    shown?;
    let is_campaign =
        plan.profile.campaign().is_some_and(|enough| seeds.end - seeds.start >= enough);
    let asks = arguments.marks.unwrap_or(plan.broken.is_none() && is_campaign);
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
    if let Some(broken) = plan.broken {
        command += &format!(" --broken {broken}");
    }
    if let Some(judge) = plan.judge {
        command += &format!(" --judge {judge}");
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
    broken: Option<&'static str>,
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
    judge: &'a str,
    what: &'a str,
    replay: String,
    trace: &'a [String],
}

impl<'a> Json<'a> {
    fn of(summary: &'a Summary, plan: &Plan, seeds: &Range<u64>, vacuous: bool) -> Self {
        let failures = summary.failures.iter().map(|failure| JsonFailure {
            seed: failure.seed,
            judge: &failure.judge,
            what: &failure.what,
            replay: replay(&failure.seed.to_string(), plan),
            trace: &failure.lines,
        });
        Self {
            profile: plan.profile.name(),
            broken: plan.broken.map(Broken::name),
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
    use super::*;

    /// The exit code, and what was printed.
    fn run(line: &str) -> (u8, String) {
        let parser = lexopt::Parser::from_args(line.split_whitespace());
        let mut out = Vec::new();
        let code = command(&arguments(parser).expect("it is known"), &mut out);
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
    fn a_fresh_campaign_takes_a_time_a_profile_and_a_name_and_nothing_else() {
        let parse = |line: &str| arguments(lexopt::Parser::from_args(line.split_whitespace()));
        let all =
            parse("--fresh --for 0.5 --threads 1").expect("it is known").fresh.expect("it is");
        assert_eq!((all.limit, all.profile), (Some(Duration::from_secs(30)), None));
        let one = parse("--fresh --profile rejoin --revision abc").expect("it is known");
        let one = one.fresh.expect("it is");
        assert_eq!((one.profile, one.revision.as_str()), (Some(Profile::Rejoin), "abc"));
        for wrong in ["--fresh --seed 5", "--fresh --broken twice", "--for 5", "--fresh --for -1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_seed_that_fails_outweighs_what_was_not_reached() {
        let (code, said) = run("--seeds 0..3 --broken rewrite-release --marks");
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
