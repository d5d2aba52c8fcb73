//! The format stays as it is, whatever is written can be read, and nothing that is read panics.

use std::fmt::Write as _;

use bytes::Bytes;
use proptest::prelude::*;

use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, InputKind, Origin};
use crate::ids::{
    DeviceId, Epoch, Incarnation, Index, Lineage, LogTime, Nonce, OriginNumber, ReplicaId,
    RequestNumber, SessionId,
};
use crate::limits;
use crate::outline::Outline;
use crate::output::{Output, OutputKind};
use crate::record::Members;
use crate::wire::codec::*;
use crate::wire::error::FrameError;
use crate::wire::frames::*;
use crate::wire::header::{self, HEADER_BYTES, Kind, VERSION};
use crate::wire::samples;

const GOLDEN: &str = include_str!("golden.txt");

fn encoded() -> Vec<(&'static str, Bytes)> {
    let mut encoder = Encoder::new();
    let mut frames = Vec::new();
    for (name, frame) in samples::peer().into_iter().chain(samples::joining()) {
        frames.push((name, encoder.peer(&frame).unwrap()));
    }
    for (name, frame) in samples::witness_calls() {
        frames.push((name, encoder.witness_call(&frame).unwrap()));
    }
    for (name, frame) in samples::witness_answers() {
        frames.push((name, encoder.witness_answer(&frame).unwrap()));
    }
    for (name, frame) in samples::client_calls() {
        frames.push((name, encoder.client_calls(&vec![frame]).unwrap()));
    }
    for (name, frame) in samples::client_answers() {
        frames.push((name, encoder.client_answers(&vec![frame]).unwrap()));
    }
    for (name, frame) in samples::death_notices() {
        frames.push((name, encoder.death_notice(&frame).unwrap()));
    }
    frames
}

/// Whether any reader takes these bytes; what matters is that all of them return.
fn read_by_anyone(bytes: &[u8]) -> bool {
    [
        decode_peer(bytes).is_ok(),
        decode_witness_call(bytes).is_ok(),
        decode_witness_answer(bytes).is_ok(),
        decode_client_calls(bytes).is_ok(),
        decode_client_answers(bytes).is_ok(),
        decode_death_notice(bytes).is_ok(),
    ]
    .contains(&true)
}

/// These bytes under a header that is right, so that the archive behind it is what is judged.
fn sealed(kind: Kind, body: &[u8]) -> Vec<u8> {
    [&header::seal(kind, body)[..], body].concat()
}

fn batch_of(entries: Vec<Entry>) -> PeerFrame {
    let (lineage, epoch, forwards) = (Lineage(1), Epoch(1), Vec::new());
    PeerFrame::Batch { lineage, epoch, progress: Progress::default(), entries, forwards }
}

fn entry(index: u64, kind: EntryKind) -> Entry {
    let origin =
        Origin { place: ReplicaId::A, incarnation: Incarnation(1), number: OriginNumber(0) };
    Entry { index: Index(index), epoch: Epoch(1), time: LogTime(index), origin, kind }
}

#[test]
fn every_frame_has_the_bytes_that_it_had_before() {
    let mut written = String::from(
        "# One frame of every shape, header included, in hexadecimal. A difference here is a\n\
         # change of the wire format: raise VERSION in header.rs with it.\n",
    );
    for (name, bytes) in encoded() {
        write!(written, "\n{name}\n").unwrap();
        for line in bytes.chunks(32) {
            line.iter().for_each(|byte| write!(written, "{byte:02x}").unwrap());
            written.push('\n');
        }
    }
    if written != GOLDEN {
        let path = std::env::temp_dir().join("lockstep-golden.txt");
        std::fs::write(&path, &written).unwrap();
        panic!("the wire format changed: compare src/wire/golden.txt with {}", path.display());
    }
}

#[test]
fn every_sample_reads_back() {
    for (name, frame) in samples::peer().into_iter().chain(samples::joining()) {
        assert_eq!(decode_peer(&encode_peer(&frame).unwrap()).unwrap(), frame, "{name}");
    }
    for (name, frame) in samples::witness_calls() {
        let bytes = encode_witness_call(&frame).unwrap();
        assert_eq!(decode_witness_call(&bytes).unwrap(), frame, "{name}");
    }
    for (name, frame) in samples::witness_answers() {
        let bytes = encode_witness_answer(&frame).unwrap();
        assert_eq!(decode_witness_answer(&bytes).unwrap(), frame, "{name}");
    }
    for (name, frame) in samples::client_calls() {
        let bytes = encode_client_calls(&vec![frame.clone()]).unwrap();
        assert_eq!(decode_client_calls(&bytes).unwrap(), [frame], "{name}");
    }
    for (name, frame) in samples::client_answers() {
        let bytes = encode_client_answers(&vec![frame.clone()]).unwrap();
        assert_eq!(decode_client_answers(&bytes).unwrap(), [frame], "{name}");
    }
    for (name, frame) in samples::death_notices() {
        let bytes = encode_death_notice(&frame).unwrap();
        assert_eq!(decode_death_notice(&bytes).unwrap(), frame, "{name}");
    }
}

#[test]
fn a_frame_may_lie_at_any_address() {
    for (name, frame) in samples::peer().into_iter().chain(samples::joining()) {
        let bytes = encode_peer(&frame).unwrap();
        for offset in 0..16 {
            let shifted = [&vec![0; offset][..], &bytes].concat();
            assert_eq!(decode_peer(&shifted[offset..]).unwrap(), frame, "{name} at {offset}");
        }
    }
}

#[test]
fn a_version_is_refused_before_anything_else_is_read() {
    let mut bytes = encode_peer(&PeerFrame::Pong { sequence: 1 }).unwrap().to_vec();
    let theirs = VERSION + 1;
    bytes[4..6].copy_from_slice(&theirs.to_le_bytes());
    bytes[6..].fill(0xff);
    assert_eq!(decode_peer(&bytes), Err(FrameError::Version { theirs }));
}

#[test]
fn a_frame_on_the_wrong_connection_is_named() {
    let bytes = encode_peer(&PeerFrame::Pong { sequence: 1 }).unwrap();
    let error = decode_client_calls(&bytes).unwrap_err();
    assert_eq!(error, FrameError::Kind { found: 1, expected: Kind::ClientCall });
    assert!(error.to_string().contains("right port"), "{error}");
}

#[test]
fn what_is_no_frame_is_told_apart() {
    let good = encode_peer(&PeerFrame::Pong { sequence: 1 }).unwrap();
    assert_eq!(decode_peer(b"GET / HTTP/1.1\r\n\r\nxxxx"), Err(FrameError::Magic));
    assert_eq!(decode_peer(&good[..19]), Err(FrameError::TooShort { len: 19 }));
    let body = good.len() - HEADER_BYTES;
    let longer = [&good[..], &[0]].concat();
    let wrong = FrameError::Length { header: body, actual: body + 1 };
    assert_eq!(decode_peer(&longer), Err(wrong));
    let mut long = good.to_vec();
    long.resize(limits::FRAME_BYTES + 1, 0);
    assert!(matches!(decode_peer(&long), Err(FrameError::TooLong { .. })));
}

#[test]
fn prefixes_are_bounded() {
    for len in [HEADER_BYTES, 1000, limits::FRAME_BYTES] {
        assert_eq!(header::frame_length(header::prefix(len).unwrap()), Ok(len));
    }
    assert!(header::prefix(limits::FRAME_BYTES + 1).is_err());
    assert!(header::frame_length(u32::MAX.to_le_bytes()).is_err());
    assert!(header::frame_length([0; 4]).is_err());
}

#[test]
fn any_single_flipped_bit_is_noticed() {
    for (name, bytes) in encoded() {
        let mut bytes = bytes.to_vec();
        for at in 0..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(!read_by_anyone(&bytes), "{name}: bit {at}");
            bytes[at / 8] ^= 1 << (at % 8);
        }
    }
}

#[test]
fn truncated_frames_are_refused() {
    for (name, bytes) in encoded() {
        for len in 0..bytes.len() {
            assert!(!read_by_anyone(&bytes[..len]), "{name} cut to {len}");
        }
    }
}

#[test]
fn limits_hold_for_writer_and_reader() {
    let over = Bytes::from(vec![0; limits::INPUT_BYTES + 1]);
    let device = InputKind::Device { device: DeviceId(0), bytes: over.clone() }.into();
    let request = ClientCall::Request {
        session: SessionId(1),
        token: Nonce(1),
        number: RequestNumber(1),
        lowest: RequestNumber(1),
        alone: false,
        body: over,
    };
    let limit = |what, len, limit| Err(FrameError::Limit { what, len, limit });
    let (len, most) = (limits::INPUT_BYTES + 1, limits::INPUT_BYTES);
    let batch = batch_of(vec![entry(1, device)]);
    assert_eq!(encode_peer(&batch), limit("a device's input", len, most));
    assert_eq!(encode_client_calls(&vec![request]), limit("a request", len, most));

    let input = InputKind::Device { device: DeviceId(0), bytes: Bytes::new() };
    let inputs = vec![input; limits::ENTRY_INPUTS + 1];
    let (len, most) = (limits::ENTRY_INPUTS + 1, limits::ENTRY_INPUTS);
    let batch = batch_of(vec![entry(1, EntryKind::Inputs(inputs.into()))]);
    assert_eq!(encode_peer(&batch), limit("an entry's inputs", len, most));

    let ticks = (1..=limits::BATCH_ENTRIES as u64 + 1).map(|at| entry(at, EntryKind::Tick));
    let (len, most) = (limits::BATCH_ENTRIES + 1, limits::BATCH_ENTRIES);
    let batch = batch_of(ticks.collect());
    assert_eq!(encode_peer(&batch), limit("a batch of entries", len, most));

    let reason = "x".repeat(limits::REASON_BYTES + 1);
    let (len, most) = (limits::REASON_BYTES + 1, limits::REASON_BYTES);
    assert_eq!(encode_peer(&PeerFrame::Refuse { reason }), limit("a reason", len, most));
}

#[test]
fn a_largest_batch_fits() {
    let mut at = 0;
    let mut next = |len| {
        at += 1;
        let bytes = Bytes::from(vec![0; len]);
        entry(at, InputKind::Device { device: DeviceId(0), bytes }.into())
    };
    let small = limits::BATCH_BYTES / limits::BATCH_ENTRIES;
    let mut entries: Vec<_> = (1..limits::BATCH_ENTRIES).map(|_| next(small)).collect();
    entries.push(next(limits::INPUT_BYTES));
    let frame = batch_of(entries);
    assert_eq!(decode_peer(&encode_peer(&frame).unwrap()).unwrap(), frame);
}

#[test]
fn a_largest_outline_fits_and_a_larger_one_is_refused() {
    let bytes = Bytes::from(vec![7; limits::OUTLINE_BYTES]);
    let carrier = crate::output::Carrier::Both;
    let kind = OutputKind::Device { device: DeviceId(0), carrier, bytes };
    let outputs = vec![Output { step: 0, ordinal: 0, kind }; limits::OUTLINE_OUTPUTS + 1];
    for count in [1, 3, limits::OUTLINE_OUTPUTS + 1] {
        let outline = Outline::new(Index(1), Digest::ZERO, &outputs[..count], None, false);
        let frame = PeerFrame::Outline(outline);
        let bytes = encode_peer(&frame).unwrap();
        assert!(bytes.len() < limits::FRAME_BYTES / 8, "{}", bytes.len());
        assert_eq!(decode_peer(&bytes).unwrap(), frame);
    }
    let mut outline = samples::outline();
    outline.outputs[0].head = vec![0; limits::OUTLINE_BYTES + 1].into();
    let refused = encode_peer(&PeerFrame::Outline(outline)).unwrap_err();
    assert!(matches!(refused, FrameError::Limit { what: "an outline's bytes", .. }), "{refused}");
    let mut outline = samples::outline();
    outline.count = 1 << 20;
    outline.outputs = vec![outline.outputs[0].clone(); limits::OUTLINE_OUTPUTS + 1];
    let refused = encode_peer(&PeerFrame::Outline(outline)).unwrap_err();
    assert!(matches!(refused, FrameError::Limit { what: "an outline's outputs", .. }), "{refused}");
}

#[test]
fn a_frame_over_the_limit_is_given_up_and_the_encoder_stays_of_use() {
    let body = Bytes::from(vec![0; limits::INPUT_BYTES]);
    let input =
        |at| entry(at, InputKind::Device { device: DeviceId(0), bytes: body.clone() }.into());
    let frame = batch_of((1..=5).map(input).collect());
    let mut encoder = Encoder::new();
    assert!(matches!(encoder.peer(&frame), Err(FrameError::TooLong { .. })));
    let pong = PeerFrame::Pong { sequence: 4 };
    assert_eq!(decode_peer(&encoder.peer(&pong).unwrap()), Ok(pong));
}

#[test]
fn contradictions_are_refused() {
    let twice = batch_of(vec![entry(2, EntryKind::Tick), entry(2, EntryKind::Tick)]);
    let mut crowded = samples::formed();
    crowded.origin = crate::record::Origin::Alone;
    let mut nobody = samples::formed();
    nobody.members = Members::both(Incarnation(0), Incarnation(1));
    let empty = batch_of(vec![entry(2, EntryKind::Inputs(Vec::new().into()))]);
    let half = Bytes::from(vec![0; limits::BULK_BYTES / 2]);
    let half = InputKind::Device { device: DeviceId(0), bytes: half };
    let bulk = batch_of(vec![entry(2, EntryKind::Inputs(vec![half.clone(), half].into()))]);
    for frame in [
        twice,
        PeerFrame::Epoch { record: crowded },
        PeerFrame::Epoch { record: nobody },
        empty,
        bulk,
    ] {
        let error = encode_peer(&frame).unwrap_err();
        assert!(matches!(error, FrameError::Contradiction { .. }), "{error}");
    }
    let mut of_nothing = samples::outline();
    of_nothing.index = Index(0);
    let mut too_many = samples::outline();
    too_many.count = 3;
    let mut too_long = samples::outline();
    too_long.outputs[0].len = 4;
    for outline in [of_nothing, too_many, too_long] {
        let error = encode_peer(&PeerFrame::Outline(outline)).unwrap_err();
        assert!(matches!(error, FrameError::Contradiction { .. }), "{error}");
    }
    let protocol = Versions { oldest: 2, newest: 1 };
    assert!(
        encode_client_calls(&vec![ClientCall::Hello { pair: samples::PAIR, protocol }]).is_err()
    );
}

/// Two byte strings that claim the same bytes would let a small frame grow in memory
/// without bound.
#[test]
fn an_archive_cannot_claim_bytes_twice() {
    let input = |at, fill| {
        let bytes = Bytes::from(vec![fill; 1000]);
        entry(at, InputKind::Device { device: DeviceId(0), bytes }.into())
    };
    let bytes = encode_peer(&batch_of(vec![input(1, 1), input(2, 2)])).unwrap();
    let mut body = bytes[HEADER_BYTES..].to_vec();
    // The only two offsets in the frame that lie before a length of 1000: where each string is.
    let length = 1000_u32.to_le_bytes();
    let at: Vec<_> = (4..body.len() - 4).filter(|at| body[*at..*at + 4] == length).collect();
    let [first, second] = at[..] else { panic!("lengths at {at:?}") };
    let offset = i32::from_le_bytes(body[first - 4..first].try_into().unwrap());
    let alias = offset - i32::try_from(second - first).unwrap();
    body[second - 4..second].copy_from_slice(&alias.to_le_bytes());
    let error = decode_peer(&sealed(Kind::Peer, &body)).unwrap_err();
    assert!(matches!(error, FrameError::Archive { .. }), "{error}");
}

proptest! {
    #[test]
    fn frames_read_back(frame in samples::any_peer()) {
        let bytes = encode_peer(&frame).unwrap();
        prop_assert_eq!(&encode_peer(&frame).unwrap(), &bytes);
        prop_assert_eq!(decode_peer(&bytes).unwrap(), frame);
    }

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(!read_by_anyone(&bytes));
    }

    #[test]
    fn random_archives_do_not_panic(
        kind in 0..6_usize,
        body in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let kinds = [
            Kind::Peer,
            Kind::WitnessCall,
            Kind::WitnessAnswer,
            Kind::ClientCall,
            Kind::ClientAnswer,
            Kind::DeathNotice,
        ];
        read_by_anyone(&sealed(kinds[kind], &body));
    }

    /// Behind a checksum that is right, a damaged archive is an error or another frame that can
    /// itself be written.
    #[test]
    fn damaged_archives_do_not_panic(
        frame in samples::any_peer(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let bytes = encode_peer(&frame).unwrap();
        let mut body = bytes[HEADER_BYTES..].to_vec();
        // The root lies at the end: damage there reaches the structure, not only payloads.
        let tail = body.len().saturating_sub(400);
        for (at, value) in damage {
            let at = tail + at.index(body.len() - tail);
            body[at] = value;
        }
        if let Ok(other) = decode_peer(&sealed(Kind::Peer, &body)) {
            let again = encode_peer(&other).unwrap();
            prop_assert_eq!(decode_peer(&again).unwrap(), other);
        }
    }
}
