//! What all connections share: the queue, the memory they may use, and the counters.

use std::net::IpAddr;

use io_redirect::Io;
use lockstep::shares::AddressBlock;
use rand_core::Rng as _;
use rkyv::{Archive, Deserialize, Serialize};

use super::hop::HopAddresses;
use super::memory::Memory;
use super::rates::Rates;
use super::scarce::Said;
use super::settings::RelaySettings;
use crate::queue::{Job, Queue, QueueConfig, QueueEvent, QueueId};
use crate::smtp::client::{Report, SessionFailure};
use crate::smtp::server::{AcceptedMail, Refusal, Surroundings};

/// The post office.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) memory: Memory,
    pub(super) counters: Counters,
    pub(super) hop: HopAddresses,
    pub(super) rates: Rates,
    pub(super) said: Said,
}

/// What has happened since the pair began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub struct Counters {
    /// Clients that connected.
    pub clients: u64,
    /// Mails taken over.
    pub accepted: u64,
    /// Mails that came whole and were refused.
    pub refused: u64,
    /// Recipients delivered to the next hop.
    pub delivered: u64,
    /// Attempts after which a mail waits for another.
    pub deferred: u64,
    /// Recipients given up.
    pub failed: u64,
    /// Notices of failure put in the queue.
    pub bounced: u64,
    /// Deliveries of which all data had been sent and no answer came, also because the CoServer
    /// died that carried them. The next hop may have taken the mail, and gets it again. No mail
    /// reaches it more often than once and once for each of these.
    pub in_doubt: u64,
    /// Clients whose connection broke off after a mail of theirs was taken over and before they
    /// brought another. They may not have the answer, and send that mail again as a new one. A
    /// client that the relay had let go already, after its QUIT, is not among them.
    pub answers_in_doubt: u64,
    /// Sessions ended because the memory was full and they held most of it.
    pub out_of_memory: u64,
}

impl Shared {
    /// What the session of a client at `peer` is told beside its input.
    pub(super) fn surroundings<'a>(
        &self,
        settings: &'a RelaySettings,
        now: u64,
        peer: IpAddr,
    ) -> Surroundings<'a> {
        let (config, shares) = (&settings.server, &settings.shares);
        let memory = self.memory.room(peer, settings.session_bytes);
        let room = self.queue.room(&settings.queue).min(memory);
        let block = AddressBlock::of(peer);
        let share = self.queue.room_of(&settings.queue, shares.of_queue(peer), block);
        let idle = self.rates.idle(shares, peer, config.idle);
        let over_rate = self.rates.is_over_rate(shares, peer, now);
        Surroundings { config, now, room, share, idle, over_rate }
    }

    pub(super) fn submit(
        &mut self,
        settings: &RelaySettings,
        now: u64,
        mail: AcceptedMail,
    ) -> Result<QueueId, Refusal> {
        let peer = mail.client.address;
        let result = self.queue.submit(&settings.queue, settings.shares.of_queue(peer), now, mail);
        match &result {
            Ok(id) => {
                self.rates.on_mail(&settings.shares, peer, now);
                self.counters.accepted += 1;
                tracing::debug!(%id, "mail queued");
            }
            Err(refusal) => {
                self.counters.refused += 1;
                tracing::info!(%refusal, "mail refused");
            }
        }
        result
    }

    /// So many mails of a client were refused because its block of addresses had its share of the
    /// queue.
    pub(super) fn on_over_share(&mut self, peer: IpAddr, now: u64, refused: u64) {
        if refused > 0 {
            self.rates.counters.over_share += refused;
            self.say_of_share(AddressBlock::of(peer), now, refused);
        }
    }

    /// Takes a delivery's report.
    pub(super) fn finish(&mut self, io: &mut Io<'_>, settings: &RelaySettings, report: Report) {
        if let Some(failure) = &report.failure {
            let in_doubt = report.in_doubt;
            self.counters.in_doubt += u64::from(in_doubt);
            let mail = report.token;
            tracing::info!(mail, in_doubt, %failure, "a delivery was not completed");
        }
        let random = io.rng().next_u64();
        let events = self.queue.finish(&settings.queue, io.now().0, random, report);
        self.note(events);
    }

    /// No connection can be had for a delivery.
    pub(super) fn unreachable(
        &mut self,
        io: &mut Io<'_>,
        settings: &RelaySettings,
        job: &Job,
        reason: String,
    ) {
        let outcomes = vec![None; job.delivery.recipients.len()];
        let failure = Some(SessionFailure::Unreachable(reason));
        let token = job.delivery.token;
        self.finish(io, settings, Report { token, outcomes, failure, in_doubt: false });
    }

    pub(super) fn expire(&mut self, config: &QueueConfig, now: u64) {
        let events = self.queue.expire(config, now);
        self.note(events);
    }

    fn note(&mut self, events: Vec<QueueEvent>) {
        for event in events {
            match event {
                QueueEvent::Delivered(id, to) => {
                    self.counters.delivered += 1;
                    tracing::debug!(%id, %to, "mail delivered");
                }
                QueueEvent::Deferred(id, until) => {
                    self.counters.deferred += 1;
                    tracing::info!(%id, until, "mail will be tried again");
                }
                QueueEvent::Failed(id, to, failure) => {
                    self.counters.failed += 1;
                    tracing::warn!(%id, %to, reply = %failure.reply, "mail given up");
                }
                QueueEvent::Bounced(id, by) => {
                    self.counters.bounced += 1;
                    tracing::info!(%id, %by, "the sender is told of the failure");
                }
                QueueEvent::Discarded(id) => {
                    tracing::warn!(%id, "a notice of failure could not be delivered either");
                }
                QueueEvent::Removed(id) => tracing::debug!(%id, "mail out of the queue"),
            }
        }
    }

    /// The relay at a glance, as JSON.
    pub(super) fn describe(&self, clients: usize, hops: usize) -> String {
        let (c, s) = (&self.counters, &self.rates.counters);
        format!(
            "{{\"clients_now\":{clients},\"hops_now\":{hops},\"queued\":{},\"queued_bytes\":{},\
             \"delivering\":{},\"held_bytes\":{},\"clients\":{},\"accepted\":{},\"refused\":{},\
             \"delivered\":{},\"deferred\":{},\"failed\":{},\"bounced\":{},\"in_doubt\":{},\
             \"answers_in_doubt\":{},\
             \"out_of_memory\":{},\"displaced\":{},\"shut_out\":{},\"put_off\":{},\
             \"over_share\":{},\"scarce\":{}}}",
            self.queue.len(),
            self.queue.bytes(),
            self.queue.running(),
            self.memory.total(),
            c.clients,
            c.accepted,
            c.refused,
            c.delivered,
            c.deferred,
            c.failed,
            c.bounced,
            c.in_doubt,
            c.answers_in_doubt,
            c.out_of_memory,
            s.displaced,
            s.shut_out,
            s.put_off,
            s.over_share,
            s.scarce,
        )
    }
}
