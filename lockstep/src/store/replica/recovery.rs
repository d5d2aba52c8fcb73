//! From files to a state: the newest checkpoint that can be used, then the journal.

use std::collections::VecDeque;

use super::failure::Failure;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::history::History;
use crate::ids::Index;
use crate::machine::{RestoreError, StateMachine};
use crate::proto::Recovered;
use crate::record::Origin;
use crate::store::checkpoint::{CheckpointError, Reader};
use crate::store::files::Directory;
use crate::store::journal::{JournalError, Mark, Replay};
use crate::unit::{FrozenUnit, Unit, records};

/// Entries between two reports of how far a replay is.
const STRIDE: u64 = 1024;

/// How to get to a state.
pub(crate) struct Plan {
    pub(super) directory: Box<dyn Directory>,
    /// Where a replay may begin, the best first.
    pub(super) starts: Vec<Start>,
    /// The entry to get to.
    pub(super) target: Index,
    /// What was agreed when the journal was last written.
    pub(super) mark: Mark,
    /// Most entries that may come after the target.
    pub(super) tail: usize,
    /// Whether an operator wants what the replay comes to, also if something else was released.
    pub(crate) adopt: bool,
    /// Which outputs are not released again, where the state at the mark is not there any more.
    pub(super) lost_outputs: Option<String>,
    /// What else than this service computed the log: what comes of it then contradicts what was
    /// released, also where no difference is noticed.
    pub(super) otherwise: Option<String>,
}

/// Where a replay begins.
pub(super) struct Start {
    /// With this checkpoint; `None`: before the first entry.
    pub(super) checkpoint: Option<Index>,
    /// The entries after it.
    pub(super) replay: Replay,
}

/// What the recovery came to.
pub(crate) struct Outcome {
    pub(crate) result: Result<Box<Recovered>, Unrecovered>,
    /// Checkpoints that are not what was written.
    pub(crate) damaged: Vec<(Index, String)>,
}

/// Why there is no state. The unit is as before the first entry then.
#[derive(Debug)]
pub(crate) enum Unrecovered {
    /// What is on the disk is not what this service computed, or not what was written.
    Unusable(String),
    /// The state cannot be read now, or not with these settings; it is left as it is.
    Failed(Failure),
}

/// Restores a unit. `progress` is called now and then with the entry that was executed last.
pub(crate) fn recover<S: StateMachine>(
    unit: &mut Unit<S>,
    initial_snapshot: &FrozenUnit<S::Frozen>,
    plan: Plan,
    progress: impl FnMut(Index),
) -> Outcome {
    let mut damaged = Vec::new();
    let result = run(unit, initial_snapshot, plan, &mut damaged, progress);
    let result = match result {
        Ok(recovered) => Ok(Box::new(recovered)),
        // What was half-way restored is nothing to begin with.
        Err(why) => Err(reload_pristine(unit, initial_snapshot).err().unwrap_or(why)),
    };
    Outcome { result, damaged }
}

fn run<S: StateMachine>(
    unit: &mut Unit<S>,
    initial_snapshot: &FrozenUnit<S::Frozen>,
    plan: Plan,
    damaged: &mut Vec<(Index, String)>,
    progress: impl FnMut(Index),
) -> Result<Recovered, Unrecovered> {
    let Plan { directory, starts, target, mark, tail, adopt, lost_outputs, otherwise } = plan;
    let lost_outputs = match lost_outputs {
        Some(why) if !adopt => return Err(unusable(why)),
        given => given,
    };
    for Start { checkpoint, replay } in starts {
        let history = match checkpoint {
            None => reload_pristine(unit, initial_snapshot).map(|()| History::default())?,
            Some(index) => match load(unit, &*directory, index)? {
                Ok(history) => history,
                Err(why) => {
                    damaged.push((index, why));
                    continue;
                }
            },
        };
        let replaying = Replaying { unit, history, target, tail: Vec::new(), most: tail, adopt };
        let mut recovered = replaying.run(replay, mark, progress)?;
        recovered.contradicts = recovered.contradicts.or(lost_outputs).or(otherwise);
        return Ok(recovered);
    }
    Err(Unrecovered::Unusable("there is no checkpoint that can be used".into()))
}

fn reload_pristine<S: StateMachine>(
    unit: &mut Unit<S>,
    initial_snapshot: &FrozenUnit<S::Frozen>,
) -> Result<(), Unrecovered> {
    let mut reload = || {
        let bytes = initial_snapshot.to_bytes().map_err(|error| error.to_string())?;
        let mut reader = records::Reader::open(bytes).map_err(|error| error.to_string())?;
        unit.reload(&mut reader).map_err(|error| error.to_string())
    };
    reload()
        .map_err(|why| failed(format!("the service does not restore its own first state: {why}")))
}

/// The state in a checkpoint; or what is wrong with the file.
fn load<S: StateMachine>(
    unit: &mut Unit<S>,
    directory: &dyn Directory,
    index: Index,
) -> Result<Result<History, String>, Unrecovered> {
    let unread = |error: CheckpointError| match error.is_damage() {
        true => Ok(Err(error.to_string())),
        false => Err(Unrecovered::Failed(error.into())),
    };
    let mut reader = match Reader::open(directory, index) {
        Ok(reader) => reader,
        Err(error) => return unread(error),
    };
    let restored: Result<(), RestoreError> = unit.reload(&mut reader);
    // Whatever the service made of it: first of all, is the file what was written?
    let header = match reader.finish() {
        Ok(summary) => summary.header,
        Err(error) => return unread(error),
    };
    restored.map_err(|error| {
        let why = crate::causes::chain(&error);
        failed(format!("checkpoint {index} is whole, but not restored: {why}"))
    })?;
    if (unit.index(), unit.digest()) != (header.history.index, header.outputs) {
        return Ok(Err(format!("checkpoint {index} holds the state of another entry")));
    }
    Ok(Ok(header.history))
}

/// A replay under way.
struct Replaying<'a, S> {
    unit: &'a mut Unit<S>,
    history: History,
    target: Index,
    tail: Vec<Entry>,
    most: usize,
    adopt: bool,
}

impl<S: StateMachine> Replaying<'_, S> {
    fn run(
        mut self,
        replay: Replay,
        newest: Mark,
        mut progress: impl FnMut(Index),
    ) -> Result<Recovered, Unrecovered> {
        let mut marks = Marks::new(self.most, self.unit.index(), self.unit.digest());
        // What the log says after the tail, to check that it is a log.
        let mut end = self.history.clone();
        let mut replayed = 0;
        for item in replay {
            let (entry, mark) = item.map_err(unreadable)?;
            if let Some(mark) = mark {
                marks.check(mark);
            }
            end.check(&entry)
                .map_err(|misfit| unusable(format!("entry {}: {misfit}", entry.index)))?;
            end.append(&entry);
            if begins_anew(&entry) {
                marks.contradiction = None;
            }
            if entry.index > self.target {
                self.keep(entry)?;
                continue;
            }
            self.execute(&entry)?;
            replayed += entry.weight() as u64;
            marks.executed(entry.index, self.unit.digest());
            self.history = end.clone();
            if entry.index.0.is_multiple_of(STRIDE) {
                progress(entry.index);
            }
        }
        if self.unit.index() != self.target {
            let (last, target) = (self.unit.index(), self.target);
            return Err(unusable(format!("the journal ends at entry {last}, before {target}")));
        }
        marks.check(newest);
        let contradicts = match marks.contradiction {
            Some(why) if !self.adopt => return Err(unusable(why)),
            other => other,
        };
        Ok(Recovered {
            outputs: self.unit.digest(),
            wakeup: self.unit.wakeup(),
            history: self.history,
            replayed,
            contradicts,
            tail: self.tail,
        })
    }

    fn execute(&mut self, entry: &Entry) -> Result<(), Unrecovered> {
        match self.unit.execute(entry).panic {
            None => Ok(()),
            Some(message) => Err(unusable(format!(
                "the replay of entry {} panicked, which its first execution did not: {message}",
                entry.index
            ))),
        }
    }

    /// An entry that is executed once it is known what this replica becomes.
    fn keep(&mut self, entry: Entry) -> Result<(), Unrecovered> {
        if self.tail.len() >= self.most {
            return Err(failed(format!(
                "more than {} entries on the disk were not released: start with `window_entries` \
                 as it was when they were taken",
                self.most
            )));
        }
        self.tail.push(entry);
        Ok(())
    }
}

/// The outputs' digests at the entries executed last, against what was agreed there once.
struct Marks {
    digests: VecDeque<(Index, Digest)>,
    most: usize,
    /// The first that is not what the replay came to.
    contradiction: Option<String>,
}

/// A lineage that was begun with what a replay came to: what was released before it is given up
/// where it was something else (rule J8).
fn begins_anew(entry: &Entry) -> bool {
    entry.kind.begins().is_some_and(|record| record.origin == Origin::Adopted)
}

impl Marks {
    fn new(most: usize, index: Index, digest: Digest) -> Self {
        let digests = VecDeque::from([(index, digest)]);
        Self { digests, most: most.max(1), contradiction: None }
    }

    fn executed(&mut self, index: Index, digest: Digest) {
        if self.digests.len() >= self.most {
            self.digests.pop_front();
        }
        self.digests.push_back((index, digest));
    }

    /// Whether the replay came to what was released (rule R5).
    fn check(&mut self, mark: Mark) {
        let Some((first, _)) = self.digests.front() else { return };
        let Some(at) = mark.index.0.checked_sub(first.0) else { return };
        let found = usize::try_from(at).ok().and_then(|at| self.digests.get(at));
        let Some((index, digest)) = found.filter(|(_, digest)| *digest != mark.outputs) else {
            return;
        };
        let why = format!(
            "the replay contradicts what was released: at entry {index} the outputs' digest \
             is {digest}, and was {}; the service is another one than then, or not deterministic, or \
             this machine computes wrongly, or did",
            mark.outputs
        );
        self.contradiction.get_or_insert(why);
    }
}

fn failed(why: String) -> Unrecovered {
    Unrecovered::Failed(Failure::new(why))
}

fn unusable(why: String) -> Unrecovered {
    Unrecovered::Unusable(why)
}

fn unreadable(error: JournalError) -> Unrecovered {
    match error {
        JournalError::Damaged { .. } => unusable(error.to_string()),
        other => Unrecovered::Failed(other.into()),
    }
}
