//! A client's session with the pair: every request takes effect exactly once, whichever CoServer
//! dies meanwhile.
//!
//! [`core`] is the session without any I/O, [`io`] its boundary; [`window`] keeps what is under way, [`place`] the
//! state of the connection to one CoServer.
//!
//! Not here: sockets, clocks, threads, entropy. The session's mark is an argument.

pub mod core;
pub mod error;
pub mod io;
pub mod place;
pub mod window;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use self::core::Client;
pub use error::{RequestError, SessionError, SubmitError};
pub use io::{Config, Counters, Event, Input, Output, PROTOCOL};
