//! What the fuzz targets do.
//!
//! Each target is a function of bytes that panics if it finds something. The bytes are either
//! what a reader is given, or a sequence of choices ([`source`]) of what happens next, checked
//! against something simple. The functions know no fuzzer: cargo-fuzz drives them with coverage,
//! the tests of this crate with the committed inputs and some that are drawn from a fixed seed.

pub mod checkpoint;
pub mod core;
pub mod counting_service;
pub mod frames;
pub mod hostile;
pub mod journal;
pub mod sessions;
pub mod smtp;
pub mod source;
pub mod unit_restore;
pub mod witness;

/// A fuzz target, which also runs as an ordinary test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The target's name: that of its corpus and of its binary.
    pub name: &'static str,
    /// Runs the target over one input.
    pub body: fn(&[u8]),
    /// Drawn inputs in an ordinary test: two or three seconds without optimisation.
    pub draws: u32,
    /// The longest of them.
    pub longest: usize,
}

/// The targets that are fuzzed and tested.
pub const TARGETS: [Target; 10] = [
    Target { name: "frames", body: frames::run, draws: 20_000, longest: 400 },
    Target { name: "core", body: core::run, draws: 300, longest: 600 },
    Target { name: "hostile_peer", body: hostile::run, draws: 2_000, longest: 300 },
    Target { name: "unit_restore", body: unit_restore::run, draws: 20_000, longest: 400 },
    Target { name: "witness", body: witness::run, draws: 5_000, longest: 300 },
    Target { name: "smtp_server", body: smtp::server, draws: 5_000, longest: 1_000 },
    Target { name: "smtp_client", body: smtp::client, draws: 5_000, longest: 600 },
    Target { name: "sessions", body: sessions::run, draws: 3_000, longest: 300 },
    Target { name: "checkpoint", body: checkpoint::run, draws: 20_000, longest: 300 },
    Target { name: "journal", body: journal::run, draws: 1_500, longest: 300 },
];

/// Runs the target of this name.
///
/// # Panics
/// If there is no such target, or it finds something.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.body)(data);
}
