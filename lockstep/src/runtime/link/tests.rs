//! Networks over loopback, with real QUIC.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;

use super::dial::Dialler;
use super::names::Names;
use super::*;
use crate::ids::ReplicaId;
use crate::runtime::keys::{Role, SecretKey};
use crate::runtime::quic::tests::{A, B, Cast, loopback, soon};
use crate::runtime::quic::{CloseCode, Endpoint, Lost, SendError, Settings, SetupError};
use crate::runtime::remote::Remote;
use crate::runtime::tls::{KeyRefusal, Purpose};

mod turns;

/// A network, its one port, and the address of the port.
struct Node {
    net: Network,
    port: PortId,
}

impl Node {
    fn listening(cast: &Cast, own: Role, config: ListenConfig) -> Self {
        let mut net = Network::new(cast.of(own));
        let port = net.listen(config).unwrap();
        Node { net, port }
    }

    fn dialling(cast: &Cast, own: Role, config: DialConfig) -> Self {
        let mut net = Network::new(cast.of(own));
        let port = net.dial(config).unwrap();
        Node { net, port }
    }

    fn addr(&self) -> SocketAddr {
        self.net.local_addr(self.port).unwrap()
    }

    async fn up(&mut self) -> ConnectionId {
        loop {
            match soon(self.net.next()).await {
                Event::Up { connection, .. } => return connection,
                Event::Failed { .. } => {}
                other => panic!("{other:?} instead of Up"),
            }
        }
    }

    async fn frame(&mut self) -> Bytes {
        match soon(self.net.next()).await {
            Event::Frame { frame, .. } => frame,
            other => panic!("{other:?} instead of a frame"),
        }
    }

    async fn down(&mut self) -> Lost {
        match soon(self.net.next()).await {
            Event::Down { lost, .. } => lost,
            other => panic!("{other:?} instead of Down"),
        }
    }

    async fn failed(&mut self) -> SetupError {
        match soon(self.net.next()).await {
            Event::Failed { error, .. } => error,
            other => panic!("{other:?} instead of Failed"),
        }
    }
}

fn ip() -> std::net::IpAddr {
    loopback().ip()
}

fn link_a(cast: &Cast) -> Node {
    Node::listening(cast, A, ListenConfig::link(ReplicaId::B, loopback(), ip()))
}

fn link_b(cast: &Cast, a: SocketAddr) -> Node {
    Node::dialling(cast, B, DialConfig::link(ReplicaId::A, loopback(), a))
}

fn clients_a(cast: &Cast, most: usize) -> Node {
    Node::listening(cast, A, ListenConfig::clients(loopback(), most))
}

fn client(cast: &Cast, a: SocketAddr) -> Node {
    Node::dialling(cast, Role::Client, DialConfig::coserver(ReplicaId::A, a))
}

/// Polls a network whose events are of no interest, for what else it does.
async fn serve(node: &mut Node) {
    loop {
        node.net.next().await;
    }
}

#[tokio::test]
async fn a_link_carries_frames_both_ways() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let mut b = link_b(&cast, a.addr());
    let (at_a, at_b) = tokio::join!(a.up(), b.up());
    assert_eq!(a.net.peer(at_a).unwrap().role, B);
    assert_eq!(b.net.peer(at_b).unwrap().role, A);
    assert_eq!((a.net.connection(a.port), b.net.connection(b.port)), (Some(at_a), Some(at_b)));
    for n in 0..100u8 {
        a.net.send(at_a, Bytes::from(vec![n; 64])).unwrap();
    }
    a.net.transmit().await;
    for n in 0..100u8 {
        assert_eq!(b.frame().await, vec![n; 64]);
    }
    b.net.send(at_b, Bytes::from_static(b"thanks")).unwrap();
    let (answer, ()) = tokio::join!(a.frame(), async {
        let _ = tokio::time::timeout(Duration::from_millis(20), b.net.next()).await;
    });
    assert_eq!(answer, "thanks");
}

/// Its handshake was done before the key was replaced, and its owner learns of it only after.
#[tokio::test]
async fn a_connection_that_waits_while_its_key_is_replaced_is_not_taken() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let _b = link_b(&cast, a.addr());
    soon(async {
        while a.net.listen_stats(a.port).unwrap().completed == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (old, new) = (cast.key_of(B), SecretKey::generate().unwrap().public());
    cast.of(A).replace(B, &[old], new).unwrap();
    match a.failed().await {
        SetupError::PeerKey { refusal: KeyRefusal::Unknown { key }, .. } => assert_eq!(key, old),
        other => panic!("{other:?}"),
    }
    assert_eq!(a.net.connection(a.port), None);
}

#[tokio::test]
async fn answers_to_what_has_arrived_leave_together() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let mut b = link_b(&cast, a.addr());
    let (at_a, at_b) = tokio::join!(a.up(), b.up());
    for _ in 0..10 {
        b.net.send(at_b, Bytes::from_static(b"ask")).unwrap();
    }
    b.net.transmit().await;
    // They came in one packet. A write of its own for each answer would make
    // quinn's buffer slow, and the work of sending them as much again.
    for answered in 0..10 {
        assert_eq!(a.net.stats(at_a).unwrap().queued, answered * 7);
        assert_eq!(a.frame().await, "ask");
        a.net.send(at_a, Bytes::from_static(b"yes")).unwrap();
    }
    a.net.transmit().await;
    assert_eq!(a.net.stats(at_a).unwrap().queued, 0);
    for _ in 0..10 {
        assert_eq!(b.frame().await, "yes");
    }
}

#[tokio::test]
async fn two_links_are_two_connections() {
    let cast = Cast::new();
    let (mut a, mut b) = (link_a(&cast), Network::new(cast.of(B)));
    let second = a.net.listen(ListenConfig::link(ReplicaId::B, loopback(), ip())).unwrap();
    for remote in [a.addr(), a.net.local_addr(second).unwrap()] {
        b.dial(DialConfig::link(ReplicaId::A, loopback(), remote)).unwrap();
    }
    let (one, two) = (a.up().await, a.up().await);
    assert_ne!(one, two);
    assert!(a.net.connection(a.port).is_some() && a.net.connection(second).is_some());
}

#[tokio::test]
async fn refusals_are_events_on_both_sides() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let mut wrong =
        Node::dialling(&cast, Role::Client, DialConfig::link(ReplicaId::A, loopback(), a.addr()));
    let (here, there) = tokio::join!(a.failed(), wrong.failed());
    let held = Role::Client;
    let refusal = KeyRefusal::WrongRole { key: cast.key_of(held), held };
    assert!(
        matches!(here, SetupError::PeerKey { refusal: found, .. } if found == refusal),
        "{here}"
    );
    assert!(matches!(there, SetupError::OwnKey { .. }), "{there}");
}

#[tokio::test]
async fn a_stranger_is_refused_and_the_service_goes_on() {
    let cast = Cast::new();
    let mut a = clients_a(&cast, 10);
    let mut stranger = Network::new(cast.stranger.clone());
    stranger.dial(DialConfig::coserver(ReplicaId::A, a.addr())).unwrap();
    let here = a.failed().await;
    assert!(matches!(here, SetupError::PeerKey { refusal: KeyRefusal::Unknown { .. }, .. }));
    drop(stranger);
    let mut client = client(&cast, a.addr());
    tokio::join!(a.up(), client.up());
}

#[tokio::test]
async fn the_newest_connection_of_a_link_wins() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let mut old = link_b(&cast, a.addr());
    let (first, _) = tokio::join!(a.up(), old.up());
    let mut new = link_b(&cast, a.addr());
    let down = a.down().await;
    assert_eq!(down, Lost::Here { code: CloseCode::REPLACED });
    let (second, _) = tokio::join!(a.up(), new.up());
    assert_ne!(first, second);
    assert_eq!(a.net.connection(a.port), Some(second));
    match old.down().await {
        Lost::ByPeer { code, .. } => assert_eq!(code, CloseCode::REPLACED),
        other => panic!("{other}"),
    }
}

/// Each link's port, of whoever dials on it too.
#[tokio::test]
async fn a_guardian_comes_beside_a_link_and_displaces_only_its_like() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let mut b = link_b(&cast, a.addr());
    let (at_a, at_b) = tokio::join!(a.up(), b.up());
    for (own, peer, node, link) in
        [(B, ReplicaId::A, &mut a, at_a), (A, ReplicaId::B, &mut b, at_b)]
    {
        let of = |node: &Node| DialConfig::guardian(peer, loopback(), node.addr());
        let mut guardian = Node::dialling(&cast, own, of(node));
        let (first, own_end) = tokio::join!(node.up(), guardian.up());
        let known = node.net.peer(first).unwrap();
        assert_eq!((known.role, known.purpose), (own, Purpose::Guardian));
        guardian.net.send(own_end, Bytes::from_static(b"it died")).unwrap();
        guardian.net.flush();
        let serving = tokio::select! {
            frame = node.frame() => frame,
            () = serve(&mut guardian) => unreachable!("it serves for ever"),
        };
        assert_eq!(serving, "it died");
        let mut next = Node::dialling(&cast, own, of(node));
        assert_eq!(node.down().await, Lost::Here { code: CloseCode::REPLACED });
        let (second, _) = tokio::join!(node.up(), next.up());
        assert_ne!(first, second);
        assert_eq!(node.net.connection(node.port), Some(link), "the link is as it was");
    }
}

/// A link's key, and no other, is a guardian's; and a port for others takes none.
#[tokio::test]
async fn a_guardian_needs_the_other_coservers_key_and_a_links_port() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    for own in [Role::Client, Role::Witness] {
        let config = DialConfig::guardian(ReplicaId::A, loopback(), a.addr());
        let mut stranger = Node::dialling(&cast, own, config);
        let (here, _) = tokio::join!(a.failed(), stranger.failed());
        let refused = KeyRefusal::WrongRole { key: cast.key_of(own), held: own };
        match here {
            SetupError::PeerKey { refusal, .. } => assert_eq!(refusal, refused),
            other => panic!("{other}"),
        }
    }
    let mut clients = clients_a(&cast, 4);
    let mut lost =
        Node::dialling(&cast, B, DialConfig::guardian(ReplicaId::A, loopback(), clients.addr()));
    let (here, there) = tokio::join!(clients.failed(), lost.failed());
    for error in [here, there] {
        assert!(matches!(error, SetupError::Purpose { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_link_listens_to_its_peers_address_only() {
    let cast = Cast::new();
    let elsewhere = "127.0.0.2".parse().unwrap();
    let mut a = Node::listening(&cast, A, ListenConfig::link(ReplicaId::B, loopback(), elsewhere));
    let mut config = DialConfig::link(ReplicaId::A, loopback(), a.addr());
    config.endpoint.settings.setup_within = Duration::from_millis(200);
    let mut b = Node::dialling(&cast, B, config);
    let error = tokio::select! {
        error = b.failed() => error,
        () = serve(&mut a) => unreachable!(),
    };
    assert!(matches!(error, SetupError::Timeout { .. }), "{error}");
    let stats = a.net.listen_stats(a.port).unwrap();
    assert!(stats.ignored > 0 && stats.begun == 0, "{stats:?}");
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_places_come_back() {
    let cast = Cast::new();
    let mut a = clients_a(&cast, 1);
    let mut first = client(&cast, a.addr());
    tokio::join!(a.up(), first.up());
    let mut second = client(&cast, a.addr());
    let told = tokio::select! {
        told = second.net.next() => told,
        () = serve(&mut a) => unreachable!(),
    };
    // The peer may see its connection come up and then closed, or not come up.
    match told {
        Event::Failed { error, .. } => assert!(matches!(error, SetupError::Busy { .. }), "{error}"),
        Event::Up { .. } => {
            let lost = second.down().await;
            assert!(matches!(lost, Lost::ByPeer { code: CloseCode::TOO_MANY, .. }), "{lost}");
        }
        other => panic!("{other:?}"),
    }
    let first_goes = first.net.connection(first.port).unwrap();
    first.net.close_port(first.port, CloseCode::DONE, "");
    assert!(matches!(first.down().await, Lost::Here { .. }));
    assert_eq!(first.net.budget(first_goes), 0);
    soon(async {
        loop {
            if matches!(a.net.next().await, Event::Up { .. }) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_that_has_every_place_gives_one_to_another() {
    let cast = Cast::new();
    let mut a = clients_a(&cast, 4);
    let mut greedy = Network::new(cast.of(Role::Client));
    for _ in 0..4 {
        greedy.dial(DialConfig::coserver(ReplicaId::A, a.addr())).unwrap();
        a.up().await;
    }
    let mut other = Network::new(cast.other_client.clone());
    other.dial(DialConfig::coserver(ReplicaId::A, a.addr())).unwrap();
    let lost = a.down().await;
    assert!(matches!(lost, Lost::Here { code: CloseCode::TOO_MANY }), "{lost}");
    let came = a.up().await;
    assert_eq!(a.net.peer(came).unwrap().key, cast.other_client.secret().public());
    // The greedy one comes again and again, and finds that nobody has more than it.
    soon(async {
        loop {
            match a.net.next().await {
                Event::Failed { error: SetupError::Full { .. }, .. } => return,
                Event::Failed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert!(a.net.peer(came).is_some());
}

#[tokio::test]
async fn a_key_with_a_bound_is_refused_beyond_it_and_another_is_not() {
    let cast = Cast::new();
    let mut net = Network::new(cast.bounding_the_client(A, 2));
    let port = net.listen(ListenConfig::clients(loopback(), 16)).unwrap();
    let mut a = Node { net, port };
    let mut bounded = Network::new(cast.of(Role::Client));
    for _ in 0..2 {
        bounded.dial(DialConfig::coserver(ReplicaId::A, a.addr())).unwrap();
        a.up().await;
    }
    bounded.dial(DialConfig::coserver(ReplicaId::A, a.addr())).unwrap();
    let refused = a.failed().await;
    let key = cast.key_of(Role::Client);
    assert!(
        matches!(refused, SetupError::Bounded { key: found, most: 2, .. } if found == key),
        "{refused}"
    );
    assert!(refused.to_string().contains("raise `connections`"), "{refused}");
    let mut other = Network::new(cast.other_client.clone());
    other.dial(DialConfig::coserver(ReplicaId::A, a.addr())).unwrap();
    let came = a.up().await;
    assert_eq!(a.net.peer(came).unwrap().key, cast.other_client.secret().public());
}

#[tokio::test]
async fn noise_is_ignored_and_the_service_goes_on() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let mut b = link_b(&cast, a.addr());
    let (at_a, at_b) = tokio::join!(a.up(), b.up());
    let noise = UdpSocket::bind(loopback()).unwrap();
    let mut state = 1u64;
    for round in 0..2_000usize {
        let datagram: Vec<u8> = (0..round % 1_400)
            .map(|_| {
                // Numbers without pattern, the same in every run.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let target = if round % 2 == 0 { a.addr() } else { b.addr() };
        noise.send_to(&datagram, target).unwrap();
        tokio::task::yield_now().await;
    }
    a.net.send(at_a, Bytes::from_static(b"still here")).unwrap();
    b.net.send(at_b, Bytes::from_static(b"me too")).unwrap();
    a.net.flush();
    b.net.flush();
    let (x, y) = tokio::join!(a.frame(), b.frame());
    assert_eq!((&x[..], &y[..]), (&b"me too"[..], &b"still here"[..]));
}

/// First packets of honest diallers that will never say more.
async fn first_packets(cast: &Cast, count: usize) -> Vec<Vec<u8>> {
    let trap = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let mut net = Network::new(cast.of(Role::Client));
    for _ in 0..count {
        net.dial(DialConfig::coserver(ReplicaId::A, trap.local_addr().unwrap())).unwrap();
    }
    let mut packets = std::collections::BTreeMap::new();
    let mut buffer = [0; 2_000];
    while packets.len() < count {
        let (len, from) = soon(trap.recv_from(&mut buffer)).await.unwrap();
        packets.entry(from).or_insert_with(|| buffer[..len].to_vec());
    }
    packets.into_values().collect()
}

#[tokio::test]
async fn a_flood_of_half_open_connections_is_bounded_and_does_not_shut_out_others() {
    let cast = Cast::new();
    let packets = first_packets(&cast, 150).await;
    let mut a = clients_a(&cast, 10);
    let flood = UdpSocket::bind(loopback()).unwrap();
    let target = a.addr();
    let mut client = client(&cast, target);
    let flooding = async {
        for packet in packets.iter().cycle().take(1_500) {
            flood.send_to(packet, target).unwrap();
            tokio::task::yield_now().await;
        }
    };
    let both_up = async { tokio::join!(a.up(), client.up()) };
    soon(async { tokio::join!(flooding, both_up) }).await;
    let stats = a.net.listen_stats(a.port).unwrap();
    assert!(stats.retried > 50, "{stats:?}");
    assert!(stats.in_flight_max <= 32, "{stats:?}");
}

/// Passes on what shows that somebody receives at this address, and nothing after that.
async fn begin_and_fall_silent(own: tokio::net::UdpSocket, target: SocketAddr) {
    let (mut dialler, mut sent, mut answered) = (None, 0, 0);
    let mut buffer = [0; 2_000];
    loop {
        let Ok((len, from)) = own.recv_from(&mut buffer).await else { return };
        let onward = if from == target {
            answered += 1;
            dialler.filter(|_| answered == 1)
        } else {
            dialler = Some(from);
            sent += 1;
            (sent <= 2).then_some(target)
        };
        if let Some(onward) = onward {
            // Of an attacker's packets some may be lost.
            let _ = own.send_to(&buffer[..len], onward).await;
        }
    }
}

/// What once locked everybody out: three addresses that answer a Retry, and then say no more.
#[tokio::test]
async fn handshakes_that_do_not_go_on_give_their_places_to_others() {
    let cast = Cast::new();
    let mut a = clients_a(&cast, 10);
    let target = a.addr();
    let mut attackers = Network::new(cast.of(Role::Client));
    let mut silent = tokio::task::JoinSet::new();
    for number in 0..120 {
        let source = format!("127.0.0.{}:0", 2 + number % 3);
        let own = tokio::net::UdpSocket::bind(source).await.unwrap();
        attackers.dial(DialConfig::coserver(ReplicaId::A, own.local_addr().unwrap())).unwrap();
        silent.spawn(begin_and_fall_silent(own, target));
    }
    let stats = |a: &Node| a.net.listen_stats(a.port).unwrap();
    soon(async {
        while stats(&a).in_flight_max < 64 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut honest = client(&cast, target);
    tokio::join!(a.up(), honest.up());
    assert!(stats(&a).displaced > 0, "{:?}", stats(&a));
    assert_eq!(stats(&a).in_flight_max, 64);
}

#[tokio::test]
async fn a_stalled_connection_is_bounded_and_holds_nobody_up() {
    let cast = Cast::new();
    let mut a = clients_a(&cast, 10);
    let (mut stalled, mut lively) = (client(&cast, a.addr()), client(&cast, a.addr()));
    let (to_stalled, at_stalled) = tokio::join!(a.up(), stalled.up());
    let (to_lively, _) = tokio::join!(a.up(), lively.up());
    stalled.net.pause(at_stalled);
    let frame = Bytes::from(vec![5; 10_000]);
    let mut sent = 0;
    let mut quiet = 0;
    while quiet < 20 {
        match a.net.send(to_stalled, frame.clone()) {
            Ok(()) => sent += 1,
            Err(SendError::Full { .. }) => {
                // The other one is served as if nothing were the matter.
                a.net.send(to_lively, Bytes::from_static(b"tick")).unwrap();
                quiet = match tokio::time::timeout(Duration::from_millis(10), a.net.next()).await {
                    Ok(Event::Writable { connection }) => {
                        assert_eq!(connection, to_stalled);
                        0
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => quiet + 1,
                };
                assert_eq!(lively.frame().await, "tick");
            }
            Err(other) => panic!("{other}"),
        }
    }
    let Settings { queue, send_window, receive_window, frame_max, .. } =
        Settings::of(Purpose::Client);
    let bound = queue + frame_max + send_window as usize + receive_window as usize;
    assert!(sent * 10_004 < bound, "{sent} frames of 10,000 bytes taken");
    stalled.net.resume(at_stalled);
    let reading = async {
        for _ in 0..sent {
            assert_eq!(stalled.frame().await, frame);
        }
    };
    let writable = async {
        let event = soon(a.net.next()).await;
        assert!(matches!(event, Event::Writable { connection } if connection == to_stalled));
        assert!(a.net.budget(to_stalled) > 1 << 20);
        serve(&mut a).await;
    };
    tokio::select! { () = reading => {}, () = writable => {} }
}

#[tokio::test]
async fn the_loss_of_a_paused_connection_is_noticed() {
    let cast = Cast::new();
    let mut a = clients_a(&cast, 10);
    let mut client = client(&cast, a.addr());
    let (at_a, at_client) = tokio::join!(a.up(), client.up());
    a.net.pause(at_a);
    client.net.send(at_client, Bytes::from_static(b"unread")).unwrap();
    client.net.transmit().await;
    let code = CloseCode::FREE;
    client.net.close(at_client, code, "enough");
    let lost = a.down().await;
    assert_eq!(lost, Lost::ByPeer { code, reason: "enough".into() });
}

#[tokio::test]
async fn what_was_queued_arrives_before_a_finished_connection_goes() {
    let cast = Cast::new();
    let mut a = clients_a(&cast, 1);
    let mut client = client(&cast, a.addr());
    let (at_a, _) = tokio::join!(a.up(), client.up());
    let code = CloseCode(CloseCode::FREE.0 + 1);
    a.net.send(at_a, Bytes::from_static(b"go to the other one")).unwrap();
    a.net.finish(at_a, code, "not a member", Duration::from_secs(5));
    assert_eq!(a.down().await, Lost::Here { code });
    assert_eq!(a.net.send(at_a, Bytes::new()), Err(SendError::NotConnected));
    assert_eq!(client.frame().await, "go to the other one");
    assert_eq!(client.down().await, Lost::ByPeer { code, reason: "not a member".into() });
}

#[tokio::test]
async fn a_shutdown_tells_everybody() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let mut b = link_b(&cast, a.addr());
    tokio::join!(a.up(), b.up());
    let goodbye = a.net.shutdown(CloseCode::SHUTDOWN, "SIGTERM", Duration::from_secs(5));
    let (lost, ()) = soon(async { tokio::join!(b.down(), goodbye) }).await;
    assert_eq!(lost, Lost::ByPeer { code: CloseCode::SHUTDOWN, reason: "SIGTERM".into() });
}

/// Runs place A of a link on a thread and runtime of its own. So it can be ended as abruptly as a
/// process, without a word to its peer.
struct Killable {
    kill: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Killable {
    fn start(
        credentials: crate::runtime::tls::Credentials,
        config: ListenConfig,
    ) -> (Self, SocketAddr) {
        let (kill, killed) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        #[expect(clippy::disallowed_methods, reason = "stands for another process")]
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut net = Network::new(credentials);
                let port = net.listen(config).unwrap();
                tell.send(net.local_addr(port).unwrap()).unwrap();
                let echo = async {
                    loop {
                        if let Event::Frame { connection, frame, .. } = net.next().await {
                            net.send(connection, frame).unwrap();
                        }
                    }
                };
                tokio::select! { () = echo => {}, _ = killed => {} }
            });
            // Nothing is polled any more that could say goodbye.
            drop(runtime);
        });
        (Killable { kill, thread }, told.recv().unwrap())
    }

    fn kill(self) {
        self.kill.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_killed_listener_that_returns_is_noticed_at_once_and_dialled_again() {
    let cast = Cast::new();
    // The test must not pass by the idle time.
    let mut config = ListenConfig::link(ReplicaId::B, loopback(), ip());
    config.endpoint.settings.idle = Duration::from_secs(3_000);
    let (first, addr) = Killable::start(cast.of(A), config.clone());
    let mut dial = DialConfig::link(ReplicaId::A, loopback(), addr);
    dial.endpoint.settings.idle = Duration::from_secs(3_000);
    dial.endpoint.settings.keep_alive = Duration::from_millis(50);
    let mut b = Node::dialling(&cast, B, dial);
    let at_b = b.up().await;
    b.net.send(at_b, Bytes::from_static(b"one")).unwrap();
    assert_eq!(b.frame().await, "one");
    first.kill();
    config.endpoint.local = addr;
    let (second, _) = Killable::start(cast.of(A), config);
    assert_eq!(b.down().await, Lost::Restarted);
    let again = b.up().await;
    b.net.send(again, Bytes::from_static(b"two")).unwrap();
    assert_eq!(b.frame().await, "two");
    second.kill();
}

#[tokio::test]
async fn a_dialler_keeps_trying_until_there_is_a_listener() {
    let cast = Cast::new();
    // It keeps the port, so that nobody else has it, and says nothing.
    let silent = UdpSocket::bind(loopback()).unwrap();
    let addr = silent.local_addr().unwrap();
    // With the usual time for a handshake: one of a busy machine takes long.
    let mut b = Node::dialling(&cast, B, DialConfig::link(ReplicaId::A, loopback(), addr));
    for _ in 0..2 {
        assert!(matches!(b.failed().await, SetupError::Timeout { .. }));
    }
    drop(silent);
    let mut a = Node::listening(&cast, A, ListenConfig::link(ReplicaId::B, addr, ip()));
    tokio::join!(a.up(), b.up());
}

#[tokio::test]
async fn a_name_is_looked_up_and_an_address_of_it_reached() {
    let cast = Cast::new();
    let mut a = link_a(&cast);
    let by_name = |port| format!("localhost:{port}").parse::<Remote>().unwrap();
    let link = DialConfig::link(ReplicaId::A, loopback(), by_name(a.addr().port()));
    let mut b = Node::dialling(&cast, B, link);
    tokio::join!(a.up(), b.up());
    // A socket for both families; what the name means first may be where nobody listens.
    let mut witness = Node::listening(&cast, Role::Witness, ListenConfig::witness(loopback(), 4));
    let dial = DialConfig::witness(by_name(witness.addr().port()));
    let mut a = Node::dialling(&cast, A, dial);
    tokio::join!(witness.up(), a.up());
}

#[tokio::test]
async fn an_address_that_does_not_answer_does_not_hide_the_next_one() {
    let cast = Cast::new();
    let silent = UdpSocket::bind(loopback()).unwrap();
    let mut a = link_a(&cast);
    let DialConfig { mut endpoint, remote, backoff } =
        DialConfig::link(ReplicaId::A, loopback(), a.addr());
    // The test must not pass by the first one's being given up.
    endpoint.settings.setup_within = Duration::from_secs(3_000);
    let endpoint = Endpoint::bind(endpoint, cast.of(B)).unwrap();
    let dialler = Dialler { endpoint, remote, backoff, names: Names::new() };
    let addresses = vec![silent.local_addr().unwrap(), a.addr()];
    let (_, connected) = tokio::join!(a.up(), dialler.connect_to_one(addresses));
    let (address, connection) = connected.unwrap();
    assert_eq!(connection.peer().role, Role::CoServer(ReplicaId::A));
    assert_eq!(address, a.addr());
}

#[tokio::test]
async fn an_error_names_the_host() {
    let cast = Cast::new();
    // No resolver is asked about a name with an empty label.
    let dial = DialConfig::witness(Remote::Name { host: "a..b".into(), port: 7 });
    let mut a = Node::dialling(&cast, A, dial);
    let error = a.failed().await;
    assert!(matches!(error, SetupError::Unresolved { .. }), "{error}");
    assert!(error.to_string().contains("a..b:7"), "{error}");
}

#[tokio::test]
async fn the_witness_takes_both_coservers() {
    let cast = Cast::new();
    let mut witness = Node::listening(&cast, Role::Witness, ListenConfig::witness(loopback(), 4));
    let mut a = Node::dialling(&cast, A, DialConfig::witness(witness.addr()));
    let mut b = Node::dialling(&cast, B, DialConfig::witness(witness.addr()));
    tokio::join!(a.up(), b.up());
    let (first, second) = (witness.up().await, witness.up().await);
    let mut roles = [first, second].map(|id| witness.net.peer(id).unwrap().role);
    roles.sort();
    assert_eq!(roles, [A, B]);
}

#[test]
fn a_link_config_is_for_links() {
    let config = ListenConfig::link(ReplicaId::B, loopback(), "0.0.0.0".parse().unwrap());
    assert_eq!((config.endpoint.from, config.admit), (None, Admit::Newest));
    assert_eq!(config.endpoint.purpose, Purpose::Link);
}
