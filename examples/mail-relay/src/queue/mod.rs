//! The mail queue: what is kept, when each mail is tried, and what is told to
//! whom when it fails.
//!
//! # Driving it
//! 1. [`Queue::submit`] for each [`AcceptedMail`];
//!    its answer is the session's verdict.
//! 2. [`Queue::next_job`] until `None`, after every change and when the time of
//!    [`Queue::next_wakeup`] comes; each [`Job`] becomes a connection to the next
//!    hop and a [`Delivery`] on it.
//! 3. [`Queue::finish`] with the session's report, once per job.
//!
//! Every method that decides about time takes `now`; back-off is spread by random
//! numbers that the caller gives. The same calls give the same queue on both
//! CoServers, whatever their hardware.

mod bounce;
mod entry;
#[cfg(feature = "processes")]
mod older;
mod retry;
mod share;
mod trace;

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod share_properties;

pub use entry::{Failure, MailState, QueueId, QueuedMail, Recipient};
pub use retry::HopState;
pub use share::{Held, Share};

#[cfg(feature = "processes")]
pub(crate) use older::QueuedMailV4;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use lockstep::shares::AddressBlock;
use rkyv::{Archive, Deserialize, Serialize};

use crate::limits;
use crate::smtp::client::{Delivery, HopReply, Outcome, Report, SessionFailure};
use crate::smtp::server::{AcceptedMail, Refusal};
use crate::smtp::{Domain, Mailbox, ReversePath};
use share::Holdings;

/// Configuration of the queue; equal on both CoServers. Times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// The relay's own name, in trace fields and bounces.
    pub hostname: Domain,
    /// The next hop's name, in bounces only.
    pub next_hop: String,
    /// Most mails at once.
    pub max_mails: u64,
    /// Most octets at once, [`limits::QUEUE_MAIL_OVERHEAD`] per mail included.
    pub max_bytes: u64,
    /// Most deliveries at once.
    pub max_deliveries: u32,
    /// Pause after a mail's first transient failure; it doubles from then on.
    pub retry_first: u64,
    /// Longest such pause.
    pub retry_most: u64,
    /// Age at which a mail is given up and reported; time in which no relay ran does not count.
    pub give_up: u64,
}

impl QueueConfig {
    /// The defaults of [`limits`].
    pub fn new(hostname: Domain, next_hop: &str) -> QueueConfig {
        QueueConfig {
            hostname,
            next_hop: next_hop.to_owned(),
            max_mails: limits::QUEUE_MAILS,
            max_bytes: limits::QUEUE_BYTES,
            max_deliveries: limits::DELIVERIES,
            retry_first: limits::RETRY_FIRST,
            retry_most: limits::RETRY_MOST,
            give_up: limits::GIVE_UP,
        }
    }
}

/// Mails by name: a copy shares everything with the original until one of them changes, and
/// then all but the mail that does.
pub(crate) type Mails = OrdMap<QueueId, Arc<QueuedMail>>;

/// The queue. Frozen as its numbers and its mails; the rest follows from them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    /// Every mail, oldest first.
    mails: Mails,
    /// Waiting mails by the time of their next attempt.
    due: BTreeSet<(u64, QueueId)>,
    /// Mails under delivery, by token.
    running: BTreeMap<u64, QueueId>,
    bytes: u64,
    holdings: Holdings,
    last_number: u64,
    /// Log time in which no relay ran: no mail grows old by it.
    skipped: u64,
    hop: HopState,
}

/// What a frozen queue keeps beside its mails.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct QueueHead {
    last_number: u64,
    skipped: u64,
    hop: HopState,
}

/// One delivery to be made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The mail's id, for events.
    pub id: QueueId,
    /// What to give to a client session. Its token is the job's name.
    pub delivery: Delivery,
    /// A used connection refused it: make a new one.
    pub needs_new: bool,
}

/// Something worth telling, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueEvent {
    /// The next hop took the mail for this recipient.
    Delivered(QueueId, Mailbox),
    /// The mail will be tried again for its other recipients at this time.
    Deferred(QueueId, u64),
    /// The mail is given up for this recipient.
    Failed(QueueId, Mailbox, Failure),
    /// Failures of the first were reported to its sender by the second.
    Bounced(QueueId, QueueId),
    /// Failures of a mail without a sender, which are reported to no one (RFC 5321 section 6.1).
    Discarded(QueueId),
    /// The mail has no recipient left and is out of the queue.
    Removed(QueueId),
}

impl Queue {
    /// Takes a mail over: it gets a name, a trace field, and is due at once. It counts for its
    /// client's block of addresses, which may have this share.
    ///
    /// # Errors
    /// [`Refusal::QueueFull`] at a bound, [`Refusal::OverShare`] at the share,
    /// [`Refusal::Loop`] for a mail that has passed [`limits::RECEIVED_FIELDS`] hops.
    pub fn submit(
        &mut self,
        config: &QueueConfig,
        share: Share,
        now: u64,
        mail: AcceptedMail,
    ) -> Result<QueueId, Refusal> {
        if trace::count_received(&mail.message.content) > limits::RECEIVED_FIELDS {
            return Err(Refusal::Loop);
        }
        let id = QueueId { number: self.last_number + 1, accepted: now };
        let mut message = mail.message;
        message.trace = trace::received(config, id, &mail.client, &mail.recipients);
        let block = AddressBlock::of(mail.client.address);
        let entry = QueuedMail::new(Some(block), mail.from, mail.recipients, message, now);
        let entry = QueuedMail { skipped: self.skipped, ..entry };
        if entry.cost() > self.room(config) {
            return Err(Refusal::QueueFull);
        }
        if entry.cost() > self.room_of(config, share, block) {
            return Err(Refusal::OverShare);
        }
        self.insert(id, entry);
        Ok(id)
    }

    /// Octets of a mail that [`Queue::submit`] would still take; 0 when full.
    pub fn room(&self, config: &QueueConfig) -> u64 {
        Held::default().room(Share::Unbounded, self.free(config))
    }

    /// The same of a mail from this block of addresses.
    pub fn room_of(&self, config: &QueueConfig, share: Share, block: AddressBlock) -> u64 {
        self.held_by(block).room(share, self.free(config))
    }

    fn free(&self, config: &QueueConfig) -> Held {
        Held {
            mails: config.max_mails.saturating_sub(self.mails.len() as u64),
            bytes: config.max_bytes.saturating_sub(self.bytes),
        }
    }

    /// What a block of addresses has in the queue.
    pub fn held_by(&self, block: AddressBlock) -> Held {
        self.holdings.of(block)
    }

    /// Each block of addresses that has something in the queue.
    pub fn blocks(&self) -> impl Iterator<Item = (AddressBlock, Held)> {
        self.holdings.iter()
    }

    /// The block of addresses that has the largest part of the queue.
    pub fn largest_block(&self, config: &QueueConfig) -> Option<AddressBlock> {
        self.holdings.largest(config)
    }

    /// The next delivery to be made at `now`, if there is one and the bound on
    /// deliveries allows it. It must be answered by [`Queue::finish`].
    pub fn next_job(&mut self, config: &QueueConfig, now: u64) -> Option<Job> {
        let running = self.running.len() as u64;
        if running >= u64::from(self.hop.most_deliveries(config)) || now < self.hop.not_before() {
            return None;
        }
        let (time, id) = *self.due.first()?;
        if time > now {
            return None;
        }
        self.due.remove(&(time, id));
        let mail = Arc::make_mut(self.mails.get_mut(&id)?);
        let needs_new = mail.needs_new;
        let delivery = mail.begin(id, now);
        self.running.insert(id.number, id);
        Some(Job { id, delivery, needs_new })
    }

    /// As [`Queue::next_job`], for a connection that has served already; not one that needs
    /// a new connection.
    pub fn next_job_for_used(&mut self, config: &QueueConfig, now: u64) -> Option<Job> {
        let (_, id) = self.due.first()?;
        let needs_new = self.mails.get(id).is_some_and(|mail| mail.needs_new);
        if needs_new { None } else { self.next_job(config, now) }
    }

    /// When to call [`Queue::expire`] and [`Queue::next_job`] next if
    /// nothing else happens before; `None` when only a running delivery can
    /// change anything.
    pub fn next_wakeup(&self, config: &QueueConfig) -> Option<u64> {
        let slots = self.running.len() as u64;
        let attempt = (slots < u64::from(self.hop.most_deliveries(config)))
            .then(|| self.due.first())
            .flatten()
            .map(|(time, _)| (*time).max(self.hop.not_before()));
        let expiry = self.waiting().next().map(|(_, mail)| mail.expiry(config, self.skipped));
        attempt.into_iter().chain(expiry).min()
    }

    /// Takes the report of a job's session. `random` spreads the next attempt.
    /// A report for a job that is not running is ignored.
    pub fn finish(
        &mut self,
        config: &QueueConfig,
        now: u64,
        random: u64,
        report: Report,
    ) -> Vec<QueueEvent> {
        let mut events = Vec::new();
        let Some(id) = self.running.remove(&report.token) else { return events };
        match &report.failure {
            Some(SessionFailure::Unreachable(_)) => self.hop.on_unreachable(now, random),
            Some(SessionFailure::Worn(_) | SessionFailure::CarrierLost) => {}
            _ => self.hop.on_reached(),
        }
        let goes_on =
            matches!(report.failure, Some(SessionFailure::Worn(_) | SessionFailure::CarrierLost));
        let Some(mail) = self.mails.get_mut(&id).map(Arc::make_mut) else { return events };
        mail.apply(id, now, &report, &mut events);
        let expiry = mail.expiry(config, self.skipped);
        if mail.is_pending() && expiry > now.saturating_add(1) {
            let not_before = self.hop.not_before();
            let time = mail.next_attempt(config, now, random, &report, not_before, expiry);
            mail.state = MailState::Waiting(time);
            self.due.insert((time, id));
            if !goes_on {
                events.push(QueueEvent::Deferred(id, time));
            }
        } else {
            mail.give_up(id, now, &mut events);
        }
        self.settle(config, now, id, &mut events);
        events
    }

    /// Gives up what is too old and not under delivery. A mail under delivery
    /// is given up when that ends.
    pub fn expire(&mut self, config: &QueueConfig, now: u64) -> Vec<QueueEvent> {
        let mut events = Vec::new();
        let skipped = self.skipped;
        let old = self.waiting().take_while(|(_, mail)| mail.expiry(config, skipped) <= now);
        let old: Vec<QueueId> = old.map(|(id, _)| *id).collect();
        for id in old {
            let Some(mail) = self.mails.get_mut(&id).map(Arc::make_mut) else { continue };
            if let MailState::Waiting(time) = mail.state {
                self.due.remove(&(time, id));
            }
            mail.give_up(id, now, &mut events);
            self.settle(config, now, id, &mut events);
        }
        events
    }

    /// No relay ran for so long. What fell due meanwhile is tried now, and nothing grows old
    /// by it.
    pub fn skip(&mut self, gap: u64) {
        self.skipped = self.skipped.saturating_add(gap);
    }

    /// Mails in the queue.
    pub fn len(&self) -> usize {
        self.mails.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mails.is_empty()
    }

    /// Octets in the queue, as the bound counts them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Deliveries under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The mail with this id, while the queue has it.
    pub fn get(&self, id: QueueId) -> Option<&QueuedMail> {
        self.mails.get(&id).map(Arc::as_ref)
    }

    /// Every mail, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&QueueId, &QueuedMail)> {
        self.mails.iter().map(|(id, mail)| (id, &**mail))
    }

    /// Every mail, as it is now and stays in what is returned, at no cost.
    #[cfg_attr(not(feature = "processes"), allow(dead_code, reason = "the service freezes"))]
    pub(crate) fn mails(&self) -> Mails {
        self.mails.clone()
    }

    /// What a frozen queue keeps beside its mails.
    #[cfg_attr(not(feature = "processes"), allow(dead_code, reason = "the service freezes"))]
    pub(crate) fn head(&self) -> QueueHead {
        let Queue { last_number, skipped, .. } = *self;
        QueueHead { last_number, skipped, hop: self.hop.clone() }
    }

    /// The queue with this head and these mails; everything else follows from them.
    #[cfg_attr(not(feature = "processes"), allow(dead_code, reason = "the service freezes"))]
    pub(crate) fn from_parts(
        head: QueueHead,
        mails: impl IntoIterator<Item = (QueueId, QueuedMail)>,
    ) -> Queue {
        let mut queue = Queue { hop: head.hop, skipped: head.skipped, ..Queue::default() };
        for (id, mail) in mails {
            if mail.state == MailState::Running {
                queue.running.insert(id.number, id);
            }
            queue.insert(id, mail);
        }
        queue.last_number = head.last_number;
        queue
    }

    /// Mails not under delivery, oldest first and so in order of expiry.
    fn waiting(&self) -> impl Iterator<Item = (&QueueId, &QueuedMail)> {
        self.iter().filter(|(_, mail)| mail.state != MailState::Running)
    }

    fn insert(&mut self, id: QueueId, mail: QueuedMail) {
        self.last_number = id.number;
        self.bytes += mail.cost();
        self.holdings.add(mail.block, mail.cost());
        if let MailState::Waiting(time) = mail.state {
            self.due.insert((time, id));
        }
        self.mails.insert(id, Arc::new(mail));
    }

    /// Reports failures of a mail and removes it once no recipient is left.
    ///
    /// A bounce needs room. A mail that leaves makes it, and a mail that stays keeps its unreported
    /// failures until there is room or it leaves. So bounces never take more mails than the bound.
    /// They take hardly more octets, since a bounce is made of the header of the mail whose place
    /// it takes, and of failures that were paid for with its recipients. A bounce counts for the
    /// block of addresses whose mail failed, so that no block gets round its share by mails that
    /// come back.
    fn settle(
        &mut self,
        config: &QueueConfig,
        now: u64,
        id: QueueId,
        events: &mut Vec<QueueEvent>,
    ) {
        let room = self.room(config);
        let Some(mail) = self.mails.get_mut(&id).map(Arc::make_mut) else { return };
        let leaves = !mail.is_pending();
        let bounce_id = QueueId { number: self.last_number + 1, accepted: now };
        let bounce = match &mail.from {
            _ if !mail.has_unreported() => None,
            ReversePath::Null => {
                mail.mark_reported();
                events.push(QueueEvent::Discarded(id));
                None
            }
            ReversePath::Mailbox(sender) => {
                let bounce = bounce::bounce(config, bounce_id, id, mail, sender);
                (leaves || bounce.cost() <= room).then_some(bounce)
            }
        };
        if bounce.is_some() {
            mail.mark_reported();
            events.push(QueueEvent::Bounced(id, bounce_id));
        }
        if leaves {
            self.bytes -= mail.cost();
            self.holdings.remove(mail.block, mail.cost());
            self.mails.remove(&id);
            events.push(QueueEvent::Removed(id));
        }
        if let Some(bounce) = bounce {
            let bounce = QueuedMail { skipped: self.skipped, ..bounce };
            self.insert(bounce_id, bounce);
        }
    }
}
