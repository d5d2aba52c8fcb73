//! Whatever clients, next hop and CoServers do: every mail that was taken over comes to the hop,
//! and the relay computes the same wherever it runs.

use lockstep::ids::ReplicaId;
use proptest::prelude::*;

use super::tests::Scenario;
use crate::limits::HOUR;

#[derive(Debug, Clone)]
enum Act {
    /// A client comes.
    Connect,
    /// A client sends a mail, or a part of one, or nonsense.
    Say(usize, &'static str),
    Reset(usize),
    HalfClose(usize),
    /// The hop answers those who connect and what is said to it, so many times.
    Hop(usize, &'static str),
    /// The hop refuses connections.
    Away,
    /// The hop breaks its connections off.
    Break,
    Lose,
    Join,
    Restart(ReplicaId),
    Freeze,
    Advance(u64),
    Chunk(usize),
}

const MAIL: &str = "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<to@example.org>\r\nDATA\r\ntext\r\n.\r\n";

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let say = prop_oneof![
        6 => Just(MAIL),
        1 => Just("EHLO c\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<x@example.org>\r\nDATA\r\nhal"),
        1 => Just("f\r\n.\r\n"),
        1 => Just("nonsense\r\n"),
        1 => Just("QUIT\r\n"),
    ];
    let verdict = prop_oneof![
        4 => Just("250 2.0.0 taken\r\n"),
        1 => Just("451 4.3.0 later\r\n"),
        1 => Just("421 4.3.2 closing\r\n"),
    ];
    let act = prop_oneof![
        4 => Just(Act::Connect),
        10 => (0..6usize, say).prop_map(|(client, text)| Act::Say(client, text)),
        1 => (0..6usize).prop_map(Act::Reset),
        1 => (0..6usize).prop_map(Act::HalfClose),
        6 => (1..8usize, verdict).prop_map(|(rounds, verdict)| Act::Hop(rounds, verdict)),
        1 => Just(Act::Away),
        1 => Just(Act::Break),
        1 => Just(Act::Lose),
        1 => Just(Act::Join),
        1 => prop_oneof![Just(ReplicaId::A), Just(ReplicaId::B)].prop_map(Act::Restart),
        1 => Just(Act::Freeze),
        2 => (1..400u64).prop_map(Act::Advance),
        1 => (1..200usize).prop_map(Act::Chunk),
    ];
    proptest::collection::vec(act, 1..50)
}

fn perform(scenario: &mut Scenario, act: &Act) {
    match *act {
        Act::Connect => scenario.join_client(),
        Act::Say(client, text) => scenario.with_client(client, |pair, client| {
            pair.send(client, text.as_bytes());
        }),
        Act::Reset(client) => scenario.with_client(client, |pair, client| pair.reset(client)),
        Act::HalfClose(client) => {
            scenario.with_client(client, |pair, client| pair.half_close(client));
        }
        Act::Hop(rounds, verdict) => scenario.hop_for(rounds, verdict),
        Act::Away => scenario.hop_away(),
        Act::Break => scenario.hop_breaks(),
        Act::Lose => scenario.lose(),
        Act::Join => scenario.join(),
        Act::Restart(place) => scenario.restart(place),
        Act::Freeze => scenario.freeze(),
        Act::Advance(seconds) => scenario.advance(seconds),
        Act::Chunk(bytes) => scenario.pair.set_chunk(bytes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_taken_over_comes_out_and_every_run_is_the_same(acts in acts()) {
        let mut scenario = Scenario::relaxed();
        for act in &acts {
            perform(&mut scenario, act);
        }
        for _ in 0..6 {
            scenario.hop();
            scenario.advance(HOUR / crate::limits::SECOND);
        }
        scenario.hop();
        let counters = scenario.pair.service().counters();
        prop_assert!(scenario.pair.service().queue().is_empty());
        prop_assert_eq!(counters.failed, 0);
        prop_assert_eq!(counters.delivered, counters.accepted);
        prop_assert!(scenario.received.len() as u64 >= counters.accepted);
        let copies = scenario.received.len() as u64 - counters.accepted;
        prop_assert!(copies <= counters.in_doubt, "{} copies", copies);
        prop_assert_eq!(scenario.pair.service().clients(), 0);
        prop_assert_eq!(scenario.pair.service().held_bytes(), 0);
        scenario.check();
    }
}
