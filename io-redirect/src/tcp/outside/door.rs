//! The places that a listener has at this CoServer.
//!
//! The inside half decides which client the pair takes in, and which gives way: it knows what both
//! CoServers have. What is decided here only keeps from the pair the clients that it would turn
//! away anyway. So a flood from one block of addresses fills neither the log nor the way of a
//! newcomer from elsewhere. Where the other CoServer has a part of the places, that is learned from
//! the clients that the inside half turns away. For a while no other client of the same block is
//! let in. A block that knocks all the same, as fast as it is answered, is shut out for a while
//! ([`filter`](super::filter)).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
#[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError};

use lockstep::shares::AddressBlock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;
use crate::tcp::messages::Handle;
use crate::tcp::places::Places;

/// Who has the places of a listener here.
#[derive(Debug)]
pub(super) struct Door {
    most: usize,
    #[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
    inner: Mutex<Inner>,
    shut_out: watch::Sender<Vec<AddressBlock>>,
}

#[derive(Debug, Default)]
struct Inner {
    places: Places<Handle>,
    /// Blocks of which the inside half has turned a client away, and until when that counts.
    hopeless: Recent,
    /// Blocks of which a client was turned away or gave way, and until when that counts.
    crowded: Recent,
    /// How many of each block were turned away since then.
    flood: BTreeMap<AddressBlock, u32>,
    flood_began: Option<Instant>,
}

/// Blocks of addresses, and until when each counts.
#[derive(Debug, Default)]
struct Recent(VecDeque<(AddressBlock, Instant)>);

impl Recent {
    fn has(&mut self, peer: IpAddr, now: Instant) -> bool {
        self.0.retain(|(_, until)| *until > now);
        let block = AddressBlock::of(peer);
        self.0.iter().any(|(recent, _)| *recent == block)
    }

    /// Remembers one, of at most so many.
    fn add(&mut self, block: AddressBlock, until: Instant, most: usize) {
        self.0.retain(|(recent, _)| *recent != block);
        self.0.push_back((block, until));
        if self.0.len() > most {
            self.0.pop_front();
        }
    }
}

impl Inner {
    fn crowds(&mut self, block: AddressBlock, now: Instant) {
        self.crowded.add(block, now + limits::CROWDED, limits::CROWDED_BLOCKS);
    }

    /// Counts one more of this block that is turned away.
    fn floods(&mut self, block: AddressBlock, now: Instant) -> bool {
        self.crowds(block, now);
        if self.flood_began.is_none_or(|began| now.duration_since(began) >= limits::FLOOD) {
            self.flood_began = Some(now);
            self.flood.clear();
        }
        if self.flood.len() >= limits::FLOOD_BLOCKS && !self.flood.contains_key(&block) {
            return false;
        }
        let count = self.flood.entry(block).or_default();
        *count += 1;
        *count >= limits::FLOOD_REFUSALS
    }
}

impl Door {
    /// A door for this many connections.
    pub(super) fn new(most: u32) -> Self {
        let (shut_out, _) = watch::channel(Vec::new());
        Self { most: most as usize, inner: Default::default(), shut_out }
    }

    /// The blocks that are shut out, whenever that changes.
    pub(super) fn watch(&self) -> watch::Receiver<Vec<AddressBlock>> {
        self.shut_out.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a newcomer, whose name is made if there is one. Where every connection of
    /// the pair may be here, one that could claim another's place is let in for the inside half
    /// to decide.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        now: Instant,
        handle: impl FnOnce() -> Handle,
    ) -> Result<Seat, NoPlace> {
        let mut inner = self.lock();
        if inner.hopeless.has(peer, now) {
            return Err(NoPlace::HasItsShare);
        }
        let places = &mut inner.places;
        let taken = places.len();
        if taken >= self.most && places.claims(peer).next().is_none() {
            return Err(NoPlace::HasItsShare);
        }
        if taken >= self.most + limits::NEWCOMERS {
            return Err(NoPlace::Busy);
        }
        let handle = handle();
        places.take(peer, handle);
        Ok(Seat { door: Arc::clone(self), handle, peer, is_protected: false, is_hopeless: false })
    }

    /// Notes that a client was turned away here whose block has its share. The block, if it is shut
    /// out from now on.
    pub(super) fn refused(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<AddressBlock> {
        let block = AddressBlock::of(peer);
        if !self.lock().floods(block, now) {
            return None;
        }
        let shut = self.shut_out.send_if_modified(|shut_out| {
            let shut = shut_out.len() < limits::SHUT_OUT_BLOCKS && !shut_out.contains(&block);
            shut_out.extend(shut.then_some(block));
            shut
        });
        if !shut {
            return None;
        }
        let door = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(limits::SHUT_OUT).await;
            door.shut_out.send_modify(|shut_out| shut_out.retain(|other| *other != block));
        });
        Some(block)
    }
}

/// Why a newcomer has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The newcomer's block has as many as the next one, and no claim to another's place.
    HasItsShare,
    /// Too many newcomers with a claim are being let in already.
    Busy,
}

/// The place of one connection; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    door: Arc<Door>,
    pub(super) handle: Handle,
    pub(super) peer: IpAddr,
    is_protected: bool,
    is_hopeless: bool,
}

impl Seat {
    /// The inside half turns it away. So it would others of its block, until a place comes free:
    /// here, which is noticed, or at the other CoServer.
    pub(super) fn turned_away(&mut self, now: Instant) {
        self.is_hopeless = true;
        let mut inner = self.door.lock();
        let block = AddressBlock::of(self.peer);
        inner.crowds(block, now);
        if !inner.hopeless.has(self.peer, now) {
            inner.hopeless.add(block, now + limits::HOPELESS, limits::HOPELESS_BLOCKS);
        }
    }

    /// The connection gives way to another.
    pub(super) fn gives_way(&self, now: Instant) {
        self.door.lock().crowds(AddressBlock::of(self.peer), now);
    }

    /// Whether others of its block were turned away lately, or gave way, and it is of its share.
    pub(super) fn is_crowded(&self, now: Instant) -> bool {
        !self.is_protected && self.door.lock().crowded.has(self.peer, now)
    }

    /// The connection belongs to no address's share any more.
    pub(super) fn protect(&mut self) {
        self.is_protected = true;
        self.door.lock().places.protect(self.handle);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.door.lock();
        inner.places.give_back(self.handle);
        if !self.is_hopeless {
            inner.hopeless = Recent::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use lockstep::ids::Incarnation;

    use super::*;

    /// So many of this address are let in, of the newcomers so far.
    fn admitted(door: &Arc<Door>, host: [u8; 4], seats: &mut Vec<Seat>, of: usize) -> usize {
        let before = seats.len();
        let now = Instant::now();
        for _ in 0..of {
            let nth = seats.len() as u64 + 1;
            seats.extend(
                door.admit(host.into(), now, || Handle::accepted(Incarnation(1), nth)).ok(),
            );
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
        seats[..60].iter_mut().for_each(Seat::protect);
        assert_eq!(admitted(&door, [192, 0, 1, 2], &mut seats, 1), 1, "another's share of 40");
        seats.clear();
        assert_eq!(door.lock().places.len(), 0);
    }

    #[test]
    fn a_block_that_was_turned_away_stays_outside_until_a_place_may_be_free() {
        let (door, now) = (Arc::new(Door::new(100)), Instant::now());
        let mut nth = 0;
        let mut admit = |block: u8, at: Instant| {
            nth += 1;
            door.admit([192, 0, block, 1].into(), at, || Handle::accepted(Incarnation(1), nth))
        };
        let served = admit(1, now).expect("there is room here");
        // The other CoServer has all the others.
        let mut flood = admit(2, now).expect("there is room here");
        flood.turned_away(now);
        drop(flood);
        assert_eq!(admit(2, now).err(), Some(NoPlace::HasItsShare));
        assert!(admit(3, now).is_ok_and(|mut seat| {
            seat.turned_away(now);
            true
        }));
        assert!(admit(2, now + limits::HOPELESS).is_ok_and(|mut seat| {
            seat.turned_away(now + limits::HOPELESS);
            true
        }));
        drop(served);
        assert!(admit(2, now + limits::HOPELESS).is_ok(), "a place here came free");
    }

    #[test]
    fn a_block_is_crowded_only_by_those_who_have_no_claim_and_not_for_one_that_is_protected() {
        let (door, now) = (Arc::new(Door::new(2)), Instant::now());
        let nth = core::cell::Cell::new(0);
        let admit = |block: u8, host: u8| {
            nth.set(nth.get() + 1);
            let handle = || Handle::accepted(Incarnation(1), nth.get());
            door.admit([10, block, 0, host].into(), now, handle)
        };
        let mut greedy: Vec<_> = (1..=2).filter_map(|host| admit(1, host).ok()).collect();
        let _newcomers: Vec<_> =
            (2..2 + limits::NEWCOMERS as u8).filter_map(|block| admit(block, 1).ok()).collect();
        assert_eq!(admit(200, 1).err(), Some(NoPlace::Busy), "it has a claim");
        assert_eq!(admit(1, 3).err(), Some(NoPlace::HasItsShare));
        assert!(!greedy[0].is_crowded(now));
        assert_eq!(door.refused([10, 1, 0, 3].into(), now), None);
        greedy[1].protect();
        assert!(greedy[0].is_crowded(now) && !greedy[1].is_crowded(now));
        assert!(!greedy[0].is_crowded(now + limits::CROWDED));
    }

    fn test(scenario: impl AsyncFnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(scenario());
    }

    /// How many of them are turned away before their block is shut out.
    fn until_shut_out(door: &Arc<Door>, host: [u8; 4], most: u32, now: Instant) -> Option<u32> {
        (1..=most).find(|_| door.refused(host.into(), now).is_some())
    }

    #[test]
    fn a_block_that_floods_is_shut_out_for_a_while_and_no_other_is() {
        test(async || {
            let (door, flood) = (Arc::new(Door::new(1)), limits::FLOOD_REFUSALS);
            let (greedy, modest) = ([192, 0, 1, 1], [192, 0, 2, 1]);
            let (mut watch, began) = (door.watch(), Instant::now());
            for nth in 0..10 {
                let now = began + limits::FLOOD * nth;
                assert_eq!(until_shut_out(&door, modest, flood - 1, now), None);
            }
            let now = began + limits::FLOOD * 10;
            assert_eq!(until_shut_out(&door, greedy, 1000, now), Some(flood));
            assert_eq!(until_shut_out(&door, greedy, 1000, now), None, "it is");
            assert_eq!(*watch.borrow(), [AddressBlock::of(greedy.into())]);
            let opened = watch.wait_for(Vec::is_empty);
            assert!(tokio::time::timeout(Duration::from_secs(30), opened).await.is_ok());
            let now = now + limits::FLOOD;
            assert_eq!(until_shut_out(&door, greedy, 1000, now), Some(flood));
        });
    }

    #[test]
    fn blocks_that_flood_are_shut_out_and_counted_within_bounds() {
        test(async || {
            let (door, now) = (Arc::new(Door::new(1)), Instant::now());
            for nth in 0..5000_u32 {
                let [.., high, low] = nth.to_be_bytes();
                let found = until_shut_out(&door, [192, high, low, 1], 100, now);
                assert_eq!(found.is_some(), (nth as usize) < limits::SHUT_OUT_BLOCKS);
            }
            assert_eq!(door.lock().flood.len(), limits::FLOOD_BLOCKS);
            assert_eq!(door.watch().borrow().len(), limits::SHUT_OUT_BLOCKS);
        });
    }

    #[test]
    fn blocks_that_were_turned_away_are_remembered_within_a_bound() {
        let (door, now) = (Arc::new(Door::new(100)), Instant::now());
        for block in 0..=u8::MAX {
            let handle = || Handle::accepted(Incarnation(1), block.into());
            let seat = door.admit([192, 0, block, 1].into(), now, handle);
            seat.expect("there is room here").turned_away(now);
        }
        assert_eq!(door.lock().hopeless.0.len(), limits::HOPELESS_BLOCKS);
        assert_eq!(door.lock().crowded.0.len(), limits::CROWDED_BLOCKS);
    }
}
