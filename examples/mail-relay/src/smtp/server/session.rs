//! The session itself: which command is taken when, and what each one does.

use std::net::IpAddr;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use super::command::{Command, MailParameters, has_verb, is_binary, is_other_protocol};
use super::data::DataReader;
use super::reply::{self, Reply};
use super::{AcceptedMail, Action, Client, Input, Refusal, Surroundings, Verdict};
use crate::limits;
use crate::smtp::Message;
use crate::smtp::address::{ForwardPath, Mailbox, ReversePath};
use crate::smtp::lines::{LineFault, LineReader};

/// One client's session. Plain data, so that it can be frozen at any moment.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ServerSession {
    peer: IpAddr,
    hello: Option<Hello>,
    phase: Phase,
    lines: LineReader,
    /// Input behind a mail that waits for its verdict.
    held: Vec<u8>,
    held_too_much: bool,
    errors: u32,
    /// Recipients refused, each for itself.
    refusals: u32,
    /// The last MAIL was refused: what was sent behind it makes no sense, and is no fault.
    sender_refused: bool,
    /// Recipients that were there already, or beyond what one mail may have.
    surplus: u32,
    idle_commands: u32,
    /// Mails refused for now, through no fault of the client.
    put_off: u32,
    /// Mails refused because the client's block of addresses had its share of the queue.
    over_share: u64,
    /// When the client will have been silent for too long.
    deadline: u64,
    /// When the session will have lasted for too long.
    until: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Hello {
    name: String,
    extended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
enum Phase {
    /// No mail is begun.
    Ready,
    /// MAIL was taken.
    Envelope(Envelope),
    /// DATA was taken; `until` bounds all of it.
    Data {
        envelope: Envelope,
        reader: DataReader,
        until: u64,
    },
    /// A mail was given to the caller.
    Waiting,
    Closed {
        at_fault: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Envelope {
    from: ReversePath,
    recipients: Vec<Mailbox>,
    /// What the recipients take, kept beside them because it is asked for often.
    bytes: u64,
}

/// Actions of one call. Replies are joined until something else comes, so that
/// a group of commands is answered in one piece (RFC 2920 section 3.2).
#[derive(Default)]
struct Output {
    actions: Vec<Action>,
    replies: Vec<u8>,
}

impl Output {
    fn push(&mut self, action: Action) {
        self.flush();
        self.actions.push(action);
    }

    fn flush(&mut self) {
        if !self.replies.is_empty() {
            self.actions.push(Action::Reply(Bytes::from(std::mem::take(&mut self.replies))));
        }
    }
}

impl ServerSession {
    /// Begins a session with a client at `peer`; the actions are the greeting.
    pub fn open(env: Surroundings<'_>, peer: IpAddr) -> (ServerSession, Vec<Action>) {
        let session = ServerSession {
            peer: peer.to_canonical(),
            hello: None,
            phase: Phase::Ready,
            lines: LineReader::default(),
            held: Vec::new(),
            held_too_much: false,
            errors: 0,
            refusals: 0,
            sender_refused: false,
            surplus: 0,
            idle_commands: 0,
            put_off: 0,
            over_share: 0,
            deadline: env.now.saturating_add(env.idle),
            until: env.now.saturating_add(env.config.session),
        };
        let greeting = format!("220 {} ESMTP mail-relay\r\n", env.config.hostname);
        (session, vec![Action::Reply(Bytes::from(greeting))])
    }

    /// Takes one input and gives what follows from it. A closed session gives
    /// nothing any more.
    pub fn handle(&mut self, env: Surroundings<'_>, input: Input<'_>) -> Vec<Action> {
        let mut out = Output::default();
        match input {
            Input::Data(bytes) => self.on_data(env, bytes, &mut out),
            Input::Verdict(verdict) => self.on_verdict(env, verdict, &mut out),
            Input::Deadline => self.on_deadline(env, &mut out),
            Input::Stop => self.end(&reply::STOPPING, &mut out),
            Input::NoRoom => self.end(&reply::NO_ROOM, &mut out),
        }
        out.flush();
        out.actions
    }

    /// When to give [`Input::Deadline`]; `None` while the caller is awaited or
    /// the session is over.
    pub fn deadline(&self) -> Option<u64> {
        match &self.phase {
            Phase::Waiting | Phase::Closed { .. } => None,
            Phase::Data { until, .. } => Some(self.deadline.min(*until)),
            Phase::Ready | Phase::Envelope(_) => Some(self.deadline.min(self.until)),
        }
    }

    /// The client may be silent until then at most, until it says something.
    pub fn hurry(&mut self, until: u64) {
        self.deadline = self.deadline.min(until);
    }

    /// Where the client is.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether the session was ended for what the client did: errors, another protocol, commands
    /// that bring no mail. Silence is no fault.
    pub fn is_at_fault(&self) -> bool {
        matches!(self.phase, Phase::Closed { at_fault: true })
    }

    /// How many mails were refused because the client's block of addresses had its share of the
    /// queue.
    pub fn over_share(&self) -> u64 {
        self.over_share
    }

    /// Whether a mail waits for its verdict. Input given meanwhile is kept, up
    /// to [`limits::HELD_INPUT`]; a caller that can, stops reading.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting)
    }

    /// Whether [`Action::Close`] has been given.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    /// Octets this session holds: what a service adds up to bound its memory.
    pub fn held_bytes(&self) -> u64 {
        let mail = match &self.phase {
            Phase::Envelope(envelope) => envelope.bytes,
            Phase::Data { envelope, reader, .. } => envelope.bytes + reader.held_bytes(),
            Phase::Ready | Phase::Waiting | Phase::Closed { .. } => 0,
        };
        mail + self.held.len() as u64
    }

    fn on_data(&mut self, env: Surroundings<'_>, mut bytes: &[u8], out: &mut Output) {
        while !bytes.is_empty() {
            match &mut self.phase {
                Phase::Closed { .. } => return,
                Phase::Waiting => return self.hold(bytes),
                Phase::Data { reader, .. } => {
                    self.deadline = env.now.saturating_add(env.idle);
                    if reader.take(&mut bytes) {
                        self.on_data_end(env, out);
                    }
                }
                Phase::Ready | Phase::Envelope(_) => {
                    let is_start = self.hello.is_none() && self.lines.is_at_start();
                    if is_start && bytes.first().is_some_and(|octet| is_binary(*octet)) {
                        return self.end_at_fault(&reply::OTHER_PROTOCOL, out);
                    }
                    if let Some(line) = self.lines.take(&mut bytes) {
                        self.on_line(env, line, out);
                    }
                }
            }
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held_too_much |= self.held.len() + bytes.len() > limits::HELD_INPUT;
        if self.held_too_much {
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    /// No process ran for so long, so that the client was not heard: it has as much longer.
    pub fn skip(&mut self, gap: u64) {
        self.deadline = self.deadline.saturating_add(gap);
        self.until = self.until.saturating_add(gap);
        if let Phase::Data { until, .. } = &mut self.phase {
            *until = until.saturating_add(gap);
        }
    }

    fn on_deadline(&mut self, env: Surroundings<'_>, out: &mut Output) {
        if self.deadline().is_none_or(|deadline| deadline > env.now) {
            return;
        }
        let was_silent = self.deadline <= env.now || matches!(self.phase, Phase::Data { .. });
        let reply = if was_silent { reply::IDLE } else { reply::SESSION_OVER };
        self.end(&reply, out);
    }

    fn on_verdict(&mut self, env: Surroundings<'_>, verdict: Verdict<'_>, out: &mut Output) {
        if !self.is_waiting() {
            return;
        }
        self.phase = Phase::Ready;
        self.deadline = env.now.saturating_add(env.idle);
        self.idle_commands = 0;
        match verdict {
            Verdict::Queued(id) => {
                // A client that brings mail is none that those limits are meant for.
                (self.errors, self.refusals, self.surplus, self.put_off) = (0, 0, 0, 0);
                Reply::queued(id).write(&mut out.replies);
            }
            Verdict::Refused(Refusal::QueueFull) => {
                self.put_off += 1;
                reply::QUEUE_FULL.write(&mut out.replies);
            }
            Verdict::Refused(Refusal::OverShare) => {
                self.put_off += 1;
                self.over_share += 1;
                reply::OVER_SHARE.write(&mut out.replies);
            }
            Verdict::Refused(Refusal::Loop) => reply::LOOP.write(&mut out.replies),
        }
        if self.held_too_much {
            return self.end_at_fault(&reply::TOO_MUCH_AHEAD, out);
        }
        let held = std::mem::take(&mut self.held);
        self.on_data(env, &held, out);
    }

    fn on_line(
        &mut self,
        env: Surroundings<'_>,
        line: Result<Vec<u8>, LineFault>,
        out: &mut Output,
    ) {
        self.deadline = env.now.saturating_add(env.idle);
        let of_recipient = self.is_about_a_recipient(&line);
        let may_be_mail = line
            .as_ref()
            .map_or_else(|fault| *fault == LineFault::TooLong, |line| has_verb(line, "MAIL"));
        let result = match line {
            Ok(line) if is_other_protocol(&line) => {
                return self.end_at_fault(&reply::OTHER_PROTOCOL, out);
            }
            Ok(line) => Command::parse(&line, env.config.customs),
            Err(LineFault::TooLong) => Err(reply::LINE_TOO_LONG),
            Err(LineFault::BareControl) => {
                // A client that cuts lines otherwise than we do may mean another mail.
                self.phase = Phase::Ready;
                Err(reply::BARE_CONTROL)
            }
        };
        let result = result.and_then(|command| self.on_command(env, command, out));
        if may_be_mail && self.hello.is_some() {
            self.sender_refused = matches!(self.phase, Phase::Ready);
        }
        match result {
            Ok(()) => self.check_idle_commands(env, out),
            Err(reply) if of_recipient => {
                reply.write(&mut out.replies);
                self.refusals += 1;
                self.check_idle_commands(env, out);
            }
            Err(reply) => self.on_error(&reply, out),
        }
    }

    /// Whether a refusal of this line is one recipient's affair: the others stay. A client that
    /// pipelines sends many before it sees the first answer (RFC 2920 section 3.1).
    fn is_about_a_recipient(&self, line: &Result<Vec<u8>, LineFault>) -> bool {
        match (&self.phase, line) {
            (Phase::Envelope(_), Ok(line)) => has_verb(line, "RCPT"),
            (Phase::Envelope(_), Err(fault)) => *fault == LineFault::TooLong,
            (Phase::Ready, Ok(line)) if self.sender_refused => {
                has_verb(line, "RCPT") || has_verb(line, "DATA")
            }
            _ => false,
        }
    }

    fn on_command(
        &mut self,
        env: Surroundings<'_>,
        command: Command,
        out: &mut Output,
    ) -> Result<(), Reply> {
        let reply = match command {
            Command::Rcpt(path) => self.on_rcpt(env, path)?,
            Command::Data => self.on_data_command(env)?,
            Command::Quit => {
                self.end(&reply::BYE, out);
                return Ok(());
            }
            Command::Ehlo(name) => {
                self.on_hello(name, true);
                reply::write_ehlo(env, &mut out.replies);
                return Ok(());
            }
            Command::Helo(name) => {
                self.on_hello(name, false);
                let line = format!("250 {}\r\n", env.config.hostname);
                out.replies.extend_from_slice(line.as_bytes());
                return Ok(());
            }
            Command::Mail(from, parameters) => self.on_mail(env, from, &parameters)?,
            Command::Rset => self.on_idle_command(reply::OK, true),
            Command::Noop => self.on_idle_command(reply::OK, false),
            Command::Vrfy => self.on_idle_command(reply::CANNOT_VERIFY, false),
            Command::Help => self.on_idle_command(reply::HELP, false),
        };
        reply.write(&mut out.replies);
        Ok(())
    }

    fn on_idle_command(&mut self, reply: Reply, reset: bool) -> Reply {
        // RSET behind a MAIL that was refused is counted with that.
        self.idle_commands += u32::from(!(reset && self.sender_refused));
        if reset {
            self.phase = Phase::Ready;
            self.sender_refused = false;
        }
        reply
    }

    fn on_hello(&mut self, name: String, extended: bool) {
        self.idle_commands += 1;
        self.hello = Some(Hello { name, extended });
        self.phase = Phase::Ready;
        self.sender_refused = false;
    }

    fn on_mail(
        &mut self,
        env: Surroundings<'_>,
        from: ReversePath,
        parameters: &MailParameters,
    ) -> Result<Reply, Reply> {
        if self.hello.is_none() {
            return Err(reply::HELLO_FIRST);
        }
        if !matches!(self.phase, Phase::Ready) {
            return Err(reply::NESTED_MAIL);
        }
        let size = parameters.size.unwrap_or(0);
        if size > env.config.max_message {
            return Err(reply::MESSAGE_TOO_LARGE);
        }
        let has_none = |room: u64| room == 0 || size > room;
        let is_full = has_none(env.room);
        if env.over_rate || is_full || has_none(env.share) {
            self.put_off += 1;
            return Ok(match (env.over_rate, is_full) {
                (true, _) => reply::OVER_RATE,
                (false, true) => reply::QUEUE_FULL,
                (false, false) => {
                    self.over_share += 1;
                    reply::OVER_SHARE
                }
            });
        }
        self.idle_commands += 1;
        self.phase = Phase::Envelope(Envelope { from, recipients: Vec::new(), bytes: 0 });
        Ok(reply::SENDER_OK)
    }

    fn on_rcpt(&mut self, env: Surroundings<'_>, path: ForwardPath) -> Result<Reply, Reply> {
        let Phase::Envelope(envelope) = &mut self.phase else {
            return Err(if self.hello.is_none() { reply::HELLO_FIRST } else { reply::MAIL_FIRST });
        };
        let recipient = match path {
            ForwardPath::Postmaster => Mailbox::postmaster(&env.config.hostname),
            ForwardPath::Mailbox(mailbox) if env.config.policy.permits(self.peer, &mailbox) => {
                mailbox
            }
            ForwardPath::Mailbox(_) => {
                self.refusals += 1;
                return Ok(reply::RELAY_DENIED);
            }
        };
        if envelope.recipients.contains(&recipient) {
            self.surplus += 1;
            return Ok(reply::RECIPIENT_OK);
        }
        if envelope.recipients.len() >= env.config.max_recipients as usize {
            self.surplus += 1;
            return Ok(reply::TOO_MANY_RECIPIENTS);
        }
        envelope.bytes += recipient.held_bytes();
        envelope.recipients.push(recipient);
        Ok(reply::RECIPIENT_OK)
    }

    fn on_data_command(&mut self, env: Surroundings<'_>) -> Result<Reply, Reply> {
        match std::mem::replace(&mut self.phase, Phase::Ready) {
            Phase::Envelope(envelope) if !envelope.recipients.is_empty() => {
                let reader = DataReader::new(env.config.max_message);
                let until = env.now.saturating_add(limits::SERVER_DATA);
                self.phase = Phase::Data { envelope, reader, until };
                Ok(reply::DATA_GO)
            }
            Phase::Envelope(envelope) => {
                self.phase = Phase::Envelope(envelope);
                self.idle_commands += 1;
                // Usual in a group whose recipients were all refused: not a
                // fault of its own (RFC 2920 section 3.1).
                Ok(reply::NO_RECIPIENTS)
            }
            _ if self.hello.is_none() => Err(reply::HELLO_FIRST),
            _ => Err(reply::MAIL_FIRST),
        }
    }

    fn on_data_end(&mut self, env: Surroundings<'_>, out: &mut Output) {
        let Phase::Data { envelope, reader, .. } =
            std::mem::replace(&mut self.phase, Phase::Waiting)
        else {
            unreachable!("only called in the data phase");
        };
        let data = match reader.finish() {
            Ok(data) => data,
            Err(fault) => {
                self.phase = Phase::Ready;
                self.deadline = env.now.saturating_add(env.idle);
                return self.on_error(&reply::of_data(fault), out);
            }
        };
        let hello = self.hello.clone().unwrap_or(Hello { name: String::new(), extended: false });
        let content = Bytes::from(data.content);
        let message = Message { trace: Bytes::new(), content, eight_bit: data.eight_bit };
        out.push(Action::Accepted(Box::new(AcceptedMail {
            client: Client { address: self.peer, hello: hello.name, extended: hello.extended },
            from: envelope.from,
            recipients: envelope.recipients,
            message,
        })));
    }

    fn on_error(&mut self, reply: &Reply, out: &mut Output) {
        reply.write(&mut out.replies);
        self.errors += 1;
        let is_greeted = self.hello.is_some();
        let most = if is_greeted { limits::SESSION_ERRORS } else { limits::UNGREETED_ERRORS };
        if self.errors >= most {
            self.end_at_fault(&reply::TOO_MANY_ERRORS, out);
        }
    }

    fn check_idle_commands(&mut self, env: Surroundings<'_>, out: &mut Output) {
        if self.idle_commands > env.config.idle_commands {
            self.end_at_fault(&reply::TOO_MUCH_IDLING, out);
        } else if self.put_off > limits::SESSION_PUT_OFF {
            self.end(&reply::PUT_OFF_TOO_OFTEN, out);
        } else if self.refusals > limits::SESSION_REFUSALS || self.surplus > limits::SESSION_SURPLUS
        {
            self.end_at_fault(&reply::TOO_MANY_REFUSALS, out);
        }
    }

    /// Last reply and close, through no fault of the client.
    fn end(&mut self, reply: &Reply, out: &mut Output) {
        self.close(reply, false, out);
    }

    /// The same, for what the client did.
    fn end_at_fault(&mut self, reply: &Reply, out: &mut Output) {
        self.close(reply, true, out);
    }

    /// Everything held is given up.
    fn close(&mut self, reply: &Reply, at_fault: bool, out: &mut Output) {
        if self.is_closed() {
            return;
        }
        reply.write(&mut out.replies);
        out.push(Action::Close);
        self.phase = Phase::Closed { at_fault };
        self.lines = LineReader::default();
        self.held = Vec::new();
    }
}
