//! A pair that runs by its command line, as users' programs do, with guardians or without.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lockstep::client::session::{Session, Settings as ClientSettings};
use lockstep::ids::ReplicaId;
use lockstep::runtime::cli::{Application, BuildError, Program};
use lockstep::runtime::config::{ClientConfig, Overrides, Section};
use lockstep::runtime::control::ask;
use lockstep::runtime::coserver::Devices;
use lockstep::runtime::init::{Plan, ServiceSections};
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde_json::Value;

use crate::bigstate::{BigState, Keeping};
use crate::realpair::{AnyError, PLACES};

/// The commands of a pair's processes.
pub const COMMANDS: [&str; 2] = ["coserver", "witness"];

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Within this a pair forms, and a process is back.
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// The program that the processes are.
#[derive(Debug)]
pub struct Parts;

impl Application for Parts {
    type Service = BigState;

    fn program(&self) -> Program {
        let version = env!("CARGO_PKG_VERSION");
        Program { name: "continuity", version, about: "A pair with a state, to be measured." }
    }

    fn build(&self, _: ReplicaId, own: Section) -> Result<(BigState, Devices), BuildError> {
        own.finish()?;
        Ok((BigState::new(Keeping::Shared), Devices::default()))
    }
}

/// The processes. All are killed when this is dropped, and the directory is removed.
#[derive(Debug)]
pub struct ServedPair {
    directory: tempfile::TempDir,
    guarded: bool,
    witness: Option<Child>,
    /// The CoServers, or their guardians.
    coservers: [Option<Child>; 2],
}

impl ServedPair {
    /// Starts witness and CoServers with nothing on their disks, and waits until they are a pair.
    ///
    /// # Errors
    /// What keeps them from being one.
    pub async fn start(
        disk: &Path,
        silence: Option<Duration>,
        guarded: bool,
    ) -> Result<Self, AnyError> {
        let directory = tempfile::Builder::new().prefix("lockstep-served-").tempdir_in(disk)?;
        let mut plan = Plan::new(directory.path());
        (plan.free_ports, plan.silence) = (true, silence);
        plan.write(|_| Ok::<_, io::Error>(ServiceSections::default()))?;
        let mut pair = Self { directory, guarded, witness: None, coservers: [None, None] };
        pair.witness = Some(pair.spawn("witness", "witness", &[])?);
        for place in 0..PLACES.len() {
            pair.start_coserver(place)?;
        }
        pair.wait_for_duplex().await?;
        Ok(pair)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&self, command: &str, name: &str, flags: &[&str]) -> io::Result<Child> {
        let mut spawned = Command::new(std::env::current_exe()?);
        spawned.arg(command).arg("--config").arg(self.path(name).with_extension("toml"));
        let own = getpid().as_raw_nonzero().get().to_string();
        spawned.args(["--log", "error", "--die-with-parent", &own]).args(flags);
        spawned.stdin(Stdio::null()).stdout(Stdio::null()).spawn()
    }

    /// Starts the CoServer at this place.
    ///
    /// # Errors
    /// If no process can be started.
    pub fn start_coserver(&mut self, place: usize) -> Result<(), AnyError> {
        let flags: &[&str] = match self.guarded {
            // As often as there are trials.
            true => &["--guardian", "--restarts", "100000"],
            false => &[],
        };
        self.coservers[place] = Some(self.spawn("coserver", PLACES[place], flags)?);
        Ok(())
    }

    /// Whether the CoServers have guardians, which start them again.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    fn status(&self, place: usize) -> Option<Value> {
        ask(&self.path(PLACES[place]), "status", ANSWER_WITHIN).ok()
    }

    /// The place of the sequencer.
    ///
    /// # Errors
    /// If nobody says.
    pub fn sequencer(&self) -> Result<usize, AnyError> {
        let status = self.status(0).ok_or("CoServer a does not answer")?;
        let place = PLACES.iter().position(|place| status["sequencer"] == *place);
        place.ok_or_else(|| "there is no sequencer".into())
    }

    /// Tells a CoServer something.
    ///
    /// # Errors
    /// If it does not take it.
    pub fn tell(&self, place: usize, command: &str) -> Result<(), AnyError> {
        ask(&self.path(PLACES[place]), command, ANSWER_WITHIN)?;
        Ok(())
    }

    /// The process of a CoServer, to be signalled later without asking first.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn process(&self, place: usize) -> Result<Pid, AnyError> {
        let pid = self.status(place).and_then(|status| status["pid"].as_i64());
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        pid.ok_or_else(|| "no process answers".into())
    }

    /// SIGKILL to a CoServer's own process.
    ///
    /// # Errors
    /// If there is none.
    pub fn kill(&self, process: Pid) -> Result<(), AnyError> {
        Ok(kill_process(process, Signal::KILL)?)
    }

    /// Starts a CoServer again once it has ended.
    ///
    /// # Errors
    /// If it is not there, or none can be started.
    pub fn start_again(&mut self, place: usize) -> Result<(), AnyError> {
        let child = self.coservers[place].as_mut().ok_or("it is not running")?;
        child.wait()?;
        self.start_coserver(place)
    }

    /// Waits until both say that they are a pair.
    ///
    /// # Errors
    /// If they are none in time.
    pub async fn wait_for_duplex(&self) -> Result<(), AnyError> {
        let is_duplex = |place| self.status(place).is_some_and(|it| it["mode"] == "duplex");
        let both = async {
            while !(is_duplex(0) && is_duplex(1)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(BACK_WITHIN, both).await;
        waited.map_err(|_| "the CoServers do not become a pair".into())
    }

    /// A session with the pair.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn session(&self) -> Result<Session, AnyError> {
        let config = ClientConfig::read(&self.path("client.toml"), &Overrides::new())?;
        let mut settings = ClientSettings::new(config.pair, config.coservers, config.credentials);
        settings.open_within = BACK_WITHIN;
        Ok(Session::open(settings).await?)
    }
}

impl Drop for ServedPair {
    fn drop(&mut self) {
        for child in self.coservers.iter_mut().chain([&mut self.witness]).flatten() {
            // A guardian's process ends with it. Fails only where it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
