//! Which output of an entry differs (rule D6): a search beside the verdict, which neither waits
//! for it nor depends on it.
//!
//! Whoever notices that the two differ at an entry tells the other what it came to, in outline, at
//! once: before it asks the witness anything, so that the one that has to leave has heard and
//! answered by then. It keeps its own outline until the other's is here, also when it has gone on
//! alone meanwhile and released the outputs.

use super::replica::Replica;
use crate::event::{Event, Ignored};
use crate::ids::{Incarnation, Index};
use crate::outline::{self, Found, Outline};
use crate::wire::frames::PeerFrame;

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

    /// Another process is at the peer's place: what the one before came to is not compared any
    /// more.
    pub(super) fn forget_search(&mut self) {
        self.search = Search::default();
    }
}
