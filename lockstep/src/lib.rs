//! lockstep: run a deterministic service on two ordinary servers at once.

pub mod client;
pub mod device;
pub mod digest;
pub mod entry;
pub mod event;
pub mod ids;
pub mod limits;
pub mod machine;
pub mod output;
pub mod proto;
pub mod record;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(any(feature = "runtime", lockstep_loom))]
pub mod sync;
pub mod testing;
pub mod unit;
pub mod wire;
pub mod witness;
