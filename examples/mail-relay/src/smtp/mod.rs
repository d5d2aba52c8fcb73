//! SMTP without a network: sessions that take bytes and give bytes.
//!
//! Nothing here opens a socket, reads a clock, draws a random number, starts a
//! thread or iterates in hash order. Time is an argument, in nanoseconds since
//! the Unix epoch by log time; each session says by when it wants to be woken.
//!
//! # Why the parsers are our own
//! The maintained crate `smtp-proto` (0.2.5) was read and tried for this. It is
//! meant for a server that files mail by address; a relay under lockstep needs
//! other things of it:
//! - a bare LF ends a command and a CR inside an address vanishes (`<a\rb@c.org>`
//!   becomes `ab@c.org`), and data may hold bare CR, LF and NUL, which is what
//!   SMTP smuggling lives on;
//! - quotes of a local part are lost (`<"a@b"@c.org>` becomes `a@b@c.org`), so
//!   an envelope could not go on as it came in;
//! - `<Postmaster>` and `<>` come out alike, and address literals are refused;
//! - its line limit is 4096 octets and applies differently when a line arrives in
//!   pieces; its receivers' state is private, so a session could not be frozen
//!   in the middle of a line or of a mail.

mod address;
pub mod client;
mod custom;
mod lines;
pub mod server;

pub use address::{AddressError, Domain, ForwardPath, Mailbox, ReversePath};
pub use custom::{AddressCustoms, ClientCustoms, HopCustoms};

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

/// The text of a mail: lines that end with CRLF, no dot stuffed, no final dot.
///
/// In two parts, so that the relay's own trace field goes in front of what a
/// client sent without copying it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub struct Message {
    /// Header fields that the relay put in front; whole lines.
    pub trace: Bytes,
    /// What the client sent.
    pub content: Bytes,
    /// Whether `content` holds octets above 127 (RFC 6152).
    pub eight_bit: bool,
}

impl Message {
    /// Octets of both parts, as RFC 1870 section 3 counts them.
    pub fn size(&self) -> u64 {
        (self.trace.len() + self.content.len()) as u64
    }
}
