//! What the disk of a process holds that starts anew.

use lockstep::digest::Digest;
use lockstep::entry::{Entry, EntryKind, Origin as From};
use lockstep::history::History;
use lockstep::ids::{Epoch, Incarnation, Index, Lineage, LogTime, Nonce, OriginNumber, Place};
use lockstep::proto::{Disk, Membership, Recovered};
use lockstep::record::{Members, Origin, Record};
use lockstep::unit::Unit;
use lockstep::wire::frames::Point;

use super::PAIR;
use crate::tally::Tally;

/// The predecessor's epoch, with the peer's process as it still is.
fn record(place: Place, own: u64) -> Record {
    let (own, peer) = (Incarnation(own), super::THEM);
    let members = match place {
        Place::A => Members::both(own, peer),
        Place::B => Members::both(peer, own),
    };
    Record {
        pair: PAIR,
        lineage: Lineage(0),
        epoch: Epoch(1),
        members,
        asker: place,
        nonce: Nonce(7),
        origin: Origin::Formed,
    }
}

/// Its log: the beginning and four ticks.
pub(super) fn log(place: Place, own: u64) -> Vec<Entry> {
    let record = record(place, own);
    let origin = From { place, incarnation: Incarnation(own), number: OriginNumber(0) };
    let kinds = [EntryKind::Genesis { seed: [3; 32] }, EntryKind::Membership { record }];
    let ticks = core::iter::repeat_n(EntryKind::Tick, 4);
    (1..)
        .zip(kinds.into_iter().chain(ticks))
        .map(|(at, kind)| Entry {
            index: Index(at),
            epoch: Epoch(1),
            time: LogTime(1_000 + at),
            origin,
            kind,
        })
        .collect()
}

/// What it finds, and what recovering it gives.
pub(super) fn found(place: Place, disk: u8) -> (Option<Disk>, Option<Recovered>) {
    if disk == 0 {
        return (None, None);
    }
    let own = super::US.0 - 1;
    let entries = log(place, own);
    let (mut history, mut unit) = (History::default(), Unit::new(Tally::default()));
    let mut points = vec![Point { index: Index(0), chain: Digest::ZERO }];
    for entry in &entries[..4] {
        history.append(entry);
        unit.execute(entry);
        points.insert(0, Point { index: entry.index, chain: history.chain });
    }
    let held = Index(entries.len() as u64);
    let membership = match disk {
        1 => Membership { record: Some(record(place, own)), asked: Vec::new(), witness: 0 },
        _ => Membership::default(),
    };
    let (outputs, wakeup, tail) = (unit.digest(), unit.wakeup(), entries[4..].to_vec());
    let recovered = Recovered { history, outputs, wakeup, replayed: 0, contradicts: None, tail };
    (Some(Disk { membership, lineage: Lineage(0), held, points }), Some(recovered))
}
