//! Notices of failure: multipart/report (RFC 6522) with a delivery-status part
//! (RFC 3464) and the header of the mail that failed.
//!
//! A notice is 7-bit whatever the mail was, so that every next hop takes it.

use std::fmt::Write as _;

use bytes::Bytes;

use super::entry::{Failure, QueuedMail};
use super::trace::header_lines;
use super::{QueueConfig, QueueId};
use crate::date::Rfc5322Date;
use crate::limits::BOUNCE_HEADERS;
use crate::smtp::{Mailbox, Message, ReversePath};

/// The notice to `sender` of every unreported failure of `mail`. It has no
/// sender of its own, so it is never answered by another one (RFC 5321 section 6.1).
pub(super) fn bounce(
    config: &QueueConfig,
    bounce_id: QueueId,
    id: QueueId,
    mail: &QueuedMail,
    sender: &Mailbox,
) -> QueuedMail {
    let returned = returned_header(mail);
    let boundary = format!("report-{bounce_id}");
    let mut text = header(config, bounce_id, sender, &boundary);
    let mut part = |kind: &str, body: &str| {
        let _ = write!(text, "--{boundary}\r\nContent-Type: {kind}\r\n\r\n{body}\r\n");
    };
    part("text/plain; charset=us-ascii", &human_part(config, id, mail));
    part("message/delivery-status", &status_part(config, mail));
    part("text/rfc822-headers", &returned);
    let _ = write!(text, "--{boundary}--\r\n");
    let message = Message { trace: Bytes::new(), content: Bytes::from(text), eight_bit: false };
    QueuedMail::new(
        mail.block,
        ReversePath::Null,
        vec![sender.clone()],
        message,
        bounce_id.accepted,
    )
}

fn header(config: &QueueConfig, id: QueueId, sender: &Mailbox, boundary: &str) -> String {
    let host = &config.hostname;
    format!(
        "Date: {date}\r\n\
         From: Mail Delivery System <MAILER-DAEMON@{host}>\r\n\
         To: <{sender}>\r\n\
         Subject: Undelivered mail returned to sender\r\n\
         Message-ID: <{id}@{host}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"{boundary}\"\r\n\r\n",
        date = Rfc5322Date(id.accepted),
    )
}

fn human_part(config: &QueueConfig, id: QueueId, mail: &QueuedMail) -> String {
    let mut text = format!(
        "This is the mail relay at {host}.\r\n\r\n\
         Your mail of {date} (queued as {id})\r\n\
         could not be delivered to the recipients below and is given up for them.\r\n\r\n",
        host = config.hostname,
        date = Rfc5322Date(mail.accepted),
    );
    for (mailbox, failure) in mail.unreported() {
        let _ = write!(text, "<{mailbox}>:\r\n    {}\r\n", fold(&failure.reply.to_string()));
    }
    text
}

/// RFC 3464 sections 2.2 and 2.3.
fn status_part(config: &QueueConfig, mail: &QueuedMail) -> String {
    let mut text = format!(
        "Reporting-MTA: dns; {}\r\nArrival-Date: {}\r\n",
        config.hostname,
        Rfc5322Date(mail.accepted)
    );
    for (mailbox, failure) in mail.unreported() {
        let _ = write!(
            text,
            "\r\nFinal-Recipient: rfc822; {mailbox}\r\nAction: failed\r\nStatus: {}\r\n",
            failure.reply.status
        );
        text.push_str(&diagnostic(config, failure));
        let _ = write!(text, "Last-Attempt-Date: {}\r\n", Rfc5322Date(failure.time));
    }
    text
}

/// Who refused and how. What no hop said is no SMTP reply (RFC 3464 section 2.3.6).
fn diagnostic(config: &QueueConfig, failure: &Failure) -> String {
    let said = fold(&failure.reply.to_string());
    if failure.reply.code == 0 {
        return format!("Diagnostic-Code: x-relay; {said}\r\n");
    }
    let hop: String = config.next_hop.chars().filter(char::is_ascii_graphic).collect();
    format!("Remote-MTA: dns; {hop}\r\nDiagnostic-Code: smtp; {said}\r\n")
}

/// Breaks a text at spaces into lines that no mail program cuts.
fn fold(text: &str) -> String {
    const WIDTH: usize = 72;
    let (mut folded, mut line) = (String::new(), 0);
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if line > 0 {
            let gap = if line + word.len() > WIDTH { "\r\n    " } else { " " };
            folded.push_str(gap);
            line = if gap == " " { line + 1 } else { 0 };
        }
        folded.push_str(word);
        line += word.len();
    }
    folded
}

/// Whole header lines of the failed mail, in printable ASCII. None that could
/// pass for a boundary: these are the only lines of a notice that a stranger
/// writes, all others begin with words or spaces of our own.
fn returned_header(mail: &QueuedMail) -> String {
    let lines = header_lines(&mail.message.trace).chain(header_lines(&mail.message.content));
    let mut text = String::new();
    for line in lines.filter(|line| !line.starts_with(b"--")) {
        if text.len() + line.len() > BOUNCE_HEADERS {
            break;
        }
        text.extend(line.iter().map(|byte| match byte {
            b'\r' | b'\n' | b'\t' | b' '..=b'~' => char::from(*byte),
            _ => '?',
        }));
    }
    text
}
