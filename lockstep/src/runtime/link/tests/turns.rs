//! Clients of several keys that say more than is carried out, or take less than they asked for.

use super::*;
use crate::ids::MonotonicTime;

/// One client with more to say than anybody reads, and one of another key.
struct Two {
    a: Node,
    greedy: Node,
    modest: Node,
    to_greedy: ConnectionId,
    to_modest: ConnectionId,
    at_greedy: ConnectionId,
    at_modest: ConnectionId,
}

impl Two {
    async fn connected() -> Self {
        let cast = Cast::new();
        let mut a = clients_a(&cast, 10);
        let mut greedy = client(&cast, a.addr());
        let mut net = Network::new(cast.other_client.clone());
        let port = net.dial(DialConfig::coserver(ReplicaId::A, a.addr())).unwrap();
        let mut modest = Node { net, port };
        let (to_greedy, at_greedy) = tokio::join!(a.up(), greedy.up());
        let (to_modest, at_modest) = tokio::join!(a.up(), modest.up());
        Self { a, greedy, modest, to_greedy, to_modest, at_greedy, at_modest }
    }
}

async fn frame(a: &mut Node) -> (ConnectionId, Bytes) {
    match soon(a.net.next()).await {
        Event::Frame { connection, frame, .. } => (connection, frame),
        other => panic!("{other:?} instead of a frame"),
    }
}

#[tokio::test]
async fn while_the_line_is_long_a_key_that_had_less_is_read_and_the_other_waits() {
    let mut two = Two::connected().await;
    let long = Bytes::from(vec![7; 100 << 10]);
    for _ in 0..40 {
        two.greedy.net.send(two.at_greedy, long.clone()).unwrap();
    }
    // One is always on its way: without turns each of the other's would come behind it.
    let Two { mut a, mut greedy, mut modest, to_greedy, to_modest, at_modest, .. } = two;
    let sending = async { serve(&mut greedy).await };
    let reading = async {
        a.net.set_room(usize::MAX, MonotonicTime(1), None);
        for _ in 0..3 {
            assert_eq!(frame(&mut a).await.0, to_greedy);
        }
        a.net.set_room(0, MonotonicTime(1), None);
        let mut others = 0;
        for number in 0..20u8 {
            modest.net.send(at_modest, Bytes::from(vec![number])).unwrap();
            modest.net.flush();
            // Until the other one is known to wait a frame of its may be read.
            let (mut from, mut said) = frame(&mut a).await;
            while from == to_greedy {
                others += 1;
                (from, said) = frame(&mut a).await;
            }
            assert_eq!((from, said), (to_modest, Bytes::from(vec![number])));
        }
        assert!(others <= 1, "{others} came first");
        a.net.set_room(1, MonotonicTime(1), None);
        assert_eq!(frame(&mut a).await.0, to_greedy);
    };
    tokio::select! { () = sending => {}, () = reading => {} }
}

#[tokio::test]
async fn where_too_much_waits_those_who_have_most_of_it_go() {
    let mut two = Two::connected().await;
    let answer = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..6 {
        two.a.net.send(two.to_greedy, answer.clone()).unwrap();
    }
    two.a.net.send(two.to_modest, answer.clone()).unwrap();
    let (six, half) = (6 << 20, 1 << 19);
    assert_eq!(two.a.net.overfull(six + 2 * half + 100), []);
    assert_eq!(two.a.net.overfull(six + half), [two.to_greedy]);
    two.a.net.close(two.to_greedy, CloseCode::TOO_MANY, "");
    assert_eq!(two.a.net.overfull(six + half), []);
    assert_eq!(two.a.net.overfull(half), [two.to_modest]);
}
