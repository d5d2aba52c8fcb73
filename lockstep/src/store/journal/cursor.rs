//! Reading entries from segments, forwards.

use std::collections::VecDeque;

use crate::digest::Digest;
use crate::entry::Entry;
use crate::ids::Index;
use crate::store::files::{Directory, File};
use crate::store::journal::Mark;
use crate::store::journal::batch::{self, Chained, Found};
use crate::store::journal::error::{JournalError, attempt};
use crate::store::journal::segment::{Segment, Spot};

/// Where reading goes on, and the file that is open for it.
#[derive(Default)]
pub(super) struct Cursor {
    at: Option<(u64, Spot)>,
    file: Option<(u64, Box<dyn File>)>,
}

/// The entries of a batch that count.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) entries: Vec<Chained>,
    pub(super) mark: Mark,
}

impl Cursor {
    /// Goes to the batch with this entry, or not far before it. `false` if no segment has it.
    pub(super) fn seek(&mut self, segments: &[Segment], index: Index) -> bool {
        let Some(segment) = segments.iter().find(|segment| segment.has(index)) else {
            return false;
        };
        let nearest = segment.spot_before(index);
        let here = self.at.filter(|(sequence, spot)| {
            *sequence == segment.sequence && (nearest.next..=index).contains(&spot.next)
        });
        self.at = here.or(Some((segment.sequence, nearest)));
        true
    }

    /// Where it is, to come [`back`](Self::back).
    pub(super) fn place(&self) -> Option<(u64, Spot)> {
        self.at
    }

    pub(super) fn back(&mut self, to: Option<(u64, Spot)>) {
        self.at = to;
    }

    /// Lets go of a file that is not to be kept open.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The next batch; `None` at the end of what counts.
    pub(super) fn next(
        &mut self,
        directory: &dyn Directory,
        segments: &[Segment],
    ) -> Result<Option<Loaded>, JournalError> {
        let Some((sequence, spot)) = self.at else { return Ok(None) };
        let Some(segment) = segments.iter().find(|segment| segment.sequence == sequence) else {
            return Ok(None);
        };
        if spot.next > segment.last {
            let following = segment.last.max(segment.first.prev()).next();
            if !self.seek(segments, following) {
                return Ok(None);
            }
            return self.next(directory, segments);
        }
        let name = segment.name();
        let file = self.open(directory, sequence, &name)?;
        let damaged = |why: String| JournalError::Damaged {
            file: name.clone(),
            offset: spot.offset.into(),
            why,
        };
        let Found::Batch(batch) = batch::read(file, &name, segment.within, &spot)? else {
            return Err(damaged("a batch is gone: lost, or released while it was read".into()));
        };
        let mut entries = batch.entries(spot.next, spot.log_digest).map_err(damaged)?;
        let after = spot.after(batch.room, batch.header.count, batch.header.log_digest);
        self.at = Some((sequence, after));
        entries.retain(|(entry, _)| entry.index <= segment.last);
        // What was agreed about entries that do not count does not count either.
        let mark = if batch.header.mark.index > segment.last {
            Mark::default()
        } else {
            batch.header.mark
        };
        Ok(Some(Loaded { entries, mark }))
    }

    fn open(
        &mut self,
        directory: &dyn Directory,
        sequence: u64,
        name: &str,
    ) -> Result<&dyn File, JournalError> {
        let file = match self.file.take() {
            Some((open, file)) if open == sequence => file,
            _ => attempt("open", name, || directory.open(name))?,
        };
        Ok(&*self.file.insert((sequence, file)).1)
    }

    /// The running digest at an entry, which a segment has.
    pub(super) fn log_digest_at(
        &mut self,
        directory: &dyn Directory,
        segments: &[Segment],
        index: Index,
    ) -> Result<Option<Digest>, JournalError> {
        if !self.seek(segments, index) {
            return Ok(None);
        }
        loop {
            let before = self.at;
            let Some(loaded) = self.next(directory, segments)? else { return Ok(None) };
            if let Some((_, log_digest)) =
                loaded.entries.iter().find(|(entry, _)| entry.index == index)
            {
                self.at = before;
                return Ok(Some(*log_digest));
            }
        }
    }
}

/// Goes through the entries from an index on, batch by batch. It is on its own: the journal may
/// be written meanwhile. If what it has yet to read is released, it ends with an error.
pub struct Replay {
    pub(super) directory: Box<dyn Directory>,
    pub(super) segments: Vec<Segment>,
    pub(super) cursor: Cursor,
    pub(super) next: Index,
    pub(super) ready: VecDeque<(Entry, Option<Mark>)>,
}

impl Iterator for Replay {
    type Item = Result<(Entry, Option<Mark>), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            match self.cursor.next(&*self.directory, &self.segments) {
                Ok(Some(loaded)) => self.take(loaded),
                Ok(None) => return None,
                Err(error) => {
                    self.cursor.forget();
                    return Some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Replay {
    /// A mark comes with the first entry of its batch.
    fn take(&mut self, loaded: Loaded) {
        let mut mark = Some(loaded.mark).filter(|mark| *mark != Mark::default());
        let wanted = loaded.entries.into_iter().map(|(entry, _)| entry);
        for entry in wanted.filter(|entry| entry.index >= self.next) {
            self.ready.push_back((entry, mark.take()));
        }
    }
}
