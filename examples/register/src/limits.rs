//! Every bound of the service; at one more it answers with a typed refusal.

use std::time::Duration;

/// Bytes of a register's or queue's name, which is not empty either.
pub const NAME_BYTES: usize = 64;

/// Registers that have a value.
pub const REGISTERS: usize = 64 << 10;

/// Queues that are not empty.
pub const QUEUES: usize = 4 << 10;

/// Bytes of one text in a queue.
pub const ITEM_BYTES: usize = 1 << 10;

/// Texts in all queues together, and in reminders that are not due yet: 64 MiB at most.
pub const ITEMS: usize = 64 << 10;

/// The farthest that a reminder may be set ahead.
pub const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Bytes of one record of the frozen state, about.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

const _: () = assert!(CHUNK_BYTES + ITEM_BYTES + 1024 < lockstep::limits::RECORD_BYTES);
