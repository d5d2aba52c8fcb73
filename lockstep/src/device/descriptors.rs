//! File descriptors for what comes from outside: a budget, so that connections of strangers never
//! take those that links, witness, journal, checkpoints and control need.
//!
//! A device takes a [`Lease`] before it accepts or makes a connection, and keeps it for as long
//! as the connection. The engine takes none for itself: what it needs lies outside the budget.

use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

/// Of this many descriptors one is kept for connections that the service makes, so that those that
/// connect cannot keep the service from reaching others.
const MADE_SHARE: u32 = 8;

/// At least so many are kept for them: a connection to a name takes this many while it is made.
const MADE_LEAST: u32 = 8;

/// What a descriptor is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A connection that a client made to this CoServer.
    Accepted,
    /// A connection that the service makes.
    Made,
}

/// How many descriptors the devices of a CoServer may have. Cheap to clone; all clones
/// count together.
#[derive(Clone, Debug)]
pub struct Descriptors(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: u32,
    taken: AtomicU32,
}

impl Descriptors {
    /// A budget of so many.
    pub fn new(total: u32) -> Self {
        Self(Arc::new(Budget { total, taken: AtomicU32::new(0) }))
    }

    /// As many as are asked for: for tests, and where nothing is shared.
    pub fn unbounded() -> Self {
        Self::new(u32::MAX)
    }

    /// How large a budget must be so that so many may be [`Want::Accepted`].
    pub fn for_all(accepted: u32) -> u32 {
        accepted.saturating_add(accepted.div_ceil(MADE_SHARE - 1).max(MADE_LEAST))
    }

    /// How many there are in all.
    pub fn total(&self) -> u32 {
        self.0.total
    }

    /// How many of them [`Want::Accepted`] may take.
    pub fn for_accepted(&self) -> u32 {
        self.most(Want::Accepted)
    }

    /// How many are taken.
    pub fn taken(&self) -> u32 {
        self.0.taken.load(Ordering::Relaxed)
    }

    fn most(&self, want: Want) -> u32 {
        let total = self.0.total;
        match want {
            Want::Made => total,
            Want::Accepted => total.saturating_sub((total / MADE_SHARE).max(MADE_LEAST)),
        }
    }

    /// Takes so many, or none.
    pub fn try_take(&self, want: Want, count: u32) -> Option<Lease> {
        let most = self.most(want);
        let more = |taken: u32| taken.checked_add(count).filter(|sum| *sum <= most);
        let taken = &self.0.taken;
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Lease { budget: self.clone(), count })
    }
}

/// Descriptors that are taken; given back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    budget: Descriptors,
    count: u32,
}

impl Lease {
    /// Gives back all but so many.
    pub fn shrink_to(&mut self, count: u32) {
        let left = self.count.min(count);
        self.budget.0.taken.fetch_sub(self.count - left, Ordering::Relaxed);
        self.count = left;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_connect_leave_some_for_connections_that_are_made() {
        let budget = Descriptors::new(40);
        let accepted: Vec<Lease> =
            core::iter::from_fn(|| budget.try_take(Want::Accepted, 1)).collect();
        assert_eq!((accepted.len(), budget.for_accepted()), (32, 32));
        let made: Vec<Lease> = core::iter::from_fn(|| budget.try_take(Want::Made, 1)).collect();
        assert_eq!((made.len(), budget.taken()), (8, 40));
        drop(accepted);
        assert_eq!(budget.taken(), 8);
    }

    #[test]
    fn a_lease_gives_back_what_it_does_not_need() {
        let budget = Descriptors::new(8);
        let mut lease = budget.try_take(Want::Made, 3).unwrap();
        assert!(budget.try_take(Want::Made, 6).is_none());
        lease.shrink_to(1);
        assert_eq!(budget.taken(), 1);
        lease.shrink_to(2);
        assert_eq!(budget.taken(), 1);
        drop(lease);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_budget_without_a_bound_gives_to_everybody() {
        let budget = Descriptors::unbounded();
        assert!(budget.try_take(Want::Accepted, 1 << 20).is_some());
    }

    #[test]
    fn a_budget_for_so_many_has_them_and_no_more_than_it_must() {
        for accepted in [1, 8, 55, 56, 57, 1000, 2096, 65_536] {
            let total = Descriptors::for_all(accepted);
            assert!(Descriptors::new(total).for_accepted() >= accepted, "{accepted}");
            assert!(Descriptors::new(total - 1).for_accepted() < accepted + 1, "{accepted}");
        }
    }

    #[test]
    fn a_small_budget_is_for_what_the_service_makes() {
        let budget = Descriptors::new(3);
        assert!(budget.try_take(Want::Accepted, 1).is_none());
        assert!(budget.try_take(Want::Made, 3).is_some());
    }
}
