//! Logs, outputs and states agree where both replicas have them.

use std::collections::BTreeMap;

use super::{Bounds, Observation, ObservedState, Who};
use crate::digest::Digest;
use crate::ids::{Epoch, Index, Lineage, ReplicaId};

/// What was seen first under each name.
#[derive(Debug)]
pub(super) struct Agreement {
    entries: BTreeMap<(Lineage, Epoch, Index), (Who, Digest)>,
    executed: BTreeMap<(Digest, Index), (Who, Digest)>,
    states: BTreeMap<(Digest, Index), (Who, Digest)>,
}

impl Agreement {
    /// Nothing was seen yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self { entries: BTreeMap::new(), executed: BTreeMap::new(), states: BTreeMap::new() }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Appended { who, entry } => {
                let Some(view) = observed.view(who) else { return Ok(()) };
                if view.held() != entry.index {
                    return Err(format!(
                        "{who} appends entry {} as its {}",
                        entry.index,
                        view.held()
                    ));
                }
                let log_digest = view.chain(entry.index).unwrap_or_default();
                let name = (view.lineage, entry.epoch, entry.index);
                same(
                    "entry",
                    who,
                    log_digest,
                    self.entries.entry(name).or_insert((who, log_digest)),
                )
                .map_err(|what| format!("{what}: {} of epoch {}", entry.index, entry.epoch))
            }
            // What a fault strikes inside a service is the replicas' own matter to notice.
            _ if ReplicaId::BOTH.iter().any(|place| observed.is_spoiled(*place)) => Ok(()),
            Observation::Executed { who, executed } => {
                let index = executed.index;
                let Some(log_digest) = observed.view(who).and_then(|view| view.chain(index)) else {
                    return Err(format!("{who} executes entry {index}, which it does not hold"));
                };
                let first =
                    self.executed.entry((log_digest, index)).or_insert((who, executed.digest));
                same("result", who, executed.digest, first)
                    .map_err(|what| format!("{what} of entry {index}"))
            }
            Observation::State { who, index, digest } => {
                let log_digest = observed.view(who).and_then(|view| view.chain(index));
                let name = (log_digest.unwrap_or_default(), index);
                same("state", who, digest, self.states.entry(name).or_insert((who, digest)))
                    .map_err(|what| format!("{what} after entry {index}"))
            }
            _ => Ok(()),
        }
    }
}

fn same(what: &str, who: Who, digest: Digest, first: &(Who, Digest)) -> Result<(), String> {
    if digest == first.1 {
        return Ok(());
    }
    Err(format!("{who} has another {what} than {}", first.0))
}
