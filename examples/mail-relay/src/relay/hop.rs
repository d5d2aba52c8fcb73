//! Addresses of the next hop's name that answered and did not serve.

use std::collections::VecDeque;
use std::net::SocketAddr;

use io_redirect::limits::ADDRESSES_TRIED;
use rkyv::{Archive, Deserialize, Serialize};

use crate::limits;

/// Which addresses are tried after the others. An address that cannot be connected to is the
/// device's to pass by; one that accepts and then gives no greeting, or refuses the session, only
/// the relay knows. Without this it would be the first again at each attempt, and the others
/// would never have their turn (RFC 5321 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(super) struct HopAddresses {
    /// Each with the log time of its failure, oldest first; at most [`ADDRESSES_TRIED`].
    last: VecDeque<(SocketAddr, u64)>,
}

impl HopAddresses {
    /// No session came about there.
    pub(super) fn failed(&mut self, address: SocketAddr, now: u64) {
        self.served(address);
        self.last.truncate(ADDRESSES_TRIED - 1);
        self.last.push_front((address, now));
    }

    /// A session came about there.
    pub(super) fn served(&mut self, address: SocketAddr) {
        self.last.retain(|(known, _)| *known != address);
    }

    /// Those to be tried after the others.
    pub(super) fn last(&self, now: u64) -> Vec<SocketAddr> {
        let late = |time: u64| now < time.saturating_add(limits::HOP_ADDRESS_LAST);
        self.last.iter().filter(|(_, time)| late(*time)).map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_failed_comes_last_until_it_serves_or_time_has_passed() {
        let [one, two] = ["192.0.2.1:25", "192.0.2.2:25"].map(|text| text.parse().unwrap());
        let mut hop = HopAddresses::default();
        hop.failed(one, 1);
        hop.failed(two, 2);
        hop.failed(one, 3);
        assert_eq!(hop.last(4), [one, two]);
        hop.served(one);
        assert_eq!(hop.last(4), [two]);
        assert!(hop.last(2 + limits::HOP_ADDRESS_LAST).is_empty());
        for port in 0..100 {
            hop.failed(SocketAddr::from(([192, 0, 2, 1], port)), 5);
        }
        assert_eq!(hop.last(5).len(), ADDRESSES_TRIED);
    }
}
