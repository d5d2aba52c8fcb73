use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::ids::{Epoch, Incarnation, Nonce};
use crate::record::{Members, Origin, Request};
use crate::runtime::config::{Document, Overrides};
use crate::runtime::init::Ports;
use crate::runtime::keys::{Role, Roster, SecretKey};
use crate::runtime::link::{DialConfig, Event};
use crate::runtime::tls::Credentials;
use crate::wire::codec::{Encoder, decode_witness_answer};
use crate::wire::frames::{WitnessAnswer, WitnessCall, WitnessRefusal};

const WITHIN: Duration = Duration::from_secs(20);

/// A witness for two pairs, and the keys of their CoServers.
struct Bench {
    directory: tempfile::TempDir,
    address: std::net::SocketAddr,
    witness: PublicKey,
    keys: Vec<std::path::PathBuf>,
    text: String,
}

const PAIRS: [PairId; 2] = [PairId([1; 16]), PairId([2; 16])];

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let host = std::net::Ipv4Addr::LOCALHOST.into();
        let address = Ports::free([host; 2], []).next_on(host).unwrap();
        let make = |name: String| {
            let (key, file) = (SecretKey::generate().unwrap(), path.join(name));
            key.save_new(&file).unwrap();
            (key.public(), file)
        };
        let (witness, _) = make("witness.key".into());
        let mut text = format!(
            "listen = \"{address}\"\ndirectory = \"{}\"\ngrace = \"0s\"\nkey = \"witness.key\"\n",
            path.join("data").display()
        );
        let mut keys = Vec::new();
        for pair in PAIRS {
            let made = ["a", "b"].map(|place| make(format!("{place}-{pair}.key")));
            text += &format!(
                "[[pairs]]\nid = \"{pair}\"\na = \"{}\"\nb = \"{}\"\n",
                made[0].0, made[1].0
            );
            keys.extend(made.map(|(_, file)| file));
        }
        Self { directory, address, witness, keys, text }
    }

    fn server(&self) -> WitnessServer {
        let file = self.directory.path().join("witness.toml");
        let document = Document::parse(&file, self.text.clone(), &Overrides::new()).unwrap();
        let config = WitnessConfig::check(document).unwrap();
        let data = config.directory.clone();
        std::fs::create_dir_all(&data).unwrap();
        WitnessServer::start(config, open_records(&data).unwrap()).unwrap()
    }

    /// What the witness says to these calls, asked with the key of pair and place.
    async fn ask(&self, key: usize, calls: &[WitnessCall]) -> Vec<WitnessAnswer> {
        let place = ReplicaId::BOTH[key % 2];
        let mut roster = Roster::new();
        roster.pin(Role::Witness, self.witness).unwrap();
        let secret = SecretKey::load(&self.keys[key]).unwrap();
        let credentials = Credentials::new(Role::CoServer(place), secret, roster).unwrap();
        let mut network = Network::new(credentials);
        network.dial(DialConfig::witness(self.address)).unwrap();
        let mut answers = Vec::new();
        loop {
            match tokio::time::timeout(WITHIN, network.next()).await.expect("an event in time") {
                Event::Up { connection, .. } => {
                    let mut encoder = Encoder::new();
                    for call in calls {
                        let frame: Bytes = encoder.witness_call(call).unwrap();
                        network.send(connection, frame).unwrap();
                    }
                }
                Event::Frame { frame, .. } => {
                    answers.push(decode_witness_answer(&frame).unwrap());
                    if answers.len() + 1 == calls.len() {
                        return answers;
                    }
                }
                Event::Down { .. } => return answers,
                _ => {}
            }
        }
    }
}

fn hello(pair: PairId, place: ReplicaId) -> WitnessCall {
    let protocol = crate::witness::PROTOCOL;
    WitnessCall::Hello { pair, place, incarnation: Incarnation(7), protocol }
}

const QUERY: WitnessCall = WitnessCall::Query { known: None };

fn formed(pair: PairId) -> Record {
    Record {
        epoch: Epoch(1),
        members: Members::both(Incarnation(7), Incarnation(8)),
        nonce: Nonce(1),
        origin: Origin::Formed,
        ..Record::vacant(pair, crate::ids::Lineage(1), Epoch(0))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

#[test]
fn a_key_speaks_for_its_own_pair_and_place_only() {
    let bench = Bench::new();
    block_on(async {
        let server = bench.server();
        tokio::spawn(server.run());
        let refused = [WitnessAnswer::Refused { reason: WitnessRefusal::NotYou }];
        // The key of place a of the second pair.
        let asked = bench.ask(2, &[hello(PAIRS[0], ReplicaId::A), QUERY]).await;
        assert_eq!(asked, refused);
        let asked = bench.ask(2, &[hello(PAIRS[1], ReplicaId::B), QUERY]).await;
        assert_eq!(asked, refused);
        let asked = bench.ask(2, &[hello(PAIRS[1], ReplicaId::A), QUERY]).await;
        assert!(
            matches!(asked[..], [WitnessAnswer::Present { record }] if record.pair == PAIRS[1]),
            "{asked:?}"
        );
    });
}

#[test]
fn a_record_outlives_the_process_that_granted_it() {
    let bench = Bench::new();
    let next = formed(PAIRS[0]);
    let present = Record::vacant(PAIRS[0], next.lineage, Epoch(0)).digest();
    block_on(async {
        let server = bench.server();
        let handle = server.handle();
        let running = tokio::spawn(server.run());
        let ask = WitnessCall::CompareAndSwap { request: Request { present, next } };
        let asked = bench.ask(0, &[hello(PAIRS[0], ReplicaId::A), ask]).await;
        assert_eq!(asked, [WitnessAnswer::Present { record: next }]);
        let report = handle.status().await.unwrap();
        assert_eq!(report.pairs[0].record.as_ref().unwrap().epoch, 1);
        assert!(handle.stop());
        running.await.unwrap();
    });
    block_on(async {
        tokio::spawn(bench.server().run());
        let asked = bench.ask(1, &[hello(PAIRS[0], ReplicaId::B), QUERY]).await;
        assert_eq!(asked, [WitnessAnswer::Present { record: next }]);
    });
}

/// A directory in the place of the file that is written first: as good as a disk without room.
#[test]
fn a_pair_whose_record_cannot_be_written_is_served_again_as_soon_as_it_can() {
    let bench = Bench::new();
    let next = formed(PAIRS[0]);
    let present = Record::vacant(PAIRS[0], next.lineage, Epoch(0)).digest();
    let ask = || {
        [
            hello(PAIRS[0], ReplicaId::A),
            WitnessCall::CompareAndSwap { request: Request { present, next } },
        ]
    };
    block_on(async {
        let server = bench.server();
        let handle = server.handle();
        tokio::spawn(server.run());
        let obstacle = bench.directory.path().join(format!("data/{RECORDS}/{}.new", PAIRS[0]));
        std::fs::create_dir(&obstacle).unwrap();
        let refused = [WitnessAnswer::Refused { reason: WitnessRefusal::Storage }];
        assert_eq!(bench.ask(0, &ask()).await, refused);
        let report = handle.status().await.unwrap().pairs.swap_remove(0);
        assert_eq!(report.record.expect("what it had it has").epoch, 0);
        let wait = report.waits_for.expect("a pair that waits says what for");
        assert_eq!(wait.reason, "not-stored");
        assert!(wait.why.contains(".new"), "{wait:?}");
        assert!(wait.todo.contains("need not be restarted"), "{wait:?}");

        std::fs::remove_dir(&obstacle).unwrap();
        assert_eq!(bench.ask(0, &ask()).await, [WitnessAnswer::Present { record: next }]);
        assert!(handle.status().await.unwrap().pairs[0].waits_for.is_none());
    });
}

#[test]
fn a_pair_whose_record_is_damaged_is_refused_and_the_others_are_served() {
    let bench = Bench::new();
    block_on(async {
        let server = bench.server();
        assert!(server.handle().stop());
        server.run().await;
    });
    let file = bench.directory.path().join(format!("data/{RECORDS}/{}.record", PAIRS[0]));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    block_on(async {
        let server = bench.server();
        let handle = server.handle();
        tokio::spawn(server.run());
        let asked = bench.ask(0, &[hello(PAIRS[0], ReplicaId::A), QUERY]).await;
        assert_eq!(asked, [WitnessAnswer::Refused { reason: WitnessRefusal::Storage }]);
        let pairs = handle.status().await.unwrap().pairs;
        let wait = pairs[0].waits_for.as_ref().expect("a refused pair says what it waits for");
        assert!(wait.reason == "unreadable" && wait.why.contains("damaged"), "{wait:?}");
        assert!(pairs[1].waits_for.is_none());
        let asked = bench.ask(2, &[hello(PAIRS[1], ReplicaId::A), QUERY]).await;
        assert!(matches!(asked[..], [WitnessAnswer::Present { .. }]), "{asked:?}");
    });
}

impl Bench {
    /// Whether the witness lets this key in.
    async fn admits(&self, place: ReplicaId, file: &std::path::Path) -> bool {
        let mut roster = Roster::new();
        roster.pin(Role::Witness, self.witness).unwrap();
        let secret = SecretKey::load(file).unwrap();
        let credentials = Credentials::new(Role::CoServer(place), secret, roster).unwrap();
        let mut network = Network::new(credentials);
        network.dial(DialConfig::witness(self.address)).unwrap();
        loop {
            match tokio::time::timeout(WITHIN, network.next()).await.expect("an event in time") {
                Event::Up { connection, .. } => {
                    let frame = Encoder::new().witness_call(&hello(PAIRS[0], place)).unwrap();
                    network.send(connection, frame).unwrap();
                    let frame = Encoder::new().witness_call(&QUERY).unwrap();
                    network.send(connection, frame).unwrap();
                }
                Event::Frame { frame, .. } => {
                    let answer = decode_witness_answer(&frame).unwrap();
                    return matches!(answer, WitnessAnswer::Present { .. });
                }
                Event::Failed { .. } | Event::Down { .. } => return false,
                _ => {}
            }
        }
    }
}

#[test]
fn a_replaced_key_counts_at_once_and_after_a_restart() {
    use crate::runtime::control::Answer;

    let mut bench = Bench::new();
    let file = bench.directory.path().join("witness.toml");
    std::fs::write(&file, &bench.text).unwrap();
    let (new, new_file) = (SecretKey::generate().unwrap(), bench.directory.path().join("new.key"));
    new.save_new(&new_file).unwrap();
    let (pair, key) = (PAIRS[0], new.public());
    let old_file = bench.keys[1].clone();
    let old = SecretKey::load(&old_file).unwrap().public();
    block_on(async {
        let config = WitnessConfig::read(&file, &Overrides::new()).unwrap();
        std::fs::create_dir_all(&config.directory).unwrap();
        let keys = PairKeys { file: config.file.clone(), credentials: config.credentials.clone() };
        let records = open_records(&config.directory).unwrap();
        let server = WitnessServer::start(config, records).unwrap();
        let handle = server.handle();
        let control = WitnessControl::new(handle.clone()).with_keys(keys);
        let running = tokio::spawn(server.run());
        assert!(bench.admits(ReplicaId::B, &old_file).await);
        assert!(!bench.admits(ReplicaId::B, &new_file).await);

        let other = SecretKey::load(&bench.keys[2]).unwrap().public();
        let unknown = PairId([9; 16]);
        for (line, code) in [
            (format!("replace-key {pair} b {other}"), "not-done"),
            (format!("replace-key {unknown} b {key}"), "not-done"),
            (format!("replace-key {pair} b {}", bench.witness), "not-done"),
            (format!("replace-key {pair} b ed25519:12"), "not-done"),
            (format!("replace-key {pair} c {key}"), "unknown-command"),
            (format!("replace-key {pair} b"), "unknown-command"),
        ] {
            assert_eq!(control.answer(&line).await.unwrap_err().code, code, "{line}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), bench.text);

        control.answer(&format!("replace-key {pair} b {key}")).await.unwrap();
        assert!(bench.admits(ReplicaId::B, &new_file).await);
        assert!(!bench.admits(ReplicaId::B, &old_file).await);
        assert!(bench.admits(ReplicaId::A, &bench.keys[0]).await, "the survivor is not disturbed");
        assert!(handle.stop());
        running.await.unwrap();
    });
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written, bench.text.replace(&old.to_string(), &key.to_string()));
    bench.text = written;
    block_on(async {
        tokio::spawn(bench.server().run());
        assert!(bench.admits(ReplicaId::B, &new_file).await);
        assert!(!bench.admits(ReplicaId::B, &old_file).await);
    });
}
