//! Coming back: the joiner's side (section J of `docs/protocol.md`).
//!
//! - J1, J2: who may claim its predecessor's place, and for how long it tries to meet the other first
//!   ([`start`](super::start)).
//! - J3, J4: a sole member brings a joiner up to date and sends only what is missing; the joiner pulls
//!   ([`donor`](super::donor) is the member's side).
//! - J5: it is recorded when it is close behind.
//! - J6: it is a member once that is recorded, both have the epoch's beginning, and its own disk
//!   says so.
//! - J7: until then the member may fall back.
//! - J8: where no process may go on, an operator decides.

use core::time::Duration;

use super::flow::Resend;
use super::io::{Output, Recovered, StorageRequest};
use super::links::Link;
use super::release::Agreement;
use super::replica::Replica;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::event::{Event, Ignored, StopCause};
use crate::ids::{Incarnation, Index, MonotonicTime};
use crate::limits;
use crate::record::{Origin, Record};
use crate::wire::frames::{CheckpointFile, Fetch, LogPosition, PeerFrame, Progress};

/// What was asked for and has not come is asked for again after this long: a few round trips of
/// a distant site and a disk's delay.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The longest wait, where answers keep coming late. What is asked for twice comes twice, and a
/// machine or a link that is late already has that to carry as well.
const ASK_AGAIN_MOST: Duration = Duration::from_secs(3);

/// With nothing to fetch it asks this often, so that the member sees that it is there.
const IDLE: Duration = Duration::from_millis(20);

/// What a joiner knows of its own join.
#[derive(Debug)]
pub(super) struct Joining {
    /// The sole member, and its record when the join began.
    pub(super) donor: Incarnation,
    pub(super) record: Record,
    stage: Stage,
    /// A checkpoint that came whole and could not be used.
    unusable_up_to: Option<Index>,
    /// When something was last asked for, or came.
    asked: MonotonicTime,
    /// After how long it is asked for again: twice as long after each time that this was done, a
    /// little less after each answer.
    patience: Duration,
    /// The membership with which it is a member once that is on disk.
    admission: Option<u64>,
}

#[derive(Debug)]
enum Stage {
    /// Has said what it has.
    Asking,
    /// Restores its own state up to the last entry that both have.
    Recovering,
    /// Gets a checkpoint: so much is on disk, so much has been asked for.
    Chunks { file: CheckpointFile, log_digest: Digest, have: u64, written: u64, asked_to: u64 },
    /// Checks it and makes it its own.
    Installing { at: Index },
    /// Gets entries; those after this one are asked for and have not come. The last answer brought
    /// some, and there were entries up to here.
    Entries { fetching: Option<Index>, more: Index },
}

impl Joining {
    /// Something that was asked for has come.
    fn came(&mut self, now: MonotonicTime) {
        self.asked = now;
        self.patience = (self.patience - self.patience / 8).max(ASK_AGAIN);
    }
}

impl Replica {
    pub(super) fn is_joiner(&self) -> bool {
        self.join.is_some()
    }

    /// Whether what is in the log is what the pair has, so that it is to be executed.
    pub(super) fn is_following(&self) -> bool {
        match &self.join {
            Some(join) => matches!(join.stage, Stage::Entries { .. }),
            None => self.membership.record().is_some(),
        }
    }

    pub(super) fn begin_join(&mut self, donor: Incarnation, record: Record) {
        self.membership.forget();
        self.forget_move();
        self.persist_membership();
        let (stage, asked) = (Stage::Asking, self.now.mono);
        let (patience, admission) = (ASK_AGAIN, None);
        let unusable_up_to = None;
        self.join =
            Some(Joining { donor, record, stage, unusable_up_to, asked, patience, admission });
        self.event(Event::Joining { host: donor });
        self.announce_standing();
        self.ask_to_join();
    }

    fn ask_to_join(&mut self) {
        let points = self.points();
        let unusable_up_to = self.join.as_ref().and_then(|join| join.unusable_up_to);
        let sent = self.send_to_donor(PeerFrame::Join { points, unusable_up_to });
        // While there is no link that carries it, it is tried again at every opportunity.
        let asked = if sent { self.now.mono } else { MonotonicTime(0) };
        if let Some(join) = &mut self.join {
            (join.stage, join.asked) = (Stage::Asking, asked);
        }
    }

    /// On one link: what is asked for is answered there, and asked for again if it is lost.
    fn send_to_donor(&mut self, frame: PeerFrame) -> bool {
        let donor = self.join.as_ref().map(|join| join.donor);
        let link = donor.and_then(|donor| self.best_link(donor));
        if let Some(link) = link {
            self.send_on(link, frame);
        }
        link.is_some()
    }

    /// A link to that process that is up, or else one that carries frames.
    pub(super) fn best_link(&self, to: Incarnation) -> Option<crate::ids::LinkId> {
        let fits = |link: &&Link| link.carries() && link.handshaken_with == Some(to);
        let links = || self.links.iter().filter(fits);
        links().find(|link| link.up).or_else(|| links().next()).map(|link| link.id)
    }

    /// A new process at the member's place: what it will go on from may lack entries that this
    /// one has got, so this one starts over as well.
    pub(super) fn check_donor(&mut self, incarnation: Incarnation) {
        if self.join.as_ref().is_some_and(|join| join.donor != incarnation) {
            self.stop(StopCause::JoinEnded);
        }
    }

    pub(super) fn on_offer(
        &mut self,
        record: Record,
        from: LogPosition,
        checkpoint: Option<CheckpointFile>,
        last_index: Index,
    ) {
        let Some(join) = &mut self.join else { return self.ignore(Ignored::NotOurRole) };
        if !matches!(join.stage, Stage::Asking) {
            return;
        }
        join.record = record;
        join.came(self.now.mono);
        self.event(Event::Offered { from: from.index, checkpoint, held: last_index });
        if self.would_lose_a_lineage(&record, from, checkpoint) {
            let (lineage, last_index) = (self.log.history().lineage(), self.log.last_index());
            return self.stop(StopCause::LineageOver { lineage, held: last_index });
        }
        match checkpoint {
            Some(file) => {
                self.set_stage(Stage::Chunks {
                    file,
                    log_digest: from.log_digest,
                    have: 0,
                    written: 0,
                    asked_to: 0,
                });
                self.outputs.push_back(Output::Storage(StorageRequest::BeginChunks(file)));
            }
            None => self.begin_from(from),
        }
    }

    /// Whether what this disk holds of an earlier lineage is more than what the present one began
    /// with, or may be: that is given up by operators only (rule J8).
    fn would_lose_a_lineage(
        &self,
        record: &Record,
        from: LogPosition,
        checkpoint: Option<CheckpointFile>,
    ) -> bool {
        let own = self.log.history().record;
        let is_over = own.is_some_and(|own| own.lineage < record.lineage);
        is_over && (checkpoint.is_some() || from.index < self.log.last_index())
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(join) = &mut self.join {
            join.stage = stage;
            join.asked = self.now.mono;
        }
    }

    /// Begins with the last entry that both have. What comes after it here was never released
    /// (rule J4).
    fn begin_from(&mut self, common: LogPosition) {
        if !self.points().contains(&common) {
            return self.ignore(Ignored::ProtocolViolation);
        }
        let untouched = self.handed_out <= common.index;
        if common.index >= self.log.base() && common.index <= self.log.last_index() && untouched {
            if common.index < self.log.last_index() {
                self.log.truncate(common.index);
                self.persisted = common.index;
                self.outputs
                    .push_back(Output::Storage(StorageRequest::Truncate { after: common.index }));
            }
            return self.begin_entries();
        }
        self.set_stage(Stage::Recovering);
        self.outputs.push_back(Output::Recover { to: Some(common.index) });
    }

    pub(super) fn on_recovered_to_join(&mut self, result: Result<Box<Recovered>, String>) {
        match result {
            Ok(recovered) => match self.restore(*recovered) {
                Ok(()) if self.start.recovering => {
                    // The log was given up meanwhile; the member has to know from where to send.
                    self.start.recovering = false;
                    self.ask_to_join();
                }
                Ok(()) => self.begin_entries(),
                Err(why) => {
                    self.start.recovering = true;
                    self.give_up_log(why);
                }
            },
            Err(why) => {
                self.start.recovering = false;
                self.lose_disk(why);
                self.ask_to_join();
            }
        }
    }

    fn begin_entries(&mut self) {
        self.peer_last_index = self.log.last_index();
        self.progress = Progress { last_index: self.log.last_index(), ..Progress::default() };
        self.clear_ahead();
        self.set_stage(Stage::Entries { fetching: None, more: Index(0) });
        self.fetch_entries();
    }

    fn fetch_entries(&mut self) {
        // Once the joiner is recorded, what it has stays in the window until it is admitted, and it
        // is admitted only once it has caught up. The member orders no more than a window beyond
        // that.
        let recorded = self.released_without_us() < self.log.last_index();
        let room = self.log.steps() < self.config.window_entries / 2
            && self.log.bytes() < self.config.window_bytes / 2;
        let after = self.log.last_index();
        let Some(join) = &mut self.join else { return };
        if !room && !recorded {
            return;
        }
        join.stage = Stage::Entries { fetching: Some(after), more: Index(0) };
        join.asked = self.now.mono;
        self.send_to_donor(PeerFrame::Fetch(Fetch::Entries { from: after.next() }));
    }

    pub(super) fn on_fetched(&mut self, after: Index, entries: Vec<Entry>, last_index: Index) {
        let Some(join) = &mut self.join else { return self.ignore(Ignored::NotOurRole) };
        let Stage::Entries { fetching, .. } = join.stage else { return };
        // A question that was asked twice is answered twice: only the first answer leads to
        // another question, or each would lead to one from then on.
        let answers = fetching == Some(after);
        if answers {
            join.stage = Stage::Entries { fetching: None, more: Index(0) };
            join.came(self.now.mono);
        }
        let before = self.log.last_index();
        if after <= before {
            self.on_entries(entries);
        }
        // An answer that brought nothing is asked for again when it is due, not at once.
        let brought = before < self.log.last_index();
        if let Some(Joining { stage: Stage::Entries { fetching: None, more }, .. }) = &mut self.join
            && answers
            && brought
        {
            *more = last_index;
            self.fetch_more();
        }
    }

    /// Goes on fetching as soon as there is room for what the member is known to have.
    fn fetch_more(&mut self) {
        if let Some(Joining { stage: Stage::Entries { fetching: None, more }, .. }) = self.join
            && self.log.last_index() < more
        {
            self.fetch_entries();
        }
    }

    pub(super) fn on_chunk(&mut self, checkpoint: Index, offset: u64, bytes: bytes::Bytes) {
        let Some(join) = &mut self.join else { return self.ignore(Ignored::NotOurRole) };
        let Stage::Chunks { file, have, asked_to, .. } = &mut join.stage else { return };
        // A piece that comes before its time is asked for again.
        if checkpoint != file.index || offset != *have || bytes.is_empty() {
            return;
        }
        let end = have.saturating_add(bytes.len() as u64);
        if end > file.len {
            return self.ignore(Ignored::ProtocolViolation);
        }
        *have = end;
        if bytes.len() < limits::CHUNK_BYTES {
            // A short piece: what it leaves out comes with the next.
            *asked_to = end;
        }
        join.came(self.now.mono);
        self.outputs.push_back(Output::Storage(StorageRequest::WriteChunk {
            checkpoint,
            offset,
            bytes,
        }));
    }

    pub(super) fn on_chunks_written(&mut self, checkpoint: Index, durable: u64) {
        let Some(join) = &mut self.join else { return };
        let Stage::Chunks { file, have, written, asked_to, log_digest } = &mut join.stage else {
            return;
        };
        if checkpoint != file.index {
            return;
        }
        *written = durable;
        if *have < durable {
            // What an earlier transfer brought.
            (*have, *asked_to) = (durable, durable);
        }
        if durable >= file.len {
            let (file, log_digest) = (*file, *log_digest);
            self.set_stage(Stage::Installing { at: file.index });
            self.outputs.push_back(Output::Storage(StorageRequest::Install { file, log_digest }));
            return;
        }
        self.fetch_chunks();
    }

    fn fetch_chunks(&mut self) {
        let chunk = limits::CHUNK_BYTES as u64;
        let Some(join) = &mut self.join else { return };
        let Stage::Chunks { file, written, asked_to, .. } = &mut join.stage else { return };
        let end = file.len.min(*written + chunk * limits::CHUNKS_AHEAD as u64);
        let (checkpoint, mut offset) = (file.index, *asked_to);
        *asked_to = end.max(offset);
        while offset < end {
            self.send_to_donor(PeerFrame::Fetch(Fetch::Chunk { checkpoint, offset }));
            offset += chunk;
        }
    }

    pub(super) fn on_installed(&mut self, result: Result<(), String>) {
        let Some(join) = &mut self.join else { return };
        let Stage::Installing { at } = join.stage else { return };
        match result {
            Ok(()) => {
                self.set_stage(Stage::Recovering);
                self.outputs.push_back(Output::Recover { to: Some(at) });
            }
            Err(why) => {
                join.unusable_up_to = Some(at);
                self.event(Event::Unrecovered { why });
                self.ask_to_join();
            }
        }
    }

    /// What was asked for is not kept any more, or cannot be read: the member is asked again when
    /// an answer is due, since it may come to nothing again.
    pub(super) fn on_unavailable(&mut self) {
        let reads = self
            .join
            .as_ref()
            .is_some_and(|join| matches!(join.stage, Stage::Chunks { .. } | Stage::Entries { .. }));
        if reads {
            self.set_stage(Stage::Asking);
            self.ask_in_vain();
        }
    }

    /// The member says that this one is a member from an entry on (rule J6).
    pub(super) fn on_admit(&mut self, record: Record, from: Index) {
        if self.membership.record() == Some(&record) && self.join.is_none() {
            // The member did not hear that we know.
            if self.membership.is_all_persisted() {
                self.send_everywhere(PeerFrame::Admitted { epoch: record.epoch });
            }
            return;
        }
        let Some(join) = &self.join else { return self.ignore(Ignored::NotOurRole) };
        let whole = self.persisted >= from && self.log.history().record == Some(record);
        let ours = record.members.has(self.config.place, self.incarnation);
        if !whole || !ours || join.admission.is_some() {
            return;
        }
        self.membership.enter(record);
        self.use_witness(self.log.history().witness);
        let number = self.persist_membership();
        if let Some(join) = &mut self.join {
            join.admission = Some(number);
        }
        self.check_admission();
    }

    /// The joiner becomes a member once its disk says so.
    pub(super) fn check_admission(&mut self) {
        let admission = self.join.as_ref().and_then(|join| join.admission);
        let known = admission.is_some_and(|number| self.membership.is_persisted(number));
        let (Some(&record), true) = (self.membership.record(), known) else { return };
        self.join = None;
        self.sequencer = self.log.history().sequencer;
        self.membership_epoch = record.epoch;
        self.agreement = Agreement::from(self.released);
        self.progress = Progress { last_index: self.log.last_index(), ..Progress::default() };
        self.resend = Resend::default();
        self.epoch_since = Some(self.now.mono);
        self.forget_debts();
        self.clock.begin_reporting();
        self.peer_declared_dead = self.peer_incarnation != self.membership.peer();
        let from = self.log.last_index();
        self.event(Event::Admitted { record, from });
        self.announce_standing();
        self.rewind_links();
        self.send_everywhere(PeerFrame::Admitted { epoch: record.epoch });
        if self.is_sequencer() {
            // The role was handed to it while it joined.
            self.take_over_copies();
        }
    }

    /// The last entry whose outputs the member releases without this one: all before that with
    /// which its own membership begins.
    pub(super) fn released_without_us(&self) -> Index {
        let own = self
            .log
            .history()
            .record
            .filter(|record| record.members.has(self.config.place, self.incarnation))
            // An earlier one of which it never heard is the member's alone by now.
            .filter(|record| record.origin == Origin::Joined);
        match own {
            Some(_) => self.log.history().began.prev(),
            None => self.log.last_index(),
        }
    }

    pub(super) fn on_join_due(&mut self) {
        let Some(join) = &self.join else { return };
        let waited = self.now.mono.since(join.asked);
        let in_vain = waited >= join.patience;
        match &join.stage {
            Stage::Asking if join.asked == MonotonicTime(0) => self.ask_to_join(),
            Stage::Asking if in_vain => {
                self.ask_in_vain();
                self.ask_to_join();
            }
            Stage::Chunks { .. } if in_vain => {
                if let Some(Joining { stage: Stage::Chunks { have, asked_to, .. }, .. }) =
                    &mut self.join
                {
                    *asked_to = *have;
                }
                self.ask_in_vain();
                self.fetch_chunks();
            }
            Stage::Entries { fetching: Some(_), .. } if in_vain => {
                self.ask_in_vain();
                self.fetch_entries();
            }
            Stage::Entries { fetching: None, .. } if waited >= IDLE => self.fetch_entries(),
            _ => self.fetch_more(),
        }
    }

    fn ask_in_vain(&mut self) {
        if let Some(join) = &mut self.join {
            join.asked = self.now.mono;
            join.patience = (join.patience * 2).min(ASK_AGAIN_MOST);
        }
    }
}
