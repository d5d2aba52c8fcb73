//! The witness by operations, and any bytes as its file.
//!
//! The first byte says whether the rest is a record's file (even; its second bit of which version),
//! or what askers and a disk do.

use ::core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use lockstep::digest::Digest;
use lockstep::ids::{ConnId, Epoch, Incarnation, Lineage, MonotonicTime, Nonce, PairId, ReplicaId};
use lockstep::limits;
use lockstep::record::{Members, Origin, Record, Request};
use lockstep::wire::frames::{Versions, WitnessAnswer, WitnessCall};
use lockstep::witness::format::{FILE_BYTES, Kept, decode, encode};
use lockstep::witness::{Config, Held, Input, Output, Stored, Told, Witness};

use crate::source::Source;

const PAIR: PairId = PairId([7; 16]);

/// Runs one input.
pub fn run(data: &[u8]) {
    explore(data);
}

/// Runs one input. Returns how the records came about that were written.
pub fn explore(data: &[u8]) -> BTreeSet<&'static str> {
    let Some((how, rest)) = data.split_first() else { return BTreeSet::new() };
    if how & 1 == 0 {
        file(how >> 1 & 1, rest);
        return BTreeSet::new();
    }
    World::new().run(&mut Source::new(rest))
}

/// A file that can be read is written so that the same is read again.
fn file(older: u8, bytes: &[u8]) {
    let _ = decode(bytes);
    let mut sealed = bytes.to_vec();
    let len = FILE_BYTES - 16 * usize::from(older);
    sealed.resize(len, 0);
    sealed[..10].copy_from_slice(b"LKSTWREC\x02\x00");
    sealed[8] -= older;
    let checksum = Digest::of(&sealed[..len - 16]);
    sealed[len - 16..].copy_from_slice(&checksum.0);
    if let Ok(Kept { held, mark }) = decode(&sealed) {
        assert_eq!(mark.is_none(), older == 1, "only version 1 does not know its file");
        let mark = mark.unwrap_or_default();
        let again = Kept { held, mark: Some(mark) };
        assert_eq!(decode(&encode(&held, mark)), Ok(again), "a record changes when written");
    }
}

/// Connections of either place, with a disk that may fail, and every record so far.
struct World {
    witness: Witness,
    now: MonotonicTime,
    /// Who is behind each connection.
    conns: BTreeMap<ConnId, ReplicaId>,
    next: u64,
    /// The record that is being written.
    storing: Option<Record>,
    /// What the disk has, and everything that it ever had.
    present: Record,
    ever: Vec<Record>,
    /// Told of by a member, and on disk too.
    behind: Option<Told>,
    /// The same before what is being written.
    behind_before: Option<Told>,
    /// Whether a write failed, so that it is not known what is kept.
    failed: bool,
}

impl World {
    fn new() -> Self {
        let present = Record::vacant(PAIR, Lineage(0), Epoch(0));
        let config = Config { grace: Duration::from_millis(5) };
        let loaded = [(PAIR, Some(Held::trusted(present)))];
        Self {
            witness: Witness::new(MonotonicTime(0), config, loaded),
            now: MonotonicTime(0),
            conns: BTreeMap::new(),
            next: 0,
            storing: None,
            present,
            ever: vec![present],
            behind: None,
            behind_before: None,
            failed: false,
        }
    }

    fn run(mut self, source: &mut Source<'_>) -> BTreeSet<&'static str> {
        while let Some(op) = source.choice() {
            self.now = MonotonicTime(self.now.0 + 1_000_000);
            match op % 8 {
                0 => self.connect(source),
                1 => self.hang_up(source),
                2 => self.query(source),
                3..=5 => self.ask(source),
                6 => self.stored(match source.byte() {
                    0xFF => Stored::Unknown,
                    0xFE => Stored::NotThere,
                    _ => Stored::There,
                }),
                _ => self.restart(source.byte()),
            }
            self.drain();
        }
        self.ever.iter().map(|record| name(record.origin)).collect()
    }

    fn conn(&self, source: &mut Source<'_>) -> Option<(ConnId, ReplicaId)> {
        let at = source.below(self.conns.len().max(1));
        self.conns.iter().nth(at).map(|(conn, place)| (*conn, *place))
    }

    fn call(&mut self, conn: ConnId, place: ReplicaId, call: WitnessCall) {
        self.witness.handle(self.now, Input::Call { conn, pair: PAIR, place, call });
    }

    fn connect(&mut self, source: &mut Source<'_>) {
        let place = place(source);
        self.next += 1;
        let conn = ConnId(self.next);
        let incarnation = incarnation(place, source);
        let protocol = Versions::SPOKEN;
        self.conns.insert(conn, place);
        self.call(conn, place, WitnessCall::Hello { pair: PAIR, place, incarnation, protocol });
    }

    fn hang_up(&mut self, source: &mut Source<'_>) {
        let Some((conn, _)) = self.conn(source) else { return };
        self.conns.remove(&conn);
        self.witness.handle(self.now, Input::Closed { conn });
    }

    fn query(&mut self, source: &mut Source<'_>) {
        let Some((conn, place)) = self.conn(source) else { return };
        if source.byte() > 240 {
            let record = self.record(place, source);
            return self.call(conn, place, WitnessCall::Enrol { record });
        }
        // A member tells of the truth, or at times of what the witness has lost.
        let known = match source.byte() {
            0..128 => None,
            byte @ 128..250 => Some(self.ever[usize::from(byte) % self.ever.len()]),
            _ => Some(self.record(place, source)),
        };
        self.call(conn, place, WitnessCall::Query { known });
    }

    fn ask(&mut self, source: &mut Source<'_>) {
        let Some((conn, place)) = self.conn(source) else { return };
        let asker = if source.byte() < 240 { place } else { place.other() };
        let next = self.record(asker, source);
        let from = if source.byte() < 224 {
            self.present
        } else {
            self.ever[source.below(self.ever.len())]
        };
        let request = Request { present: from.digest(), next };
        self.call(conn, place, WitnessCall::CompareAndSwap { request });
    }

    /// Mostly what could be granted next.
    fn record(&self, asker: ReplicaId, source: &mut Source<'_>) -> Record {
        let present = self.present;
        let own = present.members.at(asker).unwrap_or_else(|| incarnation(asker, source));
        let other = asker.other();
        let theirs = present.members.at(other).unwrap_or_else(|| incarnation(other, source));
        let (alone, both) = (Members::alone(asker, own), both(asker, own, theirs));
        let named = present.digest();
        let (origin, members) = match source.below(8) {
            0 => (Origin::Formed, both),
            1 => (Origin::Alone, alone),
            2 => (Origin::Renewal(named), present.members),
            3 => (Origin::Restarted, Members::alone(asker, incarnation(asker, source))),
            4 => (Origin::Joined, both),
            5 => (Origin::Left(named), Members::alone(other, theirs)),
            6 => (Origin::Adopted, alone),
            // Whatever comes: most of it is nothing that anybody may ask for.
            _ => (Origin::Renewal(Digest::of(&[source.byte()])), Members::both(own, own)),
        };
        let near = if source.byte() < 224 { 1 } else { source.number(1) };
        Record {
            pair: PAIR,
            lineage: present.lineage,
            epoch: Epoch(present.epoch.0.wrapping_add(near)),
            members,
            asker,
            nonce: Nonce(u64::from(source.byte())),
            origin,
        }
    }

    fn stored(&mut self, stored: Stored) {
        let Some(record) = self.storing.take() else { return };
        match stored {
            Stored::There => {
                self.present = record;
                self.ever.push(record);
            }
            Stored::NotThere => self.behind = self.behind_before,
            Stored::Unknown => self.failed = true,
        }
        self.witness.handle(self.now, Input::Stored { pair: PAIR, stored });
    }

    /// The process dies, with what it was writing perhaps on disk, and starts anew.
    fn restart(&mut self, how: u8) {
        if how < 240 {
            return;
        }
        if let Some(record) = self.storing.take()
            && how & 1 == 1
        {
            self.present = record;
            self.ever.push(record);
        }
        let config = Config { grace: Duration::from_millis(5) };
        let held = Held { record: self.present, behind: self.behind };
        self.witness = Witness::new(self.now, config, [(PAIR, Some(held))]);
        self.conns.clear();
        self.failed = false;
    }

    fn drain(&mut self) {
        while let Some(output) = self.witness.poll() {
            match output {
                Output::Answer { answer: WitnessAnswer::Present { record }, .. } => {
                    assert_eq!(record, self.present, "an answer that is not on disk");
                    assert!(!self.failed, "an answer that nobody can know");
                }
                Output::Close { conn } => {
                    self.conns.remove(&conn);
                }
                Output::Store { present, record } => self.store(present, record),
                Output::Adopt { record } => self.adopt(record),
                Output::Distrust { told, .. } => self.behind = Some(told),
                Output::Answer { .. } | Output::Event(_) => {}
            }
        }
        for place in ReplicaId::BOTH {
            // The witness bounds those that have introduced themselves, which here is all.
            let theirs = self.conns.values().filter(|at| **at == place).count();
            assert!(theirs <= limits::WITNESS_CONNECTIONS_PER_PLACE, "too many connections");
        }
    }

    /// A member's word for what the record is: it is taken where it is later than what is here.
    fn adopt(&mut self, record: Record) {
        assert_eq!(self.storing, None, "two writes at a time");
        assert!(record.epoch > self.present.epoch, "numbers only grow");
        assert!(record.members != Members::NONE, "somebody is a member");
        self.behind_before = self.behind.take();
        self.storing = Some(record);
    }

    fn store(&mut self, present: Digest, record: Record) {
        assert_eq!(self.storing, None, "two writes at a time");
        assert_eq!(present, self.present.digest(), "another record is replaced than the present");
        assert!(record.epoch > self.present.epoch, "numbers only grow");
        checker(&self.present, &record);
        self.behind_before = self.behind;
        self.storing = Some(record);
    }
}

/// What must hold between a record and the next, told from the members alone: who acts alone
/// stays a member until its own successor, or an operator, takes its place.
fn checker(before: &Record, after: &Record) {
    let [was, is] = [before.members, after.members];
    assert!(is != Members::NONE && is.a != is.b, "an epoch has members, and they are two");
    assert!(is.a != Some(Incarnation(0)) && is.b != Some(Incarnation(0)), "a nameless member");
    if was == Members::NONE {
        let begins = matches!(after.origin, Origin::Formed | Origin::Adopted);
        assert!(begins, "a vacant record became {after:?}");
        return;
    }
    let (asker, other) = (after.asker, after.asker.other());
    let (mine, theirs) = (is.at(asker), is.at(other));
    match after.origin {
        Origin::Restarted => {
            assert!(was.at(asker).is_some(), "a successor of nobody");
            assert!(mine.is_some() && theirs.is_none(), "a successor brings somebody along");
        }
        Origin::Left(from) => {
            assert_eq!(from, before.digest(), "who left did not leave this epoch");
            assert!(was.is_duplex() && mine.is_none(), "who leaves leaves the other alone");
            assert_eq!(theirs, was.at(other), "who stays is another process");
        }
        _ => {
            assert_eq!(mine, was.at(asker), "the asker is not the member that it was");
            let kept = theirs == was.at(other);
            match after.origin {
                Origin::Alone => assert!(was.is_duplex() && theirs.is_none(), "not alone"),
                Origin::Joined => assert!(was.at(other).is_none() && theirs.is_some(), "no join"),
                Origin::Renewal(of) => assert!(kept && of == before.digest(), "no renewal"),
                origin => panic!("{origin:?} of a pair that has members"),
            }
        }
    }
}

fn both(place: ReplicaId, own: Incarnation, other: Incarnation) -> Members {
    match place {
        ReplicaId::A => Members::both(own, other),
        ReplicaId::B => Members::both(other, own),
    }
}

fn name(origin: Origin) -> &'static str {
    match origin {
        Origin::Vacant => "vacant",
        Origin::Formed => "formed",
        Origin::Alone => "alone",
        Origin::Restarted => "restarted",
        Origin::Joined => "joined",
        Origin::Left(_) => "left",
        Origin::Adopted => "adopted",
        Origin::Renewal(_) => "renewal",
    }
}

fn place(source: &mut Source<'_>) -> ReplicaId {
    if source.flag() { ReplicaId::B } else { ReplicaId::A }
}

/// Mostly the same process.
fn incarnation(place: ReplicaId, source: &mut Source<'_>) -> Incarnation {
    let extra = u64::from(source.byte() > 224);
    Incarnation(10 + place.slot() as u64 * 10 + extra)
}
