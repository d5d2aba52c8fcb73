//! Ports that dial and dial again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::names::{ADDRESSES_TRIED, Names, Resolution};
use super::port::Outbox;
use crate::ids::ReplicaId;
use crate::runtime::keys::Role;
use crate::runtime::quic::{Connection, Endpoint, EndpointConfig, Settings, SetupError};
use crate::runtime::remote::Remote;
use crate::runtime::tls::Purpose;

/// A connection that lasted this long was a good one: after it the pauses start again from the
/// shortest. A connection that is closed at once, time after time, counts as a failure.
const STEADY: Duration = Duration::from_secs(1);

/// How long an address of a name is waited for if there is another one.
const EACH: Duration = Duration::from_secs(1);

/// The pauses between attempts: the first, then each twice the one before, up to
/// the longest. Without chance in it, so that runs can be compared; a port has
/// only one dialler, so there is no herd to scatter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure or after a good connection.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// Used between CoServers: the pair is not protected while it pauses.
    pub const LINK: Self =
        Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(250) };
    /// Towards a witness or from a client.
    pub const REMOTE: Self =
        Backoff { first: Duration::from_millis(20), longest: Duration::from_secs(1) };

    /// The pause after this many failures in a row, counted from 0.
    pub fn pause(&self, failures: u32) -> Duration {
        self.first.saturating_mul(2u32.saturating_pow(failures)).min(self.longest)
    }
}

/// A port that keeps a connection to one host up.
#[derive(Debug, Clone)]
pub struct DialConfig {
    /// The socket and its connections.
    pub endpoint: EndpointConfig,
    /// The address or name to dial. A name is looked up at each attempt.
    pub remote: Remote,
    /// The pauses between attempts.
    pub backoff: Backoff,
}

impl DialConfig {
    /// A CoServer link of the place that dials, from `local` to `remote`.
    pub fn link(peer: ReplicaId, local: SocketAddr, remote: impl Into<Remote>) -> Self {
        let link = Self::between(Purpose::Link, peer, local, remote.into());
        // What a name means may change at any time, and the key says who it is.
        let from = link.remote.address().map(|address| address.ip());
        DialConfig {
            endpoint: EndpointConfig { takes_guardians: true, from, ..link.endpoint },
            ..link
        }
    }

    /// A guardian's connection to the other CoServer, along a link of which `local` has the address
    /// here, with a port of its own.
    pub fn guardian(peer: ReplicaId, local: SocketAddr, remote: impl Into<Remote>) -> Self {
        Self::between(Purpose::Guardian, peer, local, remote.into())
    }

    fn between(purpose: Purpose, peer: ReplicaId, local: SocketAddr, remote: Remote) -> Self {
        let endpoint = EndpointConfig {
            local,
            purpose,
            wanted: vec![Role::CoServer(peer)],
            accepts: false,
            takes_guardians: false,
            from: None,
            settings: Settings::of(purpose),
        };
        DialConfig { endpoint, remote, backoff: Backoff::LINK }
    }

    /// A CoServer's connection to the witness.
    pub fn witness(remote: impl Into<Remote>) -> Self {
        Self::from_any(Purpose::Witness, Role::Witness, remote.into())
    }

    /// A client's connection to the CoServer at a place.
    pub fn coserver(place: ReplicaId, remote: impl Into<Remote>) -> Self {
        Self::from_any(Purpose::Client, Role::CoServer(place), remote.into())
    }

    fn from_any(purpose: Purpose, wanted: Role, remote: Remote) -> Self {
        let any: IpAddr = match remote {
            Remote::Address(SocketAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            // It is not known which a name will mean; this one reaches both.
            Remote::Address(SocketAddr::V6(_)) | Remote::Name { .. } => {
                Ipv6Addr::UNSPECIFIED.into()
            }
        };
        let endpoint = EndpointConfig {
            local: SocketAddr::new(any, 0),
            purpose,
            wanted: vec![wanted],
            accepts: false,
            takes_guardians: false,
            from: None,
            settings: Settings::of(purpose),
        };
        DialConfig { endpoint, remote, backoff: Backoff::REMOTE }
    }

    /// The same from IPv4 only, for a machine without IPv6, if that can be.
    pub(super) fn without_ipv6(&self) -> Option<EndpointConfig> {
        let by_name = matches!(self.remote, Remote::Name { .. });
        let local = self.endpoint.local;
        (by_name && local.is_ipv6() && local.ip().is_unspecified()).then(|| EndpointConfig {
            local: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port()),
            ..self.endpoint.clone()
        })
    }
}

/// One end of a port that dials.
pub(super) struct Dialler {
    pub(super) endpoint: Endpoint,
    pub(super) remote: Remote,
    pub(super) backoff: Backoff,
    pub(super) names: Names,
}

impl Dialler {
    /// Makes one attempt, at what the name means now.
    async fn connect(&self) -> Result<Connection, SetupError> {
        let (host, port) = match &self.remote {
            Remote::Address(address) => return self.endpoint.connect(*address).await,
            Remote::Name { host, port } => (host, *port),
        };
        let named = self.remote.to_string();
        let Resolution { addresses, trouble } = self.names.look_up(host, port).await;
        let reached = addresses.into_iter().filter(|address| self.endpoint.reaches(*address));
        let failure = match self.connect_to_one(reached.take(ADDRESSES_TRIED).collect()).await {
            Ok((address, connection)) => {
                self.names.worked(host, port, address);
                return Ok(connection);
            }
            Err(failure) => failure,
        };
        // An address of an earlier answer may have no listener any more: then the name is the
        // trouble. An address that answers is the peer's, whatever the resolver says.
        Err(match (failure, trouble) {
            (Some(error), None) => SetupError::Named { host: named, error: Box::new(error) },
            (Some(error), Some(_)) if !matches!(error, SetupError::Timeout { .. }) => {
                SetupError::Named { host: named, error: Box::new(error) }
            }
            (_, Some(why)) => SetupError::Unresolved { host: named, why },
            (None, None) => SetupError::Unresolved {
                host: named,
                why: "the name has no address that this port can reach".into(),
            },
        })
    }

    /// Tries one address after the other, all but the last for a short time only. Of two attempts
    /// at the same listener the later would take the earlier one's place there. If none is reached,
    /// what one of them said, rather than that another said nothing.
    pub(super) async fn connect_to_one(
        &self,
        addresses: Vec<SocketAddr>,
    ) -> Result<(SocketAddr, Connection), Option<SetupError>> {
        let mut failure = None;
        let last = addresses.len().saturating_sub(1);
        for (at, address) in addresses.into_iter().enumerate() {
            let attempt = self.endpoint.connect(address);
            let ended = match at == last {
                true => attempt.await,
                false => match tokio::time::timeout(EACH, attempt).await {
                    Ok(ended) => ended,
                    Err(_) => continue,
                },
            };
            match ended {
                Ok(connection) => return Ok((address, connection)),
                Err(SetupError::Timeout { .. }) if failure.is_some() => {}
                Err(error) => failure = Some(error),
            }
        }
        Err(failure)
    }

    /// Dials for ever, or until the network is gone.
    pub(super) async fn run(self, outbox: Outbox) {
        let mut failures = 0;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    let gone = connection.watch();
                    let since = tokio::time::Instant::now();
                    if outbox.arrived(connection).await.is_err() {
                        return;
                    }
                    gone.await;
                    if since.elapsed() >= STEADY {
                        failures = 0;
                    }
                }
                Err(error) => outbox.failed(error),
            }
            tokio::time::sleep(self.backoff.pause(failures)).await;
            failures = failures.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u128> =
            (0..7).map(|failures| Backoff::LINK.pause(failures).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 250, 250]);
        assert_eq!(Backoff::LINK.pause(u32::MAX), Backoff::LINK.longest);
    }
}
