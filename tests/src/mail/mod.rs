//! The mail relay as processes, and what stands on either side of it.

mod campaign;
mod client;
mod relay;
mod rounds;
mod steady;
mod tools;

pub use campaign::{Campaign, Outcome};
pub use client::Client;
pub use relay::{AbsentHop, Copies, Hop, RelayPair, runtime, wait_until};
pub(crate) use relay::{PUT_OFF, listens_at};
pub use rounds::{Balance, Blow, Draw, Round};
pub use steady::{Ledger, Pace, Span, Steady};
pub use tools::{Python, find_tool, free_address, run_to_end};
