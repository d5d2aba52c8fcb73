//! What users call in their own tests: the service alone, and the search for nondeterminism.
//!
//! - [`Solo`] runs a service without any pair: one input in, its outputs out.
//! - [`Script`] is a sequence of inputs: written down, made from [`Input`]s that a property test
//!   generates, or drawn from a seed.
//! - [`check_determinism`] runs a service over a script several times: straight, and with its state
//!   frozen and restored in between, wherever the script has a process start again and elsewhere.
//!   It also runs it in a second process with another clock, environment and working directory. It
//!   names the first thing that differs, and on what that depends.
//!
//! ```
//! use lockstep::testing::{Script, check_determinism};
//! # use bytes::Bytes;
//! # use lockstep::digest::Digest;
//! # use lockstep::machine::*;
//! # struct Counter(u64);
//! # struct Frozen(u64);
//! # impl Freeze for Frozen {
//! #     fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
//! #         sink.record(&self.0.to_le_bytes())
//! #     }
//! # }
//! # impl StateMachine for Counter {
//! #     type Frozen = Frozen;
//! #     fn identity(&self) -> Identity {
//! #         Identity { name: "counter".into(), version: 1, configuration: Digest::ZERO }
//! #     }
//! #     fn step(&mut self, _: &mut Context<'_>, step: Step<'_>) -> Bytes {
//! #         if let Step::Request { body, .. } = step {
//! #             self.0 += body.len() as u64;
//! #         }
//! #         self.0.to_string().into()
//! #     }
//! #     fn freeze(&self) -> Frozen {
//! #         Frozen(self.0)
//! #     }
//! #     fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
//! #         let record = records.record()?.ok_or(RestoreError::Missing { missing: "count" })?;
//! #         let bytes = record[..].try_into().map_err(|_| RestoreError::Missing { missing: "count" })?;
//! #         self.0 = u64::from_le_bytes(bytes);
//! #         Ok(())
//! #     }
//! # }
//! for seed in 0..4 {
//!     let script = Script::random(seed, 100, |rng| rng.bytes(16));
//!     check_determinism(|| Counter(0), &script)?;
//! }
//! # Ok::<(), lockstep::testing::Difference>(())
//! ```

mod check;
mod difference;
mod recorder;
mod rng;
mod script;
mod second;
mod solo;
#[cfg(test)]
mod tests;

pub use check::{Check, check_determinism};
pub use difference::{Difference, Mismatch, Run, Spot};
pub use recorder::process;
pub use rng::Rng;
pub use script::{Input, Script};
pub use second::Condition;
pub use solo::Solo;
