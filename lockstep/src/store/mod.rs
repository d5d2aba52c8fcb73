//! What a CoServer keeps on disk: its journal, its checkpoints, its membership.
//!
//! All of it is written against [`files`], a handful of operations on one directory. So the same
//! code runs over the operating system's files, over the simulator's faulty disk and over bytes
//! drawn by a fuzzer.

pub mod checkpoint;
mod fields;
pub mod files;
pub mod home;
pub mod journal;
pub mod membership;
pub mod memory;
#[cfg(feature = "runtime")]
pub mod os;
#[cfg(any(feature = "runtime", feature = "sim"))]
#[cfg_attr(
    not(feature = "runtime"),
    allow(dead_code, unused_imports, reason = "threads and the command line use the rest")
)]
pub mod replica;
#[cfg(test)]
mod scratch;
