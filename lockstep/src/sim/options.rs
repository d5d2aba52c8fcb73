//! What differs from seed to seed besides chance itself: sizes, speeds, faults (swarm testing).

use core::time::Duration;

use super::faults::{self, Fault, FaultKind, Weather};
use super::mutants::Mutant;
use super::rng::Rng;
use super::shares::ShareOptions;
use super::steps::Step;
use crate::ids::ReplicaId;
use crate::limits;
use crate::proto::io::DivergencePolicy;

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;

/// What survives a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Entries are on both disks before anything of them goes out.
    #[default]
    Journal,
    /// Nothing: a process that starts again has to be brought up to date.
    Memory,
}

/// How long a disk takes at most (ns).
#[derive(Clone, Copy, Debug)]
pub struct DiskPace {
    /// To read a piece.
    pub read: u64,
    /// To write and sync one.
    pub sync: u64,
}

/// From which distribution the options of a seed are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A bit of everything.
    #[default]
    Default,
    /// No faults at all.
    Calm,
    /// Most kinds of faults in every seed.
    Storm,
    /// Faults of the links alone.
    Links,
    /// Faults of the witness and of the ways to it, with both links cut now and then.
    Witness,
    /// Divergence and panics.
    Divergence,
    /// Faults of the disks, and of the processes that have to live with what is on them.
    Storage,
    /// Processes that come and go, with faults of the links and of the witness meanwhile.
    Rejoin,
    /// Two witnesses that come and go, are wiped and restored.
    Witnesses,
    /// Small pools of sessions and replies, several owners, and keys that only read.
    Shares,
}

impl Profile {
    /// Every profile, with its name.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Default, "default"),
        (Self::Calm, "calm"),
        (Self::Storm, "storm"),
        (Self::Links, "links"),
        (Self::Witness, "witness"),
        (Self::Divergence, "divergence"),
        (Self::Storage, "storage"),
        (Self::Rejoin, "rejoin"),
        (Self::Witnesses, "witnesses"),
        (Self::Shares, "shares"),
    ];

    /// The profile's name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(profile, _)| *profile == self).map_or("", |(_, name)| name)
    }

    /// The profile of this name; `ci` is the default one.
    pub fn named(name: &str) -> Option<Self> {
        let name = if name == "ci" { "default" } else { name };
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(profile, _)| *profile)
    }

    /// So many seeds have to reach every mark that the profile requires: as many as CI runs.
    pub const fn campaign(self) -> Option<u64> {
        match self {
            Self::Default => Some(1500),
            Self::Storage | Self::Rejoin | Self::Witnesses | Self::Shares => Some(500),
            _ => None,
        }
    }

    fn only(self) -> Option<&'static [FaultKind]> {
        use FaultKind as F;
        match self {
            Self::Default | Self::Storm | Self::Shares => None,
            Self::Calm => Some(&[]),
            Self::Links => Some(&[
                F::LinkCut,
                F::LinkOneWay,
                F::LinkSlow,
                F::LinkLoss,
                F::LinkReorder,
                F::LinkDuplicate,
                F::LinkCorrupt,
                F::LinkFull,
            ]),
            Self::Witness => Some(&[
                F::AllCut,
                F::Squeeze,
                F::WitnessCrash,
                F::WitnessCut,
                F::WitnessMute,
                F::WitnessLate,
                F::WitnessTwice,
            ]),
            // A panic on both ends the service, so only the default profile has it.
            Self::Storage => Some(&[
                F::Crash,
                F::CrashBoth,
                F::Storm,
                F::DiskLost,
                F::DiskDamaged,
                F::DiskError,
                F::CopiedBack,
                F::Swapped,
                F::Lying,
                F::SlowDisk,
                F::LinkSlow,
                F::LostWrite,
                F::Misdirected,
                F::HungDisk,
            ]),
            Self::Rejoin => Some(&[
                F::Crash,
                F::CrashBoth,
                F::DiskLost,
                F::Leave,
                F::LeaveBoth,
                F::AllCut,
                F::LinkCut,
                F::LinkLoss,
                F::SlowDisk,
                F::WitnessCrash,
                F::WitnessTwice,
                F::WitnessLate,
                F::JoinCrash,
            ]),
            Self::Witnesses => Some(&[
                F::Crash,
                F::CrashBoth,
                F::Leave,
                F::HandOver,
                F::Pause,
                F::AllCut,
                F::LinkLoss,
                F::SlowDisk,
                F::WitnessCut,
                F::WitnessLate,
                F::WitnessTwice,
                F::WitnessAway,
                F::WitnessDisk,
                F::WitnessWiped,
                F::WitnessRestored,
            ]),
            Self::Divergence => Some(&[F::Flip, F::PanicOne, F::HandOver, F::AllCut, F::Pause]),
        }
    }
}

/// The options of one run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The links between the CoServers.
    pub links: Vec<LinkOptions>,
    /// Time between two heartbeats on a link.
    pub heartbeat: Duration,
    /// The upper bound of the silence timeout.
    pub silence: Duration,
    /// The lower bound of the silence timeout.
    pub silence_floor: Duration,
    /// How long a peer may be too slow.
    pub slow_limit: Duration,
    /// How long a follower keeps a client's request for itself.
    pub forward_delay: Duration,
    /// How long a member that holds goes on listening.
    pub hold_limit: Duration,
    /// The window, in entries.
    pub window_entries: usize,
    /// The window, in bytes.
    pub window_bytes: usize,
    /// Which replica goes on after a divergence.
    pub divergence: DivergencePolicy,
    /// How many witnesses there are: 1, or 2 with an alternate.
    pub witnesses: u8,
    /// How long a healthy pair waits for its witness before it turns to the other one.
    pub witness_patience: Duration,
    /// One-way latency to and from the witness (ns).
    pub witness_latency: u64,
    /// How long the witness's disk takes (ns).
    pub witness_fsync: u64,
    /// One-way latency to and from the clients, for each place (ns).
    pub client_latency: [u64; 2],
    /// How many clients there are.
    pub clients: usize,
    /// How many requests a client has under way at most.
    pub pipeline: usize,
    /// How long a client thinks between two requests at most (ns).
    pub think: u64,
    /// Longest time between two inputs of each CoServer's device (ns); `None` for a CoServer
    /// without one.
    pub device_pace: [Option<u64>; 2],
    /// How long a step takes on a service thread (ns); `None` where the service runs inline.
    pub service_time: [Option<u64>; 2],
    /// How many entries are executed before anything of them is sent, where the service
    /// runs inline.
    pub executes_first: [usize; 2],
    /// Bytes of the service's state that no request touches.
    pub ballast: usize,
    /// How many arrivals a CoServer takes at once at most.
    pub batch: [usize; 2],
    /// Longest time from an arrival to the process taking it (ns).
    pub turnaround: u64,
    /// How many of a thousand requests are long.
    pub long_permille: u32,
    /// How many of a thousand requests are bulk.
    pub bulk_permille: u32,
    /// When the faults end (ns).
    pub faults_end: u64,
    /// The faults of the run, by the time at which they begin.
    pub faults: Vec<Fault>,
    /// Differences of the monotonic clocks, in millionths.
    pub drift_ppm: [i64; 2],
    /// Differences of the wall clocks, in millionths.
    pub wall_drift_ppm: [i64; 2],
    /// How far the wall clocks are off in the beginning (ns).
    pub wall_offset: [i64; 2],
    /// What survives a process.
    pub durability: Durability,
    /// How fast the CoServers' disks are.
    pub disk: [DiskPace; 2],
    /// How long a process that starts tries to meet the other.
    pub meeting: Duration,
    /// Bytes of entries after which a checkpoint is taken.
    pub checkpoint_bytes: u64,
    /// How many checkpoints are kept.
    pub checkpoints_kept: usize,
    /// Bytes of entries that are kept for a joiner at most.
    pub retained_bytes: u64,
    /// Bytes a second that a joiner is sent at most.
    pub join_rate: u64,
    /// Small pools and several owners, if the pair has them.
    pub shares: Option<ShareOptions>,
    /// What is broken on purpose; `None` for the protocol as it is.
    pub mutant: Option<Mutant>,
}

/// How a link between the CoServers behaves.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// Whether frames arrive in order and are never lost while it is up.
    pub reliable: bool,
    /// Its one-way latency (ns).
    pub latency: u64,
    /// How much more at most (ns).
    pub jitter: u64,
    /// Its queue (bytes).
    pub capacity: usize,
}

impl Options {
    /// Draws the options of a run.
    pub fn draw(profile: Profile, mutant: Option<Mutant>, rng: &mut Rng) -> Self {
        let links = (0..rng.pick(&[1, 2, 2, 2, 3, 4])).map(|_| link(rng)).collect();
        let heartbeat = rng.spread(2 * MILLI, 12 * MILLI);
        let silence_floor = heartbeat * rng.from(3, 5);
        let silence = silence_floor + rng.spread(5 * MILLI, 80 * MILLI);
        let faults_end = rng.from(500 * MILLI, 1600 * MILLI);
        let weather = Weather {
            // A good while for the pair to be formed, and a fault during it now and then.
            from: if rng.chance(100) { MILLI } else { 120 * MILLI },
            until: faults_end - 20 * MILLI,
            silence,
            scale: if profile == Profile::Storm { 230 } else { 100 },
            patience: 0,
        };
        let faults = faults::draw(weather, profile.only(), FaultKind::EARLY, rng);
        let is_small = rng.chance(250);
        let mut options = Self {
            links,
            heartbeat: Duration::from_nanos(heartbeat),
            silence: Duration::from_nanos(silence),
            silence_floor: Duration::from_nanos(silence_floor),
            slow_limit: Duration::from_nanos(rng.spread(40 * MILLI, 400 * MILLI)),
            forward_delay: Duration::from_nanos(rng.spread(2 * MILLI, 40 * MILLI)),
            hold_limit: Duration::from_nanos(rng.spread(50 * MILLI, 800 * MILLI)),
            window_entries: if is_small { rng.from(2, 12) as usize } else { 4096 },
            window_bytes: limits::WINDOW_BYTES_MIN,
            divergence: rng.pick(&[
                DivergencePolicy::Sequencer,
                DivergencePolicy::Sequencer,
                DivergencePolicy::Prefer(ReplicaId::A),
                DivergencePolicy::Prefer(ReplicaId::B),
                DivergencePolicy::Hold,
            ]),
            witnesses: 1,
            witness_patience: Duration::from_secs(1),
            witness_latency: rng.spread(100 * MICRO, 10 * MILLI),
            witness_fsync: rng.spread(50 * MICRO, 10 * MILLI),
            client_latency: [rng.spread(50 * MICRO, 5 * MILLI), rng.spread(50 * MICRO, 5 * MILLI)],
            clients: rng.from(1, 5) as usize,
            pipeline: rng.pick(&[1, 1, 2, 4, 16]),
            think: rng.spread(3 * MILLI, 80 * MILLI),
            device_pace: [device(rng), device(rng)],
            service_time: [service(rng), service(rng)],
            executes_first: [0; 2],
            ballast: 0,
            batch: [rng.spread(1, 64) as usize, rng.spread(1, 64) as usize],
            turnaround: rng.spread(MICRO, 200 * MICRO),
            long_permille: rng.pick(&[0, 20, 100]),
            bulk_permille: rng.pick(&[0, 0, 0, 15]),
            faults_end,
            faults,
            drift_ppm: [ppm(rng), ppm(rng)],
            wall_drift_ppm: [ppm(rng), ppm(rng)],
            wall_offset: [wall(rng), wall(rng)],
            durability: if rng.chance(850) { Durability::Journal } else { Durability::Memory },
            disk: [disk(rng), disk(rng)],
            meeting: Duration::from_nanos(rng.spread(20 * MILLI, 300 * MILLI)),
            checkpoint_bytes: rng.spread(8 << 10, 1 << 20),
            checkpoints_kept: 2,
            retained_bytes: u64::MAX,
            join_rate: rng.spread(4 << 20, 1 << 30),
            shares: None,
            mutant,
        };
        options.draw_late(profile, weather, &mut rng.fork());
        if let Some(mutant) = mutant {
            mutant.provoke(&mut options, rng);
        }
        options
    }

    /// What came to the simulator last is drawn last, so that everything else of a seed stays.
    fn draw_late(&mut self, profile: Profile, weather: Weather, rng: &mut Rng) {
        let (alternate, patience) = (rng.chance(350), rng.spread(10 * MILLI, 150 * MILLI));
        if alternate || profile == Profile::Witnesses {
            self.witnesses = 2;
        }
        if rng.chance(150) {
            // A slow joiner, and not much kept for it. All that it can lack comes in the time in
            // which the pair has to be whole again.
            self.join_rate = rng.spread(128 << 10, 1 << 20);
            self.retained_bytes = rng.spread(1 << 10, 32 << 10);
            self.checkpoint_bytes = self.checkpoint_bytes.min(16 << 10);
        }
        self.witness_patience = Duration::from_nanos(patience);
        let weather = Weather { patience, ..weather };
        self.faults.extend(faults::draw(weather, profile.only(), FaultKind::LATE, rng));
        self.executes_first = [first(rng), first(rng)];
        if rng.chance(if profile == Profile::Rejoin { 450 } else { 40 }) {
            self.lengthen_transfers(profile, weather, rng);
        }
        self.faults.extend(faults::draw(weather, profile.only(), FaultKind::LAST, rng));
        self.faults.sort_by_key(|fault| fault.at);
        if profile == Profile::Shares {
            self.share(rng);
        }
        self.checkpoints_kept = rng.pick(&[1, 2, 3]);
    }

    /// A checkpoint has several pieces, and a joiner soon needs one. In the profile about joining
    /// there is a joiner that does, and dies when it has the first piece; then another dies.
    fn lengthen_transfers(&mut self, profile: Profile, weather: Weather, rng: &mut Rng) {
        self.ballast = rng.spread(300 << 10, 900 << 10) as usize;
        self.join_rate = rng.spread(2 << 20, 32 << 20);
        self.retained_bytes = self.retained_bytes.min(rng.spread(1 << 10, 8 << 10));
        self.checkpoint_bytes = rng.spread(4 << 10, 16 << 10);
        if profile != Profile::Rejoin {
            return;
        }
        let (from, until) = (weather.from, weather.until);
        let at = rng.from((from + until) / 4, (from + until) / 2).max(from);
        let degree = rng.spread(2 * MILLI, 100 * MILLI);
        let place = rng.pick(&ReplicaId::BOTH);
        let fault = |kind, which| Fault { kind, at, until, place, which, degree };
        self.faults.push(fault(FaultKind::DiskLost, 0));
        self.faults.push(fault(FaultKind::JoinCrash, Step::Chunk.trap(false)));
        let (step, member) =
            rng.pick(&[(Step::Chunk, true), (Step::Installed, false), (Step::Installed, true)]);
        self.faults.push(fault(FaultKind::JoinCrash, step.trap(member)));
    }
}

fn link(rng: &mut Rng) -> LinkOptions {
    let latency = rng.spread(30 * MICRO, 4 * MILLI);
    LinkOptions {
        reliable: rng.chance(600),
        latency,
        jitter: rng.spread(MICRO, latency),
        // A piece for a joiner fits beside what else is under way.
        capacity: rng.spread(1 << 20, 8 << 20) as usize,
    }
}

fn disk(rng: &mut Rng) -> DiskPace {
    let sync = rng.spread(20 * MICRO, 8 * MILLI);
    DiskPace { read: rng.spread(2 * MICRO, 500 * MICRO), sync }
}

fn device(rng: &mut Rng) -> Option<u64> {
    rng.chance(500).then(|| rng.spread(8 * MILLI, 100 * MILLI))
}

fn service(rng: &mut Rng) -> Option<u64> {
    rng.chance(300).then(|| rng.spread(10 * MICRO, 2 * MILLI))
}

fn first(rng: &mut Rng) -> usize {
    rng.pick(&[0, 0, 1, 8, 4096])
}

fn ppm(rng: &mut Rng) -> i64 {
    rng.from(0, 1000) as i64 - 500
}

fn wall(rng: &mut Rng) -> i64 {
    let off = rng.spread(1, 10_000 * MILLI) as i64;
    if rng.chance(500) { off } else { -off }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_found_by_its_name() {
        for (profile, name) in Profile::ALL {
            assert_eq!(Profile::named(name), Some(profile));
            assert_eq!(profile.name(), name);
        }
        assert_eq!(Profile::named("ci"), Some(Profile::Default));
        assert_eq!(Profile::named("no such"), None);
    }

    #[test]
    fn a_calm_run_has_no_faults() {
        for seed in 0..50 {
            let options = Options::draw(Profile::Calm, None, &mut Rng::new(seed));
            assert!(options.faults.is_empty());
            assert!(options.silence > options.silence_floor);
        }
    }
}
