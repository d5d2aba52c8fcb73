//! A server session under arbitrary bytes, for fuzz targets and tests.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use super::{
    Action, Domain, Input, Mailbox, ReversePath, ServerConfig, ServerSession, Surroundings, Verdict,
};
use crate::limits;

/// What a client has seen of a session: all replies, every mail taken from it,
/// and whether the connection was closed.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Transcript {
    /// Every reply, joined.
    pub replies: Vec<u8>,
    /// Every mail, in order.
    pub mails: Vec<super::AcceptedMail>,
    /// The session has asked for its end.
    pub closed: bool,
}

/// A configuration with small limits, so that short inputs reach them.
pub fn small_config() -> ServerConfig {
    let hostname = Domain::parse("relay.example").expect("a constant domain");
    let mut config = ServerConfig::new(hostname);
    config.max_message = 4096;
    config.max_recipients = 3;
    config.policy.allow_domain("example.org").expect("a constant domain");
    config
}

/// Drives one session with `input` cut into pieces of `pieces`' lengths (again
/// and again; empty or zero means all that is left), answering each mail at once.
pub fn converse(config: &ServerConfig, input: &[u8], pieces: &[u8]) -> Transcript {
    let env = Surroundings::new(config, 0);
    let peer = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    let (mut session, greeting) = ServerSession::open(env, peer);
    let mut transcript = Transcript::default();
    carry_out(&mut session, env, greeting, &mut transcript);
    let mut cuts = pieces.iter().cycle();
    let mut rest = input;
    while !rest.is_empty() {
        let wanted = cuts.next().map_or(0, |cut| usize::from(*cut));
        let len = if wanted == 0 { rest.len() } else { wanted.min(rest.len()) };
        let (piece, behind) = rest.split_at(len);
        rest = behind;
        let actions = session.handle(env, Input::Data(piece));
        carry_out(&mut session, env, actions, &mut transcript);
        check_session(config, &session, &transcript);
    }
    transcript
}

/// One fuzz case: the first four bytes say how the rest is cut. The session
/// must not panic, must keep within its bounds, must speak well-formed replies
/// and must say the same however its input is cut.
///
/// # Panics
/// If one of these does not hold.
pub fn fuzz_one(case: &[u8]) {
    let (pieces, input) = case.split_at(case.len().min(4));
    // More than this ahead of a verdict ends a session, and how much is ahead
    // does depend on the cuts.
    let input = &input[..input.len().min(limits::HELD_INPUT)];
    let config = small_config();
    let cut = converse(&config, input, pieces);
    check_replies(&cut.replies, input.len());
    for mail in &cut.mails {
        check_mail(&config, mail);
    }
    let whole = converse(&config, input, &[]);
    assert_eq!(cut, whole, "the replies depend on how the input was cut");
}

fn carry_out(
    session: &mut ServerSession,
    env: Surroundings<'_>,
    actions: Vec<Action>,
    transcript: &mut Transcript,
) {
    let mut actions = VecDeque::from(actions);
    while let Some(action) = actions.pop_front() {
        assert!(!transcript.closed, "an action after the close");
        match action {
            Action::Reply(bytes) => transcript.replies.extend_from_slice(&bytes),
            Action::Close => transcript.closed = true,
            Action::Accepted(mail) => {
                transcript.mails.push(*mail);
                let id = format!("M{}", transcript.mails.len());
                actions.extend(session.handle(env, Input::Verdict(Verdict::Queued(&id))));
            }
        }
    }
}

fn check_session(config: &ServerConfig, session: &ServerSession, transcript: &Transcript) {
    assert_eq!(session.is_closed(), transcript.closed);
    assert_eq!(session.deadline().is_none(), session.is_closed());
    assert!(session.held_bytes() <= config.max_message + limits::HELD_INPUT as u64);
}

/// Replies are lines of printable ASCII that begin with a code. No line of input (two octets at
/// least, with the one before it) buys more than the largest reply.
fn check_replies(replies: &[u8], input: usize) {
    const LARGEST_REPLY: usize = 256;
    assert!(replies.len() <= (input + 4) * LARGEST_REPLY);
    let text = std::str::from_utf8(replies).expect("replies are ASCII");
    for line in text.split_terminator("\r\n") {
        assert!(line.len() + 2 <= limits::COMMAND_LINE, "RFC 5321 section 4.5.3.1.5: {line}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
        assert!(code.is_some_and(|code| (200..600).contains(&code)), "{line}");
        assert!(matches!(line.as_bytes()[3], b' ' | b'-'), "{line}");
    }
}

fn check_mail(config: &ServerConfig, mail: &super::AcceptedMail) {
    let content = &mail.message.content[..];
    assert!(content.len() as u64 <= config.max_message);
    assert!((1..=config.max_recipients as usize).contains(&mail.recipients.len()));
    mail.recipients.iter().for_each(check_mailbox);
    if let ReversePath::Mailbox(from) = &mail.from {
        check_mailbox(from);
    }
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]?".contains(byte);
    assert!(mail.client.hello.as_bytes().iter().all(named), "{}", mail.client.hello);
    assert!(content.is_empty() || content.ends_with(b"\r\n"));
    assert!(!content.contains(&0));
    for (at, byte) in content.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(content.get(at + 1), Some(&b'\n'), "a bare CR got through"),
            b'\n' => assert!(at > 0 && content[at - 1] == b'\r', "a bare LF got through"),
            _ => {}
        }
    }
    assert_eq!(mail.message.eight_bit, !content.is_ascii());
}

/// This holds however lenient the session is. What goes on to the next hop, between angle brackets
/// on a line of a command, ends neither bracket nor line, and is no second address.
fn check_mailbox(mailbox: &Mailbox) {
    let (local, domain) = (mailbox.local(), mailbox.domain());
    let printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    assert!(printable(local) && printable(domain), "{mailbox}");
    let literal = domain.starts_with('[') && domain.ends_with(']');
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    assert!(!domain.is_empty() && (literal || domain.bytes().all(named)), "{mailbox}");
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let plain = |byte: u8| !b" <>@,:;()[]\\\"".contains(&byte);
    assert!(!local.is_empty() && (quoted || local.bytes().all(plain)), "{mailbox}");
}
