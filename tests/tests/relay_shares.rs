//! One block of addresses that takes all it can of the relay, and honest clients beside it.

use std::net::Ipv4Addr;

use lockstep::ids::ReplicaId;
use lockstep::runtime::descriptors;
use lockstep_tests::mail::{AbsentHop, Client, Hop, RelayPair, runtime};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE};
use lockstep_tests::process::wait_for;

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// The default of `max_clients`.
const PLACES: usize = 1000;

/// A client from elsewhere connects, is greeted, and brings a mail.
fn honest(relay: &RelayPair, place: ReplicaId, host: u8) -> Client {
    let mut client = connect(relay, [127, 0, 2, host], place);
    client.greet().unwrap_or_else(|said| panic!("{said}{}", relay.pair.logs()));
    client.send("honest").unwrap();
    client
}

fn connect(relay: &RelayPair, from: [u8; 4], place: ReplicaId) -> Client {
    Client::connect_from(Ipv4Addr::from(from), relay.at(place)).unwrap()
}

fn count(relay: &RelayPair, part: Part, name: &str) -> u64 {
    let status = relay.pair.status(part).expect("it answers");
    let devices = status["devices"].as_array().expect("a list");
    devices.iter().filter_map(|device| device["counts"][name].as_u64()).sum()
}

fn on_both(relay: &RelayPair, name: &str) -> u64 {
    [A, B].into_iter().map(|part| count(relay, part, name)).sum()
}

#[test]
fn a_thousand_silent_connections_of_one_block_keep_nobody_else_out() {
    descriptors::raise();
    let runtime = runtime();
    let hop = runtime.block_on(Hop::start());
    // However slow this machine is, they stay until they are made to go.
    let more = "client_idle_scarce = \"1h\"";
    let mut relay = RelayPair::start_with(Pair::init(RELAY, SILENCE), hop.address(), more);
    let from = |nth: usize| [127, 0, 1, 1 + (nth % 250) as u8];
    let nth = |nth: usize| connect(&relay, from(nth), ReplicaId::BOTH[nth % 2]);
    let mut silent: Vec<Client> = (0..PLACES).map(nth).collect();
    // Those who looked whether it listens may take a place for a moment.
    let served = silent.iter_mut().filter_map(|client| {
        let greeting = client.line();
        greeting.starts_with("220").then_some(client)
    });
    assert!(served.count() >= PLACES - 2, "they take every place{}", relay.pair.logs());
    wait_for(DEADLINE, || {
        let greeting = nth(0).line();
        if greeting.starts_with("421") { Ok(()) } else { Err(greeting) }
    })
    .unwrap_or_else(|greeting| panic!("the block gets no more: {greeting}"));

    // Each takes the place of a silent one, at either CoServer.
    let mut clients = Vec::new();
    for host in 1..=20 {
        clients.push(honest(&relay, ReplicaId::BOTH[usize::from(host) % 2], host));
    }
    assert!(on_both(&relay, "displaced") >= 18, "{}", relay.pair.logs());
    let said = [A, B].map(|part| {
        let log = relay.pair.process(part).log();
        log.contains("connections_displaced") && log.contains("127.0.1.0/24")
    });
    assert!(said.contains(&true), "the log says whose: {}", relay.pair.logs());

    drop(silent);
    clients.iter_mut().for_each(|client| client.send("after").unwrap());
    clients.push(honest(&relay, ReplicaId::A, 30));
    runtime.block_on(hop.wait_for_texts(41, DEADLINE));
    // What the block had is given back.
    wait_for(DEADLINE, || match on_both(&relay, "connections") {
        few if few <= 30 => Ok(()),
        many => Err(many),
    })
    .unwrap_or_else(|many| panic!("{many} connections are left{}", relay.pair.logs()));
    assert_eq!(relay.pair.status(A).unwrap()["mode"], "duplex");
}

/// No mail is taken from this client, for that reason.
#[track_caller]
fn is_told(relay: &RelayPair, client: &mut Client, why: &str) {
    let said = client.say("MAIL FROM:<a@x.example>\r\n", &format!("452 4.3.1 {why}"));
    said.unwrap_or_else(|said| panic!("{said}{}", relay.pair.logs()));
}

#[test]
fn a_block_that_fills_the_queue_leaves_room_to_another_and_both_are_told_what_is_full() {
    let runtime = runtime();
    let hop = runtime.block_on(async { AbsentHop::new() });
    let more = "max_queue_mails = 4";
    let mut relay = RelayPair::start_with(Pair::init(RELAY, SILENCE), hop.address(), more);
    let mut client = honest(&relay, ReplicaId::A, 1);
    for _ in 0..2 {
        client.send("it waits").unwrap();
    }
    let log = relay.pair.process(A).log();
    assert!(!log.contains("queue_scarce"), "with three quarters it is not:\n{log}");
    is_told(&relay, &mut client, "your network has its share of the queue");
    for part in [A, B] {
        let log = relay.pair.wait_for_event(part, "queue_share", 1);
        let line = log.lines().find(|line| line.contains("event=\"queue_share\""));
        assert!(line.is_some_and(|line| line.contains("block=127.0.2.0/24")), "{line:?}");
    }
    let mut other = connect(&relay, [127, 0, 3, 1], ReplicaId::B);
    other.greet().unwrap();
    other.send("the last one").unwrap();
    for part in [A, B] {
        relay.pair.wait_for_event(part, "queue_scarce", 1);
    }
    is_told(&relay, &mut other, "the queue is full");
    let hop = runtime.block_on(async { hop.appear() });
    runtime.block_on(hop.wait_for_texts(4, DEADLINE));
    for part in [A, B] {
        relay.pair.wait_for_event(part, "queue_free", 1);
    }
    client.send("there is room").unwrap();
}

#[test]
fn who_makes_errors_or_sends_too_much_is_put_off_at_both_and_nobody_else() {
    let runtime = runtime();
    let hop = runtime.block_on(Hop::start());
    let more = "address_errors = 1\nblock_mails = 1\naddress_shut = \"1h\"";
    let relay = RelayPair::start_with(Pair::init(RELAY, SILENCE), hop.address(), more);
    let make_error = |host| {
        let mut client = connect(&relay, [127, 0, 1, host], ReplicaId::A);
        assert!(client.line().starts_with("220"), "{host}{}", relay.pair.logs());
        assert!(client.ask("GET / HTTP/1.1\r\n").unwrap().starts_with("421 4.7.0"));
    };
    let is_shut = |host| {
        for place in ReplicaId::BOTH {
            let greeting = connect(&relay, [127, 0, 1, host], place).line();
            assert!(greeting.starts_with("421 4.7.0"), "{greeting}{}", relay.pair.logs());
        }
    };
    make_error(1);
    is_shut(1);
    // Its neighbours are served until several of them are shut out.
    (2..=4).for_each(make_error);
    is_shut(5);
    let greeted = |from| {
        let mut client = connect(&relay, from, ReplicaId::B);
        client.greet().unwrap();
        client
    };
    let (mut neighbour, mut other) = (greeted([127, 0, 2, 2]), greeted([127, 0, 3, 1]));
    // One in a minute: the neighbour's comes right after it.
    honest(&relay, ReplicaId::A, 1);
    let said = neighbour.say("MAIL FROM:<a@x.example>\r\n", "450 4.7.0");
    assert_eq!(said, Ok(()), "{}", relay.pair.logs());
    other.send("from elsewhere").unwrap();
    runtime.block_on(hop.wait_for_texts(2, DEADLINE));
}
