//! The asking side of a control socket: blocking, for command lines and tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::directory::Holder;
use super::{DirectoryError, SOCKET};

/// Longest answer that is read: a witness with a thousand pairs gives some hundred KiB.
const ANSWER: u64 = 64 << 20;

/// How often one looks whether a process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A process was asked and there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No process listens in the directory.
    #[error("no process answers in {}: start it, or check the directory", directory.display())]
    NotRunning {
        /// The process's directory.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A process listens and does not answer.
    #[error("the process in {} gives no answer: see whether it hangs or is ending", directory.display())]
    NoAnswer {
        /// The process's directory.
        directory: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The process refused the command.
    #[error("{message}")]
    Refused {
        /// The kind of refusal, as [`Refusal`](super::Refusal) names it.
        code: String,
        /// The process's own message.
        message: String,
    },
    /// The process was told to stop, and goes on.
    #[error(
        "the process in {} was told to stop and has not ended within {waited:?}: its log says what it waits for; `--wait` waits longer",
        directory.display()
    )]
    NotEnded {
        /// The process's directory.
        directory: PathBuf,
        /// How long the end of the process was waited for.
        waited: Duration,
    },
    /// The process's directory cannot be used.
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
    // A process that is too busy has said so already, and closed.
    let written = stream.write_all(format!("{command}\n").as_bytes());
    let mut line = String::new();
    let read = BufReader::new(stream).take(ANSWER).read_line(&mut line);
    if line.is_empty() {
        written.map_err(no_answer)?;
    }
    read.map_err(no_answer)?;
    let answer: serde_json::Value = serde_json::from_str(&line)
        .map_err(|error| no_answer(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    match answer.pointer("/error/message").and_then(|message| message.as_str()) {
        Some(message) => {
            let code = answer.pointer("/error/code").and_then(|code| code.as_str());
            let code = code.unwrap_or_default().into();
            Err(AskError::Refused { code, message: message.into() })
        }
        None => Ok(answer),
    }
}

/// Tells the process that runs in this directory to stop, and waits for its end, so that another
/// one can be started there.
///
/// # Errors
/// As for [`ask()`]; and [`AskError::NotEnded`] if it takes longer than `patience`.
pub fn stop(
    directory: &Path,
    within: Duration,
    patience: Duration,
) -> Result<serde_json::Value, AskError> {
    let not_running = |source| AskError::NotRunning { directory: directory.into(), source };
    let mut holder = Holder::of(directory).map_err(not_running)?;
    let answer = ask(directory, "stop", within)?;
    let ended = wait_until_gone(&mut holder, patience)
        .map_err(|source| DirectoryError::Io { path: directory.into(), source })?;
    match ended {
        true => Ok(answer),
        false => Err(AskError::NotEnded { directory: directory.into(), waited: patience }),
    }
}

#[expect(clippy::disallowed_methods, reason = "a command waits for a process to end")]
fn wait_until_gone(holder: &mut Holder, patience: Duration) -> io::Result<bool> {
    let began = Instant::now();
    loop {
        // Zero is not to wait at all.
        if patience.is_zero() || holder.is_gone()? {
            return Ok(true);
        }
        if began.elapsed() >= patience {
            return Ok(false);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
