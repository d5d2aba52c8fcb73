//! A CoServer process: one replica of a service, its links, its clients and its devices.
//!
//! ```no_run
//! # use lockstep::runtime::coserver::{CoServer, Devices, Settings};
//! # use lockstep::runtime::tls::Credentials;
//! # async fn example<S: lockstep::machine::StateMachine>(
//! #     settings: Settings, credentials: Credentials, service: S,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let coserver = CoServer::start(settings, credentials, service, Devices::default())?;
//! let handle = coserver.handle();
//! let cause = coserver.run().await;
//! println!("ended: {cause}");
//! # Ok(())
//! # }
//! ```
//!
//! # The way of an input
//!
//! Everything but what blocks runs on one thread, in one task: waking a sleeping thread costs
//! more than the rest of an input's way. The loop takes what has arrived, gives it to the
//! replica's core, sends what the core says, yields once so that the packets leave, and only then
//! executes the service. With [`Execution::Thread`] the service has a thread of its own, reached
//! by a bounded queue each way.

mod clients;
mod connections;
mod echoes;
mod engine;
mod events;
mod executor;
mod handle;
mod intake;
mod metrics;
mod overdue;
mod persistence;
mod settings;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use crate::device::{Descriptors, Device, DeviceTable, Outside, Setup, StartError};
use crate::digest::{Digest, Hasher};
use crate::event::{Event, StopCause, Wait};
use crate::ids::{DeviceId, Incarnation, MonotonicTime};
use crate::limits::{self, NAME_BYTES};
use crate::machine::{Identity, StateMachine};
use crate::proto::{Config, Replica, Standing};
use crate::runtime::clock::Clock;
use crate::runtime::descriptors::{self, TooFew};
use crate::runtime::entropy::{self, NoEntropy};
use crate::runtime::memory::Memory;
use crate::runtime::quic::BindError;
use crate::runtime::storage::{self, Locked, Opened, Storage, StorageError};
use crate::runtime::tls::Credentials;
use crate::runtime::witness::ObjectStoreError;
use crate::store::replica::{Durability, Who};
use crate::unit;
use crate::wire::frames::{Environment, Versions};

pub use clients::{ClientCounts, ClientMetrics, ClientsMetrics};
pub use executor::ExecutorError;
pub use handle::{Handle, Unanswered};
pub use metrics::{Counters, DescriptorMetrics, Joining, MetricsSnapshot, StorageMetrics};
pub use settings::{Execution, LinkAddresses, Settings, SettingsError, WitnessAddress};

use connections::Connections;
use engine::Engine;
use executor::Executor;
use metrics::Metrics;
use overdue::Overdue;
use persistence::Recovery;

/// A CoServer told to stop waits this long for its farewell to reach the peer and its devices to
/// say theirs.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(200);

/// A CoServer that ends waits this long for its disk; one that hangs must not hang the process.
const DISK_WITHIN: Duration = Duration::from_secs(5);

/// Why a CoServer could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The settings are out of their bounds, or contradict each other.
    #[error("the settings cannot be used")]
    Settings(#[from] SettingsError),
    /// A port cannot be opened.
    #[error("a port cannot be opened")]
    Bind(#[from] BindError),
    /// The object store that serves as the witness cannot be opened.
    #[error(transparent)]
    Store(#[from] ObjectStoreError),
    /// A device cannot be started.
    #[error(transparent)]
    Device(#[from] StartError),
    /// The service's thread cannot be started.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The service's name is too short or too long.
    #[error("the service's name has {bytes} bytes: give it 1 to {NAME_BYTES}")]
    ServiceName {
        /// Length of the name in bytes.
        bytes: usize,
    },
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used", directory.display())]
    Storage {
        /// The data directory.
        directory: PathBuf,
        /// Why it cannot be used.
        source: StorageError,
    },
    /// A queue cannot be made.
    #[error("a queue cannot be made")]
    Queue(#[from] crate::sync::CapacityError),
    /// The system gives no randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The limit on file descriptors is too low.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The program was built so that a panic ends the process.
    #[error(transparent)]
    Panics(#[from] unit::AbortRefused),
}

/// The outside halves of a service's devices and the table that names them: what
/// [`Application::build`](crate::runtime::cli::Application::build) gives beside the service.
///
/// A service whose clients all use the client library has none (`Devices::default()`). A
/// service that is written against `io-redirect` has those of its wrapper. `table` is a clone
/// of `Wrapper::devices`. `outsides` has, in the table's order, a `TcpOutside` for TCP and
/// one half for each device of its own. The whole of it is an example at the head of that
/// crate's documentation. The halves are started by the CoServer, at its own place; they
/// serve when it does.
#[derive(Default)]
pub struct Devices {
    /// The table; its digest is part of what the CoServers compare.
    pub table: DeviceTable,
    /// One outside half for each row, in the same order; a start with more or fewer is refused.
    pub outsides: Vec<Box<dyn Outside>>,
}

/// A CoServer, ready to run.
pub struct CoServer<S: StateMachine> {
    engine: Engine<S>,
    handle: Handle,
    incarnation: Incarnation,
    linger: Duration,
}

impl<S: StateMachine> CoServer<S> {
    /// Opens the disk and the ports and starts the devices. To be called within a tokio runtime;
    /// a current-thread one is fastest.
    ///
    /// Waits for the disk, and reads the journal once: before this the process serves no client.
    ///
    /// # Errors
    /// What keeps the CoServer from starting. Nothing is left open.
    pub fn start(
        settings: Settings,
        credentials: Credentials,
        service: S,
        devices: Devices,
    ) -> Result<Self, StartupError> {
        unit::check_unwinding()?;
        settings.check()?;
        let locked = Locked::take(&settings.storage.directory).map_err(unusable(&settings))?;
        Self::start_on(locked, settings, credentials, service, devices)
    }

    /// The same on a directory that is had already.
    fn start_on(
        locked: Locked,
        settings: Settings,
        credentials: Credentials,
        service: S,
        devices: Devices,
    ) -> Result<Self, StartupError> {
        check_name(&service.identity())?;
        let clock = Clock::start();
        let mut boot = entropy::boot()?;
        let incarnation = boot.incarnation;
        let config = core_config(&settings, &service, &devices.table);
        // What a replica may hold and not have released; the core's own bound of its window.
        let window = 2 * (settings.window_entries + limits::WINDOW_RESERVE);
        let (pair, place) = (settings.pair, settings.place);
        let who = Who { pair, place, service: replayed_by(&service, &devices.table) };
        let salt = entropy::nonce()?.0;
        let overdue = watch_disk();
        if settings.adopt {
            storage::take_back(&*locked.directory, &who).map_err(unusable(&settings))?;
        }
        let opened =
            Storage::open(locked, who, &settings.storage, settings.adopt, salt, window, clock);
        let Opened { storage, disk, damage } = opened.map_err(unusable(&settings))?;
        drop(overdue);
        (boot.disk, boot.adopt) = (disk, settings.adopt);
        let connections = Connections::open(&settings, credentials, S::is_read_only)?;
        let ids: Vec<_> = devices.table.iter().map(|(id, _)| id).collect();
        let (intake, inputs) = intake::intake(&ids);
        let device_names = devices.table.iter().map(|(_, row)| row.name.clone()).collect();
        // Now that everything is open that stays open.
        let wanted = devices.outsides.iter().map(|outside| outside.connections());
        let descriptors = descriptors::share_out(wanted.fold(0, u32::saturating_add))?;
        let memory = Memory::look(
            &settings,
            service.memory_bound(),
            intake::bytes_of_all(devices.table.len()),
        );
        memory.say();
        let inputs_of = |device| crate::device::Inputs::new(device, intake.clone());
        let started = start_devices(&settings, incarnation, devices, inputs_of, &descriptors)?;
        let (handle, handled) = handle::handle()?;
        let mut engine = Engine {
            replica: Replica::new(config, boot, clock.now()),
            connections,
            executor: Executor::start(service, settings.execution, window)?,
            storage,
            adopts: settings.adopt,
            recovery: damage.map_or(Recovery::None, |why| Recovery::Lost { why }),
            devices: started,
            device_names,
            descriptors,
            memory,
            inputs,
            handled,
            _handle: handle.clone(),
            clock,
            handled_at: MonotonicTime(0),
            metrics: Metrics::new(),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            sleep_until: None,
            to_execute: VecDeque::new(),
            echo: None,
            place,
            longest_step: Duration::ZERO,
            stopped: None,
        };
        engine.tell_devices(Standing::Starting);
        Ok(Self { engine, handle, incarnation, linger: settings.linger })
    }

    /// For questions and commands while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The incarnation of this process.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Runs until the CoServer is told to stop, or is out of the pair. A CoServer that is out
    /// first refuses its clients for the configured time.
    ///
    /// Where [`StopCause::comes_back`] is true a new process, or another [`start`](Self::start)
    /// with a new service, comes back into the pair; the command line does so by itself
    /// ([`cli`](crate::runtime::cli)). When this returns the ports and the directory are free,
    /// unless the disk hangs.
    pub async fn run(mut self) -> StopCause {
        let cause = self.engine.run().await;
        let linger = match cause {
            StopCause::Asked => LEAVE_TIMEOUT,
            _ => self.linger,
        };
        let until = self.engine.clock.mono().plus(linger);
        self.engine.linger(until).await;
        let Engine { mut devices, mut inputs, connections, storage, replica, .. } = self.engine;
        inputs.close();
        devices.iter_mut().for_each(|device| device.stop());
        connections.shutdown(&cause.to_string()).await;
        storage.close(replica.mark(), DISK_WITHIN).await;
        cause
    }
}

fn check_name(service: &Identity) -> Result<(), StartupError> {
    match service.name.len() {
        1..=NAME_BYTES => Ok(()),
        bytes => Err(StartupError::ServiceName { bytes }),
    }
}

/// Says, while it lasts, that the start waits for its disk: the core, which says the like of what
/// comes later, is not there yet.
fn watch_disk() -> Overdue {
    let wait = Wait::Disk;
    Overdue::watch(limits::SAID_FIRST, move |span| {
        events::log(&Event::WaitsFor { wait, span }, None)
    })
}

fn unusable(settings: &Settings) -> impl FnOnce(StorageError) -> StartupError {
    let directory = settings.storage.directory.clone();
    move |source| StartupError::Storage { directory, source }
}

fn start_devices(
    settings: &Settings,
    incarnation: Incarnation,
    devices: Devices,
    inputs: impl Fn(DeviceId) -> crate::device::Inputs,
    descriptors: &Descriptors,
) -> Result<Vec<Box<dyn Device>>, StartError> {
    (0..=u16::MAX)
        .map(DeviceId)
        .zip(devices.outsides)
        .map(|(device, outside)| {
            let inputs = inputs(device);
            let descriptors = descriptors.clone();
            let place = settings.place;
            outside.start(Setup { device, place, incarnation, inputs, descriptors })
        })
        .collect()
}

fn core_config<S: StateMachine>(settings: &Settings, service: &S, table: &DeviceTable) -> Config {
    let identity = replayed_by(service, table);
    Config {
        pair: settings.pair,
        place: settings.place,
        links: u8::try_from(settings.links.len()).unwrap_or(u8::MAX),
        environment: Environment {
            service: identity.name,
            service_version: identity.version,
            configuration: shared_digest(settings, identity.configuration),
            protocol: Versions::SPOKEN,
        },
        silence: settings.silence,
        silence_floor: settings.silence_floor,
        heartbeat: settings.heartbeat,
        slow_limit: settings.slow_limit,
        forward_delay: settings.forward_delay,
        hold_limit: settings.hold_limit,
        window_entries: settings.window_entries,
        window_bytes: settings.window_bytes,
        divergence: settings.divergence,
        witnesses: 1 + u8::from(settings.alternate.is_some()),
        witness_patience: settings.witness_patience,
        meeting: settings.meeting,
        clock_step: settings.clock_step,
        gap_least: limits::GAP_LEAST,
        clock_slew: settings.clock_slew,
        checkpoint_bytes: settings.storage.checkpoint_bytes,
        join_rate: settings.storage.join_rate,
    }
}

/// What the outcome of a replay depends on: the service with its settings, its devices, and the
/// bounds within which the engine steps it.
fn replayed_by<S: StateMachine>(service: &S, table: &DeviceTable) -> Identity {
    let mut identity = service.identity();
    let mut hasher = Hasher::after(identity.configuration);
    hasher.bytes(&table.digest().0).bytes(&unit::UnitConfig::default().digest().0);
    identity.configuration = hasher.finish();
    identity
}

/// Everything that must be the same on both: what a replay depends on, and the bounds and the
/// policy that both act on.
fn shared_digest(settings: &Settings, replayed_by: Digest) -> Digest {
    use crate::proto::DivergencePolicy::{Hold, Prefer, Sequencer};
    let mut hasher = Hasher::after(replayed_by);
    hasher
        .number(settings.links.len() as u64)
        .number(settings.window_entries as u64)
        .number(settings.window_bytes as u64)
        .number(settings.client_connections as u64)
        .number(settings.storage.checkpoint_bytes)
        .byte(match settings.storage.durability {
            Durability::Journal => 0,
            Durability::Memory => 1,
        })
        .byte(match settings.divergence {
            Sequencer => 0,
            Prefer(place) => 1 + place.slot() as u8,
            Hold => 3,
        });
    hasher.finish()
}
