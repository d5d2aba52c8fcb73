//! Run a deterministic service on two ordinary servers at once, in lockstep.
//!
//! Both servers (*CoServers*) execute the same inputs in the same order. Everything from outside
//! (requests, bytes on connections, time, timers, randomness) is captured once, ordered, and
//! shipped to both over redundant QUIC links. Nothing leaves the pair before both hold what caused
//! it and both computed the same thing. A CoServer that dies, hangs, loses its links or computes
//! something else is removed. The other goes on after the silence timeout and one question to the
//! witness: it already has the state and the pending output. When it is back, it is brought up to
//! date behind the other, which serves on. A *witness* on a third machine sees to it that at most
//! one side ever goes on alone.
//!
//! With durability `journal`, the default, an output leaves only when both have what caused it on
//! disk: a loss of both servers' power loses nothing that was acknowledged.
//!
//! # A service
//!
//! A service is a [`StateMachine`](machine::StateMachine): one method that is told what happened,
//! and two that copy its state. It must be deterministic; [`machine`] says what that means and
//! what to write instead of a clock, a thread or a `HashMap`.
//!
//! ```
//! use lockstep::bytes::Bytes;
//! use lockstep::digest::Digest;
//! use lockstep::machine::*;
//! use lockstep::testing::Solo;
//!
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Frozen = Bytes;
//!     fn identity(&self) -> Identity {
//!         Identity { name: "counter".into(), version: 1, configuration: Digest::ZERO }
//!     }
//!     fn step(&mut self, _: &mut Context<'_>, step: Step<'_>) -> Bytes {
//!         if let Step::Request { .. } = step {
//!             self.0 += 1;
//!         }
//!         Bytes::from(self.0.to_string())
//!     }
//!     fn freeze(&self) -> Bytes {
//!         Bytes::copy_from_slice(&self.0.to_le_bytes())
//!     }
//!     fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
//!         let record = records.record()?.and_then(|record| record[..].try_into().ok());
//!         self.0 = u64::from_le_bytes(record.ok_or(RestoreError::Missing { missing: "count" })?);
//!         Ok(())
//!     }
//! }
//!
//! let mut counter = Solo::new(Counter::default());
//! assert_eq!(counter.request(1, "next")?, "1");
//! assert_eq!(counter.request(2, "next")?, "2");
//! # Ok::<(), lockstep::output::Refusal>(())
//! ```
//!
//! A service that talks to the world through TCP connections, timers and random numbers is more
//! comfortably written against the `io-redirect` crate, which is built on this one.
//!
//! A service needs no other crate than this one. [`bytes`], [`rand_chacha`] (random numbers from
//! the seed that the log brings), [`tracing`] (what the process logs) and `clap` (commands of a
//! program's own) are re-exported.
//!
//! # Where is what
//!
//! | module | what |
//! | --- | --- |
//! | [`machine`] | the trait of a service, and what a service must not do |
//! | [`testing`] | for users' tests: a service alone, and a search for nondeterminism |
//! | [`device`] | how the engine meets the outside half of a redirected device |
//! | [`proto`] | the replica core: the protocol, without any I/O |
//! | [`mod@unit`] | what is replicated: the service, its sessions, its wake-ups |
//! | [`witness`] | the witness: rules, core, directory |
//! | [`client`] | the client's core, and its async and blocking faces |
//! | [`store`] | what a CoServer has on disk: journal, checkpoints, membership |
//! | [`wire`] | the frames, and how they become bytes |
//! | [`shares`] | whose place a newcomer gets where no more is left of something |
//! | [`exhaustion`] | what a machine runs out of, told apart from faults |
//! | `runtime` | the processes: CoServer, witness, configuration, keys, links over QUIC |
//! | `sync` | the concurrent primitives |
//! | `sim` | the simulator |
//! | [`ids`], [`entry`], [`history`], [`output`], [`record`], [`event`], [`loss`], [`digest`], [`limits`] | the nouns and the bounds |
//!
//! # Features
//!
//! - `cli` (default): `runtime`, and the command line of a program that runs a service.
//! - `runtime`: the processes and the client, with quinn and tokio. Without it only the cores
//!   are built.
//! - `sim`: the deterministic simulator and its command.
//! - `client-model`: what this project's own tests of a client's core play it against.
//! - `object-witness`, `object-witness-s3`: a folder, or also S3, in place of a witness process.

#[cfg(feature = "cli")]
pub use clap;
pub use {bytes, rand_chacha, tracing};

#[cfg(any(feature = "runtime", feature = "sim"))]
mod causes;
pub mod client;
pub mod device;
pub mod digest;
pub mod entry;
pub mod event;
pub mod exhaustion;
pub mod history;
pub mod ids;
pub mod limits;
pub mod loss;
pub mod machine;
pub mod outline;
pub mod output;
pub mod proto;
pub mod record;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod shares;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
#[cfg(any(feature = "runtime", lockstep_loom))]
pub mod sync;
pub mod testing;
pub mod unit;
pub mod wire;
pub mod witness;

/// The examples of the README are compiled as they stand there.
#[cfg(all(doctest, feature = "runtime"))]
#[doc = include_str!("../README.md")]
struct Readme;
