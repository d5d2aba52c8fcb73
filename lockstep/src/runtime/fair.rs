//! Which input is read next while more comes in than is carried out: of clients by their keys, of
//! devices by their flows.
//!
//! What is read waits in one line until both CoServers have carried it out, so one owner that says
//! more than that would have all others wait behind it. Each frame is tagged with what its owner
//! had had read before it, in bytes. While the line is long, or a reader waits, the waiting one
//! with the least tag goes on first, and the others are put aside. This is start-time fair queueing
//! (Goyal, Vin and Cheng, SIGCOMM 1996). One that has been away begins where the others are. What
//! it did not use is lost, and what one used while no other wanted it is not held against it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::ids::MonotonicTime;

/// What a frame costs besides its bytes.
const FRAME: u64 = 512;

/// Bytes by which an owner may be ahead and is still read while the line is long. An owner that
/// asks for little does not wait for its turn.
const AHEAD: u64 = 16 << 10;

/// Where no other owner was read for so long, one is alone, and none waits behind it.
const ALONE: Duration = Duration::from_secs(60);

/// However long the line is, the first one is read after this long: others may keep it long.
const PATIENCE: Duration = Duration::from_millis(10);

/// Bytes that are read in all out of turn, while the line is long and no owner has the turn. Owners
/// that ask for little may be many.
const OUT_OF_TURN: u64 = 16 * AHEAD;

/// Most owners that are remembered. At one more the half of them that had least is forgotten: they
/// begin where the others are.
const OWNERS: usize = 1024;

/// Which of those that have something to say are read. `K` is an owner, `W` one of its ends
/// that wait.
#[derive(Debug)]
pub(super) struct FairReading<K, W> {
    /// What owners that are connected have had read.
    tags: BTreeMap<K, u64>,
    /// The tag of the last one whose turn it was: where those begin that have been away.
    floor: u64,
    aside: BTreeMap<K, VecDeque<W>>,
    /// The ones in `aside`, by how much their owners had: the least first.
    order: BTreeSet<(u64, K)>,
    /// Bytes that may be read before the line is long.
    room: usize,
    /// Bytes that were read since an owner last had its turn.
    out_of_turn: u64,
    now: MonotonicTime,
    /// When an owner last had its turn.
    turn: MonotonicTime,
    last: Option<(K, MonotonicTime)>,
    /// When one was read that was not the last.
    other: Option<MonotonicTime>,
    /// When an owner was read that waits in the same line, and has turns of another kind.
    elsewhere: Option<MonotonicTime>,
}

impl<K: Ord + Copy, W: PartialEq> FairReading<K, W> {
    pub(super) const fn new() -> Self {
        Self {
            tags: BTreeMap::new(),
            floor: 0,
            aside: BTreeMap::new(),
            order: BTreeSet::new(),
            room: usize::MAX,
            out_of_turn: 0,
            now: MonotonicTime(0),
            turn: MonotonicTime(0),
            last: None,
            other: None,
            elsewhere: None,
        }
    }

    /// How many bytes may be read before the line is long.
    pub(super) fn set_room(&mut self, room: usize, now: MonotonicTime) {
        self.now = now;
        self.room = room;
    }

    /// Notes when an owner was last read that waits in the same line, and whose turns are not
    /// given here.
    pub(super) fn set_elsewhere(&mut self, read: Option<MonotonicTime>) {
        self.elsewhere = read;
    }

    /// When an owner was last read.
    pub(super) fn last_read(&self) -> Option<MonotonicTime> {
        self.last.map(|(_, at)| at)
    }

    /// Whether this owner is read now; otherwise its connection is put [aside](Self::put_aside).
    pub(super) fn may_read(&self, owner: K) -> bool {
        self.is_owed(owner) || self.is_its_turn(owner)
    }

    fn tag(&self, owner: K) -> u64 {
        self.tags.get(&owner).copied().unwrap_or(0)
    }

    /// Whether it had so little that it waits for no other.
    fn is_owed(&self, owner: K) -> bool {
        self.tag(owner) <= self.floor + AHEAD && self.out_of_turn < OUT_OF_TURN
    }

    fn is_its_turn(&self, owner: K) -> bool {
        let first = self.order.first().is_none_or(|(least, _)| self.tag(owner) <= *least);
        let opens = self.room > 0 || self.now.since(self.turn) >= PATIENCE;
        (first && opens) || self.is_alone(owner)
    }

    fn is_alone(&self, owner: K) -> bool {
        let waits = self.order.iter().take(2).any(|(_, waiting)| *waiting != owner);
        let other = self.last.filter(|(last, _)| *last != owner).map(|(_, at)| at).or(self.other);
        let is_recent = |at: MonotonicTime| self.now.since(at) < ALONE;
        !(waits || other.into_iter().chain(self.elsewhere).any(is_recent))
    }

    /// A frame of so many bytes was read.
    pub(super) fn read(&mut self, owner: K, bytes: usize) {
        let its_turn = self.is_its_turn(owner);
        let tag = self.tags.entry(owner).or_default();
        let (before, start) = (*tag, (*tag).max(self.floor));
        *tag = start + bytes as u64 + FRAME;
        if self.order.remove(&(before, owner)) {
            self.order.insert((*tag, owner));
        }
        self.out_of_turn += bytes as u64 + FRAME;
        if its_turn {
            (self.floor, self.turn, self.out_of_turn) = (start, self.now, 0);
        }
        self.room = self.room.saturating_sub(bytes);
        if let Some((last, at)) = self.last.replace((owner, self.now))
            && last != owner
        {
            self.other = Some(at);
        }
        if self.tags.len() > OWNERS {
            self.forget_some();
        }
    }

    fn forget_some(&mut self) {
        self.forget_idle();
        if self.tags.len() > OWNERS {
            let mut tags: Vec<u64> = self.tags.values().copied().collect();
            let (_, middle, _) = tags.select_nth_unstable(OWNERS / 2);
            self.floor = self.floor.max(*middle);
            self.tags.retain(|_, tag| *tag > *middle);
            self.order = self.aside.keys().map(|owner| (self.tag(*owner), *owner)).collect();
        }
    }

    fn forget_idle(&mut self) {
        let (floor, aside) = (self.floor, &self.aside);
        self.tags.retain(|owner, tag| *tag > floor || aside.contains_key(owner));
    }

    /// Puts aside one of an owner's ends that has something to say, until its owner's turn.
    pub(super) fn put_aside(&mut self, owner: K, waiting: W) {
        self.aside.entry(owner).or_default().push_back(waiting);
        self.order.insert((self.tag(owner), owner));
    }

    /// Whether one of those put aside may be read.
    pub(super) fn has_next(&self) -> bool {
        self.order.first().is_some_and(|(_, owner)| self.may_read(*owner))
    }

    /// Whether one is put aside that had no more than the last one whose turn it was, or after no
    /// owner had a turn for long.
    pub(super) fn has_overdue(&self) -> bool {
        let waits = self.now.since(self.turn) >= PATIENCE;
        self.has_next() && (waits || self.order.first().is_some_and(|(tag, _)| *tag <= self.floor))
    }

    /// The next one of those put aside, of the owner that had least, once it may be read.
    pub(super) fn next(&mut self) -> Option<W> {
        let &(tag, owner) = self.order.first().filter(|_| self.has_next())?;
        let waiting = self.aside.get_mut(&owner)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.aside.remove(&owner);
            self.order.remove(&(tag, owner));
        }
        next
    }

    /// Forgets one of an owner's ends that is gone.
    pub(super) fn gone(&mut self, owner: K, end: &W) {
        let Some(waiting) = self.aside.get_mut(&owner) else { return };
        waiting.retain(|waiting| waiting != end);
        if waiting.is_empty() {
            self.aside.remove(&owner);
            self.order.remove(&(self.tag(owner), owner));
        }
    }

    /// The last end of an owner is gone. What it had beyond others is remembered until they
    /// have had as much: it may be back at once.
    pub(super) fn forget(&mut self, owner: K) {
        self.aside.remove(&owner);
        self.order.remove(&(self.tag(owner), owner));
        self.forget_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// One that says as much as it may, and one that says little, have been read.
    fn greedy_and_modest() -> FairReading<char, u64> {
        let mut fair = FairReading::new();
        fair.set_room(usize::MAX, MonotonicTime(SECOND));
        fair.read('m', 100);
        fair.read('g', 1 << 20);
        fair
    }

    #[test]
    fn while_the_line_is_long_one_that_had_much_waits_and_one_that_had_little_does_not() {
        let mut fair = greedy_and_modest();
        assert!(fair.may_read('g'), "nobody waits while the line is short");
        fair.set_room(0, MonotonicTime(SECOND));
        assert!(!fair.may_read('g'));
        assert!(fair.may_read('m') && fair.may_read('n'));
        fair.put_aside('g', 7);
        assert_eq!(fair.next(), None);
        fair.set_room(usize::MAX, MonotonicTime(SECOND));
        assert_eq!((fair.next(), fair.next()), (Some(7), None));
    }

    #[test]
    fn what_is_read_takes_up_the_room() {
        let mut fair = greedy_and_modest();
        fair.set_room(1 << 10, MonotonicTime(SECOND));
        assert!(fair.may_read('g'));
        fair.read('g', 1 << 20);
        assert!(!fair.may_read('g'));
    }

    #[test]
    fn behind_one_that_waits_and_had_less_everybody_waits_but_those_who_had_little() {
        let mut fair = greedy_and_modest();
        fair.read('h', 2 << 20);
        fair.put_aside('g', 7);
        assert!(!fair.may_read('h') && fair.may_read('m'));
        assert_eq!(fair.next(), Some(7));
        assert!(fair.may_read('h'));
    }

    #[test]
    fn one_that_is_alone_does_not_wait() {
        let mut fair = greedy_and_modest();
        fair.set_room(0, MonotonicTime(SECOND));
        fair.put_aside('g', 7);
        assert_eq!(fair.next(), None);
        fair.set_room(0, MonotonicTime(61 * SECOND));
        assert_eq!(fair.next(), Some(7), "the other was last read a minute ago");
        fair.read('g', 1 << 20);
        fair.read('m', 100);
        assert!(!fair.may_read('g'));
    }

    #[test]
    fn one_is_not_alone_while_another_waits_however_long_that_is() {
        let mut fair = FairReading::new();
        fair.set_room(0, MonotonicTime(SECOND));
        fair.read('g', 1);
        while fair.may_read('m') {
            fair.read('m', 1 << 10);
        }
        fair.read('g', 1 << 20);
        fair.put_aside('m', 1);
        fair.set_room(0, MonotonicTime(100 * SECOND));
        assert!(!fair.may_read('g'));
        assert_eq!(fair.next(), Some(1), "it is first, and was patient");
    }

    #[test]
    fn what_one_used_while_nobody_else_wanted_it_is_not_held_against_it() {
        let mut fair = FairReading::new();
        fair.set_room(0, MonotonicTime(SECOND));
        for _ in 0..100 {
            assert!(fair.may_read('g'), "it is alone");
            fair.read('g', 1 << 20);
        }
        // Another one comes that says as much: they take turns at once.
        fair.put_aside('g', 1);
        fair.put_aside('h', 2);
        let mut read = Vec::new();
        for _ in 0..6 {
            fair.set_room(1, MonotonicTime(SECOND));
            let connection = fair.next().expect("somebody waits");
            let owner = if connection == 1 { 'g' } else { 'h' };
            fair.read(owner, 1 << 20);
            fair.put_aside(owner, connection);
            read.push(owner);
        }
        assert!(read.iter().filter(|owner| **owner == 'g').count() >= 2, "{read:?}");
    }

    #[test]
    fn however_long_the_line_is_everybody_gets_on_now_and_then() {
        let mut fair = greedy_and_modest();
        fair.read('h', 1 << 20);
        fair.put_aside('g', 1);
        fair.put_aside('h', 2);
        let mut read = Vec::new();
        for turn in 1..=4 {
            fair.set_room(0, MonotonicTime(SECOND + turn * 10_000_000));
            let before = read.len();
            while let Some(connection) = fair.next() {
                let owner = if connection == 1 { 'g' } else { 'h' };
                fair.read(owner, 1 << 20);
                fair.put_aside(owner, connection);
                read.push(owner);
            }
            assert!(
                (1..=2).contains(&(read.len() - before)),
                "the other one is owed as much: {read:?}"
            );
        }
        assert!(read.contains(&'g') && read.contains(&'h'), "{read:?}");
    }

    #[test]
    fn two_that_say_as_much_as_they_may_have_the_same_in_the_end() {
        let mut fair = FairReading::new();
        let mut had = BTreeMap::from([('g', 0_u64), ('h', 0)]);
        // Of one a hundred connections have something to say, of the other one with longer frames.
        for number in 0..100 {
            fair.put_aside('g', number);
        }
        fair.put_aside('h', 100);
        fair.set_room(usize::MAX, MonotonicTime(SECOND));
        for _ in 0..2_000 {
            let connection = fair.next().expect("somebody waits");
            let (owner, bytes) = if connection < 100 { ('g', 1 << 10) } else { ('h', 8 << 10) };
            fair.read(owner, bytes);
            *had.get_mut(&owner).unwrap() += bytes as u64 + FRAME;
            fair.put_aside(owner, connection);
        }
        assert!(had[&'g'].abs_diff(had[&'h']) <= 2 * (8 << 10), "{had:?}");
    }

    #[test]
    fn one_that_comes_back_has_no_claim_to_what_it_did_not_use() {
        let mut fair = greedy_and_modest();
        fair.read('g', 1 << 20);
        fair.forget('m');
        fair.set_room(0, MonotonicTime(SECOND));
        let mut read = 0;
        while fair.may_read('m') {
            fair.read('m', 1 << 10);
            read += 1 << 10;
        }
        assert!(read <= AHEAD + (1 << 10), "{read}");
        assert!(fair.tags[&'m'] > fair.floor);
    }

    #[test]
    fn one_is_not_alone_while_others_that_have_turns_elsewhere_were_read_lately() {
        let mut fair: FairReading<char, u64> = FairReading::new();
        fair.read('g', 1 << 20);
        fair.set_room(0, MonotonicTime(SECOND));
        assert!(fair.may_read('g'));
        fair.set_elsewhere(Some(MonotonicTime(SECOND)));
        fair.read('g', 1 << 20);
        assert!(!fair.may_read('g') && fair.may_read('m'));
        fair.set_room(0, MonotonicTime(61 * SECOND));
        assert!(fair.may_read('g'));
    }

    #[test]
    fn of_owners_without_number_few_are_remembered_and_those_who_wait_get_on() {
        let mut fair: FairReading<u32, u32> = FairReading::new();
        fair.set_room(usize::MAX, MonotonicTime(SECOND));
        fair.read(u32::MAX, 1 << 30);
        fair.put_aside(u32::MAX, 7);
        for owner in 0..100_000 {
            fair.read(owner, 1 << 10);
            assert!(fair.tags.len() <= OWNERS + 1);
        }
        fair.set_room(0, MonotonicTime(SECOND));
        assert_eq!(fair.next(), None, "what it had is not forgotten");
        fair.set_room(1, MonotonicTime(SECOND));
        assert_eq!((fair.next(), fair.next()), (Some(7), None));
        assert!(fair.order.is_empty());
    }

    #[test]
    fn many_that_ask_for_little_are_not_all_read_out_of_turn() {
        let mut fair: FairReading<u32, u32> = FairReading::new();
        fair.set_room(usize::MAX, MonotonicTime(SECOND));
        fair.read(0, 1 << 20);
        fair.put_aside(0, 0);
        fair.set_room(0, MonotonicTime(SECOND));
        let read = (1..10_000).take_while(|owner| {
            let may_read = fair.may_read(*owner);
            fair.read(*owner, if may_read { 16 << 10 } else { 0 });
            may_read
        });
        assert!((8..32).contains(&read.count()));
        fair.set_room(1, MonotonicTime(SECOND));
        assert!(fair.may_read(20_000), "one of them is the first in turn");
    }

    #[test]
    fn an_owner_that_is_gone_leaves_nothing_behind() {
        let mut fair = greedy_and_modest();
        fair.put_aside('g', 7);
        fair.put_aside('g', 8);
        fair.gone('g', &8);
        assert_eq!(fair.aside[&'g'], [7]);
        fair.gone('g', &7);
        assert!(fair.aside.is_empty() && fair.order.is_empty());
        fair.put_aside('g', 9);
        fair.read('g', 1 << 20);
        fair.forget('g');
        fair.set_room(0, MonotonicTime(SECOND));
        assert!(!fair.may_read('g'), "it is back at once");
        fair.floor = u64::MAX;
        fair.forget('g');
        fair.forget('m');
        assert!(fair.tags.is_empty() && fair.aside.is_empty() && fair.order.is_empty());
        assert_eq!(fair.next(), None);
    }
}
