//! Scenarios of a relay between two simulated networks, and the search for nondeterminism in each.

use std::time::Duration;

use io_redirect::Harness;
use io_redirect::tcp::{Client, ConnectFailure, ConnectionState, Dial};
use lockstep::ids::ReplicaId;
use lockstep::testing::check_determinism;

use super::{LISTENER, Relay, RelaySettings};
use crate::smtp::Domain;

pub(super) fn settings() -> RelaySettings {
    let mut settings =
        RelaySettings::new(Domain::parse("relay.example").unwrap(), "hop.example:25").unwrap();
    settings.server.policy.allow_domain("example.org").unwrap();
    settings.queue.max_deliveries = 3;
    settings
}

/// A relay, and a next hop that does what the scenario wants.
pub(super) struct Scenario {
    pub(super) pair: Harness<Relay>,
    settings: RelaySettings,
    clients: Vec<Client>,
    hops: Vec<Hop>,
    pub(super) received: Vec<String>,
    lost: Option<ReplicaId>,
}

/// A connection that the next hop has answered.
struct Hop {
    client: Client,
    heard: String,
    /// Commands answered so far, as octets of `heard`.
    done: usize,
}

impl Scenario {
    pub(super) fn new(settings: RelaySettings) -> Scenario {
        let pair = Harness::new(settings.clone().wrapped().unwrap());
        Scenario {
            pair,
            settings,
            clients: Vec::new(),
            hops: Vec::new(),
            received: Vec::new(),
            lost: None,
        }
    }

    /// A relay that never gives up within a scenario.
    pub(super) fn relaxed() -> Scenario {
        let mut settings = settings();
        settings.queue.retry_first = crate::limits::SECOND;
        settings.queue.retry_most = crate::limits::MINUTE;
        Scenario::new(settings)
    }

    /// A client comes to whichever CoServer is there.
    pub(super) fn join_client(&mut self) {
        let place = self.lost.map_or(ReplicaId::A, ReplicaId::other);
        let port = 2000 + self.clients.len() as u16;
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], port));
        let client = self.pair.connect_from(place, LISTENER, peer).unwrap();
        self.pair.send(client, b"EHLO c\r\n");
        self.clients.push(client);
    }

    pub(super) fn with_client(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut Harness<Relay>, Client),
    ) {
        let last = self.clients.len().saturating_sub(1);
        let Some(client) = self.clients.get(last.saturating_sub(number)).copied() else { return };
        if self.pair.fate(client) == ConnectionState::Open {
            act(&mut self.pair, client);
        }
    }

    /// The next hop does so many things and then stands still.
    pub(super) fn hop_for(&mut self, rounds: usize, verdict: &str) {
        for dial in self.pair.dials() {
            self.answer(&dial);
        }
        for _ in 0..rounds {
            self.hop_round(verdict);
        }
    }

    pub(super) fn hop_away(&mut self) {
        for dial in self.pair.dials() {
            self.pair.fail(&dial, &ConnectFailure::Refused);
        }
    }

    pub(super) fn hop_breaks(&mut self) {
        for hop in std::mem::take(&mut self.hops) {
            if self.pair.fate(hop.client) == ConnectionState::Open {
                self.pair.reset(hop.client);
            }
        }
    }

    pub(super) fn lose(&mut self) {
        if self.lost.is_none() {
            self.pair.lose(ReplicaId::A);
            self.lost = Some(ReplicaId::A);
        }
    }

    pub(super) fn join(&mut self) {
        if let Some(place) = self.lost.take() {
            self.pair.join(place);
        }
    }

    /// Both end, and this one is started again.
    pub(super) fn restart(&mut self, place: ReplicaId) {
        let fresh = self.settings.clone().wrapped().unwrap();
        self.pair.restart(place, fresh).unwrap();
        self.lost = Some(place.other());
    }

    /// Both end, nobody runs for a while, and this one is started again.
    pub(super) fn restart_after(&mut self, place: ReplicaId, gap: Duration) {
        let fresh = self.settings.clone().wrapped().unwrap();
        self.pair.restart_after(place, fresh, gap).unwrap();
        self.lost = Some(place.other());
    }

    pub(super) fn freeze(&mut self) {
        let fresh = self.settings.clone().wrapped().unwrap();
        self.pair.replace(fresh).unwrap();
    }

    pub(super) fn client(&mut self) -> Client {
        let client = self.pair.connect(LISTENER).unwrap();
        assert_eq!(self.said(client), "220 relay.example ESMTP mail-relay\r\n");
        client
    }

    pub(super) fn said(&mut self, client: Client) -> String {
        String::from_utf8(self.pair.take(client)).unwrap()
    }

    pub(super) fn say(&mut self, client: Client, text: &str) -> String {
        self.pair.send(client, text.as_bytes());
        self.said(client)
    }

    /// A whole mail in one piece; the last line of the replies.
    pub(super) fn mail(&mut self, client: Client, from: &str, text: &str) -> String {
        let session = format!(
            "EHLO c\r\nMAIL FROM:<{from}>\r\nRCPT TO:<to@example.org>\r\nDATA\r\n{text}\r\n.\r\n"
        );
        let replies = self.say(client, &session);
        replies.lines().last().unwrap_or_default().to_owned()
    }

    /// The next hop answers whoever connects, and everything that is said to it.
    pub(super) fn hop(&mut self) {
        self.hop_saying("250 2.0.0 taken\r\n");
    }

    fn hop_saying(&mut self, verdict: &str) {
        loop {
            for dial in self.pair.dials() {
                self.answer(&dial);
            }
            if !self.hop_round(verdict) {
                return;
            }
        }
    }

    fn answer(&mut self, dial: &Dial) {
        let Some(client) = self.pair.answer(dial) else { return };
        self.pair.send(client, b"220 hop.example ESMTP\r\n");
        self.hops.push(Hop { client, heard: String::new(), done: 0 });
    }

    fn hop_round(&mut self, verdict: &str) -> bool {
        let mut moved = false;
        for hop in &mut self.hops {
            hop.heard.push_str(&String::from_utf8(self.pair.take(hop.client)).unwrap());
            if matches!(self.pair.fate(hop.client), ConnectionState::Ended | ConnectionState::Reset)
            {
                continue;
            }
            let Some((reply, len)) = answer_to(&hop.heard[hop.done..], verdict) else { continue };
            if reply == verdict && verdict.starts_with('2') {
                self.received.push(hop.heard[hop.done..hop.done + len].to_owned());
            }
            hop.done += len;
            self.pair.send(hop.client, reply.as_bytes());
            moved = true;
        }
        moved
    }

    pub(super) fn advance(&mut self, seconds: u64) {
        self.pair.advance(Duration::from_secs(seconds));
    }

    #[track_caller]
    pub(super) fn check(&self) {
        let settings = &self.settings;
        check_determinism(|| settings.clone().wrapped().unwrap(), &self.pair.script()).unwrap();
    }
}

/// The answer to the first command, and its length.
fn answer_to(heard: &str, verdict: &str) -> Option<(String, usize)> {
    let (line, _) = heard.split_once("\r\n")?;
    let len = line.len() + 2;
    let reply = match line.split(' ').next().unwrap_or_default() {
        "EHLO" => "250-hop.example\r\n250-PIPELINING\r\n250 SIZE 0\r\n",
        "MAIL" | "RCPT" | "RSET" | "NOOP" => "250 2.0.0 ok\r\n",
        "DATA" => "354 go\r\n",
        "QUIT" => "221 2.0.0 bye\r\n",
        _ => {
            let end = heard.find("\r\n.\r\n")? + 5;
            return Some((verdict.to_owned(), end));
        }
    };
    Some((reply.to_owned(), len))
}

#[test]
fn a_mail_goes_in_and_comes_out() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    assert!(scenario.mail(client, "a@b.org", "Subject: x\r\n\r\nhello").starts_with("250 2.0.0"));
    scenario.hop();
    let [mail] = &scenario.received[..] else { panic!("{:?}", scenario.received) };
    assert!(mail.starts_with("Received: from "), "{mail}");
    assert!(mail.ends_with("Subject: x\r\n\r\nhello\r\n.\r\n"), "{mail}");
    assert!(scenario.pair.service().queue().is_empty());
    assert!(scenario.say(client, "QUIT\r\n").starts_with("221"));
    assert_eq!(scenario.pair.service().clients(), 0);
    scenario.check();
}

#[test]
fn a_connection_to_the_hop_serves_several_mails_and_is_given_up_when_idle() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    for number in 0..5 {
        scenario.mail(client, "a@b.org", &format!("mail {number}"));
        scenario.hop();
        scenario.advance(1);
    }
    assert_eq!(scenario.received.len(), 5);
    assert_eq!(scenario.hops.len(), 1);
    scenario.advance(3);
    scenario.hop();
    assert_eq!(scenario.pair.service().hops(), 0);
    assert!(scenario.hops[0].heard.ends_with("QUIT\r\n"));
    scenario.check();
}

#[test]
fn deliveries_are_several_and_bounded() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    for number in 0..10 {
        scenario.mail(client, "a@b.org", &format!("mail {number}"));
    }
    assert_eq!(scenario.pair.dials().len(), 3);
    scenario.hop();
    assert_eq!(scenario.received.len(), 10);
    assert_eq!(scenario.hops.len(), 3);
    scenario.check();
}

#[test]
fn a_delivery_under_way_on_a_lost_coserver_is_made_again_from_the_other() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    scenario.mail(client, "a@b.org", "one");
    let dials = scenario.pair.dials();
    scenario.answer(&dials[0]);
    while scenario.hops[0].heard.is_empty() || !scenario.hops[0].heard.contains("one") {
        assert!(scenario.hop_round(""), "the delivery comes to its data");
    }
    scenario.pair.lose(ReplicaId::A);
    assert_eq!(scenario.pair.service().counters().in_doubt, 1);
    scenario.hops.clear();
    scenario.advance(2);
    scenario.hop();
    assert_eq!(scenario.received.len(), 1);
    assert_eq!(scenario.pair.service().clients(), 0);
    let other =
        scenario.pair.connect_from(ReplicaId::B, LISTENER, "192.0.2.9:4000".parse().unwrap());
    assert!(scenario.mail(other.unwrap(), "a@b.org", "two").starts_with("250"));
    scenario.hop();
    assert_eq!(scenario.received.len(), 2);
    scenario.check();
}

#[test]
fn mails_survive_the_end_of_both_coservers_and_what_was_under_way_is_done_again() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    for number in 0..5 {
        scenario.mail(client, "a@b.org", &format!("mail {number}"));
    }
    let dial = scenario.pair.dials().remove(0);
    scenario.answer(&dial);
    while !scenario.hops[0].heard.contains("mail 0") {
        assert!(scenario.hop_round(""), "the delivery comes to its data");
    }
    scenario.restart(ReplicaId::B);
    let relay = scenario.pair.service();
    assert_eq!(
        (relay.queue().len(), relay.queue().running()),
        (5, 3),
        "two are connecting, a third begins"
    );
    assert_eq!((relay.clients(), relay.counters().clients), (0, 1));
    assert_eq!((relay.counters().in_doubt, relay.counters().answers_in_doubt), (1, 1));
    scenario.pair.join(ReplicaId::A);
    scenario.lost = None;
    scenario.hop();
    scenario.advance(2);
    scenario.hop();
    assert_eq!(scenario.received.len(), 5);
    let counters = scenario.pair.service().counters();
    assert_eq!((counters.delivered, counters.deferred, counters.in_doubt), (5, 0, 1));
    let again = scenario.client();
    assert!(scenario.mail(again, "a@b.org", "after").starts_with("250"));
    scenario.hop();
    assert_eq!(scenario.received.len(), 6);
    scenario.check();
}

#[test]
fn a_restart_is_not_held_against_the_hop_nor_against_the_mail() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    scenario.mail(client, "a@b.org", "one");
    for place in [ReplicaId::A, ReplicaId::A, ReplicaId::B, ReplicaId::A] {
        scenario.restart(place);
        assert_eq!(scenario.pair.dials().len(), 1, "connecting again at once");
    }
    scenario.hop();
    assert_eq!(scenario.received.len(), 1);
    assert_eq!(scenario.pair.service().counters().deferred, 0);
    scenario.check();
}

#[test]
fn a_client_that_may_send_its_mail_again_is_counted() {
    let doubts = |scenario: &mut Scenario| {
        scenario.restart(ReplicaId::A);
        scenario.pair.service().counters().answers_in_doubt
    };
    let mut scenario = Scenario::new(settings());
    let silent = scenario.client();
    scenario.say(silent, "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<to@example.org>\r\nDATA\r\nhalf");
    assert_eq!(doubts(&mut scenario), 0, "no mail was taken over");
    let (one, two) = (scenario.client(), scenario.client());
    scenario.mail(one, "", "one");
    scenario.mail(two, "", "two");
    scenario.mail(two, "", "three");
    assert!(scenario.say(one, "QUIT\r\n").starts_with("221"));
    assert_eq!(doubts(&mut scenario), 1, "the last mail of one client");
    let settled = scenario.client();
    scenario.mail(settled, "", "four");
    let loops = "Received: by x\r\n".repeat(crate::limits::RECEIVED_FIELDS + 1);
    assert!(scenario.mail(settled, "", &loops).starts_with("554"));
    assert_eq!(doubts(&mut scenario), 1, "the answer to the refused one came after the other");
    scenario.check();
}

#[test]
fn a_hop_that_is_away_gets_everything_when_it_is_back() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    for number in 0..4 {
        scenario.mail(client, "a@b.org", &format!("mail {number}"));
    }
    for _ in 0..20 {
        for dial in scenario.pair.dials() {
            scenario.pair.fail(&dial, &ConnectFailure::Refused);
        }
        scenario.advance(1);
    }
    assert_eq!(scenario.pair.service().queue().len(), 4);
    scenario.advance(60);
    scenario.hop();
    assert_eq!(scenario.received.len(), 4);
    scenario.check();
}

#[test]
fn a_mail_that_is_refused_comes_back_as_a_notice() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    scenario.mail(client, "a@example.net", "Subject: never\r\n\r\nhello");
    for dial in scenario.pair.dials() {
        scenario.answer(&dial);
    }
    while !scenario.hops[0].heard.contains("never") {
        scenario.hop_round("550 5.7.1 no\r\n");
    }
    scenario.hop_round("550 5.7.1 no\r\n");
    scenario.hop();
    let [notice] = &scenario.received[..] else { panic!("{:?}", scenario.received) };
    assert!(notice.contains("To: <a@example.net>") && notice.contains("Status: 5.7.1"));
    assert_eq!(scenario.pair.service().counters().bounced, 1);
    assert!(scenario.pair.service().queue().is_empty());
    scenario.check();
}

#[test]
fn a_large_mail_passes_the_windows_in_both_directions() {
    let mut scenario = Scenario::new(settings());
    let line = format!("{}\r\n", "x".repeat(900));
    let text = format!("Subject: big\r\n\r\n{}end", line.repeat(3000));
    let client = scenario.client();
    assert!(scenario.mail(client, "a@b.org", &text).starts_with("250"));
    scenario.hop();
    assert!(scenario.received[0].ends_with(&format!("{text}\r\n.\r\n")));
    assert!(scenario.pair.service().held_bytes() < 10_000);
    scenario.check();
}

#[test]
fn a_hop_that_stops_reading_holds_up_only_its_own_delivery() {
    let mut scenario = Scenario::new(settings());
    let text = format!("{}\r\n", "x".repeat(900)).repeat(1000);
    let client = scenario.client();
    scenario.mail(client, "a@b.org", &text);
    let dial = scenario.pair.dials().remove(0);
    scenario.answer(&dial);
    let stuck = scenario.hops[0].client;
    scenario.hop_round("");
    scenario.pair.stall(stuck, true);
    for _ in 0..8 {
        scenario.hop_round("");
    }
    scenario.mail(client, "a@b.org", "small");
    scenario.hop();
    assert_eq!(scenario.received.len(), 1);
    scenario.pair.stall(stuck, false);
    scenario.hop();
    assert_eq!(scenario.received.len(), 2);
    scenario.check();
}

#[test]
fn a_client_that_takes_no_replies_is_not_read_from_and_is_let_go_in_time() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    scenario.say(client, "EHLO c\r\n");
    scenario.pair.stall(client, true);
    let to: String = (0..900).map(|n| format!("RCPT TO:<{n}@example.org>\r\n")).collect();
    let mail = format!("MAIL FROM:<>\r\n{to}DATA\r\n.\r\n");
    for _ in 0..40 {
        scenario.pair.send(client, mail.as_bytes());
    }
    assert!((5..20).contains(&scenario.pair.service().counters().accepted));
    assert!(scenario.pair.service().held_bytes() < 1024 * 1024);
    scenario.advance(6 * 60);
    scenario.advance(60);
    assert_eq!(scenario.pair.service().clients(), 0);
    assert_ne!(scenario.pair.fate(client), ConnectionState::Open);
    scenario.check();
}

#[test]
fn silent_clients_are_sent_away() {
    let mut scenario = Scenario::new(settings());
    let clients: Vec<Client> = (0..100).map(|_| scenario.client()).collect();
    scenario.advance(4 * 60);
    scenario.say(clients[7], "NOOP\r\n");
    scenario.advance(2 * 60);
    assert_eq!(scenario.pair.service().clients(), 1);
    assert!(scenario.said(clients[3]).starts_with("421 4.4.2"));
    scenario.check();
}

#[test]
fn a_client_that_half_closes_gets_its_replies() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    scenario.pair.send(client, b"NOOP\r\n");
    scenario.pair.half_close(client);
    assert_eq!(scenario.said(client), "250 2.0.0 ok\r\n");
    assert_eq!(scenario.pair.fate(client), ConnectionState::Ended);
    assert_eq!(scenario.pair.service().held_bytes(), 0);
}

#[test]
fn sessions_share_a_bounded_memory() {
    let mut settings = settings();
    settings.server.max_message = 64 * 1024;
    settings.session_bytes = 128 * 1024;
    settings.check().unwrap();
    let mut scenario = Scenario::new(settings);
    let begin = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<to@example.org>\r\nDATA\r\n";
    let part = format!("{}\r\n", "x".repeat(900)).repeat(60);
    let clients: Vec<Client> = (0..3).map(|_| scenario.client()).collect();
    for client in &clients {
        assert!(scenario.say(*client, begin).contains("\r\n354 "));
    }
    for client in &clients[..2] {
        assert_eq!(scenario.say(*client, &part), "");
    }
    // The third is still small when there is no more room, so one of the others gives way.
    assert_eq!(scenario.say(clients[2], &part), "");
    let (ended, left): (Vec<Client>, Vec<Client>) =
        clients.into_iter().partition(|client| scenario.said(*client).starts_with("421 4.3.1"));
    assert_eq!(ended.len(), 1);
    left.iter().for_each(|client| assert!(scenario.say(*client, ".\r\n").starts_with("250")));
    let again = scenario.client();
    assert!(scenario.mail(again, "", "small").starts_with("250"));
    let late = scenario.client();
    let reply = scenario.say(late, "EHLO c\r\nMAIL FROM:<> SIZE=65000\r\n");
    assert!(reply.ends_with("sender ok\r\n"), "{reply}");
    assert_eq!(scenario.pair.service().counters().out_of_memory, 1);
    scenario.check();
}

#[test]
fn a_frozen_relay_goes_on_as_if_nothing_had_happened() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    scenario.mail(client, "a@b.org", "one");
    scenario.say(client, "MAIL FROM:<>\r\nRCPT TO:<to@example.org>\r\nDATA\r\nhalf a ");
    let fresh = scenario.settings.clone().wrapped().unwrap();
    scenario.pair.replace(fresh).unwrap();
    assert!(scenario.say(client, "mail\r\n.\r\n").starts_with("250"));
    scenario.hop();
    assert_eq!(scenario.received.len(), 2);
    assert!(scenario.received[1].ends_with("half a mail\r\n.\r\n"));
}

#[test]
fn every_setting_shows_in_the_identity() {
    let plain = settings();
    let mut others = vec![plain.clone(); 6];
    others[0].server.policy.allow_network("192.0.2.0/24".parse().unwrap());
    others[1].queue.give_up += 1;
    others[2].next_hop = super::HopAddress::parse("hop.example:26").unwrap();
    others[3].server.max_message += 1;
    others[4].session_bytes += 1;
    others[5].client.hostname = Domain::parse("other.example").unwrap();
    assert_eq!(plain.digest(), settings().digest());
    for other in others {
        assert_ne!(plain.digest(), other.digest(), "{other:?}");
    }
}

#[test]
fn a_next_hop_is_a_host_and_a_port() {
    for good in ["hop.example:25", "192.0.2.1:2525", "[2001:db8::1]:25", "localhost:1"] {
        assert!(super::HopAddress::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "hop.example",
        "hop.example:0",
        "hop:x",
        ":25",
        "2001:db8::1:25",
        "[hop]:25",
        "0.0.0.0:25",
        "[::]:25",
    ] {
        assert!(super::HopAddress::parse(bad).is_err(), "{bad}");
    }
}
