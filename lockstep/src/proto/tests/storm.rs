//! Crashes, cuts and restarts in no particular order: whatever was released stays, and in the end
//! the pair is redundant again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::pair::{MS, Pair, config};
use crate::entry::InputKind;
use crate::ids::{Index, ReplicaId};
use crate::proto::io::{Command, Config, Input, Standing};

use ReplicaId::{A, B};

struct Storm {
    pair: Pair,
    state: u64,
    inputs: u64,
    released: BTreeMap<(Index, u32), Bytes>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut pair = Pair::with(|place| Config {
            checkpoint_bytes: 4_000,
            meeting: MS * 200,
            ..config(place)
        });
        pair.executes_first = seed.is_multiple_of(2);
        pair.run(MS * 100);
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { pair, state, inputs: 0, released: BTreeMap::new() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % bound
    }

    fn place(&mut self) -> ReplicaId {
        if self.below(2) == 0 { A } else { B }
    }

    fn collect(&mut self) {
        for place in ReplicaId::BOTH {
            for (name, bytes) in core::mem::take(&mut self.pair.node(place).released) {
                let before = self.released.entry(name).or_insert_with(|| bytes.clone());
                assert_eq!(*before, bytes, "{name:?} was released with two contents");
            }
        }
    }

    /// Whether this one can go on without the other's disk.
    fn has_all(&mut self, place: ReplicaId) -> bool {
        let node = self.pair.node(place);
        let serves = matches!(node.replica.status().standing, Standing::Serving { .. });
        node.alive && serves
    }

    fn step(&mut self) {
        let (what, place) = (self.below(24), self.place());
        match what {
            0..8 => self.input(place),
            8..10 => self.pair.kill(place),
            10 => {
                self.pair.kill(A);
                self.pair.kill(B);
            }
            11..15 => self.restart(place),
            15 => {
                let link = self.below(2) as u8;
                let carries = self.below(2) == 0;
                self.pair.cut(link, carries);
            }
            16 => (self.pair.links[0], self.pair.links[1]) = (true, true),
            17 => (self.pair.links[0], self.pair.links[1]) = (false, false),
            18 => self.pair.witness_mute = self.below(2) == 0,
            19 => self.pair.tell(place, Input::Command(Command::Stop)),
            20 if self.has_all(place.other()) && !self.is_duplex(place.other()) => {
                self.pair.kill(place);
                self.pair.wipe(place);
            }
            21 => {
                let node = self.pair.node(place);
                if node.disk.checkpoints.len() > 1 {
                    node.disk.drop_before_checkpoint();
                }
            }
            22 => {
                let paused = self.pair.node(place).paused;
                self.pair.pause(place, !paused);
            }
            _ => self.lose_unsynced(place),
        }
        // Mostly in the middle of something, at times long enough for it to end.
        let span = if self.below(5) == 0 { 8_000 } else { self.below(400) };
        self.pair.run(MS / 10 * span as u32);
        self.collect();
    }

    /// What is not on the disk when its process dies is lost.
    fn lose_unsynced(&mut self, place: ReplicaId) {
        if self.pair.node(place).alive {
            self.pair.node(place).disk_stuck = true;
            self.input(place);
            self.input(place.other());
            let span = self.below(300);
            self.pair.run(MS / 10 * span as u32);
            self.collect();
            self.pair.kill(place);
            self.pair.node(place).disk_stuck = false;
        }
    }

    fn is_duplex(&mut self, place: ReplicaId) -> bool {
        let standing = self.pair.node(place).replica.status().standing;
        matches!(standing, Standing::Serving { duplex: true, .. })
    }

    fn input(&mut self, place: ReplicaId) {
        if self.pair.node(place).alive && self.pair.node(place).replica.takes_input() {
            self.inputs += 1;
            let text = format!("{}", self.inputs);
            self.pair.device_input(place, &text);
        }
    }

    fn restart(&mut self, place: ReplicaId) {
        let node = self.pair.node(place);
        if !node.alive || node.stopped.is_some() {
            self.collect();
            self.pair.restart(place);
        }
    }

    fn calm(&mut self) {
        (self.pair.links[0], self.pair.links[1]) = (true, true);
        self.pair.witness_mute = false;
        for place in ReplicaId::BOTH {
            self.pair.pause(place, false);
        }
        for _ in 0..40 {
            for place in ReplicaId::BOTH {
                self.restart(place);
            }
            self.pair.run(MS * 100);
            self.collect();
        }
    }

    fn judge(&mut self) {
        self.pair.run_to_duplex();
        self.collect();
        let last_index: BTreeMap<_, _> =
            [A, B].into_iter().map(|place| (place, self.pair.node(place).replica.mark())).collect();
        assert_eq!(last_index[&A], last_index[&B]);
        let last = self.released.keys().next_back().map_or(Index(0), |(index, _)| *index);
        assert!(last_index[&A].0 >= last, "what was released is lost: {last}, {last_index:?}");
        for place in ReplicaId::BOTH {
            let disk = &self.pair.node(place).disk;
            for entry in &disk.entries {
                for (step, input) in (0..).zip(entry.kind.inputs()) {
                    if let Some(bytes) = self.released.get(&(entry.index, step))
                        && let InputKind::Device { bytes: input, .. } = input
                    {
                        assert_eq!(input, bytes, "{} is another one now", entry.index);
                    }
                }
            }
        }
    }
}

/// Says which storm it was, should it end badly.
struct Told(u64);

impl Drop for Told {
    #[expect(clippy::print_stderr, reason = "the only way to tell from within a panic")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("storm {}", self.0);
        }
    }
}

#[test]
fn whatever_was_released_stays_and_the_pair_becomes_redundant_again() {
    let mut released = 0;
    for seed in 0..30 {
        let _told = Told(seed);
        let mut storm = Storm::new(seed);
        for _ in 0..60 {
            storm.step();
        }
        storm.calm();
        storm.judge();
        released += storm.released.len();
    }
    assert!(released > 100, "the storms were idle");
}
