//! Connections: latency, order, loss, stalls, full queues, cuts.
//!
//! A [`Wire`] joins two ends and has a [`Lane`] each way. It only decides *when*
//! something arrives, or that it does not; the world carries it there.

use std::collections::VecDeque;

use bytes::Bytes;

use super::rng::Rng;

/// The number of a wire in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WireId(pub usize);

/// What travels on a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The connection is up at the far end.
    Up,
    /// The near end closed it, or it broke.
    Down,
    /// A frame's bytes.
    Frame(Bytes),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Frame(bytes) => bytes.len(),
            Self::Up | Self::Down => 0,
        }
    }
}

/// What a fault does to a lane while it lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Nothing gets through; what is sent waits.
    pub stalled: bool,
    /// Everything takes this much longer (ns).
    pub delay: u64,
    /// So many of a thousand frames are lost.
    pub loss: u32,
    /// So many of a thousand frames are overtaken by later ones.
    pub reorder: u32,
    /// So many of a thousand frames arrive twice.
    pub duplicate: u32,
    /// So many of a thousand frames arrive damaged.
    pub corrupt: u32,
    /// The queue is this short (bytes), if it is.
    pub capacity: Option<usize>,
}

impl Trouble {
    fn and(self, other: Self) -> Self {
        Self {
            stalled: self.stalled || other.stalled,
            delay: self.delay.max(other.delay),
            loss: self.loss.max(other.loss),
            reorder: self.reorder.max(other.reorder),
            duplicate: self.duplicate.max(other.duplicate),
            corrupt: self.corrupt.max(other.corrupt),
            capacity: match (self.capacity, other.capacity) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
        }
    }
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Lane {
    /// Whether frames arrive in order and are never lost while the connection is up, as on a
    /// QUIC stream. Loss is then delay.
    pub reliable: bool,
    latency: u64,
    jitter: u64,
    capacity: usize,
    troubles: Vec<(usize, Trouble)>,
    now: Trouble,
    stalled_since: Option<u64>,
    last: u64,
    in_flight: usize,
    blocked: bool,
    waiting: VecDeque<(u32, Item)>,
}

/// What became of a frame that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The frame arrives, and a second copy of it may arrive later.
    Arrives {
        /// When the item arrives (ns of the world).
        at: u64,
        /// When its second copy arrives (ns of the world), if there is one.
        again: Option<u64>,
        /// Whether it is damaged on its way.
        damaged: bool,
    },
    /// The frame never arrives.
    Lost,
    /// The queue is full: the frame was not taken.
    Full,
}

impl Lane {
    /// A lane with this latency and at most this much more (ns), and a queue of so many bytes.
    pub(super) fn new(reliable: bool, latency: u64, jitter: u64, capacity: usize) -> Self {
        Self {
            reliable,
            latency,
            jitter,
            capacity,
            troubles: Vec::new(),
            now: Trouble::default(),
            stalled_since: None,
            last: 0,
            in_flight: 0,
            blocked: false,
            waiting: VecDeque::new(),
        }
    }

    /// A fault begins.
    pub(super) fn trouble(&mut self, fault: usize, trouble: Trouble, at: u64) {
        self.troubles.push((fault, trouble));
        self.merge(at);
    }

    /// A fault ends; what waited for it is given back, to be carried on.
    pub(super) fn clear_fault(&mut self, fault: usize, at: u64) -> VecDeque<(u32, Item)> {
        self.troubles.retain(|(which, _)| *which != fault);
        self.merge(at);
        if self.now.stalled { VecDeque::new() } else { core::mem::take(&mut self.waiting) }
    }

    /// All faults end.
    pub(super) fn heal(&mut self, at: u64) -> VecDeque<(u32, Item)> {
        self.troubles.clear();
        self.merge(at);
        core::mem::take(&mut self.waiting)
    }

    fn merge(&mut self, at: u64) {
        self.now = self.troubles.iter().fold(Trouble::default(), |all, (_, one)| all.and(*one));
        self.stalled_since = match (self.now.stalled, self.stalled_since) {
            (true, None) => Some(at),
            (true, since) => since,
            (false, _) => None,
        };
    }

    /// Whether nothing gets through.
    pub(super) fn is_stalled(&self) -> bool {
        self.now.stalled
    }

    /// Since when nothing gets through.
    pub(super) fn stalled_since(&self) -> Option<u64> {
        self.stalled_since
    }

    /// What is sent waits until the stall ends.
    pub(super) fn wait(&mut self, generation: u32, item: Item) {
        self.waiting.push_back((generation, item));
    }

    /// Sends something at this time.
    pub(super) fn send(&mut self, at: u64, item: &Item, rng: &mut Rng) -> Sent {
        let len = item.len();
        if len != 0 {
            let capacity = self.now.capacity.map_or(self.capacity, |low| low.min(self.capacity));
            // One frame always fits, however long: else it could never be sent.
            if self.blocked || (self.in_flight != 0 && self.in_flight + len > capacity) {
                self.blocked = true;
                return Sent::Full;
            }
            if rng.chance(self.now.loss) && !self.reliable {
                return Sent::Lost;
            }
            self.in_flight += len;
        }
        self.arrival(at, len != 0, rng)
    }

    fn arrival(&mut self, at: u64, is_frame: bool, rng: &mut Rng) -> Sent {
        let mut due = at + self.latency + rng.from(0, self.jitter) + self.now.delay;
        let damaged = is_frame && rng.chance(self.now.corrupt);
        if self.reliable {
            // A lost packet holds up everything behind it for a round trip or so.
            if rng.chance(self.now.loss) {
                due += 2 * self.latency + rng.from(1_000_000, 20_000_000);
            }
            due = due.max(self.last + 1);
            self.last = due;
            return Sent::Arrives { at: due, again: None, damaged };
        }
        if !is_frame {
            due = due.max(self.last + 1);
        } else if rng.chance(self.now.reorder) {
            due += rng.spread(self.latency, 20 * self.latency.max(100_000));
        }
        self.last = self.last.max(due);
        let twice = is_frame && rng.chance(self.now.duplicate);
        let again = twice.then(|| due + rng.spread(1_000, 100_000_000));
        Sent::Arrives { at: due, again, damaged }
    }

    /// Carries on what has waited: as [`send`](Self::send), but nothing is lost any more.
    pub(super) fn resend(&mut self, at: u64, rng: &mut Rng) -> u64 {
        let due = (at + self.latency + rng.from(0, self.jitter)).max(self.last + 1);
        self.last = due;
        due
    }

    /// The far end has taken a frame of this length; tells whether a blocked sender may go on.
    pub(super) fn taken(&mut self, len: usize) -> bool {
        self.in_flight = self.in_flight.saturating_sub(len);
        let capacity = self.now.capacity.unwrap_or(self.capacity);
        let resumes = self.blocked && self.in_flight <= capacity / 2;
        if resumes {
            self.blocked = false;
        }
        resumes
    }

    /// A new connection begins: nothing of the old one is under way.
    pub(super) fn reset(&mut self, at: u64) {
        self.waiting.clear();
        self.in_flight = 0;
        self.blocked = false;
        self.last = at;
    }

    /// Bytes under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// A connection between two ends, or the place of one.
#[derive(Debug)]
pub(super) struct Wire {
    /// Its present connection's number; arrivals of an earlier one are void.
    pub generation: u32,
    /// At which ends it is open.
    pub open: [bool; 2],
    /// The lane from each end.
    pub lanes: [Lane; 2],
    /// Whether somebody is about to dial.
    pub dialling: bool,
    /// A connection on which nothing gets through for this long breaks (ns).
    pub idle: u64,
}

impl Wire {
    /// Whether the connection is up at both ends.
    pub(super) fn is_up(&self) -> bool {
        self.open == [true, true]
    }

    /// Whether nothing is left of it at either end.
    pub(super) fn is_down(&self) -> bool {
        self.open == [false, false]
    }

    /// Whether nothing gets through, one way or the other.
    pub(super) fn is_stalled(&self) -> bool {
        self.lanes.iter().any(Lane::is_stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> Item {
        Item::Frame(Bytes::from(vec![0; len]))
    }

    #[test]
    fn a_reliable_lane_keeps_the_order_whatever_the_trouble() {
        let mut lane = Lane::new(true, 1000, 5000, 1 << 20);
        let trouble = Trouble { loss: 500, reorder: 500, duplicate: 500, ..Trouble::default() };
        lane.trouble(0, trouble, 0);
        let mut rng = Rng::new(1);
        let mut last = 0;
        for at in 0..200 {
            let Sent::Arrives { at, again: None, .. } = lane.send(at, &frame(10), &mut rng) else {
                panic!("a reliable lane neither loses nor doubles")
            };
            assert!(at > last);
            last = at;
        }
    }

    #[test]
    fn a_full_lane_takes_nothing_until_half_of_it_is_taken() {
        let mut lane = Lane::new(true, 1, 0, 100);
        let mut rng = Rng::new(1);
        assert!(matches!(lane.send(0, &frame(60), &mut rng), Sent::Arrives { .. }));
        assert_eq!(lane.send(0, &frame(60), &mut rng), Sent::Full);
        assert_eq!(lane.send(0, &frame(1), &mut rng), Sent::Full);
        assert!(lane.taken(60));
        assert!(matches!(lane.send(0, &frame(60), &mut rng), Sent::Arrives { .. }));
    }

    #[test]
    fn troubles_add_up_and_end_one_by_one() {
        let mut lane = Lane::new(false, 1, 0, 100);
        lane.trouble(1, Trouble { stalled: true, ..Trouble::default() }, 10);
        lane.trouble(2, Trouble { stalled: true, ..Trouble::default() }, 20);
        lane.wait(0, Item::Up);
        assert!(lane.clear_fault(1, 30).is_empty());
        assert_eq!(lane.stalled_since(), Some(10));
        assert_eq!(lane.clear_fault(2, 40).len(), 1);
        assert!(!lane.is_stalled());
    }
}
