//! Looking things up in a journal.

use std::collections::VecDeque;

use crate::digest::Digest;
use crate::entry::Entry;
use crate::ids::Index;
use crate::store::journal::cursor::{Cursor, Replay};
use crate::store::journal::recovery::base_of;
use crate::store::journal::segment::Segment;
use crate::store::journal::{Journal, JournalError, Mark, POINTS};

impl Journal {
    /// Everything after this entry is kept.
    pub fn base(&self) -> (Index, Digest) {
        base_of(&self.segments).unwrap_or((Index(0), Digest::ZERO))
    }

    /// The last entry that was committed.
    pub(super) fn end(&self) -> (Index, Digest) {
        let newest = self.segments.last();
        newest.map_or((Index(0), Digest::ZERO), |segment| {
            (segment.end.next.prev(), segment.end.log_digest)
        })
    }

    /// What was agreed when the last batch was committed.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The last that was agreed about nothing after this entry, as the segments and batches up to
    /// it have it. Each says at most a window less than what there was when it was written. So what
    /// a start has to execute after a cut is not more than otherwise.
    pub(super) fn mark_up_to(&self, index: Index) -> Result<Mark, JournalError> {
        let begin = self.base().0.next();
        let says = |segment: &&Segment| {
            let counts = segment.first <= index && segment.has(segment.first);
            (counts || segment.first == begin) && segment.mark.index <= index
        };
        let (mut mark, from) = match self.segments.iter().rfind(says) {
            Some(segment) => (segment.mark, segment.first),
            None => (Mark::default(), begin),
        };
        let mut cursor = Cursor::default();
        if from > index || !cursor.seek(&self.segments, from) {
            return Ok(mark);
        }
        while let Some(loaded) = cursor.next(&*self.directory, &self.segments)? {
            if loaded.entries.first().is_none_or(|(entry, _)| entry.index > index) {
                break;
            }
            if loaded.mark != Mark::default() && loaded.mark.index <= index {
                mark = loaded.mark;
            }
        }
        Ok(mark)
    }

    /// The running digest at an entry; `None` before the base and after what is held.
    ///
    /// # Errors
    /// If the entry cannot be read, or is not what was written.
    pub fn log_digest_at(&mut self, index: Index) -> Result<Option<Digest>, JournalError> {
        self.check()?;
        let (base, log_digest) = self.base();
        if index == base {
            return Ok(Some(log_digest));
        }
        if index >= self.committed() {
            return Ok(self.pending.log_digest_at(index));
        }
        self.cursor.log_digest_at(&*self.directory, &self.segments, index)
    }

    /// Entries with the running digest at each, by which another journal is compared with this
    /// one: the last one held first, then ever further back, down to the base. At most [`POINTS`].
    ///
    /// # Errors
    /// As for [`log_digest_at`](Self::log_digest_at).
    pub fn points(&mut self) -> Result<Vec<(Index, Digest)>, JournalError> {
        self.check()?;
        let (base, held) = (self.base().0, self.held().0);
        let mut indexes = vec![base];
        // Forwards, since reading goes on best where it was.
        indexes.extend((0..POINTS - 2).rev().filter_map(|power| {
            let back = 1u64.checked_shl(power as u32)?;
            held.0.checked_sub(back).map(Index).filter(|index| *index > base)
        }));
        if held > base {
            indexes.push(held);
        }
        let mut points = Vec::with_capacity(indexes.len());
        for index in indexes {
            points.extend(self.log_digest_at(index)?.map(|log_digest| (index, log_digest)));
        }
        points.reverse();
        Ok(points)
    }

    /// Entries from this one on, appended ones included, until they weigh this many bytes; one at
    /// least if there is one. `None` if it is no longer kept. Cheap when it goes on where the last
    /// call ended.
    ///
    /// # Errors
    /// If they cannot be read, or are not what was written.
    pub fn read(
        &mut self,
        from: Index,
        max_bytes: usize,
    ) -> Result<Option<Vec<Entry>>, JournalError> {
        self.check()?;
        if from <= self.base().0 {
            return Ok(None);
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut take = |entry: Entry| {
            let enough = bytes >= max_bytes && !entries.is_empty();
            if !enough && entry.index >= from {
                bytes += entry.weight();
                entries.push(entry);
            }
            !enough
        };
        if self.cursor.seek(&self.segments, from) {
            loop {
                let before = self.cursor.place();
                let Some(loaded) = self.cursor.next(&*self.directory, &self.segments)? else {
                    break;
                };
                if !loaded.entries.into_iter().all(|(entry, _)| take(entry)) {
                    self.cursor.back(before);
                    return Ok(Some(entries));
                }
            }
        }
        if self.pending.end().0 >= from && !self.pending.is_empty() {
            self.pending.entries().into_iter().all(|(entry, _)| take(entry));
        }
        Ok(Some(entries))
    }

    /// The committed entries from this one on, one after the other, in bounded memory: one batch.
    /// With the first of each batch comes what was agreed when it was written.
    ///
    /// # Errors
    /// [`JournalError::NotKept`].
    pub fn replay(&self, from: Index) -> Result<Replay, JournalError> {
        self.check()?;
        let base = self.base().0;
        if from <= base {
            return Err(JournalError::NotKept { asked: from, base });
        }
        let mut cursor = Cursor::default();
        cursor.seek(&self.segments, from);
        Ok(Replay {
            directory: self.directory.share(),
            segments: self.segments.clone(),
            cursor,
            next: from,
            ready: VecDeque::new(),
        })
    }
}
