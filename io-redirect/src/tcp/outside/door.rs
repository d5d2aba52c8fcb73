//! The places that a listener has at this CoServer.
//!
//! Whom the pair takes in, and who gives way, the inside half decides: it knows what both CoServers
//! have. What is decided here only keeps from it whom it would turn away anyway, so that a flood
//! from one block of addresses fills neither the log nor the way of a newcomer from elsewhere.

use std::net::IpAddr;
#[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::limits;
use crate::tcp::places::Places;
use crate::tcp::words::Handle;

/// Who has the places of a listener here.
#[derive(Debug)]
pub(super) struct Door {
    most: usize,
    #[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
    places: Mutex<Places<Handle>>,
}

impl Door {
    /// One for so many connections.
    pub(super) fn new(most: u32) -> Self {
        Self { most: most as usize, places: Default::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Places<Handle>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a newcomer, whose name is made if there is one. Where every connection of the
    /// pair may be here, one that could claim another's place is let in for the inside half to
    /// decide.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        handle: impl FnOnce() -> Handle,
    ) -> Option<Seat> {
        let mut places = self.lock();
        let taken = places.len();
        let claims =
            || taken < self.most + limits::NEWCOMERS && places.claims(peer).next().is_some();
        if taken >= self.most && !claims() {
            return None;
        }
        let handle = handle();
        places.take(peer, handle);
        Some(Seat { door: Arc::clone(self), handle, peer })
    }
}

/// The place of one connection; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    door: Arc<Door>,
    pub(super) handle: Handle,
    pub(super) peer: IpAddr,
}

impl Seat {
    /// It belongs to no address's share any more.
    pub(super) fn protect(&self) {
        self.door.lock().protect(self.handle);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.door.lock().give_back(self.handle);
    }
}

#[cfg(test)]
mod tests {
    use lockstep::ids::Incarnation;

    use super::*;

    /// So many of this address are let in, of the newcomers so far.
    fn admitted(door: &Arc<Door>, host: [u8; 4], seats: &mut Vec<Seat>, of: usize) -> usize {
        let before = seats.len();
        for _ in 0..of {
            let nth = seats.len() as u64 + 1;
            seats.extend(door.admit(host.into(), || Handle::accepted(Incarnation(1), nth)));
        }
        seats.len() - before
    }

    #[test]
    fn a_flood_stays_outside_and_those_with_a_claim_come_in_up_to_a_bound() {
        let (door, mut seats) = (Arc::new(Door::new(100)), Vec::new());
        assert_eq!(admitted(&door, [192, 0, 1, 1], &mut seats, 500), 100);
        assert_eq!(admitted(&door, [192, 0, 2, 1], &mut seats, 500), limits::NEWCOMERS);
        assert_eq!(admitted(&door, [192, 0, 1, 1], &mut seats, 1), 0);
        seats.truncate(100);
        seats[..60].iter().for_each(Seat::protect);
        assert_eq!(admitted(&door, [192, 0, 1, 2], &mut seats, 1), 1, "another's share of 40");
        seats.clear();
        assert_eq!(door.lock().len(), 0);
    }
}
