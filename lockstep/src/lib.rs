//! lockstep

pub mod ids;
#[cfg(feature = "runtime")]
pub mod runtime;
