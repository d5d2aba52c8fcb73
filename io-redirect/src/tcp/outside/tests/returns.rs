//! A process that comes late, or comes back: what is not for it is passed over.

use super::*;
use crate::tcp::messages::Windows;
use crate::tcp::{ConnId, Target};

/// The process that is started after [`PROCESS`] at the same place.
const NEXT: Incarnation = Incarnation(8);

/// The process ends and another one takes its place. Everything is released again, whatever was
/// released before.
fn next_process(pair: &mut Pair) {
    let outside = bound(localhost(0)).unwrap();
    pair.address = outside.addresses("echo")[0];
    let device = Box::new(outside).start(setup(NEXT, &pair.queue)).unwrap();
    pair.tell(Ask::Restart(device, NEXT));
}

/// A hop that a connection was made to, and that connection.
async fn hop(pair: &Pair) -> (TcpListener, TcpStream) {
    let hop = TcpListener::bind(localhost(0)).await.unwrap();
    let port = hop.local_addr().unwrap().port();
    pair.ask(&format!("connect 127.0.0.1 {port}")).await;
    let (mut stream, _) = hop.accept().await.unwrap();
    stream.read_exact(&mut [0; 6]).await.unwrap();
    (hop, stream)
}

/// Nobody has connected to the hop; whoever was told to has had the time for it.
async fn is_left_alone(hop: &TcpListener) {
    let nobody = tokio::time::timeout(Duration::from_millis(100), hop.accept()).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

#[test]
fn a_process_that_was_started_again_begins_with_nothing_and_serves() {
    test(async |mut pair| {
        let mut old = pair.client().await;
        let (hop, mut stream) = hop(&pair).await;
        next_process(&mut pair);
        pair.diary_has("1 reset: CarrierLost").await;
        pair.diary_has("2 reset: CarrierLost").await;
        assert_eq!(old.read(&mut [0]).await.unwrap_or(0), 0, "the kernel closed it");
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
        pair.client().await;
        is_left_alone(&hop).await;
    });
}

#[test]
fn what_was_being_made_is_made_once_more_by_the_next_process() {
    test(async |mut pair| {
        // Nothing is ordered meanwhile, so the connection is not made as far as the pair knows.
        pair.tell(Ask::Take(false));
        let hop = TcpListener::bind(localhost(0)).await.unwrap();
        let port = hop.local_addr().unwrap().port();
        pair.ask(&format!("connect 127.0.0.1 {port}")).await;
        let (mut first, _) = hop.accept().await.unwrap();
        next_process(&mut pair);
        let (mut second, _) = hop.accept().await.unwrap();
        // Now the report of the first process is ordered, and after it the second one's.
        pair.tell(Ask::Take(true));
        second.read_exact(&mut [0; 6]).await.unwrap();
        pair.diary_has("1 connected").await;
        assert_eq!(first.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(pair.ask("diary").await.matches("1 connected").count(), 1);
        is_left_alone(&hop).await;
    });
}

#[test]
fn one_that_joins_is_silent_until_it_is_a_member_and_serves() {
    let joiner = || start_as(Standing::Starting, Members::alone(ReplicaId::B, Incarnation(9)));
    test_with(joiner, async |pair| {
        // Nobody listens, however long it takes to catch up.
        for _ in 0..20 {
            pair.ask("").await;
            assert!(TcpStream::connect(pair.address).await.is_err());
        }
        // Its outputs come first: clients are told to go elsewhere until it serves.
        pair.tell(Ask::Members(Members::both(PROCESS, Incarnation(9))));
        assert_eq!(read_all(connect(pair.address).await).await, REFUSAL);
        pair.tell(Ask::Standing(SERVING));
        pair.ask("").await;
        pair.client().await;
    });
}

#[test]
fn an_order_that_comes_twice_is_carried_out_once() {
    test(async |pair| {
        let hop = TcpListener::bind(localhost(0)).await.unwrap();
        let target = Target::Address(hop.local_addr().unwrap());
        let handle = Handle::made(PROCESS, ConnId(77));
        let windows = Windows { read: 1, send: 1 };
        let order = Command::Connect { handle, target, timeout_ms: 10_000, windows };
        let device = Box::new(bound(localhost(0)).unwrap());
        let mut device = device.start(setup(PROCESS, &pair.queue)).unwrap();
        for ordinal in 0..3 {
            let (epoch, index, bytes) = (Epoch(1), Index(1), order.encode());
            device.release(Released { epoch, index, step: 0, ordinal, bytes });
        }
        let _one = hop.accept().await.unwrap();
        is_left_alone(&hop).await;
    });
}
