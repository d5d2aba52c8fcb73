//! A directory that belongs to one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::SOCKET;
use crate::exhaustion::remedy_of_disk;
use crate::runtime::private::{self, NotPrivate};

/// The lock's name in the directory.
const LOCK: &str = "process.lock";

/// A command that looks whether the process has ended holds the lock for a moment: so long a start
/// tries again.
const LOOK_WITHIN: Duration = Duration::from_millis(200);

/// Time between two tries.
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// Longest path of a Unix socket on Linux (`sun_path` in unix(7), without its final zero).
const SOCKET_PATH_MAX: usize = 107;

/// A directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process uses it.
    #[error(
        "{} is in use by another process{}: stop that one first, or give this one a directory of its own",
        path.display(), holder(*pid)
    )]
    Locked {
        /// The directory that is locked.
        path: PathBuf,
        /// The other process's id, if it left one.
        pid: Option<u32>,
    },
    /// The operating system said no.
    #[error("{}: {source}; {}", path.display(), remedy_of_disk(source))]
    Io {
        /// The file or directory that was to be used.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// Others could put things into it, or it is another user's.
    #[error(transparent)]
    NotPrivate(NotPrivate),
    /// A link stands where one of the process's own files should be.
    #[error("{} is a link, and is not followed: remove it, and see who made it", path.display())]
    Link {
        /// The path of the link.
        path: PathBuf,
    },
    /// The path of the control socket is longer than the system takes.
    #[error(
        "{} is too long for a Unix socket's path (at most {SOCKET_PATH_MAX} bytes): choose a directory with a shorter path",
        path.display()
    )]
    TooLong {
        /// The socket's path.
        path: PathBuf,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// A process's own directory, locked against others for as long as this lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Held for its lock; the system releases it however the process ends.
    lock: File,
    socket: Option<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "a start waits for whoever is about to let go")]
fn lock_within(lock: &File, patience: Duration) -> Result<(), TryLockError> {
    let until = Instant::now() + patience;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_AGAIN);
            }
            tried => return tried,
        }
    }
}

impl DataDirectory {
    /// Takes the directory, making it with mode 0700 if it is not there (its parent must be).
    ///
    /// # Errors
    /// [`DirectoryError::Locked`] if another process has it, [`DirectoryError::NotPrivate`] if
    /// others may write in it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DirectoryError> {
        Self::open_within(path, LOOK_WITHIN)
    }

    /// The same, waiting for so long until another process lets go of it.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) fn open_within(
        path: impl Into<PathBuf>,
        patience: Duration,
    ) -> Result<Self, DirectoryError> {
        let path = path.into();
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.and_then(|()| sync_parent(&path)).map_err(failed(&path))?,
        }
        private::check_directory(&path).map_err(|source| not_private(&path, source))?;
        let file = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let mut lock = private::open(&mut options, &file).map_err(failed(&file))?;
        match lock_within(&lock, patience) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DirectoryError::Locked { path, pid: read_pid(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&file)(source)),
        }
        write_pid(&mut lock).map_err(failed(&file))?;
        Ok(Self { path, lock, socket: None })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Listens on the control socket. Whatever a dead process left there is replaced. To be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// If there can be no socket.
    pub fn listen(&mut self) -> Result<tokio::net::UnixListener, DirectoryError> {
        let path = self.path.join(SOCKET);
        // Made beside its place and moved there once no other user may use it.
        let made = self.path.join(format!("{SOCKET}.new"));
        if made.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(DirectoryError::TooLong { path: made });
        }
        match fs::remove_file(&made) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&made)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&made).map_err(failed(&made))?;
        fs::set_permissions(&made, Permissions::from_mode(0o600)).map_err(failed(&made))?;
        fs::rename(&made, &path).map_err(failed(&path))?;
        listener.set_nonblocking(true).map_err(failed(&path))?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(failed(&path))?;
        self.socket = Some(path);
        Ok(listener)
    }
}

impl Drop for DataDirectory {
    /// Takes the socket away, so that no client waits at it, and the lock last.
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
        let _ = self.lock.unlock();
    }
}

/// The process that has a directory, for a caller that waits for its end.
#[derive(Debug)]
pub(super) struct Holder {
    lock: File,
    pid: Option<u32>,
}

impl Holder {
    /// The process that has it now.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let mut lock = private::open(OpenOptions::new().read(true), &directory.join(LOCK))?;
        let pid = read_pid(&mut lock);
        Ok(Self { lock, pid })
    }

    /// Whether it has ended; another one may have the directory by now.
    pub(super) fn is_gone(&mut self) -> io::Result<bool> {
        match self.lock.try_lock_shared() {
            Ok(()) => self.lock.unlock().map(|()| true),
            Err(TryLockError::WouldBlock) => {
                self.lock.rewind()?;
                let pid = read_pid(&mut self.lock);
                Ok(pid.is_some() && pid != self.pid)
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| match private::is_link(&source) {
        true => DirectoryError::Link { path },
        false => DirectoryError::Io { path, source },
    }
}

/// What a check of the directory found, or what kept it from being checked.
fn not_private(path: &Path, source: io::Error) -> DirectoryError {
    match source.downcast() {
        Ok(found) => DirectoryError::NotPrivate(found),
        Err(source) => failed(path)(source),
    }
}

/// What is in a directory is there after a power cut only if the directory is.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn read_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "tells an operator which process has the directory")]
fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}
