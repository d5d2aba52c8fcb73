//! A table of what was used lately, bounded in number as well as by time.

use std::collections::BTreeSet;

use imbl::OrdMap;

/// An entry that means something for a time only.
pub(super) trait Expires {
    /// When the entry has come to mean as much as none.
    fn until(&self) -> u64;
}

/// Entries, each of which is kept until it means nothing. At one too many the one that would be
/// forgotten first is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered<K: Ord, V> {
    entries: OrdMap<K, V>,
    /// All of `entries`, by the time at which they may be forgotten.
    until: BTreeSet<(u64, K)>,
}

impl<K: Ord, V> Default for Remembered<K, V> {
    fn default() -> Remembered<K, V> {
        Remembered { entries: OrdMap::new(), until: BTreeSet::new() }
    }
}

impl<K: Ord + Copy, V: Expires + Copy + Default> Remembered<K, V> {
    pub(super) fn new(entries: Vec<(K, V)>) -> Remembered<K, V> {
        let until = entries.iter().map(|(key, entry)| (entry.until(), *key)).collect();
        Remembered { entries: entries.into_iter().collect(), until }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries; as cheap to copy as a number.
    pub(super) fn entries(&self) -> OrdMap<K, V> {
        self.entries.clone()
    }

    pub(super) fn get(&self, key: K) -> V {
        self.entries.get(&key).copied().unwrap_or_default()
    }

    /// Changes an entry, and forgets those that mean nothing now, and one more if there would be
    /// more than `most`.
    pub(super) fn change(&mut self, key: K, now: u64, most: usize, change: impl FnOnce(&mut V)) {
        while self.until.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
        let mut entry = self.get(key);
        let is_known = self.until.remove(&(entry.until(), key));
        if !is_known && self.entries.len() >= most {
            self.forget_first();
        }
        change(&mut entry);
        self.until.insert((entry.until(), key));
        self.entries.insert(key, entry);
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.until.pop_first() {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    struct Entry(u64);

    impl Expires for Entry {
        fn until(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let mut table = Remembered::default();
        for key in 0..10u32 {
            table.change(key, 5, 4, |entry| *entry = Entry(100 + u64::from(key)));
        }
        assert_eq!(table.entries().keys().copied().collect::<Vec<_>>(), [6, 7, 8, 9]);
        table.change(6, 5, 4, |entry| *entry = Entry(200));
        table.change(10, 5, 4, |entry| *entry = Entry(150));
        assert_eq!(table.entries().keys().copied().collect::<Vec<_>>(), [6, 8, 9, 10]);
        table.change(11, 150, 4, |entry| *entry = Entry(300));
        assert_eq!(table.entries().keys().copied().collect::<Vec<_>>(), [6, 11]);
        assert_eq!(table, Remembered::new(table.entries().into_iter().collect()));
    }
}
