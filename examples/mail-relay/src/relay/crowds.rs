//! Scenarios of a block of addresses that takes what it can, and of the others beside it.

use std::time::Duration;

use io_redirect::tcp::{Client, ConnectionState};
use lockstep::ids::ReplicaId;

use super::tests::{Scenario, settings};
use super::{LISTENER, RelaySettings};
use crate::limits::{self, SECOND};

const MAIL: &str =
    "RSET\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<to@example.org>\r\nDATA\r\ntext\r\n.\r\n";

/// Few places, so that they are taken soon.
fn few_places() -> RelaySettings {
    RelaySettings { max_clients: 8, ..settings() }
}

/// A client from this block of addresses, and what it is greeted with.
fn come(scenario: &mut Scenario, block: u8) -> (Client, String) {
    come_from(scenario, block, 1)
}

/// The same from this host of the block.
fn come_from(scenario: &mut Scenario, block: u8, host: u8) -> (Client, String) {
    let peer = ([198, 51, block, host], 50_000).into();
    let client = scenario.pair.connect_from(ReplicaId::A, LISTENER, peer).unwrap();
    let said = said(scenario, client);
    (client, said)
}

fn greeted(scenario: &mut Scenario, block: u8) -> Client {
    let (client, greeting) = come(scenario, block);
    assert!(greeting.starts_with("220 "), "{greeting}");
    scenario.say(client, "EHLO c\r\n");
    client
}

fn said(scenario: &mut Scenario, client: Client) -> String {
    String::from_utf8(scenario.pair.take(client)).unwrap()
}

/// The answer to the last command of a mail.
fn mail(scenario: &mut Scenario, client: Client) -> String {
    scenario.say(client, MAIL).lines().last().unwrap_or_default().to_owned()
}

fn pass(scenario: &mut Scenario, span: u64) {
    scenario.pair.advance(Duration::from_nanos(span));
}

#[test]
fn silent_clients_of_one_block_keep_nobody_else_out() {
    let mut scenario = Scenario::new(few_places());
    let silent: Vec<Client> = (0..8).map(|_| greeted(&mut scenario, 1)).collect();
    assert!(come(&mut scenario, 1).1.starts_with("421 4.3.2 "), "its own block gets no more");
    let honest = greeted(&mut scenario, 2);
    assert!(said(&mut scenario, silent[0]).starts_with("421 4.3.2 "));
    assert!(mail(&mut scenario, honest).starts_with("250 "));
    let relay = scenario.pair.service();
    assert_eq!((relay.clients(), relay.share_counters().displaced), (8, 1));
    scenario.freeze();
    silent[1..].iter().for_each(|client| scenario.pair.reset(*client));
    assert!(mail(&mut scenario, honest).starts_with("250 "));
    let relay = scenario.pair.service();
    assert_eq!((relay.clients(), relay.held_bytes()), (1, limits::SESSION_OVERHEAD));
    scenario.check();
}

#[test]
fn clients_of_trusted_networks_give_way_to_nobody() {
    let mut settings = few_places();
    settings.shares.trusted.push("198.51.1.0/24".parse().unwrap());
    let mut scenario = Scenario::new(settings);
    let own: Vec<Client> = (0..4).map(|_| greeted(&mut scenario, 1)).collect();
    for block in [2, 2, 2, 2, 3, 4, 5] {
        greeted(&mut scenario, block);
    }
    assert!(own.iter().all(|client| scenario.pair.fate(*client) == ConnectionState::Open));
    scenario.check();
}

#[test]
fn while_connections_are_scarce_silence_is_short_and_before_it_is_not() {
    let mut scenario = Scenario::new(few_places());
    let first: Vec<Client> = (0..6).map(|block| greeted(&mut scenario, block)).collect();
    pass(&mut scenario, 2 * limits::SCARCE_IDLE);
    assert_eq!(scenario.pair.service().clients(), 6, "there is room");
    let busy = greeted(&mut scenario, 6);
    assert_eq!(scenario.pair.service().share_counters().scarce, 1);
    scenario.freeze();
    pass(&mut scenario, limits::SCARCE_IDLE - SECOND);
    assert!(scenario.say(busy, "NOOP\r\n").starts_with("250"));
    assert_eq!(scenario.pair.service().clients(), 7);
    pass(&mut scenario, 2 * SECOND);
    for client in first {
        assert!(said(&mut scenario, client).starts_with("421 4.4.2 "));
    }
    assert_eq!(scenario.pair.service().clients(), 1, "whoever says something stays");
    let late = greeted(&mut scenario, 7);
    pass(&mut scenario, 2 * limits::SCARCE_IDLE);
    assert_eq!(scenario.pair.fate(late), ConnectionState::Open, "there is room again");
    scenario.check();
}

#[test]
fn a_session_ends_after_its_time_between_two_mails() {
    let mut scenario = Scenario::new(settings());
    let client = greeted(&mut scenario, 1);
    let step = limits::SERVER_IDLE / 2;
    for _ in 0..limits::SERVER_SESSION / step - 1 {
        pass(&mut scenario, step);
        assert!(mail(&mut scenario, client).starts_with("250 "));
    }
    pass(&mut scenario, step);
    assert!(said(&mut scenario, client).starts_with("421 4.4.2 the session"));
    scenario.check();
}

#[test]
fn a_block_that_sends_too_many_mails_is_put_off_and_others_are_not() {
    let mut settings = settings();
    settings.shares.mails = 2;
    let mut scenario = Scenario::new(settings);
    let (greedy, honest) = (greeted(&mut scenario, 1), greeted(&mut scenario, 2));
    (0..2).for_each(|_| assert!(mail(&mut scenario, greedy).starts_with("250 ")));
    scenario.freeze();
    let neighbour = greeted(&mut scenario, 1);
    for client in [greedy, neighbour] {
        assert!(scenario.say(client, "RSET\r\nMAIL FROM:<>\r\n").contains("\r\n450 4.7.0 "));
    }
    assert!(mail(&mut scenario, honest).starts_with("250 "));
    assert_eq!(scenario.pair.service().share_counters().put_off, 1);
    pass(&mut scenario, 31 * SECOND);
    assert!(mail(&mut scenario, greedy).starts_with("250 "));
    scenario.check();
}

/// Two sessions of a host end for their errors, which is as many as shut it out here.
fn make_errors(scenario: &mut Scenario, block: u8, host: u8) {
    for _ in 0..2 {
        let (client, _) = come_from(scenario, block, host);
        assert!(scenario.say(client, "GET / HTTP/1.1\r\n").starts_with("421 4.7.0 "));
    }
}

#[test]
fn a_host_whose_sessions_end_for_errors_is_shut_out_for_a_time_and_its_neighbours_are_not() {
    let mut settings = settings();
    settings.shares.errors = 2;
    let mut scenario = Scenario::new(settings);
    make_errors(&mut scenario, 1, 1);
    scenario.freeze();
    let (client, greeting) = come(&mut scenario, 1);
    assert!(greeting.starts_with("421 4.7.0 "), "{greeting}");
    assert_eq!(scenario.pair.fate(client), ConnectionState::Ended);
    let (neighbour, greeting) = come_from(&mut scenario, 1, 2);
    assert!(greeting.starts_with("220 "), "{greeting}");
    scenario.say(neighbour, "EHLO c\r\n");
    assert!(mail(&mut scenario, neighbour).starts_with("250 "));
    let relay = scenario.pair.service();
    assert_eq!((relay.clients(), relay.share_counters().shut_out), (1, 1));
    pass(&mut scenario, limits::ADDRESS_SHUT);
    greeted(&mut scenario, 1);
    scenario.check();
}

#[test]
fn a_block_of_which_several_hosts_are_shut_out_is_shut_out_and_others_are_not() {
    let mut settings = settings();
    settings.shares.errors = 2;
    let mut scenario = Scenario::new(settings);
    for host in 1..=limits::BLOCK_SHUT_HOSTS as u8 {
        assert!(come_from(&mut scenario, 1, 99).1.starts_with("220 "), "{host}");
        make_errors(&mut scenario, 1, host);
    }
    scenario.freeze();
    assert!(come_from(&mut scenario, 1, 99).1.starts_with("421 4.7.0 "));
    let honest = greeted(&mut scenario, 2);
    assert!(mail(&mut scenario, honest).starts_with("250 "));
    pass(&mut scenario, limits::ADDRESS_SHUT);
    greeted(&mut scenario, 1);
    scenario.check();
}

/// A queue of so few mails that it is filled soon, and no next hop that takes any.
fn little_queue() -> RelaySettings {
    let mut settings = settings();
    settings.queue.max_mails = 40;
    settings
}

/// What a block is told that has its share of the queue.
const OVER_SHARE: &str = "452 4.3.1 your network has its share of the queue";

/// Mails that this client brings until one is refused, and what it is told then.
fn bring(scenario: &mut Scenario, client: Client) -> (usize, String) {
    let mut brought = 0;
    loop {
        let said = scenario.say(client, MAIL);
        if !said.lines().last().unwrap_or_default().starts_with("250 ") {
            return (brought, said.lines().find(|line| line.starts_with("452 ")).unwrap().into());
        }
        brought += 1;
    }
}

#[test]
fn a_block_that_fills_the_queue_leaves_a_quarter_and_others_are_taken() {
    let mut scenario = Scenario::new(little_queue());
    let greedy = greeted(&mut scenario, 1);
    let (brought, told) = bring(&mut scenario, greedy);
    assert_eq!(brought, 30);
    assert!(told.starts_with(OVER_SHARE), "{told}");
    let neighbour = greeted(&mut scenario, 1);
    assert_eq!(bring(&mut scenario, neighbour).0, 0, "they are one block");
    scenario.freeze();
    assert_eq!(scenario.pair.service().share_counters().over_share, 2);
    let honest = greeted(&mut scenario, 2);
    let (brought, told) = bring(&mut scenario, honest);
    assert_eq!(brought, 8, "it has eight, and two are free");
    assert!(told.starts_with(OVER_SHARE), "{told}");
    let late = greeted(&mut scenario, 3);
    assert!(mail(&mut scenario, late).starts_with("250 "));
    assert_eq!(bring(&mut scenario, greedy).0, 0);
    scenario.hop();
    assert!(scenario.pair.service().queue().blocks().next().is_none());
    assert!(mail(&mut scenario, greedy).starts_with("250 "), "there is room again");
    scenario.check();
}

#[test]
fn a_queue_in_which_every_place_is_taken_says_that_it_is_full() {
    let mut settings = little_queue();
    settings.queue.max_mails = 3;
    let mut scenario = Scenario::new(settings);
    for block in 1..=3 {
        let client = greeted(&mut scenario, block);
        assert!(mail(&mut scenario, client).starts_with("250 "), "{block}");
    }
    let late = greeted(&mut scenario, 4);
    assert!(bring(&mut scenario, late).1.starts_with("452 4.3.1 the queue is full"));
    assert_eq!(scenario.pair.service().share_counters().over_share, 0);
    scenario.check();
}

#[test]
fn trusted_networks_and_a_share_of_0_have_no_bound_but_the_queue() {
    let mut trusting = little_queue();
    trusting.shares.trusted.push("198.51.1.0/24".parse().unwrap());
    let mut unbounded = little_queue();
    unbounded.shares.queue = 0;
    for settings in [trusting, unbounded] {
        let mut scenario = Scenario::new(settings);
        let client = greeted(&mut scenario, 1);
        let (brought, told) = bring(&mut scenario, client);
        assert_eq!(brought, 40);
        assert!(told.starts_with("452 4.3.1 the queue is full"), "{told}");
        scenario.check();
    }
}

#[test]
fn a_mail_whose_octets_are_beyond_the_share_is_refused_at_its_end_and_others_are_taken() {
    let mut settings = settings();
    settings.server.max_message = 64 * 1024;
    settings.queue.max_bytes = 256 * 1024;
    let mut scenario = Scenario::new(settings);
    let greedy = greeted(&mut scenario, 1);
    let bring = |scenario: &mut Scenario, client| {
        assert!(begin(scenario, client, 47_300));
        scenario.say(client, ".\r\n")
    };
    // The fifth is begun while the block may have some octets more, and all of it would fit.
    (0..4).for_each(|_| assert!(bring(&mut scenario, greedy).starts_with("250 ")));
    let told = bring(&mut scenario, greedy);
    assert!(told.starts_with(OVER_SHARE), "{told}");
    let told = scenario.say(greedy, "MAIL FROM:<> SIZE=50000\r\n");
    assert!(told.starts_with(OVER_SHARE), "{told}");
    let relay = scenario.pair.service();
    assert_eq!((relay.share_counters().over_share, relay.counters().refused), (2, 1));
    let honest = greeted(&mut scenario, 2);
    assert!(bring(&mut scenario, honest).starts_with("250 "));
    scenario.check();
}

#[test]
fn a_host_whose_clients_say_commands_and_bring_no_mail_is_shut_out() {
    let mut settings = settings();
    settings.server.idle_commands = 20;
    settings.shares.errors = 2;
    let mut scenario = Scenario::new(settings);
    for _ in 0..2 {
        let client = greeted(&mut scenario, 1);
        let said = scenario.say(client, &"NOOP\r\n".repeat(20));
        assert!(said.lines().last().unwrap().starts_with("421 4.7.0 "), "{said}");
    }
    assert!(come(&mut scenario, 1).1.starts_with("421 4.7.0 "));
    let honest = greeted(&mut scenario, 2);
    assert!(mail(&mut scenario, honest).starts_with("250 "));
    scenario.check();
}

/// Little memory: a mail of the largest size fits four times.
fn little_memory() -> RelaySettings {
    let mut settings = settings();
    settings.server.max_message = 64 * 1024;
    settings.session_bytes = 256 * 1024;
    settings
}

/// A mail's data of so many octets, without its end.
fn half_mail(octets: usize) -> String {
    format!("{}\r\n", "x".repeat(98)).repeat(octets / 100)
}

/// Begins a mail and sends so much of its data; whether MAIL was taken.
fn begin(scenario: &mut Scenario, client: Client, octets: usize) -> bool {
    if !scenario.say(client, "MAIL FROM:<a@b.org>\r\n").starts_with("250 ") {
        return false;
    }
    assert!(scenario.say(client, "RCPT TO:<to@example.org>\r\nDATA\r\n").contains("\r\n354 "));
    scenario.say(client, &half_mail(octets));
    true
}

#[test]
fn memory_that_one_block_holds_keeps_nobody_elses_mail_out() {
    let mut scenario = Scenario::new(little_memory());
    let greedy: Vec<Client> = (0..10).map(|_| greeted(&mut scenario, 1)).collect();
    // First a little in each, so that none is put off, then all that each may have.
    greedy.iter().for_each(|client| assert!(begin(&mut scenario, *client, 4000)));
    for client in &greedy {
        scenario.say(*client, &half_mail(50_000));
    }
    let bound = little_memory().session_bytes;
    assert!(scenario.pair.service().held_bytes() > bound - 64 * 1024, "it holds what it can");
    scenario.freeze();
    let honest: Vec<Client> = (2..6).map(|block| greeted(&mut scenario, block)).collect();
    honest.iter().for_each(|client| assert!(begin(&mut scenario, *client, 30_000)));
    assert!(scenario.pair.service().held_bytes() <= bound);
    for client in honest {
        assert!(
            scenario.say(client, ".\r\n").starts_with("250 "),
            "it is the holder that gives way"
        );
    }
    let told =
        greedy.iter().filter(|client| said(&mut scenario, **client).starts_with("421 4.3.1 "));
    let told = told.count() as u64;
    let ended = scenario.pair.service().counters().out_of_memory;
    assert!(told > 0 && told <= ended && ended < 10, "{told} of {ended}");
    scenario.check();
}

#[test]
fn a_block_that_holds_a_quarter_of_the_memory_leaves_the_last_quarter_to_others() {
    let mut scenario = Scenario::new(little_memory());
    let greedy: Vec<Client> = (0..5).map(|_| greeted(&mut scenario, 1)).collect();
    let taken = greedy.iter().filter(|client| begin(&mut scenario, **client, 60_000)).count();
    assert_eq!(taken, 4, "the fourth begins while a quarter is free, the fifth does not");
    assert_eq!(scenario.pair.service().counters().out_of_memory, 0);
    let honest = greeted(&mut scenario, 2);
    assert!(mail(&mut scenario, honest).starts_with("250 "));
    scenario.check();
}
