//! The committed inputs of the target `frames`: one frame of every kind, as this version writes it.
//!
//! A fuzzer that begins with frames of another version sees little more than the header's check.
//! After a change of the format write them anew:
//! `cargo test -p fuzz-bodies --test frames -- --ignored`.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::entry::{Entry, EntryKind, InputKind, Origin as InputOrigin};
use lockstep::ids::{
    DeviceId, Epoch, Incarnation, Index, Lineage, LogTime, Nonce, OriginNumber, OwnerId, PairId,
    ReplicaId, RequestNumber, SessionId,
};
use lockstep::outline::{Outline, OutputOutline, Target};
use lockstep::output::Refusal;
use lockstep::record::{Members, Origin, Record, Request};
use lockstep::wire::codec;
use lockstep::wire::frames::{
    CheckpointFile, Claim, ClientAnswer, ClientCall, ClientRefusal, Environment, Fetch, Forward,
    Hello, LogPosition, PeerFrame, Progress, Versions, WitnessAnswer, WitnessCall, WitnessRefusal,
};
use lockstep::wire::header::HEADER_BYTES;

const PAIR: PairId = PairId([3; 16]);
const TOKEN: Nonce = Nonce(42);
const SESSION: SessionId = SessionId(7);

fn record() -> Record {
    Record {
        pair: PAIR,
        lineage: Lineage(1),
        epoch: Epoch(2),
        members: Members::alone(ReplicaId::A, Incarnation(9)),
        asker: ReplicaId::A,
        nonce: Nonce(5),
        origin: Origin::Alone,
    }
}

fn entries() -> Vec<Entry> {
    let bytes = Bytes::from_static(b"some bytes");
    let number = RequestNumber(1);
    let kinds = [
        EntryKind::Genesis { seed: [1; 32] },
        EntryKind::Membership { record: record() },
        EntryKind::HandOver { to: ReplicaId::B },
        EntryKind::Tick,
        InputKind::Device { device: DeviceId(1), bytes: bytes.clone() }.into(),
        InputKind::SessionOpen { token: TOKEN }.into(),
        InputKind::SessionOpenFor { owner: OwnerId(7), token: TOKEN }.into(),
        InputKind::SessionRequest {
            session: SESSION,
            token: TOKEN,
            number,
            lowest: number,
            body: bytes,
        }
        .into(),
        InputKind::SessionClose { session: SESSION, token: TOKEN }.into(),
        EntryKind::Checkpoint,
        EntryKind::Witness { slot: 1, record: record() },
        EntryKind::Resume { record: record() },
        EntryKind::Ready,
        InputKind::SessionRefused { session: SESSION, token: TOKEN, number, lowest: number }.into(),
        EntryKind::Gap,
    ];
    let entry = |(index, kind)| Entry {
        index: Index(index),
        epoch: Epoch(2),
        time: LogTime(index * 1000),
        origin: InputOrigin {
            place: ReplicaId::A,
            incarnation: Incarnation(9),
            number: OriginNumber(index),
        },
        kind,
    };
    (1..).zip(kinds).map(entry).collect()
}

fn peer() -> Vec<(&'static str, PeerFrame)> {
    let (lineage, epoch, last_index) = (Lineage(1), Epoch(2), Index(10));
    let log_digest = Digest([4; 16]);
    let point = LogPosition { index: Index(3), log_digest };
    let progress =
        Progress { last_index, entries: log_digest, persisted: Index(9), ..Progress::default() };
    let claim = Claim { lineage, epoch, last_index };
    let inputs = entries().into_iter().flat_map(|entry| entry.kind.inputs().to_vec());
    let forward = |(number, kind)| Forward { number: OriginNumber(number), kind };
    let forwards = (5..).zip(inputs).take(4).map(forward).collect();
    let environment = Environment {
        service: "ledger".into(),
        service_version: 3,
        configuration: log_digest,
        protocol: Versions::SPOKEN,
    };
    let hello = Hello {
        pair: PAIR,
        place: ReplicaId::B,
        incarnation: Incarnation(8),
        environment,
        record: Some(record()),
        heard: true,
        claim: Some(claim),
        enrolled: Some(log_digest),
        wall: LogTime(9),
    };
    let file = CheckpointFile { index: point.index, len: 4096, hash: log_digest };
    let request = Request { present: log_digest, next: record() };
    let reason = || "it has stopped".to_owned();
    let output = OutputOutline {
        target: Target::Device(DeviceId(1)),
        digest: log_digest,
        payload: log_digest,
        len: 12,
        head: Bytes::from_static(b"an output"),
    };
    let outline = Outline {
        index: Index(6),
        before: log_digest,
        count: 2,
        outputs: vec![output],
        wakeup: Some(LogTime(7_000)),
        panicked: false,
    };
    vec![
        ("hello", PeerFrame::Hello(hello)),
        ("refuse", PeerFrame::Refuse { reason: reason() }),
        ("ping", PeerFrame::Ping { sequence: 1, lineage, epoch, progress }),
        ("pong", PeerFrame::Pong { sequence: 1 }),
        ("batch", PeerFrame::Batch { lineage, epoch, progress, entries: entries(), forwards }),
        ("epoch", PeerFrame::Epoch { record: record() }),
        ("asked", PeerFrame::Asked { request }),
        (
            "digests",
            PeerFrame::Digests { lineage, epoch, from: Index(1), outputs: vec![log_digest; 4] },
        ),
        ("farewell", PeerFrame::Leave { epoch, reason: reason() }),
        ("outline", PeerFrame::Outline(outline)),
        ("join", PeerFrame::Join { points: vec![point; 3], unusable_up_to: Some(Index(2)) }),
        (
            "offer",
            PeerFrame::Offer { record: record(), from: point, checkpoint: Some(file), last_index },
        ),
        ("fetch-entries", PeerFrame::Fetch(Fetch::Entries { from: Index(4) })),
        ("fetch-chunk", PeerFrame::Fetch(Fetch::Chunk { checkpoint: Index(6), offset: 512 })),
        ("entries", PeerFrame::Entries { after: Index(0), entries: entries(), last_index }),
        (
            "chunk",
            PeerFrame::Chunk {
                checkpoint: Index(6),
                offset: 512,
                bytes: Bytes::from_static(b"a piece of it"),
            },
        ),
        ("gone", PeerFrame::Unavailable),
        ("admit", PeerFrame::Admit { record: record(), from: Index(11) }),
        ("admitted", PeerFrame::Admitted { epoch }),
        ("checkpoint", PeerFrame::Checkpoint { index: Index(6), hash: log_digest }),
    ]
}

fn witness_calls() -> Vec<(&'static str, WitnessCall)> {
    let hello = WitnessCall::Hello {
        pair: PAIR,
        place: ReplicaId::A,
        incarnation: Incarnation(9),
        protocol: Versions::SPOKEN,
    };
    let request = Request { present: Digest([4; 16]), next: record() };
    vec![
        ("hello", hello),
        ("query", WitnessCall::Query { known: Some(record()) }),
        ("ask", WitnessCall::CompareAndSwap { request }),
        ("enrol", WitnessCall::Enrol { record: record() }),
    ]
}

fn witness_answers() -> Vec<(&'static str, WitnessAnswer)> {
    vec![
        ("present", WitnessAnswer::Present { record: record() }),
        ("refused", WitnessAnswer::Refused { reason: WitnessRefusal::Behind }),
    ]
}

fn client_calls() -> Vec<(&'static str, ClientCall)> {
    let request = ClientCall::Request {
        session: SESSION,
        token: TOKEN,
        number: RequestNumber(2),
        lowest: RequestNumber(1),
        alone: false,
        body: Bytes::from_static(b"some bytes"),
    };
    vec![
        ("hello", ClientCall::Hello { pair: PAIR, protocol: Versions::SPOKEN }),
        ("open", ClientCall::Open { token: TOKEN, alone: true }),
        ("request", request),
        ("close", ClientCall::Close { session: SESSION, token: TOKEN }),
        ("probe", ClientCall::Probe),
    ]
}

/// Each in a frame of its own, and all in one.
fn packed<T: Clone>(each: Vec<(&'static str, T)>) -> Vec<(&'static str, Vec<T>)> {
    let all = each.iter().map(|(_, one)| one.clone()).collect();
    each.into_iter().map(|(name, one)| (name, vec![one])).chain([("all", all)]).collect()
}

fn client_answers() -> Vec<(&'static str, ClientAnswer)> {
    let number = RequestNumber(2);
    let reply = |result| ClientAnswer::Reply { session: SESSION, number, result };
    vec![
        (
            "welcome",
            ClientAnswer::Welcome {
                place: ReplicaId::A,
                incarnation: Incarnation(3),
                epoch: Epoch(2),
            },
        ),
        (
            "not-yet",
            ClientAnswer::NotYet { incarnation: Incarnation(3), reason: ClientRefusal::Starting },
        ),
        ("peer-back", ClientAnswer::PeerBack { place: ReplicaId::B, incarnation: Incarnation(4) }),
        ("opened", ClientAnswer::Opened { token: TOKEN, result: Ok(SESSION) }),
        ("not-opened", ClientAnswer::Opened { token: TOKEN, result: Err(Refusal::Forgotten) }),
        ("reply", reply(Ok(Bytes::from_static(b"an answer")))),
        ("no-reply", reply(Err(Refusal::Gap { expected: RequestNumber(1) }))),
        ("refused", ClientAnswer::Refused { reason: ClientRefusal::Busy }),
    ]
}

/// Each frame as it is, and its body alone, behind the byte that says which of the two it is.
fn inputs() -> Vec<(String, Vec<u8>)> {
    fn encoded<F, E: core::fmt::Debug>(
        who: &str,
        frames: Vec<(&'static str, F)>,
        encode: fn(&F) -> Result<Bytes, E>,
    ) -> Vec<(String, Vec<u8>)> {
        let both = |(name, frame): (&str, F)| {
            let bytes = encode(&frame).unwrap();
            let input = |how, bytes: &[u8]| [&[how], bytes].concat();
            [
                (format!("{who}-{name}"), input(0, &bytes)),
                (format!("{who}-{name}-body"), input(1, &bytes[HEADER_BYTES..])),
            ]
        };
        frames.into_iter().flat_map(both).collect()
    }
    [
        encoded("peer", peer(), codec::encode_peer),
        encoded("witness-call", witness_calls(), codec::encode_witness_call),
        encoded("witness-answer", witness_answers(), codec::encode_witness_answer),
        encoded("client-call", packed(client_calls()), codec::encode_client_calls),
        encoded("client-answer", packed(client_answers()), codec::encode_client_answers),
    ]
    .concat()
}

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/frames")
}

#[test]
fn every_frame_is_among_the_inputs_as_this_version_writes_it() {
    for (name, bytes) in inputs() {
        let kept = fs::read(place().join(&name)).unwrap_or_default();
        assert!(kept == bytes, "{name} is missing or of another version: write them anew");
    }
}

#[test]
#[ignore = "writes the inputs, after a change of the format"]
fn write_them() {
    for (name, bytes) in inputs() {
        fs::write(place().join(&name), bytes).unwrap();
    }
}
