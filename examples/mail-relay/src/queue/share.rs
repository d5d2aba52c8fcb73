//! What of the queue each block of addresses has, and what it may have.
//!
//! A block gets more only while what it has is no more than so many times what is free (dynamic
//! thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). With three
//! times, one block alone takes three quarters, two take three sevenths each, and so on: something
//! stays free for a block that has nothing, however many others take all they may.

use std::collections::BTreeMap;

use lockstep::shares::AddressBlock;

use super::QueueConfig;

/// What the clients of one block of addresses may have of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All that is free.
    Unbounded,
    /// So many times what is free, and of that no more than there is.
    TimesFree(u32),
}

impl Share {
    /// How much one that has `held` may get while so much is free.
    fn room(self, held: u64, free: u64) -> u64 {
        match self {
            Share::Unbounded => free,
            Share::TimesFree(times) => {
                free.saturating_mul(times.into()).saturating_sub(held).min(free)
            }
        }
    }
}

/// What a block of addresses has in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Its mails, and the notices of failure of such.
    pub mails: u64,
    /// Their octets, as the bound of the queue counts them.
    pub bytes: u64,
}

impl Held {
    /// The octets of a mail that one with this may get while so much is free; 0 if it may get none.
    pub(super) fn room(self, share: Share, free: Held) -> u64 {
        match share.room(self.mails, free.mails) {
            0 => 0,
            _ => share.room(self.bytes, free.bytes),
        }
    }

    /// How large a part of the queue this is, of mails or of octets, whichever is more; to compare
    /// it with others.
    fn part(self, config: &QueueConfig) -> u128 {
        let product = |held: u64, other: u64| u128::from(held) * u128::from(other);
        product(self.mails, config.max_bytes).max(product(self.bytes, config.max_mails))
    }
}

/// What each block has. It follows from the mails, so it is not frozen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Holdings(BTreeMap<AddressBlock, Held>);

impl Holdings {
    /// A mail of this block came into the queue.
    pub(super) fn add(&mut self, block: Option<AddressBlock>, bytes: u64) {
        let Some(block) = block else { return };
        let held = self.0.entry(block).or_default();
        held.mails += 1;
        held.bytes += bytes;
    }

    /// A mail of this block left the queue.
    pub(super) fn remove(&mut self, block: Option<AddressBlock>, bytes: u64) {
        let Some(block) = block else { return };
        let Some(held) = self.0.get_mut(&block) else { return };
        held.mails -= 1;
        held.bytes -= bytes;
        if held.mails == 0 {
            self.0.remove(&block);
        }
    }

    pub(super) fn of(&self, block: AddressBlock) -> Held {
        self.0.get(&block).copied().unwrap_or_default()
    }

    /// The block that has the largest part of the queue.
    pub(super) fn largest(&self, config: &QueueConfig) -> Option<AddressBlock> {
        let largest = self.0.iter().max_by_key(|(_, held)| held.part(config));
        largest.map(|(block, _)| *block)
    }

    /// Each block, with what it has.
    pub(super) fn iter(&self) -> impl Iterator<Item = (AddressBlock, Held)> {
        self.0.iter().map(|(block, held)| (*block, *held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many blocks take what they may, in turn, until none gets more; what each has.
    fn fill(blocks: usize, most: u64, times: u32) -> Vec<u64> {
        let mut held = vec![0; blocks];
        loop {
            let before = held.clone();
            for at in 0..blocks {
                let free = most - held.iter().sum::<u64>();
                held[at] += u64::from(Share::TimesFree(times).room(held[at], free) > 0);
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn one_block_takes_three_quarters_and_several_leave_as_much_for_the_next() {
        assert_eq!(fill(1, 100_000, 3), [75_000]);
        assert_eq!(fill(2, 70, 3), [30, 30]);
        assert_eq!(fill(3, 100, 3), [30, 30, 30]);
        assert_eq!(fill(1, 100, 1), [50]);
        assert_eq!(fill(1, 4, 3), [3]);
        assert_eq!(fill(1, 1, 3), [1], "a queue of one mail can be used");
    }

    #[test]
    fn one_that_has_nothing_gets_all_that_is_free() {
        for free in [0, 1, 2, 1000, u64::MAX] {
            assert_eq!(Share::TimesFree(1).room(0, free), free);
            assert_eq!(Share::Unbounded.room(u64::MAX, free), free);
        }
    }

    #[test]
    fn a_block_with_too_many_mails_gets_no_octets_and_the_other_way_round() {
        let (share, held) = (Share::TimesFree(3), Held { mails: 30, bytes: 3000 });
        let room = |mails, bytes| held.room(share, Held { mails, bytes });
        assert_eq!((room(11, 2000), room(11, 1100)), (2000, 300));
        assert_eq!((room(10, 2000), room(11, 1000)), (0, 0));
    }
}
