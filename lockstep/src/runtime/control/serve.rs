//! The answering side of a control socket.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::exhaustion::Exhaustion;
use crate::limits::CONTROL_CONNECTIONS;
use crate::runtime::config::ConfigError;

/// Longest command line, its end included. A longer one is refused and the connection closed.
const LINE: u64 = 256;

/// A connection without a command for this long is closed, so that idle ones do not take all
/// places; and an answer is to be read within it.
const IDLE: Duration = Duration::from_secs(30);

/// A pause after the system refused a connection (out of descriptors, say).
const PAUSE: Duration = Duration::from_millis(100);

/// A command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{message}")]
pub struct Refusal {
    /// Stable, for programs: `unknown-command`, `not-done`, `not-now`, `not-written`, `too-long`,
    /// `busy`, `ending`.
    pub code: &'static str,
    /// For people: what to do.
    pub message: String,
}

impl Refusal {
    /// The process does not know this command.
    pub fn unknown(command: &str, known: &str) -> Self {
        let command: String = command.chars().take(40).collect();
        let message = format!("there is no command {command:?} here; known: {known}");
        Self { code: "unknown-command", message }
    }

    /// The file that it was to be written into cannot be written.
    pub fn not_written(error: &dyn std::error::Error) -> Self {
        Self { code: "not-written", message: error.to_string() }
    }

    /// The command cannot be done as things are; nothing is wrong with the question.
    pub fn not_now(error: &dyn std::error::Error) -> Self {
        Self { code: "not-now", message: error.to_string() }
    }

    /// The command was tried, and this is why it was not done.
    pub fn not_done(error: &dyn std::error::Error) -> Self {
        Self { code: "not-done", message: error.to_string() }
    }

    /// The process is about to end.
    pub fn ending() -> Self {
        let message = "the process is ending, or too many wait for an answer; ask again".into();
        Self { code: "ending", message }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Read { .. } | ConfigError::Write { .. } => Self::not_written(&error),
            ConfigError::TooLarge { .. } | ConfigError::Fault(_) => Self::not_done(&error),
        }
    }
}

/// A process that answers commands.
pub trait Answer: Send + Sync + 'static {
    /// Answers a command with a JSON value.
    ///
    /// # Errors
    /// Why the command is refused.
    fn answer(
        &self,
        command: &str,
    ) -> impl Future<Output = Result<serde_json::Value, Refusal>> + Send;
}

/// Answers until it is dropped.
pub async fn serve<A: Answer>(listener: UnixListener, answer: A) {
    let (answer, places) = (Arc::new(answer), Arc::new(Semaphore::new(CONTROL_CONNECTIONS)));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(why) = Exhaustion::of(&error) {
                    why.note();
                    tracing::warn!(event = "exhausted", %why, "no control connection");
                } else {
                    tracing::warn!(event = "cannot_accept", listener = "control", %error);
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let answer = Arc::clone(&answer);
                connections.spawn(async move {
                    let _place = place;
                    converse(stream, &*answer).await;
                });
            }
            Err(_) => {
                let message = format!(
                    "{CONTROL_CONNECTIONS} others ask at this socket, which is as many as may; close \
                     one of them (each is closed after {IDLE:?} without a command), then ask again"
                );
                say_at_once(&stream, &Err(Refusal { code: "busy", message }));
            }
        }
    }
}

async fn converse<A: Answer>(stream: UnixStream, answer: &A) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(LINE);
        let read = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await;
        let Ok(Ok(1..)) = read else { return };
        let whole = line.ends_with(b"\n");
        let answered = match std::str::from_utf8(&line) {
            _ if !whole && line.len() as u64 == LINE => Err(Refusal {
                code: "too-long",
                message: format!("a command has at most {LINE} bytes"),
            }),
            Ok(command) => answer.answer(command.trim()).await,
            Err(_) => Err(Refusal::unknown("(not UTF-8)", "words in ASCII")),
        };
        let text = rendered(&answered);
        let written = tokio::time::timeout(IDLE, writer.write_all(&text)).await;
        if !whole || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

fn rendered(answer: &Result<serde_json::Value, Refusal>) -> Vec<u8> {
    let value = match answer {
        Ok(value) => value.clone(),
        Err(refusal) => serde_json::json!({ "error": refusal }),
    };
    (value.to_string() + "\n").into_bytes()
}

/// Answers a client that is closed at once: what the socket does not take is not said.
fn say_at_once(stream: &UnixStream, answer: &Result<serde_json::Value, Refusal>) {
    let _ = stream.try_write(&rendered(answer));
}
