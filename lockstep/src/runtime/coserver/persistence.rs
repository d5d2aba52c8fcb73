//! What the loop does with its disk.

use super::engine::Engine;
use super::executor::Outgoing;
use super::metrics::{Joining, MetricsSnapshot, StorageMetrics};
use crate::entry::Entry;
use crate::history::History;
use crate::ids::Index;
use crate::machine::StateMachine;
use crate::proto::{Input, StorageRequest, StorageResponse};
use crate::runtime::storage::{Answer, Noted};
use crate::store::replica::{Durability, Failure, Outcome, Unrecovered};

/// How the state is being restored.
#[derive(Debug, Default)]
pub(super) enum Recovery {
    /// It is not.
    #[default]
    None,
    /// Since then results of the service are of a state that is given up.
    UnderWay {
        /// The last entry replayed.
        at: Index,
    },
    /// The log could not be used; it is being set aside.
    SettingAside {
        /// Why the log cannot be used.
        why: String,
    },
    /// What was found at the start could not be used, and is set aside already.
    Lost {
        /// Why the log could not be used.
        why: String,
    },
}

impl<S: StateMachine> Engine<S> {
    pub(super) fn append(&mut self, entry: Entry) {
        let index = entry.index;
        self.metrics.appended(index, self.clock.mono());
        if !self.storage.has_failed() {
            self.storage.append(entry);
        }
        if self.storage.persists_at_once() {
            self.tell(StorageResponse::Persisted(index));
        }
    }

    pub(super) fn ask_storage(&mut self, request: StorageRequest) {
        let at_once = self.storage.durability() == Durability::Memory;
        let mut response = None;
        match &request {
            StorageRequest::Truncate { after } => self.executor.truncated(*after),
            StorageRequest::BeginChunks(file) => {
                self.metrics.storage.joining =
                    Some(Joining { checkpoint: file.index, have: 0, of: file.len });
            }
            StorageRequest::PersistMembership { number, .. } if at_once => {
                response = Some(StorageResponse::MembershipPersisted(*number));
            }
            _ => {}
        }
        self.storage.request(request, self.replica.mark());
        response.into_iter().for_each(|response| self.tell(response));
    }

    fn tell(&mut self, response: StorageResponse) {
        self.handle(Input::Storage(response));
    }

    pub(super) fn recover(&mut self, to: Option<Index>) {
        // What was handed out is of the state that is given up.
        self.to_execute.clear();
        if let Recovery::Lost { why } = core::mem::take(&mut self.recovery) {
            return self.tell(StorageResponse::Recovered(Err(why)));
        }
        self.recovery = Recovery::UnderWay { at: Index(0) };
        self.storage.recover(to, self.replica.mark());
    }

    pub(super) fn write_checkpoint(&mut self, history: History) {
        let index = history.index;
        let view = self.executor.take_frozen(index).ok_or("the state at it is not kept".into());
        let sent = view.and_then(|view| self.storage.write_checkpoint(history, view));
        if let Err(why) = sent {
            self.tell(StorageResponse::CheckpointWritten { index, result: Err(why) });
        }
    }

    pub(super) fn on_service(&mut self, done: Outgoing) {
        match (done, &mut self.recovery) {
            (Outgoing::Executed(_), Recovery::UnderWay { .. }) => {}
            (Outgoing::Executed(executed), _) => self.handle(Input::Executed(executed)),
            (Outgoing::Replayed(index), Recovery::UnderWay { at }) => *at = index,
            (Outgoing::Replayed(_), _) => {}
            (Outgoing::Recovered(outcome), _) => self.on_recovered(outcome),
        }
    }

    fn on_recovered(&mut self, outcome: Outcome) {
        for (index, why) in outcome.damaged {
            tracing::error!(event = "checkpoint_damaged", index = index.0, why);
            self.storage.set_checkpoint_aside(index);
        }
        self.recovery = Recovery::None;
        match outcome.result {
            Ok(recovered) => self.tell(StorageResponse::Recovered(Ok(recovered))),
            Err(Unrecovered::Failed(failure)) => self.tell(failure.into()),
            Err(Unrecovered::Unusable(why)) => {
                tracing::error!(event = "log_set_aside", why);
                self.recovery = Recovery::SettingAside { why };
                self.storage.set_aside();
            }
        }
    }

    pub(super) fn on_storage(&mut self, answer: Answer) {
        if let Answer::Persisted { took, .. } = &answer {
            self.metrics.committed(*took);
        }
        if let Answer::Response(response) = &answer {
            self.metrics.on_transfer(response);
        }
        match self.storage.note(answer) {
            Noted::Nothing => {}
            Noted::Tell(response) => self.tell(response),
            Noted::Failed(failure) => self.on_storage_failed(failure),
            Noted::Plan(mut plan) => {
                plan.adopt = self.adopts;
                if let Err(error) = self.executor.recover(plan) {
                    let why = format!("no thread for the replay can be started: {error}");
                    self.tell(StorageResponse::Exhausted { why });
                }
            }
            Noted::SetAside => {
                if let Recovery::SettingAside { why } = core::mem::take(&mut self.recovery) {
                    self.tell(StorageResponse::Recovered(Err(why)));
                }
            }
        }
    }

    /// Under `journal` nothing can be acknowledged any more. Under `memory` the disk is only
    /// there for joiners; a member does without, but one that has no state yet cannot.
    fn on_storage_failed(&mut self, failure: Failure) {
        let restoring = !matches!(self.recovery, Recovery::None);
        let member = self.replica.status().record.is_some();
        if self.storage.durability() == Durability::Journal || restoring || !member {
            return self.tell(failure.into());
        }
        tracing::error!(
            event = "storage_lost",
            why = failure.why,
            "nobody can join this CoServer any more; the pair goes on"
        );
        let held = self.replica.status().last_index;
        self.tell(StorageResponse::Persisted(held));
    }

    pub(super) fn snapshot(&self) -> MetricsSnapshot {
        let replayed = match self.recovery {
            Recovery::UnderWay { at } => Some(at),
            _ => None,
        };
        let storage = StorageMetrics {
            durability: self.storage.durability(),
            gauges: self.storage.gauges,
            failed: self.storage.has_failed(),
            replayed,
            ..self.metrics.storage.clone()
        };
        let names = self.device_names.iter().cloned();
        let counts = self.devices.iter().map(|device| device.counts());
        let removals = self.replica.removals();
        let clients = (self.connections.clients(), self.connections.handshakes());
        let mut snapshot = self.metrics.snapshot(clients, removals, storage, &self.descriptors);
        snapshot.clients_by_key = self.connections.clients_by_key();
        snapshot.memory = self.memory.clone();
        snapshot.devices = names.zip(counts).collect();
        snapshot
    }
}
