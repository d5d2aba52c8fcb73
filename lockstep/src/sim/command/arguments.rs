//! What the command is told. Doc comments of fields are what `--help` says.

use core::num::NonZero;
use core::ops::Range;
use core::time::Duration;

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::sim::checkers::CheckerName;
use crate::sim::fresh::Fresh;
use crate::sim::mutants::Mutant;
use crate::sim::options::Profile;
use crate::sim::{Plan, Words};

/// Run the pair in a simulated world and let checkers watch
#[derive(Debug, Parser)]
#[command(
    name = "lockstep-sim",
    after_help = "Exit codes: 0 passed, 1 a seed failed, 2 wrong usage, 3 required situations were \
                  not reached."
)]
pub(super) struct Arguments {
    /// One seed, in words
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A range of seeds
    #[arg(long, value_name = "FROM..TO", default_value = "0..100", value_parser = range)]
    seeds: Range<u64>,
    /// Which distribution the worlds and faults are drawn from: default (also: ci) if none is named
    #[arg(long, value_name = "NAME", value_parser = profile())]
    profile: Option<Profile>,
    /// Break the pair on purpose, to see a checker notice
    #[arg(long, value_name = "NAME", value_parser = mutant())]
    mutant: Option<Mutant>,
    /// Let only this checker watch
    #[arg(long, value_name = "NAME", value_parser = checker())]
    checker: Option<CheckerName>,
    /// Run each seed twice and compare
    #[arg(long)]
    pub(super) twice: bool,
    /// Say every step in words (with --seed)
    #[arg(long)]
    trace: bool,
    /// Print one line for every seed: operations and faults
    #[arg(long)]
    pub(super) each: bool,
    /// Ask which situations were reached, however few the seeds are
    #[arg(long, conflicts_with = "no_marks")]
    marks: bool,
    /// Do not ask which situations were reached, however many the seeds are
    #[arg(long)]
    no_marks: bool,
    /// How many threads run seeds
    #[arg(long, value_name = "N", default_value_t = processors())]
    pub(super) threads: usize,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Run ranges drawn at random, over the profiles that CI runs or the one named, until SIGINT or
    /// SIGTERM; ends with rows for docs/campaigns.md
    #[arg(long, conflicts_with_all = [
        "seed", "seeds", "mutant", "checker", "twice", "trace", "each", "marks", "no_marks", "json",
    ])]
    fresh: bool,
    /// Run at most so long, whole minutes or not (with --fresh)
    #[arg(long = "for", value_name = "MINUTES", requires = "fresh", value_parser = minutes)]
    limit: Option<Duration>,
    /// What the rows for docs/campaigns.md call the build (with --fresh)
    #[arg(long, value_name = "NAME", requires = "fresh")]
    revision: Option<String>,
}

impl Arguments {
    pub(super) fn seeds(&self) -> Range<u64> {
        match self.seed {
            Some(seed) => seed..seed.saturating_add(1),
            None => self.seeds.clone(),
        }
    }

    pub(super) fn is_single(&self) -> bool {
        self.seed.is_some()
    }

    pub(super) fn plan(&self) -> Plan {
        let plan = Plan::default();
        Plan {
            profile: self.profile.unwrap_or(plan.profile),
            mutant: self.mutant,
            checker: self.checker,
            words: if self.trace { Words::All } else { plan.words },
        }
    }

    /// Whether to ask for the situations that were reached, if anything is said of it.
    pub(super) fn marks(&self) -> Option<bool> {
        (self.marks || self.no_marks).then_some(self.marks)
    }

    pub(super) fn fresh(&self) -> Option<Fresh> {
        self.fresh.then(|| Fresh {
            profile: self.profile,
            limit: self.limit,
            threads: self.threads,
            revision: self.revision.clone().unwrap_or_else(|| "?".to_owned()),
        })
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn minutes(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse::<f64>().map(|minutes| minutes * 60.0);
    let limit = seconds.ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    limit.ok_or("this is no number of minutes: write one, as in 30 or 0.5")
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("a range of seeds is written FROM..TO")?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no seed"));
    let range = number(from)?..number(to)?;
    if range.is_empty() {
        return Err("the range of seeds is empty: write its end, which is left out, behind its \
                    beginning"
            .into());
    }
    Ok(range)
}

fn profile() -> impl TypedValueParser<Value = Profile> {
    let names = Profile::ALL.map(|(profile, name)| match profile {
        Profile::Default => PossibleValue::new(name).alias("ci"),
        _ => PossibleValue::new(name),
    });
    one_of(names, Profile::named)
}

fn mutant() -> impl TypedValueParser<Value = Mutant> {
    one_of(Mutant::ALL.iter().map(|mutant| mutant.name()), Mutant::named)
}

fn checker() -> impl TypedValueParser<Value = CheckerName> {
    one_of(CheckerName::ALL.iter().map(|checker| checker.name()), |name| {
        CheckerName::ALL.iter().copied().find(|checker| checker.name() == name)
    })
}

/// One of these names.
fn one_of<T: Clone + Send + Sync + 'static>(
    names: impl IntoIterator<Item = impl Into<PossibleValue>>,
    find: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names)
        .try_map(move |name| find(&name).ok_or("this name is not known here: see --help"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(core::iter::once("lockstep-sim").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_fresh_campaign_takes_a_time_a_profile_and_a_name_and_nothing_else() {
        let fresh = |line| parse(line).expect("it is known").fresh().expect("it is");
        let all = fresh("--fresh --for 0.5 --threads 1");
        assert_eq!((all.limit, all.profile), (Some(Duration::from_secs(30)), None));
        let one = fresh("--fresh --profile rejoin --revision abc");
        assert_eq!((one.profile, one.revision.as_str()), (Some(Profile::Rejoin), "abc"));
        for wrong in [
            "--fresh --seed 5",
            "--fresh --seeds 0..5",
            "--fresh --mutant twice",
            "--for 5",
            "--revision abc",
            "--fresh --for=-1",
            "--fresh --for x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_seed_or_a_range_is_run() {
        assert_eq!(parse("").expect("it is known").seeds(), 0..100);
        let one = parse("--seed 7 --profile ci --trace --marks").expect("it is known");
        assert_eq!((one.seeds(), one.is_single(), one.marks()), (7..8, true, Some(true)));
        assert_eq!((one.plan().profile, one.plan().words), (Profile::Default, Words::All));
        let some = parse("--seeds 5..9 --no-marks --checker alone").expect("it is known");
        assert_eq!((some.seeds(), some.is_single(), some.marks()), (5..9, false, Some(false)));
        assert_eq!(some.plan().checker.map(CheckerName::name), Some("alone"));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (line, said) in [
            ("--seeds 5", "FROM..TO"),
            ("--seeds 5..5", "range of seeds is empty"),
            ("--seeds 0..x", "`x` is no seed"),
            ("--profile strom", "a similar value exists: 'storm'"),
            ("--checker x", "alone"),
            ("--for x", "as in 30 or 0.5"),
            ("--sed 5", "--seed"),
            ("surplus", "surplus"),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(said), "{line}: {error}");
        }
    }
}
