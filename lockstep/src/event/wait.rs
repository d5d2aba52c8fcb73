//! What a replica waits for when it cannot go on, or not as it should.

use core::fmt;
use std::borrow::Cow;

use crate::ids::{LinkId, ReplicaId};

/// What a replica waits for. Its [`name`](Self::name) is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// What is on its disk is being opened and read, before anything else begins.
    Disk,
    /// The replica's state is being restored from the disk.
    Restore,
    /// Neither the other CoServer nor the witness is reached.
    OtherAndWitness,
    /// The other CoServer is not reached.
    Other,
    /// The witness in use is not reached.
    Witness,
    /// The witness is reached and has not given what was asked for.
    WitnessAnswer,
    /// The other CoServer, which may have moved to the other witness: neither is asked (rule W2).
    UncertainMove,
    /// The other CoServer has the better claim to go on, and has not made it yet.
    OtherFirst,
    /// A member that brings this replica up to date: it may not go on by what is on its disk.
    Member,
    /// The CoServer at this place, which went on alone after this one had left or was removed.
    LastMember(ReplicaId),
    /// An operator: it served alone itself, and what is on its disk now is not good for going on.
    OwnDisk,
    /// The other CoServer runs something else.
    Incompatible,
    /// A clock that is right: this machine's is far ahead of the log, or far from the other's.
    Clock,
    /// The other CoServer is bringing this replica up to date.
    Join,
    /// This replica is bringing the other CoServer up to date.
    Joiner,
    /// The replica's own disk: entries wait for it and none is written.
    OwnStorage,
    /// The replica's own service: entries wait for it and none is executed.
    OwnService,
    /// The other member, which has not caught up: the window is full.
    Peer,
    /// This link, the first that is down: the links are fewer than configured.
    Link(LinkId),
    /// The witness that is not in use is not reached: the pair could not turn to it.
    SpareWitness,
    /// An operator, after a divergence or a panic of the service.
    Operator,
    /// The witness, to record that this member leaves.
    Leave,
}

impl Wait {
    /// One of each; place and link are examples.
    pub const ALL: [Self; 22] = [
        Self::Disk,
        Self::Restore,
        Self::OtherAndWitness,
        Self::Other,
        Self::Witness,
        Self::WitnessAnswer,
        Self::UncertainMove,
        Self::OtherFirst,
        Self::Member,
        Self::LastMember(ReplicaId::A),
        Self::OwnDisk,
        Self::Incompatible,
        Self::Clock,
        Self::Join,
        Self::Joiner,
        Self::OwnStorage,
        Self::OwnService,
        Self::Peer,
        Self::Link(LinkId(0)),
        Self::SpareWitness,
        Self::Operator,
        Self::Leave,
    ];

    /// The wait's name in logs and in the status; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Restore => "restore",
            Self::OtherAndWitness => "other-and-witness",
            Self::Other => "other",
            Self::Witness => "witness",
            Self::WitnessAnswer => "witness-answer",
            Self::UncertainMove => "uncertain-move",
            Self::OtherFirst => "other-first",
            Self::Member => "member",
            Self::LastMember(_) => "last-member",
            Self::OwnDisk => "own-disk",
            Self::Incompatible => "incompatible",
            Self::Clock => "clock",
            Self::Join => "join",
            Self::Joiner => "joiner",
            Self::OwnStorage => "own-storage",
            Self::OwnService => "own-service",
            Self::Peer => "peer",
            Self::Link(_) => "link",
            Self::SpareWitness => "spare-witness",
            Self::Operator => "operator",
            Self::Leave => "leave",
        }
    }

    /// What an operator can do about it.
    pub fn remedy(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Restore | Self::Join | Self::Joiner => {
                "nothing: it goes on by itself; `storage` in the status says how far it is"
            }
            Self::OtherAndWitness | Self::Other | Self::Witness | Self::SpareWitness => REACH,
            Self::WitnessAnswer => {
                "see the witness's log: it may have just started, not know the pair, or be told of \
                 a later epoch than its record's"
            }
            Self::UncertainMove => {
                "start the other CoServer with its disk, which tells. If that is lost, stop this one, \
                 begin a new lineage (`new-lineage`) and start this one with `--adopt`; under \
                 `memory` there is nothing to adopt, and what it has is lost"
            }
            Self::OtherFirst => "see the other CoServer's log: it may not reach the witness",
            Self::Member => {
                "start the other CoServer; if it runs, see its log for what it waits for. If its \
                 disk is lost, stop this one and begin a new lineage (`new-lineage`)"
            }
            Self::LastMember(place) => {
                return Cow::Owned(format!(
                    "start CoServer {place}. If its disk is lost, stop this one, begin a new lineage \
                     (`new-lineage`) and start this one with `--adopt`: what CoServer {place} did \
                     alone is lost then"
                ));
            }
            Self::OwnDisk => {
                "find the disk that it served with. If that is lost, stop this one and begin a new \
                 lineage (`new-lineage`), with the disk of the other one (`--adopt`) or empty: what \
                 was done alone here is lost then"
            }
            Self::Incompatible => {
                "make programs and configurations alike: `incompatible` in the log says what differs"
            }
            Self::Clock => {
                "set the clocks of both machines right (NTP): it goes on by itself then. If they are \
                 right, raise `timing.clock_step` on both and start them again; `clock_leaps` or \
                 `clocks_differ` in the log says what they say"
            }
            Self::Disk => {
                "nothing, if there is much to read; else see this machine's disk, and the system's log"
            }
            Self::OwnStorage => {
                "see this machine's disk: `sync` in the metrics, and the system's log. If the other \
                 CoServer is there, this one leaves by itself after `timing.slow_limit`"
            }
            Self::OwnService => {
                "see what the service does: a step of it has not ended. If the other CoServer is \
                 there, this one leaves by itself after `timing.slow_limit`"
            }
            Self::Link(_) => {
                "see this link's network, and its addresses in the configuration files of both: \
                 UDP has to pass in both directions"
            }
            Self::Peer => "see the other CoServer's machine: its processors, disk and links",
            Self::Operator => "see `diverged` and `panicked` in both logs, and stop the wrong one",
            Self::Leave => "see that the witness runs and is reached; SIGKILL ends it without",
        })
    }

    /// Whether it is work that is under way rather than something that is missing.
    pub fn is_progress(self) -> bool {
        matches!(self, Self::Restore | Self::Join | Self::Joiner | Self::Leave)
    }
}

/// What can keep one process from reaching another.
const REACH: &str = "start it; if it runs, compare the addresses in the configuration files, see \
    that UDP passes in both directions, and that the path takes packets of 1,228 bytes (IPv6: \
    1,248) whole";

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LastMember(place) => {
                return write!(
                    f,
                    "CoServer {place} went on alone and has the newest state: this one may not go \
                     on before it is there"
                );
            }
            Self::OwnDisk => {
                "it went on alone itself, and what is on its disk now is not what it had then"
            }
            Self::Disk => "what is on its disk is being opened and read",
            Self::Restore => "its state is being restored from the disk",
            Self::OtherAndWitness => "neither the other CoServer nor the witness is reached",
            Self::Other => "the other CoServer is not reached",
            Self::Witness => "the witness in use is not reached",
            Self::WitnessAnswer => "the witness is reached, and has not given what was asked for",
            Self::UncertainMove => {
                "the pair was moving to the other witness, and only the other CoServer knows whether \
                 it has: no witness is asked"
            }
            Self::OtherFirst => "the other CoServer is to go on first, and has not done so",
            Self::Member => {
                "it may not go on by what is on its disk, and no member that brings it up to date \
                 is there"
            }
            Self::Incompatible => "the other CoServer runs something else",
            Self::Clock => {
                "this machine's clock is far ahead of the log, or far from the other CoServer's: \
                 what is begun with a wrong clock cannot be taken back"
            }
            Self::Join => "the other CoServer is bringing it up to date",
            Self::Joiner => "it is bringing the other CoServer up to date",
            Self::OwnStorage => "its own disk writes nothing, and entries wait for it",
            Self::OwnService => "its own service executes nothing, and entries wait for it",
            Self::Peer => "the other CoServer has not caught up",
            Self::Link(link) => {
                return write!(f, "link {link} is not up: the pair goes on by those that are left");
            }
            Self::SpareWitness => {
                "the witness that is not in use is not reached: if the one in use is lost, the pair \
                 has none to turn to"
            }
            Self::Operator => {
                "the CoServers computed different things, or the service panicked, and an operator \
                 has to decide"
            }
            Self::Leave => "it leaves, and the witness has not recorded that yet",
        })
    }
}
