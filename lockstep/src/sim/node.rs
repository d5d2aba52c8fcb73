//! A CoServer in the world: its process, and the rounds in which that drives the replica core as
//! the real runtime does.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::checkers::{Observation, Who};
use super::clock::Clock;
use super::disk::{Disk, Found};
use super::marks::Mark;
use super::mutants::Mutant;
use super::net::WireId;
use super::options::Options;
use super::service::{FaultSwitch, Flaw, FrozenShelf, TestService};
use super::storage::Storage;
use super::wiring::Role;
use super::world::{Due, PAIR, World};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::ids::{ConnId, Incarnation, Index, LinkId, ReplicaId, SessionId, Timestamps};
use crate::limits;
use crate::output::Executed;
use crate::proto::io::{self, Membership};
use crate::proto::{Boot, Command, Config, Input, Replica, Standing, StorageResponse};
use crate::store::home::HomeError;
use crate::store::replica::OpenError;
use crate::unit::{FrozenUnit, Unit};
use crate::wire::frames::{ClientCall, Environment, Versions};

/// Most inputs that a device of the world keeps for a CoServer that takes none.
pub(super) const DEVICE_QUEUE: usize = 32;

/// How long a replica that is out goes on telling its clients (ns).
pub(super) const GRACE: u64 = 60_000_000;

/// A wake-up so late is behind a gap: sooner than of a real pair, so that pauses and removals
/// make gaps.
pub(super) const GAP_LEAST: Duration = Duration::from_millis(150);

/// The machine at a place, and the process on it while one runs.
pub(super) struct CoServer {
    place: ReplicaId,
    pub(super) clock: Clock,
    pub(super) life: u32,
    pub(super) process: Option<Process>,
    pub(super) inbox: VecDeque<Arrival>,
    runs_at: Option<u64>,
    pub(super) paused_until: u64,
    pub(super) fault_switch: FaultSwitch,
    /// Steps of its service take this much longer (ns).
    pub(super) slowness: u64,
    /// So does whatever its disk is to do.
    pub(super) disk_slowness: u64,
    pub(super) storage: Storage,
    /// What its disk has if it lies, or a write strayed, and the mark of that.
    pub(super) stale: Option<(Disk, Mark)>,
    pub(super) next_input: u64,
    /// An operator wants the next process to begin a lineage with what its disk has.
    pub(super) adopts: bool,
}

/// What has come to a process and waits for it to look.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A link is up.
    LinkUp(LinkId),
    /// A link is down.
    LinkDown(LinkId),
    /// A full link takes frames again.
    LinkWritable(LinkId),
    /// The witness in this slot is connected.
    WitnessUp(u8),
    /// The witness in this slot is not connected any more.
    WitnessDown(u8),
    /// A client is connected.
    ClientUp(WireId),
    /// A client is not connected any more.
    ClientDown(WireId),
    /// A frame has come on a wire.
    Frame { wire: WireId, generation: u32, role: Role, bytes: Bytes },
    /// The service thread has executed an entry.
    Executed(Executed),
    /// The storage thread has an answer.
    Disk(StorageResponse),
    /// The other place's guardian says that this process has ended.
    PeerDied(Incarnation),
    /// The operator gives a command.
    Command(Command),
    /// A device has an input.
    Poke,
}

pub(super) struct Process {
    pub(super) who: Who,
    pub(super) replica: Replica,
    pub(super) unit: Unit<TestService>,
    pub(super) conns: BTreeMap<ConnId, WireId>,
    pub(super) wires: BTreeMap<WireId, ConnId>,
    /// The witness that its replica asks, and which of them are connected.
    pub(super) slot: u8,
    pub(super) witnesses: [bool; 2],
    pub(super) next_conn: u64,
    /// Clients' frames that wait until inputs are taken.
    pub(super) waiting: VecDeque<(ConnId, ClientCall)>,
    pub(super) armed: Option<u64>,
    /// Entries for the service thread, the first of which it is at.
    pub(super) executing: VecDeque<Entry>,
    /// Counts the states that were restored: results of an earlier one are void.
    pub(super) state: u32,
    /// The state as it was at the newest checkpoint's entry.
    pub(super) frozen: Option<FrozenUnit<FrozenShelf>>,
    pub(super) device: VecDeque<u64>,
    /// Since when its devices know what to do after a log was taken up.
    pub(super) devices_told: Option<u64>,
    pub(super) taken: BTreeSet<u64>,
    pub(super) last_index: Index,
    pub(super) standing: Standing,
    pub(super) rounds: u64,
    pub(super) is_ending: bool,
    /// For a pair that answers too early: who asked last in a session.
    pub(super) asked: BTreeMap<SessionId, ConnId>,
}

impl CoServer {
    pub(super) fn new(place: ReplicaId, mut clock: Clock, options: &Options) -> Self {
        if options.mutant == Some(Mutant::FrozenClock) {
            clock.slow_down(1000);
        }
        Self {
            place,
            clock,
            life: 0,
            process: None,
            inbox: VecDeque::new(),
            runs_at: None,
            paused_until: 0,
            fault_switch: FaultSwitch::default(),
            slowness: 0,
            disk_slowness: 0,
            storage: Storage::default(),
            stale: None,
            next_input: 0,
            adopts: false,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn is_sequencer(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            let place = self.place;
            matches!(process.standing, Standing::Serving { sequencer, .. } if sequencer == place)
        })
    }

    pub(super) fn who(&self) -> Option<Who> {
        self.process.as_ref().map(|process| process.who)
    }
}

/// Entries that may be ordered and not released.
pub(super) fn window(options: &Options) -> usize {
    if options.mutant == Some(Mutant::NoWindow) { 4096 } else { options.window_entries }
}

fn config(options: &Options, place: ReplicaId) -> Config {
    Config {
        pair: PAIR,
        place,
        links: u8::try_from(options.links.len()).unwrap_or(u8::MAX),
        environment: Environment {
            service: "shelf".into(),
            service_version: 1,
            configuration: Digest::ZERO,
            protocol: Versions::SPOKEN,
        },
        silence: options.silence,
        silence_floor: options.silence_floor,
        heartbeat: options.heartbeat,
        slow_limit: options.slow_limit,
        forward_delay: options.forward_delay,
        hold_limit: options.hold_limit,
        window_entries: window(options),
        window_bytes: options.window_bytes,
        witnesses: options.witnesses,
        witness_patience: options.witness_patience,
        divergence: options.divergence,
        meeting: options.meeting,
        clock_step: limits::CLOCK_STEP,
        gap_least: if options.mutant == Some(Mutant::NoGap) { Duration::MAX } else { GAP_LEAST },
        clock_slew: limits::CLOCK_SLEW,
        checkpoint_bytes: options.checkpoint_bytes,
        join_rate: options.join_rate,
    }
}

/// Life of a process: starting, running in rounds, ending.
impl World {
    pub(super) fn start_server(&mut self, place: ReplicaId) {
        if self.servers[place.slot()].is_running() {
            return;
        }
        let incarnation = self.incarnation();
        self.believe_disk(place);
        let Some(disk) = self.open_disk(place) else {
            return self.restart_later(place, 100_000_000);
        };
        let disk = self.forged(disk);
        let adopt = core::mem::take(&mut self.server(place).adopts);
        let boot = Boot { incarnation, seed: self.rng.seed(), disk, adopt };
        let who = Who { place, incarnation };
        let now = self.servers[place.slot()].clock.now(self.at);
        let replica = Replica::new(config(&self.options, place), boot, now);
        self.server(place).fault_switch.clear();
        let unit = self.fresh_unit(place);
        let server = self.server(place);
        server.life += 1;
        server.inbox.clear();
        server.runs_at = None;
        server.process = Some(Process {
            who,
            replica,
            unit,
            state: 0,
            frozen: None,
            conns: BTreeMap::new(),
            wires: BTreeMap::new(),
            slot: 0,
            witnesses: [false; 2],
            next_conn: 0,
            waiting: VecDeque::new(),
            armed: None,
            executing: VecDeque::new(),
            device: VecDeque::new(),
            devices_told: None,
            taken: BTreeSet::new(),
            last_index: Index(0),
            standing: Standing::Starting,
            rounds: 0,
            is_ending: false,
            asked: BTreeMap::new(),
        });
        self.trace.step(self.at, 30, incarnation.0);
        self.trace.say(self.at, || format!("{who} starts"));
        self.see(Observation::Started { who });
        for (wire, end) in self.wires_of(place) {
            self.renew(wire, end);
        }
        if let Some(pace) = self.options.device_pace[place.slot()] {
            let at = self.at + self.rng.from(1, pace);
            self.queue.put(at, Due::Device { place });
        }
        self.wake(place);
    }

    /// A unit with a service that has done nothing yet.
    pub(super) fn fresh_unit(&self, place: ReplicaId) -> Unit<TestService> {
        Unit::with_config(self.fresh_shelf(place), self.options.unit(place))
    }

    fn fresh_shelf(&self, place: ReplicaId) -> TestService {
        let flaw = match self.options.mutant {
            Some(Mutant::Twice) => Flaw::Twice,
            Some(Mutant::LostWakeUps) => Flaw::Sleepy,
            Some(Mutant::StaleRead) => Flaw::StaleRead,
            _ => Flaw::None,
        };
        let fault_switch = self.servers[place.slot()].fault_switch.clone();
        TestService::new(fault_switch, flaw)
            .with_ballast(self.options.ballast)
            .telling_sessions(self.options.shares.is_some())
    }

    /// Broken on purpose: what the disk does not say.
    fn forged(&self, disk: Option<io::Disk>) -> Option<io::Disk> {
        if self.options.mutant == Some(Mutant::LostTail) {
            // The core notices a disk that has less than it said at first.
            return disk.map(|disk| io::Disk { last_index: Index(0), ..disk });
        }
        if self.options.mutant != Some(Mutant::BlindClaim) {
            return disk;
        }
        let record = self.checkers.observed().latest().copied();
        let Some(record) = record.filter(|record| record.members.is_duplex()) else { return disk };
        let mut disk = disk.unwrap_or_default();
        disk.membership.record = Some(record);
        Some(disk)
    }

    /// What a process finds on its disk. An operator sees to one that is refused: swaps disks
    /// back, or begins with an empty one.
    fn open_disk(&mut self, place: ReplicaId) -> Option<Option<io::Disk>> {
        let seed = self.rng.bits();
        match self.open_storage(place, seed) {
            Found::Usable { disk, damage } => {
                let found = disk.as_ref().map(|disk| &disk.membership);
                match found.filter(|found| **found != Membership::default()) {
                    Some(membership) => self.see(Observation::Found { place, membership }),
                    // It may have been another's, or lost while it was. Or one copy of what it was
                    // a member of was being written, or could not be, and the other was damaged.
                    None => self.on_forgotten(place, disk.is_some()),
                }
                if damage.is_some() {
                    self.reach(Mark::DamagedDisk);
                }
                Some(disk)
            }
            Found::Refused(OpenError::Home(HomeError::OtherPlace { .. })) => {
                self.reach(Mark::SwappedRefused);
                if self.servers[place.other().slot()].is_running() {
                    // It found an empty disk, and made it its own.
                    self.see(Observation::Wiped { place: place.other() });
                    self.lose_disk(place);
                } else {
                    self.swap_disks();
                }
                self.are_swapped = false;
                None
            }
            Found::Refused(why) => {
                self.trace.say(self.at, || format!("{place} refuses its disk: {why}"));
                if matches!(why, OpenError::Home(HomeError::Copied)) {
                    self.reach(Mark::CopiedRefused);
                }
                self.lose_disk(place);
                None
            }
            Found::Failed => {
                self.server(place).storage.disk.close();
                None
            }
        }
    }

    /// Nothing on this disk says of what its owner was a member.
    fn on_forgotten(&mut self, place: ReplicaId, is_used: bool) {
        if is_used && *self.checkers.observed().remembered(place) != Membership::default() {
            self.reach(Mark::DamagedDisk);
        }
        self.see(Observation::Wiped { place });
    }

    /// A disk that has lied, or lost a write or put it elsewhere, shows it, if by then the other
    /// goes on alone. Where no other has the log, nothing could be promised.
    fn believe_disk(&mut self, place: ReplicaId) {
        let Some((stale, mark)) = self.server(place).stale.take() else { return };
        let alone = self.checkers.observed().latest().is_some_and(|record| {
            record.members.at(place).is_none() && record.members.at(place.other()).is_some()
        });
        if alone {
            self.server(place).storage.disk = stale;
            self.reach(mark);
            self.see(Observation::Wiped { place });
        }
    }

    pub(super) fn swap_disks(&mut self) {
        let [a, b] = &mut self.servers;
        core::mem::swap(&mut a.storage.disk, &mut b.storage.disk);
    }

    /// A new, empty disk takes the place of the old one.
    pub(super) fn lose_disk(&mut self, place: ReplicaId) {
        self.server(place).storage.disk = Disk::default();
        self.see(Observation::Wiped { place });
    }

    /// The wires that end at a CoServer, and which end it is.
    fn wires_of(&self, place: ReplicaId) -> Vec<(WireId, usize)> {
        let links = (0..self.options.links.len()).map(|link| (WireId(link), place.slot()));
        let clients = (0..self.clients.len()).map(|client| (self.client_wire(client, place), 1));
        let witnesses = self.slots().map(|slot| (self.witness_wire(place, slot), 0));
        links.chain(witnesses).chain(clients).collect()
    }

    /// The process ends at once, whatever it was about to do.
    pub(super) fn kill_server(&mut self, place: ReplicaId) -> bool {
        let power = self.rng.chance(500);
        self.end_server(place, power)
    }

    /// The process ends, and its machine with it or not.
    pub(super) fn end_server(&mut self, place: ReplicaId, power: bool) -> bool {
        let Some(process) = self.server(place).process.take() else { return false };
        let (who, mark) = (process.who, process.replica.mark());
        self.server(place).inbox.clear();
        self.trace.step(self.at, 31, place.slot() as u64);
        self.trace.say(self.at, || format!("{who} ends"));
        for (wire, end) in self.wires_of(place) {
            self.abandon(wire, end);
        }
        self.break_storage(who, mark, power);
        self.see(Observation::Ended { who });
        if !power {
            self.give_notice(who);
        }
        true
    }

    pub(super) fn on_exit(&mut self, place: ReplicaId, life: u32) {
        if self.servers[place.slot()].life == life && self.kill_server(place) {
            // Whoever looks after the processes starts it again.
            self.restart_later(place, 150_000_000);
        }
    }

    pub(super) fn on_kill(&mut self, place: ReplicaId, life: u32) {
        if self.servers[place.slot()].life == life && self.healed.is_none() {
            self.kill_server(place);
            self.restart_later(place, 300_000_000);
        }
    }

    /// Something comes to a process.
    pub(super) fn arrive(&mut self, place: ReplicaId, arrival: Arrival) {
        if self.servers[place.slot()].is_running() {
            self.server(place).inbox.push_back(arrival);
            self.wake(place);
        }
    }

    /// The process looks at what has come, in a moment.
    pub(super) fn wake(&mut self, place: ReplicaId) {
        if self.servers[place.slot()].runs_at.is_some() {
            return;
        }
        let due = self.at + self.rng.from(1, self.options.turnaround);
        let server = &mut self.servers[place.slot()];
        let due = due.max(server.paused_until);
        server.runs_at = Some(due);
        let life = server.life;
        self.queue.put(due, Due::Run { place, life });
    }

    /// Whatever it was to wait for, the process looks now.
    pub(super) fn wake_anew(&mut self, place: ReplicaId) {
        if self.servers[place.slot()].is_running() {
            self.server(place).runs_at = None;
            self.wake(place);
        }
    }

    pub(super) fn on_timer(&mut self, place: ReplicaId, life: u32) {
        let server = self.server(place);
        if server.life != life {
            return;
        }
        let Some(process) = &mut server.process else { return };
        process.armed = None;
        self.wake(place);
    }

    pub(super) fn on_run(&mut self, place: ReplicaId, life: u32) {
        let at = self.at;
        let server = self.server(place);
        if server.life != life || server.process.is_none() {
            return;
        }
        server.runs_at = None;
        if at < server.paused_until {
            return self.wake(place);
        }
        self.trace.step(at, 32, place.slot() as u64);
        self.round(place);
        if !self.servers[place.slot()].inbox.is_empty() {
            self.wake(place);
        }
    }

    fn round(&mut self, place: ReplicaId) {
        let batch = self.options.batch[place.slot()];
        // The driver calls with a timeout in every round: it is never too often.
        self.tell(place, Input::Timeout);
        for _ in 0..batch {
            let Some(arrival) = self.server(place).inbox.pop_front() else { break };
            self.on_arrival(place, arrival);
        }
        self.feed(place, batch);
        self.drain(place);
        self.feed(place, batch);
        self.drain(place);
        self.look_at_devices(place);
        self.arm(place);
        self.measure(place);
    }

    /// The devices of most processes stand a few milliseconds after they were told what to do,
    /// those of one in eight never do.
    fn look_at_devices(&mut self, place: ReplicaId) {
        let at = self.at;
        let Some(process) = &mut self.server(place).process else { return };
        if !process.replica.waits_for_devices() {
            return;
        }
        let chance = process.who.incarnation.0;
        let since = *process.devices_told.get_or_insert(at);
        if !chance.is_multiple_of(8) && at >= since + chance % 40_000_000 {
            self.tell(place, Input::DevicesStand);
            self.drain(place);
        }
    }

    pub(super) fn now(&self, place: ReplicaId) -> Timestamps {
        self.servers[place.slot()].clock.now(self.at)
    }

    pub(super) fn tell(&mut self, place: ReplicaId, input: Input) {
        let now = self.now(place);
        if let Some(process) = &mut self.server(place).process {
            process.replica.handle(now, input);
        }
    }

    fn arm(&mut self, place: ReplicaId) {
        let at = self.at;
        let server = self.server(place);
        let life = server.life;
        let Some(process) = &mut server.process else { return };
        let Some(due) = process.replica.next_timeout() else { return };
        let due = server.clock.when(due).max(at + 1);
        if process.armed.is_none_or(|armed| due < armed) {
            process.armed = Some(due);
            self.queue.put(due, Due::Timer { place, life });
        }
    }

    fn measure(&mut self, place: ReplicaId) {
        let Some(process) = &mut self.server(place).process else { return };
        process.rounds += 1;
        if process.rounds.is_multiple_of(8) {
            let (who, status) = (process.who, process.replica.status());
            self.see(Observation::Measured { who, status: &status });
        }
    }
}
