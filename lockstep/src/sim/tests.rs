//! The simulator's own tests: short campaigns, broken pairs, seeds that once failed.

use super::campaign::{Campaign, Summary, attempt};
use super::checkers::CheckerName;
use super::faults::FaultKind;
use super::{Mutant, Plan, Profile, Words};

fn campaign(seeds: core::ops::Range<u64>, plan: Plan, twice: bool) -> Summary {
    Campaign { seeds, plan, twice, threads: 2 }.run(|_| {})
}

fn passes(seeds: core::ops::Range<u64>, profile: Profile) -> Summary {
    let summary = campaign(seeds, Plan { profile, ..Plan::default() }, true);
    let failures: Vec<String> = summary
        .failures
        .iter()
        .map(|failure| {
            format!("seed {}: {}\n{}", failure.seed, failure.what, failure.lines.join("\n"))
        })
        .collect();
    assert!(failures.is_empty(), "profile {}: {}", profile.name(), failures.join("\n\n"));
    summary
}

#[test]
fn a_short_campaign_passes_and_is_not_idle() {
    let summary = passes(0..24, Profile::Default);
    assert_eq!(summary.seeds, 24);
    assert!(summary.operations > 24 * 50, "{} operations", summary.operations);
    assert!(summary.faults.len() > FaultKind::ALL.len() / 2, "{:?}", summary.faults);
    assert!(summary.marks.len() > 15, "{:?}", summary.marks);
}

#[test]
fn every_profile_passes() {
    for (profile, _) in Profile::ALL {
        passes(1000..1003, profile);
    }
}

#[test]
fn a_calm_pair_answers_everything_and_removes_nobody() {
    let summary = passes(2000..2006, Profile::Calm);
    assert!(summary.faults.is_empty());
    assert!(summary.impossible.is_empty());
    assert!(!summary.marks.contains_key("fenced"));
}

#[test]
fn seeds_that_once_failed_pass() {
    for line in include_str!("regressions.txt").lines() {
        let mut words = line.split_whitespace();
        let Some(seed) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        let seed: u64 = seed.parse().expect("a line begins with its seed");
        let profile = words.next().and_then(Profile::named).expect("then comes its profile");
        passes(seed..seed + 1, profile);
    }
}

/// Whether a checker, watching alone, objects to the pair that is broken for it.
fn is_caught(mutant: Mutant) {
    let checker = mutant.checker();
    let plan = Plan { mutant: Some(mutant), checker: Some(checker), ..Plan::default() };
    let caught = (0..300).find_map(|seed| attempt(seed, &plan).ok()?.verdict);
    let verdict = caught.unwrap_or_else(|| panic!("{checker} does not notice {mutant}"));
    assert_eq!(verdict.checker, checker);
    // With all checkers watching somebody objects, whoever is first.
    let plan = Plan { mutant: Some(mutant), ..Plan::default() };
    assert!((0..300).any(|seed| attempt(seed, &plan).is_ok_and(|run| run.verdict.is_some())));
}

#[test]
fn every_mutant_is_caught_by_its_checker() {
    Mutant::ALL.iter().copied().for_each(is_caught);
}

#[test]
fn every_checker_lets_a_sound_pair_pass() {
    for checker in CheckerName::ALL {
        let plan = Plan { checker: Some(*checker), profile: Profile::Storm, ..Plan::default() };
        for seed in 0..2 {
            let outcome = attempt(seed, &plan).expect("no invariant breaks");
            assert_eq!(outcome.verdict, None);
        }
    }
}

#[test]
fn words_do_not_change_what_happens() {
    let quiet = super::run(7, &Plan::default());
    let told = super::run(7, &Plan { words: Words::All, ..Plan::default() });
    assert_eq!(quiet.digest, told.digest);
    assert!(quiet.lines.is_empty() && told.lines.len() > 100);
}

#[test]
fn another_seed_goes_another_way() {
    let plan = Plan::default();
    assert_ne!(super::run(1, &plan).digest, super::run(2, &plan).digest);
}

#[test]
fn a_campaigns_digest_does_not_depend_on_its_threads() {
    let plan = Plan::default();
    let run = |threads| Campaign { seeds: 0..8, plan, twice: false, threads }.run(|_| {}).digest;
    assert_eq!(run(1), run(3));
}
