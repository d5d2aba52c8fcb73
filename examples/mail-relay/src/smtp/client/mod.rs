//! The client's side of one SMTP connection: delivery to a next hop.
//!
//! # Driving it
//! 1. [`ClientSession::open`] when the connection is begun; [`Input::Deliver`]
//!    may follow at once, the session waits for the greeting by itself.
//! 2. [`ClientSession::handle`] for everything that happens; carry out the
//!    [`Action`]s in order.
//! 3. After [`Action::Done`] the session is free ([`ClientSession::is_free`]):
//!    give the next mail with [`Input::Deliver`], or [`Input::Quit`].
//! 4. Set a timer to [`ClientSession::deadline`] and give [`Input::Deadline`].
//! 5. Give [`Input::Closed`] when the connection ends or cannot be made; every
//!    mail given gets its [`Action::Done`], whatever happens.

mod reply;
mod session;
mod stuffing;

#[cfg(test)]
mod scenarios;

pub use session::ClientSession;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use super::{Domain, HopCustoms, Mailbox, Message, ReversePath};

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// Bytes from the next hop, cut anywhere.
    Data(&'a [u8]),
    /// Deliver this next. Only while [`ClientSession::is_free`]; otherwise the
    /// answer is a [`Action::Done`] with every recipient undecided.
    Deliver(Delivery),
    /// The connection is made. The time for the greeting counts from here (RFC 5321 section
    /// 4.5.3.2.1); what making the connection took is not a part of it.
    Connected,
    /// No more mails: say QUIT when idle, then close.
    Quit,
    /// The time of [`ClientSession::deadline`] may have come.
    Deadline,
    /// The connection ended, or could not be made.
    Closed(CloseCause<'a>),
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause<'a> {
    /// The next hop or the network ended it, or it could not be made; in words.
    FarEnd(&'a str),
    /// The server on this side that carried it is gone. That says nothing about the next hop, nor
    /// about the mail.
    CarrierLost,
}

/// One mail for the next hop.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Delivery {
    /// The caller's name for it, given back in [`Action::Done`].
    pub token: u64,
    /// The reverse path.
    pub from: ReversePath,
    /// At most [`crate::limits::DELIVERY_RECIPIENTS`], at least one.
    pub recipients: Vec<Mailbox>,
    /// The text; whole lines.
    pub message: Message,
}

/// What a session wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this to the next hop.
    Send(Bytes),
    /// A mail is over.
    Done(Report),
    /// Close the connection; the session is over.
    Close,
}

/// What became of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The [`Delivery::token`] of the mail.
    pub token: u64,
    /// One per recipient, in the order given. `None`: the session ended before
    /// the hop had said anything about that recipient; see `failure`.
    pub outcomes: Vec<Option<Outcome>>,
    /// Why recipients are undecided; the session has ended, or takes no other mail.
    pub failure: Option<SessionFailure>,
    /// All of the data had been given to the caller, and no answer came: the hop may have the
    /// mail (RFC 1047). Never before the data's end, without which it has nothing.
    pub in_doubt: bool,
}

/// What the next hop said of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Outcome {
    /// The next hop has taken the mail over for this recipient.
    Delivered,
    /// The next hop refused for now (4xx): try again later.
    Transient(HopReply),
    /// The next hop refused for good (5xx).
    Permanent(HopReply),
}

/// A reply, made safe to be shown: printable ASCII, cut to
/// [`crate::limits::REPLY_TEXT`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct HopReply {
    /// The reply code; 0 if the session itself decided and the hop said nothing.
    pub code: u16,
    /// Enhanced status such as `5.1.1`; made of the code if the hop gave none.
    pub status: String,
    /// The text, its lines joined by spaces.
    pub text: String,
}

impl std::fmt::Display for HopReply {
    /// `550 5.1.1 text`, or without the code if the hop said nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.code != 0 {
            write!(f, "{} ", self.code)?;
        }
        write!(f, "{} {}", self.status, self.text)
    }
}

/// Why a session ended with a mail undecided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionFailure {
    /// No connection, no usable greeting or answer to EHLO and HELO, or a hop that then takes
    /// no mail whatever. Says nothing about the mail.
    #[error("the next hop is not reachable: {0}")]
    Unreachable(String),
    /// A connection that had served before refused the mail or ended, and none of the mail's data
    /// had been sent. That is the connection's fault, until a new one says the same.
    #[error("the connection to the next hop had served its time: {0}")]
    Worn(String),
    /// The connection ended under the mail.
    #[error("the connection to the next hop was lost: {0}")]
    Lost(String),
    /// The server on this side that carried the connection is gone, wherever the session stood.
    #[error("the server that carried the connection left the pair or was started again")]
    CarrierLost,
    /// A reply did not come in time.
    #[error("the next hop did not answer in time")]
    TimedOut,
    /// The hop does not speak SMTP.
    #[error("the next hop sent what is no SMTP reply: {0}")]
    Protocol(&'static str),
    /// The hop ends the session (421).
    #[error("the next hop ends the session: {0}")]
    Closing(String),
}

/// What the client's side needs of configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// The name given in EHLO.
    pub hostname: Domain,
    /// What of a next hop is taken against the letter of the standard.
    pub customs: HopCustoms,
}

impl ClientConfig {
    /// With every custom taken.
    pub fn new(hostname: Domain) -> ClientConfig {
        ClientConfig { hostname, customs: HopCustoms::default() }
    }
}
