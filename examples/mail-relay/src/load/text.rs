//! Mails that say who they are and what is in them.

use bytes::Bytes;
use lockstep::digest::Digest;

use crate::smtp::client::Delivery;
use crate::smtp::{AddressError, Mailbox, Message, ReversePath};

const ID: &str = "X-Load-Id: ";
const DIGEST: &str = "X-Load-Digest: ";

/// Mail number `number` of the run that is named `run`, of about `size` octets, from and to
/// addresses at `domain`. The same arguments give the same mail.
///
/// # Errors
/// If `domain` is none.
pub fn mail(run: &str, number: u64, size: usize, domain: &str) -> Result<Delivery, AddressError> {
    let body = body(number, size);
    let text = format!(
        "From: <sender@{domain}>\r\nTo: <recipient@{domain}>\r\nSubject: mail {number}\r\n\
         Message-ID: <{number}.{run}@{domain}>\r\n{ID}{number}.{run}\r\n{DIGEST}{}\r\n\r\n{body}",
        Digest::of(body.as_bytes()),
    );
    let message = Message { trace: Bytes::new(), content: Bytes::from(text), eight_bit: false };
    Ok(Delivery {
        token: number,
        from: ReversePath::Mailbox(Mailbox::parse(&format!("sender@{domain}"))?),
        recipients: vec![Mailbox::parse(&format!("recipient@{domain}"))?],
        message,
    })
}

/// Lines of various lengths, some of which begin with a dot.
fn body(number: u64, size: usize) -> String {
    let mut text = String::with_capacity(size + 80);
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while text.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (length, dotted) = ((state >> 33) as usize % 70 + 4, (state >> 60) == 0);
        if dotted {
            text.push('.');
        }
        text.extend((0..length).map(|at| char::from(b'a' + ((state >> (at % 56)) % 26) as u8)));
        text.push_str("\r\n");
    }
    text
}

/// A mail that came out of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The number given to [`mail`], if it is one of those.
    pub number: Option<u64>,
    /// The name of the run that made the mail.
    pub run: String,
    /// Whether the mail is what was sent.
    pub condition: Condition,
}

/// Whether a mail is what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Octet by octet.
    Sound,
    /// The mail's body was changed on the way.
    Damaged,
    /// The mail carries no digest.
    Unknown,
}

impl Arrival {
    /// Reads a mail as it arrived, trace fields in front.
    pub fn read(content: &[u8]) -> Arrival {
        let end = memchr::memmem::find(content, b"\r\n\r\n").unwrap_or(content.len());
        let (head, rest) = content.split_at(end);
        let body = rest.strip_prefix(b"\r\n\r\n").unwrap_or_default();
        let head = String::from_utf8_lossy(head);
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let id = field(ID).and_then(|id| id.split_once('.'));
        let (number, run) = id.unwrap_or_default();
        let condition = match field(DIGEST) {
            None => Condition::Unknown,
            Some(digest) if digest == Digest::of(body).to_string() => Condition::Sound,
            Some(_) => Condition::Damaged,
        };
        Arrival { number: number.parse().ok(), run: run.to_owned(), condition }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_known_again_and_a_changed_one_is_told() {
        let mail = mail("run7", 12, 5000, "example.org").unwrap();
        assert!((5000..5600).contains(&mail.message.size()));
        let mut content = b"Received: by us\r\n".to_vec();
        content.extend_from_slice(&mail.message.content);
        let arrival = Arrival::read(&content);
        assert_eq!((arrival.number, arrival.run.as_str()), (Some(12), "run7"));
        assert_eq!(arrival.condition, Condition::Sound);
        *content.last_mut().unwrap() = b'x';
        assert_eq!(Arrival::read(&content).condition, Condition::Damaged);
        assert_eq!(Arrival::read(b"Subject: x\r\n\r\nhello\r\n").condition, Condition::Unknown);
        assert_eq!(Arrival::read(b"").number, None);
    }
}
