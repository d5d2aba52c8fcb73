//! A disk that is full under one CoServer of a pair.
#![allow(clippy::disallowed_methods, reason = "tests use files")]

use std::fs::File;
use std::io::Write;

use lockstep::runtime::exit::Exit;
use lockstep_tests::disk::load::Load;
use lockstep_tests::disk::medium;
use lockstep_tests::disk::site::TestSite;
use lockstep_tests::pair::{A, B, DEADLINE, WITNESS};
use lockstep_tests::said::skipped;

/// Too little for what keeps coming.
const MIB: u64 = 64;

/// Takes all the room that there is.
fn fill(site: &mut TestSite) -> std::path::PathBuf {
    let path = site.medium(B).path().join("filling");
    let mut file = File::create(&path).unwrap();
    let mut piece = vec![1; 1 << 20];
    while !piece.is_empty() {
        while file.write_all(&piece).is_ok() {}
        piece.truncate(piece.len() / 2);
    }
    // What the file system has promised, it has not yet found room for.
    let _ = file.sync_all();
    path
}

#[test]
fn a_coserver_whose_disk_is_full_leaves_and_comes_back_when_there_is_room() {
    if let Some(why) = medium::missing() {
        skipped(&why);
        return;
    }
    let mut site = TestSite::on_media(&[B], MIB);
    site.pair.form();
    let filling = fill(&mut site);
    // More than the spare segments hold, so that a new one is wanted.
    let loads: Vec<Load> = ["x", "y", "z"]
        .map(|prefix| Load::start_with_bulk(&site.pair, 300, prefix))
        .into_iter()
        .collect();
    site.pair.expect_exit(B, Exit::Storage);
    let log = site.pair.process(B).log();
    let last = log.lines().last().unwrap().to_owned();
    assert!(last.contains("No space left on device"), "{last}");
    assert!(last.contains("journal-") && last.contains("free space"), "{last}");
    for load in loads {
        load.finish(DEADLINE * 2).unwrap_or_else(|why| panic!("{why}{}", site.pair.logs()));
    }
    site.pair.wait_for_mode(A, "simplex");

    // Still full: it says so again rather than to take part.
    site.pair.run(B);
    let settled = site.pair.process(B).wait(DEADLINE);
    assert_eq!(settled.code(), Some(Exit::Storage.code().into()), "{}", site.pair.logs());

    std::fs::remove_file(filling).unwrap();
    site.pair.run(B);
    site.duplex();
    site.serves(200, "after-");
    site.pair.kill(A);
    site.pair.wait_for_mode(B, "simplex");
    site.serves(200, "alone-");
    assert!(site.pair.process(WITNESS).ended().is_none());
}
