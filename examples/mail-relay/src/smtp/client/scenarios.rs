//! Deliveries, told with the next hop's side written out; and client and server
//! of this crate talking to each other in memory.

use proptest::prelude::*;

use super::*;
use crate::limits::{self, MINUTE};
use crate::smtp::server::{self, ServerSession, Surroundings, Verdict};

/// A session and what it asked for so far.
struct Talk {
    config: ClientConfig,
    session: ClientSession,
    now: u64,
    sent: String,
    reports: Vec<Report>,
    closed: bool,
}

const OLD_HELLO: &str = "250 hop\r\n";
const HELLO: &str = "250-hop\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 PIPELINING\r\n";

impl Talk {
    fn new() -> Talk {
        let config = ClientConfig::new(Domain::parse("relay.example").unwrap());
        let session = ClientSession::open(0);
        Talk { config, session, now: 0, sent: String::new(), reports: vec![], closed: false }
    }

    /// Greeted by a hop that answers EHLO with `hello`.
    fn with_hop(hello: &str) -> Talk {
        let mut talk = Talk::new();
        talk.answer("220 hop ESMTP\r\n", "EHLO relay.example\r\n");
        talk.answer(hello, "");
        talk
    }

    fn give(&mut self, input: Input<'_>) {
        for action in self.session.handle(&self.config, self.now, input) {
            assert!(!self.closed, "{action:?} after the close");
            match action {
                Action::Send(bytes) => self.sent.push_str(std::str::from_utf8(&bytes).unwrap()),
                Action::Done(report) => self.reports.push(report),
                Action::Close => self.closed = true,
            }
        }
    }

    /// The hop says `replies`; the session answers with `expected`.
    #[track_caller]
    fn answer(&mut self, replies: &str, expected: &str) {
        self.give(Input::Data(replies.as_bytes()));
        assert_eq!(std::mem::take(&mut self.sent), expected, "after {replies:?}");
    }

    #[track_caller]
    fn deliver(&mut self, delivery: Delivery, expected: &str) {
        self.give(Input::Deliver(delivery));
        assert_eq!(std::mem::take(&mut self.sent), expected);
    }

    /// The one report since the last call, its outcomes in short.
    #[track_caller]
    fn outcomes(&mut self) -> Vec<String> {
        assert_eq!(self.reports.len(), 1, "{:?}", self.reports);
        let report = self.reports.remove(0);
        report.outcomes.iter().map(|outcome| short(outcome.as_ref())).collect()
    }

    fn failure(&self) -> &SessionFailure {
        self.reports[0].failure.as_ref().unwrap()
    }
}

fn short(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "undecided".to_owned(),
        Some(Outcome::Delivered) => "delivered".to_owned(),
        Some(Outcome::Transient(reply)) => format!("transient {reply}"),
        Some(Outcome::Permanent(reply)) => format!("permanent {reply}"),
    }
}

fn mail(recipients: &[&str], content: &[u8]) -> Delivery {
    let content = Bytes::copy_from_slice(content);
    let eight_bit = !content.is_ascii();
    Delivery {
        token: 7,
        from: ReversePath::Mailbox(Mailbox::parse("a@b.org").unwrap()),
        recipients: recipients.iter().map(|text| Mailbox::parse(text).unwrap()).collect(),
        message: Message { trace: Bytes::from_static(b"T: x\r\n"), content, eight_bit },
    }
}

#[test]
fn a_mail_goes_step_by_step_to_an_old_hop() {
    let mut talk = Talk::new();
    talk.deliver(mail(&["c@d.org", "e@d.org"], b".hi\r\n"), "");
    talk.answer("220 hop\r\n", "EHLO relay.example\r\n");
    talk.answer("502 what?\r\n", "HELO relay.example\r\n");
    talk.answer(OLD_HELLO, "MAIL FROM:<a@b.org>\r\n");
    talk.answer("250 ok\r\n", "RCPT TO:<c@d.org>\r\n");
    talk.answer("250 ok\r\n", "RCPT TO:<e@d.org>\r\n");
    talk.answer("250 ok\r\n", "DATA\r\n");
    talk.answer("354 go\r\n", "T: x\r\n..hi\r\n.\r\n");
    talk.answer("250 ok\r\n", "");
    assert_eq!(talk.outcomes(), ["delivered", "delivered"]);
    talk.give(Input::Quit);
    talk.answer("221 bye\r\n", "QUIT\r\n");
    assert!(talk.closed);
}

#[test]
fn a_modern_hop_gets_everything_in_one_group() {
    let mut talk = Talk::with_hop(HELLO);
    let group = "MAIL FROM:<a@b.org> SIZE=14 BODY=8BITMIME\r\nRCPT TO:<c@d.org>\r\nRCPT TO:<e@d.org>\r\nDATA\r\n";
    talk.deliver(mail(&["c@d.org", "e@d.org"], "größ\r\n".as_bytes()), group);
    talk.answer("250 ok\r\n250 2.1.5 ok\r\n", "");
    talk.answer("550 5.1.1 no e\r\n354 go\r\n", "T: x\r\ngröß\r\n.\r\n");
    talk.answer("250 2.0.0 taken\r\n", "");
    assert_eq!(talk.outcomes(), ["delivered", "permanent 550 5.1.1 no e"]);
    assert!(talk.session.is_free());
}

#[test]
fn each_recipient_has_an_outcome_of_its_own() {
    let mut talk = Talk::with_hop(OLD_HELLO);
    talk.deliver(
        mail(&["c@d.org", "e@d.org", "f@d.org", "g@d.org"], b""),
        "MAIL FROM:<a@b.org>\r\n",
    );
    talk.answer("250 ok\r\n", "RCPT TO:<c@d.org>\r\n");
    talk.answer("450 4.2.1 later\r\n", "RCPT TO:<e@d.org>\r\n");
    talk.answer("552 too many recipients\r\n", "RCPT TO:<f@d.org>\r\n");
    talk.answer("550-5.1.1 no\r\n550 5.1.1 f\r\n", "RCPT TO:<g@d.org>\r\n");
    talk.answer("251 will forward\r\n", "DATA\r\n");
    talk.answer("354 go\r\n", "T: x\r\n.\r\n");
    talk.answer("451 4.3.0 disk\r\n", "");
    let expected = [
        "transient 450 4.2.1 later",
        "transient 552 5.0.0 too many recipients",
        "permanent 550 5.1.1 no f",
        "transient 451 4.3.0 disk",
    ];
    assert_eq!(talk.outcomes(), expected);
}

#[test]
fn a_refused_sender_refuses_all_and_the_next_mail_needs_no_rset() {
    for (hello, rest) in [(OLD_HELLO, ""), (HELLO, "503 no\r\n503 no\r\n")] {
        let mut talk = Talk::with_hop(hello);
        talk.give(Input::Deliver(mail(&["c@d.org"], b"")));
        talk.give(Input::Data(format!("550 5.7.1 go away\r\n{rest}").as_bytes()));
        assert_eq!(talk.outcomes(), ["permanent 550 5.7.1 go away"]);
        talk.sent.clear();
        talk.give(Input::Deliver(mail(&["c@d.org"], b"")));
        assert!(talk.sent.starts_with("MAIL"), "{}", talk.sent);
    }
}

#[test]
fn a_mail_begun_and_not_ended_is_reset_before_the_next() {
    let mut talk = Talk::with_hop(OLD_HELLO);
    talk.give(Input::Deliver(mail(&["c@d.org"], b"")));
    talk.give(Input::Data(b"250 ok\r\n550 5.1.1 no\r\n"));
    assert_eq!(talk.outcomes(), ["permanent 550 5.1.1 no"]);
    talk.sent.clear();
    talk.deliver(mail(&["e@d.org"], b""), "RSET\r\n");
    talk.answer("250 ok\r\n", "MAIL FROM:<a@b.org>\r\n");
}

#[test]
fn a_group_whose_recipients_were_all_refused_is_taken_back() {
    let mut talk = Talk::with_hop(HELLO);
    talk.give(Input::Deliver(mail(&["c@d.org"], b"secret\r\n")));
    talk.sent.clear();
    talk.answer("250 ok\r\n550 5.1.1 no\r\n354 go\r\n", ".\r\n");
    talk.answer("554 5.5.1 no recipients\r\n", "");
    assert_eq!(talk.outcomes(), ["permanent 550 5.1.1 no"]);
    talk.give(Input::Deliver(mail(&["c@d.org"], b"")));
    talk.give(Input::Data(b"250 ok\r\n450 4.2.1 later\r\n554 5.5.1 no recipients\r\n"));
    assert_eq!(talk.outcomes(), ["transient 450 4.2.1 later"]);
}

#[test]
fn a_hop_that_wants_another_session_after_a_recipient_gets_no_empty_mail() {
    let mut talk = Talk::with_hop(HELLO);
    talk.give(Input::Deliver(mail(&["c@d.org", "e@d.org"], b"text\r\n")));
    talk.sent.clear();
    talk.answer("250 ok\r\n250 ok\r\n530 5.7.0 authenticate\r\n354 go\r\n", "");
    assert!(talk.closed && matches!(talk.failure(), SessionFailure::Unreachable(_)));
    assert_eq!(talk.outcomes(), ["undecided", "undecided"]);
}

#[test]
fn a_hop_that_cannot_take_a_mail_is_not_asked() {
    let mut talk = Talk::with_hop(OLD_HELLO);
    talk.deliver(mail(&["c@d.org"], "größe\r\n".as_bytes()), "");
    let expected = "permanent 5.6.3 the mail has 8-bit octets and the next hop lacks 8BITMIME";
    assert_eq!(talk.outcomes(), [expected]);
    let mut talk = Talk::with_hop(HELLO);
    talk.deliver(mail(&["c@d.org"], &b"12345678\r\n".repeat(100)), "");
    assert_eq!(talk.outcomes(), ["permanent 5.3.4 the mail is larger than the next hop takes"]);
    assert!(talk.session.is_free());
}

#[test]
fn a_session_that_never_began_blames_no_mail() {
    let greetings = [
        "554 no service\r\n",
        "530 5.7.0 authentication required\r\n",
        "421 busy\r\n",
        "220 hop\r\n451 later\r\n",
        "SSH-2.0\r\n",
    ];
    for greeting in greetings {
        let mut talk = Talk::new();
        talk.give(Input::Deliver(mail(&["c@d.org"], b"")));
        talk.give(Input::Data(greeting.as_bytes()));
        assert!(matches!(talk.failure(), SessionFailure::Unreachable(_)), "{greeting}");
        assert_eq!(talk.outcomes(), ["undecided"]);
        assert!(talk.closed);
    }
    let mut talk = Talk::new();
    talk.give(Input::Deliver(mail(&["c@d.org"], b"")));
    talk.give(Input::Closed(CloseCause::FarEnd("connection refused")));
    assert_eq!(*talk.failure(), SessionFailure::Unreachable("connection refused".to_owned()));
}

#[test]
fn what_was_decided_before_the_connection_ended_stays_decided() {
    type Check = fn(&SessionFailure) -> bool;
    let ends: [(Input<'_>, Check); 4] = [
        (Input::Closed(CloseCause::FarEnd("reset")), |failure| {
            matches!(failure, SessionFailure::Lost(_))
        }),
        (Input::Data(b"421 4.3.2 bye\r\n"), |failure| {
            matches!(failure, SessionFailure::Closing(_))
        }),
        (Input::Data(b"what\r\n"), |failure| matches!(failure, SessionFailure::Protocol(_))),
        (Input::Deadline, |failure| *failure == SessionFailure::TimedOut),
    ];
    for (end, expected) in ends {
        let mut talk = Talk::with_hop(HELLO);
        talk.give(Input::Deliver(mail(&["c@d.org", "e@d.org"], b"")));
        talk.give(Input::Data(b"250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n"));
        talk.now = limits::HOUR;
        talk.give(end.clone());
        assert!(expected(talk.failure()), "{end:?}: {:?}", talk.failure());
        assert_eq!(talk.outcomes(), ["permanent 550 5.1.1 no", "undecided"]);
        assert!(talk.session.is_closed() && talk.session.deadline().is_none());
    }
}

#[test]
fn every_wait_has_the_deadline_of_the_standard() {
    let mut talk = Talk::new();
    assert_eq!(talk.session.deadline(), Some(5 * MINUTE));
    talk.give(Input::Deliver(mail(&["c@d.org"], b"")));
    talk.give(Input::Data(b"220 hop\r\n"));
    assert_eq!(talk.session.deadline(), Some(5 * MINUTE));
    talk.now = MINUTE;
    talk.give(Input::Data(HELLO.as_bytes()));
    assert_eq!(talk.session.deadline(), Some(6 * MINUTE));
    talk.give(Input::Data(b"250 ok\r\n250 ok\r\n"));
    assert_eq!(talk.session.deadline(), Some(3 * MINUTE));
    talk.give(Input::Data(b"354 go\r\n"));
    assert_eq!(talk.session.deadline(), Some(MINUTE + 3 * MINUTE + 10 * MINUTE));
    talk.give(Input::Data(b"250 ok\r\n"));
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn a_delivery_to_a_session_that_is_not_free_comes_back() {
    let mut talk = Talk::new();
    talk.give(Input::Deliver(mail(&["c@d.org"], b"")));
    talk.give(Input::Deliver(mail(&["e@d.org"], b"")));
    assert_eq!(talk.outcomes(), ["undecided"]);
    talk.give(Input::Closed(CloseCause::FarEnd("gone")));
    assert_eq!(talk.outcomes(), ["undecided"]);
    talk.give(Input::Deliver(mail(&["e@d.org"], b"")));
    assert_eq!(talk.outcomes(), ["undecided"]);
}

/// Delivers `delivery` to a server session of this crate, its bytes cut into
/// pieces of `piece`, both sides frozen and restored on the way.
fn over_the_wire(delivery: Delivery, piece: usize) -> (Vec<Report>, Vec<server::AcceptedMail>) {
    type Error = rkyv::rancor::Error;
    let mut config = server::ServerConfig::new(Domain::parse("hop.example").unwrap());
    config.policy.allow_network("::1".parse().unwrap());
    let env = Surroundings::new(&config, 0);
    let client_config = ClientConfig::new(Domain::parse("relay.example").unwrap());
    let (mut server, mut from_server) = ServerSession::open(env, "::1".parse().unwrap());
    let mut client = ClientSession::open(0);
    let mut from_client = client.handle(&client_config, 0, Input::Deliver(delivery));
    let (mut reports, mut mails) = (vec![], vec![]);
    while !from_server.is_empty() || !from_client.is_empty() {
        for action in std::mem::take(&mut from_server) {
            match action {
                server::Action::Reply(bytes) => {
                    for bytes in bytes.chunks(piece) {
                        from_client.extend(client.handle(&client_config, 0, Input::Data(bytes)));
                    }
                }
                server::Action::Accepted(mail) => {
                    mails.push(*mail);
                    let verdict = server::Input::Verdict(Verdict::Queued("Q"));
                    from_server.extend(server.handle(env, verdict));
                }
                server::Action::Close => {}
            }
        }
        for action in std::mem::take(&mut from_client) {
            match action {
                Action::Send(bytes) => {
                    for bytes in bytes.chunks(piece) {
                        from_server.extend(server.handle(env, server::Input::Data(bytes)));
                    }
                }
                Action::Done(report) => reports.push(report),
                Action::Close => {}
            }
        }
        client = rkyv::from_bytes::<_, Error>(&rkyv::to_bytes::<Error>(&client).unwrap()).unwrap();
        server = rkyv::from_bytes::<_, Error>(&rkyv::to_bytes::<Error>(&server).unwrap()).unwrap();
    }
    (reports, mails)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mail_arrives_at_the_next_server_as_it_was(
        lines in prop::collection::vec("[.a-cß ]{0,4}", 0..200),
        piece in 1usize..50,
    ) {
        let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let delivery = mail(&["c@d.org", "\"x >y\"@d.org"], content.as_bytes());
        let (reports, mails) = over_the_wire(delivery.clone(), piece);
        prop_assert_eq!(&reports[0].outcomes, &vec![Some(Outcome::Delivered); 2]);
        let arrived = &mails[0];
        let expected = [&delivery.message.trace[..], &delivery.message.content].concat();
        prop_assert_eq!(&arrived.message.content[..], &expected[..]);
        prop_assert_eq!(arrived.message.eight_bit, delivery.message.eight_bit);
        prop_assert_eq!(&arrived.recipients, &delivery.recipients);
        prop_assert_eq!(&arrived.from, &delivery.from);
    }

    #[test]
    fn garbage_from_a_hop_never_panics_and_every_mail_is_reported(
        lines in prop::collection::vec(prop_oneof!["[2-5][0-9]{2}[ -][a-z0-9.]{0,9}\r\n", "[a-z\r\n]{0,9}"], 0..40),
    ) {
        let mut talk = Talk::new();
        talk.give(Input::Deliver(mail(&["c@d.org", "e@d.org"], b"x\r\n")));
        for line in &lines {
            talk.give(Input::Data(line.as_bytes()));
        }
        talk.give(Input::Closed(CloseCause::FarEnd("end")));
        prop_assert_eq!(talk.reports.len(), 1);
        prop_assert_eq!(talk.reports[0].outcomes.len(), 2);
        prop_assert!(talk.sent.len() < 400);
    }
}
