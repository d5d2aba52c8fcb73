//! Whether a history is one that a single, never failing register service could have given.
//!
//! Every register and every queue is checked for itself: a history is linearizable if and only if
//! each of its objects' histories is (Herlihy and Wing, 1990). `search` looks for an order of the
//! calls that explains all answers. `once` asks less, but of histories of any size and with a
//! clearer complaint. Nothing may be taken out twice or without having been put in, and no more may
//! be added than was asked for.

mod model;
mod once;
mod search;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::Call;
use crate::ops::{Answer, Op};
use model::Object;
use search::Verdict;

/// Looked at for one object before its check is given up. A history of a thousand calls by ten
/// clients takes a few thousand.
pub const STATES: usize = 2_000_000;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Calls in the history.
    pub calls: usize,
    /// Calls without an answer.
    pub unanswered: usize,
    /// Answered calls that were refused for a limit.
    pub refused: usize,
    /// Registers and queues in it.
    pub objects: usize,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// Objects whose check was given up: too many orders are possible.
    pub undecided: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The object that is wrong: `register r0`, `queue q1`, `log time`.
    pub object: String,
    /// What is wrong with the object.
    pub what: String,
    /// The calls that show it, as far as they can be named.
    pub calls: Vec<Call>,
}

impl Report {
    /// Whether everything was checked and nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty()
    }
}

/// Checks a history. At most `states` states are looked at for each object.
pub fn check(calls: &[Call], states: usize) -> Report {
    let mut report = Report { calls: calls.len(), ..Report::default() };
    report.unanswered = calls.iter().filter(|call| call.to.is_none()).count();
    let refused = |call: &&Call| matches!(call.answer, Some(Answer::Refused(_)));
    report.refused = calls.iter().filter(refused).count();
    report.violations.extend(once::log_time(calls));
    let mut objects: BTreeMap<Object, Vec<&Call>> = BTreeMap::new();
    // What queues get by reminders is no call of its own: such queues are not checked.
    let mut reminded = Vec::new();
    for call in calls {
        if let Op::Remind { queue, .. } = &call.op {
            reminded.push(Object::Queue(queue.clone()));
        } else if let Some(object) = Object::of(&call.op) {
            objects.entry(object).or_default().push(call);
        }
    }
    reminded.iter().for_each(|queue| drop(objects.remove(queue)));
    report.objects = objects.len();
    for (object, calls) in &objects {
        check_object(object, calls, states, &mut report);
    }
    report
}

fn check_object(object: &Object, calls: &[&Call], states: usize, report: &mut Report) {
    let plain = once::object(object, calls);
    if !plain.is_empty() {
        report.violations.extend(plain);
        return;
    }
    match search::search(object, calls, states) {
        Verdict::Linearizable => {}
        Verdict::GivenUp => report.undecided.push(object.to_string()),
        Verdict::Not { stuck } => report.violations.push(Violation {
            object: object.to_string(),
            what: "no order of the calls explains the answers; the furthest that one comes, \
                   these are next and none of them fits"
                .into(),
            calls: stuck,
        }),
    }
}

#[cfg(test)]
mod tests;
