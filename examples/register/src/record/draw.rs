//! Which requests are made.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::ops::Op;

/// How often each kind of request is drawn, as parts of their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Reads of registers and counters.
    pub get: u32,
    /// Writes of registers.
    pub set: u32,
    /// Compare-and-set of registers.
    pub cas: u32,
    /// Additions to counters, which nothing else writes.
    pub add: u32,
    /// Texts into queues, each a different one.
    pub push: u32,
    /// Texts out of queues.
    pub pop: u32,
    /// Questions for log time.
    pub now: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self { get: 4, set: 3, cas: 3, add: 3, push: 3, pop: 4, now: 1 }
    }
}

/// Draws one client's requests.
pub(super) struct Draw {
    random: ChaCha8Rng,
    mix: Mix,
    keys: u64,
    prefix: String,
    client: u64,
    pushed: u64,
}

impl Draw {
    pub(super) fn new(seed: u64, client: u64, mix: Mix, keys: u64, prefix: &str) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(client);
        Self { random, mix, keys: keys.max(1), prefix: prefix.to_owned(), client, pushed: 0 }
    }

    pub(super) fn next(&mut self) -> Op {
        let Mix { get, set, cas, add, push, pop, now } = self.mix;
        let weights = [get, set, cas, add, push, pop, now].map(u64::from);
        let mut left = self.below(weights.iter().sum::<u64>().max(1));
        let kind = weights.iter().position(|weight| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        // Few values, so that compare-and-set meets what it expects now and then.
        let value = self.below(6) as i64;
        match kind {
            Some(0) if self.below(2) == 0 => Op::Get { name: self.name("c") },
            Some(0) => Op::Get { name: self.name("r") },
            Some(1) => Op::Set { name: self.name("r"), value },
            Some(2) => {
                let expected = Some(self.below(6) as i64);
                Op::Cas { name: self.name("r"), expected, value }
            }
            Some(3) => Op::Add { name: self.name("c"), delta: 1 },
            Some(4) => {
                self.pushed += 1;
                let item = format!("{}-{}", self.client, self.pushed);
                Op::Push { queue: self.name("q"), item }
            }
            Some(5) => Op::Pop { queue: self.name("q") },
            _ => Op::Now,
        }
    }

    fn name(&mut self, kind: &str) -> String {
        let key = self.below(self.keys);
        format!("{}{kind}{key}", self.prefix)
    }

    /// Fair enough for a workload.
    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }
}
