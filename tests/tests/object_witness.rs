//! A witness without a process: the CoServers are each other's witness by a folder that both reach.
//! Needs a build with the feature `object-witness` of `lockstep`; skips with a reason otherwise.

use std::path::PathBuf;

use lockstep::runtime::exit::Exit;
use lockstep_tests::caller::{Caller, serves};
use lockstep_tests::pair::{A, B, Pair, SILENCE, other};
use lockstep_tests::said::skipped;

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// A pair whose witness is a folder, enrolled and not started; `None` if this build has none.
fn enrolled() -> Option<(Pair, PathBuf)> {
    let pair = Pair::init(REGISTERS, SILENCE);
    let folder = pair.directory().join("records");
    std::fs::create_dir(&folder).unwrap();
    for part in [A, B] {
        let text = std::fs::read_to_string(pair.config(part)).unwrap();
        let line = |start: &str| {
            text.lines().find(|line| line.starts_with(start)).expect("init writes it").to_owned()
        };
        let table = format!("{{ kind = \"object\", url = \"file://{}\" }}", folder.display());
        pair.change(part, &line("witness = \"127."), &format!("witness = {table}"));
        pair.change(part, &format!("{}\n", line("witness = \"ed25519:")), "");
    }
    let config = pair.config(A);
    let (said, status) = pair.command(&["enrol", "--config", config.to_str().unwrap()]);
    if said.contains("without the feature") {
        skipped(said.trim());
        return None;
    }
    assert_eq!(status.code(), Some(0), "{said}");
    Some((pair, folder))
}

/// As [`enrolled`], and duplex.
fn formed() -> Option<(Pair, PathBuf)> {
    let (mut pair, folder) = enrolled()?;
    for part in [A, B] {
        pair.run(part);
    }
    pair.wait_for_duplex();
    Some((pair, folder))
}

fn objects(folder: &std::path::Path) -> usize {
    let count = |directory: std::fs::DirEntry| std::fs::read_dir(directory.path()).unwrap().count();
    std::fs::read_dir(folder).unwrap().flatten().map(count).sum()
}

#[test]
fn either_goes_on_alone_by_a_folder_and_is_joined_again() {
    let Some((mut pair, folder)) = formed() else { return };
    let caller = Caller::start(&pair, "n");
    for part in [A, B] {
        let before = objects(&folder);
        pair.kill(part);
        pair.wait_for_mode(other(part), "simplex");
        caller.goes_on(&pair);
        pair.run(part);
        pair.wait_for_duplex();
        caller.goes_on(&pair);
        assert!(objects(&folder) >= before + 2, "one object for each change of members");
    }
    caller.finish();
}

#[test]
fn one_that_does_not_reach_the_folder_holds_until_it_does() {
    let Some((mut pair, folder)) = formed() else { return };
    let caller = Caller::start(&pair, "n");
    let away = folder.with_extension("away");
    std::fs::rename(&folder, &away).unwrap();
    pair.kill(A);
    pair.wait_for_mode(B, "holding");
    std::fs::rename(&away, &folder).unwrap();
    pair.wait_for_mode(B, "simplex");
    caller.goes_on(&pair);
    caller.finish();
}

#[test]
fn a_new_lineage_is_begun_in_the_folder_when_both_have_stopped() {
    let Some((mut pair, _)) = enrolled() else { return };
    let config = pair.config(A);
    let config = config.to_str().unwrap();
    let (said, status) = pair.command(&["enrol", "--config", config]);
    assert_eq!(status.code(), Some(Exit::Config.code().into()), "enrolled already: {said}");
    for part in [A, B] {
        pair.run(part);
    }
    let epoch = pair.wait_for_duplex()["epoch"].as_u64().unwrap();
    for part in [A, B] {
        pair.terminate(part);
    }
    let (said, status) = pair.command(&["new-lineage", "--config", config]);
    assert_eq!(status.code(), Some(Exit::Usage.code().into()), "{said}");
    let (said, status) = pair.command(&["new-lineage", "--config", config, "--yes"]);
    assert_eq!(status.code(), Some(0), "{said}");
    // Of the lineage that is over is what both have on their disks.
    pair.run(B);
    pair.expect_exit(B, Exit::LineageOver);
    pair.run_with(A, &["--adopt"]);
    pair.run_with(B, &["--discard", "--yes"]);
    let status = pair.wait_for_duplex();
    assert_eq!(status["lineage"], 2);
    assert!(status["epoch"].as_u64().unwrap() > epoch, "{status}");
    serves(&pair).unwrap();
}
