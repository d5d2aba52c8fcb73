//! A client's file.

use std::path::Path;

use super::coserver::{own, pin, remote, secret};
use super::document::{Document, Overrides};
use super::error::ConfigError;
use super::section::Section;
use crate::ids::{PairId, ReplicaId};
use crate::runtime::keys::{Role, Roster};
use crate::runtime::remote::Remote;
use crate::runtime::tls::Credentials;

/// Everything that a client's file says.
#[derive(Debug)]
pub struct ClientConfig {
    /// The pair that it means to reach.
    pub pair: PairId,
    /// The client's key, and those of the CoServers.
    pub credentials: Credentials,
    /// Where the CoServers serve clients, by place.
    pub coservers: [Remote; 2],
    /// The section `[service]`, for the program that embeds the library.
    pub service: Section,
}

impl ClientConfig {
    /// Reads the file and the key that it names.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(file: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::check(Document::read(file, overrides)?)
    }

    /// Checks a document.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(document: Document) -> Result<Self, ConfigError> {
        let mut root = document.into_root();
        let pair = root.required("pair", "the pair's id, as in its CoServers' files")?;
        let secret = secret(&mut root)?;
        let mut roster = Roster::new();
        let mut table = root.section("coservers")?;
        let mut coserver = |name, place| {
            let mut section = table.section(name)?;
            let at = remote(&mut section, "address", "where this CoServer serves clients")?;
            let meaning = "this CoServer's public key";
            pin(&mut section, &mut roster, "key", Role::CoServer(place), meaning)?;
            section.finish()?;
            Ok::<_, ConfigError>(at)
        };
        let coservers = [coserver("a", ReplicaId::A)?, coserver("b", ReplicaId::B)?];
        table.finish()?;
        let credentials = own(&root, Role::Client, secret, roster)?;
        let service = root.section("service")?;
        root.finish()?;
        Ok(Self { pair, credentials, coservers, service })
    }
}
