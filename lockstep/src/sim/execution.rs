//! The replicated unit of a CoServer in the world: inline, or on a thread of its own; and what is
//! broken about its results on purpose.

use std::collections::BTreeSet;

use super::checkers::{Observation, OutputName, Who};
use super::mutants::Mutant;
use super::node::{Arrival, Process};
use super::service::LEDGER;
use super::world::{Due, World};
use crate::entry::{Entry, EntryKind};
use crate::ids::{ConnId, Epoch, ReplicaId, SessionId};
use crate::output::{Carrier, Executed, OutputKind};
use crate::proto::{Command, Input, Standing};
use crate::wire::frames::ClientAnswer;

impl Process {
    /// Executes an entry, and keeps a view of the state where both take a checkpoint.
    fn execute(&mut self, entry: &Entry) -> Executed {
        let mut executed = self.unit.execute(entry);
        if matches!(entry.kind, EntryKind::Checkpoint) && executed.panic.is_none() {
            self.frozen = self.unit.freeze_after(&mut executed);
        }
        executed
    }
}

/// The service: inline, or on a thread of its own.
impl World {
    pub(super) fn execute(&mut self, place: ReplicaId, entry: Entry, answers: &mut Vec<Input>) {
        if self.options.service_time[place.slot()].is_some() {
            let Some(process) = &mut self.server(place).process else { return };
            process.executing.push_back(entry);
            if process.executing.len() == 1 {
                self.begin_step(place);
            }
            return;
        }
        let at = self.at;
        let server = self.server(place);
        // Inline, a slow step holds up the whole process.
        if server.slowness != 0 && !entry.kind.is_protocol() {
            server.paused_until = server.paused_until.max(at) + server.slowness / 4;
        }
        let Some(process) = &mut server.process else { return };
        // What was handed out before a panic was known is not executed any more.
        if !process.unit.has_panicked() {
            answers.push(Input::Executed(process.execute(&entry)));
        }
    }

    pub(super) fn begin_step(&mut self, place: ReplicaId) {
        let time = self.options.service_time[place.slot()].unwrap_or(1);
        let server = &mut self.servers[place.slot()];
        let (life, slowness) = (server.life, server.slowness);
        let Some(process) = &mut server.process else { return };
        if process.unit.has_panicked() {
            return;
        }
        let Some(entry) = process.executing.front() else { return };
        let entry = entry.clone();
        let (executed, state) = (Box::new(process.execute(&entry)), process.state);
        let at = self.at + self.rng.from(time / 2, time) + slowness;
        let at = at.max(self.servers[place.slot()].paused_until);
        self.queue.put(at, Due::Executed { place, life, state, executed });
    }

    pub(super) fn on_executed(
        &mut self,
        place: ReplicaId,
        life: u32,
        state: u32,
        executed: Executed,
    ) {
        let server = self.server(place);
        let current = server.process.as_ref().is_some_and(|process| process.state == state);
        if server.life != life || !current {
            return;
        }
        if let Some(process) = &mut server.process {
            process.executing.pop_front();
        }
        self.arrive(place, Arrival::Executed(executed));
        self.begin_step(place);
    }

    /// Another state is to be restored: what the present one still comes to is void.
    pub(super) fn abandon_state(&mut self, place: ReplicaId) {
        let server = self.server(place);
        server.inbox.retain(|arrival| !matches!(arrival, Arrival::Executed(_)));
        if let Some(process) = &mut server.process {
            process.executing.clear();
            process.frozen = None;
            process.state += 1;
        }
    }

    /// A result goes to the core.
    pub(super) fn give_result(&mut self, place: ReplicaId, executed: Executed) {
        let Some(who) = self.servers[place.slot()].who() else { return };
        self.trace.step(self.at, 35, executed.index.0);
        self.trace.bytes(&executed.digest.0);
        self.see(Observation::Executed { who, executed: &executed });
        if let Some(process) = &mut self.server(place).process {
            for output in &executed.outputs {
                if let OutputKind::Device { device: LEDGER, bytes, .. } = &output.kind
                    && let Some(id) = bytes.first_chunk()
                {
                    process.taken.remove(&u64::from_le_bytes(*id));
                }
            }
        }
        self.misuse(who, &executed);
        self.tell(place, Input::Executed(executed));
    }

    /// Broken on purpose: lets results out that nobody else has yet, or that are another's.
    pub(super) fn misuse(&mut self, who: Who, executed: &Executed) {
        let index = executed.index;
        let process = self.servers[who.place.slot()].process.as_ref();
        let record = process.and_then(|process| process.replica.status().record);
        let joins = process.is_some_and(|process| process.standing == Standing::Joining);
        if joins && self.options.mutant == Some(Mutant::JoinerReleases) {
            for output in &executed.outputs {
                let (step, ordinal) = (output.step, output.ordinal);
                let name = OutputName { index, step, ordinal };
                self.release(who, name, Epoch(1), output.kind.clone());
            }
        }
        let (Some(mutant), Some(record)) = (self.options.mutant, record) else { return };
        for output in &executed.outputs {
            let (step, ordinal) = (output.step, output.ordinal);
            let name = OutputName { index, step, ordinal };
            match (mutant, who.place, &output.kind) {
                (
                    Mutant::ReleaseEarly,
                    ReplicaId::A,
                    OutputKind::Device { carrier: Carrier::Both, .. },
                )
                | (Mutant::BothCarry, _, OutputKind::Device { carrier: Carrier::Sequencer, .. }) => {
                    self.release(who, name, record.epoch, output.kind.clone())
                }
                (
                    Mutant::AnswerEarly,
                    ReplicaId::A,
                    OutputKind::Reply { session, number, result, .. },
                ) => {
                    let (session, number) = (*session, *number);
                    if let Some(conn) = self.asker_of(who.place, session) {
                        let result = result.clone();
                        self.answer(who, conn, &ClientAnswer::Reply { session, number, result });
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn asker_of(&self, place: ReplicaId, session: SessionId) -> Option<ConnId> {
        self.servers[place.slot()].process.as_ref()?.asked.get(&session).copied()
    }

    /// The operator's word to a CoServer.
    pub(super) fn command(&mut self, place: ReplicaId, command: Command) {
        self.arrive(place, Arrival::Command(command));
    }

    /// Shows the checkers the digest of each replica's whole state.
    pub(super) fn show_states(&mut self) {
        for place in ReplicaId::BOTH {
            let Some(process) = &self.servers[place.slot()].process else { continue };
            if process.unit.has_panicked() {
                continue;
            }
            let (who, index) = (process.who, process.unit.index());
            let Ok(digest) = process.unit.freeze().state_digest() else { continue };
            // A service thread may be ahead of what the core was told.
            if process.executing.is_empty() {
                self.see(Observation::State { who, index, digest });
            }
        }
    }

    /// Inputs of devices that a replica took, which still serves and has not executed them.
    pub(super) fn devices_lost(&self) -> u64 {
        let members: BTreeSet<Who> =
            self.checkers.observed().members().map(|(who, _)| who).collect();
        let processes = self.servers.iter().filter_map(|server| server.process.as_ref());
        processes
            .filter(|process| members.contains(&process.who) && !process.unit.has_panicked())
            .map(|process| process.taken.len() as u64)
            .sum()
    }
}
