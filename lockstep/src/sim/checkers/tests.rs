//! Hand-made bad runs: a checker that cannot object is no checker.

use bytes::Bytes;

use super::view::Held;
use super::wgl::{Call, is_linearizable};
use super::*;
use crate::entry::{EntryKind, InputKind, Origin};
use crate::history::History;
use crate::ids::{
    Incarnation, Lineage, LogTime, Nonce, OriginNumber, OwnerId, PairId, RequestNumber, SessionId,
};
use crate::loss::SessionUse;
use crate::output::{Carrier, Output, Refusal, chain};
use crate::proto::io::DivergencePolicy;
use crate::record::{Members, Origin as How};
use crate::sim::ops::{Fired, Op};
use crate::sim::options::Durability;
use crate::sim::rng::Rng;
use crate::sim::service::{LEDGER, SESSIONS, TIMER};
use crate::sim::shares::Rights;

const A: Who = Who { place: ReplicaId::A, incarnation: Incarnation(0xa) };
const B: Who = Who { place: ReplicaId::B, incarnation: Incarnation(0xb) };

/// Tells the checkers a scenario, step by step.
struct Scenario {
    checkers: Checkers,
    now: u64,
    digests: [Digest; 2],
}

impl Scenario {
    /// Of these checkers one alone.
    fn new(only: CheckerName) -> Self {
        let options = Options::draw(crate::sim::options::Profile::Calm, None, &mut Rng::new(1));
        let checkers = Checkers::new(&options, Some(only));
        let mut scenario = Self { checkers, now: 1_000_000, digests: [Digest::ZERO; 2] };
        scenario.ok(Observation::Started { who: A });
        scenario.ok(Observation::Started { who: B });
        scenario
    }

    fn see(&mut self, seen: Observation<'_>) -> Result<(), Verdict> {
        self.checkers.see(self.now, &seen)
    }

    fn ok(&mut self, seen: Observation<'_>) {
        self.see(seen).expect("nothing is wrong yet");
    }

    fn duplex(mut self) -> Self {
        let record = record(1, Members::both(A.incarnation, B.incarnation));
        self.ok(Observation::Recorded { slot: 0, record: &record });
        for who in [A, B] {
            self.enter(who, record);
        }
        self
    }

    fn enter(&mut self, who: Who, record: Record) {
        let event = Event::Epoch { record, sequencer: ReplicaId::A, after: Index(0) };
        self.ok(Observation::Event { who, event: &event });
    }

    fn alone(&mut self, who: Who, epoch: u64) {
        let record = record(epoch, Members::alone(who.place, who.incarnation));
        self.ok(Observation::Recorded { slot: 0, record: &record });
        self.enter(who, record);
    }

    fn append(&mut self, who: Who, entry: &Entry) -> Result<(), Verdict> {
        self.see(Observation::Appended { who, entry })?;
        self.see(Observation::Persisted { who, index: entry.index })
    }

    fn remember(&mut self, who: Who, record: Record) {
        let membership = Membership { record: Some(record), asked: Vec::new(), witness: 0 };
        self.ok(Observation::Remembered { who, membership: &membership });
    }

    fn execute(&mut self, who: Who, index: u64, kinds: &[OutputKind]) -> Result<(), Verdict> {
        let outputs: Vec<Output> = (0..)
            .zip(kinds)
            .map(|(ordinal, kind)| Output { step: 0, ordinal, kind: kind.clone() })
            .collect();
        let slot = who.place.slot();
        self.digests[slot] = chain(self.digests[slot], Index(index), &outputs, None, false);
        let executed = Executed {
            index: Index(index),
            digest: self.digests[slot],
            outputs,
            wakeup: None,
            panic: None,
            sessions: SessionUse::default(),
        };
        self.see(Observation::Executed { who, executed: &executed })
    }

    fn panic(&mut self, who: Who, index: u64) {
        let (index, panic) = (Index(index), Some("it panics".into()));
        let executed = Executed {
            index,
            digest: Digest::ZERO,
            outputs: Vec::new(),
            wakeup: None,
            panic,
            sessions: SessionUse::default(),
        };
        self.ok(Observation::Executed { who, executed: &executed });
    }

    fn release(&mut self, who: Who, epoch: u64, kind: &OutputKind) -> Result<(), Verdict> {
        let name = OutputName { index: Index(1), step: 0, ordinal: 0 };
        self.see(Observation::Released { who, epoch: Epoch(epoch), name, kind })
    }
}

fn record(epoch: u64, members: Members) -> Record {
    Record {
        pair: PairId([1; 16]),
        lineage: Lineage(1),
        epoch: Epoch(epoch),
        members,
        asker: ReplicaId::A,
        nonce: Nonce(epoch),
        origin: How::Alone,
    }
}

fn entry(index: u64, epoch: u64, time: u64, kind: EntryKind) -> Entry {
    Entry {
        index: Index(index),
        epoch: Epoch(epoch),
        time: LogTime(time),
        origin: Origin { place: ReplicaId::A, incarnation: A.incarnation, number: OriginNumber(0) },
        kind,
    }
}

fn tick(index: u64, time: u64) -> Entry {
    entry(index, 1, time, EntryKind::Tick)
}

fn note(id: u64) -> OutputKind {
    let bytes = Bytes::copy_from_slice(&id.to_le_bytes());
    OutputKind::Device { device: LEDGER, carrier: Carrier::Both, bytes }
}

fn asked(id: u64, number: u64, op: Op) -> EntryKind {
    InputKind::SessionRequest {
        session: SessionId(1),
        token: Nonce(7),
        number: RequestNumber(number),
        lowest: RequestNumber(1),
        body: Request { id, op, padding: 0 }.encode(),
    }
    .into()
}

fn opened() -> Entry {
    entry(1, 1, 10, InputKind::SessionOpenFor { owner: OwnerId(1), token: Nonce(7) }.into())
}

#[test]
fn an_output_with_two_contents_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Outputs).duplex();
    scenario.release(A, 1, &note(1)).expect("the first");
    scenario.release(B, 1, &note(1)).expect("the same again");
    assert!(scenario.release(B, 1, &note(2)).is_err());
}

#[test]
fn an_output_that_is_for_the_other_place_or_carried_out_by_both_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Outputs).duplex();
    let output = |carrier| OutputKind::Device { device: LEDGER, carrier, bytes: Bytes::new() };
    assert!(scenario.release(B, 1, &output(Carrier::Replica(ReplicaId::A))).is_err());
    scenario.release(A, 1, &output(Carrier::Sequencer)).expect("the sequencer");
    assert!(scenario.release(B, 1, &output(Carrier::Sequencer)).is_err());
    scenario.alone(B, 2);
    scenario.release(B, 2, &output(Carrier::Sequencer)).expect("what its peer may not have done");
}

/// A log that opens a session with this token in its first entry, and again in its third.
fn opened_twice(between: EntryKind) -> Scenario {
    let mut scenario = Scenario::new(CheckerName::Outputs).duplex();
    let again = entry(3, 1, 30, opened().kind);
    for entry in [opened(), entry(2, 1, 20, between), again] {
        scenario.append(A, &entry).expect("fine");
    }
    scenario
}

fn opens(scenario: &mut Scenario, session: u64) -> Result<(), Verdict> {
    let answer = ClientAnswer::Opened { token: Nonce(7), result: Ok(SessionId(session)) };
    scenario.see(Observation::Answered { who: A, answer: &answer })
}

#[test]
fn a_token_with_two_sessions_is_objected_to_unless_one_ended_before() {
    let ends: EntryKind = InputKind::SessionClose { session: SessionId(1), token: Nonce(7) }.into();
    for [first, second] in [[1, 3], [3, 1]] {
        let mut ended = opened_twice(ends.clone());
        opens(&mut ended, first).expect("the first");
        opens(&mut ended, second).expect("not at one time");
        opens(&mut ended, first).expect("an answer may come late");

        let mut lives = opened_twice(EntryKind::Tick);
        opens(&mut lives, first).expect("the first");
        let told = opens(&mut lives, second).unwrap_err();
        assert!(told.what.contains("has not ended"), "{told}");
    }
}

#[test]
fn a_release_is_objected_to_until_both_hold_and_agree() {
    let mut scenario = Scenario::new(CheckerName::Release).duplex();
    scenario.append(A, &tick(1, 10)).expect("fine");
    scenario.execute(A, 1, &[note(1)]).expect("fine");
    let refused = |scenario: &mut Scenario| scenario.release(A, 1, &note(1)).unwrap_err().what;
    assert!(refused(&mut scenario).contains("does not hold"));
    scenario.append(B, &tick(1, 10)).expect("fine");
    assert!(refused(&mut scenario).contains("has not executed"));
    scenario.execute(B, 1, &[note(1)]).expect("fine");
    scenario.release(A, 1, &note(1)).expect("now it may");
    assert!(scenario.release(A, 1, &note(2)).is_err(), "not what it computed");
    assert!(scenario.release(A, 2, &note(1)).is_err(), "not its epoch");
}

#[test]
fn a_release_is_objected_to_where_the_peer_computed_otherwise() {
    let mut scenario = Scenario::new(CheckerName::Release).duplex();
    for who in [A, B] {
        scenario.append(who, &tick(1, 10)).expect("fine");
    }
    scenario.execute(A, 1, &[note(1)]).expect("fine");
    scenario.execute(B, 1, &[note(2)]).expect("fine");
    assert!(scenario.release(A, 1, &note(1)).is_err());
    scenario.alone(A, 2);
    scenario.release(A, 2, &note(1)).expect("alone it may");
}

#[test]
fn a_release_in_an_epoch_that_the_witness_never_recorded_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Release).duplex();
    scenario.append(A, &tick(1, 10)).expect("fine");
    scenario.execute(A, 1, &[note(1)]).expect("fine");
    scenario.enter(A, record(2, Members::alone(A.place, A.incarnation)));
    assert!(scenario.release(A, 2, &note(1)).is_err());
}

#[test]
fn releases_in_disjoint_epochs_are_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Epochs).duplex();
    scenario.release(A, 1, &note(1)).expect("together");
    scenario.alone(A, 2);
    scenario.release(A, 2, &note(1)).expect("A alone");
    scenario.release(B, 1, &note(1)).expect("B does not know yet; what both hold may go out");
    scenario.alone(B, 3);
    assert!(scenario.release(B, 3, &note(1)).is_err());
}

#[test]
fn a_witness_counts_until_both_have_on_disk_that_the_pair_leaves_it() {
    let both = record(1, Members::both(A.incarnation, B.incarnation));
    let moved = Record { epoch: Epoch(3), origin: How::Renewal(both.digest()), ..both };
    let leaves = entry(1, 1, 10, EntryKind::Witness { slot: 1, record: moved });
    let alone = record(2, Members::alone(B.place, B.incarnation));
    for has_moved in [false, true] {
        let mut scenario = Scenario::new(CheckerName::Release).duplex();
        scenario.append(A, &leaves).expect("fine");
        scenario.ok(Observation::Appended { who: B, entry: &leaves });
        if has_moved {
            scenario.ok(Observation::Persisted { who: B, index: Index(1) });
        }
        scenario.execute(B, 1, &[note(1)]).expect("fine");
        scenario.ok(Observation::Recorded { slot: 0, record: &alone });
        scenario.enter(B, alone);
        scenario.ok(Observation::Persisted { who: B, index: Index(1) });
        assert_eq!(scenario.release(B, 2, &note(1)).is_err(), has_moved);
    }
}

#[test]
fn a_move_counts_that_a_member_had_on_disk_when_it_died() {
    let both = record(1, Members::both(A.incarnation, B.incarnation));
    let moved = Record { epoch: Epoch(3), origin: How::Renewal(both.digest()), ..both };
    let leaves = entry(1, 1, 10, EntryKind::Witness { slot: 1, record: moved });
    for had_it in [false, true] {
        let mut scenario = Scenario::new(CheckerName::Release).duplex();
        for who in [A, B] {
            scenario.ok(Observation::Appended { who, entry: &leaves });
            scenario.execute(who, 1, &[note(1)]).expect("the same");
        }
        if had_it {
            scenario.ok(Observation::Persisted { who: A, index: Index(1) });
        }
        // The next process there has an empty disk.
        restarted(&mut scenario);
        scenario.ok(Observation::Wiped { place: ReplicaId::A });
        scenario.ok(Observation::Persisted { who: B, index: Index(1) });
        scenario.enter(B, moved);
        assert_eq!(scenario.release(B, 3, &note(1)).is_ok(), had_it);
    }
}

#[test]
fn what_was_being_written_counts_if_the_next_process_finds_it() {
    let both = record(1, Members::both(A.incarnation, B.incarnation));
    let member = Membership { record: Some(both), asked: Vec::new(), witness: 0 };
    let joiner = Membership::default();
    for (found, counts) in [(&member, false), (&joiner, true)] {
        let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
        scenario.remember(A, both);
        scenario.ok(Observation::Unsure { place: ReplicaId::A, membership: &joiner });
        restarted(&mut scenario);
        scenario.ok(Observation::Ended { who: B });
        assert_eq!(scenario.checkers.observed().remembered(ReplicaId::A), &member);
        scenario.ok(Observation::Found { place: ReplicaId::A, membership: found });
        assert_eq!(scenario.checkers.observed().remembered(ReplicaId::A), found);
        assert_eq!(forsaken(scenario.checkers.observed()), counts);
    }
    // Nobody wrote that.
    let mut scenario = Scenario::new(CheckerName::Claims).duplex();
    scenario.ok(Observation::Found { place: ReplicaId::A, membership: &member });
    assert_eq!(scenario.checkers.observed().remembered(ReplicaId::A), &joiner);
}

#[test]
fn a_move_that_one_disk_does_not_tell_and_the_other_lost_is_for_an_operator() {
    let both = record(1, Members::both(A.incarnation, B.incarnation));
    let moved = Record { epoch: Epoch(3), origin: How::Renewal(both.digest()), ..both };
    let leaves = entry(1, 1, 10, EntryKind::Witness { slot: 1, record: moved });
    for (told, lost, counts) in
        [(both, true, true), (both, false, false), (moved, true, false), (moved, false, false)]
    {
        let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
        scenario.ok(Observation::Recorded { slot: 0, record: &both });
        for who in [A, B] {
            scenario.append(who, &leaves).expect("fine");
        }
        scenario.ok(Observation::Recorded { slot: 1, record: &moved });
        scenario.remember(A, told);
        scenario.remember(B, moved);
        scenario.ok(Observation::Ended { who: A });
        scenario.ok(Observation::Ended { who: B });
        if lost {
            scenario.ok(Observation::Wiped { place: ReplicaId::B });
        }
        assert_eq!(forsaken(scenario.checkers.observed()), counts, "{told:?} {lost}");
    }
}

/// It asks neither witness, so it does not hear that it is a member alone.
#[test]
fn a_move_in_doubt_at_one_that_the_other_left_is_for_an_operator() {
    for (ended, moves, counts) in [(true, true, true), (false, true, false), (true, false, false)] {
        let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
        let both = record(1, Members::both(A.incarnation, B.incarnation));
        let moved = Record { epoch: Epoch(3), origin: How::Renewal(both.digest()), ..both };
        let alone = Members::alone(ReplicaId::B, B.incarnation);
        let left = Record { origin: How::Left(both.digest()), ..record(2, alone) };
        scenario.ok(Observation::Recorded { slot: 0, record: &both });
        if moves {
            let entry = entry(1, 1, 10, EntryKind::Witness { slot: 1, record: moved });
            scenario.append(B, &entry).expect("fine");
        }
        scenario.ok(Observation::Recorded { slot: 0, record: &left });
        if ended {
            scenario.ok(Observation::Ended { who: A });
        }
        assert_eq!(forsaken(scenario.checkers.observed()), counts, "{ended} {moves}");
    }
}

#[test]
fn what_is_out_is_the_first_of_equal_answers() {
    let request = |index, kind| entry(index, 1, 10 * index, kind);
    let (full, token) = (Err(Refusal::TooManyReplies), Nonce(7));
    let refused = OutputKind::Reply {
        session: SessionId(1),
        token,
        number: RequestNumber(1),
        result: full.clone(),
    };
    let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
    let asked = asked(5, 1, Op::Append { list: 1 });
    for entry in [opened(), request(2, asked.clone()), request(3, asked)] {
        for who in [A, B] {
            scenario.append(who, &entry).expect("fine");
        }
    }
    let opened = OutputKind::Opened { token, result: Ok(SessionId(1)) };
    for (index, kind) in [(1, &opened), (2, &refused), (3, &refused)] {
        scenario.execute(A, index, core::slice::from_ref(kind)).expect("fine");
    }
    let answer =
        ClientAnswer::Reply { session: SessionId(1), number: RequestNumber(1), result: full };
    scenario.ok(Observation::Answered { who: A, answer: &answer });
    // B has two of the three entries, and with them all that is out.
    scenario.ok(Observation::Truncated { who: B, after: Index(2) });
    assert!(scenario.checkers.observed().has_everything(ReplicaId::B));
}

#[test]
fn an_acknowledged_request_that_a_member_lacks_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Acknowledged).duplex();
    let request = entry(2, 1, 20, asked(5, 1, Op::Append { list: 1 }));
    for entry in [&opened(), &request] {
        scenario.append(A, entry).expect("fine");
    }
    scenario.append(B, &opened()).expect("fine");
    let completed = Observation::Completed { client: 0, id: 5, answer: Answer::Length(1) };
    assert!(scenario.see(completed).is_err());
    let mut scenario = Scenario::new(CheckerName::Acknowledged).duplex();
    scenario.append(A, &opened()).expect("fine");
    scenario.append(A, &request).expect("fine");
    scenario.alone(A, 2);
    scenario.ok(completed);
    scenario.checkers.observed.see(0, &Observation::Ended { who: A });
    let record = record(3, Members::alone(B.place, B.incarnation));
    assert!(scenario.see(Observation::Recorded { slot: 0, record: &record }).is_err());
}

#[test]
fn a_second_effect_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Once).duplex();
    scenario.execute(A, 1, &[note(5)]).expect("once");
    scenario.execute(B, 1, &[note(5)]).expect("once on the other replica too");
    assert!(scenario.execute(A, 2, &[note(5)]).is_err());
    assert!(scenario.execute(B, 2, &[note(6), note(6)]).is_err());
}

#[test]
fn an_answer_that_the_log_does_not_give_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::History).duplex();
    let op = Op::Append { list: 1 };
    scenario.append(A, &opened()).expect("fine");
    scenario.append(A, &entry(2, 1, 20, asked(5, 1, op))).expect("fine");
    scenario.ok(Observation::Invoked { client: 0, request: Request { id: 5, op, padding: 0 } });
    assert!(
        scenario
            .see(Observation::Completed { client: 0, id: 5, answer: Answer::Length(2) })
            .is_err()
    );
}

#[test]
fn an_effect_before_an_answer_that_was_out_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::History).duplex();
    let op = Op::Chance;
    scenario.append(A, &opened()).expect("fine");
    scenario.append(A, &entry(2, 1, 20, asked(6, 1, op))).expect("fine");
    scenario.append(A, &entry(3, 1, 30, asked(5, 2, op))).expect("fine");
    scenario.ok(Observation::Invoked { client: 0, request: Request { id: 5, op, padding: 0 } });
    scenario.ok(Observation::Completed { client: 0, id: 5, answer: Answer::Noise(1) });
    scenario.ok(Observation::Invoked { client: 1, request: Request { id: 6, op, padding: 0 } });
    assert!(
        scenario
            .see(Observation::Completed { client: 1, id: 6, answer: Answer::Noise(2) })
            .is_err()
    );
}

#[test]
fn an_unlinearizable_history_is_found_at_the_end() {
    let mut scenario = Scenario::new(CheckerName::History).duplex();
    let calls = [
        (1, Op::Set { key: 1, value: 7 }, Answer::Value(None)),
        (2, Op::Get { key: 1 }, Answer::Value(None)),
    ];
    // Nobody's log has them, so that only the search can object.
    for (id, op, answer) in calls {
        scenario.ok(Observation::Invoked {
            client: id as usize,
            request: Request { id, op, padding: 0 },
        });
        scenario.ok(Observation::Completed { client: id as usize, id, answer });
    }
    assert!(scenario.see(Observation::Over { end: &End::default() }).is_err());
}

#[test]
fn time_that_goes_back_or_stands_still_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Time).duplex();
    scenario.append(A, &tick(1, 1_000)).expect("fine");
    assert!(scenario.append(A, &tick(2, 1_000)).is_err());
    let mut scenario = Scenario::new(CheckerName::Time).duplex();
    scenario.append(A, &tick(1, 1_000)).expect("fine");
    scenario.now += 50_000_000;
    scenario.append(A, &tick(2, 2_000)).expect("a gap may follow");
    assert!(scenario.append(A, &tick(3, 3_000)).is_err(), "it stood still");
    let mut scenario = Scenario::new(CheckerName::Time).duplex();
    scenario.append(A, &tick(1, 1_000)).expect("fine");
    scenario.now += 50_000_000;
    scenario.append(A, &tick(2, 2_000)).expect("a gap may follow");
    let gap = |time| Entry { kind: EntryKind::Gap, ..tick(3, time) };
    assert!(scenario.append(A, &gap(900_000_000)).is_err(), "that is no gap of 50 ms");
    let mut scenario = Scenario::new(CheckerName::Time).duplex();
    scenario.append(A, &tick(1, 1_000)).expect("fine");
    scenario.now += 50_000_000;
    scenario.append(A, &tick(2, 2_000)).expect("a gap may follow");
    scenario.append(A, &gap(50_001_000)).expect("it does");
    let mut scenario = Scenario::new(CheckerName::Time).duplex();
    scenario.append(A, &tick(1, 1_000)).expect("fine");
    scenario.now += 50_000_000;
    assert!(scenario.append(A, &tick(2, 80_000_000)).is_err(), "it ran");
}

#[test]
fn another_sequencer_may_say_until_when_it_ran_and_its_gap_is_measured_from_there() {
    for (gap, is_right) in [(50_001_000, true), (2_001, true), (900_000_000, false)] {
        let mut scenario = Scenario::new(CheckerName::Time).duplex();
        scenario.append(A, &tick(1, 1_000)).expect("fine");
        scenario.append(B, &tick(1, 1_000)).expect("fine");
        scenario.now += 50_000_000;
        scenario.append(B, &tick(2, 2_000)).expect("a gap may follow");
        let gap = Entry { kind: EntryKind::Gap, ..tick(3, gap) };
        assert_eq!(scenario.append(B, &gap).is_ok(), is_right);
    }
}

/// A serves, and a timer is due at 5,000,000.
fn timer_is_set() -> Scenario {
    let mut scenario = Scenario::new(CheckerName::Time).duplex();
    let set = entry(2, 1, 1_000_000, asked(5, 1, Op::Later { after: 4_000_000 }));
    for entry in [&opened(), &set] {
        scenario.now = entry.time.0;
        scenario.append(A, entry).expect("fine");
        scenario.execute(A, entry.index.0, &[]).expect("fine");
    }
    let standing = Standing::Serving { epoch: Epoch(1), duplex: true, sequencer: ReplicaId::A };
    scenario.ok(Observation::Standing { who: A, standing });
    scenario.ok(Observation::Healed);
    scenario
}

#[test]
fn a_wake_up_that_does_not_come_is_objected_to() {
    let mut scenario = timer_is_set();
    scenario.now += 100_000_000;
    scenario.ok(Observation::Passed);
    scenario.now += 1_000_000_000;
    assert!(scenario.see(Observation::Passed).is_err());
    let fired = Fired { id: 5, due: LogTime(5_000_000) };
    let (device, carrier, bytes) = (TIMER, Carrier::Both, fired.encode());
    let gap = Entry { kind: EntryKind::Gap, ..tick(3, 1_101_000_000) };
    scenario.append(A, &gap).expect("at last");
    scenario.execute(A, 3, &[OutputKind::Device { device, carrier, bytes }]).expect("it fires");
    scenario.ok(Observation::Passed);
}

#[test]
fn a_wake_up_may_take_as_long_as_what_is_executed_before_it() {
    let mut scenario = timer_is_set();
    let fires = [tick(3, 4_000_000), tick(4, 5_000_001)];
    for entry in &fires {
        scenario.now = entry.time.0;
        scenario.append(A, entry).expect("fine");
    }
    scenario.now += 900_000_000;
    scenario.execute(A, 3, &[]).expect("fine");
    scenario.now += 100_000_000;
    scenario.ok(Observation::Passed);
    scenario.now += 2_000_000_000;
    assert!(scenario.see(Observation::Passed).is_err(), "it executes nothing any more");
}

#[test]
fn an_entry_long_after_a_timer_was_due_has_to_be_a_gap() {
    for (late, is_late) in [(100_000_000, false), (200_000_000, true)] {
        let mut scenario = timer_is_set();
        scenario.now += late;
        let tick = tick(3, scenario.now);
        assert_eq!(scenario.append(A, &tick).is_err(), is_late);
    }
}

#[test]
fn an_entry_long_after_a_timer_was_due_is_none_of_a_service_that_panicked() {
    let mut scenario = timer_is_set();
    scenario.now += 1_000_000;
    let next = tick(3, scenario.now);
    scenario.append(A, &next).expect("fine");
    scenario.panic(A, 3);
    scenario.now += 200_000_000;
    let late = tick(4, scenario.now);
    scenario.append(A, &late).expect("nobody gets past the one before");
}

#[test]
fn a_service_that_does_not_resume_is_objected_to_where_it_could() {
    let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
    let end = End { answered: 0, waiting: 3, devices_lost: 0 };
    assert!(scenario.see(Observation::Over { end: &end }).is_err());
}

#[test]
fn a_replica_that_stops_without_a_reason_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
    assert!(scenario.see(Observation::Stopped { who: A, cause: &StopCause::Corrupted }).is_err());
    let cause = StopCause::NotAMember { record: record(1, Members::NONE) };
    scenario.ok(Observation::Stopped { who: B, cause: &cause });
}

#[test]
fn two_that_panicked_at_different_entries_need_an_operator_as_two_that_differ_do() {
    let both = Some([(A, true), (B, true)]);
    for (later, expected) in [(1, None), (2, both)] {
        let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
        for who in [A, B] {
            scenario.append(who, &tick(1, 10)).expect("fine");
            scenario.append(who, &tick(2, 20)).expect("fine");
        }
        scenario.panic(A, 1);
        assert_eq!(at_odds(scenario.checkers.observed()), Some([(A, true), (B, false)]));
        if later == 2 {
            scenario.execute(B, 1, &[]).expect("fine");
        }
        scenario.panic(B, later);
        assert_eq!(at_odds(scenario.checkers.observed()), expected);
    }
}

#[test]
fn a_pair_that_could_come_back_and_does_not_is_objected_to() {
    let end = End { answered: 5, waiting: 0, devices_lost: 0 };
    let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
    assert!(scenario.see(Observation::Over { end: &end }).is_err(), "nobody serves");
    let both = record(1, Members::both(A.incarnation, B.incarnation));
    scenario.remember(A, both);
    for who in [A, B] {
        scenario.ok(Observation::Ended { who });
    }
    assert!(scenario.see(Observation::Over { end: &end }).is_err(), "one has a disk");
    scenario.ok(Observation::Wiped { place: ReplicaId::A });
    assert_eq!(impossible(scenario.checkers.observed()), Some(Impossible::StateLost));
    scenario.ok(Observation::Over { end: &end });
}

#[test]
fn a_release_of_what_is_not_persisted_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Release).duplex();
    scenario.append(A, &tick(1, 10)).expect("fine");
    scenario.ok(Observation::Appended { who: B, entry: &tick(1, 10) });
    for who in [A, B] {
        scenario.execute(who, 1, &[note(1)]).expect("the same");
    }
    let refused = scenario.release(A, 1, &note(1)).unwrap_err().what;
    assert!(refused.contains("persisted"), "{refused}");
    scenario.ok(Observation::Persisted { who: B, index: Index(1) });
    scenario.release(A, 1, &note(1)).expect("now it may");
}

/// A process that was started anew at A's place, with what the predecessor's disk had.
fn restarted(scenario: &mut Scenario) -> (Who, Record) {
    let who = Who { place: ReplicaId::A, incarnation: Incarnation(0xaa) };
    scenario.ok(Observation::Ended { who: A });
    scenario.ok(Observation::Started { who });
    let next =
        Record { origin: How::Restarted, ..record(2, Members::alone(who.place, who.incarnation)) };
    (who, next)
}

#[test]
fn a_claim_that_the_disk_does_not_bear_out_is_objected_to() {
    let both = record(1, Members::both(A.incarnation, B.incarnation));
    let mut scenario = Scenario::new(CheckerName::Claims).duplex();
    let (_, next) = restarted(&mut scenario);
    assert!(
        scenario.see(Observation::Recorded { slot: 0, record: &next }).is_err(),
        "an empty disk"
    );
    let mut scenario = Scenario::new(CheckerName::Claims).duplex();
    scenario.remember(A, both);
    let (_, next) = restarted(&mut scenario);
    scenario.ok(Observation::Recorded { slot: 0, record: &next });
    let mut scenario = Scenario::new(CheckerName::Claims).duplex();
    scenario.remember(A, both);
    scenario.ok(Observation::Completed { client: 0, id: 5, answer: Answer::Done(true) });
    let (_, next) = restarted(&mut scenario);
    assert!(
        scenario.see(Observation::Recorded { slot: 0, record: &next }).is_err(),
        "a request is missing"
    );
}

#[test]
fn one_that_was_not_told_of_its_pair_may_claim_it_after_the_other_left() {
    let formed =
        Record { origin: How::Formed, ..record(1, Members::both(A.incarnation, B.incarnation)) };
    let left = Record {
        asker: ReplicaId::B,
        origin: How::Left(formed.digest()),
        ..record(2, Members::alone(A.place, A.incarnation))
    };
    let scenario = |asked: Vec<Record>| {
        let mut scenario = Scenario::new(CheckerName::Claims).duplex();
        for record in [&formed, &left] {
            scenario.ok(Observation::Recorded { slot: 0, record });
        }
        let membership = Membership { record: None, asked, witness: 0 };
        scenario.ok(Observation::Remembered { who: A, membership: &membership });
        let (_, next) = restarted(&mut scenario);
        scenario.see(Observation::Recorded { slot: 0, record: &Record { epoch: Epoch(3), ..next } })
    };
    scenario(vec![formed]).expect("nothing went out without it");
    assert!(scenario(Vec::new()).is_err(), "it asked for nothing");
    let renewed = Record { origin: How::Alone, ..formed };
    assert!(scenario(vec![renewed]).is_err(), "it asked for something else");
}

#[test]
fn one_that_serves_without_an_acknowledged_request_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Serving).duplex();
    let standing = Standing::Serving { epoch: Epoch(1), duplex: true, sequencer: ReplicaId::A };
    scenario.ok(Observation::Standing { who: A, standing });
    scenario.ok(Observation::Completed { client: 0, id: 5, answer: Answer::Done(true) });
    assert!(scenario.see(Observation::Standing { who: B, standing }).is_err());
}

#[test]
fn one_that_releases_alone_against_the_present_record_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Alone).duplex();
    scenario.alone(A, 2);
    scenario.release(A, 2, &note(1)).expect("it was granted");
    let other =
        Record { asker: ReplicaId::B, ..record(3, Members::alone(ReplicaId::B, B.incarnation)) };
    scenario.ok(Observation::Recorded { slot: 0, record: &other });
    assert!(scenario.release(A, 2, &note(1)).is_err());
}

#[test]
fn a_state_that_nobody_had_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Restored).duplex();
    scenario.append(A, &tick(1, 10)).expect("fine");
    scenario.execute(A, 1, &[note(1)]).expect("fine");
    let log_digest = scenario.checkers.observed().view(A).and_then(|view| view.chain(Index(1)));
    let history = History {
        index: Index(1),
        log_digest: log_digest.expect("it holds the entry"),
        ..History::default()
    };
    let outputs = scenario.digests[0];
    let mut recovered = Recovered {
        history,
        outputs,
        wakeup: None,
        replayed: 0,
        contradicts: None,
        tail: Vec::new(),
    };
    scenario.ok(Observation::Restored { who: B, recovered: &recovered });
    assert_eq!(scenario.checkers.observed().view(B).map(View::held), Some(Index(1)));
    recovered.outputs = Digest([9; 16]);
    assert!(scenario.see(Observation::Restored { who: B, recovered: &recovered }).is_err());
}

#[test]
fn a_lost_input_of_a_device_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Liveness).duplex();
    let end = End { answered: 1, waiting: 0, devices_lost: 1 };
    assert!(scenario.see(Observation::Over { end: &end }).is_err());
}

#[test]
fn a_window_that_overflows_is_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Bounds).duplex();
    let bounds = Bounds { window: 2, link_bytes: 100, wake_late: 0, ..bounds(Vec::new()) };
    scenario.checkers.bounds = bounds::BoundsJudge::new(&bounds);
    let mut status = crate::sim::testing::status(A);
    for index in 1..=100 {
        scenario.append(A, &tick(index, index)).expect("fine");
    }
    status.last_index = Index(100);
    status.released = Index(35);
    scenario.ok(Observation::Measured { who: A, status: &status });
    status.released = Index(0);
    assert!(scenario.see(Observation::Measured { who: A, status: &status }).is_err());
    scenario.ok(Observation::Queued { from: ReplicaId::A, bytes: 100 });
    assert!(scenario.see(Observation::Queued { from: ReplicaId::A, bytes: 101 }).is_err());
}

#[test]
fn entries_results_and_states_that_differ_are_objected_to() {
    let mut scenario = Scenario::new(CheckerName::Agreement).duplex();
    scenario.append(A, &tick(1, 10)).expect("fine");
    assert!(scenario.append(B, &tick(1, 11)).is_err());
    let mut scenario = Scenario::new(CheckerName::Agreement).duplex();
    for who in [A, B] {
        scenario.append(who, &tick(1, 10)).expect("the same");
    }
    scenario.execute(A, 1, &[note(1)]).expect("the first");
    assert!(scenario.execute(B, 1, &[note(2)]).is_err());
    scenario.ok(Observation::State { who: A, index: Index(1), digest: Digest([1; 16]) });
    assert!(
        scenario.see(Observation::State { who: B, index: Index(1), digest: Digest::ZERO }).is_err()
    );
    assert!(scenario.append(A, &tick(3, 30)).is_err(), "a gap");
}

#[test]
fn the_books_know_what_is_held() {
    let mut scenario = Scenario::new(CheckerName::Agreement).duplex();
    scenario.append(A, &tick(1, 10)).expect("fine");
    let view = scenario.checkers.observed().view(A).expect("it started");
    assert!(matches!(view.log[..], [Held { epoch: Epoch(1), time: LogTime(10), .. }]));
}

fn call(session: usize, op: Op, from: u64, to: u64, answer: Answer) -> Call {
    Call { session, op, from, to: Some((to, answer)) }
}

#[test]
fn the_search_accepts_what_some_order_explains() {
    let calls = [
        call(0, Op::Set { key: 1, value: 1 }, 0, 10, Answer::Value(None)),
        call(1, Op::Get { key: 1 }, 1, 9, Answer::Value(Some(1))),
        call(2, Op::Get { key: 1 }, 2, 8, Answer::Value(None)),
        Call { session: 3, op: Op::Set { key: 1, value: 2 }, from: 3, to: None },
        call(2, Op::Get { key: 1 }, 11, 12, Answer::Value(Some(2))),
    ];
    assert_eq!(is_linearizable(&calls, 1000), Some(true));
}

#[test]
fn the_search_accepts_that_what_has_no_answer_had_no_effect() {
    let lost = |session| Call { session, op: Op::Pop { queue: 1 }, from: 2, to: None };
    let calls = [
        call(0, Op::Push { queue: 1, value: 1 }, 0, 1, Answer::Length(1)),
        lost(0),
        lost(1),
        call(0, Op::Pop { queue: 1 }, 3, 4, Answer::Value(Some(1))),
    ];
    assert_eq!(is_linearizable(&calls, 1000), Some(true));
}

#[test]
fn the_search_refuses_a_stale_read() {
    let calls = [
        call(0, Op::Set { key: 1, value: 1 }, 0, 1, Answer::Value(None)),
        call(0, Op::Set { key: 1, value: 2 }, 2, 3, Answer::Value(Some(1))),
        call(1, Op::Get { key: 1 }, 4, 5, Answer::Value(Some(1))),
    ];
    assert_eq!(is_linearizable(&calls, 1000), Some(false));
}

#[test]
fn the_search_refuses_what_was_taken_twice_from_a_queue() {
    let calls = [
        call(0, Op::Push { queue: 1, value: 9 }, 0, 1, Answer::Length(1)),
        call(1, Op::Pop { queue: 1 }, 2, 10, Answer::Value(Some(9))),
        call(2, Op::Pop { queue: 1 }, 3, 11, Answer::Value(Some(9))),
    ];
    assert_eq!(is_linearizable(&calls, 1000), Some(false));
}

#[test]
fn the_search_keeps_a_clients_own_order() {
    let calls = [
        call(0, Op::Append { list: 1 }, 0, 10, Answer::Length(2)),
        call(0, Op::Append { list: 1 }, 1, 11, Answer::Length(1)),
    ];
    assert_eq!(is_linearizable(&calls, 1000), Some(false));
}

#[test]
fn the_search_gives_up_within_its_bound() {
    let calls: Vec<Call> = (0..40)
        .map(|client| call(client, Op::Append { list: 1 }, 0, 100, Answer::Length(99)))
        .collect();
    assert_eq!(is_linearizable(&calls, 10), Some(false), "the first step already fails");
    let calls: Vec<Call> = (0..20)
        .map(|session| Call { session, op: Op::Push { queue: 1, value: 1 }, from: 0, to: None })
        .chain([call(30, Op::Pop { queue: 1 }, 0, 100, Answer::Value(Some(2)))])
        .collect();
    assert_eq!(is_linearizable(&calls, 10), None);
}

/// Two sessions, and what the clients may ask.
fn bounds(rights: Vec<Rights>) -> Bounds {
    let unit = UnitConfig { sessions: 2, ..UnitConfig::default() };
    Bounds { window: 1, link_bytes: 1, wake_late: 0, unit, rights, tells_sessions: true }
}

/// Owner 1 has two sessions by the books, the second of which is told to end for the third client.
/// Whose they really are is for the scenario.
fn gives_way(owners: [u64; 3], ended: Option<u64>) -> Result<(), Verdict> {
    let mut scenario = Scenario::new(CheckerName::Shares);
    let bounds = bounds(Vec::new());
    scenario.checkers.observed =
        ObservedState::new(DivergencePolicy::Sequencer, Durability::Journal, bounds.unit.clone());
    scenario.checkers.shares = shares::Shares::new(&bounds);
    scenario.ok(Observation::Started { who: A });
    for (at, (owner, recorded)) in (1..).zip(owners.into_iter().zip([1, 1, 2])) {
        let (token, recorded) = (Nonce(at), OwnerId(recorded));
        scenario.ok(Observation::Came { client: 0, owner: OwnerId(owner), token });
        let kind = InputKind::SessionOpenFor { owner: recorded, token }.into();
        scenario.append(A, &entry(at, 1, at, kind)).expect("fine");
        let result = Ok(SessionId(at));
        let ended = ended.filter(|_| at == 3).map(|session| OutputKind::Device {
            device: SESSIONS,
            carrier: Carrier::Both,
            bytes: Bytes::copy_from_slice(&u64::to_le_bytes(session)),
        });
        let outputs: Vec<_> =
            ended.into_iter().chain([OutputKind::Opened { token, result }]).collect();
        scenario.execute(A, at, &outputs)?;
    }
    Ok(())
}

#[test]
fn a_session_that_should_not_end_is_objected_to() {
    gives_way([1, 1, 2], Some(2)).expect("the last one of the owner that has most");
    assert!(gives_way([1, 1, 2], Some(1)).is_err(), "another one");
    assert!(gives_way([1, 1, 2], None).is_err(), "none");
    gives_way([1, 2, 2], Some(2)).expect("an owner may lose a session to itself");
    let unfair = gives_way([2, 1, 2], Some(2)).unwrap_err();
    assert!(unfair.what.contains("has 1"), "{unfair}");
}

#[test]
fn what_may_not_be_asked_and_takes_effect_is_objected_to() {
    let scenario = |rights| {
        let mut scenario = Scenario::new(CheckerName::Shares).duplex();
        scenario.checkers.shares = shares::Shares::new(&bounds(vec![rights]));
        let request = Request { id: 5, op: Op::Append { list: 0 }, padding: 0 };
        scenario.ok(Observation::Invoked { client: 0, request });
        scenario
    };
    let took = |scenario: &mut Scenario| {
        scenario.append(A, &opened()).expect("fine");
        scenario.append(A, &entry(2, 1, 20, asked(5, 1, Op::Append { list: 0 }))).expect("fine");
        let answer = OutputKind::Reply {
            session: SessionId(1),
            token: Nonce(7),
            number: RequestNumber(1),
            result: Ok(Bytes::new()),
        };
        scenario.execute(A, 2, &[note(5), answer])
    };
    took(&mut scenario(Rights::All)).expect("it may");
    assert!(took(&mut scenario(Rights::ReadOnly)).is_err());
    assert!(scenario(Rights::All).see(Observation::Denied { id: 5 }).is_err(), "it may");
    let mut differ = scenario(Rights::Differ);
    took(&mut differ).expect("one of the two takes it");
    assert!(differ.see(Observation::Denied { id: 5 }).is_err(), "it took effect");
    let answer = Answer::Length(1);
    let completed = Observation::Completed { client: 0, id: 5, answer };
    assert!(scenario(Rights::ReadOnly).see(completed).is_err());
    scenario(Rights::ReadOnly).ok(Observation::Denied { id: 5 });
}
