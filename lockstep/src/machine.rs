//! The trait of a service: a deterministic state machine.
//!
//! A service sees the outside only through the arguments of its methods, and
//! acts on it only through its [`Context`]. Given the same steps it must make
//! the same outputs, on any machine, in any process, at any speed. So it must
//! not
//!
//! - read a clock: [`Context::now`] is the time;
//! - start threads or wait for them;
//! - iterate over `HashMap` or `HashSet`: their order differs from process to
//!   process; use `BTreeMap` and `BTreeSet`;
//! - draw random numbers from the system: seed a generator from
//!   [`Step::Start`];
//! - look at addresses of objects, process ids, environment variables, files or
//!   globals that something else changes.
//!
//! [`crate::testing`] finds violations by running a service twice.

use bytes::Bytes;

use crate::digest::Digest;
use crate::ids::{DeviceId, Index, LogTime, Place, RequestNumber, SessionId};
use crate::output::{Carrier, Output, OutputKind};

/// A service that runs in lockstep: everything it is told and asked, in order.
///
/// Each call of [`step`](Self::step) is a transaction: its outputs are staged
/// and count only when it returns. A panic inside is caught, and the replica
/// holds at that entry.
pub trait StateMachine: Send + 'static {
    /// A consistent view of the state, cheap to take.
    type Frozen: Freeze;

    /// What both CoServers must agree on before they run together.
    fn identity(&self) -> Identity;

    /// One thing happened. For [`Step::Request`] the returned bytes are the reply; for every
    /// other step they are ignored.
    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes;

    /// Takes a view of the whole state; it must not be slow, and the service goes on afterwards.
    fn freeze(&self) -> Self::Frozen;

    /// Replaces the state by one that a frozen view has written. The bytes are checked for
    /// damage before they come here, but may be of an older version of the service.
    ///
    /// # Errors
    /// If the records are not a state of this service.
    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError>;
}

/// What runs: compared when the CoServers meet; a difference is refused with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The service's name.
    pub name: String,
    /// Its version; raise it with every change of behaviour.
    pub version: u32,
    /// Digest of the configuration that the service's behaviour depends on.
    pub configuration: Digest,
}

/// A consistent view of a service's state that can be written out elsewhere, later.
pub trait Freeze: Send + 'static {
    /// Writes the state as a sequence of records, each at most
    /// [`limits::RECORD_BYTES`](crate::limits::RECORD_BYTES) long. The same state gives the same
    /// records on both CoServers.
    ///
    /// # Errors
    /// Those of the sink, passed on.
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError>;
}

/// Takes the records of a frozen state.
pub trait RecordSink {
    /// One record.
    ///
    /// # Errors
    /// If the record is too long or cannot be stored.
    fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError>;
}

/// Gives the records of a frozen state back, in order.
pub trait RecordSource {
    /// The next record, `None` after the last one.
    ///
    /// # Errors
    /// If the records cannot be read.
    fn record(&mut self) -> Result<Option<Bytes>, RestoreError>;
}

/// A record could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The record is longer than a record may be.
    #[error(
        "a record of {len} bytes is over the limit of {limit}: write the state in smaller records"
    )]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Storing it failed.
    #[error("storing a record failed")]
    Io(#[from] std::io::Error),
}

/// A state could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The records end too early.
    #[error("the state ends before its {missing}")]
    Missing {
        /// What should have come.
        missing: &'static str,
    },
    /// A record is not what it should be.
    #[error("the state's {record} is not valid: {why}")]
    Invalid {
        /// Which record.
        record: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Reading the records failed.
    #[error("reading the state failed")]
    Io(#[from] std::io::Error),
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The first step of all.
    Start {
        /// The seed of all randomness: the same on both CoServers, different for every lineage.
        seed: &'a [u8; 32],
    },
    /// The wake-up that the service had set is due; [`Context::now`] is its deadline.
    Wake,
    /// A session was opened; its requests follow.
    SessionOpened {
        /// Its id.
        session: SessionId,
    },
    /// A session ended: its client closed it, or it was idle for too long.
    SessionEnded {
        /// Its id, never used again.
        session: SessionId,
    },
    /// A client's request. It comes here exactly once, in its session's order.
    Request {
        /// The session.
        session: SessionId,
        /// The request's number there, from 1 without gaps.
        number: RequestNumber,
        /// What is asked.
        body: &'a [u8],
    },
    /// Something happened on a device.
    Device {
        /// Which.
        device: DeviceId,
        /// On which CoServer.
        place: Place,
        /// What.
        bytes: &'a Bytes,
    },
    /// The members or the sequencer changed: what only a CoServer that left could carry out is
    /// lost, and what the sequencer carries is now elsewhere.
    Members {
        /// Who is a member, by place.
        present: [bool; 2],
        /// Who orders the inputs from here on.
        sequencer: Place,
    },
}

/// What a step may use: the time, and the ways out.
#[derive(Debug)]
pub struct Context<'a> {
    index: Index,
    step: u32,
    now: LogTime,
    outputs: &'a mut Vec<Output>,
    first: usize,
    wakeup: &'a mut Option<LogTime>,
}

impl<'a> Context<'a> {
    /// A step's context. Outputs are appended to `outputs`.
    pub(crate) fn new(
        index: Index,
        step: u32,
        now: LogTime,
        outputs: &'a mut Vec<Output>,
        wakeup: &'a mut Option<LogTime>,
    ) -> Self {
        let first = outputs.len();
        Self { index, step, now, outputs, first, wakeup }
    }

    /// The entry that is being executed.
    pub fn index(&self) -> Index {
        self.index
    }

    /// The step within the entry: 0 unless wake-ups were due before it.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// Log time of this step: the same on both CoServers. It never goes back; two steps may
    /// share it.
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// Asks a device to do something, once this step is agreed upon.
    pub fn send(&mut self, device: DeviceId, carrier: Carrier, bytes: Bytes) {
        self.push(OutputKind::Device { device, carrier, bytes });
    }

    /// When the service wants to be woken next; `None` for never. Replaces what was set before.
    /// A time that is not after [`now`](Self::now) counts as one nanosecond after it.
    pub fn set_wakeup(&mut self, at: Option<LogTime>) {
        *self.wakeup = at.map(|at| at.max(LogTime(self.now.0.saturating_add(1))));
    }

    /// What was last set.
    pub fn wakeup(&self) -> Option<LogTime> {
        *self.wakeup
    }

    pub(crate) fn push(&mut self, kind: OutputKind) {
        let ordinal = u32::try_from(self.outputs.len() - self.first).unwrap_or(u32::MAX);
        self.outputs.push(Output { step: self.step, ordinal, kind });
    }
}
