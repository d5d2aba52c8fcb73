//! Ports for a new pair: counted up, or free at the moment.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use super::InitError;
use crate::ids::ReplicaId;
use crate::runtime::entropy;

/// Free ports are looked for here: above the well-known, below those that Linux gives out by
/// itself (32768 and up), which any process may get at any moment.
const FREE: std::ops::Range<u16> = 10_000..32_000;

/// Ports tried before giving up.
const TRIES: usize = 2_000;

/// Gives out ports, each once.
#[derive(Debug)]
pub struct Ports {
    hosts: [IpAddr; 2],
    given: BTreeSet<SocketAddr>,
    from: From,
}

#[derive(Debug)]
enum From {
    Base { base: u16, next: Option<u16> },
    Free,
}

impl Ports {
    pub(super) fn from_base(
        hosts: [IpAddr; 2],
        base: u16,
        known: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let from = From::Base { base, next: Some(base) };
        Self { hosts, given: known.into_iter().collect(), from }
    }

    pub(in crate::runtime) fn free(
        hosts: [IpAddr; 2],
        known: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        Self { hosts, given: known.into_iter().collect(), from: From::Free }
    }

    /// An address at which the CoServer of this place can serve clients.
    ///
    /// # Errors
    /// If there is no port.
    pub fn next(&mut self, place: ReplicaId) -> Result<SocketAddr, InitError> {
        self.next_on(self.hosts[place.slot()])
    }

    /// An address on this host.
    ///
    /// # Errors
    /// If there is no port.
    pub fn next_on(&mut self, host: IpAddr) -> Result<SocketAddr, InitError> {
        for _ in 0..TRIES {
            let address = SocketAddr::new(host, self.candidate()?);
            let usable = matches!(self.from, From::Base { .. }) || is_free(address);
            if usable && self.given.insert(address) {
                return Ok(address);
            }
        }
        Err(InitError::NoPort { address: host })
    }

    fn candidate(&mut self) -> Result<u16, InitError> {
        match &mut self.from {
            From::Base { base, next } => {
                let port = next.filter(|port| *port != 0).ok_or(InitError::Port { base: *base })?;
                *next = port.checked_add(1);
                Ok(port)
            }
            From::Free => {
                let drawn = entropy::nonce()?.0 % u64::from(FREE.end - FREE.start);
                Ok(FREE.start + drawn as u16)
            }
        }
    }
}

/// Whether no process has the port at present, for UDP and TCP.
fn is_free(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}
