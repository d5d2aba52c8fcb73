//! The witness in the world: its core, and a disk that takes its time.

use std::collections::BTreeMap;

use super::broken::Broken;
use super::judges::Seen;
use super::marks::Mark;
use super::options::Options;
use super::world::{Due, PAIR, World};
use crate::ids::{ConnId, Epoch, Lineage, Mono, Place};
use crate::record::{Origin, Record};
use crate::wire::codec;
use crate::wire::frames::{WitnessAnswer, WitnessCall, WitnessRefusal};
use crate::witness::{Config, Held, Input, Output, Witness};

/// The witness process; two of them where the pair is broken so.
pub(super) struct SimWitness {
    cores: Option<Vec<Witness>>,
    disks: Vec<Record>,
    writing: Vec<Option<Record>>,
    config: Config,
    life: u32,
    conns: BTreeMap<Place, ConnId>,
    next_conn: u64,
    is_new: bool,
}

impl SimWitness {
    /// A witness that does not run yet, with a vacant record.
    pub(super) fn new(options: &Options, grace: u64) -> Self {
        let count = if options.broken == Some(Broken::TwoWitnesses) { 2 } else { 1 };
        let vacant = Record::vacant(PAIR, Lineage(1), Epoch(0));
        Self {
            cores: None,
            disks: vec![vacant; count],
            writing: vec![None; count],
            config: Config { grace: core::time::Duration::from_nanos(grace) },
            life: 0,
            conns: BTreeMap::new(),
            next_conn: 0,
            is_new: true,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.cores.is_some()
    }

    /// Which core serves a place.
    fn core_of(&self, place: Place) -> usize {
        place.slot().min(self.disks.len() - 1)
    }
}

impl World {
    pub(super) fn start_witness(&mut self) {
        if self.witness.is_running() {
            return;
        }
        self.trace.step(self.at, 20, 0);
        self.trace.say(self.at, || "witness starts".into());
        let mut config = self.witness.config;
        // The very first start need not wait for members that know better.
        if core::mem::take(&mut self.witness.is_new) {
            config.grace = core::time::Duration::ZERO;
        } else {
            self.reach(Mark::WitnessRestarted);
        }
        let now = Mono(self.at);
        let disks = self.witness.disks.clone();
        let core =
            |record: &Record| Witness::new(now, config, [(PAIR, Some(Held::trusted(*record)))]);
        self.witness.cores = Some(disks.iter().map(core).collect());
        self.witness.life += 1;
        if self.witness.life == 1 {
            self.see(Seen::Recorded { record: &disks[0] });
        }
        for place in Place::BOTH {
            let wire = self.witness_wire(place);
            self.renew(wire, 1);
        }
    }

    /// SIGKILL: what was being written is on the disk, or is not.
    pub(super) fn kill_witness(&mut self) {
        if self.witness.cores.take().is_none() {
            return;
        }
        self.trace.say(self.at, || "witness is killed".into());
        for core in 0..self.witness.disks.len() {
            if let Some(record) = self.witness.writing[core].take()
                && self.rng.chance(500)
            {
                self.record(core, record);
            }
        }
        self.witness.life += 1;
        self.witness.conns.clear();
        for place in Place::BOTH {
            let wire = self.witness_wire(place);
            self.abandon(wire, 1);
        }
    }

    fn record(&mut self, core: usize, record: Record) {
        self.witness.disks[core] = record;
        self.trace.say(self.at, || format!("witness {core} has {}", short(&record)));
        self.see(Seen::Recorded { record: &record });
    }

    pub(super) fn on_asker_up(&mut self, place: Place) {
        self.witness.next_conn += 1;
        let conn = ConnId(self.witness.next_conn);
        self.witness.conns.insert(place, conn);
    }

    pub(super) fn on_asker_down(&mut self, place: Place) {
        if let Some(conn) = self.witness.conns.remove(&place) {
            self.tell_witness(self.witness.core_of(place), Input::Gone { conn });
        }
    }

    pub(super) fn on_asked(&mut self, place: Place, bytes: &[u8]) {
        let Some(conn) = self.witness.conns.get(&place).copied() else { return };
        let wire = self.witness_wire(place);
        let Ok(call) = codec::decode_witness_call(bytes) else {
            self.reach(Mark::CorruptRefused);
            return self.close(wire, 1);
        };
        self.trace.say(self.at, || format!("{place} -> witness  {}", said(&call)));
        if self.watch.is_repeated(place, &call) {
            self.reach(Mark::WitnessDuplicate);
        }
        let input = Input::Call { conn, pair: PAIR, place, call };
        self.tell_witness(self.witness.core_of(place), input);
    }

    fn tell_witness(&mut self, core: usize, input: Input) {
        let now = Mono(self.at);
        let Some(cores) = &mut self.witness.cores else { return };
        cores[core].handle(now, input);
        while let Some(output) = self.witness.cores.as_mut().and_then(|cores| cores[core].poll()) {
            self.do_for_witness(core, output);
        }
    }

    fn do_for_witness(&mut self, core: usize, output: Output) {
        match output {
            Output::Answer { conn, answer } => self.answer_asker(conn, &answer),
            Output::Close { conn } => {
                if let Some(place) = self.asker(conn) {
                    self.close(self.witness_wire(place), 1);
                }
            }
            Output::Store { record, .. } | Output::Adopt { record } => {
                self.witness.writing[core] = Some(record);
                let at = self.at + self.rng.from(1_000, self.options.witness_fsync);
                self.queue.put(at, Due::Stored { core, life: self.witness.life });
            }
            Output::Distrust { told, .. } => {
                self.trace.say(self.at, || format!("witness distrusts its record: {told:?}"));
            }
            Output::Event(event) => {
                self.trace.say(self.at, || format!("witness  {event:?}"));
            }
        }
    }

    fn asker(&self, conn: ConnId) -> Option<Place> {
        self.witness.conns.iter().find(|(_, known)| **known == conn).map(|(place, _)| *place)
    }

    fn answer_asker(&mut self, conn: ConnId, answer: &WitnessAnswer) {
        let Some(place) = self.asker(conn) else { return };
        if *answer == (WitnessAnswer::Refused { reason: WitnessRefusal::Starting }) {
            self.reach(Mark::WitnessStarting);
        }
        match self.encoder.witness_answer(answer) {
            Ok(bytes) => {
                let wire = self.witness_wire(place);
                self.send(wire, 1, bytes);
            }
            Err(error) => panic!("the witness's answer {answer:?} cannot be encoded: {error}"),
        }
    }

    pub(super) fn on_stored(&mut self, core: usize, life: u32) {
        if life != self.witness.life {
            return;
        }
        let Some(record) = self.witness.writing[core].take() else { return };
        self.trace.step(self.at, 21, record.epoch.0);
        self.record(core, record);
        self.tell_witness(core, Input::Stored { pair: PAIR, durable: true });
        // Broken on purpose: both know of a pair together, each of its own side alone.
        if self.witness.disks.len() == 2 && record.origin != Origin::Alone {
            let other = 1 - core;
            self.witness.disks[other] = record;
            self.tell_witness(other, Input::Enrolled(Held::trusted(record)));
        }
    }
}

/// A record in a few words.
pub(super) fn short(record: &Record) -> String {
    let members: String = Place::BOTH
        .iter()
        .filter(|place| record.members.at(**place).is_some())
        .map(|place| place.to_string())
        .collect();
    let how = record.origin.name();
    format!("epoch {} {{{members}}} {how} by {}", record.epoch, record.asker)
}

fn said(call: &WitnessCall) -> String {
    match call {
        WitnessCall::Hello { incarnation, .. } => {
            format!("hello from {:04x}", incarnation.0 & 0xffff)
        }
        WitnessCall::Query { known } => {
            format!("query, knows {}", known.as_ref().map_or("nothing".into(), short))
        }
        WitnessCall::Ask { request } => format!("ask for {}", short(&request.next)),
        WitnessCall::Enrol { record } => format!("enrol with {}", short(record)),
    }
}
