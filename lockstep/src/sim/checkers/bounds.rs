//! Queues stay within their bounds.

use std::collections::BTreeMap;

use super::{Bounds, Observation, ObservedState, Who};
use crate::entry::Entry;
use crate::limits;
use crate::proto::io::Status;

/// Room for entries that the pair adds by itself although the window is full.
const OWN: u64 = 16;

/// Compares with the limits.
#[derive(Debug)]
pub(super) struct BoundsJudge {
    window: u64,
    link_bytes: usize,
    /// How many inputs each process found after the state that it restored: more than a window
    /// where its replay broke off.
    found: BTreeMap<Who, u64>,
}

impl BoundsJudge {
    /// With the bounds of this run.
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { window: bounds.window, link_bytes: bounds.link_bytes, found: BTreeMap::new() }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Restored { who, recovered } => {
                self.found
                    .insert(who, recovered.tail.iter().map(Entry::steps).sum::<usize>() as u64);
                Ok(())
            }
            Observation::Measured { who, status } => self.measure(who, status, observed),
            Observation::Queued { from, bytes } if bytes > self.link_bytes => {
                Err(format!("{bytes} bytes wait on a link from {from}"))
            }
            _ => Ok(()),
        }
    }

    fn measure(&self, who: Who, status: &Status, observed: &ObservedState) -> Result<(), String> {
        let kept = status.pending;
        if kept > limits::KEPT_INPUTS {
            return Err(format!("{who} keeps {kept} inputs"));
        }
        // A follower may hold a window that its sequencer has dropped, and one beyond that.
        // So may one that has just joined, or was just started, and has a follower's reserve for
        // what it is sent or finds.
        let window = 2 * self.window + OWN + limits::WINDOW_RESERVE as u64;
        let window = window.max(self.found.get(&who).copied().unwrap_or(0));
        let log = observed.view(who).map_or(&[][..], |view| &view.log);
        let waiting = log.iter().take(status.last_index.0 as usize);
        let waiting = waiting.skip(status.released.0 as usize);
        let waiting = waiting.filter(|held| !held.is_protocol);
        let waiting: usize = waiting.map(|held| held.entry.steps()).sum();
        if waiting as u64 > window {
            return Err(format!("{waiting} inputs of {who} wait in a window of {}", self.window));
        }
        Ok(())
    }
}
