//! What strangers, and friends gone wrong, can do to running processes: the service goes on, in
//! bounded memory, and the log says what happened.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use lockstep::client::session::PlaceStatus;
use lockstep::runtime::exit::Exit;
use lockstep::runtime::keys::SecretKey;
use lockstep::runtime::tls::Purpose;
use lockstep::wire::header;
use lockstep_tests::caller;
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, links_up};
use lockstep_tests::process::wait_for;
use lockstep_tests::rogue_peer::{Connection, Stranger};

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// What a process may have in memory in these tests. It has about 20 MiB when nobody bothers it.
const MEMORY_KIB: u64 = 160 << 10;

/// Random enough to be no packet and no command; the same in every run.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 56) as u8
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

fn memory_kib(pair: &mut Pair, part: Part) -> u64 {
    let status = format!("/proc/{}/status", pair.process(part).pid());
    let status = std::fs::read_to_string(status).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// The pair is duplex, serves, and its processes are small.
fn goes_on(pair: &mut Pair) {
    caller::serves(pair).unwrap_or_else(|error| panic!("{error}{}", pair.logs()));
    for part in [A, B] {
        let whole = |status: &serde_json::Value| {
            status["mode"] == "duplex" && links_up(status) == 2 && status["witness"] == true
        };
        pair.wait_until(part, "duplex on all links", whole);
    }
    pair.wait_until(WITNESS, "there", |_| true);
    for part in [A, B, WITNESS] {
        let kib = memory_kib(pair, part);
        assert!(kib < MEMORY_KIB, "{} has {kib} KiB", part.name());
    }
}

/// Waits until a part's log has a line with the level, the event, and the words.
fn logged(pair: &mut Pair, part: Part, event: &str, words: &str) {
    let event = format!("event=\"{event}\"");
    let is_it =
        |line: &&str| line.contains(" WARN ") && line.contains(&event) && line.contains(words);
    let look = || pair.process(part).log().lines().find(is_it).map(|_| ()).ok_or(());
    wait_for(DEADLINE, look)
        .unwrap_or_else(|()| panic!("{event} with {words:?} was not logged{}", pair.logs()));
}

fn key(pair: &Pair, name: &str) -> PathBuf {
    pair.directory().join("keys").join(name)
}

fn unknown_key(pair: &Pair) -> PathBuf {
    let path = key(pair, "unknown.key");
    if !path.exists() {
        SecretKey::generate().unwrap().save_new(&path).unwrap();
    }
    path
}

/// All ports that accept connections: whose, where, and what for.
fn ports(pair: &Pair) -> Vec<(Part, SocketAddr, Purpose)> {
    let mut ports = Vec::new();
    for part in [A, B] {
        ports.extend(
            pair.addresses(part, "clients").into_iter().map(|at| (part, at, Purpose::Client)),
        );
    }
    ports.extend(pair.addresses(A, "local").into_iter().map(|at| (A, at, Purpose::Link)));
    ports.push((WITNESS, pair.addresses(WITNESS, "listen")[0], Purpose::Witness));
    ports
}

#[test]
fn random_packets_on_every_port_change_nothing() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let mut noise = Noise(1);
    let mut ports: Vec<SocketAddr> = ports(&pair).into_iter().map(|(_, at, _)| at).collect();
    ports.extend(pair.addresses(B, "local"));
    for port in ports {
        let socket = UdpSocket::bind(SocketAddr::new(port.ip(), 0)).unwrap();
        for turn in 0..500_u32 {
            let length = 1 + usize::from(noise.byte()) * 5;
            let mut packet = noise.bytes(length);
            // Some look like QUIC: a long header, version 1 or one that is not known.
            if turn % 2 == 0 && length > 5 {
                packet[0] |= 0xc0;
                packet[1..5].copy_from_slice(&(turn % 4 / 2 + 1).to_be_bytes());
            }
            // Refused if the kernel has no room, as on a network.
            let _ = socket.send_to(&packet, port);
        }
    }
    goes_on(&mut pair);
}

#[test]
fn random_bytes_on_the_control_socket_are_answered_by_an_error_and_change_nothing() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let mut noise = Noise(2);
    for part in [A, B, WITNESS] {
        for length in [1, 40, 255, 256, 257, 100_000] {
            let mut stream = UnixStream::connect(pair.data(part).join("control.sock")).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            // Closed before all is written, it is refused as it ought to be.
            let _ = stream.write_all(&noise.bytes(length));
            let _ = stream.write_all(b"\n");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            let said = String::from_utf8(said).expect("UTF-8");
            let is_error = |line: &str| line.starts_with("{\"error\":{");
            assert!(said.lines().all(is_error), "{said}");
        }
    }
    goes_on(&mut pair);
}

#[test]
fn an_unknown_key_is_refused_on_every_port() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let unknown = unknown_key(&pair);
    for (part, at, purpose) in ports(&pair) {
        let stranger = Stranger::new(at.ip(), &unknown);
        if let Ok(connection) = stranger.connect(at, purpose) {
            stranger.ended(&connection);
        }
        logged(
            &mut pair,
            part,
            "connection_refused",
            "is not one that the configuration here names",
        );
    }
    goes_on(&mut pair);
}

#[test]
fn a_key_of_another_role_is_refused() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let cases = [("client.key", Purpose::Link), ("witness.key", Purpose::Link)];
    let more = [("witness.key", Purpose::Client), ("b.key", Purpose::Client)];
    for (name, wrong) in cases.into_iter().chain(more) {
        let (part, at, purpose) = *ports(&pair)
            .iter()
            .find(|(part, _, purpose)| *part == A && *purpose == wrong)
            .unwrap();
        let stranger = Stranger::new(at.ip(), &key(&pair, name));
        if let Ok(connection) = stranger.connect(at, purpose) {
            stranger.ended(&connection);
        }
        logged(&mut pair, part, "connection_refused", "is that of the");
    }
    // The witness knows no clients; to it such a key is unknown.
    let (part, at, purpose) = ports(&pair).pop().unwrap();
    let stranger = Stranger::new(at.ip(), &key(&pair, "client.key"));
    if let Ok(connection) = stranger.connect(at, purpose) {
        stranger.ended(&connection);
    }
    logged(&mut pair, part, "connection_refused", "is not one that the configuration here names");
    goes_on(&mut pair);
}

/// Who may connect to a port, by key.
fn rightful(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Client => "client.key",
        Purpose::Link | Purpose::Witness | Purpose::Guardian => "b.key",
    }
}

/// Somebody with the right key says this on every port, and is thrown out.
fn thrown_out_for(bytes: &[u8], words: &str) {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    for (part, at, purpose) in ports(&pair) {
        let stranger = Stranger::new(at.ip(), &key(&pair, rightful(purpose)));
        let connection = stranger.connect(at, purpose).unwrap_or_else(|error| panic!("{error}"));
        let _stream = stranger.say(&connection, bytes);
        stranger.ended(&connection);
        logged(&mut pair, part, "frame_invalid", words);
        // One link at a time: with the key of B one can take both from it, and A alone goes on.
        goes_on(&mut pair);
    }
}

/// A frame with this version in its header, behind the prefix.
fn frame_of_version(version: u16) -> Vec<u8> {
    let body = [7; 12];
    let mut frame = b"LKST".to_vec();
    frame.extend(version.to_le_bytes());
    frame.extend([1, 0]);
    frame.extend((body.len() as u32).to_le_bytes());
    frame.extend([0; 8]);
    frame.extend(body);
    let mut bytes = header::prefix(frame.len()).unwrap().to_vec();
    bytes.extend(frame);
    bytes
}

#[test]
fn a_frame_of_another_version_ends_its_connection() {
    thrown_out_for(&frame_of_version(header::VERSION + 1), "version");
}

#[test]
fn a_frame_of_noise_ends_its_connection() {
    let mut bytes = header::prefix(1000).unwrap().to_vec();
    bytes.extend(Noise(3).bytes(1000));
    thrown_out_for(&bytes, "");
}

#[test]
fn a_frame_that_is_too_long_ends_its_connection_before_it_is_there() {
    let mut bytes = u32::MAX.to_le_bytes().to_vec();
    bytes.extend([0; 10_000]);
    thrown_out_for(&bytes, "bytes");
}

#[test]
fn a_flood_of_connections_leaves_the_service_and_its_memory_as_they_were() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let unknown = unknown_key(&pair);
    for (_, at, purpose) in ports(&pair) {
        let stranger = Stranger::new(at.ip(), &unknown);
        stranger.connect_many(at, purpose, 100);
    }
    goes_on(&mut pair);
    // With the right key, and held open.
    let friend = |part| {
        let at: SocketAddr = pair.addresses(part, "clients")[0];
        let friend = Stranger::new(at.ip(), &key(&pair, "client.key"));
        let connections = friend.connect_many(at, Purpose::Client, 300);
        (friend, connections)
    };
    let floods = [A, B].map(friend);
    assert!(floods.iter().any(|(_, connections)| connections.iter().any(Result::is_ok)));
    goes_on(&mut pair);
}

/// More clients come than a configured bound allows. The newest are refused, by name and in the
/// log, the others are served on, and there is room again when some have gone.
#[test]
fn more_clients_than_may_be_are_refused_and_those_that_are_there_go_on() {
    const MOST: usize = 6;
    let mut pair = Pair::init(REGISTERS, SILENCE);
    for part in [A, B] {
        let limits = format!("\n[limits]\nclients = {MOST}\n\n[timing]\n");
        pair.change(part, "\n[timing]\n", &limits);
    }
    pair.form();
    let caller = caller::Caller::start(&pair, "n");
    let both = || match caller.status().places {
        [PlaceStatus::Serving { .. }, PlaceStatus::Serving { .. }] => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(DEADLINE, both).unwrap_or_else(|found| panic!("{found}{}", pair.logs()));
    let crowd: Vec<_> = [A, B]
        .into_iter()
        .map(|part| {
            let at = pair.addresses(part, "clients")[0];
            let crowd = Stranger::new(at.ip(), &key(&pair, "client.key"));
            let connections = crowd.connect_many(at, Purpose::Client, 4 * MOST);
            // A place is taken by who greets.
            let there = connections.iter().flatten();
            let streams: Vec<_> = there.map(|connection| crowd.say(connection, &[])).collect();
            (part, crowd, connections, streams)
        })
        .collect();
    for (part, crowd, connections, _) in &crowd {
        // Of those that got a connection all that are too many lose it.
        let refused = || {
            let is_refused = |connection: &&Connection| {
                let reason = connection.close_reason().map(|reason| reason.to_string());
                reason.is_some_and(|reason| reason.contains("as many connections as it may"))
            };
            crowd.poll();
            let there: Vec<&Connection> = connections.iter().flatten().collect();
            let refused = there.iter().copied().filter(is_refused).count();
            let left = there.iter().filter(|one| one.close_reason().is_none()).count();
            if refused > 0 && left < MOST { Ok(()) } else { Err((refused, left)) }
        };
        wait_for(DEADLINE, refused)
            .unwrap_or_else(|found| panic!("refused, left: {found:?}{}", pair.logs()));
        logged(&mut pair, *part, "connection_refused", "as many connections as it may");
    }
    caller.goes_on(&pair);
    drop(crowd);
    goes_on(&mut pair);
    caller.finish();
}

#[test]
fn a_coserver_whose_peer_and_witness_cannot_be_reached_goes_on_starting_and_says_so() {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    pair.run(B);
    let look = || match pair.process(B).log().matches("no answer from").count() {
        // Each of the links and the witness, more than once.
        6.. => Ok(()),
        found => Err(found),
    };
    wait_for(DEADLINE, look).unwrap_or_else(|found| panic!("{found} times {}", pair.logs()));
    let status = pair.status(B).unwrap();
    assert_eq!(status["mode"], "starting", "{status}");
    assert_eq!(status["witness"], false, "{status}");
    assert_eq!(links_up(&status), 0, "{status}");
    assert!(status["peer"]["incarnation"].is_null(), "{status}");
    let mut settings = caller::settings(&pair);
    // One of the two is not there at all.
    settings.open_within = Duration::from_secs(5);
    let refused = lockstep::client::blocking::Session::open(settings).unwrap_err().to_string();
    assert!(refused.contains("this CoServer is starting"), "{refused}");
    pair.run(WITNESS);
    pair.run(A);
    goes_on(&mut pair);
}

#[test]
fn an_address_in_use_ends_the_start_and_names_it() {
    let pair = Pair::init(REGISTERS, SILENCE);
    let ports = [(A, "local"), (B, "local"), (A, "clients"), (WITNESS, "listen")];
    for (part, field) in ports {
        let at = pair.addresses(part, field)[0];
        let _taken = UdpSocket::bind(at).unwrap();
        let mut process = pair.run_another(part);
        let status = process.wait(DEADLINE);
        assert_eq!(status.code(), Some(Exit::Unavailable.code().into()), "{}", process.log());
        assert!(process.log().contains(&at.to_string()), "{}", process.log());
    }
}

#[test]
fn packets_from_an_address_that_is_not_the_links_are_ignored() {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let at = pair.addresses(A, "local")[0];
    let elsewhere: IpAddr = "127.0.0.77".parse().unwrap();
    let stranger = Stranger::new(elsewhere, &key(&pair, "b.key"));
    assert!(stranger.connect(at, Purpose::Link).is_err(), "even the right key is not heard there");
    goes_on(&mut pair);
}
