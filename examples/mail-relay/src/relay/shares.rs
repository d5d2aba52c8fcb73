//! What clients may have of the relay, by blocks of addresses (/24, for IPv6 /48).
//!
//! Connections are shared out by the TCP device: where no more may be there, the block that has
//! most gives way, and there who was silent for longest ([`io_redirect::tcp`]). Here are the rates
//! of mails and of errors, and whether connections are scarce, so that a silent client is waited
//! for less. Clients of trusted networks are exempt from all of it.
//!
//! A block is remembered only while it has used something of a rate or is shut out, so what is
//! kept is bounded by time as well as in number.

use std::collections::BTreeSet;
use std::net::IpAddr;

use imbl::OrdMap;
use lockstep::shares::AddressBlock;
use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::{self, MINUTE};
use crate::net::Network;

/// Settings of the shares; a rate of 0 is no bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSettings {
    /// Whose clients are exempt: one's own senders.
    pub trusted: Vec<Network>,
    /// Mails of a block in a minute; see [`limits::BLOCK_MAILS`].
    pub mails: u32,
    /// Sessions of a block that may end for errors in a minute; see [`limits::BLOCK_ERRORS`].
    pub errors: u32,
    /// How long a block is shut out after that; see [`limits::BLOCK_SHUT`].
    pub shut: u64,
    /// How long a client may be silent while connections are scarce; see [`limits::SCARCE_IDLE`].
    pub scarce_idle: u64,
}

impl Default for ShareSettings {
    fn default() -> ShareSettings {
        ShareSettings {
            trusted: Vec::new(),
            mails: limits::BLOCK_MAILS,
            errors: limits::BLOCK_ERRORS,
            shut: limits::BLOCK_SHUT,
            scarce_idle: limits::SCARCE_IDLE,
        }
    }
}

impl ShareSettings {
    /// Whether a client at this address is exempt.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }
}

/// What came of it since the pair began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub struct ShareCounters {
    /// Clients that were served and gave way to those of another block.
    pub displaced: u64,
    /// Clients that were turned away because their block was shut out.
    pub shut_out: u64,
    /// How often a block had sent as many mails as it may, and was put off.
    pub put_off: u64,
    /// How often connections became scarce.
    pub scarce: u64,
}

/// How much of a rate was used: the time at which nothing of it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
struct Used(u64);

impl Used {
    /// Whether one more would be more than so many in a minute.
    fn is_full(self, now: u64, per_minute: u32) -> bool {
        per_minute != 0 && self.0.saturating_sub(now) + MINUTE / u64::from(per_minute) > MINUTE
    }

    /// One more. Those that were under way together may be too many, and cost two minutes at most.
    fn add(&mut self, now: u64, per_minute: u32) {
        let next = self.0.max(now) + MINUTE / u64::from(per_minute.max(1));
        self.0 = next.min(now + 2 * MINUTE);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(super) struct Block {
    mails: Used,
    errors: Used,
    shut_until: u64,
}

impl Block {
    /// From then on it is as one that never was.
    fn until(&self) -> u64 {
        self.mails.0.max(self.errors.0).max(self.shut_until)
    }
}

/// What is known of the blocks, and of all clients together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shares {
    blocks: OrdMap<AddressBlock, Block>,
    /// All of `blocks`, by the time at which they may be forgotten.
    until: BTreeSet<(u64, AddressBlock)>,
    scarce: bool,
    pub(super) counters: ShareCounters,
}

impl Shares {
    /// Whether a client is served at all.
    pub(super) fn admit(&mut self, settings: &ShareSettings, peer: IpAddr, now: u64) -> bool {
        let is_shut = self.block(peer).shut_until > now && !settings.trusts(peer);
        self.counters.shut_out += u64::from(is_shut);
        !is_shut
    }

    /// Whether as many mails came from around a client as are taken at present.
    pub(super) fn is_over_rate(&self, settings: &ShareSettings, peer: IpAddr, now: u64) -> bool {
        self.block(peer).mails.is_full(now, settings.mails) && !settings.trusts(peer)
    }

    /// A mail was taken over.
    pub(super) fn on_mail(&mut self, settings: &ShareSettings, peer: IpAddr, now: u64) {
        if settings.mails == 0 || settings.trusts(peer) {
            return;
        }
        let was_over = self.is_over_rate(settings, peer, now);
        self.change(peer, now, |block| block.mails.add(now, settings.mails));
        if !was_over && self.is_over_rate(settings, peer, now) {
            self.counters.put_off += 1;
            tracing::debug!(block = %AddressBlock::of(peer), "as many mails as it may send");
        }
    }

    /// A session was ended for its errors.
    pub(super) fn on_fault(&mut self, settings: &ShareSettings, peer: IpAddr, now: u64) {
        if settings.errors == 0 || settings.trusts(peer) {
            return;
        }
        self.change(peer, now, |block| {
            block.errors.add(now, settings.errors);
            if block.errors.is_full(now, settings.errors) && block.shut_until <= now {
                block.errors = Used::default();
                block.shut_until = now.saturating_add(settings.shut);
                let (block, seconds) = (AddressBlock::of(peer), settings.shut / limits::SECOND);
                tracing::warn!(%block, seconds, "too many sessions end for errors: shut out");
            }
        });
    }

    /// There are so many clients of so many that may be. True if connections have become scarce,
    /// which they are until there are many again.
    pub(super) fn see_clients(&mut self, clients: usize, most: u32) -> bool {
        let (clients, most) = (clients as u64, u64::from(most));
        let was = self.scarce;
        self.scarce = clients * 4 > most * if was { 2 } else { 3 };
        let became = self.scarce && !was;
        self.counters.scarce += u64::from(became);
        if became {
            tracing::info!(clients, most, "connections are scarce: silent clients have less time");
        }
        became
    }

    /// How long a client may be silent from now on, of the time that it usually may.
    pub(super) fn idle(&self, settings: &ShareSettings, peer: IpAddr, usual: u64) -> u64 {
        let is_short = self.scarce && !settings.trusts(peer);
        if is_short { usual.min(settings.scarce_idle) } else { usual }
    }

    fn block(&self, peer: IpAddr) -> Block {
        self.blocks.get(&AddressBlock::of(peer)).copied().unwrap_or_default()
    }

    fn change(&mut self, peer: IpAddr, now: u64, change: impl FnOnce(&mut Block)) {
        while self.until.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
        let (name, mut block) = (AddressBlock::of(peer), self.block(peer));
        let is_known = self.until.remove(&(block.until(), name));
        if !is_known && self.blocks.len() >= limits::BLOCKS {
            self.forget_first();
        }
        change(&mut block);
        self.until.insert((block.until(), name));
        self.blocks.insert(name, block);
    }

    fn forget_first(&mut self) {
        if let Some((_, name)) = self.until.pop_first() {
            self.blocks.remove(&name);
        }
    }
}

/// The shares as they are frozen, beside the blocks.
#[derive(Debug, Clone, Copy, Archive, Serialize, Deserialize)]
pub(super) struct Head {
    /// How many blocks follow.
    pub(super) blocks: u64,
    scarce: bool,
    counters: ShareCounters,
}

impl Shares {
    pub(super) fn head(&self) -> Head {
        Head { blocks: self.blocks.len() as u64, scarce: self.scarce, counters: self.counters }
    }

    /// What is known of each block; as cheap to copy as a number.
    pub(super) fn blocks(&self) -> OrdMap<AddressBlock, Block> {
        self.blocks.clone()
    }

    pub(super) fn from_parts(head: Head, blocks: Vec<(AddressBlock, Block)>) -> Shares {
        let until = blocks.iter().map(|(name, block)| (block.until(), *name)).collect();
        let Head { scarce, counters, .. } = head;
        Shares { blocks: blocks.into_iter().collect(), until, scarce, counters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SECOND;

    const NOW: u64 = 1000 * MINUTE;

    fn settings() -> ShareSettings {
        let trusted = vec!["192.0.2.0/24".parse().unwrap()];
        ShareSettings { trusted, mails: 6, errors: 3, ..ShareSettings::default() }
    }

    fn peer(block: u16) -> IpAddr {
        let [high, low] = block.to_be_bytes();
        IpAddr::from([10, high, low, 1])
    }

    /// How many of so many mails are taken at once.
    fn taken(shares: &mut Shares, peer: IpAddr, now: u64, of: u32) -> usize {
        let mut take = |_: &u32| {
            let over = shares.is_over_rate(&settings(), peer, now);
            if !over {
                shares.on_mail(&settings(), peer, now);
            }
            !over
        };
        (0..of).filter(|nth| take(nth)).count()
    }

    #[test]
    fn a_block_sends_so_many_mails_in_a_minute_and_others_are_not_touched() {
        let mut shares = Shares::default();
        assert_eq!(taken(&mut shares, peer(1), NOW, 20), 6);
        assert_eq!(taken(&mut shares, IpAddr::from([10, 0, 1, 99]), NOW, 1), 0, "a neighbour");
        assert_eq!(taken(&mut shares, peer(2), NOW, 20), 6);
        assert_eq!(taken(&mut shares, peer(1), NOW + 20 * SECOND, 20), 2);
        assert_eq!(taken(&mut shares, peer(1), NOW + 10 * MINUTE, 20), 6);
        assert_eq!(taken(&mut shares, "192.0.2.1".parse().unwrap(), NOW, 500), 500, "trusted");
    }

    #[test]
    fn a_block_whose_sessions_end_for_errors_is_shut_out_for_a_time() {
        let (settings, mut shares) = (settings(), Shares::default());
        for _ in 0..2 {
            shares.on_fault(&settings, peer(1), NOW);
        }
        assert!(shares.admit(&settings, peer(1), NOW));
        shares.on_fault(&settings, peer(1), NOW);
        let last = NOW + settings.shut - 1;
        assert!(!shares.admit(&settings, peer(1), NOW) && !shares.admit(&settings, peer(1), last));
        assert!(shares.admit(&settings, peer(2), NOW));
        assert!(shares.admit(&settings, peer(1), last + 1));
        assert_eq!(shares.counters.shut_out, 2);
        let trusted = "192.0.2.1".parse().unwrap();
        (0..100).for_each(|_| shares.on_fault(&settings, trusted, NOW));
        assert!(shares.admit(&settings, trusted, NOW));
    }

    #[test]
    fn errors_that_are_far_apart_shut_nobody_out() {
        let (settings, mut shares) = (settings(), Shares::default());
        for nth in 0..100 {
            let now = NOW + nth * 21 * SECOND;
            shares.on_fault(&settings, peer(1), now);
            assert!(shares.admit(&settings, peer(1), now), "after {nth}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time_and_the_worst_stay() {
        let (settings, mut shares) = (settings(), Shares::default());
        (0..3).for_each(|_| shares.on_fault(&settings, peer(1), NOW));
        for block in 2..=u16::MAX {
            shares.on_mail(&settings, peer(block), NOW);
        }
        assert_eq!((shares.blocks.len(), shares.until.len()), (limits::BLOCKS, limits::BLOCKS));
        assert!(!shares.admit(&settings, peer(1), NOW), "who is shut out is not forgotten for it");
        shares.on_mail(&settings, peer(2), NOW + settings.shut + MINUTE);
        assert_eq!((shares.blocks.len(), shares.until.len()), (1, 1));
    }

    #[test]
    fn connections_are_scarce_from_three_quarters_to_half() {
        let mut shares = Shares::default();
        let seen = [750, 751, 760, 501, 750, 500, 740, 751].map(|clients| {
            let became = shares.see_clients(clients, 1000);
            (became, shares.scarce)
        });
        let (no, yes) = ((false, false), (false, true));
        assert_eq!(seen, [no, (true, true), yes, yes, yes, no, no, (true, true)]);
        let idle = |peer| shares.idle(&settings(), peer, 5 * MINUTE);
        assert_eq!(idle(peer(1)), limits::SCARCE_IDLE);
        assert_eq!(idle("192.0.2.1".parse().unwrap()), 5 * MINUTE, "trusted");
    }

    #[test]
    fn a_frozen_table_knows_what_it_knew() {
        let (settings, mut shares) = (settings(), Shares::default());
        (0..3).for_each(|_| shares.on_fault(&settings, peer(1), NOW));
        (0..9).for_each(|block| shares.on_mail(&settings, peer(block), NOW + u64::from(block)));
        shares.see_clients(9, 10);
        let blocks = shares.blocks().into_iter().collect();
        assert_eq!(Shares::from_parts(shares.head(), blocks), shares);
    }
}
