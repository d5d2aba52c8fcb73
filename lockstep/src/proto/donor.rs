//! The sole member's side of a join (rules J3 to J7). What the joiner asks for is read from
//! the journal and sent within a rate. Once the joiner is close behind it is recorded, and
//! then admitted.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use super::flow::Resend;
use super::io::{CommonPrefix, Output, StorageRequest};
use super::membership::Membership;
use super::release::Agreement;
use super::replica::Replica;
use crate::entry::Entry;
use crate::event::{Event, FallBack};
use crate::ids::{Epoch, Incarnation, Index, MonotonicTime};
use crate::limits;
use crate::record::Record;
use crate::wire::frames::{CheckpointFile, Fetch, LogPosition, PeerFrame, Progress};

/// A joiner that asks for nothing for this long is forgotten; should it come back it asks anew.
const PATIENCE: Duration = Duration::from_secs(10);

/// A checkpoint for a joiner is ordered again after this long without one: the disk that could not
/// take the last may be full.
const ORDER_AGAIN: Duration = Duration::from_secs(2);

/// What a joiner may be sent at once after a pause, as a part of a second at the configured rate.
const BURST: u64 = 20;

/// What a piece is taken for before it is read.
const PIECE: i64 = limits::CHUNK_BYTES as i64;

const NANOS: u128 = 1_000_000_000;

/// The joiner, as the sole member sees it.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) incarnation: Incarnation,
    /// It gets what is ordered, as it is ordered.
    pub(super) attached: bool,
    /// From this entry on nothing is dropped from the window while its last piece is read.
    pin: Option<Index>,
    points: Vec<LogPosition>,
    /// What it could not use.
    unusable_up_to: Option<Index>,
    /// What it was told to begin with.
    offered: Option<(LogPosition, Option<CheckpointFile>)>,
    /// It needs a checkpoint, and one is being taken; or is ordered then, for the last came
    /// to nothing.
    waits_for_checkpoint: Option<MonotonicTime>,
    /// Since when it has nearly all entries on disk.
    persisted_since: Option<MonotonicTime>,
    queue: VecDeque<Fetch>,
    /// Bytes that may be sent now; negative while more was sent than the rate had earned.
    credit: i64,
    refilled: MonotonicTime,
    heard: MonotonicTime,
    since: MonotonicTime,
    sent: u64,
}

/// What the other has not yet said that its disk knows: that it is a member by this record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confirming {
    pub(super) record: Record,
    /// How it came to be one; `None` after a renewal.
    pub(super) joined: Option<Joined>,
}

/// A joiner that was brought up to date.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joined {
    joiner: Incarnation,
    /// Bytes of entries and checkpoints that the joiner was sent.
    sent: u64,
    /// When the joiner asked to join.
    since: MonotonicTime,
}

/// The question to the disk how much of what a joiner has is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrefixSearch {
    /// No search is under way.
    Idle,
    /// The answer is to come.
    UnderWay,
    /// Something else was asked meanwhile, or by another joiner: it is put again after the answer.
    Overtaken,
}

impl Joiner {
    fn new(
        incarnation: Incarnation,
        points: Vec<LogPosition>,
        unusable_up_to: Option<Index>,
        now: MonotonicTime,
    ) -> Self {
        Self {
            incarnation,
            attached: false,
            pin: None,
            points,
            unusable_up_to,
            offered: None,
            waits_for_checkpoint: None,
            persisted_since: None,
            queue: VecDeque::new(),
            credit: 0,
            refilled: now,
            heard: now,
            since: now,
            sent: 0,
        }
    }

    /// A piece that was read has so many bytes.
    fn charge(&mut self, bytes: u64) {
        self.sent += bytes;
        self.credit = self.credit.saturating_add(PIECE).saturating_sub_unsigned(bytes);
    }

    /// Up to where the window may be dropped.
    pub(super) fn needs_after(&self, agreed: Index) -> Option<Index> {
        if self.attached { Some(agreed) } else { self.pin }
    }
}

impl Replica {
    /// A joiner says what it has, and what of what it was sent is of no use to it.
    pub(super) fn on_join(
        &mut self,
        from: Incarnation,
        points: Vec<LogPosition>,
        unusable_up_to: Option<Index>,
    ) {
        let alone = self.membership.record().is_some_and(|record| !record.members.is_duplex());
        if !alone || self.join.is_some() || self.leaving.is_some() || self.keeps_out(from) {
            return;
        }
        let now = self.now.mono;
        if let Some(joiner) = self.joiner.as_mut().filter(|joiner| joiner.incarnation == from) {
            joiner.heard = now;
            if joiner.points == points && joiner.unusable_up_to == unusable_up_to {
                // It has what it had: it asks again because the answer is late, or was lost.
                return self.offer();
            }
        } else {
            self.event(Event::Hosting { joiner: from });
        }
        self.unusable_up_to =
            self.unusable_up_to.max(unusable_up_to.filter(|index| *index <= self.log.last_index()));
        let new = self.joiner.as_ref().is_none_or(|joiner| joiner.incarnation != from);
        self.joiner = Some(Joiner::new(from, points, unusable_up_to, now));
        if new {
            self.tell_peer_back();
        }
        self.find_common_prefix();
    }

    fn find_common_prefix(&mut self) {
        let Some(joiner) = &self.joiner else { return };
        self.prefix_search = match self.prefix_search {
            PrefixSearch::Idle => {
                self.outputs.push_back(Output::Storage(StorageRequest::FindCommonPrefix {
                    points: joiner.points.clone(),
                }));
                PrefixSearch::UnderWay
            }
            PrefixSearch::UnderWay | PrefixSearch::Overtaken => PrefixSearch::Overtaken,
        };
    }

    /// Chooses what costs less: the entries since the last one that both have, or a checkpoint
    /// and the entries since that.
    pub(super) fn on_common_prefix(&mut self, found: CommonPrefix) {
        if core::mem::replace(&mut self.prefix_search, PrefixSearch::Idle)
            == PrefixSearch::Overtaken
        {
            // The answer is about what somebody asked for before.
            return self.find_common_prefix();
        }
        let Some(joiner) = &mut self.joiner else { return };
        // What a joiner computed otherwise it has computed otherwise, however equal its entries.
        let (differed, unusable_up_to) = (self.diverged_up_to, self.unusable_up_to);
        let sound = |index: Index| Some(index) > unusable_up_to;
        let checkpoint =
            found.checkpoint.filter(|(file, _)| Some(file.index) >= differed && sound(file.index));
        let by_entries = found.common.filter(|common| {
            // One that is not after what both have brings the joiner nothing.
            let dearer = |(file, _): (CheckpointFile, _)| {
                file.index <= common.index || found.bytes <= file.len.max(SMALL)
            };
            differed.is_none() && sound(common.index) && checkpoint.is_none_or(dearer)
        });
        let (from, checkpoint) = match (by_entries, checkpoint) {
            (Some(common), _) => (common, None),
            (None, Some((file, log_digest))) => {
                (LogPosition { index: file.index, log_digest }, Some(file))
            }
            (None, None) => {
                joiner.waits_for_checkpoint = Some(self.now.mono.plus(ORDER_AGAIN));
                return self.order_checkpoint();
            }
        };
        joiner.offered = Some((from, checkpoint));
        self.outputs.push_back(Output::Storage(StorageRequest::Retain { from: Some(from.index) }));
        self.offer();
    }

    /// Says with what the joiner begins, if that is known. One that has begun passes over it.
    fn offer(&mut self) {
        let (Some(joiner), Some(&record)) = (&self.joiner, self.membership.record()) else {
            return;
        };
        if let Some((from, checkpoint)) = joiner.offered {
            let (to, last_index) = (joiner.incarnation, self.log.last_index());
            self.send_to_joiner(to, PeerFrame::Offer { record, from, checkpoint, last_index });
        }
    }

    fn send_to_joiner(&mut self, to: Incarnation, frame: PeerFrame) {
        if let Some(link) = self.best_link(to) {
            self.send_on(link, frame);
        }
    }

    /// A checkpoint is on disk that a joiner may have waited for.
    pub(super) fn on_checkpoint_for_joiner(&mut self) {
        if let Some(joiner) = &mut self.joiner
            && joiner.waits_for_checkpoint.take().is_some()
        {
            self.find_common_prefix();
        }
    }

    /// When a checkpoint that a joiner waits for is ordered again: the last time it could not be,
    /// or it could not be written.
    fn reorder_checkpoint(&mut self) {
        let (now, again) = (self.now.mono, self.now.mono.plus(ORDER_AGAIN));
        let Some(joiner) = &mut self.joiner else { return };
        if let Some(due) = joiner.waits_for_checkpoint.as_mut().filter(|due| **due <= now) {
            *due = again;
            self.order_checkpoint();
        }
    }

    /// The joiner asks for a piece.
    pub(super) fn on_fetch(&mut self, from: Incarnation, fetch: Fetch) {
        let now = self.now.mono;
        let Some(joiner) = self.joiner.as_mut().filter(|joiner| joiner.incarnation == from) else {
            return self.send_to_joiner(from, PeerFrame::Unavailable);
        };
        joiner.heard = now;
        // It never has more under way; what it asks for too early it asks for again, also when it
        // waits here already.
        if joiner.queue.len() < 2 * limits::CHUNKS_AHEAD && !joiner.queue.contains(&fetch) {
            joiner.queue.push_back(fetch);
        }
        self.serve_joiner();
    }

    /// When something that the joiner asked for may be read.
    pub(super) fn next_piece(&self) -> Option<MonotonicTime> {
        let joiner = self.joiner.as_ref().filter(|joiner| !joiner.queue.is_empty())?;
        let lacks = u128::from(1i64.saturating_sub(joiner.credit).max(0).unsigned_abs());
        let wait = (lacks * NANOS).div_ceil(u128::from(self.config.join_rate.max(1)));
        Some(joiner.refilled.plus(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))))
    }

    /// Reads what the joiner asked for, as the rate permits.
    fn serve_joiner(&mut self) {
        let (now, rate) = (self.now.mono, self.config.join_rate.max(1));
        let pin = self.log.last_index();
        let Some(joiner) = &mut self.joiner else { return };
        let elapsed = now.since(joiner.refilled).as_nanos();
        let earned = u128::from(rate) * elapsed / NANOS;
        if earned > 0 {
            joiner.refilled = now;
        }
        let most = i64::try_from(rate / BURST).unwrap_or(i64::MAX).max(PIECE);
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        joiner.credit = joiner.credit.saturating_add(earned).min(most);
        while joiner.credit > 0
            && let Some(fetch) = joiner.queue.pop_front()
        {
            // Until it is known what the piece has.
            joiner.credit -= PIECE;
            let output = match fetch {
                Fetch::Entries { from } => {
                    joiner.pin = joiner.pin.or(Some(pin)).filter(|_| !joiner.attached);
                    Output::Storage(StorageRequest::ReadEntries { after: from.prev() })
                }
                Fetch::Chunk { checkpoint, offset } => {
                    Output::Storage(StorageRequest::ReadChunk { checkpoint, offset })
                }
            };
            self.outputs.push_back(output);
        }
    }

    pub(super) fn on_entries_read(&mut self, after: Index, entries: Option<Vec<Entry>>) {
        let last_index = self.log.last_index();
        let Some(joiner) = &mut self.joiner else { return };
        let (to, pin) = (joiner.incarnation, joiner.pin.take());
        let Some(mut entries) = entries else {
            self.unusable_up_to = self.unusable_up_to.max(Some(after));
            return self.drop_joiner(FallBack::Unreadable);
        };
        // It has a window like this one's, and would drop the rest.
        entries.truncate(within(&entries, self.config.window_entries));
        let last = entries.last().map_or(after, |entry| entry.index);
        joiner.charge(entries.iter().map(|entry| entry.weight() as u64).sum::<u64>());
        // Read up to where nothing was dropped since: from here on it gets all as it is ordered.
        // No more than it takes at once: what it lacks meanwhile is kept in this one's window.
        let takes = within(&entries, self.config.window_entries / 2) as u64;
        let attaches = pin.filter(|pin| {
            last >= *pin && after <= *pin && pin.0 - after.0 <= takes && !joiner.attached
        });
        joiner.attached |= attaches.is_some();
        self.send_to_joiner(to, PeerFrame::Entries { after, entries, last_index });
        match attaches {
            Some(pin) => self.attach(pin),
            None => self.release(),
        }
    }

    pub(super) fn on_chunk_read(&mut self, checkpoint: Index, offset: u64, bytes: Option<Bytes>) {
        let Some(joiner) = &mut self.joiner else { return };
        let to = joiner.incarnation;
        let Some(bytes) = bytes else {
            self.unusable_up_to = self.unusable_up_to.max(Some(checkpoint));
            return self.drop_joiner(FallBack::Unreadable);
        };
        joiner.charge(bytes.len() as u64);
        self.send_to_joiner(to, PeerFrame::Chunk { checkpoint, offset, bytes });
    }

    /// The joiner has everything up to an entry that is still in the window, or it is on its way.
    fn attach(&mut self, pin: Index) {
        // What it was recorded with before it was attached is still to be compared (rule J6).
        let recorded = self.log.history().began.prev();
        let compared = if self.is_uncommitted { pin.min(recorded) } else { pin };
        self.agreement = Agreement::from(compared);
        self.progress = Progress { last_index: pin, ..Progress::default() };
        self.peer_last_index = pin;
        self.resend = Resend::default();
        self.forget_debts();
        let forward = self.forwards_lacking();
        for link in &mut self.links {
            link.cursor = pin.next();
            link.forward = forward;
            link.told = super::links::Told::default();
        }
        let joiner = self.joiner.as_ref().map_or(Incarnation(0), |joiner| joiner.incarnation);
        self.event(Event::Attached { joiner, at: pin });
    }

    /// What is due for a join, on the member's side.
    pub(super) fn on_donor_due(&mut self) {
        self.serve_joiner();
        self.reorder_checkpoint();
        self.evaluate_joiner();
        self.record_joiner();
        self.admit_joiner();
        // Recorded with one that is not admitted and will not be: alone again (rule J7).
        if self.is_uncommitted && self.joiner.is_none() && self.membership.open().is_none() {
            self.ask(Membership::ask_alone);
        }
    }

    fn evaluate_joiner(&mut self) {
        let now = self.now.mono;
        let Some(joiner) = &self.joiner else { return };
        let to = joiner.incarnation;
        let gone = self.peer_incarnation != Some(to);
        let why = if gone {
            Some(FallBack::Replaced)
        } else if !joiner.attached && self.is_uncommitted {
            // It began anew after it had been asked for: what is released waits for it.
            let since = self.epoch_since.map_or(joiner.since, |epoch| epoch.max(joiner.since));
            (now.since(since) >= self.config.slow_limit).then_some(FallBack::Slow)
        } else if !joiner.attached {
            (now.since(joiner.heard) >= PATIENCE).then_some(FallBack::Silent)
        } else if !self.is_heard() && now.since(joiner.since) >= self.config.silence {
            // Its links have had the time to come up.
            Some(FallBack::Silent)
        } else if self.progress.halted && !self.log.panicked() {
            Some(FallBack::Diverged)
        } else if self.peer_is_slow() && (self.is_uncommitted || !self.has_room()) {
            // Once it is recorded, what is released waits for it.
            Some(FallBack::Slow)
        } else {
            None
        };
        if let Some(why) = why {
            self.drop_joiner(why);
        }
    }

    /// The member goes on as though no joiner had come (rule J7).
    pub(super) fn drop_joiner(&mut self, why: FallBack) {
        let Some(joiner) = self.joiner.take() else { return };
        self.event(Event::FellBack { joiner: joiner.incarnation, why });
        self.count_fall_back(why);
        if why == FallBack::Diverged {
            self.diverged_up_to = Some(self.log.last_index());
        }
        self.outputs.push_back(Output::Storage(StorageRequest::Retain { from: None }));
        self.progress = Progress::default();
        self.peer_last_index = Index(0);
        self.divergence = None;
        self.send_to_joiner(joiner.incarnation, PeerFrame::Unavailable);
        self.release();
    }

    /// Whether a joiner is close behind: in executing as well, since from the record on the
    /// member's outputs wait for it. A joiner that executes only as fast as the member does not get
    /// any closer.
    fn is_joiner_close(&mut self) -> bool {
        let (now, progress) = (self.now.mono, self.progress);
        let (last_index, near) = (self.log.last_index(), self.joiner_distance());
        let log = &self.log;
        let is_near = |index: Index| log.steps_between(index, last_index) <= near;
        let Some(joiner) = self.joiner.as_mut().filter(|joiner| joiner.attached) else {
            return false;
        };
        if !is_near(progress.persisted) || progress.persisted < progress.last_index.prev() {
            joiner.persisted_since = None;
            return false;
        }
        let since = *joiner.persisted_since.get_or_insert(now);
        is_near(progress.executed)
            || (progress.executed > Index(0) && now.since(since) >= self.config.slow_limit)
    }

    /// The joiner is close behind: the witness is asked to record it (rule J5).
    fn record_joiner(&mut self) {
        let close = self.is_joiner_close();
        let Some(joiner) = &self.joiner else { return };
        let free =
            self.membership.open().is_none() && !self.is_uncommitted && self.leaving.is_none();
        // The joiner learns from the log which witness to ask.
        let free = free && !self.log_misnames_witness();
        // Who took the log up is the one who says when its gap ends (rule O12).
        let free = free && self.held_up.is_none();
        if close && free && self.divergence.is_none() && !self.log.panicked() {
            let joiner = joiner.incarnation;
            self.ask(|membership, nonce| membership.ask_joined(joiner, nonce));
        }
    }

    /// The joiner has what this member cannot release alone any more, and computed the same (rule
    /// J6).
    fn admit_joiner(&mut self) {
        let from = self.log.history().began;
        let Some(&record) = self.membership.record() else { return };
        let Some(joiner) = self.joiner.as_ref().filter(|_| self.is_uncommitted) else { return };
        let level = self.agreement.compared() >= from && self.progress.persisted >= from;
        let ready = level && self.released >= from.prev() && self.persisted >= from;
        if !ready || !self.membership.is_all_persisted() {
            return;
        }
        let joined = Joined { joiner: joiner.incarnation, sent: joiner.sent, since: joiner.since };
        let joiner = joined.joiner;
        self.joiner = None;
        self.diverged_up_to = None;
        self.is_uncommitted = false;
        self.confirming = Some(Confirming { record, joined: Some(joined) });
        self.peer_declared_dead = self.peer_incarnation != Some(joiner);
        self.epoch_since = Some(self.now.mono);
        self.event(Event::Admitting { joiner, from });
        self.outputs.push_back(Output::Storage(StorageRequest::Retain { from: None }));
        self.send_admit();
        self.announce_standing();
        self.tell_peer_back();
        self.release();
    }

    /// Repeated until the new member says that it knows.
    pub(super) fn send_admit(&mut self) {
        if let Some(Confirming { record, .. }) = self.confirming {
            let from = self.log.history().began;
            self.send_everywhere(PeerFrame::Admit { record, from });
        }
    }

    /// Whether the other, which has joined, has not yet said that its disk knows: this one still is
    /// the only one that may be left alone.
    pub(super) fn is_confirming_joiner(&self) -> bool {
        self.confirming.is_some_and(|confirming| confirming.joined.is_some())
    }

    /// The new member knows that it is one.
    pub(super) fn on_admitted(&mut self, from: Incarnation, epoch: Epoch) {
        let told = |confirming: &Confirming| confirming.record.epoch == epoch;
        if self.membership.peer() != Some(from) || !self.confirming.as_ref().is_some_and(told) {
            return;
        }
        let joined = self.confirming.take().and_then(|confirming| confirming.joined);
        if let Some(Joined { joiner, sent, since }) = joined {
            let (from, took) = (self.log.history().began, self.now.mono.since(since));
            self.event(Event::Duplex { joiner, from, sent, took });
            self.announce_standing();
        }
    }
}

/// Entries up to so many bytes are sent rather than a checkpoint that is smaller still.
const SMALL: u64 = 16 << 20;

/// How many of these entries are no more than so many steps; one at least.
fn within(entries: &[Entry], most: usize) -> usize {
    let mut steps = 0;
    let fits = entries.iter().take_while(|entry| {
        steps += entry.steps();
        steps <= most
    });
    fits.count().max(1)
}
