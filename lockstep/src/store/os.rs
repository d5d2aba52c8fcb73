//! The operating system's files.

mod kept;

use std::fs::{self, File as SystemFile, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::Builder;
use std::time::UNIX_EPOCH;

use kept::KeptDescriptors;

use crate::digest::{Digest, Hasher};
use crate::exhaustion::Exhaustion;
use crate::runtime::private;
use crate::store::files::{Directory, File};

/// Only its owner may read what a service was told.
const MODE: u32 = 0o600;

/// The blocks of a file of this length take a file system long to free: several hundred
/// milliseconds for 1 GiB. That must not happen while others wait for the thread that removes it.
const LARGE: u64 = 16 << 20;

/// A directory of the file system. It keeps the directory open, so that its names can be synced
/// when no descriptor is to be had any more. It also keeps some spare descriptors, so that a file
/// can be opened even then.
#[derive(Clone, Debug)]
pub struct OsDirectory(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    handle: SystemFile,
    kept: KeptDescriptors,
}

impl OsDirectory {
    /// An existing directory.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::NotADirectory`] if it is something else.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let handle = SystemFile::open(&path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let kept = KeptDescriptors::default();
        kept.fill(&handle);
        Ok(Self(Arc::new(Opened { path, handle, kept })))
    }

    /// Opens something; where no descriptor is to be had, in the place of one that is kept.
    fn opening<T>(&self, what: &str, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        loop {
            let opened = open();
            let why = match opened.as_ref().err().and_then(Exhaustion::of) {
                Some(why @ (Exhaustion::ProcessFiles | Exhaustion::SystemFiles)) => why,
                _ => {
                    self.0.kept.fill(&self.0.handle);
                    return opened;
                }
            };
            why.note();
            let Some(kept) = self.0.kept.take() else { return opened };
            drop(kept);
            tracing::warn!(
                event = "exhausted",
                file = what,
                %why,
                "one of the descriptors that are kept for this is used"
            );
        }
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(MODE);
        options
    }
}

impl Directory for OsDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in self.opening("the directory", || fs::read_dir(&self.0.path))? {
            // A name that is no text is none of ours.
            names.extend(item?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let path = self.0.path.join(name);
        let open = || private::open(&mut Self::options(), &path);
        Ok(Box::new(OsFile(self.opening(name, open)?)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let path = self.0.path.join(name);
        let create = || Self::options().create_new(true).open(&path);
        Ok(Box::new(OsFile(self.opening(name, create)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.path.join(from), self.0.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.0.path.join(name);
        let large = SystemFile::open(&path)
            .ok()
            .filter(|file| file.metadata().is_ok_and(|metadata| metadata.len() >= LARGE));
        fs::remove_file(path)?;
        if let Some(file) = large {
            // The thread that closes it last frees its blocks. Without a thread that is this one.
            let _ = Builder::new().name("lockstep-free".into()).spawn(move || drop(file));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.handle.sync_all()
    }

    /// From the inode's number and, where the file system keeps it, the time of its making: a
    /// number is used again once its file is gone. Not from the device's number, which may be
    /// another one after every start of the machine.
    fn mark(&self, name: &str) -> io::Result<Option<u64>> {
        let metadata = fs::symlink_metadata(self.0.path.join(name))?;
        let made = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let mut hasher = Hasher::after(Digest::ZERO);
        hasher.number(metadata.ino());
        if let Some(made) = made {
            hasher.number(made.as_secs()).number(made.subsec_nanos().into());
        }
        let mut mark = [0; 8];
        mark.copy_from_slice(&hasher.finish().0[..8]);
        Ok(Some(u64::from_le_bytes(mark)))
    }

    fn share(&self) -> Box<dyn Directory> {
        Box::new(self.clone())
    }
}

#[derive(Debug)]
struct OsFile(SystemFile);

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// `fdatasync`: it leaves out the times, and nothing that reading needs.
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_read_changed_and_removed() {
        let place = tempfile::tempdir().unwrap();
        let directory = OsDirectory::open(place.path()).unwrap();
        let file = directory.create("one").unwrap();
        assert_eq!(directory.create("one").err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        file.write_all_at(b"end", 5).unwrap();
        file.sync().unwrap();
        directory.share().rename("one", "two").unwrap();
        directory.sync().unwrap();
        assert_eq!(directory.list().unwrap(), ["two"]);
        assert_eq!(directory.open("one").err().unwrap().kind(), io::ErrorKind::NotFound);

        let file = directory.open("two").unwrap();
        let mut bytes = [7; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0\0end");
        file.set_len(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        let beyond = file.read_exact_at(&mut bytes, 0).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        directory.remove("two").unwrap();
        assert!(directory.list().unwrap().is_empty());
    }

    #[test]
    fn a_large_file_that_is_removed_is_read_by_whoever_has_it_open() {
        let place = tempfile::tempdir().unwrap();
        let directory = OsDirectory::open(place.path()).unwrap();
        let file = directory.create("large").unwrap();
        file.set_len(LARGE).unwrap();
        file.write_all_at(b"end", LARGE - 3).unwrap();
        directory.remove("large").unwrap();
        assert_eq!(directory.open("large").err().unwrap().kind(), io::ErrorKind::NotFound);
        let mut bytes = [0; 3];
        file.read_exact_at(&mut bytes, LARGE - 3).unwrap();
        assert_eq!(&bytes, b"end");
        let missing = directory.remove("large").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_mark_stays_with_its_file_and_not_with_a_copy_of_it() {
        let place = tempfile::tempdir().unwrap();
        let directory = OsDirectory::open(place.path()).unwrap();
        let file = directory.create("one").unwrap();
        let mark = directory.mark("one").unwrap();
        assert!(mark.is_some());
        file.write_all_at(b"bytes", 0).unwrap();
        directory.rename("one", "two").unwrap();
        assert_eq!(directory.mark("two").unwrap(), mark);
        fs::copy(place.path().join("two"), place.path().join("one")).unwrap();
        assert_ne!(directory.mark("one").unwrap(), mark);
        // As a restored backup has it: the same names, made anew.
        directory.remove("two").unwrap();
        directory.rename("one", "two").unwrap();
        assert_ne!(directory.mark("two").unwrap(), mark);
        assert_eq!(directory.mark("one").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// A socket cannot be synced, and the system says so.
    #[test]
    fn a_sync_of_names_or_bytes_is_asked_of_the_system() {
        let socket = || {
            let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
            SystemFile::from(std::os::fd::OwnedFd::from(socket))
        };
        let place = tempfile::tempdir().unwrap();
        let path = place.path().to_owned();
        let names = OsDirectory(Arc::new(Opened {
            path: path.clone(),
            handle: socket(),
            kept: KeptDescriptors::default(),
        }));
        assert_eq!(names.sync().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(OsFile(socket()).sync().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // What is asked for is the directory that the names are in.
        let opened = OsDirectory::open(&path).unwrap();
        let synced = opened.0.handle.metadata().unwrap();
        assert_eq!(synced.ino(), fs::metadata(&path).unwrap().ino());
        opened.sync().unwrap();
    }

    #[test]
    fn a_file_is_no_directory() {
        let place = tempfile::NamedTempFile::new().unwrap();
        let error = OsDirectory::open(place.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}
