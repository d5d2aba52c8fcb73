//! Where the service is executed: in the loop, or on a thread of its own.
//!
//! A replay takes long, so it is never made in the loop: where the service is executed there, a
//! thread borrows it for the replay and gives it back.

use std::task::{Context, Poll};
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver as Jobs, Sender as ToThread};

use super::echoes::{Echo, Echoes, Marking};
use super::settings::Execution;
use crate::entry::{Entry, EntryKind};
use crate::ids::Index;
use crate::machine::StateMachine;
use crate::output::Executed;
use crate::store::replica::{Outcome, Plan, recover};
use crate::sync::{Capacity, Receiver, Sender, mailbox};
use crate::unit::{FrozenUnit, Unit};

/// Executes entries in order, freezes the state, and restores it.
pub(super) struct Executor<S: StateMachine> {
    location: Location<S>,
    outbox: Sender<Done<S>>,
    results: Receiver<Done<S>>,
    /// The newest state frozen at a checkpoint's entry, until it is written.
    frozen: Option<FrozenUnit<S::Frozen>>,
    /// Entries up to this one were on the disk, so that a predecessor has executed them.
    on_disk: Index,
    echoes: Echoes,
}

/// Where the service is.
enum Location<S: StateMachine> {
    Inline(Box<Hosted<S>>),
    Thread(ThreadExecutor),
    /// With the thread that replays.
    Lent,
}

/// The service, and its state before the first entry, to which it can always be set back.
struct Hosted<S: StateMachine> {
    unit: Unit<S>,
    initial_snapshot: FrozenUnit<S::Frozen>,
}

/// The service on its own thread. The queues are as long as the window that the core keeps.
struct ThreadExecutor {
    jobs: ToThread<Job>,
    thread: Option<JoinHandle<()>>,
}

/// What the service's thread does.
enum Job {
    /// And why what is logged in it is no news, if so.
    Execute(Entry, Option<Echo>),
    Recover(Plan),
}

/// What has become of an entry.
pub(super) enum Step {
    /// Its result comes later, from the thread.
    Elsewhere,
    /// Some of its inputs are still to be executed.
    More,
    /// This is what it came to.
    Done(Executed),
}

/// What comes back from a thread.
enum Done<S: StateMachine> {
    Executed(Executed),
    Frozen(FrozenUnit<S::Frozen>),
    Replayed(Index),
    /// With the service, where it was borrowed.
    Recovered(Outcome, Option<Box<Hosted<S>>>),
}

/// What the loop is told.
pub(super) enum Outgoing {
    Executed(Executed),
    /// A replay got to this entry.
    Replayed(Index),
    Recovered(Outcome),
}

/// The service's thread could not be started, or its queues would be too long.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The system gives no thread for the service.
    #[error("the service's thread cannot be started")]
    Thread(#[from] std::io::Error),
    /// The queue to the thread cannot be made.
    #[error("the window is too long for the queue of the service's thread")]
    Queue(#[from] crate::sync::CapacityError),
}

impl<S: StateMachine> Executor<S> {
    pub(super) fn start(
        service: S,
        execution: Execution,
        window: usize,
    ) -> Result<Self, ExecutorError> {
        let unit = Unit::new(service);
        let seated = Box::new(Hosted { initial_snapshot: unit.freeze(), unit });
        // Results are bounded by the entries under way; their bytes by the core's window.
        let slots = if execution == Execution::Inline { SLOTS } else { window + SLOTS };
        let (outbox, results) = mailbox(Capacity::new(slots, 1 << 39)?, |_: &Done<S>| 1);
        let echoes = Echoes::new();
        let location = match execution {
            Execution::Inline => Location::Inline(seated),
            Execution::Thread => {
                let (jobs, inbox) = channel::bounded(window);
                let (outbox, echoes) = (outbox.clone(), echoes.clone());
                let thread = std::thread::Builder::new()
                    .name("lockstep-service".into())
                    .spawn(move || run(seated, &inbox, &outbox, &echoes))?;
                Location::Thread(ThreadExecutor { jobs, thread: Some(thread) })
            }
        };
        Ok(Self { location, outbox, results, frozen: None, on_disk: Index(0), echoes })
    }

    /// Whether [`execute`](Self::execute) executes now.
    pub(super) fn is_inline(&self) -> bool {
        matches!(self.location, Location::Inline(_))
    }

    /// Executes the entry's next input, or has the thread execute all of it. `echo` says why what
    /// is logged in it is no news, if it was not on the disk; `marking` is the caller's for as long
    /// as it only executes.
    pub(super) fn execute(
        &mut self,
        entry: &Entry,
        echo: Option<Echo>,
        marking: &mut Marking,
    ) -> Step {
        let echo = if entry.index <= self.on_disk { Some(Echo::Replay) } else { echo };
        match &mut self.location {
            Location::Inline(seated) => {
                let unit = &mut seated.unit;
                marking.switch(&self.echoes, echo);
                let Some(mut executed) = unit.execute_next(entry) else { return Step::More };
                if let Some(view) = frozen_after(unit, entry, &mut executed) {
                    self.frozen = Some(view);
                }
                Step::Done(executed)
            }
            Location::Thread(thread) => {
                // A thread that is gone panicked outside the service's steps; the results
                // that no longer come make the peer find this replica too slow.
                let _ = thread.jobs.send(Job::Execute(entry.clone(), echo));
                Step::Elsewhere
            }
            Location::Lent => unreachable!("nothing is executed during a replay"),
        }
    }

    /// Restores the state elsewhere. Answered by [`Outgoing::Recovered`].
    ///
    /// # Errors
    /// If there is no thread to be had for it.
    pub(super) fn recover(&mut self, plan: Plan) -> std::io::Result<()> {
        self.frozen = None;
        let mut seated = match core::mem::replace(&mut self.location, Location::Lent) {
            Location::Inline(seated) => seated,
            Location::Thread(thread) => {
                let _ = thread.jobs.send(Job::Recover(plan));
                self.location = Location::Thread(thread);
                return Ok(());
            }
            Location::Lent => unreachable!("one replay at a time"),
        };
        let (outbox, echoes) = (self.outbox.clone(), self.echoes.clone());
        let replay = move || {
            let mut marking = Marking::default();
            marking.switch(&echoes, Some(Echo::Replay));
            let outcome = replay(&mut seated, plan, &outbox);
            let _ = outbox.push_blocking(Done::Recovered(outcome, Some(seated)), None);
        };
        std::thread::Builder::new().name("lockstep-replay".into()).spawn(replay).map(drop)
    }

    /// The entries after this one are gone from the log: what comes in their place is new.
    pub(super) fn truncated(&mut self, after: Index) {
        self.on_disk = self.on_disk.min(after);
    }

    /// The state as it was frozen at this entry.
    pub(super) fn take_frozen(&mut self, index: Index) -> Option<FrozenUnit<S::Frozen>> {
        self.frozen.take_if(|view| view.index() == index)
    }

    /// The next result of a thread.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outgoing> {
        while let Poll::Ready(Some(done)) = self.results.poll_pop(cx) {
            if let Some(result) = self.take(done) {
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    }

    /// A result that is there already.
    pub(super) fn try_next(&mut self) -> Option<Outgoing> {
        while let Ok(done) = self.results.pop() {
            if let Some(result) = self.take(done) {
                return Some(result);
            }
        }
        None
    }

    fn take(&mut self, done: Done<S>) -> Option<Outgoing> {
        match done {
            Done::Executed(executed) => Some(Outgoing::Executed(executed)),
            Done::Frozen(view) => {
                self.frozen = Some(view);
                None
            }
            Done::Replayed(index) => Some(Outgoing::Replayed(index)),
            Done::Recovered(outcome, seated) => {
                let tail = outcome.result.as_ref().ok().and_then(|result| result.tail.last());
                self.on_disk = tail.map_or(Index(0), |last| last.index);
                if let Some(seated) = seated {
                    self.location = Location::Inline(seated);
                }
                Some(Outgoing::Recovered(outcome))
            }
        }
    }
}

/// Results of a replay under way to the loop. At one more, a report of progress is dropped.
const SLOTS: usize = 16;

/// Right after a checkpoint's entry the state is frozen, on both CoServers alike (rule K1).
fn frozen_after<S: StateMachine>(
    unit: &mut Unit<S>,
    entry: &Entry,
    executed: &mut Executed,
) -> Option<FrozenUnit<S::Frozen>> {
    let wanted = matches!(entry.kind, EntryKind::Checkpoint) && !unit.has_panicked();
    wanted.then(|| unit.freeze_after(executed)).flatten()
}

fn replay<S: StateMachine>(
    seated: &mut Hosted<S>,
    plan: Plan,
    outbox: &Sender<Done<S>>,
) -> Outcome {
    let Hosted { unit, initial_snapshot } = seated;
    recover(unit, initial_snapshot, plan, |index| drop(outbox.try_push(Done::Replayed(index))))
}

fn run<S: StateMachine>(
    mut seated: Box<Hosted<S>>,
    jobs: &Jobs<Job>,
    outbox: &Sender<Done<S>>,
    echoes: &Echoes,
) {
    // The loop is gone if it is closed.
    let give = |done| outbox.push_blocking(done, None).is_ok();
    let mut marking = Marking::default();
    while let Ok(job) = jobs.recv() {
        let given = match job {
            // Handed out before the panic was known; nothing after it is executed.
            Job::Execute(..) if seated.unit.has_panicked() => true,
            Job::Execute(entry, echo) => {
                marking.switch(echoes, echo);
                let mut executed = seated.unit.execute(&entry);
                let frozen = frozen_after(&mut seated.unit, &entry, &mut executed);
                let frozen = frozen.is_none_or(|view| give(Done::Frozen(view)));
                frozen && give(Done::Executed(executed))
            }
            Job::Recover(plan) => {
                marking.switch(echoes, Some(Echo::Replay));
                let outcome = replay(&mut seated, plan, outbox);
                give(Done::Recovered(outcome, None))
            }
        };
        if !given {
            return;
        }
    }
}

impl<S: StateMachine> Drop for Executor<S> {
    fn drop(&mut self) {
        self.results.close();
        if let Location::Thread(thread) = &mut self.location {
            let (closed, _) = channel::bounded(0);
            thread.jobs = closed;
            if let Some(thread) = thread.thread.take()
                && thread.is_finished()
            {
                // One that is inside a step is left behind: the process is about to end.
                let _ = thread.join();
            }
        }
    }
}
