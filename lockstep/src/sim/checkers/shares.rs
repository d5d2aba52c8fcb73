//! Sessions and replies are shared out by rule C9, and what a key may not ask never reaches the
//! service (rule C10).
//!
//! What each replica came to is compared with the rules written a second time
//! ([`sessions`](super::sessions)). Whether that was fair is judged by the clients' real owners,
//! rather than by those that the log names.

use std::collections::{BTreeMap, BTreeSet};

use super::sessions::{Came, Has, Outcome};
use super::{Bounds, Observation, ObservedState, Who};
use crate::entry::InputKind;
use crate::ids::{Nonce, OwnerId, ReplicaId, SessionId};
use crate::output::{Executed, OutputKind, Refusal};
use crate::sim::ops::Op;
use crate::sim::service::{LEDGER, REFUSAL_COST, SESSIONS};
use crate::sim::shares::Rights;

/// Which owner really has what.
#[derive(Debug)]
pub(super) struct Shares {
    rights: Vec<Rights>,
    /// Room that a request needs.
    largest: usize,
    unread_bytes: usize,
    /// Whether the service tells which sessions end.
    tells: bool,
    owners: BTreeMap<Nonce, OwnerId>,
    asked: BTreeMap<u64, (usize, Op)>,
    refused: BTreeSet<u64>,
}

impl Shares {
    /// No owner has anything yet.
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            rights: bounds.rights.clone(),
            largest: bounds.unit.longest_reply + REFUSAL_COST,
            unread_bytes: bounds.unit.unread_bytes,
            tells: bounds.tells_sessions,
            owners: BTreeMap::new(),
            asked: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Came { owner, token, .. } => {
                self.owners.insert(token, owner);
            }
            Observation::Invoked { client, request } => {
                self.asked.insert(request.id, (client, request.op));
            }
            Observation::Completed { id, .. } if self.is_forbidden(id) => {
                return Err(format!("{id:#x} may not be asked and has an answer"));
            }
            Observation::Denied { id } => {
                self.denied(id)?;
                return without_effect([&id], observed);
            }
            Observation::Over { .. } => return without_effect(&self.refused, observed),
            Observation::Executed { who, executed } if executed.panic.is_none() => {
                self.notes(who, executed)?;
                return self.executed(who, executed, observed);
            }
            _ => {}
        }
        Ok(())
    }

    fn is_forbidden(&self, id: u64) -> bool {
        let asked = self.asked.get(&id);
        asked.is_some_and(|(client, op)| self.rights.get(*client).is_some_and(|r| r.forbids(*op)))
    }

    fn denied(&mut self, id: u64) -> Result<(), String> {
        let Some((client, op)) = self.asked.get(&id) else {
            return Err(format!("{id:#x} is refused and was never asked"));
        };
        let rights = self.rights.get(*client).copied().unwrap_or(Rights::All);
        if ReplicaId::BOTH.iter().all(|place| rights.permits(*place, *op)) {
            return Err(format!("{id:#x} ({op:?}) is refused, and its key may ask it"));
        }
        self.refused.insert(id);
        Ok(())
    }

    fn notes(&self, who: Who, executed: &Executed) -> Result<(), String> {
        for output in &executed.outputs {
            let OutputKind::Device { device: LEDGER, bytes, .. } = &output.kind else { continue };
            let Some(id) = bytes.first_chunk().map(|id| u64::from_le_bytes(*id)) else { continue };
            if self.is_forbidden(id) {
                let index = executed.index;
                return Err(format!(
                    "{id:#x} may not be asked and took effect at {index} on {who}"
                ));
            }
        }
        Ok(())
    }

    fn executed(
        &self,
        who: Who,
        executed: &Executed,
        observed: &ObservedState,
    ) -> Result<(), String> {
        let index = executed.index;
        let Some(view) = observed.view(who) else { return Ok(()) };
        let Some((entry, outcomes)) = view.entry(index).zip(view.outcomes(index)) else {
            return Ok(());
        };
        let ended: Vec<_> = executed.outputs.iter().filter_map(|o| told(&o.kind)).collect();
        let by_rules: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.ended).collect();
        if self.tells && ended.iter().ne(by_rules.iter().copied()) {
            return Err(format!(
                "entry {index} ends the sessions {ended:?} on {who}, by the rules {by_rules:?}"
            ));
        }
        let is_answer = |kind: &&OutputKind| !matches!(kind, OutputKind::Device { .. });
        let mut answers = executed.outputs.iter().map(|output| &output.kind).filter(is_answer);
        for outcome in outcomes.iter().filter(|outcome| outcome.came != Came::Nothing) {
            let answer = answers.next();
            if !is_what_came(answer, outcome.came) {
                return Err(format!(
                    "entry {index} comes to {answer:?} on {who}, by the rules to {:?}",
                    outcome.came
                ));
            }
        }
        if let Some(answer) = answers.next() {
            return Err(format!("entry {index} comes to {answer:?} on {who}, and nobody asked"));
        }
        for (input, outcome) in entry.kind.inputs().iter().zip(outcomes) {
            let token = match input {
                InputKind::SessionOpenFor { token, .. }
                | InputKind::SessionRequest { token, .. }
                | InputKind::SessionRefused { token, .. } => *token,
                _ => continue,
            };
            self.is_fair(token, outcome)
                .map_err(|what| format!("{what}, at entry {index} of {who}"))?;
        }
        Ok(())
    }

    fn owner(&self, token: Nonce) -> OwnerId {
        self.owners.get(&token).copied().unwrap_or(OwnerId::UNKNOWN)
    }

    /// No owner has to give way, or is refused, that has no more than the others.
    fn is_fair(&self, token: Nonce, outcome: &Outcome) -> Result<(), String> {
        let Some(before) = &outcome.before else { return Ok(()) };
        let mut left = before.clone();
        let counts_sessions = matches!(outcome.came, Came::Opened(_));
        let asks = self.owner(token);
        for (ended, _) in &outcome.gave_way {
            let has = |owner| self.has(owner, &left, counts_sessions);
            let victim = left.iter().find(|has| has.session == *ended).map(|has| has.token);
            let owner = self.owner(victim.unwrap_or(token));
            let (theirs, own) = (has(owner), has(asks));
            if owner != asks && theirs <= own {
                return Err(format!(
                    "session {ended} of owner {owner:?}, which has {theirs}, ends for one of \
                     {asks:?}, which has {own}"
                ));
            }
            left.retain(|has| has.session != *ended);
        }
        let enough = match outcome.came {
            Came::Opened(Err(Refusal::TooManySessions)) => self.has(asks, &left, true) + 1,
            Came::Refused(Refusal::TooManyReplies) => self.has(asks, &left, false) + self.largest,
            _ => return Ok(()),
        };
        // Where replies are short, one that keeps little is in nobody's way.
        let counts = |has: &&Has| counts_sessions || has.bytes >= self.unread_bytes;
        let more = left
            .iter()
            .filter(counts)
            .map(|has| self.owner(has.token))
            .find(|owner| *owner != asks && self.has(*owner, &left, counts_sessions) > enough);
        match more {
            Some(owner) => Err(format!("{asks:?} is refused, and owner {owner:?} has more")),
            None => Ok(()),
        }
    }

    /// How many sessions, or bytes of replies, this owner has.
    fn has(&self, owner: OwnerId, all: &[Has], sessions: bool) -> usize {
        let own = all.iter().filter(|has| self.owner(has.token) == owner);
        own.map(|has| if sessions { 1 } else { has.bytes }).sum()
    }
}

/// What was refused is in no log that counts.
fn without_effect<'a>(
    ids: impl IntoIterator<Item = &'a u64>,
    observed: &ObservedState,
) -> Result<(), String> {
    for id in ids {
        if let Some((who, _)) = observed.members().find(|(_, view)| view.effect(*id).is_some()) {
            return Err(format!("{id:#x} was refused to its client and took effect on {who}"));
        }
    }
    Ok(())
}

/// The session that is told to have ended, if it is that.
fn told(kind: &OutputKind) -> Option<SessionId> {
    let OutputKind::Device { device: SESSIONS, bytes, .. } = kind else { return None };
    bytes.first_chunk().map(|id| SessionId(u64::from_le_bytes(*id)))
}

fn is_what_came(answer: Option<&OutputKind>, came: Came) -> bool {
    match (came, answer) {
        (Came::Nothing, _) => true,
        (Came::Opened(expected), Some(OutputKind::Opened { result, .. })) => *result == expected,
        (Came::Kept { effect, .. }, Some(OutputKind::Reply { result, .. })) => match result {
            Ok(_) => effect,
            Err(refusal) => !effect && *refusal == Refusal::ReadOnly,
        },
        (Came::Refused(expected), Some(OutputKind::Reply { result, .. })) => {
            *result == Err(expected)
        }
        _ => false,
    }
}
