//! Power cuts under a pair of real processes, as many as one likes.
//!
//! `power_cuts random [ROUNDS] [SEED]`: at random moments, sometimes with the witness's machine,
//! sometimes with one of the CoServers' lost for good. `power_cuts syncs [SYNCS] [VICTIMS]
//! [MOST]` cuts the power at each sync of a short run. The syncs are those of the thread of the
//! `journal`, that of `checkpoint`s, or from a process's `start` on. The victims are `a`, `b` or
//! `both`, and again with one of them lost for good. `all`, or left out: each of them. Several
//! may share the work.
//!
//! Needs root, ext4 on loop devices, Python, and for `syncs` strace; says so where that is missing.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command's output")]

use std::process::ExitCode;
use std::time::Instant;

use lockstep_tests::disk::cuts::{Cut, MIB, Syncs, at_sync, round};
use lockstep_tests::disk::site::TestSite;
use lockstep_tests::disk::{Draw, medium, seed, tracer};
use lockstep_tests::pair::{A, B, Part, WITNESS};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok());
    let done = match words.first().map(String::as_str) {
        Some("random") | None => random(number(1).unwrap_or(100), number(2).unwrap_or_else(seed)),
        Some("syncs") => syncs(&words, number(3).map_or(u32::MAX, |most| most as u32)),
        Some(word) => Err(format!("no such command: {word}; say `random` or `syncs`")),
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn random(rounds: u64, seed: u64) -> Result<String, String> {
    println!("power_cuts random {rounds} {seed}");
    if let Some(why) = medium::missing() {
        return Ok(format!("skipped: {why}"));
    }
    let mut draw = Draw::new(seed);
    let mut site = TestSite::on_media(&[A, B, WITNESS], MIB);
    site.pair.form();
    for number in 1..=rounds {
        let (cut, began) = (Cut::draw(&mut draw), Instant::now());
        round(&mut site, cut, &format!("{number}-"))
            .map_err(|why| format!("round {number}: {cut:?}: {why}{}", site.pair.logs()))?;
        println!("round {number}: {cut:?}: nothing lost, duplex after {:?}", began.elapsed());
    }
    Ok(format!("{rounds} rounds: nothing acknowledged was lost"))
}

fn syncs(words: &[String], most: u32) -> Result<String, String> {
    if let Some(why) = medium::missing().or_else(tracer::missing) {
        return Ok(format!("skipped: {why}"));
    }
    let chosen = |place: usize, name: &str| match words.get(place).map(String::as_str) {
        None | Some("all") => true,
        Some(word) => name.eq_ignore_ascii_case(word),
    };
    let victims: [(&str, &[Part]); 3] = [("a", &[A]), ("b", &[B]), ("both", &[A, B])];
    let names = victims.iter().map(|(name, _)| *name);
    let known = Syncs::ALL.iter().any(|syncs| chosen(1, &format!("{syncs:?}")));
    if !known || !names.into_iter().any(|name| chosen(2, name)) {
        return Err(format!("nothing is called so; syncs: {:?}, victims: a, b, both", Syncs::ALL));
    }
    let mut site = TestSite::on_media(&[A, B], MIB);
    site.pair.form();
    let mut cuts = 0;
    for syncs in Syncs::ALL.into_iter().filter(|syncs| chosen(1, &format!("{syncs:?}"))) {
        for (name, victims) in victims.into_iter().filter(|(name, _)| chosen(2, name)) {
            for lost in [None, Some(A), Some(B)] {
                // While one starts, the other may have gone on alone: nobody else has what that
                // acknowledged.
                let other = lost.is_some_and(|lost| victims != [lost]);
                if syncs == Syncs::Start && other {
                    continue;
                }
                cuts += each(&mut site, syncs, (name, victims), lost, most)?;
            }
        }
    }
    Ok(format!("{cuts} cuts: nothing acknowledged was lost"))
}

/// At each sync, until there are no more of them; how many there were.
fn each(
    site: &mut TestSite,
    syncs: Syncs,
    (name, victims): (&str, &[Part]),
    lost: Option<Part>,
    most: u32,
) -> Result<u32, String> {
    let whose = format!("{syncs:?} of {name}, lost: {}", lost.map_or("none", Part::name));
    for when in 1..=most {
        let prefix = format!("{syncs:?}-{name}-{}-{when}-", lost.map_or("none", Part::name));
        let done = at_sync(site, syncs, victims, when, lost, &prefix)
            .map_err(|why| format!("sync {when}, {whose}: {why}{}", site.pair.logs()))?;
        if !done {
            println!("{whose}: {} syncs", when - 1);
            return Ok(when - 1);
        }
        println!("sync {when}, {whose}: everything was there");
    }
    Ok(most)
}
