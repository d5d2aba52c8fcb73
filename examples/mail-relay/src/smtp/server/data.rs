//! The lines of a mail out of bytes in any segmentation: dots unstuffed, the
//! end found, everything that two servers could read differently refused.

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::TEXT_LINE;

/// Collects one mail. The end is CRLF, dot, CRLF and nothing else (RFC 5321
/// section 4.1.1.4); the CRLF of the DATA command counts as the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct DataReader {
    content: Vec<u8>,
    most: u64,
    line: u32,
    position: Position,
    eight_bit: bool,
    fault: Option<DataFault>,
}

/// Where in a line the next octet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
enum Position {
    LineStart,
    /// Behind a dot that began the line.
    Dot,
    /// Behind such a dot and a CR.
    DotCr,
    Inside,
    /// Behind a CR inside the line.
    Cr,
}

/// Why a mail is refused once all of it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) enum DataFault {
    /// CR without LF or LF without CR (RFC 5321 section 2.3.8).
    BareControl,
    /// An octet of value zero (RFC 5321 section 4.5.2 has none in mail data).
    Nul,
    /// A line above [`TEXT_LINE`].
    LineTooLong,
    /// More than the server takes (RFC 1870 section 6.3).
    TooLarge,
}

/// A mail that has come whole.
pub(super) struct Data {
    pub(super) content: Vec<u8>,
    pub(super) eight_bit: bool,
}

impl DataReader {
    /// A reader for a mail of at most `most` octets.
    pub(super) fn new(most: u64) -> DataReader {
        DataReader {
            content: Vec::new(),
            most,
            line: 0,
            position: Position::LineStart,
            eight_bit: false,
            fault: None,
        }
    }

    /// Takes octets off the front of `input` until the mail ends; `false` when
    /// more are needed. After a fault the rest is swallowed, not kept.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> bool {
        while let Some((&byte, rest)) = input.split_first() {
            if self.position == Position::Inside {
                let run = memchr::memchr3(b'\r', b'\n', 0, input).unwrap_or(input.len());
                if run > 0 {
                    let (text, rest) = input.split_at(run);
                    self.keep(text);
                    *input = rest;
                    continue;
                }
            }
            *input = rest;
            if self.on_octet(byte) {
                return true;
            }
        }
        false
    }

    /// The mail, once [`DataReader::take`] has found its end.
    pub(super) fn finish(self) -> Result<Data, DataFault> {
        let DataReader { mut content, eight_bit, fault, .. } = self;
        content.shrink_to_fit();
        fault.map_or(Ok(Data { content, eight_bit }), Err)
    }

    /// Octets kept so far.
    pub(super) fn held_bytes(&self) -> u64 {
        self.content.len() as u64
    }

    fn on_octet(&mut self, byte: u8) -> bool {
        match (self.position, byte) {
            (Position::DotCr, b'\n') => return true,
            (Position::LineStart, b'.') => self.position = Position::Dot,
            (Position::Dot, b'\r') => self.position = Position::DotCr,
            (Position::Cr, b'\n') => self.end_line(),
            (Position::Cr | Position::DotCr, _) => {
                self.refuse(DataFault::BareControl);
                self.on_text(byte);
            }
            _ => self.on_text(byte),
        }
        false
    }

    fn on_text(&mut self, byte: u8) {
        self.position = if byte == b'\r' { Position::Cr } else { Position::Inside };
        match byte {
            b'\r' => {}
            b'\n' => self.refuse(DataFault::BareControl),
            0 => self.refuse(DataFault::Nul),
            byte => self.keep(&[byte]),
        }
    }

    fn end_line(&mut self) {
        self.position = Position::LineStart;
        self.keep(b"\r\n");
        self.line = 0;
    }

    fn keep(&mut self, text: &[u8]) {
        let line = (self.line as usize).saturating_add(text.len());
        self.line = u32::try_from(line).unwrap_or(u32::MAX);
        if line > TEXT_LINE || (line + 2 > TEXT_LINE && text != b"\r\n") {
            self.refuse(DataFault::LineTooLong);
        }
        if (self.content.len() + text.len()) as u64 > self.most {
            self.refuse(DataFault::TooLarge);
        }
        if self.fault.is_none() {
            self.eight_bit |= !text.is_ascii();
            self.content.extend_from_slice(text);
        }
    }

    /// The first fault counts; what came so far is of no use any more.
    fn refuse(&mut self, fault: DataFault) {
        self.fault.get_or_insert(fault);
        self.content = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_pieces(data: &[u8], piece: usize) -> Option<Result<Vec<u8>, DataFault>> {
        let mut reader = DataReader::new(10_000);
        for chunk in data.chunks(piece) {
            let mut chunk = chunk;
            if reader.take(&mut chunk) {
                return Some(reader.finish().map(|data| data.content));
            }
        }
        None
    }

    fn read(data: &[u8]) -> Option<Result<Vec<u8>, DataFault>> {
        let whole = read_in_pieces(data, data.len().max(1));
        for piece in 1..data.len().min(9) {
            assert_eq!(read_in_pieces(data, piece), whole, "in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn the_end_is_found_and_dots_are_unstuffed() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b".\r\n", b""),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n"),
            (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
            (b".a\r\na.\r\n.\r\n", b"a\r\na.\r\n"),
        ];
        for (data, expected) in cases {
            assert_eq!(read(data), Some(Ok(expected.to_vec())), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn nothing_but_the_true_end_ends_a_mail() {
        let smuggled: [&[u8]; 12] = [
            b"a\n.\n",
            b"a\n.\r\n",
            b"a\r\n.\n",
            b"a\r.\r",
            b"a\r.\r\n",
            b"a\r\n.\r",
            b"a\r\n.\r\r\n",
            b"a\r\n\r.\r\n",
            b"a\r\r\n.\n",
            b"a\r\n.\0\r\n",
            b"a\r\n..\r\n",
            b"a\n\r\n.\n",
        ];
        for data in smuggled {
            assert_eq!(read(data), None, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn a_mail_with_a_bare_control_is_refused_at_its_end() {
        let faulty: [&[u8]; 8] = [
            b"a\n.\n",
            b"a\n.\r\n",
            b"a\r\n.\n",
            b"a\r.\r",
            b"a\rb\r\n",
            b"\n",
            b"\r",
            b".\r.\r\n",
        ];
        for data in faulty {
            let whole = [data, b"x\r\n.\r\n"].concat();
            assert_eq!(read(&whole), Some(Err(DataFault::BareControl)), "{}", data.escape_ascii());
        }
        assert_eq!(read(b"a\0b\r\n.\r\n"), Some(Err(DataFault::Nul)));
        assert_eq!(read(b".\0b\r\n.\r\n"), Some(Err(DataFault::Nul)));
    }

    #[test]
    fn a_line_may_be_just_as_long_as_the_limit() {
        let line = |len: usize| [vec![b'x'; len - 2], b"\r\n.\r\n".to_vec()].concat();
        assert!(read(&line(TEXT_LINE)).unwrap().is_ok());
        assert_eq!(read(&line(TEXT_LINE + 1)), Some(Err(DataFault::LineTooLong)));
        let stuffed = [b"..".to_vec(), line(TEXT_LINE - 1)].concat();
        assert!(read(&stuffed).unwrap().is_ok());
    }

    #[test]
    fn a_mail_may_be_just_as_large_as_the_limit() {
        let mail = |len: usize| {
            let mut text = b"123456\r\n".repeat(len / 8);
            text.extend(b"x".repeat(len % 8));
            text
        };
        let end = b"\r\n.\r\n";
        assert!(read(&[&mail(9_998)[..], end].concat()).unwrap().is_ok());
        assert_eq!(read(&[&mail(9_999)[..], end].concat()), Some(Err(DataFault::TooLarge)));
    }
}
