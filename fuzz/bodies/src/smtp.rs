//! The mail relay's two sides of SMTP under arbitrary bytes.

use bytes::Bytes;
use mail_relay::smtp::client::{
    Action, ClientConfig, ClientSession, CloseCause, Delivery, Input, Report, SessionFailure,
};
use mail_relay::smtp::{Domain, HopCustoms, Mailbox, Message, ReversePath};

pub use mail_relay::smtp::server::fuzz_one as server;

/// What the next hop has seen of a session, and what became of the mails.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transcript {
    sent: Vec<u8>,
    reports: Vec<Report>,
    closed: bool,
}

/// A session with a next hop that says anything. The first four bytes say how the rest is cut into
/// pieces and what is delivered. Every mail gets one report with one outcome for each recipient,
/// nothing comes after the end, and only whole lines are sent. It is all the same however the bytes
/// are cut.
pub fn client(case: &[u8]) {
    let (how, input) = case.split_at(case.len().min(4));
    let cut = converse(input, how);
    let whole = converse(input, &how[..how.len().min(1)]);
    assert_eq!(cut, whole, "what is sent depends on how the replies were cut");
    assert!(cut.sent.is_empty() || cut.sent.ends_with(b"\r\n"), "a line without an end");
    let mut tokens: Vec<_> = cut.reports.iter().map(|report| report.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2], "each mail is reported once");
}

/// The first byte of `how` says what the mails are like, the others how the input is cut (again
/// and again; none or 0 means all that is left).
fn converse(input: &[u8], how: &[u8]) -> Transcript {
    let (like, cuts) = how.split_first().map_or((0, how), |(like, cuts)| (*like, cuts));
    let customs = HopCustoms { bare_lf: like & 8 == 0, mixed_codes: like & 16 == 0 };
    let config = ClientConfig { customs, ..ClientConfig::new(domain("relay.example")) };
    let mut talk = Talk { session: ClientSession::open(0), config, seen: Transcript::default() };
    let mut mails = (0..3).map(|token| mail(token, like));
    let mut cuts = cuts.iter().cycle();
    let mut rest = input;
    while !rest.is_empty() && !talk.seen.closed {
        let len = cuts.next().map_or(0, |len| usize::from(*len));
        let len = if len == 0 { rest.len() } else { len.min(rest.len()) };
        let (piece, after) = rest.split_at(len);
        rest = after;
        // A mail is given as soon as the session is free, which is within a piece: so each byte
        // that could free it is a piece of its own.
        for piece in piece.split_inclusive(|byte| *byte == b'\n') {
            talk.deliver(&mut mails);
            talk.give(Input::Data(piece));
        }
    }
    for mail in &mut mails {
        talk.give(Input::Deliver(mail));
    }
    talk.give(Input::Deadline);
    talk.give(Input::Closed(CloseCause::FarEnd("the input ends")));
    assert!(talk.session.is_closed(), "the session outlives its connection");
    talk.seen
}

struct Talk {
    session: ClientSession,
    config: ClientConfig,
    seen: Transcript,
}

impl Talk {
    fn deliver(&mut self, mails: &mut impl Iterator<Item = Delivery>) {
        while self.session.is_free()
            && let Some(mail) = mails.next()
        {
            self.give(Input::Deliver(mail));
        }
    }

    fn give(&mut self, input: Input<'_>) {
        for action in self.session.handle(&self.config, 0, input) {
            match action {
                Action::Done(report) => self.on_done(report),
                _ if self.seen.closed => panic!("{action:?} after the end"),
                Action::Send(bytes) => self.seen.sent.extend_from_slice(&bytes),
                Action::Close => self.seen.closed = true,
            }
        }
    }

    fn on_done(&mut self, report: Report) {
        assert_eq!(report.outcomes.len(), recipients(report.token), "an outcome for each");
        let undecided = report.outcomes.iter().any(Option::is_none);
        assert!(!undecided || report.failure.is_some(), "undecided without a reason");
        // A connection is only blamed where it has served, and never for what may have arrived.
        let is_worn = matches!(report.failure, Some(SessionFailure::Worn(_)));
        assert!(!is_worn || !self.seen.reports.is_empty(), "worn without use");
        if report.in_doubt {
            assert!(report.failure.is_some() && !is_worn, "in doubt without a reason");
            assert!(self.seen.sent.ends_with(b".\r\n"), "in doubt before the data's end");
        }
        if let Some(
            SessionFailure::Closing(text)
            | SessionFailure::Unreachable(text)
            | SessionFailure::Worn(text),
        ) = &report.failure
        {
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
        }
        self.seen.reports.push(report);
    }
}

fn recipients(token: u64) -> usize {
    1 + token as usize
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a constant domain")
}

fn mail(token: u64, like: u8) -> Delivery {
    let texts = [&b"hi\r\n"[..], b".\r\n..\r\n", b"\xfc\r\n", b""];
    let content = texts[usize::from(like) % texts.len()];
    let names = ["c@d.org", "e@d.org", "f@g.org"];
    let parse = |name: &str| Mailbox::parse(name).expect("a constant mailbox");
    Delivery {
        token,
        from: if like & 4 == 0 {
            ReversePath::Mailbox(parse("a@b.org"))
        } else {
            ReversePath::Null
        },
        recipients: names.iter().take(recipients(token)).map(|name| parse(name)).collect(),
        message: Message {
            trace: Bytes::from_static(b"T: x\r\n"),
            content: Bytes::from_static(content),
            eight_bit: !content.is_ascii(),
        },
    }
}
