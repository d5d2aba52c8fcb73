//! Who has most of what waits to be sent, and which connections have to go for it.

use std::collections::{BTreeMap, BTreeSet};

/// What waits for the connections `I` of each owner `O`, in bytes.
#[derive(Debug)]
pub(super) struct Queues<O, I> {
    by_owner: BTreeMap<O, (usize, BTreeSet<(usize, I)>)>,
    sum: usize,
}

impl<O: Ord + Copy, I: Ord + Copy> Queues<O, I> {
    pub(super) fn of(waits: impl Iterator<Item = (O, I, usize)>) -> Self {
        let mut queues = Self { by_owner: BTreeMap::new(), sum: 0 };
        for (owner, connection, bytes) in waits.filter(|(_, _, bytes)| *bytes > 0) {
            let (sum, connections) = queues.by_owner.entry(owner).or_default();
            *sum += bytes;
            queues.sum += bytes;
            connections.insert((bytes, connection));
        }
        queues
    }

    pub(super) const fn sum(&self) -> usize {
        self.sum
    }

    /// Takes out connections until no more than `rest` is left: the one for which most waits, of
    /// the owner that has most then.
    pub(super) fn cut(&mut self, rest: usize) -> Vec<I> {
        let mut chosen = Vec::new();
        while self.sum > rest
            && let Some((has, connections)) = self.by_owner.values_mut().max_by_key(|(has, _)| *has)
            && let Some((bytes, connection)) = connections.pop_last()
        {
            *has -= bytes;
            self.sum -= bytes;
            chosen.push(connection);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_most_loses_most() {
        let greedy = (0..10).map(|number| ('g', number, 10));
        let modest = [('m', 10, 9), ('m', 11, 0)];
        let mut queues = Queues::of(greedy.chain(modest));
        assert_eq!(queues.sum(), 109);
        let chosen = queues.cut(50);
        assert_eq!(chosen, [9, 8, 7, 6, 5, 4]);
        assert_eq!(queues.sum(), 49);
        assert_eq!(queues.cut(50), [] as [i32; 0]);
    }

    #[test]
    fn an_owner_gives_way_until_another_has_as_much() {
        let waits = [('g', 1, 30), ('g', 2, 30), ('m', 3, 25), ('m', 4, 20)];
        let mut queues = Queues::of(waits.into_iter());
        assert_eq!(queues.cut(60), [2, 3]);
    }

    #[test]
    fn nothing_is_left_where_nothing_may_be() {
        let mut queues = Queues::of([('g', 1, 3), ('m', 2, 4)].into_iter());
        assert_eq!(queues.cut(0), [2, 1]);
        assert_eq!(queues.sum(), 0);
    }
}
