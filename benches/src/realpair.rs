//! A pair of CoServer processes with the big state, its witness, and a session with it: for what
//! is measured while one of them is killed and started again.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lockstep::client::session::{Session, Settings as ClientSettings};
use lockstep::runtime::config::{ClientConfig, CoServerConfig, Overrides, WitnessConfig};
use lockstep::runtime::control::DataDirectory;
use lockstep::runtime::coserver::{CoServer, Devices};
use lockstep::runtime::init::{Plan, ServiceSections};
use lockstep::runtime::logging::{self, LogFormat};
use lockstep::runtime::witness::{WitnessServer, open_records};
use lockstep::store::replica::StorageSettings;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::sync::mpsc;

use crate::bigstate::{BigState, Keeping};
use crate::part::current_thread;

/// The hidden word that makes a program one of the pair's processes.
pub const ROLE_WORD: &str = "role";

/// The places, as files and directories are named.
pub const PLACES: [&str; 2] = ["a", "b"];

/// Small files of the journal, so that old entries are dropped soon.
const SEGMENT_BYTES: u64 = 4 << 20;

/// What a CoServer keeps of its journal: enough for an absence of some seconds.
pub const JOURNAL_KEEP_BYTES: u64 = 32 << 20;

/// A witness grants nothing for its first two seconds, and the machine may be busy.
const FORMED_WITHIN: Duration = Duration::from_secs(30);

/// Whatever went wrong; the text is what the operator reads.
pub type AnyError = Box<dyn std::error::Error>;

/// How the pair is set up.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// How the state is kept.
    pub keeping: Keeping,
    /// Bytes of entries between two checkpoints.
    pub checkpoint_bytes: u64,
    /// The silence that is taken for a death.
    pub silence: Duration,
    /// Most bytes a second for a joiner.
    pub join_rate: u64,
}

/// Something that a CoServer reported.
#[derive(Clone, Debug)]
pub struct Reported {
    /// When the line was read.
    pub at: Instant,
    /// Which CoServer: 0 or 1.
    pub place: usize,
    /// The event's stable name.
    pub name: String,
    /// The whole line.
    pub line: serde_json::Value,
}

impl Reported {
    /// The number in this field.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.line[name].as_u64()
    }
}

/// The processes. All are killed when this is dropped, and the directory is removed.
pub struct RealPair {
    directory: tempfile::TempDir,
    choices: Choices,
    witness: Option<Child>,
    coservers: [Option<Child>; 2],
    said: mpsc::UnboundedSender<Reported>,
    reported: mpsc::UnboundedReceiver<Reported>,
    /// Everything that was reported so far.
    pub history: Vec<Reported>,
}

impl RealPair {
    /// Starts witness and CoServers with nothing on their disks. To be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// What keeps them from being started.
    pub fn start(disk: &Path, choices: Choices) -> Result<Self, AnyError> {
        let directory = tempfile::Builder::new().prefix("lockstep-pair-").tempdir_in(disk)?;
        let mut plan = Plan::new(directory.path());
        (plan.free_ports, plan.silence) = (true, Some(choices.silence));
        plan.write(|_| Ok::<_, io::Error>(ServiceSections::default()))?;
        let (said, reported) = mpsc::unbounded_channel();
        let (witness, coservers, history) = (None, [None, None], Vec::new());
        let mut pair = Self { directory, choices, witness, coservers, said, reported, history };
        let file = pair.file("witness");
        pair.witness = Some(role(&["witness".into(), file]).spawn()?);
        pair.start_coserver(0)?;
        pair.start_coserver(1)?;
        Ok(pair)
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).with_extension("toml").to_string_lossy().into_owned()
    }

    /// Starts the CoServer at this place. To be called within a tokio runtime.
    ///
    /// # Errors
    /// If no process can be started.
    pub fn start_coserver(&mut self, place: usize) -> Result<(), AnyError> {
        let Choices { keeping, checkpoint_bytes, join_rate, .. } = self.choices;
        let keeping = match keeping {
            Keeping::Shared => "shared",
            Keeping::Copied => "copied",
        };
        let words = ["coserver".into(), self.file(PLACES[place]), keeping.into()];
        let numbers = [checkpoint_bytes, join_rate].map(|number| number.to_string());
        let mut command = role(&[&words[..], &numbers[..]].concat());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let lines = child.stderr.take().ok_or("no standard error")?;
        let said = self.said.clone();
        tokio::task::spawn_blocking(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                if said.send(read_line(place, &line)).is_err() {
                    return;
                }
            }
        });
        self.coservers[place] = Some(child);
        Ok(())
    }

    /// SIGKILL, and its end waited for.
    ///
    /// # Errors
    /// If it is not there.
    pub fn kill(&mut self, place: usize) -> Result<(), AnyError> {
        let mut child = self.coservers[place].take().ok_or("it is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Removes what a CoServer that does not run has on its disk.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn wipe(&self, place: usize) -> Result<(), AnyError> {
        Ok(std::fs::remove_dir_all(self.directory.path().join(PLACES[place]))?)
    }

    /// Waits for an event of this name at this place, and takes note of all others.
    ///
    /// # Errors
    /// If it does not come in time.
    pub async fn wait_for(
        &mut self,
        place: usize,
        name: &str,
        within: Duration,
    ) -> Result<Reported, AnyError> {
        let next = async {
            while let Some(reported) = self.reported.recv().await {
                self.history.push(reported.clone());
                if reported.place == place && reported.name == name {
                    return Some(reported);
                }
            }
            None
        };
        let found = tokio::time::timeout(within, next).await;
        found.ok().flatten().ok_or_else(|| self.missed(name, PLACES[place], within))
    }

    /// Waits until both CoServers have reported an event of this name, in whatever order. What
    /// was reported and not looked at yet counts.
    ///
    /// # Errors
    /// If one of them does not in time.
    pub async fn wait_for_both(&mut self, name: &str, within: Duration) -> Result<(), AnyError> {
        let mut missing = vec![0, 1];
        let both = async {
            while !missing.is_empty()
                && let Some(reported) = self.reported.recv().await
            {
                if reported.name == name {
                    missing.retain(|place| *place != reported.place);
                }
                self.history.push(reported);
            }
        };
        let waited = tokio::time::timeout(within, both).await;
        let of = || missing.iter().map(|place| PLACES[*place]).collect::<Vec<_>>().join(" and ");
        waited.map_err(|_| self.missed(name, &of(), within))
    }

    fn missed(&self, name: &str, of: &str, within: Duration) -> AnyError {
        let last = self.history.iter().rev().take(12).rev();
        let last: Vec<_> =
            last.map(|said| format!("{}: {} {}", said.place, said.name, said.line)).collect();
        format!("no {name} of {of} within {within:?}; last:\n{}", last.join("\n")).into()
    }

    /// Takes note of what was reported by now.
    pub fn note(&mut self) {
        while let Ok(reported) = self.reported.try_recv() {
            self.history.push(reported);
        }
    }

    /// A session with the pair.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn session(&self) -> Result<Session, AnyError> {
        let file = PathBuf::from(self.file("client"));
        let config = ClientConfig::read(&file, &Overrides::new())?;
        let mut settings = ClientSettings::new(config.pair, config.coservers, config.credentials);
        settings.open_within = FORMED_WITHIN;
        Ok(Session::open(settings).await?)
    }

    /// Kilobytes of memory of a CoServer: at present, and the most since [`Self::forget_peak`].
    ///
    /// # Errors
    /// If the system does not say.
    pub fn memory(&self, place: usize) -> Result<(u64, u64), AnyError> {
        let text = std::fs::read_to_string(self.process(place, "status")?)?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let both = field("VmRSS:").zip(field("VmHWM:"));
        both.ok_or_else(|| "the system does not say how much memory it has".into())
    }

    /// Lets the peak begin anew with what there is.
    ///
    /// # Errors
    /// If the system does not permit it.
    pub fn forget_peak(&self, place: usize) -> Result<(), AnyError> {
        Ok(std::fs::write(self.process(place, "clear_refs")?, "5")?)
    }

    fn process(&self, place: usize, file: &str) -> Result<PathBuf, AnyError> {
        let child = self.coservers[place].as_ref().ok_or("it is not running")?;
        Ok(PathBuf::from(format!("/proc/{}/{file}", child.id())))
    }
}

impl Drop for RealPair {
    fn drop(&mut self) {
        for child in self.coservers.iter_mut().chain([&mut self.witness]).flatten() {
            // Fails only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn role(words: &[String]) -> Command {
    let own = std::env::current_exe().unwrap_or_default();
    let mut command = Command::new(own);
    command.arg(ROLE_WORD).args(words).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[expect(clippy::disallowed_methods, reason = "measuring time is what this is for")]
fn read_line(place: usize, line: &str) -> Reported {
    let at = Instant::now();
    let json: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    let name = json["event"].as_str().unwrap_or("message").to_owned();
    Reported { at, place, name, line: json }
}

/// Plays the role that the words after [`ROLE_WORD`] say.
pub fn play(words: &[String]) -> ExitCode {
    match try_play(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                text += &format!(": {inner}");
                source = inner.source();
            }
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{text}\n"));
            ExitCode::FAILURE
        }
    }
}

fn try_play(words: &[String]) -> Result<(), AnyError> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match words {
        [role, file] if role == "witness" => {
            logging::begin("error", LogFormat::Json)?;
            witness(Path::new(file))
        }
        [role, file, keeping, checkpoint_bytes, join_rate] if role == "coserver" => {
            logging::begin("info", LogFormat::Json)?;
            let (checkpoint_bytes, join_rate) = (checkpoint_bytes.parse()?, join_rate.parse()?);
            coserver(Path::new(file), keeping.parse()?, |storage| {
                storage.segment_bytes = SEGMENT_BYTES;
                storage.checkpoints_kept = 1;
                storage.journal_keep_bytes = JOURNAL_KEEP_BYTES;
                (storage.checkpoint_bytes, storage.join_rate) = (checkpoint_bytes, join_rate);
            })
        }
        _ => Err("these words are written by the benchmark only".into()),
    }
}

fn witness(file: &Path) -> Result<(), AnyError> {
    let config = WitnessConfig::read(file, &Overrides::new())?;
    let _lock = DataDirectory::open(&config.directory)?;
    let records = open_records(&config.directory)?;
    current_thread()?.block_on(async {
        WitnessServer::start(config, records)?.run().await;
        Ok(())
    })
}

fn coserver(
    file: &Path,
    keeping: Keeping,
    adjust: impl FnOnce(&mut StorageSettings),
) -> Result<(), AnyError> {
    let mut config = CoServerConfig::read(file, &Overrides::new())?;
    std::fs::create_dir_all(&config.directory)?;
    adjust(&mut config.settings.storage);
    current_thread()?.block_on(async {
        let service = BigState::new(keeping);
        let coserver =
            CoServer::start(config.settings, config.credentials, service, Devices::default())?;
        let mut running = tokio::task::JoinSet::new();
        running.spawn(coserver.run());
        running.join_next().await;
        Ok(())
    })
}
