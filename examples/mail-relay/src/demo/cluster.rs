//! The processes: next hop, witness, two CoServers. All of them die with this one.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lockstep::ids::ReplicaId;
use lockstep::runtime::control::{AskError, ask};
use lockstep::runtime::init::{InitError, Plan};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use super::say;
use crate::app::RelayApp;

/// Until the pair is duplex.
pub(super) const FORMATION: Duration = Duration::from_secs(20);
/// An answer at a control socket.
const ANSWER: Duration = Duration::from_secs(2);
/// Time between two looks at both statuses.
const LOOK: Duration = Duration::from_millis(10);
/// A process told to end.
const ENDING: Duration = Duration::from_secs(3);

/// The demonstration cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// The operating system refuses what the demonstration needs.
    #[error("the operating system refuses what the demonstration needs: {0}")]
    System(#[from] io::Error),
    /// The pair's configuration cannot be written.
    #[error("the pair's configuration cannot be written")]
    Init(#[from] InitError),
    /// A process does not say what it should.
    #[error("{name} did not start; it said:\n{log}")]
    NotStarted {
        /// The name of the process.
        name: &'static str,
        /// The end of the process's log.
        log: String,
    },
    /// The pair does not become redundant.
    #[error("the pair is not duplex after {} s; the CoServers said:\n{log}", FORMATION.as_secs())]
    NotDuplex {
        /// The end of both logs.
        log: String,
    },
    /// A process ended that was not to.
    #[error("{name} ended by itself; it said:\n{log}")]
    Ended {
        /// The name of the process.
        name: &'static str,
        /// The end of the process's log.
        log: String,
    },
    /// A process gives no answer about its state.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No CoServer is the sequencer.
    #[error("no CoServer says that it is the sequencer: {0}")]
    NoSequencer(String),
    /// A signal ended the demonstration.
    #[error("interrupted")]
    Interrupted,
}

/// What the next hop says of a mail.
pub(super) struct Delivered {
    pub(super) number: Option<u64>,
    pub(super) run: String,
    pub(super) sound: bool,
}

struct Member {
    name: &'static str,
    child: Child,
    /// Whether it was killed on purpose.
    killed: bool,
}

/// The processes and their directory.
pub(super) struct Cluster {
    directory: Option<TempDir>,
    path: PathBuf,
    keep: bool,
    sink: Lines<BufReader<ChildStdout>>,
    listen: [SocketAddr; 2],
    /// Next hop, witness, `a`, `b`.
    members: Vec<Member>,
}

/// Asks both CoServers how they are, on a thread of its own: senders and clocks are not to wait.
#[derive(Clone)]
pub(super) struct Watch {
    path: PathBuf,
}

impl Watch {
    /// Waits until both say that they are duplex.
    pub(super) async fn duplex(&self) {
        loop {
            let path = self.path.clone();
            let both = move || ReplicaId::BOTH.map(|place| status(&path, place).ok());
            let both = tokio::task::spawn_blocking(both).await.unwrap_or_default();
            let is_duplex = |status: &Option<serde_json::Value>| {
                status.as_ref().is_some_and(|status| status["mode"] == "duplex")
            };
            if both.iter().all(is_duplex) {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

fn status(path: &Path, place: ReplicaId) -> Result<serde_json::Value, AskError> {
    ask(&path.join(place.to_string()), "status", ANSWER)
}

const NAMES: [&str; 4] = ["next-hop", "witness", "a", "b"];

impl Cluster {
    pub(super) async fn start(keep: bool) -> Result<Cluster, CrewError> {
        let directory = tempfile::Builder::new().prefix("mail-relay-demo-").tempdir()?;
        let path = directory.path().join("pair");
        let logs = directory.path().to_owned();
        let sink_args = ["sink", "--listen", "127.0.0.1:0"];
        let mut hop = spawn(NAMES[0], &sink_args, &logs, Stdio::piped())?;
        let stdout = hop.child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut sink = BufReader::new(stdout).lines();
        let first = timeout(FORMATION, sink.next_line()).await;
        let address = first.ok().transpose()?.flatten();
        let Some(address) =
            address.and_then(|line| Some(line.strip_prefix("listening ")?.to_owned()))
        else {
            return Err(CrewError::NotStarted { name: NAMES[0], log: log(&logs, NAMES[0]) });
        };
        let mut plan = Plan::new(&path);
        plan.free_ports = true;
        let app = RelayApp { next_hop: address };
        let mut listen = Vec::new();
        plan.write(|ports| {
            use lockstep::runtime::cli::Application as _;
            app.init(ports)
        })?;
        for place in ReplicaId::BOTH {
            let file = path.join(format!("{place}.toml"));
            listen.push(listen_address(&file)?);
            keep_little(&file)?;
        }
        let mut cluster = Cluster {
            directory: Some(directory),
            path,
            keep,
            sink,
            listen: [listen[0], listen[1]],
            members: vec![hop],
        };
        for name in &NAMES[1..] {
            let member = cluster.run(name)?;
            cluster.members.push(member);
        }
        cluster.wait_for_duplex().await?;
        Ok(cluster)
    }

    fn run(&self, name: &'static str) -> Result<Member, CrewError> {
        let config = self.path.join(format!("{name}.toml"));
        let config = config.to_string_lossy();
        let args: &[&str] = match name {
            "witness" => &["witness", "--config", &config],
            // What is killed is started again when its turn comes.
            _ => &["coserver", "--config", &config, "--guardian", "--restarts", "0"],
        };
        spawn(name, args, &self.logs(), Stdio::null())
    }

    async fn wait_for_duplex(&mut self) -> Result<(), CrewError> {
        let watch = self.watch();
        let duplex = timeout(FORMATION, watch.duplex()).await;
        self.check()?;
        duplex.map_err(|_| self.not_duplex())
    }

    /// What looks at the pair while the crew does other things.
    pub(super) fn watch(&self) -> Watch {
        Watch { path: self.path.clone() }
    }

    pub(super) fn not_duplex(&self) -> CrewError {
        CrewError::NotDuplex { log: format!("{}{}", self.log("a"), self.log("b")) }
    }

    /// Says who is there.
    pub(super) fn introduce(&self) {
        let pids: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{} {}", member.name, member.child.id().unwrap_or(0)))
            .collect();
        say(&format!("processes: {}", pids.join(", ")));
        let [a, b] = self.listen;
        say(&format!("the pair is duplex; a takes mail at {a}, b at {b}\n"));
    }

    pub(super) fn listen(&self) -> [SocketAddr; 2] {
        self.listen
    }

    /// A name for this run's mails.
    pub(super) fn run_name(&self) -> String {
        let directory = self.directory.as_ref().map(|directory| directory.path().to_owned());
        let name =
            directory.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = name.unwrap_or_default();
        format!("run{}", name.rsplit('-').next().unwrap_or_default())
    }

    pub(super) fn sequencer(&self) -> Result<ReplicaId, CrewError> {
        let mut said = String::new();
        for place in ReplicaId::BOTH {
            match status(&self.path, place) {
                Ok(status) if status["role"] == "sequencer" => return Ok(place),
                Ok(status) => said.push_str(&format!("{place} is {} ", status["role"])),
                Err(error) => said.push_str(&format!("{place}: {error} ")),
            }
        }
        Err(CrewError::NoSequencer(said))
    }

    /// SIGKILL: no handler runs, the process says nothing to anybody. Its guardian outlives it.
    pub(super) fn kill(&mut self, place: ReplicaId) -> Result<(), CrewError> {
        let pid = status(&self.path, place).ok().and_then(|status| status["pid"].as_i64());
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other(format!("CoServer {place} says no pid")))?;
        self.members[2 + place.slot()].killed = true;
        kill_process(pid, Signal::KILL).map_err(io::Error::from)?;
        Ok(())
    }

    /// Starts the CoServer at a place again, with the disk that it had.
    pub(super) async fn start_again(&mut self, place: ReplicaId) -> Result<(), CrewError> {
        let at = 2 + place.slot();
        // Until it is gone its directory is locked.
        self.members[at].child.wait().await?;
        let member = self.run(self.members[at].name)?;
        self.members[at] = member;
        Ok(())
    }

    /// Bytes of entries and checkpoints that the other one was sent, by the log of the CoServer
    /// at this place.
    pub(super) fn sent_to_joiner(&self, place: ReplicaId) -> u64 {
        let file = self.logs().join(format!("{}.log", NAMES[2 + place.slot()]));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let event = text.lines().rfind(|line| line.contains("event=\"duplex\""));
        let number = event.and_then(|line| line.split_once(" sent=")?.1.split(' ').next());
        number.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }

    /// Whether everybody is there who should be.
    pub(super) fn check(&mut self) -> Result<(), CrewError> {
        let logs = self.logs();
        for member in self.members.iter_mut().filter(|member| !member.killed) {
            if member.child.try_wait()?.is_some() {
                let name = member.name;
                return Err(CrewError::Ended { name, log: log(&logs, name) });
            }
        }
        Ok(())
    }

    /// The next mail that comes out. Cancelling it loses none.
    pub(super) async fn next_mail(&mut self) -> Result<Delivered, CrewError> {
        let line = self.sink.next_line().await?;
        let Some(line) = line else {
            return Err(CrewError::Ended { name: NAMES[0], log: self.log(NAMES[0]) });
        };
        let words: Vec<&str> = line.split(' ').collect();
        Ok(match words[..] {
            ["mail", number, run, condition, _] => Delivered {
                number: number.parse().ok(),
                run: run.to_owned(),
                sound: condition == "sound",
            },
            _ => Delivered { number: None, run: String::new(), sound: false },
        })
    }

    /// Everybody ends in good order, then everything is removed.
    pub(super) async fn end(&mut self) {
        for place in ReplicaId::BOTH {
            let _ = ask(&self.path.join(place.to_string()), "stop", ANSWER);
        }
        let _ = ask(&self.path.join("witness"), "stop", ANSWER);
        // The next hop has nothing to finish.
        let _ = self.members[0].child.start_kill();
        for member in &mut self.members {
            if timeout(ENDING, member.child.wait()).await.is_err() {
                let _ = member.child.kill().await;
            }
        }
        if let Some(directory) = self.directory.take() {
            if self.keep {
                say(&format!("configuration and logs are in {}", directory.keep().display()));
            } else {
                drop(directory);
            }
        }
    }

    fn logs(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).to_owned()
    }

    fn log(&self, name: &str) -> String {
        log(&self.logs(), name)
    }
}

fn spawn(
    name: &'static str,
    args: &[&str],
    logs: &Path,
    stdout: Stdio,
) -> Result<Member, CrewError> {
    let file = logs.join(format!("{name}.log"));
    let log = std::fs::File::options().create(true).append(true).open(file)?;
    let child = Command::new(std::env::current_exe()?)
        .args(args)
        .args(["--die-with-parent", &own_id()])
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    Ok(Member { name, child, killed: false })
}

#[expect(clippy::disallowed_methods, reason = "tells its children who their parent is")]
fn own_id() -> String {
    std::process::id().to_string()
}

/// The last lines of a process's log.
fn log(directory: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(directory.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(20);
    lines[from..].iter().map(|line| format!("  {line}\n")).collect()
}

/// Little is sent here: the files that a journal makes ahead need not be large.
fn keep_little(file: &Path) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    std::fs::write(file, text.replace("# segment_bytes = 67108864", "segment_bytes = 4194304"))
}

/// Where a CoServer takes mail, as `init` wrote it.
fn listen_address(file: &Path) -> Result<SocketAddr, CrewError> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix("listen = [\""));
    let address = line.and_then(|line| line.strip_suffix("\"]")).and_then(|text| text.parse().ok());
    address.ok_or_else(|| io::Error::other("the configuration has no listen address").into())
}
