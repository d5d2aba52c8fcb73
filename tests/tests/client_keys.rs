//! Several clients, each with a key and a name of its own. The tests say what each may have and
//! ask, and how one of them is shut out while the others go on.
#![allow(clippy::disallowed_methods, reason = "tests use files")]

use std::time::Duration;

use lockstep::client::RequestError;
use lockstep::client::blocking::Session;
use lockstep::client::session::{CallError, OpenError};
use lockstep_tests::caller::{Caller, adds, open, wait_for_serving};
use lockstep_tests::clients::{Client, FIRST};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE};
use register::ops::{Answer, Op};
use rustix::process::Signal;
use serde_json::{Value, json};

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// What the status of a CoServer says of a client.
fn told(status: &Value, name: &str) -> Value {
    let clients = status["client_keys"].as_array().expect("a list");
    clients.iter().find(|client| client["client"] == name).cloned().unwrap_or_default()
}

/// Writes something else into the files of both, and has them read it.
fn reload(pair: &mut Pair, old: &str, new: &str, times: usize) {
    for part in [A, B] {
        pair.change(part, old, new);
        pair.process(part).signal(Signal::HUP);
        pair.wait_for_event(part, "reloaded", times);
    }
}

/// Waits until somebody has logged this about the client.
fn wait_for_line(pair: &mut Pair, part: Part, event: &str, name: &str) {
    let log = pair.wait_for_event(part, event, 1);
    let line = log.lines().find(|line| line.contains(&format!("event=\"{event}\""))).unwrap();
    assert!(line.contains(&format!("client=\"{name}\"")), "{line}");
    assert!(line.contains("ed25519:"), "the whole key, to be found in the file: {line}");
}

#[test]
fn a_client_is_bounded_and_revoked_by_its_name_while_the_other_goes_on() {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    let billing = Client::new(&pair, "billing");
    let two = billing.entry("name = \"billing\", connections = 2");
    for part in [A, B] {
        pair.change(part, FIRST, &format!("{FIRST}{two}"));
    }
    pair.form();
    let caller = Caller::start(&pair, "other");
    // One after the other on both places: which is the newest counts below.
    let sessions = [(); 2].map(|()| {
        let session = billing.open(&pair);
        wait_for_serving(&session, &pair, 2);
        adds(&session, &pair);
        session
    });
    for part in [A, B] {
        let status = pair.wait_until(part, "connected to both clients", |status| {
            told(status, "billing")["connections"] == 2
                && told(status, "client")["connections"] == 1
        });
        let client = told(&status, "billing");
        assert_eq!(
            (&client["connections_most"], &client["key"]),
            (&json!(2), &json!(billing.key()))
        );
        assert_eq!(status["clients"], 3);
        assert_eq!(status["client_keys_left_out"], 0);
    }

    // A third one is too many of this key, and is told so.
    let mut settings = billing.settings();
    settings.open_within = Duration::from_secs(2);
    let error = Session::open(settings).expect_err("it may have two");
    assert!(error.to_string().contains("as many connections"), "{error}");
    for part in [A, B] {
        wait_for_line(&mut pair, part, "connection_refused", "billing");
        pair.wait_until(part, "counting", |status| told(status, "billing")["refused"] != 0);
    }

    // A lower bound closes what is over it, and nothing else.
    let one = billing.entry("name = \"billing\", connections = 1");
    reload(&mut pair, &two, &one, 1);
    for part in [A, B] {
        wait_for_line(&mut pair, part, "connection_displaced", "billing");
        pair.wait_until(part, "bounding", |status| {
            let client = told(status, "billing");
            client["connections"] == 1 && client["displaced"] == 1
        });
    }
    wait_for_serving(&sessions[0], &pair, 2);
    caller.goes_on(&pair);

    reload(&mut pair, &one, "", 2);
    for part in [A, B] {
        wait_for_line(&mut pair, part, "client_revoked", "billing");
        pair.wait_until(part, "without it", |status| told(status, "billing").is_null());
    }
    for session in &sessions {
        wait_for_serving(session, &pair, 0);
    }
    let refused = Session::open(billing.settings()).expect_err("it is not named any more");
    assert!(matches!(refused, OpenError::Refused(_)), "{refused}");
    caller.goes_on(&pair);
    for part in [A, B] {
        let status = pair.status(part).unwrap();
        assert_eq!(status["mode"], "duplex");
        assert_eq!(told(&status, "client")["connections"], 1);
    }
    caller.finish();
}

fn get() -> Op {
    Op::Get { name: "r".into() }
}

fn add() -> Op {
    Op::Add { name: "r".into(), delta: 1 }
}

/// What a request comes to: an answer, or that the key may only read.
fn value(reply: Result<lockstep::bytes::Bytes, CallError>) -> Result<Option<i64>, CallError> {
    match Answer::decode(&reply?).expect("an answer") {
        Answer::Value(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

const READ_ONLY: CallError = CallError::NoReply(RequestError::ReadOnly);

#[test]
fn a_client_that_may_only_read_is_refused_everything_else_and_goes_on() {
    let mut pair = Pair::init(REGISTERS, SILENCE);
    let reader = Client::new(&pair, "reader");
    let read = reader.entry("name = \"reader\", rights = \"read\"");
    for part in [A, B] {
        pair.change(part, FIRST, &format!("{FIRST}{read}"));
    }
    pair.form();
    let session = reader.open(&pair);
    wait_for_serving(&session, &pair, 2);
    // Many under way together: each has its own outcome, in order.
    let ops = [get(), add(), get(), add(), add(), get()];
    let expected = ops.clone().map(|op| if op == get() { Ok(None) } else { Err(READ_ONLY) });
    for _ in 0..20 {
        let tickets = ops.clone().map(|op| session.submit(op.encode()).expect("it is taken"));
        assert_eq!(tickets.map(|ticket| value(ticket.wait())), expected, "{}", pair.logs());
    }
    assert!(!READ_ONLY.may_have_taken_effect());

    // The other client writes, and the reader sees it.
    let writer = open(&pair);
    assert_eq!(value(writer.request_within(add().encode(), DEADLINE)), Ok(Some(1)));
    assert_eq!(value(session.request_within(get().encode(), DEADLINE)), Ok(Some(1)));
    for part in [A, B] {
        // Answers may have come from the other alone so far.
        let status = pair.wait_until(part, "counting all refusals", |status| {
            told(status, "reader")["requests_refused"].as_u64() >= Some(60)
        });
        let (reader, writer) = (told(&status, "reader"), told(&status, "client"));
        assert_eq!((&reader["rights"], &writer["rights"]), (&json!("read"), &json!("all")));
        assert_eq!((&reader["refused"], &writer["requests_refused"]), (&json!(0), &json!(0)));
        wait_for_line(&mut pair, part, "request_refused", "reader");
        let log = pair.process(part).log();
        assert_eq!(log.matches("event=\"request_refused\"").count(), 1, "once for a connection");
    }

    // A CoServer that dies takes no refusal with it, and opens nothing.
    pair.kill(A);
    pair.wait_for_mode(B, "simplex");
    assert_eq!(value(session.request_within(add().encode(), DEADLINE)), Err(READ_ONLY));
    assert_eq!(value(session.request_within(get().encode(), DEADLINE)), Ok(Some(1)));
    pair.run(A);
    pair.wait_for_duplex();
    wait_for_serving(&session, &pair, 2);

    // It may write from now on, on the connections that it has.
    let all = read.replace("\"read\"", "\"all\"");
    reload(&mut pair, &read, &all, 1);
    assert_eq!(value(session.request_within(add().encode(), DEADLINE)), Ok(Some(2)));
    for part in [A, B] {
        let client = told(&pair.status(part).unwrap(), "reader");
        assert_eq!((&client["connections"], &client["displaced"]), (&json!(1), &json!(0)));
    }
}
