//! Frames that a sound peer or witness never sends: refused, without harm.

use super::pair::{MS, Pair};
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, InputKind, Origin as EntryOrigin};
use crate::ids::{DeviceId, Epoch, Incarnation, Index, Lineage, LogTime, OriginNumber, ReplicaId};
use crate::limits;
use crate::proto::io::Input;
use crate::record::{Origin, Record};
use crate::wire::frames::{Forward, PeerFrame, Progress, WitnessAnswer};
use bytes::Bytes;

use ReplicaId::{A, B};

const LAST: u64 = u64::MAX;

fn batch(
    pair: &Pair,
    progress: Progress,
    entries: Vec<Entry>,
    forwards: Vec<Forward>,
) -> PeerFrame {
    let Record { lineage, epoch, .. } = pair.record;
    PeerFrame::Batch { lineage, epoch, progress, entries, forwards }
}

fn device(len: usize) -> InputKind {
    InputKind::Device { device: DeviceId(0), bytes: Bytes::from(vec![0; len]) }
}

/// The entry that the follower of a pair just formed waits for.
fn entry(pair: &Pair) -> Entry {
    let origin = EntryOrigin {
        place: A,
        incarnation: pair.record.members.at(A).unwrap(),
        number: OriginNumber(1),
    };
    let time = LogTime(2_000_000_000_000);
    Entry { index: Index(3), epoch: pair.record.epoch, time, origin, kind: device(0).into() }
}

fn goes_on(mut pair: Pair) {
    pair.run(MS * 100);
    for place in ReplicaId::BOTH {
        pair.device_input(place, "x");
        pair.run(MS * 50);
        assert_eq!(pair.node(place).texts(), ["x"]);
        assert!(pair.node(place).stopped.is_none());
    }
    assert!(pair.record.members.is_duplex());
}

#[test]
fn a_report_of_more_than_there_is_changes_nothing() {
    let more = Index(LAST);
    let ordered = OriginNumber(LAST);
    for progress in [
        Progress { last_index: more, ..Progress::default() },
        Progress { last_index: more, persisted: more, executed: more, ..Progress::default() },
        Progress { ordered, ..Progress::default() },
    ] {
        for place in ReplicaId::BOTH {
            let mut pair = Pair::formed();
            let frame = batch(&pair, progress, Vec::new(), Vec::new());
            pair.forge(place, frame);
            goes_on(pair);
        }
    }
}

#[test]
fn an_entry_that_no_sequencer_makes_is_not_appended() {
    let formed = Pair::formed();
    let sound = entry(&formed);
    let (place, number) = (sound.origin.place, sound.origin.number);
    let stranger = EntryOrigin { place, number, incarnation: Incarnation(77) };
    let incarnation = formed.record.members.at(B).unwrap();
    let not_taken = EntryOrigin { place: B, number, incarnation };
    // After it there is no number for another input.
    let last = EntryOrigin { number: OriginNumber(LAST), ..not_taken };
    let last_of_peer = EntryOrigin { number: OriginNumber(LAST), ..sound.origin };
    for absurd in [
        Entry { index: Index(LAST), ..sound.clone() },
        Entry { time: LogTime(LAST), ..sound.clone() },
        Entry { epoch: Epoch(LAST), ..sound.clone() },
        Entry { origin: stranger, ..sound.clone() },
        Entry { origin: not_taken, ..sound.clone() },
        Entry { origin: last, ..sound.clone() },
        Entry { origin: last_of_peer, ..sound.clone() },
        Entry { kind: EntryKind::Genesis { seed: [0; 32] }, ..sound.clone() },
    ] {
        let mut pair = Pair::formed();
        let frame = batch(&pair, Progress::default(), vec![absurd], Vec::new());
        pair.forge(B, frame);
        goes_on(pair);
    }
}

#[test]
fn a_window_that_a_peer_fills_to_the_brim_leaves_room_to_go_on_alone() {
    let mut pair = Pair::formed();
    pair.kill(A);
    let sound = entry(&pair);
    let entries = (0..1000).map(|at| Entry {
        index: Index(sound.index.0 + at),
        time: LogTime(sound.time.0 + at),
        origin: EntryOrigin { number: OriginNumber(at + 1), ..sound.origin },
        ..sound.clone()
    });
    pair.node(B).executes = false;
    let frame = batch(&pair, Progress::default(), entries.collect(), Vec::new());
    pair.forge(B, frame);
    pair.run(MS * 300);
    pair.resume(B);
    pair.device_input(B, "x");
    pair.run(MS * 5);
    assert_eq!(pair.node(B).texts(), ["x"]);
}

#[test]
fn digests_at_the_end_of_all_numbers_are_compared_with_nothing() {
    let mut pair = Pair::formed();
    let Record { lineage, epoch, .. } = pair.record;
    let outputs = vec![Digest::ZERO; 3];
    pair.forge(A, PeerFrame::Digests { lineage, epoch, from: Index(LAST - 1), outputs });
    goes_on(pair);
}

#[test]
fn a_record_of_another_lineage_renews_nothing() {
    let mut pair = Pair::formed();
    let renewed = Origin::Renewal(pair.record.digest());
    let record = Record { lineage: Lineage(5), epoch: Epoch(0), origin: renewed, ..pair.record };
    pair.tell(A, Input::Witness(WitnessAnswer::Present { record }));
    assert!(pair.node(A).stopped.is_some());
}

#[test]
fn a_vacant_record_after_which_no_epoch_can_come_is_not_formed_on() {
    let mut pair = Pair::new();
    pair.record = Record::vacant(pair.record.pair, Lineage(0), Epoch(LAST));
    pair.run(MS * 100);
    assert!(pair.nodes.iter().all(|node| node.replica.status().record.is_none()));
}

#[test]
fn forwarded_inputs_that_wait_are_bounded_in_bytes() {
    let mut pair = Pair::formed();
    pair.node(B).executes = false;
    while pair.node(A).replica.takes_input() {
        pair.device_input(A, "x");
    }
    for number in 1..=40 {
        let forward = Forward { number: OriginNumber(number), kind: device(limits::INPUT_BYTES) };
        let frame = batch(&pair, Progress::default(), Vec::new(), vec![forward]);
        pair.forge(A, frame);
    }
    assert!(pair.node(A).replica.forwarded_inputs.bytes() <= limits::KEPT_BYTES);
}
