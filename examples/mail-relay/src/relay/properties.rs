//! Whatever clients, next hop and CoServers do: every mail that was taken over comes to the hop,
//! and the relay computes the same wherever it runs.

use lockstep::ids::ReplicaId;
use proptest::prelude::*;

use super::tests::Story;
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

fn perform(story: &mut Story, act: &Act) {
    match *act {
        Act::Connect => story.join_client(),
        Act::Say(client, text) => story.with_client(client, |pair, client| {
            pair.send(client, text.as_bytes());
        }),
        Act::Reset(client) => story.with_client(client, |pair, client| pair.reset(client)),
        Act::HalfClose(client) => {
            story.with_client(client, |pair, client| pair.half_close(client));
        }
        Act::Hop(rounds, verdict) => story.hop_for(rounds, verdict),
        Act::Away => story.hop_away(),
        Act::Break => story.hop_breaks(),
        Act::Lose => story.lose(),
        Act::Join => story.join(),
        Act::Restart(place) => story.restart(place),
        Act::Freeze => story.freeze(),
        Act::Advance(seconds) => story.advance(seconds),
        Act::Chunk(bytes) => story.pair.set_chunk(bytes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_taken_over_comes_out_and_every_run_is_the_same(acts in acts()) {
        let mut story = Story::relaxed();
        for act in &acts {
            perform(&mut story, act);
        }
        for _ in 0..6 {
            story.hop();
            story.advance(HOUR / crate::limits::SECOND);
        }
        story.hop();
        let counters = story.pair.service().counters();
        prop_assert!(story.pair.service().queue().is_empty());
        prop_assert_eq!(counters.failed, 0);
        prop_assert_eq!(counters.delivered, counters.accepted);
        prop_assert!(story.received.len() as u64 >= counters.accepted);
        let copies = story.received.len() as u64 - counters.accepted;
        prop_assert!(copies <= counters.in_doubt, "{} copies", copies);
        prop_assert_eq!(story.pair.service().clients(), 0);
        prop_assert_eq!(story.pair.service().held_bytes(), 0);
        story.check();
    }
}
