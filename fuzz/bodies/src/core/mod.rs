//! Two replicas, their disks and their witness by operations. These say what arrives and in which
//! order, what is lost, what takes how long, which process dies, what its disk has then, and which
//! comes back.
//!
//! Whatever happens, no output is released differently, by a replica that may not, or before it is
//! on the disks that have to have it. A replica that serves has everything that was ever released.
//! A request is answered in one way only. When it ends and nothing is broken any more, the pair is
//! redundant again.

mod checker;
mod connections;
mod disk;
mod node;
mod outside;
mod storage;
mod world;

use std::collections::BTreeSet;

use lockstep::ids::{LinkId, ReplicaId};
use lockstep::proto::{Command, Input};

use crate::source::Source;
use world::World;

/// Most operations of one input: more of them show nothing that fewer do not.
const OPERATIONS: usize = 600;

/// Runs one input.
pub fn run(data: &[u8]) {
    explore(data);
}

/// Runs one input and names what it came to, so that a campaign that never reaches a failover
/// can be told from one that finds nothing wrong with it.
pub fn explore(data: &[u8]) -> BTreeSet<&'static str> {
    let mut source = Source::new(data);
    let mut world = World::new();
    // Most inputs should be about a pair that is formed.
    if source.byte() & 3 != 0 {
        world.settle(30);
    }
    for _ in 0..OPERATIONS {
        let Some(op) = source.choice() else { break };
        step(&mut world, op, &mut source);
    }
    world.heal();
    world.reached
}

/// Two bits of the operation say where, the others what.
fn step(world: &mut World, op: u8, source: &mut Source<'_>) {
    let place = if op & 1 == 0 { ReplicaId::A } else { ReplicaId::B };
    let link = LinkId(op >> 1 & 1);
    match op >> 2 & 31 {
        0..=4 => world.deliver(place, source.byte().into()),
        5 => world.lose(place, source.byte().into()),
        6 => world.repeat(place, source.byte().into()),
        7..=8 => world.deliver_all(place),
        9..=10 => world.execute(place, usize::from(source.byte())),
        11 => world.pass(source.byte()),
        12 => world.pass(source.byte() & 63),
        13 => world.settle(u32::from(source.byte())),
        14 => world.settle(1 + u32::from(source.byte()) / 32),
        15 => world.disconnect(link),
        16 => world.connect(link),
        17 => world.cut(link, source.flag()),
        18 => world.block(place, link, source.flag()),
        19..=21 => world.device(place, source.byte()),
        22..=24 => world.request(place, source),
        25 => world.greet(place, source),
        26 => world.tell(place, Input::Command(Command::HandOver)),
        27 => world.rare(place, source.byte()),
        28 => world.witness(source.byte()),
        29 => world.pause(place),
        31 => world.disk(place, source.byte()),
        _ => world.burst(place, source.byte()),
    }
}
