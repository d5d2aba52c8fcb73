//! The journal's thread.

use std::collections::VecDeque;
use std::time::Duration;

use super::handle::Answer;
use crate::entry::Entry;
use crate::ids::Index;
use crate::proto::{StorageRequest, StorageResponse};
use crate::runtime::clock::Clock;
use crate::runtime::control::DataDirectory;
use crate::store::journal::Mark;
use crate::store::replica::{Failure, ReplicaStore};
use crate::sync::{PopError, Receiver, Sender};

/// With nothing to do for so long, the next step towards a spare segment is made: long enough
/// that it does not come between two commits of a busy journal.
const IDLE: Duration = Duration::from_millis(20);

/// After a spare could not be made: a full disk may have room again.
const PREPARE_AGAIN: Duration = Duration::from_secs(10);

/// What the loop asks for.
pub(super) enum Command {
    /// `generation` counts the times that the log was cut; the answer carries it.
    Append {
        entries: Vec<Entry>,
        mark: Mark,
        generation: u64,
    },
    /// Everything else that the core asks for.
    Request(StorageRequest),
    Recover {
        to: Option<Index>,
        tail: usize,
    },
    SetAside,
    SetCheckpointAside(Index),
    CheckpointWritten,
    /// Commits what is left, and ends.
    Close,
}

/// The thread's own state.
pub(super) struct JournalThread {
    pub(super) store: ReplicaStore,
    pub(super) commands: Receiver<Command>,
    pub(super) answers: Sender<Answer>,
    pub(super) clock: Clock,
    /// Let go of when the thread ends, not before: nobody else may write until then.
    pub(super) _lock: Option<DataDirectory>,
    /// What a joiner reads; one piece between two commits.
    pub(super) reads: VecDeque<StorageRequest>,
    /// The newest append that is not committed.
    pub(super) newest: Option<(Mark, u64)>,
    pub(super) spares: Spares,
}

/// Whether spare segments are still to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spares {
    Wanting,
    Ready,
    /// It failed; not before this span is over.
    Failed,
}

/// The loop is gone, or told the thread to end.
pub(super) struct Ended;

/// Why the thread stops.
pub(super) enum Halt {
    Ended,
    Failed(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Ended> for Halt {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl JournalThread {
    /// Until the loop is gone or the disk has failed.
    pub(super) fn run(mut self) {
        loop {
            match self.round() {
                Ok(()) => {}
                Err(Halt::Ended) => return,
                Err(Halt::Failed(failure)) => {
                    let _ = self.say(Answer::Failed(failure));
                    return;
                }
            }
        }
    }

    /// Takes everything that waits, commits it once, and does one piece of a joiner's.
    fn round(&mut self) -> Result<(), Halt> {
        if let Some(command) = self.wait()? {
            self.take(command)?;
            // What came meanwhile shares the commit.
            while let Some(command) = self.next()? {
                self.take(command)?;
            }
        }
        self.commit()?;
        if let Some(read) = self.reads.pop_front()
            && let Some(answer) = self.store.serve(read)?
        {
            self.tell(answer)?;
        }
        Ok(())
    }

    /// The next command; `None` if there is something else to do.
    fn wait(&mut self) -> Result<Option<Command>, Halt> {
        if !self.reads.is_empty() {
            return self.next();
        }
        let idle = match self.spares {
            Spares::Wanting => IDLE,
            Spares::Failed => PREPARE_AGAIN,
            Spares::Ready => {
                return self.commands.pop_blocking(None).map(Some).map_err(|_| Halt::Ended);
            }
        };
        let until = self.clock.mono().plus(idle);
        match self.commands.pop_blocking(Some(self.clock.instant(until))) {
            Ok(command) => Ok(Some(command)),
            Err(PopError::Closed) => Err(Halt::Ended),
            Err(PopError::Empty) => {
                self.prepare();
                Ok(None)
            }
        }
    }

    fn next(&mut self) -> Result<Option<Command>, Halt> {
        match self.commands.pop() {
            Ok(command) => Ok(Some(command)),
            Err(PopError::Empty) => Ok(None),
            Err(PopError::Closed) if self.newest.is_some() => Ok(None),
            Err(PopError::Closed) => Err(Halt::Ended),
        }
    }

    fn prepare(&mut self) {
        self.spares = match self.store.prepare() {
            Ok(true) => Spares::Ready,
            Ok(false) => Spares::Wanting,
            Err(error) => {
                if self.spares != Spares::Failed {
                    tracing::warn!(event = "journal_not_prepared", why = %error);
                }
                Spares::Failed
            }
        };
    }

    /// Commits what was appended, and says so.
    fn commit(&mut self) -> Result<(), Halt> {
        let Some((mark, generation)) = self.newest.take() else { return Ok(()) };
        let before = self.clock.mono();
        let index = self.store.commit(mark)?;
        let took = self.clock.mono().since(before);
        if self.spares == Spares::Ready {
            self.spares = Spares::Wanting;
        }
        let gauges = self.store.gauges();
        Ok(self.say(Answer::Persisted { index, generation, took, gauges })?)
    }

    fn say(&self, answer: Answer) -> Result<(), Ended> {
        self.answers.push_blocking(answer, None).map_err(|_| Ended)
    }

    fn tell(&self, response: StorageResponse) -> Result<(), Halt> {
        Ok(self.say(Answer::Response(response))?)
    }

    fn tell_gauges(&self) -> Result<(), Halt> {
        Ok(self.say(Answer::Gauges(self.store.gauges()))?)
    }

    /// Takes one command: a read waits for its turn, everything else is done in this order.
    pub(super) fn take(&mut self, command: Command) -> Result<(), Halt> {
        match command {
            Command::Append { entries, mark, generation } => {
                self.newest = Some((mark, generation));
                Ok(self.store.append(&entries, mark)?)
            }
            Command::Request(request) if request.is_read() => {
                self.reads.push_back(request);
                Ok(())
            }
            // Everything else comes after the entries that were appended before it.
            command => {
                self.commit()?;
                self.write(command)
            }
        }
    }

    fn write(&mut self, command: Command) -> Result<(), Halt> {
        let store = &mut self.store;
        match command {
            Command::Request(request) => {
                let installs = matches!(request, StorageRequest::Install { .. });
                let answer = store.serve(request)?;
                if installs {
                    self.tell_gauges()?;
                }
                answer.map_or(Ok(()), |answer| self.tell(answer))
            }
            Command::Recover { to, tail } => {
                let plan = store.plan(to, tail)?;
                Ok(self.say(Answer::Plan(plan))?)
            }
            Command::SetAside => {
                store.set_aside()?;
                self.tell_gauges()?;
                Ok(self.say(Answer::SetAside)?)
            }
            Command::SetCheckpointAside(index) => Ok(store.set_checkpoint_aside(index)?),
            Command::CheckpointWritten => {
                // What cannot be tidied now is tidied after the next one; a journal that
                // failed over it says so with the next commit.
                if let Err(Failure { why, .. }) = store.checkpoint_written() {
                    tracing::warn!(event = "retention_failed", why);
                }
                self.tell_gauges()
            }
            Command::Close => Err(Halt::Ended),
            Command::Append { .. } => unreachable!("taken before"),
        }
    }
}
