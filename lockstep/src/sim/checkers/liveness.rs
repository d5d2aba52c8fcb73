//! After the faults end, service resumes within a bounded time, by two members together.

use super::{Bounds, End, Observation, ObservedState, View, Who};
use crate::event::StopCause;
use crate::ids::ReplicaId;
use crate::record::{Origin, Record};

/// Looks at the end of the run.
#[derive(Debug)]
pub(super) struct Liveness;

/// Why no process can go on. This is no failure, but counted, so that it shows how many runs
/// end so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impossible {
    /// No disk has what the last members had: only an operator can begin anew.
    StateLost,
    /// The service has panicked on both sides.
    Panicked,
}

impl Impossible {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StateLost => "state-lost",
            Self::Panicked => "panicked",
        }
    }
}

impl Liveness {
    /// There is nothing to remember.
    pub(super) fn new(_: &Bounds) -> Self {
        Self
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        if let Observation::Stopped { who, cause } = *seen {
            return has_reason(who, cause);
        }
        let Observation::Over { end } = *seen else { return Ok(()) };
        if impossible(observed).is_some() {
            return Ok(());
        }
        let End { answered, waiting, devices_lost } = *end;
        if waiting != 0 || answered == 0 {
            return Err(format!(
                "service has not resumed: {answered} requests were answered since the faults \
                 ended, {waiting} wait"
            ));
        }
        if !observed.is_duplex() {
            return Err("the pair is not duplex again".into());
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

/// Why no process can go on, if so.
pub fn impossible(observed: &ObservedState) -> Option<Impossible> {
    let record = observed.latest()?;
    if record.origin == Origin::Vacant {
        return None;
    }
    if observed.views().any(|(_, view)| view.panicked.is_some() && is_agreed_panic(observed, view))
    {
        return Some(Impossible::Panicked);
    }
    // Of one that never began there is nothing to lose: it is enrolled again.
    let lost = forsaken(observed)
        && !is_unaware(observed)
        && !ReplicaId::BOTH.iter().any(|place| observed.has_everything(*place));
    lost.then_some(Impossible::StateLost)
}

/// Whether no process can go on unless an operator begins a new lineage (rule J8).
pub fn forsaken(observed: &ObservedState) -> bool {
    let Some(record) = observed.latest() else { return false };
    let mut members = observed.members();
    let is_granted_nothing = !observed.is_enrolled();
    // A move that was under way leaves it open which witness counts (W2).
    let is_open = observed.enrolled().ordered().any(|ordered| ordered.record.renews(record));
    match (members.next(), members.next()) {
        // A witness that has forgotten the pair grants it nothing until a healthy pair tells it
        // what it is. One of two members without the other does not count, nor does a process that
        // was never told.
        (Some((who, view)), None) => {
            let can_tell = !record.members.is_duplex() && view.record == Some(*record);
            (is_granted_nothing && !can_tell)
                || (is_open && record.members.is_duplex())
                || is_left_in_doubt(observed, who, view)
        }
        // Nor of two that differ, or that have not heard yet that they are a pair.
        (Some(_), Some(_)) => {
            is_granted_nothing && (at_odds(observed).is_some() || is_unaware(observed))
        }
        // A process that was started anew can take a place only by what its disk says.
        (None, _) => {
            let keeps = |place: &ReplicaId| {
                record.members.at(*place).is_some()
                    && observed.remembered(*place).record.is_some()
                    && !is_in_doubt(observed, record, *place)
            };
            is_granted_nothing || is_open || !ReplicaId::BOTH.iter().any(keeps)
        }
    }
}

/// Whether the process at this place asks neither witness (rule W2). That is so if the pair has
/// moved, or was to move, this disk does not say what came of it, and the other disk, which would,
/// is lost.
fn is_in_doubt(observed: &ObservedState, record: &Record, place: ReplicaId) -> bool {
    let Some(follows) = observed.remembered(place).record else { return false };
    let has_moved = record.members.is_duplex() && record.renews(&follows);
    let was_to_move =
        || observed.enrolled().ordered().any(|ordered| ordered.record.renews(&follows));
    (has_moved || was_to_move()) && observed.remembered(place.other()).record.is_none()
}

/// Whether this member, which follows a record of both, has ordered a move of which nobody can tell it
/// whether the other had it: that one's process and disk are gone (rule W2). What the witness has
/// recorded since, as that the other left, it does not ask.
fn is_left_in_doubt(observed: &ObservedState, who: Who, view: &View) -> bool {
    let Some(follows) = view.record.filter(|record| record.members.is_duplex()) else {
        return false;
    };
    let there = who.place.other();
    let is_gone = !observed.views().any(|(who, view)| {
        who.place == there && view.is_alive && follows.members.has(there, who.incarnation)
    });
    let moves = observed.enrolled().ordered().any(|ordered| ordered.record.renews(&follows));
    moves && is_gone && observed.remembered(there).record.is_none()
}

/// Whether no process knows by its own word of what the witness had recorded last.
pub fn is_unaware(observed: &ObservedState) -> bool {
    observed.views().all(|(_, view)| view.record.is_none())
}

/// Both panicked at this entry: nobody can get past it.
fn is_agreed_panic(observed: &ObservedState, view: &View) -> bool {
    let at = view.panicked_at();
    let both = |place: ReplicaId| {
        observed.views().any(|(who, other)| who.place == place && other.panicked_at() == at)
    };
    ReplicaId::BOTH.into_iter().all(both)
}

/// The members that hold because they computed different things, if there are two of them, and
/// whether each panicked. An operator has to stop one where the policy leaves it to operators, or
/// where both panicked at different entries.
pub fn at_odds(observed: &ObservedState) -> Option<[(Who, bool); 2]> {
    let members: Vec<(Who, &View)> = observed.members().collect();
    let [(one, first), (two, second)] = members[..] else { return None };
    let panicked = [first, second].map(|view| view.panicked.is_some());
    // At one entry that is agreement, and nobody can get past it.
    let [one_at, two_at] = [first, second].map(View::panicked_at);
    let agreed = one_at.is_some() && one_at == two_at;
    let differ = first.diverged || second.diverged || one_at != two_at;
    (differ && !agreed).then_some([(one, panicked[0]), (two, panicked[1])])
}

/// A member that cannot go on, and is left alone with that: it panicked or diverged, and the
/// other is gone. An operator has to stop it.
pub fn stuck(observed: &ObservedState) -> Option<Who> {
    let mut members = observed.members();
    let (who, view) = members.next()?;
    let is_hindered = view.panicked.is_some() || view.diverged;
    (members.next().is_none() && is_hindered).then_some(who)
}
