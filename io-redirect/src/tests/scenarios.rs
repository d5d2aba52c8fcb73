//! Scenarios of the inside halves, one claim each.

use core::time::Duration;
use std::net::SocketAddr;

use lockstep::ids::{DeviceId, ReplicaId};

use super::{REFUSAL, Scenario};
use crate::limits;
use crate::tcp::{ConnectFailure, ConnectionState};

const WINDOW: usize = limits::WINDOW_MIN as usize;

#[test]
fn what_is_sent_comes_back_and_a_half_close_ends_it_in_good_order() {
    let mut scenario = Scenario::new();
    let client = scenario.pair.connect("echo").unwrap();
    scenario.pair.send(client, b"one ");
    scenario.pair.send(client, b"two");
    scenario.pair.half_close(client);
    assert_eq!(scenario.pair.take(client), b"one two");
    assert_eq!(scenario.pair.fate(client), ConnectionState::Ended);
    assert_eq!(scenario.diary(), ["1 ended"]);
}

#[test]
fn a_client_that_does_not_read_stops_being_read_and_goes_on_later() {
    let mut scenario = Scenario::new();
    let client = scenario.pair.connect("echo").unwrap();
    scenario.pair.stall(client, true);
    let sent: Vec<u8> = (0..5 * WINDOW).map(|n| (n % 251) as u8).collect();
    scenario.pair.send(client, &sent);
    let waiting = scenario.pair.service().echoes[&1].0.len();
    assert!(waiting > 0 && waiting <= WINDOW, "{waiting}");
    scenario.pair.stall(client, false);
    assert_eq!(scenario.pair.take(client), sent);
}

#[test]
fn a_reset_is_told_once() {
    let mut scenario = Scenario::new();
    let client = scenario.pair.connect("echo").unwrap();
    scenario.pair.reset(client);
    scenario.pair.half_close(client);
    assert_eq!(scenario.diary(), ["1 reset: Peer"]);
}

#[test]
fn one_connection_too_many_is_turned_away_with_the_text() {
    let mut scenario = Scenario::new();
    let clients: Vec<_> = (0..7).map(|_| scenario.pair.connect("echo").unwrap()).collect();
    for served in &clients[..6] {
        assert_eq!(scenario.pair.fate(*served), ConnectionState::Open);
    }
    assert_eq!(scenario.pair.take(clients[6]), REFUSAL);
    assert_eq!(scenario.pair.fate(clients[6]), ConnectionState::Ended);
    assert!(scenario.ask("connect 192.0.2.1 25").contains("bound on connections"));
    scenario.pair.reset(clients[0]);
    assert_eq!(scenario.ask("connect 192.0.2.1 25"), "");
}

#[test]
fn the_loss_of_a_coserver_ends_its_connections_and_no_other() {
    let mut scenario = Scenario::new();
    let peer = SocketAddr::from(([192, 0, 2, 9], 9));
    let at_b = scenario.pair.connect_from(ReplicaId::B, "echo", peer).unwrap();
    let at_a = scenario.pair.connect_from(ReplicaId::A, "echo", peer).unwrap();
    scenario.ask("connect mx.example 25");
    scenario.pair.lose(ReplicaId::A);
    assert_eq!(scenario.diary(), ["2 reset: CarrierLost"]);
    assert_eq!(scenario.pair.dials()[0].place, ReplicaId::B, "what was being made is made there");
    assert_eq!(scenario.pair.fate(at_a), ConnectionState::Reset);
    scenario.pair.send(at_b, b"still here");
    assert_eq!(scenario.pair.take(at_b), b"still here");
}

#[test]
fn a_coserver_that_is_back_listens_again_and_is_not_taken_for_its_predecessor() {
    let mut scenario = Scenario::new();
    scenario.pair.connect("echo").unwrap();
    scenario.pair.lose(ReplicaId::A);
    assert!(scenario.pair.connect("echo").is_err());
    scenario.pair.join(ReplicaId::A);
    let client = scenario.pair.connect("echo").unwrap();
    scenario.pair.send(client, b"anew");
    assert_eq!(scenario.pair.take(client), b"anew");
    assert_eq!(scenario.diary(), ["1 reset: CarrierLost"]);
}

#[test]
fn connections_are_made_by_whoever_is_the_sequencer() {
    let mut scenario = Scenario::new();
    scenario.ask("connect mx.example 25");
    scenario.pair.hand_over(ReplicaId::B);
    scenario.ask("connect mx.example 26");
    scenario.ask("connect mx.example 27");
    let dials = scenario.pair.dials();
    let places: Vec<ReplicaId> = dials.iter().map(|dial| dial.place).collect();
    assert_eq!(places, [ReplicaId::A, ReplicaId::B, ReplicaId::B]);
    let hop = scenario.pair.answer(&dials[0]).unwrap();
    assert_eq!(scenario.pair.take(hop), b"hello\n");
    scenario.pair.send(hop, b"hi");
    scenario.pair.half_close(hop);
    assert_eq!(scenario.pair.fate(hop), ConnectionState::Ended);
    scenario.pair.fail(&dials[1], &ConnectFailure::Unresolved("no such name".into()));
    scenario.ask("close 3");
    assert_eq!(scenario.pair.answer(&dials[2]), None);
    assert_eq!(
        scenario.diary(),
        [
            "1 connected",
            "1 received hi",
            "1 peer closed",
            "1 ended",
            "2 failed: the name was not resolved: no such name",
        ]
    );
}

#[test]
fn sending_says_what_it_can_take() {
    let mut scenario = Scenario::new();
    let client = scenario.pair.connect("echo").unwrap();
    assert!(scenario.ask("send 1 32769").starts_with("more than 32768 bytes"));
    scenario.pair.stall(client, true);
    assert_eq!(scenario.ask("send 1 32500"), "sent");
    assert_eq!(scenario.ask("send 1 32500"), "sent");
    assert_eq!(scenario.ask("send 1 600"), "room 536");
    assert_eq!(scenario.ask("send 7 1"), "the connection is over");
    scenario.ask("connect mx.example 25");
    assert_eq!(scenario.ask("send 2 1"), "the connection is not made yet: wait for it");
    scenario.ask("close 1");
    assert_eq!(scenario.ask("send 1 1"), "the connection is over");
    assert_eq!(
        scenario.pair.fate(client),
        ConnectionState::Open,
        "65000 bytes are still to be taken"
    );
    scenario.pair.stall(client, false);
    assert_eq!(scenario.pair.take(client).len(), 65_000);
    assert_eq!(scenario.pair.fate(client), ConnectionState::Ended);
}

#[test]
fn whoever_was_told_full_is_told_writable() {
    for len in [1, 700, 16_384, 20_000, 32_768] {
        let mut scenario = Scenario::new();
        let client = scenario.pair.connect("echo").unwrap();
        // Something is always written and not reported, too little to be worth it.
        scenario.ask("send 1 16383");
        scenario.pair.stall(client, true);
        while scenario.ask(&format!("send 1 {len}")) == "sent" {}
        assert!(scenario.diary().is_empty());
        scenario.pair.stall(client, false);
        assert_eq!(scenario.diary(), ["1 writable"], "in pieces of {len}");
        assert_eq!(scenario.ask("send 1 32768"), "sent");
    }
}

#[test]
fn timers_fire_in_order_each_in_its_step_and_before_later_inputs() {
    let mut scenario = Scenario::new();
    for timer in ["timer 20 3", "timer 10 1", "timer 10 2", "timer 5 9"] {
        scenario.ask(timer);
    }
    assert_eq!(scenario.ask("cancel 3"), "true");
    assert_eq!(scenario.ask("cancel 3"), "false");
    scenario.pair.advance(Duration::from_millis(15));
    scenario.pair.device_input(DeviceId(1), ReplicaId::B, "on");
    scenario.pair.advance(Duration::from_millis(15));
    assert_eq!(
        scenario.diary(),
        ["timer 1 late by 0", "timer 2 late by 0", "lamp at b says on", "timer 3 late by 0"]
    );
}

#[test]
fn a_timer_without_delay_fires_right_after_its_step() {
    let mut scenario = Scenario::new();
    scenario.ask("timer 0 1");
    scenario.pair.advance(Duration::from_millis(1));
    assert_eq!(scenario.diary(), ["timer 1 late by 1"]);
}

#[test]
fn random_numbers_follow_the_seed() {
    let draw = |seed| {
        let mut pair = crate::Harness::with_seed(super::Probe::wrapped(), seed);
        let session = pair.open_session();
        pair.request(session, b"random")
    };
    assert_eq!(draw([1; 32]), draw([1; 32]));
    assert_ne!(draw([1; 32]), draw([2; 32]));
}

#[test]
fn a_user_device_hears_what_it_is_sent_and_tcp_is_not_one() {
    let mut scenario = Scenario::new();
    scenario.ask("lamp red");
    let outputs = scenario.pair.device_outputs();
    assert_eq!(outputs.len(), 1);
    assert_eq!((outputs[0].0, &outputs[0].2[..]), (DeviceId(1), b"red".as_slice()));
}

#[test]
fn many_lost_connections_are_told_in_steps_of_bounded_length() {
    let mut scenario = Scenario::with_connections(200);
    for _ in 0..200 {
        scenario.pair.connect("echo").unwrap();
    }
    scenario.pair.lose(ReplicaId::A);
    assert_eq!(scenario.diary().len(), limits::LOST_PER_STEP);
    assert_eq!(scenario.ask("send 200 1"), "the connection is over", "all are told before it");
    let expected: Vec<String> =
        (1..=200).map(|conn| format!("{conn} reset: CarrierLost")).collect();
    assert_eq!(scenario.diary(), expected);
}

#[test]
fn a_closed_listener_takes_nobody_and_its_connections_stay() {
    let mut scenario = Scenario::new();
    let client = scenario.pair.connect("echo").unwrap();
    scenario.ask("unlisten");
    assert!(scenario.pair.connect("echo").is_err());
    scenario.pair.send(client, b"here");
    assert_eq!(scenario.pair.take(client), b"here");
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], port))
}

#[test]
fn what_two_coservers_serve_fits_the_one_that_is_left() {
    let mut scenario = Scenario::with(100, 4);
    let places = [ReplicaId::A, ReplicaId::B, ReplicaId::B, ReplicaId::B];
    let mut connect = |place| scenario.pair.connect_from(place, "echo", peer(9)).unwrap();
    let served = places.map(&mut connect);
    let refused = ReplicaId::BOTH.map(&mut connect);
    for client in served {
        assert_eq!(scenario.pair.fate(client), ConnectionState::Open);
    }
    for client in refused {
        assert_eq!(scenario.pair.take(client), REFUSAL);
        assert_eq!(scenario.pair.fate(client), ConnectionState::Ended);
    }
    scenario.pair.lose(ReplicaId::B);
    let again: Vec<_> = (0..4).map(|_| scenario.pair.connect("echo").unwrap()).collect();
    for client in &again[..3] {
        assert_eq!(
            scenario.pair.fate(*client),
            ConnectionState::Open,
            "whoever was served is served again"
        );
    }
    assert_eq!(scenario.pair.take(again[3]), REFUSAL);
}

#[test]
fn those_that_a_coserver_took_with_it_take_nobodys_room_before_they_are_told() {
    // More than are told in one step.
    let most = 2 * limits::LOST_PER_STEP as u32 + 8;
    let mut scenario = Scenario::with(1000, most);
    for _ in 0..most {
        scenario.pair.connect_from(ReplicaId::B, "echo", peer(9)).unwrap();
    }
    scenario.pair.lose(ReplicaId::B);
    assert!(scenario.diary().len() < most as usize, "some are still to be told");
    let again: Vec<_> = (0..=most).map(|_| scenario.pair.connect("echo").unwrap()).collect();
    let open =
        again.iter().filter(|client| scenario.pair.fate(**client) == ConnectionState::Open).count();
    assert_eq!(open, most as usize);
}

#[test]
fn a_member_with_few_descriptors_bounds_the_pair_while_it_is_one() {
    let mut scenario = Scenario::with(100, 100);
    scenario.pair.set_room(ReplicaId::B, 3, 2);
    let connect = |scenario: &mut Scenario| {
        scenario.pair.connect_from(ReplicaId::A, "echo", peer(9)).unwrap()
    };
    let clients: Vec<_> = (0..3).map(|_| connect(&mut scenario)).collect();
    assert_eq!(scenario.pair.fate(clients[1]), ConnectionState::Open);
    assert_eq!(scenario.pair.take(clients[2]), REFUSAL);
    assert_eq!(scenario.ask("connect 192.0.2.1 25"), "", "one is kept for the service");
    assert!(scenario.ask("connect 192.0.2.1 25").contains("bound on connections"));
    scenario.pair.lose(ReplicaId::B);
    let more = connect(&mut scenario);
    assert_eq!(scenario.pair.fate(more), ConnectionState::Open);
}
