//! No replica releases alone unless the witness's present record lets it.

use super::observed::answered;
use super::{Bounds, Observation, ObservedState};

/// Looks at what is released by one alone.
#[derive(Debug)]
pub(super) struct Alone;

impl Alone {
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
        let who = match *seen {
            Observation::Released { who, .. } => who,
            Observation::Answered { who, answer } if answered(answer).is_some() => who,
            _ => return Ok(()),
        };
        let own = observed.view(who).and_then(|view| view.record);
        let (Some(own), Some(latest)) = (own, observed.latest()) else { return Ok(()) };
        if !observed.is_alone(who) {
            return Ok(());
        }
        // What it has asked for since may be granted without its knowing.
        let is_own = latest == &own || (latest.epoch > own.epoch && latest.asker == who.place);
        if !is_own || !latest.members.has(who.place, who.incarnation) {
            return Err(format!(
                "{who} releases alone, but by the witness's present record, of epoch {}, it is \
                 not to",
                latest.epoch
            ));
        }
        // Another that was told that it is a member has to be asked.
        let other = observed.members().find(|(other, view)| *other != who && view.is_admitted);
        match other {
            Some((other, _)) => Err(format!("{who} releases alone, but {other} is a member")),
            None => Ok(()),
        }
    }
}
