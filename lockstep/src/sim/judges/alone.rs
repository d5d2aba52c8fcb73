//! Nobody releases alone unless the witness's present record lets it.

use super::ground::answered;
use super::{Bounds, Ground, Seen};

/// Looks at what is released by one alone.
#[derive(Debug)]
pub(super) struct Alone;

impl Alone {
    /// The rule needs no memory of its own.
    pub(super) fn new(_: &Bounds) -> Self {
        Self
    }

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, ground: &Ground) -> Result<(), String> {
        let who = match *seen {
            Seen::Released { who, .. } => who,
            Seen::Answered { who, answer } if answered(answer).is_some() => who,
            _ => return Ok(()),
        };
        let own = ground.view(who).and_then(|view| view.record);
        let (Some(own), Some(latest)) = (own, ground.latest()) else { return Ok(()) };
        if !ground.is_alone(who) {
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
        let other = ground.members().find(|(other, view)| *other != who && view.is_admitted);
        match other {
            Some((other, _)) => Err(format!("{who} releases alone, but {other} is a member")),
            None => Ok(()),
        }
    }
}
