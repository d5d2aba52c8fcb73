//! Everything that the relay's behaviour depends on; equal on both CoServers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use io_redirect::Wrapper;
use io_redirect::tcp::{Target, TcpLimits};
use io_redirect::wrapper::BuildError;
use lockstep::digest::{Digest, Hasher};

use super::{Relay, ShareSettings};
use crate::limits;
use crate::net::Network;
use crate::queue::QueueConfig;
use crate::smtp::client::ClientConfig;
use crate::smtp::server::ServerConfig;
use crate::smtp::{AddressCustoms, Domain};

/// Settings of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// The side that clients see.
    pub server: ServerConfig,
    /// What is kept, for how long, and how often it is tried.
    pub queue: QueueConfig,
    /// The side that the next hop sees.
    pub client: ClientConfig,
    /// Where mail goes.
    pub next_hop: HopAddress,
    /// Clients at a time, on both CoServers together; see [`limits::CLIENTS`].
    pub max_clients: u32,
    /// What the clients of one block of addresses may have of it all.
    pub shares: ShareSettings,
    /// What all sessions may hold together; see [`limits::SESSION_BYTES`].
    pub session_bytes: u64,
}

/// The next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopAddress {
    host: String,
    port: u16,
}

/// The settings contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The next hop has no port, or is no host.
    #[error(
        "`{0}` is no next hop: write `host:port` of another machine or service, such as \
         mail.example.org:25 or [2001:db8::1]:25"
    )]
    NextHop(String),
    /// A number is out of its range.
    #[error("{name} is {value}: choose between {least} and {most}")]
    Range {
        /// The name of the setting.
        name: &'static str,
        /// The value that was given.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
    /// A time is out of its range.
    #[error("{name} is {value:?}: choose between {least:?} and {most:?}")]
    Time {
        /// The name of the setting.
        name: &'static str,
        /// The value that was given.
        value: Duration,
        /// The least it may be.
        least: Duration,
        /// The most it may be.
        most: Duration,
    },
}

impl HopAddress {
    /// Reads `host:port`; an IPv6 address stands in square brackets.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(text: &str) -> Result<HopAddress, SettingsError> {
        let wrong = || SettingsError::NextHop(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(wrong()),
            None if host.parse::<Ipv4Addr>().is_ok() => host,
            // Containers are called so, whatever their resolver thinks of it.
            None if Domain::parse_with(host, AddressCustoms::default()).is_ok() => host,
            None => return Err(wrong()),
        };
        if host.parse().is_ok_and(|address: IpAddr| address.is_unspecified()) {
            // Addresses to listen on.
            return Err(wrong());
        }
        Ok(HopAddress { host: host.to_owned(), port })
    }

    pub(super) fn target(&self) -> Target {
        Target::host(&self.host, self.port)
    }
}

impl RelaySettings {
    /// The defaults of [`limits`], and a policy that lets no client send anything.
    ///
    /// # Errors
    /// If the next hop is none.
    pub fn new(hostname: Domain, next_hop: &str) -> Result<RelaySettings, SettingsError> {
        let hop = HopAddress::parse(next_hop)?;
        Ok(RelaySettings {
            server: ServerConfig::new(hostname.clone()),
            queue: QueueConfig::new(hostname.clone(), &hop.host),
            client: ClientConfig::new(hostname),
            next_hop: hop,
            max_clients: limits::CLIENTS,
            shares: ShareSettings::default(),
            session_bytes: limits::SESSION_BYTES,
        })
    }

    /// Whether the numbers can be worked with.
    ///
    /// # Errors
    /// The first that cannot, with its bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        const GIB: u64 = 1024 * 1024 * 1024;
        let queue = &self.queue;
        let mail = self.server.max_message;
        for (name, value, least, most) in [
            ("max_message", mail, 64 * 1024, GIB),
            ("max_recipients", self.server.max_recipients.into(), 1, 100_000),
            ("max_clients", self.max_clients.into(), 1, 10_000),
            ("session_bytes", self.session_bytes, mail.saturating_mul(2), 1024 * GIB),
            ("max_queue_bytes", queue.max_bytes, mail.saturating_mul(2), 1024 * GIB),
            ("max_queue_mails", queue.max_mails, 1, 10_000_000),
            ("max_deliveries", queue.max_deliveries.into(), 1, 1000),
            ("block_mails", self.shares.mails.into(), 0, 10_000_000),
            ("block_queue", self.shares.queue.into(), 0, 1000),
            ("client_commands", self.server.idle_commands.into(), 10, 100_000),
            ("address_errors", self.shares.errors.into(), 0, 100_000),
        ] {
            if value < least || value > most {
                return Err(SettingsError::Range { name, value, least, most });
            }
        }
        for (name, value, least, most) in [
            ("retry_most", queue.retry_most, limits::SECOND / 10, 365 * 24 * limits::HOUR),
            ("retry_first", queue.retry_first, limits::SECOND / 10, queue.retry_most),
            ("give_up", queue.give_up, queue.retry_first, 365 * 24 * limits::HOUR),
            ("client_idle", self.server.idle, 10 * limits::SECOND, 24 * limits::HOUR),
            ("client_idle_scarce", self.shares.scarce_idle, limits::SECOND, 24 * limits::HOUR),
            ("client_session", self.server.session, limits::MINUTE, 365 * 24 * limits::HOUR),
            ("address_shut", self.shares.shut, limits::SECOND, 24 * limits::HOUR),
        ] {
            if value < least || value > most {
                let [value, least, most] = [value, least, most].map(Duration::from_nanos);
                return Err(SettingsError::Time { name, value, least, most });
            }
        }
        Ok(())
    }

    /// Bounds of the TCP device: every client that may be there, and room for deliveries that
    /// clients cannot take away, those whose end is not reported yet included.
    pub fn tcp_limits(&self) -> TcpLimits {
        let deliveries = self.queue.max_deliveries.saturating_mul(4).saturating_add(16);
        let connections = self.max_clients.saturating_add(deliveries);
        TcpLimits { connections, ..TcpLimits::default() }
    }

    /// The relay as a state machine for the engine.
    ///
    /// # Errors
    /// If the bounds cannot be had.
    pub fn wrapped(self) -> Result<Wrapper<Relay>, BuildError> {
        let bounds = self.tcp_limits();
        Wrapper::with_tcp(Relay::new(self), bounds)
    }

    /// What a client is told that a CoServer cannot serve.
    pub(super) fn refusal(&self) -> String {
        let hostname = &self.server.hostname;
        format!("421 4.3.2 {hostname}: you cannot be served here now, try the other server\r\n")
    }

    /// What a client is told whose address or block is shut out.
    pub(super) fn shut_out(&self) -> String {
        let hostname = &self.server.hostname;
        format!(
            "421 4.7.0 {hostname}: too many errors from your address or network, try again later\r\n"
        )
    }

    /// Names the settings exactly.
    pub(crate) fn digest(&self) -> Digest {
        let RelaySettings { server, queue, client, next_hop, max_clients, shares, session_bytes } =
            self;
        let mut hasher = Hasher::after(Digest::ZERO);
        let mut text = |text: &str| {
            hasher.number(text.len() as u64).bytes(text.as_bytes());
        };
        for hostname in [&server.hostname, &queue.hostname, &client.hostname] {
            text(&hostname.to_string());
        }
        [&queue.next_hop, &next_hop.host].into_iter().for_each(|host| text(host));
        let customs = [
            server.customs.addresses.names,
            server.customs.addresses.dots,
            server.customs.hello,
            client.customs.bare_lf,
            client.customs.mixed_codes,
        ];
        let rules = server.policy.rules();
        rules.iter().for_each(|rule| text(rule));
        let trusted: BTreeSet<String> = shares.trusted.iter().map(Network::to_string).collect();
        trusted.iter().for_each(|network| text(network));
        hasher
            .number(rules.len() as u64)
            .number(trusted.len() as u64)
            .number(shares.mails.into())
            .number(shares.queue.into())
            .number(shares.errors.into())
            .number(shares.shut)
            .number(shares.scarce_idle)
            .number(server.session)
            .number(next_hop.port.into())
            .number(server.max_message)
            .number(server.max_recipients.into())
            .number(server.idle)
            .number(server.idle_commands.into())
            .number(queue.max_mails)
            .number(queue.max_bytes)
            .number(queue.max_deliveries.into())
            .number(queue.retry_first)
            .number(queue.retry_most)
            .number(queue.give_up)
            .number((*max_clients).into())
            .number(*session_bytes)
            .number(customs.iter().fold(0, |sum, custom| sum * 2 + u64::from(*custom)))
            .finish()
    }
}
