//! Which pools are scarce, as the log says it.

use super::settings::RelaySettings;
use super::shared::Shared;
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

    fn say_of_queue(&mut self, config: &QueueConfig) {
        let (was, mails, bytes) = (self.said.queue, self.queue.len() as u64, self.queue.bytes());
        let QueueConfig { max_mails, max_bytes, .. } = *config;
        self.said.queue = is_scarce(was, mails, max_mails) || is_scarce(was, bytes, max_bytes);
        if self.said.queue && !was {
            tracing::warn!(
                event = "queue_scarce",
                mails,
                bytes,
                max_mails,
                max_bytes,
                "the queue is three quarters full, and takes no mail when it is full (452 4.3.1). \
                 See whether the next hop takes mail; `block_mails` bounds what a block of \
                 addresses may send"
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
