//! Dot stuffing (RFC 5321 section 4.5.2) without copying the mail, unless it is
//! so small, or has so many lines with dots, that a copy is the cheaper way.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use crate::limits::{SENT_WHOLE, STUFFED_SLICES};
use crate::smtp::Message;

/// The mail as it goes over the wire: dots doubled, a last CRLF if it has none,
/// and the final dot.
pub(super) fn stuff(message: &Message) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    stuff_part(&message.trace, &mut pieces);
    stuff_part(&message.content, &mut pieces);
    let whole_lines = message.size() == 0
        || [&message.content, &message.trace]
            .iter()
            .find(|part| !part.is_empty())
            .is_some_and(|part| part.ends_with(b"\r\n"));
    pieces.push(Bytes::from_static(if whole_lines { b".\r\n" } else { b"\r\n.\r\n" }));
    if pieces.iter().map(Bytes::len).sum::<usize>() <= SENT_WHOLE {
        return vec![Bytes::from(pieces.concat())];
    }
    pieces
}

/// Each part begins at the start of a line.
fn stuff_part(part: &Bytes, pieces: &mut Vec<Bytes>) {
    let first = part.starts_with(b".").then_some(0);
    let dots = || first.into_iter().chain(memmem::find_iter(part, b"\r\n.").map(|at| at + 2));
    if dots().nth(STUFFED_SLICES).is_some() {
        return pieces.push(copy_stuffed(part, dots()));
    }
    let mut from = 0;
    for dot in dots() {
        // The slice takes the dot along, and the next one begins with it again.
        pieces.push(part.slice(from..=dot));
        from = dot;
    }
    if from < part.len() {
        pieces.push(part.slice(from..));
    }
}

fn copy_stuffed(part: &Bytes, dots: impl Iterator<Item = usize>) -> Bytes {
    let mut copy = BytesMut::with_capacity(part.len() + part.len() / 8);
    let mut from = 0;
    for dot in dots {
        copy.extend_from_slice(&part[from..=dot]);
        from = dot;
    }
    copy.extend_from_slice(&part[from..]);
    copy.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(trace: &str, content: &str) -> String {
        let part = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let message = Message { trace: part(trace), content: part(content), eight_bit: false };
        String::from_utf8(stuff(&message).concat()).unwrap()
    }

    #[test]
    fn dots_that_begin_a_line_are_doubled() {
        assert_eq!(stuffed("", ""), ".\r\n");
        assert_eq!(stuffed("", "a\r\n"), "a\r\n.\r\n");
        assert_eq!(stuffed("", "a"), "a\r\n.\r\n");
        assert_eq!(stuffed("", ".\r\n"), "..\r\n.\r\n");
        assert_eq!(stuffed("t\r\n", ".a\r\n..\r\na.\r\n"), "t\r\n..a\r\n...\r\na.\r\n.\r\n");
        assert_eq!(stuffed("t\r\n", ""), "t\r\n.\r\n");
    }

    #[test]
    fn a_small_mail_is_one_piece_and_a_large_one_is_not_copied() {
        let pieces = |content: String| {
            let message = Message { content: content.into(), ..Message::default() };
            (stuff(&message), message.content)
        };
        assert_eq!(pieces(".x\r\n".repeat(1000)).0.len(), 1);
        let dots = 2;
        let (sent, content) = pieces(format!(".{}\r\n", "x".repeat(SENT_WHOLE)).repeat(dots));
        assert_eq!(sent.len(), 2 + dots);
        assert!(content.as_ptr_range().contains(&sent[1].as_ptr()));
    }

    #[test]
    fn a_large_mail_with_many_dots_is_one_copy() {
        for dots in [STUFFED_SLICES, STUFFED_SLICES + 1] {
            let line = format!(".{}\r\n", "x".repeat(SENT_WHOLE / STUFFED_SLICES));
            let content = Bytes::from(line.repeat(dots));
            let sent = stuff(&Message { content, ..Message::default() });
            assert_eq!(
                sent.concat(),
                format!("{}.\r\n", format!(".{line}").repeat(dots)).as_bytes()
            );
            assert_eq!(sent.len() == 2, dots > STUFFED_SLICES);
        }
    }
}
