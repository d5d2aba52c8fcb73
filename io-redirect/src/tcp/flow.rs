//! How far the halves of a connection run ahead of each other: small pure parts, used by the
//! inside half, by the real outside half and by the simulated one.

use rkyv::{Archive, Deserialize, Serialize};

/// Counts what has been done and says when it is worth an input or an output of its own. To report
/// every write, or grant every byte, would double the entries of the log.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    due: u32,
    threshold: u32,
}

impl Tally {
    /// Counts bytes written, which the outside half reports. A quarter of the window: what stays
    /// unreported then never keeps the inside half from saying "writable" (at one half).
    pub(crate) fn of_writes(window: u32) -> Self {
        Self { due: 0, threshold: (window / 4).max(1) }
    }

    /// Counts bytes consumed, which the inside half grants. Half of the window: the outside half
    /// reads on while the grant is on its way.
    pub(crate) fn of_reads(window: u32) -> Self {
        Self { due: 0, threshold: (window / 2).max(1) }
    }

    /// This much more was done.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.due = self.due.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// What is to be said now, if it is worth it.
    pub(crate) fn take_if_due(&mut self) -> Option<u32> {
        (self.due >= self.threshold).then(|| self.take())
    }

    /// What is to be said, since something is said anyway.
    pub(crate) fn take(&mut self) -> u32 {
        core::mem::take(&mut self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_speaks_at_its_threshold_and_says_everything_once() {
        let mut tally = Tally::of_writes(400);
        tally.add(99);
        assert_eq!(tally.take_if_due(), None);
        tally.add(51);
        assert_eq!(tally.take_if_due(), Some(150));
        assert_eq!(tally.take(), 0);
    }
}
