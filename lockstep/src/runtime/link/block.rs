//! Addresses that belong together.

use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv4 address, as the last 32 of an IPv6 address, that name its block: the least that
/// is routed on its own.
const V4_BITS: u32 = 96 + 24;

/// The same of an IPv6 address: what one site usually gets (RFC 6177).
const V6_BITS: u32 = 48;

/// The addresses that one stranger can easily have: they share what each of them would get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AddressBlock(u128);

impl AddressBlock {
    /// The block of an address. An IPv4 address is the same whichever way it is written.
    pub(super) fn of(address: IpAddr) -> Self {
        let (bits, long) = match address.to_canonical() {
            IpAddr::V4(short) => (V4_BITS, short.to_ipv6_mapped()),
            IpAddr::V6(long) => (V6_BITS, long),
        };
        Self(Ipv6Addr::to_bits(long) >> (128 - bits) << (128 - bits))
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
}
