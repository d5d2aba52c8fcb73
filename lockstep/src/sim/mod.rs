//! The simulator: the pair, its witness and its clients in virtual time, from one seed.
//!
//! The cores are those of the real processes, and every frame goes through the
//! real codec; only time, the network, the disks and chance are made here. A
//! run has a phase with faults and then one without, and [`checkers`] watch it
//! from outside after every step. `docs/simulator.md` says how to use it and
//! what it shows.
//!
//! ```
//! use lockstep::sim::{Plan, run};
//!
//! let outcome = run(1, &Plan::default());
//! assert!(outcome.verdict.is_none());
//! assert_eq!(outcome.digest, run(1, &Plan::default()).digest);
//! ```

pub mod campaign;
pub mod checkers;
pub mod command;
pub mod faults;
pub mod marks;
pub mod mutants;
pub mod options;

mod clock;
mod disk;
mod effects;
mod execution;
mod fresh;
mod guardian;
mod inject;
mod intake;
mod net;
mod node;
mod operator;
mod ops;
mod queue;
mod rng;
mod service;
pub mod shares;
mod steps;
mod storage;
mod trace;
mod watch;
mod wiring;
mod witness;
mod workload;
mod world;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use mutants::Mutant;
pub use options::Profile;
pub use trace::Words;
pub use world::Outcome;

use checkers::CheckerName;
use options::Options;
use rng::Rng;
use world::World;

/// What is to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// From which distribution the options are drawn.
    pub profile: Profile,
    /// What is broken on purpose.
    pub mutant: Option<Mutant>,
    /// The only checker that watches, if not all do.
    pub checker: Option<CheckerName>,
    /// How much of what happens is put into words.
    pub words: Words,
}

/// Runs one seed.
///
/// # Panics
/// If a core breaks one of its own invariants; [`campaign`] makes a failure of it.
pub fn run(seed: u64, plan: &Plan) -> Outcome {
    let mut rng = Rng::new(seed);
    let options = Options::draw(plan.profile, plan.mutant, &mut rng.fork());
    World::new(options, rng, plan.words, plan.checker).run()
}

/// The options of a seed, to be shown.
pub fn options(seed: u64, plan: &Plan) -> Options {
    Options::draw(plan.profile, plan.mutant, &mut Rng::new(seed).fork())
}
