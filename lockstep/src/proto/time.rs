//! What is due: heartbeats, silence, slowness, forwarding, ticks, and asking again.

use core::time::Duration;

use super::debts::{Debts, Work};
use super::gap::Stop;
use super::io::DivergencePolicy;
use super::replica::{Replica, Resend, TICK_MIN, Unacknowledged};
use crate::entry::EntryKind;
use crate::event::{Event, StopCause, Suspicion};
use crate::ids::{MonotonicTime, Timestamps};
use crate::wire::frames::{ClientRefusal, PeerFrame, Progress};

/// An unanswered request to the witness is sent again after this long: several round trips of a
/// distant witness, a fraction of what a client notices.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What the peer lacks is sent again after this long at most.
const RESEND_SLOWEST: Duration = Duration::from_secs(1);

/// A member tells the witness its epoch, and hears the present one, this often.
const QUERY_EVERY: Duration = Duration::from_secs(1);

/// Handling an input later than this after the heartbeat was due means that the process did not
/// run meanwhile.
const STALL: Duration = Duration::from_millis(5);

impl Replica {
    /// When [`Input::Timeout`](super::io::Input::Timeout) is due; `None` once the replica is
    /// out.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        if self.stopped {
            return None;
        }
        let silent = self.silence.timeout();
        let dues = [
            Some(self.next_heartbeat),
            self.links.iter().filter(|link| link.up).map(|link| link.echoed.plus(silent)).min(),
            self.resend_due(&self.resend.entries),
            self.resend_due(&self.resend.inputs),
            self.next_asking(),
            self.gateway.next_overdue(self.config.forward_delay).filter(|_| self.may_forward()),
            self.tick_due(),
            self.devices_due(),
            self.next_piece(),
            self.shortages.due(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Notes the time, and how long this process was not running: what others did not say
    /// meanwhile is not held against them (rule S3).
    pub(super) fn advance_time(&mut self, now: Timestamps) {
        assert!(now.mono >= self.now.mono, "a monotonic clock does not go back");
        let late = now.mono.since(self.last_handled).saturating_sub(self.heartbeat());
        if late > self.config.gap_least && self.stood_still.is_none() {
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

    fn heartbeat(&self) -> Duration {
        self.config.heartbeat.max(TICK_MIN)
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self) {
        if self.stopped {
            return;
        }
        self.on_heartbeat_due();
        self.on_silence_due();
        self.on_resend_due();
        self.on_forward_due();
        self.on_slowness_due();
        self.on_hanging();
        if self.stopped {
            return;
        }
        self.evaluate_peer();
        self.on_hold_due();
        self.on_start_due();
        self.on_join_due();
        self.on_donor_due();
        self.on_leaving_due();
        self.on_enrolment_due();
        self.on_asking_due();
        self.on_devices_due();
        self.on_tick_due();
        self.on_checkpoint_due();
        self.on_wait_due();
        self.say_shortages();
    }

    fn on_heartbeat_due(&mut self) {
        let now = self.now.mono;
        if now < self.next_heartbeat {
            return;
        }
        self.next_heartbeat = now.plus(self.heartbeat());
        let (lineage, epoch) = self.stream_epoch();
        let progress = self.own_progress();
        let tells_clock = self.tells_clock();
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            if !link.connected {
                continue;
            }
            let (id, introduced) = (link.id, link.heard && link.handshaken_with.is_some());
            let blocked = link.blocked;
            // A queue that is full is no silence: a driver that has room for heartbeats sends them.
            if introduced {
                let sequence = link.ping(now);
                self.send_on(id, PeerFrame::Ping { sequence, lineage, epoch, progress });
            }
            if !blocked && (!introduced || tells_clock) {
                self.send_hello(id);
            }
        }
        self.send_digests();
        self.send_admit();
    }

    /// A link whose heartbeats no longer come back is down (rule S1).
    fn on_silence_due(&mut self) {
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

    fn resend_due(&self, sent: &Unacknowledged) -> Option<MonotonicTime> {
        let slowest = self.links.iter().filter(|link| link.connected).map(|l| l.resend_after());
        let most = RESEND_SLOWEST.min(self.config.slow_limit / 4);
        let after = slowest.max().unwrap_or(ASK_AGAIN).max(self.resend.usual.saturating_mul(2));
        let after = (after.min(most) * 2u32.pow(sent.tries.min(5))).min(RESEND_SLOWEST);
        sent.waiting.map(|since| since.plus(after))
    }

    /// Without any progress of the peer what it lacks is sent again, at growing intervals (rule
    /// F6).
    fn on_resend_due(&mut self) {
        let Resend { mut entries, mut inputs, usual } = self.resend;
        let mut due = self.is_to_resend(&mut entries, self.awaits_entries());
        due |= self.is_to_resend(&mut inputs, self.awaits_inputs());
        self.resend = Resend { entries, inputs, usual };
        if due {
            self.rewind_links();
        }
    }

    fn is_to_resend(&self, sent: &mut Unacknowledged, awaited: bool) -> bool {
        let now = self.now.mono;
        if awaited {
            sent.sent(now);
        } else {
            (sent.waiting, sent.first) = (None, None);
        }
        let due = self.resend_due(sent).is_some_and(|due| due <= now);
        if due {
            *sent = Unacknowledged { waiting: Some(now), tries: sent.tries + 1, ..*sent };
        }
        due
    }

    /// A follower that can forward what the sequencer did not order.
    fn may_forward(&self) -> bool {
        self.membership.record().is_some() && self.pending.has_room()
    }

    fn on_forward_due(&mut self) {
        let (now, delay) = (self.now.mono, self.config.forward_delay);
        while self.may_forward()
            && let Some(kind) = self.gateway.overdue(delay, now)
        {
            self.take(kind);
        }
    }

    /// Finds out whether the peer keeps up (rule S5).
    fn on_slowness_due(&mut self) {
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

    /// A side that hangs itself accuses nobody: it leaves, so that the other goes on (rule S6).
    fn on_hanging(&mut self) {
        let limit = self.config.slow_limit;
        let Some((duty, span)) = self.own_debts.overdue(limit, self.now.mono) else { return };
        // While results differ, or where nobody would be let go on, to leave helps nobody.
        let differs = self.divergence.is_some() || self.log.panicked() || self.progress.halted;
        if self.is_duplex() && self.is_known() && self.is_heard() && self.witness_up && !differs {
            self.stop(StopCause::Hanging { duty, span });
        }
    }

    /// Suspects the peer for what there is against it, or no longer does.
    fn evaluate_peer(&mut self) {
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

    /// One whose service panicked cannot go on (rule D3), and where the policy is to hold, neither
    /// may until the other has been stopped.
    pub(super) fn may_go_alone(&self) -> bool {
        let hold = self.config.divergence == DivergencePolicy::Hold && self.divergence.is_some();
        !self.log.panicked() && (!hold || self.peer_declared_dead)
    }

    /// Whether this side goes on after a divergence (rule D2).
    fn is_preferred(&self) -> bool {
        if self.progress.halted {
            return true;
        }
        match self.config.divergence {
            DivergencePolicy::Sequencer => self.is_sequencer(),
            DivergencePolicy::Prefer(place) => place == self.config.place,
            DivergencePolicy::Hold => false,
        }
    }

    /// Outputs have been held for long: clients had better try the other CoServer (rule E10).
    fn on_hold_due(&mut self) {
        let stuck = self.suspicion.is_some() || self.divergence.is_some() || self.log.panicked();
        if !stuck {
            self.stuck_since = None;
            return;
        }
        let since = *self.stuck_since.get_or_insert(self.now.mono);
        let long = self.now.mono.since(since) >= self.config.hold_limit;
        if long && self.holding.is_none() {
            self.holding = Some(since);
            self.event(Event::Holding { released: self.released });
            self.announce_standing();
            self.turn_clients_away(ClientRefusal::Holding);
        }
    }

    fn next_asking(&self) -> Option<MonotonicTime> {
        if !self.witness_up || self.enrolment.asks_nobody() || self.membership.waits_for_disk() {
            return None;
        }
        Some(self.witness_asked.map_or(self.now.mono, |at| at.plus(self.asking_interval())))
    }

    fn asking_interval(&self) -> Duration {
        let open = self.membership.open().is_some();
        let soon = open || self.enrolment.is_enrolling() || self.membership.record().is_none();
        if soon && self.no_room.is_none() { ASK_AGAIN } else { QUERY_EVERY }
    }

    fn on_asking_due(&mut self) {
        self.pursue_suspicion();
        if self.next_asking().is_some_and(|due| due <= self.now.mono) {
            self.ask_witness();
        }
    }

    /// As sequencer: when the service's wake-up wants an entry of its own (rule O10).
    fn tick_due(&self) -> Option<MonotonicTime> {
        let due = self.log.wakeup()?;
        let idle = self.log.executed() == self.log.last_index();
        if !self.is_sequencer() || !self.has_room() || self.log.panicked() {
            return None;
        }
        if due <= self.log.last_time() {
            // More wake-ups than one entry carries out were due.
            return idle.then_some(self.now.mono);
        }
        if self.clock.stamp(self.now) >= due {
            return Some(self.now.mono);
        }
        Some(self.clock.look_again(due, self.now))
    }

    fn on_tick_due(&mut self) {
        if self.tick_due().is_some_and(|due| due <= self.now.mono) {
            self.order_own(EntryKind::Tick);
        }
    }
}
