//! Many deadlines on one timer.
//!
//! A session's deadline moves away with every byte, so it is not entered anew each time. What is
//! entered is the earliest moment at which it could have come, and then the session is asked again.

use std::collections::BTreeSet;

use io_redirect::tcp::ConnId;
use io_redirect::{Io, TimerId, Token};
use lockstep::ids::LogTime;

/// The deadlines of all connections, and the timer that stands for the least of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Timeouts {
    /// Each row's `alarm`, by time.
    due: BTreeSet<(u64, ConnId)>,
    armed: Option<TimerId>,
}

impl Timeouts {
    pub(super) fn restored(armed: Option<TimerId>) -> Timeouts {
        Timeouts { due: BTreeSet::new(), armed }
    }

    pub(super) fn armed(&self) -> Option<TimerId> {
        self.armed
    }

    /// Enters what a row says it had entered.
    pub(super) fn enter(&mut self, conn: ConnId, alarm: Option<u64>) {
        self.due.extend(alarm.map(|at| (at, conn)));
    }

    /// Sees to it that the connection is asked at its deadline at the latest; `alarm` is what is
    /// entered for it.
    pub(super) fn see(&mut self, conn: ConnId, alarm: &mut Option<u64>, deadline: Option<u64>) {
        let Some(deadline) = deadline else { return };
        if alarm.is_some_and(|at| at <= deadline) {
            return;
        }
        self.forget(conn, *alarm);
        *alarm = Some(deadline);
        self.enter(conn, *alarm);
    }

    pub(super) fn forget(&mut self, conn: ConnId, alarm: Option<u64>) {
        if let Some(at) = alarm {
            self.due.remove(&(at, conn));
        }
    }

    /// The next connection to be asked; its alarm is no longer entered.
    pub(super) fn take_due(&mut self, now: u64) -> Option<ConnId> {
        let (at, conn) = *self.due.first()?;
        (at <= now).then(|| {
            self.due.pop_first();
            conn
        })
    }

    /// A timer fired.
    pub(super) fn on_timer(&mut self, timer: TimerId) {
        self.armed = self.armed.filter(|armed| *armed != timer);
    }

    /// Sets the timer to the least of all deadlines and `other`, unless it fires sooner anyway. In
    /// that case it is set again when it fires, which costs less than moving it all the time.
    pub(super) fn arm(&mut self, io: &mut Io<'_>, other: Option<u64>) {
        let least = self.due.first().map(|(at, _)| *at).into_iter().chain(other).min();
        let Some(least) = least.map(LogTime) else { return };
        if self.armed.is_some_and(|armed| armed.deadline() <= least) {
            return;
        }
        if let Some(armed) = self.armed.take() {
            io.timers().cancel(armed);
        }
        match io.timers().at(least, Token(0)) {
            Ok(timer) => self.armed = Some(timer),
            // One timer is never one too many.
            Err(error) => tracing::error!(%error, "the relay's timer cannot be set"),
        }
    }
}
