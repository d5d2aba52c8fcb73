//! The places that accepted connections take, and which connection gives one up when none is left.
//! It is one of the block that has most, and in it of the address that has most (rule F8 of
//! `docs/protocol.md`). The inside half keeps them for the pair, the outside half for what it
//! carries itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lockstep::shares::{AddressBlock, Shares};

/// The owners that have places. `I` names a connection, in the order in which they were accepted.
#[derive(Clone, Debug)]
pub(super) struct Places<I> {
    shares: Shares<AddressBlock, IpAddr, I>,
    /// Connections that give way to no other: they belong to no share.
    protected: BTreeSet<I>,
}

impl<I> Default for Places<I> {
    fn default() -> Self {
        Self { shares: Shares::default(), protected: BTreeSet::new() }
    }
}

impl<I: Ord + Copy> Places<I> {
    /// How many are taken.
    pub(super) fn len(&self) -> usize {
        self.shares.len() + self.protected.len()
    }

    pub(super) fn take(&mut self, peer: IpAddr, conn: I) {
        self.shares.take(AddressBlock::of(peer), peer.to_canonical(), conn);
    }

    /// From now on this connection keeps its place, whichever others come.
    pub(super) fn protect(&mut self, conn: I) {
        self.shares.give_back(conn);
        self.protected.insert(conn);
    }

    pub(super) fn give_back(&mut self, conn: I) {
        self.shares.give_back(conn);
        self.protected.remove(&conn);
    }

    /// The connections of which a newcomer from this address is to get the place of one, now that
    /// there is no other; none if it has no claim.
    pub(super) fn claims(&self, peer: IpAddr) -> impl Iterator<Item = I> {
        self.shares.claims(AddressBlock::of(peer), peer.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(block: u8, host: u8) -> IpAddr {
        IpAddr::from([192, 0, block, host])
    }

    #[test]
    fn protected_ones_are_counted_and_are_nobodys_share() {
        let mut places = Places::default();
        (0..4).for_each(|conn| places.take(address(1, 1), conn));
        (4..7).for_each(|conn| places.take(address(2, 1), conn));
        (0..4).for_each(|conn| places.protect(conn));
        assert_eq!(places.len(), 7);
        assert_eq!(places.claims(address(3, 1)).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(places.claims(address(1, 1)).count(), 3, "those are no share of its own");
        (0..7).for_each(|conn| places.give_back(conn));
        assert_eq!(places.len(), 0);
        assert_eq!(places.claims(address(3, 1)).count(), 0);
    }

    #[test]
    fn an_address_is_the_same_whichever_way_it_is_written() {
        let mut places = Places::default();
        places.take(address(1, 1), 0);
        places.take("::ffff:192.0.1.1".parse().unwrap(), 1);
        assert_eq!(places.claims(address(1, 1)).count(), 0);
        assert_eq!(places.claims(address(1, 2)).count(), 2);
    }
}
