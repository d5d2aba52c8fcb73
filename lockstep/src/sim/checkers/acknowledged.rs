//! No acknowledged request is lost: a replica that may go on has it in its log.

use super::{Bounds, Observation, ObservedState};

/// The requests that clients have an answer to.
#[derive(Debug)]
pub(super) struct Acknowledged {
    ids: Vec<u64>,
}

impl Acknowledged {
    /// Nothing was acknowledged yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self { ids: Vec::new() }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Completed { id, .. } => {
                self.ids.push(id);
                check(&[id], observed)
            }
            // A process that is a member now is so with everything that was acknowledged before.
            Observation::Recorded { .. } | Observation::Over { .. } => check(&self.ids, observed),
            _ => Ok(()),
        }
    }
}

fn check(ids: &[u64], observed: &ObservedState) -> Result<(), String> {
    for (who, view) in observed.members() {
        if let Some(id) = ids.iter().find(|id| view.effect(**id).is_none()) {
            return Err(format!("request {id:#x} was acknowledged, but {who} does not hold it"));
        }
    }
    Ok(())
}
