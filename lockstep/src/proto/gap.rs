//! Time that a service is told of because nothing was made of it. All processes had ended (rules
//! O11, O12), or they stood still, or none could order (rule O14).
//!
//! Where a log is taken up again only the process that did so has anything to do about it. No
//! process joins it before it has ordered the end of the gap, so no other can become the sequencer
//! meanwhile. If it ends, its successor takes the log up itself, and waits for its own devices.

use super::ordering::LEAST_STEP;
use super::replica::Replica;
use crate::entry::EntryKind;
use crate::event::Event;
use crate::ids::{Index, LogTime, MonotonicTime};
use crate::limits;
use crate::record::{Origin, Record};

/// A process did not run for long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// The log's time when it stopped.
    pub(super) from: LogTime,
    /// When it went on.
    pub(super) to: MonotonicTime,
}

/// Wake-ups are held until this process's devices stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The entry with which the log was taken up.
    since: Index,
    /// When that was appended.
    at: MonotonicTime,
}

impl Replica {
    /// The first entry of an epoch that is no renewal. A process that takes up its predecessor's
    /// log says so: it alone steps over time in which no process ran (rule O4).
    pub(super) fn begin_log(&mut self, record: Record) {
        let anew = matches!(record.origin, Origin::Restarted | Origin::Adopted);
        if !(anew && self.clock.is_behind()) {
            return self.order_own(EntryKind::Membership { record });
        }
        let before = self.log.last_time();
        self.order_own(EntryKind::Resume { record });
        let (index, gap) = (self.log.last_index(), self.log.last_time().since(before));
        self.held_up = Some(Held { since: index, at: self.now.mono });
        self.event(Event::TakenUp { index, gap });
    }

    /// Whether the driver is to say when all devices of this CoServer stand
    /// ([`Input::DevicesStand`](super::Input::DevicesStand)): what they were told of the service's
    /// new members is released.
    pub fn waits_for_devices(&self) -> bool {
        let out = self.stopped || self.log.panicked();
        !out && self.held_up.is_some_and(|held| self.released >= held.since)
    }

    pub(super) fn on_devices_stand(&mut self) {
        if self.waits_for_devices() {
            self.end_gap();
        }
    }

    /// When they have been waited for long enough.
    pub(super) fn devices_due(&self) -> Option<MonotonicTime> {
        let held = self.held_up.filter(|_| !self.log.panicked())?;
        Some(held.at.plus(limits::DEVICES_WAIT))
    }

    pub(super) fn on_devices_due(&mut self) {
        if self.devices_due().is_some_and(|due| due <= self.now.mono) {
            self.event(Event::DevicesLate { waited: limits::DEVICES_WAIT });
            self.end_gap();
        }
    }

    /// Whether an entry of this time comes after a gap (rule O14). Either this process did not run
    /// for long, or a wake-up should have come long ago and no entry that may carry it out has been
    /// ordered since.
    pub(super) fn is_after_gap(&self, time: LogTime) -> bool {
        self.is_in_log() && (self.is_overdue(time) || self.stood_still.is_some())
    }

    /// Whether this process has come to its log, so that its clock tells the log's time.
    pub(super) fn is_in_log(&self) -> bool {
        self.log.last_index() > Index(0) && !self.clock.is_behind()
    }

    /// Until when this process ran before it stood still. `None` if it did not, if the last entry
    /// is later, or if a wake-up was overdue by then: the gap begins at the last entry.
    pub(super) fn ran_until(&self) -> Option<LogTime> {
        let from = self.stood_still?.from;
        (from > self.log.last_time() && !self.is_overdue(from)).then_some(from)
    }

    /// Whether at that time a wake-up should have come long ago. One that the last entry left over
    /// was due at once.
    fn is_overdue(&self, time: LogTime) -> bool {
        let due = self.log.wakeup().map(|due| due.max(self.log.last_time()));
        due.is_some_and(|due| time.since(due) > self.config.gap_least)
    }

    pub(super) fn order_gap(&mut self, time: LogTime) {
        let before = self.log.last_time();
        let time = time.max(before.plus(LEAST_STEP));
        self.order_at(time, EntryKind::Gap, self.own_origin());
        self.event(Event::Gap { index: self.log.last_index(), gap: time.since(before) });
    }

    fn end_gap(&mut self) {
        self.held_up = None;
        self.order_own(EntryKind::Ready);
    }
}
