//! What clients should not do, over real sockets: the relay answers, stays bounded, and goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use lockstep::ids::ReplicaId;
use lockstep_tests::mail::{Campaign, Hop, RelayPair, runtime};
use lockstep_tests::pair::{A, B, Pair, Part, SILENCE};
use lockstep_tests::process::wait_for;
use lockstep_tests::said::note;
use tokio::net::TcpSocket;

const RELAY: &str = env!("CARGO_BIN_EXE_relay");
const PATIENCE: Duration = Duration::from_secs(20);

/// Small bounds, so that they are reached. All clients are one host here, which is not to be shut
/// out for what the sessions before did.
const BOUNDS: &str =
    "max_message = 65536\nsession_bytes = 1048576\nmax_clients = 40\naddress_errors = 0\n";

/// What is sent too much, in each of two ways: many times what a process may grow by.
const EXCESS_BYTES: usize = 64 << 20;

/// What a process may grow by while it throws all that away: some windows of the least size, and
/// what the journal has under way.
const GROWTH_KIB: u64 = 32 << 10;

fn connect(to: SocketAddr) -> TcpStream {
    with_patience(TcpStream::connect(to).expect("it listens"))
}

/// The same from this address, which like all of 127.0.0.0/8 is this host's.
fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.connect(to).await?.into_std()
    };
    let stream = runtime().block_on(connect).expect("it listens");
    stream.set_nonblocking(false).unwrap();
    with_patience(stream)
}

fn with_patience(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one line.
fn line(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while text.last() != Some(&b'\n') {
        match stream.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Says something and reads one line.
fn ask(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).expect("it reads");
    line(stream)
}

fn greeted(to: SocketAddr) -> TcpStream {
    let mut stream = connect(to);
    assert!(line(&mut stream).starts_with("220 "));
    assert!(ask(&mut stream, "HELO c\r\n").starts_with("250 "));
    stream
}

/// Resident memory of a process, in KiB.
fn resident(relay: &mut RelayPair, part: Part) -> u64 {
    in_status(relay, part, "VmRSS:")
}

/// The most that it ever had.
fn most_resident(relay: &mut RelayPair, part: Part) -> u64 {
    in_status(relay, part, "VmHWM:")
}

fn in_status(relay: &mut RelayPair, part: Part, name: &str) -> u64 {
    let status = format!("/proc/{}/status", relay.pair.process(part).pid());
    let text = std::fs::read_to_string(status).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Runs a test's abuse, then sees whether mail still goes through, and the pair is duplex.
fn survives(abuse: impl FnOnce(&mut RelayPair)) {
    let runtime = runtime();
    let hop = runtime.block_on(Hop::start());
    let pair = Pair::init(RELAY, SILENCE);
    for part in [A, B] {
        // All that a client sends goes through the window and the journal.
        pair.change(part, "\n[storage]\n", "\n[limits]\nwindow_bytes = 4194304\n\n[storage]\n");
        pair.change(part, "# journal_keep_bytes = 268435456", "journal_keep_bytes = 0");
        pair.change(part, "# checkpoint_bytes = 67108864", "checkpoint_bytes = 8388608");
    }
    let mut relay = RelayPair::start_with(pair, hop.address(), BOUNDS);
    abuse(&mut relay);
    let campaign = Campaign {
        mails: 20,
        least: 1 << 10,
        most: 32 << 10,
        connections: 2,
        kill: None,
        within: Duration::from_secs(60),
    };
    let outcome = runtime.block_on(campaign.run(&mut relay, &hop));
    assert_eq!((outcome.accepted.len(), outcome.copies()), (20, 0));
    assert_eq!(relay.pair.status(A).unwrap()["mode"], "duplex");
}

#[test]
fn garbage_is_answered_and_ended() {
    survives(|relay| {
        let mut state = 1u64;
        for round in 0..20 {
            let mut stream = connect(relay.at(ReplicaId::BOTH[round % 2]));
            let bytes: Vec<u8> = (0..20_000)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if state >> 61 == 0 { b'\n' } else { (state >> 40) as u8 }
                })
                .collect();
            // It may close before all is written.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            let said = String::from_utf8_lossy(&said);
            assert!(said.starts_with("220 "), "{said}");
            for line in said.lines() {
                assert!(line.len() > 3 && line[..3].bytes().all(|b| b.is_ascii_digit()), "{line}");
            }
        }
    });
}

#[test]
fn a_flood_of_connections_is_turned_away_politely() {
    survives(|relay| {
        let to = relay.at(ReplicaId::A);
        let mut streams: Vec<TcpStream> = (0..150).map(|_| connect(to)).collect();
        // A client of another block of addresses, at the other CoServer.
        let mut other = connect_from([127, 0, 2, 1], relay.at(ReplicaId::B));
        let greeting = line(&mut other);
        assert!(greeting.starts_with("220 "), "in mid-flood: {greeting}");
        streams.extend((0..150).map(|_| connect(to)));
        assert!(ask(&mut other, "HELO c\r\n").starts_with("250 "));
        let greetings: Vec<String> = streams.iter_mut().map(line).collect();
        let count = |code: &str| greetings.iter().filter(|said| said.starts_with(code)).count();
        assert!((1..=40).contains(&count("220 ")), "{greetings:?}");
        assert!(count("421 4.3.2 ") > 0, "{greetings:?}");
        note(&format!("of 300: {} served, {} told to go elsewhere", count("220 "), count("421 ")));
        let said = ask(&mut other, "MAIL FROM:<>\r\n");
        assert!(said.starts_with("250 "), "while the flood has all it can get: {said}");
        // The bound is the pair's. Once they are gone, their block has room at the other CoServer.
        drop(streams);
        let greeting = || match line(&mut connect(relay.at(ReplicaId::B))) {
            said if said.starts_with("220 ") => Ok(()),
            said => Err(said),
        };
        wait_for(PATIENCE, greeting).unwrap_or_else(|said| panic!("{said}"));
    });
}

#[test]
fn what_is_too_large_is_refused_and_takes_no_memory() {
    survives(|relay| {
        let mut stream = greeted(relay.at(ReplicaId::A));
        assert!(ask(&mut stream, "MAIL FROM:<> SIZE=65537\r\n").starts_with("552 5.3.4"));
        assert!(ask(&mut stream, "MAIL FROM:<>\r\n").starts_with("250"));
        assert!(ask(&mut stream, "RCPT TO:<a@example.org>\r\n").starts_with("250"));
        assert!(ask(&mut stream, "DATA\r\n").starts_with("354"));
        let before = [A, B].map(|part| resident(relay, part));
        let block = "a line of a mail that is much too large\r\n".repeat(1600);
        for _ in 0..EXCESS_BYTES / block.len() {
            stream.write_all(block.as_bytes()).expect("it is read, and thrown away");
        }
        assert!(ask(&mut stream, ".\r\n").starts_with("552 5.3.4"));
        let mut endless = greeted(relay.at(ReplicaId::B));
        for _ in 0..EXCESS_BYTES >> 16 {
            endless.write_all(&[b'x'; 64 << 10]).expect("it is read, and thrown away");
        }
        assert!(ask(&mut endless, "\r\n").starts_with("500 5.5.2"));
        for (part, before) in [A, B].into_iter().zip(before) {
            let (most, kib) = (most_resident(relay, part), (2 * EXCESS_BYTES) >> 10);
            note(&format!(
                "{}: {before} KiB before {kib} KiB of excess, {most} at most",
                part.name()
            ));
            assert!(most < before + GROWTH_KIB, "{before} KiB before, {most} KiB at most");
        }
    });
}

#[test]
fn clients_that_hold_much_share_a_bounded_memory() {
    survives(|relay| {
        let part = format!("{}\r\n", "x".repeat(900)).repeat(66);
        let mut refused = 0;
        let mut held = Vec::new();
        for _ in 0..30 {
            let mut stream = greeted(relay.at(ReplicaId::A));
            if ask(&mut stream, "MAIL FROM:<>\r\n").starts_with("452 4.3.1") {
                refused += 1;
                continue;
            }
            assert!(ask(&mut stream, "RCPT TO:<a@example.org>\r\n").starts_with("250"));
            assert!(ask(&mut stream, "DATA\r\n").starts_with("354"));
            stream.write_all(part.as_bytes()).expect("it is read");
            held.push(stream);
        }
        for stream in &mut held {
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            refused += usize::from(line(stream).starts_with("421 4.3.1"));
        }
        assert!(refused > 5, "30 half mails of 60 KiB do not fit 1 MiB; {refused} refused");
        let log = relay.pair.wait_for_event(A, "memory_scarce", 1);
        let line = log.lines().find(|line| line.contains("event=\"memory_scarce\""));
        assert!(line.is_some_and(|line| line.contains("block=127.0.0.0/24")), "{line:?}");
        drop(held);
        relay.pair.wait_for_event(A, "memory_free", 1);
    });
}
