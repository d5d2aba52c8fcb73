//! Frames over one authenticated QUIC connection (RFC 9000).
//!
//! An [`Endpoint`] is a UDP socket of its own, so that a link leaves by its own
//! address and network card. What it dials or accepts becomes a [`Connection`]:
//! a peer whose key and role are proved, and one ordered stream of frames each
//! way. A frame is opaque here; on the stream it is a little-endian `u32` length
//! and that many bytes. A link has a second stream each way, for heartbeats: they
//! tell whether the peer is there, and must not wait behind a megabyte (`urgent`).
//!
//! The dialler opens the stream and greets, the acceptor greets back: eight
//! magic bytes and the largest frame that the sender of the greeting takes. Only
//! then is either side up, for in TLS 1.3 a client is done before the server
//! has seen its key.
//!
//! Nothing here is a task of its own on the way of a frame. The owner writes into quinn's stream
//! and reads from it by polling, and quinn's own driver does the rest. Nothing grows without bound:
//! a frame that does not fit is given back by [`Connection::send`], and a reader that does not read
//! closes QUIC's flow-control window.

mod connection;
mod endpoint;
mod error;
mod frame;
mod gate;
mod greeting;
mod settings;
mod urgent;

pub use connection::{Connection, Peer, Stats};
pub use endpoint::{Attempt, Endpoint, EndpointConfig};
pub use error::{BindError, CloseCode, Lost, SendError, SetupError};
pub use settings::{Settings, SettingsError};

#[cfg(test)]
pub(crate) mod tests;
