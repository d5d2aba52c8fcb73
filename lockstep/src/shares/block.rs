//! Addresses that belong together.

use core::fmt;
use std::net::{IpAddr, Ipv6Addr};

use rkyv::{Archive, Deserialize, Serialize};

/// Bits of an IPv4 address that name its block: the least that is routed on its own.
const V4_BITS: u32 = 24;

/// The same of an IPv6 address: what one site usually gets (RFC 6177).
const V6_BITS: u32 = 48;

/// The addresses that one stranger can easily have, a /24 or for IPv6 a /48: they share what each
/// of them would get.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressBlock(u128);

impl AddressBlock {
    /// The block of an address. An IPv4 address is the same whichever way it is written.
    pub fn of(address: IpAddr) -> Self {
        // An IPv4 address is the last 32 bits of an IPv6 address.
        let (bits, long) = match address.to_canonical() {
            IpAddr::V4(short) => (96 + V4_BITS, short.to_ipv6_mapped()),
            IpAddr::V6(long) => (V6_BITS, long),
        };
        Self(Ipv6Addr::to_bits(long) >> (128 - bits) << (128 - bits))
    }

    /// Its first address, and how many bits of that all of its addresses have in common.
    pub const fn network(self) -> (IpAddr, u8) {
        let first = IpAddr::V6(Ipv6Addr::from_bits(self.0)).to_canonical();
        let bits = if first.is_ipv4() { V4_BITS } else { V6_BITS };
        (first, bits as u8)
    }

    /// A number of its own: its first address, as one of IPv6.
    pub(crate) const fn number(self) -> u128 {
        self.0
    }
}

/// The address by which a host is known: of IPv6 the first one of its /64, since a host may have
/// all of it. An IPv4 address is the same whichever way it is written.
pub fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(long) => Ipv6Addr::from_bits(long.to_bits() >> 64 << 64).into(),
        short @ IpAddr::V4(_) => short,
    }
}

/// As a network: `192.0.2.0/24`.
impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, bits) = self.network();
        write!(f, "{first}/{bits}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_block_and_others_are_not() {
        let block = |text: &str| AddressBlock::of(text.parse().unwrap());
        assert_eq!(block("192.0.2.1"), block("192.0.2.255"));
        assert_ne!(block("192.0.2.1"), block("192.0.3.1"));
        assert_eq!(block("192.0.2.1"), block("::ffff:192.0.2.9"));
        assert_eq!(block("2001:db8:1:1::1"), block("2001:db8:1:ffff::9"));
        assert_ne!(block("2001:db8:1::1"), block("2001:db8:2::1"));
        assert_ne!(block("0.0.0.1"), block("::1"));
    }
    #[test]
    fn a_block_is_written_as_a_network() {
        let said = |text: &str| AddressBlock::of(text.parse().unwrap()).to_string();
        assert_eq!(said("192.0.2.9"), "192.0.2.0/24");
        assert_eq!(said("::ffff:192.0.2.9"), "192.0.2.0/24");
        assert_eq!(said("2001:db8:1:2::9"), "2001:db8:1::/48");
    }
}
