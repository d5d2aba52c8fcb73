//! A client and a model of the pair, in virtual time: frames are lost and repeated, connections
//! break, a CoServer dies. Each request is answered once, rightly, and was executed once.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::Config;
use super::model::{Act, Log, TOKEN, World};
use crate::ids::{PairId, ReplicaId, RequestNumber, SessionId};
use crate::output::Refusal;
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};

const SESSION: SessionId = SessionId(42);

/// What the log does with requests: the whole of exactly-once on the pair's side.
#[derive(Default)]
struct Requests {
    open: bool,
    next: u64,
    /// What was executed, in order.
    executed: Vec<(u64, Bytes)>,
    replies: BTreeMap<u64, Bytes>,
    most_replies: usize,
}

impl Log for Requests {
    fn order(&mut self, call: ClientCall) -> Option<ClientAnswer> {
        match call {
            ClientCall::Open { token, .. } => {
                if !self.open {
                    (self.open, self.next) = (true, 1);
                }
                Some(ClientAnswer::Opened { token, result: Ok(SESSION) })
            }
            ClientCall::Request { session, token, number, lowest, body, .. } => {
                assert_eq!((session, token), (SESSION, TOKEN));
                assert!(lowest <= number && lowest.0 > 0);
                let result = self.request(number.0, lowest.0, body);
                Some(ClientAnswer::Reply { session, number, result })
            }
            ClientCall::Hello { .. } | ClientCall::Close { .. } | ClientCall::Probe => None,
        }
    }
}

impl Requests {
    fn request(&mut self, number: u64, lowest: u64, body: Bytes) -> Result<Bytes, Refusal> {
        self.replies = self.replies.split_off(&lowest);
        if number > self.next {
            return Err(Refusal::Gap { expected: RequestNumber(self.next) });
        }
        if number == self.next {
            if self.replies.len() >= self.most_replies {
                return Err(Refusal::TooManyReplies);
            }
            self.executed.push((number, body.clone()));
            self.replies.insert(number, reply_to(number, &body));
            self.next += 1;
        }
        self.replies.get(&number).cloned().ok_or(Refusal::Forgotten)
    }
}

fn reply_to(number: u64, body: &[u8]) -> Bytes {
    Bytes::from(format!("{number}: {body:?}"))
}

fn submit(fill: u8) -> Act {
    Act::Submit(Bytes::from(vec![fill; usize::from(fill % 4)]))
}

fn any_act() -> impl Strategy<Value = Act> {
    let place = || any::<bool>().prop_map(|a| if a { ReplicaId::A } else { ReplicaId::B });
    prop_oneof![
        8 => any::<u8>().prop_map(submit),
        4 => (0..800_u16).prop_map(Act::Advance),
        12 => place().prop_map(Act::ToServer),
        12 => place().prop_map(Act::ToClient),
        2 => place().prop_map(Act::LoseToServer),
        2 => place().prop_map(Act::LoseToClient),
        2 => place().prop_map(Act::RepeatToClient),
        1 => place().prop_map(Act::Break),
        1 => place().prop_map(|place| Act::Refuse(place, ClientRefusal::Holding)),
        1 => place().prop_map(Act::Kill),
        1 => place().prop_map(Act::Vanish),
        2 => place().prop_map(Act::Return),
        2 => place().prop_map(Act::Join),
        2 => place().prop_map(Act::Tell),
    ]
}

fn world(window: usize, most_replies: usize, seed: u64) -> World<Requests> {
    let config = Config { window, ..Config::new(PairId([1; 16])) };
    World::new(config, Requests { most_replies, ..Requests::default() }, seed)
}

fn judge(world: &World<Requests>) {
    for (number, body) in (1..).zip(&world.submitted) {
        assert_eq!(world.answered.get(&number), Some(&reply_to(number, body)));
    }
    let once: Vec<_> = (1..).zip(world.submitted.iter().cloned()).collect();
    assert_eq!(world.log.executed, once, "not each executed once, in order");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_request_is_answered_once_and_executed_once(
        acts in proptest::collection::vec(any_act(), 1..200),
        window in 1..20_usize,
        most_replies in 1..20_usize,
        seed in any::<u64>(),
    ) {
        let mut world = world(window, most_replies, seed);
        for act in acts {
            world.act(act);
        }
        world.heal(false);
        judge(&world);
        world.close();
        world.heal(true);
        prop_assert_eq!(world.client.next_timeout(), None);
    }
}

/// The campaign above is worth little if its faults never bite.
#[test]
fn the_model_loses_what_a_naive_client_would_not_get_back() {
    let mut world = world(8, 8, 1);
    let both = |world: &mut World<Requests>, act: fn(ReplicaId) -> Act| {
        ReplicaId::BOTH.into_iter().for_each(|place| world.act(act(place)));
    };
    for _ in 0..3 {
        both(&mut world, Act::ToServer);
        both(&mut world, Act::ToClient);
    }
    world.act(submit(1));
    world.act(submit(2));
    both(&mut world, Act::LoseToServer);
    assert_eq!(world.log.executed.len(), 0);
    world.act(Act::Kill(ReplicaId::A));
    world.heal(false);
    judge(&world);
    assert_eq!(world.log.executed.len(), 2);
}

/// The time until everything is answered, when everything arrives at once.
fn pause(world: &mut World<Requests>) -> Duration {
    let from = world.now;
    world.heal(false);
    judge(world);
    world.now.since(from)
}

fn deliver(world: &mut World<Requests>) {
    for _ in 0..20 {
        for place in ReplicaId::BOTH {
            world.act(Act::ToServer(place));
            world.act(Act::ToClient(place));
        }
    }
}

fn served_by_both(seed: u64) -> World<Requests> {
    let mut world = world(8, 8, seed);
    deliver(&mut world);
    assert!(ReplicaId::BOTH.into_iter().all(|place| world.line(place).welcomed));
    world
}

/// One CoServer is lost and comes back, then the other is lost. The client needs two silences at
/// most to be with the one that is back. This holds whatever the client was told, and whether or
/// not it knows that its old connection is dead.
#[test]
fn the_pause_is_bounded_by_silence_however_long_one_was_dead() {
    for seed in 0..200 {
        let mut world = served_by_both(seed);
        let lost: fn(ReplicaId) -> Act = if seed % 2 == 0 { Act::Kill } else { Act::Vanish };
        world.act(lost(ReplicaId::A));
        for _ in 0..seed * 7 % 100 {
            world.act(Act::Advance(50));
        }
        world.act(Act::Return(ReplicaId::A));
        if seed % 3 == 0 {
            world.act(Act::Tell(ReplicaId::A));
            deliver(&mut world);
        }
        world.act(Act::Join(ReplicaId::A));
        deliver(&mut world);
        world.act(Act::Vanish(ReplicaId::B));
        world.act(submit(1));
        let pause = pause(&mut world);
        assert!(pause <= Duration::from_millis(150), "seed {seed}: {pause:?}");
    }
}

/// No CoServer serves for seconds while something is asked: the first that serves is found soon.
#[test]
fn the_first_that_serves_after_both_were_dead_is_found_soon() {
    for seed in 0..200 {
        let mut world = served_by_both(seed);
        world.act(Act::Vanish(ReplicaId::A));
        world.serves = [false; 2];
        world.alive = [false; 2];
        world.lines.iter_mut().for_each(|line| line.to_server.clear());
        world.act(submit(1));
        for _ in 0..600 {
            world.act(Act::Advance(10));
            deliver(&mut world);
        }
        ReplicaId::BOTH.into_iter().for_each(|place| world.act(Act::Return(place)));
        let pause = pause(&mut world);
        assert!(pause <= Duration::from_millis(300), "seed {seed}: {pause:?}");
    }
}
