//! Running a service several times over the same script.

use core::panic::Location;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bytes::Bytes;

use super::difference::{Difference, Mismatch, Run, Spot, compare, first_byte};
use super::script::Script;
use super::second::{self, Condition};
use crate::entry::{Entry, EntryKind};
use crate::ids::Index;
use crate::machine::{Freeze, RecordSource, StateMachine};
use crate::output::Executed;
use crate::record::{Origin, Record};
use crate::unit::{FrozenUnit, Unit, UnitConfig, panic_message, records::Reader};

/// Batches of a run, unless [`Check::batches`] says otherwise: each costs a thread, and in some
/// runs a freeze and a restore.
const BATCHES: usize = 64;

/// Runs a service several times over a script and compares. `make` gives a fresh instance.
///
/// The first run goes straight through. The others are cut into batches, each on a thread of its
/// own, so that stacks, heap addresses and hash seeds differ. Some take views on the way, some are
/// frozen and restored into fresh instances. That happens between batches, and whenever the script
/// has a process come back ([`Input::Duplex`](super::Input::Duplex)) or start again
/// ([`Input::Restarted`](super::Input::Restarted)), as such a process does before it goes on.
/// [`Check`] has more to set.
///
/// The last run is in a second process of the same test, on Linux. It has a wall clock that is 400
/// days ahead, another time zone, locale, environment and working directory, and hash seeds and
/// addresses of its own. It finds what is the same throughout a process, such as a clock that is
/// read in whole seconds, and says which of these it depends on.
///
/// For that, the test's program is started with the name of this test and nothing else, and does
/// there what it does here up to this call. It is not started, and a line on standard error says
/// so, outside the thread of a test (in a documentation test, say). The clock is shifted by a
/// small library that is compiled with `cc`; without a C compiler it stays as it is. A clock of
/// which only differences are taken ([`std::time::Instant`]) is not shifted; no run finds a span in
/// whole seconds that was the same in all of them. Of the environment those variables are left
/// alone that cargo, the loader and the like need.
///
/// # Errors
/// The first [`Difference`], or a panic, or a state that could not be restored.
///
/// # Panics
/// If `make` does.
#[track_caller]
pub fn check_determinism<S: StateMachine>(
    make: impl Fn() -> S + Sync,
    script: &Script,
) -> Result<(), Difference> {
    Check::new().run(make, script)
}

/// A check with settings of its own; see [`check_determinism`].
#[derive(Clone, Debug)]
pub struct Check {
    config: UnitConfig,
    batches: usize,
    second_process: bool,
}

impl Default for Check {
    fn default() -> Self {
        Self::new()
    }
}

impl Check {
    /// With the default settings.
    pub fn new() -> Self {
        Self { config: UnitConfig::default(), batches: BATCHES, second_process: true }
    }

    /// With other bounds of the unit.
    #[must_use]
    pub fn config(mut self, config: UnitConfig) -> Self {
        self.config = config;
        self
    }

    /// Cuts each run into this many batches, at least one. With as many as the script has
    /// entries, the state is restored after each of them.
    #[must_use]
    pub fn batches(mut self, batches: usize) -> Self {
        self.batches = batches.max(1);
        self
    }

    /// Leaves out the run in a second process. This is for a test that cannot run twice at a time
    /// (one that binds a fixed port), or whose service is made from what only this process has.
    #[must_use]
    pub fn in_one_process(mut self) -> Self {
        self.second_process = false;
        self
    }

    /// Runs the check.
    ///
    /// # Errors
    /// As [`check_determinism`].
    ///
    /// # Panics
    /// If `make` does.
    #[track_caller]
    pub fn run<S: StateMachine>(
        &self,
        make: impl Fn() -> S + Sync,
        script: &Script,
    ) -> Result<(), Difference> {
        let call = second::Call::begin(Location::caller());
        let is_second = second::is_second();
        if is_second && call.serve(|entries| self.straight(&make, entries).report()) {
            return Ok(());
        }
        let entries = script.entries();
        let straight = self.straight(&make, entries);
        self.cut(&make, entries, &straight)?;
        if self.second_process && !is_second {
            compare_processes(&call, entries, &straight)?;
        }
        Ok(())
    }

    fn straight<S: StateMachine>(&self, make: &impl Fn() -> S, entries: &[Entry]) -> Straight {
        let mut unit = Unit::with_config(make(), self.config.clone());
        let mut results = Vec::with_capacity(entries.len());
        for entry in entries {
            let result = unit.execute(entry);
            let stop = result.panic.is_some();
            results.push(result);
            if stop {
                return Straight { results, state: None };
            }
        }
        Straight { results, state: Some(State::take(&unit)) }
    }

    /// The runs that are cut into batches.
    fn cut<S: StateMachine>(
        &self,
        make: &(impl Fn() -> S + Sync),
        entries: &[Entry],
        straight: &Straight,
    ) -> Result<(), Difference> {
        if let Some(Err(why)) = &straight.state {
            return fail(Run::Straight, None, entries.last(), Mismatch::Freeze(why.clone()));
        }
        let len = entries.len().div_ceil(self.batches).max(1);
        // The last run restores at other places than the one before it.
        let runs = [
            (Run::Batches, len),
            (Run::Views, len),
            (Run::Restores, len),
            (Run::Restores, len + len / 2 + 1),
        ];
        runs.into_iter().try_for_each(|(run, len)| {
            let mut cut = Cut { config: &self.config, make, run, restored: None, straight };
            cut.through(entries, len)
        })
    }
}

/// What the straight run came to.
struct Straight {
    /// Up to the entry that panicked, or the last.
    results: Vec<Executed>,
    /// After the last entry, or why it could not be frozen; none if one panicked.
    state: Option<Result<State, String>>,
}

impl Straight {
    /// What the first process is told of it.
    fn report(self) -> second::Report {
        let state = self.state.map(|state| state.map(|state| state.all.to_vec()));
        second::Report { results: self.results, state, clock: second::wall_clock() }
    }

    /// The first thing in which another process came to something else, and at which entry.
    fn differs(&self, other: &second::Report) -> Option<(usize, Mismatch)> {
        for (at, (ours, theirs)) in self.results.iter().zip(&other.results).enumerate() {
            if let Some(what) = compare(ours, theirs) {
                return Some((at, what));
            }
        }
        let last = self.results.len().saturating_sub(1);
        let (Some(Ok(ours)), Some(theirs)) = (&self.state, &other.state) else { return None };
        let what = match theirs {
            Ok(theirs) => match State::read(theirs.clone().into(), ours.own) {
                Ok(theirs) => Mismatch::FinalState(ours.differs(&theirs)?),
                Err(why) => Mismatch::Freeze(why),
            },
            Err(why) => Mismatch::Freeze(why.clone()),
        };
        Some((last, what))
    }
}

/// Has a second process run the same, and says on what a difference depends.
fn compare_processes(
    call: &second::Call,
    entries: &[Entry],
    straight: &Straight,
) -> Result<(), Difference> {
    let report = match call.run(entries) {
        second::Outcome::Ran(report) => report,
        second::Outcome::Skipped(why) => {
            second::tell(&format!("not run: {why}"));
            return Ok(());
        }
        second::Outcome::Failed(why) => {
            let run = Run::SecondProcess { only: None };
            return fail(run, None, entries.first(), Mismatch::Process(why));
        }
    };
    let Some((at, what)) = straight.differs(&report) else { return Ok(()) };
    let only = Condition::ALL.into_iter().find(|condition| {
        let report = call.run_under(*condition, entries);
        report.is_some_and(|report| straight.differs(&report).is_some())
    });
    fail(Run::SecondProcess { only }, None, entries.get(at), what)
}

/// A run that is cut into batches.
struct Cut<'a, M> {
    config: &'a UnitConfig,
    make: &'a M,
    run: Run,
    restored: Option<Index>,
    straight: &'a Straight,
}

impl<S: StateMachine, M: Fn() -> S + Sync> Cut<'_, M> {
    fn through(&mut self, entries: &[Entry], len: usize) -> Result<(), Difference> {
        let make = self.make;
        let config = self.config.clone();
        let mut unit = elsewhere(0, || Unit::with_config(make(), config));
        let mut view = None;
        for (number, batch) in batches(entries, len, self.run).into_iter().enumerate() {
            unit = elsewhere(number, || self.batch(unit, batch))?;
            let last = batch.last();
            match self.run {
                Run::Straight | Run::Batches | Run::SecondProcess { .. } => {}
                Run::Views => view = Some(self.swap_view(&unit, view, last)?),
                Run::Restores => {
                    unit = elsewhere(number, || self.restore(unit, last))?;
                    self.restored = last.map(|entry| entry.index);
                }
            }
        }
        let state = self.state(&unit, entries.last())?;
        let straight = self.straight.state.as_ref().and_then(|state| state.as_ref().ok());
        let differs = straight.and_then(|straight| straight.differs(&state));
        differs.map_or(Ok(()), |spot| self.fail(entries.last(), Mismatch::FinalState(spot)))
    }

    fn batch(&self, mut unit: Unit<S>, batch: &[Entry]) -> Result<Unit<S>, Difference> {
        for entry in batch {
            let result = unit.execute(entry);
            let at = usize::try_from(entry.index.0 - 1).unwrap_or(usize::MAX);
            if let Some(what) = compare(&self.straight.results[at], &result) {
                return self.fail(Some(entry), what);
            }
        }
        Ok(unit)
    }

    /// Looks at the view that was taken a batch ago once more, and takes the next one.
    fn swap_view(
        &self,
        unit: &Unit<S>,
        old: Option<(FrozenUnit<S::Frozen>, State)>,
        last: Option<&Entry>,
    ) -> Result<(FrozenUnit<S::Frozen>, State), Difference> {
        if let Some((view, then)) = old {
            let now = State::write(&view).or_else(|why| self.fail(last, Mismatch::Freeze(why)))?;
            if let Some(spot) = then.differs(&now) {
                return self.fail(last, Mismatch::View(spot));
            }
        }
        let view =
            guarded(|| unit.freeze()).or_else(|why| self.fail(last, Mismatch::Freeze(why)))?;
        let state = State::write(&view).or_else(|why| self.fail(last, Mismatch::Freeze(why)))?;
        Ok((view, state))
    }

    fn restore(&self, unit: Unit<S>, last: Option<&Entry>) -> Result<Unit<S>, Difference> {
        let state = self.state(&unit, last)?;
        let restored = Reader::open(state.all.clone())
            .and_then(|mut records| Unit::restore((self.make)(), self.config.clone(), &mut records))
            .or_else(|error| self.fail(last, Mismatch::Restore(error.to_string())))?;
        let again = self.state(&restored, last)?;
        match state.differs(&again) {
            Some(spot) => self.fail(last, Mismatch::Restored(spot)),
            None => Ok(restored),
        }
    }

    fn state(&self, unit: &Unit<S>, last: Option<&Entry>) -> Result<State, Difference> {
        State::take(unit).or_else(|why| self.fail(last, Mismatch::Freeze(why)))
    }

    fn fail<T>(&self, input: Option<&Entry>, what: Mismatch) -> Result<T, Difference> {
        fail(self.run, self.restored, input, what)
    }
}

fn fail<T>(
    run: Run,
    restored: Option<Index>,
    input: Option<&Entry>,
    what: Mismatch,
) -> Result<T, Difference> {
    let input = input.cloned().map(Box::new);
    Err(Difference { run, restored, input, what: Box::new(what) })
}

/// Batches of about this length. Where states are restored, one also ends before each entry at
/// which a process has come to run the service, with a state that another one froze.
fn batches(entries: &[Entry], len: usize, run: Run) -> Vec<&[Entry]> {
    if run != Run::Restores {
        return entries.chunks(len).collect();
    }
    let mut batches = Vec::new();
    let mut from = 0;
    for at in 1..=entries.len() {
        if at == entries.len() || at - from == len || begins_a_process(&entries[at]) {
            batches.push(&entries[from..at]);
            from = at;
        }
    }
    batches
}

fn begins_a_process(entry: &Entry) -> bool {
    let joined = |record: &Record| record.origin == Origin::Joined;
    matches!(entry.kind, EntryKind::Resume { .. }) || entry.kind.begins().is_some_and(joined)
}

/// A frozen state as bytes: all of it, and the service's part alone.
struct State {
    all: Bytes,
    service: Vec<Bytes>,
    /// Records of the engine's own, which come first.
    own: usize,
}

impl State {
    fn take<S: StateMachine>(unit: &Unit<S>) -> Result<Self, String> {
        Self::write(&guarded(|| unit.freeze())?)
    }

    fn write<F: Freeze>(view: &FrozenUnit<F>) -> Result<Self, String> {
        let all = guarded(|| view.to_bytes())?.map_err(|error| error.to_string())?;
        Self::read(all, view.own_records())
    }

    fn read(all: Bytes, own: usize) -> Result<Self, String> {
        let mut records = Vec::new();
        let mut reader = Reader::open(all.clone()).map_err(|error| error.to_string())?;
        while let Some(record) = reader.record().map_err(|error| error.to_string())? {
            records.push(record);
        }
        let service = records.split_off(own.min(records.len()));
        Ok(Self { all, service, own })
    }

    /// Where another state is not the same.
    fn differs(&self, other: &Self) -> Option<Spot> {
        if self.all == other.all {
            return None;
        }
        let (ours, theirs) = (&self.service, &other.service);
        let most = ours.len().max(theirs.len());
        let record = (0..most).find(|&at| ours.get(at) != theirs.get(at));
        let part = |records: &[Bytes], at: usize| records.get(at).cloned().unwrap_or_default();
        let byte = match record {
            Some(at) => first_byte(&part(ours, at), &part(theirs, at)),
            None => first_byte(&self.all, &other.all),
        };
        Some(Spot { record, byte })
    }
}

/// Runs something of the service's; its panic is an error.
fn guarded<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what))
        .map_err(|payload| format!("it panicked: {}", panic_message(payload)))
}

/// Runs something on a thread of its own, among other heap allocations than before. A service
/// that behaves does not notice.
fn elsewhere<T: Send>(number: usize, what: impl FnOnce() -> T + Send) -> T {
    let run = || {
        let ballast: Vec<Vec<u8>> = (0..=number % 7).map(|at| vec![0; 24 << at]).collect();
        let result = what();
        drop(ballast);
        result
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|payload| resume_unwind(payload))
}
