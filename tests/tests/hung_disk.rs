//! A disk that hangs under one CoServer of a pair, while clients keep coming.
#![allow(clippy::disallowed_methods, reason = "tests use real time")]

use std::time::{Duration, Instant};

use lockstep_tests::disk::load::Load;
use lockstep_tests::disk::site::TestSite;
use lockstep_tests::disk::tracer::{self, Fault, Tracer};
use lockstep_tests::pair::{A, B, DEADLINE, Part, other};
use lockstep_tests::process::wait_for;
use lockstep_tests::said::skipped;

/// How long a side may stand still: a busy machine's disk is quicker.
const SLOW_LIMIT: &str = "[timing]\nslow_limit = \"3s\"\n";

/// Every sync takes so long.
const HANG: Fault = Fault { call: "fdatasync,fsync", action: "delay_enter=25000000", when: 0 };

/// By then a sync under way would have come back by itself.
const HANGS_FOR: Duration = Duration::from_secs(25);

/// Between two new clients.
const PACE: Duration = Duration::from_millis(400);

/// The CoServer whose disk hangs is out before its first sync ends, whoever noticed; the other
/// serves everybody who came meanwhile.
fn hang(victim: Part) {
    if let Some(why) = tracer::missing() {
        skipped(&why);
        return;
    }
    let mut site = TestSite::plain();
    for part in [A, B] {
        site.pair.change(part, "[timing]\n", SLOW_LIMIT);
    }
    site.pair.form();
    let pid = site.pair.process(victim).pid();
    let thread = tracer::thread(pid, "lockstep-journal").expect("the journal's thread");
    let directory = site.pair.directory().to_owned();
    let tracer = Tracer::attach(pid, Some(thread), HANG, &directory, &[]);
    let began = Instant::now();
    let mut clients = Vec::new();
    let is_alone = |site: &TestSite| {
        site.pair.status(other(victim)).is_ok_and(|status| status["mode"] == "simplex")
    };
    while !is_alone(&site) {
        assert!(began.elapsed() < HANGS_FOR, "nobody was removed{}", site.pair.logs());
        clients.push(Load::start(&site.pair, 4, &format!("{}-", clients.len())));
        std::thread::sleep(PACE);
    }
    for client in clients {
        client.finish(DEADLINE).unwrap_or_else(|why| panic!("{why}{}", site.pair.logs()));
    }
    let said = || {
        let log = site.pair.process(victim).log().to_lowercase();
        let says = ["written to disk here", "removed"].iter().any(|why| log.contains(why));
        if says { Ok(()) } else { Err(log) }
    };
    wait_for(DEADLINE, said).unwrap_or_else(|log| panic!("it does not say why: {log}"));
    drop(tracer);
}

#[test]
fn a_follower_whose_disk_hangs_is_out_while_clients_keep_coming() {
    hang(B);
}

#[test]
fn a_sequencer_whose_disk_hangs_is_out_while_clients_keep_coming() {
    hang(A);
}
