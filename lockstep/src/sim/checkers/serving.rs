//! An acknowledged request is in every state that ever serves again.

use super::{Bounds, Observation, ObservedState, Who};
use crate::proto::io::Standing;

/// The requests that clients have an answer to.
#[derive(Debug)]
pub(super) struct Serving {
    ids: Vec<u64>,
}

impl Serving {
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
                Ok(())
            }
            Observation::Standing { who, standing: Standing::Serving { .. } } => {
                self.has_all(who, observed)
            }
            _ => Ok(()),
        }
    }

    fn has_all(&self, who: Who, observed: &ObservedState) -> Result<(), String> {
        let Some(view) = observed.view(who) else { return Ok(()) };
        // One that was removed and does not know it yet is another checker's matter.
        if !observed.members().any(|(member, _)| member == who) {
            return Ok(());
        }
        match self.ids.iter().find(|id| view.effect(**id).is_none()) {
            Some(id) => {
                Err(format!("{who} serves without request {id:#x}, which was acknowledged"))
            }
            None => Ok(()),
        }
    }
}
