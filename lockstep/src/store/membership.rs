//! What a CoServer remembers of its membership: two copies, so that either alone is enough.
//!
//! A save writes the first copy and syncs it, then the second, and is done only then. So what was
//! said to be persisted is in both copies, and a save that a crash cut short has torn at most one
//! of them. The other has either the same or what was there before, and no process was told of the
//! difference. The copy with the higher number counts.
//!
//! Loading writes both anew. What counts from here on must not be lost with one of them later. Nor
//! must a power cut lose it before the system has written what a killed process had given it.
//!
//! Each copy is 1024 bytes, integers little-endian:
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic, "LKSTMEMB"
//!      8      2  version of this format: 1
//!     10      1  which copy: 0 or 1
//!     11      5  0
//!     16      8  number of the save, from 1
//!     24     72  the record of the epoch that it is in, or zeros
//!     96     72  the oldest record that was asked for without an answer, or zeros
//!    168    504  seven more, those that are there first
//!    672    336  0
//!   1008     16  XXH3-128 of everything before
//! ```
//!
//! A record's 72 bytes are laid out in `docs/checkpoint.md`. A field that is added goes where the
//! zeros are; the version is raised, and the older one read as long as its zeros have a meaning.

use std::io;

use crate::limits::OPEN_REQUESTS;
use crate::proto::io::Membership;
use crate::store::fields::{Broken, Fields, begin, put_record, seal_to, unseal_from};
use crate::store::files::{Directory, File};

const MAGIC: &[u8; 8] = b"LKSTMEMB";

/// The version of the format.
pub const VERSION: u16 = 1;

/// Length of a copy: two sectors. One that a power cut tears is seen by its checksum.
const COPY_BYTES: usize = 1024;

/// Names of the two copies, which are written in turn.
pub const NAMES: [&str; 2] = ["membership.0", "membership.1"];

/// The membership cannot be had, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The disk failed. What is on it is not known before the next start.
    #[error("failed to {action} `{name}`")]
    Io {
        /// The operation that failed, as a verb: `read`, `sync`.
        action: &'static str,
        /// The name of the copy.
        name: &'static str,
        /// What the system reported.
        source: io::Error,
    },
    /// An earlier save failed: what the disk has is not known before the next start.
    #[error("the membership could not be written before: the process has to be started again")]
    Failed,
    /// A copy is of another version of the format.
    #[error(
        "`{name}` is of format {found}, this program reads format {VERSION}: start the version \
         that wrote it, or discard the directory (`--discard`) and let this CoServer join the \
         other one"
    )]
    Version {
        /// The name of the copy.
        name: &'static str,
        /// The version in the copy.
        found: u16,
    },
    /// Neither copy can be read: the replica cannot know what it was a member of.
    #[error(
        "neither copy of the membership can be read (`membership.0`: {}, `membership.1`: {}): \
         this CoServer can only join the other one", .what[0], .what[1]
    )]
    Damaged {
        /// What is wrong with each copy.
        what: [&'static str; 2],
    },
}

/// The membership on disk, for as long as a process runs.
pub struct MembershipStore {
    dir: Box<dyn Directory>,
    /// Both copies, once there was something to keep.
    files: Option<[Box<dyn File>; 2]>,
    /// The number of the last save.
    number: u64,
    failed: bool,
}

/// What was found in place of a copy.
enum Copy {
    /// There is none, or an empty file: no save was ever done.
    Absent,
    Damaged(&'static str),
    Version(u16),
    Valid(u64, Membership),
}

impl MembershipStore {
    /// Loads what was saved last; `None` if nothing ever was.
    ///
    /// # Errors
    /// [`MembershipError`]. After [`MembershipError::Damaged`] there is nothing to load:
    /// [`start_anew`](Self::start_anew).
    pub fn load(dir: &dyn Directory) -> Result<(Self, Option<Membership>), MembershipError> {
        let copies = [read_copy(dir, 0)?, read_copy(dir, 1)?];
        let mut store = Self::over(dir);
        let newest = match copies {
            [Copy::Valid(one, first), Copy::Valid(other, second)] => {
                if one >= other {
                    (one, first)
                } else {
                    (other, second)
                }
            }
            [Copy::Valid(number, membership), _] | [_, Copy::Valid(number, membership)] => {
                (number, membership)
            }
            [Copy::Version(found), _] => {
                return Err(MembershipError::Version { name: NAMES[0], found });
            }
            [_, Copy::Version(found)] => {
                return Err(MembershipError::Version { name: NAMES[1], found });
            }
            // Each copy is there and not empty before the first save is done.
            [Copy::Absent, _] | [_, Copy::Absent] => return Ok((store, None)),
            [Copy::Damaged(one), Copy::Damaged(other)] => {
                return Err(MembershipError::Damaged { what: [one, other] });
            }
        };
        store.number = newest.0;
        store.save(&newest.1)?;
        Ok((store, Some(newest.1)))
    }

    /// Goes on without what was there, which could not be read: the replica is a joiner.
    pub fn start_anew(dir: &dyn Directory) -> Self {
        Self::over(dir)
    }

    fn over(dir: &dyn Directory) -> Self {
        Self { dir: dir.share(), files: None, number: 0, failed: false }
    }

    /// Writes it; on return it is on disk, twice.
    ///
    /// # Errors
    /// [`MembershipError::Io`], then [`MembershipError::Failed`] for ever: either the old or the
    /// new one is what the next process loads.
    pub fn save(&mut self, membership: &Membership) -> Result<(), MembershipError> {
        if self.failed {
            return Err(MembershipError::Failed);
        }
        self.failed = true;
        let number = self.number + 1;
        if self.files.is_none() {
            self.files = Some(open_both(&*self.dir)?);
        }
        for (slot, file) in self.files.iter().flatten().enumerate() {
            let bytes = encode(slot, number, membership);
            file.write_all_at(&bytes, 0).map_err(failed_to("write", slot))?;
            file.sync().map_err(failed_to("sync", slot))?;
        }
        self.number = number;
        self.failed = false;
        Ok(())
    }
}

impl core::fmt::Debug for MembershipStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MembershipStore").field("number", &self.number).finish()
    }
}

/// Opens both, making what is not there; their names survive a crash from here on.
fn open_both(dir: &dyn Directory) -> Result<[Box<dyn File>; 2], MembershipError> {
    let open = |slot: usize| {
        let name = NAMES[slot];
        let file = match dir.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => dir.create(name),
            opened => opened,
        };
        file.map_err(failed_to("open", slot))
    };
    let files = [open(0)?, open(1)?];
    dir.sync().map_err(failed_to("sync the directory of", 0))?;
    for (slot, file) in files.iter().enumerate() {
        let len = file.len().map_err(failed_to("measure", slot))?;
        if len > COPY_BYTES as u64 {
            file.set_len(COPY_BYTES as u64).map_err(failed_to("cut", slot))?;
        }
    }
    Ok(files)
}

fn read_copy(dir: &dyn Directory, slot: usize) -> Result<Copy, MembershipError> {
    let file = match dir.open(NAMES[slot]) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Copy::Absent),
        Err(error) => return Err(failed_to("open", slot)(error)),
    };
    let len = file.len().map_err(failed_to("measure", slot))?;
    if len == 0 {
        return Ok(Copy::Absent);
    }
    // Enough to see that it is too long.
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(COPY_BYTES + 1)];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        // The disk has it, and cannot give it: as good as damaged, as long as the other is right.
        Err(_) => return Ok(Copy::Damaged("it cannot be read")),
    }
    Ok(match decode(&bytes, slot) {
        Ok((number, membership)) => Copy::Valid(number, membership),
        Err(Broken::Version(found)) => Copy::Version(found),
        Err(Broken::Damaged(what)) => Copy::Damaged(what),
    })
}

fn encode(slot: usize, number: u64, membership: &Membership) -> Vec<u8> {
    let mut out = begin(MAGIC, VERSION);
    out.extend_from_slice(&[slot as u8, membership.witness, 0, 0, 0, 0]);
    out.extend_from_slice(&number.to_le_bytes());
    let Membership { record, asked, witness: _ } = membership;
    put_record(&mut out, record.as_ref());
    // The oldest go where there are too many: they have long arrived or been lost.
    let surplus = asked.len().saturating_sub(OPEN_REQUESTS);
    let mut asked = asked[surplus..].iter();
    (0..OPEN_REQUESTS).for_each(|_| put_record(&mut out, asked.next()));
    seal_to(out, COPY_BYTES)
}

fn decode(bytes: &[u8], slot: usize) -> Result<(u64, Membership), Broken> {
    let fields = unseal_from(bytes, MAGIC, VERSION, COPY_BYTES)?;
    take(fields, slot).ok_or(Broken::Damaged("its fields contradict each other"))
}

fn take(mut fields: Fields<'_>, slot: usize) -> Option<(u64, Membership)> {
    let own = usize::from(fields.u8()?) == slot;
    let witness = fields.u8().filter(|slot| *slot < 2)?;
    fields.zeros(4)?;
    let number = fields.u64().filter(|number| own && (1..u64::MAX).contains(number))?;
    let record = fields.record()?;
    let mut slots = Vec::with_capacity(OPEN_REQUESTS);
    for _ in 0..OPEN_REQUESTS {
        slots.push(fields.record()?);
    }
    fields.end()?;
    let asked: Vec<_> = slots.iter().flatten().copied().collect();
    if slots.iter().take(asked.len()).any(Option::is_none) {
        return None;
    }
    let membership = Membership { record, asked, witness };
    Some((number, membership))
}

fn failed_to(action: &'static str, slot: usize) -> impl FnOnce(io::Error) -> MembershipError {
    move |source| MembershipError::Io { action, name: NAMES[slot], source }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
