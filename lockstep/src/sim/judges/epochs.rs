//! No two replicas release in disjoint epochs.

use super::{Bounds, Ground, Seen, Who};
use crate::ids::{Epoch, Place};
use crate::record::{Members, Record};

/// The epochs in which something was released.
#[derive(Debug)]
pub(super) struct Epochs {
    released: Vec<(Epoch, Members, Who)>,
}

impl Epochs {
    /// Nothing was released yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self { released: Vec::new() }
    }

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, ground: &Ground) -> Result<(), String> {
        let who = match *seen {
            Seen::Released { who, .. } => who,
            Seen::Answered { who, answer } if super::ground::answered(answer).is_some() => who,
            _ => return Ok(()),
        };
        let Some(record) = ground.view(who).and_then(|view| view.record) else { return Ok(()) };
        self.releases(who, &record)
    }

    fn releases(&mut self, who: Who, record: &Record) -> Result<(), String> {
        let Record { epoch, members, .. } = *record;
        if self.released.contains(&(epoch, members, who)) {
            return Ok(());
        }
        if let Some((other, _, by)) =
            self.released.iter().find(|(_, theirs, _)| are_disjoint(theirs, &members))
        {
            return Err(format!(
                "{who} releases in epoch {epoch}, and {by} has released in epoch {other}: they \
                 have no member in common"
            ));
        }
        self.released.push((epoch, members, who));
        Ok(())
    }
}

fn are_disjoint(one: &Members, two: &Members) -> bool {
    !Place::BOTH.iter().any(|place| one.at(*place).is_some() && one.at(*place) == two.at(*place))
}
