//! Whatever blocks of addresses do, the queue knows what each has, and keeps something for the next.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::scenarios::{START, from, later, never};
use super::*;
use crate::limits::HOUR;

/// Its mails are not bounded by a share.
const TRUSTED: u8 = 0;

/// How many times what is free each other block may have.
const TIMES: u32 = 3;

#[derive(Debug, Clone)]
enum Step {
    /// A block brings a mail of so many octets, which may come back to its sender.
    Submit {
        block: u8,
        octets: usize,
        recipients: usize,
    },
    Start,
    Finish {
        which: usize,
        outcomes: u64,
    },
    Wait(u64),
    Freeze,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..6, 0usize..3000, 1usize..4)
            .prop_map(|(block, octets, recipients)| Step::Submit { block, octets, recipients }),
        2 => Just(Step::Start),
        2 => (any::<usize>(), any::<u64>())
            .prop_map(|(which, outcomes)| Step::Finish { which, outcomes }),
        1 => (0..2 * 24 * HOUR).prop_map(Step::Wait),
        1 => Just(Step::Freeze),
    ]
}

fn address(block: u8) -> IpAddr {
    [198, 51, block, 7].into()
}

/// The queue, and the deliveries under way.
struct Run {
    config: QueueConfig,
    queue: Queue,
    now: u64,
    jobs: Vec<Job>,
}

impl Run {
    fn new(max_mails: u64, max_bytes: u64) -> Run {
        let hostname = Domain::parse("relay.example").unwrap();
        let config = QueueConfig::new(hostname, "hop.example");
        let config = QueueConfig { max_mails, max_bytes, max_deliveries: 3, ..config };
        Run { config, queue: Queue::default(), now: START, jobs: Vec::new() }
    }

    fn submit(&mut self, block: u8, octets: usize, recipients: usize) -> Result<QueueId, Refusal> {
        let share = if block == TRUSTED { Share::Unbounded } else { Share::TimesFree(TIMES) };
        let names = &["c@d.org", "e@d.org", "f@d.org"][..recipients];
        let mail = from(address(block), "a@b.org", names, &"x".repeat(octets));
        self.queue.submit(&self.config, share, self.now, mail)
    }

    fn perform(&mut self, step: &Step) {
        match *step {
            Step::Submit { block, octets, recipients } => {
                self.submit_and_see(block, octets, recipients);
            }
            Step::Start => self.jobs.extend(self.queue.next_job(&self.config, self.now)),
            Step::Finish { .. } if self.jobs.is_empty() => {}
            Step::Finish { which, outcomes } => {
                let job = self.jobs.remove(which % self.jobs.len());
                let choose = |at: usize| match outcomes >> (2 * at) & 3 {
                    0 => Outcome::Delivered,
                    1 => later(),
                    _ => never(),
                };
                let outcomes = (0..job.delivery.recipients.len()).map(|at| Some(choose(at)));
                let outcomes = outcomes.collect();
                let token = job.delivery.token;
                let report = Report { token, outcomes, failure: None, in_doubt: false };
                self.queue.finish(&self.config, self.now, which as u64, report);
            }
            Step::Wait(time) => {
                self.now += time;
                self.queue.expire(&self.config, self.now);
            }
            Step::Freeze => self.queue = self.restored(),
        }
    }

    /// What is taken is within the share of who brings it, and what is refused for that is not.
    fn submit_and_see(&mut self, block: u8, octets: usize, recipients: usize) {
        let name = AddressBlock::of(address(block));
        let (before, free) = (self.queue.held_by(name), self.queue.free(&self.config));
        let taken = self.submit(block, octets, recipients);
        let after = self.queue.held_by(name);
        let is_within = |held: u64, free: u64| held <= u64::from(TIMES) * free;
        match taken {
            Ok(_) if block == TRUSTED => {}
            Ok(_) => {
                assert!(is_within(after.mails, free.mails) && is_within(after.bytes, free.bytes));
            }
            Err(refusal) => {
                assert_eq!(after, before);
                let is_full = refusal == Refusal::QueueFull;
                assert!(is_full || (block != TRUSTED && before.mails > 0), "{refusal}");
            }
        }
    }

    fn restored(&self) -> Queue {
        let mails: Vec<_> = self.queue.iter().map(|(id, mail)| (*id, mail.clone())).collect();
        Queue::from_parts(self.queue.head(), mails)
    }

    /// The shares are those of the mails, and who has nothing finds whatever is free.
    fn check(&self) {
        let mut held = BTreeMap::<AddressBlock, Held>::new();
        for (_, mail) in self.queue.iter() {
            let held = held.entry(mail.block.expect("every mail has one")).or_default();
            *held = Held { mails: held.mails + 1, bytes: held.bytes + mail.cost() };
        }
        assert_eq!(self.queue.blocks().collect::<BTreeMap<_, _>>(), held);
        let sum = |of: fn(&Held) -> u64| held.values().map(of).sum::<u64>();
        let (mails, bytes) = (sum(|held| held.mails), sum(|held| held.bytes));
        assert_eq!((mails, bytes), (self.queue.len() as u64, self.queue.bytes()));
        assert_eq!(self.restored(), self.queue);
        self.check_newcomer();
    }

    fn check_newcomer(&self) {
        let newcomer = AddressBlock::of(address(99));
        let room = self.queue.room_of(&self.config, Share::TimesFree(TIMES), newcomer);
        assert_eq!(room, self.queue.room(&self.config));
        let queue = self.queue.clone();
        let mut run = Run { config: self.config.clone(), queue, now: self.now, jobs: Vec::new() };
        let taken = run.submit(99, 1, 1);
        // A mail of one octet and one recipient costs less.
        let is_room = self.queue.len() < self.config.max_mails as usize && room >= 2000;
        assert!(taken.is_ok() || !is_room, "{taken:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shares_sum_up_to_the_queue_and_a_newcomer_always_gets_room(
        max_mails in 1u64..30,
        max_bytes in 4_000u64..60_000,
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let mut run = Run::new(max_mails, max_bytes);
        for step in &steps {
            run.perform(step);
            run.check();
        }
    }
}

#[test]
fn a_notice_of_failure_counts_for_the_block_whose_mail_failed() {
    let mut run = Run::new(10, 1 << 20);
    run.submit(1, 10, 1).unwrap();
    run.perform(&Step::Start);
    run.perform(&Step::Finish { which: 0, outcomes: 2 });
    assert_eq!(run.queue.held_by(AddressBlock::of(address(1))).mails, 1);
    assert!(run.queue.iter().all(|(_, mail)| mail.from.is_null()));
    run.check();
}
