//! No two replicas release in epochs of which neither follows from the other.

use std::collections::BTreeSet;

use super::enrolled::key;
use super::{Bounds, Observation, ObservedState, Who};
use crate::ids::{Epoch, ReplicaId};
use crate::record::{Origin, Record};

/// The epochs in which something was released.
#[derive(Debug)]
pub(super) struct Epochs {
    released: Vec<(Record, Who)>,
}

impl Epochs {
    /// Nothing was released yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self { released: Vec::new() }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        let who = match *seen {
            Observation::Released { who, .. } => who,
            Observation::Answered { who, answer }
                if super::observed::answered(answer).is_some() =>
            {
                who
            }
            _ => return Ok(()),
        };
        let Some(record) = observed.view(who).and_then(|view| view.record) else { return Ok(()) };
        if self.released.contains(&(record, who)) {
            return Ok(());
        }
        let apart = |other: &Record| {
            let (early, late) =
                if key(other) <= key(&record) { (other, &record) } else { (&record, other) };
            !leads_to(observed, early, late)
        };
        if let Some((other, by)) = self.released.iter().find(|(other, _)| apart(other)) {
            let (epoch, earlier): (Epoch, Epoch) = (record.epoch, other.epoch);
            return Err(format!(
                "{who} releases in epoch {epoch}, and {by} has released in epoch {earlier}: \
                 neither follows from the other"
            ));
        }
        self.released.push((record, who));
        Ok(())
    }
}

/// Whether recorded epochs lead from the one to the other, each with a member of the one before,
/// or with the process that was started in such a one's place.
fn leads_to(observed: &ObservedState, from: &Record, to: &Record) -> bool {
    if from == to {
        return true;
    }
    let mut reached = BTreeSet::from([from.digest()]);
    let mut level = vec![*from];
    for record in observed.enrolled().between(from, to) {
        if level.iter().any(|before| goes_on(before, record)) {
            reached.insert(record.digest());
            level.push(*record);
        }
    }
    reached.contains(&to.digest())
}

fn goes_on(before: &Record, next: &Record) -> bool {
    // A lineage that an operator began, with what the disk of one of them had.
    if before.origin == Origin::Vacant || next.origin == Origin::Vacant {
        return next.origin != Origin::Vacant || next.lineage > before.lineage;
    }
    if before.lineage != next.lineage || before.epoch.next() != next.epoch {
        return next.renews(before);
    }
    let stays = |place: ReplicaId| {
        before.members.at(place).is_some() && before.members.at(place) == next.members.at(place)
    };
    let restarted = next.origin == Origin::Restarted && before.members.at(next.asker).is_some();
    restarted || ReplicaId::BOTH.into_iter().any(stays)
}
