//! The switch between the primitives of `std` and those of the loom model
//! checker. Nothing else in this module names either.

#[cfg(lockstep_loom)]
pub(super) use self::modelled::*;
#[cfg(not(lockstep_loom))]
pub(super) use self::real::*;

#[cfg(not(lockstep_loom))]
mod real {
    #![expect(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        reason = "these primitives connect threads, and stand outside the deterministic part"
    )]

    pub(in crate::sync) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(in crate::sync) use std::sync::{Arc, MutexGuard};

    use std::task::{Wake, Waker};
    use std::thread::{self, Thread};
    use std::time::Instant;

    pub(in crate::sync) type Lock<T> = std::sync::Mutex<T>;

    /// Puts the calling thread to sleep until its waker is used.
    #[derive(Debug)]
    pub(in crate::sync) struct Parker {
        waker: Waker,
    }

    impl Parker {
        pub(in crate::sync) fn new() -> Self {
            Self { waker: Waker::from(Arc::new(Unpark(thread::current()))) }
        }

        pub(in crate::sync) fn waker(&self) -> &Waker {
            &self.waker
        }

        /// Sleeps until woken, or for no reason at all; `false` at once when
        /// the deadline has passed. Without a deadline there is no bound.
        pub(in crate::sync) fn park(&self, deadline: Option<Instant>) -> bool {
            let Some(deadline) = deadline else {
                thread::park();
                return true;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
            true
        }
    }

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }
}

#[cfg(lockstep_loom)]
mod modelled {
    pub(in crate::sync) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(in crate::sync) use loom::sync::{Arc, MutexGuard};

    use loom::sync::Notify;
    use std::task::{Wake, Waker};
    use std::time::Instant;

    pub(in crate::sync) type Lock<T> = loom::sync::Mutex<T>;

    /// The model's sleep. It is loom's `Notify` and not its `park`, because
    /// loom's `unpark` also frees a thread that is blocked on a mutex.
    #[derive(Debug)]
    pub(in crate::sync) struct Parker {
        inner: std::sync::Arc<Unpark>,
        waker: Waker,
    }

    impl Parker {
        pub(in crate::sync) fn new() -> Self {
            let inner = std::sync::Arc::new(Unpark(Notify::new()));
            Self { waker: Waker::from(inner.clone()), inner }
        }

        pub(in crate::sync) fn waker(&self) -> &Waker {
            &self.waker
        }

        /// There is no time in the model: a deadline is always in the past.
        pub(in crate::sync) fn park(&self, deadline: Option<Instant>) -> bool {
            if deadline.is_none() {
                self.inner.0.wait();
            }
            deadline.is_none()
        }
    }

    #[derive(Debug)]
    struct Unpark(Notify);

    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.notify();
        }
    }
}
