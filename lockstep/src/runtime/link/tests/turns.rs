//! Clients of several keys that say more than is carried out, or take less than they asked for.

use super::*;
use crate::ids::Mono;

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
        let port = net.dial(DialConfig::coserver(Place::A, a.addr())).unwrap();
        let mut modest = Node { net, port };
        let (to_greedy, at_greedy) = tokio::join!(a.up(), greedy.up());
        let (to_modest, at_modest) = tokio::join!(a.up(), modest.up());
        Self { a, greedy, modest, to_greedy, to_modest, at_greedy, at_modest }
    }

    async fn frame(&mut self) -> (ConnectionId, Bytes) {
        match soon(self.a.net.next()).await {
            Event::Frame { connection, frame, .. } => (connection, frame),
            other => panic!("{other:?} instead of a frame"),
        }
    }
}

#[tokio::test]
async fn while_the_line_is_long_a_key_that_had_less_is_read_and_the_other_waits() {
    let mut two = Two::connected().await;
    let long = Bytes::from(vec![7; 100 << 10]);
    for _ in 0..40 {
        two.greedy.net.send(two.at_greedy, long.clone()).unwrap();
    }
    two.greedy.net.flush();
    two.a.net.set_room(usize::MAX, Mono(1));
    assert_eq!(two.frame().await.0, two.to_greedy);
    two.a.net.set_room(0, Mono(1));
    for number in 0..20u8 {
        two.modest.net.send(two.at_modest, Bytes::from(vec![number])).unwrap();
        two.modest.net.flush();
        // Of the other one a frame was under way that is read all the same before this one is here.
        let (mut from, mut frame) = two.frame().await;
        if number == 0 && from == two.to_greedy {
            (from, frame) = two.frame().await;
        }
        assert_eq!((from, frame), (two.to_modest, Bytes::from(vec![number])));
    }
    two.a.net.set_room(1, Mono(1));
    let Two { a, greedy, to_greedy, .. } = &mut two;
    let reading = async {
        match soon(a.net.next()).await {
            Event::Frame { connection, .. } => assert_eq!(connection, *to_greedy),
            other => panic!("{other:?} instead of a frame"),
        }
    };
    tokio::select! { () = serve(greedy) => {}, () = reading => {} }
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
