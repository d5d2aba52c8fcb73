//! Silence and slowness of the peer, and of this replica itself (section S of
//! `docs/protocol.md`).
//!
//! - S1: a link is up while heartbeats come back on it; the peer is silent when no link is up and its
//!   reports have stopped.
//! - S2: the timeout adapts, between a floor and the configured silence.
//! - S3: time in which this replica did not run counts against no process.
//! - S4: a new incarnation at the peer's place, or its leave, is its death at once.
//! - S5: a peer that does not get on with one of its duties is too slow.
//! - S6: a member that finds the same of itself leaves.
//! - S7: what the peer's guardian says of its end is its death at once.
//!
//! What the two owe each other is counted by [`debts`](super::debts).

use core::time::Duration;

use super::debts::{Debts, Work};
use super::flow::Resend;
use super::gap::Stop;
use super::links::Link;
use super::replica::Replica;
use crate::event::{Event, StopCause, Suspicion};
use crate::ids::{Incarnation, LinkId, Timestamps};
use crate::wire::frames::{Death, Progress};

/// Handling an input later than this after the heartbeat was due means that the process did not
/// run meanwhile.
const STALL: Duration = Duration::from_millis(5);

/// The silence timeout, adapted to how regularly heartbeats come back (rule S2).
#[derive(Debug)]
pub(super) struct Silence {
    floor: Duration,
    ceiling: Duration,
    heartbeat: Duration,
    /// The longest gap between two returns of late; forgotten by halves.
    peak: Duration,
}

impl Silence {
    pub(super) fn new(floor: Duration, ceiling: Duration, heartbeat: Duration) -> Self {
        // Nothing is known yet, so the full patience.
        Self { floor, ceiling, heartbeat, peak: ceiling }
    }

    pub(super) fn timeout(&self) -> Duration {
        (self.heartbeat + self.peak * 3).clamp(self.floor.min(self.ceiling), self.ceiling)
    }

    /// Two heartbeats came back this far apart.
    pub(super) fn observe(&mut self, gap: Duration) {
        // A weight of 1/512 forgets half of a peak within a few seconds of heartbeats.
        self.peak = gap.max(self.peak - self.peak / 512);
    }
}

impl Replica {
    /// Notes the time, and how long this process was not running: what others did not say
    /// meanwhile is not held against them (rule S3).
    pub(super) fn advance_time(&mut self, now: Timestamps) {
        assert!(now.mono >= self.now.mono, "a monotonic clock does not go back");
        let late = now.mono.since(self.last_handled).saturating_sub(self.heartbeat());
        // Before that no log stood still with it, and what its wall clock said is no log's time.
        if late > self.config.gap_least && self.stood_still.is_none() && self.is_in_log() {
            self.stood_still = Some(Stop { from: self.clock.stamp(self.now), to: now.mono });
        }
        self.now = now;
        self.last_handled = now.mono;
        if late < STALL {
            return;
        }
        for link in &mut self.links {
            link.echoed = link.echoed.plus(late);
        }
        self.progressed = self.progressed.plus(late);
        self.resend.discount(late);
        self.peer_debts.discount(late, now.mono);
        self.own_debts.discount(late, now.mono);
        self.own_work.discount(late, now.mono);
        if late >= self.config.silence_floor / 2 {
            self.event(Event::Stalled { span: late });
        }
    }

    /// A link whose heartbeats no longer come back is down (rule S1).
    pub(super) fn on_silence_due(&mut self) {
        let (now, timeout) = (self.now.mono, self.silence.timeout());
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            if link.up && now.since(link.echoed) >= timeout {
                link.up = false;
                let link = link.id;
                self.event(Event::LinkDown { link, closed: false, missed: self.is_duplex() });
                self.reassign_bulk();
            }
        }
    }

    /// Finds out whether the peer keeps up (rule S5).
    pub(super) fn on_slowness_due(&mut self) {
        let now = self.now.mono;
        let full = self.is_sequencer() && !self.has_room();
        match self.window_full_since {
            None if full => {
                self.window_full_since = Some(now);
                let (ordered, agreed) = (self.log.last_index(), self.agreed());
                self.event(Event::WindowFull { ordered, agreed });
            }
            Some(_) if !full => {
                self.window_full_since = None;
                self.event(Event::WindowOpen);
            }
            _ => {}
        }
        self.count_debts();
    }

    /// Who owes what: each side the entries with which the other is done.
    fn count_debts(&mut self) {
        if self.is_joiner() || self.stream_peer().is_none() {
            return self.forget_debts();
        }
        let now = self.now.mono;
        let ours = Work {
            last_index: self.log.last_index(),
            executed: self.log.executed(),
            persisted: self.persisted,
        };
        let Progress { last_index, executed, persisted, .. } = self.progress;
        let theirs = Work { last_index, executed, persisted };
        self.peer_debts.look(ours.done(), theirs, now);
        let waiting = (self.pending.len() > 0).then(|| self.pending.first());
        let waiting = waiting.filter(|_| !self.is_sequencer());
        self.peer_debts.look_at_order(waiting, ours.done() < ours.last_index, now);
        // It is the peer's duty to send what is not here.
        self.own_debts.look(theirs.done().min(ours.last_index), ours, now);
    }

    /// What was owed until now is owed no more: the members are others, or have begun anew.
    pub(super) fn forget_debts(&mut self) {
        self.peer_debts = Debts::default();
        self.own_debts = Debts::default();
    }

    pub(super) fn peer_is_slow(&self) -> bool {
        self.peer_debts.overdue(self.config.slow_limit, self.now.mono).is_some()
    }

    /// A side that hangs itself accuses no other: it leaves, so that the other goes on (rule S6).
    pub(super) fn on_hanging(&mut self) {
        let limit = self.config.slow_limit;
        let Some((duty, span)) = self.own_debts.overdue(limit, self.now.mono) else { return };
        // While results differ, or where no replica would be let go on, to leave is of no use.
        let differs = self.divergence.is_some() || self.log.panicked() || self.progress.halted;
        if self.is_duplex() && self.is_known() && self.is_heard() && self.witness_up && !differs {
            self.stop(StopCause::Hanging { duty, span });
        }
    }

    /// The peer's guardian says that a process at its place has ended. Of any other process than the
    /// member it means nothing (rule S7).
    pub(super) fn on_peer_died(&mut self, incarnation: Incarnation, how: Death) {
        if self.membership.peer() == Some(incarnation) && !self.peer_declared_dead {
            self.event(Event::PeerDied { incarnation, how });
            self.peer_declared_dead = true;
        }
    }

    /// Suspects the peer for what there is against it, or no longer does.
    pub(super) fn evaluate_peer(&mut self) {
        if !self.is_duplex() {
            return;
        }
        let heard = self.is_heard();
        if heard && !self.heard {
            // What it could not tell is not held against it (rule S3).
            self.peer_debts.restart(self.now.mono);
            self.own_debts.restart(self.now.mono);
        }
        self.heard = heard;
        let passed = match self.suspicion {
            Some((Suspicion::Silent, _)) => heard,
            Some((Suspicion::Slow, _)) => !self.peer_is_slow(),
            _ => false,
        };
        if passed && !self.peer_declared_dead {
            self.clear_suspicion();
        }
        if !self.may_go_alone() {
            return;
        }
        if self.divergence.is_some() && self.is_preferred() {
            self.suspect(Suspicion::Diverged);
        } else if self.divergence.is_none() && heard && self.peer_is_slow() {
            self.suspect(Suspicion::Slow);
        } else if self.peer_declared_dead {
            self.suspect(Suspicion::Dead);
        } else if !heard && self.was_heard() {
            self.suspect(Suspicion::Silent);
        }
    }

    /// Whether the peer is not silent (rule S1): a link is up, or what it reports goes on, which
    /// proves both directions as well as a heartbeat does.
    pub(super) fn is_heard(&self) -> bool {
        let goes_on = self.now.mono.since(self.progressed) < self.silence.timeout();
        self.links.iter().any(|link| link.up || (goes_on && link.connected))
    }

    /// Whether the peer has had the time to be heard since the epoch began.
    pub(super) fn was_heard(&self) -> bool {
        let patience = self.config.silence;
        self.epoch_since.is_some_and(|since| self.now.mono.since(since) >= patience)
            || self.links.iter().all(|link| !link.connected)
    }

    pub(super) fn on_pong(&mut self, link: LinkId, sequence: u64) {
        let now = self.now.mono;
        let ours = self.link(link);
        let Some((gap, sent)) = ours.pong(sequence, now) else { return };
        if ours.up {
            self.silence.observe(gap);
        } else {
            ours.up = true;
            self.event(Event::LinkUp { link });
            // What was sent while it carried nothing is lost.
            self.resend = Resend::default();
            let (first, forward) = (self.peer_lacks(), self.forwards_lacking());
            self.link(link).rewind(first, forward);
        }
        if !self.is_sequencer() {
            // The sequencer runs, and knows itself whether it stood still as well.
            self.stood_still = self.stood_still.filter(|stop| sent < stop.to);
        }
    }

    /// Whether that process is not silent, on a link on which it introduced itself: its connection
    /// outlives it by the idle time of the transport, which is far longer.
    pub(super) fn hears(&self, peer: Incarnation) -> bool {
        let (now, patience) = (self.now.mono, self.config.silence);
        let recent = |link: &Link| link.up || now.since(link.echoed) < patience;
        self.links.iter().any(|link| link.handshaken_with == Some(peer) && recent(link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn patience_shrinks_with_regular_heartbeats_and_returns_with_a_late_one() {
        let mut silence = Silence::new(MS * 40, MS * 100, MS * 10);
        assert_eq!(silence.timeout(), MS * 100);
        for _ in 0..3000 {
            silence.observe(MS * 10);
        }
        assert_eq!(silence.timeout(), MS * 40);
        silence.observe(MS * 25);
        assert_eq!(silence.timeout(), MS * 85);
    }
}
