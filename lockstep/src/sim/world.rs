//! The world: everything that there is in one run, and what happens to it in which order.
//!
//! Its handlers are in the files beside it: [`wiring`](super::wiring) the connections,
//! [`node`](super::node) the CoServers with [`intake`](super::intake), [`deeds`](super::deeds) and
//! [`execution`](super::execution), [`witness`](super::witness),
//! [`workload`](super::workload) clients and devices, [`inject`](super::strike) the faults.

use std::collections::BTreeMap;

use super::checkers::{CheckerName, Checkers, Impossible, Observation, Verdict, impossible};
use super::clock::Clock;
use super::faults::FaultKind;
use super::guardian::Guardians;
use super::marks::{Mark, Marks};
use super::net::{Item, Lane, Wire, WireId};
use super::node::CoServer;
use super::operator::Operator;
use super::options::Options;
use super::queue::Queue;
use super::rng::Rng;
use super::steps::KillPoints;
use super::trace::{Trace, Words};
use super::watch::Watch;
use super::witness::Witnesses;
use super::workload::SimClient;
use crate::digest::Digest;
use crate::event::Event;
use crate::ids::{Incarnation, PairId, ReplicaId};
use crate::limits;
use crate::output::Executed;
use crate::wire::codec::Encoder;

/// The pair of every run.
pub(super) const PAIR: PairId = PairId(*b"simulated  pair.");

/// Between two looks of the checkers at time itself, once the faults have ended (ns).
const WATCH: u64 = 20_000_000;

/// How long service may take to resume after the faults have ended (ns): several times the
/// longest silence, hold, slowness and reconnection delays that options draw.
const RESUME: u64 = 10_000_000_000;

/// After this long a run that cannot resume is given up (ns).
const HOPELESS: u64 = 1_200_000_000;

/// An operator looks after a pair that holds for a divergence this long after the faults (ns).
const OPERATOR: u64 = 400_000_000;

/// An operator begins a new lineage this long after the faults, if nobody can go on otherwise.
const ADOPTION: u64 = 2_500_000_000;

/// How long the pair idles at the end, with nothing but its timers (ns).
const IDLE: u64 = 120_000_000;

/// What happens next.
#[derive(Debug)]
pub(super) enum Due {
    /// An item comes to the far end of a lane.
    Arrive { wire: WireId, to: usize, generation: u32, item: Item },
    /// A CoServer process looks at what has arrived.
    Run { place: ReplicaId, life: u32 },
    /// The timeout of a CoServer's core comes.
    Timer { place: ReplicaId, life: u32 },
    /// A CoServer's service thread has executed an entry.
    Executed { place: ReplicaId, life: u32, state: u32, executed: Box<Executed> },
    /// A CoServer's storage thread has finished an operation.
    Disk { place: ReplicaId, life: u32 },
    /// A CoServer has written a checkpoint.
    Checkpoint { place: ReplicaId, life: u32 },
    /// A CoServer has told its clients that it is out, and ends.
    Exit { place: ReplicaId, life: u32 },
    /// A CoServer is killed, unless it was before.
    Kill { place: ReplicaId, life: u32 },
    /// A guardian's notice comes.
    Notice { to: ReplicaId, incarnation: Incarnation },
    /// A CoServer that was killed starts again.
    Restart { place: ReplicaId },
    /// The connection of a wire is dialled.
    Dial { wire: WireId },
    /// A connection on which nothing gets through may have broken.
    Idle { wire: WireId, generation: u32 },
    /// A CoServer's device has an input.
    Device { place: ReplicaId },
    /// A client may ask for something.
    Think { client: usize },
    /// The timeout of a client's core comes.
    ClientTimer { client: usize },
    /// A witness's record is on its disk.
    Stored { machine: usize, life: u32 },
    /// A fault begins.
    Strike(usize),
    /// A fault ends.
    ClearFault(usize),
    /// All faults end.
    Heal,
    /// The checkers look at the time.
    Watch,
}

/// Everything in one run.
pub(super) struct World {
    pub(super) at: u64,
    pub(super) queue: Queue<Due>,
    pub(super) options: Options,
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) checkers: Checkers,
    pub(super) watch: Watch,
    pub(super) encoder: Encoder,
    pub(super) verdict: Option<Verdict>,
    pub(super) servers: [CoServer; 2],
    pub(super) witnesses: Witnesses,
    pub(super) guardians: Guardians,
    pub(super) clients: Vec<SimClient>,
    pub(super) wires: Vec<Wire>,
    pub(super) healed: Option<u64>,
    /// How much longer than [`RESUME`] it may take from then on (ns): for the log, and for devices.
    catching_up: u64,
    /// How often a log was taken up since then, as far as it counts.
    taken_up: u8,
    pub(super) faults: BTreeMap<FaultKind, u64>,
    pub(super) operations: u64,
    pub(super) device_inputs: u64,
    pub(super) operator: Operator,
    pub(super) kill_points: KillPoints,
    /// Each of the machines has the other's disk.
    pub(super) are_swapped: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The objection of a checker, if there is one.
    pub verdict: Option<Verdict>,
    /// Why service could not resume, if that was impossible.
    pub impossible: Option<Impossible>,
    /// Names the run: the same seed and options give the same digest.
    pub digest: Digest,
    /// What was reached.
    pub marks: Marks,
    /// Requests of clients that were answered.
    pub operations: u64,
    /// Inputs of devices that were taken.
    pub device_inputs: u64,
    /// Faults by kind, as far as they struck.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Steps of the simulation.
    pub steps: u64,
    /// How long the run was in its own time (ns).
    pub span: u64,
    /// What happened, in words, if that was asked for.
    pub lines: Vec<String>,
}

impl World {
    /// The world of these options, before anything has happened.
    pub(super) fn new(
        options: Options,
        mut rng: Rng,
        words: Words,
        only: Option<CheckerName>,
    ) -> Self {
        let clock = |slot: usize, rng: &mut Rng| {
            let offset = rng.from(1, 1 << 50);
            let (drift, wall) = (options.drift_ppm[slot], options.wall_drift_ppm[slot]);
            Clock::new(offset, drift, options.wall_offset[slot], wall)
        };
        let servers = ReplicaId::BOTH
            .map(|place| CoServer::new(place, clock(place.slot(), &mut rng), &options));
        let clients =
            (0..options.clients).map(|id| SimClient::new(id, &options, rng.fork())).collect();
        let mut world = Self {
            at: 0,
            queue: Queue::default(),
            checkers: Checkers::new(&options, only),
            watch: Watch::new(&options),
            trace: Trace::new(words),
            encoder: Encoder::new(),
            verdict: None,
            servers,
            witnesses: Witnesses::new(&options, rng.from(20_000_000, 150_000_000)),
            guardians: Guardians::new(rng.fork()),
            clients,
            wires: Vec::new(),
            healed: None,
            catching_up: 0,
            taken_up: 0,
            faults: BTreeMap::new(),
            operations: 0,
            device_inputs: 0,
            operator: Operator::default(),
            kill_points: KillPoints::default(),
            are_swapped: false,
            rng,
            options,
        };
        world.lay_wires();
        world
    }

    fn lay_wires(&mut self) {
        let long = 64 << 20;
        for link in self.options.links.clone() {
            let idle = self.rng.spread(100_000_000, 1_500_000_000);
            self.lay(link.reliable, link.latency, link.jitter, link.capacity, idle);
        }
        for _ in 0..2 * self.options.witnesses {
            let (latency, idle) = (self.options.witness_latency, self.rng.from(1, 8) * 50_000_000);
            self.lay(true, latency, latency / 4, long, idle);
        }
        for _ in 0..self.options.clients {
            for place in ReplicaId::BOTH {
                let latency = self.options.client_latency[place.slot()];
                let idle = self.rng.from(2, 8) * 50_000_000;
                self.lay(true, latency, latency / 3, long, idle);
            }
        }
    }

    fn lay(&mut self, reliable: bool, latency: u64, jitter: u64, capacity: usize, idle: u64) {
        let lane = || Lane::new(reliable, latency, jitter, capacity);
        let lanes = [lane(), lane()];
        self.wires.push(Wire { generation: 0, open: [false; 2], lanes, dialling: false, idle });
    }

    /// Lets everything happen, up to the end or a checker's objection.
    pub(super) fn run(mut self) -> Outcome {
        self.begin();
        while self.verdict.is_none() {
            let Some((at, due)) = self.queue.take() else { break };
            debug_assert!(at >= self.at, "time does not go back");
            self.at = at;
            self.dispatch(due);
            if self.is_over() {
                self.end();
                break;
            }
        }
        self.outcome()
    }

    fn begin(&mut self) {
        self.start_witnesses();
        for place in ReplicaId::BOTH {
            let at = self.rng.spread(1_000, 30_000_000);
            self.queue.put(at, Due::Restart { place });
        }
        for client in 0..self.clients.len() {
            let at = self.rng.from(1_000_000, 60_000_000);
            self.queue.put(at, Due::Think { client });
        }
        for fault in 0..self.options.faults.len() {
            let at = self.options.faults[fault].at;
            if at < self.options.faults_end {
                self.queue.put(at, Due::Strike(fault));
            }
        }
        self.queue.put(self.options.faults_end, Due::Heal);
    }

    fn dispatch(&mut self, due: Due) {
        match due {
            Due::Arrive { wire, to, generation, item } => {
                self.on_arrive(wire, to, generation, item)
            }
            Due::Run { place, life } => self.on_run(place, life),
            Due::Timer { place, life } => self.on_timer(place, life),
            Due::Executed { place, life, state, executed } => {
                self.on_executed(place, life, state, *executed);
            }
            Due::Disk { place, life } => self.on_disk(place, life),
            Due::Checkpoint { place, life } => self.on_checkpoint(place, life),
            Due::Exit { place, life } => self.on_exit(place, life),
            Due::Kill { place, life } => self.on_kill(place, life),
            Due::Notice { to, incarnation } => self.on_notice(to, incarnation),
            Due::Restart { place } => self.start_server(place),
            Due::Dial { wire } => self.on_dial(wire),
            Due::Idle { wire, generation } => self.on_idle(wire, generation),
            Due::Device { place } => self.on_device(place),
            Due::Think { client } => self.on_think(client),
            Due::ClientTimer { client } => self.on_client_timer(client),
            Due::Stored { machine, life } => self.on_stored(machine, life),
            Due::Strike(fault) => self.on_strike(fault),
            Due::ClearFault(fault) => self.on_clear_fault(fault),
            Due::Heal => self.on_heal(),
            Due::Watch => self.on_watch(),
        }
    }

    /// Shows the checkers something, and notes what it means for coverage.
    pub(super) fn see(&mut self, seen: Observation<'_>) {
        self.watch.see(self.at, &seen);
        self.watch_steps(&seen);
        if self.verdict.is_none()
            && let Err(verdict) = self.checkers.see(self.at, &seen)
        {
            self.trace.say(self.at, || format!("OBJECTION {verdict}"));
            self.verdict = Some(verdict);
        }
        self.watch_shares(&seen);
        // The devices of whoever takes a log up may never stand, and until then nobody joins it.
        // One after the other may do so, if an operator sees to the first.
        let takes_up = matches!(seen, Observation::Event { event: Event::TakenUp { .. }, .. });
        if self.healed.is_some() && self.taken_up < 2 && takes_up {
            self.taken_up += 1;
            self.catching_up += limits::DEVICES_WAIT.as_nanos() as u64;
        }
    }

    pub(super) fn reach(&mut self, mark: Mark) {
        self.watch.marks.reach(mark);
    }

    pub(super) fn server(&mut self, place: ReplicaId) -> &mut CoServer {
        &mut self.servers[place.slot()]
    }

    pub(super) fn incarnation(&mut self) -> Incarnation {
        Incarnation(self.rng.mark())
    }

    fn on_heal(&mut self) {
        self.healed = Some(self.at);
        // Somebody may be waiting for devices already.
        self.catching_up = 2 * self.time_for_the_log() + limits::DEVICES_WAIT.as_nanos() as u64;
        self.trace.say(self.at, || "all faults end".into());
        self.end_all_faults();
        self.see(Observation::Healed);
        self.queue.put(self.at + WATCH, Due::Watch);
    }

    fn on_watch(&mut self) {
        self.see(Observation::Passed);
        if self.healed.is_some_and(|healed| self.at - healed > OPERATOR) {
            self.look_after();
        }
        if self.healed.is_some_and(|healed| self.at - healed > ADOPTION) {
            self.begin_anew();
        }
        self.queue.put(self.at + WATCH, Due::Watch);
    }

    fn is_over(&mut self) -> bool {
        let Some(healed) = self.healed else { return false };
        let since = self.at - healed;
        if since > RESUME + self.catching_up {
            return true;
        }
        // Looked at now and then; it is not for nothing.
        if since > HOPELESS && self.at.is_multiple_of(64) {
            return impossible(self.checkers.observed()).is_some() || self.is_quiet();
        }
        self.is_quiet()
    }

    /// How long a joiner may take for the log as it is now (ns). It asks for one window of entries
    /// after the other, and for each waits for a trip over what may be the slowest link.
    fn time_for_the_log(&self) -> u64 {
        let log =
            ReplicaId::BOTH.map(|place| self.checkers.observed().held(place).0).into_iter().max();
        let windows = log.unwrap_or(0).div_ceil(self.options.window_entries as u64);
        let one_way = self.options.links.iter().map(|link| link.latency + link.jitter).max();
        windows * 2 * one_way.unwrap_or(0)
    }

    /// Whether everything that was asked is answered, and the pair has idled for a while.
    fn is_quiet(&mut self) -> bool {
        let done = self.clients.iter().all(SimClient::is_done)
            && self.checkers.observed().is_duplex()
            && self.devices_lost() == 0;
        let quiet = self.watch.quiet_since(self.at, done);
        quiet.is_some_and(|since| self.at - since > IDLE)
    }

    fn end(&mut self) {
        self.show_states();
        let mut end = super::checkers::End::default();
        for client in &self.clients {
            end.answered += client.answered_since_heal;
            end.waiting += client.waiting() as u64;
        }
        end.devices_lost = self.devices_lost();
        self.see(Observation::Over { end: &end });
    }

    fn outcome(self) -> Outcome {
        Outcome {
            impossible: self.healed.and_then(|_| impossible(self.checkers.observed())),
            verdict: self.verdict,
            digest: self.trace.digest(),
            marks: self.watch.marks,
            operations: self.operations,
            device_inputs: self.device_inputs,
            faults: self.faults,
            steps: self.trace.steps(),
            span: self.at,
            lines: self.trace.into_lines(),
        }
    }
}
