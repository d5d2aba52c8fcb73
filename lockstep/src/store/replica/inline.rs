//! For a driver that waits for its disk: what the runtime's threads do with one another, in
//! one call.

use core::ops::ControlFlow;

use super::failure::Failure;
use super::recovery::{Outcome, Unrecovered, recover};
use super::store::ReplicaStore;
use crate::causes::chain;
use crate::history::History;
use crate::ids::Index;
use crate::machine::{Freeze, StateMachine};
use crate::proto::Recovered;
use crate::store::checkpoint::{self, Header, Stamp};
use crate::unit::{FrozenUnit, Unit};

impl ReplicaStore {
    /// Restores a unit; `initial_snapshot` is the unit before the first entry. The inner error is
    /// for the core: the log cannot be used, and is set aside.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn restore<S: StateMachine>(
        &mut self,
        unit: &mut Unit<S>,
        initial_snapshot: &FrozenUnit<S::Frozen>,
        to: Option<Index>,
        tail: usize,
        adopt: bool,
    ) -> Result<Result<Box<Recovered>, String>, Failure> {
        let mut plan = self.plan(to, tail)?;
        plan.adopt = adopt;
        let Outcome { result, damaged } = recover(unit, initial_snapshot, plan, |_| {});
        for (index, _) in damaged {
            self.set_checkpoint_aside(index)?;
        }
        match result {
            Ok(recovered) => Ok(Ok(recovered)),
            Err(Unrecovered::Failed(failure)) => Err(failure),
            Err(Unrecovered::Unusable(why)) => {
                self.set_aside()?;
                Ok(Err(why))
            }
        }
    }

    /// Writes a frozen view, and drops what is not needed any more.
    ///
    /// # Errors
    /// Why there is no checkpoint. That nothing can be dropped is no reason: it is after the
    /// next one.
    pub(crate) fn write_checkpoint<F: Freeze>(
        &mut self,
        history: History,
        view: &FrozenUnit<F>,
    ) -> Result<Stamp, String> {
        let (pair, service) = (self.who.pair, self.who.service.clone());
        let header = Header { pair, service, history, outputs: view.outputs() };
        let pace = Box::new(|_| ControlFlow::Continue(()));
        let written = checkpoint::write(&*self.directory, &header, view, pace);
        let stamp = written.map_err(|error| chain(&error))?;
        if let Err(Failure { why, .. }) = self.checkpoint_written() {
            tracing::warn!(event = "retention_failed", why);
        }
        Ok(stamp)
    }

    /// Keeps at most so many bytes of the journal for a joiner from now on.
    pub(crate) fn set_retain_limit(&mut self, bytes: u64) {
        self.settings.retain_limit_bytes = bytes;
    }
}
