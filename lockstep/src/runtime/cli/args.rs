//! The commands that every program has, and their arguments.
//!
//! Doc comments here are what `--help` and the manual pages say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::flags::{DiskFlags, Ends, ProcessFlags, address, ends, place};
use super::{Application, Failure, commands, objects, pages, processes};
use crate::ids::{PairId, ReplicaId};
use crate::runtime::config::{ConfigError, Overrides, parse_duration};
use crate::runtime::exit::Exit;
use crate::runtime::init::Plan;
use crate::runtime::keys::PublicKey;

/// What `--help` ends with: how values are written, and how a process ends (see [`Exit`]).
pub(super) const NOTES: &str = "\
ADDR is an IP address with a port, TIME a whole number with its unit, as in 100ms or 2s.

Exit codes: 0 done, 10 removed, 11 not a member, 12 incompatible, 13 memory corrupted,
14 join ended, 15 lineage over, 16 hanging, 64 usage, 69 unavailable, 70 defect, 71 system,
73 exists, 74 storage, 75 locked, 78 configuration.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the configuration and the keys of a new pair, in one directory
    Init(InitArgs),
    /// Run the CoServer of a configuration
    #[command(name = "coserver")]
    CoServer(CoServerArgs),
    /// Run the witness of a configuration
    Witness(WitnessArgs),
    /// Ask a running process how it is
    Status(AskArgs),
    /// Ask a CoServer for its counters and latencies; JSON
    Metrics(AskArgs),
    /// Have the other CoServer order the inputs from now on
    HandOver(AskArgs),
    /// Take the other CoServer in again, which was held for repair
    Readmit(AskArgs),
    /// Have a process end in good order, as SIGTERM does, and wait until it has
    Stop(StopArgs),
    /// Have a running CoServer know the other one by a new key
    ReplacePeer(ReplacePeerArgs),
    /// Have a running witness know a CoServer by a new key
    ReplaceKey(ReplaceKeyArgs),
    /// Make the first record of a pair whose witness is an object store
    Enrol(EnrolArgs),
    /// Give up what a pair held, after both CoServers lost it
    NewLineage(LineageArgs),
    /// Print what a shell completes this program's commands and flags with
    Completions {
        /// The shell that is to read it
        shell: Shell,
    },
    /// Print the manual page of this program, or of one of its commands
    Man(ManArgs),
}

impl Command {
    pub(super) fn carry_out<A: Application>(
        self,
        app: &A,
        definition: clap::Command,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Init(args) => commands::init(app, &args.into()),
            Self::CoServer(args) => processes::coserver(app, &args),
            Self::Witness(args) => processes::witness(&args),
            Self::Status(args) => commands::status(&args.of.directory()?, args.timeout, args.json),
            Self::Metrics(args) => args.ask("metrics"),
            Self::HandOver(args) => args.ask("hand-over"),
            Self::Readmit(args) => args.ask("readmit"),
            Self::Stop(StopArgs { asked, wait }) => {
                commands::stop(&asked.of.directory()?, asked.timeout, wait)
            }
            Self::ReplacePeer(ReplacePeerArgs { running, key }) => {
                running.ask(&format!("replace-peer {key}"))
            }
            Self::ReplaceKey(ReplaceKeyArgs { running, pair, place, key }) => {
                running.ask(&format!("replace-key {pair} {place} {key}"))
            }
            Self::Enrol(args) => objects::enrol(&args.config),
            Self::NewLineage(args) => match objects::store_of(&args.config)? {
                Some(store) => objects::new_lineage(&store, args.yes),
                None => commands::new_lineage(&args.config, args.pair, args.yes),
            },
            Self::Completions { shell } => Ok(pages::completions(definition, shell)),
            Self::Man(args) => pages::man(definition, &args),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Where the files go; none is overwritten
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Count the ports that are not said up from this one
    #[arg(long, value_name = "PORT", conflicts_with = "free_ports")]
    base_port: Option<u16>,
    /// Take ports that are free now for those that are not said
    #[arg(long)]
    free_ports: bool,
    /// The address of CoServer a on a link, once for each link
    #[arg(long = "a-link", value_name = "ADDR", value_parser = address)]
    a_links: Vec<SocketAddr>,
    /// The address of CoServer b on a link, once for each link
    #[arg(long = "b-link", value_name = "ADDR", value_parser = address)]
    b_links: Vec<SocketAddr>,
    /// Where the witness listens
    #[arg(long, value_name = "ADDR", value_parser = address)]
    witness: Option<SocketAddr>,
    /// Where CoServer a serves clients
    #[arg(long, value_name = "ADDR", value_parser = address)]
    a_clients: Option<SocketAddr>,
    /// Where CoServer b serves clients
    #[arg(long, value_name = "ADDR", value_parser = address)]
    b_clients: Option<SocketAddr>,
    /// The silence that is taken for a death, if it is not to be the default
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    silence: Option<Duration>,
}

impl From<InitArgs> for Plan {
    fn from(args: InitArgs) -> Self {
        let plan = Plan::new(args.dir);
        Plan {
            a_links: args.a_links,
            b_links: args.b_links,
            witness: args.witness,
            clients: [args.a_clients, args.b_clients],
            base_port: args.base_port.unwrap_or(plan.base_port),
            free_ports: args.free_ports,
            silence: args.silence,
            ..plan
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct CoServerArgs {
    #[command(flatten)]
    pub(super) process: ProcessFlags,
    #[command(flatten)]
    addresses: CoServerAddresses,
    #[command(flatten)]
    pub(super) disk: DiskFlags,
    /// End when removed, instead of coming back
    #[arg(long, help_heading = None::<&str>)]
    pub(super) no_return: bool,
    #[command(flatten)]
    pub(super) guardian: GuardianFlags,
}

/// A process of its own that watches over the CoServer's.
#[derive(Debug, Args)]
#[command(next_help_heading = "Watched over")]
pub(super) struct GuardianFlags {
    /// Run the CoServer in a process of its own, tell the other one at once when that is killed, and
    /// start it again
    #[arg(long)]
    pub(super) guardian: bool,
    /// Start it again so often within the window, after it was killed or has panicked
    #[arg(long, value_name = "N", default_value_t = 5, requires = "guardian")]
    pub(super) restarts: u32,
    /// The window of --restarts
    #[arg(long, value_name = "TIME", value_parser = window, default_value = "10min", requires = "guardian")]
    pub(super) restart_window: Duration,
}

/// A duration that is not zero, in which a budget would never be spent.
fn window(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("write a window longer than nothing, such as 10min".into()),
        window => Ok(window),
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "In place of fields of the file")]
struct CoServerAddresses {
    /// Where the witness is
    #[arg(long, value_name = "ADDR")]
    witness: Option<String>,
    /// Where to serve clients
    #[arg(long, value_name = "ADDR")]
    clients: Option<String>,
    /// This side's address and the other side's, in the order of the file's links
    #[arg(long = "link", value_name = "LOCAL,REMOTE", value_parser = ends)]
    links: Vec<Ends>,
}

impl CoServerArgs {
    /// What takes the place of fields of the file.
    pub(super) fn overrides(&self) -> Overrides {
        let mut overrides = self.process.overrides();
        for (field, flag, text) in [
            ("witness", "--witness", &self.addresses.witness),
            ("clients", "--clients", &self.addresses.clients),
        ] {
            if let Some(text) = text {
                overrides.set(field, flag, text);
            }
        }
        for (link, Ends { local, remote }) in self.addresses.links.iter().enumerate() {
            overrides.set_item(("links", link, "local"), "--link", local);
            overrides.set_item(("links", link, "remote"), "--link", remote);
        }
        overrides
    }
}

#[derive(Debug, Args)]
pub(super) struct WitnessArgs {
    #[command(flatten)]
    pub(super) process: ProcessFlags,
    /// Where to listen
    #[arg(long, value_name = "ADDR", help_heading = "In place of fields of the file")]
    listen: Option<String>,
}

impl WitnessArgs {
    /// What takes the place of fields of the file.
    pub(super) fn overrides(&self) -> Overrides {
        let mut overrides = self.process.overrides();
        if let Some(listen) = &self.listen {
            overrides.set("listen", "--listen", listen);
        }
        overrides
    }
}

/// A question to a running process.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    #[command(flatten)]
    of: Running,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    /// Answer in one line of JSON; all but `status` do so in any case, and `status` where it does
    /// not write to a terminal
    #[arg(long)]
    json: bool,
}

/// The process that is asked, by its configuration or its directory.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Running {
    /// The configuration of the process
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the process, in place of its configuration
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Running {
    fn directory(self) -> Result<PathBuf, ConfigError> {
        match (self.dir, self.config) {
            (Some(directory), _) => Ok(directory),
            (None, config) => commands::directory_of(&config.unwrap_or_default()),
        }
    }
}

impl AskArgs {
    fn ask(self, command: &str) -> Result<Exit, Failure> {
        commands::ask(&self.of.directory()?, command, self.timeout)
    }
}

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    asked: AskArgs,
    // It leaves in good order, and refuses its clients for a while.
    /// How long to wait for its end; 0s: not at all
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,
}

/// A process that is known by its file alone.
#[derive(Debug, Args)]
struct RunningConfig {
    /// The configuration of the process: of the CoServer that stays (replace-peer), of the witness
    /// (replace-key)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
}

impl RunningConfig {
    fn ask(&self, command: &str) -> Result<Exit, Failure> {
        commands::ask(&commands::directory_of(&self.config)?, command, self.timeout)
    }
}

#[derive(Debug, Args)]
pub(super) struct ReplacePeerArgs {
    #[command(flatten)]
    running: RunningConfig,
    /// The other CoServer's new public key
    #[arg(long, value_name = "KEY")]
    key: PublicKey,
}

#[derive(Debug, Args)]
pub(super) struct ReplaceKeyArgs {
    #[command(flatten)]
    running: RunningConfig,
    /// The pair of the CoServer
    #[arg(long, value_name = "ID")]
    pair: PairId,
    /// The place of the CoServer
    #[arg(long, value_parser = place())]
    place: ReplicaId,
    /// The CoServer's new public key
    #[arg(long, value_name = "KEY")]
    key: PublicKey,
}

#[derive(Debug, Args)]
pub(super) struct EnrolArgs {
    /// The configuration of a CoServer whose witness is an object store
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct LineageArgs {
    /// The configuration of the witness, which must not run, or of a CoServer whose witness is an
    /// object store
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which pair, where the witness has several
    #[arg(long, value_name = "ID")]
    pair: Option<PairId>,
    /// Do it; without this it only says what would be lost
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The command; the program itself if none is named
    pub(super) command: Option<String>,
    /// Write the pages of the program and of all its commands into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(super) dir: Option<PathBuf>,
}
