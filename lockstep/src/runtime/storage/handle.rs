//! The loop's end of the disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel;

use super::checkpoints::{self, Job};
use super::journal::{Command, JournalThread, Spares};
use super::{Locked, StorageError};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::history::History;
use crate::ids::Index;
use crate::limits;
use crate::machine::StateMachine;
use crate::proto::{Disk, StorageRequest, StorageResponse};
use crate::runtime::clock::Clock;
use crate::store::checkpoint::{Header, Stamp};
use crate::store::journal::Mark;
use crate::store::replica::{self, Durability, Failure, Gauges, Plan, StorageSettings, Who};
use crate::sync::{Capacity, CapacityError, PopError, PushError, Receiver, Sender, mailbox};
use crate::unit::FrozenUnit;
use crate::wire::frames::CheckpointFile;

/// Commands under way to the journal's thread; more wait in the loop. Each takes at least one
/// operation on the disk, except that appends share one.
const COMMANDS: usize = 1024;

/// Answers under way to the loop. At one more the thread waits.
const ANSWERS: usize = 1024;

/// Under `memory` nobody waits for the disk, and to wake its thread for every entry would cost the
/// loop more than the entry does. So many entries, or bytes, are written at once; fewer where the
/// window is small.
const LAZY_ENTRIES: usize = 256;
const LAZY_BYTES: usize = 256 << 10;

/// What a joiner may have under way on the disk here; what it asks for beyond it asks for again.
const READS: usize = 4 * limits::CHUNKS_AHEAD;

/// What the threads say.
pub(crate) enum Answer {
    /// For the core as it is.
    Response(StorageResponse),
    /// Everything up to here is on the disk.
    Persisted {
        /// The last entry.
        index: Index,
        /// As of which cut of the log.
        generation: u64,
        /// How long write and sync took.
        took: Duration,
        /// How it stands.
        gauges: Gauges,
    },
    /// How to restore the state.
    Plan(Plan),
    /// The log was set aside.
    SetAside,
    /// A checkpoint was written, or not.
    Checkpoint {
        /// Of which entry.
        index: Index,
        /// Its name, or why there is none.
        result: Result<Stamp, String>,
    },
    /// How it stands.
    Gauges(Gauges),
    /// The disk failed. The last answer of the journal's thread.
    Failed(Failure),
}

/// The loop's handle to the threads that use the disk.
pub(crate) struct Storage<S: StateMachine> {
    who: Who,
    durability: Durability,
    commands: Sender<Command>,
    /// What the queue had no room for, in order.
    backlog: VecDeque<Command>,
    jobs: channel::Sender<Job<S::Frozen>>,
    /// Dropped to break off a checkpoint.
    stop: Option<channel::Sender<()>>,
    answers: Receiver<Answer>,
    /// Entries that are sent to the thread together: those of a round, under `memory` of several.
    gathered: Vec<Entry>,
    gathered_bytes: usize,
    /// They are to be sent with this round: one of them does not count as held before it is
    /// written, or they have waited long enough.
    awaited: bool,
    /// What was agreed by the last round.
    mark: Mark,
    /// Cuts of the log: what was said of an entry before one does not count after it.
    generation: u64,
    /// The last entry handed to the thread; and the last that it wrote.
    sent: Index,
    written: Index,
    reads: usize,
    failed: bool,
    journal_thread: Option<JoinHandle<()>>,
    tail: usize,
    /// How it stood last.
    pub(crate) gauges: Gauges,
}

/// A disk, and what was found on it.
pub(crate) struct Opened<S: StateMachine> {
    pub(crate) storage: Storage<S>,
    pub(crate) disk: Option<Disk>,
    /// Why the log that was there cannot be used.
    pub(crate) damage: Option<String>,
}

impl<S: StateMachine> Storage<S> {
    /// Opens the directory and starts the threads.
    pub(crate) fn open(
        locked: Locked,
        who: Who,
        settings: &StorageSettings,
        adopt: bool,
        seed: u64,
        window: usize,
        clock: Clock,
    ) -> Result<Opened<S>, StorageError> {
        let Locked { directory, lock } = locked;
        let for_checkpoints = directory.share();
        let (store, found) = replica::open(directory, who.clone(), settings, adopt, seed)?;
        let (commands, inbox) = items(COMMANDS)?;
        let (jobs, queue) = channel::bounded(1);
        let (stop, stopped) = channel::bounded(0);
        let (outbox, answers) = items(ANSWERS)?;
        let (held, gauges) = (store.held(), store.gauges());
        let thread = JournalThread {
            store,
            commands: inbox,
            answers: outbox.clone(),
            clock,
            _lock: lock,
            reads: VecDeque::new(),
            newest: None,
            spares: Spares::Wanting,
        };
        let last_words = outbox.clone();
        let journal_thread = spawn("lockstep-journal", move || {
            if catch_unwind(AssertUnwindSafe(|| thread.run())).is_err() {
                let _ = last_words.push_blocking(gone(), None);
            }
        })?;
        spawn("lockstep-checkpoint", move || {
            checkpoints::run(&*for_checkpoints, &queue, &stopped, &outbox);
        })?;
        let storage = Self {
            who,
            durability: settings.durability,
            commands,
            backlog: VecDeque::new(),
            jobs,
            stop: Some(stop),
            answers,
            gathered: Vec::new(),
            gathered_bytes: 0,
            awaited: false,
            mark: Mark::default(),
            generation: 0,
            sent: held,
            written: held,
            reads: 0,
            failed: false,
            journal_thread: Some(journal_thread),
            tail: window,
            gauges,
        };
        Ok(Opened { storage, disk: found.disk, damage: found.damage })
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Whether what is held counts as persisted without the disk. Under `memory`, unless the
    /// disk is behind by as much as the window: then the pair waits for it, since what waits
    /// here must be bounded.
    pub(crate) fn persists_at_once(&self) -> bool {
        let behind = self.sent.0.saturating_sub(self.written.0);
        self.durability == Durability::Memory && (self.failed || behind < self.tail as u64 / 4)
    }

    /// Whether the disk has failed: nothing more is done on it.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.sent = entry.index;
        self.awaited |= !self.persists_at_once();
        self.gathered_bytes += entry.weight();
        self.gathered.push(entry);
    }

    /// Whether there are entries that are to be sent with this round.
    pub(crate) fn has_appended(&self) -> bool {
        self.awaited
    }

    /// Has what was appended sent with the next round's end, however little it is. So the disk is
    /// not further behind than the time between two calls, and its failure is noticed.
    pub(crate) fn hurry(&mut self) {
        self.awaited |= !self.gathered.is_empty();
    }

    /// The round is over; this much is agreed by now. What was appended is sent, unless it can
    /// wait for more.
    pub(crate) fn flush(&mut self, mark: (Index, Digest)) {
        self.note_agreed(mark);
        let few = LAZY_ENTRIES.min(self.tail / 16);
        if self.awaited || self.gathered.len() >= few || self.gathered_bytes >= LAZY_BYTES {
            self.send_gathered();
        }
        self.send_backlog();
    }

    fn note_agreed(&mut self, (index, outputs): (Index, Digest)) {
        self.mark = Mark { index, outputs };
    }

    fn send_gathered(&mut self) {
        let entries = core::mem::take(&mut self.gathered);
        (self.gathered_bytes, self.awaited) = (0, false);
        if !entries.is_empty() && !self.failed {
            let (mark, generation) = (self.mark, self.generation);
            self.backlog.push_back(Command::Append { entries, mark, generation });
        }
    }

    /// Sends a command, after everything that was appended before it.
    fn push(&mut self, command: Command) {
        self.send_gathered();
        if !self.failed {
            self.backlog.push_back(command);
            self.send_backlog();
        }
    }

    fn send_backlog(&mut self) {
        while let Some(command) = self.backlog.pop_front() {
            match self.commands.try_push(command) {
                Ok(()) => {}
                Err(PushError::Full(command)) => return self.backlog.push_front(command),
                // It has ended; its last answer says why.
                Err(_) => self.backlog.clear(),
            }
        }
    }

    /// Does what the core asks, after everything that was appended before it. `mark` is how far the
    /// core has released.
    pub(crate) fn request(&mut self, request: StorageRequest, mark: (Index, Digest)) {
        match request {
            StorageRequest::Truncate { .. } | StorageRequest::Install { .. } => {
                self.cut(mark, Command::Request(request));
            }
            StorageRequest::PersistMembership { .. } => {
                self.note_agreed(mark);
                self.push(Command::Request(request));
            }
            StorageRequest::ReadEntries { .. } | StorageRequest::ReadChunk { .. } => {
                self.read(request);
            }
            // The first is always answered: the core has no second one under way.
            StorageRequest::FindCommonPrefix { .. }
            | StorageRequest::BeginChunks(_)
            | StorageRequest::WriteChunk { .. }
            | StorageRequest::Retain { .. } => self.push(Command::Request(request)),
        }
    }

    /// The log is cut: what is said of later entries from here on is of new ones.
    fn cut(&mut self, mark: (Index, Digest), command: Command) {
        self.note_agreed(mark);
        self.send_gathered();
        self.generation += 1;
        (self.sent, self.written) = (Index(0), Index(0));
        self.push(command);
    }

    pub(crate) fn recover(&mut self, to: Option<Index>, mark: (Index, Digest)) {
        let tail = self.tail;
        self.cut(mark, Command::Recover { to, tail });
    }

    /// The log cannot be used; answered by [`Answer::SetAside`].
    pub(crate) fn set_aside(&mut self) {
        self.push(Command::SetAside);
    }

    pub(crate) fn set_checkpoint_aside(&mut self, index: Index) {
        self.push(Command::SetCheckpointAside(index));
    }

    fn read(&mut self, request: StorageRequest) {
        if self.reads < READS && !self.failed {
            self.reads += 1;
            self.push(Command::Request(request));
        }
    }

    /// Has a frozen view written. Answered by [`Answer::Checkpoint`].
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) fn write_checkpoint(
        &mut self,
        history: History,
        view: FrozenUnit<S::Frozen>,
    ) -> Result<(), String> {
        if self.failed {
            return Err("the disk has failed".into());
        }
        let outputs = view.outputs();
        let Who { pair, service, .. } = self.who.clone();
        let header = Header { pair, service, history, outputs };
        let sent = self.jobs.try_send(Job { header, view });
        sent.map_err(|_| "the thread that writes checkpoints has ended, or is busy".into())
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        if self.failed {
            return Poll::Pending;
        }
        match self.answers.poll_pop(cx) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            Poll::Ready(None) => Poll::Ready(gone()),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(crate) fn try_next(&mut self) -> Option<Answer> {
        if self.failed {
            return None;
        }
        match self.answers.pop() {
            Ok(answer) => Some(answer),
            Err(PopError::Closed) => Some(gone()),
            Err(_) => None,
        }
    }

    /// Takes note of an answer.
    pub(crate) fn note(&mut self, answer: Answer) -> Noted {
        self.send_backlog();
        match answer {
            Answer::Persisted { index, generation, gauges, .. } => {
                self.gauges = gauges;
                if generation != self.generation {
                    return Noted::Nothing;
                }
                self.written = index;
                Noted::Tell(StorageResponse::Persisted(index))
            }
            Answer::Gauges(gauges) => {
                self.gauges = gauges;
                Noted::Nothing
            }
            Answer::Response(response) => {
                let read = matches!(
                    response,
                    StorageResponse::EntriesRead { .. } | StorageResponse::ChunkRead { .. }
                );
                self.reads -= usize::from(read && self.reads > 0);
                Noted::Tell(response)
            }
            Answer::Checkpoint { index, result } => {
                if result.is_ok() {
                    self.push(Command::CheckpointWritten);
                }
                let result = result.map(CheckpointFile::from);
                Noted::Tell(StorageResponse::CheckpointWritten { index, result })
            }
            Answer::Failed(failure) => {
                self.failed = true;
                self.backlog.clear();
                self.gathered.clear();
                Noted::Failed(failure)
            }
            Answer::Plan(plan) => Noted::Plan(plan),
            Answer::SetAside => Noted::SetAside,
        }
    }

    /// Commits what is left and lets go of the directory, or gives up waiting for it.
    pub(crate) async fn close(mut self, mark: (Index, Digest), within: Duration) {
        self.note_agreed(mark);
        self.stop = None;
        self.push(Command::Close);
        // The mailbox closes when both threads have ended.
        let (dead, _) = channel::bounded(0);
        drop(core::mem::replace(&mut self.jobs, dead));
        let ended = async {
            while self.answers.recv().await.is_some() {
                self.send_backlog();
            }
        };
        if tokio::time::timeout(within, ended).await.is_ok()
            && let Some(thread) = self.journal_thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// What an answer means for the loop.
pub(crate) enum Noted {
    /// The answer needs nothing.
    Nothing,
    /// The core has to be told this input.
    Tell(StorageResponse),
    /// The state can be restored by this plan.
    Plan(Plan),
    /// The log has been set aside.
    SetAside,
    /// The disk has failed.
    Failed(Failure),
}

/// A queue of so many. Not a channel of crossbeam's. A thread that waits for one yields for a while
/// before it sleeps, and on a busy core one that has just yielded is the last to run.
fn items<T>(slots: usize) -> Result<(Sender<T>, Receiver<T>), CapacityError> {
    Ok(mailbox(Capacity::new(slots, slots as u64)?, |_: &T| 1))
}

/// A thread that panicked.
fn gone() -> Answer {
    let why = "the thread that writes the journal has ended: report this, with the log".into();
    Answer::Failed(Failure::new(why))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StorageError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(StorageError::Thread)
}
