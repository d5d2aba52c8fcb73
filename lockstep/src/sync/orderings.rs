//! Every memory ordering that the protocols of this module rely on, in one table. The model checker
//! takes each of them away in turn, to show that it was needed.
//!
//! Operations that are not named here are `Relaxed`, and say why beside them.

use super::shim::Ordering;

/// An atomic operation whose ordering matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// A waiter sets `armed` before it looks a last time (R3).
    Arm,
    /// A notifier clears `armed` after it has changed what is waited for (R4).
    Notify,
    /// A producer takes room in the ledger before it uses a slot (R6).
    Reserve,
    /// The consumer gives room back after it has emptied a slot (R7).
    Free,
    /// The writer of a watermark publishes a value (R9).
    Advance,
    /// A reader of a watermark looks at the value (R9).
    Read,
}

impl Site {
    /// The weakest ordering with which the rules hold.
    const fn required(self) -> Ordering {
        match self {
            Site::Arm | Site::Reserve | Site::Read => Ordering::Acquire,
            Site::Notify | Site::Free | Site::Advance => Ordering::Release,
        }
    }

    /// The ordering to use.
    #[cfg(not(lockstep_loom))]
    #[inline(always)]
    pub(super) const fn ordering(self) -> Ordering {
        self.required()
    }

    /// The ordering to use: the required one, unless a test has weakened it.
    #[cfg(lockstep_loom)]
    pub(super) fn ordering(self) -> Ordering {
        if weaken::is_weakened(self) { Ordering::Relaxed } else { self.required() }
    }
}

#[cfg(lockstep_loom)]
pub(super) mod weaken {
    //! The switch with which a model is run without one of its orderings.

    use super::Site;
    use std::cell::Cell;

    // loom runs all threads of a model on the thread that started it, so this
    // reaches the whole model and no other test.
    thread_local! {
        static WEAKENED: Cell<Option<Site>> = const { Cell::new(None) };
    }

    pub(super) fn is_weakened(site: Site) -> bool {
        WEAKENED.get() == Some(site)
    }

    /// Runs `body` with `site` weakened to `Relaxed`. `body` must not unwind.
    #[cfg(test)]
    pub(in crate::sync) fn with_weakened<R>(site: Site, body: impl FnOnce() -> R) -> R {
        WEAKENED.set(Some(site));
        let result = body();
        WEAKENED.set(None);
        result
    }
}
