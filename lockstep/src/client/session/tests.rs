//! Sessions over real QUIC with two CoServers that are played by the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;

use tokio::task::JoinHandle;

use super::*;
use crate::client::{RequestError, SessionError, blocking};
use crate::ids::{Epoch, Incarnation, Nonce, PairId, ReplicaId, SessionId};
use crate::output::Refusal;
use crate::runtime::keys::Role;
use crate::runtime::link::{ConnectionId, Event, ListenConfig, Network};
use crate::runtime::quic::SetupError;
use crate::runtime::quic::tests::{A, B, Cast, loopback, soon};
use crate::runtime::tls::Credentials;
use crate::wire::codec;
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};

#[expect(clippy::disallowed_types, reason = "the played CoServers share it")]
type Mutex<T> = std::sync::Mutex<T>;

const PAIR: PairId = PairId([7; 16]);

/// What the log of the pair comes to: one service that numbers the requests of each session.
#[derive(Default)]
struct Log {
    sessions: BTreeMap<Nonce, SessionId>,
    executed: BTreeMap<SessionId, Vec<Bytes>>,
    /// Answers nothing while set.
    mute: bool,
    /// The sessions are gone.
    forgotten: bool,
    closed: usize,
    /// Connections welcomed, and probes that came on them.
    connections: usize,
    probes: usize,
    /// Frames, and the requests in them.
    frames: usize,
    requests: usize,
}

impl Log {
    fn apply(&mut self, call: ClientCall) -> Option<ClientAnswer> {
        if call == ClientCall::Probe {
            self.probes += 1;
            return None;
        }
        if self.mute {
            return None;
        }
        Some(match call {
            ClientCall::Open { token, .. } => {
                let next = SessionId(self.sessions.len() as u64 + 1);
                let session = *self.sessions.entry(token).or_insert(next);
                ClientAnswer::Opened { token, result: Ok(session) }
            }
            ClientCall::Request { session, number, .. } if self.forgotten => {
                ClientAnswer::Reply { session, number, result: Err(Refusal::UnknownSession) }
            }
            ClientCall::Request { session, number, body, .. } => {
                let executed = self.executed.entry(session).or_default();
                let next = executed.len() as u64 + 1;
                let result = if number.0 > next {
                    Err(Refusal::Gap { expected: RequestNumber(next) })
                } else {
                    if number.0 == next {
                        executed.push(body.clone());
                    }
                    Ok(body)
                };
                ClientAnswer::Reply { session, number, result }
            }
            ClientCall::Close { .. } => {
                self.closed += 1;
                return None;
            }
            ClientCall::Hello { .. } | ClientCall::Probe => unreachable!("answered before"),
        })
    }
}

/// One CoServer, on a task of its own. Aborting the task is its sudden death.
struct Played {
    address: SocketAddr,
    task: JoinHandle<()>,
}

fn play(
    own: Credentials,
    place: ReplicaId,
    log: &Arc<Mutex<Log>>,
    refuse: Option<ClientRefusal>,
) -> Played {
    let mut net = Network::new(own);
    let port = net.listen(ListenConfig::clients(loopback(), 16)).unwrap();
    let address = net.local_addr(port).unwrap();
    let log = Arc::clone(log);
    let task = tokio::spawn(async move {
        loop {
            if let Event::Frame { connection, frame, .. } = net.next().await {
                let calls = codec::decode_client_calls(&frame).unwrap();
                count(&log, &calls);
                for answer in calls.into_iter().filter_map(|call| answer(call, place, &log, refuse))
                {
                    send(&mut net, connection, answer);
                }
            }
        }
    });
    Played { address, task }
}

fn count(log: &Mutex<Log>, calls: &[ClientCall]) {
    let requests = calls.iter().filter(|call| matches!(call, ClientCall::Request { .. })).count();
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.frames += usize::from(requests > 0);
    log.requests += requests;
}

fn answer(
    call: ClientCall,
    place: ReplicaId,
    log: &Mutex<Log>,
    refuse: Option<ClientRefusal>,
) -> Option<ClientAnswer> {
    match (call, refuse) {
        (ClientCall::Hello { .. }, Some(reason)) => Some(ClientAnswer::Refused { reason }),
        (ClientCall::Hello { pair, .. }, _) if pair != PAIR => {
            Some(ClientAnswer::Refused { reason: ClientRefusal::WrongPair })
        }
        (ClientCall::Hello { .. }, None) => {
            log.lock().unwrap_or_else(PoisonError::into_inner).connections += 1;
            let incarnation = Incarnation(1);
            Some(ClientAnswer::Welcome { place, incarnation, epoch: Epoch(1) })
        }
        (call, _) => log.lock().unwrap_or_else(PoisonError::into_inner).apply(call),
    }
}

fn send(net: &mut Network, connection: ConnectionId, answer: ClientAnswer) {
    net.send(connection, codec::encode_client_answers(&vec![answer]).unwrap()).unwrap();
}

/// Both, their log, and a client's settings.
struct Stage {
    cast: Cast,
    log: Arc<Mutex<Log>>,
    coservers: [Played; 2],
}

impl Stage {
    fn new() -> Self {
        Self::refusing([None, None])
    }

    fn refusing(refuse: [Option<ClientRefusal>; 2]) -> Self {
        let (cast, log) = (Cast::new(), Arc::new(Mutex::new(Log::default())));
        let coservers = [
            play(cast.of(A), ReplicaId::A, &log, refuse[0]),
            play(cast.of(B), ReplicaId::B, &log, refuse[1]),
        ];
        Self { cast, log, coservers }
    }

    fn settings(&self) -> Settings {
        let addresses = [self.coservers[0].address, self.coservers[1].address];
        Settings::new(PAIR, addresses, self.cast.of(Role::Client))
    }

    fn with_log<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        look(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn executed(&self, session: &Session) -> usize {
        let id = session.id().unwrap();
        self.with_log(|log| log.executed.get(&id).map_or(0, Vec::len))
    }
}

#[tokio::test]
async fn a_request_takes_effect_once_however_many_copies_there_are() {
    let stage = Stage::new();
    let session = soon(Session::open(stage.settings())).await.unwrap();
    for n in 0..20u8 {
        assert_eq!(soon(session.request(vec![n])).await.unwrap(), vec![n]);
    }
    assert_eq!(stage.executed(&session), 20);
    soon(session.close()).await.unwrap();
    assert!(stage.with_log(|log| log.closed) >= 1);
}

#[tokio::test]
async fn many_requests_may_be_under_way_and_keep_their_order() {
    let stage = Stage::new();
    let session = soon(Session::open(stage.settings())).await.unwrap();
    let mut tickets = Vec::new();
    for n in 0..3000u32 {
        tickets.push(soon(session.submit(n.to_le_bytes().to_vec())).await.unwrap());
    }
    for (ticket, n) in tickets.into_iter().zip(0u32..) {
        assert_eq!(soon(ticket).await.unwrap(), n.to_le_bytes().to_vec());
    }
    let order = stage.with_log(|log| log.executed[&session.id().unwrap()].clone());
    assert!(order.iter().zip(0u32..).all(|(body, n)| body[..] == n.to_le_bytes()));
}

#[tokio::test]
async fn the_first_request_goes_at_once_and_those_behind_it_share_frames() {
    let stage = Stage::new();
    let session = soon(Session::open(stage.settings())).await.unwrap();
    let submit = |n: u32| session.try_submit(n.to_le_bytes().to_vec()).unwrap();
    let tickets: Vec<_> = (0..100).map(submit).collect();
    for ticket in tickets {
        soon(ticket).await.unwrap();
    }
    let (frames, requests) = stage.with_log(|log| (log.frames, log.requests));
    assert!(requests >= 100 && frames <= 8, "{frames} frames of {requests} requests");
    soon(session.request("alone")).await.unwrap();
    let alone = stage.with_log(|log| log.frames - frames);
    assert!((1..=2).contains(&alone), "one frame at most to each CoServer: {alone}");
}

#[tokio::test]
async fn the_death_of_either_is_not_noticed() {
    for dies in [0, 1] {
        let stage = Stage::new();
        let session = soon(Session::open(stage.settings())).await.unwrap();
        let mut tickets = Vec::new();
        for n in 0..500u32 {
            if n == 250 {
                stage.coservers[dies].task.abort();
            }
            tickets.push(session.submit(n.to_le_bytes().to_vec()).await.unwrap());
            if n % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for (ticket, n) in tickets.into_iter().zip(0u32..) {
            assert_eq!(soon(ticket).await.unwrap(), n.to_le_bytes().to_vec());
        }
        assert_eq!(stage.executed(&session), 500);
        soon(session.close()).await.unwrap();
    }
}

#[tokio::test]
async fn large_requests_in_a_full_window_arrive() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    // On a busy machine the first reply may take longer than a second.
    settings.core.resend = Duration::from_secs(20);
    settings.core.deaf = Duration::from_secs(20);
    let session = soon(Session::open(settings)).await.unwrap();
    let body = Bytes::from(vec![5; crate::limits::INPUT_BYTES]);
    let mut tickets = Vec::new();
    for _ in 0..12 {
        tickets.push(soon(session.submit(body.clone())).await.unwrap());
    }
    for ticket in tickets {
        assert_eq!(soon(ticket).await.unwrap().len(), body.len());
    }
    assert_eq!(stage.executed(&session), 12);
    let counters = session.status().counters;
    assert_eq!((counters.submitted, counters.answered), (12, 12));
    assert!(counters.sent <= 2 * 12, "requests were sent again: {counters:?}");
    let long = session.request(vec![0; crate::limits::INPUT_BYTES + 1]).await;
    assert!(matches!(long, Err(CallError::NotSent(SubmitError::TooLong { .. }))));
}

#[tokio::test]
async fn a_full_window_is_back_pressure() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.core.window = 2;
    let session = soon(Session::open(settings)).await.unwrap();
    stage.with_log(|log| log.mute = true);
    let two = [session.try_submit("1").unwrap(), session.try_submit("2").unwrap()];
    assert_eq!(session.try_submit("3").unwrap_err(), SubmitError::WindowFull);
    let short = Duration::from_millis(50);
    let late = soon(session.request_within("3", short)).await.unwrap_err();
    assert_eq!(late, CallError::NotSent(SubmitError::WindowFull));
    let mut third = Box::pin(session.request("3"));
    assert!(tokio::time::timeout(short, &mut third).await.is_err());
    // Sent again after a silence.
    stage.with_log(|log| log.mute = false);
    assert_eq!(soon(third).await.unwrap(), "3");
    for (ticket, body) in two.into_iter().zip(["1", "2"]) {
        assert_eq!(soon(ticket).await.unwrap(), body);
    }
    assert_eq!(stage.executed(&session), 3);
}

#[tokio::test]
async fn a_request_is_given_up_when_patience_ends() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.patience = Some(Duration::from_millis(100));
    settings.close_within = Duration::from_millis(100);
    let session = soon(Session::open(settings)).await.unwrap();
    stage.with_log(|log| log.mute = true);
    let error = soon(session.request("x")).await.unwrap_err();
    assert_eq!(error, CallError::NoReply(RequestError::TimedOut));
    assert!(error.may_have_taken_effect());
    let ticket = session.request_within("y", Duration::from_secs(60));
    let (ticket, closed) = tokio::join!(soon(ticket), soon(session.clone().close()));
    assert_eq!((ticket, closed), (Err(CallError::GivenUp), Err(CloseError::TimedOut)));
}

#[tokio::test]
async fn an_expired_session_says_so_and_takes_no_more() {
    let stage = Stage::new();
    let session = soon(Session::open(stage.settings())).await.unwrap();
    stage.with_log(|log| log.forgotten = true);
    let error = soon(session.request("x")).await.unwrap_err();
    let expired = RequestError::SessionOver(SessionError::Expired);
    assert_eq!(error, CallError::NoReply(expired));
    let after = soon(session.request("y")).await.unwrap_err();
    assert_eq!(after, CallError::NotSent(SubmitError::Over));
    assert!(session.status().over);
    let closed = soon(session.close()).await.unwrap_err();
    assert_eq!(closed, CloseError::Session(SessionError::Expired));
}

#[tokio::test]
async fn one_that_was_removed_is_left_for_the_other() {
    let stage = Stage::refusing([Some(ClientRefusal::Removed), None]);
    let session = soon(Session::open(stage.settings())).await.unwrap();
    assert_eq!(soon(session.request("x")).await.unwrap(), "x");
    let status = session.status();
    let PlaceStatus::Away { trouble: Some(Trouble::Refused(reason)) } = *status.place(ReplicaId::A)
    else {
        panic!("{status:?}");
    };
    assert_eq!(reason, ClientRefusal::Removed);
    assert!(matches!(status.place(ReplicaId::B), PlaceStatus::Serving { .. }));
}

#[tokio::test]
async fn strangers_and_clients_of_another_pair_are_told_so() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.credentials = stage.cast.stranger.clone();
    let error = soon(Session::open(settings)).await.unwrap_err();
    let OpenError::Refused(troubles) = error else { panic!("{error}") };
    for place in ReplicaId::BOTH {
        let trouble = troubles.of(place);
        assert!(matches!(trouble, Some(Trouble::Setup(SetupError::OwnKey { .. }))), "{troubles}");
    }

    let mut settings = stage.settings();
    settings.core.pair = PairId([8; 16]);
    let error = soon(Session::open(settings)).await.unwrap_err();
    let OpenError::Refused(troubles) = error else { panic!("{error}") };
    let reason = troubles.of(ReplicaId::A);
    assert!(matches!(reason, Some(Trouble::Refused(ClientRefusal::WrongPair))), "{troubles}");

    // The addresses of a and b are mixed up.
    let mut settings = stage.settings();
    settings.addresses.reverse();
    let error = soon(Session::open(settings)).await.unwrap_err();
    let OpenError::Refused(troubles) = error else { panic!("{error}") };
    let reason = troubles.of(ReplicaId::A);
    assert!(matches!(reason, Some(Trouble::Setup(SetupError::PeerKey { .. }))), "{troubles}");
}

#[tokio::test]
async fn with_nobody_there_opening_ends_in_time() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    stage.coservers.iter().for_each(|coserver| coserver.task.abort());
    settings.open_within = Duration::from_millis(200);
    let error = soon(Session::open(settings)).await.unwrap_err();
    assert!(matches!(error, OpenError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn nonsense_from_a_coserver_ends_its_connection_only() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    let mut net = Network::new(stage.cast.of(A));
    let port = net.listen(ListenConfig::clients(loopback(), 16)).unwrap();
    settings.addresses[0] = net.local_addr(port).unwrap().into();
    let talks = tokio::spawn(async move {
        loop {
            if let Event::Up { connection, .. } = net.next().await {
                net.send(connection, Bytes::from_static(b"nonsense")).unwrap();
            }
        }
    });
    let session = soon(Session::open(settings)).await.unwrap();
    assert_eq!(soon(session.request("x")).await.unwrap(), "x");
    assert!(soon(session.close()).await.is_ok());
    talks.abort();
}

#[test]
fn a_session_ends_with_its_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_stage, session, ticket) = runtime.block_on(async {
        let stage = Stage::new();
        let session = Session::open(stage.settings()).await.unwrap();
        stage.with_log(|log| log.mute = true);
        let ticket = session.submit("x").await.unwrap();
        (stage, session, ticket)
    });
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(soon(ticket)), Err(CallError::GivenUp));
    let after = runtime.block_on(soon(session.request("y")));
    assert_eq!(after, Err(CallError::NotSent(SubmitError::Over)));
}

#[test]
fn threads_share_a_blocking_session() {
    let (give, given) = crossbeam::channel::bounded(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let pair = std::thread::Builder::new().spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            give.send(Stage::new()).unwrap();
            let _ = stopped.await;
        });
    });
    let stage = given.recv().unwrap();
    let session = blocking::Session::open(stage.settings()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let session = session.clone();
            scope.spawn(move || {
                for n in 0..50u8 {
                    assert_eq!(session.request(vec![thread, n]).unwrap(), vec![thread, n]);
                }
            });
        }
    });
    let ticket = session.submit("last").unwrap();
    assert_eq!(ticket.wait().unwrap(), "last");
    let executed = stage.with_log(|log| log.executed.values().map(Vec::len).sum::<usize>());
    assert_eq!(executed, 4 * 50 + 1);
    session.close().unwrap();
    assert!(stage.with_log(|log| log.closed) >= 1);
    let stranger = Settings { credentials: stage.cast.stranger.clone(), ..stage.settings() };
    assert!(matches!(blocking::Session::open(stranger), Err(OpenError::Refused(_))));
    drop(stop);
    pair.unwrap().join().unwrap();
}

/// A service that takes long looks like a dead one, except to a probe.
#[tokio::test]
async fn a_long_step_on_both_sides_costs_probes_and_no_connection() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.core.silence = Duration::from_millis(500);
    settings.core.silence_longest = Duration::from_secs(1);
    settings.core.deaf = Duration::from_secs(10);
    let session = soon(Session::open(settings)).await.unwrap();
    soon(async {
        while stage.with_log(|log| log.connections) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stage.with_log(|log| log.mute = true);
    let ticket = soon(session.submit("long")).await.unwrap();
    soon(async {
        while stage.with_log(|log| log.probes) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stage.with_log(|log| log.mute = false);
    assert_eq!(soon(ticket).await.unwrap(), "long");
    assert_eq!(stage.with_log(|log| log.connections), 2);
    assert_eq!(stage.executed(&session), 1);
}
