//! Which record may replace which: every origin, every shape and every asker.

use std::collections::BTreeMap;

use super::rules::{self, Asker, Denial};
use crate::digest::Digest;
use crate::ids::{Epoch, Incarnation, Lineage, Nonce, PairId, ReplicaId};
use crate::record::{Members, Origin, Record, Request};

const PAIR: PairId = PairId([1; 16]);
const A: Incarnation = Incarnation(10);
const B: Incarnation = Incarnation(20);
/// Processes started anew at the places.
const C: Incarnation = Incarnation(11);
const D: Incarnation = Incarnation(21);
const ZERO: Incarnation = Incarnation(0);

fn vacant() -> Record {
    Record::vacant(PAIR, Lineage(1), Epoch(0))
}

fn next_of(present: &Record, asker: ReplicaId, members: Members, origin: Origin) -> Record {
    Record { epoch: present.epoch.next(), members, asker, nonce: Nonce(5), origin, ..*present }
}

fn asker(place: ReplicaId, incarnation: Incarnation) -> Asker {
    Asker { pair: PAIR, place, incarnation }
}

/// What can be present: by its shape, every origin that gives it.
fn presents() -> Vec<(&'static str, Vec<Record>)> {
    let before = vacant();
    let of = |members, origins: &[Origin]| {
        let record = |origin: &Origin| next_of(&before, ReplicaId::A, members, *origin);
        origins.iter().map(record).collect()
    };
    let named = Digest::of(b"the record before");
    let duplex = [Origin::Formed, Origin::Joined, Origin::Renewal(named)];
    let single = [
        Origin::Alone,
        Origin::Restarted,
        Origin::Left(named),
        Origin::Adopted,
        Origin::Renewal(named),
    ];
    vec![
        ("vacant", vec![before]),
        ("{A,B}", of(Members::both(A, B), &duplex)),
        ("{A}", of(Members::alone(ReplicaId::A, A), &single)),
        ("{B}", of(Members::alone(ReplicaId::B, B), &single)),
    ]
}

fn shapes() -> [(&'static str, Members); 15] {
    let (a, b) = (ReplicaId::A, ReplicaId::B);
    [
        ("nobody", Members::NONE),
        ("{A}", Members::alone(a, A)),
        ("{B}", Members::alone(b, B)),
        ("{C}", Members::alone(a, C)),
        ("{D}", Members::alone(b, D)),
        ("{0} at a", Members::alone(a, ZERO)),
        ("{0} at b", Members::alone(b, ZERO)),
        ("{A,B}", Members::both(A, B)),
        ("{C,B}", Members::both(C, B)),
        ("{A,D}", Members::both(A, D)),
        ("{C,D}", Members::both(C, D)),
        ("{0,B}", Members::both(ZERO, B)),
        ("{A,0}", Members::both(A, ZERO)),
        ("{A,A}", Members::both(A, A)),
        ("{B,B}", Members::both(B, B)),
    ]
}

fn origins(present: &Record) -> [(&'static str, Origin); 10] {
    let named = present.digest();
    [
        ("vacant", Origin::Vacant),
        ("formed", Origin::Formed),
        ("alone", Origin::Alone),
        ("restarted", Origin::Restarted),
        ("joined", Origin::Joined),
        ("left", Origin::Left(named)),
        ("left another", Origin::Left(Digest::ZERO)),
        ("adopted", Origin::Adopted),
        ("renewal", Origin::Renewal(named)),
        ("renewal of another", Origin::Renewal(Digest::ZERO)),
    ]
}

/// The members, their successors, and a process without a number, at each place.
fn askers() -> [(&'static str, Asker); 6] {
    let (a, b) = (ReplicaId::A, ReplicaId::B);
    [
        ("A", asker(a, A)),
        ("B", asker(b, B)),
        ("C", asker(a, C)),
        ("D", asker(b, D)),
        ("0 at a", asker(a, ZERO)),
        ("0 at b", asker(b, ZERO)),
    ]
}

/// What is granted from this record on, line by line: the next record, and who may ask for it.
fn granted(present: &Record) -> Vec<String> {
    let mut lines = BTreeMap::<(usize, usize), (String, Vec<&str>)>::new();
    for (by_origin, (origin_name, origin)) in origins(present).into_iter().enumerate() {
        for (by_shape, (shape, members)) in shapes().into_iter().enumerate() {
            for (name, asker) in askers() {
                let next = next_of(present, asker.place, members, origin);
                let request = Request { present: present.digest(), next };
                if rules::judge(present, asker, &request).is_ok() {
                    let line = (format!("{shape} {origin_name}"), Vec::new());
                    lines.entry((by_origin, by_shape)).or_insert(line).1.push(name);
                }
            }
        }
    }
    lines.into_values().map(|(next, by)| format!("{next} by {}", by.join(", "))).collect()
}

#[test]
fn transitions_allowed_and_refused() {
    for (shape, records) in presents() {
        let expected: &[&str] = match shape {
            "vacant" => &[
                "{A,B} formed by A, B",
                "{C,B} formed by B, C",
                "{A,D} formed by A, D",
                "{C,D} formed by C, D",
                "{A} adopted by A",
                "{B} adopted by B",
                "{C} adopted by C",
                "{D} adopted by D",
            ],
            "{A,B}" => &[
                "{A} alone by A",
                "{B} alone by B",
                "{C} restarted by C",
                "{D} restarted by D",
                "{A} left by B",
                "{B} left by A",
                "{A,B} renewal by A, B",
            ],
            "{A}" => &[
                "{C} restarted by C",
                "{A,B} joined by A",
                "{A,D} joined by A",
                "{A} renewal by A",
            ],
            _ => &[
                "{D} restarted by D",
                "{A,B} joined by B",
                "{C,B} joined by B",
                "{B} renewal by B",
            ],
        };
        for record in records {
            assert_eq!(granted(&record), expected, "from {shape}, {:?}", record.origin);
        }
    }
}

#[test]
fn a_request_is_denied_for_what_is_wrong_with_it() {
    let present = next_of(&vacant(), ReplicaId::A, Members::both(A, B), Origin::Formed);
    let good = next_of(&present, ReplicaId::A, Members::alone(ReplicaId::A, A), Origin::Alone);
    let judged = |named: Digest, next: Record| {
        rules::judge(&present, asker(ReplicaId::A, A), &Request { present: named, next })
    };
    let named = present.digest();
    assert_eq!(judged(named, good), Ok(()));
    assert_eq!(judged(vacant().digest(), good), Err(Denial::Stale));
    let other = PairId([9; 16]);
    assert_eq!(judged(named, Record { pair: other, ..good }), Err(Denial::Foreign));
    assert_eq!(judged(named, Record { lineage: Lineage(2), ..good }), Err(Denial::Foreign));
    assert_eq!(judged(named, Record { asker: ReplicaId::B, ..good }), Err(Denial::Foreign));
    assert_eq!(judged(named, Record { epoch: Epoch(1), ..good }), Err(Denial::Number));
    assert_eq!(judged(named, Record { epoch: Epoch(3), ..good }), Err(Denial::Number));
    assert_eq!(judged(named, Record { nonce: Nonce(0), ..good }), Err(Denial::Unmarked));
    let last = Record { epoch: Epoch(u64::MAX), ..present };
    let wrapped = Request { present: last.digest(), next: Record { epoch: Epoch(0), ..good } };
    assert_eq!(rules::judge(&last, asker(ReplicaId::A, A), &wrapped), Err(Denial::Number));
}

/// A disk may know of epochs that a witness which lost its records does not.
#[test]
fn a_lineage_that_is_adopted_may_leave_numbers_out_and_goes_back_to_none() {
    let present = Record { epoch: Epoch(3), ..vacant() };
    let adopted = |epoch| {
        let origin = Origin::Adopted;
        let next = next_of(&present, ReplicaId::A, Members::alone(ReplicaId::A, A), origin);
        let next = Record { epoch: Epoch(epoch), ..next };
        rules::judge(&present, asker(ReplicaId::A, A), &Request { present: present.digest(), next })
    };
    assert_eq!(adopted(3), Err(Denial::Number));
    assert_eq!(adopted(4), Ok(()));
    assert_eq!(adopted(9), Ok(()));
}
