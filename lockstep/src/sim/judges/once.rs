//! None takes effect twice: every effect leaves a note with its cause's id.

use std::collections::BTreeMap;

use super::{Bounds, Ground, Seen, Who};
use crate::output::OutputKind;
use crate::sim::judges::OutputName;
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

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, _: &Ground) -> Result<(), String> {
        let Seen::Executed { who, executed } = *seen else { return Ok(()) };
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
}
