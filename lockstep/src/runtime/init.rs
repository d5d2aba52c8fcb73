//! `init`: everything that a new pair needs, in one directory.
//!
//! ```text
//! DIR/a.toml b.toml          configuration of the CoServers
//! DIR/witness.toml           of their witness
//! DIR/client.toml            of a client
//! DIR/keys/*.key             the four secret keys, mode 0600
//! ```
//!
//! The data directories (`DIR/a`, `DIR/b`, `DIR/witness`) are made by the processes. On separate
//! machines each gets its own `.toml` and its own key, and no other key. Nothing is ever
//! overwritten: a second run on the same directory is refused, and a run that fails half-way
//! removes what it made.

mod plan;
mod ports;
mod text;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use plan::{Addresses, Plan};
pub use ports::Ports;

use super::config::{ClientConfig, CoServerConfig, ConfigError, Overrides, WitnessConfig};
use super::entropy::{self, NoEntropy};
use super::keys::{KeyFileError, SecretKey, SecretKeyError};
use crate::exhaustion::remedy_of_disk;
use crate::ids::{PairId, ReplicaId};

/// A pair could not be initialised.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there already.
    #[error(
        "{} is there already and is not overwritten: choose another directory, or move it away",
        path.display()
    )]
    Exists {
        /// The file or directory that is there already.
        path: PathBuf,
    },
    /// A file or directory cannot be made.
    #[error("{}: {source}; {}", path.display(), remedy_of_disk(source))]
    Io {
        /// The file or directory that was to be made.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A key cannot be made or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The system gives no randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No free port was found.
    #[error("no free port was found for {address}: check that this host has the address")]
    NoPort {
        /// The address that was to be listened on.
        address: std::net::IpAddr,
    },
    /// The links of the two places do not match.
    #[error(
        "{a} links at place a and {b} at place b: give each of the two an address on every link"
    )]
    Links {
        /// How many at place `a`.
        a: usize,
        /// How many at place `b`.
        b: usize,
    },
    /// Counting up from the base port has passed the last one.
    #[error("the base port {base} leaves no room for the ports above it: choose one below 65000")]
    Port {
        /// The base port.
        base: u16,
    },
    /// What was asked for is no configuration that a process would start with.
    #[error("nothing is made, since no process would start with it: {0}")]
    Configuration(#[from] ConfigError),
    /// The service's own part.
    #[error("the service's own section cannot be made")]
    Service(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What `init` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initialised {
    /// The new pair.
    pub pair: PairId,
    /// The addresses on which the processes listen.
    pub addresses: Addresses,
    /// The files, in the order in which they were made.
    pub files: Vec<PathBuf>,
}

/// The sections `[service]` of the configuration files, without their headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSections {
    /// The sections of the CoServers' files, by place.
    pub coservers: [String; 2],
    /// The section of the client's file.
    pub client: String,
}

/// The four keys of a pair.
struct PairKeys {
    coservers: [SecretKey; 2],
    witness: SecretKey,
    client: SecretKey,
}

impl PairKeys {
    fn generate() -> Result<Self, InitError> {
        let key = || {
            SecretKey::generate().map_err(|error| match error {
                SecretKeyError::NoEntropy | SecretKeyError::Malformed => NoEntropy,
            })
        };
        Ok(Self { coservers: [key()?, key()?], witness: key()?, client: key()? })
    }

    fn named(&self) -> [(&'static str, &SecretKey); 4] {
        let [a, b] = &self.coservers;
        [("a", a), ("b", b), ("witness", &self.witness), ("client", &self.client)]
    }

    fn of(&self, place: ReplicaId) -> &SecretKey {
        &self.coservers[place.slot()]
    }
}

impl Plan {
    /// Makes the directory's files. `service` gives the service's own sections; it may take ports
    /// for its listeners.
    ///
    /// # Errors
    /// If anything is there already or cannot be made; what was made by then is removed again.
    pub fn write<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        &self,
        service: impl FnOnce(&mut Ports) -> Result<ServiceSections, E>,
    ) -> Result<Initialised, InitError> {
        let mut ports = self.ports();
        let addresses = self.addresses(&mut ports)?;
        let sections = service(&mut ports).map_err(|error| InitError::Service(error.into()))?;
        let (pair, keys) = (entropy::pair()?, PairKeys::generate()?);
        let mut made = Made::default();
        match self.make(&mut made, pair, &keys, &addresses, &sections) {
            Ok(()) => Ok(Initialised { pair, addresses, files: made.files }),
            Err(error) => {
                made.remove();
                Err(error)
            }
        }
    }

    fn make(
        &self,
        made: &mut Made,
        pair: PairId,
        keys: &PairKeys,
        addresses: &Addresses,
        sections: &ServiceSections,
    ) -> Result<(), InitError> {
        let files = [
            (
                "a.toml",
                text::coserver(ReplicaId::A, pair, keys, addresses, &self.silence, sections),
            ),
            (
                "b.toml",
                text::coserver(ReplicaId::B, pair, keys, addresses, &self.silence, sections),
            ),
            ("witness.toml", text::witness(pair, keys, addresses)),
            ("client.toml", text::client(pair, keys, addresses, sections)),
        ];
        made.directory(&self.directory)?;
        let key_directory = self.directory.join("keys");
        made.directory(&key_directory)?;
        for (name, key) in keys.named() {
            let path = key_directory.join(format!("{name}.key"));
            key.save_new(&path).map_err(|error| match error {
                KeyFileError::Exists { path } => InitError::Exists { path },
                other => other.into(),
            })?;
            made.files.push(path);
        }
        for (name, text) in files {
            made.file(&self.directory.join(name), &text)?;
        }
        self.check()?;
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| InitError::Io { path: self.directory.clone(), source })
    }
}

impl Plan {
    /// What the processes look at when they start, so that a mistake in the addresses shows now.
    fn check(&self) -> Result<(), ConfigError> {
        let (at, plain) = (|name| self.directory.join(name), Overrides::new());
        CoServerConfig::read(&at("a.toml"), &plain)?;
        CoServerConfig::read(&at("b.toml"), &plain)?;
        WitnessConfig::read(&at("witness.toml"), &plain)?;
        ClientConfig::read(&at("client.toml"), &plain)?;
        Ok(())
    }
}

/// What was made so far.
#[derive(Default)]
struct Made {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    /// A directory may be there, but not what goes into it.
    fn directory(&mut self, path: &Path) -> Result<(), InitError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.directories.push(path.into()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(source) => return Err(InitError::Io { path: path.into(), source }),
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, text: &str) -> Result<(), InitError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => InitError::Exists { path: path.into() },
            _ => InitError::Io { path: path.into(), source },
        };
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o644).open(path).map_err(failed)?;
        self.files.push(path.into());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Removes as much as possible: the error that led here is what the operator needs to see.
    fn remove(&self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for directory in self.directories.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

#[cfg(test)]
mod tests;
