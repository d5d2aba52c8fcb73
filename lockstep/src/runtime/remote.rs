//! Where another process is: an address, or a host's name that is looked up at each connect.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Longest name of a host (RFC 1035, section 2.3.4, as text).
const HOST_BYTES: usize = 253;

/// Longest part of it between two dots.
const LABEL_BYTES: usize = 63;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remote {
    /// By its address.
    Address(SocketAddr),
    /// By its name, which may mean another address at the next connect.
    Name {
        /// The host's name.
        host: String,
        /// The UDP port.
        port: u16,
    },
}

/// A text is no host with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no IP address and no host's name with a port")]
pub struct NoRemote;

impl Remote {
    /// The address, if it is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name { .. } => None,
        }
    }

    /// The UDP port, which no lookup changes.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }

    /// Whether it stands for every address of a machine, and so for no other machine's.
    pub fn is_unspecified(&self) -> bool {
        self.address().is_some_and(|address| address.ip().is_unspecified())
    }
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Remote {
    type Err = NoRemote;

    fn from_str(text: &str) -> Result<Self, NoRemote> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(NoRemote)?;
        if !is_host(host) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoRemote);
        }
        let port = port.parse().map_err(|_| NoRemote)?;
        Ok(Self::Name { host: host.to_owned(), port })
    }
}

/// Whether it can be a host's name (RFC 1123, section 2.1; underscores are custom). A name whose
/// last label is a number is a mistyped IPv4 address.
fn is_host(text: &str) -> bool {
    let host = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= HOST_BYTES
        && host.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
        && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_read_and_written_alike() {
        for text in ["192.0.2.1:7400", "[2001:db8::1]:7400", "witness.example:7400", "b-1:1"] {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
        }
        assert!("192.0.2.1:7400".parse::<Remote>().unwrap().address().is_some());
        assert!("localhost:7400".parse::<Remote>().unwrap().address().is_none());
    }

    #[test]
    fn what_is_neither_is_refused() {
        let long = format!("{}:1", "a.".repeat(130));
        for text in [
            "",
            "host",
            "host:",
            ":7400",
            "host:+7",
            "host:70000",
            "192.0.2.300:7400",
            "-a:1",
            "a b:1",
            "a..b:1",
            "[::1:7400",
            "::1:7400",
            "host:7400:1",
            &long,
        ] {
            assert_eq!(text.parse::<Remote>(), Err(NoRemote), "{text}");
        }
    }
}
