//! The links: which carry heartbeats, and how far each has sent.

use core::time::Duration;
use std::collections::VecDeque;

use crate::ids::{Incarnation, Index, LinkId, MonotonicTime, OriginNumber};

/// Heartbeats under way whose answers are still waited for; older ones no longer tell anything.
const PINGS: usize = 64;

/// Shortest wait before entries count as lost on a link and are sent again.
const RESEND_MIN: Duration = Duration::from_millis(30);

/// Longest wait before entries count as lost on a link and are sent again.
const RESEND_MAX: Duration = Duration::from_secs(1);

/// What a replica knows of one link to its peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) connected: bool,
    /// The peer's process, from its hello on this connection.
    pub(super) handshaken_with: Option<Incarnation>,
    /// Whether the peer has had our hello on this connection.
    pub(super) heard: bool,
    /// Whether the link's queue is full, so that nothing is sent on it.
    pub(super) blocked: bool,
    /// Whether heartbeats come back.
    pub(super) up: bool,
    /// When the last of our own heartbeats came back, without the time of our own stalls.
    pub(super) echoed: MonotonicTime,
    pings: VecDeque<(u64, MonotonicTime)>,
    sequence: u64,
    round_trip: Option<Duration>,
    /// The shortest round trip of late.
    least_trip: Option<Duration>,
    /// The next entry to send here.
    pub(super) cursor: Index,
    /// Entries up to here go here whole, bulk included, because another link failed to
    /// bring them.
    pub(super) whole_to: Index,
    /// The next input to forward here.
    pub(super) forward: OriginNumber,
    /// What the peer was last told here.
    pub(super) told: Told,
}

/// The parts of a progress report that are worth a frame of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) executed: Index,
    pub(super) persisted: Index,
    pub(super) last_index: Index,
    /// Steps in the log up to what is both executed and persisted.
    pub(super) steps: u64,
}

impl Link {
    pub(super) fn new(id: LinkId) -> Self {
        Self {
            id,
            connected: false,
            handshaken_with: None,
            heard: false,
            blocked: false,
            up: false,
            echoed: MonotonicTime(0),
            pings: VecDeque::new(),
            sequence: 0,
            round_trip: None,
            least_trip: None,
            cursor: Index(1),
            whole_to: Index(0),
            forward: OriginNumber(1),
            told: Told::default(),
        }
    }

    /// A connection is there. Everything that the peer may lack is sent on it.
    pub(super) fn connect(&mut self, first: Index, forward: OriginNumber, now: MonotonicTime) {
        *self = Self {
            connected: true,
            echoed: now,
            cursor: first,
            forward,
            sequence: self.sequence,
            ..Self::new(self.id)
        };
    }

    pub(super) fn disconnect(&mut self) {
        *self = Self { sequence: self.sequence, ..Self::new(self.id) };
    }

    /// Whether frames of an epoch may go here.
    pub(super) fn carries(&self) -> bool {
        self.connected && self.heard && self.handshaken_with.is_some() && !self.blocked
    }

    /// The next heartbeat's mark.
    pub(super) fn ping(&mut self, now: MonotonicTime) -> u64 {
        self.sequence += 1;
        if self.pings.len() == PINGS {
            self.pings.pop_front();
        }
        self.pings.push_back((self.sequence, now));
        self.sequence
    }

    /// A heartbeat came back. Returns how long after the one before, and when it had left, if it
    /// is news.
    pub(super) fn pong(
        &mut self,
        sequence: u64,
        now: MonotonicTime,
    ) -> Option<(Duration, MonotonicTime)> {
        let at = self.pings.iter().position(|(mark, _)| *mark == sequence)?;
        let (_, sent) = self.pings.drain(..=at).next_back()?;
        let sample = now.since(sent);
        self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
        // Within some thousand heartbeats it follows a way that became longer.
        let least = self.least_trip.map_or(sample, |old| old + old / 512);
        self.least_trip = Some(sample.min(least));
        let gap = now.since(self.echoed);
        self.echoed = now;
        Some((gap, sent))
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What a heartbeat takes there and back when nothing holds it up.
    pub(super) fn least_trip(&self) -> Option<Duration> {
        self.least_trip
    }

    /// How long entries may go unacknowledged before they are sent again.
    pub(super) fn resend_after(&self) -> Duration {
        self.round_trip.map_or(RESEND_MIN, |trip| (trip * 4).clamp(RESEND_MIN, RESEND_MAX))
    }

    /// Goes back to the first entry that the peer lacks.
    pub(super) fn rewind(&mut self, first: Index, forward: OriginNumber) {
        if first < self.cursor {
            self.whole_to = self.whole_to.max(self.cursor.prev());
            self.cursor = first;
        }
        self.forward = self.forward.min(forward);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_forgotten_or_repeated_heartbeat_tells_nothing() {
        let mut link = Link::new(LinkId(0));
        link.connect(Index(1), OriginNumber(1), MonotonicTime(0));
        let mark = link.ping(MonotonicTime(10));
        assert_eq!(
            link.pong(mark, MonotonicTime(30)),
            Some((Duration::from_nanos(30), MonotonicTime(10)))
        );
        assert_eq!(link.pong(mark, MonotonicTime(40)), None);
        assert_eq!(link.pong(mark + 1, MonotonicTime(40)), None);
        assert_eq!(link.round_trip(), Some(Duration::from_nanos(20)));
    }

    #[test]
    fn rewinding_makes_the_link_carry_bulk_that_another_one_lost() {
        let mut link = Link::new(LinkId(0));
        link.connect(Index(1), OriginNumber(1), MonotonicTime(0));
        link.cursor = Index(9);
        link.rewind(Index(4), OriginNumber(1));
        assert_eq!((link.cursor, link.whole_to), (Index(4), Index(8)));
    }
}
