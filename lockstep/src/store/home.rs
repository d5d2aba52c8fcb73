//! What says whose a data directory is, and what computed the log in it: the file `home`.
//!
//! A directory belongs to one place of one pair, and to the files that were made in it. One that
//! was copied, or restored from a copy, holds an old state as if it were the present one, and
//! would take part with it. Such a copy is told by the file's [mark](Directory::mark), which it
//! lacks. Files that are copied over those that are there keep the marks of the latter. So `home`
//! is replaced at every start and after every checkpoint, and what an older copy holds does not
//! fit the file that it lies in. A whole file system that is put back, or a virtual machine's
//! disk, keeps its marks. That is for the witness to see, whose record is then later than the one
//! on disk.
//!
//! The file is 512 bytes, integers little-endian:
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic, "LKSTHOME"
//!      8      2  version of the directory's format: 3
//!     10      1  place: 0 for a, 1 for b
//!     11      1  bits: 1 the file has a mark, 2 the log is kept in memory only
//!     12      4  version of the service
//!     16     16  pair
//!     32      8  the file's mark, 0 if it has none
//!     40     16  digest of what else the service's steps depend on
//!     56      2  length of the service's name
//!     58      n  the service's name, at most 256 bytes
//!             .  0
//!    496     16  XXH3-128 of everything before
//! ```
//!
//! In version 2, which is read too, the bit for the log is 0 whatever it is. In version 1 so are
//! bytes 12 to 16 and 40 to 496: it says nothing of the service.

use std::io;

use crate::digest::Digest;
use crate::exhaustion::remedy_of_disk;
use crate::ids::{PairId, ReplicaId};
use crate::limits::NAME_BYTES;
use crate::machine::Identity;
use crate::store::fields::{Broken, Fields, SEALED_BYTES, begin, seal, unseal};
use crate::store::files::Directory;
use crate::store::{checkpoint, membership};

const MAGIC: &[u8; 8] = b"LKSTHOME";

/// The version of the directory's format: which files there are, and what they mean together.
pub const VERSION: u16 = 3;

/// The one before, which did not say how the log is kept.
const UNKEPT: u16 = 2;

/// The first, which did not say what computed it either.
const UNNAMED: u16 = 1;

/// The bit of a file that has a mark.
const MARKED: u8 = 1;

/// The bit of a log that is kept in memory only.
const IN_MEMORY: u8 = 2;

/// The file's name.
pub const NAME: &str = "home";

/// The file before it is whole.
const UNFINISHED: &str = "home.new";

/// How the names of a journal's files begin.
const JOURNAL: &str = "journal-";

/// What to do about a directory that cannot be used.
const ANEW: &str = "To start anew, discard it (`--discard`): this CoServer joins the other one then \
    and takes its state. Entries that only this directory holds are lost, so do it only while the \
    other CoServer serves, or if nothing better is left";

/// What to do about one that is another CoServer's.
const BY_HAND: &str = "`--discard` does not touch what is another CoServer's: if nobody needs it any \
    more, delete the directory's files by hand";

/// What the log in a directory is worth after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The log has everything that was released. This is assumed where a file of an older version
    /// does not say.
    OnDisk,
    /// The log may lack any part of what was released.
    InMemory,
}

/// A directory that this CoServer may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The pair that the directory belongs to.
    pub pair: PairId,
    /// The CoServer's place in the pair.
    pub place: ReplicaId,
    /// What computed the log in it; `None` in a directory of version 1. Its name has at most
    /// [`NAME_BYTES`] bytes.
    pub service: Option<Identity>,
    /// Whether the log survives a crash whole.
    pub kept: Kept,
    /// The mark of the identity file itself; `None` where files have none.
    mark: Option<u64>,
}

/// A directory that this CoServer must not use.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The disk failed.
    #[error("failed to {action} `{name}`: {source}; {}", remedy_of_disk(source))]
    Io {
        /// The operation that failed, as a verb: `read`, `sync`.
        action: &'static str,
        /// The file's name in the directory.
        name: &'static str,
        /// What the system reported.
        source: io::Error,
    },
    /// The directory belongs to another pair.
    #[error(
        "the directory belongs to pair {found}, not to {}: correct `directory` or `pair` in the \
         configuration. {BY_HAND}", .ours
    )]
    OtherPair {
        /// The pair that the directory belongs to.
        found: PairId,
        /// The configured pair.
        ours: PairId,
    },
    /// The directory belongs to the other place.
    #[error(
        "the directory belongs to place {found}, not to {ours}: correct `directory` or `place` in \
         the configuration; if the machines' disks were swapped, swap them back. {BY_HAND}"
    )]
    OtherPlace {
        /// The place that the directory belongs to.
        found: ReplicaId,
        /// The configured place.
        ours: ReplicaId,
    },
    /// The directory was copied, or restored from a copy.
    #[error(
        "the directory is a copy of the one that this CoServer wrote to, so it may lack what was \
         acknowledged since. {ANEW}"
    )]
    Copied,
    /// The directory was written by another version.
    #[error(
        "the directory is of format {found}, this program uses format {VERSION}: start the \
         version that wrote it. {ANEW}"
    )]
    Version {
        /// The version in the file.
        found: u16,
    },
    /// The file is damaged.
    #[error("the directory's file `home` is damaged: {what}. {ANEW}")]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
    /// There are other files, and no `home`.
    #[error("the directory's file `home` is missing, and `{name}` is there. {ANEW}")]
    Missing {
        /// The name of one of the other files.
        name: String,
    },
    /// There is one already.
    #[error("the directory has an owner already")]
    Exists,
}

impl Home {
    /// Checks whose the directory is; `None` if it belongs to no CoServer yet, and nothing in it
    /// was written by one.
    ///
    /// # Errors
    /// [`HomeError`]: it is not to be used, or the disk failed.
    pub fn open(
        dir: &dyn Directory,
        pair: PairId,
        place: ReplicaId,
    ) -> Result<Option<Self>, HomeError> {
        let file = match dir.open(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return no_home(dir).map(|()| None);
            }
            Err(error) => return Err(failed_to("open", NAME)(error)),
        };
        let len = file.len().map_err(failed_to("measure", NAME))?;
        // Enough to see that it is too long.
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(SEALED_BYTES + 1);
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).map_err(failed_to("read", NAME))?;
        let home = decode(&bytes).map_err(|broken| match broken {
            Broken::Version(found) => HomeError::Version { found },
            Broken::Damaged(what) => HomeError::Damaged { what },
        })?;
        home.check(pair, place)?;
        if home.mark != dir.mark(NAME).map_err(failed_to("look at", NAME))? {
            return Err(HomeError::Copied);
        }
        // A predecessor may have died between renaming and syncing.
        dir.sync().map_err(failed_to("sync the directory of", NAME))?;
        Ok(Some(home))
    }

    fn check(&self, pair: PairId, place: ReplicaId) -> Result<(), HomeError> {
        if self.pair != pair {
            return Err(HomeError::OtherPair { found: self.pair, ours: pair });
        }
        if self.place != place {
            return Err(HomeError::OtherPlace { found: self.place, ours: place });
        }
        Ok(())
    }

    /// Makes a directory that belongs to no CoServer this one's. The directory is this CoServer's
    /// only once this returns.
    ///
    /// # Errors
    /// [`HomeError::Exists`], [`HomeError::Missing`], [`HomeError::Io`].
    pub fn create(
        dir: &dyn Directory,
        pair: PairId,
        place: ReplicaId,
        service: &Identity,
        kept: Kept,
    ) -> Result<Self, HomeError> {
        match dir.open(NAME) {
            Ok(_) => return Err(HomeError::Exists),
            Err(error) if error.kind() == io::ErrorKind::NotFound => no_home(dir)?,
            Err(error) => return Err(failed_to("open", NAME)(error)),
        }
        Self::write(dir, pair, place, service, kept)
    }

    /// Has the file replaced by a new one with a mark of its own. So copies of the directory as it
    /// is until now are told also when they are copied *over* it, which leaves every file its mark.
    /// The more often, the fewer copies are not told.
    ///
    /// # Errors
    /// [`HomeError::Io`]. The directory remains this one's, by the old file or the new one.
    pub fn renew(
        dir: &dyn Directory,
        pair: PairId,
        place: ReplicaId,
        service: &Identity,
        kept: Kept,
    ) -> Result<Self, HomeError> {
        Self::write(dir, pair, place, service, kept)
    }

    fn write(
        dir: &dyn Directory,
        pair: PairId,
        place: ReplicaId,
        service: &Identity,
        kept: Kept,
    ) -> Result<Self, HomeError> {
        match dir.remove(UNFINISHED) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed_to("remove", UNFINISHED)(error));
            }
            _ => {}
        }
        let file = dir.create(UNFINISHED).map_err(failed_to("create", UNFINISHED))?;
        let mark = dir.mark(UNFINISHED).map_err(failed_to("look at", UNFINISHED))?;
        let home = Self { pair, place, service: Some(service.clone()), kept, mark };
        file.write_all_at(&encode(&home), 0).map_err(failed_to("write", UNFINISHED))?;
        file.sync().map_err(failed_to("sync", UNFINISHED))?;
        dir.rename(UNFINISHED, NAME).map_err(failed_to("rename", UNFINISHED))?;
        dir.sync().map_err(failed_to("sync the directory of", NAME))?;
        Ok(home)
    }
}

/// Without `home` there must be nothing else either: it comes before everything.
fn no_home(dir: &dyn Directory) -> Result<(), HomeError> {
    let names = dir.list().map_err(failed_to("list the directory of", NAME))?;
    let ours = |name: &String| {
        membership::NAMES.contains(&name.as_str())
            || checkpoint::is_name(name)
            || name.starts_with(JOURNAL)
    };
    names.into_iter().find(ours).map_or(Ok(()), |name| Err(HomeError::Missing { name }))
}

/// # Panics
/// If the service's name is longer than a name may be: nothing starts with such a one.
fn encode(home: &Home) -> Vec<u8> {
    let service = home.service.as_ref();
    let mut out = begin(MAGIC, VERSION);
    let marked = if home.mark.is_some() { MARKED } else { 0 };
    let kept = if home.kept == Kept::InMemory { IN_MEMORY } else { 0 };
    out.extend_from_slice(&[home.place.slot() as u8, marked | kept]);
    out.extend_from_slice(&service.map_or(0, |service| service.version).to_le_bytes());
    out.extend_from_slice(&home.pair.0);
    out.extend_from_slice(&home.mark.unwrap_or(0).to_le_bytes());
    if let Some(Identity { name, configuration, .. }) = service {
        assert!(name.len() <= NAME_BYTES, "the service's name is longer than {NAME_BYTES} bytes");
        out.extend_from_slice(&configuration.0);
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
    seal(out)
}

fn decode(bytes: &[u8]) -> Result<Home, Broken> {
    let (fields, format) = match unseal(bytes, MAGIC, VERSION) {
        Err(Broken::Version(older @ (UNKEPT | UNNAMED))) => (unseal(bytes, MAGIC, older)?, older),
        fields => (fields?, VERSION),
    };
    let taken = take(fields, format);
    taken.ok_or(Broken::Damaged("its fields contradict each other"))
}

fn take(mut fields: Fields<'_>, format: u16) -> Option<Home> {
    let (place, bits) = (fields.place()?, fields.u8()?);
    let version = fields.u32()?;
    let (pair, mark) = (fields.pair()?, fields.u64()?);
    let configuration = fields.digest()?;
    let name = usize::from(fields.u16()?);
    if name > NAME_BYTES {
        return None;
    }
    let name = str::from_utf8(fields.take(name)?).ok()?.to_owned();
    fields.end()?;
    let service = Identity { name, version, configuration };
    let mark = match (bits & MARKED, mark) {
        (0, 0) => None,
        (MARKED, mark) => Some(mark),
        _ => return None,
    };
    let kept = match bits & !MARKED {
        0 => Kept::OnDisk,
        IN_MEMORY if format == VERSION => Kept::InMemory,
        _ => return None,
    };
    let nothing = Identity { name: String::new(), version: 0, configuration: Digest::ZERO };
    let service = match format {
        UNNAMED if service != nothing => return None,
        UNNAMED => None,
        _ => Some(service),
    };
    Some(Home { pair, place, service, kept, mark })
}

fn failed_to(action: &'static str, name: &'static str) -> impl FnOnce(io::Error) -> HomeError {
    move |source| HomeError::Io { action, name, source }
}

#[cfg(test)]
#[path = "home_tests.rs"]
mod tests;
