//! The replica core.
//!
//! What is *not* here: threads, sockets, files, clocks, entropy, locks, and
//! anything whose order differs from run to run. Time and randomness are
//! arguments; the service is not called but reported on. So the same code runs
//! in the real runtime, in the simulator and under a fuzzer.
//!
//! # Driving a replica
//!
//! 1. Give it everything that has happened, one [`Input`] at a time,
//!    with the time: [`Replica::handle`].
//! 2. Drain [`Replica::poll`] and do what it says. Frames come out before
//!    executions; send them before executing, so that the peer works meanwhile.
//! 3. Execute what [`Output::Execute`] hands out, in order,
//!    and give each result back as [`Input::Executed`].
//! 4. Call it with [`Input::Timeout`] no later than
//!    [`Replica::next_timeout`] says, asked anew after every round.
//! 5. Take inputs of clients and devices only while [`Replica::takes_input`];
//!    answer [`Output::Append`] and
//!    [`StorageRequest::PersistMembership`] when it is
//!    done.
//!
//! The rules that it keeps are numbered in `docs/protocol.md`; the code quotes
//! the numbers where it enforces them.

pub mod io;

mod checkpoints;
mod clients;
mod clock;
mod debts;
mod divergence;
mod donor;
mod epochs;
mod execution;
mod flow;
mod gap;
mod gateway;
mod joining;
mod links;
mod log;
mod membership;
mod ordering;
mod peer;
mod pending;
mod release;
mod repair;
mod replica;
mod shortage;
mod silence;
mod start;
mod timers;
mod waits;
mod witnesses;

#[cfg(test)]
mod tests;

pub use io::{
    Boot, Command, CommonPrefix, Config, Disk, DivergencePolicy, HandOverRefused, Input,
    Membership, Output, ReadmitRefused, Recovered, Removals, Standing, Status, StorageRequest,
    StorageResponse,
};
pub use replica::Replica;
pub use shortage::SessionCounts;
