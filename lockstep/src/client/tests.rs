//! One event in, the outputs compared.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::ids::{
    Epoch, Incarnation, MonotonicTime, Nonce, PairId, ReplicaId, RequestNumber, SessionId,
};
use crate::limits;
use crate::output::Refusal;
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};

const PAIR: PairId = PairId([4; 16]);
const TOKEN: Nonce = Nonce(11);
const SESSION: SessionId = SessionId(5);
const START: MonotonicTime = MonotonicTime(1_000);
const A: ReplicaId = ReplicaId::A;
const B: ReplicaId = ReplicaId::B;

/// The incarnation that a CoServer has unless a test says otherwise.
const FIRST: Incarnation = Incarnation(1);

/// A configuration for what is not about silence.
fn patient() -> Config {
    let long = Duration::from_secs(3600);
    Config { silence: long, silence_longest: long, ..Config::new(PAIR) }
}

struct Bench {
    client: Client,
    now: MonotonicTime,
}

impl Bench {
    fn new() -> Self {
        Self::with(patient())
    }

    fn with(config: Config) -> Self {
        let mut bench = Self { client: Client::new(START, config, TOKEN, 1), now: START };
        let dialled = bench.drain();
        assert_eq!(dialled, [Output::Connect { place: A }, Output::Connect { place: B }]);
        bench
    }

    /// Served by these, and open.
    fn open(places: &[ReplicaId]) -> Self {
        Self::open_with(patient(), places)
    }

    fn open_with(config: Config, places: &[ReplicaId]) -> Self {
        let mut bench = Self::with(config);
        for place in places {
            bench.welcome(*place);
        }
        bench.answer(places[0], opened());
        bench
    }

    fn drain(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.client.poll())
            .filter(|output| !matches!(output, Output::Event(_)))
            .collect()
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        self.client.handle(self.now, input);
        self.drain()
    }

    fn answer(&mut self, place: ReplicaId, answer: ClientAnswer) -> Vec<Output> {
        self.give(Input::Answer { place, answer })
    }

    fn welcome(&mut self, place: ReplicaId) -> Vec<Output> {
        let hello = ClientCall::Hello { pair: PAIR, protocol: PROTOCOL };
        assert_eq!(self.give(Input::Up { place }), [Output::Send { place, call: hello }]);
        self.answer(place, welcome(place, FIRST))
    }

    fn submit(&mut self, body: &'static str) -> Vec<Output> {
        self.client.submit(self.now, Bytes::from(body), None).unwrap();
        self.drain()
    }

    fn later(&mut self, span: Duration) -> Vec<Output> {
        self.now = self.now.plus(span);
        self.give(Input::Timeout)
    }

    fn next_timeout(&mut self) -> Vec<Output> {
        self.now = self.client.next_timeout().unwrap();
        self.give(Input::Timeout)
    }
}

fn welcome(place: ReplicaId, incarnation: Incarnation) -> ClientAnswer {
    ClientAnswer::Welcome { place, incarnation, epoch: Epoch(1) }
}

fn opened() -> ClientAnswer {
    ClientAnswer::Opened { token: TOKEN, result: Ok(SESSION) }
}

fn reply(number: u64, bytes: &'static str) -> ClientAnswer {
    refused(number, Ok(Bytes::from(bytes)))
}

fn refused(number: u64, result: Result<Bytes, Refusal>) -> ClientAnswer {
    ClientAnswer::Reply { session: SESSION, number: RequestNumber(number), result }
}

fn open_call(place: ReplicaId, alone: bool) -> Output {
    Output::Send { place, call: ClientCall::Open { token: TOKEN, alone } }
}

fn request(place: ReplicaId, number: u64, lowest: u64, alone: bool, body: &'static str) -> Output {
    let call = ClientCall::Request {
        session: SESSION,
        token: TOKEN,
        number: RequestNumber(number),
        lowest: RequestNumber(lowest),
        alone,
        body: Bytes::from(body),
    };
    Output::Send { place, call }
}

fn outcome(number: u64, result: Result<&'static str, RequestError>) -> Output {
    Output::Reply { number: RequestNumber(number), result: result.map(Bytes::from) }
}

#[test]
fn a_session_is_asked_for_where_first_welcome() {
    let mut bench = Bench::new();
    assert_eq!(bench.welcome(B), [open_call(B, true)]);
    assert_eq!(bench.welcome(A), []);
    assert_eq!(bench.answer(B, opened()), []);
    assert_eq!(bench.client.session(), Some(SESSION));
}

#[test]
fn if_the_one_asked_for_a_session_is_lost_the_other_is_asked() {
    let mut bench = Bench::new();
    bench.welcome(B);
    bench.welcome(A);
    assert_eq!(bench.give(Input::Down { place: B }), [open_call(A, true)]);
}

#[test]
fn what_was_submitted_early_goes_out_once_the_session_is_open() {
    let mut bench = Bench::new();
    assert_eq!(bench.submit("x"), []);
    bench.welcome(A);
    bench.welcome(B);
    assert_eq!(bench.submit("y"), []);
    assert_eq!(
        bench.answer(A, opened()),
        [
            request(A, 1, 1, false, "x"),
            request(A, 2, 1, false, "y"),
            request(B, 1, 1, false, "x"),
            request(B, 2, 1, false, "y"),
        ]
    );
}

#[test]
fn a_request_goes_to_both_and_the_first_reply_counts() {
    let mut bench = Bench::open(&[A, B]);
    let sent = [request(A, 1, 1, false, "x"), request(B, 1, 1, false, "x")];
    assert_eq!(bench.submit("x"), sent);
    assert_eq!(bench.answer(B, reply(1, "y")), [outcome(1, Ok("y"))]);
    assert_eq!(bench.answer(A, reply(1, "y")), []);
    assert_eq!(bench.client.counters().dropped, 1);
    let sent = [request(A, 2, 2, false, "z"), request(B, 2, 2, false, "z")];
    assert_eq!(bench.submit("z"), sent);
}

#[test]
fn the_lowest_unanswered_stays_until_its_reply_comes() {
    let mut bench = Bench::open(&[A]);
    bench.submit("x");
    bench.submit("y");
    assert_eq!(bench.answer(A, reply(2, "2")), [outcome(2, Ok("2"))]);
    assert_eq!(bench.submit("z"), [request(A, 3, 1, true, "z")]);
    assert_eq!(bench.answer(A, reply(1, "1")), [outcome(1, Ok("1"))]);
    assert_eq!(bench.submit("w"), [request(A, 4, 3, true, "w")]);
}

#[test]
fn one_that_newly_serves_is_given_everything_in_order() {
    let mut bench = Bench::open(&[A]);
    bench.submit("x");
    bench.submit("y");
    bench.submit("z");
    bench.answer(A, reply(2, "2"));
    assert_eq!(bench.welcome(B), [request(B, 1, 1, false, "x"), request(B, 3, 1, false, "z")]);
}

#[test]
fn when_one_is_lost_the_other_is_told_not_to_wait_for_it() {
    let mut bench = Bench::open(&[A, B]);
    bench.submit("x");
    assert_eq!(bench.give(Input::Down { place: A }), [request(B, 1, 1, true, "x")]);
    assert_eq!(bench.submit("y"), [request(B, 2, 1, true, "y")]);
    let redial = patient().redial;
    assert_eq!(bench.later(redial), [Output::Connect { place: A }]);
}

#[test]
fn silence_has_everything_sent_again_ever_more_rarely() {
    let mut bench = Bench::open(&[A, B]);
    bench.submit("x");
    let again = [request(A, 1, 1, true, "x"), request(B, 1, 1, true, "x")];
    let mut waits = Vec::new();
    for _ in 0..5 {
        let before = bench.now;
        assert_eq!(bench.next_timeout(), again);
        waits.push(bench.now.since(before).as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 8]);
    bench.answer(A, reply(1, "1"));
    assert_eq!(bench.client.next_timeout(), None);
}

#[test]
fn a_gap_is_filled_once() {
    let mut bench = Bench::open(&[A]);
    for body in ["x", "y", "z"] {
        bench.submit(body);
    }
    let gap = Err(Refusal::Gap { expected: RequestNumber(2) });
    bench.answer(A, reply(1, "1"));
    let again = [request(A, 2, 2, true, "y"), request(A, 3, 2, true, "z")];
    assert_eq!(bench.answer(A, refused(3, gap.clone())), again);
    assert_eq!(bench.answer(A, refused(3, gap)), []);
}

#[test]
fn what_the_pair_has_no_room_for_waits_for_the_replies_before_it() {
    let mut bench = Bench::open(&[A]);
    for body in ["x", "y", "z"] {
        bench.submit(body);
    }
    assert_eq!(bench.answer(A, refused(2, Err(Refusal::TooManyReplies))), []);
    let gap = Err(Refusal::Gap { expected: RequestNumber(2) });
    assert_eq!(bench.answer(A, refused(3, gap)), []);
    let output = bench.answer(A, reply(1, "1"));
    let again = [request(A, 2, 2, true, "y"), request(A, 3, 2, true, "z")];
    assert_eq!(output, [&[outcome(1, Ok("1"))][..], &again].concat());
}

/// A pair with room for so many replies answers everything that it is sent, and both CoServers say
/// the same. What was sent, and whether all was answered before anybody had to wait.
fn asked_of_few(places: &[ReplicaId], room: u64) -> (u64, bool) {
    let mut bench = Bench::open(places);
    let mut sent: VecDeque<_> = (0..100).flat_map(|_| bench.submit("x")).collect();
    let (mut next, mut lowest_kept) = (1, 1);
    while let Some(output) = sent.pop_front() {
        let Output::Send { call: ClientCall::Request { number, lowest, .. }, .. } = output else {
            continue;
        };
        lowest_kept = lowest_kept.max(lowest.0);
        let answer = match number.0 {
            number if number > next => {
                refused(number, Err(Refusal::Gap { expected: RequestNumber(next) }))
            }
            number if number == next && next - lowest_kept >= room => {
                refused(number, Err(Refusal::TooManyReplies))
            }
            number => {
                next = next.max(number + 1);
                reply(number, "x")
            }
        };
        for place in places {
            sent.extend(bench.answer(*place, answer.clone()));
        }
    }
    (bench.client.counters().sent, bench.client.counters().answered == 100)
}

/// A hundred requests are not sent again for each reply that there is room for.
#[test]
fn what_the_pair_has_no_room_for_is_sent_little_more_than_once() {
    for room in [1, 4, 16, 64] {
        for places in [&[A][..], &[A, B]] {
            let (sent, is_answered) = asked_of_few(places, room);
            assert!(is_answered, "room for {room}: somebody had to wait");
            let once = 100 * places.len() as u64;
            assert!(sent <= 4 * once, "room for {room}: {sent} instead of {once}");
        }
    }
}

/// It was submitted soon, and nobody served for a while: nothing was asked there.
#[test]
fn a_session_that_is_over_before_the_first_request_was_sent_is_asked_for_again() {
    let mut bench = Bench::open(&[A]);
    bench.give(Input::Down { place: A });
    assert!(!bench.submit("x").iter().any(|output| matches!(output, Output::Send { .. })));
    bench.later(patient().reopen_unused_after);
    let sent = bench.welcome(A);
    assert!(sent.contains(&open_call(A, true)), "{sent:?}");
    let sent = bench.answer(A, opened());
    assert!(sent.contains(&request(A, 1, 1, true, "x")), "{sent:?}");
}

#[test]
fn a_session_that_nothing_was_asked_in_for_long_is_asked_for_again() {
    let mut bench = Bench::open(&[A, B]);
    let long = patient().reopen_unused_after;
    bench.later(long);
    assert_eq!(bench.submit("x"), [open_call(A, false)]);
    assert_eq!(bench.submit("y"), [], "they wait for it");
    let (token, result) = (TOKEN, Ok(SessionId(77)));
    let sent = bench.answer(A, ClientAnswer::Opened { token, result });
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert_eq!(bench.client.session(), Some(SessionId(77)));
    let again = bench.answer(B, opened());
    assert_eq!((again, bench.client.session()), (vec![], Some(SessionId(77))), "a late answer");
}

#[test]
fn a_session_in_which_something_was_asked_is_kept_however_long_it_rests() {
    let mut bench = Bench::open(&[A]);
    bench.submit("x");
    bench.answer(A, reply(1, "1"));
    bench.later(patient().reopen_unused_after);
    assert_eq!(bench.submit("y"), [request(A, 2, 2, true, "y")]);
    let mut at_once = Bench::open(&[A]);
    at_once.later(patient().reopen_unused_after / 2);
    assert_eq!(at_once.submit("x"), [request(A, 1, 1, true, "x")]);
}

#[test]
fn an_expired_session_is_an_error_for_everything_under_way() {
    let mut bench = Bench::open(&[A, B]);
    bench.submit("x");
    bench.submit("y");
    let lost = RequestError::SessionOver(SessionError::Expired);
    assert_eq!(
        bench.answer(A, refused(1, Err(Refusal::UnknownSession))),
        [
            outcome(1, Err(lost)),
            outcome(2, Err(lost)),
            Output::Disconnect { place: A },
            Output::Disconnect { place: B },
            Output::Over(Err(SessionError::Expired)),
        ]
    );
    assert_eq!(bench.answer(B, reply(1, "1")), []);
    assert_eq!(bench.give(Input::Down { place: A }), []);
    assert_eq!(bench.client.next_timeout(), None);
    let again = bench.client.submit(bench.now, Bytes::new(), None);
    assert_eq!(again, Err(SubmitError::Over));
}

#[test]
fn a_session_that_is_not_opened_is_an_error() {
    let mut bench = Bench::new();
    bench.welcome(A);
    let result = Err(Refusal::TooManySessions);
    let output = bench.answer(A, ClientAnswer::Opened { token: TOKEN, result });
    let error = SessionError::NotOpened(Refusal::TooManySessions);
    assert_eq!(output.last(), Some(&Output::Over(Err(error))));
}

#[test]
fn anothers_answers_are_not_taken() {
    let mut bench = Bench::open(&[A]);
    bench.submit("x");
    let session = SessionId(6);
    let (number, result) = (RequestNumber(1), Ok(Bytes::new()));
    assert_eq!(bench.answer(A, ClientAnswer::Reply { session, number, result }), []);
    let result = Ok(session);
    bench.answer(A, ClientAnswer::Opened { token: Nonce(12), result });
    bench.answer(A, ClientAnswer::Opened { token: TOKEN, result });
    assert_eq!(bench.client.session(), Some(SESSION));
}

#[test]
fn one_that_does_not_serve_is_tried_again_ever_more_rarely() {
    let mut bench = Bench::open(&[B]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        bench.give(Input::Up { place: A });
        let reason = ClientRefusal::Busy;
        let output = bench.answer(A, ClientAnswer::Refused { reason });
        assert_eq!(output, [Output::Disconnect { place: A }]);
        bench.give(Input::Down { place: A });
        let before = bench.now;
        assert_eq!(bench.next_timeout(), [Output::Connect { place: A }]);
        waits.push(bench.now.since(before).as_millis());
    }
    for (wait, most) in waits.iter().zip([20, 40, 80, 160, 320, 640, 1280, 2000]) {
        assert!((most / 2..=most).contains(wait), "{waits:?}");
    }
    bench.welcome(A);
    bench.give(Input::Down { place: A });
    assert_eq!(bench.later(Duration::from_millis(20)), [Output::Connect { place: A }]);
}

#[test]
fn one_that_does_not_say_that_it_serves_is_given_up_for_now() {
    let mut bench = Bench::new();
    bench.give(Input::Up { place: A });
    assert_eq!(bench.next_timeout(), [Output::Disconnect { place: A }]);
    // Too late.
    assert_eq!(bench.answer(A, welcome(A, FIRST)), []);
    bench.give(Input::Down { place: A });
    assert_eq!(bench.next_timeout(), [Output::Connect { place: A }]);
}

#[test]
fn a_full_window_is_an_error_that_changes_nothing() {
    let config = Config { window: 2, ..patient() };
    let mut bench = Bench::open_with(config, &[A]);
    bench.submit("x");
    bench.submit("y");
    let full = bench.client.submit(bench.now, Bytes::new(), None);
    assert_eq!(full, Err(SubmitError::WindowFull));
    // The distance counts: the pair keeps the replies from the lowest on.
    bench.answer(A, reply(2, "2"));
    assert!(!bench.client.has_room(0));
    bench.answer(A, reply(1, "1"));
    assert_eq!(bench.submit("z"), [request(A, 3, 3, true, "z")]);
}

#[test]
fn bytes_under_way_are_bounded() {
    let mut bench = Bench::open(&[A]);
    let len = limits::INPUT_BYTES + 1;
    let long = bench.client.submit(bench.now, Bytes::from(vec![0; len]), None);
    assert_eq!(long, Err(SubmitError::TooLong { len, limit: limits::INPUT_BYTES }));
    let body = Bytes::from(vec![0; limits::INPUT_BYTES]);
    for _ in 0..limits::CLIENT_WINDOW_BYTES / limits::INPUT_BYTES {
        bench.client.submit(bench.now, body.clone(), None).unwrap();
    }
    let full = bench.client.submit(bench.now, Bytes::from_static(b"x"), None);
    assert_eq!(full, Err(SubmitError::WindowFull));
}

#[test]
fn a_request_without_a_reply_in_time_goes_on_without_its_caller() {
    let mut bench = Bench::open(&[A]);
    let patience = Some(Duration::from_millis(300));
    bench.client.submit(bench.now, Bytes::from("x"), patience).unwrap();
    bench.submit("y");
    bench.later(Duration::from_millis(299));
    let timed_out = outcome(1, Err(RequestError::TimedOut));
    assert_eq!(bench.later(Duration::from_millis(1)), [timed_out]);
    let again = [request(A, 1, 1, true, "x"), request(A, 2, 1, true, "y")];
    assert_eq!(bench.next_timeout(), again);
    assert_eq!(bench.answer(A, reply(1, "1")), []);
    assert_eq!(bench.answer(A, reply(2, "2")), [outcome(2, Ok("2"))]);
}

#[test]
fn a_reply_that_is_too_long_is_an_outcome() {
    let mut bench = Bench::open(&[A]);
    bench.submit("x");
    let output = bench.answer(A, refused(1, Err(Refusal::ReplyTooLarge)));
    assert_eq!(output, [outcome(1, Err(RequestError::ReplyTooLong))]);
}

#[test]
fn a_request_that_the_key_may_not_make_is_an_outcome_and_the_session_goes_on() {
    let mut bench = Bench::open(&[A, B]);
    bench.submit("x");
    bench.submit("y");
    let output = bench.answer(A, refused(1, Err(Refusal::ReadOnly)));
    assert_eq!(output, [outcome(1, Err(RequestError::ReadOnly))]);
    assert_eq!(bench.answer(B, refused(1, Err(Refusal::ReadOnly))), []);
    assert_eq!(bench.answer(A, reply(2, "2")), [outcome(2, Ok("2"))]);
}

#[test]
fn closing_waits_for_the_last_reply() {
    let mut bench = Bench::open(&[A, B]);
    bench.submit("x");
    bench.client.close(bench.now);
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.client.submit(bench.now, Bytes::new(), None), Err(SubmitError::Over));
    let call = || ClientCall::Close { session: SESSION, token: TOKEN };
    assert_eq!(
        bench.answer(A, reply(1, "1")),
        [
            outcome(1, Ok("1")),
            Output::Send { place: A, call: call() },
            Output::Send { place: B, call: call() },
            Output::Disconnect { place: A },
            Output::Disconnect { place: B },
            Output::Over(Ok(())),
        ]
    );
}

fn hasty(places: &[ReplicaId]) -> Bench {
    Bench::open_with(Config::new(PAIR), places)
}

/// What is due next of silence, as often as this.
fn silences(bench: &mut Bench, times: usize) -> Vec<Output> {
    (0..times).flat_map(|_| bench.next_timeout()).collect()
}

fn back(place: ReplicaId, incarnation: u64) -> ClientAnswer {
    ClientAnswer::PeerBack { place, incarnation: Incarnation(incarnation) }
}

/// Connections to A fail until the next attempt is as far away as it can be.
fn tired_of_a(bench: &mut Bench) {
    for _ in 0..12 {
        bench.give(Input::Down { place: A });
        bench.next_timeout();
    }
    bench.give(Input::Down { place: A });
    assert!(bench.client.next_timeout().unwrap().since(bench.now).as_millis() >= 1000);
}

#[test]
fn one_that_is_said_to_be_back_is_dialled_at_once() {
    let mut bench = Bench::open(&[B]);
    tired_of_a(&mut bench);
    bench.answer(B, back(A, 2));
    assert_eq!(bench.later(Config::new(PAIR).redial), [Output::Connect { place: A }]);
    // An attempt that nobody took is repeated by its transport ever more rarely.
    bench.later(Duration::from_millis(900));
    assert_eq!(bench.answer(B, back(A, 2)), [Output::Connect { place: A }]);
    assert_eq!(bench.answer(B, back(A, 2)), [], "the attempt before has only just begun");
}

#[test]
fn a_connection_to_a_process_that_has_a_successor_is_given_up() {
    let mut bench = Bench::open(&[A, B]);
    bench.submit("x");
    assert_eq!(bench.answer(B, back(A, 1)), [], "that is who it is connected to");
    let given_up = [Output::Disconnect { place: A }, request(B, 1, 1, true, "x")];
    assert_eq!(bench.answer(B, back(A, 2)), given_up);
    bench.give(Input::Down { place: A });
    assert_eq!(bench.later(Config::new(PAIR).redial), [Output::Connect { place: A }]);
}

#[test]
fn nobody_says_of_itself_that_it_is_back() {
    let mut bench = Bench::open(&[A, B]);
    assert_eq!(bench.answer(B, back(B, 2)), []);
}

#[test]
fn one_that_does_not_serve_yet_is_waited_for() {
    let mut bench = Bench::open(&[B]);
    bench.submit("x");
    bench.give(Input::Up { place: A });
    let reason = ClientRefusal::Starting;
    let incarnation = Incarnation(2);
    assert_eq!(bench.answer(A, ClientAnswer::NotYet { incarnation, reason }), []);
    assert_eq!(bench.answer(B, back(A, 2)), [], "the connection is to the one that is back");
    bench.later(Config::new(PAIR).greeting * 3);
    assert_eq!(bench.answer(A, welcome(A, incarnation)), [request(A, 1, 1, false, "x")]);
}

#[test]
fn silence_has_one_dialled_that_there_is_no_connection_to() {
    let mut bench = hasty(&[B]);
    tired_of_a(&mut bench);
    bench.submit("x");
    let began = bench.now;
    assert_eq!(bench.next_timeout(), [Output::Connect { place: A }, Output::Probe { place: B }]);
    assert_eq!(bench.now.since(began), Config::new(PAIR).silence);
    bench.give(Input::Heard { place: B });
    assert_eq!(bench.next_timeout(), [Output::Connect { place: A }, Output::Probe { place: B }]);
}

#[test]
fn an_idle_session_probes_nobody() {
    let mut bench = hasty(&[A, B]);
    assert_eq!(bench.client.next_timeout(), None);
    bench.submit("x");
    bench.answer(A, reply(1, "1"));
    assert_eq!(bench.client.next_timeout(), None);
}

#[test]
fn a_long_step_costs_probes_and_no_connection() {
    let mut bench = hasty(&[A, B]);
    bench.submit("x");
    for _ in 0..100 {
        for output in bench.next_timeout() {
            match output {
                Output::Probe { place } => assert_eq!(bench.give(Input::Heard { place }), []),
                // After a second, whatever is unanswered is repeated.
                Output::Send { call: ClientCall::Request { .. }, .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(bench.now.since(START) > Duration::from_secs(10));
    assert_eq!(bench.answer(B, reply(1, "1")), [outcome(1, Ok("1"))]);
}

/// Steps of silence until A is dialled beside its connection; B reacts to every probe.
fn until_a_is_deaf(bench: &mut Bench) {
    let began = bench.now;
    loop {
        let outputs = bench.next_timeout();
        bench.give(Input::Heard { place: B });
        assert!(outputs.contains(&Output::Probe { place: A }), "{outputs:?}");
        assert!(!outputs.contains(&Output::Connect { place: B }), "{outputs:?}");
        if outputs.contains(&Output::Connect { place: A }) {
            break;
        }
    }
    let Config { deaf, silence, silence_longest, .. } = Config::new(PAIR);
    let took = bench.now.since(began);
    assert!((deaf..=silence + deaf + silence_longest).contains(&took), "{took:?}");
}

#[test]
fn one_that_reacts_to_no_probe_is_dialled_beside_the_connection() {
    let mut bench = hasty(&[A, B]);
    bench.submit("x");
    until_a_is_deaf(&mut bench);
    // The new one is welcomed like any, and what is unanswered goes there; B is not to wait.
    let hello = ClientCall::Hello { pair: PAIR, protocol: PROTOCOL };
    assert_eq!(
        bench.give(Input::Up { place: A }),
        [request(B, 1, 1, true, "x"), Output::Send { place: A, call: hello }]
    );
    assert_eq!(bench.answer(A, welcome(A, Incarnation(2))), [request(A, 1, 1, false, "x")]);
}

#[test]
fn a_connection_stands_until_another_is_up() {
    let mut bench = hasty(&[A, B]);
    bench.submit("x");
    until_a_is_deaf(&mut bench);
    assert_eq!(bench.answer(A, reply(1, "1")), [outcome(1, Ok("1"))]);
    let sent = [request(A, 2, 2, false, "y"), request(B, 2, 2, false, "y")];
    assert_eq!(bench.submit("y"), sent);
}

#[test]
fn while_something_is_unanswered_attempts_are_frequent() {
    let mut bench = hasty(&[A]);
    bench.give(Input::Down { place: B });
    bench.submit("x");
    bench.give(Input::Down { place: A });
    let until = bench.now.plus(Duration::from_secs(10));
    let mut attempts = [Vec::new(), Vec::new()];
    while bench.now < until {
        for output in bench.next_timeout() {
            if let Output::Connect { place } = output {
                attempts[place.slot()].push(bench.now);
                bench.give(Input::Down { place });
            }
        }
    }
    let most = Config::new(PAIR).silence_longest;
    for attempts in attempts {
        assert!(attempts.windows(2).all(|pair| pair[1].since(pair[0]) <= most));
        assert!(attempts.len() < 120, "{} attempts in ten seconds", attempts.len());
    }
}

#[test]
fn whoever_was_not_scheduled_itself_accuses_nobody() {
    let mut bench = hasty(&[A, B]);
    bench.submit("x");
    silences(&mut bench, 1);
    let probes = [Output::Probe { place: A }, Output::Probe { place: B }];
    assert_eq!(bench.later(Duration::from_millis(900)), probes);
}

#[test]
fn one_that_refuses_is_not_hurried() {
    let mut bench = hasty(&[B]);
    bench.give(Input::Up { place: A });
    bench.answer(A, ClientAnswer::Refused { reason: ClientRefusal::Removed });
    bench.give(Input::Down { place: A });
    bench.submit("x");
    let outputs: Vec<_> = (0..8)
        .flat_map(|_| {
            bench.give(Input::Heard { place: B });
            bench.next_timeout()
        })
        .collect();
    assert!(!outputs.contains(&Output::Connect { place: A }), "{outputs:?}");
}

#[test]
fn a_session_that_does_not_come_is_asked_for_at_the_other_too() {
    let mut bench = Bench::with(Config::new(PAIR));
    bench.welcome(B);
    bench.welcome(A);
    let outputs = bench.next_timeout();
    assert!(outputs.contains(&open_call(A, true)), "{outputs:?}");
    assert!(!outputs.contains(&open_call(B, true)), "{outputs:?}");
}
