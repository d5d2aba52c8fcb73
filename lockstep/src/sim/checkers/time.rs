//! Log time neither goes back nor stands still, also when nothing happens.

use super::{Bounds, Observation, ObservedState, View, Who, forsaken};
use crate::entry::{Entry, EntryKind};
use crate::ids::{Epoch, Index, LogTime};
use crate::limits;
use crate::output::{Executed, Output, OutputKind};
use crate::proto::io::Standing;
use crate::sim::node::GAP_LEAST;
use crate::sim::service::TIMER;

/// How far log time may run from the sequencer's own time, in thousandths: the slew of a
/// sixteenth, and the clocks' own drift.
const STRAY_PERMILLE: u64 = 66;

/// How late a timer may be while the pair idles (ns).
const IDLE_LATE: u64 = 60_000_000;

/// For rounding, and for several entries at one moment (ns).
const SLACK: u64 = 100_000;

/// Follows the timestamps.
#[derive(Debug)]
pub(super) struct Time {
    wake_late: u64,
    /// The newest entry, by who appended it first: its sequencer.
    newest: Option<Stamp>,
    /// That is a tick which is too early, and a gap after it would say why: the entry before
    /// it, and the objection. Another sequencer may go on from an entry so, to which there is
    /// no objection.
    behind: Option<(Stamp, Option<String>)>,
}

/// When an entry was appended, and what time it has.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    epoch: Epoch,
    index: Index,
    who: Who,
    at: u64,
    time: LogTime,
    begins: bool,
}

impl Stamp {
    /// Whether the same sequencer ordered the next one: another goes on from when it had the entry.
    fn is_followed_by(&self, next: &Stamp) -> bool {
        (self.who, self.epoch, self.index.next()) == (next.who, next.epoch, next.index)
    }

    /// Log time now, if it runs as real time does.
    fn due(&self, now: u64) -> LogTime {
        LogTime(self.time.0 + (now - self.at))
    }

    fn paces(&self, next: &Stamp) -> Result<(), String> {
        let (real, logged) = (next.at - self.at, next.time.0.saturating_sub(self.time.0));
        let stray = real * STRAY_PERMILLE / 1000 + SLACK;
        if logged + stray < real || real + stray < logged {
            let Stamp { index, who, .. } = next;
            return Err(format!(
                "log time went on by {logged} ns at entry {index} of {who} in {real} ns"
            ));
        }
        Ok(())
    }
}

impl Time {
    /// No entries yet.
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { wake_late: bounds.wake_late, newest: None, behind: None }
    }

    pub(super) fn see(
        &mut self,
        now: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Appended { who, entry } => {
                is_later(who, entry, observed)?;
                if self.is_newest(entry) {
                    is_behind_gap(who, entry, observed)?;
                }
                self.has_pace(now, who, entry, observed)
            }
            Observation::Executed { who, executed } => is_not_early(who, executed, observed),
            Observation::Passed => self.all_awake(now, self.wake_late, observed),
            // Nothing but timers was left to do for a while, so these have to be on time.
            Observation::Over { end } if end.waiting == 0 => {
                self.all_awake(now, IDLE_LATE, observed)
            }
            _ => Ok(()),
        }
    }

    /// Whether no replica had it before: the one that appends it is its sequencer.
    fn is_newest(&self, entry: &Entry) -> bool {
        self.newest.is_none_or(|newest| (entry.epoch, entry.index) > (newest.epoch, newest.index))
    }

    fn has_pace(
        &mut self,
        now: u64,
        who: Who,
        entry: &Entry,
        observed: &ObservedState,
    ) -> Result<(), String> {
        if !self.is_newest(entry) {
            return Ok(());
        }
        let (epoch, index, time) = (entry.epoch, entry.index, entry.last_time());
        let stamp =
            Stamp { epoch, index, who, at: now, time, begins: entry.kind.begins().is_some() };
        let from = self.newest.replace(stamp).filter(|from| from.is_followed_by(&stamp));
        let behind = self.behind.take();
        if entry.kind == EntryKind::Gap {
            // What is before it says until when its sequencer ran, or begins an epoch (rule O14).
            // Where that is later than what another one's entry, which came late, lets it go on
            // from, the gap is as short as can be.
            let paces = |from: Option<Stamp>| {
                from.filter(|from| !from.begins).map_or(Ok(()), |from| from.paces(&stamp))
            };
            return match behind {
                Some((before, None)) => paces(Some(before)).or_else(|_| paces(from)),
                Some((before, Some(_))) => paces(Some(before)),
                None => paces(from),
            };
        }
        if let Some((_, Some(objection))) = behind {
            return Err(objection);
        }
        let Some(from) = from else {
            let taken_over = (entry.kind == EntryKind::Tick).then(|| had_before(who, observed));
            self.behind = taken_over.flatten().map(|from| (from, None));
            return Ok(());
        };
        match from.paces(&stamp) {
            Err(objection) if entry.kind == EntryKind::Tick && stamp.time < from.due(now) => {
                self.behind = Some((from, Some(objection)));
                Ok(())
            }
            paces => paces,
        }
    }

    /// After the faults, everyone who serves has to keep its timers.
    fn all_awake(&self, now: u64, late: u64, observed: &ObservedState) -> Result<(), String> {
        let Some(healed) = observed.healed() else { return Ok(()) };
        if forsaken(observed) {
            // A member that waits for an operator orders nothing any more once its window is full.
            return Ok(());
        }
        observed
            .members()
            .filter(|(_, view)| is_serving(view))
            .try_for_each(|(who, view)| is_awake(now, healed, late, who, view))
    }
}

/// The entry before its last one, and when it had that: a new sequencer goes on from there.
fn had_before(who: Who, observed: &ObservedState) -> Option<Stamp> {
    let before = observed.view(who)?.log.iter().rev().nth(1)?;
    let (epoch, index, time) = (before.epoch, before.entry.index, before.time);
    let begins = before.entry.kind.begins().is_some();
    Some(Stamp { epoch, index, who, at: before.at, time, begins })
}

fn is_awake(now: u64, healed: u64, late: u64, who: Who, view: &View) -> Result<(), String> {
    let (Some((due, id)), Some(last)) = (view.timers.first(), view.log.last()) else {
        return Ok(());
    };
    // After a gap they wait for the devices, for a bounded time.
    let wait = limits::DEVICES_WAIT.as_nanos() as u64;
    let held = last.held_since.map_or(0, |since| since + wait + wait * STRAY_PERMILLE / 1000);
    // What fires it may be among what is yet to be executed.
    let busy = if view.executed.len() < view.log.len() { view.executed_at } else { 0 };
    let since = now.saturating_sub(last.at.max(healed).max(held).max(busy));
    // Log time is at least this much: it runs at least nine tenths as fast as real time.
    let reached = last.time.0 + now.saturating_sub(last.at) / 10 * 9;
    if since > late && reached > due.0 + late {
        return Err(format!(
            "the timer of {id:#x} on {who} was due at {due}, log time is at least {reached}, \
             and it has not fired"
        ));
    }
    Ok(())
}

/// A timer that its sequencer knew to be due for so long is not carried out by an entry that says
/// nothing of the time between (rule O14).
fn is_behind_gap(who: Who, entry: &Entry, observed: &ObservedState) -> Result<(), String> {
    let Some(view) = observed.view(who) else { return Ok(()) };
    let Some(before) = view.log.iter().rev().nth(1) else { return Ok(()) };
    // Of an entry at which it panicked it has no results.
    let has_results = view.executed.len() + 1 == view.log.len() && view.panicked.is_none();
    let knew = has_results && before.held_since.is_none();
    let says = matches!(entry.kind, EntryKind::Gap | EntryKind::Resume { .. });
    match view.timers.first() {
        Some((due, id))
            if knew && !says && *due > before.time && entry.time.since(*due) > GAP_LEAST =>
        {
            Err(format!(
                "entry {} of {who} has time {}, the timer of {id:#x} was due at {due}, and there is \
                 no gap",
                entry.index, entry.time
            ))
        }
        _ => Ok(()),
    }
}

/// No timer fires between the entry that takes a log up and the one that says that the
/// devices stand.
fn is_not_early(who: Who, executed: &Executed, observed: &ObservedState) -> Result<(), String> {
    let fires = |output: &Output| matches!(output.kind, OutputKind::Device { device: TIMER, .. });
    let held = observed.view(who).is_some_and(|view| view.holds_wakeups(executed.index));
    if held && executed.outputs.iter().any(fires) {
        return Err(format!("{who} fires a timer at entry {}, within a gap", executed.index));
    }
    Ok(())
}

fn is_serving(view: &View) -> bool {
    matches!(view.standing, Standing::Serving { .. }) && view.panicked.is_none() && !view.diverged
}

fn is_later(who: Who, entry: &Entry, observed: &ObservedState) -> Result<(), String> {
    let before = observed.view(who).and_then(|view| view.log.iter().rev().nth(1));
    match before {
        Some(before) if before.time >= entry.time => Err(format!(
            "entry {} of {who} has time {}, the one before has {}",
            entry.index, entry.time, before.time
        )),
        _ => Ok(()),
    }
}
