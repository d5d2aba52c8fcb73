//! Connections of strangers, up to the bounds and beyond: what the CoServers need for themselves
//! stays theirs, and what two serve fits one.
#![allow(clippy::disallowed_methods, reason = "tests use files")]

use std::net::SocketAddr;

use lockstep::ids::ReplicaId;
use lockstep::runtime::exit::Exit;
use lockstep_tests::mail::{Client, Hop, RelayPair, runtime};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS};
use lockstep_tests::process::wait_for;

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// Together they take more than a segment of the journal has.
const MAILS: usize = 60;

/// Connects, and gives the first line that comes.
fn connect(to: SocketAddr) -> (Client, String) {
    let mut client = Client::connect(to).expect("it listens");
    let greeting = client.line();
    if greeting.starts_with("220") {
        client.say("HELO c\r\n", "250").unwrap();
    }
    (client, greeting)
}

/// Connects to both in turn until neither takes more.
fn fill(relay: &RelayPair) -> Vec<Client> {
    let (mut served, mut refused) = (Vec::new(), 0);
    for place in ReplicaId::BOTH.into_iter().cycle() {
        let (client, greeting) = connect(relay.at(place));
        if greeting.starts_with("220") {
            served.push(client);
            refused = 0;
        } else {
            refused += 1;
        }
        if refused == 6 {
            break;
        }
    }
    served
}

fn refused(relay: &RelayPair, part: Part) -> u64 {
    let status = relay.pair.status(part).expect("it answers");
    let devices = status["devices"].as_array().expect("a list");
    devices.iter().filter_map(|device| device["counts"]["refused"].as_u64()).sum()
}

/// Files of a CoServer's journal that were begun.
fn segments(relay: &RelayPair, part: Part) -> usize {
    let names = std::fs::read_dir(relay.pair.data(part).join("store")).expect("it has a disk");
    let names = names.map(|item| item.expect("a name").file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("journal-") && !name.contains("spare")).count()
}

#[test]
fn clients_that_take_every_descriptor_leave_journal_and_deliveries_theirs() {
    let runtime = runtime();
    let hop = runtime.block_on(Hop::start());
    let mut pair = Pair::init(RELAY, SILENCE);
    pair.limit_descriptors(150);
    let mut relay = RelayPair::start_with(pair, hop.address(), "");
    let mut clients = fill(&relay);
    let count = clients.len();
    assert!((8..100).contains(&count), "{count} clients{}", relay.pair.logs());
    assert!([A, B].iter().any(|part| refused(&relay, *part) > 0));

    // Enough for some segments of the journal, by those who are served.
    let body = vec!["x".repeat(98); 1000].join("\r\n");
    let before = [A, B].map(|part| relay.pair.status(part).expect("it answers"));
    for mail in 0..MAILS {
        clients[mail % count].send(&body).unwrap();
    }
    runtime.block_on(hop.wait_for_texts(MAILS, DEADLINE * 2));
    for (part, before) in [A, B].into_iter().zip(before) {
        let status = relay.pair.wait_for_mode(part, "duplex");
        assert_eq!(status["incarnation"], before["incarnation"], "{}", relay.pair.logs());
        assert_eq!(status["descriptors"]["exhausted"], 0, "{}", relay.pair.logs());
        assert!(segments(&relay, part) > 1);
        let log = relay.pair.process(part).log();
        assert!(
            log.contains("before=50") && log.contains("limit=150"),
            "it raises its limit: {log}"
        );
        assert!(log.contains("descriptors_short"), "it says at its start what it can hold");
        assert!(!log.contains("journal_not_prepared") && !log.contains("no_checkpoint"), "{log}");
    }
}

#[test]
fn whom_two_served_the_one_that_is_left_serves() {
    let runtime = runtime();
    let hop = runtime.block_on(Hop::start());
    let pair = Pair::init(RELAY, SILENCE);
    let mut relay = RelayPair::start_with(pair, hop.address(), "max_clients = 12");
    // Those who looked whether it listens may not be gone yet.
    let mut clients = wait_for(DEADLINE, || match fill(&relay) {
        clients if clients.len() == 12 => Ok(clients),
        fewer => Err(fewer.len()),
    })
    .unwrap_or_else(|served| panic!("{served} of 12 are served{}", relay.pair.logs()));
    assert!([A, B].iter().any(|part| refused(&relay, *part) > 0));
    let said =
        [A, B].map(|part| relay.pair.process(part).log().contains("connections_turned_away"));
    assert!(said.contains(&true), "the log says that somebody was refused");
    relay.pair.kill(B);
    relay.pair.wait_for_mode(A, "simplex");
    // Whoever was at B comes to A. None of A's has gone.
    let is_lost = |client: &&Client| client.remote() != Some(relay.at(ReplicaId::A));
    for _ in 0..clients.iter().filter(is_lost).count() {
        let (client, greeting) = connect(relay.at(ReplicaId::A));
        assert!(greeting.starts_with("220"), "{greeting}{}", relay.pair.logs());
        clients.push(client);
    }
    let (_, greeting) = connect(relay.at(ReplicaId::A));
    assert!(greeting.starts_with("421"), "{greeting}");
}

#[test]
fn a_limit_that_leaves_nothing_for_connections_is_refused_in_words() {
    let mut pair = Pair::init(RELAY, SILENCE);
    pair.limit_descriptors(70);
    pair.run(WITNESS);
    pair.run(A);
    pair.expect_exit(A, Exit::System);
    let log = pair.process(A).log();
    assert!(log.contains("LimitNOFILE"), "{log}");
}

#[test]
fn the_other_and_the_witness_are_found_by_their_names() {
    let mut pair = Pair::init(RELAY, SILENCE);
    for part in [A, B] {
        let text = std::fs::read_to_string(pair.config(part)).expect("init wrote it");
        let mut named = text.clone();
        for field in ["witness", "remote"] {
            let (address, name) = ("\"127.0.0.1:", "\"localhost:");
            let [from, to] = [address, name].map(|host| format!("{field} = {host}"));
            named = named.replace(&from, &to);
            assert!(named.contains(&to), "{named}");
        }
        std::fs::write(pair.config(part), named).expect("it can be changed");
    }
    pair.form();
    pair.kill(WITNESS);
    pair.wait_until(A, "without a witness", |status| status["witness"] == false);
    pair.run(WITNESS);
    pair.wait_for_duplex();
}

#[test]
fn what_the_documentation_says_is_enough_for_the_relay_with_its_defaults_is() {
    let mut pair = Pair::init(RELAY, SILENCE);
    pair.limit_descriptors(1400);
    pair.form();
    for part in [A, B] {
        let log = pair.process(part).log();
        assert!(log.contains("limit=1400") && !log.contains("descriptors_short"), "{log}");
    }
}
