//! The parent's side: starts the parts of a row, waits for what they say, and
//! leaves nothing behind.

use std::any::Any;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::part::PartOptions;
use crate::placement::{Placement, Seat};
use crate::rows::Row;
use crate::talk::{Go, MAX_LINE_BYTES, PROTOCOL, Ready, Said, from_pairs};
use crate::trips::Load;

/// The command that builds the peers' program.
pub const BUILD_PEERS: &str = "cargo build --release --manifest-path benches/peers/Cargo.toml";

/// How long parts may take to bind their sockets.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long parts may take to find each other (an election among them).
const MEET_WITHIN: Duration = Duration::from_secs(20);
/// How long one trip may take on average; a hundred times what is usual.
const TRIP_WITHIN: Duration = Duration::from_millis(10);

/// What holds for every row of a run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which seat has which core.
    pub placement: Placement,
    /// The trips of one round.
    pub load: Load,
    /// Links between the CoServers.
    pub links: u8,
    /// Where rows that write to a disk do so.
    pub disk: PathBuf,
    /// This program's file.
    pub own: PathBuf,
    /// The peers' program, if it was found.
    pub peers: Option<PathBuf>,
}

/// Which program file a part runs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The `latency` program itself.
    Own,
    /// The program of `benches/peers`.
    Peers,
}

/// One process of a row.
#[derive(Clone, Debug)]
pub struct PartSpec {
    /// The file to run.
    pub program: Program,
    /// Which part of that program to play.
    pub kind: &'static str,
    /// Where it sits.
    pub seat: Seat,
    /// Words for the kind.
    pub words: Vec<String>,
}

/// The processes of a row, in the order in which they are started. The first
/// to say that it measured ends the round.
pub struct Cast {
    /// What each process is, in the order in which they are started.
    pub parts: Vec<PartSpec>,
    /// Dropped when all processes are gone: a directory with keys, for example.
    pub keep: Option<Box<dyn Any>>,
}

/// Why a row has no histogram in this round.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The row could not prepare its parts.
    #[error("cannot prepare: {0}")]
    Prepare(String),
    /// The peers' program is not there.
    #[error("the peers' program is not built; build it with `{BUILD_PEERS}`")]
    NoPeers,
    /// A part could not be started.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program file.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A process gave up.
    #[error("{kind}: {reason}")]
    Failed {
        /// The kind of the process.
        kind: &'static str,
        /// The reason that the process gave.
        reason: String,
    },
    /// A process ended without a word.
    #[error("{kind} ended ({status}) before the trips were done")]
    Ended {
        /// The kind of the process.
        kind: &'static str,
        /// How the process ended.
        status: ExitStatus,
    },
    /// All parts ended and none had measured.
    #[error("all parts ended and none had measured")]
    NothingMeasured,
    /// A process wrote something that is not ours.
    #[error("{kind} wrote something that is not a line of the harness: {what}")]
    Garbled {
        /// The kind of the process.
        kind: &'static str,
        /// What is wrong with the line.
        what: String,
    },
    /// The program of a process is of another build.
    #[error("{kind} speaks version {got} of the harness, not {PROTOCOL}; build it again")]
    OtherVersion {
        /// The kind of the process.
        kind: &'static str,
        /// The version of the harness that the process speaks.
        got: u32,
    },
    /// Nothing was heard in time.
    #[error("nothing heard from {kinds:?} within {within:?}")]
    Silent {
        /// The kinds of the processes that were waited for.
        kinds: Vec<&'static str>,
        /// How long they were waited for.
        within: Duration,
    },
    /// Talking to a process failed.
    #[error("cannot talk to {kind}: {source}")]
    Talk {
        /// The kind of the process.
        kind: &'static str,
        /// What the system reported.
        source: std::io::Error,
    },
}

/// One round of one row: starts its parts, lets them make their trips, ends
/// them, and gives back how long the trips took, in nanoseconds.
pub fn run(row: &dyn Row, setup: &Setup) -> Result<Histogram<u64>, RunError> {
    let cast = row.cast(setup)?;
    let mut crew = Crew::start(&cast.parts, setup)?;
    let parts = crew.all_ready()?;
    crew.go(&Go { parts })?;
    let trips = u32::try_from(setup.load.trips).unwrap_or(u32::MAX);
    let histogram = crew.measured(MEET_WITHIN + TRIP_WITHIN.saturating_mul(trips))?;
    drop(crew);
    drop(cast.keep);
    Ok(histogram)
}

/// Where the peers' program is: `given`, or beside this program, or where cargo
/// puts it in this source tree.
pub fn locate_peers(given: Option<&Path>, own: &Path) -> Result<Option<PathBuf>, PathBuf> {
    const NAME: &str = "lockstep-peers";
    if let Some(path) = given {
        return if path.is_file() { Ok(Some(path.to_owned())) } else { Err(path.to_owned()) };
    }
    let beside = own.with_file_name(NAME);
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/target/release").join(NAME);
    Ok([beside, built].into_iter().find(|path| path.is_file()))
}

struct Member {
    kind: &'static str,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// What came and is not yet a whole line.
    pending: Vec<u8>,
    open: bool,
}

/// The running parts; killed and reaped when dropped.
struct Crew {
    members: Vec<Member>,
}

impl Crew {
    fn start(parts: &[PartSpec], setup: &Setup) -> Result<Self, RunError> {
        // Filled one by one, so that a failure ends those already started.
        let mut crew = Self { members: Vec::new() };
        for part in parts {
            crew.members.push(Member::start(part, setup)?);
        }
        Ok(crew)
    }

    fn all_ready(&mut self) -> Result<Vec<Ready>, RunError> {
        let deadline = crate::now() + READY_WITHIN;
        let mut ready: Vec<Option<Ready>> = self.members.iter().map(|_| None).collect();
        while ready.iter().any(Option::is_none) {
            let (who, said) = self.hear(deadline, READY_WITHIN)?;
            let kind = self.members[who].kind;
            match said {
                Said::Ready(other) if other.protocol != PROTOCOL => {
                    return Err(RunError::OtherVersion { kind, got: other.protocol });
                }
                Said::Ready(one) => ready[who] = Some(one),
                Said::Failed(reason) => return Err(RunError::Failed { kind, reason }),
                Said::Measured(_) => {
                    let what = "measured before it was told to".to_owned();
                    return Err(RunError::Garbled { kind, what });
                }
            }
        }
        Ok(ready.into_iter().flatten().collect())
    }

    fn go(&mut self, go: &Go) -> Result<(), RunError> {
        let mut line = serde_json::to_string(go).expect("strings and addresses are valid JSON");
        line.push('\n');
        for member in &mut self.members {
            let kind = member.kind;
            let written = member.stdin.write_all(line.as_bytes());
            written.map_err(|source| RunError::Talk { kind, source })?;
        }
        Ok(())
    }

    fn measured(&mut self, within: Duration) -> Result<Histogram<u64>, RunError> {
        let deadline = crate::now() + within;
        let (who, said) = self.hear(deadline, within)?;
        let kind = self.members[who].kind;
        match said {
            Said::Measured(pairs) => Ok(from_pairs(&pairs)),
            Said::Failed(reason) => Err(RunError::Failed { kind, reason }),
            Said::Ready(_) => Err(RunError::Garbled { kind, what: "ready twice".to_owned() }),
        }
    }

    /// The next line that any part says.
    fn hear(&mut self, deadline: Instant, within: Duration) -> Result<(usize, Said), RunError> {
        loop {
            for (who, member) in self.members.iter_mut().enumerate() {
                if let Some(said) = member.take_line()? {
                    return Ok((who, said));
                }
            }
            let open: Vec<_> =
                (0..self.members.len()).filter(|who| self.members[*who].open).collect();
            if open.is_empty() {
                return Err(RunError::NothingMeasured);
            }
            let speaking = self.wait(&open, deadline)?;
            if speaking.is_empty() {
                let kinds = open.iter().map(|who| self.members[*who].kind).collect();
                return Err(RunError::Silent { kinds, within });
            }
            for who in speaking {
                self.members[who].read()?;
            }
        }
    }

    /// Which of `open` have something to read; none when the deadline is past.
    fn wait(&self, open: &[usize], deadline: Instant) -> Result<Vec<usize>, RunError> {
        let mut polled: Vec<_> =
            open.iter().map(|who| PollFd::new(&self.members[*who].stdout, PollFlags::IN)).collect();
        loop {
            let left = deadline.saturating_duration_since(crate::now());
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut polled, Some(&left)) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    let kind = self.members[open[0]].kind;
                    return Err(RunError::Talk { kind, source: errno.into() });
                }
            }
        }
        let ready = polled.iter().zip(open).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, who)| *who).collect())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Fails only when it is already gone.
            let _ = member.child.kill();
        }
        for member in &mut self.members {
            let _ = member.child.wait();
        }
    }
}

impl Member {
    fn start(part: &PartSpec, setup: &Setup) -> Result<Self, RunError> {
        let program = match part.program {
            Program::Own => &setup.own,
            Program::Peers => setup.peers.as_ref().ok_or(RunError::NoPeers)?,
        };
        let options = PartOptions {
            kind: part.kind.to_owned(),
            core: setup.placement.core_of(part.seat),
            load: setup.load,
            words: part.words.clone(),
        };
        let mut child = Command::new(program)
            .args(options.to_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|source| RunError::Spawn { program: program.clone(), source })?;
        let stdin = child.stdin.take().expect("stdin was asked for");
        let stdout = child.stdout.take().expect("stdout was asked for");
        Ok(Self { kind: part.kind, child, stdin, stdout, pending: Vec::new(), open: true })
    }

    fn take_line(&mut self) -> Result<Option<Said>, RunError> {
        let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        let said = serde_json::from_slice(&line);
        said.map(Some)
            .map_err(|error| RunError::Garbled { kind: self.kind, what: error.to_string() })
    }

    /// Reads what is there. The end of the stream is in order if the part
    /// ended well: a far side may go as soon as its driver is done.
    fn read(&mut self) -> Result<(), RunError> {
        let kind = self.kind;
        let talk = |source| RunError::Talk { kind, source };
        let mut chunk = [0; 16 * 1024];
        let count = self.stdout.read(&mut chunk).map_err(talk)?;
        self.pending.extend_from_slice(&chunk[..count]);
        if self.pending.len() > MAX_LINE_BYTES {
            let what = format!("a line of more than {MAX_LINE_BYTES} bytes");
            return Err(RunError::Garbled { kind, what });
        }
        if count == 0 {
            self.open = false;
            let status = self.child.wait().map_err(talk)?;
            if !status.success() {
                return Err(RunError::Ended { kind, status });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_program_that_was_named_must_exist() {
        let own = Path::new("/nowhere/latency");
        let named = Path::new("/nowhere/peers");
        assert_eq!(locate_peers(Some(named), own), Err(named.to_owned()));
        let itself = std::env::current_exe().unwrap();
        assert_eq!(locate_peers(Some(&itself), own), Ok(Some(itself)));
    }
}
