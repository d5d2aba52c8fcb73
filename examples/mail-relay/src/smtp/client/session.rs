//! The session itself: what is sent when, and what each reply means.

use std::collections::VecDeque;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use super::reply::{Reply, ReplyReader};
use super::stuffing::stuff;
use super::{
    Action, ClientConfig, CloseCause, Delivery, HopReply, Input, Outcome, Report, SessionFailure,
};
use crate::limits;

/// One connection to a next hop. Plain data, so that it can be frozen at any
/// moment.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ClientSession {
    reader: ReplyReader,
    /// What the next replies answer, in order. Its front says where the session
    /// stands; empty and ready means idle.
    awaited: VecDeque<Awaited>,
    hop: Hop,
    mail: Option<Mail>,
    quitting: bool,
    closed: bool,
    deadline: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
enum Awaited {
    Greeting,
    Ehlo,
    Helo,
    Rset,
    Mail,
    Rcpt(u32),
    Data,
    FinalDot,
    Quit,
}

/// What the hop said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
struct Hop {
    /// EHLO or HELO was answered.
    ready: bool,
    pipelining: bool,
    eight_bit: bool,
    /// SIZE is offered; 0 is no limit (RFC 1870 section 4).
    size: Option<u64>,
    /// A mail was begun there and not ended: RSET comes before the next one.
    unfinished: bool,
    /// It took the sender of a mail on this connection, so that it may refuse the next one only
    /// because of the mails before it, or of the time since.
    has_served: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Mail {
    delivery: Delivery,
    states: Vec<RecipientState>,
    /// The connection had served a mail before this one.
    reused: bool,
    /// MAIL was accepted.
    begun: bool,
    /// The hop refused, and what it said is not about the mail.
    refused: Option<HopReply>,
}

#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
enum RecipientState {
    Undecided,
    /// The hop took the recipient; its fate is the mail's.
    Taken,
    Decided(Outcome),
}

impl ClientSession {
    /// A session over a connection that has just been begun; it waits for
    /// the greeting.
    pub fn open(now: u64) -> ClientSession {
        ClientSession {
            reader: ReplyReader::default(),
            awaited: VecDeque::from([Awaited::Greeting]),
            hop: Hop::default(),
            mail: None,
            quitting: false,
            closed: false,
            deadline: now.saturating_add(limits::CLIENT_GREETING),
        }
    }

    /// Takes one input and gives what follows from it. A closed session only
    /// ever answers [`Input::Deliver`].
    pub fn handle(&mut self, config: &ClientConfig, now: u64, input: Input<'_>) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Deliver(delivery) if !self.is_free() => out.push(Action::Done(Report {
                token: delivery.token,
                outcomes: vec![None; delivery.recipients.len()],
                failure: Some(SessionFailure::Lost("the session is not free".to_owned())),
                in_doubt: false,
            })),
            _ if self.closed => {}
            Input::Deliver(delivery) => {
                let states = vec![RecipientState::Undecided; delivery.recipients.len()];
                let reused = self.hop.has_served;
                self.mail = Some(Mail { delivery, states, reused, begun: false, refused: None });
                self.go_on(now, &mut out);
            }
            Input::Connected => self.set_deadline(now),
            Input::Data(bytes) => self.on_data(config, now, bytes, &mut out),
            Input::Deadline => self.on_deadline(now, &mut out),
            Input::Closed(CloseCause::FarEnd(reason)) => {
                self.give_up(SessionFailure::Lost(reason.to_owned()), &mut out);
            }
            Input::Closed(CloseCause::CarrierLost) => {
                self.give_up(SessionFailure::CarrierLost, &mut out);
            }
            Input::Quit => {
                self.quitting = true;
                self.go_on(now, &mut out);
            }
        }
        out
    }

    /// When to give [`Input::Deadline`]; `None` while idle or over.
    pub fn deadline(&self) -> Option<u64> {
        (!self.closed && !self.awaited.is_empty()).then_some(self.deadline)
    }

    /// Whether a mail may be given.
    pub fn is_free(&self) -> bool {
        self.mail.is_none() && !self.quitting && !self.closed
    }

    /// Whether the hop has answered EHLO or HELO.
    pub fn is_ready(&self) -> bool {
        self.hop.ready
    }

    /// Whether all of the mail has been given to the caller, and the hop's verdict is awaited. From
    /// then on only the hop knows whether it has the mail (RFC 1047).
    pub fn is_data_sent(&self) -> bool {
        self.awaited.contains(&Awaited::FinalDot) && self.is_any_taken()
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn on_data(
        &mut self,
        config: &ClientConfig,
        now: u64,
        mut bytes: &[u8],
        out: &mut Vec<Action>,
    ) {
        while !self.closed {
            let reply = match self.reader.take(&mut bytes, config.customs) {
                None => return,
                Some(Ok(reply)) => reply,
                Some(Err(fault)) => return self.fail(SessionFailure::Protocol(fault), out),
            };
            let awaited = self.awaited.front().copied();
            if awaited == Some(Awaited::Quit) {
                return self.close(out);
            }
            if reply.code == 421 {
                let text = describe(&reply);
                return self.fail(SessionFailure::Closing(text), out);
            }
            let Some(awaited) = awaited else {
                return self.fail(SessionFailure::Protocol("a reply that nothing asked for"), out);
            };
            self.awaited.pop_front();
            match self.on_reply(config, now, awaited, &reply, out) {
                Ok(()) => self.set_deadline(now),
                Err(failure) => {
                    // Not answered by that.
                    self.awaited.push_front(awaited);
                    return self.fail(failure, out);
                }
            }
        }
    }

    /// No process ran for so long, so that the server was not heard: it has as much longer.
    pub fn skip(&mut self, gap: u64) {
        self.deadline = self.deadline.saturating_add(gap);
    }

    fn on_deadline(&mut self, now: u64, out: &mut Vec<Action>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.fail(SessionFailure::TimedOut, out);
        }
    }

    fn on_reply(
        &mut self,
        config: &ClientConfig,
        now: u64,
        awaited: Awaited,
        reply: &Reply,
        out: &mut Vec<Action>,
    ) -> Result<(), SessionFailure> {
        match awaited {
            Awaited::Greeting => {
                accept_hello(reply)?;
                self.send(now, format!("EHLO {}\r\n", config.hostname), Awaited::Ehlo, out);
            }
            Awaited::Ehlo if reply.code / 100 == 5 => {
                self.send(now, format!("HELO {}\r\n", config.hostname), Awaited::Helo, out);
            }
            Awaited::Ehlo | Awaited::Helo => {
                accept_hello(reply)?;
                self.hop = Hop { ready: true, ..Hop::default() };
                if awaited == Awaited::Ehlo {
                    self.hop.read_extensions(reply);
                }
                self.go_on(now, out);
            }
            Awaited::Rset => {
                self.hop.unfinished = false;
                self.go_on(now, out);
            }
            Awaited::Mail => self.on_mail_reply(now, reply, out)?,
            Awaited::Rcpt(number) => self.on_rcpt_reply(now, number, reply, out)?,
            Awaited::Data => self.on_data_reply(now, reply, out)?,
            Awaited::FinalDot => {
                self.hop.unfinished = false;
                self.decide_taken(&outcome(reply)?);
                self.finish_mail(now, out);
            }
            Awaited::Quit => {}
        }
        Ok(())
    }

    fn on_mail_reply(
        &mut self,
        now: u64,
        reply: &Reply,
        out: &mut Vec<Action>,
    ) -> Result<(), SessionFailure> {
        let outcome = outcome(reply)?;
        let Some(mail) = &mut self.mail else { return Ok(()) };
        if outcome == Outcome::Delivered {
            mail.begun = true;
            self.hop.unfinished = true;
            self.hop.has_served = true;
            if !self.hop.pipelining {
                self.send_rcpt(now, 0, out);
            }
            return Ok(());
        }
        // A server may end a session when it likes (RFC 5321 section 3.8), and some say it with
        // other codes than 421. What a used connection says of a sender is asked of a new one.
        let about_session = reply.is_about_the_session() || reply.code == 521;
        let again = mail.reused || about_session;
        self.quitting = again || reply.code / 100 == 4;
        if again {
            mail.refused = Some(reply.to_hop_reply());
        } else {
            mail.states.fill(RecipientState::Decided(outcome));
        }
        if self.awaited.is_empty() {
            self.finish_mail(now, out);
        }
        Ok(())
    }

    fn on_rcpt_reply(
        &mut self,
        now: u64,
        number: u32,
        reply: &Reply,
        out: &mut Vec<Action>,
    ) -> Result<(), SessionFailure> {
        let decided = match outcome(reply)? {
            Outcome::Delivered => RecipientState::Taken,
            // Old servers say 552 for "too many recipients" (RFC 5321 section 4.5.3.1.10).
            Outcome::Permanent(text) if text.code == 552 => {
                RecipientState::Decided(Outcome::Transient(text))
            }
            outcome => RecipientState::Decided(outcome),
        };
        let Some(mail) = &mut self.mail else { return Ok(()) };
        let is_open = mail.begun && mail.refused.is_none();
        if is_open && reply.is_about_the_session() {
            self.refuse(reply);
        } else if let Some(state) = mail.states.get_mut(number as usize)
            && is_open
            && *state == RecipientState::Undecided
        {
            *state = decided;
        }
        if self.hop.pipelining {
            return Ok(());
        }
        let refused = self.mail.as_ref().is_some_and(|mail| mail.refused.is_some());
        if !refused && (number as usize + 1) < self.states().len() {
            self.send_rcpt(now, number + 1, out);
        } else if self.is_any_taken() {
            self.send(now, "DATA\r\n".to_owned(), Awaited::Data, out);
        } else {
            self.finish_mail(now, out);
        }
        Ok(())
    }

    fn on_data_reply(
        &mut self,
        now: u64,
        reply: &Reply,
        out: &mut Vec<Action>,
    ) -> Result<(), SessionFailure> {
        if reply.code != 354 {
            let refused = outcome(reply)?;
            if refused == Outcome::Delivered {
                return Err(SessionFailure::Protocol("DATA was answered with a 2xx reply"));
            }
            if self.is_any_taken() && reply.is_about_the_session() {
                self.refuse(reply);
            }
            self.decide_taken(&refused);
            self.finish_mail(now, out);
            return Ok(());
        }
        let refused = self.mail.as_ref().and_then(|mail| mail.refused.as_ref());
        if let Some(refused) = refused {
            // It may have taken a recipient before it refused, who would get an empty mail.
            return Err(SessionFailure::Unreachable(refused.to_string()));
        }
        if self.is_any_taken() {
            let mail = self.mail.as_ref();
            let pieces = mail.map(|mail| stuff(&mail.delivery.message)).unwrap_or_default();
            out.extend(pieces.into_iter().map(Action::Send));
        } else {
            // DATA went out before the refusals came in: an empty mail to
            // nobody is how to take it back (RFC 2920 section 3.1).
            out.push(Action::Send(Bytes::from_static(b".\r\n")));
        }
        self.awaited.push_back(Awaited::FinalDot);
        Ok(())
    }

    /// Begins whatever can be begun in an idle session.
    fn go_on(&mut self, now: u64, out: &mut Vec<Action>) {
        let idle = self.hop.ready && self.awaited.is_empty();
        match (&self.mail, self.quitting) {
            (None, true) if idle => self.send(now, "QUIT\r\n".to_owned(), Awaited::Quit, out),
            (None, true) if !self.hop.ready => self.close(out),
            (Some(_), _) if idle => self.begin_mail(now, out),
            _ => {}
        }
    }

    fn begin_mail(&mut self, now: u64, out: &mut Vec<Action>) {
        if self.hop.unfinished {
            return self.send(now, "RSET\r\n".to_owned(), Awaited::Rset, out);
        }
        let Some(mail) = &self.mail else { return };
        if let Some(refusal) = self.hop.cannot_take(&mail.delivery) {
            for state in self.states() {
                *state = RecipientState::Decided(Outcome::Permanent(refusal.clone()));
            }
            return self.finish_mail(now, out);
        }
        let mut commands = self.hop.mail_command(&mail.delivery);
        self.awaited.push_back(Awaited::Mail);
        if self.hop.pipelining {
            for (number, recipient) in (0..).zip(&mail.delivery.recipients) {
                commands.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
                self.awaited.push_back(Awaited::Rcpt(number));
            }
            commands.push_str("DATA\r\n");
            self.awaited.push_back(Awaited::Data);
        }
        out.push(Action::Send(Bytes::from(commands)));
        self.set_deadline(now);
    }

    fn send_rcpt(&mut self, now: u64, number: u32, out: &mut Vec<Action>) {
        let Some(mail) = &self.mail else { return };
        let Some(recipient) = mail.delivery.recipients.get(number as usize) else {
            return self.finish_mail(now, out);
        };
        let command = format!("RCPT TO:<{recipient}>\r\n");
        self.send(now, command, Awaited::Rcpt(number), out);
    }

    fn send(&mut self, now: u64, command: String, awaited: Awaited, out: &mut Vec<Action>) {
        out.push(Action::Send(Bytes::from(command)));
        self.awaited.push_back(awaited);
        self.set_deadline(now);
    }

    fn set_deadline(&mut self, now: u64) {
        let Some(awaited) = self.awaited.front() else { return };
        let allowed = match awaited {
            Awaited::Greeting => limits::CLIENT_GREETING,
            Awaited::Ehlo | Awaited::Helo | Awaited::Rset => limits::CLIENT_HELLO,
            Awaited::Mail => limits::CLIENT_MAIL,
            Awaited::Rcpt(_) => limits::CLIENT_RCPT,
            Awaited::Data => limits::CLIENT_DATA,
            Awaited::FinalDot => self.data_time(),
            Awaited::Quit => limits::CLIENT_QUIT,
        };
        self.deadline = now.saturating_add(allowed);
    }

    fn data_time(&self) -> u64 {
        let size = self.mail.as_ref().map_or(0, |mail| mail.delivery.message.size());
        let blocks = size.div_ceil(limits::CLIENT_BLOCK_BYTES);
        let sending = blocks.saturating_mul(limits::CLIENT_BLOCK);
        sending.saturating_add(limits::CLIENT_FINAL_DOT).min(limits::CLIENT_DATA_MOST)
    }

    fn states(&mut self) -> &mut [RecipientState] {
        self.mail.as_mut().map_or(&mut [], |mail| &mut mail.states)
    }

    fn is_any_taken(&self) -> bool {
        let taken = |mail: &Mail| mail.states.contains(&RecipientState::Taken);
        self.mail.as_ref().is_some_and(taken)
    }

    fn decide_taken(&mut self, outcome: &Outcome) {
        for state in self.states() {
            if *state == RecipientState::Taken {
                *state = RecipientState::Decided(outcome.clone());
            }
        }
    }

    /// The hop takes no mail at all, or none on this connection: no recipient is refused by that.
    fn refuse(&mut self, reply: &Reply) {
        self.quitting = true;
        let Some(mail) = &mut self.mail else { return };
        mail.refused = Some(reply.to_hop_reply());
        for state in &mut mail.states {
            if *state == RecipientState::Taken {
                *state = RecipientState::Undecided;
            }
        }
    }

    fn finish_mail(&mut self, now: u64, out: &mut Vec<Action>) {
        let refused =
            self.mail.as_ref().and_then(|mail| Some((mail.refused.clone()?, mail.reused)));
        let failure = refused.map(|(reply, reused)| match reused {
            true => SessionFailure::Worn(reply.to_string()),
            false => SessionFailure::Unreachable(reply.to_string()),
        });
        self.report(failure, out);
        self.go_on(now, out);
    }

    fn report(&mut self, failure: Option<SessionFailure>, out: &mut Vec<Action>) {
        let in_doubt = failure.is_some() && self.is_data_sent();
        let Some(mail) = self.mail.take() else { return };
        let outcomes = mail.states.into_iter().map(|state| match state {
            RecipientState::Decided(outcome) => Some(outcome),
            RecipientState::Undecided | RecipientState::Taken => None,
        });
        let outcomes = outcomes.collect();
        out.push(Action::Done(Report { token: mail.delivery.token, outcomes, failure, in_doubt }));
    }

    /// Ends a session that cannot go on, from our side.
    fn fail(&mut self, failure: SessionFailure, out: &mut Vec<Action>) {
        self.give_up(failure, out);
        out.push(Action::Close);
    }

    fn give_up(&mut self, failure: SessionFailure, out: &mut Vec<Action>) {
        let failure = self.blame(failure);
        self.report(Some(failure), out);
        self.closed = true;
        self.awaited.clear();
        self.reader = ReplyReader::default();
    }

    /// Whose fault the end of the session is: our own, the hop's, the connection's, or perhaps
    /// the mail's.
    fn blame(&self, failure: SessionFailure) -> SessionFailure {
        use SessionFailure::{CarrierLost, Closing, Lost, Unreachable, Worn};
        if failure == CarrierLost {
            return failure;
        }
        let text = match &failure {
            Unreachable(text) | Lost(text) | Closing(text) => text.clone(),
            failure => failure.to_string(),
        };
        let Some(mail) = self.mail.as_ref().filter(|_| self.hop.ready) else {
            return Unreachable(text);
        };
        let sent = self.is_data_sent();
        match failure {
            failure if sent => failure,
            _ if mail.reused => Worn(text),
            // The hop said nothing about a mail yet, and would do this to any of them. One that
            // only broke off may have had its reasons.
            failure if mail.begun || matches!(failure, Lost(_)) => failure,
            _ => Unreachable(text),
        }
    }

    fn close(&mut self, out: &mut Vec<Action>) {
        self.closed = true;
        self.awaited.clear();
        out.push(Action::Close);
    }
}

impl Hop {
    /// Reads the lines behind the first one of an EHLO reply.
    fn read_extensions(&mut self, reply: &Reply) {
        for line in reply.lines.iter().skip(1) {
            let mut words = line.split(' ');
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => self.pipelining = true,
                "8BITMIME" => self.eight_bit = true,
                "SIZE" => {
                    let limit = words.next().and_then(|digits| digits.parse().ok());
                    self.size = Some(limit.unwrap_or(0));
                }
                _ => {}
            }
        }
    }

    /// Why the hop cannot be given a mail at all.
    fn cannot_take(&self, delivery: &Delivery) -> Option<HopReply> {
        let own = |status: &str, text: &str| {
            Some(HopReply { code: 0, status: status.to_owned(), text: text.to_owned() })
        };
        if delivery.message.eight_bit && !self.eight_bit {
            // Conversion would be the other way out (RFC 6152 section 3).
            return own("5.6.3", "the mail has 8-bit octets and the next hop lacks 8BITMIME");
        }
        match self.size {
            Some(limit) if limit > 0 && delivery.message.size() > limit => {
                own("5.3.4", "the mail is larger than the next hop takes")
            }
            _ => None,
        }
    }

    fn mail_command(&self, delivery: &Delivery) -> String {
        let mut command = format!("MAIL FROM:{}", delivery.from);
        if self.size.is_some() {
            command.push_str(&format!(" SIZE={}", delivery.message.size()));
        }
        if delivery.message.eight_bit {
            command.push_str(" BODY=8BITMIME");
        }
        command.push_str("\r\n");
        command
    }
}

/// Anything but 2xx ends the session before it began. That is never held
/// against a mail, even where the code is 5xx: one wrong setting at the only
/// next hop must not bounce all mail there is.
fn accept_hello(reply: &Reply) -> Result<(), SessionFailure> {
    if reply.is_good() { Ok(()) } else { Err(SessionFailure::Unreachable(describe(reply))) }
}

fn outcome(reply: &Reply) -> Result<Outcome, SessionFailure> {
    match reply.code / 100 {
        2 => Ok(Outcome::Delivered),
        4 => Ok(Outcome::Transient(reply.to_hop_reply())),
        5 => Ok(Outcome::Permanent(reply.to_hop_reply())),
        _ => Err(SessionFailure::Protocol("a 3xx reply where none belongs")),
    }
}

fn describe(reply: &Reply) -> String {
    reply.to_hop_reply().to_string()
}
