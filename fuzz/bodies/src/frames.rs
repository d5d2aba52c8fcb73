//! Any bytes as a frame of each kind.
//!
//! The first byte says whether the rest is a whole frame (even) or a body that is given a right
//! header first, since no fuzzer guesses a checksum.

use bytes::Bytes;
use lockstep::wire::codec;
use lockstep::wire::error::FrameError;
use lockstep::wire::header::{HEADER_BYTES, VERSION};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Whatever can be read can be written, and is read as the same again.
pub fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    for kind in 1..=6 {
        let frame = if how & 1 == 0 { rest.to_vec() } else { sealed(kind, rest) };
        match kind {
            1 => check(&frame, codec::decode_peer, codec::encode_peer),
            2 => check(&frame, codec::decode_witness_call, codec::encode_witness_call),
            3 => check(&frame, codec::decode_witness_answer, codec::encode_witness_answer),
            4 => check(&frame, codec::decode_client_calls, codec::encode_client_calls),
            5 => check(&frame, codec::decode_client_answers, codec::encode_client_answers),
            _ => check(&frame, codec::decode_death_notice, codec::encode_death_notice),
        }
    }
}

fn check<F: PartialEq + ::core::fmt::Debug>(
    bytes: &[u8],
    decode: fn(&[u8]) -> Result<F, FrameError>,
    encode: fn(&F) -> Result<Bytes, FrameError>,
) {
    let Ok(frame) = decode(bytes) else { return };
    match encode(&frame) {
        Ok(again) => {
            let read = decode(&again).expect("what was just written can be read");
            assert_eq!(read, frame, "a frame changes when it is written and read");
        }
        // Only its own archive, which may be longer than the one that came, can be too long.
        Err(why) => assert!(matches!(why, FrameError::TooLong { .. }), "{why}"),
    }
}

/// This body under a right header, as `docs/wire.md` lays it out.
fn sealed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    frame[..4].copy_from_slice(b"LKST");
    frame[4..6].copy_from_slice(&VERSION.to_le_bytes());
    frame[6] = kind;
    frame[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let mut seed = [0; 8];
    seed.copy_from_slice(&frame[4..12]);
    let checksum = xxh3_64_with_seed(body, u64::from_le_bytes(seed));
    frame[12..20].copy_from_slice(&checksum.to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep::wire::frames::PeerFrame;

    #[test]
    fn a_sealed_body_is_read() {
        let frame = codec::encode_peer(&PeerFrame::Pong { sequence: 7 }).unwrap();
        let body = &frame[HEADER_BYTES..];
        assert_eq!(sealed(1, body), frame);
    }
}
