//! Every system call of the storage failing at every one of its calls, under a pair of real
//! processes: `disk_faults [SCENE] [CALL] [ERROR] [MOST]`, each `all` if left out. `MOST` bounds
//! the how manieth call it goes up to.
//!
//! Needs root and strace, and ext4 on a loop device for the power cuts; says so where they are
//! missing.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command's output")]

use std::process::ExitCode;

use lockstep_tests::disk::matrix::{Matrix, Scene, Struck};
use lockstep_tests::disk::medium;
use lockstep_tests::disk::outcome::Tally;
use lockstep_tests::disk::tracer::{CALLS, ERRORS, Fault, missing};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |place: usize, name: &str| match words.get(place).map(String::as_str) {
        None | Some("all") => true,
        Some(word) => name.to_lowercase().split([',', '=']).any(|part| part == word.to_lowercase()),
    };
    let most = words.get(3).and_then(|word| word.parse().ok()).unwrap_or(u32::MAX);
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return ExitCode::SUCCESS;
    }
    if let Some(why) = medium::missing() {
        println!("without power cuts: {why}");
    }
    let mut matrix = Matrix::start();
    let mut tally = Tally::default();
    for scene in Scene::ALL.into_iter().filter(|scene| chosen(0, &format!("{scene:?}"))) {
        for call in CALLS.into_iter().filter(|call| chosen(1, call)) {
            for action in ERRORS.into_iter().filter(|action| chosen(2, action)) {
                let last = calls(&mut matrix, scene, call, action, most, &mut tally);
                println!("{scene:?} {call} {action}: {last} calls; in all {tally}");
            }
        }
    }
    tally.wrong.iter().for_each(|why| println!("wrong: {why}"));
    if tally.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One call at each of its calls, until there are no more of them.
fn calls(
    matrix: &mut Matrix,
    scene: Scene,
    call: &'static str,
    action: &'static str,
    most: u32,
    tally: &mut Tally,
) -> u32 {
    for when in 1..=most {
        match matrix.inject(scene, Fault { call, action, when }) {
            Ok(Some(Struck { did, call })) => {
                println!("{scene:?} {when}: {did:?}: {call}");
                tally.count(did);
            }
            Ok(None) => return when - 1,
            Err(why) => {
                println!("wrong: {why}{}", matrix.site.pair.logs());
                tally.wrong.push(why);
            }
        }
    }
    most
}
