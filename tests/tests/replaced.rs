//! A machine that is lost for good is replaced by one with a new key, as in "Replacing a machine"
//! of `docs/operations.md`.

use lockstep::client::blocking::Session;
use lockstep::runtime::exit::Exit;
use lockstep::runtime::keys::{PublicKey, SecretKey};
use lockstep::runtime::tls::Purpose;
use lockstep_tests::caller::{self, Caller};
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS};
use lockstep_tests::process::wait_for;
use lockstep_tests::rogue_peer::Stranger;
use register::ops::{Answer, Op};

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// A key as on a new machine, in this file; its public half.
fn new_key(pair: &Pair, name: &str) -> PublicKey {
    let key = SecretKey::generate().unwrap();
    key.save_new(&pair.directory().join("keys").join(name)).unwrap();
    key.public()
}

fn id(pair: &Pair) -> String {
    let text = std::fs::read_to_string(pair.config(A)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("pair = ")).unwrap();
    line.trim_matches('"').to_owned()
}

fn replace(pair: &Pair, words: &[&str], part: Part, key: &PublicKey) -> (String, Option<i32>) {
    let (config, key) = (pair.config(part), key.to_string());
    let mut all = vec![words[0], "--config", config.to_str().unwrap()];
    all.extend(&words[1..]);
    all.extend(["--key", &key]);
    let (said, status) = pair.command(&all);
    (said, status.code())
}

fn known_by_new_key(pair: &Pair, key: &PublicKey) {
    let id = id(pair);
    let words = ["replace-key", "--pair", &id, "--place", "b"];
    let (said, code) = replace(pair, &words, WITNESS, key);
    assert_eq!(code, Some(0), "{said}");
    let (said, code) = replace(pair, &["replace-peer"], A, key);
    assert_eq!(code, Some(0), "{said}");
}

/// Whoever still has the lost machine's key is refused there.
fn old_key_is_refused(pair: &mut Pair, old: &std::path::Path) {
    let ports = [
        (A, pair.addresses(A, "local")[0], Purpose::Link),
        (WITNESS, pair.addresses(WITNESS, "listen")[0], Purpose::Witness),
    ];
    for (part, at, purpose) in ports {
        let stranger = Stranger::new(at.ip(), old);
        if let Ok(connection) = stranger.connect(at, purpose) {
            stranger.ended(&connection);
        }
        let look = || {
            let log = pair.process(part).log();
            let refused = |line: &str| {
                line.contains("event=\"connection_refused\"")
                    && line.contains("not one that the configuration here names")
            };
            if log.lines().any(refused) { Ok(()) } else { Err(log) }
        };
        wait_for(DEADLINE, look).unwrap_or_else(|log| panic!("it is not refused: {log}"));
    }
}

fn replaced(restarts: bool) {
    let mut pair = Pair::start(REGISTERS, SILENCE);
    let caller = Caller::start(&pair, "n");
    // The machine is gone, its disk with it; its key may be in anybody's hands.
    pair.kill(B);
    pair.wipe(B);
    pair.wait_for_mode(A, "simplex");
    let old = pair.directory().join("keys").join("b.key");
    let old_public = SecretKey::load(&old).unwrap().public();
    let new = new_key(&pair, "new.key");
    known_by_new_key(&pair, &new);
    old_key_is_refused(&mut pair, &old);
    caller.goes_on(&pair);

    pair.change(B, "keys/b.key", "keys/new.key");
    let client = pair.directory().join("client.toml");
    let text = std::fs::read_to_string(&client).unwrap();
    std::fs::write(&client, text.replace(&old_public.to_string(), &new.to_string())).unwrap();
    pair.run(B);
    pair.wait_for_duplex();
    caller.goes_on(&pair);
    let answered = caller.finish().answered;
    if restarts {
        // What was changed by command is what the files say.
        for part in [A, WITNESS] {
            pair.terminate(part);
            pair.run(part);
        }
        pair.wait_for_duplex();
        old_key_is_refused(&mut pair, &old);
    }

    pair.kill(A);
    pair.wait_for_mode(B, "simplex");
    let session = Session::open(caller::settings(&pair)).unwrap();
    let get = Op::Get { name: "n".into() };
    let answer = Answer::decode(&session.request_within(get.encode(), DEADLINE).unwrap()).unwrap();
    assert_eq!(answer, Answer::Value(Some(answered.cast_signed())), "the new machine has it all");
    session.close().unwrap();
    // And back.
    pair.run(A);
    pair.wait_for_duplex();
}

#[test]
fn a_machine_with_a_new_key_takes_the_place_of_one_that_is_lost() {
    replaced(false);
}

#[test]
fn a_new_key_outlives_restarts_of_those_who_were_told() {
    replaced(true);
}

#[test]
fn a_key_that_another_party_has_is_no_new_key_and_changes_nothing() {
    let pair = Pair::start(REGISTERS, SILENCE);
    let files = [A, WITNESS].map(|part| std::fs::read_to_string(pair.config(part)).unwrap());
    let id = id(&pair);
    for name in ["a.key", "witness.key", "client.key"] {
        let key = SecretKey::load(&pair.directory().join("keys").join(name)).unwrap().public();
        let (said, code) = replace(&pair, &["replace-peer"], A, &key);
        assert_eq!(code, Some(Exit::Config.code().into()), "{name}: {said}");
    }
    let key = SecretKey::load(&pair.directory().join("keys").join("a.key")).unwrap().public();
    let words = ["replace-key", "--pair", &id, "--place", "b"];
    let (said, code) = replace(&pair, &words, WITNESS, &key);
    assert_eq!(code, Some(Exit::Config.code().into()), "{said}");
    for (part, text) in [A, WITNESS].into_iter().zip(files) {
        assert_eq!(std::fs::read_to_string(pair.config(part)).unwrap(), text);
    }
    pair.wait_for_duplex();
}
