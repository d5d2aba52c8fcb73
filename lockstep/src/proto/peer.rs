//! Handlers of the links and of what the peer says on them.

use super::flow::Unacknowledged;
use super::io::{LinkSet, Output};
use super::links::Link;
use super::replica::Replica;
use crate::event::{Event, Ignored, StopCause};
use crate::ids::{Epoch, Incarnation, Lineage, LinkId};
use crate::record::{Origin, Record};
use crate::wire::frames::{Environment, Hello, PeerFrame, Progress};

impl Replica {
    pub(super) fn link(&mut self, link: LinkId) -> &mut Link {
        &mut self.links[usize::from(link.0)]
    }

    pub(super) fn on_link_up(&mut self, link: LinkId) {
        let (first, forward) = (self.peer_lacks(), self.forwards_lacking());
        let now = self.now.mono;
        self.link(link).connect(first, forward, now);
        self.send_hello(link);
    }

    pub(super) fn on_link_down(&mut self, link: LinkId) {
        let was_up = self.link(link).up;
        self.link(link).disconnect();
        if was_up {
            self.event(Event::LinkDown { link, closed: true, missed: self.is_duplex() });
        }
        self.reassign_bulk();
    }

    pub(super) fn send_hello(&mut self, link: LinkId) {
        let hello = Hello {
            pair: self.config.pair,
            place: self.config.place,
            incarnation: self.incarnation,
            environment: self.config.environment.clone(),
            record: self.membership.record().filter(|_| !self.is_joiner()).copied(),
            heard: self.link(link).handshaken_with.is_some(),
            claim: self.claim(),
            enrolled: self.enrolled(),
            wall: self.now.wall,
        };
        self.send_on(link, PeerFrame::Hello(hello));
    }

    pub(super) fn send_on(&mut self, link: LinkId, frame: PeerFrame) {
        self.outputs.push_back(Output::Peer { links: LinkSet::of(link), frame });
    }

    /// Says this on every link that carries frames.
    pub(super) fn send_everywhere(&mut self, frame: PeerFrame) {
        let mut links = LinkSet::NONE;
        for link in self.links.iter().filter(|link| link.carries()) {
            links.insert(link.id);
        }
        if !links.is_empty() {
            self.outputs.push_back(Output::Peer { links, frame });
        }
    }

    pub(super) fn on_peer(&mut self, link: LinkId, frame: PeerFrame) {
        if !self.link(link).connected {
            return;
        }
        match frame {
            PeerFrame::Hello(hello) => return self.on_hello(link, hello),
            PeerFrame::Refuse { reason } => return self.on_refused(reason),
            _ => {}
        }
        if self.link(link).handshaken_with.is_none() {
            return self.ignore(Ignored::BeforeHello);
        }
        self.link(link).heard = true;
        let from = self.link(link).handshaken_with.unwrap_or(self.incarnation);
        match frame {
            PeerFrame::Ping { sequence, lineage, epoch, progress } => {
                self.send_on(link, PeerFrame::Pong { sequence });
                if self.is_of_our_epoch(link, lineage, epoch) {
                    self.on_progress(progress);
                }
            }
            PeerFrame::Pong { sequence } => self.on_pong(link, sequence),
            PeerFrame::Batch { lineage, epoch, progress, entries, forwards } => {
                if self.is_of_our_epoch(link, lineage, epoch) {
                    self.on_entries(entries);
                    self.on_progress(progress);
                    self.on_forwards(forwards);
                }
            }
            PeerFrame::Epoch { record } => {
                self.on_presence_told(from, record);
                self.on_told(record);
            }
            PeerFrame::Asked { request } => self.on_peer_asked(from, request.next),
            PeerFrame::Digests { lineage, epoch, from, outputs } => {
                if self.is_of_our_epoch(link, lineage, epoch) {
                    self.on_digests(from, &outputs);
                }
            }
            PeerFrame::Outline(outline) => self.on_outline(from, outline),
            PeerFrame::Leave { epoch, reason } => {
                // The peer stops for good, so a renewal of its epoch changes nothing (rule E11).
                let greeted = self.link(link).handshaken_with;
                let from_member = greeted == self.membership.peer();
                if from_member && (self.membership_epoch..=self.membership.epoch()).contains(&epoch)
                {
                    if !self.peer_declared_dead {
                        self.event(Event::Farewell { why: reason });
                    }
                    self.peer_declared_dead = true;
                }
            }
            PeerFrame::Join { points, unusable_up_to } => {
                self.on_join(from, points, unusable_up_to)
            }
            PeerFrame::Fetch(fetch) => self.on_fetch(from, fetch),
            PeerFrame::Checkpoint { index, hash } => self.on_peers_checkpoint(index, hash),
            PeerFrame::Admitted { epoch } => self.on_admitted(from, epoch),
            PeerFrame::Hello(_) | PeerFrame::Refuse { .. } => {}
            from_donor if self.join.as_ref().is_some_and(|join| join.donor == from) => {
                self.on_donor(from_donor);
            }
            PeerFrame::Admit { record, from } => self.on_admit(record, from),
            _ => self.ignore(Ignored::NotOurRole),
        }
    }

    /// The peer's process has asked the witness for this. One that leaves does so whatever the answer
    /// is, so that is remembered over a renewal (rule E11).
    fn on_peer_asked(&mut self, from: Incarnation, next: Record) {
        self.event(Event::PeerAsked { next });
        if matches!(next.origin, Origin::Left(_)) && self.membership.peer() == Some(from) {
            self.leaving_peer = Some(from);
        }
    }

    /// Whether the other member has said that it leaves.
    pub(super) fn is_peer_leaving(&self) -> bool {
        self.leaving_peer.is_some() && self.leaving_peer == self.membership.peer()
    }

    /// What only the member says that brings this one up to date.
    fn on_donor(&mut self, frame: PeerFrame) {
        match frame {
            PeerFrame::Offer { record, from, checkpoint, last_index } => {
                self.on_offer(record, from, checkpoint, last_index);
            }
            PeerFrame::Entries { after, entries, last_index } => {
                self.on_fetched(after, entries, last_index)
            }
            PeerFrame::Chunk { checkpoint, offset, bytes } => {
                self.on_chunk(checkpoint, offset, bytes);
            }
            PeerFrame::Unavailable => self.on_unavailable(),
            PeerFrame::Admit { record, from } => self.on_admit(record, from),
            _ => self.ignore(Ignored::NotOurRole),
        }
    }

    fn on_hello(&mut self, link: LinkId, hello: Hello) {
        let theirs = hello.pair == self.config.pair && hello.place == self.config.place.other();
        // A process that calls itself by our own name would make a pair of one process (rule F7).
        if !theirs || hello.incarnation == self.incarnation {
            self.ignore(Ignored::NotOurPeer);
            self.outputs.push_back(Output::CloseLink { link });
            return;
        }
        if let Some(why) = incompatible(&self.config.environment, &hello.environment) {
            return self.on_incompatible(link, hello, why);
        }
        let incarnation = hello.incarnation;
        if self.peer_incarnation != Some(incarnation) {
            self.peer_incarnation = Some(incarnation);
            self.forget_search();
            self.event(Event::Met { incarnation });
        }
        let ours = self.link(link);
        ours.handshaken_with = Some(incarnation);
        ours.heard |= hello.heard;
        if !hello.heard || self.answers_clock() {
            self.send_hello(link);
        }
        self.on_presence(&hello);
        self.check_donor(incarnation);
        if let Some(record) = hello.record {
            self.on_told(record);
        }
        // A new process at the peer's place: the one that was a member is dead (rule S4).
        if self.membership.peer().is_some_and(|peer| peer != incarnation) {
            self.peer_declared_dead = true;
        }
        self.on_start_due();
    }

    fn on_incompatible(&mut self, link: LinkId, theirs: Hello, why: String) {
        self.send_on(link, PeerFrame::Refuse { reason: why.clone() });
        self.outputs.push_back(Output::CloseLink { link });
        // An incompatible process comes again and again, as long as it does not give way either.
        if self.on_stranger(&theirs) {
            self.event(Event::Incompatible { theirs: Box::new(theirs), why: why.clone() });
        }
        self.on_refused(why);
    }

    /// The two cannot run together: one that has no right of its own ends (rule E2).
    fn on_refused(&mut self, why: String) {
        if self.yields() {
            self.stop(StopCause::Incompatible { why });
        }
    }

    /// Whether a frame counts here (rule E8): it is of our epoch, from the process that is the
    /// member. Who is behind is told the record.
    fn is_of_our_epoch(&mut self, link: LinkId, lineage: Lineage, epoch: Epoch) -> bool {
        let greeted = self.links[usize::from(link.0)].handshaken_with;
        if let Some(join) = &self.join {
            // A sole member's log only grows, so what it sent in an earlier epoch is as good.
            return greeted == Some(join.donor) && lineage == join.record.lineage;
        }
        let Some(&record) = self.membership.record() else { return false };
        if let Some(joiner) =
            self.joiner.as_ref().filter(|joiner| greeted == Some(joiner.incarnation))
        {
            // A joiner learns of the present epoch by and by; its log is always this one's.
            let attached = joiner.attached;
            if (lineage, epoch) < (record.lineage, record.epoch) {
                self.send_on(link, PeerFrame::Epoch { record });
            }
            return attached && lineage == record.lineage && epoch <= record.epoch;
        }
        let from_member = greeted == self.membership.peer();
        if from_member && (lineage, epoch) == (record.lineage, record.epoch) {
            return true;
        }
        if (lineage, epoch) < (record.lineage, record.epoch) {
            self.send_on(link, PeerFrame::Epoch { record });
        } else if (lineage, epoch) > (record.lineage, record.epoch) {
            self.ask_witness_sooner();
        }
        if epoch != Epoch(0) {
            self.ignore(Ignored::OtherEpoch { epoch });
        }
        false
    }

    /// The peer says how far it is (rule O3).
    fn on_progress(&mut self, told: Progress) {
        if self.is_joiner() {
            // A joiner takes what the member sends, and compares nothing before it is a member.
            return;
        }
        let most = self.log.last_index().0.saturating_add(self.window_limit() as u64);
        let contradicts = told.executed > told.last_index || told.persisted > told.last_index;
        if contradicts || told.last_index.0 > most || told.ordered > self.pending.last() {
            return self.ignore(Ignored::ProtocolViolation);
        }
        self.compare_entries(&told);
        if self.stream_peer().is_none() {
            return;
        }
        let old = self.progress;
        self.agreement.report(told.executed, told.outputs);
        if told.last_index > old.last_index {
            self.progress.last_index = told.last_index;
            self.progress.entries = told.entries;
        }
        if told.executed > old.executed {
            self.progress.executed = told.executed;
            self.progress.outputs = told.outputs;
        }
        self.progress.persisted = old.persisted.max(told.persisted);
        self.progress.halted |= told.halted;
        // A report from before a hand-over counts inputs that only waited to be ordered.
        if told.last_index >= self.last_transfer {
            self.progress.ordered = old.ordered.max(told.ordered);
        }
        let orders = self.progress.ordered > old.ordered;
        let gets_on = self.progress.last_index > old.last_index
            || self.progress.executed > old.executed
            || self.progress.persisted > old.persisted;
        if gets_on {
            self.resend.on_entries(self.now.mono);
        }
        if orders {
            self.resend.inputs = Unacknowledged::default();
        }
        if gets_on || orders {
            self.progressed = self.now.mono;
        }
        self.compare();
        self.release();
    }
}

/// What keeps two environments from running together (rule E2).
fn incompatible(ours: &Environment, theirs: &Environment) -> Option<String> {
    if ours.service != theirs.service {
        return Some(format!(
            "one runs the service `{}`, the other `{}`",
            ours.service, theirs.service
        ));
    }
    if ours.service_version != theirs.service_version {
        return Some(format!(
            "one runs version {} of the service, the other {}: install the same on both",
            ours.service_version, theirs.service_version
        ));
    }
    if ours.protocol.oldest > theirs.protocol.newest
        || theirs.protocol.oldest > ours.protocol.newest
    {
        return Some("they share no version of the protocol: install the same on both".into());
    }
    (ours.configuration != theirs.configuration).then(|| {
        "their shared configuration differs: compare the service's settings and devices, the number \
         of links, `divergence`, `limits.window_entries`, `limits.window_bytes`, `storage.durability` \
         and `storage.checkpoint_bytes`"
            .into()
    })
}
