//! What clients lose by the rules of sessions: counted, and said where a pool is full (rules C6,
//! C9).

use super::replica::Replica;
use crate::event::{Event, Reminder};
use crate::ids::{MonotonicTime, OwnerId};
use crate::loss::{Loss, SessionPool, SessionUse};

/// What the clients' sessions have, and what was lost of them while this process was a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// How many are open.
    pub open: usize,
    /// Bytes of the kept replies of all of them, 64 more for each.
    pub reply_bytes: usize,
    /// What was lost, in the order of [`Loss::ALL`].
    pub lost: [u64; Loss::ALL.len()],
}

/// What is to be said of each pool.
#[derive(Debug, Default)]
pub(super) struct Shortages {
    counts: SessionCounts,
    pools: [Shortage; SessionPool::ALL.len()],
}

/// What was lost of one pool since that was said.
#[derive(Clone, Copy, Debug, Default)]
struct Shortage {
    ended: u64,
    refused: u64,
    /// The owner that lost a session, or was refused, last.
    owner: Option<OwnerId>,
    /// When it may be said. None while nothing is lost.
    reminder: Option<Reminder<MonotonicTime>>,
}

impl Shortages {
    pub(super) fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// Takes note of what one entry came to; of losses only if this process is a member.
    pub(super) fn note(&mut self, sessions: &SessionUse, is_member: bool) {
        self.counts.open = sessions.open;
        self.counts.reply_bytes = sessions.reply_bytes;
        for &(owner, loss) in sessions.lost.iter().filter(|_| is_member) {
            self.counts.lost[loss as usize] += 1;
            if let Some(pool) = loss.pool() {
                self.pools[pool as usize].note(owner, loss);
            }
        }
    }

    pub(super) fn due(&self) -> Option<MonotonicTime> {
        self.pools.iter().filter_map(|pool| pool.reminder).map(|reminder| reminder.due()).min()
    }

    fn say(&mut self, now: MonotonicTime) -> impl Iterator<Item = Event> {
        let pools = SessionPool::ALL.into_iter().zip(&mut self.pools);
        pools.filter_map(move |(pool, shortage)| shortage.say(pool, now))
    }
}

impl Shortage {
    fn note(&mut self, owner: OwnerId, loss: Loss) {
        self.owner = Some(owner);
        *if loss.is_refusal() { &mut self.refused } else { &mut self.ended } += 1;
    }

    fn say(&mut self, pool: SessionPool, now: MonotonicTime) -> Option<Event> {
        let Self { ended, refused, owner, reminder } = *self;
        let mut reminder = reminder.or(owner.map(|_| Reminder::at_once(now)))?;
        if !reminder.is_due(now) {
            return None;
        }
        // Where it has ended, the next is said at once.
        *self = Self { reminder: owner.map(|_| reminder), ..Self::default() };
        owner.map(|owner| Event::PoolFull { pool, owner, ended, refused })
    }
}

impl Replica {
    /// Says what was lost, where that is due.
    pub(super) fn say_shortages(&mut self) {
        let now = self.now.mono;
        let said: Vec<_> = self.shortages.say(now).collect();
        said.into_iter().for_each(|event| self.event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SAID_FIRST;

    const SECOND: u64 = 1_000_000_000;

    fn lose(shortages: &mut Shortages, owner: u64, loss: Loss) {
        let lost = vec![(OwnerId(owner), loss)];
        shortages.note(&SessionUse { open: 7, reply_bytes: 70, lost }, true);
    }

    fn said(shortages: &mut Shortages, second: u64) -> Vec<Event> {
        shortages.say(MonotonicTime(second * SECOND)).collect()
    }

    fn full(pool: SessionPool, owner: u64, ended: u64, refused: u64) -> Event {
        Event::PoolFull { pool, owner: OwnerId(owner), ended, refused }
    }

    #[test]
    fn the_first_loss_is_said_at_once_and_what_follows_in_sums() {
        let mut shortages = Shortages::default();
        assert_eq!((said(&mut shortages, 0), shortages.due()), (vec![], None));
        lose(&mut shortages, 1, Loss::Displaced);
        assert_eq!(said(&mut shortages, 1), [full(SessionPool::Sessions, 1, 1, 0)]);
        lose(&mut shortages, 1, Loss::Displaced);
        lose(&mut shortages, 2, Loss::NoSession);
        lose(&mut shortages, 3, Loss::NoRoom);
        assert_eq!(said(&mut shortages, 2), [full(SessionPool::Replies, 3, 0, 1)]);
        let first = SAID_FIRST.as_secs();
        assert_eq!(shortages.due(), Some(MonotonicTime((1 + first) * SECOND)));
        assert_eq!(said(&mut shortages, 1 + first), [full(SessionPool::Sessions, 2, 1, 1)]);
        let every = (SAID_FIRST * 2).as_secs();
        assert!(every > first, "ever more rarely");
        lose(&mut shortages, 2, Loss::Displaced);
        assert_eq!(said(&mut shortages, first + every), []);
    }

    #[test]
    fn one_that_begins_again_is_said_at_once_again() {
        let mut shortages = Shortages::default();
        lose(&mut shortages, 1, Loss::MadeRoom);
        assert_eq!(said(&mut shortages, 1).len(), 1);
        assert_eq!((said(&mut shortages, 1000), shortages.due()), (vec![], None));
        lose(&mut shortages, 1, Loss::Unread);
        assert_eq!(said(&mut shortages, 1001), [full(SessionPool::Replies, 1, 1, 0)]);
    }

    #[test]
    fn what_ends_as_it_should_is_not_said() {
        let mut shortages = Shortages::default();
        [Loss::Idle, Loss::Unused].into_iter().for_each(|loss| lose(&mut shortages, 1, loss));
        assert_eq!((said(&mut shortages, 1), shortages.due()), (vec![], None));
    }

    #[test]
    fn everything_is_counted_unless_others_have_counted_it() {
        let mut shortages = Shortages::default();
        Loss::ALL.into_iter().for_each(|loss| lose(&mut shortages, 1, loss));
        lose(&mut shortages, 1, Loss::Unused);
        assert_eq!(shortages.counts().lost, [1, 2, 1, 1, 1, 1, 1]);
        assert_eq!((shortages.counts().open, shortages.counts().reply_bytes), (7, 70));
        let sessions = SessionUse { lost: vec![(OwnerId(1), Loss::Unused)], ..Default::default() };
        shortages.note(&sessions, false);
        assert_eq!(shortages.counts().lost, [1, 2, 1, 1, 1, 1, 1], "one that only catches up");
    }
}
