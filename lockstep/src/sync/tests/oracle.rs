//! Any sequence of operations on a mailbox, against a `VecDeque` with bounds.

use crate::sync::{Capacity, Depth, PopError, PushError, mailbox};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Pop,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_u64..14).prop_map(Step::Push),
        16 => Just(Step::Pop),
        1 => Just(Step::Close),
    ]
}

struct Oracle {
    held: VecDeque<u64>,
    items: usize,
    bytes: u64,
    closed: bool,
}

impl Oracle {
    fn push(&mut self, weight: u64) -> Result<(), PushError<u64>> {
        if self.closed {
            Err(PushError::Closed(weight))
        } else if weight > self.bytes {
            Err(PushError::TooLarge(weight))
        } else if self.held.len() == self.items || self.depth().bytes + weight > self.bytes {
            Err(PushError::Full(weight))
        } else {
            self.held.push_back(weight);
            Ok(())
        }
    }

    fn pop(&mut self) -> Result<u64, PopError> {
        let none = if self.closed { PopError::Closed } else { PopError::Empty };
        self.held.pop_front().ok_or(none)
    }

    fn depth(&self) -> Depth {
        Depth { items: self.held.len(), bytes: self.held.iter().sum() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_mailbox_is_a_bounded_queue(
        items in 1_usize..6,
        bytes in 0_u64..40,
        steps in vec(step(), 0..80),
    ) {
        let capacity = Capacity::new(items, bytes).unwrap();
        let (sender, mut receiver) = mailbox(capacity, |weight: &u64| *weight);
        let mut oracle = Oracle { held: VecDeque::new(), items, bytes, closed: false };
        for step in steps {
            match step {
                Step::Push(weight) => {
                    prop_assert_eq!(sender.try_push(weight), oracle.push(weight));
                }
                Step::Pop => prop_assert_eq!(receiver.pop(), oracle.pop()),
                Step::Close => {
                    sender.close();
                    oracle.closed = true;
                }
            }
            prop_assert_eq!(receiver.depth(), oracle.depth());
            prop_assert_eq!(sender.is_closed(), oracle.closed);
        }
    }
}
