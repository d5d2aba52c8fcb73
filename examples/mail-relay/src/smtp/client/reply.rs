//! Replies of a next hop out of bytes in any segmentation (RFC 5321 section 4.2).

use rkyv::{Archive, Deserialize, Serialize};

use super::{HopCustoms, HopReply};
use crate::limits::{REPLY_LINE, REPLY_LINES, REPLY_TEXT};

/// Collects one reply at a time, within [`REPLY_LINE`] and [`REPLY_LINES`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(super) struct ReplyReader {
    line: Vec<u8>,
    reply: Reply,
}

/// A whole reply; its lines without code and separator, made printable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) lines: Vec<String>,
}

/// Why bytes are no reply: a text for [`super::SessionFailure::Protocol`].
type Fault = &'static str;

impl ReplyReader {
    /// Takes octets off the front of `input` until a reply is complete; `None`
    /// when more are needed.
    pub(super) fn take(
        &mut self,
        input: &mut &[u8],
        customs: HopCustoms,
    ) -> Option<Result<Reply, Fault>> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            if self.line.len() == REPLY_LINE {
                return Some(Err("a reply line is too long"));
            }
            self.line.push(byte);
            if byte == b'\n' {
                match self.end_line(customs) {
                    Ok(false) => {}
                    Ok(true) => return Some(Ok(std::mem::take(&mut self.reply))),
                    Err(fault) => return Some(Err(fault)),
                }
            }
        }
        None
    }

    /// Whether a reply has begun and is not complete.
    #[cfg(test)]
    fn is_inside(&self) -> bool {
        !self.line.is_empty() || !self.reply.lines.is_empty()
    }

    fn end_line(&mut self, customs: HopCustoms) -> Result<bool, Fault> {
        let line = std::mem::take(&mut self.line);
        let bare = line.strip_suffix(b"\n").filter(|_| customs.bare_lf);
        let line = line.strip_suffix(b"\r\n").or(bare);
        let line = line.ok_or("a reply line does not end with CRLF")?;
        if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Err("a reply has a bare CR or a NUL");
        }
        let (code, rest) = split_code(line).ok_or("a reply line has no code")?;
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err("a reply code is followed by neither space nor hyphen"),
        };
        let is_same = self.reply.lines.is_empty()
            || self.reply.code == code
            || (customs.mixed_codes && self.reply.code / 100 == code / 100);
        if !is_same {
            return Err("the lines of a reply have different codes");
        }
        if self.reply.lines.len() == REPLY_LINES {
            return Err("a reply has too many lines");
        }
        self.reply.code = code;
        self.reply.lines.push(printable(text));
        Ok(last)
    }
}

/// Three digits, the first of them 2 to 5.
fn split_code(line: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
        return None;
    }
    let number = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    Some((number, rest))
}

fn printable(text: &[u8]) -> String {
    let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '?' };
    text.iter().take(REPLY_TEXT).map(shown).collect()
}

impl Reply {
    /// Whether this is a 2xx reply.
    pub(super) fn is_good(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether a refusal of MAIL, RCPT or DATA is not about the mail. The hop may want another kind
    /// of session (authentication, RFC 4954 section 6; TLS, RFC 3207 section 4). It may take no
    /// mail at present (X.3.2, RFC 3463 section 3.4), or not know where the session stands (502,
    /// 503; RFC 5321 section 4.2.2). Held against the mail, one wrong setting would bounce all mail
    /// there is. Codes that some servers also give to single addresses, such as 454 and 554, are
    /// not among them.
    pub(super) fn is_about_the_session(&self) -> bool {
        const CODES: [u16; 6] = [502, 503, 530, 534, 535, 538];
        let (status, _) = self.split_status();
        CODES.contains(&self.code) || matches!(status.as_str(), "4.3.2" | "5.3.2")
    }

    /// Code, status and text for a report.
    pub(super) fn to_hop_reply(&self) -> HopReply {
        let (status, mut text) = self.split_status();
        text.truncate(REPLY_TEXT);
        HopReply { code: self.code, status, text }
    }

    fn split_status(&self) -> (String, String) {
        let class = self.code / 100;
        let first = self.lines.first().map_or("", String::as_str);
        let status = first.split(' ').next().filter(|word| is_status(word, class));
        let Some(status) = status else {
            return (format!("{class}.0.0"), self.lines.join(" "));
        };
        let bare = |line: &String| match line.strip_prefix(status) {
            Some(rest) => rest.trim_start().to_owned(),
            None => line.clone(),
        };
        let text: Vec<String> = self.lines.iter().map(bare).collect();
        (status.to_owned(), text.join(" "))
    }
}

/// `class.subject.detail` (RFC 3463 section 2), of the reply's own class.
fn is_status(word: &str, class: u16) -> bool {
    let mut parts = word.split('.');
    let digits = |part: Option<&str>, most: usize| {
        part.is_some_and(|part| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    parts.next() == Some(&class.to_string())
        && digits(parts.next(), 3)
        && digits(parts.next(), 3)
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: HopCustoms = HopCustoms { bare_lf: false, mixed_codes: false };

    /// By the letter of the standard.
    fn read(text: &[u8]) -> Option<Result<Reply, Fault>> {
        read_with(text, STRICT)
    }

    fn read_with(text: &[u8], customs: HopCustoms) -> Option<Result<Reply, Fault>> {
        let whole = ReplyReader::default().take(&mut &*text, customs);
        let mut reader = ReplyReader::default();
        let bytewise = text.chunks(1).find_map(|mut piece| reader.take(&mut piece, customs));
        assert_eq!(bytewise, whole);
        assert!(whole.is_some() || text.is_empty() || reader.is_inside());
        whole
    }

    fn hop_reply(text: &str) -> (u16, String, String) {
        let reply = read(text.as_bytes()).unwrap().unwrap().to_hop_reply();
        (reply.code, reply.status, reply.text)
    }

    #[test]
    fn replies_of_one_and_many_lines() {
        let case = |code: u16, status: &str, text: &str| (code, status.to_owned(), text.to_owned());
        assert_eq!(hop_reply("250 2.1.5 ok\r\n"), case(250, "2.1.5", "ok"));
        assert_eq!(hop_reply("550 no\r\n"), case(550, "5.0.0", "no"));
        assert_eq!(hop_reply("250\r\n"), case(250, "2.0.0", ""));
        assert_eq!(
            hop_reply("550-5.1.1 no such\r\n550 5.1.1 user\r\n"),
            case(550, "5.1.1", "no such user")
        );
        assert_eq!(hop_reply("450 5.1.1 odd\r\n"), case(450, "4.0.0", "5.1.1 odd"));
        assert_eq!(hop_reply("550 a\x1b[1mb\u{e4}\r\n"), case(550, "5.0.0", "a?[1mb??"));
        assert_eq!(read(b"250-a\r\n250-b\r\n"), None);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let bad: [&[u8]; 10] = [
            b"\r\n",
            b"25\r\n",
            b"abc ok\r\n",
            b"150 ok\r\n",
            b"600 ok\r\n",
            b"250ok\r\n",
            b"250 ok\n",
            b"250 o\rk\r\n",
            b"250-a\r\n251 b\r\n",
            b"SSH-2.0-x\r\n",
        ];
        for text in bad {
            assert!(matches!(read(text), Some(Err(_))), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn each_custom_lets_through_its_own_replies_and_no_others() {
        let bare_lf = HopCustoms { bare_lf: true, mixed_codes: false };
        let mixed_codes = HopCustoms { bare_lf: false, mixed_codes: true };
        let cases: [(HopCustoms, HopCustoms, &[u8], u16); 3] = [
            (bare_lf, mixed_codes, b"250 ok\n", 250),
            (bare_lf, mixed_codes, b"250-a\n250-b\r\n250 c\n", 250),
            (mixed_codes, bare_lf, b"250-a\r\n252-b\r\n251 c\r\n", 251),
        ];
        for (with, without, text, code) in cases {
            assert_eq!(read_with(text, with).unwrap().unwrap().code, code);
            assert!(read_with(text, without).unwrap().is_err(), "{}", text.escape_ascii());
        }
        let bad: [&[u8]; 5] =
            [b"250-a\r\n550 b\r\n", b"354-a\r\n250 b\r\n", b"250 o\rk\n", b"\n", b"250 a\0\n"];
        for text in bad {
            let read = read_with(text, HopCustoms::default());
            assert!(matches!(read, Some(Err(_))), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_reply_has_bounds() {
        let line = |len: usize| format!("250 {}\r\n", "x".repeat(len - 6));
        assert!(read(line(REPLY_LINE).as_bytes()).unwrap().is_ok());
        assert!(read(line(REPLY_LINE + 1).as_bytes()).unwrap().is_err());
        let lines = |count: usize| "250-x\r\n".repeat(count - 1) + "250 x\r\n";
        assert!(read(lines(REPLY_LINES).as_bytes()).unwrap().is_ok());
        assert!(read(lines(REPLY_LINES + 1).as_bytes()).unwrap().is_err());
        assert_eq!(hop_reply(&line(REPLY_LINE)).2.len(), REPLY_TEXT);
    }
}
