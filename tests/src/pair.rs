//! A pair of CoServers and their witness, as processes on this host.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use lockstep::ids::ReplicaId;
use lockstep::runtime::control::{AskError, ask};
use lockstep::runtime::exit::Exit;
use lockstep::runtime::keys::SecretKey;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::emulator::Emulator;
use crate::process::{Process, wait_for};

/// The silence timeout where timing is not the subject: long enough for a busy machine.
pub const SILENCE: Duration = Duration::from_secs(2);

/// Within this everything that takes some timeouts has happened, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// How long one question to a process may take.
const ANSWER: Duration = Duration::from_secs(5);

/// One of the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The CoServer at a place.
    CoServer(ReplicaId),
    /// The witness; with two of them the preferred one.
    Witness,
    /// The alternate witness, where there is one.
    Alternate,
}

/// The CoServer at place `a`.
pub const A: Part = Part::CoServer(ReplicaId::A);
/// The CoServer at place `b`.
pub const B: Part = Part::CoServer(ReplicaId::B);
/// The process of the preferred witness.
pub const WITNESS: Part = Part::Witness;
/// The process of the alternate witness.
pub const ALTERNATE: Part = Part::Alternate;

impl Part {
    /// `a`, `b`, `witness` or `alternate`: also the name of its file and its directory.
    pub fn name(self) -> &'static str {
        match self {
            Part::CoServer(ReplicaId::A) => "a",
            Part::CoServer(ReplicaId::B) => "b",
            Part::Witness => "witness",
            Part::Alternate => "alternate",
        }
    }

    fn slot(self) -> usize {
        match self {
            Part::CoServer(place) => place.slot(),
            Part::Witness => 2,
            Part::Alternate => 3,
        }
    }
}

/// The other CoServer.
///
/// # Panics
/// If the part is none.
pub fn other(part: Part) -> Part {
    match part {
        Part::CoServer(place) => Part::CoServer(place.other()),
        Part::Witness | Part::Alternate => panic!("{} is no CoServer", part.name()),
    }
}

/// A pair in a directory of its own, gone with all its processes when it is dropped.
#[derive(Debug)]
pub struct Pair {
    program: PathBuf,
    directory: TempDir,
    processes: [Option<Process>; 4],
    /// A command that runs every process in its own place.
    wrapper: Vec<String>,
    /// What every process logs.
    log: &'static str,
}

impl Pair {
    /// Makes the configuration, with free ports, and starts nothing. `program` is one whose
    /// command line is [`lockstep::runtime::cli`]'s.
    ///
    /// # Panics
    /// If that fails.
    pub fn init(program: impl Into<PathBuf>, silence: Duration) -> Self {
        let silence = lockstep::runtime::config::duration_text(silence);
        let pair = Self::init_with(program.into(), &["--silence", &silence]);
        for part in [A, B] {
            // A fixed timeout: on a busy machine it must not adapt to what an idle moment allows.
            let line = format!("silence = \"{silence}\"");
            pair.change(part, &line, &format!("{line}\nsilence_floor = \"{silence}\""));
        }
        pair
    }

    /// The same with the timing that `init` gives by itself: for a machine with time for it.
    ///
    /// # Panics
    /// If that fails.
    pub fn init_as_shipped(program: impl Into<PathBuf>) -> Self {
        Self::init_with(program.into(), &[])
    }

    fn init_with(program: PathBuf, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let made = Command::new(&program)
            .args(["init", "--free-ports"])
            .args(more)
            .arg("--dir")
            .arg(directory.path())
            .output()
            .expect("the program runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let processes = [const { None }; 4];
        let log = "debug,quinn=info,rustls=info";
        let pair = Self { program, directory, processes, wrapper: Vec::new(), log };
        for part in [A, B] {
            // The least, since many pairs are made on one disk.
            pair.change(part, "# segment_bytes = 67108864", "segment_bytes = 4194304");
        }
        pair
    }

    /// Starts all three and waits until the pair is duplex, on both sides.
    ///
    /// # Panics
    /// If it does not come to that; the logs are shown.
    pub fn start(program: impl Into<PathBuf>, silence: Duration) -> Self {
        let mut pair = Self::init(program, silence);
        pair.form();
        pair
    }

    /// As [`start`](Self::start), with a link emulator on every link.
    ///
    /// # Panics
    /// If it does not come to that; the logs are shown.
    pub fn start_emulated(program: impl Into<PathBuf>, silence: Duration) -> (Self, [Emulator; 2]) {
        let mut pair = Self::init(program, silence);
        let emulators = pair.emulate_links();
        pair.form();
        (pair, emulators)
    }

    /// Starts all three and waits until the pair is duplex, on both sides.
    ///
    /// # Panics
    /// If it does not come to that; the logs are shown.
    pub fn form(&mut self) {
        for part in [WITNESS, A, B] {
            self.run(part);
        }
        self.wait_for_duplex();
    }

    /// From now on every process that is started may have so many file descriptors, a third of them
    /// before it raises its own limit.
    pub fn limit_descriptors(&mut self, most: u32) {
        let soft = most / 3;
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {most} && exec \"$0\" \"$@\"");
        self.wrapper = ["/bin/sh", "-c", &script].map(String::from).to_vec();
    }

    /// From now on every process that is started may have so much address space, in KiB.
    pub fn limit_address_space(&mut self, most: u64) {
        let script = format!("ulimit -v {most} && exec \"$0\" \"$@\"");
        self.wrapper = ["/bin/sh", "-c", &script].map(String::from).to_vec();
    }

    /// Has every process that is started from now on log what an operator's would: for what is to
    /// be measured.
    pub fn log_as_shipped(&mut self) {
        self.log = "info";
    }

    /// Has both keep in memory what they release by: for what is not about disks, before they
    /// are started.
    ///
    /// # Panics
    /// If the configuration is not as `init` wrote it.
    pub fn use_memory(&self) {
        for part in [A, B] {
            let line = "# durability = \"journal\"";
            self.change(part, line, "durability = \"memory\"");
        }
    }

    /// Gives the pair an alternate witness with a key of its own, to which it turns after it has
    /// not reached the preferred one for so long. Before anything is started.
    ///
    /// # Panics
    /// If the configuration is not as `init` wrote it.
    pub fn add_alternate(&self, patience: Duration) {
        let key = SecretKey::generate().expect("a key");
        key.save_new(&self.directory().join("keys/alternate.key")).expect("it can be written");
        let address = free_address();
        std::fs::copy(self.config(WITNESS), self.config(ALTERNATE)).expect("init wrote it");
        let listen = self.addresses(WITNESS, "listen")[0];
        for (old, new) in [
            (format!("\"{listen}\""), format!("\"{address}\"")),
            ("\"witness\"".into(), "\"alternate\"".into()),
            ("keys/witness.key".into(), "keys/alternate.key".into()),
        ] {
            self.change(ALTERNATE, &old, &new);
        }
        let patience = lockstep::runtime::config::duration_text(patience);
        for part in [A, B] {
            let place = "# Who goes on";
            self.change(part, place, &format!("alternate = \"{address}\"\n{place}"));
            let alternate = format!("[peers]\nalternate = \"{}\"", key.public());
            self.change(part, "[peers]", &alternate);
            let timing = format!("[timing]\nwitness_patience = \"{patience}\"");
            self.change(part, "[timing]", &timing);
        }
    }

    /// Waits until both say that they are duplex, with each other, on all links and with their
    /// witness, and gives the status of A.
    ///
    /// # Panics
    /// If it does not come to that; the logs are shown.
    pub fn wait_for_duplex(&self) -> Value {
        let is_whole = |status: &Value| {
            status["mode"] == "duplex" && links_up(status) == 2 && status["witness"] == true
        };
        let with = |one: &Value, other: &Value| one["peer"]["incarnation"] == other["incarnation"];
        let look = || {
            let [a, b] = [A, B].map(|part| self.status(part).unwrap_or(Value::Null));
            let together = with(&a, &b) && with(&b, &a) && a["epoch"] == b["epoch"];
            if is_whole(&a) && is_whole(&b) && together { Ok(a) } else { Err((a, b)) }
        };
        wait_for(DEADLINE, look).unwrap_or_else(|(a, b)| {
            panic!("not duplex within {DEADLINE:?}: {a} {b}{}", self.logs())
        })
    }

    /// Puts an emulator on every link, before the CoServers are started.
    ///
    /// # Panics
    /// If there are none to be had.
    pub fn emulate_links(&self) -> [Emulator; 2] {
        [0, 1].map(|link| self.emulate(link))
    }

    fn emulate(&self, link: usize) -> Emulator {
        let text = std::fs::read_to_string(self.config(B)).expect("init wrote it");
        let (a, b) = (addresses(&text, "remote")[link], addresses(&text, "local")[link]);
        let emulator = Emulator::start(a, b).expect("sockets and threads");
        self.change(
            B,
            &format!("remote = \"{a}\""),
            &format!("remote = \"{}\"", emulator.address()),
        );
        emulator
    }

    /// Puts an emulator between a CoServer and its witness, before it is started.
    ///
    /// # Panics
    /// If there is none to be had.
    pub fn emulate_witness(&self, part: Part) -> Emulator {
        let witness = self.addresses(part, "witness")[0];
        let emulator = Emulator::start_before(witness).expect("sockets and threads");
        let address = emulator.address();
        self.change(part, &format!("\"{witness}\""), &format!("\"{address}\""));
        emulator
    }

    /// Where the CoServers' links are: A's end of each, then B's end of each.
    ///
    /// # Panics
    /// If the configuration cannot be read.
    pub fn links(&self) -> Vec<SocketAddr> {
        [A, B].into_iter().flat_map(|part| self.addresses(part, "local")).collect()
    }

    /// All addresses that a part's configuration gives to fields of this name.
    ///
    /// # Panics
    /// If the configuration cannot be read.
    pub fn addresses(&self, part: Part, field: &str) -> Vec<SocketAddr> {
        addresses(&std::fs::read_to_string(self.config(part)).expect("init wrote it"), field)
    }

    /// Changes a part's configuration.
    ///
    /// # Panics
    /// If it does not have the old text.
    pub fn change(&self, part: Part, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.config(part)).expect("init wrote it");
        assert!(text.contains(old), "{old} is not in {text}");
        std::fs::write(self.config(part), text.replace(old, new)).expect("it can be changed");
    }

    /// The pair's id, as its files have it.
    ///
    /// # Panics
    /// If the configuration cannot be read.
    pub fn id(&self) -> String {
        let text = std::fs::read_to_string(self.config(A)).expect("init wrote it");
        let line = text.lines().find_map(|line| line.strip_prefix("pair = "));
        line.expect("init wrote it").trim_matches('"').to_owned()
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A part's configuration file.
    pub fn config(&self, part: Part) -> PathBuf {
        self.directory().join(format!("{}.toml", part.name()))
    }

    /// A part's own directory.
    pub fn data(&self, part: Part) -> PathBuf {
        self.directory().join(part.name())
    }

    /// Starts one of the processes, in the place of the one before.
    ///
    /// # Panics
    /// If it cannot be started. One that ends soon after is noticed when it is waited for.
    pub fn run(&mut self, part: Part) {
        self.run_with(part, &[]);
    }

    /// The same with more arguments.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn run_with(&mut self, part: Part, arguments: &[&str]) {
        let process = self.spawn(part.name(), part, arguments);
        self.processes[part.slot()] = Some(process);
    }

    /// Starts a part by a command line, as an operator would who was told it.
    ///
    /// # Panics
    /// If no shell can be started.
    pub fn run_line(&mut self, part: Part, line: &str) {
        let line = format!("exec {line}");
        let arguments = ["-c", line.as_str()];
        let process =
            Process::start(part.name(), Path::new("/bin/sh"), &arguments, self.directory());
        self.processes[part.slot()] = Some(process.expect("every system has a shell"));
    }

    /// As [`run`](Self::run), by a command that runs the program in its own place, such as
    /// `strace -D`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run_under(&mut self, part: Part, wrapper: &[String]) {
        let process = self.spawn_under(part.name(), part, &[], wrapper);
        self.processes[part.slot()] = Some(process);
    }

    /// Starts a second process of a part beside the first.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run_another(&self, part: Part) -> Process {
        self.spawn(&format!("{}-again", part.name()), part, &[])
    }

    fn spawn(&self, name: &str, part: Part, more: &[&str]) -> Process {
        self.spawn_under(name, part, more, &self.wrapper)
    }

    fn spawn_under(&self, name: &str, part: Part, more: &[&str], wrapper: &[String]) -> Process {
        let command = match part {
            Part::Witness | Part::Alternate => "witness",
            Part::CoServer(_) => "coserver",
        };
        let config = self.config(part);
        let config = config.to_str().expect("a path in UTF-8");
        // Not --die-with-parent: it means the thread that started it, and a test's thread may
        // end before the pair does.
        let arguments = [command, "--config", config, "--log", self.log];
        let own = self.program.to_str().expect("a path in UTF-8");
        let words = wrapper.iter().map(String::as_str).chain([own]).chain(arguments);
        let words: Vec<&str> = words.chain(more.iter().copied()).collect();
        Process::start(name, Path::new(words[0]), &words[1..], self.directory()).expect("it starts")
    }

    /// Runs the program to its end with these arguments; what it says, and how it ended.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn command(&self, arguments: &[&str]) -> (String, ExitStatus) {
        let output = Command::new(&self.program).args(arguments).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status)
    }

    /// Has the witness, which does not run, begin a new lineage, and starts it.
    ///
    /// # Panics
    /// If it does not.
    pub fn begin_lineage(&mut self) {
        let config = self.config(WITNESS);
        let config = config.to_str().expect("a path that is text");
        let (said, status) = self.command(&["new-lineage", "--config", config, "--yes"]);
        assert_eq!(status.code(), Some(0), "{said}");
        self.run(WITNESS);
    }

    /// The process of a part.
    ///
    /// # Panics
    /// If it was never started.
    pub fn process(&mut self, part: Part) -> &mut Process {
        self.processes[part.slot()].as_mut().expect("it was started")
    }

    /// Ends it at once, by SIGKILL.
    ///
    /// # Panics
    /// If it is not running, or does not go.
    pub fn kill(&mut self, part: Part) {
        self.process(part).signal(Signal::KILL);
        self.process(part).wait(DEADLINE);
    }

    /// Kills it, if it runs. There is no such process from then on.
    pub fn end(&mut self, part: Part) {
        self.processes[part.slot()] = None;
    }

    /// Has it end in good order, by SIGTERM, and waits for that.
    ///
    /// # Panics
    /// If it is not running, or does not go.
    pub fn terminate(&mut self, part: Part) -> ExitStatus {
        self.process(part).signal(Signal::TERM);
        self.process(part).wait(DEADLINE)
    }

    /// Stops it without its noticing, by SIGSTOP.
    ///
    /// # Panics
    /// If it is not running.
    pub fn pause(&mut self, part: Part) {
        self.process(part).signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Panics
    /// If it is not running.
    pub fn resume(&mut self, part: Part) {
        self.process(part).signal(Signal::CONT);
    }

    /// Waits for a process to end by itself with this code.
    ///
    /// # Panics
    /// If it ends otherwise, or not in time.
    pub fn expect_exit(&mut self, part: Part, exit: Exit) {
        let status = self.process(part).wait(DEADLINE);
        if status.code() != Some(exit.code().into()) {
            panic!("{} ended with {status}, not {exit:?}{}", part.name(), self.logs());
        }
    }

    /// Takes everything off a CoServer's or a witness's disk, as on a machine with a new one. Its
    /// process must not run.
    ///
    /// # Panics
    /// If there is nothing on it.
    pub fn wipe(&mut self, part: Part) {
        assert!(self.process(part).ended().is_some(), "{} runs", part.name());
        let disk = if matches!(part, Part::CoServer(_)) { "store" } else { "records" };
        std::fs::remove_dir_all(self.data(part).join(disk)).expect("it has a disk");
    }

    /// Asks a part how it is.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self, part: Part) -> Result<Value, AskError> {
        ask(&self.data(part), "status", ANSWER)
    }

    /// Gives a part a command.
    ///
    /// # Errors
    /// If it does not take it.
    pub fn ask(&self, part: Part, command: &str) -> Result<Value, AskError> {
        ask(&self.data(part), command, ANSWER)
    }

    /// Waits until a part's status is as it is to be.
    ///
    /// # Panics
    /// If that does not come; the last status and the logs are shown.
    pub fn wait_until(&self, part: Part, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = || match self.status(part) {
            Ok(status) if holds(&status) => Ok(status),
            Ok(status) => Err(status.to_string()),
            Err(error) => Err(error.to_string()),
        };
        wait_for(DEADLINE, look).unwrap_or_else(|last| {
            panic!("{} is not {what} within {DEADLINE:?}: {last}{}", part.name(), self.logs())
        })
    }

    /// Waits until a CoServer's mode is this.
    ///
    /// # Panics
    /// As [`wait_until`](Self::wait_until).
    pub fn wait_for_mode(&self, part: Part, mode: &str) -> Value {
        self.wait_until(part, mode, |status| status["mode"] == mode)
    }

    /// What a part has logged once there are so many lines with this event.
    ///
    /// # Panics
    /// If there are not in time.
    pub fn wait_for_event(&mut self, part: Part, event: &str, times: usize) -> String {
        let line_of = format!("event=\"{event}\"");
        let look = || {
            let log = self.process(part).log();
            let found = log.lines().filter(|line| line.contains(&line_of)).count();
            if found >= times { Ok(log) } else { Err(log) }
        };
        wait_for(DEADLINE, look).unwrap_or_else(|log| panic!("no {event}: {log}"))
    }

    /// Bytes of entries and checkpoints that the last joiner was sent, as the member that brought
    /// it up to date logged them; 0 if there was none.
    pub fn sent_to_joiner(&self) -> u64 {
        let stamped = self.processes.iter().flatten().filter_map(|process| {
            let log = process.log();
            let line = log.lines().rfind(|line| line.contains("event=\"duplex\""))?;
            // Each line begins with its time, so that the latest is the greatest.
            Some((line.to_owned(), number_after(line, "sent=")?))
        });
        stamped.max().map_or(0, |(_, sent)| sent)
    }

    /// The end of every log.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for process in self.processes.iter().flatten() {
            let log = process.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(40);
            text += &format!("\n--- {} ---\n{}", process.name(), lines[last..].join("\n"));
        }
        text
    }
}

/// An address on loopback that is free now, for one that has to have a fixed one.
fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("its address")
}

/// The addresses in `field = "ADDRESS"`, line by line.
pub(crate) fn addresses(text: &str, field: &str) -> Vec<SocketAddr> {
    let value = |line: &str| {
        let (name, value) = line.split_once(" = ")?;
        // There may be another field of this name, with keys.
        if name == field { value.trim_matches('"').parse().ok() } else { None }
    };
    text.lines().filter_map(value).collect()
}

/// The number that follows this text.
fn number_after(line: &str, text: &str) -> Option<u64> {
    let (_, rest) = line.split_once(text)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// How many links of a CoServer's status are up.
pub fn links_up(status: &Value) -> usize {
    let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
    links.iter().filter(|link| link["up"] == true).count()
}
