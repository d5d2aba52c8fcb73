//! Rates of mails and of errors that clients may have, and whether connections are scarce.
//!
//! Mails are counted by blocks of addresses (/24, for IPv6 /48). Errors are counted by addresses
//! (for IPv6 by /64, which is one host's), so that a host that does not speak SMTP shuts out itself
//! and no neighbour. Only where several hosts of a block are shut out, the whole block is. While
//! connections are scarce, a silent client is waited for less. Clients of trusted networks are
//! exempt from all of it.
//!
//! A block or an address is remembered only while it has used something of a rate or is shut out.

use std::net::IpAddr;

use imbl::OrdMap;
use lockstep::shares::{AddressBlock, host};
use rkyv::{Archive, Deserialize, Serialize};

use super::remembered::{Expires, Remembered};
use super::scarce::is_scarce;
use crate::limits::{self, MINUTE};
use crate::net::Network;
use crate::queue::Share;

/// Settings of the shares; a rate of 0 is no bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSettings {
    /// Networks whose clients are exempt: one's own senders.
    pub trusted: Vec<Network>,
    /// Mails of a block in a minute; see [`limits::BLOCK_MAILS`].
    pub mails: u32,
    /// How many times what is free of the queue a block may have in it; see
    /// [`limits::BLOCK_QUEUE`].
    pub queue: u32,
    /// Sessions of an address that may end for errors in a minute; see [`limits::ADDRESS_ERRORS`].
    pub errors: u32,
    /// How long an address is shut out after that; see [`limits::ADDRESS_SHUT`].
    pub shut: u64,
    /// How long a client may be silent while connections are scarce; see [`limits::SCARCE_IDLE`].
    pub scarce_idle: u64,
}

impl Default for ShareSettings {
    fn default() -> ShareSettings {
        ShareSettings {
            trusted: Vec::new(),
            mails: limits::BLOCK_MAILS,
            queue: limits::BLOCK_QUEUE,
            errors: limits::ADDRESS_ERRORS,
            shut: limits::ADDRESS_SHUT,
            scarce_idle: limits::SCARCE_IDLE,
        }
    }
}

impl ShareSettings {
    /// Whether a client at this address is exempt.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }

    /// What the block of a client at this address may have of the queue.
    pub fn of_queue(&self, peer: IpAddr) -> Share {
        let is_exempt = self.queue == 0 || self.trusts(peer);
        if is_exempt { Share::Unbounded } else { Share::TimesFree(self.queue) }
    }
}

/// What came of it since the pair began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub struct ShareCounters {
    /// Clients that were served and gave way to those of another block.
    pub displaced: u64,
    /// Clients that were turned away because their address or block was shut out.
    pub shut_out: u64,
    /// How often a block had sent as many mails as it may, and was put off.
    pub put_off: u64,
    /// Mails that were refused because their client's block had its share of the queue.
    pub over_share: u64,
    /// How often connections became scarce.
    pub scarce: u64,
}

/// How much of a rate was used, as the time at which all of it will have been given back. Each use
/// of so many in a minute takes that part of a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
struct Used(u64);

impl Used {
    /// Whether one more would be more than so many in a minute.
    fn is_full(self, now: u64, per_minute: u32) -> bool {
        per_minute != 0 && self.0.saturating_sub(now) + MINUTE / u64::from(per_minute) > MINUTE
    }

    /// One more. Mails that were begun before the rate was used up are taken when they end, so
    /// there may be more than so many. They use up the rate for two minutes at most.
    fn add(&mut self, now: u64, per_minute: u32) {
        let next = self.0.max(now) + MINUTE / u64::from(per_minute.max(1));
        self.0 = next.min(now + 2 * MINUTE);
    }
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(super) struct Block {
    mails: Used,
    /// Until when the last of its hosts that were shut out are. While all of these times are to
    /// come, they are different hosts, and the block is shut out.
    hosts_shut: [u64; limits::BLOCK_SHUT_HOSTS],
}

impl Block {
    fn is_shut(&self, now: u64) -> bool {
        self.hosts_shut.iter().all(|until| *until > now)
    }

    fn on_host_shut(&mut self, until: u64) {
        if let Some(oldest) = self.hosts_shut.iter_mut().min() {
            *oldest = until;
        }
    }
}

impl Expires for Block {
    fn until(&self) -> u64 {
        self.hosts_shut.into_iter().fold(self.mails.0, u64::max)
    }
}

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(super) struct Host {
    errors: Used,
    shut_until: u64,
}

impl Expires for Host {
    fn until(&self) -> u64 {
        self.errors.0.max(self.shut_until)
    }
}

/// What is known of the blocks and hosts, and of all clients together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rates {
    blocks: Remembered<AddressBlock, Block>,
    hosts: Remembered<IpAddr, Host>,
    scarce: bool,
    pub(super) counters: ShareCounters,
}

impl Rates {
    /// Whether a client is served at all.
    pub(super) fn admit(&mut self, settings: &ShareSettings, peer: IpAddr, now: u64) -> bool {
        let is_shut = self.hosts.get(host(peer)).shut_until > now || self.block(peer).is_shut(now);
        let is_turned_away = is_shut && !settings.trusts(peer);
        self.counters.shut_out += u64::from(is_turned_away);
        !is_turned_away
    }

    /// Whether the client's block has sent as many mails as it may at present.
    pub(super) fn is_over_rate(&self, settings: &ShareSettings, peer: IpAddr, now: u64) -> bool {
        self.block(peer).mails.is_full(now, settings.mails) && !settings.trusts(peer)
    }

    /// A mail was taken over.
    pub(super) fn on_mail(&mut self, settings: &ShareSettings, peer: IpAddr, now: u64) {
        if settings.mails == 0 || settings.trusts(peer) {
            return;
        }
        let was_over = self.is_over_rate(settings, peer, now);
        self.change_block(peer, now, |block| block.mails.add(now, settings.mails));
        if !was_over && self.is_over_rate(settings, peer, now) {
            self.counters.put_off += 1;
            let block = AddressBlock::of(peer);
            tracing::debug!(%block, "a block has sent as many mails as it may for now");
        }
    }

    /// A session was ended for its errors.
    pub(super) fn on_fault(&mut self, settings: &ShareSettings, peer: IpAddr, now: u64) {
        if settings.errors == 0 || settings.trusts(peer) {
            return;
        }
        let mut shut = None;
        self.hosts.change(host(peer), now, limits::HOSTS, |host| {
            host.errors.add(now, settings.errors);
            if host.errors.is_full(now, settings.errors) && host.shut_until <= now {
                host.errors = Used::default();
                host.shut_until = now.saturating_add(settings.shut);
                shut = Some(host.shut_until);
            }
        });
        if let Some(until) = shut {
            self.on_host_shut(peer, now, until, settings.shut / limits::SECOND);
        }
    }

    fn on_host_shut(&mut self, peer: IpAddr, now: u64, until: u64, seconds: u64) {
        let (host, block) = (host(peer), AddressBlock::of(peer));
        tracing::warn!(%host, seconds, "too many sessions end for errors: the host is shut out");
        let was_shut = self.block(peer).is_shut(now);
        self.change_block(peer, now, |block| block.on_host_shut(until));
        if !was_shut && self.block(peer).is_shut(now) {
            let hosts = limits::BLOCK_SHUT_HOSTS;
            tracing::warn!(%block, hosts, "hosts of a block are shut out: so is all of the block");
        }
    }

    /// There are so many clients of so many that may be. True if connections have become scarce,
    /// which they are until there are many again.
    pub(super) fn see_clients(&mut self, clients: usize, most: u32) -> bool {
        let (clients, most) = (clients as u64, u64::from(most));
        let was = self.scarce;
        self.scarce = is_scarce(was, clients, most);
        let became = self.scarce && !was;
        self.counters.scarce += u64::from(became);
        if became {
            tracing::warn!(
                event = "connections_scarce",
                clients,
                most,
                "three quarters of `max_clients` are there: silent clients have less time \
                 (`client_idle_scarce`)"
            );
        } else if was && !self.scarce {
            tracing::info!(event = "connections_free", clients, most, "there is room again");
        }
        became
    }

    /// How long a client may be silent from now on, of the time that it usually may.
    pub(super) fn idle(&self, settings: &ShareSettings, peer: IpAddr, usual: u64) -> u64 {
        let is_short = self.scarce && !settings.trusts(peer);
        if is_short { usual.min(settings.scarce_idle) } else { usual }
    }

    fn block(&self, peer: IpAddr) -> Block {
        self.blocks.get(AddressBlock::of(peer))
    }

    fn change_block(&mut self, peer: IpAddr, now: u64, change: impl FnOnce(&mut Block)) {
        self.blocks.change(AddressBlock::of(peer), now, limits::BLOCKS, change);
    }
}

/// The rates as they are frozen, beside the blocks and hosts.
#[derive(Debug, Clone, Copy, Archive, Serialize, Deserialize)]
pub(super) struct Head {
    /// How many blocks follow.
    pub(super) blocks: u64,
    /// How many hosts follow them.
    pub(super) hosts: u64,
    scarce: bool,
    counters: ShareCounters,
}

/// The same of version 4.
#[derive(Debug, Clone, Copy, Archive, Serialize, Deserialize)]
pub(super) struct HeadV4 {
    blocks: u64,
    hosts: u64,
    scarce: bool,
    counters: ShareCountersV4,
}

#[derive(Debug, Clone, Copy, Archive, Serialize, Deserialize)]
struct ShareCountersV4 {
    displaced: u64,
    shut_out: u64,
    put_off: u64,
    scarce: u64,
}

impl From<HeadV4> for Head {
    fn from(head: HeadV4) -> Head {
        let HeadV4 { blocks, hosts, scarce, counters } = head;
        let ShareCountersV4 { displaced, shut_out, put_off, scarce: became_scarce } = counters;
        let over_share = 0;
        let counters =
            ShareCounters { displaced, shut_out, put_off, over_share, scarce: became_scarce };
        Head { blocks, hosts, scarce, counters }
    }
}

impl Rates {
    pub(super) fn head(&self) -> Head {
        Head {
            blocks: self.blocks.len() as u64,
            hosts: self.hosts.len() as u64,
            scarce: self.scarce,
            counters: self.counters,
        }
    }

    pub(super) fn blocks(&self) -> OrdMap<AddressBlock, Block> {
        self.blocks.entries()
    }

    pub(super) fn hosts(&self) -> OrdMap<IpAddr, Host> {
        self.hosts.entries()
    }

    pub(super) fn from_parts(
        head: Head,
        blocks: Vec<(AddressBlock, Block)>,
        hosts: Vec<(IpAddr, Host)>,
    ) -> Rates {
        let Head { scarce, counters, .. } = head;
        let (blocks, hosts) = (Remembered::new(blocks), Remembered::new(hosts));
        Rates { blocks, hosts, scarce, counters }
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

    /// Another host of the same block.
    fn neighbour(block: u16) -> IpAddr {
        let [high, low] = block.to_be_bytes();
        IpAddr::from([10, high, low, 99])
    }

    /// How many of so many mails are taken at once.
    fn taken(rates: &mut Rates, peer: IpAddr, now: u64, of: u32) -> usize {
        let mut take = |_: &u32| {
            let over = rates.is_over_rate(&settings(), peer, now);
            if !over {
                rates.on_mail(&settings(), peer, now);
            }
            !over
        };
        (0..of).filter(|nth| take(nth)).count()
    }

    #[test]
    fn a_block_sends_so_many_mails_in_a_minute_and_others_are_not_touched() {
        let mut rates = Rates::default();
        assert_eq!(taken(&mut rates, peer(1), NOW, 20), 6);
        assert_eq!(taken(&mut rates, neighbour(1), NOW, 1), 0, "a neighbour");
        assert_eq!(taken(&mut rates, peer(2), NOW, 20), 6);
        assert_eq!(taken(&mut rates, peer(1), NOW + 20 * SECOND, 20), 2);
        assert_eq!(taken(&mut rates, peer(1), NOW + 10 * MINUTE, 20), 6);
        assert_eq!(taken(&mut rates, "192.0.2.1".parse().unwrap(), NOW, 500), 500, "trusted");
    }

    #[test]
    fn a_host_whose_sessions_end_for_errors_is_shut_out_for_a_time_and_its_neighbours_are_not() {
        let (settings, mut rates) = (settings(), Rates::default());
        for _ in 0..2 {
            rates.on_fault(&settings, peer(1), NOW);
        }
        assert!(rates.admit(&settings, peer(1), NOW));
        rates.on_fault(&settings, peer(1), NOW);
        let last = NOW + settings.shut - 1;
        assert!(!rates.admit(&settings, peer(1), NOW) && !rates.admit(&settings, peer(1), last));
        assert!(rates.admit(&settings, neighbour(1), NOW) && rates.admit(&settings, peer(2), NOW));
        assert!(rates.admit(&settings, peer(1), last + 1));
        assert_eq!(rates.counters.shut_out, 2);
        let trusted = "192.0.2.1".parse().unwrap();
        (0..100).for_each(|_| rates.on_fault(&settings, trusted, NOW));
        assert!(rates.admit(&settings, trusted, NOW));
    }

    #[test]
    fn a_block_is_shut_out_while_several_of_its_hosts_are() {
        let (settings, mut rates) = (settings(), Rates::default());
        let mut shut = |last: u8, now| {
            (0..3).for_each(|_| rates.on_fault(&settings, [10, 0, 1, last].into(), now));
            rates.admit(&settings, neighbour(1), now)
        };
        let later = NOW + settings.shut;
        // One host that is shut out again and again is one host.
        assert!((0..9).all(|nth| shut(1, NOW - nth * settings.shut)));
        assert!(shut(2, NOW + 1) && shut(3, NOW + 2));
        assert!(shut(4, later), "the first is not shut out any more");
        assert!(!shut(5, later));
        assert!(rates.admit(&settings, peer(2), later));
        assert!(rates.admit(&settings, neighbour(1), later + 1), "until the first of them is not");
    }

    #[test]
    fn a_host_with_ipv6_is_known_by_its_64() {
        let (settings, mut rates) = (settings(), Rates::default());
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        for last in 1..=3 {
            rates.on_fault(&settings, peer(&format!("2001:db8:1:2::{last}")), NOW);
        }
        assert!(!rates.admit(&settings, peer("2001:db8:1:2:f::9"), NOW));
        assert!(rates.admit(&settings, peer("2001:db8:1:3::1"), NOW));
    }

    #[test]
    fn errors_that_are_far_apart_shut_nobody_out() {
        let (settings, mut rates) = (settings(), Rates::default());
        for nth in 0..100 {
            let now = NOW + nth * 21 * SECOND;
            rates.on_fault(&settings, peer(1), now);
            assert!(rates.admit(&settings, peer(1), now), "after {nth}");
        }
    }

    #[test]
    fn who_is_shut_out_is_not_forgotten_for_those_who_only_make_errors() {
        let (settings, mut rates) = (settings(), Rates::default());
        (0..3).for_each(|_| rates.on_fault(&settings, peer(1), NOW));
        for block in 2..=u16::MAX {
            rates.on_fault(&settings, peer(block), NOW);
            rates.on_mail(&settings, peer(block), NOW);
        }
        assert_eq!((rates.blocks.len(), rates.hosts.len()), (limits::BLOCKS, limits::HOSTS));
        assert!(!rates.admit(&settings, peer(1), NOW));
    }

    #[test]
    fn connections_are_scarce_from_three_quarters_to_half() {
        let mut rates = Rates::default();
        let seen = [750, 751, 760, 501, 750, 500, 740, 751].map(|clients| {
            let became = rates.see_clients(clients, 1000);
            (became, rates.scarce)
        });
        let (no, yes) = ((false, false), (false, true));
        assert_eq!(seen, [no, (true, true), yes, yes, yes, no, no, (true, true)]);
        let idle = |peer| rates.idle(&settings(), peer, 5 * MINUTE);
        assert_eq!(idle(peer(1)), limits::SCARCE_IDLE);
        assert_eq!(idle("192.0.2.1".parse().unwrap()), 5 * MINUTE, "trusted");
    }

    #[test]
    fn a_frozen_table_knows_what_it_knew() {
        let (settings, mut rates) = (settings(), Rates::default());
        (0..3).for_each(|_| rates.on_fault(&settings, peer(1), NOW));
        (0..9).for_each(|block| rates.on_mail(&settings, peer(block), NOW + u64::from(block)));
        rates.see_clients(9, 10);
        let blocks = rates.blocks().into_iter().collect();
        let hosts = rates.hosts().into_iter().collect();
        assert_eq!(Rates::from_parts(rates.head(), blocks, hosts), rates);
    }
}
