//! A linearizability checker that knows nothing of the log: searches for an order.
//!
//! The algorithm of Wing and Gong (1993) with the memory of Lowe (2017): take any call that no
//! other call has to precede, apply it, go on. The sets of calls and states that led nowhere are
//! remembered. Calls of one session take effect in the order in which they were made, which keeps
//! the search small.

use std::collections::BTreeSet;

use super::model::Objects;
use crate::sim::ops::{Answer, Op};

/// One call on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// In which session.
    pub session: usize,
    /// What was asked.
    pub op: Op,
    /// When it was made.
    pub from: u64,
    /// When it was answered, and what; `None` if it was not: then it may or may not have
    /// taken effect.
    pub to: Option<(u64, Answer)>,
}

/// Whether some order explains all answers; `None` if more than `most` states would have to be
/// looked at.
pub(super) fn is_linearizable(calls: &[Call], most: usize) -> Option<bool> {
    let sessions: BTreeSet<usize> = calls.iter().map(|call| call.session).collect();
    let lanes: Vec<Vec<Call>> = sessions
        .into_iter()
        .map(|session| calls.iter().copied().filter(|call| call.session == session).collect())
        .collect();
    let mut seen = BTreeSet::new();
    let mut open = vec![(vec![0; lanes.len()], Objects::default())];
    while let Some((taken, objects)) = open.pop() {
        if is_explained(&lanes, &taken) {
            return Some(true);
        }
        if seen.len() > most {
            return None;
        }
        if !seen.insert((taken.clone(), objects.clone())) {
            continue;
        }
        let deadline = earliest_end(&lanes, &taken);
        for at in 0..lanes.len() {
            let Some(call) = lanes[at].get(taken[at]) else { continue };
            if call.from > deadline {
                continue;
            }
            let mut after = objects.clone();
            let answer = after.apply(call.op);
            if call.to.is_some_and(|(_, given)| answer.is_some_and(|answer| answer != given)) {
                continue;
            }
            let mut taken = taken.clone();
            taken[at] += 1;
            if call.to.is_none() {
                open.push((taken.clone(), objects.clone()));
            }
            open.push((taken, after));
        }
    }
    Some(false)
}

/// Whether only calls without an answer are left.
fn is_explained(lanes: &[Vec<Call>], taken: &[usize]) -> bool {
    lanes.iter().zip(taken).all(|(lane, taken)| lane[*taken..].iter().all(|c| c.to.is_none()))
}

/// When the first of the calls that are left was answered: what began later comes later.
fn earliest_end(lanes: &[Vec<Call>], taken: &[usize]) -> u64 {
    let left = lanes.iter().zip(taken).flat_map(|(lane, taken)| &lane[*taken..]);
    left.filter_map(|call| call.to.map(|(at, _)| at)).min().unwrap_or(u64::MAX)
}
