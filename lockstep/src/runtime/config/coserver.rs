//! A CoServer's file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clients::pin_clients;
use super::document::{Document, Overrides};
use super::error::ConfigError;
use super::section::Section;
use super::value::Keys;
use crate::ids::{PairId, ReplicaId};
use crate::runtime::coserver::{LinkAddresses, Settings, SettingsError, WitnessAddress};
use crate::runtime::keys::{Role, Roster, SecretKey};
use crate::runtime::remote::Remote;
use crate::runtime::tls::Credentials;

/// Where the journal is, unless told otherwise: within the CoServer's own directory.
const STORE: &str = "store";

/// Everything that a CoServer's file says.
#[derive(Debug)]
pub struct CoServerConfig {
    /// The engine's settings, checked.
    pub settings: Settings,
    /// This CoServer's key and those of everybody else.
    pub credentials: Credentials,
    /// The directory of the CoServer's lock and control socket.
    pub directory: PathBuf,
    /// The configuration file.
    pub file: PathBuf,
    /// The log filter, where the command line sets none.
    pub log: Option<String>,
    /// The section `[service]`, for the program that embeds the library.
    pub service: Section,
}

impl CoServerConfig {
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
        let place = root.required("place", "which of the two CoServers this is")?;
        let pair = root.required("pair", "the pair's id, the same in all of its files")?;
        let directory = root.path("directory", "the directory for this CoServer's own files")?;
        let witness = witness(&mut root)?;
        let clients = root.optional("clients", "where clients are served; left out, nowhere")?;
        if clients.is_some_and(|address: SocketAddr| address.port() == 0) {
            return Err(root.fault("clients", "port 0 is no port", "write a port from 1 to 65535"));
        }
        let links = links(&mut root)?;
        let mut settings =
            Settings::new(pair, place, links.addresses(), witness, clients, directory.join(STORE));
        let sections = Sections {
            timing: timing(&mut root, &mut settings)?,
            limits: limits(&mut root, &mut settings)?,
            storage: storage(&mut root, &mut settings)?,
            links,
        };
        if let Some(policy) =
            root.optional("divergence", "who goes on when the CoServers computed different things")?
        {
            settings.divergence = policy;
        }
        if let Some(execution) = root.optional("execution", "where the service is executed")? {
            settings.execution = execution;
        }
        let meaning = "the address of the alternate witness";
        if root.has("alternate") {
            settings.alternate = Some(remote(&mut root, "alternate", meaning)?);
        }
        let credentials = credentials(&mut root, place, &settings)?;
        let log = root.optional("log", "what is logged: a level, or a list of `module=level`")?;
        let service = root.section("service")?;
        let file = root.file().to_owned();
        root.finish()?;
        settings.check().map_err(|error| sections.locate(&root, &error))?;
        Ok(Self { settings, credentials, directory, file, log, service })
    }

    /// The pair that this CoServer belongs to.
    pub fn pair(&self) -> PairId {
        self.settings.pair
    }
}

/// The sections whose values are checked together at the end.
struct Sections {
    timing: Section,
    limits: Section,
    storage: Section,
    links: Links,
}

struct Links {
    items: Vec<(Section, LinkAddresses)>,
}

impl Links {
    fn addresses(&self) -> Vec<LinkAddresses> {
        self.items.iter().map(|(_, addresses)| addresses.clone()).collect()
    }

    fn at(&self, local: SocketAddr) -> impl DoubleEndedIterator<Item = &(Section, LinkAddresses)> {
        self.items.iter().filter(move |(_, link)| link.local == local)
    }

    fn to(&self, remote: SocketAddr) -> Option<&(Section, LinkAddresses)> {
        self.items.iter().find(|(_, link)| link.remote.address() == Some(remote))
    }

    fn last_at(&self, local: SocketAddr) -> Option<&(Section, LinkAddresses)> {
        self.at(local).next_back()
    }

    fn second_at(&self, local: SocketAddr) -> Option<&(Section, LinkAddresses)> {
        self.at(local).nth(1)
    }
}

impl Sections {
    /// The error at the place in the file that it is about.
    fn locate(&self, root: &Section, error: &SettingsError) -> ConfigError {
        let text = error.to_string();
        let (what, remedy) = text.split_once(": ").unwrap_or((&text, ""));
        match error {
            SettingsError::Time { name: name @ "meeting", .. } => {
                self.storage.fault(name, what, remedy)
            }
            SettingsError::Time { name, .. } => self.timing.fault(name, what, remedy),
            SettingsError::Window { name: name @ "clock_slew", .. } => {
                self.timing.fault(name, what, remedy)
            }
            SettingsError::Window { name, .. } => self.limits.fault(name, what, remedy),
            SettingsError::Storage { name, .. } => self.storage.fault(name, what, remedy),
            SettingsError::Links(_) => root.fault("links", what, remedy),
            SettingsError::SameWitness(_) => root.fault("alternate", what, remedy),
            SettingsError::Families(local, _) => match self.links.last_at(*local) {
                Some((section, _)) => section.fault("local", what, remedy),
                None => root.fault("links", what, remedy),
            },
            SettingsError::Itself(address) => match self.links.to(*address) {
                Some((section, _)) => section.fault("remote", what, remedy),
                None => root.fault("links", what, remedy),
            },
            SettingsError::SameAddress(address) => match self.links.second_at(*address) {
                Some((section, _)) => section.fault("local", what, remedy),
                None => root.fault("clients", what, remedy),
            },
        }
    }
}

/// An address to be reached: it has a port.
pub(super) fn address(
    section: &mut Section,
    name: &'static str,
    meaning: &str,
) -> Result<SocketAddr, ConfigError> {
    let address: SocketAddr = section.required(name, meaning)?;
    match address.port() {
        0 => Err(section.fault(name, "port 0 is no port", "write a port from 1 to 65535")),
        _ => Ok(address),
    }
}

/// The address of another process, or its host's name.
pub(super) fn remote(
    section: &mut Section,
    name: &'static str,
    meaning: &str,
) -> Result<Remote, ConfigError> {
    let found = section.required(name, meaning)?;
    check_remote(section, name, meaning, &found)?;
    Ok(found)
}

fn check_remote(
    section: &Section,
    name: &'static str,
    meaning: &str,
    found: &Remote,
) -> Result<(), ConfigError> {
    if found.port() == 0 {
        return Err(section.fault(name, "port 0 is no port", "write a port from 1 to 65535"));
    }
    if let Some(address) = found.address().filter(|_| found.is_unspecified()) {
        let what = format!("{} stands for every address of this machine", address.ip());
        return Err(section.fault(name, what, format!("write {meaning}")));
    }
    Ok(())
}

fn links(root: &mut Section) -> Result<Links, ConfigError> {
    let item = |mut section: Section| {
        let local = address(&mut section, "local", "this CoServer's own address on the link")?;
        let remote = remote(&mut section, "remote", "the other CoServer's address on the link")?;
        section.finish()?;
        Ok::<_, ConfigError>((section, LinkAddresses { local, remote }))
    };
    let items = root.sections("links")?.into_iter().map(item).collect::<Result<_, _>>()?;
    Ok(Links { items })
}

fn timing(root: &mut Section, settings: &mut Settings) -> Result<Section, ConfigError> {
    let mut timing = root.section("timing")?;
    let silence = timing.optional("silence", "the peer's silence that is taken for its death")?;
    if let Some(silence) = silence {
        // What is not said follows from what is, so that one number is enough.
        settings.silence = silence;
        settings.silence_floor = silence / 2;
        settings.heartbeat = settings.heartbeat.min(silence / 10);
        settings.hold_limit = settings.hold_limit.max(silence);
    }
    let fields: [(&'static str, &str, &mut Duration); 8] = [
        (
            "silence_floor",
            "the least that the silence timeout adapts to",
            &mut settings.silence_floor,
        ),
        ("heartbeat", "the time between two heartbeats", &mut settings.heartbeat),
        ("slow_limit", "how long the peer may be behind", &mut settings.slow_limit),
        ("forward_delay", "when a follower passes a request on", &mut settings.forward_delay),
        (
            "hold_limit",
            "how long outputs are held before clients are sent away",
            &mut settings.hold_limit,
        ),
        ("linger", "how long clients are refused before the process ends", &mut settings.linger),
        (
            "witness_patience",
            "how long the witness is not reached before the pair turns to the alternate one",
            &mut settings.witness_patience,
        ),
        (
            "clock_step",
            "how far the clock may be ahead of a log that is taken up again",
            &mut settings.clock_step,
        ),
    ];
    for (name, meaning, value) in fields {
        if let Some(given) = timing.optional(name, meaning)? {
            *value = given;
        }
    }
    let meaning = "by one part in how many log time may run faster or slower";
    if let Some(slew) = timing.optional("clock_slew", meaning)? {
        settings.clock_slew = slew;
    }
    timing.finish()?;
    Ok(timing)
}

fn limits(root: &mut Section, settings: &mut Settings) -> Result<Section, ConfigError> {
    let mut limits = root.section("limits")?;
    let meaning = "the bound on what is ordered and not yet agreed";
    if let Some(entries) = limits.optional("window_entries", meaning)? {
        settings.window_entries = entries;
    }
    if let Some(bytes) = limits.optional("window_bytes", meaning)? {
        settings.window_bytes = bytes;
    }
    if let Some(clients) = limits.optional("clients", "the most client connections")? {
        settings.client_connections = clients;
    }
    limits.finish()?;
    Ok(limits)
}

/// Where the witness is: an address, or a table that says what kind it is of.
pub(in crate::runtime) fn witness(root: &mut Section) -> Result<WitnessAddress, ConfigError> {
    if !root.is_table("witness") {
        return remote(root, "witness", "the witness's address").map(Into::into);
    }
    let mut section = root.section("witness")?;
    let kind: String =
        section.required("kind", "\"quic\" for a process, \"object\" for a store")?;
    let witness = match kind.as_str() {
        "quic" => remote(&mut section, "address", "the witness's address")?.into(),
        "object" => {
            let meaning = "the store, as file:///PATH or s3://BUCKET/PREFIX";
            let url: String = section.required("url", meaning)?;
            if !["file:///", "s3://"].iter().any(|scheme| url.starts_with(scheme)) {
                return Err(section.fault("url", "is no store", format!("write {meaning}")));
            }
            WitnessAddress::Objects(url)
        }
        _ => {
            let remedy = "write \"quic\" for a process, or \"object\" for a store";
            return Err(section.fault("kind", "there is no such kind of witness", remedy));
        }
    };
    section.finish()?;
    Ok(witness)
}

fn storage(root: &mut Section, settings: &mut Settings) -> Result<Section, ConfigError> {
    let mut section = root.section("storage")?;
    let meaning = "what has to be on the disk before an output is released";
    let storage = &mut settings.storage;
    if let Some(durability) = section.optional("durability", meaning)? {
        storage.durability = durability;
    }
    let meaning = "the directory for the journal and the checkpoints";
    if let Some(directory) = section.optional_path("directory", meaning)? {
        storage.directory = directory;
    }
    let fields: [(&'static str, &str, &mut u64); 5] = [
        ("segment_bytes", "bytes of a file of the journal", &mut storage.segment_bytes),
        (
            "checkpoint_bytes",
            "bytes of entries after which a checkpoint is taken",
            &mut storage.checkpoint_bytes,
        ),
        (
            "journal_keep_bytes",
            "bytes of the journal that are kept in any case",
            &mut storage.journal_keep_bytes,
        ),
        (
            "retain_limit_bytes",
            "most bytes of the journal that are kept for a joiner",
            &mut storage.retain_limit_bytes,
        ),
        ("join_rate", "most bytes a second that a joiner is sent", &mut storage.join_rate),
    ];
    for (name, meaning, value) in fields {
        if let Some(given) = section.optional(name, meaning)? {
            *value = given;
        }
    }
    if let Some(kept) = section.optional("checkpoints_kept", "how many checkpoints are kept")? {
        storage.checkpoints_kept = kept;
    }
    let meaning = "how long to look for the other CoServer before claiming";
    if let Some(meeting) = section.optional("meeting", meaning)? {
        settings.meeting = meeting;
    }
    section.finish()?;
    Ok(section)
}

fn credentials(
    root: &mut Section,
    place: ReplicaId,
    settings: &Settings,
) -> Result<Credentials, ConfigError> {
    let secret = secret(root)?;
    let mut peers = root.section("peers")?;
    let mut roster = Roster::new();
    let other = Role::CoServer(place.other());
    pin(&mut peers, &mut roster, "coserver", other, "the other CoServer's public key")?;
    // A store has no key; what it may be told is a matter of its own credentials.
    if matches!(settings.witness, WitnessAddress::Process(_)) {
        pin(&mut peers, &mut roster, "witness", Role::Witness, "the witness's public key")?;
    }
    if settings.alternate.is_some() {
        let meaning = "the alternate witness's public key";
        let known = roster.clone();
        let keys = pin(&mut peers, &mut roster, "alternate", Role::Witness, meaning)?;
        if keys.iter().any(|key| known.role_of(key) == Some(Role::Witness)) {
            let what = "is the witness's key: two witnesses with one key are one that forgets";
            return Err(peers.fault("alternate", what, "give the alternate witness its own key"));
        }
    }
    pin_clients(&mut peers, &mut roster)?;
    peers.finish()?;
    own(root, Role::CoServer(place), secret, roster)
}

/// The secret key in the file that `key` names.
pub(super) fn secret(section: &mut Section) -> Result<SecretKey, ConfigError> {
    let file = section.path("key", "the file with this process's secret key")?;
    SecretKey::load(&file).map_err(|error| section.fault("key", error.to_string(), ""))
}

pub(super) fn own(
    section: &Section,
    role: Role,
    secret: SecretKey,
    roster: Roster,
) -> Result<Credentials, ConfigError> {
    Credentials::new(role, secret, roster)
        .map_err(|error| section.fault("key", error.to_string(), ""))
}

/// Takes the keys of a role that must have one.
pub(super) fn pin(
    section: &mut Section,
    roster: &mut Roster,
    name: &'static str,
    role: Role,
    meaning: &str,
) -> Result<Vec<crate::runtime::keys::PublicKey>, ConfigError> {
    let Keys(keys) = section.required(name, meaning)?;
    if keys.is_empty() {
        return Err(section.fault(name, "names no key", format!("write {meaning}")));
    }
    let pin = |key: &_| roster.pin(role, *key);
    keys.iter().try_for_each(pin).map_err(|error| section.fault(name, error.to_string(), ""))?;
    Ok(keys)
}
