//! A client's session with the pair: every request takes effect exactly once, whichever CoServer
//! dies meanwhile.
//!
//! [`core`] is the session without any I/O, [`io`] its boundary; [`window`] keeps what is under
//! way, [`place`] the state of the connection to one CoServer, [`jitter`] spreads waiting times.
//! With the feature `runtime`, [`session`] is the core over QUIC for async callers and
//! [`blocking`] for those that block. With `client-model`, `model` is a pair in virtual time for
//! tests of the core.
//!
//! Not in the core: sockets, clocks, threads, entropy. The session's mark and the seed of its
//! waiting times are arguments.

#[cfg(feature = "runtime")]
pub mod blocking;
pub mod core;
pub mod error;
pub mod io;
pub mod jitter;
#[cfg(any(test, feature = "client-model"))]
pub mod model;
pub mod place;
mod room;
#[cfg(feature = "runtime")]
pub mod session;
pub mod window;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use self::core::Client;
pub use error::{RequestError, SessionError, SubmitError};
pub use io::{Config, Counters, Event, Input, Output, PROTOCOL};
