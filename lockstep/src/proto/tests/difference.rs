//! Which output differs is found out beside the verdict (rule D6).

use bytes::Bytes;

use super::pair::{Deviation, MS, Pair, config};
use crate::event::{Event, StopCause};
use crate::ids::{DeviceId, Index, LogTime, ReplicaId};
use crate::outline::{Differs, Found, FoundOutput, Target};
use crate::output::{Output, OutputKind};
use crate::proto::io::DivergencePolicy;

use ReplicaId::{A, B};

/// The first entry of a device's input in a pair that has just formed.
const FIRST: Index = Index(3);

/// What this side says of the difference: once, and of this entry.
fn found(pair: &mut Pair, place: ReplicaId, at: Index) -> Found {
    let found = |event: &Event| match event {
        Event::Difference { index, found } => Some((*index, (**found).clone())),
        _ => None,
    };
    let said: Vec<_> = pair.node(place).events.iter().filter_map(found).collect();
    let [(index, found)] = &said[..] else { panic!("{place}: {said:?}") };
    assert_eq!(*index, at);
    found.clone()
}

/// A pair of which B does this to its outputs, once A has gone on without it.
fn differing(deviate: Deviation) -> Pair {
    let mut pair = Pair::formed();
    pair.node(B).differs = Some((FIRST, deviate));
    goes_on(&mut pair, A, "some text");
    pair
}

/// This side takes an input at which the two differ, and goes on alone with it.
fn goes_on(pair: &mut Pair, place: ReplicaId, text: &'static str) {
    pair.device_input(place, text);
    pair.run(MS * 100);
    assert_eq!(pair.node(place).texts(), [text]);
    assert!(matches!(pair.node(place.other()).stopped, Some(StopCause::Removed { .. })));
}

fn bytes(output: &mut Output) -> &mut Bytes {
    let OutputKind::Device { bytes, .. } = &mut output.kind else { panic!("no device") };
    bytes
}

#[test]
fn the_byte_of_the_output_that_differs_is_named_on_both_sides() {
    let mut pair = differing(|outputs, _| {
        *bytes(&mut outputs[0]) = Bytes::from_static(b"some tezt");
    });
    let [ours, theirs] = [A, B].map(|place| found(&mut pair, place, FIRST));
    assert_eq!((ours.what, ours.counts), (Differs::Bytes, [1, 1]));
    let output = ours.output.unwrap();
    let at_b = theirs.output.unwrap();
    assert_eq!((output.number, output.byte), (0, Some(7)));
    assert!(matches!(output.target, Target::Device(DeviceId(_))));
    assert_eq!((output.ours, output.theirs), (at_b.theirs, at_b.ours));
    assert_ne!(output.ours, output.theirs);
}

#[test]
fn an_output_that_only_one_side_makes_is_named() {
    let mut pair = differing(|outputs, _| {
        let mut another = outputs[0].clone();
        another.ordinal = 1;
        outputs.push(another);
    });
    let ours = found(&mut pair, A, FIRST);
    assert_eq!((ours.what, ours.counts), (Differs::More { here: false }, [1, 2]));
    assert!(matches!(ours.output, Some(FoundOutput { number: 1, ours: None, .. })));
    assert_eq!(found(&mut pair, B, FIRST).what, Differs::More { here: true });
}

#[test]
fn another_wake_up_is_named() {
    let mut pair = differing(|_, wakeup| *wakeup = Some(LogTime(u64::MAX)));
    let ours = found(&mut pair, A, FIRST);
    assert_eq!((ours.what, ours.output), (Differs::Wakeup, None));
}

#[test]
fn a_panic_on_one_side_is_named() {
    let mut pair = Pair::formed();
    pair.node(A).panics_at = Some(FIRST);
    goes_on(&mut pair, B, "text");
    assert_eq!(found(&mut pair, B, FIRST).what, Differs::Panic { here: false });
    assert_eq!(found(&mut pair, A, FIRST).what, Differs::Panic { here: true });
}

#[test]
fn the_verdict_needs_no_outline() {
    let scenario = |lost: bool| {
        let mut pair = Pair::formed();
        pair.outlines_lost = lost;
        pair.node(B).wrong_from = Some(FIRST);
        goes_on(&mut pair, A, "text");
        let differences = pair.nodes.each_ref().map(|node| {
            node.events.iter().filter(|event| matches!(event, Event::Difference { .. })).count()
        });
        let Pair { record, .. } = pair;
        (differences, (record.epoch, record.members, record.origin))
    };
    let [(found, with), (missed, without)] = [scenario(false), scenario(true)];
    assert_eq!((found, missed), ([1, 1], [0, 0]));
    assert_eq!(with, without);
}

/// B, which does not run for a while, says what it came to when A is alone and has released that.
#[test]
fn one_that_went_on_alone_meanwhile_still_finds_out() {
    let mut pair = Pair::formed();
    pair.node(B).wrong_from = Some(FIRST);
    pair.node(A).executes = false;
    pair.device_input(A, "text");
    pair.run(MS * 2);
    pair.pause(B, true);
    pair.resume(A);
    pair.run(MS * 20);
    assert_eq!(pair.node(A).texts(), ["text"]);
    assert_eq!(pair.record.members.at(B), None);
    let says = |event: &Event| matches!(event, Event::Difference { .. });
    assert!(!pair.node(A).saw(says));
    pair.pause(B, false);
    pair.run(MS * 20);
    assert_eq!(found(&mut pair, A, FIRST).what, Differs::Length);
}

/// Reports were lost, so that the first that is compared is of a later entry.
#[test]
fn the_first_of_several_entries_that_differ_is_searched() {
    let mut pair = Pair::formed();
    pair.node(B).wrong_from = Some(FIRST);
    pair.node(B).executes = false;
    for text in ["one", "two", "three"] {
        pair.device_input(A, text);
    }
    pair.run(MS * 2);
    pair.batches_lost = true;
    pair.resume(B);
    pair.run(MS * 100);
    assert_eq!(pair.node(A).texts(), ["one", "two", "three"]);
    let ours = found(&mut pair, A, FIRST);
    assert_eq!(ours.what, Differs::Length);
    assert_eq!(ours.output.unwrap().byte, Some(3));
}

/// The one that is told of a later entry first says so, and looks again when it knows better.
#[test]
fn an_earlier_entry_takes_the_place_of_a_later_one() {
    let mut pair = Pair::with(|place| {
        let mut config = config(place);
        config.divergence = DivergencePolicy::Hold;
        config
    });
    pair.run_to_duplex();
    pair.node(B).wrong_from = Some(FIRST);
    pair.node(B).executes = false;
    for text in ["one", "two", "three"] {
        pair.device_input(A, text);
    }
    pair.run(MS * 2);
    (pair.batches_lost, pair.digests_lost) = (true, true);
    pair.resume(B);
    pair.run(MS * 30);
    let diverged = |pair: &mut Pair, at| {
        pair.node(A).saw(|event| matches!(event, Event::Diverged { index, .. } if *index == at))
    };
    assert!(diverged(&mut pair, Index(FIRST.0 + 2)) && !diverged(&mut pair, FIRST));
    assert!(!pair.node(A).saw(|event| matches!(event, Event::Difference { .. })));
    pair.digests_lost = false;
    pair.run(MS * 30);
    assert!(diverged(&mut pair, FIRST));
    for place in ReplicaId::BOTH {
        assert_eq!(found(&mut pair, place, FIRST).what, Differs::Length);
    }
}

#[test]
fn a_list_of_digests_that_is_lost_leaves_the_outlines() {
    let mut pair = Pair::formed();
    pair.digests_lost = true;
    pair.node(B).wrong_from = Some(FIRST);
    goes_on(&mut pair, A, "text");
    assert_eq!(found(&mut pair, A, FIRST).what, Differs::Length);
}
