//! What can go wrong, per operation.

use std::fmt;
use thiserror::Error;

/// Why an item was not taken; it is handed back.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
pub enum PushError<T> {
    /// No room now, or none until the deadline.
    #[error("the mailbox is full: push again later, or slow down")]
    Full(T),
    /// The item weighs more than the byte budget: there will never be room.
    #[error("the item is larger than the mailbox: make it smaller, or raise the byte budget")]
    TooLarge(T),
    /// Either side has closed the mailbox.
    #[error("the mailbox is closed: nobody will take the item")]
    Closed(T),
}

impl<T> PushError<T> {
    /// The item that was not taken.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item) | Self::TooLarge(item) | Self::Closed(item) => item,
        }
    }
}

/// Without the item, which may be long or confidential.
impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::TooLarge(_) => "TooLarge(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// Why there is no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PopError {
    /// Nothing there now, or nothing until the deadline.
    #[error("the mailbox is empty: wait for an item")]
    Empty,
    /// Closed, and every item that was taken in has been handed out.
    #[error("the mailbox is closed and empty: stop taking items")]
    Closed,
}

/// Why a watermark was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WaitError {
    /// The writer is gone: it will never be reached.
    #[error("the writer stopped at {reached}: do not wait for more")]
    Closed {
        /// The last value.
        reached: u64,
    },
    /// Not reached by the deadline.
    #[error("only {reached} was reached in time: wait longer, or give up")]
    TimedOut {
        /// The value at the deadline.
        reached: u64,
    },
}
