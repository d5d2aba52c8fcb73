use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::value::NotADuration;
use super::*;
use crate::ids::ReplicaId;
use crate::proto::DivergencePolicy;
use crate::runtime::coserver::Execution;
use crate::runtime::keys::{Rights, SecretKey};
use crate::store::replica::{Durability, StorageSettings};

/// A directory with keys, and texts of files in it.
struct Bench {
    directory: tempfile::TempDir,
    public: Vec<String>,
}

const KEYS: [&str; 4] = ["a", "b", "witness", "client"];

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = |name: &&str| {
            let key = SecretKey::generate().unwrap();
            key.save_new(&directory.path().join(format!("{name}.key"))).unwrap();
            key.public().to_string()
        };
        let public = KEYS.iter().map(key).collect();
        Self { directory, public }
    }

    fn key(&self, name: &str) -> &str {
        &self.public[KEYS.iter().position(|known| *known == name).unwrap()]
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("file.toml")
    }

    fn coserver(&self) -> String {
        format!(
            r#"place = "a"
pair = "000102030405060708090a0b0c0d0e0f"
directory = "data"
key = "a.key"
witness = "127.0.0.1:7000"
clients = "127.0.0.1:7001"
divergence = "prefer-b"
execution = "thread"

[[links]]
local = "127.0.0.1:7002"
remote = "127.0.0.1:7003"

[[links]]
local = "127.0.0.2:7002"
remote = "127.0.0.2:7003"

[peers]
coserver = "{}"
witness = "{}"
clients = ["{}"]

[timing]
silence = "200ms"
silence_floor = "80ms"
heartbeat = "5ms"
slow_limit = "3s"
forward_delay = "20ms"
hold_limit = "1s"
linger = "1500ms"
witness_patience = "700ms"
clock_step = "48h"
clock_slew = 4

[limits]
window_entries = 1000
window_bytes = 8_000_000
clients = 12

[service]
port = 25
"#,
            self.key("b"),
            self.key("witness"),
            self.key("client")
        )
    }

    fn witness(&self) -> String {
        format!(
            r#"listen = "127.0.0.1:7000"
directory = "records"
grace = "1s"
key = "witness.key"
[[pairs]]
id = "000102030405060708090a0b0c0d0e0f"
a = "{}"
b = ["{}"]
"#,
            self.key("a"),
            self.key("b")
        )
    }

    fn client(&self) -> String {
        format!(
            r#"pair = "000102030405060708090a0b0c0d0e0f"
key = "client.key"
[coservers.a]
address = "127.0.0.1:7001"
key = "{}"
[coservers.b]
address = "127.0.0.1:7011"
key = "{}"
"#,
            self.key("a"),
            self.key("b")
        )
    }

    fn document(&self, text: String) -> Result<Document, ConfigError> {
        Document::parse(&self.file(), text, &Overrides::new())
    }

    fn read_coserver(&self, text: String) -> Result<CoServerConfig, ConfigError> {
        CoServerConfig::check(self.document(text)?)
    }

    fn read_witness(&self, text: String) -> Result<WitnessConfig, ConfigError> {
        WitnessConfig::check(self.document(text)?)
    }

    fn read_client(&self, text: String) -> Result<ClientConfig, ConfigError> {
        ClientConfig::check(self.document(text)?)
    }
}

/// The text without the line that begins so; the number of that line.
fn without(text: &str, start: &str) -> String {
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(start)).collect();
    assert_eq!(kept.len() + 1, text.lines().count(), "one line begins with {start:?}");
    kept.join("\n")
}

/// The text with another value in the line that begins so, and that line's number.
fn with(text: &str, start: &str, value: &str) -> (String, usize) {
    let at = text.lines().position(|line| line.starts_with(start)).expect("the line is there");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[at] = format!("{start} = {value}");
    (lines.join("\n"), at + 1)
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn fault<T>(result: Result<T, ConfigError>) -> Fault {
    match result.err().expect("it is refused") {
        ConfigError::Fault(fault) => *fault,
        other => panic!("another error: {other}"),
    }
}

#[test]
fn a_coservers_disk_is_described_in_a_section_of_its_own() {
    let bench = Bench::new();
    let plain = bench.read_coserver(bench.coserver()).unwrap().settings;
    let own = bench.directory.path();
    assert_eq!(plain.storage, StorageSettings::new(own.join("data/store")));

    let said = "\n[storage]\ndurability = \"memory\"\ndirectory = \"disk\"\n\
                segment_bytes = 8388608\ncheckpoint_bytes = 100000\ncheckpoints_kept = 3\n\
                journal_keep_bytes = 0\nretain_limit_bytes = 2000000\njoin_rate = 70000\n\
                meeting = \"250ms\"\n";
    let settings = bench.read_coserver(bench.coserver() + said).unwrap().settings;
    assert_eq!(settings.meeting, Duration::from_millis(250));
    let wanted = StorageSettings {
        durability: Durability::Memory,
        directory: own.join("disk"),
        segment_bytes: 8 << 20,
        checkpoint_bytes: 100_000,
        checkpoints_kept: 3,
        journal_keep_bytes: 0,
        retain_limit_bytes: 2_000_000,
        join_rate: 70_000,
    };
    assert_eq!(settings.storage, wanted);

    for (field, value, remedy) in [
        ("segment_bytes", "5000000", "a multiple of 4096"),
        ("segment_bytes", "-1", "segment_bytes"),
        ("segment_bytes", "1073745920", "between 4194304 and"),
        ("directory", "\"\"", "storage.directory"),
        ("directory", "7", "storage.directory"),
        ("directory", "\"a\\u0000b\"", "storage.directory"),
        ("checkpoint_bytes", "65535", "between 65536 and"),
        ("checkpoint_bytes", "1099511627777", "and 1099511627776"),
        ("checkpoint_bytes", "\"64 MiB\"", "checkpoint_bytes"),
        ("checkpoints_kept", "0", "between 1 and 64"),
        ("checkpoints_kept", "65", "between 1 and 64"),
        ("checkpoints_kept", "1.5", "checkpoints_kept"),
        ("journal_keep_bytes", "-1", "journal_keep_bytes"),
        ("journal_keep_bytes", "1125899906842625", "and 1125899906842624"),
        ("journal_keep_bytes", "99999999999999999999999", "out of range"),
        ("retain_limit_bytes", "1048575", "between 1048576 and"),
        ("retain_limit_bytes", "1125899906842625", "and 1125899906842624"),
        ("retain_limit_bytes", "true", "retain_limit_bytes"),
        ("join_rate", "0", "between 65536 and"),
        ("join_rate", "65535", "between 65536 and"),
        ("join_rate", "107374182401", "and 107374182400"),
        ("join_rate", "[]", "join_rate"),
        ("durability", "\"disk\"", "\"journal\" or \"memory\""),
        ("durability", "1", "durability"),
        ("meeting", "\"2h\"", "3600s"),
    ] {
        let text = format!("{}\n[storage]\n{field} = {value}\n", bench.coserver());
        let line = text.lines().count();
        let fault = fault(bench.read_coserver(text));
        assert_eq!(fault.field, format!("storage.{field}"), "{fault:?}");
        assert!(matches!(fault.position, Position::Line { line: at, .. } if at == line), "{fault}");
        assert!(fault.to_string().contains(remedy), "{fault}");
    }
}

#[test]
fn an_alternate_witness_is_another_one_with_a_key_of_its_own() {
    let bench = Bench::new();
    let own = SecretKey::generate().unwrap().public().to_string();
    let with = |address: &str, key: Option<&str>| {
        let key = key.map_or_else(String::new, |key| format!("alternate = {key}\n"));
        let line = format!("alternate = {address}\nclients = \"");
        let text = bench.coserver().replacen("clients = \"", &line, 1);
        bench.read_coserver(text.replace("[peers]\n", &format!("[peers]\n{key}")))
    };
    let key = format!("\"{own}\"");
    let settings = with("\"127.0.0.1:7009\"", Some(&key)).unwrap().settings;
    assert_eq!(settings.alternate, Some(at("127.0.0.1:7009").into()));

    for (address, remedy) in [
        ("\"127.0.0.1:0\"", "port"),
        ("\"127.0.0.1\"", "alternate"),
        ("7009", "alternate"),
        ("\"\"", "alternate"),
        ("\"127.0.0.1:7000\"", "another one"),
    ] {
        let found = fault(with(address, Some(&key)));
        assert_eq!(found.field, "alternate", "{address}: {found}");
        assert!(found.to_string().contains(remedy), "{address}: {found}");
    }
    let there = |name| format!("\"{}\"", bench.key(name));
    let address = "\"127.0.0.1:7009\"";
    let found = fault(with(address, None));
    assert_eq!((&*found.field, &*found.what), ("peers.alternate", "is missing"), "{found}");
    for (key, field) in [
        ("[]".to_owned(), "peers.alternate"),
        ("\"ed25519:12\"".to_owned(), "peers.alternate"),
        (there("witness"), "peers.alternate"),
        (format!("[{key}, {}]", there("witness")), "peers.alternate"),
        (there("b"), "peers.alternate"),
        (there("client"), "peers.clients.0.key"),
        (there("a"), "key"),
    ] {
        let found = fault(with(address, Some(&key)));
        assert_eq!(found.field, field, "{key}: {found}");
    }
    // A key without a witness that has it.
    let text = bench.coserver().replace("[peers]\n", &format!("[peers]\nalternate = {key}\n"));
    assert_eq!(fault(bench.read_coserver(text)).field, "peers.alternate");
}

#[test]
fn a_coservers_file_becomes_settings() {
    let bench = Bench::new();
    let config = bench.read_coserver(bench.coserver()).unwrap();
    let settings = &config.settings;
    assert_eq!(settings.place, ReplicaId::A);
    assert_eq!(settings.links.len(), 2);
    assert_eq!(settings.links[1].remote, at("127.0.0.2:7003").into());
    assert_eq!(settings.clients, Some(at("127.0.0.1:7001")));
    assert_eq!(settings.silence, Duration::from_millis(200));
    assert_eq!(settings.linger, Duration::from_millis(1500));
    assert_eq!(settings.witness_patience, Duration::from_millis(700));
    assert_eq!((settings.clock_step, settings.clock_slew), (Duration::from_secs(48 * 3600), 4));
    assert_eq!((settings.window_entries, settings.window_bytes), (1000, 8_000_000));
    assert_eq!(settings.client_connections, 12);
    assert_eq!(settings.divergence, DivergencePolicy::Prefer(ReplicaId::B));
    assert_eq!(settings.execution, Execution::Thread);
    assert_eq!(config.directory, bench.directory.path().join("data"));
    let mut service = config.service;
    assert_eq!(service.required::<u16>("port", "a port").unwrap(), 25);
    service.finish().unwrap();
}

#[test]
fn what_may_be_left_out_has_a_default() {
    let bench = Bench::new();
    let mut text = bench.coserver();
    for field in ["clients = \"", "divergence", "execution", "silence =", "silence_floor"] {
        text = without(&text, field);
    }
    for field in ["heartbeat", "slow_limit", "forward_delay", "hold_limit", "linger"] {
        text = without(&text, field);
    }
    text = without(&text, "witness_patience");
    text = without(&text, "clock_step");
    text = without(&text, "clock_slew");
    for field in ["window_entries", "window_bytes", "clients = 12", "clients = [", "port"] {
        text = without(&text, field);
    }
    let settings = bench.read_coserver(text).unwrap().settings;
    assert!(settings.silence <= Duration::from_millis(100), "a death is noticed soon by default");
    assert_eq!(settings.clients, None);
    assert_eq!(settings.witness_patience, Duration::from_secs(10));
    let grace = bench.read_witness(without(&bench.witness(), "grace")).unwrap().grace;
    assert_eq!(grace, Duration::from_secs(2));
}

#[test]
fn one_number_moves_the_times_that_follow_from_it() {
    let bench = Bench::new();
    let mut text = with(&bench.coserver(), "silence", "\"2s\"").0;
    for field in ["silence_floor", "heartbeat", "hold_limit"] {
        text = without(&text, field);
    }
    let settings = bench.read_coserver(text).unwrap().settings;
    assert_eq!(settings.silence_floor, Duration::from_secs(1));
    assert!(settings.hold_limit >= settings.silence);
}

#[test]
fn each_field_that_has_to_be_there_is_missed() {
    let bench = Bench::new();
    let check = |text: &str, start: &str, read: &dyn Fn(String) -> Fault| {
        let fault = read(without(text, start));
        let name = start.split(' ').next().unwrap();
        assert!(fault.field.ends_with(name), "{start}: {fault}");
        assert_eq!(fault.what, "is missing", "{fault}");
        assert!(fault.remedy.starts_with(&format!("add `{name} = ...`")), "{fault}");
        assert!(matches!(fault.position, Position::Line { line: 1.., .. }), "{fault}");
    };
    let coserver = bench.coserver();
    let read = |text| fault(bench.read_coserver(text));
    for start in ["place", "pair", "directory", "key", "witness = \"127", "coserver"] {
        check(&coserver, start, &read);
    }
    check(&coserver, "witness = \"ed", &read);
    check(&coserver, "local = \"127.0.0.1", &read);
    check(&coserver, "remote = \"127.0.0.2", &read);
    let witness = bench.witness();
    let read = |text| fault(bench.read_witness(text));
    for start in ["listen", "directory", "key", "id", "a", "b"] {
        check(&witness, start, &read);
    }
    let client = bench.client();
    let read = |text| fault(bench.read_client(text));
    for start in
        ["pair", "key = \"client", "address = \"127.0.0.1:7001", "address = \"127.0.0.1:7011"]
    {
        check(&client, start, &read);
    }
    let without_keys = client.replace("key = \"ed", "# \"ed");
    assert_eq!(read(without_keys).field, "coservers.a.key");
}

#[test]
fn each_absurd_value_is_refused_at_its_line() {
    let bench = Bench::new();
    let coserver = bench.coserver();
    let long = format!("\"{}\"", "9".repeat(40) + "s");
    let cases: &[(&str, &[&str])] = &[
        ("place", &["\"c\"", "1", "[]", "\"\""]),
        ("pair", &["\"12\"", "12", "\"zz0102030405060708090a0b0c0d0e0f\"", "\"é\""]),
        ("directory", &["\"\"", "7", "\"\\u0000\""]),
        ("key", &["\"\"", "\"not-there.key\"", "\"file.toml\"", "false", "\".\"", "\"b.key\""]),
        (
            "witness",
            &[
                "\"127.0.0.1\"",
                "\"127.0.0.1:0\"",
                "\"a.example:0\"",
                "\"a b:7\"",
                "70",
                "\"127.0.0.1:70000\"",
            ],
        ),
        ("clients", &["\"127.0.0.1\"", "7001", "\"127.0.0.1:0\"", "\"127.0.0.1:7002\""]),
        ("divergence", &["\"both\"", "1"]),
        ("execution", &["\"fast\"", "true"]),
        ("local", &["\"127.0.0.1:0\"", "\"[::1]:7002\"", "\"127.0.0.2:7002\"", "{}"]),
        ("remote", &["\"127.0.0.1:0\"", "[]", "\"\"", "\"127.0.0.1:7002\"", "\"127.0.0.1:7001\""]),
        ("coserver", &["\"ed25519:12\"", "[]", "7", "\"rsa:00\""]),
        ("silence", &["\"1ms\"", "\"2h\"", "100", "\"100\"", "\"-5s\"", "\"\"", &long]),
        ("silence_floor", &["\"1ms\"", "\"1s\"", "\"x\""]),
        ("heartbeat", &["\"0ms\"", "\"190ms\"", "1.5"]),
        ("slow_limit", &["\"1ms\"", "\"2h\"", "\"5 days\""]),
        ("forward_delay", &["\"0s\"", "\"2h\""]),
        ("hold_limit", &["\"1ms\"", "\"2h\""]),
        ("linger", &["\"2h\"", "2000"]),
        ("witness_patience", &["\"99ms\"", "\"2h\"", "10"]),
        ("clock_step", &["\"59min\"", "\"100000h\""]),
        ("clock_slew", &["1", "1001", "\"4\""]),
        (
            "window_entries",
            &["0", "-1", "99999999999", "99999999999999999999999999", "1.0", "\"many\""],
        ),
        ("window_bytes", &["1", "-1", "\"8 MB\"", "99999999999999"]),
    ];
    for (field, values) in cases {
        for value in *values {
            let (text, line) = with(&coserver, field, value);
            let fault = fault(bench.read_coserver(text));
            let shown = fault.to_string();
            assert!(shown.contains(field), "{field} = {value}: {shown}");
            assert!(shown.contains("file.toml"), "{field} = {value}: {shown}");
            let of_links = *field == "local";
            match fault.position {
                Position::Line { line: found, .. } if !of_links => {
                    assert_eq!(found, line, "{field} = {value}: {shown}");
                }
                Position::Line { .. } => {}
                Position::Flag(_) => panic!("{shown}"),
            }
            assert!(shown.len() < 600, "{field} = {value}: {shown}");
        }
    }
}

#[test]
fn others_may_be_given_by_their_names() {
    let bench = Bench::new();
    let name = |text: &str| text.parse::<crate::runtime::remote::Remote>().unwrap();
    let config = bench.read_coserver(with(&bench.coserver(), "witness", "\"w.example:7400\"").0);
    assert_eq!(config.unwrap().settings.witness, name("w.example:7400").into());
    let config = bench.read_coserver(with(&bench.coserver(), "remote", "\"b.example:7003\"").0);
    let links = config.unwrap().settings.links;
    assert!(links.iter().any(|link| link.remote == name("b.example:7003")));
    let client = bench.client().replace("127.0.0.1:7001", "a.example:7001");
    let config = bench.read_client(client).unwrap();
    assert_eq!(config.coservers[0], name("a.example:7001"));
}

/// Nobody can be reached there; a dial would come back to this machine.
#[test]
fn an_address_that_stands_for_all_is_nobody_elses() {
    let bench = Bench::new();
    let alternate = |address: &str| {
        let key = SecretKey::generate().unwrap().public();
        let text = bench.coserver().replace("[peers]", &format!("[peers]\nalternate = \"{key}\""));
        format!("alternate = \"{address}\"\n{text}")
    };
    for (text, field) in [
        (with(&bench.coserver(), "remote", "\"0.0.0.0:7003\"").0, "links.0.remote"),
        (with(&bench.coserver(), "witness", "\"[::]:7000\"").0, "witness"),
        (alternate("0.0.0.0:7000"), "alternate"),
    ] {
        let found = fault(bench.read_coserver(text));
        assert_eq!(found.field, field);
        assert!(found.what.contains("every address of this machine"), "{found}");
        assert!(found.remedy.contains("address"), "{found}");
    }
    assert!(bench.read_coserver(alternate("127.0.0.9:7000")).is_ok());
    let text = with(&bench.client(), "address", "\"0.0.0.0:7001\"").0;
    assert!(fault(bench.read_client(text)).field.ends_with("address"));
    let all = with(&bench.witness(), "listen", "\"0.0.0.0:7000\"").0;
    assert!(bench.read_witness(all).is_ok(), "to listen there is another matter");
}

#[test]
fn the_number_of_clients_has_its_bounds() {
    let bench = Bench::new();
    for value in ["0", "-1", "4097", "\"all\"", "1.0"] {
        let text = bench.coserver().replace("clients = 12", &format!("clients = {value}"));
        let found = fault(bench.read_coserver(text));
        assert_eq!(found.field, "limits.clients", "{value}: {found}");
    }
}

#[test]
fn one_key_does_not_stand_for_two_parties() {
    let bench = Bench::new();
    let own = format!("\"{}\"", bench.key("a"));
    let found = fault(bench.read_coserver(with(&bench.coserver(), "coserver", &own).0));
    assert_eq!(found.field, "key");
    assert!(found.what.contains("make a key of its own"), "{found}");
    let twice = format!("\"{}\"", bench.key("b"));
    let found = fault(bench.read_coserver(
        with(&bench.coserver(), "clients = [", &twice).0.replace("clients = [ =", "clients ="),
    ));
    assert_eq!(found.field, "peers.clients.0.key");
}

#[test]
fn a_client_is_named_by_its_key_or_by_a_table_with_more() {
    let bench = Bench::new();
    let keys: Vec<_> = (0..3).map(|_| SecretKey::generate().unwrap().public()).collect();
    let clients = format!(
        r#"[
    "{}",
    {{ key = "{}", name = "billing", connections = 3 }},
    {{ key = "{}", name = "web-1.eu_x", rights = "read" }},
]"#,
        keys[0], keys[1], keys[2]
    );
    let text = bench.coserver().replace(&format!("[\"{}\"]", bench.key("client")), &clients);
    let roster = bench.read_coserver(text).unwrap().credentials.roster();
    assert_eq!(roster.clients().len(), 3);
    let terms = keys.iter().map(|key| roster.client(key).unwrap());
    let connections: Vec<_> = terms.map(|terms| terms.connections).collect();
    assert_eq!(connections, [None, Some(3), None]);
    let rights: Vec<_> = keys.iter().map(|key| roster.client(key).unwrap().rights).collect();
    assert_eq!(rights, [Rights::All, Rights::All, Rights::Read]);
    let names: Vec<_> = keys.iter().map(|key| roster.client_name(key)).collect();
    assert_eq!(names, [None, Some("billing"), Some("web-1.eu_x")]);
    // As for every party, one key need not stand in brackets.
    let text = with(&bench.coserver(), "clients = [", &format!("\"{}\"", keys[0])).0;
    let roster = bench.read_coserver(text.replace("clients = [ =", "clients =")).unwrap();
    assert_eq!(roster.credentials.roster().clients().len(), 1);
}

#[test]
fn what_is_wrong_with_a_client_is_said_at_its_entry() {
    let bench = Bench::new();
    let (one, two) = ("ed25519:", SecretKey::generate().unwrap().public());
    let known = bench.key("client").to_owned();
    let named = |name: &str| format!("{{ key = \"{two}\", name = {name} }}");
    let bounded = |most: &str| format!("{{ key = \"{two}\", connections = {most} }}");
    let long = format!("\"{}\"", "x".repeat(65));
    for (entry, field, remedy) in [
        (format!("\"{one}12\""), "1.key", "64 hexadecimal digits"),
        ("12".into(), "1.key", "is an integer instead of a string"),
        ("{ name = \"x\" }".into(), "1.key", "add `key = ...`"),
        (format!("\"{known}\""), "1.key", "named twice"),
        (named("\"first\""), "1.name", "a name of its own"),
        (named("\"\""), "1.name", "1 to 64"),
        (named(&long), "1.name", "65 bytes"),
        (named("\"a b\""), "1.name", "not ' '"),
        (named("\"bü\""), "1.name", "letters"),
        (named("7"), "1.name", "a string"),
        (named("\"x\", rights = \"write\""), "1.rights", "\"all\" or \"read\""),
        (bounded("0"), "1.connections", "remove its entry"),
        (bounded("4097"), "1.connections", "between 1 and 4096"),
        (bounded("\"3\""), "1.connections", "an integer"),
        (named("\"x\", nmae = \"y\""), "1.nmae", "known here: connections, key, name, rights"),
    ] {
        let clients = format!("[{{ key = \"{known}\", name = \"first\" }}, {entry}]");
        let text = bench.coserver().replace(&format!("[\"{known}\"]"), &clients);
        let found = fault(bench.read_coserver(text));
        assert_eq!(found.field, format!("peers.clients.{field}"), "{entry}: {found}");
        assert!(found.to_string().contains(remedy), "{entry}: {found}");
        assert!(matches!(found.position, Position::Line { line: 20.., .. }), "{found}");
    }
}

#[test]
fn absurd_values_of_witness_and_client_are_refused() {
    let bench = Bench::new();
    for (field, value) in [
        ("listen", "\"127.0.0.1:0\""),
        ("directory", "[]"),
        ("grace", "\"2h\""),
        ("key", "\"a.key\""),
        ("id", "\"\""),
        ("a", "\"\""),
        ("b", "[\"\"]"),
        ("b", "[]"),
    ] {
        let (text, line) = with(&bench.witness(), field, value);
        let fault = fault(bench.read_witness(text));
        assert!(fault.field.ends_with(field), "{fault}");
        assert!(matches!(fault.position, Position::Line { line: found, .. } if found == line));
    }
    let twice = bench.witness() + &bench.witness()[bench.witness().find("[[").unwrap()..];
    assert!(fault(bench.read_witness(twice)).what.contains("there already"));
    let none = bench.witness()[..bench.witness().find("[[").unwrap()].to_owned();
    assert_eq!(fault(bench.read_witness(none)).field, "pairs");
    for (field, value) in [("pair", "0"), ("key", "\"a.key\""), ("address", "\"host:0\"")] {
        let (text, _) = with(&bench.client(), field, value);
        let shown = fault(bench.read_client(text)).to_string();
        assert!(shown.contains(field), "{shown}");
    }
}

#[test]
fn what_nobody_knows_is_refused_with_what_is_known() {
    let bench = Bench::new();
    for (header, path) in [
        ("[timing]", "timing.silense"),
        ("[limits]", "limits.silense"),
        ("[peers]", "peers.silense"),
    ] {
        let text = bench.coserver().replace(header, &format!("{header}\nsilense = 1"));
        let fault = fault(bench.read_coserver(text));
        assert_eq!((&*fault.field, &*fault.what), (path, "there is no such field"));
    }
    let fault = fault(bench.read_coserver("silense = 1\n".to_owned() + &bench.coserver()));
    assert_eq!(fault.position, Position::Line { line: 1, column: 1 });
    assert!(fault.remedy.contains("divergence"), "{fault}");
}

#[test]
fn tables_of_the_wrong_kind_are_refused() {
    let bench = Bench::new();
    let start = "links = 3\npeers = 4\n";
    let text = start.to_owned() + &bench.coserver()[..bench.coserver().find("[[").unwrap()];
    assert_eq!(fault(bench.read_coserver(text)).what, "is an integer instead of a table");
    let none = format!(
        "{}{}",
        &bench.coserver()[..bench.coserver().find("[[").unwrap()],
        &bench.coserver()[bench.coserver().find("[peers]").unwrap()..]
    );
    let fault = fault(bench.read_coserver(none));
    assert_eq!(fault.field, "links");
    assert!(fault.remedy.contains("one to 8"), "{fault}");
}

#[test]
fn what_is_no_toml_or_no_file_is_refused() {
    let bench = Bench::new();
    let fault = fault(bench.read_coserver("place = \"a\"\npair = \n".into()));
    assert!(matches!(fault.position, Position::Line { line: 2, .. }), "{fault}");
    let missing = bench.directory.path().join("none.toml");
    let error = CoServerConfig::read(&missing, &Overrides::new()).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    let binary = bench.directory.path().join("binary.toml");
    // What another encoding makes of the umlaut, in the second line.
    std::fs::write(&binary, b"place = \"a\"\n# f\xfcr b\n").unwrap();
    let found = self::fault(CoServerConfig::read(&binary, &Overrides::new()));
    assert_eq!(found.position, Position::Line { line: 2, column: 4 });
    let said = found.to_string();
    assert!(said.contains("0xfc") && said.contains("binary.toml:2:4"), "{said}");
    assert!(said.contains("save it as UTF-8"), "{said}");
    let directory = bench.directory.path();
    assert!(CoServerConfig::read(directory, &Overrides::new()).is_err());
}

#[test]
fn a_witness_is_a_process_or_a_store() {
    let bench = Bench::new();
    let with = |table: &str| {
        let text = bench.coserver().replace("witness = \"127.0.0.1:7000\"\n", "");
        let (before, after) = text.split_once("[peers]").unwrap();
        let mut text = format!("{before}[witness]\n{table}\n[peers]{after}");
        if table.contains("object") {
            // A store has no key.
            text = text.replace(&format!("witness = \"{}\"\n", bench.key("witness")), "");
        }
        Document::parse(&bench.file(), text, &Overrides::new()).and_then(CoServerConfig::check)
    };
    let process = with("kind = \"quic\"\naddress = \"127.0.0.1:7000\"").unwrap();
    assert_eq!(process.settings.witness, at("127.0.0.1:7000").into());
    let store = with("kind = \"object\"\nurl = \"file:///srv/pairs\"").unwrap();
    let url = "file:///srv/pairs".to_owned();
    assert_eq!(store.settings.witness, crate::runtime::coserver::WitnessAddress::Objects(url));
    for (table, field) in [
        ("kind = \"paper\"", "witness.kind"),
        ("url = \"file:///x\"", "witness.kind"),
        ("kind = \"object\"", "witness.url"),
        ("kind = \"object\"\nurl = \"/plain\"", "witness.url"),
        ("kind = \"object\"\nurl = \"s3://b/p\"\naddress = \"127.0.0.1:1\"", "witness.address"),
        ("kind = \"quic\"\naddress = \"127.0.0.1:0\"", "witness.address"),
    ] {
        assert_eq!(fault(with(table)).field, field, "{table}");
    }
}

#[test]
fn flags_take_the_place_of_fields() {
    let bench = Bench::new();
    let mut overrides = Overrides::new();
    overrides.set("witness", "--witness", "127.0.0.1:7099");
    overrides.set("directory", "--directory", "/elsewhere");
    overrides.set_item(("links", 1, "local"), "--link", "127.0.0.3:7002");
    let read = |overrides: &Overrides| {
        Document::parse(&bench.file(), bench.coserver(), overrides).and_then(CoServerConfig::check)
    };
    let config = read(&overrides).unwrap();
    assert_eq!(config.settings.witness, at("127.0.0.1:7099").into());
    assert_eq!(config.settings.links[1].local, at("127.0.0.3:7002"));
    assert_eq!(config.directory, Path::new("/elsewhere"));

    overrides.set("witness", "--witness", "nowhere");
    let found = fault(read(&overrides));
    assert_eq!(found.position, Position::Flag("--witness".into()));
    let mut beyond = Overrides::new();
    beyond.set_item(("links", 2, "local"), "--link", "127.0.0.3:7002");
    assert_eq!(fault(read(&beyond)).position, Position::Flag("--link".into()));
}

#[test]
fn a_service_may_use_serde_for_its_section() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Own {
        port: u16,
    }
    let bench = Bench::new();
    let service = |text: String| bench.read_coserver(text).unwrap().service;
    assert_eq!(service(bench.coserver()).deserialize::<Own>().unwrap().port, 25);
    let (text, line) = with(&bench.coserver(), "port", "70000");
    let found = fault(service(text).deserialize::<Own>());
    assert!(
        matches!(found.position, Position::Line { line: found, .. } if found == line),
        "{found}"
    );
    assert_eq!(found.field, "service");
    let found = fault(service(without(&bench.coserver(), "port")).deserialize::<Own>());
    assert!(found.what.contains("missing field"), "{found}");
}

#[test]
fn durations_are_whole_numbers_with_a_unit() {
    for (text, micros) in
        [("0s", 0), ("250us", 250), ("100ms", 100_000), ("2 s", 2_000_000), ("1min", 60_000_000)]
    {
        assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
    }
    assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
    for text in ["", "s", "-1s", "1.5s", " 1s"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    assert_eq!(parse_duration("1.5s"), Err(NotADuration::Fraction));
    assert!(NotADuration::Fraction.to_string().contains("1500ms"));
    assert_eq!(parse_duration("1"), Err(NotADuration::Unit));
    assert_eq!(parse_duration("1S"), Err(NotADuration::Unit));
    assert_eq!(parse_duration("99999999999999999999s"), Err(NotADuration::TooLong));
    assert_eq!(parse_duration("18446744073709551615h"), Err(NotADuration::TooLong));
    for micros in [0, 7, 1_000, 90_000, 1_000_000, 61_000_000, 7_200_000_000] {
        let span = Duration::from_micros(micros);
        assert_eq!(parse_duration(&duration_text(span)), Ok(span));
    }
}

#[test]
fn the_witness_knows_whose_key_is_whose() {
    let bench = Bench::new();
    let config = bench.read_witness(bench.witness()).unwrap();
    let holders = config.holders();
    let key = bench.key("b").parse().unwrap();
    assert_eq!(holders.get(&key), Some(&(config.pairs[0].id, ReplicaId::B)));
    assert_eq!(holders.len(), 2);
}
