//! Nothing is believed that was not written.

use super::*;
use crate::machine::{RecordSource, RestoreError};

/// A few blocks in a few hundred bytes.
fn small() -> (Scratch, Stamp, Vec<u8>, Vec<Vec<u8>>) {
    let (dir, state) = (Scratch::new(), three_blocks());
    let stamp = take(&dir, &header(), &state).unwrap();
    let bytes = dir.bytes(&file_name(AT)).unwrap();
    (dir, stamp, bytes, state)
}

fn refused(bytes: &[u8], why: &str) {
    let dir = Scratch::new();
    dir.put(&file_name(AT), bytes);
    let error = verify(&dir, AT).err().unwrap_or_else(|| panic!("{why}: not noticed"));
    assert!(error.is_damage(), "{why}: {error}");
    // A reader that goes by records gives only right ones, and ends with an error.
    let Ok(mut reader) = Reader::open(&dir, AT) else { return };
    let state = three_blocks();
    for expected in &state {
        match reader.record() {
            Ok(Some(record)) => assert_eq!(record, expected[..], "{why}"),
            Ok(None) => panic!("{why}: ends as if whole"),
            Err(RestoreError::Invalid { .. }) => {
                assert!(reader.record().is_err(), "{why}: goes on after an error");
                return;
            }
            Err(error) => panic!("{why}: {error}"),
        }
    }
    assert!(reader.record().is_err(), "{why}: ends as if whole");
}

#[test]
fn a_flipped_zeroed_missing_or_added_byte_anywhere_is_noticed() {
    let (_, _, bytes, _) = small();
    assert!(bytes.len() < 1_000, "{} bytes take too long", bytes.len());
    assert_eq!(bytes[512 + 12], 0, "the first block stands as it is");
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut other = bytes.clone();
            other[at] ^= bit;
            refused(&other, &format!("bit {bit} of byte {at}"));
        }
        if bytes[at] != 0 {
            let mut other = bytes.clone();
            other[at] = 0;
            refused(&other, &format!("zero at {at}"));
        }
        let mut other = bytes.clone();
        other.remove(at);
        refused(&other, &format!("without byte {at}"));
        other = bytes.clone();
        other.insert(at, 0);
        refused(&other, &format!("one more at {at}"));
    }
}

#[test]
fn a_file_that_ends_early_or_late_is_noticed() {
    let (_, _, bytes, _) = small();
    for len in 0..bytes.len() {
        refused(&bytes[..len], &format!("cut at {len}"));
        let mut zeroed = bytes[..len].to_vec();
        if bytes[len..].iter().any(|byte| *byte != 0) {
            zeroed.resize(bytes.len(), 0);
            refused(&zeroed, &format!("zeros from {len}"));
        }
    }
    refused(&[&bytes[..], b"x"].concat(), "one more");
    refused(&[&bytes[..], &bytes[..]].concat(), "twice");
}

#[test]
fn a_block_of_another_checkpoint_or_in_another_place_is_noticed() {
    let (_, _, bytes, _) = small();
    let dir = Scratch::new();
    let mut other = header();
    other.history.log_digest = Digest([8; 16]);
    take(&dir, &other, &three_blocks()).unwrap();
    let foreign = dir.bytes(&file_name(AT)).unwrap();
    assert_eq!(foreign.len(), bytes.len());
    let header_bytes = super::super::header::HEADER_BYTES;
    refused(&[&foreign[..header_bytes], &bytes[header_bytes..]].concat(), "another header");
    let block = 32 + u32::from_le_bytes(bytes[512..516].try_into().unwrap()) as usize;
    let (first, rest) = bytes[512..].split_at(block);
    refused(&[&bytes[..512], rest].concat(), "without the first block");
    refused(&[&bytes[..512], first, first, rest].concat(), "the first block twice");
}

#[test]
fn a_checkpoint_under_another_name_is_noticed() {
    let (dir, _, bytes, _) = small();
    dir.put(&file_name(Index(41)), &bytes);
    assert!(matches!(verify(&dir, Index(41)), Err(CheckpointError::Damaged { .. })));
    let listing = list(&dir).unwrap();
    assert_eq!(listing.whole.len(), 1);
    assert_eq!(listing.unusable[0].0, Index(41));
}

#[test]
fn another_version_is_named() {
    let (dir, _, mut bytes, _) = small();
    bytes[8] = 2;
    dir.put(&file_name(AT), &bytes);
    let error = verify(&dir, AT).unwrap_err();
    assert!(matches!(error, CheckpointError::Version { found: 2, .. }), "{error}");
}

#[test]
fn an_absent_checkpoint_is_an_error_of_the_disk() {
    let error = verify(&Scratch::new(), AT).unwrap_err();
    assert!(!error.is_damage(), "{error}");
}

#[test]
fn names_are_taken_only_as_they_are_given() {
    assert_eq!(parse_name(&file_name(Index(u64::MAX))), Some((Index(u64::MAX), true)));
    assert_eq!(parse_name(&part_name(AT)), Some((AT, false)));
    for name in [
        "checkpoint-40",
        "checkpoint-",
        "checkpoint-+0000000000000000040",
        "checkpoint-99999999999999999999",
        "checkpoint-00000000000000000040.part.part",
        "journal-00000000000000000040",
    ] {
        assert_eq!(parse_name(name), None, "{name}");
    }
}
