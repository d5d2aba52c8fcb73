//! Clients of a pair of real processes, while something happens to it.
#![allow(clippy::disallowed_methods, reason = "a test outside the pair")]

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lockstep::client::session::{
    CallError, OpenError, PlaceStatus, Session, Settings, Trouble, Troubles,
};
use lockstep::client::{RequestError, SessionError, blocking};
use lockstep::ids::{PairId, ReplicaId};
use lockstep::runtime::config::{ClientConfig, Overrides};
use lockstep::runtime::exit::Exit;
use lockstep::runtime::keys::{Role, SecretKey};
use lockstep::runtime::quic::SetupError;
use lockstep::runtime::tls::Credentials;
use lockstep::wire::frames::ClientRefusal;
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, other};
use lockstep_tests::process::{Process, wait_for};
use register::check::{STATES, check};
use register::history;
use register::ops::{Answer, Op, Refusal};
use register::record::{Plan, Summary, record};

const PART: &str = env!("CARGO_BIN_EXE_register_part");

/// Requests of a recorded run.
const OPS: u64 = 4000;

/// After so many of them something happens.
const MIDWAY: usize = 1000;

fn settings(pair: &Pair) -> Settings {
    let file = pair.directory().join("client.toml");
    let config = ClientConfig::read(&file, &Overrides::default()).unwrap();
    let mut settings = Settings::new(config.pair, config.coservers, config.credentials);
    settings.open_within = DEADLINE;
    settings
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Keeps a history, and says when a part of it is there.
struct Book {
    bytes: Vec<u8>,
    lines: Arc<AtomicUsize>,
    midway: mpsc::Sender<()>,
    /// Nothing more is written down, and so asked, before this is closed.
    goes_on: mpsc::Receiver<()>,
}

impl Write for Book {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend(bytes);
        let more = bytes.iter().filter(|byte| **byte == b'\n').count();
        let before = self.lines.fetch_add(more, Ordering::SeqCst);
        if before < MIDWAY && before + more >= MIDWAY {
            let _ = self.midway.send(());
            let _ = self.goes_on.recv_timeout(DEADLINE);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Records a history while something happens midway, with requests under way that have no answer
/// yet; everything must have been answered, once, and as by a single register.
fn drive(pair: &mut Pair, strikes: impl FnOnce(&mut Pair)) -> Summary {
    drive_for(pair, OPS, Duration::ZERO, strikes, |_, _| ())
}

/// The same with so many requests, a pause of each client between two, and more that happens
/// while they go on: `happens` is given the number of answers so far.
fn drive_for(
    pair: &mut Pair,
    ops: u64,
    pause: Duration,
    strikes: impl FnOnce(&mut Pair),
    happens: impl FnOnce(&mut Pair, &AtomicUsize),
) -> Summary {
    let (midway, reached) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let (settings, lines) = (settings(pair), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&lines);
    let recorder = std::thread::spawn(move || {
        let mut book = Book { bytes: Vec::new(), lines: counted, midway, goes_on };
        let plan = Plan { ops, pause, clients: 6, pipeline: 8, keys: 4, ..Plan::default() };
        let summary = runtime().block_on(record(&settings, &plan, "", &mut book)).unwrap();
        (summary, book.bytes)
    });
    reached.recv_timeout(DEADLINE).expect("requests are answered");
    strikes(pair);
    assert!((lines.load(Ordering::SeqCst) as u64) < ops, "it struck when all was over");
    drop(go_on);
    happens(pair, &lines);
    let (summary, bytes) = recorder.join().unwrap();
    assert_eq!((summary.unanswered, summary.sessions_lost), (0, 0), "{summary:?}{}", pair.logs());
    let calls = history::read(&bytes[..]).unwrap();
    assert!(calls.len() as u64 >= ops);
    let mut numbers: Vec<_> = calls.iter().map(|call| (call.session, call.number)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), calls.len(), "a request has one outcome");
    let report = check(&calls, STATES);
    assert!(report.is_good(), "{report:#?}");
    summary
}

fn is_not_noticed(happens: impl FnOnce(&mut Pair), victim: Part) {
    let mut pair = Pair::start(PART, SILENCE);
    drive(&mut pair, happens);
    // All was answered, so it was alone by then.
    assert_eq!(pair.status(other(victim)).unwrap()["mode"], "simplex");
}

#[test]
fn clients_do_not_notice_that_a_is_killed() {
    is_not_noticed(|pair| pair.kill(A), A);
}

#[test]
fn clients_do_not_notice_that_b_is_killed() {
    is_not_noticed(|pair| pair.kill(B), B);
}

#[test]
fn clients_do_not_notice_that_a_hangs() {
    is_not_noticed(|pair| pair.pause(A), A);
}

#[test]
fn clients_do_not_notice_that_b_hangs() {
    is_not_noticed(|pair| pair.pause(B), B);
}

#[test]
fn clients_do_not_notice_a_hand_over_or_the_witness_s_death() {
    let mut pair = Pair::start(PART, SILENCE);
    drive(&mut pair, |pair| {
        pair.kill(WITNESS);
        let sequencer = pair.status(A).unwrap()["sequencer"] == "a";
        pair.ask(if sequencer { A } else { B }, "hand-over").unwrap();
    });
    for part in [A, B] {
        assert_eq!(pair.status(part).unwrap()["mode"], "duplex");
    }
}

#[test]
fn one_that_was_removed_says_so_and_comes_back() {
    let mut pair = Pair::start(PART, SILENCE);
    let session = blocking::Session::open(settings(&pair)).unwrap();
    served_by_both(&session);
    pair.pause(A);
    pair.wait_for_mode(B, "simplex");
    pair.resume(A);
    let removed = || match session.status().place(ReplicaId::A) {
        PlaceStatus::Away { trouble: Some(Trouble::Refused(ClientRefusal::Removed)) } => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(DEADLINE, removed).unwrap_or_else(|last| panic!("{last}{}", pair.logs()));
    assert_eq!(asked(&session, &Op::Len { queue: "q".into() }), Answer::Length(0));
    pair.wait_for_duplex();
    served_by_both(&session);
    assert_eq!(asked(&session, &Op::Len { queue: "q".into() }), Answer::Length(0));
    session.close().unwrap();
}

/// Both at once, again and again, under requests all the time.
#[test]
fn histories_stay_linearizable_and_sessions_open_over_losses_of_both() {
    let mut pair = Pair::start(PART, SILENCE);
    let pause = Duration::from_millis(2);
    let ops = 5 * OPS;
    let lose_both = |pair: &mut Pair| {
        for part in [A, B] {
            pair.kill(part);
        }
    };
    let lost_again = |pair: &mut Pair, lines: &AtomicUsize| {
        for order in [[A, B], [B, A], [A, B]] {
            for part in order {
                pair.run(part);
            }
            pair.wait_for_duplex();
            let from = lines.load(Ordering::SeqCst);
            let more = || (lines.load(Ordering::SeqCst) > from + 500).then_some(()).ok_or(());
            wait_for(DEADLINE, more).unwrap_or_else(|()| panic!("no answers{}", pair.logs()));
            lose_both(pair);
            assert!((lines.load(Ordering::SeqCst) as u64) < ops, "lost when all was over");
        }
        for part in [A, B] {
            pair.run(part);
        }
        pair.wait_for_duplex();
    };
    drive_for(&mut pair, ops, pause, lose_both, lost_again);
    assert_eq!(pair.status(A).unwrap()["lineage"], 1);
}

/// The same by the commands, as an operator would.
#[test]
fn the_commands_record_and_check_over_losses_of_both() {
    let mut pair = Pair::start(PART, SILENCE);
    let config = path(&pair.directory().join("client.toml"));
    let file = path(&pair.directory().join("rounds.jsonl"));
    let record = ["record", "--config", &config, "--out", &file, "--ops", "6000", "--pause", "1ms"];
    let directory = pair.directory().to_owned();
    let mut recorder = Process::start("record", Path::new(PART), &record, &directory).unwrap();
    let lines = || std::fs::read_to_string(&file).map_or(0, |text| text.lines().count());
    for round in 1..=2 {
        let some = || if lines() >= 1000 * round { Ok(()) } else { Err(lines()) };
        wait_for(DEADLINE, some).unwrap_or_else(|lines| panic!("{lines} calls{}", pair.logs()));
        assert_eq!(recorder.ended(), None, "it is over before both were lost: {}", lines());
        for part in [A, B] {
            pair.kill(part);
        }
        for part in [A, B] {
            pair.run(part);
        }
        pair.wait_for_duplex();
    }
    assert_eq!(recorder.wait(DEADLINE * 2).code(), Some(0), "{}{}", recorder.log(), pair.logs());
    assert!(lines() >= 6000);
    let (said, status) = pair.command(&["check", &file]);
    assert_eq!(status.code(), Some(0), "{said}");
    // A request without an answer would make the check easier than it should be.
    let calls = history::read(&std::fs::read(&file).unwrap()[..]).unwrap();
    assert!(calls.iter().all(|call| call.answer.is_some()), "all were answered");
}

fn served_by_both(session: &blocking::Session) {
    let both = || match session.status().places {
        [PlaceStatus::Serving { .. }, PlaceStatus::Serving { .. }] => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(DEADLINE, both).unwrap();
}

fn asked(session: &blocking::Session, op: &Op) -> Answer {
    Answer::decode(&session.request(op.encode()).unwrap()).unwrap()
}

#[test]
fn a_client_that_does_not_belong_here_is_told_why() {
    let pair = Pair::start(PART, SILENCE);
    let good = settings(&pair);
    let refused = |settings| match runtime().block_on(Session::open(settings)) {
        Err(OpenError::Refused(troubles)) => troubles,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was let in"),
    };
    let each = |troubles: &Troubles, is: &dyn Fn(&Trouble) -> bool| {
        let both = ReplicaId::BOTH.map(|place| troubles.of(place).is_some_and(is));
        assert_eq!(both, [true; 2], "{troubles}");
    };

    let roster = good.credentials.roster().as_ref().clone();
    let unknown = Credentials::new(Role::Client, SecretKey::generate().unwrap(), roster).unwrap();
    let troubles = refused(Settings { credentials: unknown, ..good.clone() });
    each(&troubles, &|trouble| matches!(trouble, Trouble::Setup(SetupError::OwnKey { .. })));

    let mut elsewhere = good.clone();
    elsewhere.core.pair = PairId([9; 16]);
    let wrong = |trouble: &Trouble| matches!(trouble, Trouble::Refused(ClientRefusal::WrongPair));
    each(&refused(elsewhere), &wrong);

    let mut mixed_up = good.clone();
    mixed_up.addresses.reverse();
    let wrong = |trouble: &Trouble| matches!(trouble, Trouble::Setup(SetupError::PeerKey { .. }));
    each(&refused(mixed_up), &wrong);

    let session = blocking::Session::open(good).unwrap();
    assert_eq!(asked(&session, &Op::Len { queue: "q".into() }), Answer::Length(0));
}

#[test]
fn a_session_that_the_pair_forgot_is_over() {
    let mut pair = Pair::start(PART, SILENCE);
    let session = blocking::Session::open(settings(&pair)).unwrap();
    let set = Op::Set { name: "r".into(), value: 1 };
    assert_eq!(asked(&session, &set), Answer::Value(None));
    for part in [A, B, WITNESS] {
        pair.kill(part);
    }
    pair.begin_lineage();
    for part in [A, B] {
        pair.run_with(part, &["--discard", "--yes"]);
    }
    let lost = session.request_within(set.encode(), DEADLINE).unwrap_err();
    let expired = RequestError::SessionOver(SessionError::Expired);
    assert_eq!(lost, CallError::NoReply(expired), "{}", pair.logs());
    assert!(lost.may_have_taken_effect());
    let again = blocking::Session::open(settings(&pair)).unwrap();
    assert_eq!(asked(&again, &Op::Get { name: "r".into() }), Answer::Value(None));
}

#[test]
fn the_longest_requests_go_through_in_a_full_window() {
    let pair = Pair::start(PART, SILENCE);
    runtime().block_on(async {
        let session = Session::open(settings(&pair)).await.unwrap();
        let body = bytes::Bytes::from(vec![255; lockstep::limits::INPUT_BYTES]);
        let mut tickets = Vec::new();
        for _ in 0..32 {
            tickets.push(session.submit(body.clone()).await.unwrap());
        }
        for ticket in tickets {
            let reply = tokio::time::timeout(DEADLINE, ticket).await.unwrap().unwrap();
            let answer = Answer::decode(&reply).unwrap();
            assert_eq!(answer, Answer::Refused(Refusal::Malformed));
        }
        session.close().await.unwrap();
    });
}

#[test]
fn threads_share_a_session_while_a_coserver_is_killed() {
    let mut pair = Pair::start(PART, SILENCE);
    let session = blocking::Session::open(settings(&pair)).unwrap();
    served_by_both(&session);
    let (midway, reached) = mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (session, midway) = (session.clone(), midway.clone());
            std::thread::spawn(move || {
                for n in 0..200 {
                    let add = Op::Add { name: "c".into(), delta: 1 };
                    assert!(matches!(asked(&session, &add), Answer::Value(Some(_))));
                    if n == 50 {
                        midway.send(()).unwrap();
                    }
                }
            })
        })
        .collect();
    reached.recv_timeout(DEADLINE).expect("requests are answered");
    pair.kill(A);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let sum = asked(&session, &Op::Get { name: "c".into() });
    assert_eq!(sum, Answer::Value(Some(800)));
    session.close().unwrap();
}

#[test]
fn the_command_line_asks_records_and_checks() {
    let pair = Pair::start(PART, SILENCE);
    let config = path(&pair.directory().join("client.toml"));
    let ask = |words: &[&str]| {
        let (said, status) = pair.command(&[words, &["--config", &config]].concat());
        (said.trim_end().to_owned(), status.code().unwrap())
    };
    assert_eq!(ask(&["set", "r", "-3"]), ("none".into(), 0));
    assert_eq!(ask(&["add", "r", "5"]), ("2".into(), 0));
    assert_eq!(ask(&["cas", "r", "1", "7"]), ("not swapped: it is 2".into(), 20));
    assert_eq!(ask(&["push", "q", "one"]), ("1".into(), 0));
    assert_eq!(ask(&["remind", "q", "10ms", "two"]).1, 0);
    let both = || match ask(&["len", "q"]) {
        (length, 0) if length == "2" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(DEADLINE, both).unwrap();
    assert_eq!(ask(&["pop", "q"]), ("one".into(), 0));
    let json = ask(&["pop", "q", "--json"]).0;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["answer"]["item"], "two");

    let file = path(&pair.directory().join("history.jsonl"));
    let (said, code) = ask(&["record", "--ops", "500", "--out", &file, "--json"]);
    assert_eq!(code, 0, "{said}");
    let summary: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(summary["unanswered"], 0);
    let (said, status) = pair.command(&["check", &file]);
    assert_eq!(status.code(), Some(0), "{said}");
    let forged = r#"{"session":1,"number":9999,"from":1,"to":2,"op":{"get":{"name":"r0"}},"#;
    let forged = format!("{forged}\"answer\":{{\"value\":-77}}}}\n");
    let mut history = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    history.write_all(forged.as_bytes()).unwrap();
    let (said, status) = pair.command(&["check", &file]);
    assert_eq!(status.code(), Some(21), "{said}");
    let (said, status) = pair.command(&["check", "/nowhere"]);
    assert_eq!(status.code(), Some(Exit::Storage.code().into()), "{said}");
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn with_nobody_there_a_command_ends_in_time() {
    let pair = Pair::init(PART, SILENCE);
    let config = path(&pair.directory().join("client.toml"));
    let began = Instant::now();
    let (said, status) = pair.command(&["get", "r", "--config", &config, "--timeout", "500ms"]);
    assert_eq!(status.code(), Some(Exit::Unavailable.code().into()), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20));
}
