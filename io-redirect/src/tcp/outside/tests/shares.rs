//! One block of addresses takes every place: others are served at once, and it gets nothing back.

use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::*;
use crate::limits;

/// Connects from this address of the loopback network, as soon as there is a listener.
async fn connect_from(host: [u8; 4], to: SocketAddr) -> TcpStream {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((host, 0))).unwrap();
        if let Ok(stream) = socket.connect(to).await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0];
    stream.write_all(b"!").await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && &answer == b"!"
}

/// Takes every place; all are served and say nothing more.
async fn taken(pair: &Pair) -> Vec<TcpStream> {
    let mut greedy = Vec::new();
    for host in 1..=u8::try_from(PROBE_CONNECTIONS).unwrap() {
        let mut stream = connect_from([127, 0, 1, host], pair.address).await;
        assert!(echoes(&mut stream).await);
        greedy.push(stream);
    }
    greedy
}

#[test]
fn a_newcomer_from_elsewhere_is_served_at_once_in_place_of_the_longest_silent() {
    test(async |pair| {
        let mut greedy = taken(&pair).await;
        // Nobody of the crowd's own block has a claim, however many come.
        for host in 10..10 + limits::FLOOD_REFUSALS as u8 - 2 {
            let refused = connect_from([127, 0, 1, host], pair.address).await;
            assert_eq!(read_all(refused).await, REFUSAL);
        }
        let mut honest = connect_from([127, 0, 2, 1], pair.address).await;
        assert!(echoes(&mut honest).await);
        pair.diary_has("1 reset: Displaced").await;
        assert_eq!(read_all(greedy.remove(0)).await, REFUSAL);
        for stream in &mut greedy {
            assert!(echoes(stream).await);
        }
    });
}

#[test]
fn those_who_gave_way_and_stay_keep_nobody_out() {
    let linger = Duration::from_secs(3600);
    let start = || {
        let outside = bound_for(localhost(0), linger).unwrap();
        start_on(outside, SERVING, Members::both(PROCESS, Incarnation(9)), Descriptors::new(24))
    };
    test_with(start, async |pair| {
        let mut greedy = taken(&pair).await;
        // Many times what there are descriptors for.
        for block in 2..60 {
            let mut honest = connect_from([127, 0, block, 1], pair.address).await;
            assert!(echoes(&mut honest).await, "in round {block}");
            drop(honest);
            // The place is taken again as soon as it is free; what was tried stays there, too.
            loop {
                let mut again = connect_from([127, 0, 1, 1], pair.address).await;
                let served = echoes(&mut again).await;
                greedy.push(again);
                if served {
                    break;
                }
                // It is no flood.
                tokio::time::sleep(limits::FLOOD / limits::FLOOD_REFUSALS).await;
            }
        }
    });
}

#[test]
fn of_a_crowd_a_byte_now_and_then_is_not_an_input_each() {
    test(async |pair| {
        let mut greedy = taken(&pair).await;
        let one = &mut greedy[0];
        // What has come is looked at whenever nobody has anything else to do.
        let looked = async || tokio::time::sleep(Duration::from_millis(50)).await;
        let queued = async |count| {
            while pair.queue.len() < count {
                looked().await;
            }
        };
        // On a machine that was elsewhere for the whole wait it is tried again.
        loop {
            let refused = connect_from([127, 0, 1, 200], pair.address).await;
            assert_eq!(read_all(refused).await, REFUSAL);
            pair.tell(Ask::Take(false));
            pair.ask("diary").await;
            let began = Instant::now();
            one.write_all(b"a").await.unwrap();
            queued(1).await;
            one.write_all(b"b").await.unwrap();
            looked().await;
            let soon = pair.queue.len();
            one.write_all(b"c").await.unwrap();
            let was_there = began.elapsed() < limits::PARTIAL;
            queued(2).await;
            looked().await;
            let later = pair.queue.len();
            pair.tell(Ask::Take(true));
            let mut answer = [0; 3];
            one.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"abc");
            if was_there {
                assert_eq!((soon, later), (1, 2), "what comes soon after the first is one input");
                break;
            }
        }
    });
}

#[test]
fn one_that_is_protected_is_of_no_share_here_either() {
    test(async |pair| {
        let mut own = connect_from([127, 0, 1, 1], pair.address).await;
        assert!(echoes(&mut own).await);
        pair.ask("protect 1").await;
        let mut greedy = Vec::new();
        for _ in 1..PROBE_CONNECTIONS {
            greedy.push(connect_from([127, 0, 2, 1], pair.address).await);
            assert!(echoes(greedy.last_mut().unwrap()).await);
        }
        // Its block would have one of three already, and no claim to another.
        let mut second = connect_from([127, 0, 1, 1], pair.address).await;
        assert!(echoes(&mut second).await);
        assert!(echoes(&mut own).await);
        pair.diary_has("2 reset: Displaced").await;
    });
}

#[test]
fn one_that_spoke_up_just_before_it_gave_way_gets_the_text_all_the_same() {
    test(async |pair| {
        let mut greedy = taken(&pair).await;
        pair.tell(Ask::Take(false));
        let mut honest = connect_from([127, 0, 2, 1], pair.address).await;
        let queued = async |count| {
            while pair.queue.len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        queued(1).await;
        greedy[0].write_all(b"late").await.unwrap();
        queued(2).await;
        pair.tell(Ask::Take(true));
        assert!(echoes(&mut honest).await);
        pair.diary_has("1 reset: Displaced").await;
        assert_eq!(read_all(greedy.remove(0)).await, REFUSAL);
    });
}
