//! The trace field a relay puts in front of a mail, and loops found by
//! counting those that are there (RFC 5321 sections 4.4 and 6.3).

use std::net::IpAddr;

use bytes::Bytes;

use super::{QueueConfig, QueueId};
use crate::date::Rfc5322Date;
use crate::smtp::Mailbox;
use crate::smtp::server::{Client, is_proper_name};

/// The `Received:` field. The recipient is named only if there is one, so that
/// no blind copy is given away.
pub(super) fn received(
    config: &QueueConfig,
    id: QueueId,
    client: &Client,
    recipients: &[Mailbox],
) -> Bytes {
    let literal = match client.address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    // A name of bad form is no token of the field's syntax: the address stands
    // for it.
    let name = if is_proper_name(&client.hello) { &client.hello } else { &literal };
    let protocol = if client.extended { "ESMTP" } else { "SMTP" };
    let recipient = match recipients {
        [only] => format!("\r\n\tfor <{only}>"),
        _ => String::new(),
    };
    Bytes::from(format!(
        "Received: from {name} ({literal})\r\n\tby {} with {protocol} id {id}{recipient};\r\n\t{}\r\n",
        config.hostname,
        Rfc5322Date(id.accepted),
    ))
}

/// The client's address, out of a field that [`received`] made.
#[cfg_attr(not(feature = "processes"), allow(dead_code, reason = "the service restores"))]
pub(super) fn client_address(field: &[u8]) -> Option<IpAddr> {
    let line = std::str::from_utf8(header_lines(field).next()?).ok()?;
    let (_, literal) = line.strip_suffix("])\r\n")?.rsplit_once("([")?;
    literal.strip_prefix("IPv6:").unwrap_or(literal).parse().ok()
}

/// `Received:` fields in the header of a mail.
pub(super) fn count_received(content: &[u8]) -> usize {
    header_lines(content).filter(|line| is_received(line)).count()
}

fn is_received(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    name.len() < line.len() && name.trim_ascii_end().eq_ignore_ascii_case(b"Received")
}

/// Lines before the first empty one, each with its CRLF.
pub(super) fn header_lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split_inclusive(|byte| *byte == b'\n').take_while(|line| *line != b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SECOND;
    use crate::smtp::Domain;

    fn field(hello: &str, address: &str, recipients: &[&str]) -> String {
        let config = QueueConfig::new(Domain::parse("relay.example").unwrap(), "hop");
        let client =
            Client { address: address.parse().unwrap(), hello: hello.to_owned(), extended: true };
        let recipients: Vec<Mailbox> =
            recipients.iter().map(|text| Mailbox::parse(text).unwrap()).collect();
        let id = QueueId { number: 31, accepted: 1_000_000_000 * SECOND };
        String::from_utf8(received(&config, id, &client, &recipients).to_vec()).unwrap()
    }

    #[test]
    fn the_field_names_client_server_id_and_date() {
        let expected = "Received: from client.example ([192.0.2.1])\r\n\tby relay.example with ESMTP \
                        id 1F-3B9ACA00\r\n\tfor <a@b.org>;\r\n\tSun, 09 Sep 2001 01:46:40 +0000\r\n";
        assert_eq!(field("client.example", "192.0.2.1", &["a@b.org"]), expected);
    }

    #[test]
    fn two_recipients_are_not_named_and_a_bad_name_is_replaced() {
        let field = field("my_host", "2001:db8::1", &["a@b.org", "c@d.org"]);
        assert!(field.starts_with("Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n"));
        assert!(!field.contains("for"));
    }

    #[test]
    fn the_clients_address_is_read_out_of_the_field() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            for hello in ["client.example", "[10.0.0.1]", "my_host"] {
                let field = field(hello, address, &["a@b.org"]);
                assert_eq!(client_address(field.as_bytes()), address.parse().ok(), "{field}");
            }
        }
        for field in ["", "Received: from c\r\n", "Received: from c ([x])\r\n"] {
            assert_eq!(client_address(field.as_bytes()), None, "{field}");
        }
    }

    #[test]
    fn only_received_fields_of_the_header_are_counted() {
        let mail = b"Received: a\r\nRECEIVED : b\r\n\tReceived: folded\r\nX-Received: c\r\nReceived\r\n\r\nReceived: d\r\n";
        assert_eq!(count_received(mail), 2);
        assert_eq!(count_received(b""), 0);
    }
}
