//! Where a pair can be attacked, and with what.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::mail::listens_at;
use crate::pair::addresses;

/// A pair as its attacker knows it.
#[derive(Debug)]
pub struct Target {
    /// Where its files are; of them an attacker has only a client's key, where the mode has one.
    pub(super) directory: PathBuf,
    /// The ports for clients: A's, then B's.
    pub(super) clients: Vec<SocketAddr>,
    /// The ports of the links.
    pub(super) links: Vec<SocketAddr>,
    /// Where a relay takes mail: A's address, then B's. Of other services none.
    pub(super) mail: Vec<SocketAddr>,
}

impl Target {
    /// The pair whose files are there.
    pub(super) fn read(directory: &Path) -> Result<Self, String> {
        let text = |name: &str| {
            let file = directory.join(name);
            std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))
        };
        let (a, b) = (text("a.toml")?, text("b.toml")?);
        let both = |field: &str| [addresses(&a, field), addresses(&b, field)].concat();
        let directory = directory.to_owned();
        let mail = [&a, &b].into_iter().filter_map(|text| listens_at(text)).collect();
        Ok(Self { directory, clients: both("clients"), links: both("local"), mail })
    }

    /// An address of the attacker's own: all of them are in one block, and no honest client
    /// is there.
    pub(super) fn source(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 66, 1 + number)
    }
}
