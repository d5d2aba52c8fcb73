//! Latency benchmarks, every row in one run with the same affinity.
//!
//! A *row* is one line of the table: a handful of processes, the core each one
//! is pinned to, and a number of round trips. A *part* is one of those
//! processes. The `latency` command is the parent; it starts parts by running
//! its own program file (or the peers' one) with the hidden word `part`.
//!
//! | module | what is there |
//! | --- | --- |
//! | [`placement`] | which part may run on which core |
//! | [`talk`] | the lines that parent and parts exchange |
//! | [`part`] | a part's side of that conversation |
//! | [`trips`] | round trips: what is in flight, how long each took |
//! | `harness` | the parent's side: start, wait, collect, never leave anything behind |
//! | `rows` | the rows; a new one is added there |
//! | `report` | medians over the rounds, as text and as JSON |
//! | `cli` | the command line |
//! | `bigstate` | a service with a large state, for what checkpoints and rejoining cost |
//! | `realpair` | a pair of processes with it, which may be killed and started again |
//! | `served` | a pair that runs by its command line, with guardians or without |
//! | `steady` | a steady load, and what it saw |
//!
//! The last eight need the feature `rows` (on by default).

pub mod part;
pub mod placement;
pub mod talk;
pub mod trips;

#[cfg(feature = "rows")]
pub mod bigstate;
#[cfg(feature = "rows")]
pub mod cli;
#[cfg(feature = "rows")]
pub mod harness;
#[cfg(feature = "rows")]
pub mod realpair;
#[cfg(feature = "rows")]
pub mod report;
#[cfg(feature = "rows")]
pub mod rows;
#[cfg(feature = "rows")]
pub mod served;
#[cfg(feature = "rows")]
pub mod steady;

use std::time::Instant;

/// The one place that reads the clock: a benchmark is made of it.
#[expect(clippy::disallowed_methods, reason = "measuring time is what this crate is for")]
pub fn now() -> Instant {
    Instant::now()
}
