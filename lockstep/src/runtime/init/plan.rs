//! Where everybody of a new pair is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::InitError;
use super::ports::Ports;
use crate::ids::ReplicaId;

/// The first port, unless told otherwise. Not assigned by IANA, below the ports that Linux gives
/// out by itself.
const BASE_PORT: u16 = 17_400;

/// What a new pair is to look like. What is not said is on this host's loopback addresses, for
/// trying out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where the files go.
    pub directory: PathBuf,
    /// Where place `a` is on each link.
    pub a_links: Vec<SocketAddr>,
    /// Where place `b` is on each link.
    pub b_links: Vec<SocketAddr>,
    /// Where the witness listens.
    pub witness: Option<SocketAddr>,
    /// Where the CoServers serve clients, by place.
    pub clients: [Option<SocketAddr>; 2],
    /// Ports that are not said are counted up from here.
    pub base_port: u16,
    /// Ports that are not said are looked for among those that are free now. For tests and
    /// demonstrations: another process may take one before it is used.
    pub free_ports: bool,
    /// The silence timeout to write down, if it is not to be the default.
    pub silence: Option<Duration>,
}

impl Plan {
    /// Everything at its default.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            a_links: Vec::new(),
            b_links: Vec::new(),
            witness: None,
            clients: [None; 2],
            base_port: BASE_PORT,
            free_ports: false,
            silence: None,
        }
    }

    pub(super) fn ports(&self) -> Ports {
        let known = self.a_links.iter().chain(&self.b_links).copied();
        let known = known.chain(self.witness).chain(self.clients.into_iter().flatten());
        let hosts = ReplicaId::BOTH.map(|place| self.host(place));
        match self.free_ports {
            true => Ports::free(hosts, known),
            false => Ports::from_base(hosts, self.base_port, known),
        }
    }

    /// Where a service's own listeners of this place are by default.
    fn host(&self, place: ReplicaId) -> IpAddr {
        let links = match place {
            ReplicaId::A => &self.a_links,
            ReplicaId::B => &self.b_links,
        };
        let told = self.clients[place.slot()].or(links.first().copied());
        told.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
    }

    pub(super) fn addresses(&self, ports: &mut Ports) -> Result<Addresses, InitError> {
        let (a, b) = (self.a_links.len(), self.b_links.len());
        if a != b {
            return Err(InitError::Links { a, b });
        }
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let witness = self.witness.map_or_else(|| ports.next_on(loopback), Ok)?;
        let mut clients =
            |place: ReplicaId| self.clients[place.slot()].map_or_else(|| ports.next(place), Ok);
        let clients = [clients(ReplicaId::A)?, clients(ReplicaId::B)?];
        let mut links: Vec<_> =
            self.a_links.iter().copied().zip(self.b_links.iter().copied()).collect();
        if links.is_empty() {
            // Two addresses stand for two networks.
            for host in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)] {
                links.push((ports.next_on(host.into())?, ports.next_on(host.into())?));
            }
        }
        Ok(Addresses { links, witness, clients })
    }
}

/// The addresses on which the processes of a pair listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The addresses of place `a` and place `b`, for each link.
    pub links: Vec<(SocketAddr, SocketAddr)>,
    /// The witness's address.
    pub witness: SocketAddr,
    /// The CoServers' ports for clients, by place.
    pub clients: [SocketAddr; 2],
}
