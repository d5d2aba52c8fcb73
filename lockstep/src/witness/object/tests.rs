//! The rules over objects: what is granted, who learns of it, and what is refused.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::ids::{Epoch, Incarnation, Lineage, Nonce, PairId, ReplicaId};
use crate::record::{Members, Origin, Record, Request};
use crate::wire::frames::{Versions, WitnessAnswer, WitnessCall, WitnessRefusal};
use crate::witness::store::Told;

const PAIR: PairId = PairId([1; 16]);
const OTHER: PairId = PairId([2; 16]);
const A: Incarnation = Incarnation(10);
const B: Incarnation = Incarnation(20);
const QUERY: WitnessCall = WitnessCall::Query { known: None };

fn own(place: ReplicaId) -> Incarnation {
    if place == ReplicaId::A { A } else { B }
}

fn next_of(present: &Record, asker: ReplicaId, members: Members, origin: Origin) -> Record {
    Record { epoch: present.epoch.next(), members, asker, nonce: Nonce(5), origin, ..*present }
}

fn vacant() -> Record {
    Record::vacant(PAIR, Lineage(1), Epoch(0))
}

fn formed() -> Record {
    next_of(&vacant(), ReplicaId::A, Members::both(A, B), Origin::Formed)
}

fn alone(place: ReplicaId) -> Record {
    next_of(&formed(), place, Members::alone(place, own(place)), Origin::Alone)
}

fn ask(present: &Record, next: Record) -> WitnessCall {
    WitnessCall::CompareAndSwap { request: Request { present: present.digest(), next } }
}

fn hello(pair: PairId, place: ReplicaId, incarnation: Incarnation) -> WitnessCall {
    let protocol = crate::witness::PROTOCOL;
    WitnessCall::Hello { pair, place, incarnation, protocol }
}

/// What a store does with the next action instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing, and it does not answer.
    Lost,
    /// What it should, and it does not answer.
    Unanswered,
    /// Nothing now; it is done when somebody else's action is, and not answered.
    Late,
}

#[derive(Clone, Debug, Default)]
struct Store {
    objects: BTreeMap<u64, Vec<u8>>,
    told: BTreeSet<Told>,
    late: Vec<Action>,
    /// Numbers that lists leave out.
    unlisted: BTreeSet<u64>,
}

impl Store {
    /// With these records, in their order.
    fn of(records: &[Record]) -> Self {
        let mut store = Self::default();
        let mut before = Digest::ZERO;
        for (number, record) in (0..).zip(records) {
            let link = Link { number, before, record: *record };
            store.objects.insert(number, encode(&link).to_vec());
            before = record.digest();
        }
        store
    }

    fn enrolled() -> Self {
        Self::of(&[vacant()])
    }

    fn carry_out(&mut self, action: &Action) -> Outcome {
        match action {
            Action::List => Outcome::Listed(Listing {
                numbers: self
                    .objects
                    .keys()
                    .copied()
                    .filter(|n| !self.unlisted.contains(n))
                    .collect(),
                told: self.told.last().copied(),
            }),
            Action::Read { number } => Outcome::Read(self.objects.get(number).cloned()),
            Action::Create { number, .. } if self.objects.contains_key(number) => Outcome::Exists,
            Action::Create { number, bytes } => {
                self.objects.insert(*number, bytes.clone());
                Outcome::Created
            }
            Action::Mark { told } => {
                self.told.insert(*told);
                Outcome::Marked
            }
        }
    }

    fn faulty(&mut self, action: &Action, fault: Option<Fault>) -> Outcome {
        match fault {
            None => {
                let outcome = self.carry_out(action);
                for late in std::mem::take(&mut self.late) {
                    self.carry_out(&late);
                }
                return outcome;
            }
            Some(Fault::Lost) => {}
            Some(Fault::Unanswered) => drop(self.carry_out(action)),
            Some(Fault::Late) => self.late.push(action.clone()),
        }
        Outcome::Failed
    }

    fn records(&self) -> Vec<Record> {
        let link = |(number, bytes): (&u64, &Vec<u8>)| decode(PAIR, *number, bytes).unwrap();
        let links: Vec<_> = self.objects.iter().map(link).collect();
        for pair in links.windows(2) {
            assert_eq!(pair[1].before, pair[0].record.digest());
        }
        links.iter().map(|link| link.record).collect()
    }
}

fn asker(place: ReplicaId) -> ObjectWitness {
    let mut witness = ObjectWitness::new(PAIR);
    let hello = Job::Call(hello(PAIR, place, own(place)));
    assert_eq!(witness.begin(hello), Step::Nothing);
    witness
}

/// Does a job to its end.
fn run(
    witness: &mut ObjectWitness,
    store: &mut Store,
    job: Job,
) -> Result<WitnessAnswer, ObjectError> {
    run_with(witness, store, job, |_| None)
}

fn run_with(
    witness: &mut ObjectWitness,
    store: &mut Store,
    job: Job,
    mut fault: impl FnMut(&Action) -> Option<Fault>,
) -> Result<WitnessAnswer, ObjectError> {
    let mut step = witness.begin(job);
    for _ in 0..1000 {
        match step {
            Step::Do(action) => {
                let outcome = store.faulty(&action, fault(&action));
                step = witness.on(outcome);
            }
            Step::Answer(answer) => return Ok(answer),
            Step::Failed(error) => return Err(error),
            Step::Nothing => panic!("no answer"),
        }
    }
    panic!("a job without an end");
}

fn present(record: Record) -> Result<WitnessAnswer, ObjectError> {
    Ok(WitnessAnswer::Present { record })
}

fn refused(reason: WitnessRefusal) -> Result<WitnessAnswer, ObjectError> {
    Ok(WitnessAnswer::Refused { reason })
}

fn call(
    witness: &mut ObjectWitness,
    store: &mut Store,
    call: WitnessCall,
) -> Result<WitnessAnswer, ObjectError> {
    run(witness, store, Job::Call(call))
}

#[test]
fn a_pair_is_enrolled_formed_and_goes_on_alone() {
    let (mut store, mut a, mut b) = (Store::default(), asker(ReplicaId::A), asker(ReplicaId::B));
    assert_eq!(call(&mut a, &mut store, QUERY), Err(ObjectError::Unenrolled { pair: PAIR }));
    let mut operator = ObjectWitness::new(PAIR);
    assert_eq!(run(&mut operator, &mut store, Job::Enrol), present(vacant()));
    assert_eq!(
        run(&mut operator, &mut store, Job::Enrol),
        Err(ObjectError::Enrolled { pair: PAIR })
    );
    assert_eq!(call(&mut a, &mut store, ask(&vacant(), formed())), present(formed()));
    assert_eq!(call(&mut b, &mut store, QUERY), present(formed()));
    assert_eq!(
        call(&mut b, &mut store, ask(&formed(), alone(ReplicaId::B))),
        present(alone(ReplicaId::B))
    );
    // The other one learns of it, whatever it asks.
    let late = ask(&formed(), alone(ReplicaId::A));
    assert_eq!(call(&mut a, &mut store, late), present(alone(ReplicaId::B)));
    assert_eq!(store.records(), [vacant(), formed(), alone(ReplicaId::B)]);
}

#[test]
fn of_two_that_ask_at_once_exactly_one_is_granted() {
    let asked = [ReplicaId::A, ReplicaId::B].map(|place| ask(&formed(), alone(place)));
    // Every order in which the steps of the two can come.
    for order in 0..1_u32 << 14 {
        let mut store = Store::of(&[vacant(), formed()]);
        let mut askers = [asker(ReplicaId::A), asker(ReplicaId::B)];
        let mut steps: Vec<Step> = askers
            .iter_mut()
            .zip(&asked)
            .map(|(witness, call)| witness.begin(Job::Call(call.clone())))
            .collect();
        for turn in 0.. {
            let first = if turn < 14 { (order >> turn & 1) as usize } else { turn % 2 };
            let Some(who) =
                [first, 1 - first].into_iter().find(|at| matches!(steps[*at], Step::Do(_)))
            else {
                break;
            };
            let Step::Do(action) = &steps[who] else { unreachable!() };
            let outcome = store.carry_out(action);
            steps[who] = askers[who].on(outcome);
        }
        let records = store.records();
        let [.., granted] = records[..] else { unreachable!() };
        assert_eq!(records.len(), 3);
        let told = Step::Answer(WitnessAnswer::Present { record: granted });
        assert_eq!(steps, [told.clone(), told], "order {order:b}");
    }
}

#[test]
fn a_lost_answer_is_settled_by_reading_back() {
    for fault in [Fault::Lost, Fault::Unanswered, Fault::Late] {
        let mut store = Store::of(&[vacant(), formed()]);
        let mut a = asker(ReplicaId::A);
        let mut once = Some(fault);
        let request = Job::Call(ask(&formed(), alone(ReplicaId::A)));
        let creating = |action: &Action| {
            matches!(action, Action::Create { .. }).then(|| once.take()).flatten()
        };
        let error = run_with(&mut a, &mut store, request.clone(), creating);
        assert_eq!(error, Err(ObjectError::Unreached), "{fault:?}");
        // Whatever is asked next, first it is settled.
        assert_eq!(call(&mut a, &mut store, QUERY), present(alone(ReplicaId::A)), "{fault:?}");
        assert_eq!(run(&mut a, &mut store, request), present(alone(ReplicaId::A)));
        assert_eq!(store.records().len(), 3);
    }
}

#[test]
fn a_lost_request_that_another_one_beat_is_settled_against_its_asker() {
    let mut store = Store::of(&[vacant(), formed()]);
    let (mut a, mut b) = (asker(ReplicaId::A), asker(ReplicaId::B));
    let request = Job::Call(ask(&formed(), alone(ReplicaId::A)));
    let creating = |action: &Action| matches!(action, Action::Create { .. }).then_some(Fault::Lost);
    assert!(run_with(&mut a, &mut store, request.clone(), creating).is_err());
    assert_eq!(
        call(&mut b, &mut store, ask(&formed(), alone(ReplicaId::B))),
        present(alone(ReplicaId::B))
    );
    assert_eq!(run(&mut a, &mut store, request), present(alone(ReplicaId::B)));
}

#[test]
fn a_crash_between_creating_and_its_answer_is_found_by_the_next_process() {
    let mut store = Store::of(&[vacant(), formed()]);
    let request = Job::Call(ask(&formed(), alone(ReplicaId::A)));
    let creating =
        |action: &Action| matches!(action, Action::Create { .. }).then_some(Fault::Unanswered);
    assert!(run_with(&mut asker(ReplicaId::A), &mut store, request, creating).is_err());
    let mut successor = ObjectWitness::new(PAIR);
    let started = Incarnation(11);
    successor.begin(Job::Call(hello(PAIR, ReplicaId::A, started)));
    assert_eq!(call(&mut successor, &mut store, QUERY), present(alone(ReplicaId::A)));
    let members = Members::alone(ReplicaId::A, started);
    let next = next_of(&alone(ReplicaId::A), ReplicaId::A, members, Origin::Restarted);
    assert_eq!(call(&mut successor, &mut store, ask(&alone(ReplicaId::A), next)), present(next));
}

#[test]
fn what_the_rules_deny_is_answered_with_the_present_record() {
    let mut store = Store::of(&[vacant(), formed(), alone(ReplicaId::A)]);
    let mut b = asker(ReplicaId::B);
    let next =
        next_of(&alone(ReplicaId::A), ReplicaId::B, Members::alone(ReplicaId::B, B), Origin::Alone);
    assert_eq!(
        call(&mut b, &mut store, ask(&alone(ReplicaId::A), next)),
        present(alone(ReplicaId::A))
    );
    assert_eq!(store.records().len(), 3);
}

#[test]
fn who_is_not_of_the_pair_or_says_no_hello_is_refused() {
    let mut store = Store::enrolled();
    let not_you = refused(WitnessRefusal::NotYou);
    let mut silent = ObjectWitness::new(PAIR);
    assert_eq!(call(&mut silent, &mut store, QUERY), not_you);
    for bad in [hello(OTHER, ReplicaId::A, A), hello(PAIR, ReplicaId::A, Incarnation(0))] {
        assert_eq!(call(&mut silent, &mut store, bad), not_you);
    }
    let next = crate::witness::PROTOCOL.newest + 1;
    let protocol = Versions { oldest: next, newest: next };
    let newer = WitnessCall::Hello { pair: PAIR, place: ReplicaId::A, incarnation: A, protocol };
    assert_eq!(call(&mut silent, &mut store, newer), refused(WitnessRefusal::Version));
    let foreign = Record { pair: OTHER, ..formed() };
    let known = WitnessCall::Query { known: Some(foreign) };
    assert_eq!(call(&mut asker(ReplicaId::A), &mut store, known), not_you);
}

#[test]
fn a_store_that_was_wiped_or_set_back_grants_nothing_until_a_new_lineage() {
    let behind = refused(WitnessRefusal::Behind);
    let mut store = Store::of(&[vacant(), formed()]);
    let known = WitnessCall::Query { known: Some(alone(ReplicaId::A)) };
    assert_eq!(call(&mut asker(ReplicaId::A), &mut store, known), behind);
    // The other CoServer, which does not know better, is refused too, and after a restart.
    let mut b = asker(ReplicaId::B);
    for _ in 0..2 {
        assert_eq!(call(&mut b, &mut store, ask(&formed(), alone(ReplicaId::B))), behind);
        assert_eq!(call(&mut b, &mut store, QUERY), behind);
        b = asker(ReplicaId::B);
    }
    assert_eq!(run(&mut ObjectWitness::new(PAIR), &mut store, Job::Look), present(formed()));
    let begun = run(&mut ObjectWitness::new(PAIR), &mut store, Job::NewLineage);
    let vacant = Record::vacant(PAIR, Lineage(2), Epoch(3));
    assert_eq!(begun, present(vacant));
    assert_eq!(call(&mut b, &mut store, QUERY), present(vacant));
    assert_eq!(store.records().len(), 3, "the objects stay without a gap");
}

#[test]
fn a_store_set_back_under_a_running_process_is_noticed() {
    let mut store = Store::of(&[vacant(), formed(), alone(ReplicaId::A)]);
    let mut a = asker(ReplicaId::A);
    assert_eq!(call(&mut a, &mut store, QUERY), present(alone(ReplicaId::A)));
    store.objects.remove(&2);
    let vanished = ObjectError::Vanished { pair: PAIR, number: 2 };
    assert_eq!(call(&mut a, &mut store, QUERY), Err(vanished));
    assert_eq!(call(&mut a, &mut store, QUERY), refused(WitnessRefusal::Behind));
    assert_eq!(store.told.last(), Some(&Told { lineage: Lineage(1), epoch: Epoch(2) }));
    store.objects.clear();
    let mut emptied = asker(ReplicaId::A);
    let unenrolled = ObjectError::Unenrolled { pair: PAIR };
    assert_eq!(call(&mut emptied, &mut store, QUERY), Err(unenrolled));
}

#[test]
fn an_object_replaced_under_a_running_process_is_noticed() {
    let mut store = Store::of(&[vacant(), formed(), alone(ReplicaId::A)]);
    let mut a = asker(ReplicaId::A);
    assert_eq!(call(&mut a, &mut store, QUERY), present(alone(ReplicaId::A)));
    store = Store::of(&[vacant(), formed(), alone(ReplicaId::B)]);
    let vanished = ObjectError::Vanished { pair: PAIR, number: 2 };
    assert_eq!(call(&mut a, &mut store, QUERY), Err(vanished));
}

#[test]
fn a_gap_is_refused_and_a_late_list_is_not_taken_for_one() {
    let records = [vacant(), formed(), alone(ReplicaId::A)];
    for number in 0..2 {
        let mut store = Store::of(&records);
        store.unlisted.insert(number);
        assert_eq!(call(&mut asker(ReplicaId::A), &mut store, QUERY), present(alone(ReplicaId::A)));
        store.objects.remove(&number);
        let gap = ObjectError::Gap { pair: PAIR, number };
        assert_eq!(call(&mut asker(ReplicaId::A), &mut store, QUERY), Err(gap.clone()));
        assert_eq!(run(&mut ObjectWitness::new(PAIR), &mut store, Job::NewLineage), Err(gap));
    }
    let mut store = Store::of(&records);
    store.unlisted.insert(2);
    assert_eq!(call(&mut asker(ReplicaId::A), &mut store, QUERY), present(alone(ReplicaId::A)));
}

/// A CoServer that was away must not fill a hole below what the other one was granted.
#[test]
fn a_hole_made_behind_a_process_is_not_filled() {
    let mut store = Store::of(&[vacant(), formed()]);
    let mut b = asker(ReplicaId::B);
    assert_eq!(call(&mut b, &mut store, QUERY), present(formed()));
    let renewed = next_of(&alone(ReplicaId::A), ReplicaId::A, alone(ReplicaId::A).members, {
        Origin::Renewal(alone(ReplicaId::A).digest())
    });
    store = Store::of(&[vacant(), formed(), alone(ReplicaId::A), renewed]);
    store.objects.remove(&2);
    let gap = ObjectError::Gap { pair: PAIR, number: 2 };
    assert_eq!(call(&mut b, &mut store, ask(&formed(), alone(ReplicaId::B))), Err(gap));
}

#[test]
fn every_changed_or_missing_byte_of_an_object_is_noticed() {
    let good = encode(&Link { number: 1, before: vacant().digest(), record: formed() });
    assert_eq!(decode(PAIR, 1, &good).unwrap().record, formed());
    for at in 0..OBJECT_BYTES {
        for value in 0..=u8::MAX {
            let mut bytes = good;
            bytes[at] = value;
            assert_eq!(decode(PAIR, 1, &bytes).is_ok(), bytes == good, "{value} at {at}");
        }
        assert!(decode(PAIR, 1, &good[..at]).is_err(), "cut at {at}");
        assert!(decode(PAIR, 1, &[&good[..at], &good[at + 1..]].concat()).is_err());
    }
    let foreign = ObjectError::Foreign { pair: OTHER, number: 1, found: PAIR };
    assert_eq!(decode(OTHER, 1, &good), Err(foreign));
    assert!(matches!(decode(PAIR, 2, &good), Err(ObjectError::Damaged { .. })));
    let mut newer = good;
    newer[8] = 2;
    let version = ObjectError::Version { pair: PAIR, number: 1, version: 2 };
    assert_eq!(decode(PAIR, 1, &newer), Err(version));
}

#[test]
fn a_damaged_or_strange_object_is_refused_by_its_number() {
    for (number, bytes) in [(1, b"nonsense".to_vec()), (2, Vec::new())] {
        let mut store = Store::of(&[vacant(), formed(), alone(ReplicaId::A)]);
        let mut running = asker(ReplicaId::A);
        assert!(call(&mut running, &mut store, QUERY).is_ok());
        store.objects.insert(number, bytes);
        store.objects.split_off(&(number + 1));
        let error = call(&mut asker(ReplicaId::B), &mut store, QUERY).unwrap_err();
        assert_eq!(error.refusal(), Some(WitnessRefusal::Storage));
        assert!(error.to_string().contains(&format!("object {number} ")), "{error}");
    }
    // Whole, and it does not follow on the one before.
    let mut store = Store::of(&[vacant(), formed()]);
    let mut a = asker(ReplicaId::A);
    assert!(call(&mut a, &mut store, QUERY).is_ok());
    let stray = Link { number: 2, before: vacant().digest(), record: alone(ReplicaId::A) };
    store.objects.insert(2, encode(&stray).to_vec());
    let error = call(&mut a, &mut store, QUERY).unwrap_err();
    assert!(matches!(error, ObjectError::Damaged { number: 2, .. }), "{error}");
}

#[test]
fn a_store_that_contradicts_itself_does_not_keep_a_job_for_ever() {
    let mut store = Store::of(&[vacant(), formed()]);
    let mut a = asker(ReplicaId::A);
    let mut step = a.begin(Job::Call(ask(&formed(), alone(ReplicaId::A))));
    let mut actions = 0;
    while let Step::Do(action) = &step {
        actions += 1;
        assert!(actions < 100);
        let outcome = match action {
            Action::Create { .. } => Outcome::Exists,
            action => store.carry_out(action),
        };
        step = a.on(outcome);
    }
    assert_eq!(step, Step::Failed(ObjectError::Unreached));
}

#[derive(Clone, Debug)]
struct Act {
    place: ReplicaId,
    restart: bool,
    shape: u8,
    faults: Vec<Option<Fault>>,
}

fn any_act() -> impl Strategy<Value = Act> {
    let place = any::<bool>().prop_map(|a| if a { ReplicaId::A } else { ReplicaId::B });
    let fault = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Fault::Lost)),
        1 => Just(Some(Fault::Unanswered)),
        1 => Just(Some(Fault::Late)),
    ];
    let faults = proptest::collection::vec(fault, 0..8);
    (place, proptest::bool::weighted(0.2), 0..5_u8, faults)
        .prop_map(|(place, restart, shape, faults)| Act { place, restart, shape, faults })
}

/// What a CoServer would ask for of this record.
fn wish(
    present: &Record,
    place: ReplicaId,
    own: Incarnation,
    shape: u8,
    nonce: u64,
) -> WitnessCall {
    let other = place.other();
    let both = match place {
        ReplicaId::A => Members::both(own, Incarnation(7)),
        ReplicaId::B => Members::both(Incarnation(7), own),
    };
    let theirs = present.members.at(other).unwrap_or(Incarnation(7));
    let (members, origin) = match shape {
        0 if present.members == Members::NONE => (both, Origin::Formed),
        0 => (present.members, Origin::Renewal(present.digest())),
        1 => (Members::alone(place, own), Origin::Alone),
        2 => (Members::alone(place, own), Origin::Restarted),
        3 => (both, Origin::Joined),
        _ => (Members::alone(other, theirs), Origin::Left(present.digest())),
    };
    let next = next_of(present, place, members, origin);
    ask(present, Record { nonce: Nonce(nonce), ..next })
}

proptest! {
    /// Answers are what is in the store, nothing there is ever replaced, and a request whose
    /// answer was lost is neither forgotten nor granted after it was denied.
    #[test]
    fn no_answer_contradicts_the_store(acts in proptest::collection::vec(any_act(), 1..40)) {
        let mut store = Store::enrolled();
        let mut askers = [asker(ReplicaId::A), asker(ReplicaId::B)];
        let mut known = [vacant(), vacant()];
        let mut processes = [A, B];
        // What is asked and not settled yet.
        let mut open: [Option<WitnessCall>; 2] = [None, None];
        let mut denied = Vec::new();
        for (at, Act { place, restart, shape, faults }) in acts.into_iter().enumerate() {
            let who = place.slot();
            if restart {
                processes[who] = Incarnation(1000 + at as u64);
                askers[who] = ObjectWitness::new(PAIR);
                askers[who].begin(Job::Call(hello(PAIR, place, processes[who])));
                open[who] = None;
            }
            let own = processes[who];
            let wished = wish(&known[who], place, own, shape, 1 + at as u64);
            let call = open[who].get_or_insert(wished).clone();
            let mut faults = faults.into_iter();
            let before = store.objects.clone();
            let answer = run_with(&mut askers[who], &mut store, Job::Call(call), |_| {
                faults.next().flatten()
            });
            let records = store.records();
            prop_assert!(!denied.iter().any(|next| records.contains(next)));
            for (number, bytes) in before {
                prop_assert_eq!(&store.objects[&number], &bytes);
            }
            match answer {
                Ok(WitnessAnswer::Present { record }) => {
                    prop_assert!(records.contains(&record));
                    let Some(WitnessCall::CompareAndSwap { request }) = open[who].take() else { unreachable!() };
                    prop_assert_eq!(Some(&record), records.last());
                    if !records.contains(&request.next) {
                        denied.push(request.next);
                    }
                    known[who] = record;
                }
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(error) => prop_assert_eq!(error, ObjectError::Unreached),
            }
        }
    }
}
