//! Scenarios of a peer that says what cannot be.

use super::pair::{MS, Pair, config};
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, Origin};
use crate::event::{Event, Ignored};
use crate::ids::{Incarnation, Index, LogTime, OriginNumber, ReplicaId};
use crate::wire::frames::{Hello, PeerFrame, Progress};

use ReplicaId::{A, B};

/// A tick that the peer of `to` might order next.
fn next_entry(pair: &mut Pair, to: ReplicaId) -> Entry {
    let status = pair.node(to).replica.status();
    let record = status.record.unwrap();
    Entry {
        index: status.last_index.next(),
        epoch: record.epoch,
        time: LogTime(status.time.0 + 1),
        origin: Origin {
            place: to.other(),
            incarnation: record.members.at(to.other()).unwrap(),
            number: OriginNumber(0),
        },
        kind: EntryKind::Tick,
    }
}

fn forge_batch(pair: &mut Pair, to: ReplicaId, entries: Vec<Entry>, progress: Progress) {
    let record = pair.record;
    let (lineage, epoch, forwards) = (record.lineage, record.epoch, Vec::new());
    pair.forge(to, PeerFrame::Batch { lineage, epoch, progress, entries, forwards });
}

fn forge_entry(pair: &mut Pair, to: ReplicaId, entry: Entry) {
    forge_batch(pair, to, vec![entry], Progress::default());
}

#[test]
fn a_peer_that_claims_more_than_there_can_be_is_not_believed() {
    for to in ReplicaId::BOTH {
        let mut pair = Pair::formed();
        let last_index = Progress { last_index: Index(u64::MAX), ..Progress::default() };
        let ordered = Progress { ordered: OriginNumber(u64::MAX), ..Progress::default() };
        for progress in [last_index, ordered] {
            forge_batch(&mut pair, to, Vec::new(), progress);
        }
        pair.device_input(to, "one");
        pair.run(MS * 5);
        assert_eq!(pair.node(to).texts(), ["one"]);
    }
}

#[test]
fn digests_at_the_end_of_all_indices_say_nothing() {
    let mut pair = Pair::formed();
    let (lineage, epoch) = (pair.record.lineage, pair.record.epoch);
    let outputs = vec![Digest::ZERO; 2];
    pair.forge(A, PeerFrame::Digests { lineage, epoch, from: Index(u64::MAX), outputs });
    pair.device_input(A, "one");
    pair.run(MS * 5);
    assert_eq!(pair.node(A).texts(), ["one"]);
}

#[test]
fn an_input_in_our_name_that_we_never_took_is_no_entry() {
    let mut pair = Pair::formed();
    let mut forged = next_entry(&mut pair, B);
    let incarnation = pair.node(B).replica.status().incarnation;
    forged.origin = Origin { place: B, incarnation, number: OriginNumber(1) };
    forge_entry(&mut pair, B, forged);
    pair.device_input(B, "one");
    pair.kill(A);
    pair.run(MS * 200);
    assert_eq!(pair.node(B).texts(), ["one"]);
}

#[test]
fn a_peer_with_our_own_incarnation_is_no_peer() {
    let mut pair = Pair::new();
    let status = pair.node(A).replica.status();
    let hello = Hello {
        pair: pair.record.pair,
        place: B,
        incarnation: status.incarnation,
        environment: config(B).environment,
        record: None,
        heard: true,
        claim: None,
        enrolled: None,
        wall: LogTime(1),
    };
    pair.forge(A, PeerFrame::Hello(hello));
    assert!(pair.node(A).saw(|event| matches!(event, Event::Ignored { why: Ignored::NotOurPeer })));
    assert_eq!(pair.node(A).replica.status().peer, None);
}

#[test]
fn an_entry_of_no_member_is_no_entry() {
    let mut pair = Pair::formed();
    let mut forged = next_entry(&mut pair, B);
    forged.origin.incarnation = Incarnation(99);
    forge_entry(&mut pair, B, forged);
    pair.device_input(B, "one");
    pair.run(MS * 5);
    assert_eq!(pair.node(B).texts(), ["one"]);
}

#[test]
fn log_time_cannot_be_brought_to_its_end() {
    let mut pair = Pair::formed();
    let forged = Entry { time: LogTime(u64::MAX), ..next_entry(&mut pair, B) };
    forge_entry(&mut pair, B, forged);
    pair.kill(A);
    pair.device_input(B, "one");
    pair.run(MS * 200);
    assert_eq!(pair.node(B).texts(), ["one"]);
}

#[test]
fn a_follower_filled_to_the_brim_can_still_go_on_alone() {
    let mut pair = Pair::formed();
    pair.node(B).executes = false;
    for _ in 0..1000 {
        let forged = next_entry(&mut pair, B);
        forge_entry(&mut pair, B, forged);
    }
    pair.kill(A);
    pair.run(MS * 300);
    let record = pair.node(B).replica.status().record.unwrap();
    assert!(!record.members.is_duplex());
}
