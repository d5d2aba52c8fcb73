//! The trait of a service: a deterministic state machine.
//!
//! A service sees the outside only through the arguments of its methods, and
//! acts on it only through its [`Context`]. Given the same steps it must make
//! the same outputs, on any machine, in any process, at any speed.
//!
//! # A whole service
//!
//! ```
//! use lockstep::bytes::Bytes;
//! use lockstep::digest::Digest;
//! use lockstep::machine::*;
//! use lockstep::testing::Solo;
//!
//! /// Adds up the numbers that its clients send.
//! #[derive(Default)]
//! struct Adder(u64);
//!
//! impl StateMachine for Adder {
//!     type Frozen = Bytes;
//!     fn identity(&self) -> Identity {
//!         Identity { name: "adder".into(), version: 1, configuration: Digest::ZERO }
//!     }
//!     fn step(&mut self, _: &mut Context<'_>, step: Step<'_>) -> Bytes {
//!         let Step::Request { body, .. } = step else { return Bytes::new() };
//!         let number = str::from_utf8(body).ok().and_then(|text| text.parse::<u64>().ok());
//!         let Some(number) = number else { return "not a number".into() };
//!         self.0 = self.0.wrapping_add(number);
//!         self.0.to_string().into()
//!     }
//!     fn freeze(&self) -> Bytes {
//!         Bytes::copy_from_slice(&self.0.to_le_bytes())
//!     }
//!     fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
//!         let record = records.record()?;
//!         let sum = record.and_then(|record| record[..].try_into().ok());
//!         self.0 = u64::from_le_bytes(sum.ok_or(RestoreError::Missing { missing: "sum" })?);
//!         Ok(())
//!     }
//! }
//!
//! let mut adder = Solo::new(Adder::default());
//! assert_eq!(adder.request(1, "40")?, "40");
//! assert_eq!(adder.request(2, "2")?, "42");
//! assert_eq!(adder.request(2, "two")?, "not a number");
//! # Ok::<(), lockstep::output::Refusal>(())
//! ```
//!
//! A request that makes no sense is answered, not panicked over: a panic stops both CoServers.
//!
//! # Views that cost nothing
//!
//! [`freeze`](StateMachine::freeze) is called between two entries, and neither CoServer executes
//! anything until it returns. What it gives is written out later, on another thread, while the
//! service goes on; so it must share nothing that changes. A checkpoint is taken whenever
//! `storage.checkpoint_bytes` of entries have come, and when a joiner needs one.
//!
//! - **A few megabytes** may be copied: a [`Bytes`] that says everything, as above, or a clone of
//!   the state with a [`Freeze`] of its own. A copy takes some milliseconds for ten megabytes; it
//!   is the `freeze` in the metrics, and every request waits for it.
//! - **More** is kept in persistent maps, such as those of the `imbl` crate. A clone shares
//!   everything with the original, takes no time however large the map is, and costs a copy only of
//!   the nodes that change afterwards. Values that are large themselves are [`Bytes`] or in an
//!   `Arc`. Then the view is a clone of the whole state, and is written in records of some
//!   kilobytes, each at most [`RECORD_BYTES`] long:
//!
//! ```
//! # use lockstep::bytes::Bytes;
//! # use lockstep::machine::*;
//! use imbl::OrdMap;
//!
//! /// The state. Not: `BTreeMap`, whose clone copies everything.
//! #[derive(Clone, Default)]
//! struct Accounts {
//!     balances: OrdMap<u64, i64>,
//! }
//!
//! /// A view: the clone, which shares with the live state only what never changes.
//! struct Frozen(Accounts);
//!
//! impl Freeze for Frozen {
//!     fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
//!         let balances: Vec<_> = self.0.balances.iter().collect();
//!         // A record for each hundred accounts: not one for each, and not one for all.
//!         balances.chunks(100).try_for_each(|chunk| {
//!             let numbers = chunk.iter().flat_map(|(account, balance)| {
//!                 [account.to_le_bytes(), balance.to_le_bytes()].concat()
//!             });
//!             sink.record(&numbers.collect::<Vec<u8>>())
//!         })
//!     }
//! }
//!
//! impl Accounts {
//!     fn restore(records: &mut dyn RecordSource) -> Result<Self, RestoreError> {
//!         let mut balances = OrdMap::new();
//!         while let Some(record) = records.record()? {
//!             let (numbers, rest) = record.as_chunks::<8>();
//!             if !rest.is_empty() || numbers.len() % 2 != 0 {
//!                 let why = format!("{} bytes are no accounts", record.len());
//!                 return Err(RestoreError::Invalid { record: "accounts", why });
//!             }
//!             for pair in numbers.chunks_exact(2) {
//!                 balances.insert(u64::from_le_bytes(pair[0]), i64::from_le_bytes(pair[1]));
//!             }
//!         }
//!         Ok(Self { balances })
//!     }
//! }
//! # let mut accounts = Accounts::default();
//! # accounts.balances.insert(1, -2);
//! # let frozen = Frozen(accounts.clone());
//! # accounts.balances.insert(3, 4);
//! # struct Kept(Vec<Bytes>);
//! # impl RecordSink for Kept {
//! #     fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
//! #         self.0.push(Bytes::copy_from_slice(bytes));
//! #         Ok(())
//! #     }
//! # }
//! # impl RecordSource for Kept {
//! #     fn record(&mut self) -> Result<Option<Bytes>, RestoreError> { Ok(self.0.pop()) }
//! # }
//! # let mut kept = Kept(Vec::new());
//! # frozen.write(&mut kept)?;
//! # assert_eq!(Accounts::restore(&mut kept)?.balances.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The register in `examples/` does it so. What follows from the rest of the state (an index, a
//! sum) is left out and computed anew by `restore`.
//!
//! # What a service must not do, and what it does instead
//!
//! [`crate::testing`] finds most violations by running a service several times, in two
//! processes; the `clippy.toml` of this repository forbids the usual ways into them, and is
//! there to be copied.
//!
//! **Read a clock.** [`Context::now`] is the time, the same on both CoServers. It stands still
//! during a step, so it measures nothing. Instead of sleeping, set a wake-up:
//!
//! ```
//! # use lockstep::bytes::Bytes;
//! # use lockstep::machine::*;
//! # use core::time::Duration;
//! fn step(context: &mut Context<'_>, step: Step<'_>) {
//!     match step {
//!         // Not: std::thread::sleep, Instant::now().
//!         Step::Request { .. } => {
//!             let in_a_minute = context.now().plus(Duration::from_secs(60));
//!             context.set_wakeup(Some(in_a_minute));
//!         }
//!         Step::Wake => { /* a minute later */ }
//!         _ => {}
//!     }
//! }
//! ```
//!
//! There is one wake-up. A service with several deadlines keeps them in a
//! `BTreeMap<LogTime, Vec<Job>>` and sets the wake-up to the first key after every step.
//!
//! Log time goes on while no process runs, wake-ups do not come: [`Step::Resumed`] says for how
//! long, before anything else. It comes where all processes had ended, and where the sequencer
//! stood still for more than [`GAP_LEAST`](crate::limits::GAP_LEAST). It also comes where a wake-up
//! could not come for so long because no process might order, or there was no room. That wake-up
//! comes after it, once. What is late by less is only late: it comes at its own time, and nothing
//! is said. A CoServer that holds its outputs for want of peer and witness still makes steps; of
//! that a service is not told.
//!
//! **Start threads, or wait for something.** A step computes and returns. Work that takes long
//! is cut into parts, one per wake-up; what has to happen elsewhere goes to a device
//! ([`Context::send`]), whose answer comes as [`Step::Device`]. Threads whose results cannot
//! depend on their timing (a parallel sort that is stable) do no harm.
//!
//! **Iterate in hash order.** `HashMap` and `HashSet` are seeded differently in each process;
//! even a lookup that never iterates is one change away from doing so.
//!
//! ```
//! use std::collections::BTreeMap;
//! // Not: HashMap. The first name that is due would be another one on the other CoServer.
//! let mut jobs: BTreeMap<String, u64> = BTreeMap::new();
//! jobs.insert("mail".into(), 3);
//! jobs.insert("backup".into(), 3);
//! let due = jobs.iter().find(|(_, priority)| **priority == 3);
//! assert_eq!(due.map(|(name, _)| name.as_str()), Some("backup"));
//! ```
//!
//! **Draw random numbers from the system.** [`Step::Start`] brings a seed. The generator is part
//! of the state, so it is frozen and restored:
//!
//! ```
//! # use lockstep::machine::*;
//! use lockstep::rand_chacha::ChaCha8Rng;
//! use lockstep::rand_chacha::rand_core::{Rng, SeedableRng};
//!
//! struct Lottery {
//!     // Not: rand::rng(), getrandom, RandomState.
//!     random: ChaCha8Rng,
//! }
//!
//! impl Lottery {
//!     fn start(seed: &[u8; 32]) -> Self {
//!         Self { random: ChaCha8Rng::from_seed(*seed) }
//!     }
//!     fn draw(&mut self) -> u64 {
//!         self.random.next_u64() % 49 + 1
//!     }
//!     /// Frozen as the seed and how far the generator is.
//!     fn state(&self) -> ([u8; 32], u128) {
//!         (self.random.get_seed(), self.random.get_word_pos())
//!     }
//! }
//! # let mut one = Lottery::start(&[1; 32]);
//! # one.draw();
//! # let (seed, position) = one.state();
//! # let mut other = Lottery::start(&seed);
//! # other.random.set_word_pos(position);
//! # assert_eq!(one.draw(), other.draw());
//! ```
//!
//! Randomness is no secret from the people who operate the pair: keys are drawn outside and
//! handed in.
//!
//! **Look at addresses.** Neither as numbers (`{:p}`, `as *const _ as usize`) nor by sorting or
//! comparing by them. Give things numbers of your own:
//!
//! ```
//! # use std::collections::BTreeMap;
//! #[derive(Default)]
//! struct Players {
//!     // Not: the player's address as its id.
//!     next: u64,
//!     by_id: BTreeMap<u64, String>,
//! }
//!
//! impl Players {
//!     fn add(&mut self, name: &str) -> u64 {
//!         self.next += 1;
//!         self.by_id.insert(self.next, name.to_owned());
//!         self.next
//!     }
//! }
//! # assert_eq!(Players::default().add("a"), 1);
//! ```
//!
//! **Keep state in globals, thread locals or files, or read the environment.** A service lives
//! in one process with others, moves between threads, and is restored into a fresh instance.
//! All of its state is in its fields, and all of those are in [`freeze`](StateMachine::freeze),
//! or follow from what is. Configuration comes with the constructor, and its digest goes into
//! [`Identity::configuration`], so that two CoServers with different ones refuse each other:
//!
//! ```
//! # use lockstep::digest::Digest;
//! # use lockstep::machine::*;
//! struct Relay {
//!     // Not: std::env::var("DOMAIN") in a step.
//!     domain: String,
//! }
//!
//! impl Relay {
//!     fn identity(&self) -> Identity {
//!         let configuration = Digest::of(self.domain.as_bytes());
//!         Identity { name: "relay".into(), version: 3, configuration }
//!     }
//! }
//! # assert_eq!(Relay { domain: String::new() }.identity().version, 3);
//! ```
//!
//! **Log everything twice.** A service may log with `tracing` whatever it likes: a log line is no
//! output, and is not compared. But every entry is executed on both CoServers, and some again
//! later. What is no news is therefore marked with the name of a span, which stands in front of the
//! message (`follower: mail queued`):
//!
//! | span | what it is |
//! | --- | --- |
//! | none | news: the sequencer executes the entry |
//! | `follower` | the other CoServer executes it too, and logs it as news |
//! | `catch_up` | it is from before this CoServer was a member; the other one logged it |
//! | `replay` | it is from the disk; it was logged before the restart |
//!
//! A reader of both logs who leaves out what is marked has read everything once. When the sequencer
//! dies, what it had not written any more is in the follower's log, and marked there.
//!
//! Where a line must go somewhere else, or must not go before the pair has agreed upon what it
//! says, it is no log but an output. Send it to a device ([`Context::send`]) by way of
//! [`Carrier::Sequencer`]. It is carried out by one CoServer, neither in a replay nor while
//! catching up, and what becomes of it when that one dies is what the device's
//! [class](crate::device::OutputClass) says.
//!
//! **Depend on the width of `usize` or on the byte order**, where the CoServers are not alike.
//! Write numbers with `to_le_bytes`, and hash with a function that is the same everywhere, not with
//! `std`'s `DefaultHasher`.
//!
//! **Trust floating point further than it goes.** `+`, `-`, `*`, `/` and `sqrt` are exact to the
//! bit on every target that Rust has IEEE 754 for. `sin`, `exp`, `powf` and the like come from the
//! platform's library and may differ between its versions. The sign and payload of a NaN may differ
//! too, so it must not reach an output. Money and counts are integers:
//!
//! ```
//! /// Interest in cents, rounded down. Not: `balance as f64 * 1.05_f64.powf(years)`.
//! fn interest(cents: u64, basis_points: u64) -> u64 {
//!     (u128::from(cents) * u128::from(basis_points) / 10_000) as u64
//! }
//! assert_eq!(interest(1_999, 500), 99);
//! ```

use core::time::Duration;

use bytes::Bytes;

use crate::digest::Digest;
use crate::ids::{DeviceId, Index, LogTime, ReplicaId, RequestNumber, SessionId};
use crate::limits::RECORD_BYTES;
use crate::output::{Carrier, Output, OutputKind};
use crate::record::Members;

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

    /// Executes one step: one thing that happened. For [`Step::Request`] the returned bytes are the
    /// reply; for every other step they are ignored.
    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes;

    /// Whether a request changes nothing, by its bytes alone: neither the state nor anything
    /// outside, whatever the state is. A client whose key may only read (`rights = "read"`) can
    /// make those requests and no others: what it asks beside them is refused, and no
    /// [`Step::Request`]. It opens and ends sessions like every client.
    ///
    /// It is asked outside of the log, on the thread that serves the network, and of bytes that
    /// need not be a request at all. Be quick, and say `true` only of what is known to be harmless.
    /// By default nothing is.
    ///
    /// ```
    /// # use lockstep::machine::*;
    /// /// `get NAME` and `list` change nothing; `set NAME VALUE` does.
    /// fn is_read_only(request: &[u8]) -> bool {
    ///     request.starts_with(b"get ") || request == b"list"
    /// }
    /// # assert!(is_read_only(b"get x") && !is_read_only(b"set x 1"));
    /// ```
    fn is_read_only(request: &[u8]) -> bool
    where
        Self: Sized,
    {
        let _ = request;
        false
    }

    /// The most bytes that its settings let its state take, with what its devices hold for it; 0
    /// where it cannot say. A view that is being written keeps what the state gives up meanwhile:
    /// that counts too. Asked once, when a CoServer starts, which compares the sum of everything
    /// that it may hold with what the process may have, and warns of too little (`memory_short`).
    /// Nothing is refused for it.
    fn memory_bound(&self) -> u64 {
        0
    }

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
    /// The service's version; raise it with every change of behaviour.
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

/// A small state, frozen as bytes that say everything: as many records as they need, none for
/// none. What restores them reads to the end.
impl Freeze for Bytes {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        self.chunks(RECORD_BYTES).try_for_each(|record| sink.record(record))
    }
}

/// Takes the records of a frozen state.
pub trait RecordSink {
    /// Adds a record.
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
        /// The record's length in bytes.
        len: usize,
        /// Most bytes that a record may have.
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
        /// The record's name.
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
    /// The wake-up that the service had set is due; [`Context::now`] is its deadline. It comes
    /// late where more were due before one entry than a bound allows, and where its deadline lay
    /// in a gap, or soon after one ([`Resumed`](Self::Resumed)).
    Wake,
    /// For a while nothing was done: the step before, or the last entry, was `gap` earlier, and
    /// nothing came in between, no wake-up and no input. So `gap` is at least as long as no process
    /// ran. There are two cases:
    ///
    /// - Every process of the pair had ended, and one was started again with everything that it had
    ///   on disk (rule O11 in `docs/protocol.md`). The step for the new [`Members`](Self::Members)
    ///   is the next one: what was tied to processes is lost.
    /// - The sequencer stood still, or no process could order, for more than
    ///   [`limits::GAP_LEAST`](crate::limits::GAP_LEAST) (rule O14). The members are the same, or
    ///   were told just before, and what is tied to those that stayed is there still.
    ///
    /// Nothing outside could happen during the gap. Time limits for what is outside (a delivery, an
    /// answer, the age at which something is given up) are best moved on by it. What is due by the
    /// calendar stays as it is, and what comes at intervals goes on from now.
    ///
    /// A wake-up whose deadline lay in the gap comes once, after this. In the first case not before
    /// the devices stand, and at the latest [`limits::DEVICES_WAIT`](crate::limits::DEVICES_WAIT)
    /// later; until then no wake-up comes, while inputs do. If the process ends again before that,
    /// there is another step of this kind, with the gap from then on.
    Resumed {
        /// Since the step before, or the last entry, by log time.
        gap: Duration,
    },
    /// A session was opened; its requests follow.
    SessionOpened {
        /// The session's id.
        session: SessionId,
    },
    /// A session ended: its client closed it, or it was idle for too long.
    SessionEnded {
        /// The session's id, never used again.
        session: SessionId,
    },
    /// A client's request. The request comes here exactly once, in its session's order.
    Request {
        /// The session in which the client asks.
        session: SessionId,
        /// The request's number in its session, from 1 without gaps.
        number: RequestNumber,
        /// The request, in the service's own encoding.
        body: &'a [u8],
    },
    /// Something happened on a device.
    Device {
        /// The device that brought the input.
        device: DeviceId,
        /// The CoServer on which the device is.
        place: ReplicaId,
        /// The input, in the device's own encoding.
        bytes: &'a Bytes,
    },
    /// The members or the sequencer changed: what only a process that left could carry out is
    /// lost, and what the sequencer carries is now elsewhere.
    ///
    /// A place may have a member before and after, and yet another process. A CoServer may have
    /// been removed and be back, or have been started again with everything that it had on disk.
    /// What was tied to the process before (its sockets, its handles, what it had been told) is
    /// gone all the same. So a service that ties anything to a CoServer compares incarnations, not
    /// places. The service itself goes on with its whole state, however many processes ended.
    Members {
        /// The process that is a member at each place, if any is.
        members: Members,
        /// Who orders the inputs from here on.
        sequencer: ReplicaId,
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

    /// The entry that is being executed. Inputs that were ordered together share it; with
    /// [`step`](Self::step) it names this step alone.
    pub fn index(&self) -> Index {
        self.index
    }

    /// The step within the entry, from 0: wake-ups that were due, and each of the entry's inputs.
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

    /// The wake-up that was last set.
    pub fn wakeup(&self) -> Option<LogTime> {
        *self.wakeup
    }

    fn push(&mut self, kind: OutputKind) {
        let ordinal = u32::try_from(self.outputs.len() - self.first).unwrap_or(u32::MAX);
        self.outputs.push(Output { step: self.step, ordinal, kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lengths(Vec<usize>);

    impl RecordSink for Lengths {
        fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
            self.0.push(bytes.len());
            Ok(())
        }
    }

    #[test]
    fn bytes_are_as_many_records_as_they_need() {
        for (len, records) in [(0, vec![]), (1, vec![1]), (RECORD_BYTES + 1, vec![RECORD_BYTES, 1])]
        {
            let mut sink = Lengths(Vec::new());
            Bytes::from(vec![7; len]).write(&mut sink).unwrap();
            assert_eq!(sink.0, records);
        }
    }
}
