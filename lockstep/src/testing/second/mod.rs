//! A second process of the same test, where what must not matter is another.
//!
//! The test's program is started once more with the name of the test that is running, and only
//! that. What the second process runs is told over a socket: the script comes from the first one,
//! since a test may draw its own. It lives as long as the thread of the test, so that a test with
//! many calls starts one. Nothing is run where that name is not known: outside a thread of the
//! test harness, and in programs that are no tests.

mod child;
mod clock;
mod conditions;
mod message;
#[cfg(test)]
mod tests;

use core::panic::Location;
use core::time::Duration;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeReader, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use message::{Order, receive, send};

use crate::entry::Entry;

pub(super) use child::is_second;
pub use conditions::Condition;
pub(super) use message::Report;

/// By this variable a process knows that it is a second one: the first one's process id, and
/// its socket.
const CHILD: &str = "LOCKSTEP_SECOND_PROCESS";

/// For so long the second process may take to come to a call, and for so long to run it. Far more
/// than any test should: it is what ends a step that never returns there.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that are kept of what the second process printed.
const PRINTED: usize = 2000;

thread_local! {
    static SECOND: RefCell<State> = const { RefCell::new(State::None) };
    static CALLS: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// What came of a call in the second process.
pub(super) enum Outcome {
    /// The call ran, with this result.
    Ran(Report),
    /// There was no call, for this reason.
    Skipped(String),
    /// The second process failed before the call had run, for this reason.
    Failed(String),
}

/// One call of the check, known in both processes by its place in the test.
pub(super) struct Call {
    place: String,
    before: u64,
}

impl Call {
    /// Counts a call.
    pub(super) fn begin(place: &Location<'_>) -> Self {
        let place = place.to_string();
        let before = CALLS.with_borrow_mut(|calls| {
            let calls = calls.entry(place.clone()).or_default();
            *calls += 1;
            *calls - 1
        });
        Self { place, before }
    }

    /// Runs it in the second process of this test, in which all conditions are others.
    pub(super) fn run(&self, entries: &[Entry]) -> Outcome {
        SECOND.with_borrow_mut(|state| {
            if let State::None = state {
                *state = Second::start(&Condition::ALL).map_or_else(State::Ended, State::Runs);
            }
            let second = match state {
                State::Runs(second) => second,
                State::Ended(why) => return Outcome::Skipped(why.clone()),
                State::None => return Outcome::Skipped("it was not started".into()),
            };
            second.run(self, true, entries).map_or_else(|why| state.end(&why), Outcome::Ran)
        })
    }

    /// In the second process: runs it if the first one wants it. False if it is to check here.
    pub(super) fn serve(&self, run: impl FnOnce(&[Entry]) -> Report) -> bool {
        child::serve(self, run)
    }

    /// Runs it once more, in a process of its own in which only this is another.
    pub(super) fn run_under(&self, condition: Condition, entries: &[Entry]) -> Option<Report> {
        let mut second = Second::start(&[condition]).ok()?;
        second.run(self, false, entries).ok()
    }
}

/// The second process of a test.
enum State {
    /// No call needed it yet.
    None,
    /// The process runs.
    Runs(Second),
    /// The process has ended, or there cannot be one, for this reason.
    Ended(String),
}

impl State {
    /// It did not answer: says what became of it.
    fn end(&mut self, why: &io::Error) -> Outcome {
        let State::Runs(second) = std::mem::replace(self, State::None) else {
            return Outcome::Skipped(why.to_string());
        };
        let outcome = second.end(why);
        if let Outcome::Skipped(why) = &outcome {
            *self = State::Ended(why.clone());
        }
        outcome
    }
}

/// The second process, as the first one sees it.
struct Second {
    child: Child,
    listener: UnixListener,
    stream: Option<UnixStream>,
    printed: Option<JoinHandle<String>>,
    directory: bool,
    /// Its clock is to be another, which was not looked at yet.
    unknown_clock: bool,
}

impl Second {
    fn start(conditions: &[Condition]) -> Result<Self, String> {
        let test = test_name()?;
        let mut command = command(&test, conditions)?;
        let start = || -> io::Result<Self> {
            let (listener, name) = listen()?;
            let (reader, writer) = io::pipe()?;
            command.env(CHILD, name).stdout(writer.try_clone()?).stderr(writer);
            let child = command.spawn()?;
            // It holds the pipe's other end, which would never end.
            drop(command);
            let printed = std::thread::Builder::new().spawn(move || last_bytes(reader))?;
            let directory = conditions.contains(&Condition::Directory);
            let unknown_clock = conditions.contains(&Condition::Clock);
            let printed = Some(printed);
            Ok(Self { child, listener, stream: None, printed, directory, unknown_clock })
        };
        start().map_err(|error| format!("it cannot be started: {error}"))
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn run(&mut self, call: &Call, check_others: bool, entries: &[Entry]) -> io::Result<Report> {
        let order = Order {
            call: call.place.clone(),
            before: call.before,
            directory: self.directory,
            check_others,
            entries: entries.to_vec(),
        };
        let stream = self.met()?;
        send(stream, &order)?;
        let report: Report = receive(stream)?;
        let ahead = report.clock.saturating_sub(wall_clock());
        if std::mem::take(&mut self.unknown_clock) && ahead < clock::AHEAD.as_secs() / 2 {
            tell("its clock is the same as in the first one");
        }
        Ok(report)
    }

    /// The connection to it, once it has come to its first call.
    #[expect(clippy::disallowed_methods, reason = "bounds how long a test waits")]
    fn met(&mut self) -> io::Result<&mut UnixStream> {
        let since = Instant::now();
        while self.stream.is_none() {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    self.stream = Some(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.has_ended() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    if since.elapsed() > PATIENCE {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Says how it ended, or ends it.
    fn end(mut self, why: &io::Error) -> Outcome {
        let late = matches!(why.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
        if late {
            let _ = self.child.kill();
        }
        let status = self.child.wait();
        let printed = self.printed.take().and_then(|printed| printed.join().ok());
        let printed = printed.as_deref().map_or("", str::trim);
        match status {
            _ if late => Outcome::Failed(format!(
                "it did not end within {} s; printed at last: {printed}",
                PATIENCE.as_secs()
            )),
            // The test took another way there, or is none.
            Ok(status) if status.success() => {
                Outcome::Skipped("the test ended there without coming to this call".into())
            }
            Ok(status) => {
                Outcome::Failed(format!("it ended with {status}, and printed: {printed}"))
            }
            Err(error) => Outcome::Failed(format!("{why}, {error}")),
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The test that this thread runs: its harness names the thread so.
#[expect(clippy::disallowed_methods, reason = "nothing of a service: it names the test")]
fn test_name() -> Result<String, String> {
    if cfg!(miri) {
        return Err("Miri starts no processes".into());
    }
    let name = std::thread::current().name().map(str::to_owned);
    let name = name.filter(|name| name != "main");
    name.ok_or_else(|| "this thread is not named after a test: call it in the test's own".into())
}

/// Starts the same test in the same program, and no other.
fn command(test: &str, conditions: &[Condition]) -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let directory = program.parent().and_then(|directory| directory.file_name());
    if directory.is_none_or(|directory| directory != "deps") {
        return Err(format!("{} is not a test that cargo built", program.display()));
    }
    let mut command = Command::new(program);
    command.args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
    command.stdin(Stdio::null());
    conditions::apply(conditions, &mut command);
    Ok(command)
}

/// A socket, and what the second process has to know of it.
#[expect(clippy::disallowed_methods, reason = "a name that no other process uses")]
fn listen() -> io::Result<(UnixListener, String)> {
    static SOCKETS: AtomicU64 = AtomicU64::new(0);
    let own = std::process::id();
    let name = format!("lockstep-check-{own}-{}", SOCKETS.fetch_add(1, Ordering::Relaxed));
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    listener.set_nonblocking(true)?;
    Ok((listener, format!("{own} {name}")))
}

/// Reads all, keeps the end.
fn last_bytes(mut from: PipeReader) -> String {
    let mut last = VecDeque::new();
    let mut piece = [0; 1024];
    while let Ok(len @ 1..) = from.read(&mut piece) {
        last.extend(&piece[..len]);
        last.drain(..last.len().saturating_sub(PRINTED));
    }
    String::from_utf8_lossy(last.make_contiguous()).into_owned()
}

/// Seconds since 1970, by the clock of this process.
#[expect(clippy::disallowed_methods, reason = "compares the clocks of the two processes")]
pub(super) fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Says what a check leaves out.
#[expect(clippy::print_stderr, reason = "where a test says such things")]
pub(super) fn tell(why: &str) {
    eprintln!("second process of this test: {why}");
}
