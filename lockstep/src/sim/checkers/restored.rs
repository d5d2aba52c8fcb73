//! A state that is restored is one that there was: the same entries, the same results.

use super::{Bounds, Observation, ObservedState};

/// Compares with the books.
#[derive(Debug)]
pub(super) struct Restored;

impl Restored {
    /// The rule needs no memory of its own.
    pub(super) fn new(_: &Bounds) -> Self {
        Self
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        let Observation::Restored { who, recovered } = *seen else { return Ok(()) };
        let index = recovered.history.index;
        // What a fault strikes inside a replay, the member that is joined notices.
        if !observed.is_spoiled(who.place)
            && !observed.is_known(index, recovered.history.log_digest, recovered.outputs)
        {
            return Err(format!("{who} restores a state at entry {index} that nobody ever had"));
        }
        Ok(())
    }
}
