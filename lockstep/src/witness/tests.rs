//! The witness's core: which transitions it grants, and that it never grants two that exclude
//! each other.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::{ConnId, Epoch, Incarnation, Lineage, MonotonicTime, Nonce, PairId, ReplicaId};
use crate::limits;
use crate::record::{Members, Origin, Record, Request};
use crate::wire::frames::{Versions, WitnessAnswer, WitnessCall, WitnessRefusal};

const PAIR: PairId = PairId([1; 16]);
const A: Incarnation = Incarnation(10);
const B: Incarnation = Incarnation(20);
const CONN_A: ConnId = ConnId(1);
const CONN_B: ConnId = ConnId(2);
const START: MonotonicTime = MonotonicTime(0);
const LATER: MonotonicTime = MonotonicTime(10_000_000_000);
const CONFIG: Config = Config { grace: Duration::from_secs(2) };
const SPOKEN: Versions = Versions::SPOKEN;

fn vacant() -> Record {
    Record::vacant(PAIR, Lineage(1), Epoch(0))
}

fn formed() -> Record {
    let members = Members::both(A, B);
    next_of(&vacant(), ReplicaId::A, members, Origin::Formed)
}

fn alone(place: ReplicaId) -> Record {
    let incarnation = if place == ReplicaId::A { A } else { B };
    next_of(&formed(), place, Members::alone(place, incarnation), Origin::Alone)
}

fn renewed() -> Record {
    next_of(&formed(), ReplicaId::A, Members::both(A, B), Origin::Renewal(formed().digest()))
}

fn next_of(present: &Record, asker: ReplicaId, members: Members, origin: Origin) -> Record {
    Record { epoch: present.epoch.next(), members, asker, nonce: Nonce(5), origin, ..*present }
}

fn ask(present: &Record, next: Record) -> WitnessCall {
    WitnessCall::CompareAndSwap { request: Request { present: present.digest(), next } }
}

/// A disk of the lineage before is adopted, whose epochs this witness has never heard of.
#[test]
fn a_lineage_is_adopted_with_a_number_above_what_the_witness_knows() {
    let mut bench = Bench::new(vacant());
    let next = next_of(&vacant(), ReplicaId::A, Members::alone(ReplicaId::A, A), Origin::Adopted);
    let next = Record { epoch: Epoch(7), ..next };
    let store = Output::Store { present: vacant().digest(), record: next };
    assert_eq!(bench.say_as_a(ask(&vacant(), next)), [store]);
}

/// A witness with both CoServers connected, past its grace.
struct Bench {
    witness: Witness,
}

impl Bench {
    fn new(record: Record) -> Self {
        Self::holding(Some(Held::trusted(record)))
    }

    fn holding(held: Option<Held>) -> Self {
        let mut bench = Self { witness: Witness::new(START, CONFIG, [(PAIR, held)]) };
        assert_eq!(bench.hello(CONN_A, ReplicaId::A, A), []);
        assert_eq!(bench.hello(CONN_B, ReplicaId::B, B), []);
        bench
    }

    fn hello(&mut self, conn: ConnId, place: ReplicaId, incarnation: Incarnation) -> Vec<Output> {
        let hello = WitnessCall::Hello { pair: PAIR, place, incarnation, protocol: SPOKEN };
        self.call(conn, place, hello)
    }

    fn call(&mut self, conn: ConnId, place: ReplicaId, call: WitnessCall) -> Vec<Output> {
        self.give(LATER, Input::Call { conn, pair: PAIR, place, call })
    }

    fn say_as_a(&mut self, call: WitnessCall) -> Vec<Output> {
        self.call(CONN_A, ReplicaId::A, call)
    }

    fn say_as_b(&mut self, call: WitnessCall) -> Vec<Output> {
        self.call(CONN_B, ReplicaId::B, call)
    }

    fn stored(&mut self, stored: Stored) -> Vec<Output> {
        self.give(LATER, Input::Stored { pair: PAIR, stored })
    }

    fn give(&mut self, now: MonotonicTime, input: Input) -> Vec<Output> {
        self.witness.handle(now, input);
        std::iter::from_fn(|| self.witness.poll())
            .filter(|output| !matches!(output, Output::Event(_)))
            .collect()
    }
}

fn told(conn: ConnId, record: Record) -> Output {
    Output::Answer { conn, answer: WitnessAnswer::Present { record } }
}

fn refused(conn: ConnId, reason: WitnessRefusal) -> Output {
    Output::Answer { conn, answer: WitnessAnswer::Refused { reason } }
}

fn store(present: &Record, record: Record) -> Output {
    Output::Store { present: present.digest(), record }
}

const QUERY: WitnessCall = WitnessCall::Query { known: None };

#[test]
fn a_grant_is_told_only_once_it_is_on_disk() {
    let mut bench = Bench::new(formed());
    let output = bench.say_as_a(ask(&formed(), alone(ReplicaId::A)));
    assert_eq!(output, [store(&formed(), alone(ReplicaId::A))]);
    assert_eq!(bench.say_as_b(QUERY), []);
    let answers = [told(CONN_A, alone(ReplicaId::A)), told(CONN_B, alone(ReplicaId::A))];
    assert_eq!(bench.stored(Stored::There), answers);
}

#[test]
fn of_two_that_ask_one_gets_it_and_the_other_learns_of_it() {
    let mut bench = Bench::new(formed());
    bench.say_as_b(ask(&formed(), alone(ReplicaId::B)));
    assert_eq!(bench.say_as_a(ask(&formed(), alone(ReplicaId::A))), []);
    let answers = [told(CONN_B, alone(ReplicaId::B)), told(CONN_A, alone(ReplicaId::B))];
    assert_eq!(bench.stored(Stored::There), answers);
}

#[test]
fn a_waiting_request_may_begin_the_next_store() {
    let mut bench = Bench::new(formed());
    bench.say_as_a(ask(&formed(), renewed()));
    let next = next_of(&renewed(), ReplicaId::B, Members::alone(ReplicaId::B, B), Origin::Alone);
    bench.say_as_b(ask(&renewed(), next));
    bench.say_as_a(QUERY);
    let output = bench.stored(Stored::There);
    assert_eq!(output, [told(CONN_A, renewed()), store(&renewed(), next)]);
    assert_eq!(bench.stored(Stored::There), [told(CONN_B, next), told(CONN_A, next)]);
}

#[test]
fn a_repeated_request_is_answered_as_granted() {
    let mut bench = Bench::new(formed());
    let request = ask(&formed(), alone(ReplicaId::A));
    bench.say_as_a(request.clone());
    bench.stored(Stored::There);
    assert_eq!(bench.say_as_a(request.clone()), [told(CONN_A, alone(ReplicaId::A))]);
    // Also right after a restart: it is told nothing new.
    let mut witness = Bench::new(alone(ReplicaId::A));
    let input = Input::Call { conn: CONN_A, pair: PAIR, place: ReplicaId::A, call: request };
    assert_eq!(witness.give(START, input), [told(CONN_A, alone(ReplicaId::A))]);
}

#[test]
fn nothing_is_granted_right_after_a_start() {
    let mut bench = Bench::new(formed());
    let early = START.plus(CONFIG.grace - Duration::from_nanos(1));
    let call = |call| Input::Call { conn: CONN_A, pair: PAIR, place: ReplicaId::A, call };
    let request = ask(&formed(), alone(ReplicaId::A));
    let output = bench.give(early, call(request.clone()));
    assert_eq!(output, [refused(CONN_A, WitnessRefusal::Starting)]);
    assert_eq!(bench.give(early, call(QUERY)), [told(CONN_A, formed())]);
    let output = bench.give(START.plus(CONFIG.grace), call(request));
    assert_eq!(output, [store(&formed(), alone(ReplicaId::A))]);
}

#[test]
fn told_of_a_later_epoch_it_refuses_everything_until_its_operator_acts() {
    let later = Record { epoch: Epoch(7), ..alone(ReplicaId::A) };
    let known = Told { lineage: Lineage(1), epoch: Epoch(7) };
    let mut bench = Bench::new(formed());
    let output = bench.say_as_a(WitnessCall::Query { known: Some(later) });
    let distrust = |told| Output::Distrust { pair: PAIR, told };
    assert_eq!(output, [distrust(known), refused(CONN_A, WitnessRefusal::Behind)]);
    let request = ask(&formed(), alone(ReplicaId::B));
    assert_eq!(bench.say_as_b(request.clone()), [refused(CONN_B, WitnessRefusal::Behind)]);
    assert_eq!(bench.say_as_b(QUERY), [refused(CONN_B, WitnessRefusal::Behind)]);

    // After a restart too, by what the store kept.
    let mut held = Held { record: formed(), behind: Some(known) };
    let mut bench = Bench::holding(Some(held));
    assert_eq!(bench.say_as_b(request), [refused(CONN_B, WitnessRefusal::Behind)]);

    // An even later one moves the mark, so that the new lineage begins above it.
    let later = Record { epoch: Epoch(9), ..later };
    let output = bench.say_as_a(WitnessCall::Query { known: Some(later) });
    let known = Told { epoch: Epoch(9), ..known };
    assert_eq!(output, [distrust(known), refused(CONN_A, WitnessRefusal::Behind)]);
    held.behind = Some(known);
    let record = held.next_lineage().unwrap();
    assert_eq!((record.lineage, record.epoch), (Lineage(2), Epoch(10)));
    bench.give(LATER, Input::Enrolled(Held::trusted(record)));
    assert_eq!(bench.say_as_b(QUERY), [told(CONN_B, record)]);
    // The members of the lineage given up know an earlier epoch now.
    let output = bench.say_as_a(WitnessCall::Query { known: Some(later) });
    assert_eq!(output, [told(CONN_A, record)]);
}

#[test]
fn a_request_that_presumes_a_later_epoch_gives_it_away() {
    let mut bench = Bench::new(vacant());
    let output = bench.say_as_a(ask(&formed(), alone(ReplicaId::A)));
    assert_eq!(output[1], refused(CONN_A, WitnessRefusal::Behind));
}

#[test]
fn another_record_of_the_same_number_gives_it_away() {
    let mut bench = Bench::new(alone(ReplicaId::A));
    let output = bench.say_as_b(WitnessCall::Query { known: Some(alone(ReplicaId::B)) });
    assert_eq!(output[1], refused(CONN_B, WitnessRefusal::Behind));
}

#[test]
fn after_a_failed_write_the_pair_is_refused() {
    let mut bench = Bench::new(formed());
    bench.say_as_a(ask(&formed(), alone(ReplicaId::A)));
    bench.say_as_b(QUERY);
    let refusals =
        [refused(CONN_A, WitnessRefusal::Storage), refused(CONN_B, WitnessRefusal::Storage)];
    assert_eq!(bench.stored(Stored::Unknown), refusals);
    assert_eq!(bench.say_as_a(QUERY), [refused(CONN_A, WitnessRefusal::Storage)]);
    let mut unreadable = Bench::holding(None);
    assert_eq!(unreadable.say_as_a(QUERY), [refused(CONN_A, WitnessRefusal::Storage)]);
}

/// For want of a descriptor or of room, say: what it had, it has, and what is asked again is
/// tried again.
#[test]
fn after_a_write_that_changed_nothing_the_pair_is_served_and_asks_again() {
    let mut bench = Bench::new(formed());
    let call = ask(&formed(), alone(ReplicaId::A));
    bench.say_as_a(call.clone());
    bench.say_as_b(QUERY);
    let answers = [refused(CONN_A, WitnessRefusal::Storage), told(CONN_B, formed())];
    assert_eq!(bench.stored(Stored::NotThere), answers);
    assert_eq!(bench.say_as_a(call), [store(&formed(), alone(ReplicaId::A))]);
    assert_eq!(bench.stored(Stored::There), [told(CONN_A, alone(ReplicaId::A))]);
}

/// Nor does an enrolment leave a trace that could not be written.
#[test]
fn an_enrolment_that_changed_nothing_leaves_what_was_known() {
    let enrol = WitnessCall::Enrol { record: alone(ReplicaId::A) };
    let adopt = || vec![Output::Adopt { record: alone(ReplicaId::A) }];
    let refused_to_a = |reason| vec![refused(CONN_A, reason)];

    let mut unknown = Bench { witness: Witness::new(START, CONFIG, []) };
    unknown.hello(CONN_A, ReplicaId::A, A);
    assert_eq!(unknown.say_as_a(enrol.clone()), adopt());
    assert_eq!(unknown.stored(Stored::NotThere), refused_to_a(WitnessRefusal::Storage));
    assert_eq!(unknown.say_as_a(QUERY), refused_to_a(WitnessRefusal::UnknownPair));

    let behind = Held { record: vacant(), behind: Some(Told::from(&formed())) };
    let mut behind = Bench::holding(Some(behind));
    assert_eq!(behind.say_as_a(enrol.clone()), adopt());
    assert_eq!(behind.stored(Stored::NotThere), refused_to_a(WitnessRefusal::Storage));
    assert_eq!(behind.say_as_a(QUERY), refused_to_a(WitnessRefusal::Behind));
    assert_eq!(behind.say_as_a(enrol), adopt());
}

#[test]
fn an_unknown_pair_is_told_so() {
    let mut bench = Bench { witness: Witness::new(START, CONFIG, []) };
    bench.hello(CONN_A, ReplicaId::A, A);
    assert_eq!(bench.say_as_a(QUERY), [refused(CONN_A, WitnessRefusal::UnknownPair)]);
}

#[test]
fn who_is_not_who_its_key_says_is_turned_away() {
    let turned_away = |reason| vec![refused(CONN_A, reason), Output::Close { conn: CONN_A }];
    let not_you = turned_away(WitnessRefusal::NotYou);
    let fresh = || Bench { witness: Witness::new(START, CONFIG, []) };
    assert_eq!(fresh().say_as_a(QUERY), not_you);
    let hello = |pair, place, incarnation, newest| WitnessCall::Hello {
        pair,
        place,
        incarnation,
        protocol: Versions { oldest: newest, newest },
    };
    let spoken = SPOKEN.newest;
    assert_eq!(fresh().say_as_a(hello(PAIR, ReplicaId::B, A, spoken)), not_you);
    assert_eq!(fresh().say_as_a(hello(PairId([3; 16]), ReplicaId::A, A, spoken)), not_you);
    assert_eq!(fresh().say_as_a(hello(PAIR, ReplicaId::A, Incarnation(0), spoken)), not_you);
    let version = turned_away(WitnessRefusal::Version);
    assert_eq!(fresh().say_as_a(hello(PAIR, ReplicaId::A, A, spoken + 1)), version);
    let mut bench = Bench::new(formed());
    assert_eq!(bench.say_as_a(hello(PAIR, ReplicaId::A, A, spoken)), not_you);
    let mut bench = Bench::new(formed());
    let foreign = Record { pair: PairId([3; 16]), ..formed() };
    assert_eq!(bench.say_as_a(WitnessCall::Query { known: Some(foreign) }), not_you);
}

#[test]
fn a_connection_that_ends_is_not_answered() {
    let mut bench = Bench::new(formed());
    bench.say_as_a(ask(&formed(), alone(ReplicaId::A)));
    bench.say_as_b(QUERY);
    bench.give(LATER, Input::Closed { conn: CONN_A });
    bench.give(LATER, Input::Closed { conn: CONN_B });
    assert_eq!(bench.stored(Stored::There), []);
    assert_eq!(bench.witness.present(PAIR), Some(&alone(ReplicaId::A)));
}

#[test]
fn waiting_calls_and_connections_are_bounded() {
    let mut bench = Bench::new(formed());
    bench.say_as_a(ask(&formed(), alone(ReplicaId::A)));
    for _ in 0..limits::WITNESS_WAITING + 10 {
        bench.say_as_b(QUERY);
    }
    assert_eq!(bench.stored(Stored::There).len(), 1 + limits::WITNESS_WAITING);

    let mut closed = Vec::new();
    for conn in 100..110 {
        closed.extend(bench.hello(ConnId(conn), ReplicaId::A, A));
    }
    assert_eq!(closed.len(), 11 - limits::WITNESS_CONNECTIONS_PER_PLACE);
    assert_eq!(closed[0], Output::Close { conn: CONN_A });
    assert_eq!(bench.say_as_b(QUERY), [told(CONN_B, alone(ReplicaId::A))]);
}

#[derive(Clone, Debug)]
enum Act {
    /// Somebody asks for something, naming a record that was present at some time.
    Ask { place: ReplicaId, incarnation: u64, named: usize, shape: u8, step: u64, nonce: u64 },
    /// The write under way ends, if there is one.
    Written(Stored),
    /// The witness dies, having written what was under way or not, and is started again.
    Restart { written: bool },
}

fn any_act() -> impl Strategy<Value = Act> {
    // Mostly what could be granted, or nothing ever would be.
    let place = any::<bool>().prop_map(|a| if a { ReplicaId::A } else { ReplicaId::B });
    let stranger = prop_oneof![6 => Just(0), 1 => 1..4_u64];
    let named = prop_oneof![6 => Just(0), 1 => 1..3_usize];
    let shape = prop_oneof![6 => Just(0), 1 => Just(1), 2 => Just(2)];
    let step = prop_oneof![12 => Just(1), 1 => Just(0), 1 => Just(2)];
    let nonce = prop_oneof![12 => 1..3_u64, 1 => Just(0)];
    let ask = (place, stranger, named, shape, step, nonce).prop_map(
        |(place, stranger, named, shape, step, nonce)| {
            let own = 1 + place.slot() as u64;
            let incarnation = if stranger == 0 { own } else { stranger };
            Act::Ask { place, incarnation, named, shape, step, nonce }
        },
    );
    prop_oneof![
        6 => ask,
        4 => Just(Act::Written(Stored::There)),
        1 => any::<bool>().prop_map(|written| Act::Restart { written }),
        1 => Just(Act::Written(Stored::NotThere)),
        1 => Just(Act::Written(Stored::Unknown)),
    ]
}

/// What a random campaign has seen.
struct Campaign {
    witness: Witness,
    disk: Record,
    writing: Option<Record>,
    history: Vec<Record>,
    conns: u64,
}

impl Campaign {
    fn act(&mut self, act: Act) {
        match act {
            Act::Ask { place, incarnation, named, shape, step, nonce } => {
                let at = self.history.len().saturating_sub(1 + named);
                let present = self.history[at];
                let members = match shape {
                    0 => Members::both(Incarnation(1), Incarnation(2)),
                    1 => Members::both(Incarnation(incarnation), Incarnation(3)),
                    _ => Members::alone(place, Incarnation(incarnation)),
                };
                let origin = match shape {
                    0 if present.members == Members::NONE => Origin::Formed,
                    0 | 1 => Origin::Renewal(present.digest()),
                    _ => Origin::Alone,
                };
                let epoch = Epoch(present.epoch.0 + step);
                let nonce = Nonce(nonce);
                let next = Record { epoch, members, asker: place, nonce, origin, ..present };
                self.conns += 1;
                let (conn, incarnation) = (ConnId(self.conns), Incarnation(incarnation));
                let hello = WitnessCall::Hello { pair: PAIR, place, incarnation, protocol: SPOKEN };
                self.give(Input::Call { conn, pair: PAIR, place, call: hello });
                let call = ask(&present, next);
                self.give(Input::Call { conn, pair: PAIR, place, call });
            }
            Act::Written(stored) => {
                if let Some(record) = self.writing.take() {
                    if stored == Stored::There {
                        self.kept(record);
                    }
                    self.give(Input::Stored { pair: PAIR, stored });
                }
            }
            Act::Restart { written } => {
                if let Some(record) = self.writing.take().filter(|_| written) {
                    self.kept(record);
                }
                let held = Some(Held::trusted(self.disk));
                let config = Config { grace: Duration::ZERO };
                self.witness = Witness::new(START, config, [(PAIR, held)]);
            }
        }
    }

    fn kept(&mut self, record: Record) {
        self.disk = record;
        self.history.push(record);
    }

    fn give(&mut self, input: Input) {
        self.witness.handle(LATER, input);
        while let Some(output) = self.witness.poll() {
            match output {
                Output::Store { present, record } => {
                    assert!(self.writing.is_none(), "two records written at once");
                    assert_eq!(present, self.disk.digest(), "not the present record replaced");
                    self.writing = Some(record);
                }
                Output::Answer { answer: WitnessAnswer::Present { record }, .. } => {
                    assert_eq!(record, self.disk, "a record told that is not on disk");
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn no_two_records_exclude_each_other(acts in proptest::collection::vec(any_act(), 1..80)) {
        let held = Some(Held::trusted(vacant()));
        let config = Config { grace: Duration::ZERO };
        let mut campaign = Campaign {
            witness: Witness::new(START, config, [(PAIR, held)]),
            disk: vacant(),
            writing: None,
            history: vec![vacant()],
            conns: 0,
        };
        for act in acts {
            campaign.act(act);
        }
        let mut by_number = BTreeMap::new();
        for pair in campaign.history.windows(2) {
            let [before, after] = pair else { unreachable!() };
            prop_assert_eq!(after.epoch, before.epoch.next());
            prop_assert!(by_number.insert(after.epoch, *after).is_none());
            let asker = after.members.at(after.asker);
            if before.members != Members::NONE {
                // Whoever is a member now was one before: nobody who was removed comes back.
                prop_assert_eq!(before.members.at(after.asker), asker);
                for place in ReplicaId::BOTH {
                    let now = after.members.at(place);
                    prop_assert!(now.is_none() || now == before.members.at(place));
                }
            }
        }
    }
}
