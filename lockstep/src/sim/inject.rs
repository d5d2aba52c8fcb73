//! The faults strike, and end.

use super::faults::{Fault, FaultKind};
use super::marks::Mark;
use super::net::{Trouble, WireId};
use super::node::Arrival;
use super::service::ServiceFault;
use super::world::{Due, World};
use crate::ids::{LinkId, ReplicaId};
use crate::proto::Command;
use crate::sim::checkers::Observation;
use crate::store::memory::Operation;

impl World {
    pub(super) fn on_strike(&mut self, at: usize) {
        let fault = self.options.faults[at];
        self.trace.step(self.at, 50, fault.kind as u64);
        self.trace.say(self.at, || format!("fault {} begins: {fault:?}", fault.kind));
        if self.inject(at, fault) {
            *self.faults.entry(fault.kind).or_default() += 1;
            self.queue.put(fault.until, Due::ClearFault(at));
        }
    }

    /// Tells whether there was anything to strike.
    fn inject(&mut self, at: usize, fault: Fault) -> bool {
        let Fault { kind, place, degree, .. } = fault;
        match kind {
            FaultKind::Crash => return self.crash(fault),
            FaultKind::CrashBoth => return self.crash_both(fault),
            FaultKind::Storm => {
                for _ in 0..8 {
                    let place = self.rng.pick(&ReplicaId::BOTH);
                    let at = self.rng.from(self.at, fault.until);
                    let life = self.servers[place.slot()].life;
                    self.queue.put(at, Due::Kill { place, life });
                    self.queue.put(at + 1_000_000, Due::Restart { place });
                }
            }
            FaultKind::DiskError => {
                let (operation, error) = match fault.which % 6 {
                    0 => (Some(Operation::Sync), EIO),
                    1 => (Some(Operation::Write), EIO),
                    2 => (Some(Operation::Write), ENOSPC),
                    3 => (Some(Operation::Read), EIO),
                    4 => (Some(Operation::Create), EMFILE),
                    _ => (None, ENOMEM),
                };
                let nth = self.rng.spread(1, 30);
                self.server(place).storage.disk.inject(operation, nth, error);
            }
            // Whose disk it would be is not known while they are swapped.
            FaultKind::CopiedBack
            | FaultKind::Swapped
            | FaultKind::Lying
            | FaultKind::LostWrite
            | FaultKind::Misdirected
            | FaultKind::DiskLost
            | FaultKind::DiskDamaged
                if self.are_swapped =>
            {
                return false;
            }
            FaultKind::CopiedBack => {
                let copy = self.server(place).storage.disk.backup();
                self.kill_server(place);
                self.server(place).storage.disk = copy;
                self.restart_later(place, degree);
            }
            FaultKind::Swapped => {
                ReplicaId::BOTH.into_iter().for_each(|place| {
                    self.kill_server(place);
                    self.restart_later(place, degree);
                });
                self.are_swapped = true;
                self.swap_disks();
            }
            FaultKind::Lying => {
                let stale = self.server(place).storage.disk.stale();
                self.server(place).stale = Some((stale, Mark::LiedUnharmed));
                let life = self.servers[place.slot()].life;
                self.queue.put(fault.until, Due::Kill { place, life });
            }
            FaultKind::DiskLost => return self.lose(fault, false),
            FaultKind::DiskDamaged => return self.lose(fault, true),
            FaultKind::SlowDisk | FaultKind::HungDisk => {
                self.server(place).disk_slowness = degree;
            }
            FaultKind::LeaveBoth => {
                ReplicaId::BOTH.into_iter().for_each(|place| self.command(place, Command::Stop));
            }
            FaultKind::Leave => self.arrive(place, Arrival::Command(Command::Stop)),
            FaultKind::HandOver => {
                ReplicaId::BOTH
                    .into_iter()
                    .for_each(|place| self.command(place, Command::HandOver));
            }
            FaultKind::Pause => {
                let until = fault.until.min(self.options.faults_end);
                self.server(place).paused_until = until;
                self.wake_later(place);
            }
            FaultKind::ClockJump => {
                let by = i64::try_from(degree).unwrap_or(i64::MAX);
                let by = if fault.which.is_multiple_of(2) { by } else { -by };
                self.server(place).clock.jump(by);
            }
            FaultKind::SlowService => self.server(place).slowness = degree,
            FaultKind::AllCut => self.cut_all_links(at),
            FaultKind::Squeeze => {
                self.cut_all_links(at);
                self.mute_witness(at);
            }
            FaultKind::WitnessCrash => {
                return self.kill_witness(self.witnesses.nth(fault.which));
            }
            FaultKind::WitnessAway => {
                let slot = fault.which % usize::from(self.options.witnesses);
                if fault.degree.is_multiple_of(2) {
                    return self.kill_witness(slot);
                }
                for place in ReplicaId::BOTH {
                    let wire = self.witness_wire(place, u8::from(slot == 1));
                    self.trouble(wire, [true, true], at, stall());
                }
            }
            // It counts when it strikes: the mark says so.
            FaultKind::JoinCrash => self.kill_points.set(fault.which),
            FaultKind::LostWrite | FaultKind::Misdirected => {
                let nth = self.rng.spread(1, 30);
                let shift = (kind == FaultKind::Misdirected).then_some(degree);
                self.server(place).storage.disk.stray(nth, shift);
                let life = self.servers[place.slot()].life;
                self.queue.put(fault.until, Due::Kill { place, life });
            }
            FaultKind::WitnessDisk => self.fail_witness(self.witnesses.nth(fault.which)),
            FaultKind::WitnessWiped => {
                return self.replace_witness(self.witnesses.nth(fault.which), false);
            }
            FaultKind::WitnessRestored => {
                return self.replace_witness(self.witnesses.nth(fault.which), true);
            }
            FaultKind::WitnessMute => self.mute_witness(at),
            FaultKind::Flip => return self.spoil(place, &[place], ServiceFault::Flip),
            FaultKind::PanicOne => return self.spoil(place, &[place], ServiceFault::Panic),
            FaultKind::PanicBoth => {
                let client = fault.which % self.clients.len();
                self.clients[client].poison = true;
            }
            FaultKind::ClientCut => {
                let wire = self.client_wire(fault.which % self.clients.len(), place);
                self.break_off(wire);
            }
            _ => self.trouble_wires(at, fault),
        }
        true
    }

    fn crash(&mut self, fault: Fault) -> bool {
        let killed = self.kill_server(fault.place);
        self.restart_later(fault.place, fault.degree);
        killed
    }

    /// Both end within a moment, and come back in either order.
    fn crash_both(&mut self, fault: Fault) -> bool {
        let killed = self.kill_server(fault.place);
        let other = fault.place.other();
        let life = self.servers[other.slot()].life;
        let at = self.at + self.rng.spread(1, fault.degree);
        self.queue.put(at, Due::Kill { place: other, life });
        self.restart_later(fault.place, 4 * fault.degree);
        killed
    }

    /// It starts again, sooner or later.
    pub(super) fn restart_later(&mut self, place: ReplicaId, within: u64) {
        let at = self.at + self.rng.spread(1_000_000, within.max(1_000_001));
        self.queue.put(at, Due::Restart { place });
    }

    /// The machine gets an empty disk, or finds what is on it damaged, while nothing runs there.
    fn lose(&mut self, fault: Fault, damaged: bool) -> bool {
        self.kill_server(fault.place);
        if damaged {
            let Self { servers, rng, .. } = self;
            servers[fault.place.slot()].storage.disk.rot(rng);
        } else {
            self.lose_disk(fault.place);
            self.reach(Mark::EmptyDisk);
        }
        self.restart_later(fault.place, fault.degree);
        true
    }

    fn spoil(&mut self, place: ReplicaId, places: &[ReplicaId], mishap: ServiceFault) -> bool {
        self.see(Observation::Spoiled { place });
        places.iter().for_each(|place| self.servers[place.slot()].fault_switch.set(mishap));
        true
    }

    fn wake_later(&mut self, place: ReplicaId) {
        if self.servers[place.slot()].is_running() {
            self.arrive(place, Arrival::Poke);
        }
    }

    fn cut_all_links(&mut self, at: usize) {
        for link in 0..self.options.links.len() {
            self.trouble(WireId(link), [true, true], at, stall());
        }
    }

    /// The witness hears, but its answers do not come.
    fn mute_witness(&mut self, at: usize) {
        for slot in self.slots() {
            for place in ReplicaId::BOTH {
                let wire = self.witness_wire(place, slot);
                self.trouble(wire, [false, true], at, stall());
            }
        }
    }

    fn trouble_wires(&mut self, at: usize, fault: Fault) {
        let permille = u32::try_from(fault.degree.min(1000)).unwrap_or(1000);
        let none = Trouble::default();
        let both = [true, true];
        let mut one = [false, false];
        one[fault.place.slot()] = true;
        let (ways, trouble) = match fault.kind {
            FaultKind::LinkCut | FaultKind::WitnessCut | FaultKind::ClientStall => (both, stall()),
            FaultKind::LinkOneWay => (one, stall()),
            FaultKind::LinkSlow | FaultKind::WitnessLate => {
                (both, Trouble { delay: fault.degree, ..none })
            }
            FaultKind::LinkLoss => (both, Trouble { loss: permille, ..none }),
            FaultKind::LinkReorder => (both, Trouble { reorder: permille, ..none }),
            FaultKind::LinkDuplicate => (both, Trouble { duplicate: permille, ..none }),
            FaultKind::LinkCorrupt => (one, Trouble { corrupt: permille, ..none }),
            FaultKind::LinkFull => {
                let capacity = usize::try_from(fault.degree).ok();
                (one, Trouble { capacity, ..none })
            }
            // A request that comes a second time, late, is a duplicate on the way to it.
            FaultKind::WitnessTwice => ([true, false], Trouble { duplicate: 400, ..none }),
            _ => return,
        };
        let wire = match fault.kind {
            FaultKind::WitnessCut | FaultKind::WitnessLate | FaultKind::WitnessTwice => {
                let slot = fault.which % usize::from(self.options.witnesses);
                self.witness_wire(fault.place, u8::from(slot == 1))
            }
            FaultKind::ClientStall => {
                self.client_wire(fault.which % self.clients.len(), fault.place)
            }
            _ => {
                let link = fault.which % self.options.links.len();
                self.link_wire(LinkId(u8::try_from(link).unwrap_or(0)))
            }
        };
        self.trouble(wire, ways, at, trouble);
    }

    fn trouble(&mut self, wire: WireId, ways: [bool; 2], at: usize, trouble: Trouble) {
        for (end, struck) in ways.into_iter().enumerate() {
            if struck {
                self.wires[wire.0].lanes[end].trouble(at, trouble, self.at);
            }
        }
        if trouble.stalled {
            self.expect_idle(wire);
        }
    }

    pub(super) fn on_clear_fault(&mut self, at: usize) {
        if self.healed.is_some() {
            return;
        }
        let fault = self.options.faults[at];
        self.trace.step(self.at, 51, fault.kind as u64);
        self.trace.say(self.at, || format!("fault {} ends", fault.kind));
        match fault.kind {
            FaultKind::SlowService => self.server(fault.place).slowness = 0,
            FaultKind::SlowDisk | FaultKind::HungDisk => {
                self.server(fault.place).disk_slowness = 0;
            }
            FaultKind::WitnessCrash | FaultKind::WitnessWiped | FaultKind::WitnessRestored => {
                self.start_witness(self.witnesses.nth(fault.which));
            }
            // Whoever looks after the processes starts one again whose disk failed.
            FaultKind::WitnessDisk => {
                let machine = self.witnesses.nth(fault.which);
                self.kill_witness(machine);
                self.start_witness(machine);
            }
            _ => {
                if fault.kind == FaultKind::WitnessAway {
                    self.start_witness(self.witnesses.nth(fault.which));
                }
                for wire in 0..self.wires.len() {
                    for end in [0, 1] {
                        let waiting = self.wires[wire].lanes[end].clear_fault(at, self.at);
                        self.carry_on(WireId(wire), end, waiting);
                    }
                }
            }
        }
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn end_all_faults(&mut self) {
        for wire in 0..self.wires.len() {
            for end in [0, 1] {
                let waiting = self.wires[wire].lanes[end].heal(self.at);
                self.carry_on(WireId(wire), end, waiting);
            }
        }
        for server in &mut self.servers {
            server.slowness = 0;
            server.disk_slowness = 0;
            server.storage.disk.heal();
            server.storage.disk.mend();
            server.storage.disk.retain_everything();
            server.paused_until = server.paused_until.min(self.at);
            server.fault_switch.clear();
        }
        ReplicaId::BOTH.into_iter().for_each(|place| self.wake_anew(place));
        self.kill_points.clear();
        self.options.retained_bytes = u64::MAX;
        self.mend_witnesses();
        ReplicaId::BOTH.into_iter().for_each(|place| self.start_server(place));
    }
}

/// The system's numbers for what goes wrong with files.
const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

fn stall() -> Trouble {
    Trouble { stalled: true, ..Trouble::default() }
}
