//! Nobody takes a predecessor's place unless its disk has everything that the predecessor had.

use super::{Bounds, Ground, Seen, Who};
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

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, ground: &Ground) -> Result<(), String> {
        match *seen {
            Seen::Completed { id, .. } => self.acknowledged.push(id),
            Seen::Recorded { record, .. }
                if record.origin == Origin::Restarted && ground.latest() == Some(record) =>
            {
                return self.may_claim(record, ground);
            }
            _ => {}
        }
        Ok(())
    }

    fn may_claim(&self, record: &Record, ground: &Ground) -> Result<(), String> {
        let place = record.asker;
        let Some(incarnation) = record.members.at(place) else { return Ok(()) };
        let who = Who { place, incarnation };
        // One that died meanwhile acts no more, whatever became of its disk.
        let Some(view) = ground.view(who).filter(|view| view.is_alive) else { return Ok(()) };
        let remembered = ground.remembered(place);
        let Some(before) = ground.enrolled().before(record) else { return Ok(()) };
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
