//! Divergence and panic (section D of `docs/protocol.md`).
//!
//! - D1: where digests differ, neither releases that entry or a later one; the first entry that
//!   differs is found and reported.
//! - D2: the configured preference decides who asks to go on alone.
//! - D3: a panic is a result.
//! - D4: entries that differ are a divergence as well.
//! - D5: a place that diverges again and again is held for repair ([`repair`](super::repair)).
//! - D6: whoever notices a difference tells the other in outline what it came to. This is a search
//!   beside the verdict, which neither waits for it nor depends on it.

use super::io::DivergencePolicy;
use super::release::Difference;
use super::replica::Replica;
use crate::digest::Digest;
use crate::event::{Event, FallBack, Ignored};
use crate::ids::{Incarnation, Index};
use crate::outline;
use crate::outline::{Found, Outline};
use crate::wire::frames::{PeerFrame, Progress};

/// The replicas computed different things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Divergence {
    pub(super) at: Difference,
    /// What was last reported about it, so that a closer look is reported once.
    pub(super) reported: Index,
    /// The entries themselves differ.
    pub(super) entries: bool,
}

/// At most one outline of each side.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What this side came to, and who came to something else.
    ours: Option<(Incarnation, Outline)>,
    /// What the peer came to; it may have noticed first, or found an earlier entry.
    theirs: Option<(Incarnation, Outline)>,
    /// Where the difference was found: the other links bring the same outline once more.
    found: Option<(Incarnation, Index)>,
}

impl Search {
    /// Takes an outline of the peer; whether it is any news.
    fn hear(&mut self, from: Incarnation, theirs: Outline) -> bool {
        let news = self.found != Some((from, theirs.index));
        if news {
            self.theirs = Some((from, theirs));
        }
        news
    }

    /// Where the two differ, once it is known of both what they came to at the same entry.
    fn conclude(&mut self) -> Option<(Index, Found)> {
        let ((peer, ours), (from, theirs)) = (self.ours.as_ref()?, self.theirs.as_ref()?);
        if peer != from {
            return None;
        }
        let (found, index) = (outline::compare(ours, theirs)?, ours.index);
        *self = Self { found: Some((*from, index)), ..Self::default() };
        Some((index, found))
    }
}

impl Replica {
    /// Compares the peer's results with our own as far as both are known (rule R2).
    pub(super) fn compare(&mut self) {
        if self.divergence.is_some() || self.is_joiner() || self.stream_peer().is_none() {
            return;
        }
        let Err(at) = self.agreement.compare(&self.log) else { return };
        if self.is_duplex() {
            return self.on_divergence(at);
        }
        let Difference { index, ours, theirs } = at;
        self.event(Event::Diverged { index, ours, theirs });
        self.drop_joiner(FallBack::Diverged);
    }

    /// Every entry comes from one sequencer: where they differ, one side is damaged (rule D4).
    pub(super) fn compare_entries(&mut self, told: &Progress) {
        let Some(ours) = self.log.log_digest_at(told.last_index) else { return };
        if ours == told.entries || self.divergence.is_some() {
            return;
        }
        let (index, theirs) = (told.last_index, told.entries);
        self.event(Event::EntriesDiffer { index, ours, theirs });
        if !self.is_duplex() {
            return self.drop_joiner(FallBack::Diverged);
        }
        let at = Difference { index, ours, theirs };
        self.divergence = Some(Divergence { at, reported: index, entries: true });
    }

    /// The replicas differ (rule D1): nothing from there on is released by both.
    fn on_divergence(&mut self, at: Difference) {
        let Difference { index, ours, theirs } = at;
        self.divergence = Some(Divergence { at, reported: index, entries: false });
        self.event(Event::Diverged { index, ours, theirs });
        self.send_digests();
        self.search_difference(index);
    }

    /// Tells the peer our digests from the last entry agreed upon, so that it finds the
    /// first difference.
    pub(super) fn send_digests(&mut self) {
        let Some(divergence) = self.divergence.filter(|divergence| !divergence.entries) else {
            return;
        };
        let from = self.agreement.compared().next();
        let outputs = (from.0..=divergence.at.index.0)
            .take(crate::limits::BATCH_ENTRIES)
            .map_while(|index| self.log.agreement_at(Index(index)))
            .collect();
        let (lineage, epoch) = (self.membership.lineage(), self.membership.epoch());
        self.send_everywhere(PeerFrame::Digests { lineage, epoch, from, outputs });
    }

    pub(super) fn on_digests(&mut self, from: Index, theirs: &[Digest]) {
        let indices = (from.0..=self.log.executed().0).map(Index);
        let differing = indices.zip(theirs).find_map(|(index, theirs)| {
            let ours = self.log.agreement_at(index)?;
            (ours != *theirs).then_some(Difference { index, ours, theirs: *theirs })
        });
        let Some(at) = differing else { return };
        match &mut self.divergence {
            None => self.on_divergence(at),
            Some(divergence) if at.index < divergence.reported && !divergence.entries => {
                divergence.reported = at.index;
                let Difference { index, ours, theirs } = at;
                self.event(Event::Diverged { index, ours, theirs });
                self.search_difference(index);
            }
            Some(_) => {}
        }
    }

    /// One whose service panicked cannot go on (rule D3), and where the policy is to hold, neither
    /// may until the other has been stopped.
    pub(super) fn may_go_alone(&self) -> bool {
        let hold = self.config.divergence == DivergencePolicy::Hold && self.divergence.is_some();
        !self.log.panicked() && (!hold || self.peer_declared_dead)
    }

    /// Whether this side goes on after a divergence (rule D2).
    pub(super) fn is_preferred(&self) -> bool {
        if self.progress.halted {
            return true;
        }
        match self.config.divergence {
            DivergencePolicy::Sequencer => self.is_sequencer(),
            DivergencePolicy::Prefer(place) => place == self.config.place,
            DivergencePolicy::Hold => false,
        }
    }
}

impl Replica {
    /// The two differ at this entry, the first such as far as is known: the peer is told what it
    /// came to here.
    pub(super) fn search_difference(&mut self, index: Index) {
        let Some(peer) = self.membership.peer().filter(|_| index > self.released) else { return };
        let Some(outline) = self.log.outline(index) else { return };
        self.send_everywhere(PeerFrame::Outline(outline.clone()));
        self.search.ours = Some((peer, outline));
        self.conclude_search();
    }

    /// The peer says what it came to. It may be no member any more: this one has gone on alone.
    pub(super) fn on_outline(&mut self, from: Incarnation, theirs: Outline) {
        let of_ours = self.search.ours.as_ref().is_some_and(|(peer, _)| *peer == from);
        if !of_ours && self.membership.peer() != Some(from) {
            return self.ignore(Ignored::NotOurRole);
        }
        if self.search.hear(from, theirs) {
            self.conclude_search();
        }
    }

    fn conclude_search(&mut self) {
        if let Some((index, found)) = self.search.conclude() {
            self.event(Event::Difference { index, found: Box::new(found) });
        }
    }

    /// Another process is at the peer's place: what the one before came to is not compared
    /// any more.
    pub(super) fn forget_search(&mut self) {
        self.search = Search::default();
    }
}
