//! Several inputs in one entry: each is a step of its own.

use bytes::Bytes;

use super::{Fixture, request};
use crate::entry::{EntryKind, InputKind};
use crate::ids::{DeviceId, Index, LogTime, Nonce, OwnerId, SessionId};
use crate::output::OutputKind;
use crate::unit::UnitConfig;

fn fixture() -> Fixture {
    Fixture::new(UnitConfig::default())
}

fn device(text: &'static str) -> InputKind {
    InputKind::Device { device: DeviceId(1), bytes: Bytes::from_static(text.as_bytes()) }
}

fn open(token: u64) -> InputKind {
    InputKind::SessionOpenFor { owner: OwnerId(1), token: Nonce(token) }
}

fn together(inputs: &[InputKind]) -> EntryKind {
    EntryKind::Inputs(inputs.to_vec().into())
}

#[test]
fn each_input_is_a_step_with_outputs_of_its_own() {
    let mut fixture = fixture();
    let executed = fixture.run(together(&[device("send 2"), device("nothing"), device("send 1")]));
    let names: Vec<_> =
        executed.outputs.iter().map(|output| (output.step, output.ordinal)).collect();
    assert_eq!(names, [(0, 0), (0, 1), (2, 0)]);
    let steps: Vec<_> =
        fixture.seen().iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(steps, ["1.0 at 1010", "1.1 at 1011", "1.2 at 1012"]);
}

#[test]
fn a_wake_up_that_a_step_sets_and_that_is_due_comes_before_the_next_input() {
    let mut fixture = fixture();
    let executed = fixture.run(together(&[device("wake 0 1"), device("nothing")]));
    let kinds: Vec<_> = fixture.seen().iter().map(|line| line.ends_with("Wake")).collect();
    assert_eq!(kinds, [false, true, false]);
    assert_eq!(executed.wakeup, Some(LogTime(1012)));
}

#[test]
fn the_bound_on_wake_ups_is_of_the_whole_entry() {
    let mut fixture = Fixture::new(UnitConfig { steps_before_entry: 1, ..UnitConfig::default() });
    let inputs = [device("wake 0 9"), device("nothing"), device("nothing")];
    let executed = fixture.run(together(&inputs));
    let wakes = fixture.seen().iter().filter(|line| line.ends_with("Wake")).count();
    assert_eq!(wakes, 1);
    assert_eq!(executed.wakeup, Some(LogTime(1012)), "what is left comes before the next entry");
}

#[test]
fn no_two_sessions_of_an_entry_have_one_id() {
    let mut fixture = fixture();
    fixture.device("nothing");
    let executed = fixture.run(together(&[open(7), open(8), open(7)]));
    let opened: Vec<_> = executed
        .outputs
        .iter()
        .map(|output| match output.kind {
            OutputKind::Opened { token, result } => (token.0, result.unwrap()),
            _ => panic!("{output:?}"),
        })
        .collect();
    let [first, second] = [0, 1].map(|position| SessionId::new(Index(2), position));
    assert_eq!(opened, [(7, first), (8, second), (7, first)]);
    assert_eq!(first, SessionId(2), "as when every input had an entry of its own");
    assert!(first < second && second < SessionId::new(Index(3), 0), "in the order of the log");
}

#[test]
fn a_session_may_be_asked_in_the_entry_that_opens_it() {
    let mut fixture = fixture();
    let session = SessionId::new(Index(1), 0);
    let ask = |number| request(session, 7, number, 1, "x").inputs()[0].clone();
    let executed = fixture.run(together(&[open(7), ask(1), ask(2)]));
    let replies = executed.outputs.iter().filter(
        |output| matches!(&output.kind, OutputKind::Reply { result, .. } if result.is_ok()),
    );
    assert_eq!(replies.count(), 2);
}

#[test]
fn a_panic_of_one_input_is_the_whole_entrys() {
    let mut fixture = fixture();
    let executed = fixture.run(together(&[device("send 1"), device("panic"), device("send 1")]));
    assert_eq!(executed.panic.as_deref(), Some("told to"));
    assert_eq!(executed.outputs, []);
    assert_eq!(fixture.seen().len(), 2, "nothing is executed after it");
}

#[test]
fn pauses_between_inputs_change_nothing() {
    let inputs = [device("wake 0 1"), open(7), device("send 2"), device("nothing")];
    let (mut whole, mut paused) = (fixture(), fixture());
    let expected = whole.run(together(&inputs));
    let entry = paused.entry(together(&inputs));
    for _ in 1..inputs.len() {
        assert_eq!(paused.unit.execute_next(&entry), None);
        assert_eq!(paused.unit.index(), Index(0), "only a whole entry is executed");
    }
    assert_eq!(paused.unit.execute_next(&entry), Some(expected));
    assert_eq!(paused.seen(), whole.seen());
}

#[test]
#[should_panic(expected = "one entry after the other")]
fn another_entry_does_not_begin_within_one() {
    let mut fixture = fixture();
    let entry = fixture.entry(together(&[device("one"), device("two")]));
    assert_eq!(fixture.unit.execute_next(&entry), None);
    let other = fixture.entry(EntryKind::Tick);
    let _ = fixture.unit.execute_next(&other);
}

#[test]
#[should_panic(expected = "within an entry")]
fn a_state_within_an_entry_is_not_frozen() {
    let mut fixture = fixture();
    let entry = fixture.entry(together(&[device("one"), device("two")]));
    assert_eq!(fixture.unit.execute_next(&entry), None);
    let _ = fixture.unit.freeze();
}
