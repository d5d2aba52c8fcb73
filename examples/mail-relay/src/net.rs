//! Networks in CIDR form, for the relay policy.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network such as `192.0.2.0/24` or `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The part before the slash is no IP address.
    #[error("`{0}` is no IPv4 or IPv6 address: write a network like 192.0.2.0/24 or 2001:db8::/32")]
    Address(String),
    /// The prefix length is no number or too large for the address.
    #[error("`{prefix}` is no prefix length for {address}: use 0 to {most}")]
    Prefix {
        /// The address before the slash.
        address: IpAddr,
        /// What stood behind it.
        prefix: String,
        /// 32 for IPv4, 128 for IPv6.
        most: u8,
    },
    /// Address bits are set behind the prefix, which hides a typing error.
    #[error("{network} has bits set behind its prefix: write {meant}")]
    HostBits {
        /// The network as it was written.
        network: Network,
        /// The network that contains it.
        meant: Network,
    },
}

impl Network {
    /// The network of `prefix` leading bits that contains `address`, or `None`
    /// if the address has fewer bits.
    pub fn containing(address: IpAddr, prefix: u8) -> Option<Network> {
        let masked = match address {
            IpAddr::V4(ip) if prefix <= 32 => {
                IpAddr::V4((u32::from(ip) & mask(prefix, 32) as u32).into())
            }
            IpAddr::V6(ip) if prefix <= 128 => {
                IpAddr::V6((u128::from(ip) & mask(prefix, 128)).into())
            }
            _ => return None,
        };
        Some(Network { address: masked, prefix })
    }

    /// Whether `address` lies in this network. An IPv4 address in IPv6 clothes
    /// (`::ffff:192.0.2.1`), as a dual-stack listener gives it, counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        Network::containing(address.to_canonical(), self.prefix).is_some_and(|net| net == *self)
    }
}

/// `prefix` leading ones of a number `bits` wide.
fn mask(prefix: u8, bits: u32) -> u128 {
    let all = u128::MAX >> (128 - bits);
    let host_bits = bits - u32::from(prefix);
    all & u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// A bare address is the network of that one host.
    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| NetworkError::Address(address.to_owned()))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match prefix {
            None => Some(most),
            Some(digits) => digits.parse().ok().filter(|length| *length <= most),
        };
        let Some(length) = length else {
            let prefix = prefix.unwrap_or_default().to_owned();
            return Err(NetworkError::Prefix { address, prefix, most });
        };
        let network = Network { address, prefix: length };
        match Network::containing(address, length) {
            Some(meant) if meant != network => Err(NetworkError::HostBits { network, meant }),
            _ => Ok(network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let cases = [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("::1", "::1", true),
        ];
        for (network, address, expected) in cases {
            assert_eq!(
                net(network).contains(address.parse().unwrap()),
                expected,
                "{network} {address}"
            );
        }
    }

    #[test]
    fn a_network_with_host_bits_is_refused_with_what_was_meant() {
        let error = "192.0.2.1/24".parse::<Network>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "192.0.2.1/24 has bits set behind its prefix: write 192.0.2.0/24"
        );
    }

    #[test]
    fn absurd_networks_are_refused() {
        for text in
            ["", "/", "192.0.2.0/33", "::/129", "192.0.2.0/", "a/8", "192.0.2.0/-1", "1.2.3.4/8/8"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
