//! The server's side of one SMTP connection.
//!
//! # Driving it
//! 1. [`ServerSession::open`] when a connection is accepted; it gives the greeting.
//! 2. [`ServerSession::handle`] for everything that happens; carry out the
//!    [`Action`]s in order.
//! 3. After [`Action::Accepted`] give [`Input::Verdict`], at once or later; until
//!    then [`ServerSession::is_waiting`] says that reading may pause.
//! 4. Set a timer to [`ServerSession::deadline`] and give [`Input::Deadline`]
//!    when it fires; one that fires early or late does no harm.
//! 5. After [`Action::Close`] send what is left, close, and drop the session.
//!
//! Replies depend on the bytes and on when verdicts come between them, never on
//! how the bytes were cut into pieces.

mod command;
mod config;
mod data;
pub mod fuzz;
mod reply;
mod session;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;

pub use config::{RelayPolicy, ServerConfig};
pub use fuzz::fuzz_one;
pub use session::ServerSession;

pub(crate) use command::is_proper_name;

use std::net::IpAddr;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use super::{Domain, Mailbox, Message, ReversePath};

/// What every call of a session is given beside its input.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The server's configuration.
    pub config: &'a ServerConfig,
    /// Log time in nanoseconds since the Unix epoch.
    pub now: u64,
    /// Octets the queue has room for: a mail declared larger is refused with
    /// 452 before it is sent (RFC 1870 section 6.1). `u64::MAX` if unknown.
    pub room: u64,
    /// The same of what the client's block of addresses may have of the queue.
    pub share: u64,
    /// How long the client may be silent, in nanoseconds: [`ServerConfig::idle`], or less where
    /// connections are scarce.
    pub idle: u64,
    /// The client's block of addresses has sent as many mails as it may for now: MAIL gets 450.
    pub over_rate: bool,
}

impl<'a> Surroundings<'a> {
    /// A server with room for everything and everybody.
    pub fn new(config: &'a ServerConfig, now: u64) -> Surroundings<'a> {
        let (room, share) = (u64::MAX, u64::MAX);
        Surroundings { config, now, room, share, idle: config.idle, over_rate: false }
    }
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// Bytes from the client, cut anywhere.
    Data(&'a [u8]),
    /// The answer to [`Action::Accepted`]. Ignored if none is awaited.
    Verdict(Verdict<'a>),
    /// The time of [`ServerSession::deadline`] may have come.
    Deadline,
    /// The service stops or turns this client away: 421, then close.
    Stop,
    /// The service has no memory left for what this session holds: 421, then close.
    NoRoom,
}

/// What became of an accepted mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Taken over under this name, which must be printable ASCII: 250.
    Queued(&'a str),
    /// The server has not taken the mail over.
    Refused(Refusal),
}

/// Why a mail is not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 452: no room for it now.
    #[error("the queue is full; try again later")]
    QueueFull,
    /// 452: its client's block of addresses has its share of the queue.
    #[error("the client's network has its share of the queue; try again later")]
    OverShare,
    /// 554: too many `Received:` fields.
    #[error("the mail has passed too many hops")]
    Loop,
}

/// What a session wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this to the client. Several replies may be in one piece.
    Reply(Bytes),
    /// A mail has come whole: decide, and give [`Input::Verdict`].
    Accepted(Box<AcceptedMail>),
    /// Close the connection; the session is over.
    Close,
}

/// A mail with its envelope, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedMail {
    /// The client that sent it.
    pub client: Client,
    /// The sender, who is told of a failure.
    pub from: ReversePath,
    /// The recipients; no address twice.
    pub recipients: Vec<Mailbox>,
    /// The text, with no trace field yet.
    pub message: Message,
}

/// What the trace field says of a client.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Client {
    /// The address that the client connected from.
    pub address: IpAddr,
    /// The name it gave itself: letters, digits and `-._:[]`, and `?` for anything else.
    pub hello: String,
    /// Whether the client said EHLO, not HELO.
    pub extended: bool,
}
