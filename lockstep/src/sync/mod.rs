//! The few concurrent primitives of our own. They connect the CoServer's one thread with the
//! threads around it: users' threads, devices, blocking helpers, and the service where it runs on a
//! thread of its own.
//!
//! - [`mailbox`]: a bounded queue, many producers, one consumer.
//! - [`watermark`]: a number that grows, one writer, many readers: how far outputs were released,
//!   as any thread of the process sees it.
//!
//! Both stand on one wake-up protocol, the wait list. There is no `unsafe` here, and no other place
//! in this crate chooses a memory ordering to build a protocol on. Ready-made wakers
//! (`atomic-waker`, the one in `futures-core`) hold one waiter, and cannot be modelled under a cfg
//! of our own. What must be checked is how a waker plays together with the queue.
//!
//! # Rules
//!
//! Of a wait list (`armed`, and `entries` behind a mutex):
//!
//! - **R1.** A waiter adds, replaces and removes only its own entry. A notifier
//!   removes only entries that its notification concerns, and wakes every
//!   waker that it has removed.
//! - **R2.** `armed` is written by read-modify-write only. Its history is then
//!   one chain, along which the release of each notifier reaches every later
//!   arming, whatever relaxed writes lie between.
//! - **R3.** To sleep: enter the list, then set `armed` (*acquire*), then look
//!   once more at what is waited for, then sleep. After every wake-up, begin
//!   again. The acquire pairs with R4.
//! - **R4.** To notify: first change what is waited for, then clear `armed`
//!   (*release*); who finds it set takes the entries and wakes them. If the
//!   clearing comes before the arming in the chain, the waiter's last look
//!   sees the change; if it comes after, the notifier, or another since,
//!   finds it set. So no wake-up is lost, and of many notifiers one wakes.
//!   That the notifier finds the entry needs no ordering: the mutex gives it.
//! - **R5.** `armed` is clear only while no sleeper is on the list, or while a
//!   notifier that cleared it is at work. A waiter that leaves the list clears
//!   it only under the mutex and with the list empty. A notifier that leaves
//!   someone on the list sets it again; only a list with one notifier has
//!   different thresholds (R9), so no other can have missed it meanwhile.
//!
//! Of a mailbox (`taken`: closed mark, items and bytes in one word):
//!
//! - **R6.** A producer adds its item to `taken` (*acquire*) before it touches
//!   the queue; so there is a free slot, and the acquire, pairing with R7,
//!   lets it see that. Then it pushes, then notifies the consumer.
//! - **R7.** Only the consumer pops. After that it subtracts the item from
//!   `taken` (*release*), then notifies the producers.
//! - **R8.** Anyone may set the closed mark, and nobody clears it; producers
//!   are admitted by the same atomic operation that finds it clear. So
//!   "closed, and no items" is final, and an item admitted before the mark is
//!   counted until it has been taken out, also while it is still being pushed.
//!
//! Of a watermark:
//!
//! - **R9.** Only the writer stores (*release*) and notifies; readers load
//!   (*acquire*). The end mark is in the same word as the last value.
//!
//! # Checking
//!
//! `RUSTFLAGS="--cfg lockstep_loom" CARGO_TARGET_DIR=target/loom cargo test -p lockstep
//! --no-default-features --release --lib sync::` explores the interleavings and the stale reads
//! that the memory model allows. It then does so again with each ordering of the `orderings` table
//! weakened to relaxed, and demands that every one of those runs fails.

mod error;
mod ledger;
mod mailbox;
mod orderings;
mod queue;
mod shim;
mod wait_list;
mod watermark;

#[cfg(test)]
mod tests;

pub use error::{PopError, PushError, WaitError};
pub use ledger::{Capacity, CapacityError, Depth};
pub use mailbox::{Receiver, Sender, mailbox};
pub use watermark::{Watermark, WatermarkWriter, watermark};
