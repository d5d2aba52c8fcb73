//! What strangers may cost in a time, and whose share of it somebody has had.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::shares::AddressBlock;

/// For so long what somebody had is remembered.
const TURN: Duration = Duration::from_millis(100);

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
/// Each block of addresses has an equal share, as has each address in it, and there is always one
/// share left for a newcomer: whoever comes first does not take it all.
#[derive(Debug)]
pub(super) struct Turns {
    most: usize,
    turn: Turn,
    blocks: BTreeMap<AddressBlock, Block>,
    refused: u64,
}

#[derive(Debug, Default)]
struct Block {
    taken: usize,
    addresses: BTreeMap<IpAddr, usize>,
}

impl Turns {
    /// Turns in each of which there is so much for all.
    pub(super) const fn new(most: usize) -> Self {
        Self { most, turn: Turn(None), blocks: BTreeMap::new(), refused: 0 }
    }

    /// Takes one for somebody, if there is one in their share.
    pub(super) fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.turn.begins(now) {
            self.blocks.clear();
        }
        let taken = self.share_out(source.to_canonical());
        self.refused += u64::from(!taken);
        taken
    }

    /// How often there was none, in all turns.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Only who was given some is remembered, so that there are never more of them than there is.
    fn share_out(&mut self, source: IpAddr) -> bool {
        let block = AddressBlock::of(source);
        let owners = |known: usize, is_known: bool| known + usize::from(!is_known);
        let found = self.blocks.get(&block);
        let of_block = self.most / (owners(self.blocks.len(), found.is_some()) + 1);
        let (in_block, by_address, addresses) = match found {
            Some(block) => {
                let by_address = block.addresses.get(&source);
                let addresses = owners(block.addresses.len(), by_address.is_some());
                (block.taken, by_address.copied().unwrap_or(0), addresses)
            }
            None => (0, 0, 1),
        };
        if in_block >= of_block || by_address >= of_block / (addresses + 1) {
            return false;
        }
        let block = self.blocks.entry(block).or_default();
        block.taken += 1;
        *block.addresses.entry(source).or_default() += 1;
        true
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
        assert_eq!(port.take("198.51.100.1", 100_000), MOST / 4);
        assert!(port.take("198.51.100.2", 40) == 40, "a neighbour's share");
        assert!(port.take("192.0.2.1", 100) == 100, "another block's share");
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_so_is_what_is_remembered_of_it() {
        let mut port = Port::new();
        let mut given = 0;
        for number in 0..100_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            given += port.take(&format!("{}.{b}.{c}.7", 10 + a), 1);
        }
        assert!((MOST / 4..=MOST).contains(&given), "{given}");
        assert!(port.turns.blocks.len() <= MOST);
        assert_eq!(port.turns.refused(), 100_000 - given as u64);
    }

    #[test]
    fn the_next_turn_is_everybodys_again() {
        let mut port = Port::new();
        let given = port.take("198.51.100.1", MOST);
        assert_eq!(port.take("::ffff:198.51.100.1", 1), 0, "the same address");
        port.now += TURN;
        assert_eq!(port.take("198.51.100.1", MOST), given);
    }
}
