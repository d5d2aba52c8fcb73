use proptest::prelude::*;

use super::*;

const PROCESS: Incarnation = Incarnation(7);
const HANDLE: Handle = Handle { process: PROCESS, number: 1 << 40 };

fn reports() -> Vec<Event> {
    let handle = HANDLE;
    let peer = "192.0.2.1:25".parse().unwrap();
    let local = "[2001:db8::1]:2525".parse().unwrap();
    let bytes = Bytes::from_static(b"bytes");
    vec![
        Event::Accepted { handle, listener: ListenerId(3), peer, local },
        Event::Connected { handle, peer, local },
        Event::ConnectFailed { handle, why: 4, text: bytes.clone() },
        Event::Data { handle, written: 9, bytes },
        Event::Written { handle, written: u32::MAX },
        Event::PeerClosed { handle },
        Event::Ended { handle },
        Event::Reset { handle, cause: ResetCause::TimedOut },
        Event::Room { handle, room: Room { total: 8, accepted: 3 } },
    ]
}

fn orders() -> Vec<Command> {
    let handle = HANDLE;
    let windows = Windows { read: 1, send: 2 };
    let options = ListenOrder {
        name: "smtp".into(),
        refusal: Bytes::from_static(b"421 later\r\n"),
        connections: 5,
        windows,
    };
    let connect = |target| Command::Connect { handle, target, timeout_ms: 6, windows };
    vec![
        Command::Listen { process: PROCESS, listener: ListenerId(1), options },
        Command::Unlisten { process: PROCESS, listener: ListenerId(1) },
        connect(Target::Address("[::1]:25".parse().unwrap())),
        connect(Target::host("mx.example", 25)),
        connect(Target::host("mx.example", 25).last(["192.0.2.1:25".parse().unwrap()])),
        Command::Send { handle, bytes: Bytes::from_static(b"bytes") },
        Command::Shutdown { handle },
        Command::Close { handle },
        Command::Reset { handle },
        Command::Credit { handle, bytes: 7 },
        Command::Refuse { handle },
        Command::Displace { handle },
        Command::Protect { handle },
    ]
}

#[test]
fn every_word_comes_back_as_it_was_said() {
    for report in reports() {
        assert_eq!(Event::decode(&report.encode()), Ok(report));
    }
    for order in orders() {
        assert_eq!(Command::decode(&order.encode()), Ok(order));
    }
}

#[test]
fn every_word_names_the_process_that_it_is_of_or_for() {
    assert!(reports().iter().all(|report| report.handle().process == PROCESS));
    assert!(orders().iter().all(|order| order.process() == PROCESS));
}

#[test]
fn no_two_connections_have_one_name() {
    let names = [
        Handle::accepted(Incarnation(1), 1),
        Handle::accepted(Incarnation(2), 1),
        Handle::accepted(Incarnation(2), 2),
        Handle::made(Incarnation(1), ConnId(1)),
        Handle::made(Incarnation(2), ConnId(1)),
        Handle::made(Incarnation(2), ConnId(2)),
    ];
    let different: std::collections::BTreeSet<Handle> = names.into_iter().collect();
    assert_eq!(different.len(), names.len());
    let made: Vec<_> = names.iter().map(|handle| handle.made_by_service()).collect();
    let [one, two] = [ConnId(1), ConnId(2)].map(Some);
    assert_eq!(made, [None, None, None, one, one, two]);
}

#[test]
fn a_word_cut_short_or_too_long_is_garbled() {
    for report in reports().into_iter().filter(|report| !matches!(report, Event::Data { .. })) {
        let bytes = report.encode();
        for end in 0..bytes.len() {
            assert_eq!(Event::decode(&bytes.slice(..end)), Err(Garbled), "{report:?} at {end}");
        }
        let longer = Bytes::from([&bytes[..], b"x"].concat());
        assert_eq!(Event::decode(&longer), Err(Garbled));
    }
    for order in orders().into_iter().filter(|order| !matches!(order, Command::Send { .. })) {
        let bytes = order.encode();
        for end in 0..bytes.len() {
            assert_eq!(Command::decode(&bytes.slice(..end)), Err(Garbled), "{order:?} at {end}");
        }
    }
}

#[test]
fn the_layout_is_what_it_was() {
    let data = Event::Data { handle: HANDLE, written: 1, bytes: Bytes::from_static(b"hi") };
    assert_eq!(
        data.encode()[..],
        [4, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, b'h', b'i']
    );
    let peer = "192.0.2.1:25".parse().unwrap();
    let connected = Event::Connected { handle: HANDLE, peer, local: peer }.encode();
    assert_eq!(connected[17..35], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 25, 0]);
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let bytes = Bytes::from(bytes);
        if let Ok(report) = Event::decode(&bytes) {
            prop_assert_eq!(Event::decode(&report.encode()), Ok(report));
        }
        let _ = Command::decode(&bytes);
    }
}
