//! The search for an order that explains all answers.
//!
//! The algorithm of Wing and Gong (1993) with the memory of Lowe (2017): take any call that no
//! other call has to precede, apply it, go on. The sets of calls taken that led nowhere are
//! remembered, with the state that they led to. Calls of one session take effect in the order of
//! their numbers, which makes a set of calls a position in each session.
//!
//! A call that may be next, whose answer fits, and that changes nothing is taken at once, and no
//! other order is tried. Wherever an order that explains all has it, it can be moved to here.

use std::collections::BTreeSet;

use super::model::{Object, State};
use crate::history::Call;

/// How a search ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none. The calls that are next where the longest attempt ends.
    Not { stuck: Vec<Call> },
    /// Too many states.
    GivenUp,
}

/// The calls of one session, in the order of their numbers.
struct Lane<'a> {
    calls: Vec<&'a Call>,
    /// At each, when the first of it and those after it was answered.
    ends: Vec<u64>,
}

/// A step back is possible to here.
struct Choice<'a> {
    /// How many calls of each session have been taken.
    taken: Vec<u32>,
    state: State<'a>,
    /// Sessions whose next call is still to be tried, the most promising last.
    open: Vec<usize>,
}

/// Searches, looking at no more than so many states.
pub(super) fn search(object: &Object, calls: &[&Call], most: usize) -> Verdict {
    let lanes = lanes(calls);
    let mut seen = BTreeSet::new();
    let mut furthest = (0, vec![0; lanes.len()]);
    let (mut start, state) = (vec![0; lanes.len()], object.start());
    take_free(&lanes, &mut start, &state);
    let mut path = vec![choice(&lanes, start, state)];
    while let Some(here) = path.last_mut() {
        if is_explained(&lanes, &here.taken) {
            return Verdict::Linearizable;
        }
        let Some(lane) = here.open.pop() else {
            path.pop();
            continue;
        };
        let call = lanes[lane].calls[here.taken[lane] as usize];
        let Some(state) = here.state.after(&call.op, call.answer.as_ref()) else { continue };
        let mut taken = here.taken.clone();
        taken[lane] += 1;
        take_free(&lanes, &mut taken, &state);
        if !seen.insert((taken.clone(), state.clone())) {
            continue;
        }
        if seen.len() > most {
            return Verdict::GivenUp;
        }
        let depth: u64 = taken.iter().copied().map(u64::from).sum();
        if depth > furthest.0 {
            furthest = (depth, taken.clone());
        }
        path.push(choice(&lanes, taken, state));
    }
    Verdict::Not { stuck: next_calls(&lanes, &furthest.1) }
}

fn lanes<'a>(calls: &[&'a Call]) -> Vec<Lane<'a>> {
    let mut sorted = calls.to_vec();
    sorted.sort_by_key(|call| (call.session, call.number));
    let sessions = sorted.chunk_by(|one, other| one.session == other.session);
    sessions.map(|calls| Lane { calls: calls.to_vec(), ends: ends(calls) }).collect()
}

fn ends(calls: &[&Call]) -> Vec<u64> {
    let mut first = u64::MAX;
    let mut ends = vec![first; calls.len()];
    for (end, call) in ends.iter_mut().zip(calls).rev() {
        first = first.min(call.to.unwrap_or(u64::MAX));
        *end = first;
    }
    ends
}

fn choice<'a>(lanes: &[Lane<'a>], taken: Vec<u32>, state: State<'a>) -> Choice<'a> {
    let mut open: Vec<(usize, &Call)> = possible(lanes, &taken).collect();
    // What was answered first probably took effect first; what was not answered may never have.
    open.sort_by_key(|(_, call)| std::cmp::Reverse(call.to.unwrap_or(u64::MAX)));
    let open = open.into_iter().map(|(lane, _)| lane).collect();
    Choice { taken, state, open }
}

/// The calls that no other has to precede, with their sessions.
fn possible<'a>(lanes: &[Lane<'a>], taken: &[u32]) -> impl Iterator<Item = (usize, &'a Call)> {
    let deadline = earliest_end(lanes, taken);
    let next = lanes.iter().zip(taken).map(|(lane, taken)| lane.calls.get(*taken as usize));
    let next = next.enumerate().filter_map(|(lane, call)| Some((lane, *call?)));
    next.filter(move |(_, call)| call.from <= deadline)
}

/// Takes what may be next and changes nothing.
fn take_free(lanes: &[Lane<'_>], taken: &mut [u32], state: &State<'_>) {
    let is_free = |call: &Call| {
        let after = state.after(&call.op, call.answer.as_ref());
        // Without an answer, a write of what is there already may have come later as well.
        (call.answer.is_some() || call.op.is_read()) && after.as_ref() == Some(state)
    };
    loop {
        let free = possible(lanes, taken).find(|(_, call)| is_free(call));
        let Some((lane, _)) = free else { return };
        taken[lane] += 1;
    }
}

/// Whether only calls without an answer are left.
fn is_explained(lanes: &[Lane<'_>], taken: &[u32]) -> bool {
    earliest_end(lanes, taken) == u64::MAX
}

/// When the first of the calls that are left was answered: what began later comes later.
fn earliest_end(lanes: &[Lane<'_>], taken: &[u32]) -> u64 {
    let ends = lanes.iter().zip(taken).filter_map(|(lane, taken)| lane.ends.get(*taken as usize));
    ends.copied().min().unwrap_or(u64::MAX)
}

fn next_calls(lanes: &[Lane<'_>], taken: &[u32]) -> Vec<Call> {
    let next = lanes.iter().zip(taken).filter_map(|(lane, taken)| lane.calls.get(*taken as usize));
    next.map(|call| (*call).clone()).collect()
}
