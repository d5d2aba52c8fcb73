//! One frame of every shape, for the golden bytes, and any frame within the limits.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, InputKind, Origin};
use crate::ids::{
    DeviceId, Epoch, Incarnation, Index, Lineage, LogTime, Nonce, OriginNumber, OwnerId, PairId,
    ReplicaId, RequestNumber, SessionId,
};
use crate::limits;
use crate::outline::{Outline, OutputOutline, Target};
use crate::output::Refusal;
use crate::record::{self, Members, Record, Request};
use crate::wire::frames::*;

pub(super) const PAIR: PairId = PairId(*b"0123456789abcdef");
const A: Incarnation = Incarnation(0xa1);
const B: Incarnation = Incarnation(0xb2);

pub(super) fn formed() -> Record {
    Record {
        pair: PAIR,
        lineage: Lineage(3),
        epoch: Epoch(1),
        members: Members::both(A, B),
        asker: ReplicaId::A,
        nonce: Nonce(77),
        origin: record::Origin::Formed,
    }
}

fn renewed() -> Record {
    let before = formed();
    let origin = record::Origin::Renewal(before.digest());
    Record { epoch: Epoch(2), asker: ReplicaId::B, origin, ..before }
}

fn alone() -> Record {
    let members = Members::alone(ReplicaId::B, B);
    Record {
        epoch: Epoch(2),
        members,
        asker: ReplicaId::B,
        origin: record::Origin::Alone,
        ..formed()
    }
}

fn progress() -> Progress {
    Progress {
        last_index: Index(9),
        entries: Digest([7; 16]),
        persisted: Index(8),
        executed: Index(6),
        outputs: Digest([5; 16]),
        halted: true,
        ordered: OriginNumber(4),
    }
}

fn kinds() -> Vec<EntryKind> {
    let (session, token) = (SessionId(2), Nonce(99));
    vec![
        EntryKind::Genesis { seed: [6; 32] },
        EntryKind::Membership { record: formed() },
        EntryKind::HandOver { to: ReplicaId::B },
        EntryKind::Tick,
        InputKind::Device { device: DeviceId(1), bytes: Bytes::from_static(b"packet") }.into(),
        InputKind::SessionOpen { token }.into(),
        InputKind::SessionOpenFor { owner: OwnerId(7), token }.into(),
        InputKind::SessionRequest {
            session,
            token,
            number: RequestNumber(5),
            lowest: RequestNumber(4),
            body: Bytes::from_static(b"request"),
        }
        .into(),
        InputKind::SessionClose { session, token }.into(),
        EntryKind::Checkpoint,
        EntryKind::Witness { slot: 1, record: renewed() },
        EntryKind::Resume { record: renewed() },
        EntryKind::Ready,
        InputKind::SessionRefused {
            session,
            token,
            number: RequestNumber(6),
            lowest: RequestNumber(4),
        }
        .into(),
        EntryKind::Gap,
        EntryKind::Inputs(
            vec![
                InputKind::SessionOpenFor { owner: OwnerId(7), token },
                InputKind::Device { device: DeviceId(1), bytes: Bytes::from_static(b"packet") },
            ]
            .into(),
        ),
    ]
}

fn inputs() -> impl Iterator<Item = InputKind> {
    kinds().into_iter().flat_map(|kind| kind.inputs().to_vec())
}

fn versions() -> Versions {
    Versions { oldest: 1, newest: 2 }
}

pub(super) fn peer() -> Vec<(&'static str, PeerFrame)> {
    let (lineage, epoch) = (Lineage(3), Epoch(1));
    let origin = Origin { place: ReplicaId::B, incarnation: B, number: OriginNumber(12) };
    let entries = (1..).zip(kinds()).map(|(at, kind)| Entry {
        index: Index(at),
        epoch,
        time: LogTime(1_000 + at),
        origin,
        kind,
    });
    let forwards = (1..).map(OriginNumber).zip(inputs());
    let hello = Hello {
        pair: PAIR,
        place: ReplicaId::A,
        incarnation: A,
        environment: Environment {
            service: "register".into(),
            service_version: 4,
            configuration: Digest([1; 16]),
            protocol: versions(),
        },
        record: Some(renewed()),
        heard: true,
        claim: Some(Claim { lineage: Lineage(3), epoch: Epoch(1), last_index: Index(77) }),
        enrolled: Some(Digest([6; 16])),
        wall: LogTime(9),
    };
    vec![
        ("peer hello", PeerFrame::Hello(hello)),
        ("peer refuse", PeerFrame::Refuse { reason: "another service".into() }),
        ("peer ping", PeerFrame::Ping { sequence: 1, lineage, epoch, progress: progress() }),
        ("peer pong", PeerFrame::Pong { sequence: 1 }),
        (
            "peer batch",
            PeerFrame::Batch {
                lineage,
                epoch,
                progress: progress(),
                entries: entries.collect(),
                forwards: forwards.map(|(number, kind)| Forward { number, kind }).collect(),
            },
        ),
        ("peer epoch", PeerFrame::Epoch { record: alone() }),
        (
            "peer asked",
            PeerFrame::Asked { request: Request { present: formed().digest(), next: alone() } },
        ),
        (
            "peer digests",
            PeerFrame::Digests {
                lineage,
                epoch,
                from: Index(5),
                outputs: vec![Digest([2; 16]), Digest([3; 16])],
            },
        ),
        ("peer farewell", PeerFrame::Leave { epoch, reason: "told to stop".into() }),
        ("peer outline", PeerFrame::Outline(outline())),
    ]
}

/// An outline of an entry with an output of every kind, and one that is not listed.
pub(super) fn outline() -> Outline {
    let device = Target::Device(DeviceId(3));
    let output = |(at, target)| OutputOutline {
        target,
        digest: Digest([at; 16]),
        payload: Digest([at + 64; 16]),
        len: 9,
        head: Bytes::from_static(b"first"),
    };
    let targets = [Target::Session, Target::Reply, Target::Refusal, device];
    Outline {
        index: Index(6),
        before: Digest([5; 16]),
        count: 5,
        outputs: (1..).zip(targets).map(output).collect(),
        wakeup: Some(LogTime(1_009)),
        panicked: false,
    }
}

/// What a sole member and its joiner say.
pub(super) fn joining() -> Vec<(&'static str, PeerFrame)> {
    let (index, log_digest, hash) = (Index(40), Digest([4; 16]), Digest([8; 16]));
    let (checkpoint, last_index) = (index, Index(90));
    let from = LogPosition { index, log_digest };
    let file = CheckpointFile { index, len: 1 << 20, hash };
    let origin = Origin { place: ReplicaId::B, incarnation: B, number: OriginNumber(0) };
    let (epoch, time) = (Epoch(2), LogTime(7));
    let entry = Entry { index: Index(41), epoch, time, origin, kind: EntryKind::Tick };
    let bytes = Bytes::from_static(b"a piece");
    vec![
        ("peer join", PeerFrame::Join { points: vec![from], unusable_up_to: Some(Index(4)) }),
        (
            "peer offer",
            PeerFrame::Offer { record: alone(), from, checkpoint: Some(file), last_index },
        ),
        ("peer fetch entries", PeerFrame::Fetch(Fetch::Entries { from: Index(41) })),
        ("peer fetch chunk", PeerFrame::Fetch(Fetch::Chunk { checkpoint, offset: 512 })),
        ("peer entries", PeerFrame::Entries { after: index, entries: vec![entry], last_index }),
        ("peer chunk", PeerFrame::Chunk { checkpoint, offset: 512, bytes }),
        ("peer gone", PeerFrame::Unavailable),
        ("peer admit", PeerFrame::Admit { record: renewed(), from: Index(95) }),
        ("peer admitted", PeerFrame::Admitted { epoch }),
        ("peer checkpoint", PeerFrame::Checkpoint { index, hash }),
    ]
}

pub(super) fn witness_calls() -> Vec<(&'static str, WitnessCall)> {
    let request = Request { present: formed().digest(), next: alone() };
    let protocol = versions();
    vec![
        (
            "witness hello",
            WitnessCall::Hello { pair: PAIR, place: ReplicaId::B, incarnation: B, protocol },
        ),
        ("witness query", WitnessCall::Query { known: Some(formed()) }),
        ("witness ask", WitnessCall::CompareAndSwap { request }),
        ("witness enrol", WitnessCall::Enrol { record: renewed() }),
    ]
}

pub(super) fn witness_answers() -> Vec<(&'static str, WitnessAnswer)> {
    let vacant = Record::vacant(PAIR, Lineage(3), Epoch(0));
    vec![
        ("witness vacant", WitnessAnswer::Present { record: vacant }),
        ("witness present", WitnessAnswer::Present { record: renewed() }),
        ("witness refused", WitnessAnswer::Refused { reason: WitnessRefusal::Behind }),
    ]
}

pub(super) fn death_notices() -> Vec<(&'static str, DeathNotice)> {
    let notice = |how| DeathNotice { pair: PAIR, incarnation: B, how };
    vec![
        ("notice killed", notice(Death::Killed { signal: 9 })),
        ("notice exited", notice(Death::Exited { code: 101 })),
        ("notice gone", notice(Death::Gone)),
    ]
}

pub(super) fn client_calls() -> Vec<(&'static str, ClientCall)> {
    let (session, token) = (SessionId(2), Nonce(99));
    vec![
        ("client hello", ClientCall::Hello { pair: PAIR, protocol: versions() }),
        ("client open", ClientCall::Open { token, alone: true }),
        (
            "client request",
            ClientCall::Request {
                session,
                token,
                number: RequestNumber(8),
                lowest: RequestNumber(6),
                alone: false,
                body: Bytes::from_static(b"increment"),
            },
        ),
        ("client close", ClientCall::Close { session, token }),
        ("client probe", ClientCall::Probe),
    ]
}

pub(super) fn client_answers() -> Vec<(&'static str, ClientAnswer)> {
    let (session, token, number) = (SessionId(2), Nonce(99), RequestNumber(8));
    let incarnation = Incarnation(77);
    let gap = Refusal::Gap { expected: RequestNumber(7) };
    vec![
        (
            "client welcome",
            ClientAnswer::Welcome { place: ReplicaId::B, incarnation, epoch: Epoch(2) },
        ),
        ("client not yet", ClientAnswer::NotYet { incarnation, reason: ClientRefusal::Starting }),
        ("client peer back", ClientAnswer::PeerBack { place: ReplicaId::A, incarnation }),
        ("client opened", ClientAnswer::Opened { token, result: Ok(session) }),
        (
            "client not opened",
            ClientAnswer::Opened { token, result: Err(Refusal::TooManySessions) },
        ),
        (
            "client reply",
            ClientAnswer::Reply { session, number, result: Ok(Bytes::from_static(b"9")) },
        ),
        ("client no reply", ClientAnswer::Reply { session, number, result: Err(gap) }),
        ("client refused", ClientAnswer::Refused { reason: ClientRefusal::Removed }),
    ]
}

fn any_place() -> impl Strategy<Value = ReplicaId> {
    any::<bool>().prop_map(|a| if a { ReplicaId::A } else { ReplicaId::B })
}

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 16]>().prop_map(Digest)
}

fn any_versions() -> impl Strategy<Value = Versions> {
    (any::<u16>(), any::<u16>()).prop_map(|(a, b)| Versions { oldest: a.min(b), newest: a.max(b) })
}

fn any_incarnation() -> impl Strategy<Value = Incarnation> {
    (1..=u64::MAX).prop_map(Incarnation)
}

fn any_payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![9 => vec(any::<u8>(), 0..64), 1 => vec(any::<u8>(), 0..100_000)]
        .prop_map(Bytes::from)
}

fn any_record() -> impl Strategy<Value = Record> {
    let way = prop_oneof![
        Just((record::Origin::Vacant, Members::NONE)),
        (any_incarnation(), any_incarnation())
            .prop_map(|(a, b)| (record::Origin::Formed, Members::both(a, b))),
        (any_place(), any_incarnation())
            .prop_map(|(at, it)| (record::Origin::Alone, Members::alone(at, it))),
        (any_digest(), any_incarnation(), any_incarnation())
            .prop_map(|(of, a, b)| (record::Origin::Renewal(of), Members::both(a, b))),
    ];
    (any::<[u8; 16]>(), any::<u32>(), any::<u64>(), any_place(), any::<u64>(), way).prop_map(
        |(pair, lineage, epoch, asker, nonce, (origin, members))| Record {
            pair: PairId(pair),
            lineage: Lineage(lineage),
            epoch: Epoch(epoch),
            members,
            asker,
            nonce: Nonce(nonce),
            origin,
        },
    )
}

fn any_progress() -> impl Strategy<Value = Progress> {
    (any::<[u64; 4]>(), any_digest(), any_digest(), any::<bool>()).prop_map(
        |([last_index, persisted, executed, ordered], entries, outputs, halted)| Progress {
            last_index: Index(last_index),
            entries,
            persisted: Index(persisted),
            executed: Index(executed),
            outputs,
            halted,
            ordered: OriginNumber(ordered),
        },
    )
}

fn any_input() -> impl Strategy<Value = InputKind> {
    let id = || 1..=u64::MAX;
    prop_oneof![
        (any::<u16>(), any_payload())
            .prop_map(|(device, bytes)| InputKind::Device { device: DeviceId(device), bytes }),
        id().prop_map(|token| InputKind::SessionOpen { token: Nonce(token) }),
        (any::<u64>(), id()).prop_map(|(owner, token)| InputKind::SessionOpenFor {
            owner: OwnerId(owner),
            token: Nonce(token),
        }),
        (id(), id(), id(), id(), any_payload()).prop_map(|(session, token, a, b, body)| {
            InputKind::SessionRequest {
                session: SessionId(session),
                token: Nonce(token),
                number: RequestNumber(a.max(b)),
                lowest: RequestNumber(a.min(b)),
                body,
            }
        }),
        (id(), id(), id(), id()).prop_map(|(session, token, a, b)| InputKind::SessionRefused {
            session: SessionId(session),
            token: Nonce(token),
            number: RequestNumber(a.max(b)),
            lowest: RequestNumber(a.min(b)),
        }),
        (id(), id()).prop_map(|(session, token)| InputKind::SessionClose {
            session: SessionId(session),
            token: Nonce(token),
        }),
    ]
}

fn any_kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        1 => any::<[u8; 32]>().prop_map(|seed| EntryKind::Genesis { seed }),
        1 => any_record().prop_map(|record| EntryKind::Membership { record }),
        1 => any_record().prop_map(|record| EntryKind::Resume { record }),
        1 => Just(EntryKind::Ready),
        1 => Just(EntryKind::Gap),
        1 => any_place().prop_map(|to| EntryKind::HandOver { to }),
        1 => Just(EntryKind::Tick),
        6 => vec(any_input(), 1..5).prop_map(together),
    ]
}

/// As many of them as an entry may have together.
fn together(mut inputs: Vec<InputKind>) -> EntryKind {
    let small = |inputs: &[InputKind]| {
        inputs.iter().map(InputKind::payload_len).sum::<usize>() < limits::BULK_BYTES
    };
    while inputs.len() > 1 && !small(&inputs) {
        inputs.pop();
    }
    EntryKind::Inputs(inputs.into())
}

fn any_batch() -> impl Strategy<Value = PeerFrame> {
    let entry = (any_kind(), any::<[u64; 3]>(), any_place(), any_incarnation());
    let entries = (1..1_000_u64, vec((1..3_u64, entry), 0..20)).prop_map(|(from, drawn)| {
        let mut index = Index(from);
        let mut entries = Vec::new();
        for (step, (kind, [epoch, time, number], place, incarnation)) in drawn {
            index = Index(index.0 + step);
            let origin = Origin { place, incarnation, number: OriginNumber(number) };
            let (epoch, time) = (Epoch(epoch), LogTime(time));
            entries.push(Entry { index, epoch, time, origin, kind });
        }
        entries
    });
    let forwards = vec(any_input(), 0..20).prop_map(|inputs| {
        (1..).map(OriginNumber).zip(inputs).map(|(number, kind)| Forward { number, kind }).collect()
    });
    (any::<u32>(), any::<u64>(), any_progress(), entries, forwards).prop_map(
        |(lineage, epoch, progress, entries, forwards)| PeerFrame::Batch {
            lineage: Lineage(lineage),
            epoch: Epoch(epoch),
            progress,
            entries,
            forwards,
        },
    )
}

fn any_hello() -> impl Strategy<Value = PeerFrame> {
    (
        any_place(),
        any_incarnation(),
        ".{0,40}",
        any::<u32>(),
        any_digest(),
        any_versions(),
        option::of(any_record()),
        any::<bool>(),
        option::of(any_claim()),
        any::<u64>(),
    )
        .prop_map(
            |(
                place,
                incarnation,
                service,
                version,
                configuration,
                protocol,
                record,
                heard,
                claim,
                wall,
            )| {
                let environment =
                    Environment { service, service_version: version, configuration, protocol };
                PeerFrame::Hello(Hello {
                    pair: PAIR,
                    place,
                    incarnation,
                    environment,
                    record,
                    heard,
                    claim,
                    enrolled: None,
                    wall: LogTime(wall),
                })
            },
        )
}

fn any_claim() -> impl Strategy<Value = Claim> {
    (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(lineage, epoch, last_index)| Claim {
        lineage: Lineage(lineage),
        epoch: Epoch(epoch),
        last_index: Index(last_index),
    })
}

fn any_outline() -> impl Strategy<Value = Outline> {
    let target = prop_oneof![
        Just(Target::Session),
        Just(Target::Reply),
        Just(Target::Refusal),
        any::<u16>().prop_map(|device| Target::Device(DeviceId(device))),
    ];
    let output = (target, any_digest(), any_digest(), 0..100_u64, vec(any::<u8>(), 0..40))
        .prop_map(|(target, digest, payload, more, head)| OutputOutline {
            target,
            digest,
            payload,
            len: head.len() as u64 + more,
            head: head.into(),
        });
    let wakeup = option::of(any::<u64>().prop_map(LogTime));
    (1..=u64::MAX, any_digest(), 0..9_u64, vec(output, 0..20), wakeup, any::<bool>()).prop_map(
        |(index, before, more, outputs, wakeup, panicked)| Outline {
            index: Index(index),
            before,
            count: outputs.len() as u64 + more,
            outputs,
            wakeup,
            panicked,
        },
    )
}

/// Any frame between the CoServers that keeps to the limits.
pub(super) fn any_peer() -> impl Strategy<Value = PeerFrame> {
    prop_oneof![
        any_hello(),
        any_batch(),
        (any::<u64>(), any::<u32>(), any::<u64>(), any_progress()).prop_map(
            |(sequence, lineage, epoch, progress)| PeerFrame::Ping {
                sequence,
                lineage: Lineage(lineage),
                epoch: Epoch(epoch),
                progress,
            }
        ),
        (any::<u32>(), any::<u64>(), 1..=u64::MAX, vec(any_digest(), 0..200)).prop_map(
            |(lineage, epoch, from, outputs)| PeerFrame::Digests {
                lineage: Lineage(lineage),
                epoch: Epoch(epoch),
                from: Index(from),
                outputs,
            }
        ),
        (any_digest(), any_record())
            .prop_map(|(present, next)| PeerFrame::Asked { request: Request { present, next } }),
        (any::<u64>(), ".{0,60}")
            .prop_map(|(epoch, reason)| PeerFrame::Leave { epoch: Epoch(epoch), reason }),
        any_outline().prop_map(PeerFrame::Outline),
        proptest::sample::select(joining()).prop_map(|(_, frame)| frame),
        (any::<u64>(), any::<u64>(), vec(any::<u8>(), 0..200)).prop_map(
            |(checkpoint, offset, bytes)| PeerFrame::Chunk {
                checkpoint: Index(checkpoint),
                offset,
                bytes: bytes.into(),
            }
        ),
    ]
}
