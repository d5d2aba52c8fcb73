//! Epochs and the witness (section E of `docs/protocol.md`).
//!
//! - E1: only the witness lets anyone go on alone.
//! - E2: two run together only if they run the same ([`peer`](super::peer) compares).
//! - E3: a pair forms when the record is vacant and two fresh replicas have met.
//! - E4: a request is on disk before it is sent.
//! - E5, E6: a member that suspects its peer asks to go on alone, and settles that if the
//!   suspicion passes.
//! - E7: a member moves by itself only to a renewal of the record that it follows.
//! - E8: a frame counts only in its own epoch ([`peer`](super::peer) checks).
//! - E9: one that is told of a record without it releases nothing from then on.
//! - E10: one that has held outputs for long turns its clients away.
//! - E11: one that is told to stop leaves in good order.
//!
//! What a record means, and what may be asked, is decided by [`membership`](super::membership).

use core::time::Duration;

use super::donor::Confirming;
use super::flow::Resend;
use super::io::{Output, Standing, StorageRequest};
use super::membership::{Membership, RecordVerdict};
use super::release::Agreement;
use super::replica::Replica;
use crate::entry::EntryKind;
use crate::event::{Event, FallBack, Ignored, Reminder, StopCause, Suspicion};
use crate::ids::{Incarnation, Index, MonotonicTime, Nonce};
use crate::limits;
use crate::record::{Origin, Record};
use crate::wire::frames::{
    ClientRefusal, PeerFrame, Progress, Versions, WitnessAnswer, WitnessCall, WitnessRefusal,
};

/// A member that leaves waits for the witness no longer than this.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// An unanswered request to the witness is sent again after this long: several round trips of a
/// distant witness, a fraction of what a client notices.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A member tells the witness its epoch, and hears the present one, this often.
const QUERY_EVERY: Duration = Duration::from_secs(1);

impl Replica {
    pub(super) fn on_witness_up(&mut self) {
        self.witness_up = true;
        // It may be another process, on a disk that was put in order.
        self.no_room = None;
        self.on_witness_reached();
        self.event(Event::Witness { up: true });
        let (pair, place, incarnation) = (self.config.pair, self.config.place, self.incarnation);
        let protocol = Versions::SPOKEN;
        let hello = WitnessCall::Hello { pair, place, incarnation, protocol };
        self.outputs.push_back(Output::Witness(hello));
        self.ask_witness();
    }

    pub(super) fn on_membership_persisted(&mut self, number: u64) {
        self.membership.persisted(number);
        self.check_admission();
        if self.membership.open().is_some_and(|open| open.sent.is_none()) {
            self.ask_witness_soon();
        }
    }

    pub(super) fn on_witness_down(&mut self) {
        if core::mem::take(&mut self.witness_up) {
            self.on_witness_lost();
            self.event(Event::Witness { up: false });
        }
    }

    pub(super) fn on_witness(&mut self, answer: WitnessAnswer) {
        match answer {
            // The answer is of a witness that is left behind, or is about to be.
            _ if self.enrolment.asks_nobody() => self.ignore(Ignored::StaleAnswer),
            WitnessAnswer::Present { record } => {
                self.no_room = None;
                self.on_witness_knows(&record);
                self.on_told(record);
            }
            WitnessAnswer::Refused { reason } => {
                self.on_witness_refusal(reason);
                let now = self.now.mono;
                let is_news = match reason {
                    WitnessRefusal::Storage => {
                        self.no_room.get_or_insert_with(|| Reminder::at_once(now)).is_due(now)
                    }
                    _ => {
                        self.no_room = None;
                        true
                    }
                };
                if is_news {
                    self.event(Event::WitnessRefused { reason });
                }
            }
        }
    }

    /// Sends the open request, or asks for the present record.
    pub(super) fn ask_witness(&mut self) {
        if !self.witness_up || self.enrolment.asks_nobody() || self.membership.waits_for_disk() {
            return;
        }
        self.witness_asked = Some(self.now.mono);
        let enrols = self.membership.record().filter(|_| self.enrolment.is_enrolling()).copied();
        let call = match self.membership.send_open(self.now.mono) {
            // Nothing can be granted where the record is not known.
            _ if let Some(record) = enrols => WitnessCall::Enrol { record },
            Some(request) => WitnessCall::CompareAndSwap { request },
            None => WitnessCall::Query { known: self.membership.record().copied() },
        };
        self.outputs.push_back(Output::Witness(call));
    }

    /// Asks at the next opportunity instead of the next interval.
    pub(super) fn ask_witness_soon(&mut self) {
        self.witness_asked = None;
    }

    /// Asks before the interval is over, but not for every frame that gives reason to.
    pub(super) fn ask_witness_sooner(&mut self) {
        if self.witness_asked.is_some_and(|at| self.now.mono.since(at) >= ASK_AGAIN) {
            self.ask_witness_soon();
        }
    }

    /// The witness, or the peer in its name, says which record is the present one (rule E1).
    pub(super) fn on_told(&mut self, record: Record) {
        match self.membership.meaning(record) {
            RecordVerdict::Same => {}
            RecordVerdict::Vacant => self.on_vacant(),
            RecordVerdict::Others | RecordVerdict::Joined => {}
            RecordVerdict::Left => self.stop(StopCause::Left { to: record }),
            RecordVerdict::Stale => self.ignore(Ignored::StaleAnswer),
            // A record from before it began to join: what it had then is given up already.
            RecordVerdict::Enter { .. } if self.is_joiner() => self.stop(StopCause::JoinEnded),
            RecordVerdict::Enter { record } => self.enter(record),
            RecordVerdict::Removed => self.stop(StopCause::Removed { by: record }),
            RecordVerdict::NotAMember => self.stop(StopCause::NotAMember { record }),
        }
    }

    /// Asks to form the pair, if both are fresh and have met (rule E3).
    pub(super) fn form(&mut self) {
        let Some(peer) = self.fresh_peer() else { return self.forget_clock() };
        if self.believes_first_clock() {
            self.ask(|membership, nonce| membership.ask_to_form(peer, nonce));
        }
    }

    pub(super) fn is_linked_to(&self, peer: Incarnation) -> bool {
        self.links.iter().any(|link| link.handshaken_with == Some(peer))
    }

    /// Asks the witness for what this makes of the membership and a new mark, if anything.
    pub(super) fn ask(&mut self, request: impl FnOnce(&mut Membership, Nonce) -> Option<Record>) {
        let nonce = self.nonce();
        let Some(next) = request(&mut self.membership, nonce) else { return };
        self.persist_membership();
        self.event(Event::Asked { next });
        if let Some(open) = self.membership.open() {
            let request = open.request;
            self.send_everywhere(PeerFrame::Asked { request });
        }
        self.ask_witness_soon();
    }

    pub(super) fn persist_membership(&mut self) -> u64 {
        let (number, membership) = self.membership.write_down();
        self.outputs
            .push_back(Output::Storage(StorageRequest::PersistMembership { number, membership }));
        number
    }

    /// Follows a record from now on.
    pub(super) fn enter(&mut self, record: Record) {
        self.count_removal(&record);
        let renewed = self.membership.record().is_some_and(|old| record.renews(old));
        self.membership.enter(record);
        self.on_moved(&record);
        self.persist_membership();
        self.epoch_since = Some(self.now.mono);
        // The other follows a renewal as soon as it hears of it; what comes next of it counts only
        // then.
        let joined = self.confirming.and_then(|confirming| confirming.joined);
        let told = renewed && record.members.is_duplex();
        self.confirming = told.then_some(Confirming { record, joined });
        if record.origin == Origin::Joined {
            self.begin_joined(record);
        } else if !renewed {
            // The process that the record names may have been followed by another already.
            let peer = self.membership.peer();
            self.peer_declared_dead =
                peer.is_some() && self.peer_incarnation.is_some() && self.peer_incarnation != peer;
            self.begin_epoch(record);
        }
        // Only now is it known who orders, which a standing says.
        self.end_suspicion();
        let (sequencer, after) = (self.sequencer, self.log.last_index());
        self.event(Event::Epoch { record, sequencer, after });
        self.announce_standing();
        self.send_everywhere(PeerFrame::Epoch { record });
        self.release();
    }

    /// The joiner is recorded. What was ordered and compared so far goes on; from the entry that
    /// says so on, nothing is released without it (rule J6).
    fn begin_joined(&mut self, record: Record) {
        self.membership_epoch = record.epoch;
        self.sequencer = record.sequencer();
        self.is_uncommitted = true;
        let peer = self.membership.peer();
        if self.joiner.as_ref().is_some_and(|joiner| Some(joiner.incarnation) != peer) {
            self.drop_joiner(FallBack::Replaced);
        }
        if self.joiner.is_some() {
            self.order_own(EntryKind::Membership { record });
        }
    }

    /// Takes its leave in good order (rule E11): the other goes on alone from when that is
    /// recorded, and until then both go on.
    pub(super) fn leave(&mut self) {
        if !self.is_duplex() || !self.witness_up {
            return self.stop(StopCause::Asked);
        }
        if self.leaving.is_none() {
            self.leaving = Some(self.now.mono);
            self.event(Event::Leaving);
            self.hand_over();
            self.on_leaving_due();
        }
    }

    /// Asks, once nothing else is open; leaves without a grant if none comes.
    pub(super) fn on_leaving_due(&mut self) {
        let Some(since) = self.leaving else { return };
        if !self.is_duplex() || self.now.mono.since(since) >= LEAVE_PATIENCE {
            return self.stop(StopCause::Asked);
        }
        if self.is_known() && self.membership.open().is_none() && self.suspicion.is_none() {
            self.ask(Membership::ask_to_leave);
        }
    }

    /// Whether the other knows that it is a member in this epoch: else its disk could not claim,
    /// and it is not to be left alone.
    pub(super) fn is_known(&self) -> bool {
        self.confirming.is_none() && self.progress.persisted >= self.log.history().began
    }

    /// A new epoch with other members: its asker orders from here on (rule O8), and what the
    /// other had taken is dropped (rule O7).
    fn begin_epoch(&mut self, record: Record) {
        self.sequencer = record.sequencer();
        self.membership_epoch = record.epoch;
        self.is_uncommitted = false;
        self.agreement = Agreement::from(self.released);
        self.progress = Progress::default();
        self.divergence = None;
        self.resend = Resend::default();
        self.forget_debts();
        self.forwarded_inputs.clear();
        self.clear_ahead();
        if !self.is_sequencer() {
            return;
        }
        // The first to order begins the log: that is the follower if its sequencer died before the
        // first entry had come.
        if self.log.last_index() == Index(0) {
            self.order_own(EntryKind::Genesis { seed: self.seed });
        }
        self.begin_log(record);
        self.take_over_copies();
    }

    /// The peer is to be removed, for this reason (rule E5).
    pub(super) fn suspect(&mut self, suspicion: Suspicion) {
        // A stronger reason takes the place of a weaker one.
        if self.suspicion.is_some_and(|(old, _)| old >= suspicion) {
            return;
        }
        self.suspicion = Some((suspicion, self.now.mono));
        self.event(Event::Suspected { suspicion });
        self.ask(Membership::ask_alone);
    }

    /// The peer is heard again before anything came of the suspicion (rule E6).
    pub(super) fn clear_suspicion(&mut self) {
        let Some((suspicion, _)) = self.suspicion.take() else { return };
        self.event(Event::Cleared { suspicion });
        self.ask(Membership::settle);
        self.resume();
    }

    fn end_suspicion(&mut self) {
        self.suspicion = None;
        self.resume();
    }

    fn resume(&mut self) {
        if let Some(since) = self.holding.take() {
            self.event(Event::Resumed { held: self.now.mono.since(since) });
            self.announce_standing();
        }
    }

    /// Renews what a suspicion asked for, once an earlier request is settled.
    pub(super) fn pursue_suspicion(&mut self) {
        if self.suspicion.is_some() && self.membership.open().is_none() {
            self.ask(Membership::ask_alone);
        }
    }

    pub(super) fn announce_standing(&mut self) {
        let standing = self.present_standing();
        if standing != self.standing {
            self.standing = standing;
            self.outputs.push_back(Output::Standing(standing));
            self.welcome_deferred();
        }
    }

    fn present_standing(&self) -> Standing {
        if self.stopped {
            return Standing::Out;
        }
        let Some(record) = self.membership.record().filter(|_| !self.is_joiner()) else {
            return self.starting_standing();
        };
        if self.holding.is_some() {
            return Standing::Holding;
        }
        let (epoch, duplex) = (record.epoch, self.is_duplex() && !self.is_confirming_joiner());
        Standing::Serving { epoch, duplex, sequencer: self.sequencer }
    }

    /// This replica is out: it releases nothing from here on (rule E9).
    pub(super) fn stop(&mut self, cause: StopCause) {
        if self.stopped {
            return;
        }
        let epoch = self.membership.epoch();
        if let StopCause::Left { to: record } = cause {
            // So that the other need not wait to hear it from the witness.
            self.send_everywhere(PeerFrame::Epoch { record });
        } else if self.is_duplex() && !matches!(cause, StopCause::Removed { .. }) {
            // The cause may quote names in any script: cut between characters.
            let whole = cause.to_string();
            let within = whole.char_indices().map(|(at, letter)| at + letter.len_utf8());
            let end = within.take_while(|end| *end <= limits::REASON_BYTES).last().unwrap_or(0);
            let reason = whole[..end].to_owned();
            self.send_everywhere(PeerFrame::Leave { epoch, reason });
        }
        self.stopped = true;
        self.standing = Standing::Out;
        self.outputs.push_back(Output::Standing(Standing::Out));
        self.turn_clients_away(ClientRefusal::Removed);
        self.event(Event::Stopped { cause: cause.clone() });
        self.outputs.push_back(Output::Stop { cause });
    }

    /// Outputs have been held for long: clients had better try the other CoServer (rule E10).
    pub(super) fn on_hold_due(&mut self) {
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

    pub(super) fn next_asking(&self) -> Option<MonotonicTime> {
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

    pub(super) fn on_asking_due(&mut self) {
        self.pursue_suspicion();
        if self.next_asking().is_some_and(|due| due <= self.now.mono) {
            self.ask_witness();
        }
    }
}
