//! The mail relay as processes, and what stands on either side of it.

mod campaign;
mod relay;
mod tools;

pub use campaign::{Campaign, Outcome};
pub use relay::{Hop, RelayPair, runtime, wait_until};
pub use tools::{Python, find_tool, free_address, note, run_to_end};
