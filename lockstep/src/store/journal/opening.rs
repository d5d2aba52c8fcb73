//! Opening a journal: what was found is put in order before anything is written.

use crate::digest::Digest;
use crate::ids::Index;
use crate::store::files::{Directory, File};
use crate::store::journal::batch::{self, Found};
use crate::store::journal::error::{JournalError, attempt};
use crate::store::journal::pending::Pending;
use crate::store::journal::recovery::{Survey, survey};
use crate::store::journal::segment::{PART, Segment, Spot, segment_number, spare_number};
use crate::store::journal::{Health, Identity, Journal, Options, Recovery, State};

/// Zeros are written over a torn batch in pieces of this many bytes.
const PIECE_BYTES: u32 = 256 << 10;

impl Journal {
    /// Opens the journal in this directory, whatever is there, and reads all of it.
    ///
    /// Whatever it then says it holds is on the disk, also if an earlier process wrote it and
    /// could not sync it. With damage nothing is changed, until
    /// [`restart_at`](Self::restart_at).
    ///
    /// # Errors
    /// [`JournalError::Version`] and [`JournalError::Stranger`], with nothing changed;
    /// [`JournalError::Options`]; [`JournalError::Io`] where the system says something else than
    /// that it cannot read what was written, which is damage.
    pub fn open(
        directory: Box<dyn Directory>,
        identity: Identity,
        options: Options,
    ) -> Result<(Self, Recovery), JournalError> {
        options.check()?;
        let names = attempt("list", "the directory", || directory.list())?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        let found = survey(&*directory, identity, &numbers)?;
        let mut journal = Self {
            directory,
            identity,
            options,
            health: Health::Sound,
            segments: Vec::new(),
            active: None,
            mark: found.mark,
            next_sequence: numbers.last().map_or(1, |last| last + 1),
            spares: Vec::new(),
            next_spare: 0,
            making: None,
            pending: Pending::new(Index(0), Digest::ZERO),
            cursor: Default::default(),
            buffer: Vec::new(),
        };
        let recovery = journal.adopt(found, &names)?;
        Ok((journal, recovery))
    }

    fn adopt(&mut self, found: Survey, names: &[String]) -> Result<Recovery, JournalError> {
        let Survey { segments, mark, damage, torn_end, unsealed, left_behind } = found;
        self.segments = segments;
        let state = match damage {
            Some(damage) => State::Damaged(damage),
            None if self.segments.is_empty() => State::Empty,
            None => State::Whole,
        };
        let mut torn = 0;
        if let State::Damaged(damage) = &state {
            self.health = Health::Damaged(damage.clone());
        } else {
            self.collect_spares(names)?;
            torn = self.settle(torn_end, unsealed)?;
            for sequence in left_behind {
                self.recycle(sequence, false)?;
            }
        }
        let (held, log_digest) = self.end();
        self.pending = Pending::new(held, log_digest);
        Ok(Recovery { state, base: self.base(), held, log_digest, mark, torn })
    }

    /// Spares of another length, and one that was not finished, are of no use.
    pub(super) fn collect_spares(&mut self, names: &[String]) -> Result<(), JournalError> {
        for name in names {
            if name == PART {
                attempt("remove", name, || self.directory.remove(name))?;
            }
            let Some(number) = spare_number(name) else { continue };
            self.next_spare = self.next_spare.max(number);
            let file = attempt("open", name, || self.directory.open(name))?;
            let len = attempt("read the length of", name, || file.len())?;
            if len == u64::from(self.options.segment_bytes)
                && self.spares.len() < self.options.spares
            {
                self.spares.push(name.clone());
            } else {
                attempt("remove", name, || self.directory.remove(name))?;
            }
        }
        Ok(())
    }

    /// Makes sure that what was read is what a crash would leave, and that what is left of a torn
    /// batch can never be taken for part of another one.
    fn settle(&mut self, torn_end: Option<u32>, unsealed: bool) -> Result<u64, JournalError> {
        self.sync_names()?;
        let Some(newest) = self.segments.last() else { return Ok(0) };
        let name = newest.name();
        let file = attempt("open", &name, || self.directory.open(&name))?;
        self.rewrite_last(newest, &name, &*file)?;
        let torn = torn_end.map_or(0, |end| end - newest.end.offset);
        let mut at = newest.end.offset;
        while let Some(end) = torn_end.filter(|end| at < *end) {
            let zeros = vec![0; PIECE_BYTES.min(end - at) as usize];
            attempt("write", &name, || file.write_all_at(&zeros, at.into()))?;
            at += zeros.len() as u32;
        }
        self.sync_file(&*file, &name)?;
        self.active = Some(file);
        if let (true, [.., before, _]) = (unsealed, &self.segments[..]) {
            let name = before.name();
            let file = attempt("open", &name, || self.directory.open(&name))?;
            self.write_seal(before, &*file)?;
        }
        Ok(torn.into())
    }

    /// Writes the last batch again, as it is. If the predecessor's sync of it failed, it can be
    /// read and yet not be on the disk, and only what is written again is synced again.
    fn rewrite_last(
        &self,
        newest: &Segment,
        name: &str,
        file: &dyn File,
    ) -> Result<(), JournalError> {
        let Some(last) = last_batch(newest, name, file)? else { return Ok(()) };
        let mut bytes = vec![0; (newest.end.offset - last.offset) as usize];
        attempt("read", name, || file.read_exact_at(&mut bytes, last.offset.into()))?;
        attempt("write", name, || file.write_all_at(&bytes, last.offset.into()))
    }
}

fn last_batch(newest: &Segment, name: &str, file: &dyn File) -> Result<Option<Spot>, JournalError> {
    if newest.end.next == newest.first {
        return Ok(None);
    }
    let mut spot = newest.spot_before(newest.end.next.prev());
    loop {
        let Found::Batch(batch) = batch::read(file, name, newest.within, &spot)? else {
            return Ok(None);
        };
        let after = spot.after(batch.room, batch.header.count, batch.header.log_digest);
        if after.offset >= newest.end.offset {
            return Ok(Some(spot));
        }
        spot = after;
    }
}
