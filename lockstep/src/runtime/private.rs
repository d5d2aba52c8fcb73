//! Files and directories that no other user can change.
//!
//! A process that trusts a directory in which others may write can be led anywhere by a link that
//! they put there. It could truncate a file of its user, or take their record for its own. So a
//! process's own directory is checked before anything in it is used, and what is in it is never
//! reached through a link.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Group and others may write.
const SHARED: u32 = 0o022;

/// Others may write.
const PUBLIC: u32 = 0o002;

/// Only the owner of a name may remove it, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// Another user could put things into the directory, or another one in its place.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// The directory is another user's.
    #[error(
        "{} belongs to user {owner}, and this process runs as user {own}: run `chown {own} {}`, or run it as that user",
        path.display(), path.display()
    )]
    Owner {
        /// The directory with the wrong owner.
        path: PathBuf,
        /// The user id of the directory's owner.
        owner: u32,
        /// The user id of this process.
        own: u32,
    },
    /// Others may write in it.
    #[error(
        "others may write in {} (mode {mode:04o}): look through it for what is not yours, then run `chmod go-w {}`",
        path.display(), path.display()
    )]
    Shared {
        /// The directory that others can use.
        path: PathBuf,
        /// The directory's permission bits.
        mode: u32,
    },
    /// Others may write in a directory above it, and so replace it.
    #[error(
        "everybody may write in {} (mode {mode:04o}) and put another directory in the place of the one below it: run `chmod o-w {}`, or choose another place",
        path.display(), path.display()
    )]
    Above {
        /// The directory above.
        path: PathBuf,
        /// The directory's permission bits.
        mode: u32,
    },
}

/// Checks the directory, and those above it as far as everybody could write there.
///
/// # Errors
/// The kind [`io::ErrorKind::PermissionDenied`] with a [`NotPrivate`] inside; those of the system.
pub(in crate::runtime) fn check_directory(path: &Path) -> io::Result<()> {
    // Where the name leads is an operator's choice; who could change that is seen from above.
    let path = path.canonicalize()?;
    let own = rustix::process::geteuid().as_raw();
    judge(&path, path.metadata()?, own).map_err(denied)?;
    for above in path.ancestors().skip(1) {
        let mode = mode(&above.metadata()?);
        if mode & PUBLIC != 0 && mode & STICKY == 0 {
            return Err(denied(NotPrivate::Above { path: above.into(), mode }));
        }
    }
    Ok(())
}

/// Takes from others what they might do in a directory within one's own. They could not come to
/// it there, and a version before made it so.
///
/// # Errors
/// The errors of the system.
pub(in crate::runtime) fn close_to_others(path: &Path) -> io::Result<()> {
    let mode = mode(&fs::symlink_metadata(path)?);
    if mode & SHARED == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !SHARED))
}

fn judge(path: &Path, metadata: Metadata, own: u32) -> Result<(), NotPrivate> {
    let (owner, mode) = (metadata.uid(), mode(&metadata));
    let path = || path.to_owned();
    if owner != own {
        Err(NotPrivate::Owner { path: path(), owner, own })
    } else if mode & SHARED != 0 {
        Err(NotPrivate::Shared { path: path(), mode })
    } else {
        Ok(())
    }
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

fn denied(error: NotPrivate) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, error)
}

/// Opens a file of one's own. A link in its place is refused, wherever it leads.
///
/// # Errors
/// Those of the system; for a link one that [`is_link`].
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(path)
}

/// Whether this is why [`open`] opened nothing.
pub(crate) fn is_link(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::LOOP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn with_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(path: &Path) -> String {
        let error = check_directory(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        error.to_string()
    }

    #[test]
    fn a_directory_of_ones_own_is_taken_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        for mode in [0o700, 0o750, 0o755] {
            with_mode(place.path(), mode);
            check_directory(place.path()).unwrap();
        }
    }

    #[test]
    fn one_in_which_others_may_write_is_refused_with_the_remedy() {
        let place = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o707, 0o1777] {
            with_mode(place.path(), mode);
            let said = refusal(place.path());
            assert!(said.contains("chmod go-w") && said.contains(&format!("{mode:04o}")), "{said}");
        }
    }

    #[test]
    fn one_within_ones_own_is_closed() {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("inside");
        fs::create_dir(&inside).unwrap();
        with_mode(&inside, 0o775);
        close_to_others(&inside).unwrap();
        check_directory(&inside).unwrap();
        assert_eq!(mode(&inside.metadata().unwrap()), 0o755);
    }

    #[test]
    fn one_that_everybody_could_replace_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("inside");
        fs::create_dir(&inside).unwrap();
        with_mode(&inside, 0o700);
        with_mode(place.path(), 0o777);
        assert!(refusal(&inside).contains("chmod o-w"));
        with_mode(place.path(), 0o1777);
        check_directory(&inside).unwrap();
        let link = place.path().join("link");
        symlink(&inside, &link).unwrap();
        check_directory(&link).unwrap();
    }

    #[test]
    fn another_users_directory_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let metadata = place.path().metadata().unwrap();
        let other = metadata.uid() + 1;
        let said = judge(place.path(), metadata, other).unwrap_err().to_string();
        assert!(said.contains(&format!("chown {other}")), "{said}");
    }

    #[test]
    fn a_link_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (victim, link) = (place.path().join("victim"), place.path().join("link"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        let opened = open(OpenOptions::new().write(true).create(true).truncate(true), &link);
        assert!(is_link(&opened.unwrap_err()));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        open(OpenOptions::new().read(true), &victim).unwrap();
    }
}
