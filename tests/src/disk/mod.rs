//! Faults of the storage under real processes, and a load whose history tells what was lost.
//!
//! [`medium`] is a file system on a loop device that can lose its power, and [`load`] the recording
//! client. [`site`] is a pair with small files on such disks or on ordinary ones. [`cuts`] are
//! rounds of power cuts. [`tracer`] makes system calls fail by `strace`, [`matrix`] each of them at
//! each of its calls, and [`results`] has what came of it.

pub mod cuts;
pub mod load;
pub mod matrix;
pub mod medium;
pub mod outcome;
pub mod results;
pub mod site;
pub mod tracer;

use std::path::PathBuf;

/// The register service's program, which is built beside the program that runs now, or one folder
/// above it if that is a test.
///
/// # Panics
/// If it is not there.
pub fn part() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its path");
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("register_part")).find(|part| part.exists());
    found.expect("built first: cargo build -p lockstep-tests --bins")
}

/// A number that differs from run to run, for drawing moments; zero is never given.
#[expect(clippy::disallowed_methods, reason = "a test is outside the pair")]
pub fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| since.as_micros() as u64) | 1
}

/// Numbers drawn from a seed, for moments and choices (xorshift; nothing depends on its quality).
#[derive(Clone, Copy, Debug)]
pub struct Draw(u64);

impl Draw {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
