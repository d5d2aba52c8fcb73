use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber, span};

use super::*;
use crate::digest::Digest;
use crate::event::{FallBack, StopCause, Suspicion, Wait};
use crate::ids::{DeviceId, Epoch, Lineage, LinkId, LogTime, Nonce, OwnerId, PairId};
use crate::loss::SessionPool;
use crate::outline::{Differs, FoundOutput, Target};
use crate::record::{Members, Origin};
use crate::wire::frames::{CheckpointFile, Death, Environment, Hello, Versions, WitnessRefusal};

const OTHER: Incarnation = Incarnation(0x1234);

fn record() -> Record {
    Record {
        pair: PairId([1; 16]),
        lineage: Lineage(2),
        epoch: Epoch(3),
        members: Members::alone(ReplicaId::A, OTHER),
        asker: ReplicaId::A,
        nonce: Nonce(4),
        origin: Origin::Alone,
    }
}

/// One of each, and of those whose level depends on what they hold, one for each level.
fn samples() -> Vec<Event> {
    let (record, index, digest) = (record(), Index(7), Digest([8; 16]));
    let (span, why) = (core::time::Duration::from_secs(9), String::from("a reason"));
    let environment = Environment {
        service: "tested".into(),
        service_version: 1,
        configuration: digest,
        protocol: Versions::SPOKEN,
    };
    let hello = Hello {
        pair: record.pair,
        place: ReplicaId::B,
        incarnation: OTHER,
        environment,
        record: None,
        heard: false,
        claim: None,
        enrolled: None,
        wall: LogTime(1),
    };
    let output = FoundOutput {
        number: 1,
        target: Target::Device(DeviceId(3)),
        byte: Some(4),
        ours: Some((9, digest)),
        theirs: Some((8, digest)),
    };
    let found = Found { what: Differs::Bytes, counts: [2, 3], output: Some(output) };
    vec![
        Event::LinkUp { link: LinkId(1) },
        Event::PoolFull { pool: SessionPool::Sessions, owner: OwnerId(5), ended: 1, refused: 2 },
        Event::LinkDown { link: LinkId(1), closed: true, missed: true },
        Event::Met { incarnation: OTHER },
        Event::Incompatible { theirs: Box::new(hello), why: why.clone() },
        Event::Epoch { record, sequencer: ReplicaId::A, after: index },
        Event::HandedOver { to: ReplicaId::B, index },
        Event::Suspected { suspicion: Suspicion::Slow },
        Event::Cleared { suspicion: Suspicion::Slow },
        Event::Asked { next: record },
        Event::PeerAsked { next: record },
        Event::WitnessRefused { reason: WitnessRefusal::Starting },
        Event::WitnessRefused { reason: WitnessRefusal::Behind },
        Event::Witness { up: true },
        Event::Witness { up: false },
        Event::Holding { released: index },
        Event::Resumed { held: span },
        Event::Diverged { index, ours: digest, theirs: digest },
        Event::Difference { index, found: Box::new(found) },
        Event::EntriesDiffer { index, ours: digest, theirs: digest },
        Event::Panicked { index, message: why.clone() },
        Event::Corrupted { index },
        Event::TakenUp { index, gap: span },
        Event::Gap { index, gap: span },
        Event::DevicesLate { waited: span },
        Event::ClocksDiffer { ours: LogTime(2), theirs: LogTime(1), apart: span, most: span },
        Event::ClockLeaps { wall: LogTime(2), log: LogTime(1), step: span, most: span },
        Event::ClockStrays { wall: LogTime(1), log: LogTime(2) },
        Event::Stalled { span },
        Event::WindowFull { ordered: index, agreed: index },
        Event::WindowOpen,
        Event::Ignored { why: Ignored::BeyondWindow { index } },
        Event::Recovered { released: index, held: index },
        Event::Unrecovered { why: why.clone() },
        Event::Contradicts { why: why.clone() },
        Event::Waiting { record, in_vain: false, wait: Wait::Member },
        Event::Waiting { record, in_vain: true, wait: Wait::LastMember(ReplicaId::B) },
        Event::WaitsFor { wait: Wait::Restore, span },
        Event::WaitsFor { wait: Wait::Witness, span },
        Event::Joining { host: OTHER },
        Event::Offered {
            from: index,
            checkpoint: Some(CheckpointFile { index, len: 5, hash: digest }),
            held: index,
        },
        Event::Hosting { joiner: OTHER },
        Event::Attached { joiner: OTHER, at: index },
        Event::FellBack { joiner: OTHER, why: FallBack::Slow },
        Event::Postponed { joiner: OTHER, divergences: 2, wait: span },
        Event::HeldForRepair { divergences: 4, joiner: Some(OTHER) },
        Event::Readmitted { divergences: 4 },
        Event::Admitting { joiner: OTHER, from: index },
        Event::Duplex { joiner: OTHER, from: index, sent: 6, took: span },
        Event::Admitted { record, from: index },
        Event::Moving { slot: 1, record },
        Event::Enrolled { slot: 1, record },
        Event::Leaving,
        Event::Farewell { why: why.clone() },
        Event::PeerDied { incarnation: OTHER, how: Death::Killed { signal: 9 } },
        Event::Checkpoint { index, len: 5, hash: digest },
        Event::NoCheckpoint { index, why },
        Event::StatesDiffer { index, ours: digest, theirs: digest },
        Event::Stopped { cause: StopCause::Asked },
        Event::Stopped { cause: StopCause::Corrupted },
    ]
}

/// What one event logged.
#[derive(Clone, Debug)]
struct Said {
    name: String,
    level: String,
    fields: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
#[expect(clippy::disallowed_types, reason = "a subscriber is shared")]
struct Listener(Arc<std::sync::Mutex<Vec<Said>>>);

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        // One that is absent in this event is a field all the same.
        for field in event.metadata().fields() {
            fields.0.insert(field.name().into(), String::new());
        }
        event.record(&mut fields);
        let name = fields.0.remove("event").unwrap_or_default().trim_matches('"').to_owned();
        let level = event.metadata().level().to_string();
        let said = Said { name, level, fields: fields.0 };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn core::fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }
}

fn said() -> Vec<Said> {
    let listener = Listener::default();
    tracing::subscriber::with_default(listener.clone(), || {
        samples().iter().for_each(|event| log(event, None))
    });
    let said = listener.0.lock().unwrap_or_else(PoisonError::into_inner);
    said.clone()
}

#[test]
fn no_event_carries_the_debug_text_of_a_type() {
    for Said { name, fields, .. } in said() {
        for (field, value) in fields {
            let is_debug =
                value.contains('{') || value.contains("Some(") || value.contains("Index");
            assert!(!is_debug && !value.contains("Incarnation("), "{name}: {field}={value}");
        }
    }
}

#[test]
fn an_incarnation_looks_the_same_everywhere() {
    let met = said().into_iter().find(|said| said.name == "met").unwrap();
    assert_eq!(met.fields["incarnation"], "0000000000001234");
    assert_eq!(OTHER.to_string(), "0000000000001234");
}

/// The tables of events, by their first header cell.
const TABLES: [&str; 4] =
    ["event of a CoServer", "event of a guardian", "event of a witness", "event of a client"];

/// A row of a table of events: levels, fields.
type Rows = BTreeMap<String, (String, BTreeSet<String>)>;

fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn own_file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The table of events whose first header cell is this.
fn documented(header: &str) -> Rows {
    let text = own_file("../docs/operations.md");
    let table = text.lines().skip_while(|line| !line.starts_with(&format!("| {header} |")));
    let mut rows = Rows::new();
    for line in table.skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let mut fields: BTreeSet<String> = quoted(cells[2]).collect();
        if cells[2].contains("record") {
            let of_record = ["lineage", "epoch", "origin", "a", "b", "asker"];
            fields.extend(of_record.map(str::to_owned));
        }
        for name in quoted(cells[0]) {
            let row = (cells[1].to_owned(), fields.clone());
            assert!(rows.insert(name.clone(), row).is_none(), "{name} is there twice");
        }
    }
    assert!(!rows.is_empty(), "there is no table of {header}");
    rows
}

#[test]
fn the_table_of_events_has_their_levels_and_fields() {
    let rows = documented("event of a CoServer");
    for Said { name, level, fields } in said() {
        let Some((levels, documented)) = rows.get(&name) else { panic!("{name} is not in it") };
        assert!(levels.contains(&level), "{name}: {level} is not among {levels}");
        let fields: BTreeSet<String> = fields.into_keys().collect();
        assert_eq!(&fields, documented, "{name}");
    }
}

/// Also those that no core has, by the source's own text, and the TCP device's.
#[test]
fn the_tables_have_every_event_that_there_is_and_no_other() {
    let mut known: BTreeSet<String> = said().into_iter().map(|said| said.name).collect();
    assert_eq!(known, names_in_the_core(), "each has a sample");
    for sources in ["src", "../io-redirect/src"] {
        collect(Path::new(env!("CARGO_MANIFEST_DIR")).join(sources).as_path(), &mut known);
    }
    let documented: BTreeSet<String> =
        TABLES.into_iter().flat_map(|header| documented(header).into_keys()).collect();
    assert_eq!(known, documented);
}

/// The lines that are no core's, by the source's own text. Each says which event it is, and has no
/// field that its row in the tables has not, nor a type's debug text.
#[test]
fn what_is_worth_a_warning_is_an_event_with_the_fields_of_its_row() {
    let rows: Vec<Rows> = TABLES.into_iter().map(documented).collect();
    let mut sources = Vec::new();
    for folder in ["src", "../io-redirect/src"] {
        texts(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).as_path(), &mut sources);
    }
    let mut seen = 0;
    for (path, text) in &sources {
        // A macro's own text has names of parameters in the place of fields.
        for (level, body) in logged(text).filter(|(_, body)| !body.contains('$')) {
            seen += 1;
            let parts = fields(body);
            let Some(("event", name)) = parts.first().copied() else {
                panic!("{path}: no event: {body}");
            };
            assert!(parts.iter().all(|(_, value)| !value.starts_with('?')), "{path}: {body}");
            let fits = |rows: &Rows| {
                rows.get(name.trim_matches('"')).is_some_and(|(levels, documented)| {
                    let known = |field: &str| levels == "as above" || documented.contains(field);
                    (levels == "as above" || levels.contains(level))
                        && parts.iter().skip(1).all(|(field, _)| known(field))
                })
            };
            assert!(rows.iter().any(fits), "{path}: no such row: {level} {body}");
        }
    }
    assert!(seen > 40, "{seen}: the sources are elsewhere");
}

/// What stands in the brackets of each call that logs, with its level.
fn logged(text: &str) -> impl Iterator<Item = (&'static str, &str)> {
    let levels = [("tracing::error!(", "ERROR"), ("tracing::warn!(", "WARN")];
    levels.into_iter().flat_map(move |(begin, level)| {
        text.match_indices(begin).map(move |(at, _)| {
            let body = &text[at + begin.len()..];
            let end = parts_of(body, ')').next().map_or(body.len(), str::len);
            (level, &body[..end])
        })
    })
}

/// The fields of such a call, with what they are set to.
fn fields(body: &str) -> Vec<(&str, &str)> {
    // The message comes after them.
    let parts = parts_of(body, ',').map(str::trim).take_while(|part| !part.starts_with('"'));
    let fields = parts.filter(|part| !part.is_empty());
    fields
        .map(|part| match part.split_once(" = ") {
            Some((name, value)) => (name, value),
            None => (part.trim_start_matches(['%', '?']), part),
        })
        .collect()
}

/// What lies between these characters, where they are in no string and no brackets.
fn parts_of(text: &str, between: char) -> impl Iterator<Item = &str> {
    let (mut depth, mut quoted, mut escaped, mut ended) = (0_i32, false, false, false);
    text.split(move |letter: char| {
        let inside = quoted;
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !inside => depth += 1,
            ')' | ']' | '}' if !inside && (depth > 0 || between != letter) => depth -= 1,
            _ if letter == between && !inside && depth == 0 && !ended => {
                ended = between == ')';
                return true;
            }
            _ => {}
        }
        false
    })
}

fn texts(folder: &Path, found: &mut Vec<(String, String)>) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            texts(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let own = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            found.push((name, own.to_owned()));
        }
    }
}

/// What `Event::name` may say.
fn names_in_the_core() -> BTreeSet<String> {
    let text = own_file("src/event.rs");
    let (_, name) = text.split_once("pub fn name(&self) -> &'static str {").unwrap();
    let (arms, _) = name.split_once("\n    }\n").unwrap();
    arms.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn collect(folder: &Path, known: &mut BTreeSet<String>) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            collect(&path, known);
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && !path.ends_with("events_tests.rs")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            for (at, begin) in text.match_indices("event = \"") {
                let name = &text[at + begin.len()..];
                known.insert(name.split('"').next().unwrap_or_default().to_owned());
            }
        }
    }
}
