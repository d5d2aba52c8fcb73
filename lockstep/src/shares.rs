//! Shares of a bounded pool: which place a newcomer gets when none is left (rule F8).
//!
//! Without shares the bound itself is a weapon: an owner that takes every place shuts out all
//! others. Here no newcomer is sent away while there is room, and once there is none, every owner
//! can have as many places as the next one (max-min fairness). A newcomer takes a place of the
//! owner that holds most, if that is at least two more than the newcomer's own. An owner that holds
//! most itself gives one up among its own parts, by the same rule.
//!
//! The same calls give the same answers, so shares may be part of a replicated state. Which of the
//! places that it may claim a newcomer gets is for the keeper of the pool to say:
//!
//! ```
//! use std::net::IpAddr;
//!
//! use lockstep::shares::{AddressBlock, Shares};
//!
//! let mut shares: Shares<AddressBlock, IpAddr, u64> = Shares::new();
//! let greedy: IpAddr = "192.0.2.1".parse()?;
//! for place in 0..4 {
//!     shares.take(AddressBlock::of(greedy), greedy, place);
//! }
//! // No more than four fit.
//! let newcomer: IpAddr = "198.51.100.1".parse()?;
//! let claimed = shares.claim(AddressBlock::of(newcomer), newcomer);
//! assert_eq!(claimed.and_then(|places| places.first()), Some(&0));
//! assert!(shares.claim(AddressBlock::of(greedy), greedy).is_none());
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};

mod block;

pub use block::{AddressBlock, host};

/// Who holds the places of a pool. `O` is an owner, such as a key or a block of addresses. `P` is a
/// part of one, such as an address in it. `I` names a place, in the order in which they were taken.
#[derive(Debug, Clone)]
pub struct Shares<O, P, I> {
    owners: BTreeMap<O, Owner<P, I>>,
    /// The owner of each place.
    held: BTreeMap<I, (O, P)>,
}

#[derive(Debug, Clone)]
struct Owner<P, I> {
    held: usize,
    parts: BTreeMap<P, BTreeSet<I>>,
}

impl<O, P, I> Default for Shares<O, P, I> {
    fn default() -> Self {
        Self { owners: BTreeMap::new(), held: BTreeMap::new() }
    }
}

impl<O: Ord + Copy, P: Ord + Copy, I: Ord + Copy> Shares<O, P, I> {
    /// A pool in which no place is taken.
    pub const fn new() -> Self {
        Self { owners: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// How many places are taken.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many of them this owner has.
    pub fn held(&self, owner: O) -> usize {
        self.owners.get(&owner).map_or(0, |owner| owner.held)
    }

    /// A place is taken. The place's name is new.
    pub fn take(&mut self, owner: O, part: P, place: I) {
        let known = self.held.insert(place, (owner, part));
        debug_assert!(known.is_none(), "a place is taken once");
        let owner = self.owners.entry(owner).or_insert_with(Owner::new);
        owner.held += 1;
        owner.parts.entry(part).or_default().insert(place);
    }

    /// A place is given back. For a place that is not held there is nothing to do.
    pub fn give_back(&mut self, place: I) {
        let Some((name, part)) = self.held.remove(&place) else { return };
        let Some(owner) = self.owners.get_mut(&name) else { return };
        owner.held -= 1;
        if let Some(places) = owner.parts.get_mut(&part) {
            places.remove(&place);
            if places.is_empty() {
                owner.parts.remove(&part);
            }
        }
        if owner.held == 0 {
            self.owners.remove(&name);
        }
    }

    /// The places, oldest first, of which a newcomer is to get one now that there is no more room:
    /// those of one part of the owner that has most. `None` if no owner has so many more that the
    /// newcomer has a claim.
    pub fn claim(&self, owner: O, part: P) -> Option<&BTreeSet<I>> {
        self.gives_way(owner, part)?.largest().map(|(_, places)| places)
    }

    /// The same of all parts that have as many as the largest, of all owners that have as many as
    /// the one with most. They come in no order, and there are none if the newcomer has no claim.
    pub fn claims(&self, owner: O, part: P) -> impl Iterator<Item = I> {
        let first = self.gives_way(owner, part);
        let is_own = first.is_some_and(|first| first.held == self.held(owner));
        let most = first.map_or(0, |first| first.held);
        let tied = self
            .owners
            .iter()
            .filter(move |(other, has)| has.held == most && (!is_own || **other == owner));
        tied.flat_map(|(_, owner)| {
            let most = owner.largest().map_or(0, |(_, places)| places.len());
            owner.parts.values().filter(move |places| places.len() == most).flatten().copied()
        })
    }

    /// The owner of whose largest part a newcomer gets a place.
    fn gives_way(&self, owner: O, part: P) -> Option<&Owner<P, I>> {
        let (&most, largest) = self.owners.iter().max_by_key(|(_, other)| other.held)?;
        if most != owner && largest.held > self.held(owner) + 1 {
            return Some(largest);
        }
        let own = self.owners.get(&owner)?;
        if own.held < largest.held {
            return None;
        }
        let has = own.parts.get(&part).map_or(0, BTreeSet::len);
        own.largest().filter(|(_, places)| places.len() > has + 1).map(|_| own)
    }
}

impl<P: Ord + Copy, I: Ord + Copy> Owner<P, I> {
    const fn new() -> Self {
        Self { held: 0, parts: BTreeMap::new() }
    }

    /// The part with the most places.
    fn largest(&self) -> Option<(&P, &BTreeSet<I>)> {
        self.parts.iter().max_by_key(|(_, places)| places.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool of some places: a newcomer takes a free one, or the oldest of those it may claim.
    struct Pool {
        shares: Shares<char, u8, u32>,
        most: usize,
        taken: u32,
    }

    impl Pool {
        fn of(most: usize) -> Self {
            Self { shares: Shares::new(), most, taken: 0 }
        }

        fn come(&mut self, owner: char, part: u8) -> bool {
            if self.shares.len() >= self.most {
                let place = self.shares.claim(owner, part).and_then(|places| places.first());
                let Some(&place) = place else { return false };
                self.shares.give_back(place);
            }
            self.taken += 1;
            self.shares.take(owner, part, self.taken);
            true
        }

        fn has(&self, owner: char) -> usize {
            self.shares.held(owner)
        }
    }

    #[test]
    fn nobody_is_sent_away_while_there_is_room() {
        let mut pool = Pool::of(10);
        assert!((0..10).all(|_| pool.come('x', 0)));
        assert_eq!(pool.has('x'), 10);
    }

    #[test]
    fn one_that_holds_everything_gives_way_until_the_others_have_as_many() {
        let mut pool = Pool::of(10);
        (0..10).for_each(|_| assert!(pool.come('x', 0)));
        let came = (0..10).filter(|_| pool.come('y', 0)).count();
        assert_eq!((came, pool.has('x'), pool.has('y')), (5, 5, 5));
        assert!(!pool.come('x', 0), "nobody has more than another");
        assert!(pool.come('z', 0), "a third one has a share too");
        assert_eq!(pool.has('z'), 1);
    }

    #[test]
    fn those_that_have_equally_many_may_all_have_to_give_way() {
        let mut pool = Pool::of(6);
        for (owner, part) in [('x', 0), ('x', 1), ('y', 0), ('y', 0), ('z', 0), ('z', 1)] {
            assert!(pool.come(owner, part));
        }
        assert_eq!(pool.shares.claims('v', 0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(pool.shares.claims('x', 0).count(), 0, "it has as many");
        assert_eq!(pool.shares.claims('y', 1).collect::<Vec<_>>(), [3, 4], "its own alone");
    }

    #[test]
    fn the_parts_of_an_owner_share_what_it_has() {
        let mut pool = Pool::of(6);
        (0..6).for_each(|_| assert!(pool.come('x', 0)));
        let came = (0..6).filter(|_| pool.come('x', 1)).count();
        assert_eq!(came, 3);
        assert_eq!(pool.has('x'), 6);
    }

    #[test]
    fn the_parts_that_have_as_many_are_all_claimed() {
        let mut pool = Pool::of(6);
        [0, 0, 1, 1, 2].into_iter().for_each(|part| assert!(pool.come('x', part)));
        pool.come('y', 0);
        let mut claimed: Vec<u32> = pool.shares.claims('y', 1).collect();
        claimed.sort_unstable();
        assert_eq!(claimed, [1, 2, 3, 4], "the one of part 2 is its only one");
        assert_eq!(pool.shares.claims('x', 0).count(), 0);
        assert_eq!(pool.shares.claims('x', 3).count(), 4);
    }

    #[test]
    fn one_with_less_than_most_cannot_grow_by_its_parts() {
        let mut pool = Pool::of(5);
        (0..3).for_each(|_| assert!(pool.come('x', 0)));
        (0..2).for_each(|_| assert!(pool.come('y', 0)));
        assert!(!pool.come('y', 1), "one more would only turn the two around");
        assert_eq!((pool.has('x'), pool.has('y')), (3, 2));
    }

    #[test]
    fn a_place_given_back_leaves_nothing_behind() {
        let mut pool = Pool::of(3);
        assert!(pool.come('x', 0));
        pool.shares.give_back(1);
        pool.shares.give_back(1);
        assert_eq!(pool.shares.len(), 0);
        assert!(pool.shares.owners.is_empty());
    }

    proptest::proptest! {
        /// An owner that keeps coming ends up with a fair share, whatever the others did before.
        #[test]
        fn everybody_reaches_a_fair_share(
            before in proptest::collection::vec((0u8..6, 0u8..4), 0..200),
            most in 6usize..40,
        ) {
            let mut pool = Pool::of(most);
            for (owner, part) in before {
                pool.come(char::from(b'a' + owner), part);
                proptest::prop_assert!(pool.shares.len() <= most);
            }
            (0..most).for_each(|part| { pool.come('h', part as u8); });
            let others = pool.shares.owners.keys().filter(|owner| **owner != 'h').count();
            let fair = most / (others + 1);
            proptest::prop_assert!(pool.has('h') >= fair, "{} of {most}", pool.has('h'));
        }
    }
}
