//! Power cuts under a pair of real processes, as many as one likes.
//!
//! `power_cuts random [ROUNDS] [SEED]`: at random moments, sometimes with the witness's machine,
//! sometimes with one of the CoServers' lost for good. `power_cuts syncs [MOST]`: at each sync of
//! a short run, of either CoServer or both, and again with one of them lost for good.
//!
//! Needs root, ext4 on loop devices, Python, and for `syncs` strace; says so where that is missing.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command's output")]

use std::process::ExitCode;
use std::time::Instant;

use lockstep_tests::disk::cuts::{Cut, MIB, at_sync, round};
use lockstep_tests::disk::site::Site;
use lockstep_tests::disk::{Draw, medium, seed, tracer};
use lockstep_tests::pair::{A, B, Part, WITNESS};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok());
    let done = match words.first().map(String::as_str) {
        Some("random") | None => random(number(1).unwrap_or(100), number(2).unwrap_or_else(seed)),
        Some("syncs") => syncs(number(1).map_or(u32::MAX, |most| most as u32)),
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
    let mut site = Site::on_media(&[A, B, WITNESS], MIB);
    site.pair.form();
    for number in 1..=rounds {
        let (cut, began) = (Cut::draw(&mut draw), Instant::now());
        round(&mut site, cut, &format!("{number}-"))
            .map_err(|why| format!("round {number}: {cut:?}: {why}{}", site.pair.logs()))?;
        println!("round {number}: {cut:?}: nothing lost, duplex after {:?}", began.elapsed());
    }
    Ok(format!("{rounds} rounds: nothing acknowledged was lost"))
}

fn syncs(most: u32) -> Result<String, String> {
    if let Some(why) = medium::missing().or_else(tracer::missing) {
        return Ok(format!("skipped: {why}"));
    }
    let mut site = Site::on_media(&[A, B], MIB);
    site.pair.form();
    let mut cuts = 0;
    let victims: [&[Part]; 3] = [&[A], &[B], &[A, B]];
    let campaigns = victims.into_iter().flat_map(|v| [(v, None), (v, Some(A)), (v, Some(B))]);
    for (campaign, (victims, lost)) in campaigns.enumerate() {
        for when in 1..=most {
            let done = at_sync(&mut site, victims, when, lost, &format!("{campaign}-{when}-"));
            let done = done.map_err(|why| {
                format!("sync {when} of {victims:?}, {lost:?} lost: {why}{}", site.pair.logs())
            })?;
            if !done {
                break;
            }
            cuts += 1;
            println!("sync {when} of {victims:?}, {lost:?} lost: everything was there");
        }
    }
    Ok(format!("{cuts} cuts: nothing acknowledged was lost"))
}
