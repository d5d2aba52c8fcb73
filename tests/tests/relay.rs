//! The mail relay over real processes: what was acknowledged arrives, whoever is killed.

use std::time::Duration;

use lockstep_tests::mail::{Campaign, Hop, Outcome, RelayPair, runtime};
use lockstep_tests::pair::{A, B, Pair, Part, SILENCE};
use lockstep_tests::said::note;

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// Deliveries that may be under way: the relay's default.
const DELIVERIES: u64 = 20;

/// Each of these wants the whole machine: beside each other they would time out, not find out.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn run(campaign: &Campaign) -> Outcome {
    run_with(Pair::init(RELAY, SILENCE), campaign)
}

fn run_with(pair: Pair, campaign: &Campaign) -> Outcome {
    let _turn = ONE_AT_A_TIME.blocking_lock();
    runtime().block_on(async {
        let hop = Hop::start().await;
        let mut relay = RelayPair::start_with(pair, hop.address(), "");
        let outcome = campaign.run(&mut relay, &hop).await;
        note(&format!(
            "{} mails, {} MiB accepted in {:?}; {} connections lost; {} copies, {} of them sent twice",
            outcome.accepted.len(),
            outcome.octets >> 20,
            outcome.took,
            outcome.troubles,
            outcome.copies(),
            outcome.resent_copies(),
        ));
        outcome
    })
}

#[track_caller]
fn check(campaign: &Campaign, outcome: &Outcome) {
    assert_eq!(outcome.accepted.len() as u64, campaign.mails, "{outcome:?}");
    assert_eq!(outcome.lost(), [0; 0]);
    assert_eq!(outcome.damaged, 0);
    assert_eq!(outcome.given_up, [0; 0]);
    // A mail comes twice where its sender sent it twice, or where the next hop's answer died
    // with the killed CoServer.
    let by_the_hop = outcome.copies() - outcome.resent_copies();
    assert!(by_the_hop <= DELIVERIES, "{by_the_hop} copies that nobody sent twice");
    let resent: u64 = outcome.accepted.values().map(|doubts| u64::from(*doubts)).sum();
    assert!(resent <= campaign.connections as u64, "{resent} mails in doubt");
    if campaign.kill.is_none() {
        assert_eq!((outcome.copies(), outcome.troubles), (0, 0));
    }
}

fn quick(kill: Option<Part>) -> Campaign {
    Campaign {
        mails: 300,
        least: 1 << 10,
        most: 256 << 10,
        connections: 8,
        kill,
        within: Duration::from_secs(120),
    }
}

fn full(kill: Part) -> Campaign {
    Campaign {
        mails: 2000,
        least: 1 << 10,
        most: 1 << 20,
        connections: 8,
        kill: Some(kill),
        within: Duration::from_secs(600),
    }
}

#[test]
fn mails_of_all_sizes_arrive_once() {
    let campaign = quick(None);
    check(&campaign, &run(&campaign));
}

#[test]
fn every_acknowledged_mail_arrives_when_a_is_killed() {
    let campaign = quick(Some(A));
    let outcome = run(&campaign);
    assert!(outcome.troubles > 0);
    check(&campaign, &outcome);
}

#[test]
fn every_acknowledged_mail_arrives_when_b_is_killed() {
    let campaign = quick(Some(B));
    let outcome = run(&campaign);
    assert!(outcome.troubles > 0);
    check(&campaign, &outcome);
}

#[test]
fn two_thousand_mails_up_to_a_mebibyte_when_a_is_killed() {
    let campaign = full(A);
    check(&campaign, &run(&campaign));
}

#[test]
fn two_thousand_mails_up_to_a_mebibyte_in_memory_when_b_is_killed() {
    let campaign = full(B);
    let pair = Pair::init(RELAY, SILENCE);
    pair.use_memory();
    check(&campaign, &run_with(pair, &campaign));
}
