//! The clients' history is linearizable: replayed in log order, with the real-time check, and
//! small histories once more by search.

use std::collections::BTreeMap;

use super::model::object;
use super::wgl::{self, Call};
use super::{Bounds, Observation, ObservedState};
use crate::ids::Index;
use crate::sim::ops::{Answer, Request};

/// Longest history of one object that is searched.
const SEARCHED: usize = 64;

/// Most states that a search may see before it gives up.
const STATES: usize = 20_000;

/// All requests of all clients.
#[derive(Debug)]
pub(super) struct History {
    calls: Vec<Made>,
    by_id: BTreeMap<u64, usize>,
    /// The session that each client has, of all that there ever were.
    sessions: BTreeMap<usize, usize>,
    opened: usize,
    /// The latest effect whose answer a client has.
    latest: Index,
    /// Counts what was seen, as a clock for the search.
    clock: u64,
}

#[derive(Debug)]
struct Made {
    session: usize,
    request: Request,
    /// The latest effect that a client had an answer to when this was asked.
    after: Index,
    from: u64,
    to: Option<(u64, Answer)>,
    /// Whether the client was told that it has no effect, which another checker sees to.
    denied: bool,
}

impl History {
    /// No requests yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self {
            calls: Vec::new(),
            by_id: BTreeMap::new(),
            sessions: BTreeMap::new(),
            opened: 0,
            latest: Index(0),
            clock: 0,
        }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Came { client, .. } => {
                self.opened += 1;
                self.sessions.insert(client, self.opened);
                Ok(())
            }
            Observation::Invoked { client, request } => {
                self.clock += 1;
                self.by_id.insert(request.id, self.calls.len());
                let session = self.sessions.get(&client).copied().unwrap_or(0);
                let (after, from) = (self.latest, self.clock);
                self.calls.push(Made { session, request, after, from, to: None, denied: false });
                Ok(())
            }
            Observation::Denied { id } => {
                let call = self.by_id.get(&id).map(|at| &mut self.calls[*at]);
                call.into_iter().for_each(|call| call.denied = true);
                Ok(())
            }
            Observation::Completed { id, answer, .. } => self.complete(id, answer, observed),
            Observation::Over { .. } => self.search(),
            _ => Ok(()),
        }
    }

    fn complete(
        &mut self,
        id: u64,
        answer: Answer,
        observed: &ObservedState,
    ) -> Result<(), String> {
        self.clock += 1;
        let call = self.by_id.get(&id).map(|at| &mut self.calls[*at]);
        let call = call.ok_or_else(|| format!("{id:#x} is answered and was never asked"))?;
        if call.to.replace((self.clock, answer)).is_some() {
            return Err(format!("{id:#x} is answered twice"));
        }
        for (who, view) in observed.members() {
            let Some(effect) = view.effect(id) else { continue };
            if effect.answer.is_some_and(|expected| expected != answer) {
                return Err(format!(
                    "{id:#x} ({:?}) is answered {answer:?}; by the log of {who} it should be {:?}",
                    call.request.op, effect.answer
                ));
            }
            if effect.index <= call.after {
                return Err(format!(
                    "{id:#x} took effect at entry {} on {who}, but was asked when the answer of \
                     entry {} was out",
                    effect.index, call.after
                ));
            }
            self.latest = self.latest.max(effect.index);
        }
        Ok(())
    }

    fn search(&self) -> Result<(), String> {
        let mut objects: BTreeMap<(u8, u8), Vec<Call>> = BTreeMap::new();
        for made in self.calls.iter().filter(|made| !made.denied) {
            let Some(object) = object(made.request.op) else { continue };
            objects.entry(object).or_default().push(Call {
                session: made.session,
                op: made.request.op,
                from: made.from,
                to: made.to,
            });
        }
        for (object, calls) in objects {
            if calls.len() <= SEARCHED && wgl::is_linearizable(&calls, STATES) == Some(false) {
                return Err(format!("no order explains the {} calls on {object:?}", calls.len()));
            }
        }
        Ok(())
    }
}
