//! What is due while an answer does not come: looking further (rule C8), and sending again.

use super::{Client, State};
use crate::client::error::RequestError;
use crate::client::io::{Event, Output};
use crate::client::place::{Connection, Stage};
use crate::ids::{MonotonicTime, ReplicaId};

impl Client {
    /// An answer came: silence begins anew.
    pub(super) fn on_progress(&mut self, now: MonotonicTime) {
        self.resend_after = self.config.resend;
        self.resend_at = None;
        self.arm_resend(now);
        self.silent_after = self.config.silence;
        self.silent_at = None;
        self.arm_silence(now);
    }

    pub(super) fn on_time(&mut self, now: MonotonicTime) {
        if self.state == State::Over {
            return;
        }
        for place in ReplicaId::BOTH {
            self.on_place_timeout(now, place);
        }
        if self.deadline.is_some_and(|at| at <= now) {
            let (due, next) = self.window.give_up(now);
            self.deadline = next;
            let result = || Err(RequestError::TimedOut);
            let replies = due.into_iter().map(|number| Output::Reply { number, result: result() });
            self.outputs.extend(replies);
        }
        if self.resend_at.is_some_and(|at| at <= now) && self.serving() > 0 {
            self.on_resend_timeout(now);
        }
        if self.silent_at.is_some_and(|at| at <= now) {
            self.on_silence_timeout(now);
        }
    }

    fn on_place_timeout(&mut self, now: MonotonicTime, place: ReplicaId) {
        match self.at(place).stage {
            Stage::Waiting { until } if until <= now => self.dial(now, place),
            Stage::Greeting { until } if until <= now => {
                self.at(place).stage = Stage::Ending;
                self.outputs.push_back(Output::Disconnect { place });
                self.outputs.push_back(Output::Event(Event::Unanswered { place }));
            }
            _ => {}
        }
    }

    pub(super) fn dial(&mut self, now: MonotonicTime, place: ReplicaId) {
        self.at(place).stage = Stage::Dialling { since: now };
        self.outputs.push_back(Output::Connect { place });
    }

    /// Nothing has been answered for a while that should be (rule C8).
    fn on_silence_timeout(&mut self, now: MonotonicTime) {
        // What came while this side was not scheduled may not have been looked at yet.
        let late = self.silent_at.is_some_and(|due| now.since(due) >= self.config.deaf / 4);
        if late {
            self.places.iter_mut().for_each(|connection| connection.unheard = None);
        }
        self.silent_after =
            self.silent_after.saturating_mul(2).min(self.config.silence_longest.max(Self::LEAST));
        self.silent_at = Some(now.plus(self.jitter.about(self.silent_after)));
        for place in ReplicaId::BOTH {
            let Connection { stage, refused, .. } = self.places[place.slot()];
            match stage {
                Stage::Waiting { .. } if !refused => self.dial(now, place),
                Stage::Dialling { .. } => self.dial_again(now, place),
                Stage::Greeting { .. } => self.probe(now, place),
                Stage::Deferred { .. } => {
                    // That it serves by now may have been lost.
                    self.send_hello(place);
                    self.probe(now, place);
                }
                Stage::Welcomed { .. } => {
                    self.ask_to_open_too(now, place);
                    self.probe(now, place);
                }
                Stage::Waiting { .. } | Stage::Ending => {}
            }
        }
    }

    /// Finds out whether anybody is at the other end, and looks beside the connection if not.
    fn probe(&mut self, now: MonotonicTime, place: ReplicaId) {
        let since = *self.at(place).unheard.get_or_insert(now);
        self.outputs.push_back(Output::Probe { place });
        if now.since(since) >= self.config.deaf {
            self.outputs.push_back(Output::Connect { place });
        }
    }

    /// The session was asked for at the other CoServer only, and does not come.
    fn ask_to_open_too(&mut self, now: MonotonicTime, place: ReplicaId) {
        if matches!(self.state, State::Opening { .. }) && !self.at(place).asked_to_open {
            self.send_all(now, place, true);
        }
    }

    fn on_resend_timeout(&mut self, now: MonotonicTime) {
        self.resend_after = self.resend_after.saturating_mul(2).min(self.config.resend_longest);
        self.resend_at = None;
        let requests = self.window.iter().count();
        for place in ReplicaId::BOTH {
            if let Stage::Welcomed { gap, .. } = &mut self.at(place).stage {
                *gap = None;
                self.send_all(now, place, true);
            }
        }
        self.arm_resend(now);
        self.outputs.push_back(Output::Event(Event::Resent { requests }));
    }

    /// Whether anything is unanswered.
    pub(super) fn is_owed(&self) -> bool {
        match self.state {
            State::Opening { .. } => true,
            State::Open { .. } => !self.window.is_empty(),
            State::Over => false,
        }
    }

    /// Begins to listen for silence, if an answer is owed and no timer runs yet.
    pub(super) fn arm_silence(&mut self, now: MonotonicTime) {
        if !self.is_owed() {
            self.silent_at = None;
        } else if self.silent_at.is_none() {
            self.silent_at = Some(now.plus(self.silent_after.max(Self::LEAST)));
        }
    }

    /// Begins to wait for an answer, if one is owed and no timer runs yet.
    pub(super) fn arm_resend(&mut self, now: MonotonicTime) {
        if !self.is_owed() {
            self.resend_at = None;
        } else if self.resend_at.is_none() {
            self.resend_at = Some(now.plus(self.resend_after));
        }
    }

    /// Makes one more attempt, unless the last has only just begun.
    pub(super) fn dial_again(&mut self, now: MonotonicTime, place: ReplicaId) {
        let redial = self.config.redial;
        if let Stage::Dialling { since } = &mut self.at(place).stage
            && now.since(*since) >= redial
        {
            *since = now;
            self.outputs.push_back(Output::Connect { place });
        }
    }
}
