//! A relay that did not run, for longer than it keeps mails, or for seconds.
//!
//! The long version:
//!
//! ```sh
//! MAILS=100000 cargo test -p lockstep-tests --test long_gap -- --ignored --nocapture
//! ```

use std::time::Duration;

use lockstep::limits::GAP_LEAST;
use lockstep_tests::ahead::clock_ahead;
use lockstep_tests::mail::{AbsentHop, Campaign, RelayPair, runtime, wait_until};
use lockstep_tests::pair::{A, B, DEADLINE, SILENCE, WITNESS};
use lockstep_tests::said::{note, skipped};
use tokio::time::Instant;

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// More than `give_up` by default, and less than `clock_step`.
const GAP: Duration = Duration::from_secs(6 * 86_400);

/// The hop is down and so many mails are queued. Everything ends, and the hop is there when the
/// pair is started again, later than the relay would keep the mails if it ran.
fn all_are_tried(mails: u64, within: Duration) {
    let hour = Duration::from_secs(3600);
    runtime().block_on(async {
        let hop = AbsentHop::new();
        let mut relay = RelayPair::start(RELAY, SILENCE, hop.address(), "");
        let ahead = match clock_ahead(GAP, relay.pair.directory()) {
            Ok(words) => words,
            Err(error) => return skipped(&format!("a C compiler is needed: {error}")),
        };
        let campaign =
            Campaign { mails, least: 512, most: 512, connections: 32, kill: None, within };
        let began = Instant::now();
        campaign.send(&relay).await;
        note(&format!("{mails} mails queued in {:?}", began.elapsed()));
        let all = [WITNESS, A, B];
        for part in all {
            note(&format!("{}: {} MiB", part.name(), relay.pair.process(part).most_memory() >> 20));
        }
        all.into_iter().for_each(|part| relay.pair.kill(part));
        let hop = hop.appear();
        let began = Instant::now();
        all.into_iter().for_each(|part| relay.pair.run_under(part, &ahead));
        wait_until("the first mail", within, async || (hop.count().await > 0).then_some(())).await;
        note(&format!("the first attempt came {:?} after the start", began.elapsed()));
        let all_there = async || (hop.count().await as u64 == mails).then_some(());
        wait_until("every mail to arrive", within.min(hour), all_there).await;
        note(&format!("the last mail came {:?} after the start", began.elapsed()));
        let counters = wait_until("an empty queue", DEADLINE, async || {
            let counters = relay.counters();
            (counters["queued"] == 0).then_some(counters)
        })
        .await;
        for part in all {
            note(&format!("{}: {} MiB", part.name(), relay.pair.process(part).most_memory() >> 20));
        }
        assert!(
            logs(&mut relay).contains("event=\"taken_up\""),
            "the clocks are not ahead{}",
            relay.pair.logs()
        );
        for (name, count) in
            [("accepted", mails), ("delivered", mails), ("bounced", 0), ("failed", 0)]
        {
            assert_eq!(counters[name], count, "{name}: {counters}");
        }
        assert!(hop.copies().await.is_empty());
        assert_eq!(hop.damaged().await, 0);
    });
}

/// The relay tries its hop again and again, at growing intervals, so that a timer is due soon.
#[test]
fn a_pair_that_stood_still_says_so_and_its_relay_goes_on() {
    runtime().block_on(async {
        let hop = AbsentHop::new();
        let mut relay = RelayPair::start(RELAY, SILENCE, hop.address(), "");
        let (mails, within) = (3, DEADLINE);
        let campaign =
            Campaign { mails, least: 512, most: 512, connections: 1, kill: None, within };
        campaign.send(&relay).await;
        let mut beyond = Duration::from_secs(4);
        while !logs(&mut relay).contains("event=\"gap\"") {
            assert!(beyond < DEADLINE, "no gap{}", relay.pair.logs());
            [A, B].into_iter().for_each(|part| relay.pair.pause(part));
            tokio::time::sleep(GAP_LEAST + beyond).await;
            [A, B].into_iter().for_each(|part| relay.pair.resume(part));
            tokio::time::sleep(Duration::from_secs(1)).await;
            beyond *= 2;
        }
        let hop = hop.appear();
        let all_there = async || (hop.count().await as u64 == mails).then_some(());
        wait_until("every mail to arrive", Duration::from_secs(120), all_there).await;
        assert!(hop.copies().await.is_empty());
        let told = logs(&mut relay).matches("nobody ran or could order").count();
        assert!(told > 0, "the relay was not told{}", relay.pair.logs());
    });
}

/// What both say.
fn logs(relay: &mut RelayPair) -> String {
    [A, B].map(|part| relay.pair.process(part).log()).concat()
}

#[test]
fn mails_are_tried_and_not_bounced_when_the_pair_is_back_later_than_it_keeps_them() {
    all_are_tried(200, DEADLINE);
}

/// The long version; see above.
#[test]
#[ignore = "takes many minutes; run by hand"]
#[expect(clippy::disallowed_methods, reason = "a test is outside the pair")]
fn as_many_as_a_queue_takes() {
    let mails = std::env::var("MAILS").ok().map_or(100_000, |text| text.parse().expect("a number"));
    all_are_tried(mails, Duration::from_secs(3600));
}
