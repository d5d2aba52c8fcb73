//! What survives when processes come and go: everything but what was tied to one of them.

use core::time::Duration;
use std::net::SocketAddr;

use bytes::Bytes;
use lockstep::ids::{DeviceId, Incarnation, Index, LogTime, ReplicaId};
use lockstep::machine::Step;
use lockstep::record::Members;
use lockstep::testing::{Check, process};
use lockstep::unit::Unit;
use proptest::prelude::*;

use super::streams::{Act, Oracle, acts};
use super::{Probe, Scenario};
use crate::tcp::messages::{Command, Event, Handle};
use crate::tcp::{ConnId, ConnectionState, ListenerId, ResetCause};
use crate::{Harness, Wrapper, limits};

/// A neighbour of the clients that the harness connects: it has no claim to their places.
fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 0, 250], 9))
}

impl Scenario {
    fn restart(&mut self, place: ReplicaId) {
        self.pair.restart(place, Probe::wrapped()).unwrap();
    }

    /// A client of this CoServer is served.
    fn is_served_at(&mut self, place: ReplicaId) {
        let client = self.pair.connect_from(place, "echo", peer()).unwrap();
        self.pair.send(client, b"anew");
        assert_eq!(self.pair.take(client), b"anew");
        self.pair.half_close(client);
        assert_eq!(self.pair.fate(client), ConnectionState::Ended);
    }
}

#[test]
fn both_down_the_first_one_back_goes_on_and_the_other_joins_it() {
    let mut scenario = Scenario::new();
    scenario.ask("timer 50 7");
    let random = scenario.ask("random");
    let at_a = scenario.pair.connect("echo").unwrap();
    let at_b = scenario.pair.connect_from(ReplicaId::B, "echo", peer()).unwrap();
    scenario.restart(ReplicaId::A);
    assert_eq!(scenario.diary(), ["1 reset: CarrierLost", "2 reset: CarrierLost"]);
    assert_eq!([scenario.pair.fate(at_a), scenario.pair.fate(at_b)], [ConnectionState::Reset; 2]);
    assert!(scenario.pair.misrouted() > 0, "what had been released is released again, in vain");
    scenario.is_served_at(ReplicaId::A);
    assert!(scenario.pair.connect_from(ReplicaId::B, "echo", peer()).is_err());
    scenario.pair.join(ReplicaId::B);
    scenario.is_served_at(ReplicaId::B);
    scenario.pair.advance(Duration::from_secs(1));
    assert_eq!(scenario.diary().last(), Some(&"timer 7 late by 0"), "timers go on");
    assert_ne!(scenario.ask("random"), random, "and the random numbers where they were");
    let members: Vec<&str> = scenario
        .pair
        .service()
        .diary
        .iter()
        .filter_map(|line| line.strip_prefix("members "))
        .collect();
    assert_eq!(members, ["[0, 0] [a, b] a", "[a, b] [10a, 0] a", "[10a, 0] [10a, 10b] a",]);
}

#[test]
fn timers_of_a_time_in_which_nobody_ran_fire_late_once_and_after_what_was_lost() {
    let mut scenario = Scenario::with_connections(200);
    scenario.ask("timer 50 7");
    scenario.ask("timer 90 8");
    scenario.ask("timer 20000 9");
    (0..100).for_each(|_| drop(scenario.ask("connect-from a mx.example 25")));
    let dials = scenario.pair.dials();
    for dial in &dials {
        let _ = scenario.pair.answer(dial);
    }
    let fresh = Probe::wrapped_for(200);
    scenario.pair.restart_after(ReplicaId::A, fresh, Duration::from_secs(10)).unwrap();
    let diary = scenario.diary();
    let (before, timers) = diary.split_at(diary.len() - 2);
    assert!(timers[0].starts_with("timer 7 late by 99"), "{timers:?}");
    assert!(timers[1].starts_with("timer 8 late by 99"), "{timers:?}");
    let lost = before.iter().filter(|line| line.ends_with("reset: CarrierLost")).count();
    assert_eq!((lost, before.contains(&"resumed after 10s")), (dials.len(), true));
    scenario.pair.advance(Duration::from_secs(9));
    assert!(scenario.diary().last().unwrap().starts_with("timer 8"));
    scenario.pair.advance(Duration::from_secs(1));
    assert_eq!(scenario.diary().last(), Some(&"timer 9 late by 0"));
}

#[test]
fn processes_that_stood_still_keep_their_connections_and_fire_what_was_due_once() {
    let mut scenario = Scenario::with_connections(200);
    scenario.ask("timer 50 7");
    scenario.ask("timer 20000 9");
    scenario.ask("connect-from a mx.example 25");
    let dial = scenario.pair.dials().pop().unwrap();
    let hop = scenario.pair.answer(&dial).unwrap();
    scenario.pair.advance(Duration::ZERO);
    scenario.pair.stand_still(Duration::from_secs(10));
    let diary = scenario.diary();
    assert_eq!(diary[..2], ["1 connected", "resumed after 10s"]);
    assert!(diary.len() == 3 && diary[2].starts_with("timer 7 late by 99"), "{diary:?}");
    assert_eq!(scenario.pair.fate(hop), ConnectionState::Open);
    scenario.pair.advance(Duration::from_secs(10));
    assert_eq!(scenario.diary().last(), Some(&"timer 9 late by 0"));
}

#[test]
fn connections_lost_beyond_those_of_one_step_are_told_after_a_restore_too() {
    let mut scenario = Scenario::with_connections(200);
    let count = limits::LOST_PER_STEP + 36;
    (0..count).for_each(|_| drop(scenario.ask("connect-from a mx.example 25")));
    let dials = scenario.pair.dials();
    for dial in &dials {
        let _ = scenario.pair.answer(dial);
    }
    scenario.pair.lose(ReplicaId::A);
    let resets = |scenario: &Scenario| {
        scenario.diary().iter().filter(|line| line.ends_with("reset: CarrierLost")).count()
    };
    assert_eq!(resets(&scenario), limits::LOST_PER_STEP, "the others follow in steps of their own");
    scenario.pair.replace(Probe::wrapped_for(200)).unwrap();
    scenario.pair.advance(Duration::from_millis(1));
    assert_eq!(resets(&scenario), count);
}

#[test]
fn a_timer_s_id_never_comes_again_after_a_restore() {
    let mut scenario = Scenario::new();
    scenario.ask("timer 50 1");
    assert_eq!(scenario.ask("cancel 0"), "true");
    scenario.pair.replace(Probe::wrapped()).unwrap();
    // At the same moment of log time as the first one: they differ in their number alone.
    let first = scenario.pair.service().timers[0];
    let span = first.deadline().since(scenario.pair.now()) - Duration::from_micros(1);
    scenario.ask(&format!("timer-in {} 2", span.as_nanos()));
    let second = scenario.pair.service().timers[1];
    assert_eq!(second.deadline(), first.deadline());
    assert_ne!(second, first);
    assert_eq!(scenario.ask("cancel 0"), "false", "the id of one that is gone cancels nothing");
    scenario.pair.advance(Duration::from_secs(1));
    assert_eq!(scenario.diary(), ["timer 2 late by 0"]);
}

#[test]
fn a_sole_coserver_that_is_started_again_listens_and_connects_anew() {
    let mut scenario = Scenario::new();
    scenario.pair.lose(ReplicaId::B);
    scenario.pair.connect("echo").unwrap();
    scenario.ask("connect mx.example 25");
    let before = scenario.pair.dials();
    scenario.restart(ReplicaId::A);
    assert_eq!(scenario.diary(), ["1 reset: CarrierLost"]);
    let dials = scenario.pair.dials();
    assert_eq!(dials.len(), 1, "asked for once, although the old order came again");
    assert_ne!(dials, before, "by another name");
    let hop = scenario.pair.answer(&dials[0]).unwrap();
    assert_eq!(scenario.pair.take(hop), b"hello\n");
    scenario.is_served_at(ReplicaId::A);
    assert_eq!(scenario.diary()[1], "2 connected");
}

#[test]
fn what_was_being_made_is_made_by_the_survivor_unless_the_service_chose_the_place() {
    let mut scenario = Scenario::new();
    scenario.ask("connect mx.example 25");
    scenario.ask("connect-from a mx.example 26");
    scenario.ask("connect-from b mx.example 27");
    scenario.pair.lose(ReplicaId::A);
    assert_eq!(scenario.diary(), ["2 failed: the CoServer that was connecting left the pair"]);
    let dials = scenario.pair.dials();
    assert_eq!(dials.iter().map(|dial| dial.place).collect::<Vec<_>>(), [ReplicaId::B; 2]);
    // One that the service gives up while nobody could make it is just gone.
    scenario.restart(ReplicaId::B);
    assert_eq!(scenario.pair.dials().len(), 2, "of a chosen place, by its next process");
    scenario.ask("close 1");
    assert_eq!(scenario.pair.dials().len(), 1);
    let hop = scenario.pair.dials();
    scenario.pair.answer(&hop[0]).unwrap();
    assert_eq!(scenario.diary().last(), Some(&"3 connected"));
}

#[test]
fn a_connection_that_was_let_go_is_forgotten_with_its_process() {
    let mut scenario = Scenario::new();
    let client = scenario.pair.connect("echo").unwrap();
    scenario.pair.stall(client, true);
    scenario.ask("send 1 30000");
    scenario.ask("close 1");
    scenario.restart(ReplicaId::A);
    assert!(scenario.diary().is_empty(), "the service is done with it");
    for _ in 0..3 {
        scenario.is_served_at(ReplicaId::A);
    }
}

#[test]
fn a_script_tells_what_the_scenario_told() {
    let mut scenario = Scenario::new();
    scenario.pair.connect("echo").unwrap();
    scenario.ask("connect mx.example 25");
    scenario.pair.lose(ReplicaId::A);
    let dial = scenario.pair.dials().remove(0);
    scenario.pair.answer(&dial).unwrap();
    scenario.pair.join(ReplicaId::A);
    scenario.is_served_at(ReplicaId::A);
    scenario.restart(ReplicaId::B);
    scenario.is_served_at(ReplicaId::B);
    let script = scenario.pair.script();
    let mut unit = Unit::new(Probe::wrapped());
    for entry in script.entries() {
        assert_eq!(unit.execute(entry).panic, None);
    }
    assert_eq!(unit.service().service().diary, scenario.pair.service().diary);
    assert_eq!(scenario.diary().len(), 5, "{:?}", scenario.diary());
    Check::new().batches(script.entries().len()).run(Probe::wrapped, &script).unwrap();
}

/// A wrapper whose steps a test gives by hand.
struct Bare {
    wrapper: Wrapper<Probe>,
    index: Index,
}

impl Bare {
    fn new(members: Members) -> Self {
        let mut bare = Self { wrapper: Probe::wrapped(), index: Index(0) };
        bare.run(Step::Start { seed: &[0; 32] });
        bare.members(members);
        bare
    }

    fn run(&mut self, step: Step<'_>) -> Vec<Command> {
        self.index = self.index.next();
        self.wrapper.run(self.index, LogTime(self.index.0), step);
        let orders = self.wrapper.outbox().drain();
        orders.map(|output| Command::decode(&output.bytes).unwrap()).collect()
    }

    fn members(&mut self, members: Members) -> Vec<Command> {
        self.run(Step::Members { members, sequencer: ReplicaId::A })
    }

    fn report(&mut self, place: ReplicaId, report: &Event) -> Vec<Command> {
        let bytes = report.encode();
        self.run(Step::Device { device: DeviceId(0), place, bytes: &bytes })
    }

    fn accepted(&mut self, handle: Handle) {
        let (peer, local) = (peer(), peer());
        let report = Event::Accepted { handle, listener: ListenerId(1), peer, local };
        self.report(ReplicaId::A, &report);
    }

    fn open(&self) -> Vec<u64> {
        self.wrapper.service().echoes.keys().copied().collect()
    }
}

#[test]
fn another_process_in_the_place_of_a_member_is_told_everything_and_heard_alone() {
    let [old, new] = [0, 1].map(|starts| process(ReplicaId::A, starts));
    let b = process(ReplicaId::B, 0);
    let mut bare = Bare::new(Members::both(old, b));
    bare.accepted(Handle::accepted(old, 1));
    bare.accepted(Handle::accepted(old, 2));
    assert_eq!(bare.open(), [1, 2]);
    let orders = bare.members(Members::both(new, b));
    assert!(
        matches!(&orders[..], [Command::Listen { process, .. }] if *process == new),
        "B has not changed and is told nothing: {orders:?}"
    );
    assert!(bare.open().is_empty());
    // The same numbers again: the new process begins to count at 1 too.
    bare.accepted(Handle::accepted(new, 1));
    assert_eq!(bare.open(), [3]);
    let handle = Handle::accepted(old, 1);
    for late in [
        Event::Data { handle, written: 9, bytes: Bytes::from_static(b"late") },
        Event::PeerClosed { handle },
        Event::Reset { handle, cause: ResetCause::Peer },
        Event::Ended { handle },
    ] {
        assert!(bare.report(ReplicaId::A, &late).is_empty());
    }
    bare.accepted(Handle::accepted(old, 3));
    assert_eq!(bare.open(), [3], "nothing of the old process reaches a connection of the new one");
    let handle = Handle::accepted(new, 1);
    bare.report(ReplicaId::B, &Event::Ended { handle });
    assert_eq!(bare.open(), [3], "nor what comes from another place");
    bare.report(ReplicaId::A, &Event::Ended { handle });
    assert!(bare.open().is_empty());
}

#[test]
fn a_made_connection_is_another_one_for_each_process_that_makes_it() {
    let [old, new] = [0, 1].map(|starts| process(ReplicaId::A, starts));
    let mut bare = Bare::new(Members::alone(ReplicaId::A, old));
    let body = b"connect mx.example 25";
    let (session, number) = (lockstep::ids::SessionId(1), lockstep::ids::RequestNumber(1));
    bare.run(Step::Request { session, number, body });
    let orders = bare.members(Members::alone(ReplicaId::A, new));
    let made = |process| Handle::made(process, ConnId(1));
    assert!(
        orders
            .iter()
            .any(|order| matches!(order, Command::Connect { handle, .. } if *handle == made(new))),
        "{orders:?}"
    );
    let connected =
        |process| Event::Connected { handle: made(process), peer: peer(), local: peer() };
    bare.report(ReplicaId::A, &connected(old));
    let has = |bare: &Bare, line: &str| bare.wrapper.service().diary.iter().any(|it| it == line);
    assert!(!has(&bare, "1 connected"), "of the process before");
    bare.report(ReplicaId::A, &connected(new));
    assert!(has(&bare, "1 connected"));
}

#[test]
fn a_process_that_is_a_member_again_is_told_to_drop_what_was_lost_meanwhile() {
    let (a, b) = (process(ReplicaId::A, 0), process(ReplicaId::B, 0));
    let mut bare = Bare::new(Members::both(a, b));
    let handle = Handle::accepted(a, 1);
    bare.accepted(handle);
    bare.members(Members::alone(ReplicaId::B, b));
    bare.members(Members::both(a, b));
    let bytes = Bytes::from_static(b"still here");
    let orders = bare.report(ReplicaId::A, &Event::Data { handle, written: 0, bytes });
    assert_eq!(orders, [Command::Reset { handle }]);
    assert!(bare.report(ReplicaId::A, &Event::Ended { handle }).is_empty(), "said once");
}

#[test]
fn a_frozen_connection_of_nobody_is_refused() {
    let mut bare = Bare::new(Members::both(Incarnation(1), Incarnation(2)));
    bare.accepted(Handle::accepted(Incarnation(1), 1));
    let table = &bare.wrapper.inside().tcp;
    let again = |change: &dyn Fn(&mut crate::tcp::Frozen)| {
        let mut frozen = table.freeze();
        change(&mut frozen);
        crate::tcp::TcpTable::restore(table.device, table.limits, frozen).is_some()
    };
    assert!(again(&|_| {}));
    assert!(!again(&|frozen| frozen.conns[0].1.handle.process = Incarnation(3)));
    assert!(!again(&|frozen| frozen.conns[0].1.place = Some(ReplicaId::B)));
    assert!(!again(&|frozen| frozen.conns[0].1.place = None));
    assert!(!again(&|frozen| frozen.conns[0].0 = ConnId(2)));
}

/// What may happen to the pair between two things that its clients do.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Nothing,
    Lose(ReplicaId),
    Join(ReplicaId),
    HandOver(ReplicaId),
    Restart(ReplicaId),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let place = prop_oneof![Just(ReplicaId::A), Just(ReplicaId::B)];
    let turn = prop_oneof![
        8 => Just(Turn::Nothing),
        1 => place.clone().prop_map(Turn::Lose),
        2 => place.clone().prop_map(Turn::Join),
        1 => place.clone().prop_map(Turn::HandOver),
        2 => place.prop_map(Turn::Restart),
    ];
    proptest::collection::vec(turn, 60)
}

fn take(pair: &mut Harness<Probe>, turn: Turn) {
    match turn {
        Turn::Nothing => {}
        Turn::Lose(place) => pair.lose(place),
        Turn::Join(place) => pair.join(place),
        Turn::HandOver(place) => pair.hand_over(place),
        Turn::Restart(place) => pair.restart(place, Probe::wrapped()).unwrap(),
    }
}

fn play(pair: &mut Harness<Probe>, acts: &[Act], turns: &[Turn], cut: bool) {
    let session = pair.open_session();
    let mut oracle = Oracle::connect(pair);
    for (act, turn) in acts.iter().zip(turns) {
        pair.request(session, b"connect mx.example 25");
        oracle.act(pair, act);
        take(pair, *turn);
        if cut {
            pair.replace(Probe::wrapped()).unwrap();
        }
        if let Some(dial) = pair.dials().first() {
            pair.answer(dial);
        }
        for place in ReplicaId::BOTH {
            if let Ok(client) = pair.connect_from(place, "echo", peer()) {
                pair.send(client, b"ping");
                pair.half_close(client);
                let answer = pair.take(client);
                assert!(answer == b"ping" || answer == super::REFUSAL, "{}", answer.escape_ascii());
            }
        }
    }
    oracle.finish(pair);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_and_goes_a_cut_changes_nothing(acts in acts(), turns in turns()) {
        let mut whole = Harness::new(Probe::wrapped());
        let mut cut = Harness::new(Probe::wrapped());
        play(&mut whole, &acts, &turns, false);
        play(&mut cut, &acts, &turns, true);
        prop_assert_eq!(whole.digest(), cut.digest());
        prop_assert_eq!(whole.freeze().unwrap(), cut.freeze().unwrap());
    }

    #[test]
    fn whatever_comes_and_goes_the_engines_own_check_finds_nothing(acts in acts(), turns in turns()) {
        let mut pair = Harness::new(Probe::wrapped());
        play(&mut pair, &acts, &turns, false);
        let script = pair.script();
        Check::new().batches(8).run(Probe::wrapped, &script).unwrap();
    }
}
