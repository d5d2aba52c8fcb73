//! Why pairs get no record, or no new one: for the status, and for the log.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::event::Reminder;
use crate::exhaustion::remedy_of_disk;
use crate::ids::{MonotonicTime, PairId};
use crate::witness::{StoreError, Told};

/// What keeps a pair from a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its record could not be read at the start.
    Unreadable,
    /// A new record could not be written, and the one before stands.
    NotStored,
    /// Nobody knows which record is on the disk.
    StorageFailed,
    /// Its members know of a later epoch.
    Behind,
}

impl Kind {
    /// Stable, as in the event `pair_refused`.
    fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NotStored => "not-stored",
            Self::StorageFailed => "storage-failed",
            Self::Behind => "behind",
        }
    }
}

/// One pair's trouble.
#[derive(Debug)]
struct Trouble {
    kind: Kind,
    why: String,
    todo: String,
    since: MonotonicTime,
    /// When it is said, if anybody is refused for it then.
    reminder: Reminder<MonotonicTime>,
}

/// The pairs that are in trouble, of those that the witness serves.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    pairs: BTreeMap<PairId, Trouble>,
}

/// What a pair waits for at a witness.
#[derive(Debug, Clone, Serialize)]
pub struct TroubleReport {
    /// Its stable name, as in the event `pair_refused`.
    pub reason: &'static str,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// For people: what is wrong.
    pub why: String,
    /// For people: what to do about it.
    pub todo: String,
}

impl Troubles {
    /// The pair's record could not be read at the start.
    pub(super) fn on_unreadable(&mut self, now: MonotonicTime, pair: PairId, error: &StoreError) {
        let todo = "put the disk or the file in order, then restart the witness";
        self.note(now, pair, Kind::Unreadable, error.to_string(), todo.into());
    }

    /// A record was written, or not.
    pub(super) fn on_stored(
        &mut self,
        now: MonotonicTime,
        pair: PairId,
        result: &Result<(), StoreError>,
    ) {
        match result {
            Ok(()) => drop(self.pairs.remove(&pair)),
            Err(StoreError::Unchanged { action, path, source }) => {
                let why = format!("cannot {action} {}: {source}", path.display());
                let todo = format!(
                    "{}; the witness need not be restarted: it tries again whenever a CoServer asks",
                    remedy_of_disk(source)
                );
                self.note(now, pair, Kind::NotStored, why, todo);
                self.say_if_due(now, pair);
            }
            Err(error) => {
                let todo = "put the disk in order, then restart the witness";
                self.note(now, pair, Kind::StorageFailed, error.to_string(), todo.into());
            }
        }
    }

    /// The pair's members know of a later epoch than its record's.
    pub(super) fn on_behind(&mut self, now: MonotonicTime, pair: PairId, ours: Told, told: Told) {
        let why = format!(
            "a CoServer knows of epoch {} of lineage {}, which the record here, of epoch {} of \
             lineage {}, does not explain: this directory was wiped, or is an older copy",
            told.epoch, told.lineage, ours.epoch, ours.lineage
        );
        let todo = "while a CoServer still serves, let it connect; otherwise stop the witness and \
                    begin a new lineage (`new-lineage`)";
        self.note(now, pair, Kind::Behind, why, todo.into());
    }

    /// Says it again if it is time.
    pub(super) fn say_if_due(&mut self, now: MonotonicTime, pair: PairId) {
        let Some(trouble) = self.pairs.get_mut(&pair) else { return };
        if !trouble.reminder.is_due(now) {
            return;
        }
        let TroubleReport { reason, for_ms, why, todo } = trouble.report(now);
        tracing::warn!(event = "pair_refused", %pair, reason, for_ms, why, todo);
    }

    /// What the status says of the pair.
    pub(super) fn report(&self, now: MonotonicTime, pair: PairId) -> Option<TroubleReport> {
        self.pairs.get(&pair).map(|trouble| trouble.report(now))
    }

    fn note(&mut self, now: MonotonicTime, pair: PairId, kind: Kind, why: String, todo: String) {
        // What is not said by an event of its own is said at once.
        let at_once = kind == Kind::NotStored;
        let reminder = if at_once { Reminder::at_once(now) } else { Reminder::later(now) };
        let new =
            || Trouble { kind, why: String::new(), todo: String::new(), since: now, reminder };
        let trouble = self.pairs.entry(pair).or_insert_with(new);
        if trouble.kind != kind {
            *trouble = new();
        }
        (trouble.why, trouble.todo) = (why, todo);
    }
}

impl Trouble {
    fn report(&self, now: MonotonicTime) -> TroubleReport {
        TroubleReport {
            reason: self.kind.name(),
            for_ms: u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX),
            why: self.why.clone(),
            todo: self.todo.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PAIR: PairId = PairId([1; 16]);

    fn unchanged() -> Result<(), StoreError> {
        let source = std::io::Error::from_raw_os_error(24);
        Err(StoreError::Unchanged { action: "create", path: "x.new".into(), source })
    }

    #[test]
    fn a_record_that_cannot_be_written_is_a_trouble_until_one_is() {
        let mut troubles = Troubles::default();
        troubles.on_stored(MonotonicTime(0), PAIR, &unchanged());
        let later = MonotonicTime(0).plus(Duration::from_secs(7));
        troubles.on_stored(later, PAIR, &unchanged());
        let report = troubles.report(later, PAIR).unwrap();
        assert_eq!((report.reason, report.for_ms), ("not-stored", 7_000));
        assert!(report.why.contains("cannot create x.new"), "{report:?}");
        assert!(report.todo.contains("LimitNOFILE"), "{report:?}");
        assert!(report.todo.contains("need not be restarted"), "{report:?}");

        let failed = Err(StoreError::Failed { pair: PAIR });
        troubles.on_stored(later, PAIR, &failed);
        let report = troubles.report(later, PAIR).unwrap();
        assert_eq!((report.reason, report.for_ms), ("storage-failed", 0));
        assert!(report.todo.contains("restart the witness"), "{report:?}");

        troubles.on_stored(later, PAIR, &Ok(()));
        assert!(troubles.report(later, PAIR).is_none());
    }

    #[test]
    fn it_is_said_at_once_and_then_at_growing_intervals() {
        let mut troubles = Troubles::default();
        let mut said = Vec::new();
        for second in 0..60 {
            let now = MonotonicTime(0).plus(Duration::from_secs(second));
            troubles.on_stored(now, PAIR, &unchanged());
            let reminder = troubles.pairs[&PAIR].reminder;
            if said.last().is_none_or(|(_, last)| *last != reminder) {
                said.push((second, reminder));
            }
        }
        assert_eq!(
            said.into_iter().map(|(second, _)| second).collect::<Vec<_>>(),
            [0, 3, 9, 21, 45]
        );
    }
}
