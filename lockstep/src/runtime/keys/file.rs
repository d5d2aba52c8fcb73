//! Private keys in files: PEM (RFC 7468), mode 0600, never overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::{SecretKey, SecretKeyError};

/// Largest key file that is read; an Ed25519 key takes about 170 bytes. What is
/// larger is no key, and is refused without reading it all.
const FILE_MAX: u64 = 16 * 1024;

/// A key file that could not be written or is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file exists already; a key is never overwritten.
    #[error("{} exists already and is not overwritten; use it, or move it away first", path.display())]
    Exists {
        /// The file that exists.
        path: PathBuf,
    },
    /// Other users may read or write the file.
    #[error(
        "{} can be read or changed by other users (mode {mode:04o}); run `chmod 600 {}`, and make a new key if others may have read this one",
        path.display(), path.display()
    )]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// The file's permission bits.
        mode: u32,
    },
    /// The path is not a regular file of a key's size.
    #[error("{} is not a key file (a regular file of at most {FILE_MAX} bytes); check the path", path.display())]
    NotAKeyFile {
        /// The path that was given.
        path: PathBuf,
    },
    /// The content is no private key.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with the content.
        source: SecretKeyError,
    },
    /// The file system said no.
    #[error("{}: {source}; check that the path is right and that this user may use it", path.display())]
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl SecretKey {
    /// Writes the key to a new file with mode 0600 and waits until file and
    /// directory entry are on the disk.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] if there is such a file, [`KeyFileError::Io`] if
    /// it cannot be written; nothing half-written is left then.
    pub fn save_new(&self, path: &Path) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::Io { path: path.into(), source };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
                |source| match source.kind() {
                    io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
                    _ => failed(source),
                },
            )?;
        let written = file
            .write_all(to_pem(self.pkcs8.secret_pkcs8_der()).as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(directory_of(path))?.sync_all());
        written.map_err(|source| {
            // The file is ours, made a moment ago; a failure to remove it adds
            // nothing to the error that is returned.
            let _ = fs::remove_file(path);
            failed(source)
        })
    }

    /// Reads a key from a file that only its owner may read.
    ///
    /// # Errors
    /// [`KeyFileError::Exposed`] if group or others have any permission,
    /// [`KeyFileError::Malformed`] if it holds no Ed25519 key.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = read_private(path)?;
        PrivatePkcs8KeyDer::from_pem_slice(&text)
            .map_err(|_| SecretKeyError::Malformed)
            .and_then(SecretKey::from_pkcs8)
            .map_err(|source| KeyFileError::Malformed { path: path.into(), source })
    }
}

/// The file's bytes, once its own metadata (not that of whatever the path names
/// a moment later) says that it is private.
fn read_private(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.into(), source };
    let file = OpenOptions::new()
        .read(true)
        // A named pipe at this path must not stop the process.
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.len() > FILE_MAX {
        return Err(KeyFileError::NotAKeyFile { path: path.into() });
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.into(), mode });
    }
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn to_pem(der: &[u8]) -> String {
    let body = base64(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for (at, digit) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(digit);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    pem
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_the_vectors_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
