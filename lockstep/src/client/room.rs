//! How much of a window the pair has room for. The pair keeps the replies from the lowest
//! unanswered request on, and refuses a request whose reply it could not keep (rule C2).
//!
//! As many as it kept when it refused one are under way from then on, and one more for each such
//! round that is answered. Whatever lies beyond waits here: the pair would refuse it, and all
//! after it.

use crate::ids::RequestNumber;

/// What may be under way of a window, and what is.
#[derive(Debug)]
pub(super) struct Room {
    /// Most numbers from the lowest unanswered one on; none while the pair has refused nothing.
    most: Option<u64>,
    /// Answers since that last changed.
    answered: u64,
    /// The first that was not sent, or was refused.
    waiting: RequestNumber,
}

impl Room {
    /// For a session in which nothing was asked.
    pub(super) fn new() -> Self {
        Self { most: None, answered: 0, waiting: RequestNumber(1) }
    }

    /// The first number that may not be under way.
    pub(super) fn end(&self, lowest: RequestNumber) -> RequestNumber {
        self.most.map_or(RequestNumber(u64::MAX), |most| RequestNumber(lowest.0 + most))
    }

    /// The first that was not sent, or was refused. All from there on have to be sent, in order.
    pub(super) fn waiting(&self) -> RequestNumber {
        self.waiting
    }

    /// Everything that may be under way, of a window that ends before `next`, was sent.
    pub(super) fn sent(&mut self, lowest: RequestNumber, next: RequestNumber) {
        self.waiting = self.waiting.max(self.end(lowest).min(next));
    }

    /// There was no room for this one, last sent when `sent_with` was the lowest unanswered: so
    /// many replies were kept before it. Another copy of one that waits already says nothing new,
    /// nor does one of what was sent as the lowest since: there all others had been given up.
    pub(super) fn refused(&mut self, number: RequestNumber, sent_with: RequestNumber) {
        let kept = number.0.saturating_sub(sent_with.0);
        if number < self.waiting && kept > 0 {
            (self.most, self.answered, self.waiting) = (Some(kept), 0, number);
        }
    }

    /// A request was answered, of a window of at most so many.
    pub(super) fn answered(&mut self, window: u64) {
        let Some(most) = self.most else { return };
        self.answered += 1;
        if self.answered >= most {
            (self.most, self.answered) = (Some(most + 1).filter(|most| *most < window), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn number(number: u64) -> RequestNumber {
        RequestNumber(number)
    }

    #[test]
    fn what_was_refused_waits_and_as_many_go_on_as_were_kept() {
        let mut room = Room::new();
        room.sent(number(1), number(101));
        assert_eq!(room.waiting(), number(101));
        room.refused(number(9), number(1));
        assert_eq!((room.waiting(), room.end(number(1))), (number(9), number(9)));
        room.refused(number(9), number(4));
        assert_eq!(room.end(number(4)), number(12), "a copy of it");
        room.sent(number(4), number(101));
        assert_eq!(room.waiting(), number(12));
    }

    #[test]
    fn one_that_was_sent_as_the_lowest_is_refused_by_an_older_copy_or_for_want_of_all_room() {
        let mut room = Room::new();
        room.sent(number(5), number(6));
        room.refused(number(5), number(5));
        assert_eq!((room.end(number(5)), room.waiting()), (number(u64::MAX), number(6)));
    }

    #[test]
    fn one_more_is_tried_with_each_round_until_the_window_is_all_of_it() {
        let mut room = Room::new();
        room.sent(number(1), number(11));
        room.refused(number(3), number(1));
        room.answered(4);
        assert_eq!(room.end(number(1)), number(3));
        room.answered(4);
        assert_eq!(room.end(number(1)), number(4));
        (0..3).for_each(|_| room.answered(4));
        assert_eq!(room.end(number(1)), number(u64::MAX));
    }
}
