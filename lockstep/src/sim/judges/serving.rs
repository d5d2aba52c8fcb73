//! An acknowledged request is in every state that ever serves again.

use super::{Bounds, Ground, Seen, Who};
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

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, ground: &Ground) -> Result<(), String> {
        match *seen {
            Seen::Completed { id, .. } => {
                self.ids.push(id);
                Ok(())
            }
            Seen::Standing { who, standing: Standing::Serving { .. } } => self.has_all(who, ground),
            _ => Ok(()),
        }
    }

    fn has_all(&self, who: Who, ground: &Ground) -> Result<(), String> {
        let Some(view) = ground.view(who) else { return Ok(()) };
        // One that was removed and does not know it yet is another judge's matter.
        if !ground.members().any(|(member, _)| member == who) {
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
