//! Conversations, told from the client's side.

use super::fuzz::small_config;
use super::*;
use crate::limits::{self, MINUTE, SECOND};

/// A client, the session it talks to, and log time.
struct Talk {
    config: ServerConfig,
    session: ServerSession,
    now: u64,
    room: u64,
    share: u64,
    over_rate: bool,
    mails: Vec<AcceptedMail>,
    closed: bool,
}

impl Talk {
    /// A connection from inside the allowed network, greeted.
    fn inside() -> Talk {
        Talk::from("192.0.2.5")
    }

    fn from(peer: &str) -> Talk {
        let mut config = small_config();
        config.policy.allow_network("192.0.2.0/24".parse().unwrap());
        let env = Surroundings::new(&config, 0);
        let (session, greeting) = ServerSession::open(env, peer.parse().unwrap());
        let expected = Bytes::from("220 relay.example ESMTP mail-relay\r\n");
        assert_eq!(greeting, [Action::Reply(expected)]);
        Talk {
            config,
            session,
            now: 0,
            room: u64::MAX,
            share: u64::MAX,
            over_rate: false,
            mails: vec![],
            closed: false,
        }
    }

    /// As [`Talk::inside`], with EHLO said.
    fn greeted() -> Talk {
        let mut talk = Talk::inside();
        assert_eq!(talk.say("EHLO client.example").len(), 6);
        talk
    }

    fn give(&mut self, input: Input<'_>) -> Vec<String> {
        let env = Surroundings {
            room: self.room,
            share: self.share,
            over_rate: self.over_rate,
            ..Surroundings::new(&self.config, self.now)
        };
        let mut replies = String::new();
        for action in self.session.handle(env, input) {
            match action {
                Action::Reply(bytes) => replies.push_str(std::str::from_utf8(&bytes).unwrap()),
                Action::Accepted(mail) => self.mails.push(*mail),
                Action::Close => self.closed = true,
            }
        }
        replies.split_terminator("\r\n").map(str::to_owned).collect()
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> Vec<String> {
        self.give(Input::Data(bytes.as_ref()))
    }

    fn say(&mut self, line: &str) -> Vec<String> {
        self.send(format!("{line}\r\n"))
    }

    /// Says a line and checks the beginning of the one reply line.
    #[track_caller]
    fn hears(&mut self, line: &str, reply: &str) {
        let replies = self.say(line);
        assert_eq!(replies.len(), 1, "{line}: {replies:?}");
        assert!(replies[0].starts_with(reply), "{line}: {replies:?}");
    }

    /// Envelope and DATA, up to the 354.
    fn begin_data(&mut self) {
        self.hears("MAIL FROM:<a@client.example>", "250 2.1.0 ");
        self.hears("RCPT TO:<b@example.org>", "250 2.1.5 ");
        self.hears("DATA", "354 ");
    }
}

#[test]
fn a_mail_is_taken_and_answered_only_after_the_verdict() {
    let mut talk = Talk::greeted();
    talk.begin_data();
    assert_eq!(talk.send("Subject: x\r\n\r\n..dots\r\n.\r\n"), [""; 0]);
    assert!(talk.session.is_waiting());
    assert_eq!(talk.session.deadline(), None);
    let [mail] = &talk.mails[..] else { panic!("no mail") };
    assert_eq!(mail.from.to_string(), "<a@client.example>");
    assert_eq!(mail.recipients, [Mailbox::parse("b@example.org").unwrap()]);
    assert_eq!(&mail.message.content[..], b"Subject: x\r\n\r\n.dots\r\n");
    assert!(!mail.message.eight_bit && mail.client.extended);
    assert_eq!(mail.client.hello, "client.example");
    let replies = talk.give(Input::Verdict(Verdict::Queued("Q1")));
    assert_eq!(replies, ["250 2.0.0 queued as Q1"]);
    talk.hears("QUIT", "221 2.0.0 ");
    assert!(talk.closed);
    assert_eq!(talk.say("NOOP"), [""; 0]);
}

#[test]
fn ehlo_tells_what_there_is_and_helo_nothing() {
    let mut talk = Talk::inside();
    let expected = [
        "250-relay.example",
        "250-PIPELINING",
        "250-SIZE 4096",
        "250-8BITMIME",
        "250-ENHANCEDSTATUSCODES",
        "250 HELP",
    ];
    assert_eq!(talk.say("ehlo [192.0.2.5]"), expected);
    assert_eq!(talk.say("HELO client"), ["250 relay.example"]);
}

#[test]
fn commands_have_their_order() {
    let mut talk = Talk::inside();
    for line in ["MAIL FROM:<a@b.org>", "RCPT TO:<b@example.org>", "DATA"] {
        talk.hears(line, "503 5.5.1 ");
    }
    talk.say("EHLO c");
    talk.hears("RCPT TO:<b@example.org>", "503 5.5.1 ");
    talk.hears("DATA", "503 5.5.1 ");
    talk.hears("MAIL FROM:<>", "250 2.1.0 ");
    talk.hears("MAIL FROM:<>", "503 5.5.1 ");
    talk.hears("DATA", "554 5.5.1 ");
    talk.hears("RCPT TO:<b@example.org>", "250 ");
    talk.hears("RSET", "250 2.0.0 ");
    talk.hears("DATA", "503 5.5.1 ");
    talk.hears("MAIL FROM:<>", "250 ");
    talk.say("EHLO again");
    talk.hears("RCPT TO:<b@example.org>", "503 ");
}

#[test]
fn the_small_commands_have_their_answers() {
    let mut talk = Talk::greeted();
    let cases = [
        ("NOOP", "250 2.0.0 "),
        ("VRFY somebody", "252 2.5.0 "),
        ("HELP", "214 2.0.0 "),
        ("EXPN list", "502 5.5.1 "),
        ("STARTTLS", "502 5.5.1 "),
        ("AUTH PLAIN AGEAYg==", "502 5.5.1 "),
        ("XYZZY", "500 5.5.2 "),
    ];
    for (line, reply) in cases {
        talk.hears(line, reply);
    }
}

#[test]
fn a_pipelined_group_is_answered_in_one_piece_and_in_order() {
    let mut talk = Talk::greeted();
    let group = "MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<bad>\r\nDATA\r\n";
    let env = Surroundings::new(&talk.config, 0);
    let actions = talk.session.handle(env, Input::Data(group.as_bytes()));
    let [Action::Reply(bytes)] = &actions[..] else { panic!("{actions:?}") };
    let codes: Vec<&str> =
        std::str::from_utf8(bytes).unwrap().lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "501", "354"]);
}

#[test]
fn the_next_mail_may_follow_the_dot_at_once() {
    let mut talk = Talk::greeted();
    talk.begin_data();
    let next = "one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n";
    assert_eq!(talk.send(next), [""; 0]);
    assert_eq!(talk.send("ahead\r\n.\r\nQUIT\r\n"), [""; 0]);
    let replies = talk.give(Input::Verdict(Verdict::Queued("Q1")));
    assert_eq!(replies.len(), 4);
    assert!(replies[3].starts_with("354"));
    assert_eq!(&talk.mails[1].message.content[..], b"ahead\r\n");
    let replies = talk.give(Input::Verdict(Verdict::Refused(Refusal::QueueFull)));
    assert!(replies[0].starts_with("452 4.3.1 ") && replies[1].starts_with("221 "));
}

#[test]
fn too_much_ahead_of_a_verdict_ends_the_session_but_not_the_mail() {
    let mut talk = Talk::greeted();
    talk.begin_data();
    talk.send("x\r\n.\r\n");
    talk.send(vec![b'x'; limits::HELD_INPUT]);
    assert_eq!(talk.session.held_bytes(), limits::HELD_INPUT as u64);
    talk.send("x");
    assert_eq!(talk.session.held_bytes(), 0);
    let replies = talk.give(Input::Verdict(Verdict::Queued("Q1")));
    assert!(replies[0].starts_with("250 ") && replies[1].starts_with("421 4.5.0 "));
    assert!(talk.closed);
}

#[test]
fn only_permitted_clients_may_relay() {
    let mut talk = Talk::from("203.0.113.9");
    talk.say("EHLO c");
    talk.hears("MAIL FROM:<a@b.org>", "250 ");
    talk.hears("RCPT TO:<b@elsewhere.org>", "550 5.7.1 ");
    talk.hears("RCPT TO:<@relay.example:b@elsewhere.org>", "550 5.7.1 ");
    talk.hears("RCPT TO:<\"b@elsewhere.org\"@example.org>", "550 5.7.1 ");
    talk.hears("RCPT TO:<b%elsewhere.org@example.org>", "550 5.7.1 ");
    talk.hears("RCPT TO:<\"b c\"@example.org>", "250 ");
    talk.hears("RCPT TO:<Postmaster>", "250 ");
    talk.hears("DATA", "354 ");
    talk.say(".");
    let names: Vec<String> = talk.mails[0].recipients.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["\"b c\"@example.org", "postmaster@relay.example"]);
    let mut inside = Talk::from("::ffff:192.0.2.77");
    inside.say("EHLO c");
    inside.hears("MAIL FROM:<>", "250 ");
    inside.hears("RCPT TO:<b@[198.51.100.1]>", "250 ");
    inside.hears("RCPT TO:<\"b@elsewhere.org\"@example.org>", "250 ");
}

#[test]
fn recipients_are_bounded_and_the_accepted_ones_stay() {
    let mut talk = Talk::greeted();
    talk.hears("MAIL FROM:<>", "250 ");
    for recipient in ["a", "b", "a", "c"] {
        talk.hears(&format!("RCPT TO:<{recipient}@example.org>"), "250 2.1.5 ");
    }
    talk.hears("RCPT TO:<d@example.org>", "452 4.5.3 ");
    talk.hears("DATA", "354 ");
    talk.say(".");
    assert_eq!(talk.mails[0].recipients.len(), 3);
}

#[test]
fn a_mail_too_large_is_refused_when_declared_and_when_it_comes() {
    let mut talk = Talk::greeted();
    talk.hears("MAIL FROM:<> SIZE=4097", "552 5.3.4 ");
    talk.hears("MAIL FROM:<> SIZE=99999999999999999999", "552 5.3.4 ");
    talk.hears("MAIL FROM:<> SIZE=4096", "250 ");
    talk.hears("RCPT TO:<b@example.org>", "250 ");
    talk.hears("DATA", "354 ");
    for _ in 0..1000 {
        assert_eq!(talk.say("a line of the mail that has no end"), [""; 0]);
        // The recipient is held too.
        assert!(talk.session.held_bytes() <= 4096 + 100);
    }
    talk.hears(".", "552 5.3.4 ");
    assert!(talk.mails.is_empty() && !talk.closed);
    talk.hears("MAIL FROM:<>", "250 ");
}

#[test]
fn a_full_queue_is_said_before_the_mail_is_sent() {
    let mut talk = Talk::greeted();
    talk.room = 100;
    talk.hears("MAIL FROM:<> SIZE=101", "452 4.3.1 ");
    talk.room = 0;
    talk.hears("MAIL FROM:<>", "452 4.3.1 ");
    talk.room = 101;
    talk.hears("MAIL FROM:<> SIZE=101", "250 ");
}

#[test]
fn a_network_that_has_its_share_of_the_queue_is_told_so_before_and_after_the_mail_is_sent() {
    const TOLD: &str = "452 4.3.1 your network has its share of the queue";
    let mut talk = Talk::greeted();
    talk.share = 100;
    talk.hears("MAIL FROM:<> SIZE=101", TOLD);
    talk.share = 0;
    talk.hears("MAIL FROM:<>", TOLD);
    talk.room = 0;
    talk.hears("MAIL FROM:<>", "452 4.3.1 the queue is full");
    (talk.room, talk.share) = (u64::MAX, 1);
    talk.begin_data();
    talk.send(".\r\n");
    let said = talk.give(Input::Verdict(Verdict::Refused(Refusal::OverShare)));
    assert!(said[0].starts_with(TOLD), "{said:?}");
    assert_eq!(talk.session.over_share(), 3);
    assert!(!talk.closed);
}

#[test]
fn smuggled_ends_of_data_end_nothing_and_spoil_the_mail() {
    for end in ["\n.\n", "\n.\r\n", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\n\n.\r\n"] {
        let mut talk = Talk::greeted();
        talk.begin_data();
        let smuggled = format!("x{end}MAIL FROM:<evil@b.org>\r\nRCPT TO:<c@example.org>\r\n");
        assert_eq!(talk.send(smuggled), [""; 0], "{end:?}");
        talk.hears(".", "550 5.6.0 ");
        assert!(talk.mails.is_empty());
        talk.hears("NOOP", "250 ");
    }
}

#[test]
fn a_bare_control_in_a_command_is_refused_and_drops_the_mail() {
    for line in ["NOOP\n", "NO\rOP\r\n", "NOOP\0\r\n", "NOOP\r\r\n"] {
        let mut talk = Talk::greeted();
        talk.hears("MAIL FROM:<>", "250 ");
        let replies = talk.send(line);
        assert!(replies.len() == 1 && replies[0].starts_with("500 5.5.2 "), "{line:?} {replies:?}");
        talk.hears("RCPT TO:<b@example.org>", "503 ");
    }
}

#[test]
fn lines_have_their_limits() {
    let mut talk = Talk::greeted();
    talk.hears(&format!("NOOP {}", "x".repeat(600)), "500 5.5.2 ");
    talk.hears(&"x".repeat(100_000), "500 5.5.2 ");
    talk.begin_data();
    assert_eq!(talk.say(&"x".repeat(999)), [""; 0]);
    talk.hears(".", "554 5.6.0 ");
    talk.begin_data();
    talk.say(&"x".repeat(998));
    talk.say(".");
    assert_eq!(talk.mails.len(), 1);
}

#[test]
fn what_is_beyond_ascii_is_seen_in_data_and_refused_in_envelopes() {
    let mut talk = Talk::greeted();
    talk.hears("MAIL FROM:<jürgen@b.org>", "553 5.6.7 ");
    talk.hears("MAIL FROM:<a@b.org> SMTPUTF8", "555 5.5.4 ");
    talk.hears("MAIL FROM:<a@b.org> BODY=8BITMIME", "250 ");
    talk.hears("RCPT TO:<jürgen@example.org>", "553 5.6.7 ");
    talk.hears("RCPT TO:<b@example.org>", "250 ");
    talk.hears("DATA", "354 ");
    talk.send("größe\r\n.\r\n");
    assert!(talk.mails[0].message.eight_bit);
    assert_eq!(talk.mails[0].message.size(), 9);
}

#[test]
fn nothing_a_client_says_is_ever_echoed() {
    let mut talk = Talk::inside();
    for line in ["EHLO ECHOED", "ECHOED", "VRFY ECHOED", "MAIL FROM:<ECHOED>", "HELP ECHOED"] {
        assert!(!talk.say(line).concat().contains("ECHOED"), "{line}");
    }
}

#[test]
fn too_many_errors_refusals_or_idle_commands_end_the_session() {
    let end = |talk: &mut Talk, line: &str| {
        for count in 1..30_000 {
            let replies = talk.say(line);
            if talk.closed {
                assert!(replies.last().unwrap().starts_with("421 4.7.0 "));
                return count;
            }
        }
        panic!("{line} is not bounded");
    };
    assert_eq!(end(&mut Talk::greeted(), "XYZZY"), limits::SESSION_ERRORS);
    assert_eq!(end(&mut Talk::inside(), "XYZZY"), limits::UNGREETED_ERRORS);
    for line in ["NOOP", "RSET", "VRFY a", "HELP", "EHLO a"] {
        assert_eq!(end(&mut Talk::inside(), line), limits::IDLE_COMMANDS + 1);
    }
    let mut stranger = Talk::from("203.0.113.9");
    stranger.say("EHLO c");
    stranger.hears("MAIL FROM:<>", "250 ");
    let refused = end(&mut stranger, "RCPT TO:<a@elsewhere.org>");
    assert_eq!(refused, limits::SESSION_REFUSALS + 1);
    let mut forgetful = Talk::greeted();
    forgetful.hears("MAIL FROM:<>", "250 ");
    let said = end(&mut forgetful, "RCPT TO:<a@example.org>");
    assert_eq!(said, 1 + limits::SESSION_SURPLUS + 1);
}

#[test]
fn recipients_that_were_accepted_stay_however_many_are_said_after_them() {
    let mut talk = Talk::greeted();
    talk.hears("MAIL FROM:<>", "250 ");
    talk.hears("RCPT TO:<a@example.org>", "250 ");
    for _ in 0..limits::RECIPIENTS {
        talk.hears("RCPT TO:<a@example.org>", "250 ");
    }
    talk.hears("DATA", "354 ");
}

#[test]
fn a_silent_client_is_sent_away_in_its_time_and_not_before() {
    let mut talk = Talk::greeted();
    assert_eq!(talk.session.deadline(), Some(5 * MINUTE));
    talk.now = 4 * MINUTE;
    talk.hears("NOOP", "250 ");
    talk.send("NOO");
    assert_eq!(talk.session.deadline(), Some(9 * MINUTE));
    talk.now = 9 * MINUTE - 1;
    assert_eq!(talk.give(Input::Deadline), [""; 0]);
    talk.now = 9 * MINUTE;
    assert!(talk.give(Input::Deadline)[0].starts_with("421 4.4.2 "));
    assert!(talk.closed && talk.session.deadline().is_none());
}

#[test]
fn data_in_drops_is_bounded_as_a_whole() {
    let mut talk = Talk::greeted();
    talk.begin_data();
    while talk.session.deadline().unwrap() > talk.now {
        talk.send("x\r\n");
        talk.now += MINUTE;
        assert!(talk.now <= limits::SERVER_DATA + SECOND);
    }
    assert!(talk.give(Input::Deadline)[0].starts_with("421 4.4.2 "));
    assert!(talk.mails.is_empty() && talk.closed);
}

#[test]
fn a_stopping_service_says_so() {
    let mut talk = Talk::greeted();
    talk.begin_data();
    assert!(talk.give(Input::Stop)[0].starts_with("421 4.3.2 "));
    assert!(talk.closed);
    assert_eq!(talk.give(Input::Stop), [""; 0]);
}

#[test]
fn a_session_frozen_anywhere_goes_on_as_if_nothing_had_been() {
    let input =
        b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhi\r\n..\r\n.\r\nNOOP\r\n";
    let mut expected = Talk::inside();
    expected.send(input);
    for cut in 0..input.len() {
        let mut talk = Talk::inside();
        talk.send(&input[..cut]);
        let frozen = rkyv::to_bytes::<rkyv::rancor::Error>(&talk.session).unwrap();
        talk.session = rkyv::from_bytes::<ServerSession, rkyv::rancor::Error>(&frozen).unwrap();
        talk.send(&input[cut..]);
        assert_eq!(talk.mails, expected.mails);
        assert_eq!(talk.session, expected.session);
    }
    let frozen = rkyv::to_bytes::<rkyv::rancor::Error>(&expected.session).unwrap();
    let short = &frozen[..frozen.len() - 4];
    assert!(rkyv::from_bytes::<ServerSession, rkyv::rancor::Error>(short).is_err());
}

#[test]
fn a_session_lasts_so_long_however_much_its_client_says_and_data_under_way_ends_first() {
    let mut talk = Talk::greeted();
    let session = talk.config.session;
    talk.now = session - SECOND;
    assert_eq!(talk.say("NOOP"), ["250 2.0.0 ok"]);
    assert_eq!(talk.session.deadline(), Some(session));
    talk.say("MAIL FROM:<>");
    talk.say("RCPT TO:<a@b.org>");
    assert!(talk.say("DATA")[0].starts_with("354"));
    talk.now = session + MINUTE;
    assert!(talk.give(Input::Deadline).is_empty());
    talk.say("text");
    talk.say(".");
    assert!(talk.give(Input::Verdict(Verdict::Queued("1")))[0].starts_with("250"));
    assert_eq!(talk.session.deadline(), Some(session));
    let said = talk.give(Input::Deadline);
    assert_eq!(said, ["421 4.4.2 the session took long enough; connect again"]);
    assert!(talk.closed && !talk.session.is_at_fault());
}

#[test]
fn a_silent_client_can_be_hurried_and_has_its_time_again_once_it_speaks() {
    let mut talk = Talk::greeted();
    talk.session.hurry(30 * SECOND);
    talk.session.hurry(60 * SECOND);
    assert_eq!(talk.session.deadline(), Some(30 * SECOND));
    talk.say("NOOP");
    assert_eq!(talk.session.deadline(), Some(talk.config.idle));
}

#[test]
fn how_many_commands_may_bring_no_mail_is_a_setting_and_one_more_is_a_fault() {
    for command in ["NOOP", "RSET", "VRFY a", "HELP", "EHLO c"] {
        let mut talk = Talk::inside();
        talk.config.idle_commands = 10;
        talk.hears("HELO c", "250 ");
        (1..10).for_each(|_| drop(talk.say(command)));
        assert!(!talk.closed, "{command}");
        let said = talk.say(command);
        assert!(said.last().is_some_and(|said| said.starts_with("421 4.7.0 ")), "{said:?}");
        assert!(talk.closed && talk.session.is_at_fault(), "{command}");
    }
}

#[test]
fn a_mail_too_many_of_a_network_is_put_off_and_its_session_goes_on() {
    let mut talk = Talk::greeted();
    talk.over_rate = true;
    let said = talk.send("MAIL FROM:<>\r\nRCPT TO:<a@b.org>\r\nDATA\r\n");
    assert!(said[0].starts_with("450 4.7.0 "), "{said:?}");
    talk.over_rate = false;
    assert!(talk.say("MAIL FROM:<>")[0].starts_with("250"));
    assert!(!talk.closed);
}

#[test]
fn a_sender_that_is_put_off_with_each_of_its_mails_is_not_at_fault() {
    let mut talk = Talk::greeted();
    let mut said = Vec::new();
    for nth in 0..=limits::SESSION_PUT_OFF {
        (talk.room, talk.over_rate) = if nth % 2 == 0 { (0, false) } else { (u64::MAX, true) };
        said = talk.send("MAIL FROM:<>\r\nRCPT TO:<a@b.org>\r\nDATA\r\nRSET\r\n");
        let is_last = nth == limits::SESSION_PUT_OFF;
        assert_eq!(talk.closed, is_last, "after {nth}: {said:?}");
    }
    assert!(said[1].starts_with("421 4.3.2 "), "{said:?}");
    assert!(!talk.session.is_at_fault());
    let mut talk = Talk::greeted();
    talk.room = 0;
    (0..100).for_each(|_| drop(talk.say("MAIL FROM:<>")));
    let rsets = (0..).take_while(|_| talk.say("RSET").len() == 1 && !talk.closed).count();
    assert_eq!(rsets, limits::IDLE_COMMANDS as usize, "those that put nothing back are counted");
}

#[test]
fn whose_fault_an_end_was_is_known() {
    let mut silent = Talk::greeted();
    silent.now = silent.config.idle;
    silent.give(Input::Deadline);
    let mut polite = Talk::greeted();
    polite.say("QUIT");
    for talk in [silent, polite] {
        assert!(talk.closed && !talk.session.is_at_fault());
    }
    let mut faulty = Talk::greeted();
    (0..limits::SESSION_ERRORS).for_each(|_| drop(faulty.say("nonsense")));
    let mut other = Talk::inside();
    other.say("GET / HTTP/1.1");
    for talk in [faulty, other] {
        assert!(talk.closed && talk.session.is_at_fault());
    }
}
