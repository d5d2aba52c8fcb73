//! What is handed to the service, once a round of inputs is in.

use super::io::Output;
use super::replica::Replica;
use crate::entry::EntryKind;
use crate::event::{Event, StopCause};
use crate::ids::Index;
use crate::output::Executed;

impl Replica {
    /// Makes the next outputs. Frames come before executions, so that both replicas execute at
    /// the same time.
    pub(super) fn fill_outputs(&mut self) {
        if self.stopped {
            return;
        }
        self.order_waiting();
        self.send_batches();
        self.hand_out();
    }

    /// Orders what waits, and hands out what is to be executed before anything is sent of it, if it
    /// is no more than so many steps. For steps that take less time than a frame: entry and result
    /// then leave in one. The caller goes on with [`poll_decided`](Self::poll_decided), executes,
    /// and only then [`poll`](Self::poll)s.
    ///
    /// A checkpoint is nothing short: to freeze a state may mean to copy it. The sequencer waits
    /// until the follower says that it holds the entry (rule K1), and that has to be sent before.
    pub fn hand_out_first(&mut self, most: usize) {
        if self.stopped {
            return;
        }
        self.order_waiting();
        let waiting = self.log.steps_between(self.handed_out, self.log.last_index());
        if waiting <= most as u64 && !self.is_to_freeze() {
            self.hand_out();
        }
    }

    /// Whether a checkpoint is among what is to be handed out.
    pub(super) fn is_to_freeze(&self) -> bool {
        self.log.last_checkpoint() > self.handed_out
    }

    pub(super) fn hand_out(&mut self) {
        // What a restarted process had not released is executed once it is known what it becomes.
        if !self.is_following() {
            return;
        }
        while self.handed_out < self.log.last_index() && !self.log.panicked() {
            let next = self.handed_out.next();
            let entry = self.log.entry(next).expect("what is not executed is kept").clone();
            if matches!(entry.kind, EntryKind::Checkpoint) && self.freezes_later(next) {
                return;
            }
            self.outputs.push_back(Output::Execute(entry));
            self.handed_out = next;
        }
    }

    /// Whether the follower does not hold the entry yet at which both freeze (rule K1).
    fn freezes_later(&self, index: Index) -> bool {
        self.is_sequencer() && self.is_duplex() && self.progress.last_index < index
    }

    pub(super) fn on_executed(&mut self, executed: Executed) {
        if let Some(message) = &executed.panic {
            let (index, message) = (executed.index, message.clone());
            self.event(Event::Panicked { index, message });
        }
        // A joiner executes what members have counted already.
        let is_member = self.membership.record().is_some() && !self.is_joiner();
        self.shortages.note(&executed.sessions, is_member);
        self.say_shortages();
        self.log.executed_next(executed);
        if self.is_joiner() && self.log.panicked() {
            // The member did not panic there: another process may not either.
            return self.stop(StopCause::JoinEnded);
        }
        self.compare();
        self.release();
    }

    pub(super) fn on_persisted(&mut self, index: Index) {
        assert!(index <= self.log.last_index(), "only what was appended is persisted");
        self.persisted = self.persisted.max(index);
        self.release();
    }
}
