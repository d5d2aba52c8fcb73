//! The faults of one run: drawn beforehand, so that they can be shown and counted.

use core::fmt;

use super::rng::Rng;
use crate::ids::ReplicaId;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $enabled:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $($(#[doc = $doc])* $name,)*
        }

        impl FaultKind {
            /// Every kind of fault, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// In how many of a thousand seeds of the default profile the fault occurs at all.
            const fn enabled(self) -> u32 {
                match self { $(Self::$name => $enabled,)* }
            }
        }
    };
}

kinds! {
    /// A CoServer is killed and loses its memory; it starts again as a new process.
    Crash = "crash", 350;
    /// Both are, within a moment.
    CrashBoth = "crash-both", 150;
    /// Either is, again and again.
    Storm = "restart-storm", 60;
    /// A CoServer is killed and its disk replaced by an empty one.
    DiskLost = "disk-lost", 100;
    /// A CoServer is killed and what is on its disk damaged.
    DiskDamaged = "disk-damaged", 80;
    /// An operation on a disk fails.
    DiskError = "disk-error", 150;
    /// A CoServer is killed and its disk replaced by a backup of it.
    CopiedBack = "copied-back", 60;
    /// Both are killed and their disks swapped.
    Swapped = "swapped", 40;
    /// A disk says of nothing written since that it is not synced, and loses it.
    Lying = "lying-sync", 60;
    /// A disk takes long.
    SlowDisk = "slow-disk", 120;
    /// The operator stops a member.
    Leave = "leave", 150;
    /// The operator stops both.
    LeaveBoth = "leave-both", 40;
    /// The operator asks for a hand-over.
    HandOver = "hand-over", 300;
    /// A CoServer stands still for a while.
    Pause = "pause", 250;
    /// A wall clock is set.
    ClockJump = "clock-jump", 250;
    /// A service's steps take long.
    SlowService = "slow-service", 200;
    /// A link lets nothing through.
    LinkCut = "link-cut", 350;
    /// A link lets nothing through in one direction.
    LinkOneWay = "link-one-way", 200;
    /// A link is slow.
    LinkSlow = "link-slow", 250;
    /// A link loses frames.
    LinkLoss = "link-loss", 200;
    /// Frames overtake each other on a link.
    LinkReorder = "link-reorder", 200;
    /// Frames arrive twice on a link.
    LinkDuplicate = "link-duplicate", 200;
    /// Frames are damaged on a link.
    LinkCorrupt = "link-corrupt", 100;
    /// A link's queue is short.
    LinkFull = "link-full", 150;
    /// No link lets anything through.
    AllCut = "all-links-cut", 300;
    /// All links are cut for about the silence timeout, while the witness's answers get lost.
    Squeeze = "squeeze", 200;
    /// The witness is killed and starts again.
    WitnessCrash = "witness-crash", 250;
    /// A CoServer does not reach the witness.
    WitnessCut = "witness-cut", 250;
    /// The witness hears but its answers do not arrive.
    WitnessMute = "witness-mute", 200;
    /// Everything to and from the witness takes long.
    WitnessLate = "witness-late", 200;
    /// Requests reach the witness twice, the second time late.
    WitnessTwice = "witness-twice", 200;
    /// A client's connection breaks.
    ClientCut = "client-cut", 300;
    /// A client does not reach one of the CoServers for a while.
    ClientStall = "client-stall", 150;
    /// A bit of one replica's outputs is flipped.
    Flip = "flipped-bit", 80;
    /// The service panics on one replica.
    PanicOne = "panic-one", 60;
    /// The service panics on both.
    PanicBoth = "panic-both", 30;
    /// A witness is away for so long that the pair turns to the other.
    WitnessAway = "witness-away", 200;
    /// A witness's disk fails.
    WitnessDisk = "witness-disk-error", 80;
    /// A witness is killed and its disk replaced by an empty one.
    WitnessWiped = "witness-wiped", 80;
    /// A witness is killed and its disk replaced by an old copy of it.
    WitnessRestored = "witness-restored", 80;
    /// A CoServer is killed at some step of a join.
    JoinCrash = "join-crash", 300;
    /// A write of a disk is lost, though it reports success.
    LostWrite = "lost-write", 60;
    /// A write of a disk comes to another place of its file.
    Misdirected = "misdirected-write", 60;
    /// A disk hangs: each operation takes longer than a member waits for the other.
    HungDisk = "hung-disk", 60;
}

impl FaultKind {
    /// The kinds of fault that are drawn first. The order in which kinds are drawn stays as it is,
    /// so that a seed stays the same run.
    pub(super) const EARLY: &[Self] = Self::ALL.split_at(Self::WitnessAway as usize).0;
    /// The kinds of fault that are drawn after everything else; see [`Self::EARLY`].
    pub(super) const LATE: &[Self] =
        Self::ALL.split_at(Self::HungDisk as usize).0.split_at(Self::WitnessAway as usize).1;
    /// The kinds of fault that are drawn last, after [`Self::LATE`].
    pub(super) const LAST: &[Self] = Self::ALL.split_at(Self::HungDisk as usize).1;
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One fault: from when to when, and whom it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// When it begins (ns of the world).
    pub at: u64,
    /// When it ends, unless all faults end before.
    pub until: u64,
    /// The CoServer that the fault strikes.
    pub place: ReplicaId,
    /// The link or client that the fault strikes, modulo their number. For a link, [`Self::place`]
    /// says which way.
    pub which: usize,
    /// How bad it is, in the kind's own measure.
    pub degree: u64,
}

/// What the drawing of faults depends on.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Faults begin after this (ns).
    pub from: u64,
    /// And before this.
    pub until: u64,
    /// The silence timeout (ns): what lasts about as long is the most interesting.
    pub silence: u64,
    /// How much more often than by default each kind occurs, in percent.
    pub scale: u32,
    /// How long a healthy pair waits for its witness (ns).
    pub patience: u64,
}

/// Draws the faults of one run, in order of time.
pub(super) fn draw(
    weather: Weather,
    only: Option<&[FaultKind]>,
    kinds: &[FaultKind],
    rng: &mut Rng,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for kind in kinds {
        // Drawn for every kind, so that leaving one out does not change the others.
        let mut own = rng.fork();
        let permille = match only {
            Some(_) if kind.costs_a_disk() => 250,
            // Each of them mostly ends what the one before began.
            Some(_) if kind.costs_a_record() => 300,
            // While it lasts, nothing else happens at that disk.
            Some(_) if *kind == FaultKind::HungDisk => 250,
            Some(_) => 900,
            None => kind.enabled() * weather.scale / 100,
        };
        let wanted = only.is_none_or(|only| only.contains(kind));
        if wanted && own.chance(permille) {
            let count = if kind.is_single() { 1 } else { own.spread(1, kind.most()) };
            faults.extend((0..count).map(|_| one(*kind, weather, &mut own)));
        }
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn one(kind: FaultKind, weather: Weather, rng: &mut Rng) -> Fault {
    let at = rng.from(weather.from, weather.until);
    let place = rng.pick(&ReplicaId::BOTH);
    let span = match kind {
        FaultKind::Squeeze => rng.from(weather.silence / 2, weather.silence * 2),
        FaultKind::WitnessAway => rng.from(weather.patience, weather.patience * 6),
        _ => rng.spread(weather.silence / 8, weather.silence * 6),
    };
    let degree = match kind {
        FaultKind::LinkSlow | FaultKind::WitnessLate => rng.spread(1_000_000, 150_000_000),
        FaultKind::ClockJump => rng.spread(1_000_000, 4_000_000_000_000),
        FaultKind::SlowService | FaultKind::SlowDisk => rng.spread(100_000, 30_000_000),
        FaultKind::Crash | FaultKind::CrashBoth | FaultKind::DiskLost | FaultKind::DiskDamaged => {
            rng.spread(2_000_000, 400_000_000)
        }
        FaultKind::HungDisk => rng.spread(100_000_000, 2_000_000_000),
        FaultKind::LinkFull => rng.spread(300, 20_000),
        FaultKind::WitnessTwice => rng.spread(1_000, 300_000_000),
        FaultKind::LinkCorrupt => rng.from(1, 30),
        _ => rng.from(10, 500),
    };
    Fault { kind, at, until: at + span, place, which: rng.below(64), degree }
}

impl FaultKind {
    /// Whether it strikes at most once in a run.
    fn is_single(self) -> bool {
        self.costs_a_disk()
            || matches!(self, Self::PanicOne | Self::PanicBoth | Self::Flip | Self::Storm)
    }

    /// Whether a CoServer has to do without its disk afterwards: with two of them in a run the
    /// state is mostly lost, and the run comes to nothing.
    fn costs_a_disk(self) -> bool {
        matches!(
            self,
            Self::DiskLost
                | Self::DiskDamaged
                | Self::CopiedBack
                | Self::Lying
                | Self::LostWrite
                | Self::Misdirected
        )
    }

    /// Whether a witness has to do without its record afterwards.
    fn costs_a_record(self) -> bool {
        matches!(self, Self::WitnessWiped | Self::WitnessRestored | Self::WitnessDisk)
    }

    /// How often at most it strikes in a run.
    fn most(self) -> u64 {
        match self {
            Self::Swapped | Self::Leave | Self::LeaveBoth | Self::HungDisk => 2,
            // Each waits for its step.
            Self::JoinCrash => 8,
            Self::WitnessWiped | Self::WitnessRestored | Self::WitnessDisk => 2,
            Self::Crash | Self::CrashBoth => 4,
            _ => 6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEATHER: Weather =
        Weather { from: 1000, until: 1_000_000_000, silence: 50_000_000, scale: 100, patience: 1 };

    #[test]
    fn faults_come_in_order_and_every_kind_comes_up() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let faults = draw(WEATHER, None, FaultKind::ALL, &mut Rng::new(seed));
            assert!(faults.is_sorted_by_key(|fault| fault.at));
            seen.extend(faults.iter().map(|fault| fault.kind));
            let flips = faults.iter().filter(|fault| fault.kind == FaultKind::Flip);
            assert!(flips.count() <= 1);
        }
        assert_eq!(seen.len(), FaultKind::ALL.len());
    }

    #[test]
    fn a_choice_of_kinds_is_kept_to() {
        let only = [FaultKind::Pause];
        let faults = draw(WEATHER, Some(&only), FaultKind::ALL, &mut Rng::new(3));
        assert!(faults.iter().all(|fault| fault.kind == FaultKind::Pause));
    }
}
