//! The power goes under a pair of real processes, and nothing that was acknowledged is lost.
//! The long versions: `power_cuts random`, `power_cuts syncs`.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a skipped test says why")]

use lockstep_tests::disk::cuts::{Cut, MIB, OPS, Order, Syncs, at_sync, round};
use lockstep_tests::disk::site::TestSite;
use lockstep_tests::disk::{Draw, medium, seed, tracer};
use lockstep_tests::pair::{A, B, WITNESS};
use lockstep_tests::said::skipped;

/// Whether to go on; says why if not.
fn possible(missing: Option<String>) -> bool {
    if let Some(why) = &missing {
        skipped(why);
    }
    missing.is_none()
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if !possible(medium::missing()) {
        return;
    }
    let seed = seed();
    println!("seed {seed}");
    let mut draw = Draw::new(seed);
    let mut site = TestSite::on_media(&[A, B, WITNESS], MIB);
    site.pair.form();
    for (number, order) in [Order::ProcessesFirst, Order::DisksFirst].into_iter().enumerate() {
        let cut = Cut { order, lost: None, witness: number == 1, ..Cut::draw(&mut draw) };
        let done = round(&mut site, cut, &format!("{number}-"));
        done.unwrap_or_else(|why| panic!("{cut:?}: {why}{}", site.pair.logs()));
    }
}

#[test]
fn after_a_power_cut_that_one_machine_does_not_survive_the_other_has_everything() {
    if !possible(medium::missing()) {
        return;
    }
    let mut draw = Draw::new(seed());
    let mut site = TestSite::on_media(&[A, B], MIB);
    site.pair.form();
    for (lost, order) in [(A, Order::ProcessesFirst), (B, Order::DisksFirst)] {
        let after = draw.below(OPS * 9 / 10);
        let cut = Cut { order, after, witness: false, lost: Some(lost), first: A };
        let done = round(&mut site, cut, lost.name());
        done.unwrap_or_else(|why| panic!("{cut:?}: {why}{}", site.pair.logs()));
    }
}

#[test]
fn the_power_may_go_at_a_sync() {
    if !possible(medium::missing().or_else(tracer::missing)) {
        return;
    }
    let mut site = TestSite::on_media(&[A, B], MIB);
    site.pair.form();
    for (syncs, when, victim, lost) in [
        (Syncs::Journal, 1, A, None),
        (Syncs::Journal, 3, B, Some(A)),
        (Syncs::Checkpoint, 1, A, None),
        (Syncs::Start, 1, B, None),
    ] {
        let prefix = format!("{syncs:?}-{when}-");
        let done = at_sync(&mut site, syncs, &[victim], when, lost, &prefix);
        let done = done.unwrap_or_else(|why| panic!("{prefix}: {why}{}", site.pair.logs()));
        assert!(done, "a short run has more than {when} syncs");
    }
}
