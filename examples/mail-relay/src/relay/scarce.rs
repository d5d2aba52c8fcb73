//! Which pools are scarce, as the log says it.

use lockstep::shares::AddressBlock;

use super::settings::RelaySettings;
use super::shared::Shared;
use crate::limits::MINUTE;
use crate::queue::QueueConfig;

/// Whether a pool is scarce with so much of it taken: with more than three quarters, until it is no
/// more than half.
pub(super) fn is_scarce(was: bool, taken: u64, most: u64) -> bool {
    u128::from(taken) * 4 > u128::from(most) * if was { 2 } else { 3 }
}

/// What the log says is scarce. Nothing else depends on it, so it is not frozen: a relay that was
/// restored says again what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Said {
    memory: bool,
    queue: bool,
    /// When the log last said that a block of addresses has its share of the queue, and how many
    /// mails were refused for it since.
    share: Option<u64>,
    refused: u64,
}

impl Shared {
    /// Says which pools have become scarce in this step, and which are so no longer.
    pub(super) fn say_what_is_scarce(&mut self, settings: &RelaySettings) {
        self.say_of_memory(settings.session_bytes);
        self.say_of_queue(&settings.queue);
    }

    fn say_of_memory(&mut self, most: u64) {
        let (was, held) = (self.said.memory, self.memory.total());
        self.said.memory = is_scarce(was, held, most);
        if self.said.memory && !was {
            let block = self.memory.largest_block().map(tracing::field::display);
            tracing::warn!(
                event = "memory_scarce",
                held,
                most,
                block,
                "sessions hold three quarters of `session_bytes`. When it is full, the session that \
                 holds most ends, of the block of addresses that holds most. If its clients are \
                 welcome raise `session_bytes`; else keep them out before they reach the relay"
            );
        } else if was && !self.said.memory {
            tracing::info!(event = "memory_free", held, most, "there is room again");
        }
    }

    /// So many mails of a block were refused because it had its share of the queue. The log says so
    /// once in a minute, so that it does not grow by what is refused.
    pub(super) fn say_of_share(&mut self, block: AddressBlock, now: u64, refused: u64) {
        self.said.refused += refused;
        if self.said.share.is_some_and(|said| now < said.saturating_add(MINUTE)) {
            return;
        }
        self.said.share = Some(now);
        let (held, refused) = (self.queue.held_by(block), std::mem::take(&mut self.said.refused));
        tracing::warn!(
            event = "queue_share",
            refused,
            in_all = self.rates.counters.over_share,
            %block,
            mails = held.mails,
            bytes = held.bytes,
            "a block of addresses has its share of the queue (`block_queue`): its mails are refused \
             for now (452 4.3.1), and others are taken. See whether the next hop takes mail; if the \
             senders are your own, name them in `trusted_networks`"
        );
    }

    fn say_of_queue(&mut self, config: &QueueConfig) {
        let (was, mails, bytes) = (self.said.queue, self.queue.len() as u64, self.queue.bytes());
        let QueueConfig { max_mails, max_bytes, .. } = *config;
        self.said.queue = is_scarce(was, mails, max_mails) || is_scarce(was, bytes, max_bytes);
        if self.said.queue && !was {
            let block = self.queue.largest_block(config).map(tracing::field::display);
            tracing::warn!(
                event = "queue_scarce",
                mails,
                bytes,
                max_mails,
                max_bytes,
                block,
                "the queue is three quarters full, and takes no mail when it is full (452 4.3.1); \
                 `block` has most of it. See whether the next hop takes mail; `block_queue` bounds \
                 what a block of addresses may have of the queue, `block_mails` what it may send"
            );
        } else if was && !self.said.queue {
            tracing::info!(event = "queue_free", mails, bytes, "there is room again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_scarce_from_three_quarters_on_until_half_of_it_is_free() {
        assert!(!is_scarce(false, 75, 100) && is_scarce(false, 76, 100));
        assert!(is_scarce(true, 51, 100) && !is_scarce(true, 50, 100));
        assert!(is_scarce(false, u64::MAX, u64::MAX));
        assert!(!is_scarce(true, 0, 0));
    }
}
