//! None takes effect twice: every effect leaves a note with its cause's id.

use std::collections::BTreeMap;

use super::{Bounds, Observation, ObservedState, View, Who};
use crate::digest::Digest;
use crate::ids::Index;
use crate::output::OutputKind;
use crate::sim::checkers::OutputName;
use crate::sim::service::LEDGER;

/// The notes that each replica's service left.
#[derive(Debug)]
pub(super) struct Once {
    notes: BTreeMap<(Who, u64), OutputName>,
}

impl Once {
    /// No effects yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self { notes: BTreeMap::new() }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        if let Observation::Restored { who, recovered } = *seen {
            let (index, log_digest) = (recovered.history.index, recovered.history.log_digest);
            self.restore(who, observed, index, log_digest);
        }
        if let Observation::Truncated { who, after } = *seen {
            self.notes.retain(|(owner, _), name| *owner != who || name.index <= after);
        }
        let Observation::Executed { who, executed } = *seen else { return Ok(()) };
        for output in &executed.outputs {
            let OutputKind::Device { device: LEDGER, bytes, .. } = &output.kind else { continue };
            let Some(id) = bytes.first_chunk().map(|id| u64::from_le_bytes(*id)) else { continue };
            let name =
                OutputName { index: executed.index, step: output.step, ordinal: output.ordinal };
            if let Some(first) = self.notes.insert((who, id), name) {
                return Err(format!("{id:#x} took effect on {who} at {first} and again at {name}"));
            }
        }
        Ok(())
    }

    /// The effects up to an entry are part of the state that was restored.
    fn restore(&mut self, who: Who, observed: &ObservedState, index: Index, log_digest: Digest) {
        let same = |(_, view): &(Who, &View)| {
            view.chain(index) == Some(log_digest) && view.outputs_at(index).is_some()
        };
        let sources = observed.views().filter(|(source, _)| *source != who);
        let source = sources.into_iter().find(same).map_or(who, |(source, _)| source);
        let early: Vec<(u64, OutputName)> = self
            .notes
            .range((source, 0)..=(source, u64::MAX))
            .filter(|(_, name)| name.index <= index)
            .map(|((_, id), name)| (*id, *name))
            .collect();
        self.notes.retain(|(owner, _), _| *owner != who);
        self.notes.extend(early.into_iter().map(|(id, name)| ((who, id), name)));
    }
}
