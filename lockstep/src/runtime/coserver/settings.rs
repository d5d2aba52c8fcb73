//! What a CoServer process needs to know, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::ids::{PairId, ReplicaId};
use crate::limits;
use crate::proto::DivergencePolicy;
use crate::runtime::remote::Remote;
use crate::store::replica::StorageSettings;

/// One link between the CoServers: the address on this side and on the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAddresses {
    /// This CoServer's own address; give every link a network of its own.
    pub local: SocketAddr,
    /// The other CoServer's. Place B, which dials, looks a name up at each attempt. Place A takes
    /// packets from anywhere where it has a name, and from nowhere else where it has an address.
    pub remote: Remote,
}

/// Where the pair's witness is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessAddress {
    /// A process, reached over QUIC.
    Process(Remote),
    /// A store that both CoServers reach, by its URL; see [`crate::witness::object`].
    Objects(String),
}

impl From<SocketAddr> for WitnessAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Process(address.into())
    }
}

impl From<Remote> for WitnessAddress {
    fn from(remote: Remote) -> Self {
        Self::Process(remote)
    }
}

/// Where the service is executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Execution {
    /// In the loop that runs links and protocol: the shortest way, for steps that take less
    /// than a heartbeat.
    #[default]
    Inline,
    /// On a thread of its own: two more wake-ups for every input, but a long step does not hold
    /// up heartbeats.
    Thread,
}

/// A CoServer's settings. Every user of them calls [`Settings::check`] first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The pair that the CoServer belongs to.
    pub pair: PairId,
    /// This CoServer's place.
    pub place: ReplicaId,
    /// The links, in the same order on both CoServers.
    pub links: Vec<LinkAddresses>,
    /// The witness that the pair prefers.
    pub witness: WitnessAddress,
    /// The alternate witness, a process, to which the pair turns when its sequencer has not
    /// reached the one in use for [`witness_patience`](Self::witness_patience).
    pub alternate: Option<Remote>,
    /// See [`alternate`](Self::alternate). Every move that reached no witness doubles the time
    /// until the next one.
    pub witness_patience: Duration,
    /// The port for clients of the client library; `None` if there are none.
    pub clients: Option<SocketAddr>,
    /// Most client connections; the newest above that is refused. The same on both, since clients
    /// connect to both CoServers.
    pub client_connections: usize,
    /// Upper bound of the adaptive silence timeout.
    pub silence: Duration,
    /// Lower bound of the adaptive silence timeout.
    pub silence_floor: Duration,
    /// Time between two heartbeats on a link.
    pub heartbeat: Duration,
    /// A peer that owes results, or leaves inputs unordered, for this long is removed.
    pub slow_limit: Duration,
    /// A follower forwards a client's request that it has not seen ordered after this long.
    pub forward_delay: Duration,
    /// A member that has held its outputs for this long turns clients away.
    pub hold_limit: Duration,
    /// A CoServer that is out refuses its clients for this long before the process ends.
    pub linger: Duration,
    /// Most entries that are ordered and not yet agreed and released.
    pub window_entries: usize,
    /// Most bytes of those entries, their outputs included.
    pub window_bytes: usize,
    /// Which replica goes on when the two computed different things.
    pub divergence: DivergencePolicy,
    /// The thread on which the service is executed.
    pub execution: Execution,
    /// A process that finds state on its disk tries for this long to meet the other CoServer
    /// before it claims its predecessor's place.
    pub meeting: Duration,
    /// A log is not taken up again while this machine's clock is further than this ahead of it,
    /// since log time never goes back. An operator who knows better allows more (rule O13).
    pub clock_step: Duration,
    /// Log time runs at most one part in this many faster or slower than real time, until it agrees
    /// with the wall clock (rule O4).
    pub clock_slew: u32,
    /// How the CoServer uses its disk.
    pub storage: StorageSettings,
    /// An operator wants the state on the disk to begin the new lineage. Set for one start, after
    /// `new-lineage`; without a new lineage it has no effect.
    pub adopt: bool,
}

/// The settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A number of links that cannot be.
    #[error("{0} links: configure one to {max}, two for redundancy", max = limits::LINKS)]
    Links(usize),
    /// Two links, or a link and the clients' port, on one address.
    #[error("the address {0} is used twice: give every link and port its own")]
    SameAddress(SocketAddr),
    /// A link to an address of this CoServer itself.
    #[error("a link to {0} leads back here: write the other CoServer's address")]
    Itself(SocketAddr),
    /// A link between IPv4 and IPv6.
    #[error("a link from {0} to {1} cannot be: use IPv4 or IPv6 on both sides")]
    Families(SocketAddr, SocketAddr),
    /// A time is out of its bounds.
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
    /// The alternate witness is the witness itself.
    #[error("the alternate witness is at {0} as well: write the address of another one")]
    SameWitness(Remote),
    /// The window, the number of clients, or the pace of log time is too small or too large.
    #[error("{name} is {value}: choose between {least} and {most}")]
    Window {
        /// The name of the setting.
        name: &'static str,
        /// The value that was given.
        value: usize,
        /// The least it may be.
        least: usize,
        /// The most it may be.
        most: usize,
    },
    /// A number about the disk is out of its bounds.
    #[error("{name} is {value}: choose between {least} and {most}{}", whole(name))]
    Storage {
        /// The name of the setting.
        name: &'static str,
        /// The value that was given.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
}

fn whole(name: &str) -> &'static str {
    if name == "segment_bytes" { ", a multiple of 4096" } else { "" }
}

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
/// The largest step that an operator may allow: ten years.
const CLOCK_STEP_HOURS: u32 = 10 * 366 * 24;

impl Settings {
    /// Settings with every choice at its default, and files in this directory.
    pub fn new(
        pair: PairId,
        place: ReplicaId,
        links: Vec<LinkAddresses>,
        witness: impl Into<WitnessAddress>,
        clients: Option<SocketAddr>,
        directory: impl Into<PathBuf>,
    ) -> Self {
        Self {
            pair,
            place,
            links,
            witness: witness.into(),
            alternate: None,
            witness_patience: MS * 10_000,
            clients,
            client_connections: limits::CLIENT_CONNECTIONS,
            silence: MS * 100,
            silence_floor: MS * 50,
            heartbeat: MS * 10,
            slow_limit: MS * 2000,
            forward_delay: MS * 50,
            hold_limit: MS * 2000,
            linger: MS * 2000,
            window_entries: limits::WINDOW_ENTRIES,
            window_bytes: limits::WINDOW_BYTES,
            divergence: DivergencePolicy::Sequencer,
            execution: Execution::Inline,
            meeting: MS * 1000,
            clock_step: limits::CLOCK_STEP,
            clock_slew: limits::CLOCK_SLEW,
            storage: StorageSettings::new(directory),
            adopt: false,
        }
    }

    /// Whether the settings can be used.
    ///
    /// # Errors
    /// The first that cannot, with its bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(1..=limits::LINKS).contains(&self.links.len()) {
            return Err(SettingsError::Links(self.links.len()));
        }
        self.check_addresses()?;
        if let (WitnessAddress::Process(one), Some(other)) = (&self.witness, &self.alternate)
            && one == other
        {
            return Err(SettingsError::SameWitness(other.clone()));
        }
        for (name, value, least, most) in [
            ("silence", self.silence, MS * 10, HOUR),
            ("silence_floor", self.silence_floor, MS * 5, self.silence),
            ("heartbeat", self.heartbeat, MS, self.silence / 3),
            ("slow_limit", self.slow_limit, MS * 50, HOUR),
            ("forward_delay", self.forward_delay, MS, HOUR),
            ("hold_limit", self.hold_limit, self.silence, HOUR),
            ("linger", self.linger, Duration::ZERO, HOUR),
            ("witness_patience", self.witness_patience, MS * 100, HOUR),
            ("meeting", self.meeting, Duration::ZERO, HOUR),
            ("clock_step", self.clock_step, HOUR, HOUR * CLOCK_STEP_HOURS),
        ] {
            if value < least || value > most {
                return Err(SettingsError::Time { name, value, least, most });
            }
        }
        for (name, value, least, most) in [
            ("window_entries", self.window_entries, 16, 1 << 18),
            ("window_bytes", self.window_bytes, limits::WINDOW_BYTES_MIN, 16 << 30),
            ("clients", self.client_connections, 1, limits::CLIENT_CONNECTIONS),
            ("clock_slew", self.clock_slew as usize, 2, 1000),
        ] {
            if value < least || value > most {
                return Err(SettingsError::Window { name, value, least, most });
            }
        }
        if let Some((name, value, least, most)) = self.storage.misfit() {
            return Err(SettingsError::Storage { name, value, least, most });
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), SettingsError> {
        let mut seen = std::collections::BTreeSet::new();
        for LinkAddresses { local, remote } in &self.links {
            if let Some(remote) = remote.address()
                && local.is_ipv4() != remote.is_ipv4()
            {
                return Err(SettingsError::Families(*local, remote));
            }
        }
        let own = self.links.iter().map(|link| link.local);
        for address in own.chain(self.clients).filter(|address| address.port() != 0) {
            if !seen.insert(address) {
                return Err(SettingsError::SameAddress(address));
            }
        }
        let mut remotes = self.links.iter().filter_map(|link| link.remote.address());
        match remotes.find(|remote| seen.contains(remote)) {
            Some(remote) => Err(SettingsError::Itself(remote)),
            None => Ok(()),
        }
    }
}
