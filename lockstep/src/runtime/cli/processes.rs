//! The processes that stay: CoServer and witness.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::args::{CoServerArgs, GuardianFlags, WitnessArgs};
use super::guardian::{self, Budget, Guarded};
use super::process::{Heard, Signals};
use super::rejoin::Returns;
use super::reload::{of_coserver, of_witness};
use super::reset::{UNDONE, discard, undo, with_remedy};
use super::starting::Starting;
use super::{Application, BuildError, Failure};
use crate::event::StopCause;
use crate::machine::StateMachine;
use crate::proto::Command;
use crate::runtime::config::{CoServerConfig, WitnessConfig};
use crate::runtime::control::{CoServerControl, DataDirectory, DirectoryError, PeerKeys, serve};
use crate::runtime::coserver::{CoServer, Devices, StartupError};
use crate::runtime::descriptors::{self, DescriptorLimit};
use crate::runtime::exit::Exit;
use crate::runtime::witness::{
    ObjectStoreError, PairKeys, WitnessControl, WitnessError, WitnessServer, open_records,
};

/// A process that ends waits so long for the resolver.
const LOOKUPS_WITHIN: Duration = Duration::from_millis(100);

/// A part could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The service cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The CoServer cannot be started.
    #[error(transparent)]
    CoServer(#[from] StartupError),
    /// The witness cannot be started.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// The object store that serves as the witness cannot be opened.
    #[error(transparent)]
    Store(#[from] ObjectStoreError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The operating system refuses what the process needs.
    #[error(
        "the operating system refuses what the process needs: {0}; see what this user's limits are"
    )]
    System(#[from] io::Error),
}

impl From<&PartError> for Exit {
    fn from(error: &PartError) -> Self {
        match error {
            PartError::Build(error) => error.into(),
            PartError::CoServer(error) => error.into(),
            PartError::Witness(error) => error.into(),
            PartError::Store(error) => error.into(),
            PartError::Directory(error) => error.into(),
            PartError::System(_) => Exit::System,
        }
    }
}

pub(super) fn coserver<A: Application>(app: &A, args: &CoServerArgs) -> Result<Exit, Failure> {
    let guarded = Guarded::find();
    match args.guardian.guardian && guarded.is_none() && !Guarded::is_orphan() {
        true => guard(args),
        false => run(app, args, guarded),
    }
}

/// The parent of a CoServer's process.
fn guard(args: &CoServerArgs) -> Result<Exit, Failure> {
    let signals = Signals::hear().map_err(PartError::from)?;
    args.process.guards.apply()?;
    let overrides = args.overrides();
    let config = CoServerConfig::read(&args.process.config, &overrides)?;
    let filter = args.process.begin_log(config.log.as_deref())?;
    let signals = signals.reloading(of_coserver(&config, overrides.clone(), filter));
    // What is wrong with it the process says, which reads it as well.
    let read_again = || CoServerConfig::read(&args.process.config, &overrides).ok();
    let GuardianFlags { restarts, restart_window, .. } = args.guardian;
    let budget = Budget { starts: restarts, window: restart_window };
    let ended = guardian::guard(&config, read_again, signals, budget).map_err(PartError::from)?;
    // The process has said why it ended, if there was anything to say.
    std::process::exit(ended.code().into())
}

/// A CoServer's process, the child of a guardian or not.
fn run<A: Application>(
    app: &A,
    args: &CoServerArgs,
    guarded: Option<Guarded>,
) -> Result<Exit, Failure> {
    let signals = Signals::hear().map_err(PartError::from)?;
    // A signal that came while the process ran counts when it is about to come back.
    let mut signals_for_return = Signals::hear().map_err(PartError::from)?;
    if let Some(guarded) = guarded {
        guarded.hear();
    }
    let starting = Starting::watch().map_err(PartError::from)?;
    args.process.guards.beneath(guarded.map(|guarded| guarded.pid)).apply()?;
    let returns = Returns::begin();
    let overrides = args.overrides();
    let mut config = CoServerConfig::read(&args.process.config, &overrides)?;
    let filter = args.process.begin_log(config.log.as_deref())?;
    let signals = signals.reloading(of_coserver(&config, overrides, filter));
    warn_of_etc(&config.directory);
    // Before anything else is taken: what another process has here is told by this, not by its
    // addresses.
    let directory = DataDirectory::open(&config.directory).map_err(PartError::from)?;
    let (service, devices) = app.build(config.settings.place, config.service.clone())?;
    // A process that came back is not to do again what was to be done once.
    if returns.is_first() {
        config.settings.adopt = args.disk.adopt;
        if args.disk.discard {
            discard(&config, args.disk)?;
        }
    }
    let pair = config.pair();
    let disk = config.settings.storage.directory.clone();
    let ran = serve_pair(config, directory, (signals, starting), service, devices);
    let cause = match ran {
        Ok(cause) => cause,
        Err(error) => {
            let mut failure = with_remedy(error, pair);
            if undo(&disk, &failure.message)? {
                failure.message += UNDONE;
            }
            return Err(failure);
        }
    };
    let undone = !cause.comes_back() && undo(&disk, &cause.to_string())?;
    if cause.comes_back() && !args.no_return {
        returns.again(&cause, &mut signals_for_return).map_err(PartError::from)?;
        return Ok(Exit::Done);
    }
    let exit = Exit::from(&cause);
    match exit {
        Exit::Done => Ok(exit),
        _ => {
            let message = cause.to_string() + if undone { UNDONE } else { "" };
            Err(Failure { message, exit })
        }
    }
}

/// Runs a CoServer with its control socket, in its directory, until it is told to stop, by a signal
/// too, or is out.
/// Where [`StopCause::comes_back`] is true of what it returns, a new process comes back into the
/// pair.
///
/// # Errors
/// What keeps it from starting.
pub fn run_coserver<S: StateMachine>(
    config: CoServerConfig,
    directory: DataDirectory,
    signals: Signals,
    service: S,
    devices: Devices,
) -> Result<StopCause, PartError> {
    serve_pair(config, directory, (signals, Starting::watch()?), service, devices)
}

/// The same, where signals are heard already beside what may hang until it has started.
fn serve_pair<S: StateMachine>(
    config: CoServerConfig,
    mut directory: DataDirectory,
    (mut signals, starting): (Signals, Starting),
    service: S,
    devices: Devices,
) -> Result<StopCause, PartError> {
    raise_limits();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let name = service.identity().name;
        let place = config.settings.place;
        let credentials = config.credentials.clone();
        let keys = PeerKeys { file: config.file, credentials, place: place.other() };
        let coserver = CoServer::start(config.settings, config.credentials, service, devices)?;
        let listener = directory.listen()?;
        let handle = coserver.handle();
        tokio::spawn(serve(listener, CoServerControl::new(handle.clone(), &name).with_keys(keys)));
        tokio::spawn(async move {
            while signals.next().await == Heard::Reloaded {
                let _ = handle.repinned();
            }
            let _ = handle.command(Command::Stop);
        });
        drop(starting);
        let incarnation = coserver.incarnation();
        match Guarded::find() {
            Some(guarded) => guarded.hold(incarnation).await,
            None if Guarded::is_orphan() => tracing::warn!(event = "guardian_gone"),
            None => {}
        }
        tracing::info!(event = "started", %place, service = name, %incarnation);
        let cause = coserver.run().await;
        tracing::info!(event = "ended", %place, %cause);
        Ok(cause)
    });
    // Not longer: a name that is being looked up would hold up the end.
    runtime.shutdown_timeout(LOOKUPS_WITHIN);
    ended
}

/// Every later bound on connections counts from here.
fn raise_limits() {
    let DescriptorLimit { before, now } = descriptors::raise();
    tracing::info!(event = "descriptors", before, limit = now, "the limit on file descriptors");
}

pub(super) fn witness(args: &WitnessArgs) -> Result<Exit, Failure> {
    let signals = Signals::hear().map_err(PartError::from)?;
    let starting = Starting::watch().map_err(PartError::from)?;
    args.process.guards.apply()?;
    let overrides = args.overrides();
    let config = WitnessConfig::read(&args.process.config, &overrides)?;
    let filter = args.process.begin_log(config.log.as_deref())?;
    let signals = signals.reloading(of_witness(&config, overrides, filter));
    serve_pairs(config, signals, starting)?;
    Ok(Exit::Done)
}

/// Runs a witness on its directory, with its control socket, until it is told to stop, by a
/// signal too.
///
/// # Errors
/// What keeps it from starting.
pub fn run_witness(config: WitnessConfig, signals: Signals) -> Result<(), PartError> {
    serve_pairs(config, signals, Starting::watch()?)
}

/// The same, where signals are heard already beside what may hang until it has started.
fn serve_pairs(
    config: WitnessConfig,
    mut signals: Signals,
    starting: Starting,
) -> Result<(), PartError> {
    warn_of_etc(&config.directory);
    raise_limits();
    // Given back after the runtime, and with it the port, is gone.
    let mut directory = DataDirectory::open(&config.directory)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let records = open_records(&config.directory).map_err(WitnessError::from)?;
    runtime.block_on(async {
        let listen = config.listen;
        let keys = PairKeys { file: config.file.clone(), credentials: config.credentials.clone() };
        let server = WitnessServer::start(config, records)?;
        let listener = directory.listen()?;
        let handle = server.handle();
        tokio::spawn(serve(listener, WitnessControl::new(handle.clone()).with_keys(keys)));
        tokio::spawn(async move {
            signals.told().await;
            let _ = handle.stop();
        });
        drop(starting);
        tracing::info!(event = "started", %listen);
        server.run().await;
        tracing::info!(event = "ended");
        Ok(())
    })
}

/// Relative directories of a configuration that was moved to `/etc` end there.
fn warn_of_etc(directory: &Path) {
    if is_in_etc(directory) {
        tracing::warn!(
            event = "directory_in_etc",
            directory = %directory.display(),
            "data does not belong under /etc: write an absolute path for `directory`, under /var/lib say"
        );
    }
}

fn is_in_etc(directory: &Path) -> bool {
    std::path::absolute(directory).is_ok_and(|directory| directory.starts_with("/etc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_under_etc_is_noticed() {
        for directory in ["/etc/relay/a", "/etc"] {
            assert!(is_in_etc(Path::new(directory)), "{directory}");
        }
        for directory in ["/var/lib/relay/a", "a", "/etcetera/a", "etc/a"] {
            assert!(!is_in_etc(Path::new(directory)), "{directory}");
        }
    }
}
