//! Scenarios of a log that goes on after nobody ran (rules O11, O12), or could order (rule O14).

use super::pair::{MS, Pair, config};
use crate::entry::{Entry, EntryKind, InputKind};
use crate::event::{Event, Wait};
use crate::ids::{LogTime, ReplicaId};
use crate::limits;
use crate::proto::io::{Command, Input};
use crate::record::Origin;

use ReplicaId::{A, B};

const HOUR: core::time::Duration = core::time::Duration::from_secs(3600);

/// Both ended, and nobody ran for an hour.
fn an_hour_later() -> Pair {
    let mut pair = Pair::formed();
    pair.device_input(A, "before");
    pair.run(MS * 20);
    pair.kill(A);
    pair.kill(B);
    // What was under way is lost with them; no timer of anybody is due.
    pair.now += HOUR;
    pair
}

fn count(pair: &mut Pair, place: ReplicaId, wanted: impl Fn(&EntryKind) -> bool) -> usize {
    pair.node(place).disk.entries.iter().filter(|entry| wanted(&entry.kind)).count()
}

fn takes_up(kind: &EntryKind) -> bool {
    matches!(kind, EntryKind::Resume { .. })
}

fn is_ready(kind: &EntryKind) -> bool {
    *kind == EntryKind::Ready
}

fn find(entries: &[Entry], wanted: impl Fn(&EntryKind) -> bool) -> usize {
    entries.iter().position(|entry| wanted(&entry.kind)).expect("there is such an entry")
}

#[test]
fn who_takes_a_log_up_again_says_so_and_then_that_its_devices_stand() {
    let mut pair = an_hour_later();
    pair.restart(A);
    pair.run(config(A).meeting + MS * 200);
    let entries = pair.node(A).disk.entries.clone();
    let (taken_up, ready) = (find(&entries, takes_up), find(&entries, is_ready));
    assert_eq!(ready, taken_up + 1);
    let gap = entries[taken_up].time.since(entries[taken_up - 1].time);
    assert!(gap >= HOUR, "the time between counts: {gap:?}");
    let EntryKind::Resume { record } = &entries[taken_up].kind else { unreachable!() };
    assert_eq!((record.origin, Some(record)), (Origin::Restarted, Some(&pair.record)));
    assert!(pair.node(A).saw(|event| matches!(event, Event::TakenUp { .. })));
    assert!(!pair.node(A).saw(|event| matches!(event, Event::ClockStrays { .. })));
}

#[test]
fn one_who_goes_on_while_the_other_ended_has_no_gap() {
    let mut pair = Pair::formed();
    pair.kill(A);
    pair.run(MS * 500);
    pair.restart(A);
    pair.run_to_duplex();
    assert_eq!(count(&mut pair, B, |kind| takes_up(kind) || is_ready(kind)), 0);
}

#[test]
fn devices_that_never_stand_are_waited_for_no_longer_than_the_bound() {
    let mut pair = an_hour_later();
    pair.node(A).devices_stand = false;
    pair.restart(A);
    pair.run(config(A).meeting + MS * 200);
    assert_eq!(count(&mut pair, A, takes_up), 1);
    pair.device_input(A, "meanwhile");
    pair.run(limits::DEVICES_WAIT - MS * 500);
    assert_eq!(count(&mut pair, A, is_ready), 0);
    assert_eq!(pair.node(A).texts().last(), Some(&"meanwhile"), "inputs are taken");
    pair.run(MS * 500);
    assert_eq!(count(&mut pair, A, is_ready), 1);
    assert!(pair.node(A).saw(|event| matches!(event, Event::DevicesLate { .. })));
}

/// What they are told of the service's new members is an output like any other: those that stand
/// before that stand for the members before.
#[test]
fn devices_are_waited_for_only_once_they_were_told_of_the_new_members() {
    let mut pair = an_hour_later();
    pair.restart(A);
    pair.node(A).sync_takes = MS * 100;
    let taken_up = |event: &Event| match event {
        Event::TakenUp { index, .. } => Some(*index),
        _ => None,
    };
    let index = loop {
        pair.run(MS);
        if let Some(index) = pair.node(A).events.iter().find_map(taken_up) {
            break index;
        }
    };
    pair.run(MS * 50);
    let status = pair.node(A).replica.status();
    assert!(status.released < index, "its disk is not that quick");
    assert_eq!(status.last_index, index, "nothing says yet that they stand");
    pair.run(MS * 500);
    assert_eq!((count(&mut pair, A, takes_up), count(&mut pair, A, is_ready)), (1, 1));
}

#[test]
fn nobody_joins_before_wake_ups_go_on() {
    let mut pair = an_hour_later();
    pair.node(A).devices_stand = false;
    pair.restart(A);
    pair.run(config(A).meeting + MS * 200);
    pair.restart(B);
    pair.run(limits::DEVICES_WAIT - MS * 500);
    assert_eq!(pair.record.origin, Origin::Restarted);
    pair.run_to_duplex();
    let entries = pair.node(B).disk.entries.clone();
    let joined = |kind: &EntryKind| kind.begins().is_some_and(|it| it.origin == Origin::Joined);
    assert!(find(&entries, is_ready) < find(&entries, joined));
    // The role goes over, and the other has nothing to make up for.
    pair.tell(A, Input::Command(Command::HandOver));
    pair.run(limits::DEVICES_WAIT + MS * 500);
    assert_eq!(count(&mut pair, B, is_ready), 1);
}

#[test]
fn one_that_ends_before_its_devices_stood_leaves_that_to_its_successor() {
    let mut pair = an_hour_later();
    pair.node(A).devices_stand = false;
    pair.restart(A);
    pair.run(config(A).meeting + MS * 200);
    pair.kill(A);
    pair.now += HOUR;
    pair.restart(A);
    pair.run(config(A).meeting + MS * 200);
    assert_eq!((count(&mut pair, A, takes_up), count(&mut pair, A, is_ready)), (2, 0));
    pair.node(A).devices_stand = true;
    pair.run(MS * 200);
    assert_eq!((count(&mut pair, A, takes_up), count(&mut pair, A, is_ready)), (2, 1));
}

#[test]
fn a_clock_that_is_far_ahead_takes_no_log_up_until_it_is_right_or_an_operator_says_so() {
    let mut pair = an_hour_later();
    pair.now += limits::CLOCK_STEP;
    pair.restart(A);
    pair.run(config(A).meeting * 7);
    let leaps = |event: &&Event| matches!(event, Event::ClockLeaps { .. });
    assert_eq!(pair.node(A).events.iter().filter(leaps).count(), 1, "said once");
    let wait = pair.node(A).replica.status().wait.map(|(wait, _)| wait);
    assert_eq!(wait, Some(Wait::Clock));
    assert_eq!((pair.record.origin, count(&mut pair, A, takes_up)), (Origin::Formed, 0));
    // Somebody corrects the clock.
    let mut right = super::pair::time(pair.now);
    right.wall = LogTime(right.wall.0 - limits::CLOCK_STEP.as_nanos() as u64);
    pair.node(A).replica.handle(right, Input::Timeout);
    pair.run(MS * 10);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Asked { .. })));
    // Or it is right: the machines were off for so long.
    let mut pair = an_hour_later();
    pair.now += limits::CLOCK_STEP;
    pair.configured = Box::new(|place| {
        let clock_step = limits::CLOCK_STEP * 2;
        crate::proto::Config { clock_step, ..config(place) }
    });
    pair.restart(A);
    pair.run(config(A).meeting + MS * 200);
    assert_eq!((count(&mut pair, A, takes_up), count(&mut pair, A, is_ready)), (1, 1));
}

#[test]
fn one_whose_clock_is_far_ahead_joins_the_one_whose_is_not() {
    let mut pair = an_hour_later();
    pair.configured = Box::new(|place| {
        let clock_step = if place == A { MS } else { limits::CLOCK_STEP };
        crate::proto::Config { clock_step, ..config(place) }
    });
    pair.restart(A);
    pair.restart(B);
    pair.run(config(A).meeting * 7);
    pair.run_to_duplex();
    assert_eq!(count(&mut pair, B, takes_up), 1);
    assert!(pair.node(B).saw(|event| matches!(event, Event::TakenUp { .. })));
}

#[test]
fn a_disk_that_is_adopted_is_taken_up_as_well() {
    let mut pair = an_hour_later();
    pair.begin_lineage();
    pair.restart_with(A, true);
    pair.run(config(A).meeting + MS * 500);
    assert_eq!(pair.record.origin, Origin::Adopted);
    assert_eq!((count(&mut pair, A, takes_up), count(&mut pair, A, is_ready)), (1, 1));
}

/// Somebody is to be woken in a second, and the entry before that one.
fn to_be_woken() -> Pair {
    let mut pair = Pair::formed();
    let due = super::pair::time(pair.now + MS * 1000).wall;
    ReplicaId::BOTH.into_iter().for_each(|place| pair.node(place).wakes = Some(due));
    pair.device_input(A, "before");
    pair.run(MS * 20);
    pair
}

/// Neither of two that stand still takes part in anything.
fn stand_still(pair: &mut Pair, span: core::time::Duration) {
    ReplicaId::BOTH.into_iter().for_each(|place| pair.pause(place, true));
    pair.now += span;
    ReplicaId::BOTH.into_iter().for_each(|place| pair.pause(place, false));
    pair.run(MS * 200);
}

fn is_gap(kind: &EntryKind) -> bool {
    *kind == EntryKind::Gap
}

fn is_tick(kind: &EntryKind) -> bool {
    *kind == EntryKind::Tick
}

#[test]
fn two_that_stood_still_tell_their_service_for_how_long_before_it_is_woken() {
    let mut pair = to_be_woken();
    stand_still(&mut pair, HOUR);
    for place in [A, B] {
        let entries = pair.node(place).disk.entries.clone();
        let at = find(&entries, is_gap);
        let gap = entries[at].time.since(entries[at - 1].time);
        assert!(gap >= HOUR - MS * 50 && gap <= HOUR + MS * 50, "{gap:?}");
        assert_eq!(count(&mut pair, place, is_gap), 1);
        assert_eq!(find(&entries, is_tick) + 1, at, "up to there it ran");
        assert_eq!(count(&mut pair, place, is_tick), 1, "it is woken by the gap's own entry");
    }
    let gaps = |event: &&Event| matches!(event, Event::Gap { gap, .. } if *gap >= HOUR - MS * 50);
    assert_eq!(pair.node(A).events.iter().filter(gaps).count(), 1);
}

#[test]
fn what_is_late_by_less_than_the_bound_is_only_late() {
    let mut pair = to_be_woken();
    stand_still(&mut pair, limits::GAP_LEAST - MS * 500);
    assert_eq!((count(&mut pair, A, is_gap), count(&mut pair, A, is_tick)), (0, 1));
}

#[test]
fn one_that_was_not_to_be_woken_is_told_before_the_next_input() {
    let mut pair = Pair::formed();
    stand_still(&mut pair, HOUR);
    assert_eq!(count(&mut pair, A, is_gap), 0, "there is nothing to tell it for");
    pair.device_input(A, "after");
    pair.run(MS * 20);
    assert_eq!(count(&mut pair, A, is_gap), 1);
}

#[test]
fn what_comes_in_after_a_gap_comes_behind_it() {
    let mut pair = to_be_woken();
    ReplicaId::BOTH.into_iter().for_each(|place| pair.pause(place, true));
    pair.now += HOUR;
    ReplicaId::BOTH.into_iter().for_each(|place| pair.pause(place, false));
    pair.device_input(A, "after");
    pair.run(MS * 200);
    let entries = pair.node(B).disk.entries.clone();
    let gap = find(&entries, is_gap);
    assert!(matches!(entries[gap + 1].kind.inputs(), [InputKind::Device { .. }]));
    assert!(entries[gap + 1].time > entries[gap].time);
}

/// Its wall clock was ahead then, and is right when it takes the log up.
#[test]
fn a_process_that_stood_still_before_it_took_the_log_up_makes_no_gap_of_it() {
    let mut pair = an_hour_later();
    pair.witness_mute = true;
    pair.wall_ahead[0] = 2 * HOUR;
    pair.restart(A);
    pair.run(MS * 20);
    pair.pause(A, true);
    pair.now += HOUR;
    pair.wall_ahead[0] = core::time::Duration::ZERO;
    pair.pause(A, false);
    pair.witness_mute = false;
    pair.run_until(A, |event| matches!(event, Event::TakenUp { .. }));
    pair.run(MS * 20);
    pair.device_input(A, "first");
    pair.run(MS * 20);
    assert_eq!(count(&mut pair, A, is_gap), 0);
}

/// Nobody orders while it is not known who may: the sequencer is gone, and so is the witness.
#[test]
fn who_may_go_on_only_after_long_begins_its_epoch_where_the_gap_begins() {
    let mut pair = to_be_woken();
    pair.kill(A);
    pair.connect_witness(false);
    pair.run(MS * 2000 + limits::GAP_LEAST);
    assert_eq!(count(&mut pair, B, is_gap), 0);
    pair.connect_witness(true);
    pair.run(MS * 500);
    let entries = pair.node(B).disk.entries.clone();
    let (gap, epoch) = (find(&entries, is_gap), &entries[find(&entries, is_gap) - 1]);
    assert_eq!(epoch.kind.begins().map(|record| record.origin), Some(Origin::Alone));
    assert!(
        epoch.time.since(entries[gap - 2].time) < MS,
        "no time passes before the service knows"
    );
    assert!(entries[gap].time.since(epoch.time) >= limits::GAP_LEAST);
    assert_eq!(count(&mut pair, B, is_gap), 1);
    assert!(!pair.node(B).saw(|event| matches!(event, Event::ClockStrays { .. })), "it is right");
}

/// Nobody may order, and then the one that could does not even run.
#[test]
fn one_that_could_not_order_and_then_stood_still_has_one_gap_from_the_entry_before() {
    let mut pair = to_be_woken();
    pair.kill(A);
    pair.connect_witness(false);
    pair.run(MS * 2000 + limits::GAP_LEAST);
    pair.pause(B, true);
    pair.now += HOUR;
    pair.pause(B, false);
    pair.connect_witness(true);
    pair.run(MS * 500);
    let entries = pair.node(B).disk.entries.clone();
    let gap = find(&entries, is_gap);
    let [before, epoch] = [&entries[gap - 2], &entries[gap - 1]];
    assert_eq!(epoch.kind.begins().map(|record| record.origin), Some(Origin::Alone));
    assert!(epoch.time.since(before.time) < MS, "no time passes before the service knows");
    assert!(entries[gap].time.since(epoch.time) >= HOUR + limits::GAP_LEAST);
    assert_eq!(count(&mut pair, B, is_gap), 1);
}

/// A deadline of five minutes that was nearly over is not over after a stop of five minutes.
#[test]
fn one_that_did_not_run_for_long_says_so_whenever_its_service_was_to_be_woken() {
    let mut pair = to_be_woken();
    stand_still(&mut pair, limits::GAP_LEAST + MS * 500);
    assert_eq!((count(&mut pair, B, is_gap), count(&mut pair, B, is_tick)), (1, 1));
}

/// The one that orders after a stop of both is not the one that ordered before it.
#[test]
fn a_follower_that_stood_still_and_takes_over_says_so() {
    let mut pair = to_be_woken();
    ReplicaId::BOTH.into_iter().for_each(|place| pair.pause(place, true));
    pair.now += limits::GAP_LEAST + MS * 500;
    pair.kill(A);
    pair.pause(B, false);
    pair.run(MS * 800);
    let entries = pair.node(B).disk.entries.clone();
    let (gap, epoch) = (find(&entries, is_gap), &entries[find(&entries, is_gap) - 1]);
    assert_eq!(epoch.kind.begins().map(|record| record.origin), Some(Origin::Alone));
    assert!(entries[gap].time.since(epoch.time) >= limits::GAP_LEAST);
}

/// What was idle is not a gap: nothing was ordered because nothing was to be done.
#[test]
fn a_gap_is_no_longer_than_the_stop() {
    let mut pair = to_be_woken();
    let due = super::pair::time(pair.now + HOUR).wall;
    ReplicaId::BOTH.into_iter().for_each(|place| pair.node(place).wakes = Some(due));
    pair.device_input(A, "wakes later");
    pair.run(MS * 3000);
    stand_still(&mut pair, limits::GAP_LEAST * 2);
    pair.device_input(A, "after");
    pair.run(MS * 50);
    let entries = pair.node(B).disk.entries.clone();
    let at = find(&entries, is_gap);
    let gap = entries[at].time.since(entries[at - 1].time);
    assert!(gap < limits::GAP_LEAST * 2 + MS * 500, "{gap:?}");
}

/// Between a resume entry and its ready entry wake-ups are held, and nobody knows of any.
#[test]
fn one_that_stood_still_before_its_devices_stood_has_another_gap_before_it_says_that_they_do() {
    let mut pair = an_hour_later();
    pair.node(A).devices_stand = false;
    pair.restart(A);
    pair.run(config(A).meeting + MS * 200);
    pair.pause(A, true);
    pair.now += HOUR;
    pair.node(A).devices_stand = true;
    pair.pause(A, false);
    pair.run(MS * 200);
    let entries = pair.node(A).disk.entries.clone();
    assert_eq!(find(&entries, is_gap) + 1, find(&entries, is_ready));
}
