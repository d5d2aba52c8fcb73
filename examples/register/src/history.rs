//! What clients saw: one line of JSON for each request.
//!
//! ```
//! use register::history::{Call, read};
//!
//! let line = r#"{"session":7,"number":1,"from":10,"to":20,
//!     "op":{"set":{"name":"r0","value":5}},"answer":{"value":null}}"#.replace('\n', "");
//! let calls: Vec<Call> = read(line.as_bytes())?;
//! assert_eq!(calls[0].to, Some(20));
//! # Ok::<(), register::history::ReadError>(())
//! ```

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::ops::{Answer, Op};

/// Longest line read. A request's texts are far shorter.
const LINE_BYTES: usize = 64 << 10;

/// Most calls in one history: what its check keeps in memory.
const CALLS: usize = 10_000_000;

/// One request as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The call's session; its requests take effect in the order of their numbers.
    pub session: u64,
    /// The request's number in its session.
    pub number: u64,
    /// When it was handed in, in nanoseconds of one monotonic clock for the whole history.
    pub from: u64,
    /// When the answer was there. `None` if none came: then it is not known whether the request
    /// took effect, or still will.
    pub to: Option<u64>,
    /// What was asked.
    pub op: Op,
    /// The answer; `None` if none came.
    pub answer: Option<Answer>,
    /// Why there is no answer, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The history's file cannot be read.
    #[error("the history cannot be read")]
    Io(#[from] std::io::Error),
    /// A line is not a call.
    #[error("line {line} is no call: {why}; a history has one JSON object in each line")]
    Line {
        /// The line's number, counted from 1.
        line: usize,
        /// What is wrong with the line.
        why: String,
    },
    /// The history has too many lines.
    #[error("more than {CALLS} calls: record less at a time")]
    TooMany,
}

/// Writes one call as a line.
///
/// # Errors
/// Those of the output.
pub fn write(out: &mut impl Write, call: &Call) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, call)?;
    out.write_all(b"\n")
}

/// Reads all calls.
///
/// # Errors
/// The first line that is none.
pub fn read(mut input: impl BufRead) -> Result<Vec<Call>, ReadError> {
    let mut calls = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let most = LINE_BYTES as u64 + 1;
        if std::io::Read::take(&mut input, most).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.len() > LINE_BYTES {
            return Err(ReadError::Line { line, why: "it is too long".into() });
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let call: Call = serde_json::from_slice(&bytes)
            .map_err(|error| ReadError::Line { line, why: error.to_string() })?;
        if call.to.is_some() != call.answer.is_some() || call.to.is_some_and(|to| to < call.from) {
            let why = "an answer and its time, after that of the request, belong together";
            return Err(ReadError::Line { line, why: why.into() });
        }
        if calls.len() >= CALLS {
            return Err(ReadError::TooMany);
        }
        calls.push(call);
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let call = Call {
            session: 1,
            number: 2,
            from: 3,
            to: Some(4),
            op: Op::Pop { queue: "q".into() },
            answer: Some(Answer::Item(Some("x".into()))),
            error: None,
        };
        let open = Call { to: None, answer: None, error: Some("lost".into()), ..call.clone() };
        let mut out = Vec::new();
        write(&mut out, &call).unwrap();
        write(&mut out, &open).unwrap();
        assert_eq!(read(&out[..]).unwrap(), [call, open]);
    }

    #[test]
    fn other_lines_are_refused_by_number() {
        let refused = |text: &str| match read(text.as_bytes()) {
            Err(ReadError::Line { line, why }) => (line, why),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("\n{}").0, 2);
        assert_eq!(refused(&"x".repeat(LINE_BYTES + 1)), (1, "it is too long".into()));
        let half = r#"{"session":7,"number":1,"from":10,"to":20,"op":"now","answer":null}"#;
        assert_eq!(refused(half).0, 1);
    }
}
