//! A witness's file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::coserver::{address, own, pin, secret};
use super::document::{Document, Overrides};
use super::error::ConfigError;
use super::section::Section;
use crate::ids::{PairId, ReplicaId};
use crate::runtime::keys::{PublicKey, Role, Roster};
use crate::runtime::tls::Credentials;

/// Grants nothing for this long after a start, unless the file says otherwise.
const GRACE: Duration = Duration::from_secs(2);

/// The longest that it may say.
const GRACE_MAX: Duration = Duration::from_secs(60);

/// A pair that a witness serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledPair {
    /// The pair's id.
    pub id: PairId,
    /// The keys of its CoServers, by place.
    pub keys: [Vec<PublicKey>; 2],
}

/// Everything that a witness's file says.
#[derive(Debug)]
pub struct WitnessConfig {
    /// The address on which the witness listens.
    pub listen: SocketAddr,
    /// The directory of the records, the lock and the control socket.
    pub directory: PathBuf,
    /// The witness grants nothing for this long after its start.
    pub grace: Duration,
    /// The witness's key, and those of the CoServers of all pairs.
    pub credentials: Credentials,
    /// The configuration file.
    pub file: PathBuf,
    /// The log filter, where the command line sets none.
    pub log: Option<String>,
    /// The pairs that the witness serves.
    pub pairs: Vec<EnrolledPair>,
}

impl WitnessConfig {
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
        let listen = address(&mut root, "listen", "the address at which CoServers reach it")?;
        let directory = root.path("directory", "the directory for the records")?;
        let grace = root.optional("grace", "how long nothing is granted after a start")?;
        let grace = grace.unwrap_or(GRACE);
        if grace > GRACE_MAX {
            let what = "no pair could lose a CoServer for so long";
            return Err(root.fault("grace", what, "write at most \"60s\", or leave it out"));
        }
        let secret = secret(&mut root)?;
        let mut roster = Roster::new();
        let pairs = pairs(&mut root, &mut roster)?;
        let credentials = own(&root, Role::Witness, secret, roster)?;
        let log = root.optional("log", "what is logged: a level, or a list of `module=level`")?;
        root.finish()?;
        let file = root.file().to_owned();
        Ok(Self { listen, directory, grace, credentials, file, log, pairs })
    }

    /// The holder of each key: what a connection may speak for.
    pub fn holders(&self) -> BTreeMap<PublicKey, (PairId, ReplicaId)> {
        let of_pair = |pair: &EnrolledPair| {
            let id = pair.id;
            let of_place = |(place, keys): (ReplicaId, Vec<PublicKey>)| {
                keys.into_iter().map(move |key| (key, (id, place)))
            };
            ReplicaId::BOTH
                .into_iter()
                .zip(pair.keys.clone())
                .flat_map(of_place)
                .collect::<Vec<_>>()
        };
        self.pairs.iter().flat_map(of_pair).collect()
    }
}

fn pairs(root: &mut Section, roster: &mut Roster) -> Result<Vec<EnrolledPair>, ConfigError> {
    let (mut ids, mut holders) = (BTreeSet::new(), BTreeSet::new());
    let mut pairs = Vec::new();
    for mut section in root.sections("pairs")? {
        let id = section.required("id", "the pair's id, as in its CoServers' files")?;
        if !ids.insert(id) {
            let remedy = "remove one of the two; one pair has one record";
            return Err(section.fault("id", "this pair is there already", remedy));
        }
        let mut take = |name, place| {
            let meaning = "the public key of the CoServer at this place";
            let keys = pin(&mut section, roster, name, Role::CoServer(place), meaning)?;
            match keys.iter().all(|key| holders.insert(*key)) {
                true => Ok(keys),
                false => Err(section.fault(
                    name,
                    "this key is in the file already",
                    "make a key of its own for every CoServer; a key speaks for one place of one pair",
                )),
            }
        };
        let keys = [take("a", ReplicaId::A)?, take("b", ReplicaId::B)?];
        section.finish()?;
        pairs.push(EnrolledPair { id, keys });
    }
    if pairs.is_empty() {
        let remedy = "add `[[pairs]]` with `id`, `a` and `b`, as `init` writes it";
        return Err(root.fault("pairs", "is missing", remedy));
    }
    Ok(pairs)
}
