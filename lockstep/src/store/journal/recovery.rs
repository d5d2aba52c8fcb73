//! What a journal is found to hold when it is opened.
//!
//! Segments are read in the order of their sequence numbers, every sector, batch and entry of them.
//! What may be missing without being damage is the end of the newest segment, and that only if its
//! sectors look as if they had never been written. Everything else that is not as it was written is
//! damage, and says where.

use crate::digest::Digest;
use crate::ids::Index;
use crate::store::files::{Directory, File};
use crate::store::journal::batch::{self, Found};
use crate::store::journal::cursor::Cursor;
use crate::store::journal::error::{JournalError, attempt};
use crate::store::journal::format::{
    self, BLOCK_BYTES, Beginning, HEADER_BYTES, Header, SEAL_BYTES, SECTOR_BYTES, Seal, Sector,
    Unreadable, inspect,
};
use crate::store::journal::segment::{Segment, segment_name};
use crate::store::journal::{Identity, Mark};

/// The free end of a segment is looked through in pieces of this many bytes.
const PIECE_BYTES: u32 = 256 << 10;

/// The system's number for an input or output error: EIO, the same on every Unix.
const EIO: i32 = 5;

/// What the segments of a journal were found to hold.
pub(super) struct Survey {
    /// What is kept, oldest first; as far as it could be read, if there is damage.
    pub(super) segments: Vec<Segment>,
    pub(super) mark: Mark,
    pub(super) damage: Option<Damage>,
    /// In the newest segment: what there is of a torn batch, from its end to here.
    pub(super) torn_end: Option<u32>,
    /// Whether the last but one segment lacks its seal.
    pub(super) unsealed: bool,
    /// Segments that a restart left behind.
    pub(super) left_behind: Vec<u64>,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's name.
    pub file: String,
    /// Offset in bytes of the part that is wrong.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
}

type HeaderOrDamage = Result<Header, Damage>;

/// Looks through the segments with these sequence numbers, which are in order.
pub(super) fn survey(
    directory: &dyn Directory,
    identity: Identity,
    numbers: &[u64],
) -> Result<Survey, JournalError> {
    let mut headers = Vec::new();
    for number in numbers {
        headers.push(read_header(directory, identity, *number)?);
    }
    let restarts = |header: &HeaderOrDamage| {
        header.as_ref().is_ok_and(|header| header.beginning == Beginning::Restarts)
    };
    let start = headers.iter().rposition(restarts).unwrap_or(0);
    let mut survey = Survey {
        segments: Vec::new(),
        mark: Mark::default(),
        damage: None,
        torn_end: None,
        unsealed: false,
        left_behind: numbers[..start].to_vec(),
    };
    let kept = &numbers[start..];
    let expected = kept.first().copied().unwrap_or(0)..;
    for ((number, header), expected) in kept.iter().zip(headers.drain(start..)).zip(expected) {
        if *number != expected {
            survey.damage = Some(missing(expected));
            return Ok(survey);
        }
        let newest = numbers.last() == Some(number);
        let done = match header {
            Ok(header) => damage_of(survey.take(directory, &header, newest))?,
            Err(damage) => Some(damage),
        };
        if done.is_some() {
            survey.damage = done;
            return Ok(survey);
        }
    }
    Ok(survey)
}

/// Where what these segments hold begins.
pub(super) fn base_of(segments: &[Segment]) -> Option<(Index, Digest)> {
    let oldest = segments.iter().min_by_key(|segment| segment.first)?;
    Some((oldest.first.prev(), oldest.chain()))
}

fn missing(number: u64) -> Damage {
    let why = "the file is missing, and later entries were written".into();
    Damage { file: segment_name(number), offset: 0, why }
}

/// Tells damage, which is a finding, from errors that keep anything from being found. A disk that
/// cannot read what was written is damaged too.
fn damage_of(result: Result<(), JournalError>) -> Result<Option<Damage>, JournalError> {
    match result {
        Ok(()) => Ok(None),
        Err(JournalError::Damaged { file, offset, why }) => Ok(Some(Damage { file, offset, why })),
        Err(JournalError::Io { action: "read", file, source })
            if source.raw_os_error() == Some(EIO)
                || source.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            Ok(Some(Damage { file, offset: 0, why: format!("it cannot be read: {source}") }))
        }
        Err(error) => Err(error),
    }
}

fn read_header(
    directory: &dyn Directory,
    identity: Identity,
    number: u64,
) -> Result<HeaderOrDamage, JournalError> {
    let name = segment_name(number);
    let damage = |why: &str| Damage { file: name.clone(), offset: 0, why: why.into() };
    let file = attempt("open", &name, || directory.open(&name))?;
    let len = attempt("read the length of", &name, || file.len())?;
    if len < HEADER_BYTES as u64 {
        return Ok(Err(damage("it is shorter than its header")));
    }
    let mut bytes = [0; HEADER_BYTES];
    let read = attempt("read", &name, || file.read_exact_at(&mut bytes, 0));
    if let Some(damage) = damage_of(read)? {
        return Ok(Err(damage));
    }
    let header = match Header::decode(&bytes) {
        Ok(header) => header,
        Err(Unreadable::Version(version)) => {
            return Err(JournalError::Version { file: name, version });
        }
        Err(Unreadable::Damaged(why)) => return Ok(Err(damage(why))),
    };
    if header.identity != identity {
        let Identity { pair, place } = header.identity;
        return Err(JournalError::Stranger { file: name, pair, place });
    }
    if header.sequence != number {
        return Ok(Err(damage("it is another segment under this name")));
    }
    if u64::from(header.len) != len {
        return Ok(Err(damage("its length is not the one in its header")));
    }
    Ok(Ok(header))
}

impl Survey {
    fn held(&self) -> Option<(Index, Digest)> {
        self.segments.last().map(|segment| (segment.end.next.prev(), segment.end.log_digest))
    }

    fn take(
        &mut self,
        directory: &dyn Directory,
        header: &Header,
        newest: bool,
    ) -> Result<(), JournalError> {
        self.follow(directory, header)?;
        self.mark = header.mark;
        let mut segment = Segment::new(header);
        let name = segment.name();
        let file = attempt("open", &name, || directory.open(&name))?;
        let read = self.read_batches(&*file, &name, &mut segment);
        // Kept as far as it could be read: it tells the operator what there is.
        self.segments.push(segment);
        read?;
        let segment = &self.segments[self.segments.len() - 1];
        match read_seal(&*file, &name, segment)? {
            Some(seal) if seal != segment.seal() => Err(JournalError::Damaged {
                file: name,
                offset: segment.end.offset.into(),
                why: format!("it ends before entry {}, its seal after", segment.end.next),
            }),
            Some(_) if newest => {
                let Damage { file, offset, why } = missing(segment.sequence + 1);
                Err(JournalError::Damaged { file, offset, why })
            }
            Some(_) => Ok(()),
            None if newest => {
                self.torn_end = torn_end(&*file, &name, segment)?;
                Ok(())
            }
            None => {
                self.unsealed = true;
                Ok(())
            }
        }
    }

    /// Whether the segment follows what was read before it.
    fn follow(&mut self, directory: &dyn Directory, header: &Header) -> Result<(), JournalError> {
        let Some((held, log_digest)) = self.held() else { return Ok(()) };
        let before = header.first.prev();
        let damaged = |why: String| {
            let file = segment_name(header.sequence);
            Err(JournalError::Damaged { file, offset: 0, why })
        };
        if before > held {
            return damaged(format!("entries {} to {before} are missing before it", held.next()));
        }
        let expected = match header.beginning {
            Beginning::Continues if before != held => {
                return damaged(format!("it begins after entry {before}, others go to {held}"));
            }
            _ if before == held => Some(log_digest),
            // `None` if it is before the oldest that is kept: nothing to compare it with.
            _ => match base_of(&self.segments) {
                Some((base, log_digest)) if base == before => Some(log_digest),
                _ => Cursor::default().log_digest_at(directory, &self.segments, before)?,
            },
        };
        if expected.is_some_and(|expected| expected != header.log_digest) {
            return damaged(format!("its entries do not follow entry {before}"));
        }
        if header.beginning == Beginning::Cuts {
            self.segments.iter_mut().for_each(|segment| segment.cut(before));
        }
        Ok(())
    }

    fn read_batches(
        &mut self,
        file: &dyn File,
        name: &str,
        segment: &mut Segment,
    ) -> Result<(), JournalError> {
        loop {
            let spot = segment.end;
            let batch = match batch::read(file, name, segment.within, &spot)? {
                Found::Batch(batch) => batch,
                Found::Nothing => return Ok(()),
            };
            batch.entries(spot.next, spot.log_digest).map_err(|why| JournalError::Damaged {
                file: name.to_owned(),
                offset: spot.offset.into(),
                why,
            })?;
            self.mark = batch.header.mark;
            segment.extend(spot.after(batch.room, batch.header.count, batch.header.log_digest));
        }
    }
}

fn read_seal(file: &dyn File, name: &str, segment: &Segment) -> Result<Option<Seal>, JournalError> {
    let mut bytes = [0; SEAL_BYTES];
    let offset = segment.within.area_end().into();
    attempt("read", name, || file.read_exact_at(&mut bytes, offset))?;
    Ok(Seal::decode(&bytes, segment.sequence, segment.within.salt))
}

/// Looks through what is free in the newest segment. Sectors of the batch that would come next are
/// what a crash left of it, up to the offset that is returned. Sectors of a later batch show that
/// it was there once.
fn torn_end(file: &dyn File, name: &str, segment: &Segment) -> Result<Option<u32>, JournalError> {
    let (mut torn, mut piece) = (None, Vec::new());
    let end = segment.within.area_end();
    let mut at = segment.end.offset;
    while at < end {
        piece.resize(PIECE_BYTES.min(end - at) as usize, 0);
        attempt("read", name, || file.read_exact_at(&mut piece, at.into()))?;
        for sector in piece.chunks_exact(SECTOR_BYTES) {
            match inspect(&format::array(sector, 0), segment.within.salt, at) {
                Sector::Own(number) if number > segment.end.number => {
                    return Err(JournalError::Damaged {
                        file: name.to_owned(),
                        offset: segment.end.offset.into(),
                        why: "a batch is missing: a later one stands behind it".into(),
                    });
                }
                Sector::Own(number) if number == segment.end.number => {
                    torn = Some((at + 1).next_multiple_of(BLOCK_BYTES));
                }
                _ => {}
            }
            at += SECTOR_BYTES as u32;
        }
    }
    Ok(torn)
}
