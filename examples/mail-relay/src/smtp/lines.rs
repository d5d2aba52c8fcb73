//! Command lines out of bytes in any segmentation.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::LONGEST_COMMAND_LINE;

/// Collects one line at a time, at most [`LONGEST_COMMAND_LINE`] octets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(crate) struct LineReader {
    line: Vec<u8>,
    after_cr: bool,
    fault: Option<LineFault>,
}

/// Why a line is not taken for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) enum LineFault {
    /// CR without LF, LF without CR, or NUL (RFC 5321 section 2.3.8).
    BareControl,
    /// More octets than any command may have.
    TooLong,
}

impl LineReader {
    /// Takes octets off the front of `input` until a line is complete; `None`
    /// when more are needed. The line comes without its CRLF.
    ///
    /// A bare LF ends a line too, so that the next line is found again, but
    /// what it ends is always a fault.
    pub(crate) fn take(&mut self, input: &mut &[u8]) -> Option<Result<Vec<u8>, LineFault>> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            if byte == b'\n' {
                return Some(self.end_line());
            }
            self.on_octet(byte);
        }
        None
    }

    /// Whether the next octet is the first of a line.
    pub(crate) fn is_at_start(&self) -> bool {
        self.line.is_empty() && !self.after_cr && self.fault.is_none()
    }

    fn end_line(&mut self) -> Result<Vec<u8>, LineFault> {
        if !self.after_cr {
            self.note(LineFault::BareControl);
        }
        let LineReader { line, fault, .. } = std::mem::take(self);
        fault.map_or(Ok(line), Err)
    }

    fn on_octet(&mut self, byte: u8) {
        if self.after_cr || byte == 0 {
            self.note(LineFault::BareControl);
        }
        self.after_cr = byte == b'\r';
        if self.after_cr || self.fault.is_some() {
            return;
        }
        if self.line.len() + "\r\n".len() == LONGEST_COMMAND_LINE {
            self.note(LineFault::TooLong);
        } else {
            self.line.push(byte);
        }
    }

    /// The first fault of a line counts; the rest of the line is not kept.
    fn note(&mut self, fault: LineFault) {
        self.fault.get_or_insert(fault);
        self.line = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Result<Vec<u8>, LineFault>> {
        let (mut reader, mut input) = (LineReader::default(), text);
        std::iter::from_fn(|| reader.take(&mut input)).collect()
    }

    #[test]
    fn only_crlf_ends_a_good_line() {
        let bad = Err(LineFault::BareControl);
        assert_eq!(lines(b"a\r\nb\r\n"), [Ok(b"a".to_vec()), Ok(b"b".to_vec())]);
        assert_eq!(lines(b"a\nb\r\n"), [bad.clone(), Ok(b"b".to_vec())]);
        assert_eq!(lines(b"a\rb\r\nc\r\n"), [bad.clone(), Ok(b"c".to_vec())]);
        assert_eq!(lines(b"a\r\r\nc\r\n"), [bad.clone(), Ok(b"c".to_vec())]);
        assert_eq!(lines(b"a\0\r\nc\r\n"), [bad, Ok(b"c".to_vec())]);
        assert_eq!(lines(b"a\r"), []);
    }

    #[test]
    fn a_line_may_be_just_as_long_as_the_limit() {
        let line = |len: usize| [vec![b'x'; len - 2], b"\r\n".to_vec()].concat();
        assert!(lines(&line(LONGEST_COMMAND_LINE))[0].is_ok());
        let long = [line(LONGEST_COMMAND_LINE + 1), line(3)].concat();
        assert_eq!(lines(&long), [Err(LineFault::TooLong), Ok(b"x".to_vec())]);
        let mut reader = LineReader::default();
        assert_eq!(reader.take(&mut &vec![b'x'; 100_000][..]), None);
        assert!(reader.line.capacity() <= 2 * LONGEST_COMMAND_LINE);
    }
}
