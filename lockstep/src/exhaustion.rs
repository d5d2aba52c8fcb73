//! What a machine runs out of, told apart from faults of a disk or of a peer.
//!
//! A call that fails for want of a descriptor or of memory says nothing about the file or the peer
//! that it was for. The code that reports such an error names what is exhausted, and what to do.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::error::Error;
use std::io;

/// `EMFILE` and `ENFILE`, which have no [`io::ErrorKind`]; the same numbers on every Unix.
const PROCESS_FILES: i32 = 24;
const SYSTEM_FILES: i32 = 23;

/// Errors of this kind that this process has met.
static MET: AtomicU64 = AtomicU64::new(0);

/// Something of which there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exhaustion {
    /// `EMFILE`: this process has as many descriptors as it may.
    ProcessFiles,
    /// `ENFILE`: the whole system has.
    SystemFiles,
    /// `ENOMEM`: the system has no memory for this process.
    Memory,
    /// `ENOSPC`, `EDQUOT`: the file system or the quota is full.
    Space,
}

impl Exhaustion {
    /// What this error says is exhausted, if that is what it says.
    pub fn of(error: &io::Error) -> Option<Self> {
        match (error.raw_os_error(), error.kind()) {
            (Some(PROCESS_FILES), _) => Some(Self::ProcessFiles),
            (Some(SYSTEM_FILES), _) => Some(Self::SystemFiles),
            (_, io::ErrorKind::OutOfMemory) => Some(Self::Memory),
            (_, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Some(Self::Space),
            _ => None,
        }
    }

    /// The same of an error with its causes.
    pub fn among(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let found = error.downcast_ref::<io::Error>().and_then(|error| {
                // What stands in for an error of the system keeps it inside.
                let inner = error.get_ref().and_then(|inner| Self::among(inner));
                Self::of(error).or(inner)
            });
            if found.is_some() {
                return found;
            }
            next = error.source();
        }
        None
    }

    /// Whether the process may have it again later without anybody's doing: so it is worth
    /// another attempt, or another start.
    pub fn passes(self) -> bool {
        self != Self::Space
    }

    /// Counts one, for [`met`].
    pub fn note(self) {
        MET.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many such errors this process has met and [noted](Exhaustion::note) since its start.
pub fn met() -> u64 {
    MET.load(Ordering::Relaxed)
}

impl fmt::Display for Exhaustion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessFiles => {
                "this process has no file descriptor left: raise its hard limit (`ulimit -Hn`, \
                 `LimitNOFILE=` of systemd), or allow fewer connections"
            }
            Self::SystemFiles => {
                "this machine has no file descriptor left: raise `fs.file-max`, or end what has \
                 many files open"
            }
            Self::Memory => "this machine has no memory left: give it more, or end what takes it",
            Self::Space => {
                "the disk or its quota is full: make room, see its free space (and free inodes)"
            }
        })
    }
}

/// What to do about an error of the system: what is exhausted, or else `otherwise`.
pub fn remedy(error: &io::Error, otherwise: &str) -> String {
    Exhaustion::of(error).map_or_else(|| otherwise.to_owned(), |what| what.to_string())
}

/// The same of an error about files.
pub(crate) fn remedy_of_disk(error: &io::Error) -> String {
    remedy(error, "check the disk, its free space and its permissions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn what_is_exhausted_is_told_apart_from_a_fault() {
        let of = |errno| Exhaustion::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(24), Some(Exhaustion::ProcessFiles));
        assert_eq!(of(23), Some(Exhaustion::SystemFiles));
        assert_eq!(of(12), Some(Exhaustion::Memory));
        assert_eq!(of(28), Some(Exhaustion::Space));
        assert_eq!(of(5), None);
    }

    #[test]
    fn it_is_found_below_other_errors() {
        let system = || io::Error::from_raw_os_error(24);
        let found = Some(Exhaustion::ProcessFiles);
        assert_eq!(Exhaustion::among(&Outer(system())), found);
        assert_eq!(Exhaustion::among(&io::Error::other(Outer(system()))), found);
        assert_eq!(Exhaustion::among(&Outer(io::Error::from_raw_os_error(5))), None);
    }

    #[test]
    fn the_remedy_names_the_limit() {
        let emfile = io::Error::from_raw_os_error(24);
        assert!(remedy(&emfile, "look at the disk").contains("LimitNOFILE"));
        assert_eq!(remedy(&io::Error::from_raw_os_error(5), "look"), "look");
        assert!(remedy_of_disk(&emfile).contains("LimitNOFILE"));
        assert!(remedy_of_disk(&io::Error::from_raw_os_error(5)).contains("free space"));
    }
}
