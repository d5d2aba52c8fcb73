//! Whose connection gives way when no more may be there.

use std::net::SocketAddr;

use lockstep::ids::ReplicaId;
use proptest::prelude::*;

use super::{Probe, REFUSAL, Scenario};
use crate::Harness;
use crate::tcp::{Client, ConnectionState};

const PLACES: u32 = 10;

/// An address of a block.
fn of(block: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, block, host], 50_000))
}

fn connect(scenario: &mut Scenario, place: ReplicaId, peer: SocketAddr) -> Client {
    scenario.pair.connect_from(place, "echo", peer).unwrap()
}

/// Takes every place for one address, on both CoServers.
fn taken(scenario: &mut Scenario) -> Vec<Client> {
    let places = (0..PLACES as usize).map(|nth| ReplicaId::BOTH[nth % 2]);
    places.map(|place| connect(scenario, place, of(1, 1))).collect()
}

fn is_turned_away(scenario: &mut Scenario, client: Client) -> bool {
    scenario.pair.take(client) == REFUSAL && scenario.pair.fate(client) == ConnectionState::Ended
}

#[test]
fn whoever_has_every_place_gives_way_to_others_until_they_have_as_many() {
    let mut scenario = Scenario::with(100, PLACES);
    let greedy = taken(&mut scenario);
    let others: Vec<Client> =
        (0..6).map(|_| connect(&mut scenario, ReplicaId::B, of(2, 1))).collect();
    let diary: Vec<String> = (1..=5).map(|conn| format!("{conn} reset: Displaced")).collect();
    assert_eq!(scenario.diary(), diary);
    for client in &greedy[..5] {
        assert!(is_turned_away(&mut scenario, *client));
    }
    for client in greedy[5..].iter().chain(&others[..5]) {
        scenario.pair.send(*client, b"here");
        assert_eq!(scenario.pair.take(*client), b"here");
    }
    assert!(is_turned_away(&mut scenario, others[5]), "both have five");
    let more = connect(&mut scenario, ReplicaId::A, of(1, 1));
    assert!(is_turned_away(&mut scenario, more), "the newcomer of the largest is the one refused");
    // Once they are gone nothing of it is left.
    greedy.into_iter().for_each(|client| scenario.pair.reset(client));
    let again: Vec<Client> =
        (0..5).map(|_| connect(&mut scenario, ReplicaId::A, of(2, 1))).collect();
    for client in others[..5].iter().chain(&again) {
        assert_eq!(scenario.pair.fate(*client), ConnectionState::Open);
    }
}

#[test]
fn addresses_of_one_block_share_what_it_has() {
    let mut scenario = Scenario::with(100, PLACES);
    let greedy = taken(&mut scenario);
    let neighbour = connect(&mut scenario, ReplicaId::A, of(1, 2));
    assert_eq!(scenario.pair.fate(neighbour), ConnectionState::Open);
    assert!(is_turned_away(&mut scenario, greedy[0]));
}

#[test]
fn the_one_that_was_silent_for_longest_gives_way_and_one_at_work_stays() {
    let mut scenario = Scenario::with(100, PLACES);
    let greedy = taken(&mut scenario);
    for client in [&greedy[..3], &greedy[4..]].concat() {
        scenario.pair.send(client, b"still here");
    }
    connect(&mut scenario, ReplicaId::A, of(2, 1));
    assert_eq!(scenario.diary(), ["4 reset: Displaced"]);
    connect(&mut scenario, ReplicaId::A, of(3, 1));
    assert_eq!(scenario.diary(), ["4 reset: Displaced", "1 reset: Displaced"]);
}

#[test]
fn one_that_the_service_is_done_with_gives_way_first_and_without_a_word() {
    let mut scenario = Scenario::with(100, PLACES);
    let greedy = taken(&mut scenario);
    scenario.pair.stall(greedy[6], true);
    scenario.ask("close 7");
    let honest = connect(&mut scenario, ReplicaId::A, of(2, 1));
    assert_eq!(scenario.pair.fate(honest), ConnectionState::Open);
    assert!(scenario.diary().is_empty(), "{:?}", scenario.diary());
}

#[test]
fn a_protected_connection_gives_way_to_nobody_and_still_counts() {
    let mut scenario = Scenario::with(100, PLACES);
    let greedy = taken(&mut scenario);
    for conn in 1..=PLACES {
        scenario.ask(&format!("protect {conn}"));
    }
    let honest = connect(&mut scenario, ReplicaId::A, of(2, 1));
    assert!(is_turned_away(&mut scenario, honest), "everything is protected");
    scenario.pair.reset(greedy[0]);
    let first = connect(&mut scenario, ReplicaId::A, of(2, 1));
    let second = connect(&mut scenario, ReplicaId::A, of(2, 1));
    assert_eq!(scenario.pair.fate(first), ConnectionState::Open);
    assert!(is_turned_away(&mut scenario, second));
}

#[test]
fn where_descriptors_are_few_the_places_of_the_pair_are_shared() {
    let mut scenario = Scenario::with(100, PLACES);
    scenario.pair.set_room(ReplicaId::B, 8, 4);
    let greedy: Vec<Client> =
        (0..4).map(|_| connect(&mut scenario, ReplicaId::A, of(1, 1))).collect();
    let more = connect(&mut scenario, ReplicaId::A, of(1, 1));
    assert!(is_turned_away(&mut scenario, more));
    let honest = connect(&mut scenario, ReplicaId::B, of(2, 1));
    assert_eq!(scenario.pair.fate(honest), ConnectionState::Open);
    assert!(is_turned_away(&mut scenario, greedy[0]));
}

#[test]
fn a_state_that_was_frozen_knows_who_has_what() {
    let mut scenario = Scenario::with(100, PLACES);
    let greedy = taken(&mut scenario);
    scenario.ask("protect 1");
    scenario.pair.send(greedy[1], b"still here");
    scenario.pair.replace(Probe::wrapped_with(100, PLACES)).unwrap();
    connect(&mut scenario, ReplicaId::A, of(2, 1));
    assert_eq!(scenario.diary(), ["3 reset: Displaced"], "1 is protected, 2 was heard");
    let more = connect(&mut scenario, ReplicaId::A, of(1, 1));
    assert!(is_turned_away(&mut scenario, more));
}

#[derive(Clone, Debug)]
enum Act {
    Come { place: ReplicaId, block: u8, host: u8 },
    Say(usize),
    Leave(usize),
    Protect(u64),
    Lose(ReplicaId),
    Join(ReplicaId),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let place = || prop_oneof![Just(ReplicaId::A), Just(ReplicaId::B)];
    let act = prop_oneof![
        8 => (place(), 1u8..5, 1u8..4)
            .prop_map(|(place, block, host)| Act::Come { place, block, host }),
        4 => any::<usize>().prop_map(Act::Say),
        2 => any::<usize>().prop_map(Act::Leave),
        1 => (1u64..60).prop_map(Act::Protect),
        1 => place().prop_map(Act::Lose),
        1 => place().prop_map(Act::Join),
    ];
    proptest::collection::vec(act, 0..80)
}

/// Plays it, with a cut after each act or without; gives the clients.
fn play(pair: &mut Harness<Probe>, acts: &[Act], cut: bool) -> Vec<Client> {
    let session = pair.open_session();
    let mut clients: Vec<Client> = Vec::new();
    for act in acts {
        let one = |nth: &usize| clients.get(nth % clients.len().max(1)).copied();
        match act {
            Act::Come { place, block, host } => {
                clients.extend(pair.connect_from(*place, "echo", of(*block, *host)));
            }
            Act::Say(nth) => one(nth).into_iter().for_each(|client| pair.send(client, b"hm")),
            Act::Leave(nth) => one(nth).into_iter().for_each(|client| pair.reset(client)),
            Act::Protect(conn) => {
                pair.request(session, format!("protect {conn}").as_bytes());
            }
            Act::Lose(place) => pair.lose(*place),
            Act::Join(place) => pair.join(*place),
        }
        if cut {
            pair.replace(Probe::wrapped_with(100, PLACES)).unwrap();
        }
    }
    clients
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whoever_comes_no_more_are_there_than_may_be_and_a_cut_changes_nothing(acts in acts()) {
        let [mut whole, mut cut] = [(); 2].map(|()| Harness::new(Probe::wrapped_with(100, PLACES)));
        let clients = play(&mut whole, &acts, false);
        play(&mut cut, &acts, true);
        prop_assert_eq!(whole.digest(), cut.digest());
        prop_assert_eq!(whole.freeze().unwrap(), cut.freeze().unwrap());
        let open = clients.iter().filter(|client| whole.fate(**client) == ConnectionState::Open).count();
        prop_assert!(open <= PLACES as usize, "{open} are open");
        prop_assert_eq!(open, whole.service().echoes.len(), "the service was told of each end");
    }
}
