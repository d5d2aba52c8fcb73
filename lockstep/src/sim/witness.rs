//! The witnesses in the world: for each a core, and a disk that takes its time.

use std::collections::BTreeMap;

use super::checkers::Observation;
use super::marks::Mark;
use super::mutants::Mutant;
use super::options::Options;
use super::rng::Rng;
use super::world::{Due, PAIR, World};
use crate::ids::{ConnId, Epoch, Lineage, MonotonicTime, ReplicaId};
use crate::record::{Origin, Record};
use crate::wire::codec;
use crate::wire::frames::{WitnessAnswer, WitnessCall, WitnessRefusal};
use crate::witness::{Config, Held, Input, Output, Stored, Told, Witness};

/// The witnesses' machines: the preferred one's and, if there is one, the alternate's.
pub(super) struct Witnesses {
    machines: Vec<Machine>,
    config: Config,
    /// Broken on purpose: each place has a machine of its own.
    are_split: bool,
}

/// A machine, and the process on it while one runs.
struct Machine {
    core: Option<Witness>,
    /// What its disk has for the pair: nothing if it was wiped, or the pair never came there.
    disk: Option<Held>,
    /// Every record that it ever had, as old copies of its disk have them.
    copies: Vec<Record>,
    writing: Option<Record>,
    /// The next write fails, before or after the record is changed.
    fails: bool,
    /// One did, so that the process knows nothing any more.
    has_failed: bool,
    life: u32,
    conns: BTreeMap<ReplicaId, ConnId>,
    next_conn: u64,
}

impl Machine {
    fn new(disk: Option<Held>) -> Self {
        Self {
            core: None,
            disk,
            copies: Vec::new(),
            writing: None,
            fails: false,
            has_failed: false,
            life: 0,
            conns: BTreeMap::new(),
            next_conn: 0,
        }
    }

    fn keep(&mut self, record: Record) {
        self.disk = Some(Held::trusted(record));
        self.copies.push(record);
    }
}

impl Witnesses {
    /// Witnesses that do not run yet: the preferred one with a vacant record.
    pub(super) fn new(options: &Options, grace: u64) -> Self {
        let are_split = options.mutant == Some(Mutant::TwoWitnesses);
        let vacant = Held::trusted(Record::vacant(PAIR, Lineage(1), Epoch(0)));
        let mut machines = vec![Machine::new(Some(vacant))];
        if are_split {
            machines.push(Machine::new(Some(vacant)));
        } else if options.witnesses > 1 {
            machines.push(Machine::new(None));
        }
        let config = Config { grace: core::time::Duration::from_nanos(grace) };
        Self { machines, config, are_split }
    }

    /// Whether the machine runs that serves this place in this slot.
    pub(super) fn is_running(&self, place: ReplicaId, slot: u8) -> bool {
        self.machines[self.machine(place, slot)].core.is_some()
    }

    fn machine(&self, place: ReplicaId, slot: u8) -> usize {
        if self.are_split { place.slot() } else { usize::from(slot) }
    }

    /// The machine's slot.
    fn slot(&self, machine: usize) -> u8 {
        if self.are_split { 0 } else { u8::from(machine == 1) }
    }

    /// The machine that a fault strikes.
    pub(super) fn nth(&self, which: usize) -> usize {
        which % self.machines.len()
    }
}

/// Starting, dying, and what happens to a disk meanwhile.
impl World {
    pub(super) fn start_witnesses(&mut self) {
        (0..self.witnesses.machines.len()).for_each(|machine| self.start_witness(machine));
    }

    pub(super) fn start_witness(&mut self, machine: usize) {
        if self.witnesses.machines[machine].core.is_some() {
            return;
        }
        self.trace.step(self.at, 20, machine as u64);
        self.trace.say(self.at, || format!("witness {machine} starts"));
        let mut config = self.witnesses.config;
        let slot = self.witnesses.slot(machine);
        let known = &mut self.witnesses.machines[machine];
        known.life += 1;
        let is_new = known.life == 1;
        let held = known.disk;
        // The very first start need not wait for members that know better.
        if is_new {
            config.grace = core::time::Duration::ZERO;
        }
        let pairs = held.map(|held| (PAIR, Some(held)));
        known.core = Some(Witness::new(MonotonicTime(self.at), config, pairs));
        if !is_new {
            self.reach(Mark::WitnessRestarted);
        } else if let (0, Some(held)) = (machine, held) {
            self.see(Observation::Recorded { slot, record: &held.record });
        }
        self.renew_witness(machine);
    }

    fn renew_witness(&mut self, machine: usize) {
        for (place, slot) in self.wires_to(machine) {
            let wire = self.witness_wire(place, slot);
            self.renew(wire, 1);
        }
    }

    /// The wires that end at a machine, by place and slot.
    fn wires_to(&self, machine: usize) -> Vec<(ReplicaId, u8)> {
        let slots = self.slots().flat_map(|slot| ReplicaId::BOTH.map(|place| (place, slot)));
        slots.filter(|(place, slot)| self.witnesses.machine(*place, *slot) == machine).collect()
    }

    /// SIGKILL: what was being written is on the disk, or is not.
    pub(super) fn kill_witness(&mut self, machine: usize) -> bool {
        let known = &mut self.witnesses.machines[machine];
        if known.core.take().is_none() {
            return false;
        }
        known.life += 1;
        known.conns.clear();
        (known.fails, known.has_failed) = (false, false);
        let writing = known.writing.take();
        self.trace.say(self.at, || format!("witness {machine} is killed"));
        if let Some(record) = writing.filter(|_| self.rng.chance(500)) {
            self.record(machine, record);
        }
        for (place, slot) in self.wires_to(machine) {
            let wire = self.witness_wire(place, slot);
            self.abandon(wire, 1);
        }
        true
    }

    /// The next write of a witness fails, and with it everything that depends on it.
    pub(super) fn fail_witness(&mut self, machine: usize) {
        self.witnesses.machines[machine].fails = true;
    }

    /// Every witness runs, and its disk works.
    pub(super) fn mend_witnesses(&mut self) {
        for machine in 0..self.witnesses.machines.len() {
            if self.witnesses.machines[machine].has_failed {
                self.kill_witness(machine);
            }
            self.witnesses.machines[machine].fails = false;
            self.start_witness(machine);
        }
    }

    /// A witness is killed, and its disk replaced by an empty one or by an old copy. An old copy
    /// is known for one: its file is not the one in which it was written.
    ///
    /// Not while a process is a member by its own word and by nobody else's: it could tell the
    /// witness that has forgotten what was true once (see rule W3).
    pub(super) fn replace_witness(&mut self, machine: usize, restored: bool) -> bool {
        let slot = self.witnesses.slot(machine);
        let is_vacant = |record: &Record| record.origin == Origin::Vacant;
        let has_something = self.witnesses.machines[machine].disk.is_some();
        let observed = self.checkers.observed();
        let is_formed = observed.latest().is_some_and(|latest| !is_vacant(latest));
        if self.witnesses.are_split || !has_something || !is_formed || !observed.is_unanimous() {
            return false;
        }
        self.kill_witness(machine);
        let Self { witnesses, rng, .. } = self;
        let known = &mut witnesses.machines[machine];
        known.disk = match restored {
            true => old_copy(&known.copies, rng),
            false => None,
        };
        self.trace.say(self.at, || format!("witness {machine} has another disk"));
        self.reach(if restored { Mark::WitnessRestored } else { Mark::WitnessWiped });
        self.see(Observation::Forgotten { slot });
        true
    }

    /// An operator begins a new lineage where the pair is to go on, with everything stopped.
    pub(super) fn begin_lineage(&mut self, slot: u8) {
        let machine = usize::from(slot);
        self.kill_witness(machine);
        let known = &mut self.witnesses.machines[machine];
        let vacant = match known.disk {
            Some(held) => held.next_lineage(),
            // Enrolled there as a new one first.
            None => Held::trusted(Record::vacant(PAIR, Lineage(1), Epoch(0))).next_lineage(),
        };
        if let Some(record) = vacant {
            self.record(machine, record);
        }
        self.start_witness(machine);
    }

    fn record(&mut self, machine: usize, record: Record) {
        self.witnesses.machines[machine].keep(record);
        self.trace.say(self.at, || format!("witness {machine} has {}", short(&record)));
        let slot = self.witnesses.slot(machine);
        self.see(Observation::Recorded { slot, record: &record });
    }
}

fn old_copy(copies: &[Record], rng: &mut Rng) -> Option<Held> {
    let copy = (!copies.is_empty()).then(|| copies[rng.below(copies.len())])?;
    Some(Held { record: copy, behind: Some(Told::from(&copy)) })
}

/// What is asked, and answered.
impl World {
    pub(super) fn on_asker_up(&mut self, place: ReplicaId, slot: u8) {
        let machine = self.witnesses.machine(place, slot);
        let known = &mut self.witnesses.machines[machine];
        known.next_conn += 1;
        known.conns.insert(place, ConnId(known.next_conn));
    }

    pub(super) fn on_asker_down(&mut self, place: ReplicaId, slot: u8) {
        let machine = self.witnesses.machine(place, slot);
        if let Some(conn) = self.witnesses.machines[machine].conns.remove(&place) {
            self.tell_witness(machine, Input::Closed { conn });
        }
    }

    pub(super) fn on_asked(&mut self, place: ReplicaId, slot: u8, bytes: &[u8]) {
        let machine = self.witnesses.machine(place, slot);
        let Some(conn) = self.witnesses.machines[machine].conns.get(&place).copied() else {
            return;
        };
        let Ok(call) = codec::decode_witness_call(bytes) else {
            self.reach(Mark::CorruptRefused);
            return self.close(self.witness_wire(place, slot), 1);
        };
        self.trace.say(self.at, || format!("{place} -> witness {machine}  {}", said(&call)));
        if self.watch.is_repeated(place, &call) {
            self.reach(Mark::WitnessDuplicate);
        }
        self.tell_witness(machine, Input::Call { conn, pair: PAIR, place, call });
    }

    fn tell_witness(&mut self, machine: usize, input: Input) {
        let now = MonotonicTime(self.at);
        let Some(core) = &mut self.witnesses.machines[machine].core else { return };
        core.handle(now, input);
        while let Some(output) =
            self.witnesses.machines[machine].core.as_mut().and_then(Witness::poll)
        {
            self.do_for_witness(machine, output);
        }
    }

    fn do_for_witness(&mut self, machine: usize, output: Output) {
        match output {
            Output::Answer { conn, answer } => self.answer_asker(machine, conn, &answer),
            Output::Close { conn } => {
                if let Some(place) = self.asker(machine, conn) {
                    let wire = self.witness_wire(place, self.witnesses.slot(machine));
                    self.close(wire, 1);
                }
            }
            Output::Store { record, .. } | Output::Adopt { record } => {
                let known = &mut self.witnesses.machines[machine];
                known.writing = Some(record);
                let life = known.life;
                let at = self.at + self.rng.from(1_000, self.options.witness_fsync);
                self.queue.put(at, Due::Stored { machine, life });
            }
            Output::Distrust { told, .. } => {
                if let Some(held) = &mut self.witnesses.machines[machine].disk {
                    held.behind = held.behind.max(Some(told));
                }
                self.trace
                    .say(self.at, || format!("witness {machine} distrusts its record: {told:?}"));
            }
            Output::Event(event) => {
                self.trace.say(self.at, || format!("witness {machine}  {event:?}"));
            }
        }
    }

    fn asker(&self, machine: usize, conn: ConnId) -> Option<ReplicaId> {
        let conns = &self.witnesses.machines[machine].conns;
        conns.iter().find(|(_, known)| **known == conn).map(|(place, _)| *place)
    }

    fn answer_asker(&mut self, machine: usize, conn: ConnId, answer: &WitnessAnswer) {
        let Some(place) = self.asker(machine, conn) else { return };
        if let WitnessAnswer::Refused { reason } = answer {
            match reason {
                WitnessRefusal::Starting => self.reach(Mark::WitnessStarting),
                WitnessRefusal::UnknownPair => self.reach(Mark::WitnessUnknown),
                WitnessRefusal::Behind => self.reach(Mark::WitnessBehind),
                WitnessRefusal::Storage => self.reach(Mark::WitnessStorage),
                // Of those who are not what they say, or of another version.
                WitnessRefusal::NotYou | WitnessRefusal::Version => {}
            }
        }
        match self.encoder.witness_answer(answer) {
            Ok(bytes) => {
                let wire = self.witness_wire(place, self.witnesses.slot(machine));
                self.send(wire, 1, bytes);
            }
            Err(error) => panic!("the witness's answer {answer:?} cannot be encoded: {error}"),
        }
    }

    pub(super) fn on_stored(&mut self, machine: usize, life: u32) {
        let known = &mut self.witnesses.machines[machine];
        if life != known.life {
            return;
        }
        let Some(record) = known.writing.take() else { return };
        let stored = match known.fails {
            false => Stored::There,
            true if self.rng.chance(500) => Stored::NotThere,
            true => Stored::Unknown,
        };
        // What is full stays so for a while; what nobody knows the process does not touch again.
        known.fails = stored == Stored::NotThere && self.rng.chance(500);
        known.has_failed |= stored == Stored::Unknown;
        self.trace.step(self.at, 21, record.epoch.0);
        // What a write leaves of which nobody knows, the next process finds out.
        if stored == Stored::There || (stored == Stored::Unknown && self.rng.chance(500)) {
            self.record(machine, record);
        }
        if stored == Stored::NotThere {
            self.reach(Mark::WitnessNotStored);
        }
        self.tell_witness(machine, Input::Stored { pair: PAIR, stored });
        // Broken on purpose: both know of a pair together, each of its own side alone.
        if self.witnesses.are_split && record.origin != Origin::Alone {
            let other = 1 - machine;
            self.witnesses.machines[other].keep(record);
            self.tell_witness(other, Input::Enrolled(Held::trusted(record)));
        }
    }
}

/// A record in a few words.
pub(super) fn short(record: &Record) -> String {
    let members: String = ReplicaId::BOTH
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
        WitnessCall::CompareAndSwap { request } => format!("ask for {}", short(&request.next)),
        WitnessCall::Enrol { record } => format!("enrol with {}", short(record)),
    }
}
