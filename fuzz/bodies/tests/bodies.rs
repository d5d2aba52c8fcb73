//! Every target over its committed inputs, and over some that are drawn from a fixed seed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz_bodies::{TARGETS, Target};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Says which input it was, should the body panic.
struct Told<'a> {
    target: &'static str,
    name: &'a str,
    input: &'a [u8],
}

impl Drop for Told<'_> {
    #[expect(clippy::print_stderr, reason = "the only way to tell from within a panic")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { target, name, input } = self;
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("target {target}, {name}, input in hexadecimal:\n{hex}");
        }
    }
}

fn try_one(target: &Target, name: &str, input: &[u8]) {
    let _told = Told { target: target.name, name, input };
    (target.body)(input);
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A committed input with some bytes changed, or nothing but random bytes.
fn draw(target: &Target, seeds: &[(PathBuf, Vec<u8>)], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut below = |bound: usize| (random.next_u64() % bound as u64) as usize;
    let seed = below(2 * seeds.len().max(1));
    let mut input = match seeds.get(seed) {
        Some((_, bytes)) => bytes.clone(),
        None => {
            let len = below(target.longest);
            (0..len).map(|_| below(256) as u8).collect()
        }
    };
    for _ in 0..below(8) {
        let at = below(input.len() + 1);
        match below(3) {
            0 => input.insert(at, below(256) as u8),
            1 if at < input.len() => input[at] = below(256) as u8,
            _ => input.truncate(at.max(input.len() / 2)),
        }
    }
    input
}

fn check(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = corpus(target);
    assert!(!seeds.is_empty(), "no committed inputs for {name}");
    for (path, input) in &seeds {
        try_one(target, &path.display().to_string(), input);
    }
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for number in 0..target.draws {
        let input = draw(target, &seeds, &mut random);
        try_one(target, &format!("drawn input {number}"), &input);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_tested_here() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets!(frames core hostile_peer unit_restore witness smtp_server smtp_client sessions checkpoint
    journal);

#[test]
fn the_inputs_of_core_reach_what_they_are_for() {
    let target = TARGETS.iter().find(|target| target.name == "core").expect("a target");
    let (seeds, mut random) = (corpus(target), ChaCha8Rng::seed_from_u64(2));
    let mut missing: BTreeSet<_> = [
        "checkpoint",
        "divergence",
        "duplex again",
        "failed disk",
        "fallback",
        "formation",
        "going on alone",
        "hand-over",
        "installed checkpoint",
        "joined",
        "left",
        "recovery",
        "refused recovery",
        "release",
        "renewal",
        "reply",
        "restarted",
        "suspicion that passed",
        "torn",
        "unreadable disk",
        "wiped disk",
    ]
    .into();
    let drawn = (0..target.draws).map(|_| draw(target, &seeds, &mut random));
    for input in seeds.iter().map(|(_, input)| input.clone()).chain(drawn) {
        for reached in fuzz_bodies::core::explore(&input) {
            missing.remove(reached);
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("never reached: {missing:?}");
}

#[test]
fn the_inputs_of_witness_reach_every_origin() {
    let target = TARGETS.iter().find(|target| target.name == "witness").expect("a target");
    let (seeds, mut random) = (corpus(target), ChaCha8Rng::seed_from_u64(3));
    let mut missing: BTreeSet<_> =
        ["adopted", "alone", "formed", "joined", "left", "renewal", "restarted"].into();
    for _ in 0..target.draws {
        for reached in fuzz_bodies::witness::explore(&draw(target, &seeds, &mut random)) {
            missing.remove(reached);
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("never reached: {missing:?}");
}
