//! A client's session against the session table of the pair. Its connections lose, repeat and
//! break, and the CoServers die, come back and say so. Each request takes effect once, in order,
//! and is answered with what it came to.

use bytes::Bytes;
use lockstep::client::Config;
use lockstep::client::model::{Act, Log, World};
use lockstep::entry::InputKind;
use lockstep::ids::{Incarnation, OwnerId, PairId, ReplicaId, RequestNumber};
use lockstep::output::OutputKind;
use lockstep::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};

use super::{CountingService, Unit, execute, unit};
use crate::source::Source;

pub(super) fn run(source: &mut Source<'_>) {
    let seed = u64::from(source.byte());
    // The pair keeps no more replies than this either.
    let window = (1 + source.below(6)).min(4);
    let config = Config { window, ..Config::new(PairId([3; 16])) };
    let mut world = World::new(config, Sessions { unit: unit(), given: Vec::new() }, seed);
    while let Some(op) = source.choice() {
        world.act(act(op, source));
    }
    heal(&mut world);
}

fn act(op: u8, source: &mut Source<'_>) -> Act {
    let place = if op & 1 == 0 { ReplicaId::A } else { ReplicaId::B };
    match op >> 1 & 31 {
        0..=4 => Act::Submit(Bytes::copy_from_slice(&[source.byte()])),
        5..=7 => Act::Advance(u16::from(source.byte()) * 4),
        8..=13 => Act::ToServer(place),
        14..=19 => Act::ToClient(place),
        20 => Act::LoseToServer(place),
        21 => Act::LoseToClient(place),
        22 => Act::RepeatToClient(place),
        23 => Act::Break(place),
        24 => Act::Kill(place),
        25 => Act::Vanish(place),
        26 => Act::Return(place),
        27 => Act::Join(place),
        28 => Act::Tell(place),
        29 => Act::TellOf(place, Incarnation(source.number(1).max(1))),
        30 => Act::Refuse(place, any_refusal(source)),
        _ => Act::Hear(place),
    }
}

/// The session table, and the answers that it gave, by number.
struct Sessions {
    unit: Unit<CountingService>,
    given: Vec<Bytes>,
}

impl Log for Sessions {
    fn order(&mut self, call: ClientCall) -> Option<ClientAnswer> {
        let input = match call {
            ClientCall::Open { token, .. } => {
                InputKind::SessionOpenFor { owner: OwnerId(1), token }
            }
            ClientCall::Request { session, token, number, lowest, body, .. } => {
                InputKind::SessionRequest { session, token, number, lowest, body }
            }
            ClientCall::Close { session, token } => InputKind::SessionClose { session, token },
            ClientCall::Hello { .. } | ClientCall::Probe => return None,
        };
        match execute(&mut self.unit, 1, input.into())? {
            OutputKind::Opened { token, result } => Some(ClientAnswer::Opened { token, result }),
            OutputKind::Reply { session, number, result, .. } => {
                self.note(number, result.as_ref().ok());
                Some(ClientAnswer::Reply { session, number, result })
            }
            OutputKind::Device { .. } => None,
        }
    }
}

impl Sessions {
    fn note(&mut self, number: RequestNumber, reply: Option<&Bytes>) {
        let Some(reply) = reply else { return };
        let at = number.0 as usize - 1;
        match self.given.get(at) {
            Some(before) => assert_eq!(before, reply, "another answer than before"),
            None => {
                assert_eq!(self.given.len(), at, "out of order");
                self.given.push(reply.clone());
            }
        }
    }
}

/// Nothing more fails: every request is answered, and the session ends when it is closed.
fn heal(world: &mut World<Sessions>) {
    ReplicaId::BOTH.into_iter().for_each(|place| world.act(Act::Return(place)));
    world.heal(false);
    world.close();
    world.heal(true);
    let submitted = world.submitted.len();
    assert_eq!(world.log.unit.service().requests, submitted as u64, "each takes effect once");
    assert_eq!(world.answered.len(), submitted, "a request has no answer");
    assert!(world.answered.values().eq(world.log.given.iter()), "an answer to something else");
}

fn any_refusal(source: &mut Source<'_>) -> ClientRefusal {
    source.pick(&[ClientRefusal::Holding, ClientRefusal::Removed, ClientRefusal::Busy])
}
