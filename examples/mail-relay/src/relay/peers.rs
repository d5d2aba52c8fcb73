//! Next hops and clients as they are met with, each with what it does to the relay.

use io_redirect::tcp::{Client, ConnectionState, Target};
use lockstep::ids::ReplicaId;

use super::RelaySettings;
use super::tests::{Scenario, settings};
use crate::smtp::{AddressCustoms, ClientCustoms, HopCustoms};

/// One connection of a next hop that follows a script.
struct Hop {
    client: Client,
    heard: String,
    in_data: bool,
    mails: usize,
}

impl Hop {
    /// Answers the first connection that the relay wants, and greets.
    fn answer(scenario: &mut Scenario) -> Hop {
        let hop = Hop::connect(scenario);
        scenario.pair.send(hop.client, b"220 hop.example ESMTP\r\n");
        hop
    }

    fn connect(scenario: &mut Scenario) -> Hop {
        let dial = scenario.pair.dials().remove(0);
        let client = scenario.pair.answer(&dial).unwrap();
        Hop { client, heard: String::new(), in_data: false, mails: 0 }
    }

    /// Says what the script says to each command, and to each mail (as `.`), until nothing more
    /// comes. Where the script says nothing, the hop is silent.
    fn serve(
        &mut self,
        scenario: &mut Scenario,
        mut script: impl FnMut(&str, usize) -> &'static str,
    ) {
        loop {
            self.heard.push_str(&String::from_utf8(scenario.pair.take(self.client)).unwrap());
            // The end of the DATA line belongs to the end of an empty mail.
            let is_empty = self.in_data && self.heard.starts_with(".\r\n");
            let end = if self.in_data && !is_empty { "\r\n.\r\n" } else { "\r\n" };
            let Some(at) = self.heard.find(end) else { return };
            let said: String = self.heard.drain(..at + end.len()).collect();
            let command = if self.in_data { "." } else { said.trim_end() };
            let reply = script(command, self.mails);
            self.mails += usize::from(self.in_data && !is_empty);
            self.in_data = !self.in_data && command == "DATA" && reply.starts_with('3');
            scenario.pair.send(self.client, reply.as_bytes());
        }
    }

    fn is_open(&self, scenario: &Scenario) -> bool {
        scenario.pair.fate(self.client) == ConnectionState::Open
    }
}

/// What a hop says that takes everything.
fn good(command: &str) -> &'static str {
    match command.split(' ').next().unwrap_or_default() {
        "EHLO" => "250-hop.example\r\n250 PIPELINING\r\n",
        "DATA" => "354 go\r\n",
        "QUIT" => "221 bye\r\n",
        _ => "250 ok\r\n",
    }
}

/// The same without PIPELINING.
fn plain(command: &str) -> &'static str {
    if command.starts_with("EHLO") { "250 hop.example\r\n" } else { good(command) }
}

fn one_at_a_time() -> RelaySettings {
    let mut settings = settings();
    settings.queue.max_deliveries = 1;
    settings
}

fn open_to_all() -> RelaySettings {
    let mut settings = one_at_a_time();
    settings.server.policy.allow_network("0.0.0.0/0".parse().unwrap());
    settings.server.policy.allow_network("::/0".parse().unwrap());
    settings
}

fn with_mails(count: usize) -> Scenario {
    let mut scenario = Scenario::new(one_at_a_time());
    let client = scenario.client();
    for number in 0..count {
        assert!(scenario.mail(client, "a@b.org", &format!("mail {number}")).starts_with("250"));
    }
    scenario
}

// ---- budgets that alternatives share -----------------------------------------

#[test]
fn an_address_that_gives_no_greeting_is_tried_after_the_others() {
    let mut scenario = with_mails(1);
    let silent = Hop::connect(&mut scenario);
    scenario.advance(5 * 60 + 1);
    assert!(!silent.is_open(&scenario));
    scenario.advance(2);
    let dial = scenario.pair.dials().remove(0);
    let hop = Target::host("hop.example", 25);
    assert_eq!(dial.target, hop.clone().last(["127.0.0.1:25".parse().unwrap()]));
    let mut hop_again = Hop::answer(&mut scenario);
    hop_again.serve(&mut scenario, |command, _| good(command));
    assert_eq!(hop_again.mails, 1);
    scenario.advance(5);
    hop_again.serve(&mut scenario, |command, _| good(command));
    let client = scenario.client();
    scenario.mail(client, "a@b.org", "next");
    assert_eq!(scenario.pair.dials()[0].target, hop, "what serves is no longer last");
    scenario.check();
}

#[test]
fn the_greeting_has_its_whole_time_however_long_connecting_took() {
    let mut scenario = with_mails(1);
    scenario.advance(4 * 60);
    let mut hop = Hop::connect(&mut scenario);
    scenario.advance(4 * 60);
    scenario.pair.send(hop.client, b"220 hop\r\n");
    hop.serve(&mut scenario, |command, _| good(command));
    assert_eq!(hop.mails, 1);
    scenario.check();
}

#[test]
fn recipients_beyond_the_first_hundred_have_their_turn_although_those_are_put_off() {
    let mut scenario = Scenario::new(one_at_a_time());
    let client = scenario.client();
    let to: String = (0..150).map(|n| format!("RCPT TO:<{n}@example.org>\r\n")).collect();
    let mail = format!("EHLO c\r\nMAIL FROM:<a@b.org>\r\n{to}DATA\r\nhi\r\n.\r\n");
    scenario.pair.send(client, mail.as_bytes());
    let first_hundred = |command: &str| {
        let name = command.strip_prefix("RCPT TO:<").and_then(|rest| rest.split('@').next());
        name.is_some_and(|name| name.parse::<u32>().unwrap() < 100)
    };
    let mut hop = Hop::answer(&mut scenario);
    let script = |command: &str, _| match first_hundred(command) {
        true => "450 4.2.1 later\r\n",
        false => good(command),
    };
    hop.serve(&mut scenario, script);
    assert_eq!(scenario.pair.service().counters().delivered, 50);
    // In the next round too, each is asked once.
    scenario.advance(5 * 60);
    let mut again = Hop::answer(&mut scenario);
    let mut asked = 0;
    again.serve(&mut scenario, |command, number| {
        asked += usize::from(command.starts_with("RCPT"));
        script(command, number)
    });
    assert_eq!(asked, 100);
    scenario.check();
}

// ---- refusals of a connection ---------------------------------------------------

/// Six mails, and a hop that does this instead of taking the fourth on one connection.
fn with_three_to_a_connection(mut fourth: impl FnMut(&mut Scenario, &Hop) -> &'static str) {
    for hello in [good, plain] {
        let mut scenario = with_mails(6);
        let mut received = 0;
        for _ in 0..2 {
            let mut hop = Hop::answer(&mut scenario);
            let mut stop = false;
            hop.serve(&mut scenario, |command, mails| {
                stop |= mails == 3 && command.starts_with("MAIL");
                if stop { "" } else { hello(command) }
            });
            received += hop.mails;
            if stop {
                let said = fourth(&mut scenario, &hop);
                scenario.pair.send(hop.client, said.as_bytes());
                hop.serve(&mut scenario, |command, _| good(command));
            }
        }
        assert_eq!(received, 6, "no time has passed");
        let counters = scenario.pair.service().counters();
        assert_eq!((counters.deferred, counters.in_doubt, counters.failed), (0, 0, 0));
        scenario.check();
    }
}

#[test]
fn a_used_connection_that_ends_with_421_is_replaced_at_once() {
    with_three_to_a_connection(|_, _| "421 4.7.0 too many mails, bye\r\n");
}

#[test]
fn a_used_connection_that_says_451_to_all_is_replaced_at_once() {
    with_three_to_a_connection(|_, _| "451 4.7.0 later\r\n503 no\r\n503 no\r\n");
}

#[test]
fn a_used_connection_that_refuses_senders_for_ever_is_replaced_at_once() {
    with_three_to_a_connection(|_, _| "550 5.7.0 too many mails\r\n503 no\r\n503 no\r\n");
}

#[test]
fn a_used_connection_that_breaks_off_is_replaced_at_once() {
    with_three_to_a_connection(|scenario, hop| {
        scenario.pair.reset(hop.client);
        ""
    });
}

#[test]
fn a_new_connection_that_refuses_the_sender_is_believed() {
    let mut scenario = with_mails(1);
    let mut hop = Hop::answer(&mut scenario);
    hop.serve(&mut scenario, |command, _| match command.starts_with("MAIL") {
        true => "451 4.1.8 your domain is not found\r\n",
        false => good(command),
    });
    assert!(scenario.pair.dials().is_empty() && scenario.pair.service().hops() == 0);
    assert_eq!(scenario.pair.service().counters().deferred, 1);
    scenario.advance(5 * 60);
    let mut hop = Hop::answer(&mut scenario);
    hop.serve(&mut scenario, |command, _| match command.starts_with("MAIL") {
        true => "550 5.1.8 your domain is not found\r\n",
        false => good(command),
    });
    assert_eq!(scenario.pair.service().counters().bounced, 1);
    scenario.check();
}

#[test]
fn a_hop_that_wants_another_kind_of_session_bounces_nothing() {
    for verb in ["MAIL", "RCPT", "DATA"] {
        for hello in [good, plain] {
            let mut scenario = with_mails(2);
            for _ in 0..20 {
                if !scenario.pair.dials().is_empty() {
                    let mut hop = Hop::answer(&mut scenario);
                    hop.serve(&mut scenario, |command, _| match command.starts_with(verb) {
                        true => "530 5.7.0 authentication required\r\n",
                        false => hello(command),
                    });
                }
                scenario.advance(1);
            }
            let counters = scenario.pair.service().counters();
            assert_eq!((counters.failed, counters.bounced, counters.in_doubt), (0, 0, 0), "{verb}");
            // Once it is set right, all goes out within the hop's pause.
            scenario.advance(60);
            let mut hop = Hop::answer(&mut scenario);
            hop.serve(&mut scenario, |command, _| hello(command));
            assert_eq!(hop.mails, 2, "{verb}");
            scenario.check();
        }
    }
}

#[test]
fn nothing_is_in_doubt_before_the_data_has_ended() {
    for (stop, in_doubt) in [("MAIL", 0), ("RCPT", 0), ("DATA", 0), (".", 1)] {
        for end in ["421 4.3.2 bye\r\n", "nonsense\r\n", ""] {
            let mut scenario = with_mails(1);
            let mut hop = Hop::answer(&mut scenario);
            hop.serve(&mut scenario, |command, _| match command.starts_with(stop) {
                true => "",
                false => plain(command),
            });
            match end {
                "" => scenario.pair.reset(hop.client),
                end => scenario.pair.send(hop.client, end.as_bytes()),
            }
            assert_eq!(scenario.pair.service().counters().in_doubt, in_doubt, "{stop} {end}");
        }
    }
}

/// What a hop is waiting with: the greeting, a command, or the verdict on the mail (`.`).
const STAGES: [&str; 6] = ["", "EHLO", "MAIL", "RCPT", "DATA", "."];

#[test]
fn a_coserver_that_dies_under_a_delivery_is_held_against_nobody_and_what_may_be_there_is_counted() {
    for (stage, restarted) in STAGES.into_iter().flat_map(|stage| [(stage, false), (stage, true)]) {
        let mut scenario = with_mails(1);
        let mut hop = Hop::connect(&mut scenario);
        if !stage.is_empty() {
            scenario.pair.send(hop.client, b"220 hop\r\n");
        }
        hop.serve(&mut scenario, |command, _| match command.starts_with(stage) {
            true => "",
            false => plain(command),
        });
        match restarted {
            true => scenario.restart(ReplicaId::A),
            false => scenario.lose(),
        }
        let counters = scenario.pair.service().counters();
        let expected = u64::from(stage == ".");
        assert_eq!((counters.in_doubt, counters.deferred), (expected, 0), "{stage}");
        // The other one goes on at once, and thinks no worse of the address.
        assert_eq!(scenario.pair.dials()[0].target, Target::host("hop.example", 25), "{stage}");
        let mut again = Hop::answer(&mut scenario);
        again.serve(&mut scenario, |command, _| good(command));
        assert_eq!(again.mails, 1, "{stage}");
        scenario.check();
    }
}

#[test]
fn what_has_not_left_is_not_in_doubt_and_never_leaves() {
    // The hop reads nothing, and the mail is more than fits on its way.
    let mut scenario = Scenario::new(one_at_a_time());
    let client = scenario.client();
    let text = "0123456789\r\n".repeat(100_000);
    assert!(scenario.mail(client, "a@b.org", text.trim_end()).starts_with("250"));
    let mut hop = Hop::answer(&mut scenario);
    hop.serve(&mut scenario, |command, _| if command == "DATA" { "" } else { plain(command) });
    scenario.pair.stall(hop.client, true);
    scenario.pair.send(hop.client, b"354 go\r\n");
    scenario.lose();
    assert_eq!(scenario.pair.service().counters().in_doubt, 0);
    scenario.check();
    // The hop ends the session in the breath in which it asks for the mail.
    let mut scenario = with_mails(1);
    let mut hop = Hop::answer(&mut scenario);
    hop.serve(&mut scenario, |command, _| if command == "DATA" { "" } else { plain(command) });
    scenario.pair.send(hop.client, b"354 go\r\n421 4.3.2 bye\r\n");
    assert_eq!(scenario.pair.service().counters().in_doubt, 0);
    assert_eq!(String::from_utf8(scenario.pair.take(hop.client)).unwrap(), "");
    scenario.check();
}

// ---- clients that speak something else, or badly ----------------------------------

#[test]
fn a_request_of_another_protocol_ends_the_session_whatever_it_carries() {
    let dialogue = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<to@example.org>\r\nDATA\r\nx\r\n.\r\n";
    let headers = "Host: relay.example\r\nContent-Type: text/plain\r\nContent-Length: 70\r\n\r\n";
    let starts = [
        format!("POST / HTTP/1.1\r\n{headers}"),
        "post / HTTP/1.0\r\nContent-Length: 70\r\n\r\n".to_owned(),
        "PROPFIND / HTTP/1.0\r\nA: b\r\n\r\n".to_owned(),
        "Content-Length: 70\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n".to_owned(),
        "\x03\x00\x00\x13".to_owned(),
        "SSH-2.0-OpenSSH_9\r\n".to_owned(),
        "a\r\nb\r\nc\r\nd\r\n".to_owned(),
    ];
    for start in starts {
        let mut scenario = Scenario::new(settings());
        let client = scenario.client();
        let said = scenario.say(client, &format!("{start}{dialogue}"));
        let counters = scenario.pair.service().counters();
        assert_eq!(counters.accepted, 0, "{start:?}: {said}");
        assert!(said.lines().last().unwrap().starts_with("421 4."), "{start:?}: {said}");
        assert_eq!(scenario.pair.service().clients(), 0, "{start:?}");
        assert!(scenario.pair.service().queue().is_empty());
        scenario.check();
    }
}

#[test]
fn a_client_that_says_nothing_but_a_binary_hello_is_let_go_at_once() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    assert!(scenario.say(client, "\x16\x03\x01").starts_with("421 4."));
    assert_eq!(scenario.pair.service().clients(), 0);
    scenario.check();
}

/// A mail for these recipients in one piece; how many of them it is queued for.
fn queued_for(scenario: &mut Scenario, to: impl IntoIterator<Item = String>) -> usize {
    let client = scenario.client();
    let to: String = to.into_iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
    let mail = format!("EHLO c\r\nMAIL FROM:<a@b.org>\r\n{to}DATA\r\nhi\r\n.\r\n");
    let said = scenario.say(client, &mail);
    let mail = scenario.pair.service().queue().iter().next();
    mail.unwrap_or_else(|| panic!("{said}")).1.recipients.len()
}

#[test]
fn bad_recipients_cost_the_good_ones_nothing() {
    let cases: [fn(usize) -> String; 4] = [
        |n| format!("bad..{n}..@@example.org"),
        |n| format!("{n}@elsewhere.example"),
        |n| format!("j\u{fc}rgen{n}@example.org"),
        |n| format!("{n}{}@example.org", "x".repeat(600)),
    ];
    for bad in cases {
        let mut scenario = Scenario::new(settings());
        let good = (0..30).map(|n| format!("good{n}@example.org"));
        let to = (0..400).map(bad).chain(good);
        assert_eq!(queued_for(&mut scenario, to), 30, "{}", bad(1));
        scenario.check();
    }
}

#[test]
fn what_follows_a_refused_sender_is_no_abuse() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    let to: String = (0..100).map(|n| format!("RCPT TO:<{n}@example.org>\r\n")).collect();
    let said = scenario.say(client, &format!("EHLO c\r\nMAIL FROM:<a@>\r\n{to}DATA\r\n"));
    assert!(!said.contains("421 "), "{said}");
    assert!(scenario.mail(client, "a@b.org", "hi").starts_with("250"));
    scenario.check();
}

#[test]
fn who_may_send_to_one_domain_only_cannot_name_another_within_the_address() {
    let routed = ["user%other.example@example.org", "other.example!user@example.org"];
    for accepted in [false, true] {
        let mut settings = settings();
        settings.server.policy.allow_routed(accepted);
        for path in routed {
            let mut scenario = Scenario::new(settings.clone());
            let client = scenario.client();
            let said =
                scenario.say(client, &format!("HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<{path}>\r\n"));
            let expected = if accepted { "250 2.1.5" } else { "550 5.7.1" };
            assert!(said.lines().last().unwrap().starts_with(expected), "{path}: {said}");
            scenario.check();
        }
    }
}

#[test]
fn a_silent_client_is_let_go_after_the_time_that_is_configured() {
    let mut settings = settings();
    settings.server.idle = 30 * crate::limits::SECOND;
    let mut scenario = Scenario::new(settings);
    let client = scenario.client();
    scenario.say(client, "EHLO c\r\n");
    scenario.advance(29);
    assert_eq!(scenario.pair.service().clients(), 1);
    scenario.advance(2);
    assert!(scenario.say(client, "").starts_with("421 4.4.2"));
    assert_eq!(scenario.pair.service().clients(), 0);
    scenario.check();
}

// ---- custom ---------------------------------------------------------------------

#[test]
fn names_that_are_custom_are_taken() {
    let mut scenario = Scenario::new(open_to_all());
    for hello in ["DESKTOP-1", "my_host", "-host-", "win pc (home)", "m\u{fc}ller", "localhost."] {
        let client = scenario.client();
        let said = scenario.say(client, &format!("EHLO {hello}\r\n"));
        assert!(said.starts_with("250-"), "{hello}: {said}");
    }
    for path in ["root@my_host", "a..b@example.org", "a.@example.org", ".a@-b.example"] {
        let client = scenario.client();
        let said = scenario.say(
            client,
            &format!("HELO c\r\nMAIL FROM:<{path}>\r\nRCPT TO:<{path}>\r\nDATA\r\nhi\r\n.\r\n"),
        );
        assert!(said.lines().last().unwrap().starts_with("250 2.0.0"), "{path}: {said}");
    }
    let mut hop = Hop::answer(&mut scenario);
    let mut named = Vec::new();
    hop.serve(&mut scenario, |command, _| {
        named.extend(command.strip_prefix("RCPT TO:").map(str::to_owned));
        good(command)
    });
    let expected = ["<root@my_host>", "<a..b@example.org>", "<a.@example.org>", "<.a@-b.example>"];
    assert_eq!(named, expected, "they go on as they came");
    scenario.check();
}

#[test]
fn replies_that_are_custom_are_taken() {
    let mut scenario = with_mails(1);
    let mut hop = Hop::connect(&mut scenario);
    scenario.pair.send(hop.client, b"220 hop\n");
    hop.serve(&mut scenario, |command, _| match command.split(' ').next().unwrap_or_default() {
        "EHLO" => "250-hop.example\n250-SIZE 0\r\n250-8BITMIME\n250 PIPELINING\n",
        "MAIL" => "250-ok\r\n251 ok\r\n",
        "RCPT" => "251-ok\n250 ok\n",
        "DATA" => "354 go\n",
        _ => "250-taken\n250-by\r\n250 hop\n",
    });
    assert_eq!((hop.mails, scenario.pair.service().counters().delivered), (1, 1));
    scenario.check();
}

#[test]
fn what_is_custom_is_refused_where_it_is_switched_off() {
    let mut settings = open_to_all();
    settings.server.customs = ClientCustoms { addresses: AddressCustoms::NONE, hello: false };
    settings.client.customs = HopCustoms { bare_lf: false, mixed_codes: false };
    let mut scenario = Scenario::new(settings.clone());
    let client = scenario.client();
    for refused in ["EHLO win pc (home)", "EHLO m\u{fc}ller"] {
        assert!(scenario.say(client, &format!("{refused}\r\n")).starts_with("501"), "{refused}");
    }
    assert!(scenario.say(client, "EHLO DESKTOP-1\r\n").starts_with("250-"), "that one is a name");
    for path in ["root@my_host", "a..b@example.org"] {
        let said = scenario.say(client, &format!("MAIL FROM:<{path}>\r\n"));
        assert!(said.starts_with('5'), "{path}: {said}");
    }
    scenario.check();
    for greeting in ["220 hop\n", "220-hop\r\n221 hop\r\n"] {
        let mut scenario = Scenario::new(settings.clone());
        let client = scenario.client();
        scenario.mail(client, "a@b.org", "hi");
        let hop = Hop::connect(&mut scenario);
        scenario.pair.send(hop.client, greeting.as_bytes());
        assert!(!hop.is_open(&scenario), "{greeting:?}");
        assert_eq!(scenario.pair.service().queue().len(), 1, "it waits for a better hop");
        scenario.check();
    }
}
