//! One block of addresses that takes all it can of the relay, and honest clients beside it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use lockstep::ids::Place;
use lockstep::runtime::descriptors;
use lockstep_tests::mail::{Hop, RelayPair, runtime};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE};
use lockstep_tests::process::wait_for;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// The default of `max_clients`.
const PLACES: usize = 1000;

/// A connection to the relay from a chosen address of this host.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(runtime: &Runtime, from: [u8; 4], to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((from, 0))).expect("all of 127.0.0.0/8 is this host");
        let stream = runtime.block_on(socket.connect(to)).expect("it listens");
        let stream = stream.into_std().expect("a stream");
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    /// The next line, or nothing where the connection ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.reader.read_line(&mut line);
        line
    }

    fn ask(&mut self, text: &str) -> String {
        self.stream.write_all(text.as_bytes()).expect("it reads");
        self.line()
    }

    fn send(&mut self, text: &str) {
        for (ask, code) in [
            ("MAIL FROM:<a@x.example>\r\n", "250"),
            ("RCPT TO:<b@y.example>\r\n", "250"),
            ("DATA\r\n", "354"),
            (&format!("{text}\r\n.\r\n"), "250"),
        ] {
            let said = self.ask(ask);
            assert!(said.starts_with(code), "{ask} {said}");
        }
    }
}

/// A client from elsewhere connects, is greeted, and brings a mail.
fn honest(runtime: &Runtime, relay: &RelayPair, place: Place, host: u8) -> Client {
    let mut client = Client::connect(runtime, [127, 0, 2, host], relay.at(place));
    let greeting = client.line();
    assert!(greeting.starts_with("220"), "{greeting}{}", relay.pair.logs());
    assert!(client.ask("HELO c\r\n").starts_with("250"));
    client.send("honest");
    client
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
    let connect = |nth: usize| Client::connect(&runtime, from(nth), relay.at(Place::BOTH[nth % 2]));
    let mut silent: Vec<Client> = (0..PLACES).map(connect).collect();
    // Those who looked whether it listens may take a place for a moment.
    let served = silent.iter_mut().filter_map(|client| {
        let greeting = client.line();
        greeting.starts_with("220").then_some(client)
    });
    assert!(served.count() >= PLACES - 2, "they take every place{}", relay.pair.logs());
    wait_for(DEADLINE, || {
        let greeting = connect(0).line();
        if greeting.starts_with("421") { Ok(()) } else { Err(greeting) }
    })
    .unwrap_or_else(|greeting| panic!("the block gets no more: {greeting}"));

    // Each takes the place of a silent one, at either CoServer.
    let mut clients = Vec::new();
    for host in 1..=20 {
        clients.push(honest(&runtime, &relay, Place::BOTH[usize::from(host) % 2], host));
    }
    assert!(on_both(&relay, "displaced") >= 18, "{}", relay.pair.logs());
    let said = [A, B].map(|part| {
        let log = relay.pair.process(part).log();
        log.contains("connections_displaced") && log.contains("127.0.1.0/24")
    });
    assert!(said.contains(&true), "the log says whose: {}", relay.pair.logs());

    drop(silent);
    clients.iter_mut().for_each(|client| client.send("after"));
    clients.push(honest(&runtime, &relay, Place::A, 30));
    runtime.block_on(hop.wait_for_texts(41, DEADLINE));
    // What the block had is given back.
    wait_for(DEADLINE, || match on_both(&relay, "connections") {
        few if few <= 30 => Ok(()),
        many => Err(many),
    })
    .unwrap_or_else(|many| panic!("{many} connections are left{}", relay.pair.logs()));
    assert_eq!(relay.pair.status(A).unwrap()["mode"], "duplex");
}

#[test]
fn who_makes_errors_or_sends_too_much_is_put_off_at_both_and_nobody_else() {
    let runtime = runtime();
    let hop = runtime.block_on(Hop::start());
    let more = "address_errors = 1\nblock_mails = 1\naddress_shut = \"1h\"";
    let relay = RelayPair::start_with(Pair::init(RELAY, SILENCE), hop.address(), more);
    let connect = |from, place| Client::connect(&runtime, from, relay.at(place));
    let make_error = |host| {
        let mut client = connect([127, 0, 1, host], Place::A);
        assert!(client.line().starts_with("220"), "{host}{}", relay.pair.logs());
        assert!(client.ask("GET / HTTP/1.1\r\n").starts_with("421 4.7.0"));
    };
    let is_shut = |host| {
        for place in Place::BOTH {
            let greeting = connect([127, 0, 1, host], place).line();
            assert!(greeting.starts_with("421 4.7.0"), "{greeting}{}", relay.pair.logs());
        }
    };
    make_error(1);
    is_shut(1);
    // Its neighbours are served until several of them are shut out.
    (2..=4).for_each(make_error);
    is_shut(5);
    let greeted = |from| {
        let mut client = connect(from, Place::B);
        assert!(client.line().starts_with("220"));
        assert!(client.ask("HELO c\r\n").starts_with("250"));
        client
    };
    let (mut neighbour, mut other) = (greeted([127, 0, 2, 2]), greeted([127, 0, 3, 1]));
    // One in a minute: the neighbour's comes right after it.
    honest(&runtime, &relay, Place::A, 1);
    let said = neighbour.ask("MAIL FROM:<a@x.example>\r\n");
    assert!(said.starts_with("450 4.7.0"), "{said}{}", relay.pair.logs());
    other.send("from elsewhere");
    runtime.block_on(hop.wait_for_texts(2, DEADLINE));
}
