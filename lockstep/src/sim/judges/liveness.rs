//! After the faults end, service resumes within a bounded time, wherever that is possible.

use super::{Bounds, End, Ground, Seen, View, Who};
use crate::event::StopCause;
use crate::ids::Place;
use crate::record::Origin;

/// Looks at the end of the run.
#[derive(Debug)]
pub(super) struct Liveness;

/// Why nobody can go on: not a failure, but counted, so that it shows how many runs end so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impossible {
    /// Every member by the witness's record has ended: with durability `memory` the state is
    /// gone.
    MembersGone,
    /// The service of every member left has panicked, and no other side may decide.
    Panicked,
    /// The policy leaves a divergence to operators, and one side ended without an operator's
    /// word.
    Undecided,
    /// A member ended before the pair had been formed, and did not start again.
    NeverFormed,
}

impl Impossible {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MembersGone => "members-gone",
            Self::Panicked => "panicked",
            Self::Undecided => "undecided",
            Self::NeverFormed => "never-formed",
        }
    }
}

impl Liveness {
    /// There is nothing to remember.
    pub(super) fn new(_: &Bounds) -> Self {
        Self
    }

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, ground: &Ground) -> Result<(), String> {
        if let Seen::Stopped { who, cause } = *seen {
            return has_reason(who, cause);
        }
        let Seen::Over { end } = *seen else { return Ok(()) };
        let record = ground.latest();
        let member = |who: &Who| record.is_some_and(|r| r.members.has(who.place, who.incarnation));
        if let Some((who, _)) = ground.views().find(|(who, view)| view.gave_up && member(who)) {
            return Err(format!("{who} has stopped by itself, although it is a member"));
        }
        if impossible(ground).is_some() {
            return Ok(());
        }
        let End { answered, waiting, devices_lost } = *end;
        if waiting != 0 || answered == 0 {
            return Err(format!(
                "service has not resumed: {answered} requests were answered since the faults \
                 ended, {waiting} wait"
            ));
        }
        if devices_lost != 0 {
            return Err(format!("{devices_lost} inputs of devices were taken and never executed"));
        }
        Ok(())
    }
}

/// Memory is never damaged here, and everyone runs the same.
fn has_reason(who: Who, cause: &StopCause) -> Result<(), String> {
    match cause {
        StopCause::Corrupted | StopCause::Incompatible { .. } => {
            Err(format!("{who} stops without a reason: {cause}"))
        }
        _ => Ok(()),
    }
}

/// Why nobody can go on, if so.
pub fn impossible(ground: &Ground) -> Option<Impossible> {
    let record = ground.latest()?;
    if record.origin == Origin::Vacant {
        let fresh = |place: Place| {
            ground.views().any(|(who, view)| who.place == place && view.is_alive && !view.is_out)
        };
        return (!Place::BOTH.into_iter().all(fresh)).then_some(Impossible::NeverFormed);
    }
    let members: Vec<(Who, &View)> = ground.members().collect();
    if members.is_empty() {
        return Some(Impossible::MembersGone);
    }
    if members.iter().all(|(_, view)| view.panicked.is_some()) {
        return Some(Impossible::Panicked);
    }
    let left = members.len() == 1 && record.members.is_duplex() && members[0].1.diverged;
    (left && ground.holds_when_diverged() && !ground.was_stopped()).then_some(Impossible::Undecided)
}

/// The members that hold because they computed different things, if there are two of them: an
/// operator has to stop one, where the policy leaves it to operators.
pub fn at_odds(ground: &Ground) -> Option<[(Who, bool); 2]> {
    let members: Vec<(Who, &View)> = ground.members().collect();
    let [(one, first), (two, second)] = members[..] else { return None };
    let panicked = [first, second].map(|view| view.panicked.is_some());
    let differ = first.diverged || second.diverged || panicked[0] != panicked[1];
    (differ && panicked != [true, true]).then_some([(one, panicked[0]), (two, panicked[1])])
}
