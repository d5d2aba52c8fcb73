//! A client that counts across faults: a session of the client library with requests under way
//! all the time, each of which adds one to a register.
//!
//! The answer to the request with number n must be n: a request that was lost leaves a gap, one
//! that took effect twice leaves another.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lockstep::client::blocking::{PendingReply, Session};
use lockstep::client::session::{CallError, OpenError, PlaceStatus, Settings};
use lockstep::ids::ReplicaId;
use lockstep::runtime::config::{ClientConfig, Overrides};
use register::ops::{Answer, Op};

use crate::pair::{DEADLINE, Pair};
use crate::process::wait_for;

/// Requests under way together.
const UNDER_WAY: usize = 16;

/// Between two requests: enough of them for every moment of a fault, few enough for a machine
/// that does other things.
const PAUSE: Duration = Duration::from_millis(1);

/// What a [`Caller`] saw.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// Requests answered, each once, in order and without a gap.
    pub answered: u64,
    /// The longest time between two answers.
    pub longest_gap: Duration,
}

/// A client's settings, from the pair's own file.
///
/// # Panics
/// If the file cannot be used.
pub fn settings(pair: &Pair) -> Settings {
    settings_in(&pair.directory().join("client.toml"))
}

/// Those of a client with a file of its own.
///
/// # Panics
/// If the file cannot be used.
pub fn settings_in(file: &Path) -> Settings {
    let client = ClientConfig::read(file, &Overrides::new()).expect("init wrote it");
    let mut settings = Settings::new(client.pair, client.coservers, client.credentials);
    settings.open_within = DEADLINE;
    // A test is to fail rather than hang.
    settings.patience = Some(DEADLINE * 2);
    settings
}

/// A counting client on a thread of its own.
#[derive(Debug)]
pub struct Caller {
    session: Session,
    answered: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Result<Ran, CallError>>,
}

impl Caller {
    /// Opens a session and begins to count in the register `name`, which nobody else uses.
    ///
    /// # Panics
    /// If no session is opened.
    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    pub fn start(pair: &Pair, name: &str) -> Self {
        let session =
            Session::open(settings(pair)).unwrap_or_else(|error| panic!("{error}{}", pair.logs()));
        let (answered, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let count = Count {
            session: session.clone(),
            name: name.into(),
            answered: Arc::clone(&answered),
            ended: Arc::clone(&ended),
            longest_gap: Duration::ZERO,
            last: Instant::now(),
        };
        let thread = std::thread::spawn(move || count.run());
        let caller = Self { session, answered, ended, thread };
        caller.goes_on(pair);
        caller
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Its session's state.
    pub fn status(&self) -> lockstep::client::session::Status {
        self.session.status()
    }

    /// Waits until a hundred more requests have been answered.
    ///
    /// # Panics
    /// If that does not come.
    pub fn goes_on(&self, pair: &Pair) {
        let from = self.answered();
        let look = || (self.answered() >= from + 100).then_some(()).ok_or(());
        wait_for(DEADLINE, look).unwrap_or_else(|()| {
            panic!(
                "no more answers than {} after {from}: {:?}{}",
                self.answered(),
                self.status(),
                pair.logs()
            )
        });
    }

    /// Stops counting, waits for every answer, and reads the register.
    ///
    /// # Panics
    /// If a request has no answer, or another than its number.
    pub fn finish(self) -> Ran {
        self.ended.store(true, Ordering::SeqCst);
        let ran = self.thread.join().expect("the count is gapless");
        ran.unwrap_or_else(|error| panic!("a request was not answered: {error:?}"))
    }

    /// Waits for the session's end, which comes as an error.
    ///
    /// # Panics
    /// If it goes on.
    pub fn fails(self, pair: &Pair) -> CallError {
        wait_for(DEADLINE, || self.thread.is_finished().then_some(()).ok_or(()))
            .unwrap_or_else(|()| panic!("the session goes on: {:?}{}", self.session, pair.logs()));
        let ran = self.thread.join().expect("the count is gapless until then");
        ran.expect_err("the session cannot have been closed in good order")
    }
}

/// What the thread does.
struct Count {
    session: Session,
    name: String,
    answered: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    longest_gap: Duration,
    last: Instant,
}

impl Count {
    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    fn run(mut self) -> Result<Ran, CallError> {
        self.last = Instant::now();
        let mut under_way = VecDeque::new();
        while !self.ended.load(Ordering::SeqCst) {
            let add = Op::Add { name: self.name.clone(), delta: 1 };
            under_way.push_back(self.session.submit(add.encode())?);
            if under_way.len() >= UNDER_WAY {
                self.take(under_way.pop_front())?;
            }
            std::thread::sleep(PAUSE);
        }
        while !under_way.is_empty() {
            self.take(under_way.pop_front())?;
        }
        let answered = self.answered.load(Ordering::SeqCst);
        let get = Op::Get { name: self.name.clone() };
        let read = Answer::decode(&self.session.request(get.encode())?).expect("an answer");
        assert_eq!(read, Answer::Value(Some(answered.cast_signed())), "each took effect once");
        Ok(Ran { answered, longest_gap: self.longest_gap })
    }

    #[expect(clippy::disallowed_methods, reason = "a client is outside the pair")]
    fn take(&mut self, ticket: Option<PendingReply>) -> Result<(), CallError> {
        let Some(ticket) = ticket else { return Ok(()) };
        let answer = Answer::decode(&ticket.wait()?).expect("an answer");
        let number = self.answered.load(Ordering::SeqCst) + 1;
        assert_eq!(answer, Answer::Value(Some(number.cast_signed())), "no gap, nothing twice");
        let now = Instant::now();
        self.longest_gap = self.longest_gap.max(now - self.last);
        self.last = now;
        self.answered.store(number, Ordering::SeqCst);
        Ok(())
    }
}

/// Has the pair serve a new client: a session is opened, used and closed.
///
/// # Errors
/// Why none was opened.
///
/// # Panics
/// If the session that was opened is not answered.
pub fn serves(pair: &Pair) -> Result<(), OpenError> {
    let session = Session::open(settings(pair))?;
    adds(&session, pair);
    session.close().unwrap_or_else(|error| panic!("{error:?}{}", pair.logs()));
    Ok(())
}

/// A session that asks nothing by itself.
///
/// # Panics
/// If none is opened.
pub fn open(pair: &Pair) -> Session {
    Session::open(settings(pair)).unwrap_or_else(|error| panic!("{error}{}", pair.logs()))
}

/// Has a session make one request.
///
/// # Panics
/// If it is not answered.
pub fn adds(session: &Session, pair: &Pair) {
    let add = Op::Add { name: "served".into(), delta: 1 };
    let answer = session.request_within(add.encode(), DEADLINE);
    answer.unwrap_or_else(|error| panic!("{error:?}{}", pair.logs()));
}

/// How many CoServers serve a session.
pub fn serving(session: &Session) -> usize {
    let status = session.status();
    let serves = |place: &ReplicaId| matches!(status.place(*place), PlaceStatus::Serving { .. });
    ReplicaId::BOTH.iter().filter(|place| serves(place)).count()
}

/// Waits until so many CoServers serve a session.
///
/// # Panics
/// If that does not come about in time.
pub fn wait_for_serving(session: &Session, pair: &Pair, wanted: usize) {
    let look = || {
        let found = serving(session);
        if found == wanted { Ok(()) } else { Err(found) }
    };
    wait_for(DEADLINE, look).unwrap_or_else(|found| {
        panic!("{found} CoServers serve the client, not {wanted}{}", pair.logs())
    });
}
