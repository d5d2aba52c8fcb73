//! No process takes a predecessor's place unless its disk has everything that the predecessor had.

use super::{Bounds, Observation, ObservedState, Who};
use crate::record::{Origin, Record};

/// Looks at every grant to a process that was started anew.
#[derive(Debug)]
pub(super) struct Claims {
    acknowledged: Vec<u64>,
}

impl Claims {
    /// Nothing was acknowledged yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self { acknowledged: Vec::new() }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Completed { id, .. } => self.acknowledged.push(id),
            Observation::Recorded { record, .. }
                if record.origin == Origin::Restarted && observed.latest() == Some(record) =>
            {
                return self.may_claim(record, observed);
            }
            _ => {}
        }
        Ok(())
    }

    fn may_claim(&self, record: &Record, observed: &ObservedState) -> Result<(), String> {
        let place = record.asker;
        let Some(incarnation) = record.members.at(place) else { return Ok(()) };
        let who = Who { place, incarnation };
        // A process that died meanwhile acts no more, whatever became of its disk.
        let Some(view) = observed.view(who).filter(|view| view.is_alive) else { return Ok(()) };
        let remembered = observed.remembered(place);
        let Some(before) = observed.enrolled().before(record) else { return Ok(()) };
        let known = remembered.record.iter().chain(&remembered.asked);
        let is_ours =
            |known: &Record| before == known || before.renews(known) || before.leaves(known);
        // Of a pair that was formed without its hearing it nothing went out without it, whether the
        // other left since or not.
        let was_member =
            |known: &Record| remembered.record.is_some() || known.origin == Origin::Formed;
        if !known.into_iter().any(|known| is_ours(known) && was_member(known)) {
            return Err(format!(
                "{who} takes a place in epoch {}, of which its disk does not say that it had it",
                before.epoch
            ));
        }
        match self.acknowledged.iter().find(|id| view.effect(**id).is_none()) {
            Some(id) => Err(format!("{who} takes its predecessor's place without request {id:#x}")),
            None => Ok(()),
        }
    }
}
