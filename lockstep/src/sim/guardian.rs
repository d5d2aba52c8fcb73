//! Guardians: beside a CoServer's process, they tell the other CoServer when it has ended
//! (rule S7). A machine that loses power takes its guardian along.

use super::checkers::Who;
use super::marks::Mark;
use super::node::Arrival;
use super::rng::Rng;
use super::world::{Due, World};
use crate::ids::{Incarnation, ReplicaId};

/// Of a thousand notices so many are lost, come late, or come twice.
const LOST: u32 = 100;
const LATE: u32 = 150;
const TWICE: u32 = 150;

/// Whether each place has one, and what becomes of its notices.
#[derive(Debug)]
pub(super) struct Guardians {
    there: [bool; 2],
    rng: Rng,
}

impl Guardians {
    pub(super) fn new(mut rng: Rng) -> Self {
        let there = [(); 2].map(|()| rng.chance(500));
        Self { there, rng }
    }

    /// When the notices of a death at this place arrive, after it, in nanoseconds.
    fn delays(&mut self, place: ReplicaId) -> Vec<u64> {
        let Self { there, rng } = self;
        if !there[place.slot()] || rng.chance(LOST) {
            return Vec::new();
        }
        let copies = if rng.chance(TWICE) { 2 } else { 1 };
        let mut delay = || match rng.chance(LATE) {
            true => rng.spread(2_000_000, 5_000_000_000),
            false => rng.spread(50_000, 2_000_000),
        };
        (0..copies).map(|_| delay()).collect()
    }
}

impl World {
    /// A process has ended, and its machine has not.
    pub(super) fn give_notice(&mut self, who: Who) {
        for delay in self.guardians.delays(who.place) {
            let (to, incarnation) = (who.place.other(), who.incarnation);
            self.queue.put(self.at + delay, Due::Notice { to, incarnation });
        }
    }

    pub(super) fn on_notice(&mut self, to: ReplicaId, incarnation: Incarnation) {
        let record = self.servers[to.slot()].process.as_ref().and_then(|process| {
            let record = process.replica.status().record?;
            record.members.at(to.other())
        });
        if record.is_some_and(|member| member != incarnation) {
            self.reach(Mark::NoticeOfAnother);
        }
        self.arrive(to, Arrival::PeerDied(incarnation));
    }
}
