//! One mail in the queue.

use std::fmt;

use lockstep::shares::AddressBlock;
use rkyv::{Archive, Deserialize, Serialize};

use super::retry::backoff;
use super::{HopReply, Outcome, QueueConfig, QueueEvent};
use crate::limits;
use crate::smtp::client::{Delivery, Report, SessionFailure};
use crate::smtp::{Mailbox, Message, ReversePath};

/// A mail's name: a counter that never repeats, and the time of acceptance.
/// Shown as `NUMBER-SECONDS` in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
#[rkyv(derive(PartialEq, Eq, PartialOrd, Ord))]
pub struct QueueId {
    /// The mail's number: from 1, one more for each mail.
    pub number: u64,
    /// Log time of acceptance, nanoseconds since the Unix epoch.
    pub accepted: u64,
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}-{:X}", self.number, self.accepted / limits::SECOND)
    }
}

/// A mail and what has become of it so far.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct QueuedMail {
    /// The block of addresses for which the mail counts: its client's. A notice of failure counts
    /// for the block whose mail failed. `None` where an older version of the relay did not keep it.
    pub block: Option<AddressBlock>,
    /// The sender, who is told of failures.
    pub from: ReversePath,
    /// The recipients, in the order given.
    pub recipients: Vec<Recipient>,
    /// The text, trace field included.
    pub message: Message,
    /// Log time of acceptance.
    pub accepted: u64,
    /// How much log time had passed by then in which no relay ran.
    pub skipped: u64,
    /// Whether the mail waits or is being delivered.
    pub state: MailState,
    /// Attempts that ended with a transient failure.
    pub attempts: u32,
    /// Connections lost under it, of those.
    pub lost: u32,
    /// Log time at which its recipients began to be asked anew. Each is asked once before any is
    /// asked again, so that the first ones cannot use up the attempts of the others.
    pub round: u64,
    /// A used connection refused it: the next attempt has a new one.
    pub needs_new: bool,
}

/// Where a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum MailState {
    /// The mail waits for its next attempt, at this log time.
    Waiting(u64),
    /// The mail is being delivered.
    Running,
}

/// A recipient of a mail, and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Recipient {
    /// The recipient's address.
    pub mailbox: Mailbox,
    /// The recipient's fate so far.
    pub state: RecipientState,
}

/// A recipient's fate.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum RecipientState {
    /// Still to be delivered; with the last transient failure.
    Pending(Option<Failure>),
    /// The next hop took it.
    Delivered,
    /// Given up; the sender is still to be told.
    Failed(Failure),
    /// Given up and told, or there was no sender to tell.
    Reported,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Failure {
    /// What the next hop said; its code is 0 if it said nothing.
    pub reply: HopReply,
    /// Log time of the attempt.
    pub time: u64,
}

impl Recipient {
    fn is_pending(&self) -> bool {
        matches!(self.state, RecipientState::Pending(_))
    }

    /// Whether an attempt since `round` was about it.
    fn is_asked(&self, round: u64) -> bool {
        match &self.state {
            RecipientState::Pending(last) => last.as_ref().is_some_and(|last| last.time >= round),
            _ => true,
        }
    }
}

impl QueuedMail {
    pub(super) fn new(
        block: Option<AddressBlock>,
        from: ReversePath,
        recipients: Vec<Mailbox>,
        message: Message,
        now: u64,
    ) -> QueuedMail {
        let pending = |mailbox| Recipient { mailbox, state: RecipientState::Pending(None) };
        QueuedMail {
            block,
            from,
            recipients: recipients.into_iter().map(pending).collect(),
            message,
            accepted: now,
            skipped: 0,
            state: MailState::Waiting(now),
            attempts: 0,
            lost: 0,
            round: now,
            needs_new: false,
        }
    }

    /// What the mail costs of the queue's octets. It does not change while the
    /// mail is in the queue.
    pub(super) fn cost(&self) -> u64 {
        let addresses: usize = self.recipients.iter().map(|r| recipient_cost(&r.mailbox)).sum();
        self.message.size() + addresses as u64 + limits::QUEUE_MAIL_OVERHEAD
    }

    /// When the mail is given up, `skipped` being the time until now in which no relay ran. The
    /// mail does not grow old while no relay could try to deliver it.
    pub(super) fn expiry(&self, config: &QueueConfig, skipped: u64) -> u64 {
        let skipped = skipped.saturating_sub(self.skipped);
        self.accepted.saturating_add(config.give_up).saturating_add(skipped)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending().next().is_some()
    }

    fn pending(&self) -> impl Iterator<Item = &Recipient> {
        self.recipients.iter().filter(|recipient| recipient.is_pending())
    }

    /// Begins an attempt: once all pending recipients have been asked, a new round.
    pub(super) fn begin(&mut self, id: QueueId, now: u64) -> Delivery {
        self.state = MailState::Running;
        self.needs_new = false;
        if !self.is_round_open() {
            self.round = now;
        }
        let recipients = self.next_recipients().into_iter();
        Delivery {
            token: id.number,
            from: self.from.clone(),
            recipients: recipients.map(|at| self.recipients[at].mailbox.clone()).collect(),
            message: self.message.clone(),
        }
    }

    /// What an attempt is about: pending recipients that this round has not asked, then the
    /// others. They stay so until it ends.
    fn next_recipients(&self) -> Vec<usize> {
        let pending = |asked: bool| {
            let of_these = move |r: &Recipient| r.is_pending() && r.is_asked(self.round) == asked;
            (0..self.recipients.len()).filter(move |at| of_these(&self.recipients[*at]))
        };
        pending(false).chain(pending(true)).take(limits::DELIVERY_RECIPIENTS).collect()
    }

    /// Whether a recipient has not been asked in this round.
    fn is_round_open(&self) -> bool {
        self.pending().any(|recipient| !recipient.is_asked(self.round))
    }

    /// Enters what an attempt brought. A report for fewer recipients than were
    /// asked leaves the others as they are.
    pub(super) fn apply(
        &mut self,
        id: QueueId,
        now: u64,
        report: &Report,
        events: &mut Vec<QueueEvent>,
    ) {
        for (at, outcome) in self.next_recipients().into_iter().zip(&report.outcomes) {
            let recipient = &mut self.recipients[at];
            recipient.state = match outcome {
                Some(Outcome::Delivered) => {
                    events.push(QueueEvent::Delivered(id, recipient.mailbox.clone()));
                    RecipientState::Delivered
                }
                Some(Outcome::Permanent(reply)) => {
                    let failure = Failure { reply: reply.clone(), time: now };
                    let mailbox = recipient.mailbox.clone();
                    events.push(QueueEvent::Failed(id, mailbox, failure.clone()));
                    RecipientState::Failed(failure)
                }
                Some(Outcome::Transient(reply)) => {
                    RecipientState::Pending(Some(Failure { reply: reply.clone(), time: now }))
                }
                None => RecipientState::Pending(Some(session_failure(report, now))),
            };
        }
    }

    /// Counts a failed attempt and says when the next one is.
    pub(super) fn next_attempt(
        &mut self,
        config: &QueueConfig,
        now: u64,
        random: u64,
        report: &Report,
        hop_not_before: u64,
        expiry: u64,
    ) -> u64 {
        let undecided = report.outcomes.iter().any(Option::is_none);
        let transient =
            report.outcomes.iter().flatten().any(|o| matches!(o, Outcome::Transient(_)));
        match &report.failure {
            // Nobody was asked: the hop's own pause is enough.
            Some(SessionFailure::Unreachable(_)) => return hop_not_before.max(now),
            // The connection was refused, not the mail (RFC 5321 section 3.8): it goes at once,
            // and before those that came after it.
            Some(SessionFailure::Worn(_)) => {
                self.needs_new = true;
                return self.accepted;
            }
            // Nobody refused anything: the other server goes on where this one was.
            Some(SessionFailure::CarrierLost) => return self.accepted,
            Some(SessionFailure::Lost(_)) if undecided && self.lost < limits::LOST_RETRIES => {
                self.lost += 1;
                return now.saturating_add(backoff(
                    limits::LOST_RETRY,
                    limits::LOST_RETRY,
                    0,
                    random,
                ));
            }
            // More recipients than one delivery takes: the rest is not late.
            None if !transient => return now,
            _ if self.is_round_open() => return now,
            _ => {}
        }
        let pause = backoff(config.retry_first, config.retry_most, self.attempts, random);
        self.attempts = self.attempts.saturating_add(1);
        // The last attempt is made when time runs out, not before.
        now.saturating_add(pause).min(expiry.saturating_sub(1)).max(now)
    }

    /// Fails the recipients that are still pending (RFC 3463: 4.4.7, delivery time expired).
    pub(super) fn give_up(&mut self, id: QueueId, now: u64, events: &mut Vec<QueueEvent>) {
        for recipient in &mut self.recipients {
            if let RecipientState::Pending(last) = &recipient.state {
                let failure = last.clone().unwrap_or_else(|| expired(now));
                let mailbox = recipient.mailbox.clone();
                events.push(QueueEvent::Failed(id, mailbox, failure.clone()));
                recipient.state = RecipientState::Failed(failure);
            }
        }
    }

    pub(super) fn unreported(&self) -> impl Iterator<Item = (&Mailbox, &Failure)> {
        self.recipients.iter().filter_map(|recipient| match &recipient.state {
            RecipientState::Failed(failure) => Some((&recipient.mailbox, failure)),
            _ => None,
        })
    }

    pub(super) fn has_unreported(&self) -> bool {
        self.unreported().next().is_some()
    }

    pub(super) fn mark_reported(&mut self) {
        for recipient in &mut self.recipients {
            if matches!(recipient.state, RecipientState::Failed(_)) {
                recipient.state = RecipientState::Reported;
            }
        }
    }
}

/// An address, and what may be remembered of its last failure.
fn recipient_cost(mailbox: &Mailbox) -> usize {
    mailbox.local().len() + mailbox.domain().len() + limits::REPLY_TEXT
}

fn session_failure(report: &Report, time: u64) -> Failure {
    let mut text = match &report.failure {
        Some(failure) => failure.to_string(),
        None => "the next hop gave no answer".to_owned(),
    };
    text = text.chars().filter(|c| matches!(c, ' '..='~')).take(limits::REPLY_TEXT).collect();
    Failure { reply: HopReply { code: 0, status: "4.4.2".to_owned(), text }, time }
}

fn expired(time: u64) -> Failure {
    let text = "no delivery was possible in the time allowed".to_owned();
    Failure { reply: HopReply { code: 0, status: "4.4.7".to_owned(), text }, time }
}
