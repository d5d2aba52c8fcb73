//! The asking side of a control socket: blocking, for command lines and tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DirectoryError, SOCKET};

/// Longest answer that is read: a witness with a thousand pairs gives some hundred KiB.
const ANSWER: u64 = 64 << 20;

/// A process was asked and there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no process answers in {}: start it, or check the directory", directory.display())]
    NotRunning {
        /// The process's directory.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody listens and does not answer.
    #[error("the process in {} gives no answer: see whether it hangs or is ending", directory.display())]
    NoAnswer {
        /// The process's directory.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It refused.
    #[error("{message}")]
    Refused {
        /// In its own words.
        message: String,
    },
    /// Its directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Asks the process that runs in this directory, and waits for its answer, one line of JSON.
///
/// # Errors
/// If there is none within the time, or it is a refusal.
pub fn ask(
    directory: &Path,
    command: &str,
    within: Duration,
) -> Result<serde_json::Value, AskError> {
    let no_answer = |source| AskError::NoAnswer { directory: directory.into(), source };
    let not_running = |source| AskError::NotRunning { directory: directory.into(), source };
    let mut stream = UnixStream::connect(directory.join(SOCKET)).map_err(not_running)?;
    // Zero would mean for ever.
    let within = Some(within.max(Duration::from_millis(1)));
    stream.set_read_timeout(within).map_err(no_answer)?;
    stream.set_write_timeout(within).map_err(no_answer)?;
    stream.write_all(format!("{command}\n").as_bytes()).map_err(no_answer)?;
    let mut line = String::new();
    BufReader::new(stream).take(ANSWER).read_line(&mut line).map_err(no_answer)?;
    let answer: serde_json::Value = serde_json::from_str(&line)
        .map_err(|error| no_answer(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    match answer.pointer("/error/message").and_then(|message| message.as_str()) {
        Some(message) => Err(AskError::Refused { message: message.into() }),
        None => Ok(answer),
    }
}
