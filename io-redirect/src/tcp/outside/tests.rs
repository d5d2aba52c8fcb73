//! Real sockets on the loopback interface, and a loop that stands for the engine: it orders
//! what comes and releases what the service sends at once.

use core::future::poll_fn;
use std::net::{Ipv4Addr, TcpListener as Blocker};

use lockstep::device::{InputQueue, Intake, Want};
use lockstep::ids::{
    DeviceId, Epoch, Incarnation, Index, LogTime, ReplicaId, RequestNumber, SessionId,
};
use lockstep::machine::Step;
use lockstep::output::Carrier;
use lockstep::record::Members;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::Wrapper;
use crate::tests::{PROBE_CONNECTIONS, Probe, REFUSAL};

mod returns;
mod shares;

const PATIENCE: Duration = Duration::from_secs(20);
const LINGER: Duration = Duration::from_millis(300);
const PROCESS: Incarnation = Incarnation(7);
const SERVING: Standing =
    Standing::Serving { epoch: Epoch(1), duplex: true, sequencer: ReplicaId::A };

enum Ask {
    Standing(Standing),
    Request(String, oneshot::Sender<String>),
    /// Whether inputs are taken.
    Take(bool),
    Members(Members),
    /// The process ends, and this one is started in its place, alone.
    Restart(Box<dyn Device>, Incarnation),
}

struct Engine {
    wrapper: Wrapper<Probe>,
    device: Box<dyn Device>,
    queue: Arc<InputQueue>,
    asks: mpsc::UnboundedReceiver<Ask>,
    index: Index,
    takes: bool,
    members: Members,
    /// Everything that was released.
    released: Vec<Released>,
}

/// What a test holds of it.
struct Pair {
    address: SocketAddr,
    asks: mpsc::UnboundedSender<Ask>,
    queue: Arc<InputQueue>,
}

const QUEUE: usize = 8;

impl Engine {
    fn run(&mut self, step: Step<'_>) -> Bytes {
        self.index = self.index.next();
        let (index, now) = (self.index, LogTime(self.index.0));
        let reply = self.wrapper.run(index, now, step);
        let outputs: Vec<_> = self.wrapper.outbox().drain().collect();
        for (ordinal, output) in (0..).zip(outputs) {
            if output.device == DeviceId(0) && output.carrier == Carrier::Replica(ReplicaId::A) {
                let bytes = output.bytes;
                let released = Released { epoch: Epoch(1), index, step: 0, ordinal, bytes };
                self.released.push(released.clone());
                self.device.release(released);
            }
        }
        reply
    }

    fn members(&mut self, members: Members) {
        self.run(Step::Members { members, sequencer: ReplicaId::A });
    }

    fn restart(&mut self, device: Box<dyn Device>, process: Incarnation) {
        self.device.stop();
        self.device = device;
        for released in self.released.clone() {
            self.device.release(released);
        }
        self.members(Members::alone(ReplicaId::A, process));
        self.device.standing(SERVING);
    }

    async fn go(mut self) {
        self.run(Step::Start { seed: &[1; 32] });
        self.members(self.members);
        loop {
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    None => return,
                    Some(Ask::Standing(standing)) => self.device.standing(standing),
                    Some(Ask::Take(takes)) => self.takes = takes,
                    Some(Ask::Members(members)) => self.members(members),
                    Some(Ask::Restart(device, process)) => self.restart(device, process),
                    Some(Ask::Request(body, answer)) => {
                        let (session, number) = (SessionId(1), RequestNumber(1));
                        let body = body.as_bytes();
                        let reply = self.run(Step::Request { session, number, body });
                        let _ = answer.send(String::from_utf8(reply.to_vec()).unwrap());
                    }
                },
                input = poll_fn(|cx| self.queue.poll_pop(cx)), if self.takes => {
                    let Some((device, bytes)) = input else { return };
                    self.run(Step::Device { device, place: ReplicaId::A, bytes: &bytes });
                }
            }
        }
    }
}

fn localhost(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn bound(address: SocketAddr) -> Result<TcpOutside, BindError> {
    bound_for(address, LINGER)
}

fn bound_for(address: SocketAddr, linger: Duration) -> Result<TcpOutside, BindError> {
    let listen = BTreeMap::from([("echo".to_string(), vec![address])]);
    TcpOutside::bind(TcpOptions { listen, linger, ..TcpOptions::default() })
}

fn setup(incarnation: Incarnation, queue: &Arc<InputQueue>) -> Setup {
    let intake = Arc::clone(queue) as Arc<dyn Intake>;
    let (device, place) = (DeviceId(0), ReplicaId::A);
    let (inputs, descriptors) = (Inputs::new(device, intake), Descriptors::unbounded());
    Setup { device, place, incarnation, inputs, descriptors }
}

fn start() -> Pair {
    start_as(SERVING, Members::both(PROCESS, Incarnation(9)))
}

fn start_as(standing: Standing, members: Members) -> Pair {
    start_with(standing, members, Descriptors::unbounded())
}

fn start_with(standing: Standing, members: Members, descriptors: Descriptors) -> Pair {
    start_on(bound(localhost(0)).unwrap(), standing, members, descriptors)
}

fn start_on(
    outside: TcpOutside,
    standing: Standing,
    members: Members,
    descriptors: Descriptors,
) -> Pair {
    let address = outside.addresses("echo")[0];
    let queue = InputQueue::new(QUEUE);
    let setup = Setup { descriptors, ..setup(PROCESS, &queue) };
    let mut device = Box::new(outside).start(setup).unwrap();
    device.standing(standing);
    let (asks, receiver) = mpsc::unbounded_channel();
    let engine = Engine {
        wrapper: Probe::wrapped_with(100, PROBE_CONNECTIONS),
        device,
        queue: Arc::clone(&queue),
        asks: receiver,
        index: Index(0),
        takes: true,
        members,
        released: Vec::new(),
    };
    tokio::spawn(engine.go());
    Pair { address, asks, queue }
}

impl Pair {
    async fn ask(&self, what: &str) -> String {
        let (answer, reply) = oneshot::channel();
        self.asks.send(Ask::Request(what.into(), answer)).unwrap_or_default();
        reply.await.unwrap()
    }

    fn tell(&self, ask: Ask) {
        self.asks.send(ask).unwrap_or_default();
    }

    /// A connection that is served: it has had an answer.
    async fn client(&self) -> TcpStream {
        let mut client = connect(self.address).await;
        client.write_all(b"!").await.unwrap();
        let mut answer = [0];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"!");
        client
    }

    /// Waits until the diary holds this line.
    async fn diary_has(&self, line: &str) {
        while !self.ask("diary").await.lines().any(|known| known == line) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The listener is opened by the service's first outputs, a moment after the start.
async fn connect(address: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

async fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

fn test(scenario: impl AsyncFnOnce(Pair)) {
    test_with(start, scenario);
}

fn test_with(start: impl FnOnce() -> Pair, scenario: impl AsyncFnOnce(Pair)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pair = start();
        tokio::time::timeout(PATIENCE, scenario(pair)).await.expect("the scenario got stuck");
    });
}

#[test]
fn bytes_come_back_and_a_half_close_ends_it_in_good_order() {
    test(async |pair| {
        let mut client = pair.client().await;
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(client).await, b"hello");
        pair.diary_has("1 ended").await;
    });
}

#[test]
fn a_megabyte_comes_back_whole() {
    test(async |pair| {
        let sent: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 253) as u8).collect();
        let (mut reader, mut writer) = pair.client().await.into_split();
        let echoed = tokio::spawn(async move {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).await.unwrap();
            bytes
        });
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
        assert!(echoed.await.unwrap() == sent);
    });
}

#[test]
fn a_reset_of_the_client_is_told() {
    test(async |pair| {
        let client = pair.client().await;
        client.set_zero_linger().unwrap();
        drop(client);
        pair.diary_has("1 reset: Peer").await;
    });
}

#[test]
fn a_reset_of_the_service_reaches_the_client() {
    test(async |pair| {
        let mut client = pair.client().await;
        pair.ask("reset 1").await;
        let error = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

/// Writes until nothing is taken any more; how much was.
async fn fill(client: &mut TcpStream) -> usize {
    let piece = vec![7; 64 << 10];
    let mut taken = 0;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(300), client.write(&piece)).await
    {
        taken += written.unwrap();
    }
    taken
}

#[test]
fn a_client_that_does_not_read_is_not_read_and_gets_everything_later() {
    test(async |pair| {
        let mut client = pair.client().await;
        let taken = fill(&mut client).await;
        // What the kernel buffers at both ends, and the two windows.
        assert!(taken < 32 << 20, "{taken} bytes were taken from a client that does not read");
        let (mut reader, mut writer) = client.into_split();
        let closing = tokio::spawn(async move { writer.shutdown().await });
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        closing.await.unwrap().unwrap();
        assert_eq!(bytes.len(), taken);
    });
}

#[test]
fn when_the_engine_takes_nothing_the_queue_stays_bounded_and_nothing_is_lost() {
    test(async |pair| {
        let mut clients = [pair.client().await, pair.client().await, pair.client().await];
        pair.tell(Ask::Take(false));
        for client in &mut clients {
            client.write_all(&[3; 50_000]).await.unwrap();
            client.shutdown().await.unwrap();
        }
        while pair.queue.len() < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(pair.queue.len() <= QUEUE);
        pair.tell(Ask::Take(true));
        for client in clients {
            assert_eq!(read_all(client).await.len(), 50_000);
        }
    });
}

#[test]
fn over_the_listeners_bound_the_newest_is_turned_away_with_the_text() {
    test(async |pair| {
        let mut served = Vec::new();
        for _ in 0..PROBE_CONNECTIONS {
            served.push(pair.client().await);
        }
        for _ in 0..50 {
            assert_eq!(read_all(connect(pair.address).await).await, REFUSAL);
        }
        served.pop().unwrap().shutdown().await.unwrap();
        pair.diary_has("3 ended").await;
        served.push(pair.client().await);
    });
}

#[test]
fn while_holding_newcomers_are_turned_away_and_others_stay() {
    test(async |pair| {
        let mut old = pair.client().await;
        pair.tell(Ask::Standing(Standing::Holding));
        pair.ask("").await;
        assert_eq!(read_all(connect(pair.address).await).await, REFUSAL);
        old.write_all(b"?").await.unwrap();
        let mut answer = [0];
        old.read_exact(&mut answer).await.unwrap();
        pair.tell(Ask::Standing(SERVING));
        pair.ask("").await;
        pair.client().await;
    });
}

#[test]
fn out_of_the_pair_everybody_is_told_and_then_the_door_is_shut() {
    test(async |pair| {
        let mut old = pair.client().await;
        old.write_all(b"last words ").await.unwrap();
        let mut echo = [0; 11];
        old.read_exact(&mut echo).await.unwrap();
        pair.tell(Ask::Standing(Standing::Out));
        assert_eq!(read_all(old).await, REFUSAL);
        let late = TcpStream::connect(pair.address).await.unwrap();
        assert_eq!(read_all(late).await, REFUSAL);
        while TcpStream::connect(pair.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_client_that_never_closes_is_waited_for_only_so_long() {
    test(async |pair| {
        let mut client = pair.client().await;
        pair.ask("close 1").await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the service is done");
        // The client keeps its side open; its bytes are refused once the linger is over.
        while client.write_all(b"more").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_client_that_sends_on_and_on_is_broken_off_before_the_linger_is_over() {
    let patient = || {
        let outside = bound_for(localhost(0), PATIENCE * 2).unwrap();
        let members = Members::both(PROCESS, Incarnation(9));
        start_on(outside, SERVING, members, Descriptors::unbounded())
    };
    test_with(patient, async |pair| {
        let mut client = pair.client().await;
        pair.ask("close 1").await;
        let piece = vec![7; 64 << 10];
        let mut taken = 0;
        while let Ok(written) = client.write(&piece).await {
            taken += written as u64;
        }
        // Beside that, what the kernel buffers at both ends.
        let most = crate::limits::THROWN_AWAY + (32 << 20);
        assert!(taken < most, "{taken} bytes were taken after the end");
    });
}

#[test]
fn what_the_kernel_has_reaches_a_client_that_reads_only_after_the_linger() {
    test(async |pair| {
        let socket = TcpSocket::new_v4().unwrap();
        // So that the rest waits on the service's side.
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let _others = [pair.client().await, pair.client().await];
        let mut slow = socket.connect(pair.address).await.unwrap();
        slow.write_all(b"!").await.unwrap();
        slow.read_exact(&mut [0]).await.unwrap();
        let len = crate::limits::WINDOW_MIN as usize;
        for _ in 0..2 {
            assert_eq!(pair.ask(&format!("send 3 {}", len / 2)).await, "sent");
        }
        pair.ask("close 3").await;
        // Its place is free once the linger is over.
        loop {
            let mut next = connect(pair.address).await;
            let _ = next.write_all(b"!").await;
            let mut answer = [0];
            if matches!(next.read(&mut answer).await, Ok(1)) && &answer == b"!" {
                break;
            }
        }
        assert_eq!(read_all(slow).await.len(), len);
    });
}

#[test]
fn the_device_stands_once_it_listens_where_the_service_wants_it_to() {
    test(async |pair| {
        let port = localhost(0);
        let outside = bound(port).unwrap();
        let address = outside.addresses("echo")[0];
        let mut device = Box::new(outside).start(setup(PROCESS, &pair.queue)).unwrap();
        assert!(device.stands(), "nothing is wanted of it");
        let options = ListenOrder {
            name: "echo".into(),
            refusal: Bytes::new(),
            connections: 1,
            windows: crate::tcp::messages::Windows { read: 1, send: 1 },
        };
        let order = Command::Listen { process: PROCESS, listener: ListenerId(1), options };
        let (index, bytes) = (Index(1), order.encode());
        device.release(Released { epoch: Epoch(1), index, step: 0, ordinal: 0, bytes });
        assert!(!device.stands(), "nobody listens yet");
        drop(connect(address).await);
        while !device.stands() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn connections_are_made_and_used() {
    test(async |pair| {
        let hop = TcpListener::bind(localhost(0)).await.unwrap();
        let port = hop.local_addr().unwrap().port();
        pair.ask(&format!("connect localhost {port}")).await;
        let (mut stream, _) = hop.accept().await.unwrap();
        let mut hello = [0; 6];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello\n");
        stream.write_all(b"welcome").await.unwrap();
        pair.diary_has("1 received welcome").await;
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        pair.diary_has("1 ended").await;
    });
}

#[test]
fn clients_leave_the_service_descriptors_for_the_connections_that_it_makes() {
    let budget = Descriptors::new(10);
    let descriptors = budget.clone();
    let start = || start_with(SERVING, Members::both(PROCESS, Incarnation(9)), descriptors);
    test_with(start, async |pair| {
        let mut served = [pair.client().await, pair.client().await];
        for _ in 0..20 {
            assert_eq!(read_all(connect(pair.address).await).await, REFUSAL);
        }
        let hop = TcpListener::bind(localhost(0)).await.unwrap();
        let port = hop.local_addr().unwrap().port();
        pair.ask(&format!("connect 127.0.0.1 {port}")).await;
        let first = hop.accept().await.unwrap();
        // One that finds none waits, and goes on when there is one.
        let rest = budget.total() - budget.taken();
        let taken = budget.try_take(Want::Made, rest).unwrap();
        pair.ask(&format!("connect 127.0.0.1 {port}")).await;
        let none = tokio::time::timeout(Duration::from_millis(200), hop.accept()).await;
        assert!(none.is_err(), "there was no descriptor for it");
        drop(taken);
        let second = hop.accept().await.unwrap();
        served[0].shutdown().await.unwrap();
        drop((first, second));
    });
}

#[test]
fn connections_that_cannot_be_made_say_why() {
    test(async |pair| {
        let free = TcpListener::bind(localhost(0)).await.unwrap().local_addr().unwrap();
        pair.ask(&format!("connect 127.0.0.1 {}", free.port())).await;
        pair.diary_has("1 failed: connection refused").await;
        pair.ask("connect nowhere.invalid 25").await;
        loop {
            let diary = pair.ask("diary").await;
            if diary.contains("2 failed: the name was not resolved") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn an_address_in_use_is_named_with_the_remedy() {
    let blocker = Blocker::bind(localhost(0)).unwrap();
    let address = blocker.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async { bound(address).unwrap_err() });
    assert!(matches!(error, BindError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("stop what listens"), "{text}");
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 25));
    let error = runtime.block_on(async { bound(elsewhere).unwrap_err() });
    assert!(matches!(error, BindError::NotOurs { .. }), "{error}");
}

#[test]
fn without_a_runtime_the_device_does_not_start() {
    let queue = InputQueue::new(1);
    let outside = TcpOutside::bind(TcpOptions::default()).unwrap();
    assert!(Box::new(outside).start(setup(PROCESS, &queue)).is_err());
}

#[test]
fn garbled_outputs_and_unknown_connections_are_passed_over() {
    test(async |pair| {
        let handle = Handle::accepted(PROCESS, 9);
        let send = Command::Send { handle, bytes: Bytes::from_static(b"x") };
        let outside = bound(localhost(0)).unwrap();
        let mut device = Box::new(outside).start(setup(PROCESS, &pair.queue)).unwrap();
        for bytes in [Bytes::new(), Bytes::from_static(b"\xffnonsense"), send.encode()] {
            let index = Index(1);
            device.release(Released { epoch: Epoch(1), index, step: 0, ordinal: 0, bytes });
        }
        pair.client().await;
    });
}
