//! Inputs that are ordered together are one entry (rule O15).

use bytes::Bytes;

use super::pair::{MS, Pair, config};
use crate::entry::{Entry, EntryKind};
use crate::ids::{OriginNumber, ReplicaId};
use crate::limits;
use crate::proto::Config;
use crate::proto::io::{Command, Input};

use ReplicaId::{A, B};

fn small(count: usize) -> Vec<Bytes> {
    (0..count).map(|number| number.to_string().into()).collect()
}

/// The entries of inputs that a replica has: the first number of each, and how many inputs it has.
fn entries(pair: &mut Pair, place: ReplicaId) -> Vec<(u64, usize)> {
    let of_inputs = |entry: &&Entry| matches!(entry.kind, EntryKind::Inputs(_));
    let entries = pair.node(place).disk.entries.iter().filter(of_inputs);
    entries.map(|entry| (entry.origin.number.0, entry.kind.inputs().len())).collect()
}

#[test]
fn the_inputs_of_a_round_share_an_entry() {
    let mut pair = Pair::formed();
    pair.device_inputs(A, &small(3));
    pair.device_inputs(A, &small(2));
    pair.run(MS * 10);
    for place in ReplicaId::BOTH {
        assert_eq!(entries(&mut pair, place), [(1, 3), (4, 2)]);
    }
    assert_eq!(pair.node(A).texts(), ["0", "1", "2", "0", "1"]);
}

#[test]
fn what_a_follower_took_shares_entries_as_well() {
    let mut pair = Pair::formed();
    pair.device_inputs(B, &small(3));
    pair.run(MS * 10);
    assert_eq!(entries(&mut pair, A), [(1, 3)]);
    assert_eq!(pair.node(B).texts(), ["0", "1", "2"]);
}

#[test]
fn each_entry_is_of_one_process() {
    let mut pair = Pair::formed();
    pair.node(A).executes = false;
    pair.device_inputs(B, &small(2));
    pair.run(MS / 2);
    pair.device_inputs(A, &small(2));
    pair.resume(A);
    pair.run(MS * 10);
    let origins: Vec<_> = pair.node(B).disk.entries.iter().map(|entry| entry.origin).collect();
    let of_inputs = origins.iter().filter(|origin| origin.number != OriginNumber(0));
    let mut places: Vec<_> = of_inputs.map(|origin| origin.place).collect();
    places.sort_unstable();
    assert_eq!(places, [A, B]);
}

#[test]
fn an_entry_holds_no_more_than_its_bound() {
    let wide = |place| Config { window_entries: 4 * limits::ENTRY_INPUTS, ..config(place) };
    let mut pair = Pair::with(wide);
    pair.run(MS * 100);
    pair.device_inputs(A, &small(limits::ENTRY_INPUTS + 5));
    pair.run(MS * 10);
    let most = limits::ENTRY_INPUTS;
    assert_eq!(entries(&mut pair, B), [(1, most), (most as u64 + 1, 5)]);
}

#[test]
fn small_inputs_never_become_bulk_together() {
    let mut pair = Pair::formed();
    let third = Bytes::from(vec![b'x'; limits::BULK_BYTES / 3 + 1]);
    let bulk = Bytes::from(vec![b'y'; limits::BULK_BYTES]);
    let inputs = [[third.clone(), third.clone()], [third.clone(), bulk], [third.clone(), third]];
    pair.device_inputs(A, &inputs.concat());
    pair.run(MS * 20);
    assert_eq!(entries(&mut pair, B), [(1, 2), (3, 1), (4, 1), (5, 2)]);
    for entry in &pair.node(B).disk.entries {
        let is_small = entry.kind.payload_len() < limits::BULK_BYTES;
        assert!(is_small || entry.kind.inputs().len() == 1);
    }
}

#[test]
fn the_window_counts_inputs() {
    let window = 100;
    let narrow = move |place| Config { window_entries: window, ..config(place) };
    let mut pair = Pair::with(narrow);
    pair.run(MS * 100);
    pair.node(B).executes = false;
    pair.device_inputs(A, &small(2 * window));
    pair.run(MS);
    let status = pair.node(A).replica.status();
    assert!(!pair.node(A).replica.takes_input());
    assert_eq!(status.pending, window, "the rest waits: {status:?}");
    pair.resume(B);
    pair.run(MS * 50);
    assert_eq!(pair.node(A).texts().len(), 2 * window);
    assert!(pair.node(A).replica.takes_input());
}

#[test]
fn what_the_protocol_says_stands_alone() {
    let mut pair = Pair::formed();
    pair.tell(A, Input::Command(Command::HandOver));
    pair.device_inputs(B, &small(2));
    pair.run(MS * 10);
    assert!(pair.node(A).disk.entries.iter().any(|entry| {
        matches!(entry.kind, EntryKind::HandOver { to: B }) && entry.steps() == 1
    }));
    assert_eq!(entries(&mut pair, A), [(1, 2)]);
}

#[test]
fn where_outputs_are_large_fewer_inputs_share_an_entry() {
    let mut pair = Pair::formed();
    // Every input is sent back, so an output weighs as much.
    let quarter = Bytes::from(vec![b'x'; limits::ENTRY_OUTPUT_BYTES / 4]);
    pair.device_inputs(A, &[quarter]);
    pair.run(MS * 20);
    pair.device_inputs(A, &small(8));
    pair.run(MS * 20);
    let entries = entries(&mut pair, B);
    assert!(entries[1..].iter().all(|(_, inputs)| *inputs <= 4), "{entries:?}");
}
