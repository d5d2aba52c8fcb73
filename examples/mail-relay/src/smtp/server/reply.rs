//! Every reply the server gives, in one table: code, enhanced status (RFC 3463,
//! put in front of the text as RFC 2034 says) and a text of our own. Nothing a
//! client sent is ever part of a reply.

use std::borrow::Cow;

use super::Surroundings;
use super::data::DataFault;

/// One reply of a single line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// Empty where RFC 2034 section 4 wants none.
    status: &'static str,
    text: Cow<'static, str>,
}

const fn reply(code: u16, status: &'static str, text: &'static str) -> Reply {
    Reply { code, status, text: Cow::Borrowed(text) }
}

impl Reply {
    /// `250 2.0.0` with the name under which the mail is queued.
    pub(super) fn queued(id: &str) -> Reply {
        Reply { code: 250, status: "2.0.0", text: Cow::Owned(format!("queued as {id}")) }
    }

    /// Appends the reply with its CRLF.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let gap = if self.status.is_empty() { "" } else { " " };
        let line = format!("{} {}{gap}{}\r\n", self.code, self.status, self.text);
        out.extend_from_slice(line.as_bytes());
    }
}

pub(super) const DATA_GO: Reply = reply(354, "", "end the mail with a line that is a single dot");
pub(super) const BYE: Reply = reply(221, "2.0.0", "closing the connection");
pub(super) const HELP: Reply =
    reply(214, "2.0.0", "HELO EHLO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT; see RFC 5321");
pub(super) const OK: Reply = reply(250, "2.0.0", "ok");
pub(super) const SENDER_OK: Reply = reply(250, "2.1.0", "sender ok");
pub(super) const RECIPIENT_OK: Reply = reply(250, "2.1.5", "recipient ok");
pub(super) const CANNOT_VERIFY: Reply =
    reply(252, "2.5.0", "addresses are not verified here; send a mail to try");

pub(super) const STOPPING: Reply = reply(421, "4.3.2", "the service is stopping; try again later");
pub(super) const NO_ROOM: Reply =
    reply(421, "4.3.1", "no memory left for this session; try again later");
pub(super) const IDLE: Reply = reply(421, "4.4.2", "nothing arrived for too long");
pub(super) const SESSION_OVER: Reply =
    reply(421, "4.4.2", "the session took long enough; connect again");
pub(super) const TOO_MANY_ERRORS: Reply = reply(421, "4.7.0", "too many errors");
pub(super) const TOO_MANY_REFUSALS: Reply = reply(421, "4.7.0", "too many refused recipients");
pub(super) const OTHER_PROTOCOL: Reply =
    reply(421, "4.7.0", "SMTP is spoken here, and what came is something else");
pub(super) const TOO_MUCH_IDLING: Reply = reply(421, "4.7.0", "too many commands without a mail");
pub(super) const PUT_OFF_TOO_OFTEN: Reply =
    reply(421, "4.3.2", "too many mails were put off; connect again later");
pub(super) const TOO_MUCH_AHEAD: Reply =
    reply(421, "4.5.0", "too much input ahead of the reply to a mail");
pub(super) const QUEUE_FULL: Reply = reply(452, "4.3.1", "the queue is full; try again later");
pub(super) const OVER_SHARE: Reply =
    reply(452, "4.3.1", "your network has its share of the queue; try again later");
pub(super) const OVER_RATE: Reply =
    reply(450, "4.7.0", "too many mails from your network at once; try again later");
pub(super) const TOO_MANY_RECIPIENTS: Reply =
    reply(452, "4.5.3", "too many recipients; send the rest in another mail");

pub(super) const LINE_TOO_LONG: Reply = reply(500, "5.5.2", "line too long");
pub(super) const BARE_CONTROL: Reply =
    reply(500, "5.5.2", "lines end with CRLF; a bare CR or LF, or a NUL, is not accepted");
pub(super) const UNKNOWN_COMMAND: Reply = reply(500, "5.5.2", "unknown command");
pub(super) const BAD_ARGUMENT: Reply = reply(501, "5.5.4", "bad or missing argument");
pub(super) const NO_ARGUMENT: Reply = reply(501, "5.5.4", "this command takes no argument");
pub(super) const BAD_PARAMETER: Reply = reply(501, "5.5.4", "bad or repeated parameter");
pub(super) const BAD_SENDER: Reply = reply(501, "5.1.7", "bad sender address");
pub(super) const BAD_RECIPIENT: Reply = reply(501, "5.1.3", "bad recipient address");
pub(super) const PATH_TOO_LONG: Reply = reply(501, "5.1.0", "address too long");
pub(super) const NOT_IMPLEMENTED: Reply = reply(502, "5.5.1", "command not implemented");
pub(super) const HELLO_FIRST: Reply = reply(503, "5.5.1", "say EHLO or HELO first");
pub(super) const NESTED_MAIL: Reply = reply(503, "5.5.1", "a mail is already begun; RSET ends it");
pub(super) const MAIL_FIRST: Reply = reply(503, "5.5.1", "say MAIL first");
pub(super) const MESSAGE_TOO_LARGE: Reply = reply(552, "5.3.4", "the mail is too large");
pub(super) const NOT_ASCII: Reply =
    reply(553, "5.6.7", "addresses beyond ASCII are not supported (no SMTPUTF8)");
pub(super) const NO_RECIPIENTS: Reply = reply(554, "5.5.1", "no valid recipients");
pub(super) const UNKNOWN_PARAMETER: Reply = reply(555, "5.5.4", "parameter not supported");
pub(super) const RELAY_DENIED: Reply = reply(550, "5.7.1", "relaying is not allowed for you");
pub(super) const DATA_BARE_CONTROL: Reply =
    reply(550, "5.6.0", "the mail has a bare CR or LF; every line must end with CRLF");
pub(super) const DATA_NUL: Reply = reply(550, "5.6.0", "the mail has a NUL octet");
pub(super) const DATA_LINE_TOO_LONG: Reply =
    reply(554, "5.6.0", "the mail has a line above 998 octets");
pub(super) const LOOP: Reply = reply(554, "5.4.6", "the mail has passed too many hops: a loop");

/// What a mail is refused with that has come whole.
pub(super) fn of_data(fault: DataFault) -> Reply {
    match fault {
        DataFault::BareControl => DATA_BARE_CONTROL,
        DataFault::Nul => DATA_NUL,
        DataFault::LineTooLong => DATA_LINE_TOO_LONG,
        DataFault::TooLarge => MESSAGE_TOO_LARGE,
    }
}

/// The extensions of RFC 5321 section 4.1.1.1 that are really there.
pub(super) fn write_ehlo(env: Surroundings<'_>, replies: &mut Vec<u8>) {
    let text = format!(
        "250-{}\r\n250-PIPELINING\r\n250-SIZE {}\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 HELP\r\n",
        env.config.hostname, env.config.max_message
    );
    replies.extend_from_slice(text.as_bytes());
}
