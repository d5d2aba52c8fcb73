//! The relay under mail that never stops, while CoServers are lost and come back, round by round.
//!
//! The long version, with blows that are drawn by a seed:
//!
//! ```sh
//! ROUNDS=20 SEED=1 cargo test -p lockstep-tests --test rounds -- --ignored --nocapture many
//! ```

use std::time::Duration;

use lockstep::ids::ReplicaId;
use lockstep_tests::mail::{Balance, Blow, Draw, Hop, Pace, RelayPair, Steady, runtime};
use lockstep_tests::pair::{A, B, DEADLINE};
use lockstep_tests::said::note;
use tokio::time::{Instant, sleep};

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// Short, so that a round is; whoever is removed without reason comes back.
const SILENCE: Duration = Duration::from_millis(500);

const PACE: Pace = Pace { rate: 50, size: 4096, connections: 8 };

fn play(blows: impl IntoIterator<Item = Blow>) -> Balance {
    runtime().block_on(async {
        let hop = Hop::start().await;
        let mut relay = RelayPair::start(RELAY, SILENCE, hop.address(), "");
        let load = Steady::start(&relay, PACE, DEADLINE * 3);
        for (number, blow) in (1..).zip(blows) {
            let round = relay.round(blow, &load).await;
            note(&format!("round {number}: {round}"));
        }
        let balance = Balance::draw_up(&relay, &hop, load).await;
        note(&balance.to_string());
        balance
    })
}

#[test]
fn every_acknowledged_mail_arrives_and_the_pair_is_duplex_after_each_of_five_losses() {
    let balance = play([
        Blow::Kill(ReplicaId::A),
        Blow::KillBoth { first: ReplicaId::B, apart: Duration::from_millis(200) },
        Blow::Wipe(ReplicaId::B),
        Blow::Pause(ReplicaId::A),
        Blow::Leave(ReplicaId::B),
    ]);
    balance.check();
    assert!(balance.ledger.troubles > 0, "nobody's connection was lost");
}

/// The long version; see above.
#[test]
#[ignore = "takes minutes; run by hand"]
fn many_rounds_of_losses() {
    let (rounds, seed) = (number("ROUNDS", 20), number("SEED", 1));
    note(&format!("{rounds} rounds of seed {seed}"));
    let mut draw = Draw(seed);
    play((0..rounds).map(|_| draw.blow())).check();
}

/// What a return costs whoever is served meanwhile: figures to be read, not asserted.
///
/// ```sh
/// AWAY=15 cargo test -p lockstep-tests --test rounds -- --ignored --nocapture return
/// ```
#[test]
#[ignore = "measures for a minute; run by hand"]
fn a_return_beside_steady_mail() {
    let away = Duration::from_secs(number("AWAY", 15));
    let pace = Pace { rate: 20, size: 32 << 10, connections: 8 };
    runtime().block_on(async {
        let hop = Hop::start().await;
        let mut relay = RelayPair::start(RELAY, SILENCE, hop.address(), "");
        let load = Steady::start(&relay, pace, DEADLINE * 3);
        for wiped in [false, true] {
            let began = Instant::now();
            sleep(away).await;
            let calm = load.span(began, Instant::now());
            relay.pair.kill(B);
            if wiped {
                relay.pair.wipe(B);
            }
            relay.pair.wait_for_mode(A, "simplex");
            let began = Instant::now();
            sleep(away).await;
            let alone = load.span(began, Instant::now());
            let began = Instant::now();
            relay.pair.run(B);
            relay.pair.wait_for_duplex();
            let (took, sent) = (began.elapsed(), relay.pair.sent_to_joiner());
            let during = load.span(began, Instant::now());
            note(&format!(
                "{away:?} away{}: back in {took:?}, {} KiB sent",
                if wiped { ", disk wiped" } else { "" },
                sent >> 10
            ));
            for (name, span) in [("duplex", calm), ("alone", alone), ("joining", during)] {
                note(&format!(
                    "  {name:<8} {:>4} replies, p50 {:?} ({:.1} of duplex), p99 {:?} ({:.1}), \
                     longest gap {:?} ({:.1})",
                    span.replies,
                    span.p50,
                    ratio(span.p50, calm.p50),
                    span.p99,
                    ratio(span.p99, calm.p99),
                    span.longest_gap,
                    ratio(span.longest_gap, calm.longest_gap),
                ));
            }
        }
        Balance::draw_up(&relay, &hop, load).await.check();
    });
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// What the environment says, or else this.
#[expect(clippy::disallowed_methods, reason = "a test is outside the pair")]
fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number")))
}
