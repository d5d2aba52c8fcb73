//! One line, its meaning.

use super::reply::{self, Reply};
use crate::limits;
use crate::smtp::address::{self, AddressError, ForwardPath, ReversePath};
use crate::smtp::{AddressCustoms, ClientCustoms};

/// A command of RFC 5321 section 4.1.1, its arguments checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Ehlo(String),
    Helo(String),
    Mail(ReversePath, MailParameters),
    Rcpt(ForwardPath),
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
}

/// What may stand behind the path of MAIL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MailParameters {
    /// The size declared (RFC 1870).
    pub(super) size: Option<u64>,
    /// `BODY=` was given (RFC 6152); whether the mail really has 8-bit octets
    /// is seen in its data.
    pub(super) body: bool,
}

impl Command {
    /// Reads a line without its CRLF.
    ///
    /// # Errors
    /// The reply to give: 500, 501, 502, 553 or 555.
    pub(super) fn parse(line: &[u8], customs: ClientCustoms) -> Result<Command, Reply> {
        let (verb, argument) = line.split_at(verb_len(line));
        let verb = verb.to_ascii_uppercase();
        let longest = match &verb[..] {
            b"MAIL" => limits::LONGEST_COMMAND_LINE,
            _ => limits::COMMAND_LINE,
        };
        if line.len() + "\r\n".len() > longest {
            return Err(reply::LINE_TOO_LONG);
        }
        match &verb[..] {
            b"MAIL" => parse_mail(text(argument)?, customs.addresses),
            b"RCPT" => parse_rcpt(text(argument)?, customs.addresses),
            b"EHLO" => Ok(Command::Ehlo(host_name(argument, customs.hello)?)),
            b"HELO" => Ok(Command::Helo(host_name(argument, customs.hello)?)),
            b"DATA" => alone(argument, Command::Data),
            b"RSET" => alone(argument, Command::Rset),
            b"QUIT" => alone(argument, Command::Quit),
            b"NOOP" => Ok(Command::Noop),
            b"HELP" => Ok(Command::Help),
            b"VRFY" if argument.trim_ascii().is_empty() => Err(reply::BAD_ARGUMENT),
            b"VRFY" => Ok(Command::Vrfy),
            b"EXPN" | b"STARTTLS" | b"AUTH" | b"BDAT" | b"ETRN" | b"ATRN" | b"TURN" | b"SEND"
            | b"SOML" | b"SAML" => Err(reply::NOT_IMPLEMENTED),
            _ => Err(reply::UNKNOWN_COMMAND),
        }
    }
}

fn verb_len(line: &[u8]) -> usize {
    line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len())
}

/// Whether a line begins with this verb.
pub(super) fn has_verb(line: &[u8], verb: &str) -> bool {
    line[..verb_len(line)].eq_ignore_ascii_case(verb.as_bytes())
}

/// Whether a line shows that something else than SMTP is spoken: a request or a header field of
/// HTTP, a mail's header where commands belong, a greeting of SSH. Somebody has another program
/// say what he wants said, and an SMTP dialogue may follow in its body.
pub(super) fn is_other_protocol(line: &[u8]) -> bool {
    const METHODS: [&str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI"];
    let verb = &line[..verb_len(line)];
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    METHODS.iter().any(|method| has_verb(line, method))
        || is_field_name(verb)
        || verb.starts_with(b"SSH-")
        || version.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"HTTP/"))
}

/// `name:`, with the value glued to it or not (RFC 5322 section 2.2). No verb of SMTP has a colon.
fn is_field_name(verb: &[u8]) -> bool {
    let name = verb.split(|byte| *byte == b':').next().unwrap_or_default();
    let glued = ["MAIL", "RCPT"].iter().any(|verb| name.len() >= 4 && has_verb(&name[..4], verb));
    name.len() < verb.len() && !name.is_empty() && !glued
}

/// Whether no command begins with this octet: the first octets of TLS, SOCKS, RDP and other
/// binary protocols, whose clients then wait for an answer and send no line.
pub(super) fn is_binary(octet: u8) -> bool {
    !octet.is_ascii_graphic() && !octet.is_ascii_whitespace()
}

/// The argument as text; octets above 127 need SMTPUTF8, which is not offered.
fn text(argument: &[u8]) -> Result<&str, Reply> {
    match std::str::from_utf8(argument) {
        Ok(text) if text.is_ascii() => Ok(text.trim_end_matches([' ', '\t'])),
        _ => Err(reply::NOT_ASCII),
    }
}

fn alone(argument: &[u8], command: Command) -> Result<Command, Reply> {
    if argument.trim_ascii().is_empty() { Ok(command) } else { Err(reply::NO_ARGUMENT) }
}

/// The name a client gives itself. Wrong names are common and prove nothing
/// (RFC 5321 section 4.1.4 forbids to refuse them). What may not stand in a trace
/// field is replaced, or refused where `any` name is not taken.
fn host_name(argument: &[u8], any: bool) -> Result<String, Reply> {
    let name = argument.trim_ascii();
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    if name.is_empty() || name.len() > limits::DOMAIN || !(any || name.iter().all(good)) {
        return Err(reply::BAD_ARGUMENT);
    }
    Ok(name.iter().map(|byte| if good(byte) { char::from(*byte) } else { '?' }).collect())
}

/// ` FROM:<path> [parameters]`. Spaces behind the colon are against RFC 5321
/// section 3.3 and common; they are ambiguous with nothing.
fn parse_mail(argument: &str, customs: AddressCustoms) -> Result<Command, Reply> {
    let path = strip_keyword(argument, "FROM:").ok_or(reply::BAD_ARGUMENT)?;
    let (path, rest) = ReversePath::take(path, customs)
        .map_err(|error| address_reply(error, reply::BAD_SENDER))?;
    let mut parameters = MailParameters::default();
    for (keyword, value) in split_parameters(rest, reply::BAD_SENDER)? {
        parameters.take(keyword, value)?;
    }
    Ok(Command::Mail(path, parameters))
}

/// ` TO:<path>`; no extension offered here has parameters for RCPT.
fn parse_rcpt(argument: &str, customs: AddressCustoms) -> Result<Command, Reply> {
    let path = strip_keyword(argument, "TO:").ok_or(reply::BAD_ARGUMENT)?;
    let (path, rest) = ForwardPath::take(path, customs)
        .map_err(|error| address_reply(error, reply::BAD_RECIPIENT))?;
    if split_parameters(rest, reply::BAD_RECIPIENT)?.next().is_some() {
        return Err(reply::UNKNOWN_PARAMETER);
    }
    Ok(Command::Rcpt(path))
}

fn strip_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let argument = argument.trim_start_matches(' ');
    let (found, rest) = argument.split_at_checked(keyword.len())?;
    found.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

fn address_reply(error: AddressError, syntax: Reply) -> Reply {
    match error {
        AddressError::Syntax => syntax,
        AddressError::TooLong => reply::PATH_TOO_LONG,
        AddressError::NotAscii => reply::NOT_ASCII,
    }
}

/// `*(SP keyword ["=" value])`; what is glued to the path belongs to no
/// parameter, so it makes the path bad.
fn split_parameters(
    rest: &str,
    glued: Reply,
) -> Result<impl Iterator<Item = (&str, Option<&str>)>, Reply> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(glued);
    }
    let words = rest.split(' ').filter(|word| !word.is_empty());
    Ok(words.map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    }))
}

impl MailParameters {
    fn take(&mut self, keyword: &str, value: Option<&str>) -> Result<(), Reply> {
        if keyword.eq_ignore_ascii_case("SIZE") {
            let size = value.and_then(parse_size).ok_or(reply::BAD_PARAMETER)?;
            return if self.size.replace(size).is_none() {
                Ok(())
            } else {
                Err(reply::BAD_PARAMETER)
            };
        }
        if keyword.eq_ignore_ascii_case("BODY") {
            let known = |value: &str| {
                value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME")
            };
            let good = value.is_some_and(known) && !self.body;
            self.body = true;
            return if good { Ok(()) } else { Err(reply::BAD_PARAMETER) };
        }
        Err(reply::UNKNOWN_PARAMETER)
    }
}

/// One to twenty digits (RFC 1870 section 5); what no 64 bits hold is far above
/// any limit and stays so.
fn parse_size(digits: &str) -> Option<u64> {
    let good = (1..=limits::SIZE_DIGITS).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Whether a client's name has the form RFC 5321 section 4.1.2 wants.
pub(crate) fn is_proper_name(name: &str) -> bool {
    address::check_domain(name, AddressCustoms::NONE).is_ok()
        || address::check_literal(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the letter of the standard.
    fn parse(line: &[u8]) -> Result<Command, Reply> {
        Command::parse(line, ClientCustoms { addresses: AddressCustoms::NONE, hello: false })
    }

    fn refused(line: &str) -> u16 {
        match parse(line.as_bytes()) {
            Ok(command) => panic!("{line} was taken as {command:?}"),
            Err(reply) => reply.code,
        }
    }

    #[test]
    fn commands_are_read_in_any_case_and_with_trailing_space() {
        assert_eq!(parse(b"quit"), Ok(Command::Quit));
        assert_eq!(parse(b"Data \t"), Ok(Command::Data));
        assert_eq!(parse(b"NOOP with text"), Ok(Command::Noop));
        assert_eq!(parse(b"ehlo [127.0.0.1] "), Ok(Command::Ehlo("[127.0.0.1]".into())));
        let Ok(Command::Mail(path, parameters)) =
            parse(b"mail from: <a@b.org>  size=12 body=8bitmime ")
        else {
            panic!("not read")
        };
        assert_eq!(path.to_string(), "<a@b.org>");
        assert_eq!(parameters, MailParameters { size: Some(12), body: true });
    }

    #[test]
    fn faulty_commands_get_the_code_that_fits() {
        let cases = [
            (500, "BLAH"),
            (500, ""),
            (500, "MAILFROM:<a@b.org>"),
            (501, "MAIL"),
            (501, "MAIL FROM"),
            (501, "MAIL TO:<a@b.org>"),
            (501, "MAIL FROM:a@b.org"),
            (501, "MAIL FROM :<a@b.org>"),
            (501, "MAIL FROM:<a@b.org>SIZE=1"),
            (501, "MAIL FROM:<> SIZE"),
            (501, "MAIL FROM:<> SIZE="),
            (501, "MAIL FROM:<> SIZE=-1"),
            (501, "MAIL FROM:<> SIZE=1 SIZE=1"),
            (501, "MAIL FROM:<> SIZE=123456789012345678901"),
            (501, "MAIL FROM:<> BODY=BINARYMIME"),
            (501, "MAIL FROM:<> BODY=7BIT BODY=7BIT"),
            (555, "MAIL FROM:<> SMTPUTF8"),
            (555, "MAIL FROM:<> AUTH=<>"),
            (553, "MAIL FROM:<ä@b.org>"),
            (501, "RCPT TO:<>"),
            (555, "RCPT TO:<a@b.org> NOTIFY=NEVER"),
            (501, "DATA x"),
            (501, "RSET x"),
            (501, "QUIT x"),
            (501, "EHLO"),
            (501, "EHLO a b"),
            (501, "HELO (a)"),
            (501, "VRFY"),
            (502, "EXPN list"),
            (502, "STARTTLS"),
            (502, "AUTH PLAIN"),
            (502, "BDAT 1 LAST"),
            (500, "GET / HTTP/1.1"),
        ];
        for (code, line) in cases {
            assert_eq!(refused(line), code, "{line}");
        }
    }

    #[test]
    fn any_name_is_taken_in_ehlo_unless_that_is_switched_off() {
        let taken = |line: &str| Command::parse(line.as_bytes(), ClientCustoms::default());
        assert_eq!(taken("EHLO my pc (x)"), Ok(Command::Ehlo("my?pc??x?".into())));
        assert_eq!(taken("HELO m\u{fc}"), Ok(Command::Helo("m??".into())));
        assert_eq!(taken("EHLO DESKTOP-1"), Ok(Command::Ehlo("DESKTOP-1".into())));
        assert_eq!(taken("EHLO "), Err(reply::BAD_ARGUMENT));
        assert_eq!(taken(&format!("EHLO {}", "x".repeat(300))), Err(reply::BAD_ARGUMENT));
        assert!(parse(b"EHLO my_pc").is_ok());
        assert_eq!(refused("EHLO my pc"), 501);
    }

    #[test]
    fn other_protocols_are_known_by_their_first_line_and_smtp_is_none_of_them() {
        let others = [
            "GET / HTTP/1.1",
            "post /x",
            "PROPFIND / HTTP/1.0",
            "Host: x",
            "Content-Length:7",
            "SSH-2.0-x",
            "PRI * HTTP/2.0",
        ];
        for line in others {
            assert!(is_other_protocol(line.as_bytes()), "{line}");
        }
        for line in ["EHLO x", "MAIL FROM:<a@b.org>", "RCPT TO: <a@b>", "QUIT", "", "NOOP http"] {
            assert!(!is_other_protocol(line.as_bytes()), "{line}");
        }
        assert!([0x16, 0x80, 0x03, 0x05, 0x00, 0xe4].into_iter().all(is_binary));
        assert!(!b"EHLO \t\r\n{*".iter().any(|octet| is_binary(*octet)));
    }

    #[test]
    fn a_size_of_twenty_digits_is_read() {
        assert_eq!(parse_size("99999999999999999999"), Some(u64::MAX));
        assert_eq!(parse_size("00000000000000000001"), Some(1));
    }

    #[test]
    fn only_mail_may_have_a_line_above_the_common_limit() {
        let noop = |len: usize| format!("NOOP {}", "x".repeat(len - 7));
        assert!(parse(noop(limits::COMMAND_LINE).as_bytes()).is_ok());
        assert_eq!(refused(&noop(limits::COMMAND_LINE + 1)), 500);
        let mail = format!("MAIL FROM:<>{}SIZE=1", " ".repeat(limits::COMMAND_LINE));
        assert!(parse(mail.as_bytes()).is_ok());
    }
}
