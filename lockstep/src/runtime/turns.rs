//! Rate limits for what strangers may cost a port, in windows of 100 ms ("turns"), with a share of
//! each for every source.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::shares::{AddressBlock, host};

/// For so long what somebody had is remembered.
const TURN: Duration = Duration::from_millis(100);

/// One in so many of what a turn has is kept for those who had nothing in it.
const RESERVED: usize = 4;

/// Of packets that are beyond their source's share one in so many is let in all the same.
const CHANCE: u64 = 16;

/// When a turn began.
#[derive(Debug, Default)]
pub(super) struct Turn(Option<Instant>);

impl Turn {
    /// Whether the one before is over, so that another begins.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        let begins = self.0.is_none_or(|began| now.duration_since(began) >= TURN);
        if begins {
            self.0 = Some(now);
        }
        begins
    }
}

/// Who had how much of one turn.
///
/// A block of addresses may have a part of what there is, and a host a part of what its block may
/// have. The parts are as if each of those who had some, and one more, took the same. Whoever comes
/// late in a turn may find less than that. The last fourth of either is for those who had nothing
/// in this turn, one each: it takes as many of them to leave nothing for the next.
#[derive(Debug)]
pub(super) struct Turns {
    most: usize,
    turn: Turn,
    /// In this turn, all together: never more than `most`.
    given: usize,
    blocks: BTreeMap<AddressBlock, Block>,
}

#[derive(Debug, Default)]
struct Block {
    given: usize,
    hosts: BTreeMap<IpAddr, usize>,
}

impl Turns {
    /// Turns in each of which there is so much for all.
    pub(super) const fn new(most: usize) -> Self {
        Self { most, turn: Turn(None), given: 0, blocks: BTreeMap::new() }
    }

    /// Takes one for somebody, if there is one in their share.
    pub(super) fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.turn.begins(now) {
            self.blocks.clear();
            self.given = 0;
        }
        let (block, host) = (AddressBlock::of(source), host(source));
        if !self.has_one_for(block, host) {
            return false;
        }
        self.given += 1;
        let block = self.blocks.entry(block).or_default();
        block.given += 1;
        *block.hosts.entry(host).or_default() += 1;
        true
    }

    /// Only who was given some is remembered, so that there are never more of them than there is.
    fn has_one_for(&self, block: AddressBlock, host: IpAddr) -> bool {
        let blocks = Pool { most: self.most, given: self.given, owners: self.blocks.len() };
        let Some(block) = self.blocks.get(&block) else { return blocks.has_one_for(0) };
        let most = blocks.share();
        let hosts = Pool { most, given: block.given, owners: block.hosts.len() };
        let own = block.hosts.get(&host).copied().unwrap_or(0);
        blocks.has_one_for(block.given) && hosts.has_one_for(own)
    }
}

/// What there is for some owners.
#[derive(Debug, Clone, Copy)]
struct Pool {
    most: usize,
    given: usize,
    /// So many had some of it.
    owners: usize,
}

impl Pool {
    /// Whether an owner that had so much gets one more.
    const fn has_one_for(&self, own: usize) -> bool {
        match own {
            0 => self.given < self.most,
            own => self.given < self.most - self.most / RESERVED && own < self.share(),
        }
    }

    /// What one that had some may have.
    const fn share(&self) -> usize {
        match self.most / (self.owners + 1) {
            0 => 1,
            share => share,
        }
    }
}

/// A few of those that are beyond their share, from whatever address they seem to come. So a sender
/// that uses up another's share by forging its address does not shut it out wholly.
#[derive(Debug)]
pub(super) struct Chances {
    most: usize,
    turn: Turn,
    given: usize,
    asked: u64,
}

impl Chances {
    /// So many in a turn at most.
    pub(super) const fn new(most: usize) -> Self {
        Self { most, turn: Turn(None), given: 0, asked: 0 }
    }

    /// Whether this one is let in.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.turn.begins(now) {
            self.given = 0;
        }
        self.asked += 1;
        let taken = self.asked.is_multiple_of(CHANCE) && self.given < self.most;
        self.given += usize::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1024;

    struct Port {
        turns: Turns,
        now: Instant,
    }

    impl Port {
        #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
        fn new() -> Self {
            Self { turns: Turns::new(MOST), now: std::time::Instant::now().into() }
        }

        /// How many of so many that somebody wants they are given.
        fn take(&mut self, source: &str, wanted: usize) -> usize {
            let source = source.parse().unwrap();
            (0..wanted).filter(|_| self.turns.take(source, self.now)).count()
        }
    }

    #[test]
    fn a_flood_from_one_address_leaves_shares_to_its_neighbours_and_to_other_blocks() {
        let mut port = Port::new();
        assert_eq!(port.take("198.51.100.1", 2 * MOST), MOST / 4);
        assert!(port.take("198.51.100.2", 40) == 40, "a neighbour's share");
        assert!(port.take("192.0.2.1", 100) == 100, "another block's share");
    }

    #[test]
    fn blocks_that_take_all_they_can_one_after_the_other_get_no_more_than_there_is() {
        let mut port = Port::new();
        let floods = (0..50).map(|block| {
            (0..4).map(|host| port.take(&format!("10.0.{block}.{host}"), MOST)).sum::<usize>()
        });
        let given: usize = floods.sum();
        assert!(given <= MOST, "{given}");
    }

    #[test]
    fn a_block_that_had_nothing_is_given_some_however_many_had_some_before() {
        let mut port = Port::new();
        for number in 0..600_u32 {
            let [.., a, b] = number.to_be_bytes();
            port.take(&format!("10.{a}.{b}.7"), 1);
        }
        assert_eq!(port.take("192.0.2.1", 1), 1, "after many blocks");
        port.now += TURN;
        for block in 0..100 {
            port.take(&format!("10.0.{block}.7"), MOST);
        }
        assert_eq!(port.take("192.0.2.1", 1), 1, "after blocks that took all they could");
    }

    #[test]
    fn a_neighbour_that_had_nothing_is_given_some_after_others_took_all_they_could() {
        let mut port = Port::new();
        for host in 1..50 {
            port.take(&format!("198.51.100.{host}"), MOST);
        }
        assert_eq!(port.take("198.51.100.77", 1), 1);
    }

    /// One host may have all addresses of a /64.
    #[test]
    fn a_host_has_one_share_however_many_ipv6_addresses_it_has() {
        let mut port = Port::new();
        let addresses = (0..1000).map(|number| port.take(&format!("2001:db8:1:1::{number:x}"), 9));
        assert_eq!(addresses.sum::<usize>(), MOST / 4);
        assert_eq!(port.take("2001:db8:1:2::1", 40), 40, "a neighbour's share");
        assert_eq!(port.take("2001:db8:2::1", 100), 100, "another block's share");
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_so_is_what_is_remembered_of_it() {
        let mut port = Port::new();
        let given = (0..20_000_u32).map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            port.take(&format!("{}.{b}.{c}.7", 10 + a), 1)
        });
        assert_eq!(given.sum::<usize>(), MOST);
        assert!(port.turns.blocks.len() <= MOST);
    }

    #[test]
    fn the_next_turn_is_everybodys_again() {
        let mut port = Port::new();
        let given = port.take("198.51.100.1", MOST);
        assert_eq!(port.take("::ffff:198.51.100.1", 1), 0, "the same address");
        port.now += TURN;
        assert_eq!(port.take("198.51.100.1", MOST), given);
    }

    #[test]
    fn one_in_some_beyond_their_share_is_let_in_up_to_a_bound() {
        let mut port = Port::new();
        let mut chances = Chances::new(10);
        let mut let_in = |now, times| (0..times).filter(|_| chances.take(now)).count();
        assert_eq!(let_in(port.now, 5 * CHANCE), 5);
        assert_eq!(let_in(port.now, 1000 * CHANCE), 5);
        port.now += TURN;
        assert_eq!(let_in(port.now, 1000 * CHANCE), 10);
    }
}
