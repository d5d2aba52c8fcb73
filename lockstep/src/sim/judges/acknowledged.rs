//! No acknowledged request is lost: whoever may go on has it in its log.

use super::{Bounds, Ground, Seen};

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

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, ground: &Ground) -> Result<(), String> {
        match *seen {
            Seen::Completed { id, .. } => {
                self.ids.push(id);
                check(&[id], ground)
            }
            // Whoever is a member now is so with everything that was acknowledged before.
            Seen::Recorded { .. } | Seen::Over { .. } => check(&self.ids, ground),
            _ => Ok(()),
        }
    }
}

fn check(ids: &[u64], ground: &Ground) -> Result<(), String> {
    for (who, view) in ground.members() {
        if let Some(id) = ids.iter().find(|id| view.effect(**id).is_none()) {
            return Err(format!("request {id:#x} was acknowledged, but {who} does not hold it"));
        }
    }
    Ok(())
}
