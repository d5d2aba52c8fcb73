//! The operations on files that the storage needs, and no more.
//!
//! What survives a crash is what these promise, not what happens to be there. These are the
//! contents of a file up to its last successful [`File::sync`], and names as of the last successful
//! [`Directory::sync`]. Anything written later may be there whole, in part, or not at all.

use std::io;

/// One directory without sub-directories.
pub trait Directory: Send + 'static {
    /// The names in it, in no particular order.
    ///
    /// # Errors
    /// The errors of the system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or others of the system.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Makes a new, empty file.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], or others of the system.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// The errors of the system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The errors of the system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names made, changed and removed so far survive a crash.
    ///
    /// # Errors
    /// The errors of the system. Then nothing is known about any of them.
    fn sync(&self) -> io::Result<()>;

    /// A number that stays with this file for as long as it exists, also when it is renamed or
    /// written to, or the machine restarts. A copy of the file does not have it. `None` where there
    /// is no such number.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or others of the system.
    fn mark(&self, name: &str) -> io::Result<Option<u64>> {
        let _ = name;
        Ok(None)
    }

    /// Another handle on the same directory, for a thread of its own.
    fn share(&self) -> Box<dyn Directory>;
}

/// One open file.
pub trait File: Send {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The errors of the system.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has none.
    ///
    /// # Errors
    /// The errors of the system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads from this offset until the buffer is full.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before; others of the system.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of it at this offset, making the file longer where need be.
    ///
    /// # Errors
    /// The errors of the system. Any part may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or makes it longer with zeros.
    ///
    /// # Errors
    /// The errors of the system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes what was written, and the length, survive a crash.
    ///
    /// # Errors
    /// The errors of the system. Then nothing that it covered may be believed to be there, nor does a
    /// second attempt prove anything.
    fn sync(&self) -> io::Result<()>;
}
