//! The relay under mail that never stops, while CoServers are lost and come back, round by round.
//!
//! The long version, with blows that are drawn by a seed:
//!
//! ```sh
//! ROUNDS=20 SEED=1 cargo test -p lockstep-tests --test rounds -- --ignored --nocapture
//! ```

use std::time::Duration;

use lockstep::ids::Place;
use lockstep_tests::mail::{Balance, Blow, Draw, Hop, Pace, RelayPair, Steady, note, runtime};
use lockstep_tests::pair::DEADLINE;

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
        Blow::Kill(Place::A),
        Blow::KillBoth { first: Place::B, apart: Duration::from_millis(200) },
        Blow::Wipe(Place::B),
        Blow::Pause(Place::A),
        Blow::Leave(Place::B),
    ]);
    balance.check();
    assert!(balance.ledger.troubles > 0, "nobody's connection was lost");
}

/// The long version; see above.
#[test]
#[ignore = "takes minutes; run by hand"]
fn many_rounds_of_losses() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
    };
    let (rounds, seed) = (number("ROUNDS", 20), number("SEED", 1));
    note(&format!("{rounds} rounds of seed {seed}"));
    let mut draw = Draw(seed);
    play((0..rounds).map(|_| draw.blow())).check();
}
