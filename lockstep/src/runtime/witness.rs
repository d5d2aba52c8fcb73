//! The witness process: the witness's core, its network, and its store.
//!
//! One task runs the network and the core. The store has a thread of its own, behind a bounded
//! queue each way. A record is rarely written, but when a rack fails many pairs ask at once, and
//! a store may be slower than a disk (an object store, etcd). Meanwhile the core answers the
//! other pairs.
//!
//! A connection speaks for the pair and the place whose key it has proved, whatever its frames
//! say: the key of another pair's CoServer opens the connection and nothing else.

mod object;
mod report;
mod serve;
mod store;
mod troubles;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "object-witness")]
pub use object::{ObjectClient, ObjectFailure};
pub use object::{ObjectEvent, ObjectLink, ObjectStoreError};
pub use report::{PairKeys, PairReport, RecordReport, WitnessControl, WitnessReport};
pub use troubles::TroubleReport;

use super::clock::Clock;
use super::config::WitnessConfig;
use super::control::DirectoryError;
use super::link::{ListenConfig, Network};
use super::quic::BindError;
use crate::ids::{PairId, ReplicaId};
use crate::limits::WITNESS_CONNECTIONS_PER_PLACE;
use crate::record::Record;
use crate::runtime::keys::PublicKey;
use crate::runtime::private;
use crate::witness::{Config, Directory, Held, RecordStore, StoreError, Told, Witness};
use serve::Loop;
use store::StoreThread;
use troubles::Troubles;

/// Where the records are within the witness's directory.
const RECORDS: &str = "records";

/// Questions of the process itself that wait for the loop; one more is refused.
const WAITING: usize = 64;

/// How long an ending witness lets its answers be taken.
const FAREWELL: Duration = Duration::from_millis(500);

/// A witness cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The store of records cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The witness's directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The witness's port cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store's thread.
    #[error("the store's thread cannot be started: {0}; see what this user's limits are")]
    Thread(#[source] io::Error),
}

/// The records of a witness, in its data directory.
///
/// # Errors
/// If they cannot be used.
pub fn open_records(directory: &Path) -> Result<Directory, StoreError> {
    let path = directory.join(RECORDS);
    if path.exists() {
        let private = private::check_directory(directory)
            .and_then(|()| private::close_to_others(&path))
            .and_then(|()| private::check_directory(&path));
        private.map_err(|source| StoreError::Io { action: "use", path: path.clone(), source })?;
    }
    Directory::open(path)
}

/// Begins a new lineage for a pair whose CoServers have both lost their state. For the operator,
/// while no witness runs on the directory.
///
/// # Errors
/// If the pair is not known there, a witness runs, or writing fails.
pub fn new_lineage(directory: &Path, pair: PairId) -> Result<(Held, Held), StoreError> {
    let mut records = open_records(directory)?;
    let before = records.present(pair)?;
    let after = records.new_lineage(pair)?;
    Ok((before, after))
}

/// A witness, ready to run.
pub struct WitnessServer {
    serving: Loop,
    handle: WitnessHandle,
}

/// Asks a running witness.
#[derive(Debug, Clone)]
pub struct WitnessHandle {
    requests: mpsc::Sender<Request>,
}

/// What the process asks of its witness.
#[derive(Debug)]
enum Request {
    Status(oneshot::Sender<WitnessReport>),
    /// The keys of a place, if the pair is served here.
    Keys(PairId, ReplicaId, oneshot::Sender<Option<Vec<PublicKey>>>),
    /// A place has this key from now on, and no other.
    Replaced(PairId, ReplicaId, PublicKey),
    Stop,
}

impl WitnessHandle {
    /// The state at a glance; `None` if the witness is ending.
    pub async fn status(&self) -> Option<WitnessReport> {
        let (answer, status) = oneshot::channel();
        self.requests.try_send(Request::Status(answer)).ok()?;
        status.await.ok()
    }

    async fn keys(&self, pair: PairId, place: ReplicaId) -> Option<Option<Vec<PublicKey>>> {
        let (answer, keys) = oneshot::channel();
        self.requests.try_send(Request::Keys(pair, place, answer)).ok()?;
        keys.await.ok()
    }

    async fn replaced(&self, pair: PairId, place: ReplicaId, key: PublicKey) -> Option<()> {
        self.requests.send(Request::Replaced(pair, place, key)).await.ok()
    }

    /// Has it end. `false` if it is ending already, or too many wait for it.
    pub fn stop(&self) -> bool {
        self.requests.try_send(Request::Stop).is_ok()
    }
}

impl WitnessServer {
    /// Enrols the pairs that are new, reads the records and opens the port. To be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// What keeps it from starting. A pair whose record is damaged does not: it alone is refused.
    pub fn start<R>(config: WitnessConfig, mut store: R) -> Result<Self, WitnessError>
    where
        R: RecordStore + Send + 'static,
    {
        let clock = Clock::start();
        let mut troubles = Troubles::default();
        let now = clock.mono();
        let loaded =
            load(&mut store, &config, |pair, error| troubles.on_unreadable(now, pair, error))?;
        for (pair, held) in &loaded {
            if let Some(Held { record, behind: Some(told) }) = held {
                troubles.on_behind(now, *pair, Told::from(record), *told);
            }
        }
        let core = Witness::new(clock.mono(), Config { grace: config.grace }, loaded);
        let holders: BTreeMap<PublicKey, (PairId, ReplicaId)> = config.holders();
        let mut network = Network::new(config.credentials);
        // Each place may have as many as the core keeps, and one more that takes their place.
        let most = holders.len().saturating_mul(WITNESS_CONNECTIONS_PER_PLACE + 1);
        network.listen(ListenConfig::witness(config.listen, most))?;
        let store = StoreThread::start(store, config.pairs.len()).map_err(WitnessError::Thread)?;
        let (requests, asked) = mpsc::channel(WAITING);
        let pairs = config.pairs.iter().map(|pair| pair.id).collect();
        let serving =
            Loop::new(core, network, store, clock, holders, pairs, asked).with_troubles(troubles);
        Ok(Self { serving, handle: WitnessHandle { requests } })
    }

    /// For questions while it runs.
    pub fn handle(&self) -> WitnessHandle {
        self.handle.clone()
    }

    /// Serves until it is told to stop. What is being written is written to the end.
    pub async fn run(mut self) {
        self.serving.run().await;
        self.serving.end(FAREWELL).await;
    }
}

/// The records of all pairs: those that the configuration names and the store does not know are
/// enrolled. A store that was wiped is noticed by the epochs that its CoServers tell of.
fn load<R: RecordStore>(
    store: &mut R,
    config: &WitnessConfig,
    mut on_unreadable: impl FnMut(PairId, &StoreError),
) -> Result<Vec<(PairId, Option<Held>)>, StoreError> {
    let mut pairs = BTreeMap::new();
    for (pair, held) in store.load()? {
        let held = match held {
            Ok(held) => Some(held),
            // For want of a descriptor, of which a later start may have one.
            Err(error @ StoreError::Unchanged { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(event = "record_unreadable", %pair, %error);
                on_unreadable(pair, &error);
                None
            }
        };
        pairs.insert(pair, held);
    }
    for pair in &config.pairs {
        if let std::collections::btree_map::Entry::Vacant(entry) = pairs.entry(pair.id) {
            let held = store.enrol(pair.id)?;
            tracing::info!(event = "enrolled", pair = %pair.id);
            entry.insert(Some(held));
        }
    }
    Ok(pairs.into_iter().collect())
}

/// A record in a few words, for operators.
pub fn describe(record: &Record) -> String {
    let member = |place| record.members.at(place).is_some();
    let members = match (member(ReplicaId::A), member(ReplicaId::B)) {
        (true, true) => "both CoServers are members",
        (true, false) => "the CoServer at place a goes on alone",
        (false, true) => "the CoServer at place b goes on alone",
        (false, false) => "not formed yet",
    };
    format!("lineage {}, epoch {}: {members}", record.lineage, record.epoch)
}

#[cfg(test)]
mod tests;
