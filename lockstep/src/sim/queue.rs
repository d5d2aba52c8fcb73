//! What happens next: a queue ordered by time, then by who came first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Things to come, in order of time; those of one moment in the order in which they were put in.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Due<T>>,
    sequence: u64,
}

#[derive(Debug)]
struct Due<T> {
    at: u64,
    sequence: u64,
    what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<T> Queue<T> {
    /// Puts something in that is to happen at this time.
    pub(super) fn put(&mut self, at: u64, what: T) {
        self.sequence += 1;
        self.heap.push(Due { at, sequence: self.sequence, what });
    }

    /// Takes what comes next, with its time.
    pub(super) fn take(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|due| (due.at, due.what))
    }
}

impl<T> Ord for Due<T> {
    /// The heap gives the greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Due<T> {}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn time_first_then_arrival() {
        let mut queue = Queue::default();
        for (at, what) in [(5, 'a'), (3, 'b'), (5, 'c'), (1, 'd'), (3, 'e')] {
            queue.put(at, what);
        }
        let order: String = core::iter::from_fn(|| queue.take().map(|(_, what)| what)).collect();
        assert_eq!(order, "dbeac");
    }
}
