//! What can be said without looking for an order.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::model::Object;
use crate::history::Call;
use crate::ops::{Answer, Op};

/// Log time as clients saw it never goes back: an answer that came before another request was
/// made has the earlier time.
pub(super) fn log_time(calls: &[Call]) -> Option<Violation> {
    let mut times: Vec<(&Call, u64, u64)> = Vec::new();
    for call in calls {
        if let (Some(to), Some(Answer::Time(at))) = (call.to, &call.answer) {
            times.push((call, to, *at));
        }
    }
    let mut by_request = times.clone();
    by_request.sort_by_key(|(call, ..)| call.from);
    times.sort_by_key(|(_, to, _)| *to);
    let mut ended = times.into_iter().peekable();
    let mut latest: Option<(&Call, u64)> = None;
    for (call, _, at) in by_request {
        while let Some((before, _, was)) = ended.next_if(|(_, to, _)| *to < call.from) {
            latest = latest.filter(|(_, most)| *most >= was).or(Some((before, was)));
        }
        if let Some((before, was)) = latest.filter(|(_, was)| *was > at) {
            return Some(Violation {
                object: "log time".into(),
                what: format!("it went back from {was} to {at}"),
                calls: vec![before.clone(), call.clone()],
            });
        }
    }
    None
}

/// Nothing comes out of a queue twice or from nowhere, and nothing is added twice.
pub(super) fn object(object: &Object, calls: &[&Call]) -> Vec<Violation> {
    match object {
        Object::Queue(_) => queue(object, calls),
        Object::Register(_) => counter(object, calls),
    }
}

fn queue(object: &Object, calls: &[&Call]) -> Vec<Violation> {
    let mut pushed: BTreeMap<&str, u64> = BTreeMap::new();
    for call in calls {
        if let (Op::Push { item, .. }, false) = (&call.op, is_refused(call)) {
            *pushed.entry(item).or_default() += 1;
        }
    }
    let mut violations = Vec::new();
    for call in calls {
        if let (Op::Pop { .. }, Some(Answer::Item(Some(item)))) = (&call.op, &call.answer) {
            match pushed.get_mut(item.as_str()) {
                Some(left) if *left > 0 => *left -= 1,
                Some(_) => violations.push(violation(object, calls, item, "was taken out twice")),
                None => violations.push(violation(object, calls, item, "was never put in")),
            }
        }
    }
    violations
}

fn violation(object: &Object, calls: &[&Call], item: &str, what: &str) -> Violation {
    let about = |call: &&&Call| match (&call.op, &call.answer) {
        (Op::Push { item: pushed, .. }, _) => pushed == item,
        (_, Some(Answer::Item(Some(taken)))) => taken == item,
        _ => false,
    };
    let calls = calls.iter().filter(about).map(|call| (*call).clone()).collect();
    Violation { object: object.to_string(), what: format!("{item:?} {what}"), calls }
}

/// Of a register that is only ever read and added to, by positive numbers: no value twice, and
/// none above the sum of all that was asked for.
fn counter(object: &Object, calls: &[&Call]) -> Vec<Violation> {
    let mut sum = 0i64;
    for call in calls {
        match &call.op {
            Op::Get { .. } => {}
            Op::Add { delta, .. } if *delta > 0 => sum = sum.saturating_add(*delta),
            _ => return Vec::new(),
        }
    }
    let mut seen = BTreeSet::new();
    let mut violations = Vec::new();
    for call in calls {
        let Some(Answer::Value(Some(value))) = call.answer else { continue };
        let again = matches!(call.op, Op::Add { .. }) && !seen.insert(value);
        let what = match (value > sum, again) {
            (true, _) => format!("it is {value}, but only {sum} was ever asked for"),
            (_, true) => format!("two additions made it {value}"),
            _ => continue,
        };
        let calls = vec![(*call).clone()];
        violations.push(Violation { object: object.to_string(), what, calls });
    }
    violations
}

fn is_refused(call: &Call) -> bool {
    matches!(call.answer, Some(Answer::Refused(_)))
}
