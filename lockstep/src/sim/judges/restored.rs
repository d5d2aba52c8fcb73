//! A state that is restored is one that there was: the same entries, the same results.

use super::{Bounds, Ground, Seen};

/// Compares with the books.
#[derive(Debug)]
pub(super) struct Restored;

impl Restored {
    /// The rule needs no memory of its own.
    pub(super) fn new(_: &Bounds) -> Self {
        Self
    }

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, ground: &Ground) -> Result<(), String> {
        let Seen::Restored { who, recovered } = *seen else { return Ok(()) };
        let index = recovered.history.index;
        // What a fault strikes inside a replay, the member that is joined notices.
        if !ground.is_spoiled(who.place)
            && !ground.is_known(index, recovered.history.chain, recovered.outputs)
        {
            return Err(format!("{who} restores a state at entry {index} that nobody ever had"));
        }
        Ok(())
    }
}
