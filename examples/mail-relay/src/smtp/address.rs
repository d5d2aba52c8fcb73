//! Mail addresses as RFC 5321 section 4.1.2 writes them.
//!
//! An address is kept exactly as it stood on the wire, quotes included, so that
//! what goes on to the next hop cannot mean something else than what came in.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use rkyv::{Archive, Deserialize, Serialize};

use super::AddressCustoms;
use crate::limits;

/// `local-part@domain`, both parts checked. The only ways to make one check
/// its syntax, so it never holds a control character, a space outside quotes
/// or an angle bracket outside quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub struct Mailbox {
    local: String,
    domain: String,
}

/// A host's or mail domain's name, checked (RFC 5321 section 4.1.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub struct Domain(String);

impl Domain {
    /// Checks a name such as `mail.example.org`.
    ///
    /// # Errors
    /// As [`AddressError`] says.
    pub fn parse(text: &str) -> Result<Domain, AddressError> {
        Domain::parse_with(text, AddressCustoms::NONE)
    }

    /// As [`Domain::parse`], for a name that somebody else chose.
    ///
    /// # Errors
    /// As [`AddressError`] says.
    pub fn parse_with(text: &str, customs: AddressCustoms) -> Result<Domain, AddressError> {
        check_domain(text, customs).map(|()| Domain(text.to_owned()))
    }

    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address that is told when a mail fails: a mailbox, or none (`<>`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub enum ReversePath {
    /// `<>`: the mail is itself a notice, and its failure is never reported.
    Null,
    /// The sender, who is told of a failure.
    Mailbox(Mailbox),
}

/// The recipient of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain, which every server accepts (RFC 5321
    /// section 4.5.1).
    Postmaster,
    /// Any other recipient.
    Mailbox(Mailbox),
}

/// Why something between angle brackets is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A bracket, `@`, part or character is missing or misplaced.
    #[error("the address has bad syntax")]
    Syntax,
    /// Longer than RFC 5321 section 4.5.3.1 allows.
    #[error("the address is too long")]
    TooLong,
    /// Holds octets above 127, which need SMTPUTF8 (RFC 6531).
    #[error("the address is not ASCII")]
    NotAscii,
}

impl Mailbox {
    /// Checks a text such as `someone@example.org` or `"a b"@[192.0.2.1]`.
    ///
    /// # Errors
    /// As [`AddressError`] says; nothing may stand before or behind it.
    pub fn parse(text: &str) -> Result<Mailbox, AddressError> {
        let (mailbox, rest) = take_mailbox(text, AddressCustoms::NONE)?;
        if rest.is_empty() { Ok(mailbox) } else { Err(AddressError::Syntax) }
    }

    /// The postmaster of `domain`.
    pub(crate) fn postmaster(domain: &Domain) -> Mailbox {
        Mailbox { local: "postmaster".to_owned(), domain: domain.0.clone() }
    }

    /// What it takes of memory, strings and all.
    pub(crate) fn held_bytes(&self) -> u64 {
        (size_of::<Mailbox>() + self.local.len() + self.domain.len()) as u64
    }

    /// The part before the last `@`, quotes included.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part behind it; an address literal keeps its square brackets.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl ReversePath {
    /// Whether this is `<>`.
    pub fn is_null(&self) -> bool {
        matches!(self, ReversePath::Null)
    }

    /// Reads a reverse path at the start of `text`, brackets included, and
    /// gives what stands behind it.
    pub(crate) fn take(
        text: &str,
        customs: AddressCustoms,
    ) -> Result<(ReversePath, &str), AddressError> {
        match text.strip_prefix("<>") {
            Some(rest) => Ok((ReversePath::Null, rest)),
            None => take_path(text, customs)
                .map(|(mailbox, rest)| (ReversePath::Mailbox(mailbox), rest)),
        }
    }
}

impl fmt::Display for ReversePath {
    /// With angle brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => f.write_str("<>"),
            ReversePath::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

impl ForwardPath {
    /// As [`ReversePath::take`], for a recipient.
    pub(crate) fn take(
        text: &str,
        customs: AddressCustoms,
    ) -> Result<(ForwardPath, &str), AddressError> {
        const POSTMASTER: &str = "<Postmaster>";
        match text.split_at_checked(POSTMASTER.len()) {
            Some((path, rest)) if path.eq_ignore_ascii_case(POSTMASTER) => {
                Ok((ForwardPath::Postmaster, rest))
            }
            _ => take_path(text, customs)
                .map(|(mailbox, rest)| (ForwardPath::Mailbox(mailbox), rest)),
        }
    }
}

/// `"<" [ A-d-l ":" ] Mailbox ">"`. The source route is checked and dropped
/// (RFC 5321 section 4.1.1.3 and appendix C).
fn take_path(text: &str, customs: AddressCustoms) -> Result<(Mailbox, &str), AddressError> {
    let mut rest = text.strip_prefix('<').ok_or(AddressError::Syntax)?;
    if rest.starts_with('@') {
        rest = skip_source_route(rest, customs)?;
    }
    let (mailbox, rest) = take_mailbox(rest, customs)?;
    let rest = rest.strip_prefix('>').ok_or(AddressError::Syntax)?;
    if text.len() - rest.len() > limits::PATH {
        return Err(AddressError::TooLong);
    }
    Ok((mailbox, rest))
}

/// `"@" domain *( "," "@" domain ) ":"`
fn skip_source_route(text: &str, customs: AddressCustoms) -> Result<&str, AddressError> {
    let (route, rest) = text.split_once(':').ok_or(AddressError::Syntax)?;
    for hop in route.split(',') {
        check_domain(hop.strip_prefix('@').ok_or(AddressError::Syntax)?, customs)?;
    }
    Ok(rest)
}

fn take_mailbox(text: &str, customs: AddressCustoms) -> Result<(Mailbox, &str), AddressError> {
    if !text.is_ascii() {
        return Err(AddressError::NotAscii);
    }
    let local_len =
        if text.starts_with('"') { quoted_len(text)? } else { dotted_len(text, customs)? };
    let (local, rest) = text.split_at(local_len);
    if local.len() > limits::LOCAL_PART {
        return Err(AddressError::TooLong);
    }
    let rest = rest.strip_prefix('@').ok_or(AddressError::Syntax)?;
    let (domain, rest) = split_domain(rest);
    if domain.starts_with('[') {
        check_literal(domain)?
    } else {
        check_domain(domain, customs)?
    }
    Ok((Mailbox { local: local.to_owned(), domain: domain.to_owned() }, rest))
}

fn split_domain(text: &str) -> (&str, &str) {
    let end = if text.starts_with('[') {
        text.find(']').map_or(text.len(), |at| at + 1)
    } else {
        text.find(|c: char| !(c.is_ascii_alphanumeric() || "-._".contains(c))).unwrap_or(text.len())
    };
    text.split_at(end)
}

/// Length of `Atom *("." Atom)` at the start of `text`.
fn dotted_len(text: &str, customs: AddressCustoms) -> Result<usize, AddressError> {
    let end = text.bytes().position(|b| !(is_atext(b) || b == b'.')).unwrap_or(text.len());
    let lacks_atom = text[..end].split('.').any(str::is_empty);
    if end == 0 || (lacks_atom && !customs.dots) { Err(AddressError::Syntax) } else { Ok(end) }
}

/// RFC 5322 section 3.2.3.
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Length of a quoted string at the start of `text`, quotes included.
fn quoted_len(text: &str) -> Result<usize, AddressError> {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte);
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' if bytes.next().is_some_and(|(_, escaped)| printable(escaped)) => {}
            b'\\' => break,
            byte if printable(byte) => {}
            _ => break,
        }
    }
    Err(AddressError::Syntax)
}

/// Whether `text` is a domain of letters, digits and hyphens (RFC 5321 section
/// 4.1.2), or as `customs` allow; there is no final dot, and a single label is a domain.
pub(crate) fn check_domain(text: &str, customs: AddressCustoms) -> Result<(), AddressError> {
    if text.len() > limits::DOMAIN {
        return Err(AddressError::TooLong);
    }
    for label in text.split('.') {
        let bytes = label.as_bytes();
        let odd = |byte: &u8| customs.names && matches!(byte, b'-' | b'_');
        let ends_well =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || odd(b));
        let inside = bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || odd(b));
        if !inside || !ends_well(bytes.first()) || !ends_well(bytes.last()) {
            return Err(AddressError::Syntax);
        }
        if label.len() > limits::DOMAIN_LABEL {
            return Err(AddressError::TooLong);
        }
    }
    Ok(())
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]`; no other kind is registered
/// (RFC 5321 section 4.1.3).
pub(crate) fn check_literal(text: &str) -> Result<(), AddressError> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let inner = inner.ok_or(AddressError::Syntax)?;
    let good = match inner.split_at_checked("IPv6:".len()) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => {
            address.parse::<Ipv6Addr>().is_ok()
        }
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    };
    if good { Ok(()) } else { Err(AddressError::Syntax) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String, AddressError> {
        ReversePath::take(text, AddressCustoms::NONE).map(|(path, rest)| format!("{path}|{rest}"))
    }

    #[test]
    fn addresses_are_kept_as_written() {
        let cases = [
            ("<>", "<>|"),
            ("<> SIZE=1", "<>| SIZE=1"),
            ("<a@example.org>", "<a@example.org>|"),
            ("<a+b.c@localhost>", "<a+b.c@localhost>|"),
            (r#"<"a b@\"c>"@Example.ORG>"#, r#"<"a b@\"c>"@Example.ORG>|"#),
            (r#"<""@example.org>"#, r#"<""@example.org>|"#),
            ("<a@[192.0.2.1]>", "<a@[192.0.2.1]>|"),
            ("<a@[IPv6:2001:db8::1]>", "<a@[IPv6:2001:db8::1]>|"),
        ];
        for (text, expected) in cases {
            assert_eq!(path(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn each_custom_lets_through_its_own_addresses_and_no_others() {
        let [names, dots] =
            [(true, false), (false, true)].map(|(names, dots)| AddressCustoms { names, dots });
        let cases = [
            (names, dots, "<root@my_host>"),
            (names, dots, "<a@_b_.-c->"),
            (dots, names, "<a..b@c.org>"),
            (dots, names, "<a.@c.org>"),
            (dots, names, "<.a@c.org>"),
        ];
        for (with, without, text) in cases {
            let taken = ReversePath::take(text, with).map(|(path, rest)| format!("{path}{rest}"));
            assert_eq!(taken.as_deref(), Ok(text));
            assert_eq!(ReversePath::take(text, without), Err(AddressError::Syntax), "{text}");
        }
        let all = AddressCustoms::default();
        for bad in ["<@b.org>", "<a@>", "<a@b..c>", "<a@b.>", "<a b@c>", "<a@b c>", "<a\r@b_c>"] {
            assert!(ReversePath::take(bad, all).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_source_route_is_checked_and_dropped() {
        assert_eq!(path("<@a.org,@b.org:c@d.org>").as_deref(), Ok("<c@d.org>|"));
        assert_eq!(path("<@a..org:c@d.org>"), Err(AddressError::Syntax));
        assert_eq!(path("<@a.org,b.org:c@d.org>"), Err(AddressError::Syntax));
        assert_eq!(path("<@a.org:>"), Err(AddressError::Syntax));
    }

    #[test]
    fn bad_addresses_are_refused() {
        let bad = [
            "",
            "<",
            "a@b.org",
            "<a@b.org",
            "<a>",
            "<@b.org>",
            "<a@>",
            "<a@b@c>",
            "<.a@b.org>",
            "<a.@b.org>",
            "<a..b@c.org>",
            "<a b@c.org>",
            "<a@-b.org>",
            "<a@b-.org>",
            "<a@b..org>",
            "<a@b.org.>",
            "<a@b_c.org>",
            "<\"a@b.org>",
            "<\"a\"b@c.org>",
            "<\"a\\\"@b.org>",
            "<a@[1.2.3]>",
            "<a@[IPv6:1.2.3.4]>",
            "<a@[x400:abc]>",
            "<a@[192.0.2.1>",
            "<a\t@b.org>",
            "<\"a\tb\"@c.org>",
            "<<a@b.org>>",
            "<a(c)@b.org>",
        ];
        for text in bad {
            assert_eq!(path(text), Err(AddressError::Syntax), "{text}");
        }
        assert_eq!(path("<jürgen@b.org>"), Err(AddressError::NotAscii));
        assert_eq!(path("<a@bücher.example>"), Err(AddressError::NotAscii));
    }

    #[test]
    fn parts_may_be_just_as_long_as_the_standard_says() {
        let local = "l".repeat(limits::LOCAL_PART);
        assert!(path(&format!("<{local}@b.org>")).is_ok());
        assert_eq!(path(&format!("<{local}l@b.org>")), Err(AddressError::TooLong));

        let label = "d".repeat(limits::DOMAIN_LABEL);
        assert!(path(&format!("<a@{label}.org>")).is_ok());
        assert_eq!(path(&format!("<a@{label}d.org>")), Err(AddressError::TooLong));

        let domain = [label.as_str(); 4].join(".");
        assert_eq!(domain.len(), limits::DOMAIN);
        assert!(check_domain(&domain, AddressCustoms::NONE).is_ok());
        let longer = check_domain(&format!("{domain}.d"), AddressCustoms::NONE);
        assert_eq!(longer, Err(AddressError::TooLong));

        let whole = limits::PATH - "<>".len() - "@".len();
        let longest = format!("<{}@{}>", "l".repeat(whole - 191), &domain[..191]);
        assert_eq!(longest.len(), limits::PATH);
        assert!(path(&longest).is_ok());
        let route = format!("<@r.org:{}", &longest[1..]);
        assert_eq!(path(&route), Err(AddressError::TooLong));
    }

    #[test]
    fn the_postmaster_needs_no_domain() {
        for text in ["<Postmaster>", "<postmaster>", "<POSTMASTER>"] {
            assert_eq!(
                ForwardPath::take(text, AddressCustoms::NONE),
                Ok((ForwardPath::Postmaster, ""))
            );
        }
        assert_eq!(ForwardPath::take("<>", AddressCustoms::NONE), Err(AddressError::Syntax));
        assert_eq!(path("<postmaster>"), Err(AddressError::Syntax));
    }
}
