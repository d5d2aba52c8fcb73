//! Which sources have something to say.
//!
//! Each source has a waker of its own, so that one wake-up costs a look at that
//! source and not at all of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

#[expect(clippy::disallowed_types, reason = "wakers may be called from any thread")]
type Mutex<T> = std::sync::Mutex<T>;

/// The sources that were woken, each at most once.
#[derive(Default)]
pub(super) struct ReadySet {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By rank, oldest first.
    woken: [VecDeque<Arc<Source>>; 2],
    /// Vital ones given out in a row.
    run: u8,
    task: Option<Waker>,
}

/// Of this many in a row one is ordinary, if such a one waits: none waits for ever.
const RUN: u8 = 32;

/// Which sources come first, however many others have something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Vital,
    Ordinary,
}

impl State {
    fn pop(&mut self) -> Option<Arc<Source>> {
        let [vital, ordinary] = &mut self.woken;
        if (self.run < RUN - 1 || ordinary.is_empty())
            && let Some(source) = vital.pop_front()
        {
            self.run = (self.run + 1).min(RUN - 1);
            return Some(source);
        }
        self.run = 0;
        ordinary.pop_front()
    }
}

impl ReadySet {
    /// A new source with this number.
    pub(super) fn source(self: &Arc<Self>, number: u64, rank: Rank) -> Arc<Source> {
        let waiting = AtomicBool::new(false);
        Arc::new(Source { number, rank, waiting, set: Arc::clone(self) })
    }

    /// Has `task` woken when a source is.
    pub(super) fn watch(&self, task: &Waker) {
        let mut state = self.lock();
        match &mut state.task {
            Some(known) if known.will_wake(task) => {}
            slot => *slot = Some(task.clone()),
        }
    }

    /// The number of the source that has waited longest, a vital one before all others but for one
    /// in [`RUN`]. The source may be woken again from here on, so the caller looks at it only now.
    pub(super) fn pop(&self) -> Option<u64> {
        let source = self.lock().pop()?;
        // Acquire: what happened before the wake-up is seen by the look.
        source.waiting.swap(false, Ordering::AcqRel);
        Some(source.number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().woken.iter().all(VecDeque::is_empty)
    }

    fn push(&self, source: Arc<Source>) {
        let task = {
            let mut state = self.lock();
            state.woken[source.rank as usize].push_back(source);
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    fn lock(&self) -> impl std::ops::DerefMut<Target = State> + '_ {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One source; as a [`Wake`] it puts itself into its set.
pub(super) struct Source {
    number: u64,
    rank: Rank,
    waiting: AtomicBool,
    set: Arc<ReadySet>,
}

impl Wake for Source {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.waiting.swap(true, Ordering::AcqRel) {
            self.set.push(Arc::clone(self));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_source_waits_once_and_wakes_the_task_once() {
        let (set, count) = (Arc::new(ReadySet::default()), Arc::new(Count::default()));
        let (one, two) = (set.source(1, Rank::Ordinary), set.source(2, Rank::Ordinary));
        set.watch(&Waker::from(Arc::clone(&count)));
        for source in [&two, &one, &two, &one] {
            source.wake_by_ref();
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!((set.pop(), set.pop(), set.pop()), (Some(2), Some(1), None));
        one.wake_by_ref();
        assert_eq!(set.pop(), Some(1));
    }

    #[test]
    fn a_vital_source_comes_before_those_that_have_waited_longer() {
        let set = Arc::new(ReadySet::default());
        let (one, two) = (set.source(1, Rank::Ordinary), set.source(2, Rank::Vital));
        one.wake_by_ref();
        two.wake_by_ref();
        assert_eq!((set.pop(), set.pop(), set.pop()), (Some(2), Some(1), None));
        assert!(set.is_empty());
    }

    #[test]
    fn an_ordinary_source_waits_for_a_bounded_number_of_vital_ones() {
        let set = Arc::new(ReadySet::default());
        let (one, two) = (set.source(1, Rank::Ordinary), set.source(2, Rank::Vital));
        one.wake_by_ref();
        let mut before = 0;
        two.wake_by_ref();
        while set.pop() == Some(2) {
            before += 1;
            two.wake_by_ref();
        }
        assert_eq!(before, RUN - 1);
    }
}
