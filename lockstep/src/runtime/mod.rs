//! What stands between the protocol cores and the world: keys, TLS, QUIC
//! connections and the network that one task owns and polls.
//!
//! From the inside out: [`keys`] says who a peer is, and [`tls`] makes a handshake of it. [`quic`]
//! carries frames over one authenticated connection. [`link`] keeps many of them up and hands their
//! frames to one consumer. None of them looks into a frame.

#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod coserver;
pub mod descriptors;
pub mod entropy;
pub mod exit;
mod fair;
pub mod init;
pub mod keys;
pub mod link;
pub mod logging;
pub mod memory;
pub(crate) mod pack;
pub(crate) mod private;
pub mod quic;
mod refusals;
pub mod remote;
pub mod storage;
pub mod tls;
mod turns;
pub mod witness;
