//! lockstep

#[cfg(any(feature = "runtime", lockstep_loom))]
pub mod sync;
