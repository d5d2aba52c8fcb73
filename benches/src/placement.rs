//! Which part of a row may run on which core.
//!
//! Placement decides more than any protocol does: two processes that share a
//! core exchange a datagram several times faster than two that sleep on cores
//! of their own. So one placement holds for all rows of a run.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where a part sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// The first of a pair (the one that starts a trip, the leader, CoServer A).
    A,
    /// The second of a pair (the one that echoes, a follower, CoServer B).
    B,
    /// The process that sends requests and waits for replies.
    Client,
    /// A process that is not on the way of a trip (a witness) runs wherever the scheduler likes.
    Free,
}

/// The cores given to the seats, the same for every row of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The core of [`Seat::A`].
    pub a: usize,
    /// The core of [`Seat::B`]; may be the same one.
    pub b: usize,
    /// The core of [`Seat::Client`]; `None` leaves it to the scheduler.
    pub client: Option<usize>,
}

/// A placement that this machine cannot give.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// The set of allowed cores could not be read.
    #[error("cannot read which cores this process may use: {0}")]
    Read(rustix::io::Errno),
    /// A and B need a core each.
    #[error("only one core ({0}) may be used here; pass --cores {0},{0} to put A and B on it")]
    OneCore(usize),
    /// The kernel refused to pin.
    #[error("cannot pin to core {core}: {source}; the cores that may be used are {allowed:?}")]
    Pin {
        /// The core asked for.
        core: usize,
        /// The cores that the process may use.
        allowed: Vec<usize>,
        /// What the kernel said.
        source: rustix::io::Errno,
    },
    /// A core that the process may not use.
    #[error("core {core} may not be used here; choose from {allowed:?}")]
    NotAllowed {
        /// The core asked for.
        core: usize,
        /// The cores that the process may use.
        allowed: Vec<usize>,
    },
}

impl Placement {
    /// A and B on the first two cores that this process may use (0 and 1,
    /// unless something restricts it), the client free.
    pub fn first_two_cores() -> Result<Self, PlacementError> {
        match allowed_cores()?.as_slice() {
            [a, b, ..] => Ok(Self { a: *a, b: *b, client: None }),
            [one] => Err(PlacementError::OneCore(*one)),
            [] => Err(PlacementError::Read(rustix::io::Errno::NODEV)),
        }
    }

    /// Whether every core named may be used.
    pub fn check(&self) -> Result<(), PlacementError> {
        let allowed = allowed_cores()?;
        let mut named = [Some(self.a), Some(self.b), self.client].into_iter().flatten();
        match named.find(|core| !allowed.contains(core)) {
            Some(core) => Err(PlacementError::NotAllowed { core, allowed }),
            None => Ok(()),
        }
    }

    /// The core of a seat, or `None` where the scheduler may choose.
    pub fn core_of(&self, seat: Seat) -> Option<usize> {
        match seat {
            Seat::A => Some(self.a),
            Seat::B => Some(self.b),
            Seat::Client => self.client,
            Seat::Free => None,
        }
    }
}

/// The cores that this process may use, in ascending order.
pub fn allowed_cores() -> Result<Vec<usize>, PlacementError> {
    let set = sched_getaffinity(None).map_err(PlacementError::Read)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Pins the calling thread, and all that it starts later, to one core.
pub fn pin(core: usize) -> Result<(), PlacementError> {
    let allowed = allowed_cores()?;
    if !allowed.contains(&core) {
        return Err(PlacementError::NotAllowed { core, allowed });
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|source| PlacementError::Pin { core, allowed, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_exist_is_refused_by_name() {
        let absent = CpuSet::MAX_CPU - 1;
        let placement = Placement { a: absent, b: absent, client: None };
        let message = placement.check().unwrap_err().to_string();
        assert!(message.contains(&absent.to_string()), "{message}");
    }

    #[test]
    fn every_seat_but_the_free_ones_has_its_core() {
        let placement = Placement { a: 3, b: 5, client: Some(7) };
        let cores = [Seat::A, Seat::B, Seat::Client, Seat::Free].map(|s| placement.core_of(s));
        assert_eq!(cores, [Some(3), Some(5), Some(7), None]);
    }
}
