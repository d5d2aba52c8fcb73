//! Tests across crates and across real processes.
//!
//! [`pair`] starts a witness and two CoServers as processes of their own, stops, kills and asks
//! them; [`process`] is what it does that with. The tests themselves are in `tests/`.

pub mod pair;
pub mod process;
