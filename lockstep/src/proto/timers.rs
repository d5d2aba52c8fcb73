//! What is due, and in which order it is looked at.
//!
//! Each section of the protocol has its own handlers `on_*_due`; here stands when the next of
//! them is due, and what is said with each heartbeat.

use core::time::Duration;

use super::replica::{Replica, TICK_MIN};
use crate::ids::MonotonicTime;
use crate::wire::frames::PeerFrame;

impl Replica {
    /// When [`Input::Timeout`](super::io::Input::Timeout) is due; `None` once the replica
    /// is out.
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

    pub(super) fn heartbeat(&self) -> Duration {
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
}
