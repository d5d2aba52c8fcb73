//! Deliberately broken pairs: for each checker one that it has to catch.
//!
//! What can be broken at the edge of the core is broken there, in the simulator's driver. The rest
//! is broken in the simulated service, so that the core itself carries no switches.

use core::fmt;

use super::checkers::CheckerName;
use super::faults::{Fault, FaultKind};
use super::node::GAP_LEAST;
use super::options::{Durability, Options};
use super::rng::Rng;
use super::shares::Rights;
use crate::ids::ReplicaId;

macro_rules! mutant {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $checker:ident;)*) => {
        /// A way to break the pair.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $doc])* $name,)*
        }

        impl Mutant {
            /// Every mutant, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The checker that has to catch it.
            pub const fn checker(self) -> CheckerName {
                match self { $(Self::$name => CheckerName::$checker,)* }
            }
        }
    };
}

mutant! {
    /// B changes the bytes of an output between the agreement and the release.
    RewriteRelease = "rewrite-release", Outputs;
    /// Both carry out what one of them is to carry out.
    BothCarry = "both-carry", Outputs;
    /// A releases what it has executed without waiting for B.
    ReleaseEarly = "release-early", Release;
    /// Each CoServer has a witness of its own, which grants it everything.
    TwoWitnesses = "two-witnesses", Epochs;
    /// A answers its clients when it has executed, whoever else holds the entry.
    AnswerEarly = "answer-early", Acknowledged;
    /// The service carries out some requests twice.
    Twice = "twice", Once;
    /// The service answers some reads with an older value.
    StaleRead = "stale-read", History;
    /// The replicas' clocks nearly stand still.
    FrozenClock = "frozen-clock", Time;
    /// The service sets timers and never says when it wants to be woken.
    LostWakeUps = "lost-wake-ups", Time;
    /// Nobody says for how long nothing was ordered.
    NoGap = "no-gap", Time;
    /// A stamps some entries with an earlier time.
    ClockBack = "clock-back", Time;
    /// The replicas do not hear the witness.
    DeafToWitness = "deaf-to-witness", Liveness;
    /// A loses some inputs of its device after it has taken them.
    LostInput = "lost-input", Liveness;
    /// The replicas take far more than their window.
    NoWindow = "no-window", Bounds;
    /// B takes another entry than the one that A sent.
    OtherEntry = "other-entry", Agreement;
    /// B takes the inputs of some entries in another order.
    OtherOrder = "other-order", Agreement;
    /// What conflicts with the other's log is not cut off.
    KeptTail = "kept-tail", Agreement;
    /// The journal says that it has persisted before it has written.
    EarlyPersisted = "early-persisted", Release;
    /// A joiner releases before it is told that it is a member.
    JoinerReleases = "joiner-releases", Release;
    /// A process that starts claims a place of which its disk knows nothing.
    BlindClaim = "blind-claim", Claims;
    /// A restarted process loses the entries after the mark.
    LostTail = "lost-tail", Serving;
    /// What is restored is not what there was.
    OtherState = "other-state", Restored;
    /// A member takes its own request to go on alone for granted.
    SelfGranted = "self-granted", Alone;
    /// B goes on asking the witness that the pair has left.
    OldWitness = "old-witness", Epochs;
    /// All clients pass for one owner's.
    OneOwner = "one-owner", Shares;
    /// The units keep replies without a bound.
    NoReplyBound = "no-reply-bound", Shares;
    /// A takes every request from every client.
    LetThrough = "let-through", Shares;
    /// B's unit has room for one session more.
    OtherLimits = "other-limits", Agreement;
}

impl Mutant {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }

    /// Makes sure that a run comes to where the flaw shows.
    pub fn provoke(self, options: &mut Options, rng: &mut Rng) {
        let middle = options.faults_end / 2;
        let fault = |kind, at, span, place| Fault {
            kind,
            at,
            until: at + span,
            place,
            which: 0,
            degree: 20_000_000,
        };
        let silence = options.silence.as_nanos() as u64;
        match self {
            Self::TwoWitnesses => {
                options.faults = vec![fault(FaultKind::AllCut, middle, silence * 6, ReplicaId::A)];
            }
            Self::AnswerEarly => {
                let at = middle + rng.from(0, silence);
                options.think = options.think.min(2_000_000);
                options.faults = vec![
                    fault(FaultKind::AllCut, at, silence * 2, ReplicaId::A),
                    fault(FaultKind::Crash, at + silence / 3, 1, ReplicaId::A),
                ];
            }
            Self::DeafToWitness => {
                options.faults =
                    vec![fault(FaultKind::Crash, middle, 1, rng.pick(&ReplicaId::BOTH))];
            }
            Self::OtherOrder => {
                options.faults.clear();
                options.clients = 5;
                options.pipeline = 16;
                options.think = 1_000_000;
            }
            Self::NoWindow => {
                options.window_entries = 2;
                options.clients = 5;
                options.pipeline = 16;
                options.think = 1_000_000;
                options.slow_limit = core::time::Duration::from_secs(10);
                let span = options.faults_end - middle;
                options.faults = vec![fault(FaultKind::SlowService, middle, span, ReplicaId::B)];
            }
            Self::NoGap => {
                // Both stand still for longer than a gap takes, while timers are due.
                options.think = options.think.min(2_000_000);
                let span = 3 * GAP_LEAST.as_nanos() as u64;
                options.faults = ReplicaId::BOTH
                    .map(|place| fault(FaultKind::Pause, middle, span, place))
                    .into();
            }
            Self::EarlyPersisted | Self::LostTail | Self::OtherState | Self::JoinerReleases => {
                options.durability = Durability::Journal;
                options.think = options.think.min(2_000_000);
                options.faults = vec![fault(FaultKind::CrashBoth, middle, 1, ReplicaId::A)];
            }
            Self::BlindClaim => {
                options.durability = Durability::Journal;
                options.faults = vec![
                    fault(FaultKind::CrashBoth, middle, 1, ReplicaId::A),
                    fault(FaultKind::DiskLost, middle + 500_000, 1, ReplicaId::A),
                    fault(FaultKind::DiskLost, middle + 500_001, 1, ReplicaId::B),
                ];
            }
            Self::KeptTail => {
                options.durability = Durability::Journal;
                options.think = options.think.min(2_000_000);
                let crash =
                    |n: u64| fault(FaultKind::Crash, middle + n * 100_000_000, 1, ReplicaId::A);
                let cut = |n: u64| {
                    let at = middle + n * 100_000_000 - 10_000_000;
                    fault(FaultKind::AllCut, at, 15_000_000, ReplicaId::A)
                };
                options.faults = vec![cut(0), crash(0), cut(1), crash(1), cut(2), crash(2)];
                options.faults_end = middle + 400_000_000;
            }
            Self::SelfGranted => {
                options.faults = vec![fault(FaultKind::AllCut, middle, silence * 6, ReplicaId::A)];
            }
            Self::OldWitness => {
                options.witnesses = 2;
                options.witness_patience = core::time::Duration::from_millis(20);
                let third = options.faults_end / 3;
                options.faults = vec![
                    fault(FaultKind::WitnessAway, third, 100_000_000, ReplicaId::A),
                    fault(FaultKind::AllCut, third + 250_000_000, silence * 6, ReplicaId::A),
                ];
                options.faults_end = options.faults_end.max(third + 600_000_000);
            }
            Self::OneOwner | Self::NoReplyBound | Self::LetThrough | Self::OtherLimits => {
                options.share(rng);
                let clients = options.shares.iter_mut().flat_map(|shares| &mut shares.clients);
                if self == Self::LetThrough {
                    clients.for_each(|client| client.rights = Rights::ReadOnly);
                }
            }
            Self::FrozenClock | Self::LostWakeUps => options.faults.clear(),
            Self::LostInput | Self::BothCarry => {
                options.faults.clear();
                options.device_pace = [Some(10_000_000); 2];
            }
            _ => {}
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_checker_has_something_to_catch() {
        for checker in CheckerName::ALL {
            assert!(Mutant::ALL.iter().any(|mutant| mutant.checker() == *checker), "{checker}");
        }
    }
}
