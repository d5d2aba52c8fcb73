//! The witness by operations, and any bytes as its file.
//!
//! The first byte says whether the rest is a record's file (even), or what askers and a disk do.

use ::core::time::Duration;
use std::collections::BTreeMap;

use lockstep::digest::Digest;
use lockstep::ids::{ConnId, Epoch, Incarnation, Lineage, Mono, Nonce, PairId, Place};
use lockstep::limits;
use lockstep::record::{Members, Origin, Record, Request};
use lockstep::wire::frames::{Versions, WitnessAnswer, WitnessCall};
use lockstep::witness::format::{FILE_BYTES, decode, encode};
use lockstep::witness::{Config, Held, Input, Output, Told, Witness};

use crate::source::Source;

const PAIR: PairId = PairId([7; 16]);

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    if how & 1 == 0 { file(rest) } else { World::new().run(&mut Source::new(rest)) }
}

/// A file that can be read is written as the same bytes but for what has no meaning.
fn file(bytes: &[u8]) {
    let _ = decode(bytes);
    let mut sealed = bytes.to_vec();
    sealed.resize(FILE_BYTES, 0);
    sealed[..10].copy_from_slice(b"LKSTWREC\x01\x00");
    let checksum = Digest::of(&sealed[..FILE_BYTES - 16]);
    sealed[FILE_BYTES - 16..].copy_from_slice(&checksum.0);
    if let Ok(held) = decode(&sealed) {
        assert_eq!(decode(&encode(&held)), Ok(held), "a record changes when it is written");
    }
}

/// Connections of either place, with a disk that may fail, and every record so far.
struct World {
    witness: Witness,
    now: Mono,
    /// Who is behind each connection.
    conns: BTreeMap<ConnId, Place>,
    next: u64,
    /// What is being written.
    storing: Option<Record>,
    /// What the disk has, and everything that it ever had.
    present: Record,
    ever: Vec<Record>,
    /// Told of by a member, and on disk too.
    behind: Option<Told>,
    /// After a failed write nobody knows what is kept.
    failed: bool,
}

impl World {
    fn new() -> Self {
        let present = Record::vacant(PAIR, Lineage(0), Epoch(0));
        let config = Config { grace: Duration::from_millis(5) };
        let loaded = [(PAIR, Some(Held::trusted(present)))];
        Self {
            witness: Witness::new(Mono(0), config, loaded),
            now: Mono(0),
            conns: BTreeMap::new(),
            next: 0,
            storing: None,
            present,
            ever: vec![present],
            behind: None,
            failed: false,
        }
    }

    fn run(mut self, source: &mut Source<'_>) {
        while let Some(op) = source.choice() {
            self.now = Mono(self.now.0 + 1_000_000);
            match op % 8 {
                0 => self.connect(source),
                1 => self.hang_up(source),
                2 => self.query(source),
                3..=5 => self.ask(source),
                6 => self.stored(source.byte() != 0xFF),
                _ => self.restart(source.byte()),
            }
            self.drain();
        }
    }

    fn conn(&self, source: &mut Source<'_>) -> Option<(ConnId, Place)> {
        let at = source.below(self.conns.len().max(1));
        self.conns.iter().nth(at).map(|(conn, place)| (*conn, *place))
    }

    fn call(&mut self, conn: ConnId, place: Place, call: WitnessCall) {
        self.witness.handle(self.now, Input::Call { conn, pair: PAIR, place, call });
    }

    fn connect(&mut self, source: &mut Source<'_>) {
        let place = place(source);
        self.next += 1;
        let conn = ConnId(self.next);
        let incarnation = incarnation(place, source);
        let protocol = Versions { oldest: 1, newest: 1 };
        self.conns.insert(conn, place);
        self.call(conn, place, WitnessCall::Hello { pair: PAIR, place, incarnation, protocol });
    }

    fn hang_up(&mut self, source: &mut Source<'_>) {
        let Some((conn, _)) = self.conn(source) else { return };
        self.conns.remove(&conn);
        self.witness.handle(self.now, Input::Gone { conn });
    }

    fn query(&mut self, source: &mut Source<'_>) {
        let Some((conn, place)) = self.conn(source) else { return };
        // A member tells of the truth, or at times of what the witness has lost.
        let known = match source.byte() {
            0..128 => None,
            byte @ 128..250 => Some(self.ever[usize::from(byte) % self.ever.len()]),
            _ => Some(self.record(source)),
        };
        self.call(conn, place, WitnessCall::Query { known });
    }

    fn ask(&mut self, source: &mut Source<'_>) {
        let Some((conn, place)) = self.conn(source) else { return };
        let next = self.record(source);
        let from = if source.byte() < 224 {
            self.present
        } else {
            self.ever[source.below(self.ever.len())]
        };
        let request = Request { present: from.digest(), next };
        self.call(conn, place, WitnessCall::Ask { request });
    }

    /// Mostly what could be granted next.
    fn record(&self, source: &mut Source<'_>) -> Record {
        let asker = place(source);
        let present = self.present;
        let members = match present.members {
            Members::NONE => {
                Members::both(incarnation(Place::A, source), incarnation(Place::B, source))
            }
            members => members,
        };
        let (origin, members) = match source.below(4) {
            0 => (Origin::Formed, members),
            1 => {
                let own = members.at(asker).unwrap_or_else(|| incarnation(asker, source));
                (Origin::Alone, Members::alone(asker, own))
            }
            2 => (Origin::Renewal(present.digest()), members),
            _ => (Origin::Formed, members),
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

    fn stored(&mut self, durable: bool) {
        let Some(record) = self.storing.take() else { return };
        if durable {
            self.present = record;
            self.ever.push(record);
        }
        self.failed |= !durable;
        self.witness.handle(self.now, Input::Stored { pair: PAIR, durable });
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
                Output::Distrust { told, .. } => self.behind = Some(told),
                Output::Answer { .. } | Output::Event(_) => {}
            }
        }
        for place in Place::BOTH {
            // The witness bounds those that have introduced themselves, which here is all.
            let theirs = self.conns.values().filter(|at| **at == place).count();
            assert!(theirs <= limits::WITNESS_CONNECTIONS_PER_PLACE, "too many connections");
        }
    }

    fn store(&mut self, present: Digest, record: Record) {
        assert_eq!(self.storing, None, "two writes at a time");
        assert_eq!(present, self.present.digest(), "another record is replaced than the present");
        assert!(record.epoch > self.present.epoch, "numbers only grow");
        assert!(
            self.present.members == Members::NONE || self.present.members.is_duplex(),
            "one that went on alone is replaced"
        );
        let alone = !record.members.is_duplex();
        assert!(
            !alone || self.present.members.has(record.asker, own(&record)),
            "one goes on alone that was no member"
        );
        self.storing = Some(record);
    }
}

/// The asker's process.
fn own(record: &Record) -> Incarnation {
    record.members.at(record.asker).expect("who asks is a member of what it asks for")
}

fn place(source: &mut Source<'_>) -> Place {
    if source.flag() { Place::B } else { Place::A }
}

/// Mostly the same process.
fn incarnation(place: Place, source: &mut Source<'_>) -> Incarnation {
    let extra = u64::from(source.byte() > 224);
    Incarnation(10 + place.slot() as u64 * 10 + extra)
}
